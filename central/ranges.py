"""Which numbers of the gateways' journals central has, so that it can ask for those that it lacks.

Kept by day, because after a restore of the database alone an administrator has what was stored since forgotten
(`maillages-central forget`). Written every few seconds: a process killed in between only asks for what it has, and a repeat
is harmless, since points are known by series and time.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import bindparam, case, delete, select

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
        self._today: dict[str, dict[str, Intervals]] = {}  # gateway -> journal
        self._written: dict[tuple[str, str], list[tuple[int, int]]] = {}
        r, new = journal_range.c, db.insert(journal_range)
        # Several workers may write of one gateway, which changes hands: what counts is the union, and no row loses by another's.
        longer = case((new.excluded.last > r.last, new.excluded.last), else_=r.last)
        self._note = new.on_conflict_do_update(index_elements=list(journal_range.primary_key), set_={"last": longer})
        self._forget = delete(journal_range).where(
            r.gateway == bindparam("of"),
            r.journal == bindparam("its"),
            r.day == bindparam("on"),
            r.first == bindparam("at"),
            r.last <= bindparam("to"),
        )
        self._unsaved: set[tuple[str, str]] = set()
        self.worker = Worker("journal-ranges", self._save_later, clock)

    def add(self, gateway: str, journal: str, first: int, last: int) -> None:
        """These numbers are here, or will never be. What cannot be noted now is asked for later."""
        if not self._owns_stations(gateway):
            return
        with self._lock, suppress(StateUnavailable):
            self._turn_the_day()
            journals = self._today.setdefault(gateway, {})
            if journal not in journals and len(journals) >= MAX_JOURNALS:
                return
            journals.setdefault(journal, Intervals()).add(first, last)
            self._unsaved.add((gateway, journal))

    def gaps(self, gateway: str) -> list[Gap]:
        """What lacks between number 1 of each journal and the highest number that is here, oldest first."""
        with self._lock:
            journals: dict[str, Intervals] = {}
            for row in self._db.rows(select(journal_range).where(journal_range.c.gateway == gateway)):
                journals.setdefault(row.journal, Intervals()).add(row.first, row.last)
            for journal, known in self._today.get(gateway, {}).items():
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
            now = {(gateway, journal): list(self._today[gateway][journal]) for gateway, journal in self._unsaved}
            grown, gone = [], []
            for (gateway, journal), pairs in now.items():
                before = self._written.get((gateway, journal), [])
                firsts = {first for first, _ in pairs}
                grown += _rows(gateway, journal, self._day, set(pairs).difference(before))
                gone += [{"of": gateway, "its": journal, "at": f, "to": to} for f, to in before if f not in firsts]
            with self._db.transaction() as tx:
                if gone:
                    tx.execute(self._forget, [row | {"on": self._day} for row in gone])
                if grown:
                    tx.execute(self._note, grown)
            self._written |= now
            self._unsaved.clear()

    def _save_later(self) -> float:
        self.save()
        # Real seconds: it saves the disk, not the exercise.
        return self._clock.boot() + SAVE_S * self._clock.scale

    def _turn_the_day(self) -> None:
        day = int(self._clock.wall() // _DAY_S)
        if day == self._day:
            return
        today: dict[str, dict[str, Intervals]] = {}
        written: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for row in self._db.rows(select(journal_range).where(journal_range.c.day == day)):
            today.setdefault(row.gateway, {}).setdefault(row.journal, Intervals()).add(row.first, row.last)
            written.setdefault((row.gateway, row.journal), []).append((row.first, row.last))
        for gateway, journal in self._unsaved:
            # What yesterday's last seconds brought moves into today: known a little later is not wrong.
            known = today.setdefault(gateway, {}).setdefault(journal, Intervals())
            for first, last in self._today[gateway][journal]:
                known.add(first, last)
        self._day, self._today, self._written = day, today, written


def _rows(gateway: str, journal: str, day: int, known: Iterable[tuple[int, int]]) -> list[dict[str, object]]:
    return [{"gateway": gateway, "journal": journal, "day": day, "first": first, "last": last} for first, last in known]
