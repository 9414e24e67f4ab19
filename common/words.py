"""The French of the pages, central's and the gateway's: phrases of the catalogue filled in with what a person reads of a time, an
age, a value, a trend."""

from collections.abc import Sequence
from typing import Any

from common import texts
from wire.quantities import QUANTITIES

_CM_PER_M = 100
_LAST_S = 253_402_200_000.0  # the last day of the year 9999
_NO_BREAK = "\u00a0"


def say(key: str, /, **parts: object) -> str:
    """A phrase of the catalogue's [page], `ack.title` for one of a subsection."""
    found: Any = texts.phrases("page")
    for name in key.split("."):
        found = found[name]
    return str(found.format(**parts)) if parts else str(found)


def label(quantity: str) -> str:
    known = QUANTITIES.get(quantity)
    return known.label_fr if known else quantity


def bounded(wall_s: float) -> float:
    """A moment that a calendar has, whatever clock it came from."""
    return min(max(wall_s, 0.0), _LAST_S)


def when(wall_s: float, now_s: float) -> str:
    """A moment: the hour alone on the same day."""
    wall_s = bounded(wall_s)
    same_day = texts.local_time(wall_s)[:5] == texts.local_time(now_s)[:5] and abs(now_s - wall_s) < 86400
    return texts.local_time(wall_s, "hour" if same_day else "full")


def age(seconds: float) -> str:
    """How long ago."""
    minutes = int(seconds // 60)
    if minutes < -1:
        return say("future")
    if minutes < 1:
        return say("just_now")
    if minutes < 60:
        return say("minutes", minutes=minutes)
    if minutes < 48 * 60:
        return say("hours", hours=minutes // 60, minutes=minutes % 60)
    return say("days", days=minutes // 1440)


def trend(per_h: float, quantity: str) -> str:
    """Which way and how fast, in centimetres for a level of water."""
    if is_nothing(per_h, quantity):
        return say("steady")
    return say("rising" if per_h > 0 else "falling", amount=difference(abs(per_h), quantity))


def direction(per_h: float, quantity: str) -> int:
    """1 rising, -1 falling, 0 steady."""
    return 0 if is_nothing(per_h, quantity) else 1 if per_h > 0 else -1


def positions(value: float, reached: int, thresholds: Sequence[float | None], quantity: str) -> list[str]:
    """Where a value stands: above the threshold that it has reached, and below the next one."""
    limits = {i: t for i, t in enumerate(thresholds, 1) if t is not None}
    found = []
    for level in (reached, min((i for i in limits if i > reached), default=0)):
        if level:
            gap = value - limits[level]
            key = "below" if gap < 0 else "exactly" if is_nothing(gap, quantity) else "above"
            threshold = amount(limits[level], quantity)
            found.append(say(key, amount=difference(abs(gap), quantity), level=level, threshold=threshold))
    return found


def difference(value: float, quantity: str) -> str:
    return f"{value * _CM_PER_M:.0f}{_NO_BREAK}cm" if quantity == "water_level" else amount(value, quantity)


def is_nothing(value: float, quantity: str) -> bool:
    """Whether it vanishes in the decimals that a person is shown."""
    known = QUANTITIES.get(quantity)
    return abs(value) < 0.5 * 10.0 ** -(known.decimals if known else 2)


def amount(value: float, quantity: str) -> str:
    """A value with its unit, which no line break parts."""
    return texts.amount(value, quantity).replace(" ", _NO_BREAK)


def number(value: float, quantity: str) -> str:
    """A value without its unit, for the side of a chart."""
    return texts.amount(value, quantity).split(" ")[0]
