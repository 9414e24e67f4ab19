"""A gateway that is gone is central's own alarm: raised once, cleared by its voice alone, and never for central's own absence."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from central.alarms.log import AlarmLog
from central.alarms.own import Own
from central.alarms.silence import SilenceWatch
from central.alarms.wishes import Wishes
from central.config import CentralConfig
from central.db import Database
from central.mqtt import Received
from central.notify import mail
from common import texts
from common.clock import Clock, rfc3339
from tests.central.test_alarm_log import STORY, T0
from wire import alarm

GW = "gw-huy-01"
SILENT_S = 900.0
ONLINE = b'{"online":true,"boot":"b","version":"1","since":"2026-07-14T18:00:00+00:00"}'
OFFLINE = ONLINE.replace(b"true", b"false")


class Central:
    """The watch on a real alarm log, on hands of its own."""

    def __init__(self, db: Database, known: tuple[str, ...] = (GW,)) -> None:
        self.now = 1000.0
        self.alarms_flow = self.readings_flow = True
        self.alarms = AlarmLog(db)
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now, trust="always")
        self.wishes = Wishes(db, self.alarms, self.clock)
        self.changes = 0
        self.start(known)

    def start(self, known: tuple[str, ...] = (GW,)) -> None:
        """Central starts, or starts again: what it heard is forgotten."""
        self.watch = SilenceWatch(
            [GW],
            known,
            Own(self.alarms, self.wishes, self.clock, self._changed),
            self.clock,
            SILENT_S,
            alarms_flow=lambda: self.alarms_flow,
            readings_flow=lambda: self.readings_flow,
        )

    def _changed(self) -> None:
        self.changes += 1

    def hear(self, leaf: str = "health", payload: bytes = b"[]", *, retained: bool = False) -> None:
        topic = f"maillages/v1/{GW}/{leaf}"
        self.watch.heard(Received(topic, payload, None, None, {}, retained, 1, 1))

    def run(self, seconds: float) -> None:
        """Time goes by, looked at as often as the watch asks."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.watch.look(), end)
        self.watch.look()

    @property
    def states(self) -> list[str]:
        return [f"{e.transition} {e.state}" for o in self.alarms.newest(9) for e in self.alarms.events(o.occurrence)]


@pytest.fixture
def central(tmp_path: Path):
    db = Database(tmp_path / "central.db")
    db.open()
    yield Central(db)
    db.close()


def test_silence_is_raised_once_survives_a_restart_and_only_its_voice_ends_it(central: Central) -> None:
    central.hear()
    central.run(SILENT_S - 6)
    assert central.states == []
    central.run(12)
    assert central.states == ["raise UNACK"]
    central.run(5 * SILENT_S)
    central.start()
    central.hear("status", ONLINE, retained=True)  # what the broker kept is no sign of life
    central.hear("status", OFFLINE)  # the Will neither
    central.run(5 * SILENT_S)
    assert central.states == ["raise UNACK"]
    central.hear("status", ONLINE)
    central.run(10)
    assert central.states == ["raise UNACK", "clear RTN_UNACK"]
    central.run(SILENT_S + 10)  # again, before anyone answered: the same occurrence
    assert central.states == ["raise UNACK", "clear RTN_UNACK", "raise UNACK"]
    assert central.changes == 3
    assert central.alarms.impossible_events() == {}


def test_a_person_acknowledges_and_the_return_ends_it(central: Central) -> None:
    central.run(SILENT_S + 10)
    (occurrence,) = central.alarms.open_occurrences()
    central.alarms.acknowledge(occurrence.occurrence, "technicien", central.clock.wall())
    central.run(10)
    central.hear()
    central.run(10)
    assert central.states == ["raise UNACK", "ack ACK", "clear NORMAL"]
    assert [e.by for e in central.alarms.events(occurrence.occurrence)] == [None, "technicien", None]


def test_a_shelf_is_over_by_itself_and_outlasts_an_occurrence(central: Central) -> None:
    central.run(SILENT_S + 10)
    (occurrence,) = central.alarms.open_occurrences()
    until_s = central.clock.wall() + 3 * SILENT_S
    central.wishes.shelve(occurrence, "technicien", until_s, "remplacement du routeur")
    central.alarms.acknowledge(occurrence.occurrence, "technicien", central.clock.wall())
    central.run(10)
    central.hear()
    central.run(10)
    assert central.states == ["raise UNACK", "shelve UNACK", "ack ACK", "clear NORMAL"]
    shelved = central.alarms.events(occurrence.occurrence)[1]
    assert (shelved.by, shelved.until, shelved.note) == ("technicien", rfc3339(until_s), "remplacement du routeur")
    central.run(SILENT_S + 10)
    (second,) = central.alarms.open_occurrences()
    assert [e.withheld for e in central.alarms.events(second.occurrence)] == ["shelved"], "raised, and told to nobody"
    central.alarms.acknowledge(second.occurrence, "technicien", central.clock.wall())
    central.run(2 * SILENT_S)
    after = central.alarms.events(second.occurrence)
    assert [(e.transition, e.state, e.withheld) for e in after] == [
        ("raise", "UNACK", "shelved"),
        ("ack", "ACK", "shelved"),
        ("unshelve", "UNACK", None),
    ]
    assert central.alarms.impossible_events() == {}
    assert central.wishes.pending("central") == []


def test_a_person_ends_a_shelf(central: Central) -> None:
    central.run(SILENT_S + 10)
    (occurrence,) = central.alarms.open_occurrences()
    central.wishes.shelve(occurrence, "technicien", central.clock.wall() + 3600)
    central.run(10)
    central.wishes.unshelve(occurrence, "bourgmestre")
    central.run(10)
    assert central.states == ["raise UNACK", "shelve UNACK", "unshelve UNACK"]
    assert [e.by for e in central.alarms.events(occurrence.occurrence)] == [None, "technicien", "bourgmestre"]
    assert central.wishes.shelves() == {}


def test_central_does_not_blame_a_gateway_for_its_own_deafness(central: Central) -> None:
    central.hear()
    central.alarms_flow = central.readings_flow = False  # no broker
    central.run(10 * SILENT_S)
    central.alarms_flow = True  # the database still holds readings and health up
    central.run(10 * SILENT_S)
    assert central.states == []
    central.readings_flow = True
    central.run(SILENT_S - 10)
    assert central.states == []
    central.now += 10 * SILENT_S  # the machine slept
    central.run(SILENT_S - 10)
    assert central.states == []
    central.run(20)
    assert central.states == ["raise UNACK"]


def test_a_will_counts_while_the_database_is_away(central: Central) -> None:
    central.readings_flow = False
    central.hear("status", OFFLINE, retained=True)
    central.run(SILENT_S + 10)
    assert central.states == ["raise UNACK"]


def test_a_gateway_that_was_never_heard_of_is_not_missed(central: Central) -> None:
    central.start(known=())
    central.run(5 * SILENT_S)
    assert central.states == []
    central.hear("status", ONLINE, retained=True)
    central.run(SILENT_S + 10)
    assert central.states == ["raise UNACK"]


def test_what_anyone_may_publish_is_no_voice_of_a_registered_gateway(central: Central) -> None:
    for topic, payload in (("maillages/v1/GW/health", b""), ("x", b""), (f"maillages/v1/{GW}/status", b"{")):
        central.watch.heard(Received(topic, payload, None, None, {}, False, 1, 1))
    central.watch.heard(Received("maillages/v1/gw-other/health", b"", None, None, {}, False, 1, 1))
    central.run(SILENT_S + 10)
    assert [o.gateway for o in central.alarms.open_occurrences()] == [GW]


def test_losing_sight_of_a_flood_is_as_urgent_as_the_flood(central: Central) -> None:
    central.alarms.record(STORY[0].model_copy(update={"level": 3}), T0)
    central.run(SILENT_S + 10)
    (own,) = [o for o in central.alarms.open_occurrences() if o.source == "central"]
    assert own.level == 3


def test_what_people_read(central: Central) -> None:
    central.run(SILENT_S + 10)
    (occurrence,) = central.alarms.open_occurrences()
    event = central.alarms.event(occurrence.last_event)
    assert event is not None
    assert alarm.parse(alarm.dump(event)) == event
    station = {"gateway": GW, "commune": "61031"}
    config = CentralConfig.model_validate(
        {
            "data_dir": "/x",
            "mqtt": {"host": "x"},
            "station": [{"id": f"s{i}", "name": f"Huy, pont {i}"} | station for i in range(4)],
        }
    )
    event = event.model_copy(update={"time": rfc3339(T0)})
    sms = texts.sms(event, config.place(event))
    assert sms.startswith(
        "HUY-WAREMME PASSERELLE MUETTE. passerelle gw-huy-01 (Huy, pont 0 / Huy, pont 1 / +2): constaté"
    )
    assert "L'eau peut encore monter." in sms
    told = mail.mail(event, config.place(event))
    assert "Quoi : Passerelle, PASSERELLE MUETTE." in told.text
    assert "rien n'arrive plus de la passerelle" in told.text
    assert "capteur ne mesure plus" not in told.text
    cleared = mail.mail(event.model_copy(update={"transition": "clear", "state": "RTN_UNACK", "level": 0}), None)
    assert "passerelle de nouveau entendue" in cleared.subject


class Watching(RuleBasedStateMachine):
    """Whatever happens in whatever order: no alarm while it speaks, one when it has not for long, and a log that can be."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.db = Database(Path(self.directory.name) / "central.db")
        self.db.open()
        self.central = Central(self.db)
        self.central.watch.look()
        self.deaf_until = self.central.now
        self.spoke = -1e9

    @rule(seconds=st.integers(1, 2400))
    def time_goes_by(self, seconds: int) -> None:
        self.central.run(seconds)
        if not (self.central.alarms_flow and self.central.readings_flow):
            self.deaf_until = self.central.now

    @precondition(lambda self: self.central.alarms_flow and self.central.readings_flow)
    @rule(leaf=st.sampled_from(["health", "readings", "alarms"]))
    def it_speaks(self, leaf: str) -> None:
        self.central.hear(leaf)
        self.central.watch.look()
        self.spoke = self.central.now

    @rule(alarms=st.booleans(), readings=st.booleans())
    def lines(self, alarms: bool, readings: bool) -> None:
        self.central.alarms_flow, self.central.readings_flow = alarms, readings
        self.central.watch.look()
        self.deaf_until = self.central.now

    @rule()
    def restart(self) -> None:
        self.central.start()
        self.central.watch.look()
        self.deaf_until = self.central.now

    @precondition(lambda self: bool(self.central.alarms.open_occurrences()))
    @rule()
    def answered(self) -> None:
        for occurrence in self.central.alarms.open_occurrences():
            self.central.alarms.acknowledge(occurrence.occurrence, "x", self.central.clock.wall())
        self.central.watch.look()
        assert not [o for o in self.central.alarms.open_occurrences() if o.state in ("UNACK", "RTN_UNACK")]

    @invariant()
    def holds(self) -> None:
        alarms, now = self.central.alarms, self.central.now
        missed = [o for o in alarms.open_occurrences() if o.state in ("UNACK", "ACK")]
        assert len(alarms.open_occurrences()) <= 1
        assert alarms.impossible_events() == {}
        assert alarms.gaps(GW, "central") == []
        listening_s = now - max(self.deaf_until, self.spoke)
        if now == self.spoke:
            assert not missed, "it speaks"
        if self.central.alarms_flow and self.central.readings_flow and listening_s > SILENT_S + 10:
            assert missed, "it has not spoken for long"
        for occurrence in missed:
            assert occurrence.changed_s - T0 - self.spoke >= SILENT_S or occurrence.state == "ACK"

    def teardown(self) -> None:
        self.db.close()
        self.directory.cleanup()


TestWatching = Watching.TestCase
TestWatching.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
