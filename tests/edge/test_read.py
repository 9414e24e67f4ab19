"""`maillages-edge read`: the installed command and its Reader, on real ptys."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common.clock import Clock
from edge.config import EdgeConfig
from edge.emulators.family import Bench, Member, families
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.rylr998 import LoraNode, Rylr998
from edge.emulators.sds011 import Sds011
from edge.emulators.xy_md02 import Rs485Line, XyMd02
from edge.tools import read
from edge.transports.port import Port

COMMAND = Path(sys.executable).parent / "maillages-edge"
CLOCK = Clock()
LPP = {"air_temperature": (1, 0x67)}


def run(*arguments):
    return subprocess.run([COMMAND, "read", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def plug():
    running = []

    def start(device):
        device.start()
        running.append(device)
        return device

    yield start
    for device in reversed(running):
        device.stop()


@pytest.fixture
def site(tmp_path, plug):
    """A station with a device of each kind, and its configuration."""
    log = DeviceLog()
    plug(Mb7389(tmp_path / "level", "level", lambda _: 1.5, clock=CLOCK, log=log))
    plug(Rs485Line(tmp_path / "bus", [XyMd02(3, "air", lambda _: (21.5, 55.2))], clock=CLOCK, log=log))
    node = LoraNode(12, "node", LPP, lambda _: {"air_temperature": -4.2}, interval_s=0.5)
    plug(Rylr998(tmp_path / "lora", [node], clock=CLOCK, log=log))
    path = tmp_path / "edge.toml"
    path.write_text(f"""
        gateway = {{ id = "gw", data_dir = "{tmp_path}/data" }}
        [[modem]]
        name = "lora"
        driver = "rylr998"
        port = "{tmp_path}/lora"
        [[network_server]]
        name = "cs"
        driver = "chirpstack_v4"
        url = "mqtt://127.0.0.1:1"
        [[station]]
        id = "huy"
        name = "Huy"
        commune = "61031"
        lat = 50.5
        lon = 5.2
        [[station.sensor]]
        id = "level"
        driver = "maxbotix"
        port = "{tmp_path}/level"
        options = {{ model = "MB7389" }}
        level = {{ mounting_height_m = 4.2 }}
        gross_range = {{ water_level = {{ fail = [-0.5, 4.2], suspect = [0.0, 2.6] }} }}
        [[station.sensor]]
        id = "air"
        driver = "xy_md02"
        port = "{tmp_path}/bus"
        options = {{ unit = 3 }}
        [[station.sensor]]
        id = "node"
        driver = "cayenne_lpp"
        modem = "lora"
        address = 12
        options = {{ channels = {{ 1 = "air_temperature" }} }}
        period_s = 600
        [[station]]
        id = "wanze"
        name = "Wanze"
        commune = "61072"
        lat = 50.5
        lon = 5.2
        [[station.sensor]]
        id = "silent"
        driver = "xy_md02"
        port = "{tmp_path}/bus"
        options = {{ unit = 9 }}
        [[station.sensor]]
        id = "gone"
        driver = "mhz19"
        port = "{tmp_path}/nothing"
        [[station.sensor]]
        id = "quiet"
        driver = "cayenne_lpp"
        modem = "lora"
        address = 13
        [[station.sensor]]
        id = "lorawan"
        driver = "dragino_ldds"
        network_server = "cs"
        dev_eui = "a84041ffff123456"
        options = {{ model = "LDDS75" }}
    """)
    return path


def by_sensor(done):
    return {row["sensor"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_each_sensor_gives_one_reading_now(site):
    done = run("huy", "-c", site, "--json")
    assert done.returncode == 0
    said = by_sensor(done)
    assert said["level"]["readings"] == [{"quantity": "water_level", "value": 2.7, "unit": "m", "qc": 3}]
    assert {"quantity": "water_distance", "value": 1.5, "unit": "m"} in said["level"]["fields"]
    assert [(r["quantity"], r["value"], r["qc"]) for r in said["air"]["readings"]] == [
        ("air_temperature", 21.5, 1),
        ("relative_humidity", 55.2, 1),
    ]
    assert said["node"]["readings"][0]["value"] == -4.2
    assert {"quantity": "rssi", "value": -72, "unit": "dBm"} in said["node"]["fields"]
    assert all(row["error"] is None and row["time"] for row in said.values())


def test_what_gives_no_value_says_why_and_what_to_do(site, tmp_path):
    done = run("wanze", "-c", site, "--timeout", "4", "--json")
    assert done.returncode == 1
    errors = {name: row["error"] for name, row in by_sensor(done).items()}
    assert errors["silent"]["kind"] == "timeout"
    assert "unit 9 does not answer" in errors["silent"]["reason"]
    assert "RX and TX" in errors["silent"]["hint"]
    assert (errors["gone"]["kind"], f"{tmp_path}/nothing" in errors["gone"]["reason"]) == ("port", True)
    assert errors["quiet"]["kind"] == "timeout"
    assert "battery" in errors["quiet"]["hint"]
    assert "the gateway alone" in errors["lorawan"]["reason"]
    assert not any(row["readings"] for row in by_sensor(done).values())


def test_people_get_lines_without_colour_in_a_pipe(site):
    done = run("huy/level", "-c", site)
    assert done.returncode == 0
    heading, reading, side = done.stdout.splitlines()
    assert heading.startswith("huy/level  maxbotix on ")
    assert reading.split() == ["water_level", "2.7", "m", *read.FLAGS[3][0].split()]
    assert side.strip() == "water_distance 1.5 m"
    assert done.stderr == ""


def test_a_port_that_the_gateway_holds_is_said(site, tmp_path):
    held = Port(str(tmp_path / "level"), 9600, CLOCK)
    held.open()
    try:
        done = run("huy/level", "-c", site)
    finally:
        held.close()
    assert done.returncode == 1
    assert "in use by another program" in done.stdout
    assert "systemctl stop maillages-edge" in done.stdout


def test_ctrl_c_ends_the_wait_for_a_node(site):
    process = subprocess.Popen(
        [COMMAND, "read", "wanze", "-c", site], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:  # the others have answered by now
        if "unit 9 does not answer" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "nothing heard in" in out
    assert err == ""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("liege", "station 'liege' is unknown, expected one of huy, wanze"),
        ("huy/x", "sensor 'x' is unknown, expected one of level, air, node"),
    ],
)
def test_a_wrong_name_is_answered_with_those_that_exist(target, said, site):
    done = run(target, "-c", site)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", f"{site}: {said}")


def test_a_configuration_that_is_none_is_refused(tmp_path):
    done = run("-c", tmp_path / "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be read" in done.stderr


def test_a_sensor_that_rests_warms_up_first_and_rests_again(tmp_path, plug):
    """Twenty times as fast: 30 s to warm up, 10 s to measure."""
    clock = Clock(scale=20, origin_boot=CLOCK.boot(), origin_wall=CLOCK.wall())
    device = Sds011(
        tmp_path / "dust", "dust", lambda _: (30.0, 60.0), clock=clock, log=DeviceLog(), interval_s=0.1, warm_up_s=25
    )
    device.asleep = True
    plug(device)
    sensor = {"id": "dust", "driver": "sds011", "port": str(device.path), "period_s": 600}
    station = {"id": "huy", "name": "Huy", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": [sensor]}
    settings = EdgeConfig.model_validate({"gateway": {"id": "gw", "data_dir": str(tmp_path)}, "station": [station]})
    answers, told = [], []
    read.Reader(settings, "huy/dust", clock).run(threading.Event(), answers.append, told.append)
    (answer,) = answers
    assert {f.name: f.value for f in answer.sample.fields} == {"pm2_5": 30.0, "pm10": 60.0}
    deadline = CLOCK.boot() + 5
    while not device.asleep and CLOCK.boot() < deadline:
        device.pause(0.01)
    assert device.asleep
    assert "huy/dust (warms up, 40 s)" in told[0]


def test_a_distance_is_compensated_by_the_air_that_is_read_with_it(tmp_path, plug):
    log = DeviceLog()
    member = Member("level", lambda _: {"water_distance": 2.0}, {})
    plug(families()["jsn_sr04t"].make(Bench(path=tmp_path / "level", members=[member], clock=CLOCK, log=log)))
    plug(Rs485Line(tmp_path / "bus", [XyMd02(1, "air", lambda _: (-10.0, 55.2))], clock=CLOCK, log=log))
    air = {"id": "air", "driver": "xy_md02", "port": str(tmp_path / "bus")}
    level = {"id": "level", "driver": "jsn_sr04t", "port": str(tmp_path / "level"), "air": {"sensor": "air"}}
    level["level"] = {"mounting_height_m": 4.0}

    def read_level(*sensors):
        station = {"id": "huy", "name": "Huy", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": sensors}
        settings = EdgeConfig.model_validate({"gateway": {"id": "gw", "data_dir": str(tmp_path)}, "station": [station]})
        answers = []
        read.Reader(settings, "huy/level", CLOCK, 4).run(threading.Event(), answers.append, lambda _: None)
        return answers

    first, second = read_level(level, air)
    assert (first.wanted.key, second.wanted.key) == ("huy/air", "huy/level")
    (reading,) = second.readings
    assert reading.qc == 1
    # 331.3 m/s at 0 degrees, by the root of the absolute temperature: what the board takes for 2.0 m is less in cold air.
    expected = 2.0 * 331.3 * (263.15 / 273.15) ** 0.5 / second.wanted.sound_m_s
    assert reading.value == pytest.approx(4.0 - expected, abs=0.01)
    assert 4.0 - reading.value < 1.93
    _, (alone,) = (answer.readings for answer in read_level(level, air | {"options": {"unit": 9}}))
    assert (alone.value, alone.qc) == (2.0, 3)
