"""The polled families over a real pty or a real file: what the gateway asks, and what a device that restarts or vanishes gives."""

import pytest

from common.clock import Clock
from edge import config
from edge.emulators.pty import PtyDevice
from edge.errors import ConfigError
from edge.transports.build import build
from tests.fakes.samples import Samples

READING = bytes.fromhex(
    "7E0003002841051C4C41278B14413D385941418E354256926C4280797C4284931242855CB242857D5DFB3F3E67EA317E"
)
TEXT = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"


class Answering(PtyDevice):
    """Answers known questions; what it was asked stands in `asked`."""

    def __init__(self, path, answers):
        super().__init__(path)
        self.answers = answers
        self.asked = []
        self._input = b""

    def received(self, data):
        self._input += data
        while found := [q for q in self.answers if self._input.startswith(q)]:
            question = max(found, key=len)
            self._input = self._input[len(question) :]
            self.asked.append(question)
            self.answer(question)
        if not any(q.startswith(self._input) for q in self.answers):
            self._input = b""

    def answer(self, question):
        self.write(self.answers[question])


class Sps30(Answering):
    """Measures after a start only, and forgets it in a power cut."""

    WAKE, START, READ = (bytes.fromhex(h) for h in ("FF7E007D3100EE7E", "7E0000020103F97E", "7E000300FC7E"))

    def __init__(self, path):
        super().__init__(path, dict.fromkeys((self.WAKE, self.START, self.READ), b""))
        self.measuring = False

    def answer(self, question):
        if question == self.WAKE:
            self.write(bytes.fromhex("7E007D314300AB7E"))
        elif question == self.START:
            self.write(bytes.fromhex("7E00004300BC7E" if self.measuring else "7E00000000FF7E"))
            self.measuring = True
        else:
            self.write(READING if self.measuring else bytes.fromhex("7E00034300B97E"))


@pytest.fixture
def samples():
    return Samples()


@pytest.fixture
def plug():
    """Starts devices and transports; stops them all, transports first."""
    running = []

    def start(*things):
        for thing in things:
            running.append(thing)
            thing.start()

    yield start
    for thing in reversed(running):
        thing.stop()


def transports(samples, driver, path, *, period_s=0.3, more=(), **options):
    sensor = {"id": "s", "driver": driver, "port": str(path), "period_s": period_s, "options": options}
    station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": [sensor, *more]}
    gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
    return build(config.EdgeConfig.model_validate({"gateway": gateway, "station": [station]}), Clock(), samples)


def of(sample):
    return {field.name: field.value for field in sample.fields}


def test_an_sps30_that_restarts_is_started_again(tmp_path, plug, samples):
    device = Sps30(tmp_path / "port")
    plug(device, *transports(samples, "sps30", device.path))
    samples.wait(lambda all_: any(s.fields for s in all_))
    assert device.asked[:3] == [Sps30.WAKE, Sps30.START, Sps30.READ]
    device.measuring = False
    cut = len(samples.all)
    after = samples.wait(lambda all_: any(s.error for s in all_[cut:]) and all_[-1].fields)[cut:]
    assert {s.error.kind for s in after if s.error} == {"sensor_state"}
    assert of(after[-1])["pm2_5"] == pytest.approx(10.47, abs=0.01)
    assert {field.name for field in after[-1].side} >= {"n0_5", "typical_size"}


def test_a_senseair_s8_is_asked_at_the_address_of_all(tmp_path, plug, samples):
    device = Answering(
        tmp_path / "port", {bytes.fromhex("FE0400000004E5C6"): bytes.fromhex("FE040800000000000001F4170D")}
    )
    plug(device, *transports(samples, "senseair_s8", device.path))
    first = samples.wait(lambda all_: all_)[0]
    assert (first.error, of(first)) == (None, {"co2": 500})
    assert [(f.name, f.value) for f in first.side] == [("status", 0)]


@pytest.mark.parametrize(
    ("driver", "options", "answers", "values"),
    [
        ("mhz19", {}, {"FF0186000000000079": "FF86027C42000000BA"}, {"co2": 636}),
        (
            "hpma115",
            {},
            {"68012077": "A5A5", "68010196": "A5A5", "68010493": "4005040030003156"},
            {"pm2_5": 48, "pm10": 49},
        ),
        (
            "zh03b",
            {"mode": "query"},
            {
                "FF01A7000000000058": "FFA701000000000058",
                "FF0178410000000046": "",
                "FF0186000000000079": "FF86008500960065FA",
            },
            {"pm1": 101, "pm2_5": 133, "pm10": 150},
        ),
        (
            "pms5003",
            {"mode": "query"},
            {
                "424DE400010174": "",
                "424DE100000170": "424D0004E1000174",
                "424DE200000171": "424D001C00000008000800000008000800D20046002D001E00000000970002C5",
            },
            {"pm1": 0.0, "pm2_5": 8.0, "pm10": 8.0},
        ),
    ],
)
def test_a_device_is_set_up_and_asked(tmp_path, plug, samples, driver, options, answers, values):
    device = Answering(tmp_path / "port", {bytes.fromhex(q): bytes.fromhex(a) for q, a in answers.items()})
    plug(device, *transports(samples, driver, device.path, **options))
    good = samples.wait(lambda all_: any(s.fields for s in all_))
    assert of(next(s for s in good if s.fields)) == values
    assert device.asked[: len(answers)] == [bytes.fromhex(q) for q in answers]


def test_a_1_wire_sensor_is_its_file(tmp_path, plug, samples):
    file = tmp_path / "w1_slave"
    file.write_text(TEXT)
    plug(*transports(samples, "ds18b20", file, quantity="water_temperature"))
    first = samples.wait(lambda all_: all_)[0]
    assert of(first) == {"water_temperature": 23.125}
    file.write_text(TEXT.replace("t=23125", "t=85000"))
    samples.wait(lambda all_: all_[-1].error and all_[-1].error.kind == "no_data")
    file.unlink()
    lost = samples.wait(lambda all_: all_[-1].error and all_[-1].error.kind == "port")[-1]
    assert str(file) in lost.error.reason
    assert not lost.fields
    file.write_text(TEXT.replace("t=23125", "t=4062"))
    samples.wait(lambda all_: of(all_[-1]) == {"water_temperature": 4.062})


def test_a_file_has_one_reader(tmp_path, samples):
    file = tmp_path / "w1_slave"
    with pytest.raises(ConfigError, match="found 2 sensors, expected one"):
        transports(samples, "ds18b20", file, more=[{"id": "t", "driver": "ds18b20", "port": str(file)}])
