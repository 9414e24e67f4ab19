"""Values that a technician names in the configuration, for devices whose protocol does not say what a value is."""

import math
from collections.abc import Sequence
from typing import Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.sensors.base import Field, FrameError, Options
from wire.quantities import QUANTITIES

SKIPPED = "-"


class Named(Options):
    """What one value of a device is: value = raw * `factor` + `offset`, in the table's unit when `name` is one of its quantities,
    else (health of the sensor) in `unit`. `invalid` are raw values by which the device says that it has none; outside
    `lowest` to `highest`, in the final unit, it cannot have measured."""

    name: str = Constraint(min_length=1)
    unit: str | None = None
    factor: float = 1
    offset: float = 0
    invalid: tuple[float, ...] = ()
    lowest: float = float("-inf")
    highest: float = float("inf")

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        known = QUANTITIES.get(self.name)
        if known is not None and self.unit not in (None, known.unit):
            raise ValueError(f"unit: found {self.unit!r}, expected {known.unit!r}, with a factor that gives it")
        if self.factor == 0:
            raise ValueError("factor: found 0, expected another")
        return self

    def field(self, raw: float) -> Field:
        """Raises FrameError: `sensor_fault` for a raw value that is `invalid`, `out_of_range`."""
        if not math.isfinite(raw):
            raise FrameError("sensor_fault", f"{self.name}: {raw} is no number")
        if raw in self.invalid:
            raise FrameError("sensor_fault", f"{self.name}: {raw} means that there is no value")
        # Ten digits: more is rounding noise of the factor.
        value = raw if (self.factor, self.offset) == (1, 0) else float(f"{raw * self.factor + self.offset:.10g}")
        if not self.lowest <= value <= self.highest:
            raise FrameError("out_of_range", f"{self.name}: {value}, expected {self.lowest} to {self.highest}")
        known = QUANTITIES.get(self.name)
        return Field(self.name, value, known.unit if known else self.unit or "")


def fields(named: Sequence[Named], raws: Sequence[float]) -> list[Field]:
    """The fields of values in the order of their names; one named `-` is skipped.

    The first is what the device is there for: its fault is the frame's (raises FrameError); another that is at fault is left out.
    """
    found: list[Field] = []
    wanted = [(one, raw) for one, raw in zip(named, raws, strict=False) if one.name != SKIPPED]
    for index, (one, raw) in enumerate(wanted):
        try:
            found.append(one.field(raw))
        except FrameError:
            if index == 0:
                raise
    return found


def distinct(named: tuple[Named, ...]) -> tuple[Named, ...]:
    """The same, if no quantity of the table is given twice. Raises ValueError."""
    names = [one.name for one in named if one.name in QUANTITIES]
    if len(set(names)) < len(names):
        raise ValueError(f"found {', '.join(names)}, expected each quantity once")
    return named
