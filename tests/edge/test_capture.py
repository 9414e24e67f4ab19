"""`maillages-edge sniff` and `replay`: the installed command, on real ptys."""

import json
import os
import pty
import signal
import subprocess
import sys
import tty
from itertools import pairwise
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import Clock
from edge import drivers
from edge.emulators.log import DeviceLog
from edge.emulators.sds011 import Sds011
from edge.emulators.xy_md02 import Rs485Line, XyMd02
from edge.errors import ConfigError
from edge.sensors.base import FrameError
from edge.tools.capture import Burst, Capture, Ear, rows
from edge.transports.port import Port

COMMAND = Path(sys.executable).parent / "maillages-edge"
CLOCK = Clock()
FRAME = bytes.fromhex("AA C0 D4 04 3A 0A A1 60 1D AB")


def run(*arguments, **extra):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **extra
    )


@pytest.fixture
def dust(tmp_path):
    device = Sds011(tmp_path / "dust", "dust", lambda _: (123.6, 261.8), clock=CLOCK, log=DeviceLog(), interval_s=0.2)
    device.start()
    yield device
    device.stop()


def ear(name, **values):
    driver = drivers.find(name)
    return Ear(driver, drivers.options(driver, values))


def test_bytes_stand_beside_what_they_say(dust):
    done = run("sniff", dust.path, "--driver", "sds011", "--seconds", 1)
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if "AA C0" in line)
    assert "AA C0 D4 04 3A 0A A1 60" in line
    assert line.endswith("pm2_5 123.6 ug/m3  pm10 261.8 ug/m3  device_id A160")
    assert "\x1b" not in done.stdout + done.stderr
    assert "errors: none" in done.stderr


def test_what_is_recorded_says_the_same_again(dust, tmp_path):
    record = tmp_path / "dust.jsonl"
    heard = run("sniff", dust.path, "--driver", "sds011", "--seconds", 1, "--record", record, "--json")
    again = run("replay", record, "--json")
    assert heard.returncode == again.returncode == 0
    first, *others = [json.loads(line) for line in record.read_text().splitlines()]
    assert (first["capture"], first["driver"], first["baudrate"]) == (1, "sds011", 9600)
    assert others
    assert b"".join(bytes.fromhex(line["hex"]) for line in others).count(FRAME) == len(others)
    frames = [json.loads(line)["frames"] for line in heard.stdout.splitlines()]
    assert frames == [json.loads(line)["frames"] for line in again.stdout.splitlines()]
    assert frames[0][0]["fields"][0] == {"quantity": "pm2_5", "value": 123.6, "unit": "ug/m3"}
    assert run("sniff", dust.path, "--record", record).returncode == 2  # never written over


def test_a_device_that_only_answers_is_asked(tmp_path):
    line = Rs485Line(tmp_path / "bus", [XyMd02(3, "air", lambda _: (21.5, 55.2))], clock=CLOCK, log=DeviceLog())
    line.start()
    try:
        ask = ["--driver", "xy_md02", "--set", "unit=3", "--ask", 0.2, "--seconds", 1.5, "--json"]
        said = [json.loads(row) for row in run("sniff", line.path, *ask).stdout.splitlines()]
        silent = run("sniff", line.path, "--driver", "xy_md02", "--set", "unit=4", "--seconds", 1)
    finally:
        line.stop()
    assert [row["hex"] for row in said[:2]] == ["03 04 00 01 00 02 21 E9", "03 04 04 00 D7 02 28 69 02"]
    assert [row["sent"] for row in said[:2]] == [True, False]
    assert said[1]["frames"][0]["fields"][0]["value"] == 21.5
    assert silent.returncode == 1
    assert "no byte came" in silent.stderr


def test_ctrl_c_ends_it_with_the_account_and_a_whole_record(dust, tmp_path):
    record = tmp_path / "r.jsonl"
    process = subprocess.Popen(
        [COMMAND, "sniff", str(dust.path), "--driver", "sds011", "--record", str(record)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "frames of sds011: " in err
    assert Capture.load(record).bursts


def test_a_pulled_adapter_is_waited_for(dust):
    process = subprocess.Popen(
        [COMMAND, "sniff", str(dust.path), "--driver", "sds011"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline()
    dust.unplug()
    assert "Listening" in process.stderr.readline()
    assert "waiting for it to come back" in process.stderr.readline()
    dust.replug()
    assert "is back" in process.stderr.readline()
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 0


def test_a_port_that_another_program_holds_is_said_to_be_in_use(dust, tmp_path):
    held = Port(str(dust.path), 9600, CLOCK)
    held.open()
    try:
        done = run("sniff", dust.path, "--record", tmp_path / "r.jsonl")
    finally:
        held.close()
    assert done.returncode == 1
    assert "in use by another program" in done.stderr
    assert not (tmp_path / "r.jsonl").exists()


def test_a_full_disk_ends_the_record_not_the_listening(tmp_path):
    device = Sds011(tmp_path / "d", "d", lambda _: (1.0, 2.0), clock=CLOCK, log=DeviceLog(), interval_s=0.06)
    device.start()
    record = tmp_path / "r.jsonl"
    sniff = f"{COMMAND} sniff {device.path} --driver sds011 --seconds 3 --record {record} --json"
    try:
        done = subprocess.run(
            ["bash", "-c", f"ulimit -f 1; {sniff}"], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        device.stop()
    assert done.returncode == 0
    assert done.stderr.count("nothing more is recorded: File too large") == 1
    assert 5 < len(Capture.load(record).bursts) < len(done.stdout.splitlines())


def test_colour_on_a_terminal(dust):
    master, slave = pty.openpty()
    tty.setraw(slave)
    with subprocess.Popen(
        [COMMAND, "sniff", str(dust.path), "--driver", "sds011", "--seconds", "1"],
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm"},
    ) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                said += os.read(master, 4096)
            except OSError:  # the other side is closed
                break
    os.close(master)
    assert process.returncode == 0
    assert b"\x1b[32mpm2_5 123.6 ug/m3" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sniff", "/dev/null", "--driver", "sds012"], "driver 'sds012' is unknown"),
        (["sniff", "/dev/null", "--driver", "elsys"], "driver elsys is for payload"),
        (["sniff", "/dev/null", "--driver", "maxbotix"], "model: missing"),
        (["sniff", "usb:nonsense"], "expected usb:VID:PID"),
        (["sniff", "/dev/null", "--ask", "1"], "expected only with --driver"),
        (["sniff", "/dev/null", "--driver", "a02yyuw", "--ask", "1"], "has no single question"),
        (["replay", "/nonexistent"], "cannot be read"),
    ],
)
def test_bad_use_is_answered_with_what_was_expected(arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


HEADER = '{"capture": 1, "port": "/dev/x", "baudrate": 9600, "driver": null, "started": "2026-07-14T18:05:00+02:00"}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: "),
        ("hello\n", "line 1: "),
        (HEADER.replace("1", "2", 1), "capture: "),
        (HEADER.replace("+02:00", ""), "line 1: started: "),
        (HEADER + '{"t": 1, "hex": "A"}\n', "line 2: hex: found 'A'"),
        (HEADER + '{"t": 1}\n', "line 2: hex: missing"),
    ],
)
def test_a_file_that_is_no_capture_is_refused_by_line(text, said, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match="line") as error:
        Capture.load(path)
    assert said in str(error.value)


def test_a_last_line_that_a_power_cut_left_unfinished_costs_only_itself(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(HEADER + '{"t": 1, "hex": "AA"}\n{"t": 2, "he')
    assert [burst.data for burst in Capture.load(path).bursts] == [b"\xaa"]


@given(st.lists(st.integers(1, len(FRAME) * 3 - 1), max_size=5))
def test_a_frame_is_found_however_it_was_split(cuts):
    data, edges = FRAME * 3, sorted({0, *cuts, len(FRAME) * 3})
    one = ear("sds011")
    items = [item for i, (a, b) in enumerate(pairwise(edges)) for item in one.hear(i * 0.1, data[a:b])]
    assert [item[0].value for item in items] == [123.6] * 3


def test_a_frame_with_a_silence_in_it_is_lost_as_in_a_gateway():
    one = ear("sds011")
    assert one.hear(0.0, FRAME[:4]) == ()
    (noise,) = one.hear(1.0, FRAME[4:])
    assert isinstance(noise, FrameError)
    assert one.hear(1.1, FRAME)[0][0].value == 123.6


@given(st.binary(max_size=300), st.integers(80, 200))
def test_rows_hold_every_byte_and_fit(data, columns):
    items = ear("sds011").hear(0, data)
    shown = [click.unstyle(row) for row in rows("18:05:00.123", Burst(0, data, items=items), columns)]
    per = 16 if columns >= 132 else 8
    assert bytes.fromhex("".join(row[15 : 15 + 3 * per - 1] for row in shown)) == data
    assert all(len(row) <= columns for row in shown)
