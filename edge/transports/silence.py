"""Which sensors that send by themselves are missed: nodes behind a modem, devices behind a network server."""

import math
from collections.abc import Iterator, Sequence

from edge.transports.base import Source

_LATE = 1.5
"""Their own clocks drift, and a packet may be lost: they are missed one and a half periods after the last one."""


class Silence:
    """Boot seconds. A source without a period is never missed."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._missed_at: dict[str, float] = {}

    def listen(self, boot_s: float) -> None:
        """From now on they can be heard."""
        self._missed_at = {s.key: boot_s + _LATE * s.period_s for s in self._sources if s.period_s}

    def heard(self, source: Source, boot_s: float) -> None:
        """It was heard then, which may be a while ago."""
        if source.period_s:
            due = boot_s + _LATE * source.period_s
            self._missed_at[source.key] = max(due, self._missed_at.get(source.key, due))

    def missed(self, boot_s: float) -> Iterator[Source]:
        """Those that are missed by now; each again after another period."""
        for source in self._sources:
            if boot_s >= self._missed_at.get(source.key, math.inf):
                self._missed_at[source.key] = boot_s + source.period_s
                yield source
