"""Storms of silence: what falls silent together is told in one message, not in thirty.

When a bus, a power supply or a mobile network fails, many alarms of silence come at once. Telling of each waits for a moment;
`STORM` or more of one gateway's stations become one occurrence of central's own (rule `stations-silent`), as do so many gateways
(`gateways-silent`). It is told, answered and escalated in their place, at the highest of their levels, and is over when all of
them are. Their own events stay in the log as they came. What falls silent later than `JOIN_S`, or at a higher level, is told by
itself: nothing hides behind an old storm.

Silence is what is gathered, never a level of the water.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, update

from central.alarms.log import AlarmLog, Occurrence
from central.alarms.own import STANDS, Own, stands
from central.config import GATEWAY_SILENT, GATEWAYS_SILENT, PLACES, STATIONS_SILENT, CentralConfig
from central.db import Database
from central.tables import alarm_event, alarm_occurrence, escalation
from common import texts
from common.clock import Clock
from common.texts import SEVERAL
from wire.alarm import AlarmEvent

log = logging.getLogger(__name__)

STORM = 3
STATIONS_S = 15.0
"""So long telling of a silent station waits for others: within the minute after which its gateway would send its own SMS."""
GATEWAYS_S = 90.0
"""The same of a gateway: those that are cut off together are missed within a minute of each other."""
JOIN_S = 600.0
"""So long after its beginning a storm takes in what falls silent too."""

_E = escalation.c
_O = alarm_occurrence.c
_SILENT = frozenset({"stale", "comm_fail"})


class _Group(NamedTuple):
    """What makes one storm: its rule, the gateway that it is of, its kind, and the status of its alarms."""

    rule: str
    gateway: str
    kind: str
    status: str


class Storms:
    """Works on the escalations, within the transactions of the notifier's planner, who holds `own.lock`. Without `own` it begins and
    ends none."""

    def __init__(self, config: CentralConfig, db: Database, alarms: AlarmLog, own: Own | None, clock: Clock) -> None:
        self._config = config
        self._db = db
        self._alarms = alarms
        self._own = own
        self._clock = clock

    def hold_s(self, event: AlarmEvent) -> float:
        """How long telling of an event waits for others of its kind."""
        group = _group(event) if self._own else None
        return 0.0 if group is None else GATEWAYS_S if group.rule == GATEWAYS_SILENT else STATIONS_S

    def gather(self, tx: Connection, event: AlarmEvent) -> tuple[list[str], str | None]:
        """Telling of this event is due. Gives the occurrences that a storm tells of instead, and that storm; none when it is to be
        told by itself. Raises StateUnavailable."""
        group = _group(event)
        if group is None or self._own is None:
            return [], None
        waiting = self._waiting(group)
        level = max((o.level for o in waiting), default=0)
        storm = self._joinable(self._own, group, level)
        if storm is None and self._silent(group.rule, waiting)[0] >= STORM:
            storm = self._begin(self._own, group, waiting, level)
        if storm is None:
            return [], None
        gathered = [o.occurrence for o in waiting]
        tx.execute(
            update(escalation).where(_E.occurrence.in_(gathered)).values(storm=storm, stopped="storm", next_s=None)
        )
        return gathered, storm

    def end_those_over(self) -> None:
        """A storm is over when nothing that it told of is silent any more. Raises StateUnavailable."""
        standing = select(_E.storm).join(alarm_occurrence, _O.occurrence == _E.storm).where(_O.state.in_(STANDS))
        for row in self._db.rows(standing.distinct()) if self._own else ():
            storm = self._alarms.occurrence(row.storm)
            if self._own and storm and not any(stands(o) for o in self.members(row.storm)):
                self._own.end(storm)

    def members(self, storm: str) -> list[Occurrence]:
        """What a storm tells of."""
        rows = select(alarm_occurrence).join(escalation, _E.occurrence == _O.occurrence).where(_E.storm == storm)
        return [Occurrence(**row._asdict()) for row in self._db.rows(rows)]

    def events(self, storm_event: str) -> Sequence[Row[Any]]:
        """The events (`event`) for which the event of a storm speaks."""
        storm = select(_E.occurrence).where(_E.event == storm_event).scalar_subquery()
        return self._db.rows(select(_E.event).where(_E.storm == storm))

    def communes(self, event: AlarmEvent) -> frozenset[str] | None:
        """Those of the gateways of a storm; None for any other alarm."""
        if event.source != "central" or event.rule != GATEWAYS_SILENT:
            return None
        gateways = {o.gateway for o in self.members(event.occurrence)}
        return frozenset(s.commune for s in self._config.station if s.gateway in gateways)

    def counted(self, event: AlarmEvent) -> AlarmEvent:
        """The event of a storm with how many, and which, it has by now."""
        if not texts.is_storm(event) or event.transition == "clear":
            return event
        members = self.members(event.occurrence)
        count, names = self._silent(event.rule, members)
        return event.model_copy(update={"value": float(count), "note": names}) if members else event

    def _silent(self, rule: str, members: Sequence[Occurrence]) -> tuple[int, str]:
        """How many stations or gateways they are, and the first of their names; of gateways those of their communes."""
        if rule == GATEWAYS_SILENT:
            silent = {o.gateway for o in members}
            names = sorted({texts.commune(s.commune) for s in self._config.station if s.gateway in silent})
        else:
            silent = {o.station or "" for o in members}
            names = [s.name for s in self._config.station if s.id in silent]
        more = [f"+{len(names) - PLACES}"] if len(names) > PLACES else []
        return len(silent), " / ".join(names[:PLACES] + more)

    def _waiting(self, group: _Group) -> list[Occurrence]:
        """Of this group, what nobody was told of yet."""
        rows = (
            select(alarm_occurrence, alarm_event.c.json)
            .join(escalation, _E.occurrence == _O.occurrence)
            .join(alarm_event, alarm_event.c.id == _E.event)
            .where(_E.step == 0, _E.stopped.is_(None), _E.next_s.is_not(None))
            .where(_O.kind.in_(_SILENT), _O.state.in_(STANDS))
        )
        found = []
        for row in self._db.rows(rows):
            members = row._asdict()
            event = AlarmEvent.model_validate_json(members.pop("json"))
            if _group(event) == group:
                found.append(Occurrence(**members))
        return found

    def _joinable(self, own: Own, group: _Group, level: int) -> str | None:
        young_s = self._clock.wall() - JOIN_S
        for storm in own.open(group.rule):
            same = storm.gateway == group.gateway and storm.status == group.status
            if same and stands(storm) and storm.raised_s >= young_s and storm.level >= level:
                return storm.occurrence
        return None

    def _begin(self, own: Own, group: _Group, members: Sequence[Occurrence], level: int) -> str:
        count, names = self._silent(group.rule, members)
        log.warning("%s: %d silent at once (%s)", group.rule, count, group.gateway)
        facts = {"value": float(count), "note": names, "status": group.status}
        return own.begin(group.gateway, group.rule, group.kind, level, None, **facts).occurrence


def told_by(db: Database, occurrences: Collection[str]) -> Mapping[str, str]:
    """Occurrence -> the storm that told of it, of these."""
    told = select(_E.occurrence, _E.storm).where(_E.occurrence.in_(occurrences), _E.storm.is_not(None))
    return {row.occurrence: row.storm for row in db.rows(told)}


def _group(event: AlarmEvent) -> _Group | None:
    """None for what is never gathered: a storm itself, a level, what got worse."""
    if event.transition != "raise" or event.kind not in _SILENT:
        return None
    if event.source == "gateway" and event.station is not None:
        return _Group(STATIONS_SILENT, event.gateway, "stale", event.status)
    if event.source == "central" and event.rule == GATEWAY_SILENT:
        return _Group(GATEWAYS_SILENT, SEVERAL, "comm_fail", event.status)
    return None
