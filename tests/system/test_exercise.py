"""An exercise alarm from the siren to the board: real processes, broker, mail server, relay board and modem on ptys."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from central.alarms.log import AlarmLog
from central.db import Database
from central.store.embedded import Embedded
from common.clock import Clock
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Program
from tests.fakes.providers import SmtpServer
from tests.people import PLANNER, tell
from tests.system.test_acknowledgement import central_command
from tests.system.test_outputs import COMMAND, EDGE, RULE
from tests.system.test_push import CENTRAL

pytestmark = pytest.mark.system

MQTT = """
[mqtt]
host = "127.0.0.1"
port = {broker}
keepalive_s = 5
central_key = "{key}"
"""
SMTP = """
[smtp]
host = "127.0.0.1"
port = {port}
starttls = false
from = "alertes@example.be"
"""
MAYOR = PLANNER | {"id": "maire", "email": "maire@example.be"}


class Way:
    """All that an alarm meets between a gauge and the people."""

    def __init__(self, tmp: Path, ends: contextlib.ExitStack) -> None:
        self.distance_m = 4.5
        key = central_command("keygen", str(tmp / "commands.pem")).stdout.strip()
        self.broker = ends.enter_context(servers.mosquitto(tmp))
        self.smtp = ends.enter_context(SmtpServer())
        self.siren, self.phone = RelayBoard(tmp / "ttySIREN"), GsmModem(tmp / "ttyGSM")
        clock = Clock(trust="always")
        level = Mb7389(
            tmp / "ttyLEVEL", "level", lambda _: self.distance_m, clock=clock, log=DeviceLog(), interval_s=0.2
        )
        for device in (self.siren, self.phone, level):
            device.start()
            ends.callback(device.stop)
        self.tmp, self.config, self.central_config = tmp, tmp / "edge.toml", tmp / "central.toml"
        head, _, outputs = EDGE.format(tmp=tmp, siren="").partition("[outputs.siren]")
        text = head + RULE + "[outputs.siren]" + outputs + "exercise = true\n"
        self.config.write_text(text + MQTT.format(broker=self.broker.port, key=key))
        tell(tmp / "central", PLANNER | {"exercise": True}, MAYOR)
        self.central_config.write_text(
            CENTRAL.format(tmp=tmp, broker=self.broker.port) + SMTP.format(port=self.smtp.port)
            + f"[web]\nport = {servers.free_port()}\n"
        )  # fmt: skip
        self.central = Program("maillages-central", self.central_config, tmp / "central.log")
        self.edge = Program("maillages-edge", self.config, tmp / "edge.log")
        for program in (self.central, self.edge):
            program.start()
            ends.callback(program.kill9)
        servers.wait_until(lambda: self.edge.said("uplink: connected") > 0, 40, "the gateway is connected")
        servers.wait_until(lambda: self.central.said("central-alarms: connected") > 0, 40, "central is connected")
        self.wait_rests()

    def wait_rests(self) -> None:
        servers.wait_until(
            lambda: self.edge.said("sms: ") >= 0 and self.siren.received_frames > 0, 40, "the siren's port"
        )

    def begin(self, *more: str) -> subprocess.Popen[str]:
        line = [COMMAND, "test", "alarm", "--json", "-c", str(self.config), *more]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def alarms(self) -> list[str]:
        """The rules of the alarms that are not over at central."""
        db = Database(self.tmp / "central/central.db")
        db.open_read_only()
        try:
            return [occurrence.rule for occurrence in AlarmLog(db).open_occurrences()]
        finally:
            db.close()

    def stored(self) -> list[str]:
        store = Embedded(self.tmp / "central/store.db")
        store.setup()
        try:
            return [str(row.fields["text"]) for row in store.dump("alarm", 0, 2**53)]
        finally:
            store.close()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    with contextlib.ExitStack() as ends:
        yield Way(tmp_path, ends)


def waits(exercise: subprocess.Popen[str]) -> None:
    """Until all its links but the answer are settled."""
    assert exercise.stdout is not None
    for _ in range(7):
        exercise.stdout.readline()


@pytest.mark.timeout(240)
def test_an_exercise_goes_the_whole_way_tells_only_the_list_and_ends_whatever_comes(way: Way) -> None:
    done = way.begin("--level", "3", "--seconds", "0.5")
    out, err = done.communicate(timeout=130)
    found = {link["link"]: link for link in map(json.loads, out.splitlines())}
    assert {name: link["state"] for name, link in found.items()} == dict.fromkeys(
        ("siren", "sms", "sms delivered", "broker", "central", "notification", "board"), "good"
    ), (out, err)
    assert done.returncode == 0
    assert "7 of 7 links work" in err
    assert [switched.on for switched in way.siren.history] == [True, False]
    (sms,) = way.phone.messages
    assert sms.number == "+32470000002"
    assert sms.text.startswith("EXERCICE - HUY-WAREMME seuil local 3 atteint")
    servers.wait_until(lambda: way.alarms() == [], 30, "the exercise is over at central")
    servers.wait_until(lambda: len(way.stored()) >= 4, 30, "its end is on the board")
    assert all(text.startswith("EXERCICE - ") for text in way.stored())

    # Killed during one, the gateway ends it when it is back.
    killed = way.begin("--no-siren", "--answer", "600")
    waits(killed)
    again = way.begin()
    assert "an exercise is under way" in again.communicate(timeout=60)[1]
    assert again.returncode == 2
    way.edge.kill9()
    assert "the gateway ended or began anew during the exercise" in killed.communicate(timeout=60)[1]
    assert killed.returncode == 1
    assert way.alarms() == ["exercise"]
    way.edge.start()
    servers.wait_until(lambda: way.alarms() == [], 60, "the killed exercise ends by itself")
    assert {to for to, _ in way.smtp.mails} == {"planu@example.be"}
    assert all("EXERCICE" in str(mail["Subject"]) for _, mail in way.smtp.mails)

    # The water rises during one: it ends at once, and all goes as ever.
    stopped = way.begin("--no-siren", "--answer", "600")
    waits(stopped)
    way.distance_m = 2.6
    servers.wait_until(lambda: way.siren.on(1), 40, "the siren sounds for the water")
    assert "a real alarm has begun: hoyoux-high" in stopped.communicate(timeout=60)[1]
    assert stopped.returncode == 1
    servers.wait_until(lambda: bool(way.smtp.to("maire@example.be")), 40, "who is not on the list is told of the water")
    assert "EXERCICE" not in str(way.smtp.to("maire@example.be")[0]["Subject"])
    servers.wait_until(lambda: way.alarms() == ["hoyoux-high"], 40, "the exercise is over")
    assert len([m for m in way.phone.messages if "EXERCICE" in m.text]) == 3, "no SMS of it was repeated"
