"""What central keeps of messages that it could not store: dead letters for a person, quarantine until a station is known."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from central.db import Database
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
            tx.executemany(
                "INSERT OR IGNORE INTO dead_letter (received_s, topic, journal, number, reason, payload)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (received_s, d.topic, d.journal, d.number, d.reason[:MAX_REASON], d.payload[:MAX_LETTER_BYTES])
                    for d in letters
                ],
            )
            if letters:
                tx.execute("DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?", (MAX_LETTERS,))
            room = not held or tx.execute("SELECT count(*) FROM quarantine").fetchone()[0] < self._max_quarantine
            if held and room:
                tx.executemany(
                    "INSERT OR IGNORE INTO quarantine (received_s, gateway, journal, number, name, record, estimated)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (received_s, h.gateway, h.journal, h.number, h.name, json.dumps(h.record), h.estimated)
                        for h in held
                    ],
                )
        return room

    def quarantined(self, gateway: str) -> list[tuple[int, Held]]:
        """Held readings of a gateway, oldest first, with their row ids."""
        rows = self._db.rows("SELECT * FROM quarantine WHERE gateway = ? ORDER BY id", gateway)
        return [
            (
                r["id"],
                Held(r["gateway"], r["journal"], r["number"], r["name"], json.loads(r["record"]), bool(r["estimated"])),
            )
            for r in rows
        ]

    def release(self, ids: Sequence[int]) -> None:
        """These were stored."""
        with self._db.transaction() as tx:
            tx.executemany("DELETE FROM quarantine WHERE id = ?", [(i,) for i in ids])

    def gateways_in_quarantine(self) -> list[str]:
        return [r["gateway"] for r in self._db.rows("SELECT DISTINCT gateway FROM quarantine")]

    def unknown_names(self) -> list[tuple[str, str, int]]:
        """What waits to be registered: gateway, `<station>/<sensor>/<quantity>`, readings."""
        rows = self._db.rows("SELECT gateway, name, count(*) AS n FROM quarantine GROUP BY gateway, name ORDER BY 1, 2")
        return [(r["gateway"], r["name"], r["n"]) for r in rows]

    def dead_letters(self, limit: int = 100) -> list[tuple[float, DeadLetter]]:
        """The newest dead letters with the time of their arrival (Unix s)."""
        rows = self._db.rows("SELECT * FROM dead_letter ORDER BY id DESC LIMIT ?", limit)
        return [
            (r["received_s"], DeadLetter(r["topic"], r["reason"], bytes(r["payload"]), r["journal"], r["number"]))
            for r in rows
        ]

    def prune(self, before_s: float) -> int:
        """Delete the dead letters that came before `before_s` (Unix s); how many. Held readings stay until they are stored."""
        with self._db.transaction() as tx:
            return tx.execute("DELETE FROM dead_letter WHERE received_s < ?", (before_s,)).rowcount

    def set_stations(self, gateway: str, stations: Stations) -> None:
        with self._db.transaction() as tx:
            tx.execute(
                "INSERT INTO gateway (gateway, stations) VALUES (?, ?)"
                " ON CONFLICT (gateway) DO UPDATE SET stations = excluded.stations",
                (gateway, stations.model_dump_json()),
            )
            tx.executemany(
                "INSERT OR IGNORE INTO described_sensor VALUES (?, ?, ?)",
                [(gateway, station.id, sensor.id) for station in stations.stations for sensor in station.sensors],
            )

    def described_sensors(self) -> set[tuple[str, str, str]]:
        """Every gateway, station and sensor that a gateway has ever described."""
        return {(r["gateway"], r["station"], r["sensor"]) for r in self._db.rows("SELECT * FROM described_sensor")}

    def set_status(self, gateway: str, status: GatewayStatus, at_s: float) -> None:
        with self._db.transaction() as tx:
            tx.execute(
                "INSERT INTO gateway (gateway, status, status_s) VALUES (?, ?, ?)"
                " ON CONFLICT (gateway) DO UPDATE SET status = excluded.status, status_s = excluded.status_s",
                (gateway, status.model_dump_json(), at_s),
            )

    def gateways(self) -> dict[str, tuple[Stations | None, GatewayStatus | None, float | None]]:
        """What each gateway last said: its stations, its status and when that came (Unix s)."""
        return {
            r["gateway"]: (
                parse_as(Stations, r["stations"].encode()) if r["stations"] else None,
                parse_as(GatewayStatus, r["status"].encode()) if r["status"] else None,
                r["status_s"],
            )
            for r in self._db.rows("SELECT * FROM gateway")
        }
