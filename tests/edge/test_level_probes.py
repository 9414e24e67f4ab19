"""Level probes over a real pty: dialogues of several steps, a bus with a stranger on it, and a probe that loses its power."""

import pytest

from common.clock import Clock
from edge import config, drivers
from edge.emulators.family import Bench, Member, families
from edge.emulators.keller import KellerBus, KellerProbe
from edge.emulators.level_probe import LevelProbe
from edge.emulators.log import DeviceLog
from edge.emulators.pty import PtyDevice
from edge.emulators.registers import Registers
from edge.emulators.rs485 import Rs485Line
from edge.emulators.sdi12 import Sdi12Bus, Sdi12Probe
from edge.errors import ConfigError
from edge.sensors import _modbus_rtu as rtu
from edge.sensors import sdi12
from edge.sensors.base import Ask, FrameError
from edge.transports.build import build

CLOCK = Clock()


class Stranger(PtyDevice):
    """Answers each Modbus request with 4.000 m from unit 2, whoever was asked."""

    def received(self, data):
        self.write(rtu.seal(bytes((2, data[1], 4, 0, 3, 0x0F, 0xA0))))


def sdi12_bus(path, address, **probe):
    truth = {"water_level": 1.234, "water_temperature": -0.5, "conductivity": 0.7}
    return Sdi12Bus(path, [Sdi12Probe(address, "p", lambda _: truth, **probe)], clock=CLOCK, log=DeviceLog())


@pytest.fixture
def plug(samples):
    """Starts a device and the transport that reads it; stops both, the transport first."""
    running = []

    def start(device, driver, **options):
        sensor = {"id": "s", "driver": driver, "port": str(device.path), "period_s": 0.3, "options": options}
        station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": [sensor]}
        gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
        settings = config.EdgeConfig.model_validate({"gateway": gateway, "station": [station]})
        for thing in (device, *build(settings, Clock(), samples)):
            running.append(thing)
            thing.start()
        return device

    yield start
    for thing in reversed(running):
        thing.stop()


def of(sample):
    return {field.name: field.value for field in sample.fields}


NAMED = [{"name": "water_level"}, {"name": "water_temperature"}, {"name": "conductivity", "unit": "mS/cm"}]


def test_an_sdi12_measurement_of_two_pages_is_fetched_when_the_probe_is_ready(tmp_path, plug, samples):
    """It announces 60 s, and says at once that it is ready."""
    device = sdi12_bus(tmp_path / "port", "0", quantities=NAMED, announced_s=60, ready_s=0, page_characters=12)
    plug(device, "sdi12", quantities=NAMED)
    first = samples.wait(lambda all_: all_)[0]
    assert (first.error, of(first)) == (None, {"water_level": 1.234, "water_temperature": -0.5})
    assert [(f.name, f.value) for f in first.side] == [("conductivity", 0.7), ("address", "0")]
    assert list(device.questions)[:3] == [b"0M!", b"0D0!", b"0D1!"]


def test_an_sdi12_probe_that_measures_all_the_time_is_asked_once(tmp_path, plug, samples):
    device = sdi12_bus(tmp_path / "port", "a", quantities=NAMED[:1])
    plug(device, "sdi12", address="a", measure="RC0", quantities=NAMED[:1])
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 1.234}
    assert set(device.questions) == {b"aRC0!"}


def test_an_sdi12_address_may_be_written_as_a_number(tmp_path, plug, samples):
    plug(sdi12_bus(tmp_path / "port", "3"), "sdi12", address=3, measure="R0", quantities=NAMED[:1])
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 1.234}


def test_an_sdi12_probe_that_says_nothing_is_a_time_out(tmp_path, plug, samples):
    plug(sdi12_bus(tmp_path / "port", "0", silent=True), "sdi12", quantities=NAMED)
    assert samples.wait(lambda all_: all_)[0].error.kind == "timeout"


def talk(options, *answers):
    """What a dialogue asks, given these answers, and how it ends: fields, or the kind of its error."""
    steps = sdi12.dialogue(drivers.options(drivers.find("sdi12"), options))
    asked = [next(steps)]
    try:
        for answer in answers:
            silent = FrameError("timeout", "")
            asked.append(steps.throw(silent) if answer is None else steps.send(answer))
    except StopIteration as end:
        return asked, end.value
    except FrameError as error:
        return asked, error.kind
    return asked, None


def requests(asked):
    return [ask.request for ask in asked]


def test_the_time_of_a_measurement_may_pass_without_a_service_request():
    asked, fields = talk({"quantities": NAMED[:1]}, b"00021\r\n", None, b"0+1\r\n")
    assert asked[1] == Ask(b"", 2)
    assert requests(asked) == [b"0M!", b"", b"0D0!"]
    assert fields[0].value == 1


def test_values_that_are_ready_at_once_are_fetched_at_once():
    asked, _ = talk({"measure": "MC"}, b"00001\r\n", b"0+3.14OqZ\r\n")
    assert requests(asked) == [b"0MC!", b"0D0!"]


@pytest.mark.parametrize(
    ("options", "answers", "kind"),
    [
        ({}, [None], "timeout"),
        ({}, [b"00000\r\n"], "no_data"),
        ({}, [b"10001\r\n"], "header"),
        ({}, [b"000011\r\n"], "format"),
        ({}, [b"00011\r\n", b"1\r\n"], "header"),
        ({}, [b"00011\r\n", b"0+1\r\n"], "format"),
        ({}, [b"00001\r\n", b"0\r\n"], "no_data"),
        ({}, [b"01211\r\n"], "format"),
        ({"ready_within_s": 9}, [b"00101\r\n"], "format"),
        ({}, [b"00001\r\n", b"0+1+2\r\n"], "length"),
        ({}, [b"00002\r\n", b"0+1\r\n", b"0\r\n"], "no_data"),
        ({"measure": "MC"}, [b"00001\r\n", b"0+3.14OqY\r\n"], "crc"),
        ({"measure": "C"}, [b"00011\r\n"], "format"),
        ({}, [b"00009\r\n", *[b"0+1\r\n"] * 8, None], "timeout"),
    ],
)
def test_what_goes_wrong_in_a_measurement_gives_no_value(options, answers, kind):
    assert talk(options, *answers)[1] == kind


def test_a_keller_probe_is_initialised_again_after_a_power_cut(tmp_path, plug, samples):
    vent = {"compensation": "vent"}
    probe = KellerProbe(1, "hoyoux/p", lambda _: {"water_level": 9.4662}, vent)
    device = plug(KellerBus(tmp_path / "port", [probe], clock=CLOCK, log=DeviceLog()), "keller_bus", **vent)
    first = samples.wait(lambda all_: all_)[0]
    assert of(first) == {"water_pressure": 928.6342, "water_level": 9.4662}
    cut = len(samples.all)
    device.restart()
    after = samples.wait(lambda all_: any(s.error for s in all_[cut:]) and all_[-1].fields)[cut:]
    assert {s.error.kind for s in after if s.error} == {"sensor_state"}


@pytest.mark.parametrize("asked", [7, 0])
def test_a_level_probe_is_read_at_its_address_or_at_that_of_all(tmp_path, plug, samples, asked):
    probe = LevelProbe(7, "hoyoux/p", lambda _: {"water_level": 4.0})
    device = plug(
        Rs485Line(tmp_path / "port", [probe], clock=CLOCK, log=DeviceLog()), "modbus_level_probe", address=asked
    )
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 4.0}
    assert device.questions[0] == rtu.read_request(asked, 3, 3, 2)


def test_an_answer_of_another_unit_is_no_value(tmp_path, plug, samples):
    plug(Stranger(tmp_path / "port"), "xy_md02", unit=1)
    first = samples.wait(lambda all_: all_)[0]
    assert not first.fields
    assert first.error.kind == "header"
    assert "expected unit 01" in first.error.reason


def test_a_map_of_registers_is_read_run_by_run(tmp_path, plug, samples):
    """The device refuses a read that touches a register that it has not."""
    registers = [
        {"name": "water_level", "address": 9, "factor": 0.01},
        {"name": "air_temperature", "address": 1, "function": 4, "factor": 0.1},
        {"name": "water_temperature", "address": 8, "factor": 0.1},
        {"name": "battery_voltage", "address": 1, "factor": 0.1},
    ]
    truth = {"water_level": 3.09, "water_temperature": 30.8, "battery_voltage": 30.1, "air_temperature": 40.1}
    server = Registers(3, "hoyoux/p", lambda _: truth, registers)
    line = Rs485Line(tmp_path / "port", [server], clock=CLOCK, log=DeviceLog())
    device = plug(line, "modbus", unit=3, registers=registers)
    first = samples.wait(lambda all_: all_)[0]
    assert of(first) == truth
    assert sorted(list(device.questions)[:3]) == sorted(
        [rtu.read_request(3, 3, 8, 2), rtu.read_request(3, 3, 1, 1), rtu.read_request(3, 4, 1, 1)]
    )


class Hesitant(Rs485Line):
    """Every third answer comes 0.1 s after its time-out of 1 s."""

    answers = 0

    def write(self, data):
        self.answers += 1
        self.pause(1.1 if self.answers % 3 == 0 else 0.05)
        return super().write(data)


def test_a_late_answer_is_not_taken_for_that_to_another_question(tmp_path, plug, samples):
    """A reply does not say which registers it is of."""
    registers = [{"name": "water_level", "address": 9, "factor": 0.01}, {"name": "water_temperature", "address": 1}]
    truth = {"water_level": 3.09, "water_temperature": 12}
    server = Registers(1, "hoyoux/p", lambda _: truth, registers)
    line = Hesitant(tmp_path / "port", [server], clock=CLOCK, log=DeviceLog())
    plug(line, "modbus", registers=registers)
    got = samples.wait(lambda all_: sum(bool(s.fields) for s in all_) >= 4)
    assert [of(s) for s in got if s.fields] == [truth] * sum(bool(s.fields) for s in got)


def test_a_device_that_answers_in_lines_is_asked(tmp_path, plug, samples):
    """It greets before each answer."""
    options = {**families()["line"].options, "request": "READ\r\n"}
    truth = {"water_level": 1.25, "water_temperature": 0.0}
    members = [Member("hoyoux/p", lambda _: truth, options)]
    device = plug(
        families()["line"].make(Bench(path=tmp_path / "port", members=members, clock=CLOCK)), "line", **options
    )
    assert of(samples.wait(lambda all_: all_)[0]) == truth
    assert device.questions[0] == b"READ\r\n"


@pytest.mark.parametrize(
    ("driver", "options", "said"),
    [
        ("modbus_level_probe", {"words": ["level"]}, "decimals: expected their number, or 'decimals' among words"),
        ("keller_modbus", {"register": "P1+P2"} | {"compensation": "ch0"}, "'ch0' needs CH0"),
        ("keller_modbus", {"register": "P2+P1"}, "found 'P2+P1', expected a part of CH0+P1"),
        ("keller_bus", {"compensation": "p2"}, "'p2' needs P1, P2, found channel 'P1'"),
        ("keller_bus", {"channel": "P3"}, "found 'P3', expected one of CH0, P1"),
        ("sdi12", {"after": "0Q!"}, "found '0Q!', expected a command such as 0D0!"),
        ("sdi12", {"quantities": [NAMED[0], NAMED[0]]}, "expected each quantity once"),
        ("sdi12", {"quantities": [{"name": "water_level", "unit": "cm"}]}, "found 'cm', expected 'm'"),
        ("modbus", {"registers": []}, "registers: "),
        ("modbus", {"registers": [{"name": "water_level"}]}, "registers.0.address"),
        ("modbus", {"registers": [{"name": "water_level", "address": 1}] * 2}, "expected each quantity once"),
        ("line", {"pattern": "(?P<water_level>"}, "expected a regular expression"),
        ("line", {"pattern": "[0-9]+"}, "expected a group such as"),
        ("line", {"pattern": "(?P<d>.*)", "quantities": [{"name": "e"}]}, "expected one of the pattern's: d"),
        ("jsn_sr04t", {"model": "HC-SR04"}, "expected JSN-SR04T or AJ-SR04M"),
    ],
)
def test_options_that_cannot_be_are_named(driver, options, said):
    with pytest.raises(ConfigError) as caught:
        drivers.options(drivers.find(driver), options)
    assert said in str(caught.value)
