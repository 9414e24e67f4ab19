"""The monthly link test: everyone is asked on each channel, answers count as in an alarm, who did not answer is named."""

from datetime import datetime

import pytest

from central.config import LinkTest as Settings
from central.notify.channels import channels
from central.notify.linktest import LinkTest
from central.notify.recipients import Recipients
from common.clock import BRUSSELS
from tests.central.test_notify import MAYOR, PLANU, RECIPIENTS, T0, Central, config, link, settled, until
from tests.fakes.providers import SmsServer, SmtpServer

TECH = "technique@test.test"
PEOPLE = [
    *RECIPIENTS[:2],
    {"id": "tech", "name": "Technicien", "communes": "all", "email": TECH, "order": 3, "kinds": ["power"]},
]


@pytest.fixture
def scene(tmp_path):
    with SmtpServer() as smtp, SmsServer(lambda b: (400, "no") if b["to"].endswith("2") else (200, '{"ok":1}')) as sms:
        cfg = config(tmp_path, smtp, [sms], recipients=PEOPLE)
        central = Central(tmp_path / "central.db", cfg)
        test = LinkTest(
            Settings(report_to=("tech",)), central.db, central.alarms, Recipients(tmp_path), channels(cfg, central.hands.clock).email,
            central.hands.clock, changed=central.notifier.wake,
        )  # fmt: skip
        test.worker.start()
        yield central, test, smtp, sms
        test.worker.stop()
        central.close()


def report(smtp):
    return [m for m in smtp.to(TECH) if "Essai mensuel" in m["Subject"]]


def test_everyone_is_asked_and_who_does_not_answer_is_named(scene):
    central, test, smtp, sms = scene
    test.begin()
    until(lambda: len(smtp.mails) == 3 and len(sms.requests) == 2)
    settled(central)
    (text,) = sms.to("+32470000001")
    assert text.startswith(
        "TEST - HUY-WAREMME essai mensuel des messages. Aucune alarme, rien à faire que répondre: 14/07 05h33."
    )
    mail = smtp.to(PLANU)[0]
    assert mail["Subject"].startswith("TEST - [HUY-WAREMME] essai mensuel des messages")
    body = mail.get_body(("plain",)).get_content()
    assert "CECI EST UN TEST" in body
    assert "Ce que nous ne savons pas" not in body
    assert central.notifier.acknowledge_by_token(link(mail)).by == "Planu Huy"
    assert central.notifier.acknowledge_by_token(link(smtp.to(TECH)[0])).by == "Technicien"

    test.begin()  # one is open
    central.move(3600)
    settled(central)
    assert len(smtp.mails) == 3, "nobody is told again"
    smtp.answer = "451 later"
    central.move(83000)
    test.worker.wake()
    until(lambda: len(smtp.seen) == 4)
    assert len(central.alarms.open_occurrences()) == 3, "a report that did not go out is kept"
    smtp.release()
    until(lambda: report(smtp) or central.move(61) or test.worker.wake())
    until(lambda: central.alarms.open_occurrences() == [])
    (told,) = report(smtp)
    assert told["Subject"] == "TEST - [HUY-WAREMME] Essai mensuel : 1 sans réponse sur 3"
    lines = [line for line in told.get_body(("plain",)).get_content().splitlines() if line.startswith("-")]
    assert lines == [
        "- SANS RÉPONSE : Bourgmestre (e-mail envoyé; SMS échec)",
        "- a répondu : Planu Huy (e-mail envoyé; SMS envoyé)",
        "- a répondu : Technicien (e-mail envoyé)",
    ]
    settled(central)
    assert len(smtp.to(MAYOR)) == 1, "its end is told to nobody"


@pytest.mark.parametrize(("day", "begins"), [("2026-12-07T10:00", True), ("2026-12-14T10:00", False)])
def test_only_the_first_such_day_of_a_month_begins_one(scene, day, begins):
    central, test, _, _ = scene
    central.hands.now = datetime.fromisoformat(day).replace(tzinfo=BRUSSELS).timestamp() - T0
    test.begin_if_first()
    assert bool(central.alarms.open_occurrences()) is begins
