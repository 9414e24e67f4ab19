"""`maillages-edge scan` on real ptys: emulated devices, and lines that answer as captured devices do."""

import json
import random
import subprocess
import sys
from pathlib import Path

import click
import pytest

from common.clock import Clock
from edge import drivers
from edge.emulators.ebyte_e22 import EbyteE22
from edge.emulators.family import Bench, Member, families
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.pty import PtyDevice
from edge.emulators.rak3172 import Rak3172
from edge.emulators.rn2483 import Rn2483
from edge.emulators.rylr998 import Rylr896, Rylr998
from edge.emulators.sds011 import Sds011
from edge.emulators.xy_md02 import Rs485Line, XyMd02
from edge.errors import ConfigError
from edge.outputs.relay import command as relay_command
from edge.sensors import _modbus_rtu as rtu
from edge.sensors import sdi12
from edge.sensors.base import FrameError
from edge.tools import scan
from edge.transports.port import Plugged, Port, plugged

COMMAND = Path(sys.executable).parent / "maillages-edge"
CLOCK = Clock()


def run(*arguments):
    return subprocess.run([COMMAND, "scan", *arguments], capture_output=True, text=True, timeout=60, check=False)


class Answering(PtyDevice):
    """Answers each request of a table, however it was cut; everything else is not for it. With `echo` its adapter returns what is sent."""

    def __init__(self, path, table, *, echo=False):
        super().__init__(path)
        self.table = table
        self.echo = echo
        self.heard = b""
        self._input = b""

    def received(self, data):
        self.heard += data
        if self.echo:
            self.write(data)
        self._input = (self._input + data)[-64:]
        for request, answer in self.table.items():
            if self._input.endswith(request):
                self._input = b""
                self.write(answer)


@pytest.fixture
def plug():
    running = []

    def start(device):
        running.append(device)
        device.start()
        return device

    yield start
    for device in reversed(running):
        device.stop()


def ask(device, plan=None, end_s=60, known=None):
    """The report of one port. `known` are the drivers that are asked for one by one: all, unless given."""
    port = Plugged(str(device.path), (), "")
    end = CLOCK.boot() + end_s
    scanner = scan.Scanner(
        port,
        CLOCK,
        scan.families() if known is None else known,
        scan.modbus_drivers(),
        plan or scan.Plan(units=(), addresses="", listen_s=0.3),
        lambda: CLOCK.boot() >= end,
        lambda _: None,
    )
    return scanner.run()


def names(report):
    return [[candidate.driver for candidate in found.candidates] for found in report.found]


def said(report):
    return {field.name: field.value for found in report.found for c in found.candidates for field in c.fields}


def test_each_port_says_what_is_on_it(tmp_path, plug):
    log = DeviceLog()
    plug(Mb7389(tmp_path / "level", "level", lambda _: 1.234, clock=CLOCK, log=log))
    plug(Sds011(tmp_path / "dust", "dust", lambda _: (12.3, 26.1), clock=CLOCK, log=log))
    plug(Rylr998(tmp_path / "lora", [], clock=CLOCK, log=log))
    climate = [XyMd02(3, "a", lambda _: (21.5, 55.2)), XyMd02(4, "b", lambda _: (-3.2, 91.0))]
    plug(Rs485Line(tmp_path / "bus", climate, clock=CLOCK, log=log))
    ports = [argument for name in ("level", "dust", "lora", "bus") for argument in ("--port", str(tmp_path / name))]
    done = run(*ports, "--modbus", "3-5", "--sdi12", "none", "--json")
    assert done.returncode == 0
    by_port = {Path(row["port"]).name: row for row in map(json.loads, done.stdout.splitlines())}

    def first(name):
        return by_port[name]["found"][0]["candidates"][0]

    assert first("level")["driver"] == "maxbotix"
    assert first("dust")["driver"] == "sds011"
    assert {"quantity": "device_id", "value": "A160", "unit": ""} in first("dust")["fields"]
    assert (first("lora")["driver"], by_port["lora"]["found"][0]["baudrate"]) == ("rylr998", 115200)
    assert {"quantity": "networkid", "value": "18", "unit": ""} in first("lora")["fields"]
    assert [found["address"] for found in by_port["bus"]["found"]] == ["unit 3", "unit 4"]
    assert (first("bus")["driver"], first("bus")["options"]) == ("xy_md02", {"unit": 3})
    assert first("bus")["fields"][0] == {"quantity": "air_temperature", "value": 21.5, "unit": "Cel"}


# What no driver knows by its defaults; frames that two families share; what is no port.
UNKNOWN = {"line", "modbus"}
EQUAL = ({"a02yyuw", "jsn_sr04t"}, {"pms3003", "zh03b"})
NO_PORT = {"ds18b20"}


def test_every_family_that_can_be_emulated_is_known(tmp_path, plug):
    """All at the same time: a device of each family, and of each that has variants the others that `scan` tells apart."""
    bench = {
        name: (one, one.options) for name, one in families().items() if name not in NO_PORT and one.kind == "sensor"
    }
    bench["jsn_sr04t, AJ"] = (families()["jsn_sr04t"], {"model": "AJ-SR04M"})
    bench["xy_md02, hundredths"] = (families()["xy_md02"], {"scale": 100})
    bench["sdi12, b"] = (families()["sdi12"], families()["sdi12"].options | {"address": "b"})
    ports = {}
    for name, (one, options) in bench.items():
        path = tmp_path / name.replace(", ", "-")
        member = Member(name, lambda _, true=one.true: true, options)
        plug(one.make(Bench(path=path, members=[member], clock=CLOCK)))
        ports[str(one.port(path))] = name
    reports = []
    plan = scan.Plan(units=(1, 254), addresses="0123456789ab")
    plugged_here = [Plugged(port, (), "") for port in ports]
    scan.scan(plugged_here, CLOCK, plan, lambda: False, reports.append, lambda _: None)
    assert len(reports) == len(bench)
    for report in reports:
        name, _, variant = ports[report.port.device].partition(", ")
        if name in UNKNOWN:
            assert not any(found.candidates for found in report.found), report
            continue
        first = report.found[0].candidates[0]
        equal = next((pair for pair in EQUAL if name in pair), {name})
        assert first.driver in equal, report
        assert {c.driver for c in report.found[0].candidates} >= (set() if variant else equal), report
        if variant == "AJ":
            assert first.options == {"model": "AJ-SR04M"}
        if variant == "hundredths":
            assert first.options == {"unit": 1, "scale": 100}
        if variant == "b":
            assert first.options == {"address": "b"}


def test_people_get_lines_without_colour_in_a_pipe(tmp_path, plug):
    device = plug(Mb7389(tmp_path / "level", "level", lambda _: 1.234, clock=CLOCK, log=DeviceLog()))
    done = run("--port", str(device.path))
    assert done.stdout.splitlines() == [str(device.path), "  maxbotix  9600 baud:  line R1234"]
    assert done.stderr == ""


def test_a_port_that_another_program_holds_is_left_alone(tmp_path, plug):
    device = plug(Answering(tmp_path / "line", {}))
    held = Port(str(device.path), 9600, CLOCK)
    held.open()
    try:
        done = run("--port", str(device.path))
    finally:
        held.close()
    assert done.returncode == 1
    assert "in use by " in done.stdout
    assert device.heard == b""


def test_a_device_that_talks_is_asked_nothing(tmp_path, plug):
    class Heard(Sds011):
        heard = b""

        def received(self, data):
            self.heard += data

    device = plug(Heard(tmp_path / "d", "d", lambda _: (1.0, 2.0), clock=CLOCK, log=DeviceLog(), interval_s=0.1))
    assert names(ask(device)) == [["sds011"]]
    assert device.heard == b""


def test_a_sleeping_sds011_is_found(tmp_path, plug):
    device = Sds011(tmp_path / "d", "d", lambda _: (1.0, 2.0), clock=CLOCK, log=DeviceLog())
    device.asleep = True
    report = ask(plug(device))
    assert names(report) == [["sds011"]]
    assert said(report)["mode"] == "sleep"
    assert device.asleep


H = bytes.fromhex


# Answers: the vectors of each driver, which say whose bytes they are.
@pytest.mark.parametrize(
    ("table", "expected", "field"),
    [
        (
            {H("424DE200000171"): H("424D001C00000008000800000008000800D20046002D001E00000000970002C5")},
            ["pms5003", "hpma115", "pms5003t"],
            ("pm2_5", 8.0),
        ),
        ({H("FF0186000000000079"): H("FF86027C42000000BA")}, ["mhz19"], ("co2", 636)),
        ({H("68010493"): H("40050400300031 56".replace(" ", ""))}, ["hpma115"], ("pm2_5", 48)),
    ],
)
def test_a_device_that_only_answers_is_found(table, expected, field, tmp_path, plug):
    report = ask(plug(Answering(tmp_path / "line", table)))
    assert [candidate.driver for candidate in report.found[0].candidates] == expected
    first = {f.name: f.value for f in report.found[0].candidates[0].fields}
    assert first[field[0]] == field[1]


@pytest.mark.parametrize(
    ("make", "name", "version"),
    [
        (Rylr998, "rylr998", "RYLR998"),
        (Rylr896, "rylr896", "RYLR89C"),
        (Rak3172, "rak3172", "RAK3172"),
        (Rn2483, "rn2483", "RN2483"),
    ],
)
def test_a_modem_says_its_version_whatever_was_asked_before(make, name, version, tmp_path, plug):
    report = ask(plug(make(tmp_path / "modem", [], clock=CLOCK, log=DeviceLog())))
    assert names(report) == [[name]]
    assert any(version in str(value) for value in said(report).values())


def test_an_ebyte_with_its_jumpers_at_configuration_is_found(tmp_path, plug):
    modem = EbyteE22(tmp_path / "e22", [], clock=CLOCK, log=DeviceLog())
    modem.m1 = True
    flash = bytes(modem.registers)
    report = ask(plug(modem))
    assert names(report) == [["ebyte_e22"]]
    assert said(report)["registers"] == flash.hex().upper()
    assert bytes(modem.registers) == flash


def test_sdi12_probes_are_found_alone_and_several(tmp_path, plug):
    identity = b"13METER   CTD   300123\r\n"
    alone = plug(Answering(tmp_path / "one", {b"?!": b"4\r\n", b"4I!": b"4" + identity}, echo=True))
    report = ask(alone, scan.Plan(units=()), known=[])
    assert [(found.address, found.candidates[0].driver) for found in report.found] == [("address 4", "sdi12")]
    assert said(report)["vendor"] == "METER"
    assert report.notes == []
    loop = plug(Answering(tmp_path / "loop", {}, echo=True))
    (note,) = ask(loop, scan.Plan(units=(), addresses="0"), known=[]).notes
    assert "returns what is sent" in note
    assert b"0!" not in alone.heard
    table = {b"?!": b"\x7f\x02\r\n", b"1!": b"1\r\n", b"1I!": b"1" + identity, b"3!": b"3\r\n"}
    several = plug(Answering(tmp_path / "two", table))
    assert [found.address for found in ask(several, scan.Plan(units=(), addresses="0123"), known=[]).found] == [
        "address 1",
        "address 3",
    ]


def test_a_modbus_device_that_no_driver_knows_still_has_an_address(tmp_path, plug):
    refusal = rtu.seal(bytes((9, 0x83, 2)))
    line = plug(Answering(tmp_path / "bus", {rtu.read_request(9, 3, 0, 1): b"\x00" + refusal}))  # a byte of turnaround
    (found,) = ask(line, scan.Plan(units=(8, 9), addresses=""), known=[]).found
    assert (found.address, found.candidates) == ("unit 9", ())


def test_a_bus_device_says_its_options_as_they_stand_in_a_configuration(tmp_path, plug):
    line = plug(Rs485Line(tmp_path / "b", [XyMd02(3, "a", lambda _: (1.0, 2.0))], clock=CLOCK, log=DeviceLog()))
    report = ask(line, scan.Plan(units=(3,), addresses=""), known=[])
    said = "xy_md02  9600 baud, options = { unit = 3 }:  air_temperature 1.0 Cel  relative_humidity 2.0 %RH"
    assert said in click.unstyle("\n".join(scan.lines(report)))


@pytest.mark.parametrize(
    ("kind", "driver", "field"),
    [
        (Rak3172, "rak3172", ("ver", "RUI_4.0.4_RAK3172-E")),
        (Rn2483, "rn2483", ("version", "RN2483 1.0.5 Oct 31 2018 15:06:52")),
        (Rylr896, "rylr896", ("ver", "RYLR89C_V1.2.7")),
        (Rylr998, "rylr998", ("ver", "RYLR998_REYAX_V1.2.2")),
    ],
)
def test_lora_modems_are_told_apart(kind, driver, field, tmp_path, plug):
    report = ask(plug(kind(tmp_path / "lora", [], clock=CLOCK, log=DeviceLog())))
    assert names(report) == [[driver]]
    assert said(report)[field[0]] == field[1]


def test_a_gsm_modem_and_strange_bytes_are_said(tmp_path, plug):
    gsm = ask(plug(GsmModem(tmp_path / "gsm")))
    assert (gsm.found, gsm.strange) == ([], {})
    assert any("GSM" in note for note in gsm.notes)

    class Babble(Mb7389):
        def measure(self):
            self.write(b"\x00\xf8\x80")

    report = ask(plug(Babble(tmp_path / "babble", "b", lambda _: 1.0, clock=CLOCK, log=DeviceLog())), end_s=3)
    assert report.strange[9600].startswith(b"\x00\xf8\x80")
    assert any("nobody knows" in line for line in scan.lines(report))


def test_noise_is_no_device():
    noise = random.Random(5)
    for family in scan.families():
        assert not any(family.recognise(noise.randbytes(noise.randint(30, 300))) for _ in range(200)), family


def test_noise_on_a_line_is_no_device(tmp_path, plug):
    class Noisy(Mb7389):
        noise = random.Random(3)

        def measure(self):
            self.write(self.noise.randbytes(100))

    device = plug(Noisy(tmp_path / "n", "n", lambda _: 1.0, clock=CLOCK, log=DeviceLog(), interval_s=0.01))
    report = ask(device, scan.Plan(units=tuple(range(1, 5)), addresses="0123456789", listen_s=0.5))
    assert report.found == []
    assert report.strange


def test_an_adapter_that_is_pulled_ends_its_scan_alone(tmp_path, plug):
    class Pulled(Answering):
        def received(self, data):
            super().received(data)
            self.unplug()

    report = ask(plug(Pulled(tmp_path / "p", {})))
    assert report.found == []
    assert "cannot be" in report.problem


def test_the_time_given_is_kept(tmp_path, plug):
    device = plug(Answering(tmp_path / "silent", {}))
    before = CLOCK.boot()
    done = run("--port", str(device.path), "--timeout", "3", "--json")
    assert CLOCK.boot() - before < 10
    assert done.returncode == 1
    assert json.loads(done.stdout)["complete"] is False


def test_a_port_that_is_not_there_is_said():
    done = run("--port", "/dev/tty-none")
    assert done.returncode == 1
    assert "No such file" in done.stdout


HARMLESS = {
    "query_sleep", "firmware_version", "passive_read", "read_co2", "read", "device_info", "trigger", "initialise",
    "F48_initialise", "read_registers", "sys_get", "radio_get", "test", "query", "address_query", "acknowledge_active", "identify",
    "wake",  # of the SPS30: opens its interface, starts nothing
}  # fmt: skip


def _questions():
    found = {}
    for name in drivers.names():
        driver = drivers.find(name)
        if driver.identify is not None:
            for request in (*driver.identify.requests, *driver.identify.details):
                found[request] = driver
    return found


def test_no_question_sets_anything_in_any_device():
    """Each is a reading command of its own driver, and a command that changes something of no other; none moves the siren's relay."""
    questions = _questions()
    assert len(questions) > 10
    recognisers = [d for d in map(drivers.find, drivers.names()) if d.recognise is not None]
    for request, own in questions.items():
        plain = request.removeprefix(b"\xff") if own.name == "sps30" else request
        for driver in recognisers:
            try:
                said = driver.recognise(plain)
            except FrameError:  # broken to that device: it does nothing
                continue
            if driver is own:
                assert said, (own.name, request)
            if said and driver.link != "modbus":
                assert said[0].value in HARMLESS, (own.name, request, driver.name, said)
    asked = [*questions, *(rtu.read_request(unit, f, r, 1) for unit in range(1, 255) for f, r in ((3, 0), (4, 1)))]
    asked += [sdi12.identify(a) + sdi12.acknowledge_active(a) for a in "0123456789"]
    relay = [relay_command(channel, on) for channel in range(1, 9) for on in (False, True)]
    assert not [request for request in asked for switch in relay if switch in request]


@pytest.mark.parametrize(("text", "units"), [("1-3,254", (1, 2, 3, 254)), ("7", (7,)), ("none", ()), ("2,1-2", (2, 1))])
def test_modbus_ranges(text, units):
    assert scan.numbers(text) == units


@pytest.mark.parametrize("text", ["", "0", "255", "5-1", "a", "1-", "1,,2"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--modbus"):
        scan.numbers(text)


def test_sdi12_ranges():
    assert scan.addresses("0-3,a-c,Z") == "0123abcZ"
    assert scan.addresses("none") == ""
    with pytest.raises(ConfigError, match="--sdi12"):
        scan.addresses("10")


class _Adapter:
    def __init__(self, device, vid, pid, serial_number, manufacturer=None, product=None):
        self.device, self.vid, self.pid, self.serial_number = device, vid, pid, serial_number
        self.manufacturer, self.product = manufacturer, product


def test_ports_have_their_stable_names_best_first(tmp_path):
    for name in ("ttyUSB0", "ttyUSB1", "ttyAMA0"):
        (tmp_path / name).touch()
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    (by_id / "usb-FTDI-if00").symlink_to(tmp_path / "ttyUSB0")
    serial0 = tmp_path / "serial0"
    serial0.symlink_to(tmp_path / "ttyAMA0")
    ports = [
        _Adapter(f"{tmp_path}/ttyUSB1", 0x1A86, 0x7523, None, None, "USB2.0-Serial"),
        _Adapter(f"{tmp_path}/ttyUSB0", 0x0403, 0x6001, "A10K", "FTDI", "FT232R"),
        _Adapter(f"{tmp_path}/ttyAMA0", None, None, None),
    ]
    found = plugged(lambda: ports, [str(by_id), str(serial0)])
    assert [(Path(p.device).name, p.names, p.title) for p in found] == [
        ("ttyAMA0", (str(serial0),), ""),
        ("ttyUSB0", (str(by_id / "usb-FTDI-if00"), "usb:0403:6001:A10K"), "FTDI FT232R"),
        ("ttyUSB1", ("usb:1a86:7523",), "USB2.0-Serial"),
    ]
