"""Which numbers of the gateways' journals central has, so that it can ask for those that it lacks.

Kept by day, because after a restore of the database alone an administrator has what was stored since forgotten
(`maillages-central forget`). Written every few seconds: a process killed in between only asks for what it has, and a repeat
is harmless, since points are known by series and time.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select

from central.db import Database
from central.errors import StateUnavailable
from central.tables import journal_range
from common.clock import Clock
from common.intervals import Intervals
from common.worker import Worker

SAVE_S = 5.0
KEPT_DAYS = 31
"""A gateway keeps stored readings for 30 days."""
MAX_JOURNALS = 16
"""Of a gateway and day. More are a gateway that makes them up; they are not remembered."""
_DAY_S = 86400


class Gap(NamedTuple):
    """Numbers `first` to `last` of `journal` never came."""

    journal: str
    first: int
    last: int


class Ranges:
    """Safe from several threads. `worker` writes what is new; its stop writes the rest."""

    def __init__(self, db: Database, clock: Clock, owns_stations: Callable[[str], bool]) -> None:
        self._db = db
        self._clock = clock
        self._owns_stations = owns_stations
        self._lock = threading.Lock()
        self._day = 0
        self._today: dict[tuple[str, str], Intervals] = {}
        self._unsaved: set[tuple[str, str]] = set()
        self.worker = Worker("journal-ranges", self._save_later, clock)

    def add(self, gateway: str, journal: str, first: int, last: int) -> None:
        """These numbers are here, or will never be. What cannot be noted now is asked for later."""
        if not self._owns_stations(gateway):
            return
        with self._lock, suppress(StateUnavailable):
            self._turn_the_day()
            known = self._today.get((gateway, journal))
            if known is None:
                if sum(g == gateway for g, _ in self._today) >= MAX_JOURNALS:
                    return
                known = self._today[gateway, journal] = Intervals(self._saved(gateway, journal, self._day))
            known.add(first, last)
            self._unsaved.add((gateway, journal))

    def gaps(self, gateway: str) -> list[Gap]:
        """What lacks between number 1 of each journal and the highest number that is here, oldest first."""
        with self._lock:
            journals: dict[str, Intervals] = {}
            for row in self._db.rows(select(journal_range).where(journal_range.c.gateway == gateway)):
                journals.setdefault(row.journal, Intervals()).add(row.first, row.last)
            for (owner, journal), known in self._today.items():
                if owner == gateway:
                    for first, last in known:
                        journals.setdefault(journal, Intervals()).add(first, last)
        found = []
        for journal, known in journals.items():
            at = 1
            for first, last in known:
                if first > at:
                    found.append(Gap(journal, at, first - 1))
                at = last + 1
        return found

    def forget(self, since_s: float) -> int:
        """Forget what came to be known since the beginning of the day of `since_s` (Unix s); how many rows that was."""
        with self._db.transaction() as tx:
            return tx.execute(delete(journal_range).where(journal_range.c.day >= int(since_s // _DAY_S))).rowcount

    def compact(self) -> None:
        """One set of intervals for all days that no gateway can send again."""
        with self._lock, self._db.transaction() as tx:
            before = int(self._clock.wall() // _DAY_S) - KEPT_DAYS
            r = journal_range.c
            for its in self._db.rows(select(r.gateway, r.journal).where(r.day.between(1, before)).distinct()):
                old = (r.gateway == its.gateway, r.journal == its.journal, r.day <= before)
                merged = Intervals()
                for row in self._db.rows(select(r.first, r.last).where(*old)):
                    merged.add(row.first, row.last)
                tx.execute(delete(journal_range).where(*old))
                tx.execute(journal_range.insert(), _rows(its.gateway, its.journal, 0, merged))

    def save(self) -> None:
        """Write what is new. Raises StateUnavailable; then it is written with the next."""
        with self._lock:
            if not self._unsaved:
                return
            r = journal_range.c
            before = [{"of": gateway, "its": journal} for gateway, journal in self._unsaved]
            known = [row for key in self._unsaved for row in _rows(*key, self._day, self._today[key])]
            with self._db.transaction() as tx:
                tx.execute(
                    delete(journal_range).where(
                        r.gateway == bindparam("of"), r.journal == bindparam("its"), r.day == self._day
                    ),
                    before,
                )
                tx.execute(journal_range.insert(), known)
            self._unsaved.clear()

    def _save_later(self) -> float:
        self.save()
        # Real seconds: it saves the disk, not the exercise.
        return self._clock.boot() + SAVE_S * self._clock.scale

    def _turn_the_day(self) -> None:
        day = int(self._clock.wall() // _DAY_S)
        if day != self._day:
            # What yesterday's last seconds brought moves into today: known a little later is not wrong.
            late = {key: known for key, known in self._today.items() if key in self._unsaved}
            self._day, self._today = day, late

    def _saved(self, gateway: str, journal: str, day: int) -> list[tuple[int, int]]:
        r = journal_range.c
        saved = select(r.first, r.last).where(r.gateway == gateway, r.journal == journal, r.day == day)
        return [(row.first, row.last) for row in self._db.rows(saved)]


def _rows(gateway: str, journal: str, day: int, known: Intervals) -> list[dict[str, object]]:
    return [{"gateway": gateway, "journal": journal, "day": day, "first": first, "last": last} for first, last in known]
