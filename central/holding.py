"""What central keeps of messages that it could not store: dead letters for a person, quarantine until a station is known."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select

from central.db import Database
from central.tables import dead_letter, described_sensor, quarantine
from central.tables import gateway as gateways
from wire.station import GatewayStatus, Stations, parse_as

MAX_QUARANTINE = 100_000
"""Readings. Beyond it none is held: their packs get no receipt, and their gateway goes on sending them."""
MAX_LETTERS = 100_000
"""Beyond it the oldest go."""
MAX_LETTER_BYTES = 4096
MAX_REASON = 1000


class DeadLetter(NamedTuple):
    """A payload or record that is refused for good, and why."""

    topic: str
    reason: str
    payload: bytes
    journal: str | None = None
    number: int | None = None


class Held(NamedTuple):
    """A reading of an unregistered station or sensor: SenML name and resolved record (JSON)."""

    gateway: str
    journal: str | None
    number: int | None
    name: str
    record: dict[str, Any]
    estimated: bool


class Holding:
    """Tables of central.db. Repeats of the same letter or reading are one."""

    def __init__(self, db: Database, *, max_quarantine: int = MAX_QUARANTINE) -> None:
        self._db = db
        self._max_quarantine = max_quarantine

    def keep(self, letters: Sequence[DeadLetter], held: Sequence[Held], received_s: float) -> bool:
        """Keep both; on the disk when this returns. False when there was no room for what is held, of which none is kept."""
        if not letters and not held:
            return True
        with self._db.transaction() as tx:
            if letters:
                self._keep_letters(tx, letters, received_s)
            room = (
                not held or tx.execute(select(func.count()).select_from(quarantine)).scalar_one() < self._max_quarantine
            )
            if held and room:
                tx.execute(
                    self._db.insert(quarantine).on_conflict_do_nothing(),
                    [
                        {
                            "received_s": received_s,
                            "gateway": h.gateway,
                            "journal": h.journal,
                            "number": h.number,
                            "name": h.name,
                            "record": json.dumps(h.record),
                            "estimated": h.estimated,
                        }
                        for h in held
                    ],
                )
        return room

    def _keep_letters(self, tx: Connection, letters: Sequence[DeadLetter], received_s: float) -> None:
        # Numbered here: a sequence would also count what was kept already, and the oldest would go for repeats.
        last = tx.execute(select(func.max(dead_letter.c.id))).scalar_one() or 0
        tx.execute(
            self._db.insert(dead_letter).on_conflict_do_nothing(),
            [
                {
                    "id": number,
                    "received_s": received_s,
                    "topic": d.topic,
                    "journal": d.journal,
                    "number": d.number,
                    "reason": d.reason[:MAX_REASON],
                    "payload": d.payload[:MAX_LETTER_BYTES],
                }
                for number, d in enumerate(letters, last + 1)
            ],
        )
        tx.execute(delete(dead_letter).where(dead_letter.c.id <= last + len(letters) - MAX_LETTERS))

    def quarantined(self, gateway: str) -> list[tuple[int, Held]]:
        """Held readings of a gateway, oldest first, with their row ids."""
        q = quarantine.c
        return [
            (r.id, Held(r.gateway, r.journal, r.number, r.name, json.loads(r.record), r.estimated))
            for r in self._db.rows(select(quarantine).where(q.gateway == gateway).order_by(q.id))
        ]

    def release(self, ids: Sequence[int]) -> None:
        """These were stored."""
        with self._db.transaction() as tx:
            tx.execute(delete(quarantine).where(quarantine.c.id == bindparam("row")), [{"row": i} for i in ids])

    def gateways_in_quarantine(self) -> list[str]:
        return [r.gateway for r in self._db.rows(select(quarantine.c.gateway).distinct())]

    def unknown_names(self) -> list[tuple[str, str, int]]:
        """What waits to be registered: gateway, `<station>/<sensor>/<quantity>`, readings."""
        q = quarantine.c
        counted = select(q.gateway, q.name, func.count().label("n")).group_by(q.gateway, q.name)
        return [(r.gateway, r.name, r.n) for r in self._db.rows(counted.order_by(q.gateway, q.name))]

    def dead_letters(self, limit: int = 100) -> list[tuple[float, DeadLetter]]:
        """The newest dead letters with the time of their arrival (Unix s)."""
        newest = select(dead_letter).order_by(dead_letter.c.id.desc()).limit(limit)
        return [
            (r.received_s, DeadLetter(r.topic, r.reason, r.payload, r.journal, r.number)) for r in self._db.rows(newest)
        ]

    def prune(self, before_s: float) -> int:
        """Delete the dead letters that came before `before_s` (Unix s); how many. Held readings stay until they are stored."""
        with self._db.transaction() as tx:
            return tx.execute(delete(dead_letter).where(dead_letter.c.received_s < before_s)).rowcount

    def together(self) -> AbstractContextManager[Connection]:
        """A transaction that all calls of the block join."""
        return self._db.transaction()

    def set_stations(self, gateway: str, stations: Stations) -> None:
        described = [
            {"gateway": gateway, "station": station.id, "sensor": sensor.id}
            for station in stations.stations
            for sensor in station.sensors
        ]
        with self._db.transaction() as tx:
            self._set(gateway, {"stations": stations.model_dump_json()})
            if described:
                tx.execute(self._db.insert(described_sensor).on_conflict_do_nothing(), described)

    def described_sensors(self) -> set[tuple[str, str, str]]:
        """Every gateway, station and sensor that a gateway has ever described."""
        return {(r.gateway, r.station, r.sensor) for r in self._db.rows(select(described_sensor))}

    def set_status(self, gateway: str, status: GatewayStatus, at_s: float) -> None:
        self._set(gateway, {"status": status.model_dump_json(), "status_s": at_s})

    def _set(self, gateway: str, said: dict[str, Any]) -> None:
        with self._db.transaction() as tx:
            tx.execute(
                self._db.insert(gateways)
                .values(gateway=gateway, **said)
                .on_conflict_do_update(index_elements=["gateway"], set_=said)
            )

    def gateways(self) -> dict[str, tuple[Stations | None, GatewayStatus | None, float | None]]:
        """What each gateway last said: its stations, its status and when that came (Unix s)."""
        return {
            r.gateway: (
                parse_as(Stations, r.stations.encode()) if r.stations else None,
                parse_as(GatewayStatus, r.status.encode()) if r.status else None,
                r.status_s,
            )
            for r in self._db.rows(select(gateways))
        }
