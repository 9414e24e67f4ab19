"""Hours in Belgian local time, as people write them: `lu-ve 08:00-18:00, sa 10h-12h30`, `22:00-06:00`, `24/12/2026 non`.

A span whose end is not after its begin goes on into the next day. Clock changes follow the wall: 02:30 may come twice or not at all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Self

from common.clock import BRUSSELS

DAYS = ("lu", "ma", "me", "je", "ve", "sa", "di")
DAY_MIN = 1440

_SPAN = re.compile(r"(\d{1,2})(?:[:h](\d{2})?)?-(\d{1,2})(?:[:h](\d{2})?)?")
_WHOLE_DAY = (0, DAY_MIN)

Span = tuple[int, int]
"""Begin and end in minutes of the day; an end that is not after the begin lies in the next day."""


@dataclass(frozen=True, slots=True)
class Hours:
    """One span of every day, or none."""

    span: Span | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`22:00-07:00`, or empty. Raises ValueError."""
        return cls(_span(text.strip()) if text.strip() else None)

    def end_of(self, wall_s: float) -> float | None:
        """The end (Unix) of the span in which a moment lies; None outside."""
        if self.span is None:
            return None
        now = datetime.fromtimestamp(wall_s, BRUSSELS)
        for days_ago in (0, 1):
            day = now.date() - timedelta(days=days_ago)
            if _within(now, day, self.span):
                begin, end = self.span
                last = day + timedelta(days=(end <= begin) + end // DAY_MIN)
                minute = end % DAY_MIN
                return datetime(last.year, last.month, last.day, minute // 60, minute % 60, tzinfo=BRUSSELS).timestamp()
        return None


@dataclass(frozen=True, slots=True)
class Calendar:
    """When somebody is on call: spans by day of the week (0: Monday), other ones on single dates. No week at all: always."""

    week: Mapping[int, tuple[Span, ...]] | None
    dates: Mapping[date, tuple[Span, ...]]

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, week: str, exceptions: str) -> Self:
        """`lu-ve 08:00-18:00, sa-di` and `24/12/2026 non, 25/12/2026 08:00-12:00, 26/12/2026 oui`; both may be empty. Raises
        ValueError naming the part that cannot be read, and what was expected."""
        return cls(_week(week) if week.strip() else None, _dates(exceptions))

    def covers(self, wall_s: float) -> bool:
        now = datetime.fromtimestamp(wall_s, BRUSSELS)
        return any(
            _within(now, day, span) for day in (now.date(), now.date() - timedelta(days=1)) for span in self._spans(day)
        )

    def _spans(self, day: date) -> tuple[Span, ...]:
        if day in self.dates:
            return self.dates[day]
        return (_WHOLE_DAY,) if self.week is None else self.week.get(day.weekday(), ())


def _within(now: datetime, day: date, span: Span) -> bool:
    minute = (now.date() - day).days * DAY_MIN + now.hour * 60 + now.minute
    begin, end = span
    return begin <= minute < (end if end > begin else end + DAY_MIN)


def _parts(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"[,;\n]", text) if part.strip()]


def _week(text: str) -> dict[int, tuple[Span, ...]]:
    found: dict[int, tuple[Span, ...]] = {}
    for part in _parts(text):
        days, _, hours = part.partition(" ")
        first, dash, last = days.lower().partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r}: expected days lu ma me je ve sa di and hours, as 'lu-ve 08:00-18:00'")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        span = _span(hours) if hours else _WHOLE_DAY
        for day in range(begin, (end if end >= begin else end + 7) + 1):
            found[day % 7] = (*found.get(day % 7, ()), span)
    return found


def _dates(text: str) -> dict[date, tuple[Span, ...]]:
    found: dict[date, tuple[Span, ...]] = {}
    for part in _parts(text):
        day, _, hours = part.partition(" ")
        try:
            at = datetime.strptime(day, "%d/%m/%Y").date() if "/" in day else date.fromisoformat(day)  # noqa: DTZ007
        except ValueError:
            raise ValueError(f"{part!r}: expected a date and hours, 'oui' or 'non', as '24/12/2026 non'") from None
        if hours.lower() in ("non", ""):
            found[at] = found.get(at, ())
        else:
            found[at] = (*found.get(at, ()), _WHOLE_DAY if hours.lower() == "oui" else _span(hours))
    return found


def _span(text: str) -> Span:
    match = _SPAN.fullmatch(text.lower().replace(" ", ""))
    if match:
        begin = int(match[1]) * 60 + int(match[2] or 0)
        end = int(match[3]) * 60 + int(match[4] or 0)
        minutes = int(match[2] or 0) < 60 and int(match[4] or 0) < 60
        if minutes and begin < DAY_MIN and end <= DAY_MIN:
            return begin, end
    raise ValueError(f"{text!r}: expected hours as '08:00-18:00' or '22h-6h'")
