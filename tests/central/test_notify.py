"""Telling people: real SMTP and HTTP servers that misbehave, real kills, and a clock that the test moves."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from functools import partial

import pytest
from sqlalchemy import select, text

from central.alarms.log import AlarmLog
from central.alarms.own import Own
from central.alarms.wishes import Wishes
from central.config import CentralConfig, example, load, refuse_real_channels
from central.db import Database
from central.errors import ConfigError
from central.notify.channels import AppriseSms, Channels, HttpSms, Outcome, channels
from central.notify.notifier import Notifier
from central.tables import ack_token, notify_cursor
from common.clock import Clock, rfc3339
from tests import servers
from tests.fakes.providers import SmsServer, SmtpServer
from tests.people import tell
from wire.alarm import AlarmEvent
from wire.ids import uuid7
from wire.station import Active

T0 = 1_784_000_000.0
DEADLINE_S = 15.0
PLANU, MAYOR, ZONE = "planu@huy.test", "bourgmestre@huy.test", "zone@test.test"


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now, synchronised=lambda: True)


class Central:
    """The alarm log and a notifier on a file, with what they called back; `restart()` is a new process on the same file."""

    def __init__(self, path, config, hands=None, ways=None):
        self.path, self.config, self.hands, self.ways = path, config, hands or Hands(), ways
        self.said, self.acks = [], []
        self.changed = threading.Condition()
        self._begin()

    def _begin(self):
        self.db = Database(self.path)
        self.db.open()
        self.alarms = AlarmLog(self.db)
        clock = self.hands.clock
        self.wishes = Wishes(self.db, self.alarms, clock)
        self.own = Own(self.alarms, self.wishes, clock, lambda: self.notifier.wake())
        self.notifier = Notifier(
            self.config,
            self.db,
            self.alarms,
            clock,
            self.ways or channels(self.config, clock),
            on_notifying=lambda *args: self._note(self.said, args),
            on_acknowledged=lambda: self._note(self.acks, self.alarms.unconfirmed_acks()),
            own=self.own,
        )
        self.notifier.start()

    def _note(self, where, what):
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def close(self):
        self.notifier.stop()
        self.db.close()

    def restart(self):
        self.close()
        self._begin()

    def arrive(self, *events):
        for e in events:
            self.alarms.record(e, self.hands.clock.wall())
        self.notifier.wake()

    def move(self, seconds):
        self.hands.now += seconds
        self.notifier.wake()

    def saw(self, event_id):
        return [outcome for e, outcome in self.said if e == event_id]

    def states(self):
        rows = self.db.rows(
            text("SELECT recipient, channel, step, state FROM message ORDER BY step, recipient, channel")
        )
        return [tuple(r) for r in rows]


def until(true, what="", changed=None):
    """Wait for a condition with a deadline; a condition variable is waited on, a database is asked again."""
    end = time.monotonic() + DEADLINE_S
    changed = changed or threading.Condition()
    with changed:
        while not true():
            assert time.monotonic() < end, what or "in time"
            changed.wait(0.02)


def settled(central):
    """Nothing is being tried, nothing untried waits, every event is planned and answered."""
    busy = (
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM message WHERE state = 'trying' OR (state = 'waiting' AND attempts = 0))"
        " OR EXISTS (SELECT 1 FROM alarm_event WHERE position > (SELECT position FROM notify_cursor))"
        " OR EXISTS (SELECT 1 FROM escalation WHERE next_s <= :now)"
    )
    until(
        lambda: not central.db.rows(text(busy).bindparams(now=central.hands.clock.wall())), "the outbox to come to rest"
    )


RECIPIENTS = [
    {
        "id": "planu",
        "name": "Planu Huy",
        "role": "planu",
        "communes": ["61031"],
        "email": PLANU,
        "phone": "+32470000001",
    },
    {"id": "maire", "name": "Bourgmestre", "communes": ["61031"], "email": MAYOR, "phone": "+32470000002", "order": 2},
    {"id": "zone", "name": "Zone", "communes": "all", "email": ZONE, "order": 3, "min_level": 3},
    {"id": "ailleurs", "name": "Amay", "communes": ["61003"], "email": "planu@amay.test"},
]


def config(tmp_path, smtp=None, sms=None, recipients=RECIPIENTS, rounds=1, **http):
    data = {
        "data_dir": str(tmp_path),
        "mqtt": {"host": "127.0.0.1"},
        "web": {"public_url": "https://crues.test"},
        "station": [{"id": "hoyoux-huy", "gateway": "gw-huy-01", "commune": "61031", "name": "Huy", "river": "Hoyoux"}],
        "escalation": {"step_s": 300, "rounds": rounds},
    }
    if smtp:
        data["smtp"] = {"host": "127.0.0.1", "port": smtp.port, "starttls": False, "from": "a@c.test", "timeout_s": 2}
    data["sms"] = [
        {
            "kind": "http",
            "url": server.url,
            "headers": {"Content-Type": "application/json"},
            "body": '{"to":"{number}","text":"{text}","id":"{id}"}',
            "success": '"ok"',
            "timeout_s": 1,
        }
        | http
        for server in sms or ()
    ]
    reachable = [r for r in recipients if (smtp and r.get("email")) or (sms and r.get("phone")) or r.get("webhook")]
    tell(tmp_path, *reachable)
    return CentralConfig.model_validate(data)


OCC = uuid7(T0)


def event(seq, transition="raise", state="UNACK", level=2, occurrence=OCC, at=T0, **changes):
    return AlarmEvent.model_validate(
        {
            "id": uuid7(T0 + seq), "occurrence": occurrence, "seq": seq, "source": "gateway", "gateway": "gw-huy-01",
            "station": "hoyoux-huy", "sensor": "level-1", "quantity": "water_level", "rule": "hoyoux-high", "kind": "high",
            "transition": transition, "state": state, "level": level, "value": 1.84, "unit": "m", "threshold": 1.8,
            "time": rfc3339(at), "clock": "synchronised",
        }
        | changes
    )  # fmt: skip


@pytest.fixture
def smtp():
    with SmtpServer() as server:
        yield server


@pytest.fixture
def sms():
    with SmsServer() as server:
        yield server


@pytest.fixture
def start(state_at):
    opened = []

    def open_central(cfg, hands=None, ways=None):
        opened.append(Central(state_at, cfg, hands, ways))
        return opened[-1]

    yield open_central
    for central in opened:
        central.close()


def link(mail):
    return re.search(r"https://crues\.test/ack/(\S+)", mail.get_body(("plain",)).get_content())[1]


# ---------------------------------------------------------------------- steps, rounds, acknowledgement


def test_a_raise_tells_the_first_step_of_the_commune_at_once(tmp_path, start, smtp, sms):
    central = start(config(tmp_path, smtp, [sms]))
    raised = event(1)
    central.arrive(raised)
    until(lambda: smtp.to(PLANU) and sms.to("+32470000001") and central.saw(raised.id), changed=central.changed)
    settled(central)
    assert central.saw(raised.id) == ["true"]
    assert [to for to, _ in smtp.mails] == [PLANU]
    assert sms.to("+32470000001") == [("HUY-WAREMME seuil local 2 atteint. Hoyoux, Huy: 1,84 m 14/07 05h33. Seuil 1,80 m. "
                                      f"Danger: 112. Répondez par le lien du mail. Réf {OCC[-5:].upper()}")]  # fmt: skip
    mail = smtp.to(PLANU)[0]
    assert mail["Subject"].startswith("[HUY-WAREMME] seuil local 2 atteint - Hoyoux, Huy")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_body(("html",)) is not None


def test_the_next_step_follows_until_steps_and_rounds_are_done(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp, rounds=2))
    central.arrive(event(1, level=3))
    told = [PLANU]
    settled(central)
    for expected in (MAYOR, ZONE, PLANU, MAYOR, ZONE):
        assert [to for to, _ in smtp.mails] == told
        central.move(299)
        settled(central)
        assert [to for to, _ in smtp.mails] == told
        central.move(1)
        settled(central)
        told.append(expected)
    assert [to for to, _ in smtp.mails] == told
    central.move(10_000)
    settled(central)
    assert [to for to, _ in smtp.mails] == told
    assert "Aussi prévenus : Planu Huy." in smtp.to(MAYOR)[0].get_body(("plain",)).get_content()


def test_a_lower_level_leaves_out_who_wants_only_higher_ones(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=2))
    for _ in range(4):
        settled(central)
        central.move(300)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU, MAYOR]


def test_the_link_of_a_mail_stops_everything_and_asks_the_gateway(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    settled(central)
    token = link(smtp.to(PLANU)[0])
    assert central.notifier.token_occurrence(token).occurrence == OCC
    assert central.acks == []
    assert central.notifier.acknowledge_by_token("x" * 22) is None
    result = central.notifier.acknowledge_by_token(token)
    assert (result.by, result.before) == ("Planu Huy", None)
    assert [(o.gateway, o.occurrence, o.acked_by, o.acked_s) for o in central.acks[-1]] == [
        ("gw-huy-01", OCC, "Planu Huy", T0)
    ]
    assert central.notifier.acknowledge_by_token(token, "Quelqu'un").before == "Planu Huy"
    central.restart()
    central.move(3000)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]
    assert token not in repr([tuple(r) for r in central.db.rows(select(ack_token))])


def test_an_acknowledgement_at_the_gateway_stops_it_too(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    settled(central)
    ack = event(2, "ack", "ACK", 3, by="technicien")
    central.arrive(ack)
    until(lambda: central.saw(ack.id) == ["none"], changed=central.changed)
    central.move(3000)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]


def test_a_button_is_nobody_so_telling_goes_on_until_a_named_person_answers(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    settled(central)
    pressed = event(2, "ack", "ACK", 3, by="bouton gw-huy-01")
    central.arrive(pressed)
    until(lambda: central.saw(pressed.id) == ["none"], changed=central.changed)
    central.move(300)
    until(lambda: smtp.to(MAYOR), changed=smtp.changed)
    settled(central)
    done = central.notifier.acknowledge_by_token(link(smtp.to(MAYOR)[0]))
    assert (done.by, done.before) == ("Bourgmestre", None)
    assert central.notifier.acknowledge(OCC, "Zone").before == "Bourgmestre"
    central.move(3000)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU, MAYOR]


def alarms(count, level):
    return [
        event(i, occurrence=uuid7(T0 + i), id=uuid7(T0 + i + 0.5), rule=f"rule-{i}", level=level(i))
        for i in range(1, count + 1)
    ]


def test_a_flood_of_alarms_comes_in_one_message_and_the_worst_by_itself(tmp_path, start, smtp, sms):
    central = start(config(tmp_path, smtp, [sms], recipients=RECIPIENTS[:1], timeout_s=20))
    first, *many = alarms(30, lambda i: 3 if i == 29 else 1 + i % 2)
    sms.gate.clear()
    smtp.answer = "hang"
    central.arrive(first)
    until(lambda: sms.requests and smtp.seen)
    central.arrive(*many)
    until(lambda: len(central.states()) == 60)
    sms.gate.set()
    smtp.release()
    until(lambda: all(s[3] == "accepted" for s in central.states()) or central.move(1))
    said = sms.to("+32470000001")
    assert [("autres" in t, "seuil local 3 atteint" in t) for t in said] == [
        (False, False),
        (False, True),
        (True, False),
    ]
    assert said[2].startswith("HUY-WAREMME 28 autres alarmes, seuil 2 au plus: Hoyoux, Huy.")
    # The first one's server hangs: when that outlasts its patience, it is tried again and comes with the others.
    (flood,) = [
        m
        for m in smtp.to(PLANU)
        if re.fullmatch(r"\[HUY-WAREMME\] (28|29) alarmes, seuil local 2 au plus", m["Subject"])
    ]
    links = re.findall(r"https://crues\.test/ack/(\S+)", flood.get_body(("plain",)).get_content())
    answered = {central.notifier.acknowledge_by_token(t).occurrence for t in links}
    assert answered - {first.occurrence} == {e.occurrence for e in many} - {many[-2].occurrence}


def test_ten_in_ten_minutes_and_the_rest_when_there_is_room_but_the_highest_level_at_once(tmp_path, start, sms):
    central = start(config(tmp_path, sms=[sms], recipients=RECIPIENTS[:1]))
    many = alarms(14, lambda i: 3 if i == 13 else 1)

    def planned(seq):
        return central.db.row(select(notify_cursor.c.position)).position >= seq

    def taken(count):
        return len(sms.accepted) == count

    for one in many:
        central.arrive(one)
        until(partial(planned, one.seq))
        if one.seq <= 10 or one.level == 3:
            until(partial(taken, min(one.seq, 11)))
    assert "seuil local 3 atteint" in sms.to("+32470000001")[-1]
    assert len(sms.accepted) == 11
    until(lambda: [s[3] for s in central.states()].count("waiting") == 3, "the last is planned")
    central.move(599)
    assert [s[3] for s in central.states()].count("waiting") == 3
    central.move(2)
    for courier in central.notifier._couriers.values():
        courier.wake()
    until(lambda: len(sms.accepted) == 14)


QUIET = [RECIPIENTS[0] | {"email": None, "quiet": "00:00-12:00"}]  # T0 is 05:33 in Belgium


def test_level_1_waits_for_the_end_of_quiet_hours_and_the_gateway_wakes_nobody_either(tmp_path, start, sms):
    central = start(config(tmp_path, sms=[sms], recipients=QUIET))
    raised = event(1, level=1)
    central.arrive(raised)
    until(lambda: central.saw(raised.id) == ["none"], changed=central.changed)
    central.restart()
    central.move(6 * 3600)
    assert sms.requests == []
    central.move(1800)
    for courier in central.notifier._couriers.values():
        courier.wake()
    until(lambda: len(sms.accepted) == 1)


@pytest.mark.parametrize("level", [2, 3])
def test_quiet_hours_are_never_for_level_2_and_above(tmp_path, start, sms, level):
    central = start(config(tmp_path, sms=[sms], recipients=QUIET))
    central.arrive(event(1, level=1))
    central.arrive(event(2, "escalate", level=level))
    until(lambda: len(sms.accepted) == 1, changed=sms.changed)
    assert f"seuil local {level} atteint" in sms.to("+32470000001")[0]


def ordered(*channels, **more):
    return [RECIPIENTS[0] | {"channels": list(channels)} | more]


def test_who_has_an_order_of_channels_is_told_on_the_next_when_one_fails(tmp_path, start, smtp):
    with SmsServer(lambda _: (400, "no")) as broken:
        central = start(config(tmp_path, smtp, [broken], recipients=ordered("sms", "email")))
        raised = event(1)
        central.arrive(raised)
        until(lambda: smtp.to(PLANU), changed=smtp.changed)
        settled(central)
        assert central.states() == [("planu", "email", 1, "accepted"), ("planu", "sms", 1, "failed")]
        until(lambda: central.saw(raised.id)[-1:] == ["true"], changed=central.changed)


def test_the_first_channel_alone_is_used_while_it_works(tmp_path, start, smtp, sms):
    central = start(config(tmp_path, smtp, [sms], recipients=ordered("email", "sms")))
    central.arrive(event(1))
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    settled(central)
    assert central.states() == [("planu", "email", 1, "accepted")]
    assert sms.requests == []


def test_a_channel_that_may_work_later_is_tried_no_more_once_another_has_taken_it(tmp_path, start, smtp):
    with SmsServer(lambda _: (503, "later")) as busy:
        central = start(config(tmp_path, smtp, [busy], recipients=ordered("sms", "email")))
        central.arrive(event(1))
        until(lambda: smtp.to(PLANU), changed=smtp.changed)
        settled(central)
        until(lambda: ("planu", "sms", 1, "dropped") in central.states())
        central.move(3000)
        settled(central)
        assert len(busy.requests) == 1
        assert len(smtp.mails) == 1


def test_a_webhook_gets_the_event_and_its_own_link(tmp_path, start):
    with SmsServer() as hook:
        central = start(config(tmp_path, sms=[hook], recipients=[
            {"id": "pc", "name": "Poste de commandement", "communes": "all", "webhook": hook.url, "phone": None}
        ]))  # fmt: skip
        raised = event(1)
        central.arrive(raised)
        until(lambda: central.saw(raised.id) == ["true"], changed=central.changed)
        (body,) = hook.requests
        assert body["text"].startswith("HUY-WAREMME seuil local 2 atteint. Hoyoux, Huy: 1,84 m")
        assert body["event"]["occurrence"] == OCC
        token = body["acknowledge"].removeprefix("https://crues.test/ack/")
        assert central.notifier.acknowledge_by_token(token).by == "Poste de commandement"


def test_an_acknowledgement_before_the_event_is_planned_still_counts(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.alarms.record(event(1, level=3), T0)
    central.notifier.acknowledge(OCC, "crise")
    central.notifier.wake()
    until(lambda: central.saw(event(1).id) or central.said, changed=central.changed)
    settled(central)
    assert smtp.mails == []


def test_an_escalation_begins_again_and_a_deescalation_tells_nobody(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=1))
    settled(central)
    central.notifier.acknowledge(OCC, "planu")
    up, down = event(2, "escalate", "UNACK", 3), event(3, "deescalate", "UNACK", 2)
    central.arrive(up)
    settled(central)
    central.arrive(down)
    until(lambda: central.saw(up.id) == ["true"] and central.saw(down.id) == ["none"], changed=central.changed)
    settled(central)
    assert [m["Subject"].split(" - ")[0] for m in smtp.to(PLANU)] == [
        "[HUY-WAREMME] seuil local 1 atteint",
        "[HUY-WAREMME] AGGRAVATION, seuil local 3 atteint",
    ]
    central.move(300)
    settled(central)
    assert len(smtp.to(MAYOR)) == 1


def test_a_return_is_told_by_mail_to_those_who_were_told(tmp_path, start, smtp, sms):
    central = start(config(tmp_path, smtp, [sms]))
    central.arrive(event(1))
    settled(central)
    clear = event(2, "clear", "RTN_UNACK", 0, value=1.2)
    central.arrive(clear)
    until(lambda: len(smtp.to(PLANU)) == 2, changed=smtp.changed)
    settled(central)
    assert "retour sous le seuil local" in smtp.to(PLANU)[1]["Subject"]
    assert "/ack/" not in smtp.to(PLANU)[1].get_body(("plain",)).get_content()
    assert smtp.to(MAYOR) == []
    assert len(sms.requests) == 1
    assert central.saw(clear.id) == ["none"]
    central.move(300)  # unacknowledged still: the next step hears of both
    settled(central)
    assert "Repassé sous le seuil" in smtp.to(MAYOR)[0].get_body(("plain",)).get_content()


def test_a_repeated_event_and_one_out_of_order_tell_nobody_twice(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    first, second = event(1, level=1), event(2, "escalate", "UNACK", 2)
    central.arrive(second)
    settled(central)
    central.arrive(first, second, first)
    until(lambda: central.saw(first.id), changed=central.changed)
    settled(central)
    assert len(smtp.mails) == 1
    assert (central.saw(first.id), central.saw(second.id)) == (["none"], ["true"])


# ---------------------------------------------------------------------- late, reconciled, reached


def test_a_late_event_waits_for_its_story_and_is_told_with_its_own_time(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, at=T0 - 7200))
    settled(central)
    central.move(29)
    settled(central)
    assert smtp.mails == []
    central.move(1)
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    assert "Depuis : 14/07 03h33" in smtp.to(PLANU)[0].get_body(("plain",)).get_content()


def test_what_is_over_before_anyone_was_told_goes_into_a_digest(tmp_path, start, smtp, sms):
    central = start(config(tmp_path, smtp, [sms]))
    raised = event(1, at=T0 - 7200)
    story = [event(2, "clear", "RTN_UNACK", 0, at=T0 - 3600), event(3, "ack", "NORMAL", 0, at=T0 - 3500)]
    central.arrive(raised, *story)
    until(lambda: central.saw(raised.id) == ["none"], changed=central.changed)
    central.restart()
    central.move(899)
    settled(central)
    assert smtp.mails == []
    central.move(1)
    until(lambda: len(smtp.mails) == 2, changed=smtp.changed)
    assert {to for to, _ in smtp.mails} == {PLANU, MAYOR}
    assert "14/07 03h33 : seuil local 2 atteint" in smtp.to(PLANU)[0].get_body(("plain",)).get_content()
    assert sms.requests == []


def test_a_late_one_that_is_active_but_acknowledged_is_told_once(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, at=T0 - 7200), event(2, "ack", "ACK", 2, at=T0 - 7000, by="technicien"))
    settled(central)
    central.move(30)
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    central.move(3000)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]


def test_whom_the_gateway_reached_gets_no_second_sms(tmp_path, start, smtp, sms):
    central = start(config(tmp_path, smtp, [sms]))
    reached = [{"channel": "sms", "to": "planu", "at": rfc3339(T0 - 60), "result": "sent"}]
    central.arrive(event(1, at=T0 - 120))
    settled(central)
    assert smtp.mails == []
    central.arrive(event(2, "notify", "UNACK", 2, notified=reached))  # ends the wait
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    settled(central)
    assert sms.requests == []
    central.move(300)
    until(lambda: sms.to("+32470000002"), changed=sms.changed)
    settled(central)
    assert [body["to"] for body in sms.requests] == ["+32470000002"]


def test_whom_the_gateways_network_failed_in_the_end_is_told_by_central(tmp_path, start, sms):
    only = [{"id": "planu", "name": "Planu", "communes": ["61031"], "phone": "+32470000001"}]
    central = start(config(tmp_path, sms=[sms], recipients=only))
    note = {"channel": "sms", "to": "planu", "at": rfc3339(T0)}
    central.arrive(
        event(1, at=T0 - 120),
        event(2, "notify", "UNACK", 2, notified=[note | {"result": "sent"}]),
        event(3, "notify", "UNACK", 2, notified=[note | {"result": "failed"}]),
    )
    until(lambda: sms.to("+32470000001"), changed=sms.changed)


def test_all_reached_by_the_gateway_is_nothing_to_tell(tmp_path, start, sms):
    only = [{"id": "planu", "name": "Planu", "communes": ["61031"], "phone": "+32470000001"}]
    central = start(config(tmp_path, sms=[sms], recipients=only))
    reached = [{"channel": "sms", "to": "planu", "at": rfc3339(T0), "result": "sent"}]
    raised = event(1, at=T0 - 120)
    central.arrive(raised, event(2, "notify", "UNACK", 2, notified=reached))
    until(lambda: central.saw(raised.id) == ["none"], changed=central.changed)
    assert sms.requests == []


def test_reconciliation_stops_and_resumes_telling(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    settled(central)
    central.alarms.reconcile("gw-huy-01", Active(active=()), T0)
    central.move(600)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]
    central.alarms.reconcile("gw-huy-01", Active(active=(event(1, level=3),)), T0)
    central.notifier.wake()
    until(lambda: smtp.to(MAYOR), changed=smtp.changed)


def test_a_withheld_one_is_told_when_it_is_back(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    shelved = event(1, withheld="shelved")
    central.arrive(shelved, event(2, "escalate", "UNACK", 3, withheld="shelved"))
    until(lambda: central.saw(shelved.id) == ["none"], changed=central.changed)
    central.move(600)
    settled(central)
    assert smtp.mails == []
    central.arrive(event(3, "unshelve", "UNACK", 3, at=T0 + 600))
    until(lambda: smtp.to(PLANU), changed=smtp.changed)


def test_a_shelf_stops_the_telling_and_its_end_begins_it_anew(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    central.arrive(event(2, "shelve", "UNACK", 3, by="planu", withheld="shelved"))
    settled(central)
    central.move(3600)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]
    central.arrive(event(3, "unshelve", "UNACK", 3, at=T0 + 3600))
    until(lambda: len(smtp.to(PLANU)) == 2, changed=smtp.changed)
    central.move(300)
    until(lambda: smtp.to(MAYOR), changed=smtp.changed)


def test_nobody_is_told_of_the_end_of_a_shelved_alarm(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    central.arrive(
        event(2, "shelve", "UNACK", 3, by="planu", withheld="shelved"),
        event(3, "ack", "ACK", 3, by="planu", withheld="shelved"),
        event(4, "clear", "NORMAL", 0, withheld="shelved"),
    )
    settled(central)
    central.move(3600)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]


def test_an_acknowledged_alarm_whose_shelf_ends_is_told_anew(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    first = event(1, level=3)
    central.arrive(first)
    until(lambda: smtp.to(PLANU), changed=smtp.changed)
    central.notifier.acknowledge(first.occurrence, "planu")
    central.arrive(event(2, "ack", "ACK", 3, by="planu"), event(3, "shelve", "ACK", 3, by="planu", withheld="shelved"))
    settled(central)
    assert len(smtp.mails) == 1
    central.arrive(event(4, "unshelve", "UNACK", 3, at=T0))
    until(lambda: len(smtp.to(PLANU)) == 2, changed=smtp.changed)


def test_an_occurrence_known_only_from_the_active_list_is_told(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.alarms.reconcile("gw-huy-01", Active(active=(event(9, "deescalate", "UNACK", 2),)), T0)
    central.notifier.wake()
    until(lambda: smtp.to(PLANU), changed=smtp.changed)


# ---------------------------------------------------------------------- restarts


def test_a_restart_goes_on_with_the_escalation_where_it_was(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp))
    central.arrive(event(1, level=3))
    settled(central)
    central.move(200)
    central.restart()
    central.move(99)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU]
    central.move(1)
    until(lambda: smtp.to(MAYOR), changed=smtp.changed)
    settled(central)
    assert [to for to, _ in smtp.mails] == [PLANU, MAYOR]


def test_a_wall_clock_that_stepped_back_over_a_restart_delays_by_one_step_at_most(tmp_path, start, smtp):
    hands = Hands()
    central = start(config(tmp_path, smtp), hands)
    central.arrive(event(1, level=3))
    settled(central)
    central.close()
    hands.clock = Clock(boottime=lambda: hands.now, walltime=lambda: T0 - 86400 + hands.now, synchronised=lambda: True)
    central._begin()
    central.move(300)
    until(lambda: smtp.to(MAYOR), changed=smtp.changed)


PROCESS = """
import sys, pathlib
from central.alarms.log import AlarmLog
from central.config import CentralConfig
from central.db import Database
from central.notify.channels import channels
from central.notify.notifier import Notifier
from common.clock import Clock
from wire.alarm import parse

def say(*words):  # in one write: two threads speak, and lines must not mix
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

config = CentralConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_text())
clock = Clock(trust="always")
db = Database(pathlib.Path(sys.argv[2]))
db.open()
log = AlarmLog(db)
notifier = Notifier(config, db, log, clock, channels(config, clock),
                    on_notifying=lambda e, o: say("said", e, o), on_acknowledged=lambda: None)
say("ready")
notifier.start()
for line in sys.stdin:
    event = parse(line.encode())
    log.record(event, clock.wall())
    notifier.wake()
    say("stored", event.id)
notifier.stop()
"""


@contextlib.contextmanager
def process(tmp_path, cfg):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(cfg.model_dump(mode="json", by_alias=True)))
    child = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(file), str(tmp_path / "central.db")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        kill(child)


def kill(child):
    if child.poll() is None:
        os.kill(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            stream.close()


def now_event(seq, **changes):
    return event(seq, at=time.time(), id=uuid7(time.time()), **changes)


def test_killed_between_intent_and_outcome_an_sms_goes_again_under_its_id(tmp_path, sms):
    cfg = config(tmp_path, sms=[sms], timeout_s=20)
    sms.gate.clear()
    with process(tmp_path, cfg) as child:
        child.stdin.write(now_event(1).model_dump_json() + "\n")
        until(lambda: len(sms.requests) == 1, changed=sms.changed)
        kill(child)
    sms.gate.set()
    with process(tmp_path, cfg):
        until(lambda: len(sms.requests) == 2, changed=sms.changed)
    assert sms.requests[0]["id"] == sms.requests[1]["id"]
    assert len(sms.to("+32470000001")) == 1


def test_killed_between_intent_and_outcome_where_a_provider_repeats_the_next_step_is_told(tmp_path, sms):
    cfg = config(tmp_path, sms=[sms], timeout_s=20, on_unknown="leave")
    sms.gate.clear()
    with process(tmp_path, cfg) as child:
        child.stdin.write(now_event(1).model_dump_json() + "\n")
        until(lambda: len(sms.requests) == 1, changed=sms.changed)
        kill(child)
    sms.gate.set()
    with process(tmp_path, cfg):
        until(lambda: sms.to("+32470000002"), changed=sms.changed)  # 300 s early: nobody was told for certain
    assert [body["to"] for body in sms.requests] == ["+32470000001", "+32470000002"]


def test_killed_between_intent_and_outcome_a_mail_keeps_its_message_id(tmp_path, smtp):
    cfg = config(tmp_path, smtp)
    smtp.answer = "hang"
    with process(tmp_path, cfg) as child:
        child.stdin.write(now_event(1).model_dump_json() + "\n")
        until(lambda: smtp.seen, changed=smtp.changed)
        kill(child)
    smtp.release()
    with process(tmp_path, cfg):
        until(lambda: smtp.mails, changed=smtp.changed)
    assert smtp.seen[0] == smtp.seen[-1]
    assert len(smtp.to(PLANU)) == 1


def test_a_state_that_goes_away_before_the_outcome_is_written_forgets_nobody(tmp_path, smtp):
    with servers.postgres() as server:
        central = Central(server.database(), config(tmp_path, smtp))
        smtp.answer = "hang"
        central.arrive(event(1))
        until(lambda: smtp.seen, changed=smtp.changed)
        server.kill9()
        smtp.release()
        server.restart()

        def told():
            central.move(1)
            return len(smtp.to(PLANU)) == 1 and central.states() == [("planu", "email", 1, "accepted")]

        until(told)
        assert smtp.seen[0] == smtp.seen[-1], "under its Message-ID"
        central.close()


def test_killed_at_any_moment_nobody_is_forgotten_and_nobody_told_twice(tmp_path, sms):
    dice = random.Random(20260714)
    cfg = config(tmp_path, sms=[sms], timeout_s=20)
    sent = []
    for _round in range(12):
        with process(tmp_path, cfg) as child:
            for _ in range(2):
                e = now_event(
                    len(sent) + 1, occurrence=uuid7(time.time()), level=3
                )  # below, a flood of them would be one
                child.stdin.write(e.model_dump_json() + "\n")
                assert any(line == f"stored {e.id}\n" for line in child.stdout)
                sent.append(e)
            with sms.changed:
                sms.changed.wait(dice.uniform(0, 0.03))
            kill(child)
    with process(tmp_path, cfg):
        until(lambda: len(sms.accepted) >= len(sent), changed=sms.changed)
    told = sorted(re.search(r"Réf (\w+)$", body["text"])[1] for body in sms.accepted.values())
    assert told == sorted(e.occurrence[-5:].upper() for e in sent)


# ---------------------------------------------------------------------- channels that fail


def test_the_second_gateway_takes_over_and_one_that_hangs_does_not_hold_up_the_mail(tmp_path, start, smtp, sms):
    with SmsServer(lambda _: (503, "busy")) as first:
        first.gate.clear()
        central = start(config(tmp_path, smtp, [first, sms]))
        central.arrive(event(1))
        until(lambda: smtp.to(PLANU), changed=smtp.changed)
        assert sms.requests == []
        until(lambda: sms.to("+32470000001"), changed=sms.changed)
        settled(central)


@pytest.mark.parametrize("answer", [(500, "no"), (200, "credit exhausted"), (401, "who?"), None])
def test_nobody_told_is_said_so(tmp_path, start, answer):
    only = [{"id": "planu", "name": "Planu", "communes": ["61031"], "phone": "+32470000001"}]
    with SmsServer(lambda _: answer) as broken:
        central = start(config(tmp_path, sms=[broken], recipients=only))
        raised = event(1)
        central.arrive(raised)
        until(lambda: central.saw(raised.id) == ["false"], changed=central.changed)


def test_nobody_to_tell_is_said_so(tmp_path, start, smtp):
    central = start(config(tmp_path, smtp, recipients=RECIPIENTS[3:]))
    raised = event(1)
    central.arrive(raised)
    until(lambda: central.saw(raised.id) == ["false"], changed=central.changed)
    assert smtp.mails == []


@pytest.mark.parametrize("answer", ["451 later", "drop"])
def test_a_mail_that_was_not_taken_goes_again_and_the_gateway_hears_of_it(tmp_path, start, smtp, answer):
    smtp.answer = answer
    central = start(config(tmp_path, smtp))
    raised = event(1)
    central.arrive(raised)
    until(lambda: central.saw(raised.id) == ["false"], changed=central.changed)
    smtp.answer = "250 OK"
    central.move(10)
    until(lambda: central.saw(raised.id) == ["false", "true"], changed=central.changed)
    assert len(smtp.to(PLANU)) == 1
    assert set(smtp.seen) == {smtp.to(PLANU)[0]["Message-ID"]}


def test_a_slow_server_is_given_up_and_tried_again(tmp_path, start, smtp):
    smtp.answer = "hang"
    central = start(config(tmp_path, smtp))
    central.arrive(event(1))
    until(lambda: ("planu", "email", 1, "waiting") in central.states() and smtp.seen)
    settled(central)
    smtp.release()
    central.move(10)
    until(lambda: smtp.to(PLANU), changed=smtp.changed)


def test_a_refused_address_is_final_and_the_next_step_comes_at_once(tmp_path, start, smtp):
    smtp.refuse = {PLANU}
    central = start(config(tmp_path, smtp))
    central.arrive(event(1))
    until(lambda: smtp.to(MAYOR), changed=smtp.changed)
    settled(central)
    assert central.states() == [("planu", "email", 1, "failed"), ("maire", "email", 2, "accepted")]


def test_a_server_that_is_down_does_not_use_up_the_steps(tmp_path, start, smtp):
    smtp.answer = "451 later"
    central = start(config(tmp_path, smtp, rounds=2))
    central.arrive(event(1))
    settled(central)
    for _ in range(4):
        central.move(300)
        settled(central)
    expected = {("planu", "waiting"), ("maire", "waiting")}
    until(lambda: {(r, s) for r, _, _, s in central.states()} == expected, "each to wait for its next attempt")
    smtp.answer = "250 OK"
    central.move(300)
    until(lambda: smtp.to(PLANU) and smtp.to(MAYOR), changed=smtp.changed)
    settled(central)
    assert (len(smtp.to(PLANU)), len(smtp.to(MAYOR))) == (1, 1)


class Faulty:
    answerable = False
    """A gateway whose code breaks for one number."""

    name, on_unknown, answerable = "faulty", "leave", False

    def __init__(self):
        self.sent = []

    def send(self, number, _text, _message_id):
        if number == "+32470000001":
            raise ZeroDivisionError
        self.sent.append(number)
        return Outcome("accepted")

    def close(self):
        pass


def test_a_message_that_breaks_its_channel_does_not_hold_up_the_others(tmp_path, start, sms):
    people = [RECIPIENTS[0], RECIPIENTS[1] | {"order": 1}]
    faulty = Faulty()
    central = start(config(tmp_path, sms=[sms], recipients=people), ways=Channels(None, (faulty,)))
    central.arrive(event(1))
    until(lambda: faulty.sent == ["+32470000002"])
    settled(central)
    assert central.states() == [("maire", "sms", 1, "accepted"), ("planu", "sms", 1, "waiting")]


def test_no_number_address_or_secret_reaches_the_log(tmp_path, start, smtp, caplog):
    caplog.set_level("DEBUG")
    smtp.refuse = {PLANU, MAYOR}
    with SmsServer(lambda _: (401, "no")) as broken:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer hush-hush"}
        central = start(config(tmp_path, smtp, [broken], headers=headers))
        central.arrive(event(1))
        until(lambda: len([s for *_, s in central.states() if s == "failed"]) == 4)
        settled(central)
    own = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith(("central", "common")))
    assert "status 401" in own
    for secret in ("hush-hush", "3247000000", PLANU, MAYOR):
        assert secret not in own


def test_templates_are_escaped_for_where_they_stand(tmp_path):
    seen = []
    with SmsServer(lambda body: (seen.append(body), (200, "{}"))[1]) as server:
        cfg = config(tmp_path, sms=[server], success=None).sms[0]
        text = 'a "quoted" {id} \\ line\nnext'
        assert HttpSms("x", cfg).send("+32470000001", text, "id-1").kind == "accepted"
    assert seen == [{"to": "+32470000001", "text": text, "id": "id-1"}]


def test_a_gateway_that_is_not_there_may_be_tried_again(tmp_path):
    with SmsServer() as server:
        cfg = config(tmp_path, sms=[server]).sms[0]
    assert HttpSms("x", cfg).send("+32470000001", "text", "id-1").kind == "retry"


# ---------------------------------------------------------------------- exercises


def test_an_exercise_reaches_only_those_marked_for_it(tmp_path, start, sms):
    people = [RECIPIENTS[0] | {"email": None}, RECIPIENTS[1] | {"email": None, "order": 1, "exercise": True}]
    central = start(config(tmp_path, sms=[sms], recipients=people))
    central.arrive(event(1, status="Exercise"))
    until(lambda: sms.requests, changed=sms.changed)
    settled(central)
    assert [body["to"] for body in sms.requests] == ["+32470000002"]
    assert sms.requests[0]["text"].startswith("EXERCICE - HUY-WAREMME")


def test_an_exercise_pages_nobody_when_nobody_is_marked_though_the_mail_server_is_on_this_machine(
    tmp_path, start, smtp, sms
):
    central = start(config(tmp_path, smtp, [sms]))
    exercise = event(1, status="Exercise")
    central.arrive(exercise)
    until(lambda: central.saw(exercise.id) == ["none"], changed=central.changed)
    central.arrive(event(1, occurrence=uuid7(T0), rule="other"))  # what comes after it is told as ever
    until(lambda: sms.requests and smtp.mails)
    settled(central)
    assert not [body for body in sms.requests if "EXERCICE" in body["text"]]
    assert not [mail for _, mail in smtp.mails if "EXERCICE" in mail["Subject"]]


def test_a_real_alarm_goes_before_an_exercise_of_a_higher_level(tmp_path, start, sms):
    people = [RECIPIENTS[0] | {"email": None, "exercise": True}]
    central = start(config(tmp_path, sms=[sms], recipients=people, timeout_s=30))
    sms.gate.clear()
    central.arrive(
        event(1, level=1, occurrence=uuid7(T0), rule="first")
    )  # it waits at the gate, and all others behind it
    until(lambda: sms.requests, changed=sms.changed)
    central.arrive(event(2, level=3, status="Exercise"))
    central.arrive(event(3, level=2, occurrence=uuid7(T0), rule="other"))
    until(lambda: len(central.states()) == 3)
    sms.gate.set()
    until(lambda: len(sms.requests) == 3, changed=sms.changed)
    assert ["EXERCICE" in body["text"] for body in sms.requests] == [False, False, True]


def test_a_scaled_process_refuses_what_leaves_the_machine(tmp_path):
    real = CentralConfig.model_validate(tomllib.loads(example()))
    with pytest.raises(ConfigError) as error:
        refuse_real_channels(real)
    assert str(error.value).splitlines() == [
        "smtp.host: an exercise expects a loopback address, found 'smtp.example.be'",
        (
            "sms.0.port: an exercise expects an emulated modem (a pty or loopback socket), "
            "found '/dev/serial/by-id/usb-SimTech-if03-port0'"
        ),
        "sms.1.url: an exercise expects a loopback address",
    ]
    with pytest.raises(ConfigError):
        channels(real, Clock(scale=120, origin_wall=T0))
    assert channels(real, Clock()).email is not None


@pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning")  # Apprise's own
def test_apprise_with_an_unknown_service_fails_for_good():
    cfg = CentralConfig.model_validate(
        {"data_dir": "/tmp", "mqtt": {"host": "x"}, "sms": [{"kind": "apprise", "url": "nosuch://{digits}"}]}
    )
    assert AppriseSms("x", cfg.sms[0]).send("+32470000001", "t", "id").kind == "failed"


# ---------------------------------------------------------------------- configuration


def test_the_example_loads(tmp_path):
    file = tmp_path / "central.toml"
    file.write_text(example())
    assert [(s.id, s.gateway) for s in load(file).station] == [("hoyoux-huy", "gw-huy-01")]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("port = 8883", "port = 99999"), "mqtt.port: Input should be less than or equal to 65535, found 99999"),
        (('data_dir = "', 'datadir = "'), "datadir: unknown key, expected none of this name"),
        (("{text}", "text"), "sms.1.http: expected {text} and {number} (or {digits}) in url or body"),
    ],
)
def test_a_fault_is_named_by_file_key_and_what_was_expected(tmp_path, change, line):
    file = tmp_path / "central.toml"
    file.write_text(example().replace(*change))
    with pytest.raises(ConfigError) as error:
        load(file)
    assert f"{file}: {line}" in str(error.value).splitlines()
    assert "change-me" not in str(error.value)


def test_a_file_that_is_not_there_or_not_toml(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(ConfigError, match="not TOML"):
        load(tmp_path / "bad.toml")


def test_an_exercise_and_a_real_alarm_never_share_a_message(tmp_path, start, sms):
    people = [RECIPIENTS[0] | {"email": None, "exercise": True}]
    central = start(config(tmp_path, sms=[sms], recipients=people, timeout_s=30))  # the first one waits at the gate
    first, *many = alarms(30, lambda _: 1)
    many = [e.model_copy(update={"status": "Exercise" if e.seq % 2 else "Actual"}) for e in many]
    sms.gate.clear()
    central.arrive(first)
    until(lambda: sms.requests)
    central.arrive(*many)
    until(lambda: len(central.states()) == 30)
    sms.gate.set()
    until(lambda: all(s[3] == "accepted" for s in central.states()))
    floods = sorted(t for t in sms.to("+32470000001") if "autres alarmes" in t)
    assert [t.split(" autres")[0] for t in floods] == ["EXERCICE - HUY-WAREMME 14", "HUY-WAREMME 15"]


def test_who_is_on_call_when_telling_begins_is_told_first_and_nobody_is_passed_over_at_the_change(
    tmp_path, start, smtp
):
    people = [
        RECIPIENTS[0] | {"on_call": "lu-di 05:00-05:35"},  # T0 is Tuesday, 05:33 in Belgium
        RECIPIENTS[1] | {"order": 1, "on_call": "lu-di 05:35-05:00"},
    ]
    central = start(config(tmp_path, smtp, recipients=people, rounds=2))
    central.arrive(event(1, at=T0 - 7200, level=3))  # late: who is on call now counts
    settled(central)
    central.move(30)
    told = [PLANU, MAYOR, PLANU, MAYOR]
    for i in range(1, 5):
        until(lambda expected=told[:i]: [to for to, _ in smtp.mails] == expected, changed=smtp.changed)
        settled(central)
        central.move(300)
