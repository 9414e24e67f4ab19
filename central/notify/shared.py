"""Who is told, where the state is a database that several machines share: a table of its own in it, so that whoever leads knows them.

A state that is a file is of one machine, and leaves people's data in a file of their own (docs/adr/0013-recipients.md).
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import delete, select

from central.config import CentralConfig
from central.db import Database
from central.errors import ConfigError, StateUnavailable
from central.notify.recipients import FILE, Recipient, Recipients
from central.tables import recipient
from common.clock import Clock

log = logging.getLogger(__name__)

READ_S = 1.0
"""Real seconds for which what was read counts."""


def recipients_of(config: CentralConfig, db: Database, clock: Clock) -> Recipients:
    """The recipients of a central."""
    return SharedRecipients(config.data_dir, db, clock) if config.state else Recipients(config.data_dir)


class SharedRecipients(Recipients):
    """The table, in place of the file. Looks are noted in the data directory of the machine where they happen."""

    def __init__(self, data_dir: Path, db: Database, clock: Clock) -> None:
        super().__init__(data_dir)
        self._db = db
        self._clock = clock
        self._read_s: float | None = None

    def adopt(self) -> None:
        """Take over the file of a central that kept its state in a file, once; one that turns up later is put aside. Raises
        StateUnavailable."""
        if not self.path.exists():
            return
        aside = self.path.with_name(f"{FILE}.unused")
        try:
            with self._db.transaction():
                if self.load():
                    self.path.replace(aside)
                    log.warning(
                        "%s is not used: who is told stands in the state. It holds people's data: delete it", aside
                    )
                    return
                self.save(Recipients(self.path.parent).load())
            self.path.unlink()
        except (ConfigError, OSError) as e:
            log.error("%s cannot be taken over into the state: %s", self.path, e)
            return
        log.info("%s now stands in the state", self.path)

    def all(self) -> tuple[Recipient, ...]:
        """Everyone. A state that is away leaves who was known before, and is logged once."""
        now = self._clock.boot()
        if self._read_s is None or self._clock.real(now - self._read_s) >= READ_S:
            try:
                self._known = self.load()
            except (StateUnavailable, ConfigError) as e:
                self._note_broken(str(e))
                return self._known
            self._read_s, self._broken = now, False
        return self._known

    def load(self) -> tuple[Recipient, ...]:
        """Everyone. Raises StateUnavailable, and ConfigError naming who cannot be read, never a number or an address."""
        found = []
        for row in self._db.rows(select(recipient.c.id, recipient.c.json).order_by(recipient.c.position)):
            try:
                found.append(Recipient.model_validate_json(row.json))
            except ValidationError as e:
                raise ConfigError(f"recipient {row.id} of the state cannot be read: {e.error_count()} faults") from None
        return tuple(found)

    def save(self, recipients: Iterable[Recipient]) -> None:
        """Replace all, at once or not at all. Raises StateUnavailable."""
        rows = [
            {"id": r.id, "position": i, "json": r.model_dump_json(exclude_defaults=True)}
            for i, r in enumerate(recipients)
        ]
        with self._db.transaction() as tx:
            tx.execute(delete(recipient))
            if rows:
                tx.execute(recipient.insert(), rows)
        self._read_s = None
