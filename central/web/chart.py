"""The last hours of a sensor as lines: a gap stays a gap, thresholds are lines. Only geometry; a template draws it on the page,
central/notify/graph.py for a mail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from central.status import MIN_SILENT_S, SILENT_PERIODS
from central.web.history import BUCKET_MS, DAY_S
from common.clock import BRUSSELS
from wire.station import QuantityInfo


class Box(NamedTuple):
    """Where lines are drawn, in pixels; `label` is the height of a line of text."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    label: int


PAGE = Box(width=360, height=114, left=40, right=356, top=6, bottom=96, label=11)
_TICK_HOURS = 6
_SHORT_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Chart:
    """`span_h`: hours. `runs`: x and y of the points of each run without a gap. `gaps`: x and width of where nothing was measured.
    `thresholds`: level, value, y of its line and y of its label. `hours`: x and local hour. `low`, `high`: extremes of the day,
    None for a day without a reading; `low_y` is where the lowest is."""

    span_h: int
    runs: tuple[tuple[tuple[float, float], ...], ...]
    gaps: tuple[tuple[float, float], ...]
    thresholds: tuple[tuple[int, float, float, float], ...]
    hours: tuple[tuple[float, int], ...]
    low: float | None
    high: float | None

    @property
    def lines(self) -> tuple[str, ...]:
        """The runs as the `d` of SVG paths."""
        return tuple(f"M{x} {y}" + ("".join(f"L{x} {y}" for x, y in more) or "h0") for (x, y), *more in self.runs)


def chart(
    points: Sequence[tuple[int, float]], info: QuantityInfo, now_s: float, span_s: float = DAY_S, box: Box = PAGE
) -> Chart:
    """`points`: Unix ms and value, in order of time; what lies outside the `span_s` that end at `now_s` is left out."""
    start_ms, end_ms = (now_s - span_s) * 1000, now_s * 1000
    points = [p for p in points if start_ms <= p[0] <= end_ms]
    limits = [(i, t) for i, t in enumerate(info.thresholds, 1) if t is not None]
    shown = [v for _, v in points] + [t for _, t in limits] or [0.0]
    bottom, top = min(shown), max(shown)
    margin = (top - bottom) * 0.06 or 1.0
    bottom, top = bottom - margin, top + margin

    def x(time_ms: float) -> float:
        return round(box.left + (time_ms - start_ms) / (end_ms - start_ms) * (box.right - box.left), 1)

    def y(value: float) -> float:
        return round(box.bottom - (value - bottom) / (top - bottom) * (box.bottom - box.top), 1)

    gap_ms = max(SILENT_PERIODS * info.period_s * 1000, MIN_SILENT_S * 1000, 2 * BUCKET_MS)
    runs: list[list[tuple[int, float]]] = []
    gaps = []
    before: float = start_ms
    for point in points:
        if point[0] - before > gap_ms:
            gaps.append((x(before), round(x(point[0]) - x(before), 1)))
            runs.append([])
        if not runs:
            runs.append([])
        runs[-1].append(point)
        before = point[0]
    if end_ms - before > gap_ms:
        gaps.append((x(before), round(box.right - x(before), 1)))

    labels: list[tuple[int, float, float, float]] = []
    free = float(box.bottom)
    for level, threshold in limits:  # ascending: a label makes room upwards
        free = min(y(threshold) + 0.36 * box.label, free)
        labels.append((level, threshold, y(threshold), free))
        free -= box.label
    low = min((v for _, v in points), default=None)
    high = max((v for _, v in points), default=None)
    return Chart(
        round(span_s / 3600),
        tuple(tuple((x(t), y(v)) for t, v in run) for run in runs),
        tuple(gaps),
        tuple(labels),
        _hours(now_s, span_s, x),
        low,
        high,
    )


def _hours(now_s: float, span_s: float, x: Callable[[float], float]) -> tuple[tuple[float, int], ...]:
    """Each sixth local hour; each one where the span is short."""
    begin_s = now_s - span_s
    hours = (datetime.fromtimestamp(begin_s - begin_s % 3600 + 3600 * i, BRUSSELS) for i in range(1, 26))
    step = _TICK_HOURS if span_s > _SHORT_S else 1
    return tuple((x(h.timestamp() * 1000), h.hour) for h in hours if h.hour % step == 0 and h.timestamp() <= now_s)
