"""What is missing of a day: every number once, on its day, whatever was lost, repeated, thinned, or came late."""

from datetime import date, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from central.completeness import Completeness
from central.config import Station
from central.db import Database
from central.holding import Holding
from central.ranges import Ranges
from central.registry import Registry
from central.store.base import Point, Series
from central.store.embedded import Embedded
from common.clock import BRUSSELS, Clock
from wire.readings import PackProperties, parse_properties
from wire.station import QuantityInfo, SensorInfo, StationInfo, Stations

GW, JOURNAL = "gw-1", "0190f000-0000-7000-8000-000000000001"
DAY = date(2026, 10, 25)
"""Summer time ends on it: it has 25 hours."""
STATIONS = tuple(Station(id=i, gateway=GW, commune="61031", name=i) for i in ("huy", "wanze"))


def at_ms(day: date, hour: float = 12) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=BRUSSELS).timestamp() * 1000 + hour * 3_600_000)


def pack(first: int, last: int, thinned: tuple[int, int] | None = None) -> PackProperties:
    properties = {"journal": JOURNAL, "first": str(first), "last": str(last), "lane": "live"}
    if thinned:
        properties["thinned"] = f"{thinned[0]}-{thinned[1]}"
    made = parse_properties(properties, last - first + 1)
    assert made is not None
    return made


class Central:
    """The parts that a pack goes through, on the state `where`."""

    def __init__(self, where: Path | str, directory: Path) -> None:
        self.db = Database(where)
        self.db.open()
        self.store = Embedded(directory / "store.db")
        self.store.setup()
        self.registry = Registry(STATIONS, Holding(self.db))
        quantity = (QuantityInfo(quantity="water_level", period_s=60),)
        sensors = (SensorInfo(id="level", driver="x", quantities=quantity),)
        info = [StationInfo(id=s.id, name=s.id, commune="61031", lat=50.5, lon=5.2, sensors=sensors) for s in STATIONS]
        self.registry.publish(GW, Stations(stations=tuple(info)))
        self.ranges = Ranges(self.db, Clock(), lambda _: True)
        self.counted = Completeness(self.db, self.store, self.registry, Clock())

    def receive(self, made: PackProperties, day: date) -> None:
        self.ranges.add(GW, JOURNAL, made.range.first, made.range.last)
        if made.thinned:
            self.ranges.add(GW, JOURNAL, *made.thinned)
        self.counted.note(GW, made, at_ms(day))

    def save(self) -> None:
        self.ranges.save()
        self.counted.save()

    def close(self) -> None:
        self.store.close()
        self.db.close()


@given(
    fates=st.lists(
        st.tuples(st.integers(1, 20), st.sampled_from(["stored", "lost", "twice"]), st.integers(0, 1)), max_size=30
    ),
    saves=st.integers(1, 5),
)
@settings(max_examples=15)
def test_every_number_is_missing_once_at_most_and_on_one_day(tmp_path_factory, fates, saves):
    """Packs of so many numbers, each with its fate; the third says whether the next one is of the day after."""
    directory = tmp_path_factory.mktemp("central")
    central = Central(directory / "central.db", directory)
    at, day, days, twice = 1, DAY, {DAY}, 0
    for i, (count, fate, next_day) in enumerate(fates):
        made, at = pack(at, at + count - 1), at + count
        if fate != "lost":
            central.receive(made, day)
        if fate == "twice":
            central.receive(made, day)
            twice += count
        if i % saves == 0:
            central.save()
        day += timedelta(days=next_day)
        days.add(day)
    central.save()
    try:
        found = [central.counted.gateway(GW, d) for d in days]
        numbers = [n for g in found for m in g.missing for n in range(m.first, m.last + 1)]
        assert sorted(numbers) == [n for g in central.ranges.gaps(GW) for n in range(g.first, g.last + 1)]
        assert sum(g.repeated for g in found) == twice
    finally:
        central.close()


def test_a_day_of_two_stations_with_a_gap_and_some_given_up(state_at, tmp_path):
    central = Central(state_at, tmp_path)
    central.receive(pack(1, 10), DAY)
    central.receive(pack(16, 20, (11, 12)), DAY)  # 13 to 15 never came
    central.save()
    central.receive(pack(21, 24), DAY + timedelta(days=1))
    central.save()
    points = [
        Point(
            Series("water_level", {"gateway": GW, "station": station, "sensor": "level"}),
            {"value": 0.0},
            at_ms(DAY, hour),
        )
        for station, hours in {"huy": range(25), "wanze": (0, 24.9, 25, -0.1)}.items()  # the last two are of other days
        for hour in hours
    ]
    central.store.write(points)
    ((of, stations),) = central.counted.day(DAY)
    assert [(m.first, m.last) for m in of.missing] == [(13, 15)]
    assert (of.thinned, of.repeated) == (2, 0)
    assert [(s.station, s.expected, s.stored, s.missing, s.thinned) for s in stations] == [
        ("huy", 30, 25, 3, 2),
        ("wanze", 7, 2, 3, 2),
    ]
    central.counted.write(DAY)
    central.counted.write(DAY)
    rows = {row.tags["station"]: row for row in central.store.dump("completeness", 0, 2**53)}
    assert rows["huy"].fields == {"expected": 30, "stored": 25, "missing": 3, "thinned": 2}
    assert {row.time_ms for row in rows.values()} == {at_ms(DAY, 0)}
    central.close()
