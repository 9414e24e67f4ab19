"""The alarms that stand, as a person at the server's command line sees them."""

from dataclasses import dataclass
from typing import Any

from central.alarms.log import AlarmLog, Occurrence
from central.alarms.wishes import Shelf, Wishes, owned
from central.db import Database
from common.clock import Clock, rfc3339
from common.texts import reference
from wire.alarm import Withheld


@dataclass(frozen=True, slots=True)
class Standing:
    """An occurrence that is not over. `asked`: what its owner has not confirmed yet."""

    occurrence: Occurrence
    withheld: Withheld | None
    shelf: Shelf | None
    waits_for_reset: bool
    asked: tuple[str, ...]

    @property
    def reference(self) -> str:
        return reference(self.occurrence.occurrence)

    @property
    def shown_state(self) -> str:
        """The ISA-18.2 state, and what else must be known of it."""
        return ", ".join(
            [
                self.occurrence.state,
                *([self.occurrence.status.upper()] if self.occurrence.status != "Actual" else []),
                *([self.withheld.replace("_", " ")] if self.withheld else []),
                *(["waits for reset"] if self.waits_for_reset else []),
                *(f"{a} asked" for a in self.asked),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        o, shelf = self.occurrence, self.shelf
        return {
            "reference": self.reference,
            "occurrence": o.occurrence,
            "level": o.level,
            "source": o.source,
            "gateway": o.gateway,
            "station": o.station,
            "rule": o.rule,
            "kind": o.kind,
            "status": o.status,
            "state": o.state,
            "since": rfc3339(o.raised_s),
            "acknowledged_by": o.acked_by,
            "withheld": self.withheld,
            "shelved_until": rfc3339(shelf.until_s) if shelf else None,
            "shelved_by": shelf.event.by if shelf else None,
            "shelved_why": shelf.event.note if shelf else None,
            "waits_for_reset": self.waits_for_reset,
            "asked": list(self.asked),
        }


def standing(db: Database, alarms: AlarmLog, clock: Clock) -> list[Standing]:
    """Every alarm that is not over, highest level first."""
    wishes = Wishes(db, alarms, clock)
    shelves = wishes.shelves()
    asked = wishes.asked()
    found = []
    for occurrence in alarms.open_occurrences():
        event = alarms.event(occurrence.last_event)
        found.append(
            Standing(
                occurrence,
                event.withheld if event else None,
                shelves.get(owned(occurrence)),
                alarms.waits_for_reset(occurrence),
                asked.get(occurrence.occurrence, ()),
            )
        )
    return found
