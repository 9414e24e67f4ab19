"""The node of firmware-configs/node-reference/: its own code, under this Python, against the gateway's and on real ptys."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from common.clock import Clock
from edge import config
from edge.cli import app
from edge.emulators.log import DeviceLog
from edge.emulators.pty import PtyDevice
from edge.emulators.rylr998 import Rylr998
from edge.nodes import KEY_FILE, read_keys
from edge.radio._secured import OVERHEAD_BYTES, header, unseal
from edge.transports.build import build
from tests.fakes.samples import Samples

ROOT = Path(__file__).parent.parent
NODE = ROOT.parent / "firmware-configs" / "node-reference"
FAKES = ROOT / "fakes" / "pico"
COMMAND = Path(sys.executable).parent / "maillages-edge"
WAIT_S = 45
CLOCK = Clock()

sys.path[:0] = [str(NODE), str(FAKES)]
import ccm  # noqa: E402
import cryptolib  # noqa: E402
from counter import LAST, STEP, Counter, CounterLost  # noqa: E402
from node import distance, temperature, voltage  # noqa: E402

# --- sealing


def test_the_first_example_of_rfc_3610():
    """Section 8, packet vector 1: an independent tag of 8 bytes with a nonce of 13."""
    encrypt = cryptolib.aes(bytes(range(0xC0, 0xD0)), 1).encrypt
    sealed = ccm.seal(encrypt, bytes.fromhex("00000003020100A0A1A2A3A4A5"), bytes(range(8)), bytes(range(8, 31)))
    assert sealed.hex().upper() == "588C979A61C663D2F066D0C2C0F989806D5F6B61DAC38417E8D12CFDF926E0"


@given(st.binary(min_size=16, max_size=16), st.integers(0, 0xFFFF), st.integers(1, LAST), st.binary(max_size=105))
def test_the_gateway_opens_what_the_node_seals(key, node, counter, payload):
    packet = ccm.packet(cryptolib.aes(key, 1).encrypt, node, counter, payload)
    assert unseal(key, packet) == payload
    assert (header(packet).node, header(packet).counter) == (node, counter)
    assert len(packet.hex()) <= 240
    assert packet[7:] == AESCCM(key, 8).encrypt(packet[:7] + bytes(6), payload, packet[:7])


def test_the_longest_payload_fits_the_modem():
    assert 2 * (105 + OVERHEAD_BYTES) == 240


def test_values_as_cayenne_lpp():
    assert distance(1, 1.234) + temperature(3, -2.5) + voltage(2, 3.96) == bytes.fromhex(
        "0182000004D2 0367FFE7 0274018C"
    )


# --- the counter


class PowerCut(BaseException):
    pass


class Flash:
    """Files that lose power after `steps` more steps of writing (opening, each byte, closing). The file that is being written is
    then as before, torn where it was, or holds `rubbish`."""

    def __init__(self):
        self.files = {}
        self.steps = None
        self.leaves = "old"
        self.rubbish = b""
        self.writes = 0

    def step(self):
        if self.steps is not None:
            if self.steps == 0:
                raise PowerCut
            self.steps -= 1

    def open(self, name, mode):
        if mode == "rb":
            if name not in self.files:
                raise OSError(name)
            return _Reading(self.files[name])
        self.writes += 1
        return _Writing(self, name)


class _Reading:
    def __init__(self, data):
        self._data = data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self):
        return self._data


class _Writing:
    def __init__(self, flash, name):
        self._flash, self._name, self._data = flash, name, b""

    def __enter__(self):
        self._guarded(self._flash.step)
        return self

    def write(self, data):
        for i in range(len(data)):
            self._guarded(self._flash.step)
            self._data += data[i : i + 1]

    def __exit__(self, kind, *_):
        if kind is None:
            self._guarded(self._flash.step)
            self._flash.files[self._name] = self._data
            self._flash.step()

    def _guarded(self, step):
        try:
            step()
        except PowerCut:
            if self._flash.leaves != "old":
                self._flash.files[self._name] = self._data if self._flash.leaves == "torn" else self._flash.rubbish
            raise


def use(flash, packets, given_):
    """One battery: numbers go out until it is empty or `packets` are sent."""
    try:
        counter = Counter(".", flash.open)
        for _ in range(packets):
            given_.append(counter.next())
    except PowerCut:
        pass


@pytest.mark.parametrize("leaves", ["old", "torn", "rubbish"])
@pytest.mark.parametrize("reservation", [1, 2, 3])
@pytest.mark.parametrize("step", range(12))
def test_power_cut_at_each_point_of_a_write(leaves, reservation, step):
    flash, given_ = Flash(), []
    use(flash, (reservation - 1) * STEP, given_)  # used to the last of what is reserved, so the next one writes
    flash.leaves, flash.rubbish = leaves, b"\xff" * 8
    counter = Counter(".", flash.open) if reservation == 1 else None
    flash.steps = step
    try:
        given_.append((counter or Counter(".", flash.open)).next())
    except PowerCut:
        assert step < 11
    else:
        assert step == 11  # opening, eight bytes, closing, and after it: all done
    flash.steps = None
    use(flash, 2 * STEP + 1, given_)
    assert given_ == sorted(set(given_))
    assert given_[-1] <= (reservation + 4) * STEP


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * STEP),
            st.integers(0, 40),
            st.sampled_from(["old", "torn", "rubbish"]),
            st.binary(max_size=9),
        ),
        max_size=12,
    )
)
def test_no_number_is_given_twice_whatever_the_batteries_do(lives):
    flash, given_ = Flash(), []
    for packets, steps, leaves, rubbish in lives:
        flash.steps, flash.leaves, flash.rubbish = steps, leaves, rubbish
        use(flash, packets, given_)
    flash.steps = None
    use(flash, STEP + 1, given_)
    assert given_ == sorted(set(given_))
    assert given_[-1] <= (len(lives) + 2) * STEP + sum(packets for packets, *_ in lives) + STEP


def test_flash_is_written_once_for_so_many_packets():
    flash = Flash()
    use(flash, 10 * STEP, [])
    assert flash.writes == 10
    use(flash, 0, [])  # a boot that sends nothing writes nothing
    assert flash.writes == 10


def test_a_counter_that_is_lost_never_begins_anew():
    flash = Flash()
    use(flash, 2 * STEP, [])
    flash.files = dict.fromkeys(flash.files, b"\xff" * 8)
    with pytest.raises(CounterLost):
        Counter(".", flash.open)


def test_the_last_number_is_the_last():
    flash = Flash()
    end = LAST // STEP * STEP
    flash.files["./counter.a"] = end.to_bytes(4, "big") + (end ^ LAST).to_bytes(4, "big")
    with pytest.raises(CounterLost):
        Counter(".", flash.open).next()


def test_flash_that_keeps_nothing_gives_no_number():
    class Worn(Flash):
        def open(self, name, mode):
            return super().open("nowhere" if mode == "wb" else name, mode)

    counter = Counter(".", Worn().open)
    with pytest.raises(OSError, match="does not keep"):
        counter.next()


# --- the whole node, as a process, with its modem and sensor on ptys

FAST = """\
driver = "rylr998"
band_hz = 869_525_000
spreading_factor = 5
bandwidth_khz = 125
coding_rate = 5
preamble = 12
network_id = 18
address = 1
power_dbm = 14
"""


class A02yyuw(PtyDevice):
    """Sends 1.234 m ten times a second, after some noise."""

    def tick(self):
        self.write(bytes.fromhex("00 FF FF 04 D2 D5"))
        return 0.1


class Pico:
    """A node: its flash is a folder, its power a process."""

    def __init__(self, flash, modem, sensor):
        self.flash = flash
        shutil.copytree(NODE, flash)
        self._environment = os.environ | {
            "UART0": str(modem.path),
            "UART1": str(sensor.path),
            "PYTHONPATH": f"{FAKES}:{flash}",
        }
        self._process = None

    def start(self):
        self._process = subprocess.Popen([sys.executable, "main.py"], cwd=self.flash, env=self._environment)

    def stop(self):
        """The battery is pulled."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def until(happened):
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def site(tmp_path):
    """Two modems in reach of each other, a gateway's configuration, a Pico without a key."""

    class Site:
        def __init__(self):
            log = DeviceLog()
            self.gateway_modem = Rylr998(tmp_path / "gateway-modem", [], clock=CLOCK, log=log)
            self.node_modem = Rylr998(tmp_path / "node-modem", [], clock=CLOCK, log=log)
            self.node_modem.peers = [self.gateway_modem]
            self.sensor = A02yyuw(tmp_path / "level")
            self.pico = Pico(tmp_path / "flash", self.node_modem, self.sensor)
            self.data = tmp_path / "data"
            self.toml = tmp_path / "edge.toml"
            (tmp_path / "fast.toml").write_text(FAST)
            self.toml.write_text(
                f"""
                [gateway]
                id = "gw-1"
                data_dir = "{self.data}"
                [[modem]]
                name = "lora"
                driver = "rylr998"
                port = "{self.gateway_modem.path}"
                settings = "{tmp_path / "fast.toml"}"
                [[station]]
                id = "hoyoux"
                name = "Hoyoux"
                commune = "61031"
                lat = 50.5
                lon = 5.2
                [[station.sensor]]
                id = "level"
                driver = "cayenne_lpp"
                modem = "lora"
                address = 12
                authenticated = true
                period_s = 0.5
                options = {{ channels = {{ 1 = "water_distance", 2 = "battery_voltage" }} }}
                """
            )
            self.samples = Samples()
            self.transport = None
            for device in (self.gateway_modem, self.node_modem, self.sensor):
                device.start()

        def gateway(self):
            """Start the gateway's side, anew when it ran."""
            if self.transport is not None:
                self.transport.stop()
            (self.transport,) = build(config.load(self.toml), CLOCK, self.samples)
            self.transport.start()
            until(lambda: self.gateway_modem.settings["ADDRESS"] == "1")
            # Until it listens: what comes before is nobody's.
            until(lambda: self.put("00", address=99) or self.strangers() > 0)

        def rekey(self):
            file = tmp_path / "node.json"
            done = CliRunner().invoke(app, ["radio", "rekey", "12", "-c", str(self.toml), "--file", str(file)])
            assert done.exit_code == 0, done.output
            file.replace(self.pico.flash / "node.json")
            return done.output

        def good(self):
            return [s for s in list(self.samples.all) if s.fields]

        def sent(self):
            """Packets that left the node, as text."""
            return [line.split(",")[2] for line in self.node_modem.transmitted]

        def counters(self):
            return [header(bytes.fromhex(text)).counter for text in self.sent()]

        def put(self, text, address=12):
            """Somebody sends this."""
            self.gateway_modem.write(f"+RCV={address},{len(text)},{text},-40,9\r\n".encode())

        def strangers(self):
            return self.transport.dropped["modem lora", "unknown_node"]

        def refused(self, kind):
            return self.transport.dropped["node 12", kind]

        def stop(self):
            self.pico.stop()
            if self.transport is not None:
                self.transport.stop()
            for device in (self.gateway_modem, self.node_modem, self.sensor):
                device.stop()

    running = Site()
    yield running
    running.stop()


def test_a_node_is_heard_through_battery_changes_and_a_replay_never(site, caplog):
    site.rekey()
    site.gateway()
    for battery in range(1, 4):
        heard = len(site.good())
        site.pico.start()
        until(lambda heard=heard: len(site.good()) >= heard + 2)
        site.pico.stop()
        assert site.counters()[-1] in range((battery - 1) * STEP + 1, battery * STEP + 1)
    assert site.counters() == sorted(set(site.counters()))
    sample = site.good()[-1]
    values = {f.name: f.value for f in sample.fields}
    side = {f.name: f.value for f in sample.side}
    assert values == {"water_distance": 1.234, "battery_voltage": 3.96}
    assert (side["authenticated"], side["refused"], side["rssi"]) == (1, 0, -72)
    until(lambda: len(site.good()) == len(site.sent()))

    recorded, fresh = site.sent(), len(site.good())
    site.gateway()  # it has been away
    for text in recorded:
        site.put(text)
    until(lambda: site.refused("replay") == len(recorded))
    strangers = site.strangers()
    site.put(recorded[-1], address=13)
    site.put("0182000004D2")
    site.put("HELLO")
    for bit in (0, 60, 150):
        broken = bytearray.fromhex(recorded[-1])
        broken[bit // 8] ^= 1 << bit % 8
        site.put(broken.hex().upper())
    until(lambda: site.refused("forged") == 2 and site.refused("unauthenticated") == 2)
    until(lambda: site.refused("format") == 1)
    assert len(site.good()) == fresh
    assert site.strangers() > strangers

    site.pico.start()
    until(lambda: len(site.good()) > fresh)
    assert {f.name: f.value for f in site.good()[-1].side}["refused"] == len(recorded) + 5
    said = [r.getMessage() for r in caplog.records if "replay" in r.getMessage()]
    assert len(said) == 1  # once, however many


def test_what_is_refused_is_not_heard(site):
    """Noise in a node's name gives nothing that a rule could take for life, or for a fault; the silence is told by time."""
    site.rekey()
    site.gateway()
    for _ in range(20):
        site.put("0182000004D2")
    until(lambda: site.refused("unauthenticated") == 20)
    until(lambda: site.samples.all)
    assert {s.error.kind for s in site.samples.all} == {"timeout"}
    assert [(f.name, f.value) for f in site.samples.all[-1].side] == [("refused", 20)]


def test_rekeying_a_node_that_runs(site, caplog):
    caplog.set_level("INFO")
    first = site.rekey()
    site.gateway()
    site.pico.start()
    until(lambda: len(site.good()) >= 1)
    second = site.rekey()  # the node still runs on its old key
    heard = len(site.good())
    until(lambda: len(site.good()) >= heard + 2)
    assert len(read_keys(site.data)[12]) == 2
    listed = CliRunner().invoke(app, ["radio", "list", "-c", str(site.toml)]).output
    assert re.search(r"12 +lora +hoyoux/level +\w{8} \(not used yet, \w{8} counts\) +\d+ +20", listed)
    site.pico.stop()
    site.pico.start()
    until(lambda: len(read_keys(site.data)[12]) == 1)
    new = json.loads((site.pico.flash / "node.json").read_text())["key"]
    assert read_keys(site.data)[12] == (bytes.fromhex(new),)
    heard = len(site.good())
    until(lambda: len(site.good()) > heard)
    listed = json.loads(CliRunner().invoke(app, ["radio", "list", "--json", "-c", str(site.toml)]).output)
    assert (listed["node"], listed["authenticated"], len(listed["keys"])) == (12, True, 1)
    assert listed["counter"] >= 1
    shown = [re.search(r"\b[0-9a-f]{32}\b", text)[0] for text in (first, second)]
    assert shown[1] == new
    for key in shown:
        assert key not in caplog.text + str(listed)
    assert (site.data / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_what_rekey_refuses(site, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["radio", "rekey", "13", "-c", str(site.toml)])
    assert (done.exit_code, "node 13: no sensor is authenticated there, expected one of 12" in done.output) == (2, True)
    (tmp_path / "taken.json").write_text("{}")
    done = run(app, ["radio", "rekey", "12", "-c", str(site.toml), "--file", str(tmp_path / "taken.json")])
    assert (done.exit_code, "exists" in done.output) == (2, True)
    assert not (site.data / KEY_FILE).exists()


def test_the_node_sets_its_own_modem(site):
    site.rekey()
    site.node_modem.settings["MODE"] = "1"
    site.gateway()
    site.pico.start()
    until(lambda: len(site.good()) >= 1)
    expected = {"BAND": "869525000", "PARAMETER": "5,7,1,12", "NETWORKID": "18", "CRFOP": "14", "ADDRESS": "12"}
    assert site.node_modem.settings.items() >= expected.items()


def test_a_killed_gateway_believes_no_recorded_packet(site, tmp_path):
    """The installed command, a kill -9, the recording played to the next one."""
    site.rekey()
    logged = tmp_path / "log"

    def run():
        with logged.open("a") as log:
            return subprocess.Popen([COMMAND, "run", "-c", str(site.toml)], stderr=log)

    def counter():
        listed = json.loads(CliRunner().invoke(app, ["radio", "list", "--json", "-c", str(site.toml)]).output)
        return listed["counter"]

    def journal():
        return sum(file.read_bytes().count(b"\n") for file in (site.data / "journal").iterdir())

    process = run()
    try:
        site.pico.start()
        until(lambda: (counter() or 0) >= 2)
        process.kill()
        process.wait()
        site.pico.stop()
        last = counter()
        recorded = [text for text in site.sent() if header(bytes.fromhex(text)).counter <= last]
        process = run()
        until(lambda: logged.read_text().count("runs,") == 2)
        before = journal()
        until(lambda: site.put(recorded[-1]) or "replay on" in logged.read_text())
        for text in recorded:
            site.put(text)
        site.put(recorded[-1][:-2] + ("00" if recorded[-1][-2:] != "00" else "01"))
        until(lambda: "forged on" in logged.read_text())  # so the others have been judged
        assert (counter(), journal()) == (last, before)
        site.pico.start()
        until(lambda: counter() > last and journal() > before)
        assert counter() > STEP
        assert logged.read_text().count("replay on") == 1
    finally:
        process.kill()
        process.wait()


def test_a_running_gateway_changes_a_nodes_key_and_misses_no_packet(site, tmp_path):
    """The installed command: the new key counts without a restart, the old one until the node has the new one."""

    def node():
        return json.loads(CliRunner().invoke(app, ["radio", "list", "--json", "-c", str(site.toml)]).output)

    site.rekey()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([COMMAND, "run", "-c", str(site.toml)], stderr=log)
    try:
        site.pico.start()
        until(lambda: (node()["counter"] or 0) >= 1)
        site.rekey()  # the node runs on, with its old key
        last = node()["counter"]
        until(lambda: node()["counter"] > last)
        assert len(node()["keys"]) == 2
        site.pico.stop()
        site.pico.start()
        until(lambda: len(node()["keys"]) == 1)
        last = node()["counter"]
        until(lambda: node()["counter"] > last)
        process.terminate()
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait()
    said = (tmp_path / "log").read_text()
    assert "forged" not in said
    assert "replay" not in said
