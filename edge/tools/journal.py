"""`maillages-edge journal`: the readings in a gateway's journal, read from its files alone, so also beside a running gateway, from
another card, and from files that are damaged. Nothing is written there.
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from common.clock import from_rfc3339, parse_until, rfc3339
from edge.errors import ConfigError
from edge.journal import Row, salvage
from edge.tools.screen import FAINT, STRONG, WARNING, paint
from wire.quantities import QUANTITIES

COLUMNS = ("number", "time", "station", "sensor", "quantity", "value", "unit", "qc", "clock", "boot", "boot_s")


def segments(path: Path) -> list[Path]:
    """The files of a journal in their order; those that were set aside (`.damaged`) too. Raises ConfigError when there is none."""
    if path.is_file():
        return [path]
    try:
        found = sorted(p for p in path.iterdir() if p.suffix in (".log", ".damaged"))
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}") from e
    if not found:
        raise ConfigError(f"{path}: no journal, expected files named *.log")
    return found


class Book:
    """Some files of a journal. After `rows` is through, `read` rows were whole and `damaged` lines were not, as `faults` say."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.read = 0
        self.damaged = 0
        self.faults: list[str] = []

    def rows(self, series: str = "", since_s: float | None = None) -> Iterator[Row]:
        """In order, of one station, sensor or series, since a moment. A row of the file that grows may be missed, none is torn."""
        for path in self._files:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # pruned since it was listed
            except OSError as e:
                self.damaged += 1
                self.faults.append(f"{path}: cannot be read: {e.strerror}")
                continue
            found = salvage(data)
            self.read += len(found.rows)
            self.damaged += found.damaged + found.nameless
            if found.damaged:
                self.faults.append(f"{path}: {found.damaged} damaged lines")
            if found.nameless:
                self.faults.append(f"{path}: {found.nameless} readings whose series is not known any more")
            for row in found.rows:
                if (not series or f"{row.series}/".startswith(f"{series}/")) and (
                    since_s is None or row.wall_ms >= since_s * 1000
                ):
                    yield row

    def summary(self) -> str:
        """What was read and what could not be, for people."""
        return "\n".join([f"{self.read} readings in {len(self._files)} files", *self.faults])


def moment(text: str | None, now_s: float) -> float | None:
    """Unix seconds of `--since`: RFC 3339, or so long ago. Raises ConfigError."""
    if text is None:
        return None
    try:
        return from_rfc3339(text) if "T" in text else 2 * now_s - parse_until(text, now_s)
    except ValueError:
        raise ConfigError(f"--since: found {text!r}, expected 2h, 45m or 2026-11-25T14:30:00+01:00") from None


def value(row: Row) -> dict[str, Any]:
    """A row as an object for JSON, with the columns of the CSV."""
    return dict(zip(COLUMNS, _cells(row), strict=True))


def line(row: Row) -> str:
    """A row for people."""
    quantity = row.series.rpartition("/")[2]
    unit = QUANTITIES[quantity].unit if quantity in QUANTITIES else ""
    doubt = "" if row.synchronised else paint("  clock not set", WARNING)
    flag = paint(f"qc {row.qc}", FAINT if row.qc in (1, 2) else WARNING)
    return f"{row.number:>8}  {rfc3339(row.wall_ms / 1000)[:19]}Z  {paint(row.series, STRONG)}  {row.value:g} {unit}  {flag}{doubt}"


def export(rows: Iterable[Row], to: Path) -> None:
    """Write rows as CSV (RFC 4180) to a new file, or to standard output for `-`. Raises ConfigError."""
    try:
        with nullcontext(sys.stdout) if str(to) == "-" else to.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(map(_cells, rows))
    except OSError as e:
        raise ConfigError(f"{to} cannot be written: {e.strerror}") from e


def _cells(row: Row) -> tuple[Any, ...]:
    station, sensor, quantity = row.series.split("/")
    unit = QUANTITIES[quantity].unit if quantity in QUANTITIES else ""
    clock = "synchronised" if row.synchronised else "estimated"
    time = rfc3339(row.wall_ms / 1000)
    return row.number, time, station, sensor, quantity, row.value, unit, row.qc, clock, row.boot, row.boot_ms / 1000
