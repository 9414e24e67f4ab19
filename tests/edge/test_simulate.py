"""`maillages-edge simulate` as a technician uses it: a process, its port, and what a gateway reads there by the printed stanza."""

import json
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.clock import Clock
from edge import config, simulate
from edge.emulators.family import Bench, Member, families
from edge.errors import ConfigError
from edge.outputs.relay import Relay
from edge.simulate import Simulation
from edge.transports.build import build
from tests import servers
from tests.fakes.samples import Samples

PROGRAM = Path(sys.executable).with_name("maillages-edge")


def settings(stanza):
    station = {"id": "bench", "name": "Bench", "commune": "61031", "lat": 50.5, "lon": 5.2}
    said = tomllib.loads(stanza.replace("period_s = 5", "period_s = 1"))
    said["station"] = [station | said["station"]]
    return config.EdgeConfig.model_validate({"gateway": {"id": "gw-1", "data_dir": "/nonexistent"}} | said)


@contextmanager
def simulated(*arguments):
    """The running program; what it says of itself stands in `described`."""
    program = subprocess.Popen(
        [PROGRAM, "simulate", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.wait()
        for pipe in (program.stdin, program.stdout, program.stderr):
            pipe.close()


@contextmanager
def read_by_a_gateway(stanza):
    samples = Samples()
    transports = build(settings(stanza), Clock(), samples)
    for transport in transports:
        transport.start()
    try:
        yield samples
    finally:
        for transport in transports:
            transport.stop()


def say(program, line):
    program.stdin.write(line + "\n")
    program.stdin.flush()
    return program.stdout.readline().strip()


def has(name, value):
    return lambda all_: any(f.name == name and f.value == value for s in all_ for f in s.fields)


def test_what_it_prints_reads_it_and_it_changes_while_it_runs(tmp_path):
    link = tmp_path / "dust"
    with simulated("sds011", "--link", link, "--value", "pm10=12.3", "--json") as program:
        said = json.loads(program.stdout.readline())
        assert (said["port"], said["true"], said["trouble"]) == (str(link), {"pm2_5": 38.4, "pm10": 12.3}, "none")
        with read_by_a_gateway(said["stanza"]) as samples:
            samples.wait(has("pm10", 12.3))
            assert say(program, "pm10=45.6") == "pm10=45.6 from now on"
            samples.wait(has("pm10", 45.6))
            assert say(program, "silent") == "trouble: silent=1"
            samples.wait(lambda all_: all_[-1].error and all_[-1].error.kind == "timeout")
            assert say(program, "ok") == "trouble: none"
            samples.wait(lambda all_: all_[-1].fields)
            assert say(program, "unplug") == "unplugged"
            samples.wait(lambda all_: all_[-1].error and all_[-1].error.kind == "port")
            assert say(program, "plug") == "plugged"
            samples.wait(lambda all_: all_[-1].fields)
            assert "quark" in say(program, "quark")
        program.stdin.close()  # the end of its input is not the end of the device
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
    assert not link.is_symlink()


def test_several_on_a_line_each_have_a_stanza_and_a_log_says_what_they_sent(tmp_path):
    log = tmp_path / "log"
    arguments = ("--link", tmp_path / "bus", "--address", 1, "--address", "b", "--value", "water_level=0", "--log", log)
    with simulated("sdi12", *arguments, "--json") as program:
        said = json.loads(program.stdout.readline())
        with read_by_a_gateway(said["stanza"]) as samples:
            for sensor in ("sdi12-1", "sdi12-b"):
                samples.wait(lambda all_, sensor=sensor: any(s.sensor == sensor and s.fields for s in all_))
            assert {s.fields[0].value for s in samples.all if s.fields} == {0}
        program.terminate()
        assert program.wait(60) == 0
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert {one["sensor"] for one in logged if one["values"].get("water_level") == 0} == {"sdi12-1", "sdi12-b"}


@pytest.mark.parametrize("name", [name for name, family in families().items() if family.kind == "modem"])
def test_a_new_modem_is_set_up_by_the_printed_stanza_and_its_node_is_heard(name, tmp_path):
    family = families()[name]
    true = {"water_distance": 2.8, "battery_voltage": 3.6}
    member = Member("bench/lora", lambda _: true, {})
    device = family.make(Bench(path=tmp_path / "tty", members=[member], clock=Clock(), interval_s=0.3))
    by_hand = family.words.get("m1")
    if by_hand:
        by_hand.do(device, "1")
    device.start()
    try:
        with read_by_a_gateway(family.stanza("lora", device.path, {})) as samples:
            if by_hand:
                servers.wait_until(lambda: device.registers[4] & 0x10, 10, "not set up")
                by_hand.do(device, "0")
            samples.wait(lambda all_: any(len(s.fields) == 2 for s in all_))
            assert {f.name: f.value for f in next(s for s in samples.all if s.fields).fields} == true
    finally:
        device.stop()


def test_what_only_one_device_knows_is_typed_too(tmp_path):
    simulation = Simulation.of(families()["gsm"], link=tmp_path / "gsm", settings={"pin": "1234"})
    assert simulation.told("sms=+32470000001 OUI") == "sms=+32470000001 OUI"
    assert simulation.device.waiting == 1
    assert simulation.told("network=0")
    assert not simulation.device.faults.registered
    with pytest.raises(ConfigError, match="expected sms="):
        simulation.told("sms=OUI")
    assert tomllib.loads(simulation.stanza())["outputs"]["sms"]["pin"] == "1234"


def test_an_output_says_what_was_done_to_it(tmp_path):
    with simulated("lcus1", "--link", tmp_path / "relay", "--set", "channels=2") as program:
        servers.wait_until((tmp_path / "relay").is_symlink, 15, "no port")
        relay = Relay(str(tmp_path / "relay"), 2)
        relay.set(True)
        relay.set(False)
        relay.close()
        told = iter(program.stdout.readline, "")
        assert next(line for line in told if line.startswith("relay")) == "relay 2 on\n"
        assert next(told) == "relay 2 off\n"


def test_for_a_person_it_is_plain_text_in_a_pipe(tmp_path):
    link = tmp_path / "level"
    with simulated("maxbotix", "--link", link, "--value", "water_level=1.2", "--trouble", "corrupt=0.05") as program:
        servers.wait_until(lambda: link.is_symlink(), 15, "no port")
        program.terminate()
        out, error = program.communicate(timeout=10)
    assert not error
    assert "\x1b" not in out
    assert "shows    water_distance 2.8 m, water_level 1.2 m" in out
    assert "trouble  corrupt=0.05" in out
    assert settings(out[out.index("[[station.sensor]]") :]).station[0].sensor[0].level.mounting_height_m == 4.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quark"], "family 'quark' is not emulated, expected one of a02yyuw, ds18b20"),
        (["sds011", "--value", "co2=400"], "'co2': sds011 does not show it, expected pm2_5, pm10"),
        (["sds011", "--value", "pm10=nan"], "found 'pm10=nan', expected quantity=number"),
        (["sds011", "--ramp", "pm10=1:2"], "expected quantity=FROM:TO:SECONDS"),
        (["sds011", "--ramp", "pm10=1:2:0"], "expected quantity=FROM:TO:SECONDS"),
        (["sds011", "--trouble", "quark=1"], "trouble 'quark' is unknown"),
        (["sds011", "--address", "1"], "sds011 has none"),
        (["sds011", "--set", "mode=quark"], "sds011 option mode"),
        (["xy_md02", "--address", "300"], "xy_md02 option unit"),
        (["lcus1", "--value", "water_level=1"], "lcus1 does not show it, expected none"),
        (["gsm", "--set", "quark=1"], "gsm option 'quark' is unknown, expected pin"),
        (["maxbotix", "--set", "model=MB7363"], "'MB7363' is not emulated, expected MB7389"),
        (["sds011", "--link", "/nonexistent/port"], "/nonexistent is no directory"),
    ],
)
def test_a_fault_is_named(arguments, said):
    with simulated(*arguments) as program:
        out, error = program.communicate(timeout=20)
    assert program.returncode == 2
    assert said in error
    assert not out


def test_nothing_that_is_there_is_replaced(tmp_path):
    file = tmp_path / "notes"
    file.write_text("mine")
    for family in ("sds011", "ds18b20"):
        with pytest.raises(ConfigError, match="is there already"):
            Simulation.of(families()[family], link=file)
    left = tmp_path / "left"
    left.symlink_to("/dev/pts/nonexistent")
    assert Simulation.of(families()["sds011"], link=left).link == left


@pytest.mark.parametrize("name", families())
def test_each_family_can_be_simulated_and_leaves_nothing(name, tmp_path):
    simulation = Simulation.of(families()[name], link=tmp_path / "port")
    simulation.device.start()
    try:
        assert Path(simulation.described()["port"]).exists()
    finally:
        simulation.device.stop()
    assert list(tmp_path.iterdir()) == []


def test_the_list_has_each_family():
    lines = simulate.listing(as_json=False).splitlines()
    assert [line.split()[0] for line in lines] == list(families())
    assert [f["name"] for f in json.loads(simulate.listing(as_json=True))] == list(families())


def test_a_ramp_goes_there_and_back():
    ramp = simulate.ramp("water_level=1:3:10")[1]
    assert [ramp.at(s) for s in (0, 5, 10, 15, 20, 25)] == [1, 2, 3, 2, 1, 2]
