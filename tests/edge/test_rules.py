"""The alarm rules, case by case, and on two measured series."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path

import pytest

from edge import rules
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
)
from edge.rules import AlarmState, Observation, SensorRules, Transition, acknowledge, observe, resume, tick
from wire.command import MAX_SHELF_S

REPLAY = Path(__file__).parents[2] / "demo" / "replay"


class Bench:
    """One sensor under its rules; keeps what happened."""

    def __init__(self, *rules: Rule, stale_after_s: float = 900) -> None:
        self.sensor = SensorRules(rules, stale_after_s)
        self.states: dict[str, AlarmState] = {}
        self.log: list[Transition] = []
        self._ids = count(1)

    def _id(self) -> str:
        return f"occurrence-{next(self._ids)}"

    def see(
        self, boot_s: float, value: float | None, quantity: str | None = "water_level", qc: int = 1, **more: object
    ) -> list[str]:
        obs = Observation(boot_s=boot_s, quantity=quantity, value=value, qc=qc, **more)
        return self._take(observe(self.sensor, self.states, obs, self._id))

    def tick(self, boot_s: float) -> list[str]:
        return self._take(tick(self.sensor, self.states, boot_s, self._id))

    def ack(self, rule: Rule, boot_s: float = 0, by: str = "mayor") -> list[str]:
        state, done = acknowledge(rule, self.states[rule.id], boot_s, by)
        return self._take(({**self.states, rule.id: state}, [done] if done else []))

    def _take(self, outcome: tuple[dict[str, AlarmState], list[Transition]]) -> list[str]:
        self.states, done = outcome
        self.log += done
        return [f"{t.rule} {t.transition} {t.level} {t.state}" for t in done]


def high(**changes: object) -> HighRule:
    defaults = {
        "id": "high",
        "sensor": "s",
        "kind": "high",
        "quantity": "water_level",
        "levels": (1.0, 2.0, 3.0),
        "deadband": 0.1,
        "off_delay_s": 0,
    }
    return HighRule.model_validate(defaults | changes)


def rise(**changes: object) -> RiseRule:
    defaults = {
        "id": "rise",
        "sensor": "s",
        "kind": "rise",
        "quantity": "water_level",
        "levels": (0.3,),
        "window_s": 3600,
        "off_delay_s": 0,
    }
    return RiseRule.model_validate(defaults | changes)


def stale(**changes: object) -> StaleRule:
    return StaleRule.model_validate({"id": "stale", "sensor": "s", "kind": "stale", "after_s": 600} | changes)


def comm_fail(**changes: object) -> CommFailRule:
    return CommFailRule.model_validate(
        {"id": "comm", "sensor": "s", "kind": "comm_fail", "errors": 3, "level": 2} | changes
    )


# ---------------------------------------------------------------------- the life of an occurrence


def test_the_whole_life_of_one_occurrence() -> None:
    rule = high()
    bench = Bench(rule)
    assert bench.see(0, 0.5) == []
    assert bench.see(60, 1.0) == ["high raise 1 UNACK"]
    assert bench.ack(rule) == ["high ack 1 ACK"]
    assert bench.see(120, 2.0) == ["high escalate 2 UNACK"], "a higher level withdraws the acknowledgement"
    assert bench.ack(rule) == ["high ack 2 ACK"]
    assert bench.see(180, 1.85) == ["high deescalate 1 ACK"], "a lower one does not"
    assert bench.see(240, 0.95) == [], "inside the deadband"
    assert bench.see(300, 0.85) == ["high clear 0 NORMAL"]
    assert {t.occurrence for t in bench.log} == {"occurrence-1"}
    assert bench.see(360, 1.2) == ["high raise 1 UNACK"]
    assert bench.log[-1].occurrence == "occurrence-2"


def test_levels_may_be_skipped_both_ways() -> None:
    bench = Bench(high())
    assert bench.see(0, 3.2) == ["high raise 3 UNACK"]
    assert bench.see(60, 0.0) == ["high clear 0 RTN_UNACK"]


def test_a_return_nobody_acknowledged_alarms_again_under_the_same_occurrence() -> None:
    rule = high()
    bench = Bench(rule)
    bench.see(30, 1.5)
    assert bench.see(60, 0.5) == ["high clear 0 RTN_UNACK"]
    assert bench.see(120, 2.5) == ["high raise 2 UNACK"]
    assert bench.see(150, 3.5) == ["high escalate 3 UNACK"]
    state = bench.states["high"]
    assert (state.occurrence, state.raised_s, state.announced_s) == ("occurrence-1", 30, 150)
    bench.see(180, 0.5)
    assert bench.ack(rule, 200) == ["high ack 0 NORMAL"]
    assert bench.states["high"].occurrence is None
    assert bench.log[-1].occurrence == "occurrence-1"
    assert bench.log[-1].by == "mayor"


def test_nothing_to_acknowledge() -> None:
    rule = high()
    bench = Bench(rule)
    bench.see(0, 0.5)
    assert bench.ack(rule) == []
    bench.see(60, 1.5)
    bench.ack(rule)
    assert bench.ack(rule) == [], "twice"


def test_an_event_says_what_was_crossed() -> None:
    bench = Bench(high())
    bench.see(-3600, 0.2)
    bench.see(0, 0.2)
    bench.see(1800, 1.7)
    bench.see(3600, 2.2)
    bench.see(5400, 1.5)
    bench.see(7200, 0.5)
    told = [(t.transition, t.value, t.threshold, round(t.trend_per_h, 3), t.boot_s) for t in bench.log]
    assert told == [
        ("raise", 1.7, 1.0, 1.0, 1800),
        ("escalate", 2.2, 2.0, 2.0, 3600),
        ("deescalate", 1.5, 2.0, -0.2, 5400),
        ("clear", 0.5, 1.0, -1.7, 7200),
    ]


def test_zero_is_a_value() -> None:
    bench = Bench(high(levels=(0.0,), deadband=0.5), stale())
    assert bench.see(0, 0.0) == ["high raise 1 UNACK"]
    assert bench.log[0].value == 0.0
    assert bench.log[0].threshold == 0.0


# ---------------------------------------------------------------------- delays


def test_on_delay_needs_every_value_above() -> None:
    bench = Bench(high(on_delay_s=120))
    assert bench.see(0, 1.5) == []
    assert bench.see(60, 0.95) == [], "below the threshold: begins again, deadband or not"
    assert bench.see(120, 1.5) == []
    assert bench.see(180, 1.5) == []
    assert bench.tick(239) == bench.tick(241) == [], "time alone raises nothing"
    assert bench.see(241, 1.5) == ["high raise 1 UNACK"]


def test_each_level_has_its_own_on_delay() -> None:
    bench = Bench(high(on_delay_s=120))
    bench.see(0, 1.5)
    bench.see(60, 2.5)
    assert bench.see(120, 2.5) == ["high raise 1 UNACK"]
    assert bench.see(180, 2.5) == ["high escalate 2 UNACK"]


def test_off_delay_needs_every_value_below_clear() -> None:
    bench = Bench(high(off_delay_s=120))
    bench.see(0, 1.5)
    assert bench.see(60, 0.5) == bench.see(120, 0.95) == bench.see(180, 0.5) == []
    assert bench.tick(400) == [], "time alone clears nothing"
    assert bench.see(410, 0.5) == ["high clear 0 RTN_UNACK"]


def test_a_silence_begins_the_off_delay_again() -> None:
    bench = Bench(high(off_delay_s=1200), stale_after_s=900)
    bench.see(0, 1.5)
    bench.see(60, 0.5)
    assert bench.see(1500, 0.5) == [], "1440 s below, but nobody saw them"
    assert bench.see(2100, 0.5) == []
    assert bench.see(2700, 0.5) == ["high clear 0 RTN_UNACK"]


# ---------------------------------------------------------------------- what feeds a rule


@pytest.mark.parametrize("qc", [1, 2, 3])
def test_usable_flags_feed(qc: int) -> None:
    bench = Bench(high())
    assert bench.see(0, 1.5, qc=qc) == ["high raise 1 UNACK"]
    assert bench.see(60, 0.5, qc=qc) == ["high clear 0 RTN_UNACK"]


@pytest.mark.parametrize(
    ("value", "qc"),
    [(9.0, 4), (0.0, 4), (None, 9), (None, 1), (float("nan"), 1), (float("inf"), 1), (float("-inf"), 3)],
)
def test_others_neither_raise_nor_clear(value: float | None, qc: int) -> None:
    bench = Bench(high())
    assert bench.see(0, value, qc=qc) == []
    bench.see(60, 1.5)
    before = bench.states
    assert bench.see(120, value, qc=qc) == []
    assert bench.states == before


def test_water_at_the_sensor_raises_and_holds_but_never_clears() -> None:
    bench = Bench(high(off_delay_s=100))
    assert bench.see(0, None, qc=3, at_least=2.4) == ["high raise 2 UNACK"]
    assert (bench.log[0].value, bench.log[0].at_least) == (2.4, True)
    assert bench.see(60, 0.5) == []
    assert bench.see(120, None, qc=3, at_least=0.4) == [], "a lower bound below every level clears nothing"
    assert bench.see(180, 0.5) == [], "and what was below before it no longer counts"
    assert bench.see(280, 0.5) == ["high clear 0 RTN_UNACK"]


def test_water_at_the_sensor_leaves_a_running_on_delay_alone() -> None:
    bench = Bench(high(on_delay_s=100))
    bench.see(0, 1.5)
    assert bench.see(60, None, qc=3, at_least=0.4) == []
    assert bench.see(110, 1.5) == ["high raise 1 UNACK"]


def test_a_failed_lower_bound_is_nothing() -> None:
    bench = Bench(high())
    assert bench.see(0, None, qc=4, at_least=2.4) == []


def test_other_quantities_of_the_sensor_are_not_mixed_up() -> None:
    bench = Bench(high())
    assert bench.see(0, 12.0, quantity="battery_voltage") == []


def test_a_level_that_the_configuration_no_longer_has_is_left() -> None:
    before = Bench(high())
    before.see(0, 3.5)
    after = Bench(high(levels=(1.0, 2.0)))
    after.states = before.states
    assert after.see(30, None, qc=3, at_least=3.5) == [], "by a value only"
    assert after.see(60, 3.5) == ["high deescalate 2 UNACK"]
    assert after.log[-1].threshold is None


# ---------------------------------------------------------------------- rise


def series(bench: Bench, values: list[float], period_s: float = 300, start_s: float = 0) -> list[str]:
    return [line for i, value in enumerate(values) for line in bench.see(start_s + i * period_s, value)]


def test_rise_fires_when_the_height_is_gained_not_when_the_hour_is_over() -> None:
    bench = Bench(rise())
    assert series(bench, [1.0] * 6 + [1.1, 1.2, 1.3, 1.4]) == ["rise raise 1 UNACK"]
    assert bench.log[0].boot_s == 9 * 300
    assert bench.log[0].threshold == 0.3
    assert bench.log[0].trend_per_h == pytest.approx(0.3)
    assert bench.log[0].value == 1.4


@pytest.mark.parametrize("spike", [5.0, -5.0])
def test_one_outlier_is_no_rise(spike: float) -> None:
    for place in range(20):
        values = [1.0] * 20
        values[place] = spike
        assert series(Bench(rise()), values + [1.0] * 20) == []


def test_one_high_outlier_of_a_slow_sensor_is_for_the_on_delay() -> None:
    assert series(Bench(rise()), [1.0, 1.0, 1.0, 5.0, 1.0, 1.0], 1200)[0] == "rise raise 1 UNACK"
    assert series(Bench(rise(on_delay_s=900)), [1.0, 1.0, 1.0, 5.0, 1.0, 1.0], 1200) == []
    assert series(Bench(rise(on_delay_s=900)), [1.0, 1.0, 1.0, -5.0, 1.0, 1.0, 1.0, 1.0], 1200) == []


def test_hourly_values_still_give_a_rise() -> None:
    assert series(Bench(rise()), [1.0, 1.0, 1.35], 3600) == ["rise raise 1 UNACK"]


def test_a_rise_behind_a_gap_is_seen_at_its_mean_rate() -> None:
    bench = Bench(rise())
    series(bench, [1.0] * 12)
    assert bench.see(3300 + 7200, 1.9) == ["rise raise 1 UNACK"]
    assert bench.log[0].trend_per_h == pytest.approx(0.45, abs=0.02)


def test_the_first_values_do_not_explode() -> None:
    assert series(Bench(rise()), [1.00, 1.05, 1.02, 1.08], 1.0) == []


def test_rise_clears_on_values_only_and_water_at_the_sensor_is_no_value() -> None:
    bench = Bench(rise(deadband=0.1), stale(after_s=10_000))
    assert series(bench, [1.0, 1.0, 1.0, 1.2, 1.4, 1.6]) == ["rise raise 1 UNACK"]
    assert bench.see(9000, None, qc=3, at_least=1.7) == []
    assert bench.see(9300, 1.6) == ["rise clear 0 RTN_UNACK"]


def test_the_window_stays_bounded() -> None:
    bench = Bench(rise())
    series(bench, [1.0] * 20_000, 0.5)
    assert len(bench.states["rise"].window) <= 125


# ---------------------------------------------------------------------- stale


def test_silence_raises_stale_once_and_only_a_value_clears_it() -> None:
    bench = Bench(high(), stale(level=1))
    bench.see(0, 0.5)
    assert bench.tick(599) == []
    assert bench.tick(600) == ["stale raise 1 UNACK"]
    assert bench.log[0].value is None
    assert bench.log[0].threshold is None
    assert bench.tick(1200) == bench.tick(1800) == []
    assert bench.see(1900, 0.5, qc=4) == bench.see(1910, None, qc=9) == [], "a bad value is no value"
    assert bench.see(1920, 0.5) == ["stale clear 0 RTN_UNACK"]


def test_bad_values_are_silence() -> None:
    bench = Bench(high(), stale())
    bench.see(0, 0.5)
    told = [line for t in range(60, 700, 60) for line in bench.see(t, 0.5, qc=4)]
    assert told == ["stale raise 1 UNACK"]


def test_a_sensor_that_never_spoke_goes_stale() -> None:
    bench = Bench(high(), stale())
    assert bench.tick(0) == []
    assert bench.tick(600) == ["stale raise 1 UNACK"]


def test_a_level_alarm_outlives_the_silence_and_lends_its_level() -> None:
    bench = Bench(high(), stale(level=1))
    bench.see(0, 2.5)
    assert bench.tick(600) == ["stale raise 2 UNACK"]
    state = bench.states["high"]
    assert (state.state, state.level, state.data_lost) == ("UNACK", 2, True)
    assert bench.ack(high(), 700) == ["high ack 2 ACK"]
    assert (bench.log[-1].value, bench.log[-1].data_lost) == (None, True), "an old value is not told as a present one"
    bench.tick(50_000)
    assert bench.states["high"].level == 2
    assert bench.see(50_060, 2.5) == ["stale clear 0 RTN_UNACK"]
    assert not bench.states["high"].data_lost


def test_a_sensor_torn_away_before_the_on_delay_ended_goes_stale_at_that_level() -> None:
    bench = Bench(high(on_delay_s=300), stale(level=1))
    bench.see(0, 3.5)
    assert bench.tick(600) == ["stale raise 3 UNACK"]


def test_a_silence_in_a_rise_takes_the_level_of_the_rise() -> None:
    bench = Bench(rise(levels=(0.3, 0.6)), stale(level=1))
    series(bench, [1.0, 1.0, 1.0, 1.4, 1.8, 2.2])
    assert bench.tick(1500 + 600)[-1] == "stale raise 2 UNACK"


def test_a_silence_in_the_off_delay_of_stale_begins_it_again() -> None:
    bench = Bench(high(), stale(off_delay_s=700, level=1))
    bench.see(0, 3.5)
    assert bench.tick(600) == ["stale raise 3 UNACK"]
    bench.see(610, 0.5)
    bench.tick(1210)
    assert bench.see(1320, 0.5) == []
    assert bench.see(1900, 0.5) == []
    assert bench.see(2020, 0.5) == ["stale clear 0 RTN_UNACK"]


def test_the_first_of_several_stale_rules_says_that_data_are_lost() -> None:
    bench = Bench(high(), stale(id="later", after_s=3600, level=2), stale(after_s=300, level=1))
    bench.see(0, 0.5)
    assert bench.tick(300) == ["stale raise 1 UNACK"]
    assert bench.states["high"].data_lost
    assert bench.tick(3600) == ["later raise 2 UNACK"]


def test_water_at_the_sensor_is_no_silence() -> None:
    bench = Bench(high(), stale())
    assert bench.see(0, None, qc=3, at_least=3.2) == ["high raise 3 UNACK"]
    assert bench.see(500, None, qc=3, at_least=3.2) == []
    assert bench.tick(1000) == []


def test_a_battery_voltage_is_no_sign_of_life_of_the_level() -> None:
    bench = Bench(high(), stale())
    bench.see(0, 0.5)
    told = [line for t in range(60, 700, 60) for line in bench.see(t, 3.6, quantity="battery_voltage")]
    assert told == ["stale raise 1 UNACK"]
    assert bench.see(720, 3.6, quantity="battery_voltage") == []


def test_stale_clears_when_every_watched_quantity_is_back() -> None:
    bench = Bench(high(id="pm2", quantity="pm2_5"), high(id="pm10", quantity="pm10"), stale())
    bench.tick(0)
    assert bench.tick(600) == ["stale raise 1 UNACK"]
    assert bench.see(610, 0.5, quantity="pm2_5") == []
    assert bench.see(610, 0.5, quantity="pm10") == ["stale clear 0 RTN_UNACK"]


def test_without_level_rules_any_quantity_is_a_sign_of_life() -> None:
    bench = Bench(stale(after_s=None), stale_after_s=100)
    bench.see(0, 20.1, quantity="air_temperature")
    bench.see(90, 55.0, quantity="relative_humidity")
    assert bench.tick(150) == []
    assert bench.tick(190) == ["stale raise 1 UNACK"]


# ---------------------------------------------------------------------- comm_fail


def test_errors_in_a_row_raise_and_the_first_answer_clears() -> None:
    bench = Bench(high(), comm_fail(), stale())

    def fail(t: float) -> list[str]:
        return bench.see(t, None, None, 9, comm_ok=False)

    assert fail(0) == fail(10) == []
    assert bench.see(20, 0.5) == []
    assert fail(30) == fail(40) == []
    assert fail(50) == ["comm raise 2 UNACK"]
    assert fail(60) == []
    assert bench.tick(500) == [], "no answer is no answer"
    assert bench.see(510, None, qc=9) == ["comm clear 0 RTN_UNACK"], "an answer without a value is an answer"


def test_a_failure_in_the_off_delay_begins_it_again() -> None:
    bench = Bench(comm_fail(off_delay_s=60))
    for t in range(3):
        bench.see(t, None, None, 9, comm_ok=False)
    assert bench.see(10, 0.5) == bench.see(80, None, None, 9, comm_ok=False) == bench.see(90, 0.5) == []
    assert bench.see(150, 0.5) == ["comm clear 0 RTN_UNACK"]


# ---------------------------------------------------------------------- restart


def test_a_restart_goes_on_where_it_was() -> None:
    rule = high(off_delay_s=600)
    before = Bench(rule, rise(), stale())
    series(before, [1.0, 1.0, 1.0, 1.2, 1.4, 0.8])
    saved = {name: AlarmState.from_json(state.to_json()) for name, state in before.states.items()}
    after = Bench(rule, rise(), stale())
    history = [(t * 300 - 1600, "water_level", v) for t, v in enumerate([1.0, 1.0, 1.0, 1.2, 1.4, 0.8])]
    after.states = resume(after.sensor, saved, 30, shift_s=-1600, history=history)
    state = after.states["high"]
    assert (state.state, state.level, state.raised_s) == ("UNACK", 1, -1600)
    assert [p.value for p in after.states["rise"].window] == [1.0, 1.0, 1.0, 1.2, 1.4, 0.8]
    assert after.tick(40) == [], "restored, not raised again"
    assert after.see(200, 0.8) == []
    assert after.see(500, 0.8) == ["high clear 0 RTN_UNACK"], "600 s since -100"
    assert before.states["high"].occurrence == after.log[-1].occurrence


def test_an_outage_of_the_gateway_is_no_silence_of_the_sensor_but_restarts_the_off_delay() -> None:
    rule = high(off_delay_s=600)
    bench = Bench(rule, stale())
    series(bench, [1.5, 0.5])
    bench.states = resume(bench.sensor, bench.states, 20, shift_s=-20_000)
    assert bench.tick(30) == []
    assert bench.see(40, 0.5) == [], "below for hours, but nobody looked"
    assert bench.see(340, 0.5) == []
    assert bench.see(640, 0.5) == ["high clear 0 RTN_UNACK"]


def test_lost_data_stay_lost_over_a_restart() -> None:
    bench = Bench(high(), stale())
    bench.see(0, 1.5)
    bench.tick(600)
    bench.states = resume(bench.sensor, bench.states, 700)
    assert bench.tick(710) == []
    assert bench.states["high"].data_lost
    assert bench.states["stale"].state == "UNACK"


def test_a_wrong_clock_postpones_nothing() -> None:
    bench = Bench(high(), stale())
    bench.see(0, 1.5)
    bench.states = resume(bench.sensor, bench.states, 10, shift_s=1e9)
    assert bench.tick(611) == ["stale raise 1 UNACK"]


@pytest.mark.parametrize(
    "text", ["", "[]", '"UNACK"', '{"state":"LOUD"}', '{"level":4}', '{"above_s":[1]}', '{"valid_s":"x"}']
)
def test_a_state_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        AlarmState.from_json(text)


def test_a_state_of_another_version_is_taken() -> None:
    state = AlarmState.from_json('{"state":"ACK","level":2,"occurrence":"o","shelved_until":12.5}')
    assert state == AlarmState(state="ACK", level=2, occurrence="o")


# ---------------------------------------------------------------------- low, fall, power, quality


def test_low_is_high_upside_down() -> None:
    low = LowRule(
        id="low", sensor="s", kind="low", quantity="water_level", levels=(0.5, 0.2), deadband=0.1, off_delay_s=0
    )
    bench = Bench(low)
    assert bench.see(0, 0.51) == []
    assert bench.see(10, 0.5) == ["low raise 1 UNACK"]
    assert bench.see(20, -0.3) == ["low escalate 2 UNACK"]
    assert bench.see(30, 0.25) == [], "inside the deadband"
    assert bench.see(40, 0.31) == ["low deescalate 1 UNACK"]
    assert bench.see(50, 0.6) == [], "at the clear point is not beyond it"
    assert bench.see(60, 0.61) == ["low clear 0 RTN_UNACK"]
    assert bench.see(70, None, at_least=0.1, qc=3) == [], "water at the sensor is no low water"


def test_fall_is_rise_upside_down_and_tells_a_falling_trend() -> None:
    fall = FallRule(id="fall", sensor="s", kind="fall", quantity="water_level", levels=(0.3, 1.0), off_delay_s=0)
    bench = Bench(fall)
    assert [bench.see(60 * i, 2 + 0.01 * i) for i in range(60)] == [[]] * 60, "rising is not falling"
    done = [line for i in range(60, 90) for line in bench.see(60 * i, 2.6 - 0.02 * (i - 59))]
    assert done == ["fall raise 1 UNACK"]
    assert bench.log[0].trend_per_h == pytest.approx(-0.3, abs=0.03)


def test_a_battery_alarms_and_its_voltage_is_no_sign_of_life() -> None:
    power = PowerRule(id="power", sensor="s", kind="power", levels=(3.4, 3.2), deadband=0.1)
    bench = Bench(high(), power, stale(after_s=100))
    bench.see(0, 0.2)
    assert bench.see(50, 3.3, "battery_voltage", health=True) == ["power raise 1 UNACK"]
    assert bench.see(110, 3.3, "battery_voltage", health=True) == [], "judged by power alone"
    assert bench.tick(111) == ["stale raise 1 UNACK"]
    assert bench.see(120, 3.6, "battery_voltage", health=True) == ["power clear 0 RTN_UNACK"]
    assert bench.states["stale"].state == "UNACK"


def test_quality_is_the_share_that_failed_and_returns_on_usable_values() -> None:
    rule = QualityRule(id="q", sensor="s", kind="quality", failed=0.5, at_least=4, window_s=600, level=2)
    bench = Bench(rule)
    assert [bench.see(t, -9999.0, qc=4) for t in (0, 30, 60)] == [[]] * 3, "too few to judge"
    assert bench.see(90, -9999.0, qc=4) == ["q raise 2 UNACK"]
    assert bench.see(100, None, None, qc=9, comm_ok=False) == [], "a line that fails says nothing of quality"
    assert bench.tick(5000) == []
    done = [line for t in range(120, 1200, 30) for line in bench.see(t, 1.0)]
    assert done == ["q clear 0 RTN_UNACK"]


def test_a_few_doubtful_values_are_no_quality_alarm() -> None:
    bench = Bench(QualityRule(id="q", sensor="s", kind="quality", at_least=4, window_s=600))
    done = [line for i in range(100) for line in bench.see(30 * i, 1.0, qc=4 if i % 4 == 3 else 1)]
    assert done == []


# ---------------------------------------------------------------------- combination, dates, outlook


def test_a_level_that_must_also_rise() -> None:
    rule = high(levels=(1.0, 2.0), and_rise_per_h=0.3)
    steady = Bench(rule)
    assert [line for i in range(120) for line in steady.see(60 * i, 1.5)] == []
    rising = Bench(rule)
    done = [line for i in range(125) for line in rising.see(60 * i, 0.8 + 0.01 * i)]
    assert done == ["high raise 1 UNACK", "high escalate 2 UNACK"]
    assert [line for i in range(125, 300) for line in rising.see(60 * i, 1.95)] == [], (
        "that it stands still is no return"
    )
    assert rising.see(300 * 60, 0.5) == ["high clear 0 RTN_UNACK"]


def test_water_at_the_sensor_needs_no_proof_that_it_rises() -> None:
    bench = Bench(high(levels=(1.0,), and_rise_per_h=0.3))
    assert bench.see(0, None, at_least=1.2, qc=3) == ["high raise 1 UNACK"]


def test_thresholds_change_on_their_day() -> None:
    rule = high(
        levels=(1.0, 2.0),
        dated=[
            {"from": date(2026, 11, 1), "levels": [0.8, 1.6]},
            {"from": date(2027, 3, 1), "levels": [1.1], "deadband": 0},
        ],
    )
    assert rule.on(date(2026, 10, 31)).levels == (1.0, 2.0)
    assert (rule.on(date(2026, 11, 1)).levels, rule.on(date(2026, 11, 1)).deadband) == ((0.8, 1.6), 0.1)
    assert (rule.on(date(2027, 3, 1)).levels, rule.on(date(2027, 3, 1)).deadband) == ((1.1,), 0)
    with pytest.raises(ValueError, match="dated 2026-11-01: expected ascending"):
        high(dated=[{"from": date(2026, 11, 1), "levels": [2, 1]}])
    with pytest.raises(ValueError, match="each day once, in order"):
        high(dated=[{"from": date(2026, 11, 2), "levels": [1]}, {"from": date(2026, 11, 1), "levels": [1]}])


def test_an_event_says_when_the_next_level_comes() -> None:
    bench = Bench(high())
    for minute in range(40):
        bench.see(60 * minute, 0.8 + 0.01 * minute)
    (raised,) = bench.log
    assert raised.boot_s == 20 * 60
    assert raised.next_level_s == pytest.approx(120 * 60), "1.0 m away at 0.6 m an hour"


@pytest.mark.parametrize("per_minute", [0.0, -0.01, 0.0001])
def test_no_next_level_where_it_falls_stands_or_takes_more_than_a_day(per_minute: float) -> None:
    bench = Bench(high(on_delay_s=600))
    for minute in range(12):
        bench.see(60 * minute, 1.5 + per_minute * minute)
    (raised,) = bench.log
    assert raised.next_level_s is None


def test_the_top_level_has_no_next() -> None:
    bench = Bench(high(levels=(1.0,)))
    for minute in range(3):
        bench.see(60 * minute, 0.9 + 0.1 * minute)
    assert [t.next_level_s for t in bench.log] == [None]


# ---------------------------------------------------------------------- latching and flags


def test_a_latched_alarm_waits_for_acknowledgement_and_reset() -> None:
    rule = high(latching=True)
    bench = Bench(rule)

    def reset(at: float) -> list[str]:
        state, done = rules.reset(rule, bench.states["high"], at, "fire zone")
        return bench._take(({"high": state}, [done] if done else []))

    bench.see(0, 1.5)
    assert reset(1) == [], "it stands"
    assert bench.see(2, 0.5) == ["high clear 0 RTN_UNACK"]
    assert reset(3) == [], "not acknowledged"
    assert bench.ack(rule) == ["high ack 0 RTN_UNACK"]
    assert bench.ack(rule) == [], "twice"
    assert bench.see(4, 1.5) == ["high raise 1 UNACK"], "the same occurrence"
    assert bench.ack(rule) == ["high ack 1 ACK"]
    assert bench.see(5, 0.5) == ["high clear 0 RTN_UNACK"], "acknowledged before its return"
    assert reset(6) == ["high reset 0 NORMAL"]
    assert bench.log[-1].by == "fire zone"
    assert len({t.occurrence for t in bench.log}) == 1


def test_a_shelved_alarm_goes_on_untold_and_is_back_unacknowledged() -> None:
    rule = high()
    bench = Bench(rule)
    bench.see(0, 1.5)
    bench.ack(rule)
    state, done = rules.shelve(rule, bench.states["high"], 10, 3600, "planner")
    assert done is not None
    assert (done.transition, done.state, done.by, done.until_s, done.withheld) == (
        "shelve",
        "ACK",
        "planner",
        3600,
        "shelved",
    )
    bench.states = {"high": state}
    assert bench.see(100, 2.5) == ["high escalate 2 UNACK"]
    assert bench.log[-1].withheld == "shelved"
    bench.ack(rule)
    assert bench.tick(3599) == []
    assert bench.tick(3600) == ["high unshelve 2 UNACK"], "whoever had acknowledged it"
    assert bench.log[-1].withheld is None
    assert bench.states["high"].announced_s == 3600
    assert bench.tick(3601) == []


def test_nobody_shelves_for_longer_than_a_day() -> None:
    state, _ = rules.shelve(high(), AlarmState(), 100, 1e9, "x")
    assert state.shelved_s == 100 + MAX_SHELF_S
    resumed = resume(SensorRules((high(),), 900), {"high": state}, 0, shift_s=1e8)
    assert resumed["high"].shelved_s == MAX_SHELF_S, "a wrong clock does not lengthen it"


def test_a_shelf_without_an_occurrence_ends_in_silence() -> None:
    bench = Bench(high())
    bench.states = {"high": rules.shelve(high(), AlarmState(), 0, 60, "x")[0]}
    assert bench.tick(60) == []
    assert bench.states["high"].withheld is None


def test_an_alarm_that_another_suppresses() -> None:
    rule = high(suppressed_by="dam")
    bench = Bench(rule)
    bench.see(0, 1.5)
    dam = AlarmState(state="UNACK", level=1, occurrence="o")
    state, done = rules.suppress(rule, bench.states["high"], 5, dam)
    assert done is not None
    assert (done.transition, done.by, done.withheld) == ("suppress", "dam", "suppressed")
    assert rules.suppress(rule, state, 6, dam) == (state, None), "told once"
    untold = replace(dam, shelved_s=99.0)
    back, done = rules.suppress(rule, state, 7, untold)
    assert done is not None, "an alarm that tells nobody silences no other"
    assert (done.transition, done.state, back.withheld) == ("unsuppress", "UNACK", None)


def test_the_last_flag_counts() -> None:
    rule = high()
    state = AlarmState(state="ACK", level=2, occurrence="o")
    state, _ = rules.put_out_of_service(rule, state, 0, out=True)
    state, _ = rules.shelve(rule, state, 1, 60, "x")
    state, done = rules.unshelve(rule, state, 2, "x")
    assert done is not None
    assert (done.transition, done.state, done.withheld) == ("unshelve", "ACK", "out_of_service")
    state, done = rules.put_out_of_service(rule, state, 3, out=False)
    assert done is not None
    assert (done.transition, done.state, done.withheld) == ("in_service", "UNACK", None)


# ---------------------------------------------------------------------- measured series


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def dead_run() -> Iterator[tuple[float, float]]:
    with (REPLAY / "usgs_01589330_deadrun_2018-06_5min.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield datetime.fromisoformat(row["time_utc"]).timestamp(), float(row["gage_height_m"])


@pytest.fixture(scope="module")
def flood() -> Bench:
    """Two weeks of Dead Run under rules fixed beforehand."""
    bench = Bench(
        high(levels=(0.55, 0.80, 1.20), deadband=0.05, off_delay_s=3600),
        rise(levels=(0.30,), window_s=3600, off_delay_s=3600),
        stale(after_s=1800),
        stale_after_s=1800,
    )
    for t, value in dead_run():
        bench.tick(t - 1)
        bench.see(t, value)
    return bench


def warned(bench: Bench, since: str, crest: str) -> float:
    """Minutes from the first raise after `since` to the crest."""
    first = min(t.boot_s for t in bench.log if t.transition == "raise" and at(since) <= t.boot_s)
    return (at(crest) - first) / 60


@pytest.mark.parametrize(
    ("since", "crest", "minutes"),
    [
        ("2018-06-03T12:00", "2018-06-03T22:05", 60),
        ("2018-06-10T12:00", "2018-06-10T22:10", 5),
        ("2018-06-11T04:00", "2018-06-11T10:15", 60),
    ],
)
def test_the_floods_of_dead_run_are_announced(flood: Bench, since: str, crest: str, minutes: float) -> None:
    assert warned(flood, since, crest) >= minutes


def test_dead_run_level_3_is_announced_before_both_great_crests(flood: Bench) -> None:
    threes = [
        t.boot_s for t in flood.log if t.rule == "high" and t.level == 3 and t.transition in ("raise", "escalate")
    ]
    assert at("2018-06-03T18:00") < threes[0] < at("2018-06-03T22:05") - 30 * 60
    assert at("2018-06-11T04:00") < threes[-1] < at("2018-06-11T10:15") - 30 * 60


def test_nothing_else_alarms_at_dead_run(flood: Bench) -> None:
    floods = [("2018-06-03T18:00", "2018-06-04T04:00"), ("2018-06-10T21:30", "2018-06-11T14:00")]
    outside = [t for t in flood.log if not any(at(a) <= t.boot_s <= at(b) for a, b in floods)]
    assert outside == []


def test_the_lull_of_11_june_clears_nothing(flood: Bench) -> None:
    crest = [t for t in flood.log if at("2018-06-11T08:00") <= t.boot_s <= at("2018-06-11T10:15")]
    assert crest != []
    assert [t for t in crest if t.transition == "clear"] == []
    lowest = min(v for t, v in dead_run() if at("2018-06-11T08:20") <= t <= at("2018-06-11T09:30"))
    assert lowest < 0.80 - 0.05, "there is a lull to survive"


def test_each_flood_of_dead_run_is_one_alarm_and_all_return(flood: Bench) -> None:
    assert sum(t.rule == "high" and t.transition == "raise" for t in flood.log) == 3
    assert {state.state for name, state in flood.states.items() if name != "stale"} == {"RTN_UNACK"}
    assert not [t for t in flood.log if t.rule == "stale"]


def test_bonfire_night_with_an_on_delay_is_a_handful_of_alarms() -> None:
    with (REPLAY / "sensorcommunity_aberdeen_2018-11_sds011.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for sensor in ("5331", "8554", "8733"):
        bare = Bench(high(quantity="pm2_5", levels=(35.0,), deadband=0))
        delayed = Bench(high(quantity="pm2_5", levels=(35.0,), deadband=5, on_delay_s=600))
        for row in rows:
            if row["sensor"] == sensor:
                for bench in (bare, delayed):
                    moment = datetime.fromisoformat(row["time_utc"]).timestamp()
                    bench.see(moment, float(row["pm25_ugm3"]), quantity="pm2_5")
        raises = [sum(t.transition == "raise" for t in bench.log) for bench in (bare, delayed)]
        assert raises[0] > 20, "there is something to hold back"
        assert 1 <= raises[1] <= 5
