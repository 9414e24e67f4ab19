"""Central's own alarms, whichever rule raises them: their events, and what people wish of them.

The alarm log is all the memory there is: a rule looks at what stands there and at its observations, so that a restart changes
nothing. Occurrences and events are UUIDv7, `source` is `central`, and people are told as of any other alarm.
"""

import threading
from collections.abc import Callable, Collection
from typing import Any

from central.alarms.log import AlarmLog, Occurrence
from central.alarms.wishes import Owned, Wishes, owned
from central.config import LINK_TEST
from common.clock import Clock, rfc3339
from wire.alarm import AlarmEvent, State, Transition
from wire.command import RESET
from wire.ids import uuid7

STANDS: frozenset[State] = frozenset({"UNACK", "ACK"})
"""The states in which an alarm's condition holds."""


def stands(occurrence: Occurrence | None) -> bool:
    """Whether its condition holds, answered or not."""
    return occurrence is not None and occurrence.state in STANDS


class Own:
    """Records the events. Rules look from threads of their own, each holding `lock` from what it reads to what it records.

    `changed()` is called after an event was recorded.
    """

    def __init__(self, alarms: AlarmLog, wishes: Wishes, clock: Clock, changed: Callable[[], None]) -> None:
        self.alarms = alarms
        self.lock = threading.RLock()
        self._wishes = wishes
        self._clock = clock
        self._changed = changed

    def open(self, *rules: str) -> list[Occurrence]:
        """What these rules have raised, or all of them, and what is not over."""
        return [o for o in self.alarms.open_occurrences() if o.source == "central" and (not rules or o.rule in rules)]

    def keep(self) -> None:
        """Do what people wish, confirm what they acknowledged, end the shelves that are over. A shelf outlasts its occurrence.
        Raises StateUnavailable."""
        with self.lock:
            for wish in self._wishes.pending("central"):
                if wish.command == RESET:
                    # At its level: nobody knows that it has returned, and nobody is told so. The acknowledgement comes first.
                    if wish.occurrence.state != "UNACK":
                        self.follow(wish.occurrence, "reset", "NORMAL", wish.occurrence.level, by=wish.by)
                    continue
                until = None if wish.until_s is None else rfc3339(wish.until_s)
                self._flag(
                    wish.occurrence, "unshelve" if until is None else "shelve", by=wish.by, until=until, note=wish.why
                )
            for occurrence in self.open():
                last = self.alarms.event(occurrence.last_event)
                if last is not None and last.withheld and not self._shelved(owned(occurrence)):
                    self._flag(occurrence, "unshelve")
            for occurrence in self.open():
                if occurrence.rule == LINK_TEST:  # answered in its own way (central/notify/linktest.py)
                    continue
                if occurrence.acked_by is not None and occurrence.state in ("UNACK", "RTN_UNACK"):
                    after: State = "ACK" if occurrence.state == "UNACK" else "NORMAL"
                    self.follow(occurrence, "ack", after, occurrence.level, by=occurrence.acked_by[:200])

    def begin(
        self, gateway: str, rule: str, kind: str, level: int, resumed: Occurrence | None = None, **facts: Any
    ) -> AlarmEvent:
        """Raise an alarm, or one again that has returned and that nobody answered; gives its event. `facts`: members of the event;
        `time` is now unless it is among them. Raises StateUnavailable."""
        nothing = dict.fromkeys(("station", "sensor", "quantity", "value", "unit", "threshold"))
        occurrence = resumed.occurrence if resumed else uuid7(self._clock.wall())
        return self._record(
            nothing | {"gateway": gateway, "rule": rule, "kind": kind} | facts, occurrence, "raise", "UNACK", level
        )

    def follow(self, occurrence: Occurrence, transition: Transition, state: State, level: int, **facts: Any) -> None:
        """The next event of an occurrence; what `facts` do not say is as in the last one. Raises StateUnavailable."""
        last = self.alarms.event(occurrence.last_event)
        assert last is not None  # noqa: S101 - the log keeps every event
        said = last.model_dump(exclude={"time", "clock", "by", "until", "note", "notified"})
        self._record(said | facts, occurrence.occurrence, transition, state, level)

    def end(self, occurrence: Occurrence, **facts: Any) -> None:
        """What was wrong is over. Raises StateUnavailable."""
        self.follow(occurrence, "clear", "RTN_UNACK" if occurrence.state == "UNACK" else "NORMAL", 0, **facts)

    def end_gone(self, prefix: str, rules: Collection[str]) -> None:
        """End what rules under a prefix have raised that the configuration has no more. Raises StateUnavailable."""
        with self.lock:
            for occurrence in self.open():
                if occurrence.rule.startswith(prefix) and occurrence.rule not in rules and stands(occurrence):
                    self.end(occurrence)

    def _flag(self, occurrence: Occurrence, transition: Transition, **facts: Any) -> None:
        # Evaluated afresh at the end of a shelf: one that stands is back unacknowledged.
        back = transition == "unshelve" and occurrence.state == "ACK"
        self.follow(occurrence, transition, "UNACK" if back else occurrence.state, occurrence.level, **facts)

    def _shelved(self, rule: Owned) -> bool:
        return rule in self._wishes.shelves()

    def _record(
        self, members: dict[str, Any], occurrence: str, transition: Transition, state: State, level: int
    ) -> AlarmEvent:
        now, gateway = self._clock.wall(), members["gateway"]
        rule = Owned("central", gateway, members["rule"], members["station"])
        shelved = transition == "shelve" or (transition != "unshelve" and self._shelved(rule))
        event = AlarmEvent.model_validate(
            {
                "time": rfc3339(now),
                "clock": "synchronised" if self._clock.synchronised() else "estimated",
                "status": "Exercise" if self._clock.exercise else "Actual",
            }
            | members
            | {
                "id": uuid7(now),
                "occurrence": occurrence,
                "seq": self.alarms.next_seq(gateway),
                "source": "central",
                "transition": transition,
                "state": state,
                "level": level,
                "withheld": "shelved" if shelved else None,
            }
        )
        self.alarms.record(event, now)
        self._changed()
        return event
