"""What the devices really emitted against what the database holds: nothing missing, doubled or invented."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from central.store.base import Store
from wire.quantities import QUANTITIES

Moments = Sequence[tuple[float, float]]
"""(Unix s, value), in order of time."""


@dataclass(frozen=True, slots=True)
class Account:
    """One series. `taken`: what the gateway's journal has of it; `missing`: emitted and not stored, taken or not."""

    series: str
    emitted: int
    taken: int
    stored: int
    missing: int
    duplicated: int
    invented: int

    @property
    def good(self) -> bool:
        return self.missing == self.duplicated == self.invented == 0


def total(accounts: Iterable[Account]) -> Account:
    """All series in one."""
    rows = [asdict(account) for account in accounts]
    names = ("emitted", "taken", "stored", "missing", "duplicated", "invented")
    return Account("total", **{name: sum(row[name] for row in rows) for name in names})


def compare(emitted: Moments, stored: Moments, tolerance_s: float) -> tuple[int, int, int]:
    """How many readings are missing, duplicated, invented.

    An emitted reading is stored when a row has exactly its value, at most `tolerance_s` away (a gateway stamps a frame when
    it has read it). Each row answers for one emitted reading. A row too many is a duplicate where its value was
    emitted within that time, else invented.
    """
    moments: dict[float, list[float]] = defaultdict(list)
    for at, value in emitted:
        moments[value].append(at)
    rows: dict[float, list[float]] = defaultdict(list)
    for at, value in stored:
        rows[value].append(at)
    missing = duplicated = invented = 0
    for value in moments.keys() | rows.keys():
        wanted, found = moments[value], rows[value]
        left: list[float] = []
        i = j = 0
        while i < len(wanted) and j < len(found):  # both ascend, so the first that fits is the best that fits
            if found[j] < wanted[i] - tolerance_s:
                left.append(found[j])
                j += 1
            elif found[j] > wanted[i] + tolerance_s:
                missing += 1
                i += 1
            else:
                i += 1
                j += 1
        missing += len(wanted) - i
        left += found[j:]
        doubles = sum(1 for at in left if _near(wanted, at, tolerance_s))
        duplicated += doubles
        invented += len(left) - doubles
    return missing, duplicated, invented


def _near(moments: Sequence[float], at: float, tolerance_s: float) -> bool:
    first = bisect_left(moments, at - tolerance_s)
    return first < len(moments) and moments[first] <= at + tolerance_s


def stored_readings(store: Store, start_s: float, end_s: float) -> dict[str, list[tuple[float, float]]]:
    """Every reading of a span in the database, by `<station>/<sensor>/<quantity>`."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for quantity in QUANTITIES:
        for row in store.dump(quantity, round(start_s * 1000), round(end_s * 1000)):
            series = f"{row.tags.get('station')}/{row.tags.get('sensor')}/{quantity}"
            found[series].append((row.time_ms / 1000, float(row.fields["value"])))
    return found


def accounts(
    emitted: Mapping[str, Moments], taken: Mapping[str, int], stored: Mapping[str, Moments], tolerance_s: float
) -> list[Account]:
    """One account for each series that anyone knows of."""
    found = []
    for series in sorted(emitted.keys() | stored.keys()):
        sent, rows = emitted.get(series, ()), stored.get(series, ())
        wrong = compare(sent, rows, tolerance_s)
        found.append(Account(series, len(sent), taken.get(series, 0), len(rows), *wrong))
    return found
