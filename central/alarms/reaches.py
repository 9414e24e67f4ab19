"""Water that is on its way: a level reached upstream warns the communes downstream, with the time that it may take.

A local threshold and a travel time that people configured (`[[reach]]`), no forecast. Times are those of the events upstream: what comes
late is told with its own time while it stands, and what has returned by then is never raised. A warning outlasts the alarm
upstream by the travel time, since the water that was above the threshold last still has to pass.
"""

import logging
from collections.abc import Sequence

from central.alarms.log import Occurrence
from central.alarms.own import Own, stands
from central.config import Reach
from common.clock import Clock, from_rfc3339, rfc3339
from common.worker import Worker
from wire.alarm import EXERCISE, AlarmEvent

log = logging.getLogger(__name__)

_SOURCES = frozenset({"high", "rise"})


class ReachWatch:
    """Follows the alarm log in its `worker`: wake it when that has changed."""

    def __init__(self, reaches: Sequence[Reach], own: Own, clock: Clock) -> None:
        self._reaches = reaches
        self._own = own
        self._clock = clock
        self.worker = Worker("reach-watch", self.look, clock)

    def look(self) -> float | None:
        """Judge every reach now; gives the boot second at which one may end, or None. Raises StateUnavailable."""
        if not self._reaches:
            return None
        ends = []
        with self._own.lock:
            upstream = [
                (o, event)
                for o in self._own.alarms.open_occurrences()
                if o.source == "gateway" and stands(o) and o.kind in _SOURCES and o.rule != EXERCISE
                if (event := self._cause(o)) is not None and event.quantity == "water_level"
            ]
            warnings = self._own.open(*(r.id for r in self._reaches))
            for reach in self._reaches:
                mine = [(o, event) for o, event in upstream if o.station == reach.upstream]
                statuses = {o.status for o, _ in mine} | {w.status for w in warnings if w.rule == reach.id}
                for status in sorted(statuses):
                    warning = next((w for w in warnings if (w.rule, w.status) == (reach.id, status)), None)
                    ends.append(self._judge(reach, [m for m in mine if m[0].status == status], warning))
        return min((end for end in ends if end is not None), default=None)

    def _judge(
        self, reach: Reach, upstream: list[tuple[Occurrence, AlarmEvent]], warning: Occurrence | None
    ) -> float | None:
        told = [(o, event) for o, event in upstream if o.level >= reach.level and not self._withheld(o)]
        worst, event = max(told, key=lambda m: (m[0].level, -from_rfc3339(m[1].time)), default=(None, None))
        if worst is not None and event is not None:
            facts = event.model_dump(
                include={
                    "station",
                    "sensor",
                    "quantity",
                    "value",
                    "unit",
                    "threshold",
                    "trend_per_h",
                    "time",
                    "clock",
                    "status",
                }
            )
            if warning is None or not stands(warning):
                log.warning("%s: level %d at %s", reach.id, worst.level, reach.upstream)
                self._own.begin(worst.gateway, reach.id, "high", worst.level, warning, **facts)
            elif worst.level > warning.level:
                self._own.follow(warning, "escalate", "UNACK", worst.level, **facts)
            elif worst.level < warning.level:
                self._own.follow(warning, "deescalate", warning.state, worst.level, **facts)
        elif warning is not None and stands(warning) and not any(o.level >= reach.level for o, _ in upstream):
            over_s = self._returned(reach, warning) + reach.travel_s
            if over_s > self._clock.wall():
                return self._clock.boot() + over_s - self._clock.wall()
            self._own.end(warning, time=rfc3339(over_s))
        return None

    def _cause(self, occurrence: Occurrence) -> AlarmEvent | None:
        """The event by which an alarm came to its level."""
        cause: AlarmEvent | None = None
        for event in self._own.alarms.events(occurrence.occurrence):
            if cause is None or event.transition == "raise" or (event.level and event.level != cause.level):
                cause = event
        return cause

    def _withheld(self, occurrence: Occurrence) -> bool:
        """Whether nobody is to be told of it where it was raised: then nobody downstream either, anew."""
        last = self._own.alarms.event(occurrence.last_event)
        return last is not None and last.withheld is not None

    def _returned(self, reach: Reach, warning: Occurrence) -> float:
        """When the water upstream was last known to be above (Unix)."""
        return max(
            (
                at_s
                for o in self._own.alarms.of_station(reach.upstream, since_s=warning.raised_s)
                if o.status == warning.status and o.kind in _SOURCES
                if (at_s := self._end_of(o, reach.level)) is not None
            ),
            default=warning.changed_s,
        )

    def _end_of(self, occurrence: Occurrence, level: int) -> float | None:
        """When an alarm left `level` last; None when it never had it."""
        above, left_s = False, None
        for event in self._own.alarms.events(occurrence.occurrence):
            if above and event.level < level:
                left_s = from_rfc3339(event.time)
            above = event.level >= level
        return occurrence.reconciled_s if above else left_s
