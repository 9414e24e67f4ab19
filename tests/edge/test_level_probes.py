"""Level probes over a real pty: dialogues of several steps, a bus with a stranger on it, and a probe that loses its power."""

import pytest

from common.clock import Clock
from edge import config, drivers
from edge.emulators.pty import PtyDevice
from edge.errors import ConfigError
from edge.sensors import _modbus_rtu as rtu
from edge.sensors import keller_bus, sdi12
from edge.sensors.base import Ask, FrameError
from edge.transports.build import build
from tests.fakes.samples import Samples


class Probe(PtyDevice):
    """Answers each whole question that `complete` finds at the beginning of its input, by `answer`."""

    def __init__(self, path):
        super().__init__(path)
        self.asked = []
        self._input = b""

    def received(self, data):
        self._input += data
        while (size := self.complete(self._input)) and size <= len(self._input):
            question, self._input = self._input[:size], self._input[size:]
            self.asked.append(question)
            self.write(self.answer(question))


class Sdi12Probe(Probe):
    """Echoes, as adapters do, and says by a service request in the same write that it is ready."""

    answers = {}  # noqa: RUF012

    def complete(self, data):
        return data.find(b"!") + 1

    def answer(self, question):
        return question + self.answers.get(question, b"")


class KellerProbe(Probe):
    """Echoes, and knows nothing until it is initialised; `restart` is a power cut."""

    def __init__(self, path):
        super().__init__(path)
        self.initialised = False

    def complete(self, data):
        return {48: 4, 73: 5}.get(data[1], 0) if len(data) > 1 else 0

    def answer(self, question):
        address, function = question[:2]
        if function == 48:
            body = bytes((address, 48, 5, 20, 12, 28, 13, int(self.initialised)))
            self.initialised = True
        elif self.initialised:
            body = bytes((address, 73)) + bytes.fromhex("3F6DBAAC00")
        else:
            body = bytes((address, 73 | 128, 32))
        return question + body + keller_bus.crc16(body)


class LevelProbe(Probe):
    """A Modbus probe that answers with `unit`, whoever was asked."""

    def __init__(self, path, unit):
        super().__init__(path)
        self.unit = unit

    def complete(self, data):
        return 8 if data else 0

    def answer(self, question):
        return rtu.seal(bytes((self.unit, question[1], 4, 0, 3, 0x0F, 0xA0)))


class Registers(Probe):
    """Holds registers 0 to 9; a read that touches another is refused."""

    def complete(self, data):
        return 8 if data else 0

    def answer(self, question):
        request = rtu.parse_request(question)
        asked = range(request.register, request.register + request.count)
        if asked.stop > 10:
            return rtu.seal(bytes((request.unit, request.function | 128, 2)))
        words = b"".join((100 * request.function + register).to_bytes(2) for register in asked)
        return rtu.seal(bytes((request.unit, request.function, len(words))) + words)


class Text(Probe):
    """Answers a question that ends in a line feed."""

    def complete(self, data):
        return data.find(b"\n") + 1

    def answer(self, _question):
        return b"ready\r\nL=1,25 m\r\n"


@pytest.fixture
def samples():
    return Samples()


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
    device = Sdi12Probe(tmp_path / "port")
    device.answers = {
        b"0M!": b"00603\r\n0\r\n",  # after at most 60 s; the service request comes with it
        b"0D0!": b"0+1.234\r\n",
        b"0D1!": b"0-0.5+0.7\r\n",
    }
    plug(device, "sdi12", quantities=NAMED)
    first = samples.wait(lambda all_: all_)[0]
    assert (first.error, of(first)) == (None, {"water_level": 1.234, "water_temperature": -0.5})
    assert [(f.name, f.value) for f in first.side] == [("conductivity", 0.7), ("address", "0")]
    assert device.asked[:3] == [b"0M!", b"0D0!", b"0D1!"]


def test_an_sdi12_probe_that_measures_all_the_time_is_asked_once(tmp_path, plug, samples):
    device = Sdi12Probe(tmp_path / "port")
    device.answers = {b"aRC0!": b"a+2.5" + sdi12.crc16(b"a+2.5") + b"\r\n"}
    plug(device, "sdi12", address="a", measure="RC0", quantities=NAMED[:1])
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 2.5}
    assert set(device.asked) == {b"aRC0!"}


def test_an_sdi12_address_may_be_written_as_a_number(tmp_path, plug, samples):
    device = Sdi12Probe(tmp_path / "port")
    device.answers = {b"3R0!": b"3+2.5\r\n"}
    plug(device, "sdi12", address=3, measure="R0", quantities=NAMED[:1])
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 2.5}


def test_an_sdi12_probe_that_says_nothing_is_a_time_out(tmp_path, plug, samples):
    plug(Sdi12Probe(tmp_path / "port"), "sdi12", quantities=NAMED)
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
    device = plug(KellerProbe(tmp_path / "port"), "keller_bus", compensation="vent")
    first = samples.wait(lambda all_: all_)[0]
    assert of(first) == {"water_pressure": 928.6296, "water_level": 9.4662}
    cut = len(samples.all)
    device.initialised = False
    after = samples.wait(lambda all_: any(s.error for s in all_[cut:]) and all_[-1].fields)[cut:]
    assert {s.error.kind for s in after if s.error} == {"sensor_state"}


def test_a_level_probe_is_read_at_its_address(tmp_path, plug, samples):
    device = plug(LevelProbe(tmp_path / "port", 7), "modbus_level_probe", address=7)
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 4.0}
    assert device.asked[0] == rtu.read_request(7, 3, 3, 2)


def test_an_answer_of_another_unit_is_no_value(tmp_path, plug, samples):
    plug(LevelProbe(tmp_path / "port", 2), "xy_md02", unit=1)
    first = samples.wait(lambda all_: all_)[0]
    assert not first.fields
    assert first.error.kind == "header"
    assert "expected unit 01" in first.error.reason


def test_a_level_probe_of_unknown_address_may_be_asked_at_0(tmp_path, plug, samples):
    plug(LevelProbe(tmp_path / "port", 9), "modbus_level_probe", address=0)
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 4.0}


def test_a_map_of_registers_is_read_run_by_run(tmp_path, plug, samples):
    registers = [
        {"name": "water_level", "address": 9, "factor": 0.01},
        {"name": "air_temperature", "address": 1, "function": 4, "factor": 0.1},
        {"name": "water_temperature", "address": 8, "factor": 0.1},
        {"name": "battery_voltage", "address": 1, "factor": 0.1},
    ]
    device = plug(Registers(tmp_path / "port"), "modbus", unit=3, registers=registers)
    first = samples.wait(lambda all_: all_)[0]
    assert of(first) == {
        "water_level": 3.09,
        "water_temperature": 30.8,
        "battery_voltage": 30.1,
        "air_temperature": 40.1,
    }
    assert sorted(device.asked[:3]) == sorted(
        [rtu.read_request(3, 3, 8, 2), rtu.read_request(3, 3, 1, 1), rtu.read_request(3, 4, 1, 1)]
    )


def test_a_device_that_answers_in_lines_is_asked(tmp_path, plug, samples):
    device = plug(
        Text(tmp_path / "port"), "line", pattern=r"L=(?P<water_level>\S+) m", ignore="ready", request="READ\r\n"
    )
    assert of(samples.wait(lambda all_: all_)[0]) == {"water_level": 1.25}
    assert device.asked[0] == b"READ\r\n"


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
