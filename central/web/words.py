"""The page's French: phrases of the catalogue filled in with what a person reads of a time, an age, a value."""

from typing import Any

from central.status import Measured
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


def commune(nis: str) -> str:
    """The name of a commune; its NIS code where it is none of Huy-Waremme."""
    return str(texts.phrases("commune").get(nis, nis))


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


def trend(m: Measured) -> str | None:
    """Which way and how fast, in centimetres for a level of water; None where it is not known."""
    if m.trend_per_h is None or not m.online:
        return None
    speed = _difference(abs(m.trend_per_h), m.info.quantity)
    if _is_nothing(m.trend_per_h, m.info.quantity):
        return say("steady")
    return say("rising" if m.trend_per_h > 0 else "falling", amount=speed)


def direction(m: Measured) -> int:
    """1 rising, -1 falling, 0 steady or not known."""
    if m.trend_per_h is None or not m.online or _is_nothing(m.trend_per_h, m.info.quantity):
        return 0
    return 1 if m.trend_per_h > 0 else -1


def positions(m: Measured) -> list[str]:
    """Where the newest value stands: above the threshold that it has reached, and below the next one."""
    if m.newest is None:
        return []
    limits = {i: t for i, t in enumerate(m.info.thresholds, 1) if t is not None}
    found = []
    for level in (m.reached, min((i for i in limits if i > m.reached), default=0)):
        if level:
            gap = m.newest[1] - limits[level]
            key = "below" if gap < 0 else "exactly" if _is_nothing(gap, m.info.quantity) else "above"
            threshold = amount(limits[level], m.info.quantity)
            found.append(say(key, amount=_difference(abs(gap), m.info.quantity), level=level, threshold=threshold))
    return found


def _difference(value: float, quantity: str) -> str:
    return f"{value * _CM_PER_M:.0f}{_NO_BREAK}cm" if quantity == "water_level" else amount(value, quantity)


def _is_nothing(value: float, quantity: str) -> bool:
    """Whether it vanishes in the decimals that a person is shown."""
    known = QUANTITIES.get(quantity)
    return abs(value) < 0.5 * 10.0 ** -(known.decimals if known else 2)


def amount(value: float, quantity: str) -> str:
    """A value with its unit, which no line break parts."""
    return texts.amount(value, quantity).replace(" ", _NO_BREAK)


def number(value: float, quantity: str) -> str:
    """A value without its unit, for the side of a chart."""
    return texts.amount(value, quantity).split(" ")[0]
