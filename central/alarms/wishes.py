"""What people want of an alarm beside an acknowledgement: to shelve it for a time, to end that, to reset a latched one.

A wish is written down, durably, and no more. The owner of the alarm does it, a gateway by `cmd/shelve` or `cmd/reset`, central's
`SilenceWatch` for its own, and its event confirms it. So it does not matter which process writes it, and a kill forgets none.
ISA-18.2 asks that a shelf ends by itself and that there is a list of the shelved: `Wishes.shelves`.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sqlalchemy import Connection, delete, func, or_, select

from central.alarms.log import AlarmLog, Occurrence
from central.db import Database
from central.errors import Refused
from central.tables import alarm_event
from central.tables import wish as wishes
from common.clock import Clock, from_rfc3339, rfc3339
from common.texts import GRAFANA_RULE
from wire import command
from wire.alarm import AlarmEvent

log = logging.getLogger(__name__)

SAME_S = 2.0
"""Two ends of a shelf that are the same one: a gateway counts it on its boot time, and back."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Not confirmed yet. Times are Unix seconds. `until_s`: the end of the shelf, None to end one now."""

    occurrence: Occurrence
    command: Literal["shelve", "reset"]
    by: str
    at_s: float
    until_s: float | None
    why: str | None


class Owned(NamedTuple):
    """What a shelf is of: a rule, through all its occurrences."""

    source: str
    gateway: str
    rule: str
    station: str | None


class Shelf(NamedTuple):
    """A shelf in force, as its owner's event says. Times are Unix seconds."""

    event: AlarmEvent
    until_s: float


class Wishes:
    def __init__(self, db: Database, alarms: AlarmLog, clock: Clock) -> None:
        self._db = db
        self._alarms = alarms
        self._clock = clock

    # ------------------------------------------------------------------ wishing

    def shelve(self, occurrence: Occurrence, by: str, until_s: float, why: str | None = None) -> None:
        """Nobody is to be told of it until then. Raises Refused."""
        now = self._clock.wall()
        if occurrence.state == "NORMAL":
            raise Refused(f"{occurrence.occurrence} is over, expected an alarm that stands")
        if not 0 < until_s - now <= command.MAX_SHELF_S:
            raise Refused(
                f"until {rfc3339(until_s)}: expected later than now ({rfc3339(now)}) by at most"
                f" {command.MAX_SHELF_S / 3600:.0f} h"
            )
        self._write(occurrence, command.SHELVE, by, until_s, why, until_s)

    def unshelve(self, occurrence: Occurrence, by: str) -> None:
        """End its shelf. Raises Refused when it has none, nor is to get one."""
        shelf = self.shelves().get(owned(occurrence))
        w = wishes.c
        asked = self._db.row(
            select(w.until_s).where(w.occurrence == occurrence.occurrence, w.command == command.SHELVE)
        )
        ends = [shelf.until_s] if shelf else []
        ends += [asked.until_s] if asked and asked.until_s is not None else []
        if occurrence.state == "NORMAL" or not ends:
            raise Refused(f"{occurrence.occurrence} is not shelved, expected one that is")
        self._write(occurrence, command.SHELVE, by, None, None, max(ends))

    def reset(self, occurrence: Occurrence, by: str) -> None:
        """Let a latched alarm go. Raises Refused unless it has returned and was acknowledged; one that an alert of Grafana raised
        need only be acknowledged."""
        if _ends_by_hand(occurrence) and occurrence.state != "NORMAL" and occurrence.acked_by is not None:
            self._write(occurrence, command.RESET, by, None, None, None)
            return
        if occurrence.state != "RTN_UNACK" or occurrence.acked_by is None:
            answered = f"acknowledged by {occurrence.acked_by}" if occurrence.acked_by else "not acknowledged"
            raise Refused(
                f"{occurrence.occurrence} is {occurrence.state}, {answered}; expected one that has returned and was acknowledged"
            )
        if occurrence.source == "central":
            raise Refused(f"{occurrence.occurrence}: alarms of central are not latched, there is nothing to reset")
        self._write(occurrence, command.RESET, by, None, None, None)

    def _write(
        self, occurrence: Occurrence, name: str, by: str, until_s: float | None, why: str | None, end_s: float | None
    ) -> None:
        with self._db.transaction() as tx:
            self._forget(tx, occurrence.occurrence, name)
            tx.execute(
                wishes.insert(),
                {
                    "occurrence": occurrence.occurrence,
                    "command": name,
                    "by": by[:120],
                    "at_s": self._clock.wall(),
                    "until_s": until_s,
                    "why": why and why[:500],
                    "end_s": end_s,
                    "position": tx.execute(select(func.max(alarm_event.c.position))).scalar_one() or 0,
                },
            )

    def _forget(self, tx: Connection, occurrence: str, name: str) -> None:
        tx.execute(delete(wishes).where(wishes.c.occurrence == occurrence, wishes.c.command == name))

    # ------------------------------------------------------------------ fulfilling

    def pending(self, source: Literal["gateway", "central"]) -> list[Wish]:
        """What the owners of alarms have still to do, the oldest first. Forgets what is confirmed or void."""
        if self._db.row(select(wishes.c.command)) is None:  # as nearly always: no writer's lock for that
            return []
        found = []
        with self._db.transaction() as tx:
            for wish, position, end_s in self._written():
                if wish.occurrence.source != source:
                    continue
                confirmed, void = self._confirmed(wish, position), self._void(wish, end_s)
                if not confirmed and void is None:
                    found.append(wish)
                    continue
                occurrence = wish.occurrence.occurrence
                if not confirmed:
                    log.warning("%s of %s, wished by %s, is void: %s", wish.command, occurrence, wish.by, void)
                self._forget(tx, occurrence, wish.command)
        return found

    def asked(self) -> Mapping[str, tuple[str, ...]]:
        """Occurrence -> what its owner was asked for and has not confirmed: "shelve", "unshelve", "reset". Only reads."""
        found: dict[str, tuple[str, ...]] = {}
        for wish, position, end_s in self._written():
            if not self._confirmed(wish, position) and self._void(wish, end_s) is None:
                ends = wish.command == command.SHELVE and wish.until_s is None
                name = "unshelve" if ends else wish.command
                found[wish.occurrence.occurrence] = (*found.get(wish.occurrence.occurrence, ()), name)
        return found

    def _written(self) -> Iterator[tuple[Wish, int, float | None]]:
        """Every wish on the disk, with the position after which an event confirms it and the end after which it is void."""
        for row in self._db.rows(select(wishes).order_by(wishes.c.at_s)):
            occurrence = self._alarms.occurrence(row.occurrence)
            assert occurrence is not None  # noqa: S101 - the log forgets none
            wish = Wish(occurrence, row.command, row.by, row.at_s, row.until_s, row.why)
            yield wish, row.position, row.end_s

    def _void(self, wish: Wish, end_s: float | None) -> str | None:
        state = wish.occurrence.state
        if state == "NORMAL":
            return "the alarm is over"
        if wish.command == command.RESET and state != "RTN_UNACK" and not _ends_by_hand(wish.occurrence):
            return "the alarm stands again"
        if end_s is not None and end_s <= self._clock.wall():
            return "the shelf would be over"
        return None

    def _confirmed(self, wish: Wish, position: int) -> bool:
        for event in self._alarms.events_after(wish.occurrence.occurrence, position):
            if wish.command == command.RESET:
                if event.transition == "reset":
                    return True
            elif wish.until_s is None:
                if event.transition == "unshelve":
                    return True
            elif event.transition == "shelve" and abs((_until(event) or 0.0) - wish.until_s) <= SAME_S:
                return True
        return False

    # ------------------------------------------------------------------ the shelved

    def shelves(self) -> Mapping[Owned, Shelf]:
        """Every shelf in force now, also of alarms that do not stand at the moment."""
        now = self._clock.wall()
        e = alarm_event.c
        # What an event says of itself: within a text the quotes would be escaped.
        shelving = (e.json.contains(f'"transition":"{name}"') for name in ("shelve", "unshelve"))
        since_s = now - command.MAX_SHELF_S - SAME_S
        last = {}
        for row in self._db.rows(select(e.json).where(e.time_s > since_s, or_(*shelving)).order_by(e.seq)):
            event = AlarmEvent.model_validate_json(row.json)
            last[owned(event)] = event
        found = {}
        for key, event in last.items():
            until_s = _until(event)
            if event.transition == "shelve" and until_s is not None and until_s > now:
                found[key] = Shelf(event, until_s)
        return found


def _ends_by_hand(occurrence: Occurrence) -> bool:
    """Whether a person may say that it is over: where Grafana has lost sight of it, nothing else would."""
    return occurrence.source == "central" and occurrence.rule.startswith(GRAFANA_RULE)


def owned(of: Occurrence | AlarmEvent) -> Owned:
    """The rule that raised it."""
    return Owned(of.source, of.gateway, of.rule, of.station)


def _until(event: AlarmEvent) -> float | None:
    try:
        return from_rfc3339(event.until) if event.until else None
    except ValueError:
        return None
