"""What central's page says beside what both pages say (common/words.py): communes, and what is measured somewhere else."""

from central.status import Measured
from common import words
from common.texts import commune
from common.words import age, amount, bounded, label, number, say, when

__all__ = ["age", "amount", "bounded", "commune", "direction", "label", "number", "positions", "say", "trend", "when"]


def trend(m: Measured) -> str | None:
    """Which way and how fast; None where it is not known."""
    return None if m.trend_per_h is None or not m.online else words.trend(m.trend_per_h, m.info.quantity)


def direction(m: Measured) -> int:
    """1 rising, -1 falling, 0 steady or not known."""
    return 0 if m.trend_per_h is None or not m.online else words.direction(m.trend_per_h, m.info.quantity)


def positions(m: Measured) -> list[str]:
    """Where the newest value stands: above the threshold that it has reached, and below the next one."""
    return [] if m.newest is None else words.positions(m.newest[1], m.reached, m.info.thresholds, m.info.quantity)
