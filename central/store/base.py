"""What central asks of a database, and the words it uses: series, points, and what became of a write.

Two implementations keep one behaviour suite: `central.store.influx` (InfluxDB 1.6 to 3 by line protocol) and
`central.store.embedded` (SQLite, for a pilot and the demonstration).

A point is one row: a series, a time in Unix ms, and fields. It is made for speed: a `Series` is built once and shared by
all its points (it carries its encoded prefix), and a `Reading` is a point that the garbage collector need not look at:
making one takes 0.1 us and encoding it 0.3 us.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

Value = float | int | str

MIN_TIME_MS, MAX_TIME_MS = -9_223_372_036_854, 9_223_372_036_854  # int64 nanoseconds, InfluxDB's own range
_TAG_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_MEASUREMENT_ESCAPES = str.maketrans({",": r"\,", " ": r"\ "})


class Series:
    """A measurement and its tags. Equal by value; make one and keep it.

    `prefix` is its line protocol up to and including the space before the fields, tags sorted. Raises ValueError for what
    line protocol cannot carry: an empty name or value, a control character, a backslash, the tag `time`.
    """

    __slots__ = ("_hash", "measurement", "prefix", "tags")

    def __init__(self, measurement: str, tags: Mapping[str, str]) -> None:
        for text in (measurement, *tags, *tags.values()):
            check_name(text)
        if measurement.startswith("#"):
            raise ValueError(f"measurement {measurement!r} would be a comment in line protocol")
        if "time" in tags:
            raise ValueError("a tag cannot be named time")
        self.measurement = measurement
        self.tags = tuple(sorted(tags.items()))
        self._hash = hash((measurement, self.tags))
        pairs = (f",{k.translate(_TAG_ESCAPES)}={v.translate(_TAG_ESCAPES)}" for k, v in self.tags)
        self.prefix = f"{measurement.translate(_MEASUREMENT_ESCAPES)}{''.join(pairs)} "

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Series) and (self.measurement, self.tags) == (other.measurement, other.tags)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Series({self.measurement!r}, {dict(self.tags)!r})"


class Point(NamedTuple):
    """One row. Writing the same series and time again overwrites the fields that it names and keeps the others.

    A field's type never changes, so the caller says `2.0` where the field is a float: float, int and str are three types.
    """

    series: Series
    fields: Mapping[str, Value]
    time_ms: int


class Reading(msgspec.Struct, frozen=True, gc=False):
    """A point with the fields `value` and `qc`: nearly all that central ever writes. The value is finite, the flag 0 to 9."""

    series: Series
    value: float
    qc: int
    time_ms: int

    @property
    def fields(self) -> Mapping[str, Value]:
        return {"value": self.value, "qc": self.qc}


class Rejected(NamedTuple):
    """A point that the database will never take, and why; the others of the same write are stored."""

    point: Point | Reading
    reason: str


class WriteResult(NamedTuple):
    """Everything that was written and is not in `rejected` is stored, and survives the end of the database's process."""

    rejected: tuple[Rejected, ...]


class Row(NamedTuple):
    """One stored row as it is read back. A float that is integral may come back as an int (JSON keeps no difference)."""

    tags: dict[str, str]
    time_ms: int
    fields: dict[str, Value]


class Store(Protocol):
    """A time-series database. Every method may be called from any thread.

    All but `ping` and `close` raise Unavailable (do the same again: every write is idempotent) or NeedsPerson (keep all,
    tell a person). Ranges are `start_ms <= time < end_ms`, results are in order of time, what does not exist is empty.
    """

    def setup(self) -> None:
        """Make the database ready, creating what is missing; again at will. Call it until it returns, then write."""

    def ping(self) -> bool:
        """Whether it answers at all."""

    def write(self, points: Sequence[Point | Reading]) -> WriteResult:
        """Store the points; poisonous ones are isolated and returned. Of two at one series and time the later wins."""

    def series(
        self, measurement: str, tags: Mapping[str, str], field: str, start_ms: int, end_ms: int
    ) -> list[tuple[int, Value]]:
        """Times and values of one field, of all series that carry `tags`."""

    def last(self, measurement: str, tags: Mapping[str, str], field: str = "value") -> tuple[int, Value] | None:
        """The newest time and value of one field, of all series that carry `tags`."""

    def count(self, measurement: str, start_ms: int, end_ms: int, tags: Mapping[str, str], field: str = "value") -> int:
        """How many rows have `field`, in all series that carry `tags`."""

    def dump(self, measurement: str, start_ms: int, end_ms: int) -> list[Row]:
        """Every row, ordered by time, then tags."""

    def close(self) -> None:
        """Release connections; nothing is called after."""


def check_name(text: str) -> str:
    """`text` where it can be a measurement, tag or field name, or a tag's value. Raises ValueError."""
    if not text or "\\" in text or not text.isprintable():
        raise ValueError(f"name {text!r}: expected printable text without backslash")
    return text


def check_field(name: str, value: Value) -> None:
    """Raises ValueError for a field that some database cannot take."""
    check_name(name)
    if name == "time" or '"' in name:
        raise ValueError(f"a field cannot be named {name!r}")
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"field {name} is {value!r}, expected a finite number")
    elif type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"field {name} is {value!r}, expected 64 bits")
    elif type(value) is str:
        value.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    else:
        raise ValueError(f"field {name} is {value!r}, expected float, int or str")


def check(point: Point | Reading) -> None:
    """Raises ValueError for a point that some database cannot take, whatever it holds already."""
    if not point.fields:
        raise ValueError("no field")
    if not MIN_TIME_MS <= point.time_ms <= MAX_TIME_MS:
        raise ValueError(f"time {point.time_ms} ms is out of range")
    for name, value in point.fields.items():
        check_field(name, value)
