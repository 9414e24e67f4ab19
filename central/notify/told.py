"""Who was told of an occurrence: by central's outbox and by the gateway itself. Names, never numbers or addresses."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from sqlalchemy import select

from central.db import Database
from central.tables import message
from common.clock import from_rfc3339
from wire.alarm import AlarmEvent, Notified

Fate = Literal["waiting", "trying", "accepted", "delivered", "failed", "unknown"]
_FATES: Mapping[str, Fate] = {"sent": "accepted", "failed": "failed", "unknown": "unknown"}


DELIVERED = "delivered"
"""The reason of an accepted message of which the network reported so."""


class Told(NamedTuple):
    """One message to one person. `accepted`: a provider or the network took it; `delivered`: it is on the phone, says the network.
    Neither says that it was read."""

    name: str
    channel: Literal["sms", "email", "webhook"]
    fate: Fate
    at_s: float
    by_gateway: bool


def told(db: Database, events: Iterable[AlarmEvent], occurrence: str, names: Mapping[str, str]) -> list[Told]:
    """The messages about an occurrence in order of time; `events` are its own, `names` those of the recipients by id."""
    m = message.c
    about = select(m.recipient, m.channel, m.state, m.reason, m.changed_s).where(
        m.occurrence == occurrence, m.purpose == "alarm", m.state != "dropped"
    )
    found = [
        Told(
            names.get(r.recipient, r.recipient),
            r.channel,
            "delivered" if r.state == "accepted" and r.reason == DELIVERED else r.state,
            r.changed_s,
            by_gateway=False,
        )
        for r in db.rows(about)
    ]
    notes: dict[Notified, float] = {}
    for event in events:
        for note in event.notified:
            notes.setdefault(note, from_rfc3339(event.time))
    found += [
        Told(names.get(n.to, n.to), n.channel, _FATES[n.result], at_s, by_gateway=True) for n, at_s in notes.items()
    ]
    return sorted(found, key=lambda t: (t.at_s, t.name, t.channel))
