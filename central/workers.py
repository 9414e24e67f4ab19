"""More than one central: readings are shared out by gateway, one process leads.

Every process is a worker: it stores the readings of its share of the gateways. One of them leads besides: it has the alarm log,
the messages, `station_status` and the page. Who lives and who leads is said by locks of the state (`Database.hold`), which are
free as soon as their process is gone: no heartbeat, no lease that a clock could misjudge.

Shares go by rendezvous hashing: each gateway to the living worker with the highest hash of both, so that when one goes only
its gateways move, and all workers come to the same without talking.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

LEADER = "leader"


@dataclass(frozen=True)
class Place:
    """Worker `number` of `count`, from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Place":
        """From `2/3`. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
        place = cls(int(found[1]), int(found[2])) if found else None
        if place is None or not 1 <= place.number <= place.count:
            raise ValueError(f"{text!r}: expected <number>/<count>, as 1/3")
        return place

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def names(self) -> list[str]:
        """The locks of all places."""
        return [lock_name(number) for number in range(1, self.count + 1)]

    def session(self, name: str) -> str:
        """The broker keeps a session for each worker. The first one's is that of a central that is alone."""
        return name if self.number == 1 else f"{name}-{self.number}"


def lock_name(number: int) -> str:
    return f"worker-{number}"


def share(gateways: Iterable[str], number: int, living: Collection[int]) -> frozenset[str]:
    """The gateways of worker `number`, which lives, among the `living`."""
    everyone = {number, *living}
    return frozenset(g for g in gateways if max(everyone, key=lambda n: _weight(n, g)) == number)


def _weight(number: int, gateway: str) -> bytes:
    return blake2b(f"{number}/{gateway}".encode(), digest_size=8).digest()
