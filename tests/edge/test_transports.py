"""edge.transports on real ptys, against devices that keep their own log of what they sent."""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import Clock
from edge import config, drivers
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.pty import PtyDevice
from edge.emulators.rs485 import Rs485Line
from edge.emulators.rylr998 import LoraNode, Rylr998
from edge.emulators.sds011 import Sds011
from edge.emulators.trouble import Trouble
from edge.emulators.xy_md02 import XyMd02
from edge.errors import ConfigError, PortError
from edge.sensors.base import Field, FrameError
from edge.transports import stream
from edge.transports.base import Source
from edge.transports.build import build
from edge.transports.port import Port
from tests.fakes.samples import WAIT_S

CLOCK = Clock()


@pytest.fixture
def log():
    return DeviceLog()


def settings(*sensors, modems=(), **more):
    station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": list(sensors)}
    gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
    return config.EdgeConfig.model_validate({"gateway": gateway, "modem": list(modems), "station": [station], **more})


def maxbotix(path, period_s=0, **more):
    return {
        "id": "level",
        "driver": "maxbotix",
        "port": str(path),
        "period_s": period_s,
        "options": {"model": "MB7389"},
        **more,
    }


def sds011(path, mode="active", period_s=0):
    return {"id": "dust", "driver": "sds011", "port": str(path), "period_s": period_s, "options": {"mode": mode}}


def xy_md02(path, unit, period_s=0.3):
    return {
        "id": f"air-{unit}",
        "driver": "xy_md02",
        "port": str(path),
        "period_s": period_s,
        "options": {"unit": unit},
    }


def node(address, period_s=None, channels=None):
    return {
        "id": f"node-{address}",
        "driver": "cayenne_lpp",
        "modem": "lora",
        "address": address,
        "period_s": period_s,
        "options": {"channels": channels or {1: "water_distance", 2: "battery_voltage"}},
    }


def rising(step=0.001, start=0.4):
    """A distance that is another at every frame, so that each sample names the frame that it came from."""
    n = count()
    return lambda _wall: round(start + step * (next(n) % 4000), 3)


def until(happened, within=WAIT_S):
    """For what no object can announce. Fails when it does not happen."""
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sent_at(log, sensor, quantity):
    return {s.values[quantity]: s.boot_s for s in log.sent(sensor) if s.values}


# --- talking devices


def test_each_frame_is_a_sample_at_its_time(tmp_path, samples, log, plug):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.03)
    plug(device, *build(settings(maxbotix(device.path)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 30)
    sent = sent_at(log, "level", "water_distance")
    values = [s.fields[0].value for s in got]
    assert [round(b - a, 3) for a, b in pairwise(values)] == [0.001] * 29
    assert all(s.error is None and s.key == "hoyoux/level" for s in got)
    now = CLOCK.boot()
    before = dict(pairwise(sorted(sent)))  # a frame goes out whole before the next begins
    early = {later: sent[earlier] for earlier, later in before.items()}
    assert all(early.get(s.fields[0].value, 0) <= s.boot_s <= now for s in got)
    assert all(a.boot_s <= b.boot_s for a, b in pairwise(got)), "only those that were read together share a moment"
    assert all(abs(s.wall_s - time.time()) < WAIT_S for s in got)


@pytest.mark.parametrize("fault", ["dribble_s=0.02", "split_every=3", "noise=0.5", "lose=0.05"])
def test_no_fault_of_a_line_makes_a_value(fault, tmp_path, samples, log, plug):
    """What comes out was sent, in order and once; the frames beside a broken one are not lost with it."""
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.03)
    device.trouble = Trouble.parse(fault)
    plug(device, *build(settings(maxbotix(device.path)), CLOCK, samples))
    samples.wait(lambda all_: sum(bool(s.fields) for s in all_) >= 8)
    device.stop()
    sent = sent_at(log, "level", "water_distance")
    values = samples.values("water_distance")
    assert set(values) <= set(sent)
    assert values == sorted(set(values))
    first = min(values)
    unread = {value for value in sent if value >= first} - set(values)
    whole = len(unread) <= 2 if fault.startswith(("dribble", "lose")) else len(unread) <= len(sent) // 2
    assert whole, f"{unread} of {len(sent)}"


def test_a_frame_split_by_1_6_s_is_right_or_nothing(tmp_path, samples, log, plug):
    device = Sds011(tmp_path / "tty", "dust", lambda _: (12.3, 26.1), clock=CLOCK, log=log, interval_s=0.1)
    device.trouble = Trouble(split_every=4)
    (transport,) = build(settings(sds011(device.path)), CLOCK, samples)
    plug(device, transport)
    samples.wait(lambda all_: sum(bool(s.fields) for s in all_) >= 6)
    assert set(samples.values("pm2_5")) == {12.3}
    assert set(samples.values("pm10")) == {26.1}
    assert transport.dropped["hoyoux/dust", "header"] >= 1


def test_zero_arrives_as_zero(tmp_path, samples, log, plug):
    device = Sds011(tmp_path / "tty", "dust", lambda _: (0.0, 0.4), clock=CLOCK, log=log, interval_s=0.05)
    plug(device, *build(settings(sds011(device.path)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 3)
    assert [(f.name, f.value) for f in got[0].fields] == [("pm2_5", 0.0), ("pm10", 0.4)]
    assert [f.value for f in got[0].side] == ["A160"]


def test_blind_zone_and_no_target_are_samples_without_value(tmp_path, samples, log, plug):
    distance = [0.5]
    device = Mb7389(tmp_path / "tty", "level", lambda _: distance[0], clock=CLOCK, log=log, interval_s=0.05)
    plug(device, *build(settings(maxbotix(device.path)), CLOCK, samples))
    samples.wait(lambda all_: all_)
    for distance[0], kind in ((0.2, "blind_zone"), (None, "no_target")):
        samples.wait(lambda _, kind=kind: samples.errors()[kind] >= 3)
    distance[0] = 0.6
    got = samples.wait(lambda all_: all_[-1].fields and all_[-1].fields[0].value == 0.6)
    assert {s.error.at_most_m for s in got if s.error and s.error.kind == "blind_zone"} == {0.3}
    assert {s.error.at_most_m for s in got if s.error and s.error.kind == "no_target"} == {None}
    assert all(not s.fields for s in got if s.error)


def test_silence_is_said_again_and_again(tmp_path, samples, log, plug):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.05)
    (transport,) = build(settings(maxbotix(device.path)), CLOCK, samples)
    plug(device, transport)
    samples.wait(lambda all_: len(all_) >= 3)
    device.trouble.silent = True
    got = samples.wait(lambda all_: sum(s.error is not None for s in all_) >= 2)
    silences = [s for s in got if s.error]
    assert {s.error.kind for s in silences} == {"timeout"}
    assert 3 <= silences[1].boot_s - silences[0].boot_s < 4
    assert transport.dropped["hoyoux/level", "timeout"] == 2
    device.trouble.silent = False
    samples.wait(lambda all_: all_[-1].error is None)


def test_one_sample_a_period_at_the_time_of_a_frame(tmp_path, samples, log, plug):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.02)
    plug(device, *build(settings(maxbotix(device.path, period_s=0.5, median_s=0.3)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 4)
    sent = sent_at(log, "level", "water_distance")
    order = sorted(sent, key=sent.get)
    for before, sample in pairwise(got):
        assert sample.boot_s - before.boot_s == pytest.approx(0.5, abs=0.1)
        value = sample.fields[0].value
        assert 0 < sample.boot_s - sent[value] < 0.3  # the middle of its window, really measured
        window = [v for v in order if sample.boot_s - 0.32 < sent[v] <= sample.boot_s]
        assert abs(window.index(value) - len(window) // 2) <= 2


def test_a_silent_period_has_an_error(tmp_path, samples, log, plug):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.05)
    device.trouble.silent = True
    plug(device, *build(settings(maxbotix(device.path, period_s=0.6)), CLOCK, samples))
    samples.wait(lambda all_: len(all_) >= 2)
    assert set(samples.errors()) == {"timeout"}
    device.trouble.silent = False
    samples.wait(lambda all_: all_[-1].fields)


class Inverted(PtyDevice):
    """A MaxBotix on an adapter of the other polarity: bytes, and never a carriage return."""

    def tick(self):
        self.write(b"\x96\xe6\xe4\xe2\xe0")
        return 0.05


def test_bytes_that_make_no_frame_are_not_silence(tmp_path, samples, plug):
    device = Inverted(tmp_path / "a")
    plug(device, *build(settings(maxbotix(device.path, period_s=0.3)), CLOCK, samples))
    first = samples.wait(lambda all_: all_)[0]
    assert (first.error.kind, "no whole frame" in first.error.reason) == ("length", True)


def test_what_waited_in_the_kernel_before_the_start_is_thrown_away(tmp_path, samples, log, plug):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.02)
    plug(device)
    until(lambda: len(log.sent()) >= 20)
    before = max(sent_at(log, "level", "water_distance"))
    plug(*build(settings(maxbotix(device.path)), CLOCK, samples))
    got = samples.wait(lambda all_: any(s.fields for s in all_))
    assert next(s.fields[0].value for s in got if s.fields) > before


def test_a_stopped_process_does_not_restamp_what_waited(tmp_path, log, plug):
    """SIGSTOP for longer than a second: frames of that time are no readings, those after it are."""
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.02)
    plug(device)
    program = f"""
import json, sys, threading
from common.clock import Clock
from edge import config
from edge.transports.build import build
from edge.transports.port import Port
done = threading.Event()
def sink(sample):
    print(json.dumps([sample.boot_s, [f.value for f in sample.fields], sample.error and sample.error.kind]), flush=True)
(transport,) = build(config.EdgeConfig.model_validate({settings(maxbotix(device.path)).model_dump(mode="json")!r}), Clock(), sink)
transport.start()
sys.stdin.read()
transport.stop()
print(json.dumps(sorted([kind, n] for (_, kind), n in transport.dropped.items())), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(map(json.loads, process.stdout)))
        reader.start()
        until(lambda: len(lines) >= 10)
        os.kill(process.pid, signal.SIGSTOP)
        stopped = len(log.sent())
        until(lambda: len(log.sent()) >= stopped + 90)
        os.kill(process.pid, signal.SIGCONT)
        resumed = len(lines)
        until(lambda: len(lines) >= resumed + 20)
        process.stdin.close()
        reader.join(WAIT_S)
    *read, dropped = lines
    sent = sent_at(log, "level", "water_distance")
    lateness = [boot - sent[values[0]] for boot, values, error in read if error is None]
    assert len(lateness) > 25
    assert max(lateness) < 1.0
    assert ["gap", 1] in dropped


# --- devices that are asked


def test_query_mode(tmp_path, samples, log, plug):
    device = Sds011(tmp_path / "tty", "dust", lambda _: (0.0, 7.5), clock=CLOCK, log=log)
    plug(device, *build(settings(sds011(device.path, "query", period_s=0.3)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 4)
    assert device.query_mode
    assert [(f.name, f.value) for f in got[-1].fields] == [("pm2_5", 0.0), ("pm10", 7.5)]
    polls = [s.boot_s for s in got]
    assert all(b - a == pytest.approx(0.3, abs=0.15) for a, b in pairwise(polls[1:]))
    answers = [s.boot_s for s in log.sent("dust")]
    assert abs(answers[-1] - polls[-1]) < 0.35


def test_a_poll_without_answer_is_a_timeout(tmp_path, samples, log, plug):
    device = Sds011(tmp_path / "tty", "dust", lambda _: (1.0, 2.0), clock=CLOCK, log=log)
    plug(device, *build(settings(sds011(device.path, "query", period_s=0.3)), CLOCK, samples))
    samples.wait(lambda all_: all_ and all_[-1].fields)
    device.asleep = True
    got = samples.wait(lambda all_: all_[-1].error)
    assert got[-1].error.kind == "timeout"
    assert got[-1].fields == ()
    device.asleep = False
    samples.wait(lambda all_: all_[-1].fields)


def test_two_transmitters_on_one_line(tmp_path, samples, log, plug):
    one = XyMd02(1, "air-1", lambda _: (0.0, 55.0))
    two = XyMd02(2, "air-2", lambda _: (-20.5, 0.0))
    line = Rs485Line(tmp_path / "tty", [one, two], clock=CLOCK, log=log)
    transports = build(settings(xy_md02(line.path, 1), xy_md02(line.path, 2)), CLOCK, samples)
    assert len(transports) == 1
    plug(line, *transports)
    samples.wait(lambda all_: len(all_) >= 8)
    assert set(samples.values("air_temperature", "hoyoux/air-1")) == {0.0}
    assert set(samples.values("relative_humidity", "hoyoux/air-1")) == {55.0}
    assert set(samples.values("air_temperature", "hoyoux/air-2")) == {-20.5}
    assert set(samples.values("relative_humidity", "hoyoux/air-2")) == {0.0}
    two.silent = True
    samples.wait(lambda _: samples.errors("hoyoux/air-2"))
    heard = len(samples.values("air_temperature", "hoyoux/air-1"))
    samples.wait(lambda _: len(samples.values("air_temperature", "hoyoux/air-1")) >= heard + 2)
    assert set(samples.errors()) == {"timeout"}


@pytest.mark.parametrize("before", [b"\x00", b"\xff\xff", b"\x01", b"\x01\x04"])
def test_a_byte_before_the_reply_costs_nothing(before, tmp_path, samples, log, plug):
    class Glitching(Rs485Line):
        def write(self, data):
            return super().write(before + data)

    line = Glitching(tmp_path / "tty", [XyMd02(1, "air-1", lambda _: (21.5, 40.0))], clock=CLOCK, log=log)
    plug(line, *build(settings(xy_md02(line.path, 1)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 2)
    assert [s.fields[0].value for s in got] == [21.5] * len(got)


def test_a_broken_reply_is_no_value(tmp_path, samples, log, plug):
    class Broken(Rs485Line):
        def write(self, data):
            super().write(data[:-1] + bytes((data[-1] ^ 1,)))
            return False

    line = Broken(tmp_path / "tty", [XyMd02(1, "air-1", lambda _: (21.5, 40.0))], clock=CLOCK, log=log)
    plug(line, *build(settings(xy_md02(line.path, 1)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 2)
    assert {s.error.kind for s in got} == {"crc"}
    assert all(not s.fields for s in got)


def test_the_log_says_once_that_a_sensor_gives_values_again(tmp_path, samples, log, plug, caplog):
    caplog.set_level("INFO")
    device = XyMd02(1, "air-1", lambda _: (21.5, 40.0), silent=True)
    line = Rs485Line(tmp_path / "tty", [device], clock=CLOCK, log=log)
    plug(line, *build(settings(xy_md02(line.path, 1)), CLOCK, samples))
    samples.wait(lambda all_: len(all_) >= 2)
    device.silent = False
    samples.wait(lambda all_: sum(s.error is None for s in all_) >= 3)
    told = [r.getMessage() for r in caplog.records if r.name == "edge.transports.base"]
    assert len(told) == 2
    assert "timeout" in told[0]
    assert told[1] == f"{samples.all[0].key} gives values again"


# --- ports that go and come back


@pytest.mark.parametrize("kind", ["stream", "modbus", "modem"])
def test_unplugged_and_replugged(kind, tmp_path, samples, log, plug, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "tty"
    if kind == "stream":
        device = Mb7389(path, "s", rising(), clock=CLOCK, log=log, interval_s=0.05)
        chosen = settings(maxbotix(path, period_s=0))
    elif kind == "modbus":
        device = Rs485Line(path, [XyMd02(1, "s", lambda _: (0.0, 50.0))], clock=CLOCK, log=log)
        chosen = settings(xy_md02(path, 1))
    else:
        device = Rylr998(path, [lora_node(7, interval_s=0.1)], clock=CLOCK, log=log)
        chosen = settings(node(7), modems=[modem(path)])
    transports = build(chosen, CLOCK, samples)
    plug(device, *transports)
    samples.wait(lambda all_: sum(bool(s.fields) for s in all_) >= 2)
    device.unplug()
    samples.wait(lambda all_: any(s.error and s.error.kind == "port" for s in all_))
    device.replug()
    lost = len(samples.all)
    samples.wait(lambda all_: any(s.fields for s in all_[lost:]))
    told = [r.getMessage() for r in caplog.records if r.name == "edge.transports.base"]
    assert [" is lost: " in text for text in told] == [True, False]
    assert told[1].endswith(" is back")
    assert transports[0].dropped[samples.all[0].key, "port"] >= 1


def test_a_port_that_is_not_there_is_waited_for(tmp_path, samples, log, plug):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.05)
    plug(*build(settings(maxbotix(device.path, period_s=0.5)), CLOCK, samples))
    got = samples.wait(lambda all_: len(all_) >= 2)
    assert {s.error.kind for s in got} == {"port"}
    plug(device)
    samples.wait(lambda all_: any(s.fields for s in all_))


def test_one_sensor_that_breaks_its_driver_stops_no_other(tmp_path, samples, log, plug, caplog):
    """A driver that raises something unexpected costs a sample with an error, with the traceback in the log."""
    line = Rs485Line(
        tmp_path / "tty",
        [XyMd02(1, "a", lambda _: (1.0, 2.0)), XyMd02(2, "b", lambda _: (3.0, 4.0))],
        clock=CLOCK,
        log=log,
    )
    (transport,) = build(settings(xy_md02(line.path, 1), xy_md02(line.path, 2)), CLOCK, samples)
    first, second = transport._sources
    sick = type(first.driver)(
        **{**{n: getattr(first.driver, n) for n in first.driver.__slots__}, "decode": lambda *_: 1 / 0}
    )
    transport._sources = (
        Source(first.station, first.sensor, sick, first.options, first.period_s, first.median_s),
        second,
    )
    plug(line, transport)
    samples.wait(lambda _: samples.errors("hoyoux/air-1") and samples.values("air_temperature", "hoyoux/air-2"))
    assert samples.errors("hoyoux/air-1").keys() == {"format"}
    assert any(r.exc_info and r.exc_info[0] is ZeroDivisionError for r in caplog.records)


def test_a_port_that_another_program_holds_says_so(tmp_path, log):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log)
    device.start()
    first, second = Port(str(device.path), 9600, CLOCK), Port(str(device.path), 9600, CLOCK)
    try:
        first.open()
        with pytest.raises(PortError, match="in use by another program"):
            second.open()
    finally:
        first.close()
        device.stop()


def test_a_sink_that_fails_stops_nothing(tmp_path, samples, log, plug, caplog):
    device = Mb7389(tmp_path / "tty", "level", rising(), clock=CLOCK, log=log, interval_s=0.05)
    failures = iter([True, True])

    def sink(sample):
        if next(failures, False):
            raise OSError(28, "No space left on device")
        samples(sample)

    plug(device, *build(settings(maxbotix(device.path)), CLOCK, sink))
    samples.wait(lambda all_: len(all_) >= 2)
    assert sum("could not be handed over" in r.getMessage() for r in caplog.records) == 2


# --- the LoRa modem


def lora_node(address, interval_s=0.1, distance=1.25, **more):
    channels = {"water_distance": (1, 0x82), "battery_voltage": (2, 0x74)}
    values = {"water_distance": distance, "battery_voltage": 3.61}
    return LoraNode(address, f"node-{address}", channels, lambda _: values, interval_s=interval_s, **more)


def modem(path, **more):
    return {"name": "lora", "driver": "rylr998", "port": str(path), **more}


def test_nodes_known_and_unknown(tmp_path, samples, log, plug, caplog):
    near, far, foreign = lora_node(7, rssi=-40), lora_node(8, distance=0.0, rssi=-118, snr=-9), lora_node(99)
    device = Rylr998(tmp_path / "tty", [near, far, foreign], clock=CLOCK, log=log)
    (transport,) = build(settings(node(7), node(8), modems=[modem(device.path)]), CLOCK, samples)
    plug(device, transport)
    samples.wait(lambda _: samples.values("water_distance", "hoyoux/node-8"))
    samples.wait(lambda _: transport.dropped["modem lora", "unknown_node"] >= 3)
    got = samples.wait(lambda all_: len(all_) >= 4)
    assert {s.key for s in got} == {"hoyoux/node-7", "hoyoux/node-8"}
    assert set(samples.values("water_distance", "hoyoux/node-7")) == {1.25}
    assert set(samples.values("water_distance", "hoyoux/node-8")) == {0.0}
    assert set(samples.values("battery_voltage", "hoyoux/node-7")) == {3.61}
    sample = next(s for s in got if s.key == "hoyoux/node-8")
    assert {f.name: f.value for f in sample.side} == {"rssi": -118, "snr": -9, "authenticated": 0}
    assert sum("node 99" in r.getMessage() for r in caplog.records) == 1


def test_settings_are_written_where_they_differ_and_read_back(tmp_path, samples, log, plug):
    device = Rylr998(tmp_path / "tty", [lora_node(7, interval_s=0.05)], clock=CLOCK, log=log)
    (transport,) = build(settings(node(7), modems=[modem(device.path, settings="rylr998-eu868")]), CLOCK, samples)
    plug(device, transport)
    until(lambda: device.settings["CRFOP"] == "14")
    assert device.settings["BAND"] == "868200000"
    assert device.settings["PARAMETER"] == "9,7,1,12"
    samples.wait(lambda all_: len(all_) >= 3)
    assert transport.dropped["modem lora", "settings"] == 0


def test_a_modem_that_restarts_is_set_up_again(tmp_path, samples, log, plug):
    device = Rylr998(tmp_path / "tty", [lora_node(7, interval_s=0.05)], clock=CLOCK, log=log)
    (transport,) = build(settings(node(7), modems=[modem(device.path, settings="rylr998-eu868")]), CLOCK, samples)
    plug(device, transport)
    until(lambda: device.settings["CRFOP"] == "14")
    device.settings |= {"BAND": "915000000", "CRFOP": "22"}
    device.write(b"+READY\r\n")
    until(lambda: device.settings["CRFOP"] == "14")
    assert device.settings["BAND"] == "868200000"
    assert transport.dropped["modem lora", "settings"] == 0


def test_a_modem_that_keeps_its_settings_still_receives(tmp_path, samples, log, plug, caplog):
    class Stubborn(Rylr998):
        def received(self, data):
            super().received(data.replace(b"AT+BAND=868200000", b"AT+BAND?"))

    device = Stubborn(tmp_path / "tty", [lora_node(7, interval_s=0.05)], clock=CLOCK, log=log)
    (transport,) = build(settings(node(7), modems=[modem(device.path, settings="rylr998-eu868.toml")]), CLOCK, samples)
    plug(device, transport)
    until(lambda: transport.dropped["modem lora", "settings"] == 1)
    samples.wait(lambda all_: len(all_) >= 3)
    assert any("+BAND=868200000" in r.getMessage() and "+BAND=915000000" in r.getMessage() for r in caplog.records)


def test_a_payload_that_is_none_is_an_error_of_its_node(tmp_path, samples, log, plug):
    device = Rylr998(tmp_path / "tty", [], clock=CLOCK, log=log)
    (transport,) = build(settings(node(7), modems=[modem(device.path)]), CLOCK, samples)
    plug(device, transport)
    until(lambda: device.write(b"+RCV=99,2,00,-50,9\r\n") and transport.dropped["modem lora", "unknown_node"])
    for payload in (b"HELLO", b"0182", b"01FF00"):
        device.write(b"+RCV=7,%d,%s,-50,9\r\n" % (len(payload), payload))
    got = samples.wait(lambda all_: len(all_) >= 3)
    assert [s.error.kind for s in got[:3]] == ["format", "length", "format"]
    assert all(not s.fields and {f.name for f in s.side} == {"rssi", "snr", "authenticated"} for s in got)


def test_a_late_node_is_missed(tmp_path, samples, log, plug):
    device = Rylr998(tmp_path / "tty", [lora_node(7, interval_s=60)], clock=CLOCK, log=log)
    plug(device, *build(settings(node(7, period_s=0.6), node(8), modems=[modem(device.path)]), CLOCK, samples))
    samples.wait(lambda _: samples.errors("hoyoux/node-7")["timeout"] >= 2)
    assert not samples.errors("hoyoux/node-8")


# --- the window

DRIVER = drivers.find("maxbotix")
SOURCE = Source("s", "l", DRIVER, None, 60.0, 10.0)


def _heard(i, value):
    if value is None:
        return stream._Heard(i, i, (), FrameError("blind_zone", "300", at_most_m=0.3))
    return stream._Heard(i, i, (Field("water_distance", value, "m"),))


@given(st.lists(st.none() | st.floats(0.301, 4.999), min_size=1, max_size=15))
def test_the_median_is_a_frame_with_blind_ones_lowest(values):
    result = stream.median([_heard(i, value) for i, value in enumerate(values)], SOURCE)
    expected = statistics.median_low([-1.0 if value is None else value for value in values])
    if expected == -1.0:
        assert result.error.kind == "blind_zone"
    else:
        assert result.error is None
        assert [f.value for f in result.fields] == [expected]
        assert result.boot_s == max(i for i, value in enumerate(values) if value is not None)


def test_an_empty_window_has_no_median():
    assert stream.median([], SOURCE) is None


# --- configuration


@pytest.mark.parametrize(
    ("sensors", "words"),
    [
        ([maxbotix("/a") | {"driver": "mb7389"}], ["hoyoux/level", "'mb7389' is unknown", "maxbotix"]),
        ([maxbotix("/a") | {"options": {"model": "XX"}}], ["hoyoux/level", "model", "'XX'"]),
        ([maxbotix("/a") | {"options": {"modell": "XX"}}], ["hoyoux/level", "modell"]),
        ([maxbotix("/a"), sds011("/a")], ["port /a", "hoyoux/level, hoyoux/dust", "expected one"]),
        ([xy_md02("/a", 1), xy_md02("/a", 2) | {"baudrate": 4800}], ["port /a", "[4800, 9600]"]),
        ([xy_md02("/a", 1), xy_md02("/a", 1) | {"id": "other"}], ["units [1, 1]", "each once"]),
        ([xy_md02("/a", 1, period_s=0)], ["period_s is 0"]),
        ([sds011("/a", "query", period_s=0)], ["period_s is 0"]),
        ([{"id": "n", "driver": "cayenne_lpp", "port": "/a"}], ["hoyoux/n", "payload", "stream or poll or modbus"]),
        ([maxbotix("gopher://x")], ["gopher"]),
    ],
)  # fmt: skip
def test_a_configuration_fault_names_what_and_where(sensors, words):
    with pytest.raises(ConfigError) as caught:
        build(settings(*sensors), CLOCK, lambda _: None)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_modem_fault_names_what_and_where():
    for chosen, words in [
        (settings(node(7), modems=[modem("/a", settings="us915")]), ["modem lora", "us915", "not found"]),
        (settings(node(7), modems=[modem("/a") | {"driver": "sds011"}]), ["modem lora", "sds011", "stream"]),
        (settings(node(7), maxbotix("/a"), modems=[modem("/a")]), ["/a", "twice"]),
        (settings(node(7), modems=[modem("/a")], outputs={"siren": {"port": "/a"}}), ["/a", "twice"]),
    ]:
        with pytest.raises(ConfigError) as caught:
            build(chosen, CLOCK, lambda _: None)
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_pymodbus_is_imported_only_for_modbus():
    program = """
import sys
from common.clock import Clock
from edge import config
from edge.transports.build import build
from edge.transports.port import Port
build(config.EdgeConfig.model_validate(%r), Clock(), print)
print("pymodbus" in sys.modules)
"""
    for sensor, expected in ((maxbotix("/a"), "False"), (xy_md02("/a", 1), "True")):
        chosen = settings(sensor).model_dump(mode="json")
        done = subprocess.run([sys.executable, "-c", program % chosen], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
