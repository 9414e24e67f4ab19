"""All gateways at a glance, for `maillages-central fleet`: read from the state and the store, beside a running central."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from central.alarms.log import Occurrence
from central.config import CentralConfig
from central.holding import Holding
from central.identities import Identities
from central.store.base import Store
from common.clock import Clock, rfc3339

DAY_S = 86400
FAULTS = ("system", "power", "comm_fail", "stale", "quality")
"""Kinds of alarms that are a technician's and not the water's."""
_BATTERY = {"battery_level": "%", "battery_voltage": "V"}


@dataclass(frozen=True, slots=True)
class Member:
    """A gateway. `online`: as its status says, None when it never spoke. `seen_s`: of its newest health, or status (Unix s).
    `completeness`: of the readings that its periods promise for the last 24 hours, the share that is stored; None where no period is
    known. `batteries`: the newest values, `station/sensor` and value with unit. `waiting`: readings in its journal. What is not
    known is None."""

    gateway: str
    commune: str | None
    online: bool | None
    version: str | None
    seen_s: float | None
    certificate_days: float | None
    completeness: float | None
    batteries: tuple[str, ...]
    waiting: int | None
    faults: tuple[str, ...]

    @property
    def good(self) -> bool:
        return bool(self.online) and not self.faults

    def to_json(self) -> dict[str, Any]:
        seen = None if self.seen_s is None else rfc3339(self.seen_s)
        return {name: value for name, value in asdict(self).items() if name != "seen_s"} | {"seen": seen}


def fleet(
    config: CentralConfig,
    holding: Holding,
    identities: Identities,
    store: Store,
    standing: Iterable[Occurrence],
    clock: Clock,
) -> Iterator[Member]:
    """Every gateway that is registered, enrolled or has spoken, by name. Raises Unavailable or NeedsPerson of the store."""
    said = holding.gateways()
    enrolled = {known.gateway: known for known in identities.enrolled()}
    registered: dict[str, set[str]] = {}
    for station in config.station:
        registered.setdefault(station.gateway, set()).add(station.id)
    alarms = list(standing)
    now_ms = round(clock.wall() * 1000)
    for gateway in sorted(said.keys() | enrolled.keys() | registered.keys()):
        stations, status, status_s = said.get(gateway, (None, None, None))
        tags = {"gateway": gateway}
        health = {field: store.last("gateway_health", tags, field) for field in ("journal_depth", "certificate_days")}
        depth, days = health["journal_depth"], health["certificate_days"]
        own = enrolled.get(gateway)
        seen = [at for at in (status_s, depth[0] / 1000 if depth else None) if at is not None]
        stored = promised = 0.0
        batteries = []
        for station_info in stations.stations if stations else ():
            if station_info.id not in registered.get(gateway, ()):
                continue
            for sensor in station_info.sensors:
                where = {"station": station_info.id, "sensor": sensor.id}
                for q in sensor.quantities:
                    if q.period_s > 0:
                        expected = DAY_S / q.period_s
                        promised += expected
                        stored += min(expected, store.count(q.quantity, now_ms - DAY_S * 1000, now_ms, where))
                for quantity, unit in _BATTERY.items():
                    newest = store.last(quantity, where)
                    if newest is not None:
                        batteries.append(f"{station_info.id}/{sensor.id} {newest[1]:g} {unit}")
        yield Member(
            gateway=gateway,
            commune=own.commune if own else None,
            online=None if status is None else status.online,
            version=None if status is None else status.version,
            seen_s=max(seen, default=None),
            certificate_days=(own.not_after_s - clock.wall()) / DAY_S if own else float(days[1]) if days else None,
            completeness=stored / promised if promised else None,
            batteries=tuple(batteries),
            waiting=int(depth[1]) if depth else None,
            faults=tuple(
                a.rule for a in alarms if a.gateway == gateway and (a.kind in FAULTS or a.source == "central")
            ),
        )
