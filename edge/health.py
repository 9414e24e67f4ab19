"""What a gateway says of itself each minute, and judges by its own rules: journal, clock, machine, outputs (docs/wire.md has the names)."""

from collections.abc import Callable, Mapping
from pathlib import Path

from common.clock import Clock
from edge.journal import Journal
from edge.vitals import vitals

Report = Callable[[], Mapping[str, float]]
"""What a part of the gateway says of itself; it must not wait."""


class OwnHealth:
    def __init__(self, data_dir: Path, clock: Clock, journal: Journal) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._journal = journal
        self._reports: list[Report] = []
        self.started_s = 0.0
        self._confirmed = (0, 0.0)
        """How many readings central has confirmed, and since when no more."""

    def add(self, report: Report) -> None:
        self._reports.append(report)

    def start(self) -> None:
        """From now on the gateway runs; its journal is open.

        What readings had waited before a restart within this boot counts on; the time in which no gateway ran does not.
        """
        self.started_s = self._clock.boot()
        self._confirmed = (self._journal.head - self._journal.depth, self.started_s - self._journal.waited_s)

    def unconfirmed_s(self, now: float) -> float:
        """For how long readings have waited without a receipt for any."""
        depth = self._journal.depth
        confirmed = self._journal.head - depth
        if depth == 0 or confirmed != self._confirmed[0]:
            self._confirmed = (confirmed, now)
        return now - self._confirmed[1]

    def values(self, now: float, *, synchronised: bool, in_memory: int) -> dict[str, float]:
        """By name. `in_memory`: readings that the disk does not take."""
        found: dict[str, float] = {
            "journal_depth": self._journal.depth,
            "journal_head": self._journal.head,
            "journal_damaged": self._journal.corrupt,
            "journal_thinned": self._journal.thinned,
            "readings_in_memory": in_memory,
            "clock_synchronised": float(synchronised),
            "uptime_s": round(now - self.started_s, 1),
            "unconfirmed_s": round(self.unconfirmed_s(now), 1),
            "unsynchronised_s": 0.0 if synchronised else round(now - self.started_s, 1),
        }
        found |= vitals(self._data_dir)
        for report in self._reports:
            found |= report()
        return found
