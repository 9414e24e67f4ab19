"""The readings pack: contiguous numbers of one gateway's journal, as SenML records plus MQTT user properties.

The properties `journal`, `first`, `last`, `lane` and (only when estimated) `clock` say which readings a pack carries; the
correlation data `<journal>:<first>-<last>` is what central's receipt repeats.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from wire.errors import WireError
from wire.quantities import QUANTITIES
from wire.senml import Record

Lane = Literal["live", "backlog"]

MAX_RECORDS = 500
MAX_PAYLOAD_BYTES = 16 * 1024

_CORRELATION = re.compile(rb"^([0-9a-zA-Z-]{1,64}):(\d{1,18})-(\d{1,18})$")


class PackRange(NamedTuple):
    """Which readings a pack carries: every number from `first` to `last` of `journal`."""

    journal: str
    first: int
    last: int

    def correlation(self) -> bytes:
        return f"{self.journal}:{self.first}-{self.last}".encode()


class PackProperties(NamedTuple):
    """The user properties of a numbered pack."""

    range: PackRange
    lane: Lane
    clock_estimated: bool
    thinned: tuple[int, int] | None = None
    """First and last of numbers that were given up. It rides on the pack and spoils none: what cannot be read counts as left out."""


class Reading(NamedTuple):
    """One published reading: series `<station>/<sensor>/<quantity>`, value in the table's unit, QARTOD flag, Unix ms."""

    series: str
    value: float
    qc: int
    time_ms: int


def user_properties(pack: PackProperties) -> list[tuple[str, str]]:
    r = pack.range
    out = [("journal", r.journal), ("first", str(r.first)), ("last", str(r.last)), ("lane", pack.lane)]
    if pack.clock_estimated:
        out.append(("clock", "estimated"))
    if pack.thinned:
        out.append(("thinned", f"{pack.thinned[0]}-{pack.thinned[1]}"))
    return out


def parse_properties(properties: Mapping[str, str], records: int) -> PackProperties | None:
    """The pack's properties, or None for a pack of another client, which has none and gets no receipt.

    Raises WireError when they are incomplete or do not fit the number of records.
    """
    if not {"journal", "first", "last"} & properties.keys():
        return None
    try:
        journal = properties["journal"]
        first, last = _whole(properties["first"]), _whole(properties["last"])
        lane = properties["lane"]
    except KeyError as e:
        raise WireError(f"user property {e.args[0]!r} is missing") from e
    except ValueError as e:
        raise WireError(f"user properties first and last must be numbers: {e}") from e
    if not re.fullmatch(r"[0-9a-zA-Z-]{1,64}", journal):
        raise WireError(f"user property journal is {journal!r}, expected an id of 1 to 64 letters, digits and -")
    if lane not in ("live", "backlog"):
        raise WireError(f"user property lane is {lane!r}, expected live or backlog")
    if first < 1 or last - first + 1 != records:
        raise WireError(f"numbers {first}-{last} do not fit {records} records")
    if records > MAX_RECORDS:
        raise WireError(f"{records} records, at most {MAX_RECORDS} are allowed")
    clock = properties.get("clock")
    if clock not in (None, "estimated", "synchronised"):
        raise WireError(f"user property clock is {clock!r}, expected estimated")
    return PackProperties(
        PackRange(journal, first, last),
        "live" if lane == "live" else "backlog",
        clock == "estimated",
        _thinned(properties.get("thinned", "")),
    )


def _thinned(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", text)
    return (int(match[1]), int(match[2])) if match and 0 < int(match[1]) <= int(match[2]) else None


def _whole(text: str) -> int:
    """A number of at most 18 digits, which every database can hold. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError(f"{text[:40]!r} is no number of 1 to 18 digits")
    return int(text)


def parse_correlation(data: bytes) -> PackRange | None:
    """The range that a receipt is for; None when the data is not of that form (an alarm's is its event id)."""
    match = _CORRELATION.match(data)
    return PackRange(match[1].decode(), int(match[2]), int(match[3])) if match else None


def records(readings: Iterable[Reading]) -> list[Record]:
    """The SenML records of a pack: base name per sensor, absolute times in s with ms precision, `qc` only when not 1."""
    out: list[Record] = []
    base = ""
    for series, value, qc, time_ms in readings:
        prefix, _, quantity = series.rpartition("/")
        record: Record = {}
        if prefix != base:
            base = prefix
            record["bn"] = prefix + "/"
        record["n"] = quantity
        record["u"] = QUANTITIES[quantity].unit
        record["t"] = time_ms / 1000
        record["v"] = value
        if qc != 1:
            record["qc"] = qc
        out.append(record)
    return out
