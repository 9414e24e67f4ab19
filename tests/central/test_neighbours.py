"""Two stations of one reach that do not go together: technicians are told, once, at the time of the readings."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import ValidationError

from central.alarms.log import AlarmLog
from central.alarms.neighbours import NeighbourWatch, newest_stretch
from central.alarms.own import Own
from central.alarms.wishes import Wishes
from central.config import CentralConfig, Neighbours
from central.db import Database
from central.errors import Unavailable
from central.store.base import Reading, Series
from central.store.embedded import Embedded
from common.clock import Clock, from_rfc3339
from tests import servers
from tests.central.scene import Scene
from tests.central.test_alarm_log import T0

PAIR = Neighbours(id="pair", stations=("hoyoux-huy", "triffoys-marchin"), difference=0.5, tolerance=0.1, for_s=1800)
FIRST, SECOND = PAIR.stations


class Central:
    """The watch on a real state and a real store, on hands of its own; two stations measured each minute."""

    def __init__(self, tmp_path: Path, where: Path | str) -> None:
        self.now = 0.0
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now, trust="always")
        self.scene = Scene(tmp_path, self.clock, settings={"neighbours": [PAIR.model_dump()]})
        self.scene.store.setup()
        self.db = Database(where)
        self.db.open()
        self.alarms = AlarmLog(self.db)
        self.wishes = Wishes(self.db, self.alarms, self.clock)
        self.own = Own(self.alarms, self.wishes, self.clock, lambda: None)
        self.registry = self.scene.registry
        self.scene.db.open()
        self.scene.gateway("gw-huy-01")
        self.restart()

    def restart(self) -> None:
        self.watch = NeighbourWatch([PAIR], self.scene.store, self.registry, self.own, self.clock)

    def measure(self, station: str, value: float, *ages_s: float, qc: int = 1) -> None:
        made = Series("water_level", {"gateway": "gw-huy-01", "station": station, "sensor": "level-1"})
        self.scene.store.write([Reading(made, value, qc, round((T0 + self.now - a) * 1000)) for a in ages_s])

    def run(self, minutes: int, first: float | None, second: float | None, qc: int = 1) -> None:
        """So many minutes go by, and the watch looks."""
        self.now += 60 * minutes
        for station, value in ((FIRST, first), (SECOND, second)):
            if value is not None:
                self.measure(station, value, *range(0, 60 * minutes, 60), qc=qc)
        self.watch.look()

    @property
    def told(self) -> list[tuple[str, str, float, float]]:
        """Transition, state, time (seconds after T0) and by how much they are off, in order."""
        events = [e for o in self.alarms.newest(99) for e in self.alarms.events(o.occurrence)]
        events.sort(key=lambda e: e.seq)
        return [(e.transition, e.state, from_rfc3339(e.time) - T0, e.value or 0.0) for e in events]

    def close(self) -> None:
        self.db.close()
        self.scene.close()
        self.scene.db.close()
        self.scene.store.close()


@pytest.fixture
def central(tmp_path: Path, state_at: Path | str) -> Iterator[Central]:
    (tmp_path / "scene").mkdir()
    made = Central(tmp_path / "scene", state_at)
    yield made
    made.close()


def test_it_is_raised_after_the_delay_and_cleared_after_as_long(central: Central) -> None:
    central.run(10, 1.5, 1.0)
    central.run(30, 1.75, 1.0)
    assert central.told == [], "29 minutes"
    central.restart()
    central.run(5, 1.75, 1.0)
    assert central.told == [("raise", "UNACK", 660.0 + 1800, 0.25)], "at the time of the readings"
    central.run(29, 1.45, 1.0)
    central.run(5, 1.0, 1.0)  # the other way
    central.run(30, 1.55, 1.0)
    assert len(central.told) == 1, "in between nothing changes"
    central.run(2, 1.55, 1.0)
    assert [t[:2] for t in central.told] == [("raise", "UNACK"), ("clear", "RTN_UNACK")]
    assert central.alarms.impossible_events() == {}


def test_neighbours_that_are_none_any_more_disagree_no_more(central: Central) -> None:
    central.run(40, 1.9, 1.0)
    other = PAIR.model_copy(update={"id": "other"})
    NeighbourWatch([other], central.scene.store, central.registry, central.own, central.clock).look()
    assert [t[0] for t in central.told] == ["raise", "clear", "raise"]
    NeighbourWatch([], central.scene.store, central.registry, central.own, central.clock).look()
    assert [t[0] for t in central.told][3:] == ["clear"]
    assert central.alarms.impossible_events() == {}


def test_silence_and_refused_readings_are_no_agreement_and_a_flood_in_both_is_none_either(central: Central) -> None:
    central.run(40, 1.5, 0.7)
    assert len(central.told) == 1
    central.run(60, 1.2, None)
    central.run(60, 1.2, 0.7, qc=4)
    assert len(central.told) == 1
    central.run(34, 1.2, 0.7, qc=3)  # suspect, or of high interest: it counts
    assert [t[0] for t in central.told] == ["raise", "clear"]
    for minute in range(0, 60, 4):
        central.run(4, 1.2 + minute / 20, 0.7 + minute / 20)
    assert len(central.told) == 2


def test_what_comes_late_is_judged_at_its_own_time(central: Central) -> None:
    central.now = 7200.0
    central.watch.look()
    central.measure(FIRST, 1.9, *range(0, 5400, 60))
    central.watch.look()
    assert central.told == [], "of the other nothing has come"
    central.measure(SECOND, 1.0, *range(0, 5400, 60))
    central.watch.look()
    ((_, _, at_s, off),) = central.told
    assert (at_s, round(off, 3)) == (7200 - 5340 + 1800, 0.4)


def test_a_database_that_is_away_changes_nothing(central: Central) -> None:
    class Away(Embedded):
        def series(self, *_: object) -> list[tuple[int, float | int | str]]:
            raise Unavailable("away")

    central.run(40, 1.9, 1.0)
    watch = NeighbourWatch([PAIR], Away(central.scene.path / "away.db"), central.registry, central.own, central.clock)
    assert watch.look() == central.now + 60
    assert len(central.told) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 400), st.floats(-3, 3, allow_nan=False)), min_size=1, max_size=40
    )
)
def test_a_stretch_is_made_of_moments_that_agree_with_it(steps: list[tuple[int, int, float]]) -> None:
    points: tuple[list[tuple[int, float]], list[tuple[int, float]]] = ([], [])
    at_ms = 0
    for which, pause_s, value in steps:
        at_ms += pause_s * 1000
        points[which].append((at_ms, value))
    found = newest_stretch(points[0], points[1], PAIR, 180_000)
    both = bool(points[0] and points[1])
    assert found is None or both
    if found:
        assert found.since_ms <= found.until_ms <= at_ms
        assert found.apart == (abs(found.off) > PAIR.tolerance)
        shorter = newest_stretch(
            [p for p in points[0] if p[0] < found.since_ms],
            [p for p in points[1] if p[0] < found.since_ms],
            PAIR,
            180_000,
        )
        assert shorter is None or shorter.apart != found.apart or found.since_ms - shorter.until_ms > 180_000, (
            "it could not have begun earlier"
        )


def test_a_technician_is_told_and_no_mayor(tmp_path: Path) -> None:
    clock = Clock(trust="always")
    scene = Scene(tmp_path, clock, settings={"neighbours": [PAIR.model_dump()]})
    people = tmp_path / "recipients.json"
    people.write_text(people.read_text().replace('"id": "technicien",', '"id": "technicien", "role": "technicien",'))
    people.write_text(people.read_text().replace('"stale",', '"stale", "quality",'))
    scene.start()
    try:
        scene.gateway("gw-huy-01")
        scene.measure(f"{FIRST}/level-1/water_level", lambda _: 1.2, from_s=5400)
        scene.measure(f"{SECOND}/level-1/water_level", lambda _: 0.3, from_s=5400)
        own = Own(scene.alarms, Wishes(scene.db, scene.alarms, clock), clock, scene.notifier.wake)
        NeighbourWatch(scene.config.neighbours, scene.store, scene.registry, own, clock).look()
        servers.wait_until(lambda: bool(scene.smtp.to("technicien@huy.test")), 15, "a mail")
        (mail,) = scene.smtp.to("technicien@huy.test")
        subject = " ".join(str(mail["Subject"]).split())
        assert "STATIONS VOISINES EN DÉSACCORD - Huy, pont du Hoyoux / Marchin, vallée du Triffoys" in subject
        text = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
        assert "Écart entre elles, en plus de celui attendu : 0,40 m" in text
        assert "Écart toléré : 0,10 m" in text
        assert "allez voir" in text
        assert {to for to, _ in scene.smtp.mails} == {"technicien@huy.test"}
        page = scene.get().text
        for station in PAIR.stations:
            card = page.partition(f'id="station-{station}"')[2].partition("</article>")[0]
            assert "tations voisines en désaccord".upper() in card.upper()
    finally:
        scene.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stations": ["hoyoux-huy", "nowhere"]}, "ids of two"),
        ({"stations": ["hoyoux-huy", "hoyoux-huy"]}, "ids of two"),
        ({"id": "gateway-silent"}, "rule of central"),
        ({"tolerance": 0}, "greater than 0"),
        ({"quantity": "level"}, "expected one of water_level"),
    ],
)
def test_neighbours_that_cannot_be_are_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    stations = [{"id": i, "gateway": "gw-huy-01", "commune": "61031", "name": "Huy"} for i in PAIR.stations]
    config = {"data_dir": str(tmp_path), "mqtt": {"host": "127.0.0.1"}, "station": stations}
    with pytest.raises(ValidationError, match=said):
        CentralConfig.model_validate(config | {"neighbours": [PAIR.model_dump() | change]})
