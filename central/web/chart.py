"""The last hours of a sensor as lines in a small SVG: a gap stays a gap, thresholds are lines. Only geometry; a template draws it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from central.status import MIN_SILENT_S, SILENT_PERIODS
from central.web.history import BUCKET_MS, DAY_S
from common.clock import BRUSSELS
from wire.station import QuantityInfo

WIDTH, HEIGHT = 360, 114
LEFT, RIGHT, TOP, BOTTOM = 40, 356, 6, 96
_LABEL_PX = 11
_TICK_HOURS = 6
_SHORT_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Chart:
    """`span_h`: hours. `lines`: the `d` of one path for each run without a gap. `gaps`: x and width of where nothing was measured.
    `thresholds`: level, value, y of its line and y of its label. `hours`: x and local hour. `low`, `high`: extremes of the day,
    None for a day without a reading; `low_y` is where the lowest is."""

    span_h: int
    lines: tuple[str, ...]
    gaps: tuple[tuple[float, float], ...]
    thresholds: tuple[tuple[int, float, float, float], ...]
    hours: tuple[tuple[float, int], ...]
    low: float | None
    high: float | None


def chart(points: Sequence[tuple[int, float]], info: QuantityInfo, now_s: float, span_s: float = DAY_S) -> Chart:
    """`points`: Unix ms and value, in order of time; what lies outside the `span_s` that end at `now_s` is left out."""
    start_ms, end_ms = (now_s - span_s) * 1000, now_s * 1000
    points = [p for p in points if start_ms <= p[0] <= end_ms]
    limits = [(i, t) for i, t in enumerate(info.thresholds, 1) if t is not None]
    shown = [v for _, v in points] + [t for _, t in limits] or [0.0]
    bottom, top = min(shown), max(shown)
    margin = (top - bottom) * 0.06 or 1.0
    bottom, top = bottom - margin, top + margin

    def x(time_ms: float) -> float:
        return round(LEFT + (time_ms - start_ms) / (end_ms - start_ms) * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (value - bottom) / (top - bottom) * (BOTTOM - TOP), 1)

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
        gaps.append((x(before), round(RIGHT - x(before), 1)))
    lines = tuple(
        f"M{x(run[0][0])} {y(run[0][1])}" + ("".join(f"L{x(t)} {y(v)}" for t, v in run[1:]) or "h0") for run in runs
    )

    labels: list[tuple[int, float, float, float]] = []
    free = float(BOTTOM)
    for level, threshold in limits:  # ascending: a label makes room upwards
        free = min(y(threshold) + 4, free)
        labels.append((level, threshold, y(threshold), free))
        free -= _LABEL_PX
    low = min((v for _, v in points), default=None)
    high = max((v for _, v in points), default=None)
    return Chart(
        round(span_s / 3600),
        lines,
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
