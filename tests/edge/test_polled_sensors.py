"""The polled families over a real pty or a real file: what the gateway asks, and what a device that restarts or vanishes gives."""

import pytest

from common.clock import Clock
from edge import config
from edge.emulators.family import Bench, Member, families
from edge.errors import ConfigError
from edge.transports.build import build

TEXT = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"


def emulated(driver, path, values, **options):
    return families()[driver].make(
        Bench(path=path, members=[Member("hoyoux/s", lambda _: values, options)], clock=Clock(), warm_up_s=0)
    )


def transports(samples, driver, path, *, period_s=0.3, more=(), **options):
    sensor = {"id": "s", "driver": driver, "port": str(path), "period_s": period_s, "options": options}
    station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": [sensor, *more]}
    gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
    return build(config.EdgeConfig.model_validate({"gateway": gateway, "station": [station]}), Clock(), samples)


def of(sample):
    return {field.name: field.value for field in sample.fields}


def test_an_sps30_that_restarts_is_started_again(tmp_path, plug, samples):
    device = emulated("sps30", tmp_path / "port", {"pm1": 9.0, "pm2_5": 10.47, "pm4": 11.0, "pm10": 12.0})
    plug(device, *transports(samples, "sps30", device.path))
    samples.wait(lambda all_: any(s.fields for s in all_))
    wake, start, read = (bytes.fromhex(h) for h in ("7E007D3100EE7E", "7E0000020103F97E", "7E000300FC7E"))
    assert list(device.questions)[:3] == [wake, start, read]
    device.restart()
    cut = len(samples.all)
    after = samples.wait(lambda all_: any(s.error for s in all_[cut:]) and all_[-1].fields)[cut:]
    assert {s.error.kind for s in after if s.error} == {"sensor_state"}
    assert of(after[-1])["pm2_5"] == 10.47
    assert {field.name for field in after[-1].side} >= {"n0_5", "typical_size"}


def test_a_senseair_s8_is_asked_at_the_address_of_all(tmp_path, plug, samples):
    device = emulated("senseair_s8", tmp_path / "port", {"co2": 500})
    plug(device, *transports(samples, "senseair_s8", device.path))
    first = samples.wait(lambda all_: all_)[0]
    assert (first.error, of(first)) == (None, {"co2": 500})
    assert [(f.name, f.value) for f in first.side] == [("status", 0)]
    assert device.questions[0] == bytes.fromhex("FE0400000004E5C6")


@pytest.mark.parametrize(
    ("driver", "options", "questions", "values"),
    [
        ("mhz19", {}, ["FF0186000000000079"], {"co2": 636}),
        ("hpma115", {}, ["68012077", "68010196", "68010493"], {"pm2_5": 48, "pm10": 49}),
        (
            "zh03b",
            {"mode": "query"},
            ["FF01A7000000000058", "FF0178410000000046", "FF0186000000000079"],
            {"pm1": 101, "pm2_5": 133, "pm10": 150},
        ),
        (
            "pms5003",
            {"mode": "query"},
            ["424DE400010174", "424DE100000170", "424DE200000171"],
            {"pm1": 0.0, "pm2_5": 8.0, "pm10": 8.0},
        ),
    ],
)
def test_a_device_is_set_up_and_asked(tmp_path, plug, samples, driver, options, questions, values):
    device = emulated(driver, tmp_path / "port", values, **options)
    plug(device, *transports(samples, driver, device.path, **options))
    good = samples.wait(lambda all_: any(s.fields for s in all_))
    assert of(next(s for s in good if s.fields)) == values
    assert list(device.questions)[: len(questions)] == [bytes.fromhex(q) for q in questions]


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
