"""Shelves and resets: a wish on the disk, asked of the alarm's owner until its event confirms or it is void."""

import json
from pathlib import Path

import pytest

from central.alarms.log import AlarmLog
from central.alarms.wishes import Wishes, owned
from central.commands import Forwarder, keygen, load_key, public_key
from central.db import Database
from central.errors import Refused
from common.clock import Clock, rfc3339
from edge.commands import CommandVerifier
from tests.central.test_alarm_log import OCC, STORY, T0
from tests.central.test_commands import Line
from wire import command
from wire.alarm import AlarmEvent
from wire.errors import WireError

HOUR = 3600.0


class Central:
    def __init__(self, state_at: Path | str) -> None:
        self.state_at = state_at
        self.now = 100.0
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now)
        self.seq = 0
        self.open()
        self.event("raise", "UNACK", 1)

    def open(self) -> None:
        self.db = Database(self.state_at)
        self.db.open()
        self.alarms = AlarmLog(self.db)
        self.wishes = Wishes(self.db, self.alarms, self.clock)

    def event(self, transition, state, level, **more) -> AlarmEvent:
        self.seq += 1
        made = STORY[0].model_copy(
            update={
                "id": f"e{self.seq}", "seq": self.seq, "transition": transition, "state": state, "level": level,
                "time": rfc3339(T0 + self.now),
            }
            | more
        )  # fmt: skip
        self.alarms.record(made, T0 + self.now)
        return made

    @property
    def occurrence(self):
        return self.alarms.occurrence(OCC)

    def pending(self):
        return [(w.command, w.by, w.until_s) for w in self.wishes.pending("gateway")]


@pytest.fixture
def central(state_at):
    made = Central(state_at)
    yield made
    made.db.close()


def shelved(until_s, **more):
    return {"until": rfc3339(until_s), "by": "planu", "withheld": "shelved"} | more


def test_a_shelf_is_wished_until_the_gateways_event_with_its_end(central):
    until = T0 + 2 * HOUR
    central.wishes.shelve(central.occurrence, "planu", until, "travaux au pont")
    central.db.close()
    central.open()  # nothing was in memory only
    assert central.pending() == [("shelve", "planu", until)]
    central.event("shelve", "UNACK", 1, **shelved(until - 600))
    assert central.pending(), "somebody else's shelf, of another end"
    central.event("shelve", "UNACK", 1, **shelved(until + 0.4, note="travaux au pont"))
    assert central.pending() == []
    shelf = central.wishes.shelves()[owned(central.occurrence)]
    assert (shelf.event.by, shelf.event.note, round(shelf.until_s - until)) == ("planu", "travaux au pont", 0)


def test_a_shelf_whose_end_has_passed_is_asked_for_no_more(central):
    central.wishes.shelve(central.occurrence, "planu", T0 + HOUR)
    central.now = HOUR - 1
    assert central.pending()
    central.now = HOUR
    assert central.pending() == []
    central.now = 0
    assert central.pending() == [], "it is forgotten"


def test_an_earlier_event_confirms_no_later_wish(central):
    until = T0 + HOUR
    central.event("shelve", "UNACK", 1, **shelved(until))
    central.event("unshelve", "UNACK", 1)
    central.wishes.shelve(central.occurrence, "planu", until)
    assert central.pending()


def test_unshelving_replaces_a_wish_that_nobody_has_heard_of(central):
    with pytest.raises(Refused, match="not shelved, expected one that is"):
        central.wishes.unshelve(central.occurrence, "planu")
    central.wishes.shelve(central.occurrence, "planu", T0 + HOUR)
    central.wishes.unshelve(central.occurrence, "bourgmestre")
    assert central.pending() == [("shelve", "bourgmestre", None)]
    assert central.wishes.asked() == {OCC: ("unshelve",)}
    central.now = HOUR
    assert central.pending() == [], "the shelf ended by itself"


def test_unshelving_ends_with_the_event(central):
    central.event("shelve", "UNACK", 1, **shelved(T0 + HOUR))
    central.wishes.unshelve(central.occurrence, "planu")
    assert central.pending()
    central.event("unshelve", "UNACK", 1, by="planu")
    assert central.pending() == []
    assert central.wishes.shelves() == {}


@pytest.mark.parametrize("until_s", [0.0, 24 * HOUR + 101])
def test_nobody_shelves_into_the_past_or_for_more_than_a_day(central, until_s):
    with pytest.raises(Refused, match=r"expected later than now .* by at most 24 h"):
        central.wishes.shelve(central.occurrence, "planu", T0 + until_s)


def test_what_is_over_can_be_neither_shelved_nor_reset(central):
    central.event("ack", "ACK", 1, by="planu")
    central.event("clear", "NORMAL", 0)
    with pytest.raises(Refused, match="is over"):
        central.wishes.shelve(central.occurrence, "planu", T0 + HOUR)
    with pytest.raises(Refused, match="is NORMAL"):
        central.wishes.reset(central.occurrence, "planu")


def test_a_reset_waits_for_the_gateways_acknowledgement_and_is_void_when_the_alarm_stands_again(central):
    with pytest.raises(Refused, match="UNACK, not acknowledged; expected one that has returned"):
        central.wishes.reset(central.occurrence, "planu")
    central.event("clear", "RTN_UNACK", 0)
    central.alarms.acknowledge(OCC, "planu", T0 + 5)
    central.wishes.reset(central.occurrence, "planu")
    assert not central.alarms.waits_for_reset(central.occurrence)
    central.event("ack", "RTN_UNACK", 0, by="planu")
    assert central.alarms.waits_for_reset(central.occurrence)
    assert central.pending() == [("reset", "planu", None)]
    central.event("raise", "UNACK", 1)
    assert central.pending() == []


def test_a_reset_is_done_with_its_event(central):
    central.event("clear", "RTN_UNACK", 0)
    central.event("ack", "RTN_UNACK", 0, by="planu")
    central.wishes.reset(central.occurrence, "planu")
    assert central.pending()
    central.event("reset", "NORMAL", 0, by="planu")
    assert central.pending() == []


def test_a_shelf_is_of_the_rule_and_ends_by_itself(central):
    central.event("shelve", "UNACK", 1, **shelved(T0 + HOUR))
    central.event("ack", "ACK", 1, by="planu", withheld="shelved")
    central.event("clear", "NORMAL", 0, withheld="shelved")
    key = owned(central.occurrence)
    assert list(central.wishes.shelves()) == [key], "also of an alarm that does not stand"
    central.now = HOUR
    assert central.wishes.shelves() == {}


@pytest.fixture
def asking(tmp_path, central):
    keygen(tmp_path / "key.pem")
    key = load_key(tmp_path / "key.pem")
    line = Line()
    forwarder = Forwarder(key, lambda: line, central.alarms, central.wishes, central.clock)
    yield forwarder, line, CommandVerifier(public_key(key))
    forwarder.worker.stop()


def test_what_is_sent_a_gateway_accepts_with_a_new_id_each_time(central, asking):
    forwarder, line, gateway = asking
    central.wishes.shelve(central.occurrence, "planu", T0 + 2 * HOUR, "travaux")
    forwarder.worker.start()
    line.until(1)
    central.now += 15
    line.until(2)
    forwarder.wake()
    line.until(3)
    for topic, payload, properties, expiry_s in line.sent:
        assert (topic, expiry_s) == ("maillages/v1/gw-huy-01/cmd/shelve", 60)
        told = command.parse(command.Shelve, gateway.check(topic, payload, properties, expiry_s))
        assert (told.by, told.until, told.why) == ("planu", rfc3339(T0 + 2 * HOUR), "travaux")
    central.wishes.unshelve(central.occurrence, "bourgmestre")
    forwarder.wake()
    line.until(4)
    topic, payload, properties, expiry_s = line.sent[3]
    assert json.loads(payload)["until"] is None
    told = command.parse(command.Shelve, gateway.check(topic, payload, properties, expiry_s))
    assert (told.by, told.until) == ("bourgmestre", None)


def test_no_reset_goes_out_before_the_gateway_knows_of_the_acknowledgement(central, asking):
    forwarder, line, gateway = asking
    central.event("clear", "RTN_UNACK", 0)
    central.alarms.acknowledge(OCC, "planu", T0 + 5)
    central.wishes.reset(central.occurrence, "planu")
    forwarder.worker.start()
    line.until(1)
    central.event("ack", "RTN_UNACK", 0, by="planu")
    forwarder.wake()
    line.until(2)
    assert [topic.rpartition("/")[2] for topic, *_ in line.sent] == ["ack", "reset"]
    topic, payload, properties, expiry_s = line.sent[1]
    assert command.parse(command.Reset, gateway.check(topic, payload, properties, expiry_s)).occurrence == OCC


def test_a_refusal_ends_nothing(central, asking, caplog):
    forwarder, line, _ = asking
    central.wishes.shelve(central.occurrence, "planu", T0 + 2 * HOUR)
    forwarder.worker.start()
    line.until(1)
    for _ in range(2):
        forwarder.answered("gw-huy-01", b'{"id":"x","ok":false,"error":"its clock is wrong"}')
    assert caplog.text.count("gateway gw-huy-01 refuses a command: its clock is wrong") == 1
    central.now += 15
    line.until(2)
    with pytest.raises(WireError):
        forwarder.answered("gw-huy-01", b"[]")
