"""The alarm rules: pure functions of (rules, state, input). No clock, no I/O, no memory of their own.

Everything is judged on boot time, the moment at which the value was *measured*; wall time never enters, so a clock step
moves no delay and a replay gives the same transitions. A transition happens at the moment of the input that caused it: the
caller, who has that moment's wall time, stamps it.

**States** (ANSI/ISA-18.2, IEC 62682), one per rule; the letters are the standard's:

    state        input                       transition   next state   occurrence
    A NORMAL     a level is reached          raise        B UNACK      begins
    B UNACK      acknowledged                ack          C ACK
    B UNACK      below every level           clear        D RTN_UNACK
    C ACK        below every level           clear        A NORMAL     ends
    D RTN_UNACK  a level is reached          raise        B UNACK      the same
    D RTN_UNACK  acknowledged                ack          A NORMAL     ends
    B, C         a higher level is reached   escalate     B UNACK      the same; an acknowledgement is withdrawn
    B, C         down to a lower level       deescalate   unchanged    the same

Anything else changes no state. Levels may be skipped either way: 0 to 3 is one `raise` at level 3. Where a rule is `latching`:

    C ACK        below every level           clear        D RTN_UNACK  the same; acknowledged already
    D RTN_UNACK  acknowledged                ack          D RTN_UNACK  the same; acknowledged now
    D, after ack reset by a person           reset        A NORMAL     ends

**Flags.** Beside its state, and whatever that is, an alarm may be withheld, which is to say that it tells nobody:

    shelved_s        by a person, for a time   shelve, unshelve            ends by itself when the time is over
    suppressed_by    by another rule's alarm   suppress, unsuppress        ends with that alarm
    out_of_service   by the configuration      out_of_service, in_service

The states above go on under them, every transition is made and logged, so no flag loses an alarm. When the last flag goes
and a level stands, the alarm is UNACK from then on, whoever had acknowledged it before.

**Evidence.** Each observation says of each level whether it is reached, whether it is left, or neither:

    rule       reached                                   left                                   neither
    high       value >= level (and a rate >= the one     value < level - deadband               between, rate unknown
               that it asks for)
    low power  value <= level                            value > level + deadband               between
    system     as high or low, of the gateway's health
    rise fall  rate >= level                             rate < level - deadband                between, rate unknown
    stale      no usable value for `after_s`             a usable value of each watched         -
                                                         quantity within `after_s`
    comm_fail  `errors` failures of communication        communication that succeeds            fewer failures
               in a row
    quality    the share of flag 4 or no value in the    a usable value, and less than half     between, too few
               window is `failed` or more                of that share

A level is gained when it was reached by every usable observation for `on_delay_s`, lost when it was left by every one for
`off_delay_s`; both delays end at an observation, never by the mere passing of time (which is evidence for `stale` alone).
A value of water alone on its height (see "Outlier" below) starts the on-delay and gains nothing by itself.

Hence, whatever happens:

- Nothing clears by silence. Levels and rates lose a level only at a usable value that shows it left, and after a silence
  the off-delay begins again, since nobody saw what the water did in between.
- QARTOD flags 1, 2 and 3 are usable: 3 means "suspect or of high interest" and is what the onset of a flood gets. 4 and 9
  are as good as silence: they neither raise nor clear.
- Water that has reached the sensor gives no value but a lower bound (`at_least`): it can raise and hold `high` (that it rises
  needs no other proof), it can hold the others, it clears none.
- `stale` takes the highest level that the sensor's level and rate alarms have, or had begun to reach: instruments are
  torn away by the flood that they measure. Those alarms stay as they are, with `data_lost`.

**Outlier.** Water that rises by 0.3 m and more, faster than 0.5 m in ten minutes, from one value to the next is mostly an insect in
the beam, or a wave. A sensor that gives a value every two minutes or less often shows one such value as often as it shows a
flood, so there it counts only with its next value, if that reaches the level too. When none comes, `stale` has the level. Of the
measured floods of demo/replay no step was half as fast. A value behind a gap of an hour, or the first of all, counts at once, and
so does any of a sensor that speaks more often: its values are medians, or a second of them is soon there.

**Rate.** `rise` judges how far the water stands above its lowest point of the last `window_s`, per hour of that window
(per hour since that point, where a gap makes it older). Unlike a fitted slope this sees a flash flood as soon as it has
gained the height, and a young window understates instead of inventing. Points are medians of three, so that one outlier
counts neither as low nor as high: a past value with its two neighbours, the newest with its two predecessors where these
lie within a quarter of the window. A sensor slower than that is not made to wait: for it, one high outlier is for the
on-delay to hold back. `fall` is the same of what stands below the highest point.

**Trend.** What an event of a level tells is the Theil-Sen slope (median of the slopes of all pairs: Theil 1950, Sen 1968) of the
last 20 minutes, or of the last 3 values where they come slower: over an hour, a flash flood that has begun ten minutes ago
has no slope yet. At that slope the next level comes at `next_level_s`, when it comes within a day.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from typing import Annotated, NamedTuple, cast

from pydantic import Field, TypeAdapter

from edge.config import (
    CommFailRule,
    FallRule,
    HighRule,
    LowRule,
    PowerRule,
    QualityRule,
    RiseRule,
    Rule,
    StaleRule,
    SystemRule,
)
from wire import alarm
from wire.command import MAX_SHELF_S

LevelRule = HighRule | LowRule | PowerRule | RiseRule | FallRule | SystemRule
"""Rules that judge a quantity against up to three levels."""

_TREND_S = 1200.0
_TREND_POINTS = 3
_TREND_WINDOW_S = (
    3600.0  # kept for the trend: `_TREND_POINTS` values of a sensor that gives one in a quarter of an hour
)
_HORIZON_S = 24 * 3600.0
_URGENT_S = 3 * 3600.0

_OUTLIER_M = 0.3
_OUTLIER_M_PER_S = 0.5 / 600
_SELDOM_S = 120.0
_GAP_S = 3600.0
_WATER = ("water_level", "water_distance")

_WINDOW_POINTS = 120  # at most so many values of a window are kept, evenly: enough for 30 s in an hour
_LEVELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one poll, period or frame said of one quantity of one sensor, at boot second `boot_s`.

    `value` is in the quantity's unit, None when there is none; `qc` is its QARTOD flag. `at_least`: no value, but the water
    has reached the sensor, so that the quantity is at or above this (flag 3). `comm_ok`: the device answered properly,
    whatever it said. A poll that failed on the line is one observation with `quantity` None and `comm_ok` False. `health`: the
    quantity is none that the device is there to measure (its battery), so it is judged by the rules of that quantity alone.
    """

    boot_s: float
    quantity: str | None
    value: float | None
    qc: int
    at_least: float | None = None
    comm_ok: bool = True
    health: bool = False

    @property
    def bound(self) -> float | None:
        """The usable value, or the usable lower bound of it; None when the rules must not use this observation."""
        number = self.at_least if self.value is None else self.value
        return number if number is not None and math.isfinite(number) and self.qc in (1, 2, 3) else None


class Point(NamedTuple):
    """A value of the window."""

    boot_s: float
    value: float


Times = tuple[float | None, float | None, float | None]
"""One for each level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmState:
    """All that a rule remembers. Times are boot seconds.

    `level` is 0 when normal or returned. `occurrence` is set from raise to the end, `raised_s` is its first raise,
    `announced_s` its last raise or escalation: what a siren's time counts from. `above_s[k-1]` is since when level k has been
    reached, `below_s[k-1]` since when it has been left. `valid_s` is the last usable observation (of any quantity, for rules
    without one), `since_s` the beginning of the watch. `value` is the last usable value, a lower bound if `at_least`.
    `acknowledged`: a latched alarm that waits for its reset. `shelved_s`: until when. `failed` and `judged` count observations of
    a `quality` rule in the half window that began at `half_s` and in the one before.
    """

    state: alarm.State = "NORMAL"
    level: Annotated[int, Field(ge=0, le=3)] = 0
    occurrence: str | None = None
    data_lost: bool = False
    raised_s: float | None = None
    announced_s: float | None = None
    above_s: Times = (None, None, None)
    below_s: Times = (None, None, None)
    since_s: float | None = None
    valid_s: float | None = None
    value: float | None = None
    at_least: bool = False
    errors: int = 0
    acknowledged: bool = False
    shelved_s: float | None = None
    suppressed_by: str | None = None
    out_of_service: bool = False
    half_s: float | None = None
    failed: tuple[int, int] = (0, 0)
    judged: tuple[int, int] = (0, 0)
    window: tuple[Point, ...] = ()

    @property
    def withheld(self) -> alarm.Withheld | None:
        """Why it tells nobody, if it does not."""
        if self.out_of_service:
            return "out_of_service"
        if self.suppressed_by is not None:
            return "suppressed"
        return "shelved" if self.shelved_s is not None else None

    def to_json(self) -> str:
        """Everything but the window, which `resume` rebuilds from the journal."""
        return _STATE.dump_json(self, exclude={"window"}).decode()

    @staticmethod
    def from_json(text: str) -> "AlarmState":
        """What `to_json` wrote, also by an older or newer program: absent members take their default, unknown ones go.

        Raises ValueError when it is something else.
        """
        return _STATE.validate_json(text)


_STATE = TypeAdapter(AlarmState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of one occurrence, at boot second `boot_s`; `state` and `level` are those after it.

    `threshold` is the one that was crossed (for `ack` the present level's), None for `stale` and `comm_fail`; that of `rise`
    is per hour, as is `trend_per_h`. `value` is the last usable value, a lower bound if `at_least`, None if there is none or
    data are lost. `next_level_s`: when the next level comes at the present trend. `by` is the person whose doing it was, or
    the rule that suppresses; `until_s` the end of a shelf, `note` the reason for it. `withheld`: nobody is to be told, and why.
    """

    rule: str
    kind: alarm.Kind
    transition: alarm.Transition
    occurrence: str
    state: alarm.State
    level: int
    boot_s: float
    value: float | None = None
    at_least: bool = False
    threshold: float | None = None
    trend_per_h: float | None = None
    next_level_s: float | None = None
    data_lost: bool = False
    by: str | None = None
    until_s: float | None = None
    note: str | None = None
    withheld: alarm.Withheld | None = None


@dataclass(frozen=True, slots=True)
class SensorRules:
    """The rules of one sensor, and how long it may be silent (what a stale rule without its own `after_s` uses)."""

    rules: tuple[Rule, ...]
    stale_after_s: float

    @property
    def ordered(self) -> tuple[Rule, ...]:
        """The order of evaluation: `stale` last, because it looks at the others."""
        return tuple(sorted(self.rules, key=lambda rule: rule.kind == "stale"))

    @property
    def silence_s(self) -> float:
        """How long without a usable value makes data lost: the shortest of the stale rules', or `stale_after_s`."""
        return min((_after_s(r, self) for r in self.rules if isinstance(r, StaleRule)), default=self.stale_after_s)

    @property
    def history_s(self) -> float:
        """How much history `resume` wants: twice the longest window, so that it is rebuilt with what stands before it."""
        return 2 * max((_window_s(rule) for rule in self.rules if isinstance(rule, LevelRule)), default=0.0)


States = Mapping[str, AlarmState]
"""By rule id. A rule without a state begins as NORMAL."""

NewId = Callable[[], str]
"""Names a new occurrence."""

Outcome = tuple[dict[str, AlarmState], list[Transition]]
"""The states of this sensor's rules after an input, and what happened, in order."""


# ---------------------------------------------------------------------- inputs


def observe(sensor: SensorRules, states: States, obs: Observation, new_id: NewId) -> Outcome:
    """Judge one observation, usable or not. Observations of one sensor come in the order of their time."""
    after: dict[str, AlarmState] = {}
    done: list[Transition] = []
    for rule in sensor.ordered:
        state, ended = _begin(rule, states.get(rule.id, AlarmState()), obs.boot_s)
        done += ended
        if isinstance(rule, LevelRule):
            step = _observe_level(rule, state, obs, sensor.silence_s, new_id)
        elif obs.health:
            step = _Step(state, [])
        elif isinstance(rule, CommFailRule):
            step = _observe_comm(rule, state, obs, new_id)
        elif isinstance(rule, QualityRule):
            step = _observe_quality(rule, state, obs, new_id)
        else:
            step = _observe_stale(rule, state, obs, sensor, after, new_id)
        after[rule.id] = step.state
        done += step.done
    return after, done


def tick(sensor: SensorRules, states: States, boot_s: float, new_id: NewId) -> Outcome:
    """Let time pass without an observation. All that it can do is find the sensor silent and end a shelf; it never clears
    anything."""
    after: dict[str, AlarmState] = {}
    done: list[Transition] = []
    for rule in sensor.ordered:
        state, ended = _begin(rule, states.get(rule.id, AlarmState()), boot_s)
        done += ended
        if isinstance(rule, LevelRule):
            after[rule.id] = _unheard(state, boot_s, sensor.silence_s)
        elif isinstance(rule, StaleRule) and _stale(rule, state, boot_s, sensor, after):
            step = _advance(rule, state, boot_s, _reached(_stale_level(rule, state, sensor, after)), new_id)
            after[rule.id] = step.state
            done += step.done
        else:
            after[rule.id] = state
    return after, done


Change = tuple[AlarmState, Transition | None]
"""The state after what a person or the configuration did, and the transition; None where there was nothing to do, or where no
occurrence is there to tell it of."""


def urgent(rule: Rule, state: AlarmState) -> bool:
    """Whether a level or rate alarm stands (not one of a battery, nor of a sensor out of service), or one is about to: a level is
    reached and waits for its delay, or will be within `_URGENT_S` at the present trend."""
    if not isinstance(rule, LevelRule) or isinstance(rule, PowerRule | SystemRule) or state.out_of_service:
        return False
    if state.level > 0 or any(since is not None for since in state.above_s):
        return True
    if isinstance(rule, RiseRule | FallRule) or not state.window:
        return False
    newest = state.window[-1]
    _, next_s = _outlook(rule, 0, state.window[:-1], newest.boot_s, newest.value)
    return next_s is not None and next_s - newest.boot_s <= _URGENT_S


def acknowledge(rule: Rule, state: AlarmState, boot_s: float, by: str) -> Change:
    """Someone has taken note."""
    if state.state == "UNACK":
        after = replace(state, state="ACK")
    elif state.state == "RTN_UNACK" and not state.acknowledged:
        after = replace(state, acknowledged=True) if rule.latching else _end(state)
    else:
        return state, None
    return after, replace(_transition(rule, "ack", state, after, boot_s), by=by)


def reset(rule: Rule, state: AlarmState, boot_s: float, by: str) -> Change:
    """Someone lets go a latched alarm that has returned and was acknowledged."""
    if state.state != "RTN_UNACK" or not state.acknowledged:
        return state, None
    after = _end(state)
    return after, replace(_transition(rule, "reset", state, after, boot_s), by=by)


def shelve(rule: Rule, state: AlarmState, boot_s: float, until_s: float, by: str, why: str | None = None) -> Change:
    """Someone wants to hear no more of it until then, at most `MAX_SHELF_S` from now. Again: until another time."""
    after = replace(state, shelved_s=min(until_s, boot_s + MAX_SHELF_S))
    after, done = _flagged(rule, state, after, boot_s, "shelve")
    return after, replace(done, by=by, until_s=after.shelved_s, note=why) if done else None


def unshelve(rule: Rule, state: AlarmState, boot_s: float, by: str | None = None) -> Change:
    """The shelf ends, by a person or by itself."""
    if state.shelved_s is None:
        return state, None
    after, done = _flagged(rule, state, replace(state, shelved_s=None), boot_s, "unshelve")
    return after, replace(done, by=by) if done else None


def suppress(rule: Rule, state: AlarmState, boot_s: float, other: AlarmState) -> Change:
    """Follow the alarm of the rule that suppresses this one: while it stands at a level, and tells it itself."""
    by = rule.suppressed_by if other.level and other.withheld is None else None
    if by == state.suppressed_by:
        return state, None
    after = replace(state, suppressed_by=by)
    after, done = _flagged(rule, state, after, boot_s, "suppress" if by else "unsuppress")
    return after, replace(done, by=by) if done else None


def put_out_of_service(rule: Rule, state: AlarmState, boot_s: float, *, out: bool) -> Change:
    """Follow the configuration."""
    if out == state.out_of_service:
        return state, None
    after = replace(state, out_of_service=out)
    return _flagged(rule, state, after, boot_s, "out_of_service" if out else "in_service")


def _flagged(rule: Rule, before: AlarmState, after: AlarmState, boot_s: float, name: alarm.Transition) -> Change:
    """With no flag left, an alarm that stands is evaluated afresh (ISA-18.2: back to unacknowledged)."""
    if before.withheld and not after.withheld and after.level:
        after = replace(after, state="UNACK", announced_s=boot_s)
    return after, _transition(rule, name, before, after, boot_s) if after.occurrence else None


def trend_per_h(state: AlarmState) -> float | None:
    """The trend up to the newest usable value that a level rule's state knows (see "Trend" above); None where it is not known."""
    if state.value is None or state.valid_s is None or state.at_least:
        return None
    before = tuple(point for point in state.window if point.boot_s < state.valid_s)
    return _trend_per_h(before, state.valid_s, state.value)


def resume(
    sensor: SensorRules,
    states: States,
    boot_s: float,
    *,
    shift_s: float = 0.0,
    history: Iterable[tuple[float, str, float]] = (),
) -> dict[str, AlarmState]:
    """The saved states, ready to go on at `boot_s` after a restart; nothing is judged.

    `shift_s` is added to every saved time: what the same moment has on this boot's scale less what it had on the saved
    one's (0 within one boot); where that would put a saved time after `boot_s`, it is cut to the latest that does not, since a
    wrong clock must not postpone anything. `history` is the usable readings (flag 1, 2 or 3) that the states already know, of at least
    the last `history_s`, oldest first: boot second on this boot's scale, quantity, value. A silence is counted from
    `boot_s`, not through the time in which nobody listened.
    """
    past = list(history)
    after: dict[str, AlarmState] = {}
    for rule in sensor.ordered:
        saved = states.get(rule.id, AlarmState())
        latest = max(
            (t for t in (saved.valid_s, saved.announced_s, *saved.above_s, *saved.below_s) if t is not None),
            default=-math.inf,
        )
        state = replace(shift(saved, min(shift_s, boot_s - latest)), since_s=boot_s, window=())
        if state.shelved_s is not None:
            state = replace(state, shelved_s=min(state.shelved_s, boot_s + MAX_SHELF_S))
        if isinstance(rule, LevelRule):
            for at, quantity, value in past:
                if quantity == rule.quantity:
                    state = replace(state, window=_append(state.window, at, value, _window_s(rule)))
        after[rule.id] = state
    return after


def shift(state: AlarmState, delta_s: float) -> AlarmState:
    """The state with `delta_s` added to every time in it."""

    def moved(at: float | None) -> float | None:
        return None if at is None else at + delta_s

    def moved_all(times: Times) -> Times:
        first, second, third = map(moved, times)
        return first, second, third

    return replace(
        state,
        raised_s=moved(state.raised_s),
        announced_s=moved(state.announced_s),
        above_s=moved_all(state.above_s),
        below_s=moved_all(state.below_s),
        since_s=moved(state.since_s),
        valid_s=moved(state.valid_s),
        shelved_s=moved(state.shelved_s),
        half_s=moved(state.half_s),
        window=tuple(point._replace(boot_s=point.boot_s + delta_s) for point in state.window),
    )


# ---------------------------------------------------------------------- evidence, rule by rule


class _Fact(NamedTuple):
    """What is now known of one level. `reached` None: nothing new, what was known stays."""

    reached: bool | None
    left: bool


class _Step(NamedTuple):
    state: AlarmState
    done: list[Transition]


def _observe_level(rule: LevelRule, state: AlarmState, obs: Observation, silence_s: float, new_id: NewId) -> _Step:
    bound = obs.bound
    if obs.quantity != rule.quantity or bound is None:
        return _Step(_unheard(state, obs.boot_s, silence_s), [])
    if state.valid_s is not None and obs.boot_s - state.valid_s >= silence_s:
        state = replace(state, below_s=(None, None, None))
    state = replace(_heard(state, obs.boot_s), value=bound, at_least=obs.value is None, data_lost=False)
    if state.at_least:
        high = isinstance(rule, HighRule)
        facts = [_Fact(True if high and bound >= level else None, False) for level in rule.levels]
        return _advance(rule, state, obs.boot_s, facts + _reached(0)[len(facts) :], new_id)

    window = state.window
    state = replace(state, window=_append(window, obs.boot_s, bound, _window_s(rule)))
    facts = _level_facts(rule, window, obs.boot_s, bound)
    facts += [_Fact(False, True)] * (_LEVELS - len(facts))  # of an alarm whose level the configuration no longer has
    step = _advance(rule, state, obs.boot_s, facts, new_id, alone=_alone(rule, window, obs.boot_s, bound))
    if not step.done:
        return step
    trend, next_s = _outlook(rule, step.state.level, window, obs.boot_s, bound)
    return step._replace(done=[replace(done, trend_per_h=trend, next_level_s=next_s) for done in step.done])


def _level_facts(rule: LevelRule, window: tuple[Point, ...], boot_s: float, value: float) -> list[_Fact]:
    """What a value says of the rule's levels, by its value or by its rate."""
    if isinstance(rule, RiseRule | FallRule):
        rate = _rise_per_h(window, boot_s, value, rule.window_s, _sign(rule))
        if rate is None:
            return [_Fact(None, False)] * len(rule.levels)
        return [_Fact(rate >= level, rate < level - rule.deadband) for level in rule.levels]
    sign = _sign(rule)
    # Not sign * value < sign * level - deadband: it is the same, but for the rounding of what people reckon with.
    left = [value < level - rule.deadband if sign > 0 else value > level + rule.deadband for level in rule.levels]
    reached: list[bool | None] = [sign * value >= sign * level for level in rule.levels]
    if isinstance(rule, HighRule) and rule.and_rise_per_h is not None:
        rate = _rise_per_h(window, boot_s, value, _TREND_WINDOW_S, 1)
        if rate is None or rate < rule.and_rise_per_h:
            reached = [(None if rate is None else False) if fact else fact for fact in reached]
    return [_Fact(r, gone) for r, gone in zip(reached, left, strict=True)]


def _alone(rule: LevelRule, window: tuple[Point, ...], boot_s: float, value: float) -> bool:
    """Whether nobody but this value says that the water has come so far (see "Outlier" above)."""
    if isinstance(rule, RiseRule | FallRule) or rule.quantity not in _WATER or not window:
        return False
    apart_s = boot_s - window[-1].boot_s
    step = _sign(rule) * (value - window[-1].value)
    return _SELDOM_S <= apart_s < _GAP_S and step >= _OUTLIER_M and step > _OUTLIER_M_PER_S * apart_s


def _outlook(
    rule: LevelRule, level: int, window: tuple[Point, ...], boot_s: float, value: float
) -> tuple[float | None, float | None]:
    """The trend per hour, and when the level after `level` comes, as far as they are known."""
    if isinstance(rule, RiseRule | FallRule):
        rate = _rise_per_h(window, boot_s, value, rule.window_s, _sign(rule))
        return None if rate is None else _sign(rule) * rate, None
    trend = _trend_per_h(window, boot_s, value)
    if trend is None or level >= len(rule.levels) or trend * _sign(rule) <= 0:
        return trend, None
    wait_s = max(0.0, (rule.levels[level] - value) / trend * 3600)
    return trend, boot_s + wait_s if wait_s <= _HORIZON_S else None


def _observe_comm(rule: CommFailRule, state: AlarmState, obs: Observation, new_id: NewId) -> _Step:
    if obs.comm_ok:
        return _advance(rule, replace(state, errors=0), obs.boot_s, _LEFT, new_id)
    state = replace(state, errors=min(state.errors + 1, rule.errors))
    facts = _reached(rule.level) if state.errors == rule.errors else _reached(0)
    return _advance(rule, state, obs.boot_s, facts, new_id)


def _observe_quality(rule: QualityRule, state: AlarmState, obs: Observation, new_id: NewId) -> _Step:
    """Counted in two half windows, so that the memory is four numbers and the last half to one window counts."""
    if not obs.comm_ok:  # no word on quality: comm_fail has it
        return _Step(state, [])
    half = rule.window_s / 2
    if state.half_s is None or obs.boot_s - state.half_s >= rule.window_s:
        state = replace(state, half_s=obs.boot_s, failed=(0, 0), judged=(0, 0))
    elif obs.boot_s - state.half_s >= half:
        state = replace(state, half_s=state.half_s + half, failed=(0, state.failed[0]), judged=(0, state.judged[0]))
    bad = obs.bound is None
    state = replace(
        state, failed=(state.failed[0] + bad, state.failed[1]), judged=(state.judged[0] + 1, state.judged[1])
    )
    share = sum(state.failed) / sum(state.judged)
    if sum(state.judged) < rule.at_least:
        facts = _reached(0)
    elif share >= rule.failed:
        facts = _reached(rule.level)
    elif share < rule.failed / 2 and not bad:
        facts = _LEFT
    else:
        facts = [_Fact(False, False)] * _LEVELS
    return _advance(rule, state, obs.boot_s, facts, new_id)


def _observe_stale(
    rule: StaleRule, state: AlarmState, obs: Observation, sensor: SensorRules, others: States, new_id: NewId
) -> _Step:
    if obs.bound is not None:
        state = _heard(state, obs.boot_s)
        times = [each.valid_s for each in _watching(state, sensor, others)]
        if all(t is not None and obs.boot_s - t < _after_s(rule, sensor) for t in times):
            return _advance(rule, state, obs.boot_s, _LEFT, new_id)
    if _stale(rule, state, obs.boot_s, sensor, others):
        return _advance(rule, state, obs.boot_s, _reached(_stale_level(rule, state, sensor, others)), new_id)
    return _Step(state, [])


_LEFT = [_Fact(False, True)] * _LEVELS


def _reached(level: int) -> list[_Fact]:
    return [_Fact(True, False)] * level + [_Fact(None, False)] * (_LEVELS - level)


def _watching(state: AlarmState, sensor: SensorRules, others: States) -> list[AlarmState]:
    """The states that know when the watched quantities, those of the sensor's level rules, were last heard.

    A node's battery voltage is no sign of life of its level sensor; without level rules any quantity is one.
    """
    watched = (r for r in sensor.rules if isinstance(r, LevelRule) and not isinstance(r, PowerRule))
    return [others[r.id] for r in watched] or [state]


def _after_s(rule: StaleRule, sensor: SensorRules) -> float:
    return sensor.stale_after_s if rule.after_s is None else rule.after_s


def _stale(rule: StaleRule, state: AlarmState, boot_s: float, sensor: SensorRules, others: States) -> bool:
    return any(_silent(each, boot_s, _after_s(rule, sensor)) for each in _watching(state, sensor, others))


def _stale_level(rule: StaleRule, state: AlarmState, sensor: SensorRules, others: States) -> int:
    """The rule's own level, or the highest that the sensor's alarms have or had begun to reach."""
    levels = [rule.level]
    for each in _watching(state, sensor, others):
        levels += [each.level, *(k for k, since in enumerate(each.above_s, 1) if since is not None)]
    return max(levels)


def _begin(rule: Rule, state: AlarmState, boot_s: float) -> _Step:
    """The watch begins, and a shelf whose time is over ends."""
    if state.since_s is None:
        state = replace(state, since_s=boot_s)
    if state.shelved_s is None or boot_s < state.shelved_s:
        return _Step(state, [])
    after, ended = unshelve(rule, state, boot_s)
    return _Step(after, [ended] if ended else [])


def _heard(state: AlarmState, boot_s: float) -> AlarmState:
    return replace(state, valid_s=boot_s if state.valid_s is None else max(state.valid_s, boot_s))


def _silent(state: AlarmState, boot_s: float, after_s: float) -> bool:
    return boot_s - max(t for t in (state.valid_s, state.since_s) if t is not None) >= after_s


def _unheard(state: AlarmState, boot_s: float, silence_s: float) -> AlarmState:
    return replace(state, data_lost=True) if _silent(state, boot_s, silence_s) else state


# ---------------------------------------------------------------------- the machine


def _advance(
    rule: Rule, state: AlarmState, boot_s: float, facts: list[_Fact], new_id: NewId, *, alone: bool = False
) -> _Step:
    """Take in what is now known of levels 1, 2 and 3, and move. The only place where a level changes. `alone`: no level is gained
    that the observation before had not reached too."""
    before = replace(
        state,
        above_s=_timers(state.above_s, [fact.reached for fact in facts], boot_s),
        below_s=_timers(state.below_s, [fact.left for fact in facts], boot_s),
    )
    gained = [
        k
        for k, fact in enumerate(facts, 1)
        if fact.reached and _lasted(before.above_s, k, boot_s, rule.on_delay_s)
        if not alone or state.above_s[k - 1] is not None
    ]
    up, down = max(gained, default=0), state.level
    while down and facts[down - 1].left and _lasted(before.below_s, down, boot_s, rule.off_delay_s):
        down -= 1

    if up > state.level:
        name: alarm.Transition = "escalate" if state.level else "raise"
        after = replace(
            before,
            state="UNACK",
            level=up,
            occurrence=state.occurrence or new_id(),
            raised_s=boot_s if state.raised_s is None else state.raised_s,
            announced_s=boot_s,
            acknowledged=False,
        )
    elif 0 < down < state.level:
        name, after = "deescalate", replace(before, level=down)
    elif down < state.level:
        name = "clear"
        acknowledged = state.state == "ACK"
        if acknowledged and not rule.latching:
            after = _end(before)
        else:
            after = replace(before, state="RTN_UNACK", level=0, acknowledged=acknowledged)
    else:
        return _Step(before, [])
    return _Step(after, [_transition(rule, name, before, after, boot_s)])


def _timers(since: Times, facts: Iterable[bool | None], boot_s: float) -> Times:
    """A timer runs from the first True, stops at a False, and None leaves it as it is."""

    def timer(start: float | None, fact: bool | None) -> float | None:
        if fact is None:
            return start
        return (boot_s if start is None else start) if fact else None

    first, second, third = map(timer, since, facts)
    return first, second, third


def _lasted(since: Times, level: int, boot_s: float, delay_s: float) -> bool:
    start = since[level - 1]
    return start is not None and boot_s - start >= delay_s


def _end(state: AlarmState) -> AlarmState:
    return replace(state, state="NORMAL", level=0, occurrence=None, raised_s=None, announced_s=None, acknowledged=False)


def _transition(rule: Rule, name: alarm.Transition, before: AlarmState, after: AlarmState, boot_s: float) -> Transition:
    downwards = name in ("deescalate", "clear")
    crossed = after.level + 1 if downwards else after.level
    levels = rule.levels if isinstance(rule, LevelRule) else ()
    return Transition(
        rule=rule.id,
        kind=rule.kind,
        transition=name,
        occurrence=cast("str", after.occurrence or before.occurrence),
        state=after.state,
        level=after.level,
        boot_s=boot_s,
        value=None if after.data_lost else after.value,
        at_least=after.at_least and not after.data_lost,
        threshold=levels[crossed - 1] if 0 < crossed <= len(levels) else None,
        data_lost=after.data_lost,
        withheld=after.withheld,
    )


# ---------------------------------------------------------------------- the rate


def _sign(rule: LevelRule) -> int:
    """Which way is worse."""
    if isinstance(rule, SystemRule):
        return -1 if rule.below else 1
    return -1 if isinstance(rule, LowRule | PowerRule | FallRule) else 1


def _window_s(rule: LevelRule) -> float:
    return rule.window_s if isinstance(rule, RiseRule | FallRule) else _TREND_WINDOW_S


def _within(window: tuple[Point, ...], boot_s: float, window_s: float) -> tuple[Point, ...]:
    """The points of the last `window_s`, and the two before: after a gap a rise is measured from there."""
    older = sum(1 for point in window if point.boot_s <= boot_s - window_s)
    return window[max(0, older - 2) :]


def _append(window: tuple[Point, ...], boot_s: float, value: float, window_s: float) -> tuple[Point, ...]:
    """The window with one value more. One that comes too close upon the last is left out, so that it stays bounded."""
    if window and boot_s - window[-1].boot_s < window_s / _WINDOW_POINTS:
        return window
    return (*_within(window, boot_s, window_s), Point(boot_s, value))


def _changes_per_h(window: tuple[Point, ...], boot_s: float, value: float, window_s: float) -> list[float]:
    """How far the newest value stands above each point of the window, per hour. Empty with fewer than two points."""
    points = (*_within(window, boot_s, window_s), Point(boot_s, value))
    if len(points) < 3:
        return []
    near = boot_s - points[-3].boot_s <= window_s / 4
    now = _middle(points[-3].value, points[-2].value, value) if near else value
    return [
        (now - _middle(a.value, b.value, c.value)) * 3600 / max(window_s, boot_s - b.boot_s)
        for a, b, c in zip(points, points[1:], points[2:], strict=False)
    ]


def _middle(a: float, b: float, c: float) -> float:
    return sorted((a, b, c))[1]


def _rise_per_h(window: tuple[Point, ...], boot_s: float, value: float, window_s: float, sign: int) -> float | None:
    """The rise since the lowest point, or for sign -1 the fall since the highest; None with nothing to compare with."""
    return max((sign * change for change in _changes_per_h(window, boot_s, value, window_s)), default=None)


def _trend_per_h(window: tuple[Point, ...], boot_s: float, value: float) -> float | None:
    """The Theil-Sen slope of the last values; None with fewer than three."""
    recent = sum(1 for point in window if boot_s - point.boot_s < _TREND_S)
    points = (*window[-max(recent, _TREND_POINTS - 1) :], Point(boot_s, value))
    if len(points) < 3:
        return None
    slopes = ((b.value - a.value) / (b.boot_s - a.boot_s) for a, b in combinations(points, 2) if b.boot_s > a.boot_s)
    return median(slopes) * 3600
