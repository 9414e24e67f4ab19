"""kill -9 of central at random moments while alarms arrive: everyone is told, and nobody twice where the provider tells repeats apart.

The mail system does by Message-ID; the HTTP gateway by the id that central gives, and it fails as such gateways do; a modem cannot,
so what was cut off with it is never sent again, and others are told instead.
"""

import contextlib
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from common import texts
from common.clock import Clock, rfc3339
from edge.emulators.gsm import GsmModem
from tests import servers
from tests.chain import FULL, Account, Program
from tests.fakes.fleet import Fleet
from tests.fakes.providers import TAKEN, SmsServer, SmtpServer
from tests.people import tell
from wire.alarm import AlarmEvent
from wire.ids import uuid7

pytestmark = pytest.mark.system

KILLS = 20 if FULL else 2
ALARMS = 3
"""Between two kills."""
COMMUNES = sorted(texts.phrases("commune"))[:6]
WRONG_NUMBER = f"+3247000{COMMUNES[0]}"
SCALE = 20.0
"""Retries of 5, 10, 20 s and the next step take as many times less."""
STEP_S = 40
CENTRAL = """
data_dir = "{tmp}/central"
[mqtt]
host = "127.0.0.1"
port = {broker}
[web]
port = {web}
[escalation]
step_s = {step_s}
rounds = 1
"""
STATION = """
[[station]]
id = "station-{i}"
gateway = "gw-{i}"
commune = "{commune}"
name = "Station {i}"
"""
SMTP = """
[smtp]
host = "127.0.0.1"
port = {port}
starttls = false
from = "alertes@example.be"
"""
HTTP = """
[[sms]]
kind = "http"
url = "{url}"
headers = {{ Content-Type = "application/json" }}
body = '{{"to":"{{number}}","text":"{{text}}","id":"{{id}}"}}'
success = '"ok":1'
timeout_s = 5
"""
MODEM = """
[[sms]]
kind = "modem"
port = "{tmp}/ttyGSM"
"""


def planner(commune: str) -> dict[str, Any]:
    return person(f"planu-{commune}", commune, f"+3247000{commune}", 1)


def mayor(commune: str) -> dict[str, Any]:
    return person(f"bourgmestre-{commune}", commune, f"+3247100{commune}", 2)


def person(id_: str, commune: str, phone: str, order: int) -> dict[str, Any]:
    where = {"communes": [commune], "phone": phone, "email": f"{id_}@example.be"}
    return {"id": id_, "name": id_, "order": order, "exercise": True} | where


class Unruly:
    """What an HTTP gateway answers: up to two failures for each message, of all kinds, and one number that it always refuses."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._left: dict[str, int] = {}
        self.said: Counter[str] = Counter()

    def __call__(self, body: dict[str, str]) -> tuple[int, str] | None:
        if body["to"] == WRONG_NUMBER:
            self.said["200 with an error"] += 1
            return 200, '{"ok":0,"error":"invalid number"}'
        left = self._left.setdefault(body["id"], self._random.randrange(3))
        if not left:
            return 200, '{"ok":1}'
        self._left[body["id"]] -= 1
        name, answer = self._random.choice(
            [
                ("500", (500, "oops")),
                ("503", (503, "busy")),
                ("429", (429, "slow down")),
                ("cut", None),
                ("taken, then cut", TAKEN),
            ]
        )
        self.said[name] += 1
        return answer


class Central:
    """A real one in an exercise, and gateways that send each event again until its receipt."""

    def __init__(self, tmp: Path, more: str, seed: int) -> None:
        self._tmp = tmp
        self._random = random.Random(seed)
        self.events: list[AlarmEvent] = []
        self._ends = contextlib.ExitStack()
        broker = self._ends.enter_context(servers.mosquitto(tmp))
        exercise = f"{SCALE},{time.clock_gettime(time.CLOCK_BOOTTIME)},{time.time()}"
        self._clock = Clock.of_exercise(exercise)
        config = tmp / "central.toml"
        head = CENTRAL.format(tmp=tmp, broker=broker.port, web=servers.free_port(), step_s=STEP_S)
        stations = (STATION.format(i=i, commune=commune) for i, commune in enumerate(COMMUNES))
        config.write_text(head + more + "".join(stations))
        tell(tmp / "central", *map(planner, COMMUNES), *map(mayor, COMMUNES))
        self.program = Program("maillages-central", config, tmp / "central.log")
        self.program.command += ["--exercise-clock", exercise]
        self.fleet = Fleet(broker.port, len(COMMUNES), retry_s=1.0)
        self._ends.callback(self.fleet.close)

    def close(self) -> None:
        self._ends.close()

    def start(self) -> None:
        before = self.program.said("central-alarms: connected")
        self.program.start()
        servers.wait_until(
            lambda: self.program.said("central-alarms: connected") > before, 60, "central is at the broker"
        )

    def live_and_die(self, heard: Callable[[], int], most: int) -> None:
        """Alarms arrive, and it is killed when whom it tells has heard so many times more of it: none to `most`."""
        self.start()
        goal = heard() + self._random.randrange(most + 1)
        for _ in range(ALARMS):
            self._alarm()
        servers.wait_until(lambda: heard() >= goal, 60, "it tells people")
        time.sleep(self._random.uniform(0.0, 0.03))  # the moment of the kill, not a wait for anything
        self.program.kill9()

    def _alarm(self) -> None:
        now = self._clock.wall()
        gateway = self._random.randrange(len(COMMUNES))
        seq = sum(e.gateway == f"gw-{gateway}" for e in self.events) + 1
        event = AlarmEvent(
            id=uuid7(now), occurrence=uuid7(now), seq=seq, source="gateway", gateway=f"gw-{gateway}",
            station=f"station-{gateway}", sensor="level-1", quantity="water_level", rule="high", kind="high",
            transition="raise", state="UNACK", level=3, value=2.5, unit="m", threshold=2.3, time=rfc3339(now),
            clock="synchronised", status="Exercise",
        )  # fmt: skip
        self.events.append(event)
        self.fleet.alarm(event)

    def due(self) -> set[tuple[str, str]]:
        """Whom each alarm is to be told, by its short reference: the planner at once, the mayor at the next step."""
        return {
            (who, texts.reference(event.occurrence))
            for event in self.events
            for who in (f"planu-{COMMUNES[int(event.gateway[3:])]}", f"bourgmestre-{COMMUNES[int(event.gateway[3:])]}")
        }

    def outbox(self, channel: str) -> dict[tuple[str, str], str]:
        """The state of each message of an alarm, by recipient and reference."""
        query = "SELECT recipient, occurrence, state FROM message WHERE purpose = 'alarm' AND channel = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self._tmp}/central/central.db?mode=ro", uri=True)) as db:
            return {(who, texts.reference(o)): state for who, o, state in db.execute(query, (channel,))}

    def said(self, outcome: str) -> set[str]:
        """The references of the alarms of which gateways heard so about the telling."""
        query = "SELECT e.occurrence FROM notifying n JOIN alarm_event e ON e.id = n.event WHERE n.outcome = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self._tmp}/central/central.db?mode=ro", uri=True)) as db:
            return {texts.reference(o) for (o,) in db.execute(query, (outcome,))}

    def at_rest(self) -> bool:
        """Everything due is in the outbox, and nothing of it is under way."""
        return all(
            self.due() <= box.keys() and not {"waiting", "trying"} & set(box.values())
            for box in (self.outbox("email"), self.outbox("sms"))
            if box
        ) and bool(self.outbox("sms"))


@contextlib.contextmanager
def central(tmp: Path, more: str) -> Iterator[Central]:
    found = Central(tmp, more, seed=20210715)
    try:
        yield found
        assert found.program.terminate() == 0
    finally:
        if found.program.running:
            found.program.kill9()
        found.close()


def reference(text: str) -> str:
    match = re.search(r"(?:Réf|OK) ([0-9A-F]{5})\b", text)
    assert match, text
    return match[1]


def mailed(mail: Message) -> str:
    body = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    match = re.search(r"\b([0-9A-F]{5})\b", str(mail["Subject"])) or re.search(r"Réf\w*\.? ?:? ([0-9A-F]{5})", body)
    assert match, f"{mail['Subject']}\n{body}"
    return match[1]


@pytest.mark.timeout(60 * KILLS + 120)
def test_each_is_told_exactly_once_by_mail_and_by_a_gateway_that_knows_repeats(
    tmp_path: Path, account: Account
) -> None:
    account.of(
        "central killed (-9) while alarms arrive; mail, and an HTTP gateway for SMS that fails", f"{KILLS} kills"
    )
    unruly = Unruly(20210716)
    with SmtpServer() as smtp, SmsServer(unruly) as http:
        with central(tmp_path, SMTP.format(port=smtp.port) + HTTP.format(url=http.url)) as it:
            for _ in range(KILLS):
                it.live_and_die(lambda: len(http.requests) + len(smtp.seen), 2 * ALARMS)
            it.start()
            with account.recovery():
                servers.wait_until(lambda: it.fleet.receipted() and it.at_rest(), 120, "everyone is told")
            due = it.due()
            refused = {(who, ref) for who, ref in due if who == f"planu-{COMMUNES[0]}"}
            assert {pair for pair, state in it.outbox("sms").items() if state == "failed"} == refused
        phones = {p["phone"]: p["id"] for p in (*map(planner, COMMUNES), *map(mayor, COMMUNES))}
        texted = Counter((phones[body["to"]], reference(body["text"])) for body in http.accepted.values())
        mails = {str(mail["Message-ID"]): (to.partition("@")[0], mailed(mail)) for to, mail in smtp.mails}
        told = Counter(mails.values())
    account.alarms, account.missed = len(it.events), len(due - told.keys())
    doubled = sum(n > 1 for n in (texted + Counter()).values()) + sum(n > 1 for n in told.values())
    account.count(injected=len(it.events), lost=None, doubled=doubled, invented=len(told.keys() - due))
    assert told == Counter(due)
    assert texted == Counter(due - refused)
    print(f"{unruly.said}; {len(smtp.mails)} copies of {len(mails)} mails; {len(http.requests)} requests")


@pytest.mark.skipif(not FULL, reason="scripts/faults --full")
@pytest.mark.timeout(60 * KILLS + 120)
def test_a_modem_sends_nothing_twice_and_what_was_cut_off_is_told_to_others(tmp_path: Path, account: Account) -> None:
    account.of("central killed (-9) while alarms arrive; SMS by its own modem", f"{KILLS} kills")
    phone = GsmModem(tmp_path / "ttyGSM")
    phone.start()
    with contextlib.ExitStack() as ends:
        ends.callback(phone.stop)
        with central(tmp_path, MODEM.format(tmp=tmp_path)) as it:
            for _ in range(KILLS):
                it.live_and_die(lambda: len(phone.commands), 8 * ALARMS)
            it.start()
            with account.recovery():
                servers.wait_until(lambda: it.fleet.receipted() and it.at_rest(), 120, "everyone is told")
            due, outbox, nobody = it.due(), it.outbox("sms"), it.said("false")
        phones = {p["phone"]: p["id"] for p in (*map(planner, COMMUNES), *map(mayor, COMMUNES))}
        told = Counter((phones[m.number], reference(m.text)) for m in phone.messages)
    cut_off = {pair for pair, state in outbox.items() if state == "unknown"}
    heard = {ref for _, ref in told}
    account.alarms = len(it.events)
    unheard = {texts.reference(e.occurrence) for e in it.events} - heard
    account.missed = len(unheard - nobody)
    account.count(
        injected=len(it.events),
        lost=None,
        doubled=sum(n > 1 for n in told.values()),
        invented=len(told.keys() - due),
    )
    assert max(told.values()) == 1
    assert due - told.keys() <= cut_off, "only what was cut off may not have been sent"
    assert unheard <= nobody, "its gateway hears that nobody was told, and sends its own SMS"
    print(
        f"{len(told)} SMS for {len(due)} due; {len(cut_off)} cut off, of which {len(cut_off & told.keys())} were sent"
    )
