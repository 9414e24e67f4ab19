"""What the page and the API show: every registered station, alarm and gateway at one moment, the worst first."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from central import config
from central.alarms import silence
from central.alarms.log import AlarmLog, Occurrence
from central.alarms.wishes import Owned, Shelf, Wishes, owned
from central.db import Database
from central.holding import Holding
from central.notify import cap
from central.notify.shared import recipients_of
from central.notify.storms import told_by
from central.notify.told import Told, told
from central.registry import Registry
from central.status import Key, Measured, alarm_levels, measured
from central.web.chart import Chart, chart
from central.web.history import DAY_S, History, Seen, main_quantity
from common import texts
from common.clock import Clock, from_rfc3339
from common.texts import Place
from wire.alarm import AlarmEvent, Withheld
from wire.quantities import QUANTITIES
from wire.station import StationInfo

log = logging.getLogger(__name__)

State = Literal["over", "silent", "never", "unavailable", "calm", "unjudged"]
"""How a station stands: a local threshold is reached; no reading for three periods; none ever; the database does not answer;
below its thresholds; measured without thresholds."""

_ORDER: tuple[State, ...] = ("over", "silent", "never", "unavailable", "unjudged", "calm")
_MEASURED = ("high", "low", "rise", "fall")
_STEPS = ("raise", "escalate", "deescalate", "clear")
_MINUTE_S = 60.0
RECENT = 50
EXERCISE_S = 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """An occurrence as it stands, with its last event. `since_s` (Unix): when it came to the level that it has, or returned.
    `counts`: it is no exercise, or central is in one itself. `shelf`: in force. `waits_for_reset`: latched, and answered for.
    `storm`: the reference of the alarm by which people are told of it, with others. `asked`: what its owner has not confirmed yet."""

    occurrence: Occurrence
    event: AlarmEvent
    place: Place | None
    since_s: float
    counts: bool
    shelf: Shelf | None
    waits_for_reset: bool
    storm: str | None = None
    asked: tuple[str, ...] = ()

    @property
    def can_be_answered_here(self) -> bool:
        """It is no test of the links: that is answered in its own way."""
        return not texts.is_link_test(self.event)

    @property
    def reference(self) -> str:
        return texts.reference(self.occurrence.occurrence)

    @property
    def unanswered(self) -> bool:
        """Nobody has acknowledged it, and somebody is to."""
        waits = self.occurrence.state in ("UNACK", "RTN_UNACK") and self.occurrence.acked_by is None
        return waits and self.withheld is None and self.storm is None

    @property
    def withheld(self) -> Withheld | None:
        """Nobody is told of it, and why."""
        return self.event.withheld or ("shelved" if self.shelf else None)

    @property
    def grown(self) -> bool:
        """It was raised earlier than it came to where it stands."""
        return self.since_s - self.occurrence.raised_s >= _MINUTE_S

    @property
    def what(self) -> str:
        return texts.headline(self.event)

    @property
    def where(self) -> str:
        return texts.where(self.event, self.place)


@dataclass(frozen=True, slots=True)
class Station:
    """A registered station. `main` is what it is there for, None where its gateway never described it or nothing is measured.

    `level`: the highest local threshold that is reached, by its alarms or by its newest value, whichever is higher: an alarm
    keeps its level through a silence, a value counts before the alarm's delay is over. `silent`: no reading of `main`.
    """

    station: config.Station
    info: StationInfo | None
    state: State
    level: int
    silent: bool
    main: Measured | None
    others: tuple[Measured, ...]
    alarms: tuple[Alarm, ...]
    chart: Chart | None


@dataclass(frozen=True, slots=True)
class Gateway:
    """`heard_s`: when its last status came, or when it was found silent (Unix), None for never. `online` None: never heard, or
    central has no link itself."""

    id: str
    online: bool | None
    heard_s: float | None


@dataclass(frozen=True, slots=True)
class Shelved:
    """A shelf in force, whether its alarm stands at the moment or not."""

    shelf: Shelf
    place: Place | None

    @property
    def where(self) -> str:
        return texts.where(self.shelf.event, self.place)


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment. `read_s`: when the database last answered; `failed`: it does not now. `linked`: central has its broker."""

    now_s: float
    exercise: bool
    stations: tuple[Station, ...]
    alarms: tuple[Alarm, ...]
    gateways: tuple[Gateway, ...]
    read_s: float | None
    failed: bool
    linked: bool

    @property
    def levels(self) -> Mapping[int, int]:
        """How many stations have reached each local threshold as their highest."""
        return Counter(s.level for s in self.stations if s.state == "over")

    @property
    def states(self) -> Mapping[State, int]:
        return Counter(s.state for s in self.stations)

    @property
    def silent(self) -> int:
        """Stations that have fallen silent, whatever their alarms say."""
        return sum(s.silent and s.state != "never" for s in self.stations)

    @property
    def unanswered(self) -> int:
        return sum(a.unanswered and a.counts for a in self.alarms)

    @property
    def withheld(self) -> int:
        """Alarms that stand and of which nobody is told."""
        return sum(a.withheld is not None and a.counts for a in self.alarms)

    @property
    def online(self) -> int:
        return sum(g.online is True for g in self.gateways)


@dataclass(frozen=True, slots=True)
class Story:
    """An occurrence with its events in order and who was told."""

    alarm: Alarm
    events: tuple[AlarmEvent, ...]
    told: tuple[Told, ...]


class _Beside(NamedTuple):
    """What the state says of alarms beside their events: shelves, storms and wishes not confirmed, by occurrence."""

    shelves: Mapping[Owned, Shelf]
    storms: Mapping[str, str]
    asked: Mapping[str, tuple[str, ...]]


class Observer:
    """Puts the page's view together, on a reading connection of its own, so that no alarm waits for it."""

    def __init__(
        self,
        settings: config.CentralConfig,
        db: Database,
        registry: Registry,
        history: History,
        clock: Clock,
        linked: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._people = recipients_of(settings, db, clock)
        self._db = db
        self._alarms = AlarmLog(db)
        self._wishes = Wishes(db, self._alarms, clock)
        self._holding = Holding(db)
        self._registry = registry
        self._history = history
        self._clock = clock
        self._linked = linked

    def situation(self) -> Situation:
        """The situation now."""
        seen = self._history.look()
        now_s = self._clock.wall()
        standing = self._alarms.open_occurrences()
        beside = self._beside(standing)
        open_ = (a for o in standing if (a := self._alarm(o, beside)))
        alarms = [alarm for alarm in open_ if not texts.is_link_test(alarm.event)]
        alarms.sort(key=lambda a: (not a.counts, not a.unanswered, -a.occurrence.level, -a.occurrence.changed_s))
        levels = alarm_levels(self._alarms, exercise=self._clock.exercise)
        by_station: dict[str, list[Measured]] = {}
        for m in measured(self._registry, seen.readings, levels, self._clock):
            by_station.setdefault(m.station.id, []).append(m)
        stations = [
            self._station(
                station,
                by_station.get(station.id, []),
                tuple(a for a in alarms if station.id in self._stations_of(a)),
                seen,
                now_s,
            )
            for station in self._registry.stations.values()
        ]
        stations.sort(key=_urgency)
        return Situation(
            now_s,
            self._clock.exercise,
            tuple(stations),
            tuple(alarms),
            self._gateways(linked := self._linked(), [a.occurrence for a in alarms]),
            seen.read_s,
            seen.failed,
            linked,
        )

    def series(self, station: str, quantity: str, hours: float) -> list[tuple[int, float]] | None:
        """What `History.series` gives; None for a station or a quantity that there is not."""
        known = station in self._registry.stations and quantity in QUANTITIES
        return self._history.series(station, quantity, hours) if known else None

    def check(self) -> None:
        """Raises StateUnavailable when the alarm log does not answer."""
        self._alarms.newest(1)

    def note_access(self, user: str, what: str) -> None:
        """Write down who looked at people's names. A full disk hides no alarm."""
        try:
            self._people.note_access(user, what, self._clock)
        except OSError as e:
            log.error("%s: a look by %s could not be noted: %s", what, user, e)

    def shelves(self) -> tuple[Shelved, ...]:
        """Every shelf in force (ISA-18.2 asks for the list), the first to end first."""
        ordered = sorted(self._wishes.shelves().values(), key=lambda shelf: shelf.until_s)
        return tuple(Shelved(shelf, self._settings.place(shelf.event)) for shelf in ordered)

    def stories(self) -> list[Story]:
        """The newest occurrences."""
        newest = self._alarms.newest(RECENT)
        beside = self._beside(newest)
        names = {r.id: r.name for r in self._people.all()}
        stories = []
        for occurrence in newest:
            alarm = self._alarm(occurrence, beside)
            if alarm:
                events = tuple(self._alarms.events(occurrence.occurrence))
                stories.append(Story(alarm, events, tuple(told(self._db, events, occurrence.occurrence, names))))
        return stories

    def cap_feed(self, base: str) -> bytes:
        """The CAP messages of the newest occurrences as an Atom feed, the newest first."""
        found = [m for o in self._alarms.newest(RECENT) for m in cap.messages(self._alarms.events(o.occurrence))]
        found = [m for m in found if not texts.is_link_test(m.event)]
        found.sort(key=lambda m: m.sent_s, reverse=True)
        titled = [(m, cap.title(m, self._settings.place(m.event))) for m in found]
        return cap.feed(titled, base, self._clock.wall())

    def cap_message(self, identifier: str, sender: str, web: str) -> bytes | None:
        """One CAP message; None for one that there is not."""
        try:
            event = self._alarms.event(cap.event_id(identifier))
        except ValueError:
            return None
        if event is None:
            return None
        for message in cap.messages(self._alarms.events(event.occurrence)):
            if message.event.id == event.id:
                return cap.cap(message, self._settings.place(event), self._areas(event), sender, web)
        return None

    def _areas(self, event: AlarmEvent) -> list[cap.Area]:
        """The station's, or the commune's whose air it is; of neighbours both, of a whole gateway those of all its stations."""
        if commune := self._settings.commune_of(event):
            name = texts.commune(commune)
            return [cap.Area(name, commune, name, None)]
        pair = self._settings.neighbours_of(event)
        areas = []
        for station in self._settings.station:
            of_it = station.gateway == event.gateway and event.station in (None, station.id)
            if station.id in pair.stations if pair else of_it:
                info = self._registry.info(station.id)
                position = (info.lat, info.lon) if info else None
                areas.append(cap.Area(texts.commune(station.commune), station.commune, station.name, position))
        return areas

    def _stations_of(self, alarm: Alarm) -> tuple[str | None, ...]:
        """At which stations it is shown."""
        pair = self._settings.neighbours_of(alarm.event)
        return pair.stations if pair else (alarm.occurrence.station,)

    def alarm(self, occurrence: Occurrence) -> Alarm | None:
        """An occurrence with its last event; None for one that the log has just lost sight of."""
        return self._alarm(occurrence, self._beside([occurrence]))

    def _beside(self, occurrences: Sequence[Occurrence]) -> _Beside:
        storms = told_by(self._db, [o.occurrence for o in occurrences])
        return _Beside(self._wishes.shelves(), storms, self._wishes.asked())

    def _alarm(self, occurrence: Occurrence, beside: _Beside) -> Alarm | None:
        event = self._alarms.event(occurrence.last_event)
        if event is None:
            return None
        steps = [e for e in self._alarms.events(occurrence.occurrence) if e.transition in _STEPS]
        since_s = from_rfc3339(steps[-1].time) if steps else occurrence.raised_s
        counts = occurrence.status == "Actual" or self._clock.exercise
        storm = beside.storms.get(occurrence.occurrence)
        return Alarm(
            occurrence,
            event,
            self._settings.place(event),
            since_s,
            counts,
            beside.shelves.get(owned(occurrence)) if occurrence.state != "NORMAL" else None,
            self._alarms.waits_for_reset(occurrence),
            texts.reference(storm) if storm else None,
            beside.asked.get(occurrence.occurrence, ()),
        )

    def _station(
        self,
        station: config.Station,
        quantities: list[Measured],
        alarms: tuple[Alarm, ...],
        seen: Seen,
        now_s: float,
    ) -> Station:
        name = main_quantity(self._registry.sensors(station.id))
        ranked = sorted(quantities, key=lambda m: (m.info.quantity != name, m.online))
        main, others = (ranked[0], tuple(ranked[1:])) if ranked else (None, ())
        standing = [a.occurrence.level for a in alarms if a.counts and a.occurrence.kind in _MEASURED]
        level = max([*standing, *(m.reached for m in quantities if m.online)], default=0)
        silent = main is None or not main.online
        state: State
        if level:
            state = "over"
        elif main is not None and not silent:
            state = "calm" if any(t is not None for t in main.info.thresholds) else "unjudged"
        elif seen.failed:
            state = "unavailable"
        else:
            state = "silent" if main is not None and main.newest is not None else "never"
        drawn = None
        if main is not None and main.newest is not None:
            key = Key(main.info.quantity, station.id, main.sensor)
            drawn = chart(seen.day.get(key, []), main.info, now_s, self._span_s())
        info = self._registry.info(station.id)
        return Station(station, info, state, level, silent and state != "unavailable", main, others, alarms, drawn)

    def _span_s(self) -> float:
        """What the charts show: a day; an exercise has no yesterday."""
        return EXERCISE_S if self._clock.exercise else DAY_S

    def _gateways(self, linked: bool, standing: Sequence[Occurrence]) -> tuple[Gateway, ...]:
        said = self._holding.gateways()
        # Its last word may have been that it is online.
        silent_s = {o.gateway: o.raised_s for o in standing if o.rule == silence.RULE and o.state != "RTN_UNACK"}
        found = []
        for gateway in sorted({s.gateway for s in self._settings.station}):
            if gateway in silent_s and linked:
                found.append(Gateway(gateway, False, silent_s[gateway]))
                continue
            _, status, at_s = said.get(gateway, (None, None, None))
            found.append(Gateway(gateway, status.online if status and linked else None, at_s if status else None))
        return tuple(sorted(found, key=lambda g: (g.online is True, g.online is False, g.id)))


def _urgency(s: Station) -> tuple[object, ...]:
    """Levels first, the highest alone on top; among equals what nobody has answered, then what has fallen silent."""
    alarm = max((a.occurrence.level for a in s.alarms if a.counts), default=0)
    unanswered = any(a.counts and a.unanswered for a in s.alarms)
    return -max(s.level, alarm), not unanswered, _ORDER.index(s.state), not s.silent, s.station.name
