"""Which gateways are enrolled: the certificates that the CA has given, in central.db."""

from typing import NamedTuple

from central.authority import Issued
from central.db import Database

DAY_S = 86400


class Enrolled(NamedTuple):
    """A gateway that counts: its commune (NIS), and when its newest certificate ends (Unix seconds)."""

    gateway: str
    commune: str | None
    not_after_s: float


class Identities:
    def __init__(self, db: Database) -> None:
        self._db = db

    def enrolled(self) -> list[Enrolled]:
        """Every gateway with a certificate that was not revoked, by name; one that has ended counts."""
        rows = self._db.rows(
            "SELECT gateway, max(commune) AS commune, max(not_after_s) AS not_after_s FROM identity"
            " WHERE revoked_s IS NULL GROUP BY gateway ORDER BY gateway"
        )
        return [Enrolled(r["gateway"], r["commune"], r["not_after_s"]) for r in rows]

    def find(self, gateway: str) -> Enrolled | None:
        return next((known for known in self.enrolled() if known.gateway == gateway), None)

    def known(self, gateway: str) -> bool:
        """Whether it was ever enrolled."""
        return self._db.row("SELECT 1 FROM identity WHERE gateway = ?", gateway) is not None

    def issued_since(self, gateway: str, since_s: float) -> int:
        """How many certificates it got since then (Unix seconds)."""
        row = self._db.row("SELECT count(*) AS n FROM identity WHERE gateway = ? AND issued_s > ?", gateway, since_s)
        return int(row["n"]) if row else 0

    def add(self, gateway: str, commune: str | None, issued: Issued, now_s: float) -> None:
        with self._db.transaction() as tx:
            tx.execute(
                "INSERT INTO identity (serial, gateway, commune, issued_s, not_after_s) VALUES (?, ?, ?, ?, ?)",
                (issued.serial, gateway, commune, now_s, issued.not_after_s),
            )

    def revoke(self, gateway: str, now_s: float) -> int:
        """Its certificates count no more; gives how many that were."""
        with self._db.transaction() as tx:
            return tx.execute(
                "UPDATE identity SET revoked_s = ? WHERE gateway = ? AND revoked_s IS NULL", (now_s, gateway)
            ).rowcount

    def revoked(self, now_s: float) -> list[tuple[str, float]]:
        """Serials and times for the revocation list: those that have not ended by themselves since more than a day."""
        rows = self._db.rows(
            "SELECT serial, revoked_s FROM identity WHERE revoked_s IS NOT NULL AND not_after_s > ?", now_s - DAY_S
        )
        return [(r["serial"], r["revoked_s"]) for r in rows]
