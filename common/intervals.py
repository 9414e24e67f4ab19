"""A set of positive integers kept as disjoint, sorted, closed intervals: which numbers are stored, packed or given up."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """Closed intervals of integers. Adjacent ones merge, so a contiguous history is one pair however long it is."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in pairs:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._first, self._last, strict=True)))

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self._first, number) - 1
        return i >= 0 and number <= self._last[i]

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return sum(last - first + 1 for first, last in self)

    def add(self, first: int, last: int) -> None:
        """Add every number from `first` to `last`."""
        low = bisect_left(self._last, first - 1)
        high = bisect_right(self._first, last + 1)
        if low < high:
            first = min(first, self._first[low])
            last = max(last, self._last[high - 1])
        self._first[low:high] = [first]
        self._last[low:high] = [last]

    def remove(self, first: int, last: int) -> None:
        """Remove every number from `first` to `last`."""
        kept: list[tuple[int, int]] = []
        low = bisect_left(self._last, first)
        high = bisect_right(self._first, last)
        for a, b in zip(self._first[low:high], self._last[low:high], strict=True):
            if a < first:
                kept.append((a, first - 1))
            if b > last:
                kept.append((last + 1, b))
        self._first[low:high] = [a for a, _ in kept]
        self._last[low:high] = [b for _, b in kept]

    def gap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first run of numbers within start..end that are not in the set."""
        i = bisect_right(self._first, start) - 1
        if i >= 0 and start <= self._last[i]:
            start = self._last[i] + 1
        if start > end:
            return None
        j = bisect_left(self._first, start)
        return start, min(end, self._first[j] - 1) if j < len(self._first) else end

    def pairs(self) -> list[list[int]]:
        """As lists, for JSON."""
        return [[first, last] for first, last in self]
