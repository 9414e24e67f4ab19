"""Buses and ports: several devices on one line, polls that fail, ports by what they are, and sensors that rest."""

import os
import pty
import termios
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from common.clock import Clock
from edge import config
from edge.emulators.family import Bench, Member
from edge.emulators.keller import KellerBus, KellerProbe
from edge.emulators.log import DeviceLog
from edge.emulators.rs485 import Rs485Line
from edge.emulators.sdi12 import Sdi12Bus, Sdi12Probe
from edge.emulators.sds011 import Sds011
from edge.emulators.sps30 import Sps30
from edge.emulators.trouble import Trouble
from edge.emulators.xy_md02 import XyMd02
from edge.errors import ConfigError, PortError
from edge.transports.build import build
from edge.transports.port import Port, device

CLOCK = Clock()


def sdi12_bus(path):
    """Probes 1 and 2 have 1.5 and 2.5 m of water above them."""
    probes = [Sdi12Probe(str(n), f"p{n}", lambda _, n=n: {"water_level": n + 0.5}) for n in (1, 2)]
    return Sdi12Bus(path, probes, clock=CLOCK, log=DeviceLog())


def keller_bus(path):
    """Gauge probes 1 and 2, under 9.4662 and 10 m of water."""
    levels = {1: 9.4662, 2: 10.0}
    probes = [
        KellerProbe(n, f"k{n}", lambda _, n=n: {"water_level": levels[n]}, {"compensation": "vent"}) for n in levels
    ]
    return KellerBus(path, probes, clock=CLOCK, log=DeviceLog())


def sensor(name, driver, port, period_s=0.3, **more):
    options = more.pop("options", {})
    return {"id": name, "driver": driver, "port": str(port), "period_s": period_s, "options": options, **more}


def settings(*sensors, **more):
    station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": list(sensors)}
    gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
    return config.EdgeConfig.model_validate({"gateway": gateway, "station": [station], **more})


def sdi12(port, address, period_s=0.3, **more):
    options = {"address": address, "measure": "R0", "quantities": [{"name": "water_level"}]}
    return sensor(f"p{address}", "sdi12", port, period_s, options=options, **more)


def keller(port, address, **more):
    return sensor(f"k{address}", "keller_bus", port, options={"address": address}, **more)


# --- several devices on one line


def test_sdi12_probes_share_a_line(tmp_path, samples, plug):
    bus = sdi12_bus(tmp_path / "bus")
    transports = build(settings(sdi12(bus.path, 1), sdi12(bus.path, 2)), CLOCK, samples)
    assert len(transports) == 1
    plug(bus, *transports)
    samples.wait(lambda all_: len(all_) >= 6)
    assert set(samples.values(key="hoyoux/p1")) == {1.5}
    assert set(samples.values(key="hoyoux/p2")) == {2.5}
    assert not samples.errors("hoyoux/p1") + samples.errors("hoyoux/p2")


def test_keller_probes_share_a_line_and_each_is_initialised(tmp_path, samples, plug):
    bus = keller_bus(tmp_path / "bus")
    plug(bus, *build(settings(keller(bus.path, 1), keller(bus.path, 2)), CLOCK, samples))
    samples.wait(lambda all_: len(all_) >= 6)
    assert {round(value, 3) for value in samples.values(key="hoyoux/k1")} == {928.634}
    assert set(samples.values(key="hoyoux/k2")) == {981.0}
    bus.probes[1].initialised = False  # it alone loses its power
    samples.wait(lambda _: samples.errors("hoyoux/k2"))
    cut = len(samples.all)
    samples.wait(lambda all_: any(s.key == "hoyoux/k2" and s.fields for s in all_[cut:]))
    assert set(samples.errors("hoyoux/k2")) == {"sensor_state"}
    assert not samples.errors("hoyoux/k1")


@pytest.mark.parametrize(
    ("sensors", "words"),
    [
        ([sdi12("/a", 1), sdi12("/a", 1) | {"id": "x"}], ["port /a", "addresses ['1', '1']", "each once"]),
        ([keller("/a", 1), keller("/a", 250)], ["hoyoux/k250", "address of any device", "its own"]),
        ([keller("/a", 1), sdi12("/a", 2)], ["keller_bus, sdi12", "expected one"]),
        ([sensor("d", "sps30", "/a"), sensor("e", "sps30", "/a")], ["found 2 sensors", "sps30"]),
        ([keller("usb:1a86", 1)], ["usb:1a86", "usb:VID:PID"]),
        ([keller("socket://h:1", 1, rs485={"rts": True})], ["socket://h:1", "rs485"]),
        ([keller("/a", 1, rs485={"rts": True}), keller("/a", 2, rs485={"rts": False})], ["rs485", "expected one"]),
    ],
)
def test_a_fault_of_a_line_is_named(sensors, words):
    with pytest.raises(ConfigError) as caught:
        build(settings(*sensors), CLOCK, lambda _: None)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_output_is_named_by_a_path():
    with pytest.raises(ConfigError, match=r"outputs\.siren\.port: found usb:1a86:7523, expected a path"):
        build(settings(keller("/a", 1), outputs={"siren": {"port": "usb:1a86:7523"}}), CLOCK, lambda _: None)


def test_two_names_of_one_device_are_found_and_all_faults_told(tmp_path):
    device, by_id, absent = tmp_path / "ttyUSB0", tmp_path / "by-id", tmp_path / "unplugged"
    master, slave = os.openpty()
    device.symlink_to(os.ttyname(slave))
    by_id.symlink_to(device)
    file, folder = tmp_path / "notes", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    listed = [SimpleNamespace(device=str(device), vid=0x1A86, pid=0x7523, serial_number=None)]
    modem = {"name": "lora", "driver": "rylr998", "port": str(by_id)}
    chosen = settings(
        keller(device, 1), sensor("d", "sds011", by_id), sensor("e", "sds011", "usb:1a86:7523"), sensor("n", "sds011", file),
        sensor("g", "sds011", absent), sensor("h", "sps30", absent), modem=[modem], outputs={"siren": {"port": str(folder)}},
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        build(chosen, CLOCK, lambda _: None, lambda: listed)
    os.close(slave)
    os.close(master)
    told = str(caught.value).splitlines()
    assert told[:5] == [
        f"outputs.siren.port: {folder} is a directory, expected a serial device",
        f"sensor hoyoux/d port: {by_id} is the same device as {device} of sensor hoyoux/k1 port; expected one name for it",
        f"sensor hoyoux/e port: usb:1a86:7523 is the same device as {device} of sensor hoyoux/k1 port; expected one name for it",
        f"sensor hoyoux/n port: {file} is a file, expected a serial device",
        f"modem lora port: {by_id} is the same device as {device} of sensor hoyoux/k1 port; expected one owner",
    ]
    assert "baudrates [9600, 115200], expected one" in told[5]
    assert "found 2 sensors" in told[6]
    assert len(told) == 7


def test_a_relay_board_is_shared_and_a_port_that_is_not_there_is_no_fault(tmp_path):
    board = str(tmp_path / "board")
    power = {"port": board, "channel": 2}
    chosen = settings(sensor("d", "sds011", tmp_path / "absent", power=power), outputs={"siren": {"port": board}})
    assert len(build(chosen, CLOCK, lambda _: None)) == 1
    taken = settings(sensor("d", "sds011", board), outputs={"siren": {"port": board}})
    with pytest.raises(ConfigError, match=r"named twice, by outputs\.siren\.port too"):
        build(taken, CLOCK, lambda _: None)


# --- polls that fail


def test_a_poll_that_fails_is_repeated_once(tmp_path, samples, plug):
    """A line that swallows every other answer costs no reading, and is counted."""
    bus = sdi12_bus(tmp_path / "bus")
    bus.trouble = Trouble(lose_every=2)
    (transport,) = build(settings(sdi12(bus.path, 1)), CLOCK, samples)
    plug(bus, transport)
    got = samples.wait(lambda all_: len(all_) >= 3)
    assert [f.value for s in got for f in s.fields] == [1.5] * len(got)
    assert transport.dropped["hoyoux/p1", "timeout"] >= len(got) - 1


def test_a_poll_that_fails_twice_waits_for_its_period(tmp_path, samples, plug):
    bus = sdi12_bus(tmp_path / "bus")
    bus.probes[0].silent = True
    (transport,) = build(settings(sdi12(bus.path, 1, period_s=60)), CLOCK, samples)
    plug(bus, transport)
    samples.wait(lambda all_: all_)
    assert samples.errors("hoyoux/p1") == {"timeout": 1}
    assert transport.dropped["hoyoux/p1", "timeout"] == len(bus.questions) == 2


def test_a_silent_device_never_has_two_turns_while_another_waits(tmp_path, samples, plug):
    bus = sdi12_bus(tmp_path / "bus")
    bus.probes[0].silent = True
    plug(bus, *build(settings(sdi12(bus.path, 1), sdi12(bus.path, 2)), CLOCK, samples))
    samples.wait(lambda _: samples.errors("hoyoux/p1").total() >= 2)
    assert len(samples.values(key="hoyoux/p2")) >= 3
    assert (b"1R0!", b"1R0!") not in set(pairwise(list(bus.questions)))


def test_a_silent_line_delays_no_other(tmp_path, samples, plug):
    line = Rs485Line(tmp_path / "a", [XyMd02(1, "x", lambda _: (1.0, 2.0), silent=True)], clock=CLOCK, log=DeviceLog())
    bus = sdi12_bus(tmp_path / "b")
    modbus = sensor("x", "xy_md02", line.path, options={"unit": 1})
    plug(line, bus, *build(settings(modbus, sdi12(bus.path, 1)), CLOCK, samples))
    samples.wait(lambda _: samples.errors("hoyoux/x"))
    assert len(samples.values(key="hoyoux/p1")) >= 4, "two time-outs of the other line are more than four periods"


# --- ports


def test_a_port_is_raw():
    """Whatever the line discipline was before: no echo, no lines, no flow control, no byte changed."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    before[0] |= termios.IXON | termios.IXOFF | termios.ICRNL
    before[2] |= termios.CRTSCTS
    before[3] |= termios.ECHO | termios.ICANON | termios.ISIG
    termios.tcsetattr(slave, termios.TCSANOW, before)
    port = Port(os.ttyname(slave), 9600, CLOCK)
    try:
        port.open()
        iflag, oflag, cflag, lflag = termios.tcgetattr(slave)[:4]
        every = bytes(range(256))
        os.write(master, every)
        read = b""
        while len(read) < 256 and (data := port.read()):
            read += data
    finally:
        port.close()
        os.close(master)
        os.close(slave)
    assert not iflag & (termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.ISTRIP)
    assert not oflag & termios.OPOST
    assert not cflag & termios.CRTSCTS
    assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert read == every


def test_a_port_that_cannot_switch_by_rts_says_so(tmp_path, samples, plug):
    bus = sdi12_bus(tmp_path / "bus")
    plug(bus, *build(settings(sdi12(bus.path, 1, rs485={"rts": True})), CLOCK, samples))
    (first, *_) = samples.wait(lambda all_: all_)
    assert first.error.kind == "port"
    assert "cannot switch RS485 by RTS" in first.error.reason
    assert not bus.questions


def adapter(path, vid=0x1A86, pid=0x7523, number=None):
    return SimpleNamespace(device=str(path), vid=vid, pid=pid, serial_number=number)


def test_an_adapter_back_under_another_number_is_found(tmp_path, samples, plug):
    plugged = []
    one = sdi12_bus(tmp_path / "ttyUSB0")
    (transport,) = build(settings(sdi12("usb:1A86:7523:B7", 1)), CLOCK, samples, lambda: list(plugged))
    plug(transport)
    (first, *_) = samples.wait(lambda all_: all_)
    assert first.error.kind == "port"
    assert "no such adapter" in first.error.reason
    plug(one)
    plugged[:] = [adapter(one.path, number="B7"), adapter("/dev/ttyUSB9", number="C1")]
    samples.wait(lambda all_: all_[-1].fields)
    one.unplug()
    plugged[:] = plugged[1:]
    lost = len(samples.wait(lambda all_: all_[-1].error))
    two = sdi12_bus(tmp_path / "ttyUSB1")
    plug(two)
    plugged.append(adapter(two.path, number="B7"))
    samples.wait(lambda all_: any(s.fields for s in all_[lost:]))
    assert two.questions


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("usb:1a86:7523", ["2 adapters fit", "/dev/a", "/dev/b", "by-id"]),
        ("usb:0403:6001", ["no such adapter", "usb:1a86:7523:A at /dev/a"]),
        ("usb:1a86:7523:C", ["no such adapter"]),
    ],
)
def test_an_adapter_that_is_not_one_is_named(url, words):
    plugged = [adapter("/dev/a", number="A"), adapter("/dev/b"), adapter("/dev/ttyS0", None, None)]
    with pytest.raises(PortError) as caught:
        device(url, lambda: plugged)
    assert all(word in str(caught.value) for word in (url, *words)), str(caught.value)


def test_any_other_name_is_the_port_itself():
    assert device("/dev/serial/by-id/usb-x", list) == "/dev/serial/by-id/usb-x"
    assert device("usb:1a86:7523", lambda: [adapter("/dev/a")]) == "/dev/a"


# --- rest

SCALE = 30.0
PERIOD_S = 120.0


def fast():
    """Two minutes take four seconds."""
    return Clock(scale=SCALE, origin_boot=time.clock_gettime(time.CLOCK_BOOTTIME), origin_wall=time.time())


@pytest.mark.parametrize("mode", ["active", "query"])
def test_an_sds011_rests_between_its_readings(mode, tmp_path, samples, plug):
    clock = fast()
    dust = Sds011(
        tmp_path / "tty", "dust", lambda _: (12.3, 45.6), clock=clock, log=DeviceLog(), interval_s=0.05, warm_up_s=25
    )
    begun = clock.boot()
    (transport,) = build(
        settings(sensor("dust", "sds011", dust.path, PERIOD_S, options={"mode": mode})), clock, samples
    )
    plug(dust, transport)
    got = samples.wait(lambda all_: len(all_) >= 3)
    assert [s.error for s in got] == [None] * 3
    assert samples.values(key="hoyoux/dust") == [12.3, 45.6] * 3, "what it says while it warms up is a third"
    # To a blocking read (0.5 s) and the gap after each command.
    assert [b.boot_s - a.boot_s for a, b in pairwise(got)] == [pytest.approx(PERIOD_S, abs=0.8 * SCALE)] * 2
    window_s = 10 if mode == "active" else 0
    assert got[0].boot_s - begun >= 30
    assert dust.rested_s == pytest.approx(2 * (PERIOD_S - 30 - window_s), rel=0.25)


def test_a_gateway_that_restarts_wakes_a_sleeping_sensor(tmp_path, samples, plug):
    clock = fast()
    dust = Sds011(tmp_path / "tty", "dust", lambda _: (1.0, 2.0), clock=clock, log=DeviceLog(), interval_s=0.05)
    dust.asleep = True
    for period_s in (PERIOD_S, 30.0):  # 30 s: set by a configuration that has changed, and too short to rest
        dust.asleep = True
        (transport,) = build(settings(sensor("dust", "sds011", dust.path, period_s)), clock, samples)
        if period_s == PERIOD_S:
            plug(dust)
        cut = len(samples.all)
        transport.start()
        try:
            samples.wait(lambda all_, cut=cut: any(s.fields for s in all_[cut:]))
        finally:
            transport.stop()


def test_a_period_too_short_for_rest_leaves_the_sensor_on(tmp_path, samples, plug):
    clock = fast()
    dust = Sds011(tmp_path / "tty", "dust", lambda _: (1.0, 2.0), clock=clock, log=DeviceLog(), interval_s=0.05)
    plug(dust, *build(settings(sensor("dust", "sds011", dust.path, 99)), clock, samples))
    samples.wait(lambda all_: len(all_) >= 2)
    assert (dust.asleep, dust.rested_s) == (False, 0.0)


def test_an_sps30_is_woken_measured_and_put_to_sleep(tmp_path, samples, plug):
    clock = fast()
    truth = {"pm1": 1.0, "pm2_5": 2.0, "pm4": 3.0, "pm10": 4.0}
    dust = Sps30(Bench(path=tmp_path / "tty", members=[Member("dust", lambda _: truth, {})], clock=clock))
    dust.state = "asleep"
    plug(dust, *build(settings(sensor("dust", "sps30", dust.path, PERIOD_S)), clock, samples))
    got = samples.wait(lambda all_: len(all_) >= 2)
    assert all(s.error is None and s.fields for s in got)
    assert list(dust.states)[:6] == ["idle", "measuring", "idle", "asleep", "idle", "measuring"]
    assert got[1].boot_s - got[0].boot_s == pytest.approx(PERIOD_S, abs=0.5 * SCALE)


def test_a_sensor_that_does_not_wake_is_a_timeout(tmp_path, samples, plug):
    """The next period tries to wake it again."""
    clock = fast()
    dust = Sds011(tmp_path / "tty", "dust", lambda _: (1.0, 2.0), clock=clock, log=DeviceLog(), interval_s=0.05)
    plug(dust, *build(settings(sensor("dust", "sds011", dust.path, PERIOD_S)), clock, samples))
    samples.wait(lambda all_: all_)
    dust.powered = False
    samples.wait(lambda all_: all_[-1].error and all_[-1].error.kind == "timeout")
    dust.powered = True
    samples.wait(lambda all_: all_[-1].fields)
