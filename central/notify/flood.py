"""How many messages a person can act upon: ten in ten minutes (ISA-18.2 calls more a flood). What is over it comes in one."""

from collections import defaultdict, deque

FLOOD = 10
FLOOD_S = 600.0


class Flood:
    """Counts what each person got on each channel in the last ten minutes, in boot seconds; messages sent as one count as one.

    A restart begins anew: then somebody may get ten more.
    """

    def __init__(self) -> None:
        self._sent: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def sent(self, recipient: str, channel: str, now: float) -> None:
        self._recent(recipient, channel, now).append(now)

    def room(self, recipient: str, channel: str, now: float) -> int:
        """How many more, each by itself; the last place is for all that is left."""
        return max(0, FLOOD - len(self._recent(recipient, channel, now)) - 1)

    def free_at(self, recipient: str, channel: str, now: float) -> float:
        """When the next may go: now, or when the oldest of ten is ten minutes old."""
        recent = self._recent(recipient, channel, now)
        return now if len(recent) < FLOOD else recent[-FLOOD] + FLOOD_S

    def _recent(self, recipient: str, channel: str, now: float) -> deque[float]:
        sent = self._sent[recipient, channel]
        while sent and now - sent[0] >= FLOOD_S:
            sent.popleft()
        return sent
