"""Which gateways are enrolled: the certificates that the CA has given, in central.db."""

from typing import NamedTuple

from sqlalchemy import func, select, update

from central.authority import Issued
from central.db import Database
from central.tables import identity

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
        n = identity.c
        rows = self._db.rows(
            select(n.gateway, func.max(n.commune).label("commune"), func.max(n.not_after_s).label("not_after_s"))
            .where(n.revoked_s.is_(None))
            .group_by(n.gateway)
            .order_by(n.gateway)
        )
        return [Enrolled(r.gateway, r.commune, r.not_after_s) for r in rows]

    def find(self, gateway: str) -> Enrolled | None:
        return next((known for known in self.enrolled() if known.gateway == gateway), None)

    def known(self, gateway: str) -> bool:
        """Whether it was ever enrolled."""
        return self._db.row(select(identity.c.serial).where(identity.c.gateway == gateway)) is not None

    def issued_since(self, gateway: str, since_s: float) -> int:
        """How many certificates it got since then (Unix seconds)."""
        given = (identity.c.gateway == gateway, identity.c.issued_s > since_s)
        row = self._db.row(select(func.count().label("n")).select_from(identity).where(*given))
        return int(row.n) if row else 0

    def add(self, gateway: str, commune: str | None, issued: Issued, now_s: float) -> None:
        with self._db.transaction() as tx:
            tx.execute(
                identity.insert().values(
                    serial=issued.serial,
                    gateway=gateway,
                    commune=commune,
                    issued_s=now_s,
                    not_after_s=issued.not_after_s,
                )
            )

    def revoke(self, gateway: str, now_s: float) -> int:
        """Its certificates count no more; gives how many that were."""
        counting = (identity.c.gateway == gateway, identity.c.revoked_s.is_(None))
        with self._db.transaction() as tx:
            return tx.execute(update(identity).where(*counting).values(revoked_s=now_s)).rowcount

    def revoked(self, now_s: float) -> list[tuple[str, float]]:
        """Serials and times for the revocation list: those that have not ended by themselves since more than a day."""
        n = identity.c
        rows = self._db.rows(
            select(n.serial, n.revoked_s).where(n.revoked_s.is_not(None), n.not_after_s > now_s - DAY_S)
        )
        return [(r.serial, r.revoked_s) for r in rows]
