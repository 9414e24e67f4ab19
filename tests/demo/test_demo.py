"""The demo as a user runs it: the real command, real processes, and what it says at the end."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.accounts import accounts, compare
from demo.children import program
from demo.link import Link
from demo.scenario import END, LEVELS_M, START
from demo.series import dust, river
from tests import servers


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that were started with something of a directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command:
            found.append(command)
    return found


@contextmanager
def running(tmp_path: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`maillages-demo` without a terminal, its temporary directory below `tmp_path`. None of its processes may outlive it."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [program("maillages-demo"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary), "COLUMNS": "100"},
    )
    try:
        yield process
        assert not processes_of(tmp_path), "a process outlived the demo"
        assert not list(temporary.iterdir()), "temporary files were left"
    finally:
        process.kill()
        process.communicate()


def lines_until(process: "subprocess.Popen[str]", text: str) -> None:
    """Read its lines until one holds `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended before {text!r}: {process.stderr.read() if process.stderr else ''}")


def check(result: dict, output: str) -> None:
    """What every whole run must come to."""
    total = result["total"]
    assert total["missing"] == total["duplicated"] == total["invented"] == 0
    assert total["emitted"] == total["taken"] == total["stored"] > 500
    assert {s["series"].rpartition("/")[2] for s in result["series"]} == {
        "water_level", "pm2_5", "pm10", "air_temperature", "relative_humidity", "battery_voltage",
    }  # fmt: skip
    assert all(c["good"] for c in result["checks"]), result["checks"]
    assert result["alarms"] == {
        "hoyoux-high": 3,
        "mehaigne-high": 2,
        "ecole-pm": 2,
        "gateway-silent": 2,  # during the cut; central knew of level 2
    }
    after = result["after_cut"]
    assert 0 <= after["alarm"] <= after["alarm_stored"] < after["backlog"]
    assert after["alarm"] < after["live"] < after["backlog"] <= after["backlog_stored"]
    assert result["messages"]["sms_gateway"] >= 1
    # In the order in which they happened: cut, alarm and siren on the spot, link back, and only then central knows.
    moments = ["is cut off", "escalate level 3", "sounds", "gateway to garde-hoyoux", "its link back", "level 3\n"]
    at = 0
    for moment in moments:
        found = output.find(moment, at)
        assert found >= 0, f"{moment!r} is not there, or not after the one before"
        at = found


@pytest.mark.system
@pytest.mark.alone
@pytest.mark.timeout(240)
def test_the_demo_shows_the_whole_chain_and_loses_nothing(tmp_path: Path) -> None:
    """Embedded broker and store, at twice the usual pace."""
    with running(tmp_path, "--json", "--scale", "240") as process:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, output + errors
    result = json.loads(output.splitlines()[-1])
    check(result, output)
    assert (result["broker"], result["store"]) == ("iotcore", "embedded")


@pytest.mark.system
@pytest.mark.alone
@pytest.mark.timeout(160)
def test_the_demo_on_mosquitto_and_influxdb(tmp_path: Path) -> None:
    with (
        servers.influxd(tmp_path / "servers") as influx,
        running(
            tmp_path,
            "--mosquitto", "--influx", influx.url, "--dir", str(tmp_path / "kept"), "--json", "--scale", "240",
        ) as process,
    ):  # fmt: skip
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, output + errors
        influx.stop()
    result = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    check(result, output)
    assert result["broker"] == "mosquitto"
    assert (tmp_path / "kept" / "gw-huy-01.toml").exists()


@pytest.mark.system
@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_at_any_moment_with_all_its_processes(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as process:
        lines_until(process, "central runs")
        assert len(processes_of(tmp_path)) >= 2
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Interrupted" in output


@pytest.mark.system
@pytest.mark.alone
def test_a_process_that_dies_early_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        lines_until(process, "two gateways run")
        (config,) = (tmp_path / "tmp").glob("*/gw-wanze-01.toml")
        (pid,) = [
            int(file.parent.name)
            for file in Path("/proc").glob("[0-9]*/cmdline")
            if str(config).encode() in file.read_bytes()
        ]
        os.kill(pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "gw-wanze-01 ended by itself (exit code -9)" in errors
        assert "gateway gw-wanze-01 runs" in errors


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    done = subprocess.run(
        [program("maillages-demo"), "--dir", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("clock", "expected"),
    [("120,1.5,1528704000.0", "emulated relay board"), ("fast", "expected SCALE,ORIGIN_BOOT,ORIGIN_WALL")],
)
def test_an_exercise_refuses_a_real_siren_and_a_clock_that_is_none(tmp_path: Path, clock: str, expected: str) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(f"""
[gateway]
id = "gw-test-01"
data_dir = "{tmp_path}/edge"
[[station]]
id = "hoyoux-test"
name = "Hoyoux, essai"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "/dev/ttyUSB0"
options = {{ model = "MB7389" }}
[outputs.siren]
port = "/dev/ttyUSB1"
""")
    command = [program("maillages-edge"), "run", "-c", str(config), "--exercise-clock", clock]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"COLUMNS": "300"}
    )
    assert done.returncode == 2
    assert expected in done.stderr


# ---------------------------------------------------------------------- accounts


@pytest.mark.parametrize(
    ("stored", "wrong"),
    [
        ([(0.2, 1.0), (10.1, 2.0), (20.0, 2.0)], (0, 0, 0)),
        ([(0.2, 1.0), (20.0, 2.0)], (1, 0, 0)),
        ([], (3, 0, 0)),
        ([(0.2, 1.0), (0.7, 1.0), (10.1, 2.0), (20.0, 2.0)], (0, 1, 0)),
        ([(0.2, 1.0), (10.1, 2.0), (20.0, 2.0), (21.0, 3.0)], (0, 0, 1)),
        ([(0.2, 1.0), (10.1, 2.001), (20.0, 2.0)], (1, 0, 1)),  # another value is one missing and one invented
        ([(0.2, 1.0), (10.1, 2.0), (24.0, 2.0)], (1, 0, 1)),  # stored as fresh, four seconds late
        ([(-3.0, 1.0), (0.2, 1.0), (10.1, 2.0), (20.0, 2.0)], (0, 0, 1)),
    ],
)
def test_accounts(stored: list[tuple[float, float]], wrong: tuple[int, int, int]) -> None:
    emitted = [(0.0, 1.0), (10.0, 2.0), (20.0, 2.0)]
    assert compare(emitted, stored, tolerance_s=1.0) == wrong


moments = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), unique=True, max_size=20).map(sorted)


@given(emitted=moments, stored=moments)
def test_accounts_add_up_whatever_is_stored(
    emitted: list[tuple[float, float]], stored: list[tuple[float, float]]
) -> None:
    missing, duplicated, invented = compare(emitted, stored, tolerance_s=2.0)
    assert len(emitted) - missing == len(stored) - duplicated - invented >= 0


def test_a_series_that_nobody_emitted_is_invented() -> None:
    (account,) = accounts({}, {}, {"a/b/pm10": [(1.0, 5.0)]}, 1.0)
    assert (account.emitted, account.stored, account.invented, account.good) == (0, 1, 1, False)


# ---------------------------------------------------------------------- what is played


def test_the_river_of_the_replay_is_the_one_that_was_measured() -> None:
    water = river()
    assert water.at(START) == 0.5273
    assert water.at(START + 150) == pytest.approx((0.5273 + 0.6492) / 2)
    assert max(water.at(t) for t in range(round(START), round(END), 60)) == pytest.approx(1.841)
    crossing = water.crossing(LEVELS_M[2], START, END)
    assert crossing is not None
    assert crossing == pytest.approx(START + 95 * 60, abs=10)


def test_the_dust_of_the_replay_is_one_sensors() -> None:
    pm2_5, pm10 = dust("5331")
    assert (pm2_5.at(0), pm10.at(0)) == (8.63, 36.80)  # held before the first: 5 November 2018, 00:01:29


# ---------------------------------------------------------------------- the link


def test_a_link_that_is_cut_resets_and_refuses_until_it_is_restored() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Link(server.getsockname()[1]) as link:
        server.settimeout(10)
        with socket.create_connection(("127.0.0.1", link.port), timeout=10) as client:
            far, _ = server.accept()
            with far:
                client.sendall(b"there")
                assert far.recv(10) == b"there"
                far.sendall(b"back")
                assert client.recv(10) == b"back"
                link.cut()
                assert client.recv(10) == b""
                assert far.recv(10) == b""
        with socket.create_connection(("127.0.0.1", link.port), timeout=10) as client:
            assert client.recv(10) == b""
        link.restore()
        with socket.create_connection(("127.0.0.1", link.port), timeout=10) as client:
            far, _ = server.accept()
            with far:
                client.sendall(b"again")
                assert far.recv(10) == b"again"


def test_a_half_open_link_swallows() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Link(server.getsockname()[1]) as link:
        server.settimeout(10)
        with socket.create_connection(("127.0.0.1", link.port), timeout=10) as client:
            far, _ = server.accept()
            with far:
                link.swallow = True
                client.sendall(b"lost")
                far.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    far.recv(10)
                link.restore()
                far.settimeout(10)
                assert far.recv(10) == b""
