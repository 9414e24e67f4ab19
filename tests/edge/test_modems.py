"""The LoRa modems on real ptys: set up from firmware-configs/, read back, kept listening; and what they say that is no packet."""

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from common.clock import Clock
from edge import config, drivers
from edge.emulators.ebyte_e22 import EbyteE22
from edge.emulators.log import DeviceLog
from edge.emulators.lora import LoraNode
from edge.emulators.rak3172 import Rak3172
from edge.emulators.rn2483 import Rn2483
from edge.emulators.rylr998 import Rylr896, Rylr998
from edge.errors import ConfigError
from edge.transports.base import Source
from edge.transports.build import build
from edge.transports.modem import LoraModem
from edge.transports.port import Port
from tests.fakes.samples import WAIT_S

CLOCK = Clock()
CONFIGS = Path(__file__).parent.parent.parent / "firmware-configs"
MODEMS = {"rak3172": Rak3172, "rn2483": Rn2483, "ebyte_e22": EbyteE22, "rylr896": Rylr896, "rylr998": Rylr998}
RN2483_AS_SET = {
    "mod": "lora",
    "freq": "868200000",
    "pwr": "14",
    "sf": "sf9",
    "bw": "125",
    "cr": "4/5",
    "prlen": "8",
    "crc": "on",
    "iqi": "off",
    "sync": "12",
    "wdt": "0",
}
APART_S = 0.2
"""Between what an E22 says; two packets are farther apart on the air."""
E22_AS_SET = bytes.fromhex("00 00 00 62 12 12 83")


class Told:
    """Mixed in before an emulator: keeps what it was told, and may talk or mishear."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.told = b""
        self.instead = (b"", b"")
        self.before_each_answer = b""

    def received(self, data):
        self.told += data
        if self.before_each_answer:
            self.write(self.before_each_answer)
        super().received(data.replace(*self.instead) if self.instead[0] else data)


@pytest.fixture
def plug(tmp_path, samples):
    """Starts an emulated modem that hears `nodes`, and the transport that is built for it; stops them at the end."""
    running = []

    def start(driver, nodes=(), *, mixed=(), sensors=None, ready=None, clock=CLOCK, **modem):
        kind = type(driver, (*mixed, Told, MODEMS[driver]), {})
        device = kind(tmp_path / "tty", nodes, clock=CLOCK, log=DeviceLog())
        if driver == "ebyte_e22":
            device.registers[4] |= 0x10  # its commissioning is over, unless a test says otherwise
        if ready:
            ready(device)
        chosen = settings(driver, device.path, *(sensors or (sensor(driver),)), **modem)
        (transport,) = build(chosen, clock, samples)
        for thing in (device, transport):
            running.append(thing)
            thing.start()
        return device, transport

    yield start
    for thing in reversed(running):
        thing.stop()


def sensor(driver, name="level", **more):
    address = {"address": 7} if driver.startswith("rylr") else {}
    options = {"channels": {1: "water_distance", 2: "battery_voltage"}}
    return {"id": name, "driver": "cayenne_lpp", "modem": "lora", "options": options, **address, **more}


def settings(driver, path, *sensors, stations=("hoyoux",), **modem):
    modem = {"name": "lora", "driver": driver, "port": str(path), "settings": f"{driver}-eu868", **modem}
    where = {"name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": list(sensors)}
    return config.EdgeConfig.model_validate(
        {
            "gateway": {"id": "gw-1", "data_dir": "/nonexistent"},
            "modem": [{k: v for k, v in modem.items() if v is not None}],
            "station": [{"id": station, **where} for station in stations],
        }
    )


def node(interval_s=0.1, distance=1.25, **more):
    channels = {"water_distance": (1, 0x82), "battery_voltage": (2, 0x74)}
    values = {"water_distance": distance, "battery_voltage": 3.61}
    return LoraNode(7, "level", channels, lambda _: values, interval_s=interval_s, **more)


def until(happened):
    """For what no object can announce. Fails when it does not happen."""
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def distances(samples):
    return [f.value for s in list(samples.all) for f in s.fields if f.name == "water_distance"]


def is_set(driver, device):
    """Whether a device has what its file of firmware-configs/ says."""
    if driver == "rak3172":
        said = {"NWM": "0", "P2P": "868200000:9:0:0:8:14", "SYNCWORD": "1424"}
        return said.items() <= device.settings.items()
    if driver == "rn2483":
        return device.settings == RN2483_AS_SET
    if driver == "ebyte_e22":
        return device.registers[:7] == E22_AS_SET
    preamble = {"rylr896": 7, "rylr998": 12}[driver]
    said = {"BAND": "868200000", "PARAMETER": f"9,7,1,{preamble}", "ADDRESS": "1", "CRFOP": "14"}
    return said.items() <= device.settings.items()


def forget(driver, device):
    """Lose the settings, as a modem does that was swapped for a new one."""
    fresh = MODEMS[driver](device.path.with_name("new"), [], clock=CLOCK, log=DeviceLog())
    if driver == "ebyte_e22":
        device.registers[:4] = fresh.registers[:4]
        device.registers[5:] = fresh.registers[5:]
    else:
        device.settings = fresh.settings


# --- set up and read back


@pytest.mark.parametrize("driver", MODEMS)
def test_a_new_modem_is_set_up_and_heard(driver, samples, plug):
    device, transport = plug(driver, [node(rssi=-97, snr=6)])
    until(lambda: is_set(driver, device))
    samples.wait(lambda all_: len(all_) >= 3)
    assert set(distances(samples)) == {1.25}
    sample = samples.all[-1]
    assert {f.name: f.value for f in sample.fields} == {"water_distance": 1.25, "battery_voltage": 3.61}
    health = {"rssi": -97, "snr": 6} if driver != "ebyte_e22" else {"rssi": -97}
    assert {f.name: f.value for f in sample.side} == health | {"authenticated": 0}
    assert not transport.dropped


@pytest.mark.parametrize("driver", MODEMS)
def test_what_is_right_is_not_written_again(driver, samples, plug):
    device, transport = plug(driver, [node()])
    samples.wait(lambda all_: len(all_) >= 3)
    until(lambda: is_set(driver, device))
    transport.stop()
    device.told = b""
    heard = len(samples.all)
    transport.start()
    samples.wait(lambda all_: len(all_) >= heard + 3)
    written = {
        "rak3172": (b"P2P=8", b"NWM=0", b"WORD=1"),
        "rn2483": (b" set ",),
        "ebyte_e22": (b"\xc0\x00",),
    }.get(driver, (b"BAND=", b"PARAMETER=", b"ADDRESS=", b"CRFOP=", b"NETWORKID="))
    assert device.told
    assert not any(word in device.told for word in written)


@pytest.mark.parametrize(
    ("driver", "instead", "words"),
    [
        ("rak3172", (b"AT+P2P=868200000:9", b"AT+P2P=868200000:99"), ("AT+P2P=868200000:9:0:0:8:14", "868000000:7")),
        ("rn2483", (b"set freq 868200000", b"set freq 5"), ("'868200000'", "'868100000'")),
        ("ebyte_e22", (b"\xc0\x00\x07", b"\xc0\x00\x06"), ("C1 00 07 00 00 00 62 12 12 83", "C1 00 07 00 00 00 62 10")),
        ("rylr896", (b"BAND=868200000", b"BANT=868200000"), ("+BAND=868200000", "+BAND=915000000")),
    ],
)
def test_a_setting_refused_is_said_and_packets_are_received(driver, instead, words, samples, plug, caplog):
    def mishears(device):
        device.instead = instead

    _, transport = plug(driver, [node()], ready=mishears)
    until(lambda: transport.dropped["modem lora", "settings"] == 1)

    def said():
        return [r.getMessage() for r in caplog.records if "settings" in r.getMessage()]

    until(said)
    assert all(word in said()[0] for word in words), said()
    if driver != "ebyte_e22":  # which now appends no signal strength, though the file says so
        samples.wait(lambda all_: len(all_) >= 3)
        assert set(distances(samples)) == {1.25}


@pytest.mark.parametrize("driver", ["rak3172", "rn2483", "rylr896", "rylr998"])
def test_a_modem_that_restarts_in_the_field_is_set_up_again(driver, samples, plug):
    device, transport = plug(driver, [node()])
    samples.wait(lambda all_: len(all_) >= 3)
    forget(driver, device)
    if driver.startswith("rylr"):
        device.write(b"+READY\r\n")
    else:
        device.restart()
    heard = len(samples.all)
    until(lambda: is_set(driver, device))
    samples.wait(lambda all_: len(all_) >= heard + 3)
    assert not transport.dropped


@pytest.mark.parametrize("driver", ["rak3172", "rn2483"])
def test_a_restart_that_nobody_heard_is_found_within_ten_minutes(driver, samples, plug):
    hurried = Clock(scale=200, origin_boot=time.clock_gettime(time.CLOCK_BOOTTIME), origin_wall=time.time())
    device, _ = plug(driver, [node()], clock=hurried)
    samples.wait(lambda all_: len(all_) >= 3)
    forget(driver, device)
    device.receiving = False
    heard = len(samples.all)
    until(lambda: is_set(driver, device) and device.receiving)
    samples.wait(lambda all_: len(all_) >= heard + 3)


@pytest.mark.parametrize("driver", MODEMS)
def test_unplugged_and_back(driver, samples, plug):
    device, _ = plug(driver, [node()])
    samples.wait(lambda all_: len(all_) >= 2)
    device.unplug()
    samples.wait(lambda all_: any(s.error and s.error.kind == "port" for s in all_))
    device.replug()
    heard = len(distances(samples))
    samples.wait(lambda _: len(distances(samples)) >= heard + 3)
    assert set(distances(samples)) == {1.25}


# --- listening


@pytest.mark.parametrize("driver", ["rak3172", "rn2483"])
def test_it_is_made_to_listen_again_when_it_has_stopped(driver, samples, plug):
    device, transport = plug(driver, [node()])
    samples.wait(lambda all_: len(all_) >= 2)
    device.end_reception()
    heard = len(samples.all)
    samples.wait(lambda all_: len(all_) >= heard + 3)
    assert transport.dropped == Counter({("modem lora", "no_data"): 1})


def test_a_modem_that_hears_one_packet_at_a_time_hears_all(samples, plug):
    device, transport = plug("rn2483")
    until(lambda: device.receiving)
    for i in range(30):
        until(lambda: device.receiving)
        device.hear(node(distance=i / 100))
    samples.wait(lambda all_: len(all_) >= 30)
    assert distances(samples) == [i / 100 for i in range(30)]
    assert not transport.dropped


@pytest.mark.parametrize("driver", ["rak3172", "rn2483"])
def test_without_settings_it_is_made_to_listen_too(driver, samples, plug):
    device, _ = plug(driver, [node()], settings=None, ready=lambda d: d.settings.update({"NWM": "0"}))
    samples.wait(lambda all_: len(all_) >= 3)
    assert device.receiving or driver == "rn2483"
    assert not is_set(driver, device)


def test_a_modem_that_will_not_listen_is_said(samples, plug, caplog):
    device, transport = plug("rak3172", settings=None)  # factory-new: a LoRaWAN device
    until(lambda: transport.dropped["modem lora", "listen"] == 1)
    assert any("AT_MODE_NO_SUPPORT" in r.getMessage() for r in caplog.records)
    assert not device.receiving


def test_old_firmware_gives_no_rssi(samples, plug):
    def is_old(device):
        device.old = True

    _, transport = plug("rn2483", [node(snr=-11)], ready=is_old)
    samples.wait(lambda all_: len(all_) >= 3)
    assert {f.name: f.value for f in samples.all[-1].side} == {"snr": -11, "authenticated": 0}
    assert not transport.dropped


# --- lines


@pytest.mark.parametrize("driver", ["rak3172", "rn2483", "rylr896"])
def test_noise_between_lines_makes_no_value(driver, samples, plug):
    class Noisy:
        count = 0

        def write(self, data):
            self.count += 1
            noise = (b"\x00\xfe\x80", b"\r\n", b"\xff\x7f\r\n\xf0")[self.count % 3]
            return super().write(noise + data)

    device, transport = plug(driver, [node()], mixed=(Noisy,))
    until(lambda: is_set(driver, device))
    samples.wait(lambda all_: len(all_) >= 10)
    assert set(distances(samples)) == {1.25}
    assert not any(s.error for s in samples.all)
    assert {kind for _, kind in transport.dropped} <= {"header"}


@pytest.mark.parametrize("driver", ["rak3172", "rn2483", "ebyte_e22", "rylr896"])
def test_a_line_that_dribbles(driver, samples, plug):
    def dribbles(device):
        device.trouble.dribble_s = 0.002

    device, transport = plug(driver, [node(interval_s=0.5)], ready=dribbles)
    until(lambda: is_set(driver, device))
    samples.wait(lambda all_: len(all_) >= 3)
    assert set(distances(samples)) == {1.25}
    assert not any(s.error for s in samples.all)
    assert transport.dropped["modem lora", "header"] <= 1  # the port may open in the middle of a line
    assert {kind for _, kind in transport.dropped} <= {"header"}


@pytest.mark.parametrize("opened_after", [2, 6, 12])
def test_the_end_of_an_e22_packet_is_no_packet(opened_after, tmp_path, samples):
    """The port opens in its middle; its end would read as a packet too."""
    end = bytes.fromhex("018200000001" * 2 + "02740169")[opened_after - 2 :] + b"\xb4"
    device = EbyteE22(tmp_path / "tty", [], clock=CLOCK, log=DeviceLog())
    device.registers[6] |= 0x80
    opened = threading.Event()

    class Opened(Port):
        def open(self):
            super().open()
            device.write(end)
            opened.set()

    options = {"channels": {1: "water_distance", 2: "battery_voltage"}}
    lpp = drivers.find("cayenne_lpp")
    source = Source("hoyoux", "level", lpp, drivers.options(lpp, options), 0.0, 10.0)
    driver = drivers.find("ebyte_e22")
    port = Opened(str(device.path), 9600, CLOCK)
    modem_options = drivers.options(driver, {"rssi_byte": True})
    transport = LoraModem("modem lora", port, driver, modem_options, (), [source], CLOCK, samples)
    device.start()
    transport.start()
    assert opened.wait(WAIT_S)
    device.pause(APART_S)
    device.hear(node())
    samples.wait(lambda all_: all_)
    transport.stop()
    device.stop()
    assert distances(samples) == [1.25]
    assert not transport.dropped


@pytest.mark.parametrize("driver", ["rak3172", "rn2483"])
def test_packets_between_question_and_answer_are_kept(driver, samples, plug):
    packet = {"rak3172": b"+EVT:RXP2P:-60:9:018200000000\r\n", "rn2483": b"radio_rx  018200000000\r\n"}[driver]

    def talks(device):
        device.before_each_answer = packet

    device, transport = plug(driver, ready=talks, sensors=(sensor(driver),))
    until(lambda: is_set(driver, device))
    device.before_each_answer = b""
    until(lambda: distances(samples))
    assert set(distances(samples)) == {0.0}
    assert not transport.dropped


@pytest.mark.parametrize(
    ("driver", "broken"),
    [
        ("rak3172", b"+EVT:RXP2P:-60:9:0182000000ZZ\r\n"),
        ("rak3172", b"+EVT:RXP2P:-60:018200000000\r\n"),
        ("rn2483", b"radio_rx  0182000\r\n"),
    ],
)
def test_a_broken_packet_is_no_value(driver, broken, samples, plug):
    device, transport = plug(driver)
    until(lambda: device.receiving)
    device.write(broken)
    until(lambda: transport.dropped["modem lora", "format"] == 1)
    assert not samples.all


@pytest.mark.parametrize("begun", [b"+EVT:RXP2P, RSSI -60, SNR 11\r\n+EVT:", b"+EVT:RXP2P:-60:9:", b"AT+P2P=", b"\r\n"])
def test_a_line_that_never_ends_is_forgotten(begun):
    framer = drivers.find("rak3172").framer(None)
    items = list(framer.feed(begun))
    for _ in range(3000):
        items += framer.feed(b"0")
        assert len(framer._buffer) < 1024
    assert "overflow" in {item.kind for item in items}
    assert list(framer.feed(b"\r\n+EVT:RXP2P:-60:9:00\r\n"))[-1] == b"+EVT:RXP2P:-60:9:00\r\n"


@pytest.mark.parametrize("length", range(636, 643))
def test_a_line_of_the_greatest_length_is_cut_the_same_however_it_comes(length):
    line = b"+EVT:RXP2P:-60:9:".ljust(length - 2, b"0") + b"\r\n"
    known = set()
    for split in (0, length - 3, length - 2, length - 1, length):
        framer = drivers.find("rak3172").framer(None)
        items = [*framer.feed(line[:split]), *framer.feed(line[split:] + b"OK\r\n")]
        known.add(tuple(item if isinstance(item, bytes) else str(item) for item in items))
    assert len(known) == 1, known


# --- who sent it


@pytest.mark.parametrize("driver", ["rak3172", "rn2483", "ebyte_e22"])
def test_a_stranger_is_no_fault_of_the_node(driver, samples, plug):
    """LoRaWAN frames are heard in point-to-point mode too."""
    stranger = {
        "rak3172": b"+EVT:RXP2P:-90:6:4034120B26000700AABB\r\n",
        "rn2483": b"radio_rx  4034120B26000700AABB\r\n",
        "ebyte_e22": bytes.fromhex("4034120B26000700AABB") + b"\xa0",
    }[driver]
    device, transport = plug(driver)
    until(lambda: is_set(driver, device) and getattr(device, "receiving", device_is_transparent(device)))
    device.write(stranger)
    until(lambda: transport.dropped["hoyoux/level", "format"] == 1)
    assert not samples.all
    until(lambda: getattr(device, "receiving", True))
    device.hear(node())
    samples.wait(lambda all_: len(all_) == 1)
    assert distances(samples) == [1.25]


def device_is_transparent(device):
    return getattr(device, "mode", None) == 0


def test_a_silent_node_is_missed_though_strangers_are_heard(samples, plug):
    hurried = Clock(scale=50, origin_boot=CLOCK.boot(), origin_wall=CLOCK.wall())
    device, _ = plug("rak3172", sensors=(sensor("rak3172", period_s=20),), clock=hurried)
    until(lambda: device.receiving)
    until(lambda: device.write(b"+EVT:RXP2P:-90:6:4034120B26000700AABB\r\n") and len(samples.all) >= 2)
    assert {s.error.kind for s in samples.all} == {"timeout"}


@pytest.mark.parametrize(
    ("driver", "sensors", "stations", "words"),
    [
        ("rak3172", [sensor("rylr998")], ("a",), ["a/level", "address: found 7", "name no sender"]),
        ("rylr998", [sensor("rak3172")], ("a",), ["a/level", "address: found none", "modem lora"]),
        ("rn2483", [sensor("rn2483")], ("a", "b"), ["modem lora", "a, b", "one node at one station"]),
    ],
)
def test_each_packet_has_one_node(driver, sensors, stations, words):
    with pytest.raises(ConfigError) as caught:
        build(settings(driver, "/a", *sensors, stations=stations), CLOCK, print)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# --- the E22


def test_the_first_time_a_person_puts_the_e22_into_configuration_mode(samples, plug):
    def pulled_high(device):
        device.registers[4] = 0
        device.m1 = True

    device, transport = plug("ebyte_e22", [node()], ready=pulled_high)
    until(lambda: is_set("ebyte_e22", device))
    until(lambda: b"\xc0\xc1\xc2\xc3\x02\x00" in device.told)
    device.m1 = False
    samples.wait(lambda all_: len(all_) >= 3)
    assert set(distances(samples)) == {1.25}
    assert not device.transmitted
    assert not transport.dropped


def test_an_e22_that_cannot_be_switched_is_asked_once_only(samples, plug, caplog):
    """Each question goes on the air."""

    def as_delivered(device):
        device.registers[4] = 0

    _, transport = plug("ebyte_e22", [node()], ready=as_delivered, options={"rssi_byte": False})
    until(lambda: transport.dropped["modem lora", "settings"] == 1)
    samples.wait(lambda all_: len(all_) >= 5)
    assert transport._settings_due == float("inf")
    assert set(distances(samples)) == {1.25}
    assert any("the modem says nothing" in r.getMessage() for r in caplog.records)


def test_an_e22_that_missed_the_end_of_its_settings_is_told_again(samples, plug):
    def mishears(device):
        device.instead = (b"\xc0\xc1\xc2\xc3\x02\x00", b"\xc0\xc1\xc2")

    hurried = Clock(scale=60, origin_boot=time.clock_gettime(time.CLOCK_BOOTTIME), origin_wall=time.time())
    device, transport = plug("ebyte_e22", [node()], ready=mishears, clock=hurried)
    until(lambda: transport.dropped["modem lora", "settings"] >= 1)
    assert not samples.all
    device.instead = (b"", b"")
    samples.wait(lambda all_: len(all_) >= 3)
    assert set(distances(samples)) == {1.25}


def test_packets_of_an_e22_are_told_apart_by_a_pause(samples, plug):
    device, _ = plug("ebyte_e22")
    until(lambda: is_set("ebyte_e22", device) and device.mode == 0)
    device.pause(APART_S)
    for i in range(10):
        device.hear(node(distance=i / 10))
        device.pause(APART_S)
    samples.wait(lambda all_: len(all_) == 10)
    assert distances(samples) == [i / 10 for i in range(10)]


def test_a_packet_in_the_form_of_an_answer_is_a_packet(samples, plug):
    lpp = {"id": "raw", "driver": "cayenne_lpp", "modem": "lora", "options": {"channels": {193: "air_temperature"}}}
    device, _ = plug("ebyte_e22", sensors=(lpp,))
    until(lambda: is_set("ebyte_e22", device) and device.mode == 0)
    device.pause(APART_S)
    device.write(bytes.fromhex("C16700EB") + b"\xb4")
    samples.wait(lambda all_: len(all_) == 1)
    assert [f.value for f in samples.all[0].fields] == [23.5]
    device.write(b"\xc1\x00\x01\xb4")
    device.pause(APART_S)
    device.write(bytes.fromhex("C16700EC") + b"\xb4")
    samples.wait(lambda all_: len(all_) == 2)


# --- the files


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_settings_file_is_one_of_its_driver(path):
    driver = drivers.find(path.stem.removesuffix("-eu868"))
    assert drivers.settings(driver, path.read_text(encoding="utf-8"), path.name).steps()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("rak3172", ("868_200_000", "867_000_000"), None),
        ("rak3172", ("868_200_000", "868_650_000"), "frequency_hz: found 868650000 with 125 kHz"),
        ("rak3172", ("power_dbm = 14", "power_dbm = 20"), "power_dbm: found 20, expected at most 14"),
        ("rak3172", ('"1424"', '"12"'), "sync_word: "),
        ("rak3172", ('"rak3172"', '"rn2483"'), "driver: "),
        ("rn2483", ("spreading_factor = 9", "spreading_factor = 6"), "spreading_factor: "),
        ("rn2483", ('"12"', '"1424"'), "sync_word: "),
        ("ebyte_e22", ("channel = 18", "channel = 19"), "channel: found 19 with 500 kHz"),
        ("ebyte_e22", ("power_dbm = 13", "power_dbm = 17"), "power_dbm: found 17, expected at most 14"),
        ("ebyte_e22", ("power_dbm = 13", "power_dbm = 14"), "power_dbm: "),
        ("ebyte_e22", ("E22-900T22", "E22-900T30"), "model: "),
        ("rylr896", ("preamble = 7", "preamble = 12"), "preamble: "),
        ("rylr896", ("network_id = 5", "network_id = 18"), "network_id: "),
        ("rylr896", ("868_200_000", "915_000_000"), "band_hz: found 915000000"),
    ],
)
def test_settings_are_checked(name, change, said):
    text = (CONFIGS / f"{name}-eu868.toml").read_text(encoding="utf-8")
    assert change[0] in text
    if said is None:
        drivers.settings(drivers.find(name), text.replace(*change))
        return
    with pytest.raises(ConfigError) as caught:
        drivers.settings(drivers.find(name), text.replace(*change), "mine.toml")
    assert "mine.toml: " in str(caught.value)
    assert said in str(caught.value)
