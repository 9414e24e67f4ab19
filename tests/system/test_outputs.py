"""`maillages-edge test` and the weekly test of the siren, as the technician meets them: real processes, relay board and modem on ptys."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from serial.rfc2217 import PortManager
from serial.urlhandler import protocol_loop

from common.clock import BRUSSELS, Clock
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Program

pytestmark = pytest.mark.system

COMMAND = str(Path(sys.executable).parent / "maillages-edge")
EDGE = """
[gateway]
id = "gw-test-01"
data_dir = "{tmp}/edge"
[clock]
trust = "always"
[[station]]
id = "hoyoux-test"
name = "Huy, pont du Hoyoux"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{tmp}/ttyLEVEL"
options = {{ model = "MB7389" }}
period_s = 0
level = {{ mounting_height_m = 5.0 }}
[outputs.siren]
port = "{tmp}/ttySIREN"
{siren}
[outputs.sms]
port = "{tmp}/ttyGSM"
[[outputs.sms.recipient]]
id = "planu-huy"
phone = "+32470000001"
[[outputs.sms.recipient]]
id = "technicien"
phone = "+32470000002"
technician = true
"""

RULE = """
[[station.rule]]
id = "hoyoux-high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [1.2, 1.8, 2.8]
deadband = 0.05
"""
BUTTON = """
[outputs.button]
driver = "serial"
port = "{url}"
"""


@pytest.fixture
def board(tmp_path):
    made = RelayBoard(tmp_path / "ttySIREN")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def phone(tmp_path):
    made = GsmModem(tmp_path / "ttyGSM")
    made.start()
    yield made
    made.stop()


class Wires(protocol_loop.Serial):
    """A serial adapter with a button at its CTS."""

    pressed = False

    @property
    def cts(self) -> bool:
        return self.pressed


class Button:
    """Such an adapter behind a port server (RFC 2217), since a pty has no modem lines. `pressed` is the finger."""

    def __init__(self) -> None:
        self._wires = Wires("loop://")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._listener.close()
        self._thread.join(10)

    def press(self, pressed: bool) -> None:
        self._wires.pressed = pressed

    def _serve(self) -> None:
        self._listener.settimeout(0.2)
        while not self._stopped.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                with client:
                    client.settimeout(0.02)
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        class Line:
            @staticmethod
            def write(data: bytes) -> None:
                client.sendall(data)

        manager = PortManager(self._wires, Line())
        manager.check_modem_lines(force_notification=True)
        while not self._stopped.is_set():
            try:
                data = client.recv(1024)
                if not data:
                    return
                b"".join(manager.filter(data))
            except TimeoutError:
                pass
            manager.check_modem_lines()


@pytest.fixture
def button():
    made = Button()
    made.start()
    yield made
    made.stop()


def toml(tmp_path: Path, siren: str = "") -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(EDGE.format(tmp=tmp_path, siren=siren))
    return path


def tried(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "test", *arguments, "-c", path], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_siren_sounds_for_a_moment(tmp_path, board) -> None:
    done = tried(toml(tmp_path), "siren", "--seconds", "0.3", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["outcome"], said["to"]) == ("Test", "done", f"{board.path} channel 1")
    servers.wait_until(lambda: len(board.history) == 2, 10, "on and off")
    on, off = board.history
    assert on.on
    assert 0.25 < off.boot_s - on.boot_s < 3


def test_a_test_that_is_broken_off_leaves_the_siren_silent(tmp_path, board) -> None:
    process = subprocess.Popen([COMMAND, "test", "siren", "--seconds", "10", "-c", toml(tmp_path)])
    servers.wait_until(board.on, 20, "sounding")
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    servers.wait_until(lambda: not board.on(), 5, "silent")
    assert process.returncode != 0


def test_a_board_that_is_not_there_is_said_so(tmp_path) -> None:
    done = tried(toml(tmp_path), "siren")
    assert done.returncode == 1
    assert done.stdout.startswith(f"Test  siren {tmp_path}/ttySIREN channel 1: failed.")
    assert "No such file" in done.stderr


def test_the_technician_gets_an_sms_that_begins_with_test(tmp_path, phone) -> None:
    done = tried(toml(tmp_path), "sms")
    assert done.returncode == 0, done.stderr
    ((number, text),) = [(m.number, m.text) for m in phone.messages]
    assert number == "+32470000002"
    assert text.startswith("TEST - ")
    assert "gw-test-01" in text
    assert done.stdout.startswith("Test  sms technicien: sent.")
    assert tried(toml(tmp_path), "sms", "--to", "planu-huy").returncode == 0
    assert phone.messages[-1].number == "+32470000001"
    wrong = tried(toml(tmp_path), "sms", "--to", "nobody")
    assert wrong.returncode == 2
    assert "expected one of planu-huy, technicien" in wrong.stderr


def test_while_the_gateway_runs_its_outputs_are_its_own(tmp_path, board, phone) -> None:
    path = toml(tmp_path)
    edge = Program("maillages-edge", path, tmp_path / "edge.log")
    edge.start()
    try:
        servers.wait_until(lambda: board.received_frames > 0, 20, "the gateway runs")
        for output in ("siren", "sms"):
            done = tried(path, output)
            assert done.returncode == 2
            assert "the gateway runs and holds its outputs" in done.stderr
    finally:
        edge.kill9()
    assert board.history == []
    assert phone.messages == []


def test_the_gateway_tests_its_siren_at_its_time_of_the_week(tmp_path, board) -> None:
    due = datetime.now(BRUSSELS) + timedelta(seconds=15)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[due.weekday()]
    if due.hour == 2:
        pytest.skip("no test is due between 02:00 and 03:00")
    siren = f'self_test = {{ day = "{day}", at = {due:%H:%M:%S}, pulse_s = 0.3 }}'
    edge = Program("maillages-edge", toml(tmp_path, siren), tmp_path / "edge.log")
    edge.start()
    try:
        servers.wait_until(lambda: len(board.history) == 2, 60, "a pulse")
        on, off = board.history
        assert 0.25 < off.boot_s - on.boot_s < 3
        servers.wait_until(lambda: "siren test: done" in (tmp_path / "edge.log").read_text(), 10, "it is logged")
        assert edge.terminate() == 0
    finally:
        edge.kill9()


def test_the_river_rises_the_siren_beeps_a_person_presses(tmp_path, board, button) -> None:
    distance = {"m": 4.5}
    level = Mb7389(
        tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: distance["m"], clock=Clock(), log=DeviceLog()
    )
    path = toml(tmp_path, "patterns = { 2 = { on_s = 0.5, off_s = 0.5 } }")
    text = path.read_text().partition("[outputs.sms]")[0]
    path.write_text(text.replace("[outputs.siren]", RULE + "[outputs.siren]") + BUTTON.format(url=button.url))
    log = tmp_path / "edge.log"
    edge = Program("maillages-edge", path, log)
    level.start()
    edge.start()
    try:
        servers.wait_until(lambda: board.received_frames > 0, 20, "the gateway runs")
        distance["m"] = 3.0
        servers.wait_until(lambda: len(board.history) >= 6, 30, "three beeps")
        edge.kill9()
        before = len(board.history)
        edge.start()
        servers.wait_until(lambda: len(board.history) >= before + 4, 30, "it beeps again: nobody has acknowledged")
        assert edge.said("button:") == 0, log.read_text()
        button.press(True)
        servers.wait_until(lambda: edge.said("button: pressed, 1 alarms acknowledged") == 1, 10, "heard")
        servers.wait_until(lambda: not board.on(), 5, "silent")
        button.press(False)
        silent = len(board.history)
        seen = board.received_frames
        servers.wait_until(lambda: board.received_frames >= seen + 1, 10, "told again to be silent")
        assert len(board.history) == silent
        distance["m"] = 2.0
        servers.wait_until(lambda: len(board.history) > silent, 20, "worse: it sounds again")
        assert edge.terminate() == 0
    finally:
        edge.kill9()
        level.stop()
    events = sqlite3.connect(tmp_path / "edge" / "alarms.db")
    told = [json.loads(row[0]) for row in events.execute("SELECT payload FROM event ORDER BY seq")]
    events.close()
    assert [(e["transition"], e["level"], e.get("by")) for e in told] == [
        ("raise", 2, None),
        ("ack", 2, "bouton gw-test-01"),
        ("escalate", 3, None),
    ]
