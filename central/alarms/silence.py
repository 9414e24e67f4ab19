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

from central.alarms.log import Occurrence
from central.alarms.own import Own, stands
from central.config import GATEWAY_SILENT
from central.mqtt import Received
from central.status import WAY_S
from common.clock import Clock
from common.worker import Worker
from wire import topics
from wire.errors import WireError
from wire.station import GatewayStatus, parse_as

log = logging.getLogger(__name__)

RULE = GATEWAY_SILENT
LOOK_S = 5.0
_PAUSED_S = 6 * LOOK_S
"""Real seconds between two looks after which this process, not the gateways, was away: stopped, or its machine asleep."""
_MEASURED = frozenset({"high", "low", "rise", "fall"})


class SilenceWatch:
    """Raises and clears these alarms in its `worker`, and keeps all of central's own as people wish.
    `heard` is called with every message, from any thread.

    `gateways`: those with a registered station. One that was never heard of at all is not missed (it may not be installed
    yet): `known` are those of earlier runs. `alarms_flow()` and `readings_flow()`: whether what a gateway sends gets here now.
    """

    def __init__(
        self,
        gateways: Iterable[str],
        known: Iterable[str],
        own: Own,
        clock: Clock,
        silent_s: float,
        *,
        alarms_flow: Callable[[], bool],
        readings_flow: Callable[[], bool],
    ) -> None:
        self._gateways = frozenset(gateways)
        self._own = own
        self._clock = clock
        self._silent_s = max(silent_s, WAY_S * clock.scale)
        self._alarms_flow = alarms_flow
        self._readings_flow = readings_flow
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
        with self._lock:
            heard, offline, known = dict(self._heard), set(self._offline), set(self._known)
        self._own.keep()
        with self._own.lock:
            open_ones = {o.gateway: o for o in self._own.open(RULE)}
            for gateway in sorted(known | open_ones.keys()):
                self._judge(gateway, open_ones.get(gateway), heard.get(gateway), gateway in offline, now)
        return now + min(LOOK_S * self._clock.scale, self._silent_s / 3)

    def _judge(
        self, gateway: str, occurrence: Occurrence | None, heard_s: float | None, offline: bool, now: float
    ) -> None:
        registered = gateway in self._gateways
        gone = registered and self._gone(heard_s, offline, now)
        missed = stands(occurrence)
        if gone and not missed:
            resumed = occurrence if occurrence and occurrence.state == "RTN_UNACK" else None
            log.warning("gateway %s is silent: nothing has come from it for %g s", gateway, self._silent_s)
            self._own.begin(gateway, RULE, "comm_fail", self._level(gateway), resumed)
        elif occurrence and missed and (not registered or (heard_s is not None and now - heard_s < self._silent_s)):
            log.info("gateway %s is %s", gateway, "heard again" if registered else "no longer registered")
            self._own.end(occurrence)

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
                    for o in self._own.alarms.open_occurrences()
                    if o.gateway == gateway and o.kind in _MEASURED and (o.status == "Actual" or self._clock.exercise)
                ),
                default=0,
            )
            or 1
        )
