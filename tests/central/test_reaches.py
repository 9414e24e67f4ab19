"""A level upstream warns the communes downstream: once, at its own time, in French, and as long as its water may still come."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from central.alarms.log import AlarmLog
from central.alarms.own import Own
from central.alarms.reaches import ReachWatch
from central.alarms.wishes import Wishes
from central.config import CentralConfig, Reach
from central.db import Database
from central.status import alarm_levels
from common import texts
from common.clock import Clock, from_rfc3339, rfc3339
from common.texts import Language, Place
from tests import servers
from tests.central.scene import Scene
from tests.central.test_alarm_log import T0
from tests.central.test_alarm_log import event as made
from wire.alarm import EXERCISE
from wire.ids import uuid7

TRAVEL_S = 3600.0
REACH = Reach(id="hoyoux-downstream", upstream="hoyoux-huy", downstream=("61072",), travel_s=TRAVEL_S)


class Central:
    """The watch on a real alarm log, on hands of its own; a gateway that tells of the river."""

    def __init__(self, where: Path | str) -> None:
        self.now = 0.0
        self.db = Database(where)
        self.db.open()
        self.alarms = AlarmLog(self.db)
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now, trust="always")
        self.wishes = Wishes(self.db, self.alarms, self.clock)
        self.seq = 0
        self.occurrence = uuid7(T0)
        self.restart()

    def restart(self) -> None:
        self.own = Own(self.alarms, self.wishes, self.clock, lambda: None)
        self.watch = ReachWatch([REACH], self.own, self.clock)

    def tell(self, transition: str, state: str, level: int, at_s: float | None = None, **changes: object) -> None:
        self.seq += 1
        at = rfc3339(T0 + (self.now if at_s is None else at_s))
        event = made(self.seq, transition, state, level, self.occurrence, time=at, id=uuid7(T0 + self.now), **changes)
        self.alarms.record(event, self.clock.wall())

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.watch.look()) is not None and at < end:
            self.now = max(self.now, at)
        self.now = end
        self.watch.look()

    @property
    def warned(self) -> list[tuple[str, str, int, float]]:
        """Transition, state, level and time (seconds after T0) of central's own events, in their order."""
        own = [o for o in self.alarms.newest(99) if o.source == "central"]
        events = [e for o in own for e in self.alarms.events(o.occurrence)]
        events.sort(key=lambda e: e.seq)
        return [(e.transition, e.state, e.level, from_rfc3339(e.time) - T0) for e in events]


@pytest.fixture
def central(state_at: Path | str):
    made = Central(state_at)
    yield made
    made.db.close()


def test_a_warning_follows_the_level_upstream_and_outlasts_it_by_the_travel_time(central: Central) -> None:
    central.tell("raise", "UNACK", 1)
    central.run(60)
    assert central.warned == [], "below the level of the reach"
    central.tell("escalate", "UNACK", 2)
    central.run(60)
    central.tell("ack", "ACK", 2, by="planu-huy")  # answered for upstream, by nobody downstream
    central.run(60)
    central.restart()
    central.tell("escalate", "UNACK", 3)
    central.run(60)
    central.tell("clear", "RTN_UNACK", 0)
    central.run(TRAVEL_S - 1)
    assert central.warned == [("raise", "UNACK", 2, 60.0), ("escalate", "UNACK", 3, 180.0)]
    assert alarm_levels(central.alarms, exercise=False) == {("hoyoux-huy", "water_level"): 0}, "the river itself is low"
    central.restart()
    central.run(2)
    assert central.warned[2:] == [("clear", "RTN_UNACK", 0, 240.0 + TRAVEL_S)]
    assert central.alarms.impossible_events() == {}


def test_what_comes_late_is_told_with_its_time_while_it_stands_and_not_at_all_when_it_has_returned(
    central: Central,
) -> None:
    central.now = 9000.0
    central.tell("raise", "UNACK", 2, 60)
    central.tell("clear", "RTN_UNACK", 0, 600)
    central.run(60)
    assert central.warned == []
    central.tell("raise", "UNACK", 2, 7000)
    central.run(60)
    assert central.warned == [("raise", "UNACK", 2, 7000.0)]


def test_an_exercise_upstream_warns_nobody(central: Central) -> None:
    central.tell("raise", "UNACK", 3, rule=EXERCISE, status="Exercise")
    central.run(60)
    assert central.warned == []


def test_a_shelved_alarm_upstream_warns_nobody_and_a_warning_can_be_shelved_and_answered(central: Central) -> None:
    central.tell("raise", "UNACK", 2, withheld="shelved")
    central.run(60)
    assert central.warned == []
    central.tell("unshelve", "UNACK", 2)
    central.run(60)
    (warning,) = central.own.open(REACH.id)
    central.alarms.acknowledge(warning.occurrence, "planu-wanze", central.clock.wall())
    central.wishes.shelve(warning, "planu-wanze", central.clock.wall() + 600)
    central.own.keep()
    assert [(t, s) for t, s, *_ in central.warned] == [("raise", "UNACK"), ("shelve", "UNACK"), ("ack", "ACK")]
    central.now += 700
    central.own.keep()
    assert central.warned[-1][:2] == ("unshelve", "UNACK")
    assert central.alarms.impossible_events() == {}


_MOVES = {
    "NORMAL": [("raise", "UNACK")],
    "UNACK": [("escalate", "UNACK"), ("deescalate", "UNACK"), ("ack", "ACK"), ("clear", "RTN_UNACK")],
    "ACK": [("escalate", "UNACK"), ("deescalate", "ACK"), ("clear", "NORMAL")],
    "RTN_UNACK": [("raise", "UNACK"), ("ack", "NORMAL")],
}


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from([0, 60, 1800, 5000]), st.booleans()),
        max_size=10,
    )
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_river_does_the_warning_stands_when_it_must(steps: list[tuple[int, int, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as path:
        central = Central(Path(path) / "central.db")
        state, level, above_until = "NORMAL", 0, -1e9
        for move, wanted, pause, restarted in steps:
            if state == "NORMAL":
                central.occurrence = uuid7(T0 + central.now)
            transition, after = _MOVES[state][move % len(_MOVES[state])]
            new = {"raise": wanted, "clear": 0, "escalate": level + 1, "deescalate": level - 1}.get(transition, level)
            if transition in ("escalate", "deescalate") and not 1 <= new <= 3:
                continue
            if level >= REACH.level > new:
                above_until = central.now
            central.tell(transition, after, new)
            state, level = after, new
            if restarted:
                central.restart()
            central.run(pause)
            open_ = [o for o in central.own.open(REACH.id) if o.state == "UNACK"]
            if level >= REACH.level:
                assert [o.level for o in open_] == [level]
            else:
                assert bool(open_) == (central.now < above_until + TRAVEL_S)
        assert central.alarms.impossible_events() == {}
        central.db.close()


def test_the_words_say_from_when_and_that_it_is_no_forecast() -> None:
    event = made(1, "raise", "UNACK", 2, source="central", rule=REACH.id)
    place = Place("Huy, pont du Hoyoux", "Hoyoux", TRAVEL_S)
    arrival = from_rfc3339(event.time) + TRAVEL_S
    languages: tuple[Language, ...] = ("nl", "de", "en", "fr")
    for language in languages:
        at = texts.local_time(arrival, "hour", language)
        assert at in texts.sms(event, place, language=language)
    assert "EN AMONT" in texts.sms(event, place)
    assert f"Arrivée possible dès {at}" in texts.sms(event, place)
    assert "amont" in texts.headline(made(2, "clear", "NORMAL", 0, source="central", rule=REACH.id))


def test_people_downstream_are_told_and_those_upstream_are_not_told_twice(tmp_path: Path) -> None:
    clock = Clock(trust="always")
    scene = Scene(tmp_path, clock, settings={"reach": [REACH.model_dump()]})
    scene.start()
    try:
        own = Own(scene.alarms, Wishes(scene.db, scene.alarms, clock), clock, scene.notifier.wake)
        watch = ReachWatch(scene.config.reach, own, clock)
        scene.event("hoyoux-huy", "raise", "UNACK", 2, 0, value=0.83)
        watch.look()
        servers.wait_until(lambda: bool(scene.smtp.to("planu-wanze@huy.test")), 15, "a mail downstream")
        servers.wait_until(lambda: bool(scene.smtp.to("planu-huy@huy.test")), 15, "a mail upstream")
        (mail,) = scene.smtp.to("planu-wanze@huy.test")
        text = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
        arrival = texts.local_time(clock.wall() + TRAVEL_S, "full")[:8]
        assert "seuil local 2 atteint EN AMONT" in mail["subject"]
        assert "peut arriver en aval dès " + arrival in text
        assert "pas une prévision d'une autorité" in text
        assert "BE-Alert" not in text, "a draft for the commune upstream is none for this one"
        assert len(scene.smtp.to("planu-huy@huy.test")) == 1
    finally:
        scene.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"upstream": "nowhere"}, "expected the id of a"),
        ({"id": "gateway-silent"}, "rule of central"),
        ({"travel_s": 0}, "greater than 0"),
    ],
)
def test_a_reach_that_cannot_be_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    station = {"id": "hoyoux-huy", "gateway": "gw-huy-01", "commune": "61031", "name": "Huy"}
    config = {"data_dir": str(tmp_path), "mqtt": {"host": "127.0.0.1"}, "station": [station]}
    with pytest.raises(ValidationError, match=said):
        CentralConfig.model_validate(config | {"reach": [REACH.model_dump() | change]})
