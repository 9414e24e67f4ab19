"""edge.emulators, asked by a bare serial port: what they say is what the data sheets say, and their log is true."""

import json
from itertools import pairwise

import pytest
import serial
from pymodbus.framer import FramerRTU

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.pty import PtyDevice
from edge.emulators.rs485 import Rs485Line
from edge.emulators.rylr998 import LoraNode, Rylr998
from edge.emulators.sds011 import Sds011
from edge.emulators.xy_md02 import XyMd02
from tests import servers

CLOCK = Clock()
WAIT_S = 5


@pytest.fixture
def log(tmp_path):
    return DeviceLog(tmp_path / "devices.jsonl")


@pytest.fixture
def plug():
    """Starts a device and opens its port."""
    opened = []

    def start(device):
        device.start()
        opened.append(device)
        port = serial.Serial(str(device.path), timeout=WAIT_S)
        opened.append(port)
        return port

    yield start
    for thing in reversed(opened):
        thing.stop() if isinstance(thing, PtyDevice) else thing.close()


def test_the_log_has_what_went_out(tmp_path, log, plug):
    distances = iter([1.2345, 0.1, None])
    device = Mb7389(tmp_path / "tty", "level", lambda _: next(distances, 4.0), clock=CLOCK, log=log, interval_s=0.02)
    before = CLOCK.boot()
    port = plug(device)
    lines = [port.read_until(b"\r") for _ in range(10)]
    device.stop()
    said = {b"R1234\r": 1.234, b"R4000\r": 4.0, b"R0300\r": None, b"R5000\r": None}
    sent = log.sent("level")
    values = [s.values.get("water_distance") for s in sent]
    assert values[:4] == [1.234, None, None, 4.0]
    start = len(values[:4]) - lines.index(b"R4000\r")  # the first ones may have gone before the port was open
    assert [said[line] for line in lines] == values[start - 1 :][: len(lines)]
    assert all(before <= a.boot_s <= b.boot_s <= CLOCK.boot() for a, b in pairwise(sent))
    rows = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(r["boot_s"], r["sensor"], r["values"]) for r in rows] == [(s.boot_s, s.sensor, s.values) for s in sent]


def test_unplugged_hangs_up_and_comes_back_behind_the_same_path(tmp_path, log, plug):
    device = Mb7389(tmp_path / "tty", "level", lambda _: 1.0, clock=CLOCK, log=log, interval_s=0.02)
    port = plug(device)
    assert port.read_until(b"\r")
    device.unplug()
    with pytest.raises(serial.SerialException):
        port.read(10_000)
    assert not device.path.exists()
    assert not device.write(b"x")
    logged = len(log.sent())
    device.replug()
    with serial.Serial(str(device.path), timeout=WAIT_S) as again:
        assert again.read_until(b"\r").endswith(b"\r")
    servers.wait_until(lambda: len(log.sent()) > logged, WAIT_S, "it is logged, after its bytes went")


def test_what_nobody_reads_is_lost_and_not_logged(tmp_path, log):
    """A UART has no memory to speak of; the pty's is larger, but it ends."""
    device = Mb7389(tmp_path / "tty", "level", lambda _: 1.0, clock=CLOCK, log=log, interval_s=60)
    device.start()
    try:
        for _ in range(40_000):
            device.measure()
        assert len(log.sent()) < 40_000
    finally:
        device.stop()


# Commands and replies: Nova Fitness, Laser Dust Sensor Control Protocol V1.3; captured frames in kenohassler/sds011-rs.
@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("AAB402010100000000000000000000A16005AB", "AAC502010100A16005AB"),
        ("AAB402010100000000000000000000FFFF02AB", "AAC502010100A16005AB"),
        ("AAB406010000000000000000000000FFFF05AB", "AAC506010000A16008AB"),
        ("AAB408011E00000000000000000000FFFF25AB", "AAC508011E00A16028AB"),
        ("AAB407000000000000000000000000A16008AB", "AAC5070F070AA16028AB"),
    ],
)
def test_sds011_commands(command, reply, tmp_path, log, plug):
    device = Sds011(tmp_path / "tty", "dust", lambda _: (123.6, 261.8), clock=CLOCK, log=log, interval_s=60)
    device.query_mode = True
    port = plug(device)
    device.measure()
    assert port.read(10).hex().upper() == "AAC0D4043A0AA1601DAB"
    port.write(bytes.fromhex("00AAB4" + command))  # a broken one before it costs nothing
    assert port.read(10).hex().upper() == reply


def test_sds011_answers_queries_unless_asleep(tmp_path, log, plug):
    device = Sds011(tmp_path / "tty", "dust", lambda _: (0.0, 7.5), clock=CLOCK, log=log, interval_s=0.01)
    port = plug(device)
    query = bytes.fromhex("AAB404000000000000000000000000FFFF02AB")
    port.write(bytes.fromhex("AAB402010100000000000000000000FFFF02AB"))
    port.read_until(bytes.fromhex("AAC502010100A16005AB"))
    port.reset_input_buffer()
    port.write(query)
    assert port.read(10).hex().upper() == "AAC000004B00A1604CAB"
    assert log.sent()[-1].values == {"pm2_5": 0.0, "pm10": 7.5}
    port.write(bytes.fromhex("AAB406010000000000000000000000FFFF05AB"))
    assert port.read(10).hex().upper() == "AAC506010000A16008AB"
    port.timeout = 0.2
    port.write(query)
    assert port.read(10) == b""
    port.write(bytes.fromhex("AAB406010100000000000000000000FFFF06AB"))
    assert port.read(10).hex().upper() == "AAC506010100A16009AB"


def request(unit, function, register, number):
    body = bytes((unit, function)) + register.to_bytes(2) + number.to_bytes(2)
    return body + FramerRTU.compute_CRC(body).to_bytes(2)


# e-tinkers/Modbus-RTU, examples/SHT20/README.md
def test_xy_md02_answers_to_its_address_alone(tmp_path, log, plug):
    one, two = XyMd02(1, "a", lambda _: (30.5, 54.6)), XyMd02(2, "b", lambda _: (-20.5, 0.0))
    port = plug(Rs485Line(tmp_path / "tty", [one, two], clock=CLOCK, log=log))
    port.write(bytes.fromhex("010400010001600A"))
    assert port.read(7).hex() == "01040201317974"
    port.write(request(2, 4, 1, 2))
    assert port.read(9)[:7].hex() == "020404ff330000"
    for unit, function, register, answer in [(1, 4, 9, "018402"), (1, 2, 1, "018201"), (2, 3, 0x101, "0203020002")]:
        port.write(b"\x55" + request(unit, function, register, 1))  # a byte of noise before it costs nothing
        assert port.read(5 if answer[2] == "8" else 7)[: len(answer) // 2].hex() == answer
    port.timeout = 0.2
    port.write(request(3, 4, 1, 2))
    port.write(bytes.fromhex("010400020001C1CA"))  # the seller's misprinted CRC
    assert port.read(5) == b""
    assert [(s.sensor, s.values) for s in log.sent()] == [
        ("a", {"air_temperature": 30.5}),
        ("b", {"air_temperature": -20.5, "relative_humidity": 0.0}),
        ("b", {}),
    ]


def test_rylr998_speaks_at_and_hears_its_nodes(tmp_path, log, plug):
    node = LoraNode(
        7,
        "node",
        {"air_temperature": (3, 0x67), "relative_humidity": (5, 0x68)},
        lambda _: {"air_temperature": -4.1, "relative_humidity": 0.0},
        interval_s=3600,
        rssi=-99,
        snr=-3,
        due=float("inf"),
    )
    device = Rylr998(tmp_path / "tty", [node], clock=CLOCK, log=log)
    port = plug(device)
    device.hear(node)
    assert port.read_until(b"\r\n") == b"+RCV=7,14,0367FFD7056800,-99,-3\r\n"
    assert log.sent("node")[0].values == {"air_temperature": -4.1, "relative_humidity": 0.0}
    for command, answer in [
        (b"AT\r\n", b"+OK\r\n"),
        (b"AT+BAND=868200000\r\n", b"+OK\r\n"),
        (b"AT+BAND?\r\n", b"+BAND=868200000\r\n"),
        (b"AT+SEND=7,5,HELLO\r\n", b"+OK\r\n"),
        (b"AT+SEND=7,4,HELLO\r\n", b"+ERR=5\r\n"),
        (b"AT+NONSENSE=1\r\n", b"+ERR=4\r\n"),
        (b"HELLO\r\n", b"+ERR=2\r\n"),
    ]:
        port.write(command)
        assert port.read_until(b"\r\n") == answer
    assert device.transmitted == ["7,5,HELLO"]
