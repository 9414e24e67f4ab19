"""The alarm log: nothing is lost, nothing counts twice, nothing impossible passes for possible."""

import random
import sqlite3
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

from central.alarms.log import AlarmLog
from central.db import Database
from central.errors import StateUnavailable
from central.tables import alarm_event
from common.clock import rfc3339
from wire.alarm import AlarmEvent
from wire.ids import uuid7
from wire.station import Active

T0 = 1_784_000_000.0


@pytest.fixture
def db(state_at):
    database = Database(state_at)
    database.open()
    yield database
    database.close()


@pytest.fixture
def alarms(db):
    return AlarmLog(db)


OCC = uuid7(T0)


def event(seq, transition, state, level=1, occurrence=OCC, gateway="gw-huy-01", **changes):
    return AlarmEvent.model_validate(
        {
            "id": uuid7(T0 + seq), "occurrence": occurrence, "seq": seq, "source": "gateway", "gateway": gateway,
            "station": "hoyoux-huy", "sensor": "level-1", "quantity": "water_level", "rule": "hoyoux-high", "kind": "high",
            "transition": transition, "state": state, "level": level, "value": 1.84, "unit": "m", "threshold": 1.8,
            "time": rfc3339(T0 + 60 * seq), "clock": "synchronised",
        }
        | changes
    )  # fmt: skip


STORY = [
    event(1, "raise", "UNACK", 1),
    event(2, "escalate", "UNACK", 3),
    event(3, "ack", "ACK", 3, by="planu"),
    event(4, "deescalate", "ACK", 2),
    event(5, "escalate", "UNACK", 3),
    event(6, "notify", "UNACK", 3),
    event(7, "clear", "RTN_UNACK", 0),
    event(8, "raise", "UNACK", 1),
    event(9, "clear", "RTN_UNACK", 0),
    event(10, "ack", "NORMAL", 0, by="planu"),
]


def test_a_whole_story_is_possible_and_ends_normal(alarms):
    for e in STORY:
        recorded = alarms.record(e, T0 + 1000)
        assert recorded.new
        assert recorded.impossible is None
        assert recorded.needs_notification == (e.state in ("UNACK", "RTN_UNACK"))
    assert alarms.open_occurrences() == []
    assert alarms.events(OCC) == STORY
    occurrence = alarms.occurrence(OCC)
    assert (occurrence.state, occurrence.acked_by, occurrence.raised_s) == ("NORMAL", "planu", T0 + 60)


def test_a_redelivered_event_changes_nothing(alarms):
    alarms.record(STORY[0], T0)
    before = alarms.occurrence(OCC)
    again = alarms.record(STORY[0], T0 + 500)
    assert not again.new
    assert not again.needs_notification
    assert alarms.occurrence(OCC) == before
    assert len(alarms.events(OCC)) == 1


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(STORY), repeats=st.lists(st.sampled_from(STORY), max_size=5))
def test_any_order_and_any_repeat_comes_to_the_same(tmp_path_factory, order, repeats):
    db = Database(tmp_path_factory.mktemp("log") / "central.db")
    db.open()
    try:
        alarms = AlarmLog(db)
        for e in [*order, *repeats]:
            alarms.record(e, T0)
        assert alarms.events(OCC) == STORY
        assert alarms.impossible_events() == {}
        assert alarms.gaps("gw-huy-01") == []
        found = alarms.occurrence(OCC)
        assert (found.state, found.level, found.last_seq, found.raised_s) == ("NORMAL", 0, 10, T0 + 60)
    finally:
        db.close()


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (("raise", "UNACK", 1), ("raise", "UNACK", 1), "raise in state UNACK"),
        (("raise", "UNACK", 1), ("clear", "NORMAL", 0), "clear from UNACK to NORMAL, expected RTN_UNACK"),
        (("raise", "UNACK", 2), ("escalate", "UNACK", 2), "escalate from level 2 to 2"),
        (("raise", "UNACK", 2), ("deescalate", "UNACK", 3), "deescalate from level 2 to 3"),
        (("raise", "UNACK", 1), ("reset", "NORMAL", 0), "reset in state UNACK"),
        (("raise", "ACK", 1), ("clear", "NORMAL", 0), None),
    ],
)
def test_an_impossible_transition_is_kept_and_flagged(alarms, first, second, reason):
    alarms.record(event(1, *first), T0)
    impossible = event(2, *second)
    assert alarms.record(impossible, T0).impossible == reason
    assert alarms.event(impossible.id) == impossible
    assert alarms.occurrence(OCC).state == second[1]


def test_what_is_missing_between_is_not_held_against_an_event(alarms):
    assert alarms.record(STORY[1], T0).impossible is None  # its raise, number 1, has not come yet
    alarms.record(event(1, "raise", "UNACK", 1, occurrence=uuid7(T0 + 9)), T0)  # number 1 was about something else
    late = event(4, "clear", "NORMAL", 0)
    assert alarms.record(late, T0).impossible is None
    assert alarms.gaps("gw-huy-01") == [(3, 3)]
    alarms.record(event(3, "notify", "UNACK", 3), T0)
    assert alarms.impossible_events()[late.id] == "clear from UNACK to NORMAL, expected RTN_UNACK"


def test_a_number_used_twice_is_flagged(alarms):
    alarms.record(STORY[0], T0)
    twin = event(1, "raise", "UNACK", 1, occurrence=uuid7(T0 + 9), id=uuid7(T0 + 99))
    assert alarms.record(twin, T0).impossible == "seq 1 was used by another event"
    assert alarms.event(twin.id) == twin


def test_reconcile_closes_what_a_gateway_no_longer_lists_and_opens_it_again(alarms):
    other = event(1, "raise", "UNACK", 2, occurrence=uuid7(T0 + 5), gateway="gw-amay-01")
    alarms.record(STORY[0], T0)
    alarms.record(other, T0)
    unknown = event(7, "escalate", "UNACK", 3, occurrence=uuid7(T0 + 6))
    result = alarms.reconcile("gw-huy-01", Active(active=(unknown,)), T0 + 500)
    assert (result.closed, result.reopened, result.recorded) == ((OCC,), (), (unknown.occurrence,))
    assert alarms.occurrence(OCC).reconciled_s == T0 + 500
    assert {o.occurrence for o in alarms.open_occurrences()} == {other.occurrence, unknown.occurrence}
    result = alarms.reconcile("gw-huy-01", Active(active=(STORY[0], unknown)), T0 + 600)
    assert result.reopened == (OCC,)
    found = alarms.occurrence(OCC)
    assert (found.state, found.level, found.reconciled_s) == ("UNACK", 1, None)
    assert alarms.reconcile("gw-huy-01", Active(active=(STORY[0], unknown)), T0 + 700) == type(result)((), (), ())


def test_an_acknowledgement_here_waits_for_the_gateway_and_an_escalation_withdraws_it(alarms):
    alarms.record(STORY[0], T0)
    alarms.acknowledge(OCC, "bourgmestre", T0 + 10)
    assert [o.acked_by for o in alarms.unconfirmed_acks()] == ["bourgmestre"]
    alarms.record(STORY[1], T0)
    assert alarms.occurrence(OCC).acked_by is None
    assert alarms.unconfirmed_acks() == []


def test_central_numbers_its_own_events_apart(alarms):
    alarms.record(STORY[0], T0)
    assert alarms.next_seq("gw-huy-01") == 1
    own = event(1, "raise", "UNACK", 2, occurrence=uuid7(T0 + 8), source="central", kind="system", id=uuid7(T0 + 80))
    assert alarms.record(own, T0).impossible is None
    assert alarms.next_seq("gw-huy-01") == 2
    assert alarms.reconcile("gw-huy-01", Active(active=(STORY[0],)), T0).closed == ()


def test_find_by_prefix_and_by_short_reference(alarms):
    alarms.record(STORY[0], T0)
    assert [o.occurrence for o in alarms.find(OCC[:13])] == [OCC]
    assert [o.occurrence for o in alarms.find(OCC[-5:].upper())] == [OCC]
    assert alarms.find("") == alarms.find("%") == alarms.find("zz") == []


def test_events_cannot_be_changed_or_removed(alarms, db):
    alarms.record(STORY[0], T0)
    with pytest.raises(IntegrityError, match="append-only"), db.transaction() as tx:
        tx.execute(update(alarm_event).values(seq=5))
    with pytest.raises(IntegrityError, match="append-only"), db.transaction() as tx:
        tx.execute(delete(alarm_event))


def test_the_file_keeps_everything_and_is_private(tmp_path):
    path = tmp_path / "central.db"
    db = Database(path)
    db.open()
    AlarmLog(db).record(STORY[0], T0)
    db.close()
    assert path.stat().st_mode & 0o077 == 0
    db.open()
    assert AlarmLog(db).events(OCC) == [STORY[0]]
    db.close()


def test_a_file_of_a_newer_program_is_refused(tmp_path):
    path = tmp_path / "central.db"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 999")
    raw.close()
    with pytest.raises(StateUnavailable, match="999 is newer"):
        Database(path).open()


def test_threads_record_at_once_without_losing_any(alarms):
    events = [event(n, "raise", "UNACK", 1, occurrence=uuid7(T0 + n)) for n in range(1, 81)]
    random.Random(1).shuffle(events)
    errors = []

    def work(part):
        try:
            for e in part:
                alarms.record(e, T0)
        except Exception as e:  # noqa: BLE001 - reported below
            errors.append(e)

    threads = [threading.Thread(target=work, args=(events[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(alarms.open_occurrences()) == 80
    assert alarms.gaps("gw-huy-01") == []
