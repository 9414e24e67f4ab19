"""The `alarm` series is the alarm log once more: all of it, in its own times, however long the database was away."""

import pytest

from central.alarms.log import AlarmLog
from central.alarms.series import AlarmSeries
from central.db import Database
from central.errors import Unavailable
from central.store.embedded import Embedded
from common.clock import Clock
from common.texts import Place
from tests import servers
from tests.central.test_alarm_log import OCC, STORY, T0, event


class Away:
    """A store that is away until it is `there`."""

    def __init__(self, store):
        self.there = False
        self.asked = 0
        self._store = store

    def write(self, points):
        self.asked += 1
        if not self.there:
            raise Unavailable("away")
        return self._store.write(points)


@pytest.fixture
def parts(tmp_path):
    db = Database(tmp_path / "central.db")
    db.open()
    store = Embedded(tmp_path / "store.db")
    store.setup()
    yield db, AlarmLog(db), store
    store.close()
    db.close()


def series_on(db, alarms, store, scale=1.0):
    clock = Clock(scale=scale)
    return AlarmSeries(store, db, alarms, clock, lambda _: Place("Huy, pont du Hoyoux", "Hoyoux"))


def test_every_event_is_copied_once_and_after_an_outage(parts):
    db, alarms, store = parts
    away = Away(store)
    series = series_on(db, alarms, away, scale=100)
    series.worker.start()
    for e in STORY[:5]:
        alarms.record(e, T0)
    series.worker.wake()
    servers.wait_until(lambda: away.asked >= 2, 10, "it tries again")
    assert store.dump("alarm", 0, 2**53) == []
    away.there = True
    servers.wait_until(lambda: len(store.dump("alarm", 0, 2**53)) == 5, 10, "the copy")
    series.worker.stop()
    later = series_on(db, alarms, store)  # a new process goes on where the old one was
    for e in STORY[5:]:
        alarms.record(e, T0)
    assert later.copy() == len(STORY) - 5
    assert later.copy() == 0
    rows = store.dump("alarm", 0, 2**53)
    assert [r.fields["transition"] for r in rows] == [e.transition for e in STORY]
    assert [r.time_ms for r in rows] == [round((T0 + 60 * e.seq) * 1000) for e in STORY]
    assert {r.tags["station"] for r in rows} == {"hoyoux-huy"}
    assert {r.fields["quantity"] for r in rows} == {"water_level"}
    assert rows[2].fields["text"] == "Huy, pont du Hoyoux : acquittée par planu (seuil local 3 atteint)"


def test_two_events_of_one_rule_in_one_millisecond_are_two_points(parts):
    db, alarms, store = parts
    same = {"time": STORY[0].time, "value": None}
    alarms.record(event(1, "raise", "UNACK", **same), T0)
    alarms.record(event(2, "escalate", "UNACK", 2, **same), T0)
    alarms.record(event(1, "raise", "UNACK", occurrence=OCC[:-1] + "f", rule="other", gateway="gw-2", **same), T0)
    series_on(db, alarms, store).copy()
    rows = store.dump("alarm", 0, 2**53)
    assert sorted((r.tags["rule"], r.time_ms) for r in rows) == [
        ("hoyoux-high", round((T0 + 60) * 1000)),
        ("hoyoux-high", round((T0 + 60) * 1000) + 1),
        ("other", round((T0 + 60) * 1000)),
    ]
    assert all("value" not in r.fields for r in rows)
