"""What each sensor said last, and what became of it: for the gateway's page, its health and its SMS."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from edge.calibration import DISTANCE, upright
from edge.config import Sensor
from edge.qualify import Qualified
from edge.sample import Sample

log = logging.getLogger(__name__)


class Usable(NamedTuple):
    """A value of QARTOD flag 1, 2 or 3, in the table's unit."""

    value: float
    boot_s: float
    qc: int


class Failing(NamedTuple):
    """A sensor that gives nothing usable: the `kind` of error, what was said, since which boot second."""

    kind: str
    detail: str
    since_s: float


class Latest:
    """`usable`: of a series, the newest usable value. `refused`: since which boot second the values of a series are flag 4.
    `failing` and `missed` (attempts without a usable value since the start) by the sensor's key. `side`: what devices say beside
    their readings, by series."""

    def __init__(self) -> None:
        self.usable: dict[str, Usable] = {}
        self.refused: dict[str, float] = {}
        self.failing: dict[str, Failing] = {}
        self.missed: Counter[str] = Counter()
        self.side: dict[str, float] = {}
        self._askew: set[str] = set()
        self._told_s: dict[str, float] = {}

    def attempt(self, sensor: Sensor, sample: Sample, readings: Sequence[Qualified]) -> None:
        """Note how an attempt to read a sensor went."""
        if len(readings) < max(1, len(sample.fields)):
            self.missed[sample.key] += 1
        if readings:
            self.failing.pop(sample.key, None)
        else:
            kind, detail = (sample.error.kind, sample.error.reason) if sample.error else ("no_data", "")
            before = self.failing.get(sample.key)
            self.failing[sample.key] = Failing(kind, detail, before.since_s if before else sample.boot_s)
        if any(field.name == DISTANCE for field in sample.fields):
            self._hangs(sample.key, askew=upright(sensor.tilt, sample) is not sample)
        for field in (*sample.side, *(r.measured for r in readings if r.measured is not None)):
            if isinstance(field.value, int | float):
                self.side[f"{sample.key}/{field.name}"] = float(field.value)

    def told(self, sample: Sample, readings: Sequence[Qualified]) -> bool:
        """Note the values of a sample. False when it is a record that the device kept, and newer values came before it."""
        if not sample.fields:
            return True
        if sample.boot_s < self._told_s.get(sample.key, sample.boot_s):
            return False
        self._told_s[sample.key] = sample.boot_s
        for reading in readings:
            if reading.qc in (1, 2, 3):
                self.usable[reading.series] = Usable(reading.value, sample.boot_s, reading.qc)
                self.refused.pop(reading.series, None)
            else:
                self.refused.setdefault(reading.series, sample.boot_s)
        return True

    def _hangs(self, key: str, *, askew: bool) -> None:
        if askew and key not in self._askew:
            log.warning("%s hangs askew: its distance is not taken", key)
            self._askew.add(key)
        elif not askew and key in self._askew:
            log.info("%s hangs as it should again", key)
            self._askew.remove(key)
