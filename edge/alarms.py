"""The alarms of a gateway: what its rules remember, what people and the configuration do with it, and the events that follow.

The rules themselves are pure (edge/rules.py), and the log is on the disk (edge/alarm_log.py): here is what lies between them.
"""

import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from common.clock import Clock, from_rfc3339, rfc3339
from edge import rules
from edge.alarm_log import AlarmLog, AlarmLogUnwritable, Progress
from edge.config import HighRule, Rule
from edge.errors import EdgeError
from edge.rules import AlarmState, LevelRule, Observation, SensorRules, Transition
from edge.watch import Watchlist
from wire import command as commands
from wire.alarm import EXERCISE, AlarmEvent, Notified, State, Status
from wire.alarm import Transition as Step
from wire.errors import WireError
from wire.ids import uuid7
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

SAME_SHELF_S = 1.0
"""Two ends of a shelf, counted on boot time from a wall clock, that are the same one."""
_MEASURED = frozenset({"high", "low", "rise", "fall"})
_LOST = frozenset({"stale", "comm_fail"})


class Alarms:
    """`states` by rule. `answers`: of an occurrence that stands, the last acknowledgement and shelving. `exercise`: the last event of
    the exercise alarm that stands; it is no state of a rule, so nothing that looks at those mistakes it for one. For the thread of
    the data path alone."""

    def __init__(
        self,
        gateway: str,
        clock: Clock,
        alarm_log: AlarmLog,
        watch: Watchlist,
        status: Status,
        dated: Callable[[], bool],
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._log = alarm_log
        self._watch = watch
        self._status = status
        self._dated = dated
        """Whether the clock can be believed."""
        self.states: dict[str, AlarmState] = {}
        self.answers: dict[str, dict[str, AlarmEvent]] = {}
        self.exercise: AlarmEvent | None = None
        self._unsaved: list[AlarmEvent] = []
        self._unlogged = False

    # ------------------------------------------------------------------ after a restart

    def resume(
        self,
        of: SensorRules,
        saved: Mapping[str, AlarmState],
        now: float,
        shift_s: float,
        history: Iterable[tuple[float, str, float]] = (),
    ) -> None:
        """Go on with the saved states of these rules (see `rules.resume`)."""
        mine = {rule.id: saved[rule.id] for rule in of.rules if rule.id in saved}
        self.states |= rules.resume(of, mine, now, shift_s=shift_s, history=history)

    def recall(self, now: float) -> None:
        """When the states are resumed: learn from the log who did what, and follow the configuration."""
        try:
            for event in self._log.answers():
                self.answers.setdefault(event.occurrence, {})[event.transition] = event
        except (EdgeError, WireError) as e:
            log.warning("who acknowledged the alarms that stand is not known: %s", e)
        try:
            left = [event for event in self._log.active().active if event.rule == EXERCISE]
        except (EdgeError, WireError) as e:
            log.warning("whether an exercise stands is not known: %s", e)
            left = []
        for self.exercise in left:
            self.end_exercise("the gateway began anew")
        for rule_id, (owner, rule) in self._watch.rules.items():
            out = owner is not None and owner.sensor.out_of_service
            self._change(rule_id, rules.put_out_of_service(rule, self.states[rule_id], now, out=out))
        self.suppress(now)

    # ------------------------------------------------------------------ inputs

    def observe(self, of: SensorRules, observations: Iterable[Observation]) -> None:
        """Judge what was observed, in order."""
        for observation in observations:
            self._take(rules.observe(of, self.states, observation, self._new_id))

    def tick(self, now: float) -> None:
        """Let time pass: what is silent is found so."""
        for watched in self._watch.everyone:
            self._take(rules.tick(watched.rules, self.states, now, self._new_id))

    def suppress(self, now: float) -> None:
        """Let each rule that another suppresses follow it."""
        for rule_id, (_, rule) in self._watch.rules.items():
            if rule.suppressed_by is not None:
                other = self.states.get(rule.suppressed_by, AlarmState())
                self._change(rule_id, rules.suppress(rule, self.states.get(rule_id, AlarmState()), now, other))

    def acknowledge(self, ack: commands.Ack) -> dict[str, Any]:
        """Raises WireError when it cannot be done; so do the next two. They give the occurrence and its state."""
        if self.exercise is not None and ack.occurrence == self.exercise.occurrence:
            if self.exercise.state == "UNACK":
                self._exercised("ack", "ACK", self.exercise.level, by=ack.by)
            return {"occurrence": ack.occurrence, "state": "ACK"}
        rule_id, rule, state = self._active(ack.occurrence)
        if ack.level is not None and state.level > ack.level:
            raise WireError(
                f"occurrence {ack.occurrence} is at level {state.level} by now, acknowledged was level {ack.level}"
            )
        self._change(rule_id, rules.acknowledge(rule, state, self._clock.boot(), ack.by))
        return self._answer_of(rule_id, ack.occurrence)

    def shelve(self, shelve: commands.Shelve) -> dict[str, Any]:
        rule_id, rule, state = self._active(shelve.occurrence)
        now, wall = self._clock.boot(), self._clock.wall()
        if shelve.until is None:
            change = rules.unshelve(rule, state, now, shelve.by)
        else:
            try:
                wait_s = from_rfc3339(shelve.until) - wall
            except ValueError:
                raise WireError(f"until: found {shelve.until!r}, expected RFC 3339 with an offset") from None
            if not 0 < wait_s <= commands.MAX_SHELF_S:
                raise WireError(
                    f"until: found {shelve.until}, expected later than {rfc3339(wall)} by at most {commands.MAX_SHELF_S / 3600:.0f} h"
                )
            if state.shelved_s is not None and abs(state.shelved_s - now - wait_s) < SAME_SHELF_S:
                return self._answer_of(rule_id, shelve.occurrence)  # central repeats itself until it has the event
            change = rules.shelve(rule, state, now, now + wait_s, shelve.by, shelve.why)
        self._change(rule_id, change)
        return self._answer_of(rule_id, shelve.occurrence)

    def reset(self, reset: commands.Reset) -> dict[str, Any]:
        rule_id, rule, state = self._active(reset.occurrence)
        if not self._change(rule_id, rules.reset(rule, state, self._clock.boot(), reset.by)):
            raise WireError(
                f"occurrence {reset.occurrence} is {state.state} at level {state.level}, expected one that has returned and was"
                " acknowledged"
            )
        return self._answer_of(rule_id, reset.occurrence)

    def acknowledge_heard(self, min_level: int, since_boot_s: float) -> None:
        """Who pressed the button at that time had heard these: what a siren from `min_level` on sounded for, not what was raised or
        became worse since."""
        heard = [
            rule_id
            for rule_id, state in self.states.items()
            if state.state == "UNACK" and state.withheld is None and state.level >= min_level
            if state.announced_s is not None and state.announced_s <= since_boot_s
        ]
        log.info("button: pressed, %d alarms acknowledged", len(heard))
        now, by = self._clock.boot(), f"bouton {self._gateway}"
        for rule_id in heard:
            self._change(rule_id, rules.acknowledge(self._watch.rules[rule_id][1], self.states[rule_id], now, by))

    def notified(self, about: AlarmEvent, notified: tuple[Notified, ...]) -> None:
        """The gateway's own SMS about an event were tried."""
        current = self.exercise if about.rule == EXERCISE else self.states.get(about.rule)
        if current is not None and current.occurrence != about.occurrence:
            current = None
        self._unsaved.append(
            about.model_copy(
                update={
                    "id": self._new_id(),
                    "seq": self._log.next_seq + len(self._unsaved),
                    "transition": "notify",
                    "state": current.state if current else "NORMAL",
                    "level": current.level if current else 0,
                    "time": rfc3339(self._clock.wall()),
                    "notified": notified,
                    "withheld": current.withheld if current else None,
                }
            )
        )

    # ------------------------------------------------------------------ exercise

    @property
    def pressing(self) -> str | None:
        """The rule of a measured alarm, or of a lost measurement, that people must hear of before any exercise: nobody has
        answered it, or its level stands."""
        for rule_id, state in self.states.items():
            kind = self._watch.rules[rule_id][1].kind if rule_id in self._watch.rules else None
            if state.withheld is None and (
                (kind in _MEASURED and state.state != "NORMAL") or (kind in _LOST and state.state == "UNACK")
            ):
                return rule_id
        return None

    def begin_exercise(self, station: str, level: int, by: str) -> AlarmEvent:
        """Raise the exercise alarm, of no sensor and without a value, as if `station` had reached `level`. Raises WireError while
        another stands or an alarm is pressing."""
        if self.exercise is not None:
            raise WireError("an exercise is under way: wait for its end")
        if (rule := self.pressing) is not None:
            raise WireError(
                f"alarm {rule} stands: an exercise would be taken for it, or hide it; wait until it is over, or shelve it if it is wrong"
            )
        now = self._clock.wall()
        self.exercise = AlarmEvent(
            id=self._new_id(), occurrence=self._new_id(), seq=1, source="gateway", gateway=self._gateway, station=station,
            sensor=None, quantity=None, rule=EXERCISE, kind="high", transition="raise", state="UNACK", level=level,
            value=None, unit=None, threshold=None, time=rfc3339(now), clock="estimated", status="Exercise",
        )  # fmt: skip
        return self._exercised("raise", "UNACK", level, by=by)

    def end_exercise(self, note: str) -> None:
        """What stands of an exercise is over: answered or not, nothing of it is left."""
        if self.exercise is None:
            return
        answered = self.exercise.state == "ACK"
        self._exercised("clear", "NORMAL" if answered else "RTN_UNACK", 0, note=note)
        if not answered:
            self._exercised("ack", "NORMAL", 0, by=self._gateway, note=note)
        self.exercise = None

    def _exercised(
        self, transition: Step, state: State, level: int, *, by: str | None = None, note: str | None = None
    ) -> AlarmEvent:
        assert self.exercise is not None  # noqa: S101 - callers have looked
        log.warning("EXERCISE alarm: %s to level %d, %s", transition, level, state)
        self.exercise = self.exercise.model_copy(
            update={
                "id": self._new_id(),
                "seq": self._log.next_seq + len(self._unsaved),
                "transition": transition,
                "state": state,
                "level": level,
                "time": rfc3339(self._clock.wall()),
                "clock": "synchronised" if self._dated() else "estimated",
                "by": by,
                "note": note,
            }
        )
        self._unsaved.append(self.exercise)
        return self.exercise

    # ------------------------------------------------------------------ what stands, what is to be logged

    @property
    def urgent(self) -> bool:
        """Whether a level or rate alarm stands or is about to. A trend costs too much to reckon it with each reading."""
        return any(
            rules.urgent(rule, self.states[rule_id])
            for rule_id, (_, rule) in self._watch.rules.items()
            if rule_id in self.states
        )

    @property
    def unsaved(self) -> bool:
        """Whether events wait for `save`."""
        return bool(self._unsaved)

    def save(self, progress: Progress) -> int | None:
        """Events, states and progress in one transaction: how many events. None when the disk takes none: they stay, for the next."""
        states = {rule: state.to_json() for rule, state in self.states.items()}
        # Numbered anew: after a refused commit the log may go on at another number.
        first = self._log.next_seq
        events = [event.model_copy(update={"seq": first + i}) for i, event in enumerate(self._unsaved)]
        try:
            self._log.commit(events, states, progress)
        except AlarmLogUnwritable as e:
            if not self._unlogged:
                log.error("transitions are held in memory: %s", e)
            self._unlogged = True
            return None
        if self._unlogged:
            log.info("transitions are written again")
        self._unlogged = False
        self._unsaved = []
        return len(events)

    # ------------------------------------------------------------------ inside

    def _new_id(self) -> str:
        return uuid7(self._clock.wall())

    def _take(self, outcome: rules.Outcome) -> None:
        states, transitions = outcome
        self.states |= states
        self._note(transitions)

    def _change(self, rule_id: str, change: rules.Change) -> bool:
        """Take what a person or the configuration did. Whether there was something to tell."""
        self.states[rule_id], transition = change
        self._note([transition] if transition else [])
        return transition is not None

    def _active(self, occurrence: str) -> tuple[str, Rule, AlarmState]:
        if self.exercise is not None and self.exercise.occurrence == occurrence:
            raise WireError(f"occurrence {occurrence} is an exercise: it ends by itself, and can only be acknowledged")
        for rule_id, state in self.states.items():
            if state.occurrence == occurrence and rule_id in self._watch.rules:
                return rule_id, self._watch.rules[rule_id][1], state
        raise WireError(f"occurrence {occurrence} is not active here")

    def _answer_of(self, rule_id: str, occurrence: str) -> dict[str, Any]:
        return {"occurrence": occurrence, "state": self.states[rule_id].state}

    def _note(self, transitions: Sequence[Transition]) -> None:
        self._unsaved += [self._event(t, len(self._unsaved) + i) for i, t in enumerate(transitions)]

    def _event(self, t: Transition, ahead: int) -> AlarmEvent:
        watched, rule = self._watch.rules[t.rule]
        quantity = rule.quantity if isinstance(rule, LevelRule) else None
        log.warning("alarm %s: %s to level %d, %s", t.rule, t.transition, t.level, t.state)
        event = AlarmEvent(
            id=self._new_id(),
            occurrence=t.occurrence,
            seq=self._log.next_seq + ahead,
            source="gateway",
            gateway=self._gateway,
            station=watched.station.id if watched else None,
            sensor=watched.sensor.id if watched else None,
            quantity=quantity,
            rule=t.rule,
            kind=t.kind,
            transition=t.transition,
            state=t.state,
            level=t.level,
            value=t.value,
            unit=QUANTITIES[quantity].unit if quantity in QUANTITIES else None,
            threshold=t.threshold,
            trend_per_h=round(t.trend_per_h, 4) if t.trend_per_h is not None else None,
            next_level_at=self._rfc3339(t.next_level_s),
            time=rfc3339(self._clock.wall_of(t.boot_s)),
            clock="synchronised" if self._dated() else "estimated",
            data_lost=t.data_lost,
            status=self._status,
            by=t.by,
            until=self._rfc3339(t.until_s),
            withheld=t.withheld,
            note=t.note or ("at least" if t.at_least else None),
            mean_h=rule.mean_h if isinstance(rule, HighRule) else None,
        )
        if t.transition in ("ack", "shelve"):
            self.answers.setdefault(t.occurrence, {})[t.transition] = event
        if t.state == "NORMAL":
            self.answers.pop(t.occurrence, None)
        return event

    def _rfc3339(self, boot_s: float | None) -> str | None:
        return None if boot_s is None else rfc3339(self._clock.wall_of(boot_s))


def readable(saved: dict[str, str], known: Container[str]) -> dict[str, AlarmState]:
    """The saved states that can be read. A damaged one begins anew: it must not keep the others from being watched."""
    states = {}
    for rule, text in saved.items():
        if rule in known:
            try:
                states[rule] = AlarmState.from_json(text)
            except ValueError as e:
                log.error("rule %s: its saved state is damaged and begins anew: %s", rule, e)
    return states
