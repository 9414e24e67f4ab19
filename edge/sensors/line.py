"""Any device that sends lines of text, by a regular expression in the configuration whose named groups are quantities.

Source: the device's manual. A line ends in CR, LF or both. The pattern must match a whole line: with what begins the line in it,
the end of a line that was cut is no value.
"""

import re
from functools import cache
from typing import Self

from pydantic import Field as Constraint
from pydantic import field_validator, model_validator

from edge.sensors._framing import ScanFramer, Step
from edge.sensors._named import Named, distinct, fields
from edge.sensors.base import Driver, Field, FrameError, Options, Sheet
from wire.quantities import QUANTITIES

LINE_BYTES = 256
_NUMBER = re.compile(r"[+-]?(?=[.,]?[0-9])[0-9]*[.,]?[0-9]*(?:[eE][+-]?[0-9]+)?")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class LineOptions(Options):
    """`pattern` for a line without its end, such as `D=(?P<water_distance>[0-9.]+)m`. A group named as in the table is that
    quantity in its unit; `quantities` says of a group what else it is (unit, factor, offset, invalid values; see Named).

    `ignore` matches lines that are no measurement. `request` is sent every period to a device that has to be asked.
    """

    pattern: str
    quantities: tuple[Named, ...] = ()
    ignore: str | None = None
    request: str = Constraint(default="", pattern="^[\\x00-\\xff]*$")

    @field_validator("pattern", "ignore")
    @classmethod
    def _regular(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as e:
            raise ValueError(f"found {pattern!r}, expected a regular expression: {e}") from e
        return pattern

    @model_validator(mode="after")
    def _named(self) -> Self:
        groups = _compiled(self.pattern).groupindex
        if not groups:
            raise ValueError(f"pattern: found {self.pattern!r}, expected a group such as (?P<water_level>[0-9.]+)")
        for one in self.quantities:
            if one.name not in groups:
                raise ValueError(f"quantities: found {one.name!r}, expected one of the pattern's: {', '.join(groups)}")
        distinct(self.quantities)
        return self

    def named(self) -> tuple[Named, ...]:
        """What the pattern's groups are, in their order."""
        said = {one.name: one for one in self.quantities}
        return tuple(said.get(group) or Named(name=group) for group in _compiled(self.pattern).groupindex)


def _cut(buffer: bytearray) -> Step | None:
    if buffer[0] in b"\r\n":
        return 1, b""
    end = re.search(rb"[\r\n]", buffer[:LINE_BYTES])
    if end:
        return end.end(), bytes(buffer[: end.end()])
    if len(buffer) < LINE_BYTES:
        return None
    return LINE_BYTES, FrameError("overflow", f"{LINE_BYTES} bytes without the end of a line")


def decode(frame: bytes, options: LineOptions) -> list[Field]:
    """One line with its end -> a field for each named group that took part in the match; a decimal comma is a point.

    Raises FrameError: `tail` without the end of a line; `no_data` for a line to ignore; `format` for one that does not match, or
    a group that is no number; `sensor_fault` and `out_of_range` by the configuration.
    """
    text = frame.rstrip(b"\r\n").decode("latin-1")
    if len(text) == len(frame):
        raise FrameError("tail", f"{text!r} does not end in a carriage return or line feed")
    if options.ignore is not None and _compiled(options.ignore).fullmatch(text):
        return [Field("reply", "ignored", "")]
    match = _compiled(options.pattern).fullmatch(text)
    if match is None:
        raise FrameError("format", f"{text!r} does not match {options.pattern!r}")
    taken = [(one, match[one.name]) for one in options.named() if match[one.name] is not None]
    found = fields([one for one, _ in taken], [_number(one.name, value) for one, value in taken])
    if not found:
        raise FrameError("no_data", f"{text!r} has none of the values")
    return found


def _number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise FrameError("format", f"{name}: {text!r} is no number")
    return float(text.replace(",", "."))


DRIVER = Driver(
    name="line",
    title="Any device that sends lines of text, by a regular expression",
    link="stream",
    quantities=tuple(QUANTITIES),
    options=LineOptions,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut),
    request=lambda options: options.request.encode("latin-1"),
    source="the device's manual",
    sheet=Sheet(
        wiring="As the device's manual says: TTL (3.3 or 5 V), RS232 and RS485 each need the right adapter.",
        limits="A whole line must match; what does not is counted and no value. A line without a checksum says nothing of a digit that "
        "was flipped on the way: it is another value, which only its range, a spike test or the median of a period holds back.",
        faults="Nothing matches: look at the raw lines first. A group's unit differs from the table's: say it in "
        "`quantities`.",
        options="pattern = 'D=(?P<water_distance>[0-9.]+)m'",
    ),
)
