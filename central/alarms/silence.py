"""Gateways that are gone altogether: central's own alarm, since nobody else can tell.

A gateway tells of a silent sensor (`stale`), never of itself. One from which nothing has come for `gateway_silent_s` raises
`comm_fail` under the rule `gateway-silent`, with source `central`; only its own voice clears it, or its leaving the registry.
What a broker says on its behalf, the Will and retained messages, is no voice.

Central hears nobody while its own line is down, while the database holds up the readings, or while it was not running: that
time does not count. A Will (`online: false`) needs only the session that brings it.
"""

import logging
import threading
from collections.abc import Callable, Iterable

from central.alarms.log import AlarmLog, Occurrence
from central.alarms.wishes import Owned, Wishes
from central.mqtt import Received
from central.status import WAY_S
from common.clock import Clock, rfc3339
from common.worker import Worker
from wire import topics
from wire.alarm import AlarmEvent, State, Transition
from wire.errors import WireError
from wire.ids import uuid7
from wire.station import GatewayStatus, parse_as

log = logging.getLogger(__name__)

RULE = "gateway-silent"
LOOK_S = 5.0
_PAUSED_S = 6 * LOOK_S
"""Real seconds between two looks after which this process, not the gateways, was away: stopped, or its machine asleep."""
_MEASURED = frozenset({"high", "low", "rise", "fall"})


class SilenceWatch:
    """Raises, clears, acknowledges and shelves these alarms in its `worker`. `heard` is called with every message, from any thread.

    `gateways`: those with a registered station. One that was never heard of at all is not missed (it may not be installed
    yet): `known` are those of earlier runs. `alarms_flow()` and `readings_flow()`: whether what a gateway sends gets here now.
    `changed()` is called after an event was recorded.
    """

    def __init__(
        self,
        gateways: Iterable[str],
        known: Iterable[str],
        alarms: AlarmLog,
        wishes: Wishes,
        clock: Clock,
        silent_s: float,
        *,
        alarms_flow: Callable[[], bool],
        readings_flow: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._gateways = frozenset(gateways)
        self._alarms = alarms
        self._wishes = wishes
        self._clock = clock
        self._silent_s = max(silent_s, WAY_S * clock.scale)
        self._alarms_flow = alarms_flow
        self._readings_flow = readings_flow
        self._changed = changed
        self._lock = threading.Lock()
        self._known = set(known) & self._gateways
        self._heard: dict[str, float] = {}  # gateway -> boot seconds
        self._offline: set[str] = set()
        self._alarms_since: float | None = None
        self._readings_since: float | None = None
        self._looked_s: float | None = None
        self.worker = Worker("silence-watch", self.look, clock)

    def heard(self, message: Received) -> None:
        """A message of a gateway, or about it, came. Never raises for what a client sent."""
        try:
            gateway, leaf = topics.parse(message.topic)
            online = leaf != topics.STATUS or parse_as(GatewayStatus, message.payload).online
        except WireError:
            return
        if gateway not in self._gateways:
            return
        with self._lock:
            self._known.add(gateway)
            if leaf == topics.STATUS:
                (self._offline.discard if online else self._offline.add)(gateway)
            if online and not message.retained:
                self._heard[gateway] = self._clock.boot()
                self._offline.discard(gateway)

    def look(self) -> float:
        """Judge every gateway now; gives the boot second of the next look. Raises StateUnavailable."""
        now = self._clock.boot()
        if self._looked_s is None or now - self._looked_s > _PAUSED_S * self._clock.scale:
            self._alarms_since = self._readings_since = None
        self._looked_s = now
        self._alarms_since = (self._alarms_since or now) if self._alarms_flow() else None
        self._readings_since = (self._readings_since or now) if self._readings_flow() else None
        self._shelve()
        open_ones = {o.gateway: o for o in self._alarms.open_occurrences() if o.source == "central" and o.rule == RULE}
        with self._lock:
            heard, offline, known = dict(self._heard), set(self._offline), set(self._known)
        for gateway in sorted(known | open_ones.keys()):
            self._judge(gateway, open_ones.get(gateway), heard.get(gateway), gateway in offline, now)
        return now + min(LOOK_S * self._clock.scale, self._silent_s / 3)

    def _shelve(self) -> None:
        """Do what people wish, and end the shelves that are over. A shelf outlasts its occurrence."""
        for wish in self._wishes.pending("central"):
            until = None if wish.until_s is None else rfc3339(wish.until_s)
            self._flag(
                wish.occurrence, "unshelve" if until is None else "shelve", by=wish.by, until=until, note=wish.why
            )
        for occurrence in self._alarms.open_occurrences():
            last = self._alarms.event(occurrence.last_event)
            if (
                occurrence.source == "central"
                and last is not None
                and last.withheld
                and not self._shelved(occurrence.gateway)
            ):
                self._flag(occurrence, "unshelve")

    def _flag(self, occurrence: Occurrence, transition: Transition, **of: str | None) -> None:
        # Evaluated afresh at the end of a shelf: one that stands is back unacknowledged.
        back = transition == "unshelve" and occurrence.state == "ACK"
        self._record(
            occurrence.gateway, transition, "UNACK" if back else occurrence.state, occurrence.level, occurrence, **of
        )

    def _shelved(self, gateway: str) -> bool:
        return Owned("central", gateway, RULE) in self._wishes.shelves()

    def _judge(
        self, gateway: str, occurrence: Occurrence | None, heard_s: float | None, offline: bool, now: float
    ) -> None:
        if occurrence is not None and occurrence.acked_by is not None and occurrence.state in ("UNACK", "RTN_UNACK"):
            state: State = "ACK" if occurrence.state == "UNACK" else "NORMAL"
            self._record(gateway, "ack", state, occurrence.level, occurrence)
            occurrence = self._alarms.occurrence(occurrence.occurrence)
        registered = gateway in self._gateways
        gone = registered and self._gone(heard_s, offline, now)
        missed = occurrence is not None and occurrence.state in ("UNACK", "ACK")
        if gone and not missed:
            resumed = occurrence if occurrence and occurrence.state == "RTN_UNACK" else None
            log.warning("gateway %s is silent: nothing has come from it for %g s", gateway, self._silent_s)
            self._record(gateway, "raise", "UNACK", self._level(gateway), resumed)
        elif missed and (not registered or (heard_s is not None and now - heard_s < self._silent_s)):
            log.info("gateway %s is %s", gateway, "heard again" if registered else "no longer registered")
            unanswered = occurrence is not None and occurrence.state == "UNACK"
            self._record(gateway, "clear", "RTN_UNACK" if unanswered else "NORMAL", 0, occurrence)

    def _gone(self, heard_s: float | None, offline: bool, now: float) -> bool:
        since = self._alarms_since if offline else self._readings_since
        if since is None or self._alarms_since is None:
            return False
        return now - max(since, self._alarms_since, heard_s or since) >= self._silent_s

    def _level(self, gateway: str) -> int:
        """Losing sight of water that has passed a threshold is no less urgent than the threshold."""
        return (
            max(
                (
                    o.level
                    for o in self._alarms.open_occurrences()
                    if o.gateway == gateway and o.kind in _MEASURED and (o.status == "Actual" or self._clock.exercise)
                ),
                default=0,
            )
            or 1
        )

    def _record(
        self,
        gateway: str,
        transition: Transition,
        state: State,
        level: int,
        occurrence: Occurrence | None,
        *,
        by: str | None = None,
        until: str | None = None,
        note: str | None = None,
    ) -> None:
        now = self._clock.wall()
        shelved = transition == "shelve" or (transition != "unshelve" and self._shelved(gateway))
        event = AlarmEvent(
            id=uuid7(now),
            occurrence=occurrence.occurrence if occurrence else uuid7(now),
            seq=self._alarms.next_seq(gateway),
            source="central",
            gateway=gateway,
            station=None,
            sensor=None,
            quantity=None,
            rule=RULE,
            kind="comm_fail",
            transition=transition,
            state=state,
            level=level,
            value=None,
            unit=None,
            threshold=None,
            time=rfc3339(now),
            clock="synchronised" if self._clock.synchronised() else "estimated",
            status="Exercise" if self._clock.exercise else "Actual",
            by=(occurrence.acked_by or "")[:200] if occurrence and transition == "ack" else by,
            until=until,
            note=note,
            withheld="shelved" if shelved else None,
        )
        self._alarms.record(event, now)
        self._changed()
