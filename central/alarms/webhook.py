"""Alerts that Grafana posts: they end in the same log as the gateways' alarms, and the same people are told once.

An alert joins what stands for it already: the gateways' own alarms are raised sooner, and nobody is told again. One for which nothing
stands is raised as central's own, under the rule `grafana-<label regle>`. It ends when Grafana says that the condition is over, and only
on evidence: an alert that resolved because its series vanished (Grafana puts the reason into an annotation), or whose station is
silent, leaves it standing until an alert ends with evidence or a person resets it.

The alarm log is all the memory: a delivery that comes again, late or in the wrong order is known by the time at which the alert began.

The payload is that of Grafana's webhook contact point, the same from 9.4 to 13 (grafana.com/docs, "Configure the webhook notifier");
members beyond those read here are ignored. The labels are those that `grafana/alerts.py` gives its rules.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from central.alarms.log import Occurrence
from central.alarms.own import Own, stands
from central.errors import NeedsPerson, Refused, Unavailable
from central.registry import Registry
from central.status import Measured
from common.clock import Clock, from_rfc3339, rfc3339
from common.texts import GRAFANA_RULE
from wire.alarm import AlarmEvent, Kind, describe
from wire.ids import Id
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

MAX_ALERTS = 500
LOOK_S = 15.0
"""Real seconds for which what the stations measure is not read again: alerts come in bursts."""

Outcome = Literal["raised", "changed", "ended", "joined", "known", "over", "unproven", "undescribed", "ignored"]
"""What became of an alert: `joined` an alarm that stands; nothing new (`known`); of something that is `over`; it ended without evidence
(`unproven`); its station was never described, so that nothing is known of it; a test, or a fault of Grafana's own queries (`ignored`)."""

_REASON = "grafana_state_reason"
_NOT_RULES = frozenset({"TestAlert", "DatasourceNoData", "DatasourceError"})
_MEASURED: frozenset[str] = frozenset({"high", "low", "rise", "fall"})
_SILENT: frozenset[str] = frozenset({"stale", "comm_fail"})
_EPOCH = datetime.fromtimestamp(0, UTC)
_SETS_LEVEL = frozenset({"raise", "escalate", "deescalate"})


class Alert(BaseModel):
    """`values`: of the rule's expressions, by their letter."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    status: Literal["firing", "resolved"]
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = {}
    startsAt: Annotated[AwareDatetime, Field(ge=_EPOCH)]  # noqa: N815 - Grafana's spelling
    endsAt: AwareDatetime | None = None  # noqa: N815
    fingerprint: str = ""
    values: Mapping[str, float | None] | None = None


class Delivery(BaseModel):
    model_config = ConfigDict(frozen=True)

    alerts: tuple[Alert, ...] = Field(min_length=1, max_length=MAX_ALERTS)


class _Labels(BaseModel):
    """Those by which an alarm is known. `moyenne_h`: the value is a mean over so many hours."""

    model_config = ConfigDict(frozen=True)

    regle: Annotated[Id, Field(max_length=63 - len(GRAFANA_RULE))]
    genre: Kind
    seuil: int = Field(ge=1, le=3)
    station: Id | None = None
    gateway: Id | None = None
    sensor: Id | None = None
    quantity: str | None = Field(default=None, pattern="^[a-z0-9_]{1,40}$")
    moyenne_h: int | None = Field(default=None, ge=1, le=24)


class Done(NamedTuple):
    fingerprint: str
    outcome: Outcome
    occurrence: str | None = None


def parse(payload: bytes) -> Delivery:
    """Raises Refused, which names the member and what was expected."""
    try:
        return Delivery.model_validate_json(payload)
    except ValidationError as e:
        raise Refused(describe(e)) from None


class Webhook:
    """Takes deliveries, from any thread. `measured()`: what all stations measure now; it may raise Unavailable or NeedsPerson."""

    def __init__(self, own: Own, registry: Registry, clock: Clock, measured: Callable[[], Sequence[Measured]]) -> None:
        self._own = own
        self._registry = registry
        self._clock = clock
        self._measured = measured
        self._looking = threading.Lock()
        self._looked: tuple[float, Sequence[Measured]] | None = None

    def take(self, delivery: Delivery) -> list[Done]:
        """Do what the alerts ask. One that cannot be placed is named in a Refused when all others are done; a delivery that comes again
        changes nothing. Raises StateUnavailable."""
        done, wrong = [], []
        for alert in delivery.alerts:
            if alert.labels.get("alertname") in _NOT_RULES:
                done.append(Done(alert.fingerprint, "ignored"))
                continue
            try:
                labels = _labels(alert)
                gateway = self._gateway(labels)
            except Refused as e:
                wrong.append(f"alert {alert.labels.get('alertname', alert.fingerprint)!r}: {e}")
                continue
            outcome, occurrence = self._take(alert, labels, gateway)
            where = " ".join(filter(None, (labels.station or gateway, labels.sensor, labels.quantity)))
            log.info("Grafana: %s %s, %s: %s", labels.regle, alert.status, where, outcome)
            done.append(Done(alert.fingerprint, outcome, occurrence))
        if wrong:
            log.warning("Grafana: %s", "; ".join(wrong))
            raise Refused("; ".join(wrong))
        return done

    def _gateway(self, labels: _Labels) -> str:
        if labels.station is not None:
            if (owner := self._registry.owner(labels.station)) is None:
                raise Refused(f"label station {labels.station!r}: expected the id of a registered station")
            return owner
        if labels.gateway not in {s.gateway for s in self._registry.stations.values()}:
            raise Refused(f"expected a label station or gateway of a registered one, found gateway {labels.gateway!r}")
        return str(labels.gateway)

    def _take(self, alert: Alert, labels: _Labels, gateway: str) -> tuple[Outcome, str | None]:
        if labels.station is not None and self._registry.info(labels.station) is None:
            return "undescribed", None
        began_s = round(min(alert.startsAt.timestamp(), self._clock.wall()), 3)  # as an event has it
        now = self._now(labels) if labels.genre in _MEASURED else None  # a slow database must not hold the lock
        with self._own.lock:
            mine = self._mine(labels, gateway)
            if alert.status == "resolved":
                # What is measured returns only where it is measured.
                here = labels.genre not in _MEASURED or (now is not None and now.online)
                proven = here and not alert.annotations.get(_REASON)
                return self._resolved(alert, labels, began_s, mine, proven=proven)
            return self._firing(labels, gateway, began_s, mine, _facts(alert, labels, began_s, now))

    def _firing(
        self,
        labels: _Labels,
        gateway: str,
        began_s: float,
        mine: tuple[Occurrence, AlarmEvent] | None,
        facts: dict[str, Any],
    ) -> tuple[Outcome, str | None]:
        if mine is not None and began_s <= from_rfc3339(mine[1].time):
            return ("known" if stands(mine[0]) else "over"), mine[0].occurrence
        for other in self._others(labels, gateway, began_s):
            if stands(other) and other.level >= labels.seuil:
                return "joined", other.occurrence
            if other.raised_s <= began_s <= other.changed_s:  # it has gone, or gone down, since Grafana looked
                return "over", other.occurrence
        if mine is not None and stands(mine[0]):
            occurrence = mine[0]
            if labels.seuil > occurrence.level:
                self._own.follow(occurrence, "escalate", "UNACK", labels.seuil, **facts)
            elif labels.seuil < occurrence.level:
                self._own.follow(occurrence, "deescalate", occurrence.state, labels.seuil, **facts)
            else:
                return "known", occurrence.occurrence
            return "changed", occurrence.occurrence
        resumed = mine[0] if mine is not None and mine[0].state == "RTN_UNACK" else None
        rule = GRAFANA_RULE + labels.regle
        event = self._own.begin(gateway, rule, labels.genre, labels.seuil, resumed, **facts)
        return "raised", event.occurrence

    def _resolved(
        self,
        alert: Alert,
        labels: _Labels,
        began_s: float,
        mine: tuple[Occurrence, AlarmEvent] | None,
        *,
        proven: bool,
    ) -> tuple[Outcome, str | None]:
        if mine is None or not stands(mine[0]):
            return "over", mine[0].occurrence if mine else None
        occurrence, basis = mine
        if began_s < from_rfc3339(basis.time) or labels.seuil != occurrence.level:
            return "known", occurrence.occurrence
        if not proven:
            return "unproven", occurrence.occurrence
        ended_s = alert.endsAt.timestamp() if alert.endsAt else 0.0
        now_s = self._clock.wall()
        self._own.end(occurrence, time=rfc3339(ended_s if from_rfc3339(basis.time) <= ended_s <= now_s else now_s))
        return "ended", occurrence.occurrence

    def _mine(self, labels: _Labels, gateway: str) -> tuple[Occurrence, AlarmEvent] | None:
        """Central's own last alarm of this rule there, and the event by which it came to its level."""
        alarms = self._own.alarms
        for occurrence in alarms.of_rule("central", gateway, GRAFANA_RULE + labels.regle, labels.station):
            setting = [e for e in alarms.events(occurrence.occurrence) if e.transition in _SETS_LEVEL]
            if setting and _same(setting[-1], labels):
                return occurrence, setting[-1]
        return None

    def _others(self, labels: _Labels, gateway: str, since_s: float) -> Iterator[Occurrence]:
        """What has been raised for the same by somebody else and was open then or later: told already."""
        alarms = self._own.alarms
        # A threshold that Grafana reads is the level of the gateways' open alarms, of whatever measured kind.
        kinds = _MEASURED if labels.genre == "high" else _SILENT if labels.genre in _SILENT else {labels.genre}
        status = "Exercise" if self._clock.exercise else "Actual"
        for other in alarms.of_gateway(gateway, since_s):
            if other.kind not in kinds or other.status != status or other.rule.startswith(GRAFANA_RULE):
                continue
            gone = other.source == "central" and other.station is None  # a gateway, with all its stations
            here = other.source == "gateway" and other.station == labels.station and self._fits(other, labels)
            if here or (gone and labels.genre in _SILENT):
                yield other

    def _fits(self, other: Occurrence, labels: _Labels) -> bool:
        event = self._own.alarms.event(other.last_event)
        if event is None:
            return False
        quantity = labels.quantity if labels.genre in _MEASURED | {"system"} else None
        return (quantity is None or event.quantity == quantity) and labels.sensor in (None, event.sensor)

    def _now(self, labels: _Labels) -> Measured | None:
        """What the station measures of the quantity now; None where that is not known."""
        with self._looking:
            now = self._clock.boot()
            if self._looked is None or self._clock.real(now - self._looked[0]) > LOOK_S:
                try:
                    self._looked = now, self._measured()
                except (Unavailable, NeedsPerson):
                    return None
            found = [
                m for m in self._looked[1] if m.station.id == labels.station and m.info.quantity == labels.quantity
            ]
        return max(found, key=lambda m: m.online, default=None)


def _facts(alert: Alert, labels: _Labels, began_s: float, now: Measured | None) -> dict[str, Any]:
    """What an event says beside its state."""
    said = (alert.values or {}).get("B")
    known = QUANTITIES.get(labels.quantity or "")
    facts: dict[str, Any] = {
        "station": labels.station,
        "sensor": labels.sensor,
        "quantity": labels.quantity,
        "unit": known.unit if known else None,
        "time": rfc3339(began_s),
    }
    if labels.genre == "power" or labels.moyenne_h is not None:
        facts |= {"value": said, "mean_h": labels.moyenne_h}
    elif now is not None and now.online and now.newest is not None:
        facts |= {"value": now.newest[1], "trend_per_h": now.trend_per_h}
    if labels.genre == "rise":
        facts["trend_per_h"] = said
    return facts


def _labels(alert: Alert) -> _Labels:
    """Raises Refused."""
    try:
        return _Labels.model_validate(alert.labels)
    except ValidationError as e:
        raise Refused(f"label {describe(e)}") from None


def _same(event: AlarmEvent, labels: _Labels) -> bool:
    return (event.station, event.sensor, event.quantity) == (labels.station, labels.sensor, labels.quantity)
