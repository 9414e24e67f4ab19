"""Who is told of an occurrence, and in which order."""

from collections.abc import Sequence

from central.config import Recipient, Station
from wire.alarm import Kind, Status


def eligible(
    recipients: Sequence[Recipient], communes: frozenset[str], kind: Kind, level: int, status: Status
) -> list[list[Recipient]]:
    """The steps of the escalation: recipients of any of the communes, for this kind and level, grouped by `order`.

    Exercises and tests reach only those who are marked for them.
    """
    chosen = [
        r
        for r in recipients
        if (r.communes == "all" or communes.intersection(r.communes))
        and level >= r.min_level
        and (r.kinds is None or kind in r.kinds)
        and (status == "Actual" or r.exercise)
    ]
    return [[r for r in chosen if r.order == order] for order in sorted({r.order for r in chosen})]


def communes_of(stations: Sequence[Station], gateway: str, station: str | None) -> frozenset[str]:
    """The commune of a station; for what concerns a whole gateway, those of all its stations."""
    return frozenset(s.commune for s in stations if s.gateway == gateway and (station is None or s.id == station))
