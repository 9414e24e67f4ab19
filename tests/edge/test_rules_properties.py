"""What the alarm rules promise, whatever comes in."""

from dataclasses import replace
from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from edge import rules
from edge.config import CommFailRule, FallRule, HighRule, LowRule, QualityRule, RiseRule, Rule, StaleRule
from edge.rules import AlarmState, Observation, SensorRules, Transition, acknowledge, observe, resume, shift, tick

RULES = ("high", "low", "rise", "fall", "stale", "comm", "quality")
DEADBAND = 0.25
LEVELS = (1.0, 2.0, 3.0)
LOW = (0.5, 0.0)
STALE_S = 300.0

# ISA-18.2: (state before, transition) -> states after
ALLOWED = {
    ("NORMAL", "raise"): {"UNACK"},
    ("RTN_UNACK", "raise"): {"UNACK"},
    ("UNACK", "ack"): {"ACK"},
    ("RTN_UNACK", "ack"): {"NORMAL"},
    ("UNACK", "clear"): {"RTN_UNACK"},
    ("ACK", "clear"): {"NORMAL"},
    ("UNACK", "escalate"): {"UNACK"},
    ("ACK", "escalate"): {"UNACK"},
    ("UNACK", "deescalate"): {"UNACK"},
    ("ACK", "deescalate"): {"ACK"},
    ("UNACK", "shelve"): {"UNACK"},
    ("ACK", "shelve"): {"ACK"},
    ("RTN_UNACK", "shelve"): {"RTN_UNACK"},
    ("UNACK", "unshelve"): {"UNACK"},
    ("ACK", "unshelve"): {"UNACK"},
    ("RTN_UNACK", "unshelve"): {"RTN_UNACK"},
}
LATCHED = ALLOWED | {
    ("RTN_UNACK", "ack"): {"RTN_UNACK"},
    ("ACK", "clear"): {"RTN_UNACK"},
    ("RTN_UNACK", "reset"): {"NORMAL"},
}


class Input(NamedTuple):
    """After `wait_s`: an observation, something that a person does with the alarm of a rule, or just the time (both None)."""

    wait_s: float
    obs: Observation | None = None
    rule: str | None = None
    does: str = "ack"


def observation(
    value: float | None = None, qc: int = 1, at_least: float | None = None, *, ok: bool = True
) -> Observation:
    quantity = "water_level" if ok else None
    return Observation(boot_s=0, quantity=quantity, value=value, qc=qc, at_least=at_least, comm_ok=ok)


# Quarters, so that thresholds and clear points are hit exactly; half minutes, so that delays are.
values = st.integers(-2, 16).map(lambda n: n / 4)
waits = st.integers(0, 12).map(lambda n: 30.0 * n)
useful = st.builds(observation, values, st.sampled_from((1, 2, 3)))
useless = st.one_of(
    st.builds(observation, values, st.sampled_from((4, 9))),
    st.just(observation(None, 9)),
    st.just(observation(None, 9, ok=False)),
    st.sampled_from([float("nan"), float("inf")]).map(observation),
    st.builds(observation, qc=st.just(4), at_least=values),
)
bounds = st.builds(observation, qc=st.just(3), at_least=values)
none = st.none()
inputs = st.one_of(
    st.builds(Input, waits, useful, none),
    st.builds(Input, waits, useful, none),
    st.builds(Input, waits, st.one_of(bounds, useless), none),
    st.builds(Input, waits, none, none),
    st.builds(Input, waits, none, st.sampled_from(RULES)),
    st.builds(Input, waits, none, st.sampled_from(RULES), st.sampled_from(("shelve", "unshelve", "reset"))),
)
delays = st.sampled_from((0.0, 60.0, 120.0))


@st.composite
def sensors(draw: st.DrawFn) -> SensorRules:
    on, off = draw(delays), draw(delays)
    common = {"sensor": "s", "on_delay_s": on, "off_delay_s": off, "latching": draw(st.booleans())}
    quantity = {"quantity": "water_level"}
    return SensorRules(
        (
            StaleRule(id="stale", kind="stale", after_s=draw(st.sampled_from((None, 120.0, 600.0))), **common),
            HighRule(id="high", kind="high", levels=LEVELS, deadband=DEADBAND, **quantity, **common),
            LowRule(id="low", kind="low", levels=LOW, deadband=DEADBAND, **quantity, **common),
            RiseRule(id="rise", kind="rise", levels=(1.0, 4.0), window_s=900, **quantity, **common),
            FallRule(id="fall", kind="fall", levels=(1.0, 4.0), window_s=900, **quantity, **common),
            CommFailRule(id="comm", kind="comm_fail", errors=draw(st.integers(1, 3)), **common),
            QualityRule(id="quality", kind="quality", at_least=3, window_s=600, **common),
        ),
        STALE_S,
    )


class Step(NamedTuple):
    boot_s: float
    given: Input
    before: dict[str, AlarmState]
    after: dict[str, AlarmState]
    done: list[Transition]


class Machine:
    """Feeds inputs one by one; a step is what came, the states around it, and what happened."""

    def __init__(self, sensor: SensorRules, states: dict[str, AlarmState] | None = None, boot_s: float = 0.0) -> None:
        self.sensor = sensor
        self.states = states or {rule.id: AlarmState() for rule in sensor.rules}
        self.boot_s = boot_s
        self._ids = count()

    def feed(self, given: Input) -> Step:
        self.boot_s += given.wait_s
        before, done = self.states, []
        if given.obs:
            obs = replace(given.obs, boot_s=self.boot_s)
            self.states, done = observe(self.sensor, before, obs, self._id)
        elif given.rule:
            rule = next(r for r in self.sensor.rules if r.id == given.rule)
            state, transition = self._act(rule, before[rule.id], given.does)
            self.states, done = before | {rule.id: state}, [transition] if transition else []
        else:
            self.states, done = tick(self.sensor, before, self.boot_s, self._id)
        return Step(self.boot_s, given, before, self.states, done)

    def _act(self, rule: Rule, state: AlarmState, does: str) -> rules.Change:
        match does:
            case "ack":
                return acknowledge(rule, state, self.boot_s, "someone")
            case "reset":
                return rules.reset(rule, state, self.boot_s, "someone")
            case "unshelve":
                return rules.unshelve(rule, state, self.boot_s, "someone")
        return rules.shelve(rule, state, self.boot_s, self.boot_s + 200, "someone")

    def _id(self) -> str:
        return f"{self.boot_s}-{next(self._ids)}"


def play(sensor: SensorRules, sequence: list[Input]) -> list[Step]:
    machine = Machine(sensor)
    return [machine.feed(given) for given in sequence]


sequences = st.lists(inputs, max_size=60)


@given(sensors(), sequences)
@settings(max_examples=300)
def test_every_step_is_one_of_the_standard(sensor: SensorRules, sequence: list[Input]) -> None:
    for step in play(sensor, sequence):
        now = {name: (before.state, before.level) for name, before in step.before.items()}
        for done in step.done:
            before, after = step.before[done.rule], step.after[done.rule]
            state, level = now[done.rule]
            latching = next(r.latching for r in sensor.rules if r.id == done.rule)
            assert done.state in (LATCHED if latching else ALLOWED)[state, done.transition]
            assert done.occurrence == before.occurrence or (before.occurrence is None and done.transition == "raise")
            assert done.boot_s == step.boot_s
            rises, falls = done.level > level, done.level < level
            assert rises == (done.transition in ("raise", "escalate"))
            assert falls == (done.transition in ("deescalate", "clear"))
            assert (done.level == 0) == (done.state in ("RTN_UNACK", "NORMAL"))
            now[done.rule] = (done.state, done.level)
            assert done.withheld == after.withheld
        for name, after in step.after.items():
            assert now[name] == (after.state, after.level)
        told = [done.rule for done in step.done if done.transition != "unshelve"]
        assert len(set(told)) == len(told), "one step a rule and input, but for a shelf that ends by itself"
        moved = {done.rule for done in step.done}
        for name, after in step.after.items():
            before = step.before[name]
            if name not in moved:
                assert (after.state, after.level, after.occurrence) == (before.state, before.level, before.occurrence)
            assert (after.occurrence is None) == (after.state == "NORMAL")
            assert (after.level > 0) == (after.state in ("UNACK", "ACK"))


@given(sensors(), sequences)
@settings(max_examples=300)
def test_no_level_is_lost_without_a_usable_value_below_its_clear_point(
    sensor: SensorRules, sequence: list[Input]
) -> None:
    for step in play(sensor, sequence):
        for done in step.done:
            if done.transition not in ("clear", "deescalate"):
                continue
            obs = step.given.obs
            assert obs is not None, "not by time, not by a person"
            if done.rule == "high":
                assert obs.value is not None
                assert obs.qc in (1, 2, 3)
                assert obs.value < LEVELS[done.level] - DEADBAND
            elif done.rule == "low":
                assert obs.value is not None
                assert obs.qc in (1, 2, 3)
                assert obs.value > LOW[done.level] + DEADBAND
            elif done.rule == "comm":
                assert obs.comm_ok
            else:
                assert obs.bound is not None


@given(sensors(), sequences)
@settings(max_examples=200)
def test_no_level_is_gained_without_the_evidence(sensor: SensorRules, sequence: list[Input]) -> None:
    heard = 0.0
    for step in play(sensor, sequence):
        obs = step.given.obs
        if obs and obs.bound is not None:
            heard = step.boot_s
        for done in step.done:
            if done.transition in ("raise", "escalate"):
                if done.rule == "high":
                    assert obs is not None
                    assert obs.bound is not None
                    assert obs.bound >= LEVELS[done.level - 1]
                elif done.rule == "low":
                    assert obs is not None
                    assert obs.value is not None
                    assert obs.value <= LOW[done.level - 1]
                elif done.rule == "quality":
                    assert obs is not None
                    assert obs.comm_ok
                elif done.rule == "comm":
                    assert obs is not None
                    assert not obs.comm_ok
                elif done.rule == "stale":
                    assert step.boot_s > heard
                else:
                    assert obs is not None
                    assert obs.value is not None


@given(sensors(), sequences, st.one_of(useful, bounds, useless), st.lists(st.integers(1, 200), min_size=1, max_size=80))
def test_a_constant_input_raises_at_most_once(
    sensor: SensorRules, sequence: list[Input], obs: Observation, gaps: list[int]
) -> None:
    machine = Machine(sensor)
    for given_before in sequence:
        machine.feed(given_before)
    # An input is constant when it comes at its period: what a slower one leaves silent is another matter.
    done = [d for gap in gaps for d in machine.feed(Input(min(gap, 100), obs)).done]
    for name in ("high", "low", "comm", "stale", "quality"):
        assert sum(d.transition == "raise" for d in done if d.rule == name) <= 1


@given(sensors(), st.one_of(useful, bounds), st.integers(1, 80))
def test_a_constant_input_from_the_start_makes_at_most_one_transition(
    sensor: SensorRules, obs: Observation, times: int
) -> None:
    machine = Machine(sensor)
    done = [d for _ in range(times) for d in machine.feed(Input(60, obs)).done]
    assert len(done) <= 1


@given(sensors(), st.integers(0, 2), st.lists(st.tuples(waits, st.floats(0, 1, exclude_max=True)), max_size=60))
def test_inside_a_deadband_there_is_at_most_one_transition(
    sensor: SensorRules, level: int, moves: list[tuple[float, float]]
) -> None:
    """From the clear point up to anything below the next clear point."""
    low = LEVELS[level] - DEADBAND
    machine = Machine(sensor)
    high = [
        done
        for wait, share in moves
        for done in machine.feed(Input(wait, observation(low + share * (LEVELS[level] + 0.5 - low)))).done
        if done.rule == "high"
    ]
    # On the way up it may find the level below first, when there is one and the value had not reached this one.
    assert len([d for d in high if d.level == level + 1]) <= 1
    assert not [d for d in high if d.transition in ("clear", "deescalate")]


@given(sensors(), sequences, st.lists(st.builds(Input, waits, useless, st.none()), min_size=1, max_size=20))
def test_flags_4_and_9_change_nothing_but_what_silence_changes(
    sensor: SensorRules, sequence: list[Input], bad: list[Input]
) -> None:
    told, silent = Machine(sensor), Machine(sensor)
    for given_before in sequence:
        told.feed(given_before)
        silent.feed(given_before)
    for given_bad in bad:
        told.feed(given_bad)
        silent.feed(Input(given_bad.wait_s))
        for name in ("high", "low", "rise", "fall", "stale"):
            mine, other = told.states[name], silent.states[name]
            assert replace(mine, occurrence=None) == replace(other, occurrence=None)
            assert (mine.occurrence is None) == (other.occurrence is None)


@given(sensors(), sequences, sequences, st.floats(-1e6, 1e6).map(round))
@settings(max_examples=300)
def test_a_restart_anywhere_changes_nothing(
    sensor: SensorRules, first: list[Input], then: list[Input], offset_s: int
) -> None:
    """Saved as JSON, read back on another boot's scale, the window rebuilt from the readings: the same transitions."""
    machine = Machine(sensor)
    readings = []
    for given_before in first:
        step = machine.feed(given_before)
        obs = given_before.obs
        if obs and obs.bound is not None and obs.value is not None:
            readings.append((step.boot_s + offset_s, "water_level", obs.value))
    saved = {name: AlarmState.from_json(state.to_json()) for name, state in machine.states.items()}
    assert saved == {name: replace(state, window=()) for name, state in machine.states.items()}
    now = machine.boot_s + offset_s
    since = now - sensor.history_s
    states = resume(sensor, saved, now, shift_s=offset_s, history=[r for r in readings if r[0] >= since])
    # The watch begins again with the process; that apart, nothing may differ.
    states = {name: replace(s, since_s=_moved(machine.states[name].since_s, offset_s)) for name, s in states.items()}
    restarted = Machine(sensor, states, now)
    for given_after in then:
        here, there = machine.feed(given_after), restarted.feed(given_after)
        assert [_timeless(d) for d in here.done] == [_timeless(d) for d in there.done]
        assert [d.boot_s + offset_s for d in here.done] == [d.boot_s for d in there.done]


@given(sensors(), sequences)
@settings(max_examples=300)
def test_no_flag_ever_loses_an_alarm(sensor: SensorRules, sequence: list[Input]) -> None:
    """Beside a twin that nobody shelves: the same levels at every moment, and standing alarms are told after the shelf."""
    shelving, twin = Machine(sensor), Machine(sensor)
    for given_both in sequence:
        step = shelving.feed(given_both)
        if given_both.does in ("shelve", "unshelve"):
            twin.boot_s += given_both.wait_s
        else:
            twin.feed(given_both)
        assert {n: s.level for n, s in shelving.states.items()} == {n: s.level for n, s in twin.states.items()}
        for done in step.done:
            if done.transition == "unshelve" and done.level:
                assert done.state == "UNACK"
                assert step.after[done.rule].announced_s == step.boot_s


def _moved(at: float | None, by: float) -> float | None:
    return None if at is None else at + by


def _timeless(done: Transition) -> Transition:
    return replace(
        done,
        boot_s=0,
        occurrence="",
        trend_per_h=None if done.trend_per_h is None else round(done.trend_per_h, 6),
        next_level_s=None if done.next_level_s is None else round(done.next_level_s - done.boot_s, 3),
        until_s=None if done.until_s is None else done.until_s - done.boot_s,
    )


@given(sensors(), sequences, st.integers(-10_000, 10_000))
def test_shift_there_and_back_is_nothing(sensor: SensorRules, sequence: list[Input], delta_s: int) -> None:
    for step in play(sensor, sequence):
        for state in step.after.values():
            assert shift(shift(state, delta_s), -delta_s) == state


@given(sensors(), sequences, st.integers(1, 3))
def test_a_silent_sensor_is_reported_at_no_less_than_its_own_level(
    sensor: SensorRules, sequence: list[Input], more: int
) -> None:
    machine = Machine(sensor)
    for given_before in sequence:
        machine.feed(given_before)
    for _ in range(more + 2):
        machine.feed(Input(1000))
    stale, level = machine.states["stale"], max(machine.states[n].level for n in ("high", "rise"))
    assert stale.level >= max(1, level)
    assert machine.states["high"].data_lost
    assert machine.states["rise"].data_lost
