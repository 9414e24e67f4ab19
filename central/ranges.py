"""Which numbers of the gateways' journals central has, so that it can ask for those that it lacks.

Kept by day, because after a restore of the database alone an administrator has what was stored since forgotten
(`maillages-central forget`). Written every few seconds: a process killed in between only asks for what it has, and a repeat
is harmless, since points are known by series and time.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, func, select

from central.db import Database
from central.errors import StateUnavailable
from central.tables import journal_hour, journal_range
from common.clock import Clock
from common.intervals import Intervals
from common.worker import Worker

SAVE_S = 5.0
KEPT_DAYS = 31
"""A gateway keeps stored readings for 30 days."""
HOURS_KEPT_DAYS = 400
MAX_JOURNALS = 16
"""Of a gateway and day. More are a gateway that makes them up; they are not remembered."""
_DAY_S = 86400
_HOUR_MS = 3_600_000


class Gap(NamedTuple):
    """Numbers `first` to `last` of `journal` never came."""

    journal: str
    first: int
    last: int


class Hour(NamedTuple):
    """What came of a journal with readings of one hour (Unix hours): its numbers lie in `first` to `last`; `thinned` numbers were
    announced as given up, `duplicate` ones had already come on the same day of arrival."""

    gateway: str
    journal: str
    hour: int
    first: int
    last: int
    thinned: int
    duplicate: int


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
        self._hours: dict[tuple[str, str, int], Hour] = {}
        """Not saved yet."""
        self.worker = Worker("journal-ranges", self._save_later, clock)

    def add(
        self, gateway: str, journal: str, first: int, last: int, *, newest_ms: int | None = None, thinned: int = 0
    ) -> None:
        """These numbers are here, or will never be. What cannot be noted now is asked for later.

        `newest_ms`: when the newest reading of a pack was measured (Unix ms); `thinned`: how many numbers it gave up.
        """
        if not self._owns_stations(gateway):
            return
        with self._lock, suppress(StateUnavailable):
            self._turn_the_day()
            journals = self._today.setdefault(gateway, {})
            if journal not in journals and len(journals) >= MAX_JOURNALS:
                return
            known = journals.setdefault(journal, Intervals())
            before = len(known)
            known.add(first, last)
            self._unsaved.add((gateway, journal))
            if newest_ms is not None:
                numbers = last - first + 1
                repeated = numbers - (len(known) - before)
                hour = newest_ms // _HOUR_MS
                new = Hour(gateway, journal, hour, first, last, thinned, repeated)
                key = (gateway, journal, hour)
                self._hours[key] = _joined(self._hours.get(key), new)

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

    def hours(self, gateway: str, start_s: float, end_s: float) -> list[Hour]:
        """The saved hours of a gateway within a time (Unix s), oldest first."""
        h = journal_hour.c
        within = h.hour.between(int(start_s // 3600), int(end_s // 3600) - 1)
        rows = self._db.rows(select(journal_hour).where(h.gateway == gateway, within).order_by(h.hour, h.journal))
        return [Hour(r.gateway, r.journal, r.hour, r.first, r.last, r.thinned, r.duplicate) for r in rows]

    def when(self, gateway: str, gap: Gap) -> tuple[float | None, float | None]:
        """Between which hours (Unix s) a gap lies, by the numbers before and after it; None where none are known."""
        h = journal_hour.c
        own = (h.gateway == gateway, h.journal == gap.journal)
        before = self._db.row(select(func.max(h.hour).label("hour")).where(*own, h.first < gap.first))
        after = self._db.row(select(func.min(h.hour).label("hour")).where(*own, h.last > gap.last))
        return (
            None if before is None or before.hour is None else before.hour * 3600.0,
            None if after is None or after.hour is None else (after.hour + 1) * 3600.0,
        )

    def forget(self, since_s: float) -> int:
        """Forget what came to be known since the beginning of the day of `since_s` (Unix s); how many rows that was."""
        with self._db.transaction() as tx:
            return tx.execute(delete(journal_range).where(journal_range.c.day >= int(since_s // _DAY_S))).rowcount

    def compact(self) -> None:
        """One set of intervals for all days that no gateway can send again. Hours are kept for `HOURS_KEPT_DAYS`."""
        with self._lock, self._db.transaction() as tx:
            before = int(self._clock.wall() // _DAY_S) - KEPT_DAYS
            oldest = (int(self._clock.wall() // _DAY_S) - HOURS_KEPT_DAYS) * 24
            tx.execute(delete(journal_hour).where(journal_hour.c.hour < oldest))
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
                for hour in self._hours.values():
                    _save_hour(tx, hour)
            self._written |= now
            self._unsaved.clear()
            self._hours.clear()

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


def _joined(known: Hour | None, new: Hour) -> Hour:
    """What came of one hour before, and now."""
    if known is None:
        return new
    return new._replace(
        first=min(known.first, new.first),
        last=max(known.last, new.last),
        thinned=known.thinned + new.thinned,
        duplicate=known.duplicate + new.duplicate,
    )


def _save_hour(tx: Connection, new: Hour) -> None:
    h = journal_hour.c
    its = (h.gateway == new.gateway, h.journal == new.journal, h.hour == new.hour)
    row = tx.execute(select(journal_hour).where(*its)).first()
    if row is None:
        tx.execute(journal_hour.insert(), new._asdict())
        return
    known = new._replace(first=row.first, last=row.last, thinned=row.thinned, duplicate=row.duplicate)
    tx.execute(journal_hour.update().where(*its), _joined(known, new)._asdict())
