"""Central's own ways to send an SMS, end to end: an alarm over MQTT, the real process, a modem on a pty and Apprise."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clock import Clock, rfc3339
from edge.emulators.gsm import Faults, GsmModem
from tests import servers
from tests.chain import Program
from tests.fakes.providers import SmsServer
from tests.fakes.raw_gateway import RawGateway
from tests.people import tell

pytestmark = pytest.mark.system

SCALE = 20.0
"""Retries of 10, 20, 40 s take as many times less."""

CENTRAL = """
data_dir = "{tmp}/central"
[mqtt]
host = "127.0.0.1"
port = {broker}
[web]
port = {web}
[[station]]
id = "hoyoux-test"
gateway = "gw-test-01"
commune = "61031"
name = "Huy, pont du Hoyoux"
river = "Hoyoux"
[escalation]
step_s = 86400
"""
PERSON = {
    "id": "planu-huy",
    "name": "Planification d'urgence, Huy",
    "communes": ["61031"],
    "phone": "+32470000001",
    "exercise": True,
}


class Central:
    """A real central in an exercise, a broker, and a gateway that says what it is told to."""

    def __init__(self, tmp: Path, gateway: RawGateway, clock: Clock) -> None:
        self.tmp, self.gateway, self.clock = tmp, gateway, clock
        self.seq = 0

    @property
    def log(self) -> str:
        return (self.tmp / "central.log").read_text()

    def alarm(self) -> str:
        """A new alarm of level 2; gives its short reference."""
        self.seq += 1
        occurrence = f"0000000{self.seq}-0000-7000-8000-00000000000{self.seq}"
        event = {
            "id": f"e{self.seq}", "occurrence": occurrence, "seq": self.seq, "source": "gateway",
            "gateway": "gw-test-01", "station": "hoyoux-test", "sensor": "level-1", "quantity": "water_level",
            "rule": "hoyoux-high", "kind": "high", "transition": "raise", "state": "UNACK", "level": 2, "value": 1.84,
            "unit": "m", "threshold": 1.8, "trend_per_h": 0.42, "time": rfc3339(self.clock.wall()),
            "clock": "synchronised", "status": "Exercise",
        }  # fmt: skip
        self.gateway.alarm(event, gateway="gw-test-01")
        return occurrence[-5:].upper()

    def outbox(self) -> list[tuple[str, str, str | None]]:
        """State, gateway and reason of every message, oldest first, as the file says beside the running process."""
        with contextlib.closing(sqlite3.connect(f"file:{self.tmp}/central/central.db?mode=ro", uri=True)) as db:
            return db.execute("SELECT state, via, reason FROM message ORDER BY created_s").fetchall()


@contextlib.contextmanager
def running(tmp: Path, sms: str) -> Iterator[Central]:
    exercise = f"{SCALE},{time.clock_gettime(time.CLOCK_BOOTTIME)},{time.time()}"
    config = tmp / "central.toml"
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp))
        tell(tmp / "central", PERSON)
        config.write_text(CENTRAL.format(tmp=tmp, broker=broker.port, web=servers.free_port()) + sms)
        program = Program("maillages-central", config, tmp / "central.log")
        program.command += ["--exercise-clock", exercise]
        program.start()
        ends.callback(program.kill9)
        gateway = RawGateway(broker.port)
        ends.callback(gateway.close)
        central = Central(tmp, gateway, Clock.of_exercise(exercise))
        servers.wait_until(lambda: "central-alarms: connected" in central.log, 20, "central on the broker")
        yield central
        assert program.terminate() == 0


@pytest.mark.timeout(240)
def test_a_modem_at_central_sends_the_alarm_and_sends_it_when_it_is_plugged_in_again(tmp_path: Path) -> None:
    phone = GsmModem(tmp_path / "ttyGSM", pin="1234")
    phone.start()
    with contextlib.ExitStack() as ends:
        ends.callback(phone.stop)
        sms = f'[[sms]]\nkind = "modem"\nport = "{tmp_path}/ttyGSM"\npin = "1234"\n'
        central = ends.enter_context(running(tmp_path, sms))
        reference = central.alarm()
        servers.wait_until(lambda: len(phone.messages) == 1, 20, "an SMS")
        assert phone.messages[0].number == "+32470000001"
        assert phone.messages[0].text.startswith("EXERCICE - HUY-WAREMME seuil local 2 atteint. Huy, pont du Hoyoux")
        assert phone.messages[0].text.endswith(f"Danger: 112. Répondez OK {reference}")
        servers.wait_until(lambda: central.outbox() == [("accepted", "sms.0 modem", "delivered")], 20, "the report")

        phone.faults = Faults(cms_error=331)  # no network
        second = central.alarm()
        servers.wait_until(lambda: "sms.0 modem: retry" in central.log, 20, "central says that it cannot send")
        phone.unplug()
        phone.faults = Faults()
        phone.replug()
        servers.wait_until(lambda: len(phone.messages) == 2, 60, "the SMS after all")
        assert phone.messages[1].text.endswith(f"Répondez OK {second}")
        servers.wait_until(lambda: {s for s, _, _ in central.outbox()} == {"accepted"}, 10, "the outbox")
        assert "sms.0 modem: accepts messages again" in central.log


@pytest.mark.timeout(240)
def test_who_answers_the_sms_acknowledges_and_only_known_numbers_are_heard(tmp_path: Path) -> None:
    phone = GsmModem(tmp_path / "ttyGSM")
    phone.start()
    with contextlib.ExitStack() as ends:
        ends.callback(phone.stop)
        central = ends.enter_context(running(tmp_path, f'[[sms]]\nkind = "modem"\nport = "{tmp_path}/ttyGSM"\n'))
        first, second = central.alarm(), central.alarm()

        def answers(to: str, text: str) -> str:
            before = len(phone.messages)
            phone.incoming(to, text)
            servers.wait_until(lambda: len(phone.messages) == before + 1, 30, f"an answer to {text!r}")
            assert phone.messages[-1].number == to
            return phone.messages[-1].text

        servers.wait_until(lambda: len(phone.messages) == 2, 30, "two SMS")
        known = "+32470000001"
        assert answers(known, "bonjour").startswith("Non compris.")
        assert answers(known, "OK").startswith("Plusieurs alarmes: répondez OK et la référence (")
        phone.incoming("+32470999999", f"OK {first}")
        servers.wait_until(lambda: "a message from an unknown number is deleted" in central.log, 30, "it was not heard")
        assert answers(known, f"ok {first.lower()}.") == (
            f"Merci. Alarme {first} prise en charge par vous (Huy, pont du Hoyoux)."
        )
        assert answers(known, f"OK {first}").startswith(f"Alarme {first} inconnue ou déjà prise en charge.")
        state = answers(known, "état")
        assert "Huy, pont du Hoyoux 1,84 m (seuil 2)" in state
        assert answers(known, "Ok").startswith(f"Merci. Alarme {second}")
        assert answers(known, "OK") == "Aucune alarme à prendre en charge."
        assert known not in central.log


@pytest.mark.timeout(240)
def test_apprise_hands_over_and_what_fails_is_said_and_tried_again(tmp_path: Path) -> None:
    port = servers.free_port()
    answers = [(503, "busy"), (500, "broken")]
    sms = f'[[sms]]\nkind = "apprise"\nurl = "json://127.0.0.1:{port}/{{digits}}?method=POST"\n'
    with running(tmp_path, sms) as central:
        central.alarm()  # nobody listens: refused
        servers.wait_until(
            lambda: "sms.0 apprise: retry, not handed over" in central.log, 30, "central says that it cannot send"
        )
        servers.wait_until(lambda: central.outbox()[0][0] == "waiting", 10, "it waits for another attempt")
        assert central.outbox()[0][2] == "sms.0 apprise: not handed over"
        with SmsServer(lambda _: answers.pop(0) if answers else (200, "{}"), port=port) as provider:
            servers.wait_until(lambda: len(provider.accepted) == 1, 60, "handed over after two server errors")
            assert len(provider.requests) == 3
            (body,) = provider.accepted.values()
            assert body["message"].startswith("EXERCICE - HUY-WAREMME seuil local 2 atteint.")
            assert body["type"] == "info"
            expected = [("accepted", "sms.0 apprise", "handed over")]
            servers.wait_until(lambda: central.outbox() == expected, 10, "the outbox")
            assert "sms.0 apprise: accepts messages again" in central.log
            assert "+32470000001" not in central.log
            assert "32470000001" not in central.log
