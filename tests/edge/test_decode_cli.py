"""`maillages-edge decode` and `drivers`, the installed command; details of frames are in the vectors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "maillages-edge"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_a_stream_gives_a_line_per_reading() -> None:
    done = _run("decode", "maxbotix", "--model", "MB7389", "--ascii", r"234\rR1234\r" + "\xffR1235\r")
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"quantity": "water_distance", "value": 1.234, "unit": "m"},
        {"quantity": "water_distance", "value": 1.235, "unit": "m"},
    ]
    assert done.stderr.startswith("format: ")


def test_a_bad_frame_gives_its_class_and_what_stays_usable() -> None:
    done = _run("decode", "sds011", "--hex", "AA C0 00 00 00 00 58 D9 31 AB")
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"quantity": "device_id", "value": "58D9", "unit": ""}
    assert done.stderr.startswith("warming_up: ")


def test_options_carry_what_the_bytes_cannot_tell() -> None:
    settings = ["--set", 'words=["temperature"]', "--set", "scale=100"]
    done = _run("decode", "xy_md02", "--hex", "0104020BEA3F8F", *settings)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"quantity": "air_temperature", "value": 30.5, "unit": "Cel"}


@pytest.mark.parametrize(
    "registers",
    [
        '[{ name = "water_level", address = 8, factor = 0.001 }]',  # as it stands in edge.toml
        '[{"name": "water_level", "address": 8, "factor": 0.001}]',
    ],
)
def test_a_list_of_tables_is_given_as_in_edge_toml_or_as_json(registers: str) -> None:
    out = _run("decode", "modbus", "--hex", "01030204D23AD9", "--set", f"registers={registers}")
    assert json.loads(out.stdout) == {"quantity": "water_level", "value": 1.234, "unit": "m"}


def test_a_pattern_that_begins_like_a_list_stays_text() -> None:
    out = _run("decode", "line", "--ascii", "D=1.5\\n", "--set", "pattern=[D]=(?P<water_distance>[0-9.]+)")
    assert json.loads(out.stdout)["value"] == 1.5


def test_lpp_lines_add_the_channel_and_a_file_is_read(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes.fromhex("0367011002686C"))
    done = _run("decode", "cayenne_lpp", "--json", str(body))
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"quantity": "temperature", "value": 27.2, "unit": "degC", "channel": 3},
        {"quantity": "humidity", "value": 54.0, "unit": "%RH", "channel": 2},
    ]
    empty = _run("decode", "cayenne_lpp", "--hex", "")
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sds012", "--hex", "AA"], "driver 'sds012' is unknown, expected one of "),
        (["sds011", "--hex", "AA0"], "--hex: found 'AA0', expected pairs of hex digits"),
        (["sds011"], "expected one of --hex, --ascii, --json, found none"),
        (["sds011", "--hex", "AA", "--set", "speed=3"], "speed: unknown key"),
        (
            ["maxbotix", "--ascii", "R1234", "--model", "MB9999"],
            "expected a part number such as MB7389 or a family: HRXL",
        ),
        (["maxbotix", "--ascii", "R1234"], "model: missing"),
    ],
)
def test_bad_use_is_answered_with_what_was_expected(arguments: list[str], said: str) -> None:
    done = _run("decode", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_drivers_are_listed() -> None:
    listed = json.loads(_run("drivers", "--json").stdout)
    assert {d["name"] for d in listed} >= {"cayenne_lpp", "maxbotix", "rylr998", "sds011", "xy_md02"}
    assert all(d[part] for d in listed for part in ("title", "measures", "needs", "costs"))


def test_a_driver_says_what_it_measures_needs_and_costs() -> None:
    done = _run("drivers", "sds011")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:5] == [
        "sds011  Nova SDS011 particle sensor (UART, active or query mode)",
        "  measures  pm2_5, pm10 (ug/m3)",
        "  needs     serial line of its own, 9600 baud 8N1; options: mode=active, device_id=FFFF",
        "  costs     a reading every 60 s by default; it talks by itself; rests between readings from period_s = 100 on; the",
        "            laser lives 8,000 h (data sheet V1.3): 11 months without rest",
    ]
    assert "  wiring    5 V supply for the fan" in done.stdout
    assert "wiring" not in _run("drivers").stdout.splitlines()
    needs = {d["name"]: d["needs"] for d in json.loads(_run("drivers", "--json").stdout)}
    assert "options: model (required)" in needs["maxbotix"]
    assert "several by address" in needs["sdi12"]
    assert "[[network_server]]" in needs["ttn_v3"]
    none = _run("drivers", "co2", "submarine")
    assert (none.returncode, none.stdout, none.stderr) == (1, "", "No driver has co2 and submarine.\n")


def test_finding_one_driver_imports_no_other() -> None:
    code = (
        "import sys; from edge import drivers; drivers.names(); "
        "assert not any(m.startswith('edge.sensors.sds') for m in sys.modules); "
        "drivers.find('sds011'); print(*(m for m in sys.modules if m.split('.')[0] in ('edge', 'serial', 'pymodbus', 'paho')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "edge.sensors.sds011" in loaded
    assert not loaded & {"edge.sensors.maxbotix", "edge.radio.rylr998", "serial", "pymodbus", "paho"}
