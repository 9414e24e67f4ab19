"""The last day of what an alarm is about, as a PNG for its mail (mail clients show no SVG). A mail never waits long for it."""

import io
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate

from PIL import Image, ImageDraw, ImageFont

from central.errors import NeedsPerson, Unavailable
from central.registry import Registry
from central.status import Key, usable_series
from central.store.base import Store
from central.web.chart import Box, Chart, chart
from central.web.history import DAY_S, thin
from common import texts
from common.clock import Clock
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES
from wire.station import QuantityInfo

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""Real seconds that a mail waits for its graph; then it goes without."""
KEPT = 64
"""Graphs that are kept: a step is one mail to many."""

_BOX = Box(width=1104, height=400, left=110, right=1090, top=16, bottom=346, label=30)  # twice the size that is shown
_FONT_PX = 28
_PAPER, _INK, _SOFT, _GAP, _LINE = "#ffffff", "#16202a", "#d3dae0", "#eceaf2", "#0b5c88"
_LIMITS = {1: "#b08c00", 2: "#d66f00", 3: "#b3122b"}
_DASH = 14


class Graphs:
    """Draws what the database holds, in a thread of its own. One look at a time: while a database hangs, mails go without."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "mail-graph")
        self._lock = threading.Lock()
        self._kept: dict[str, Future[bytes | None]] = {}  # by event; the oldest first
        self._late: Future[bytes | None] | None = None

    def of(self, event: AlarmEvent) -> bytes | None:
        """The graph of an event's sensor, or None: nothing is measured, nothing is known, or not soon enough."""
        if event.station is None or event.sensor is None or event.quantity not in QUANTITIES:
            return None
        with self._lock:
            if self._late is not None and not self._late.done():
                return None
            self._late = None
            found = self._kept.get(event.id)
            if found is None:
                found = self._kept[event.id] = self._pool.submit(self._draw, event)
                while len(self._kept) > KEPT:
                    del self._kept[next(iter(self._kept))]
        try:
            return found.result(PATIENCE_S)
        except TooLate:
            log.warning("no graph in the mail of event %s: the database takes longer than %g s", event.id, PATIENCE_S)
            with self._lock:
                self._late = found
            return None

    def close(self) -> None:
        """Draw no more. A database that hangs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _draw(self, event: AlarmEvent) -> bytes | None:
        now_s = self._clock.wall()
        try:
            points = self._points(event, now_s)
        except (Unavailable, NeedsPerson) as e:
            log.info("no graph in the mail of event %s: %s", event.id, e)
            return None
        except Exception:
            log.exception("no graph in the mail of event %s", event.id)
            return None
        if len(points) < 2:
            return None
        return draw(points, self._info(event), now_s)

    def _points(self, event: AlarmEvent, now_s: float) -> list[tuple[int, float]]:
        start_ms, end_ms = round((now_s - DAY_S) * 1000), round(now_s * 1000) + 1
        key = Key(event.quantity or "", event.station or "", event.sensor or "")
        return thin(usable_series(self._store, key, start_ms, end_ms))

    def _info(self, event: AlarmEvent) -> QuantityInfo:
        """What the gateway says of the quantity; where it has said nothing yet, the threshold of the event."""
        for sensor in self._registry.sensors(event.station or ""):
            for info in sensor.quantities:
                if sensor.id == event.sensor and info.quantity == event.quantity:
                    return info
        known = event.threshold if event.kind in ("high", "low") else None
        limits = [known if level == event.level else None for level in (1, 2, 3)]
        return QuantityInfo(quantity=event.quantity or "", period_s=0, thresholds=(limits[0], limits[1], limits[2]))


def draw(points: Sequence[tuple[int, float]], info: QuantityInfo, now_s: float) -> bytes:
    """A PNG of the day that ends at `now_s`. `points`: Unix ms and value, in order of time. Its words are numbers only."""
    made = chart(points, info, now_s, DAY_S, _BOX)
    image = Image.new("RGB", (_BOX.width, _BOX.height), _PAPER)
    _paint(ImageDraw.Draw(image), made, points[-1][1], info.quantity)
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


def _paint(canvas: ImageDraw.ImageDraw, made: Chart, newest: float, quantity: str) -> None:
    font = ImageFont.load_default(_FONT_PX)
    for x, width in made.gaps:
        canvas.rectangle((x, _BOX.top, x + width, _BOX.bottom), _GAP)
    for x, hour in made.hours:
        canvas.line((x, _BOX.top, x, _BOX.bottom), _SOFT, 2)
        canvas.text((x, _BOX.bottom + 8), f"{hour}h", _INK, font, anchor="ma")
    canvas.line((_BOX.left, _BOX.bottom, _BOX.right, _BOX.bottom), _INK, 2)
    for level, value, y, label_y in made.thresholds:
        for x in range(_BOX.left, _BOX.right, 2 * _DASH):
            canvas.line((x, y, min(x + _DASH, _BOX.right), y), _LIMITS[level], 4)
        canvas.text((_BOX.left - 8, label_y), _number(value, quantity), _LIMITS[level], font, anchor="rs")
    for run in made.runs:
        if len(run) > 1:
            canvas.line(run, _LINE, 5, joint="curve")
    x, y = made.runs[-1][-1]
    canvas.ellipse((x - 9, y - 9, x + 9, y + 9), _LINE, _PAPER, 3)
    beside = (x - 18, y - 12 if y > _BOX.top + 60 else y + 44)
    canvas.text(beside, _number(newest, quantity), _INK, ImageFont.load_default(_FONT_PX + 8), anchor="rs",
                stroke_width=4, stroke_fill=_PAPER)  # fmt: skip


def _number(value: float, quantity: str) -> str:
    return texts.amount(value, quantity).split(" ")[0]
