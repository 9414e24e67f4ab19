"""The siren's patterns and its test on an emulated board and on mock pins; the button, its bounces and its faults."""

import math
import os
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
import serial
from gpiozero.pins.mock import MockFactory
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.clock import Clock
from edge import config
from edge.emulators.relay import RelayBoard
from edge.errors import OutputError
from edge.outputs.button import CHATTER_S, MAX_PRESSES, ButtonKeeper, Press, SerialContact
from edge.outputs.gpio import GpioContact, GpioRelay
from edge.outputs.relay import Relay
from edge.outputs.siren import SirenInput, SirenKeeper, beat
from tests import servers

WAIT_S = 10
SCALE = 5.0
PATTERNS = config.SerialSiren(port="unused").all_patterns
"""The defaults: 0.5 s of 5, 2 s of 4, continuous."""


def fast() -> Clock:
    """Five seconds of it pass in one."""
    return Clock(scale=SCALE, origin_boot=0.0, origin_wall=1_785_000_000.0)


# ---------------------------------------------------------------- patterns

patterns = st.builds(config.Pattern, on_s=st.floats(0.1, 60), off_s=st.just(0.0) | st.floats(0.1, 60))


@given(patterns, st.floats(0, 1e6))
def test_a_pattern_is_a_function_of_time_alone(pattern: config.Pattern, since_s: float) -> None:
    on, lasts_s = beat(pattern, since_s)
    if pattern.off_s == 0:
        assert (on, lasts_s) == (True, math.inf)
        return
    whole = pattern.on_s if on else pattern.off_s
    assert 0 < lasts_s <= whole + 1e-9
    # Asked at any time before the change, it says the same; asked after it, the other.
    middle = beat(pattern, since_s + lasts_s / 2)
    if lasts_s > 1e-3:
        assert middle == (on, pytest.approx(lasts_s / 2, abs=1e-6))
        assert beat(pattern, since_s + lasts_s + 1e-3)[0] is not on


@given(patterns)
def test_a_pattern_begins_with_its_sound(pattern: config.Pattern) -> None:
    assert beat(pattern, 0.0)[0]


def test_short_beeps_long_beeps_and_no_pause() -> None:
    shares = {
        level: sum(beat(pattern, at / 100)[0] for at in range(2000)) / 2000 for level, pattern in PATTERNS.items()
    }
    assert shares == {1: pytest.approx(0.1), 2: pytest.approx(0.5), 3: 1}


# ---------------------------------------------------------------- the siren's thread


@pytest.fixture
def board(tmp_path):
    made = RelayBoard(tmp_path / "siren")
    made.start()
    yield made
    made.stop()


def kept(board, clock):
    keeper = SirenKeeper(Relay(str(board.path)), PATTERNS, clock)
    keeper.start()
    return keeper


def test_the_relay_follows_the_pattern_through_restarts(board) -> None:
    clock = fast()
    announced = clock.boot()
    alarm = SirenInput(2, "UNACK", announced)
    keeper = kept(board, clock)
    keeper.want(alarm)
    servers.wait_until(lambda: len(board.history) >= 4, WAIT_S, "two beeps")
    keeper.stop()
    servers.wait_until(lambda: not board.on(), WAIT_S, "silence at the end")
    keeper = kept(board, clock)
    begun = len(board.history)
    keeper.want(alarm)
    servers.wait_until(lambda: len(board.history) >= begun + 4, WAIT_S, "two more")
    keeper.stop()
    # Of whole beeps after the restart: each begins at a multiple of 4 s after the announcement, give or take the machine.
    starts = [(s.boot_s * SCALE - announced) % 4 for s in board.history[begun:] if s.on]
    assert min(starts[1], 4 - starts[1]) < 1
    on, off = next((a, b) for a, b in pairwise(board.history[begun + 1 :]) if a.on)
    assert (off.boot_s - on.boot_s) * SCALE == pytest.approx(2, abs=1)


def test_level_three_does_not_click_however_often_it_is_written(board) -> None:
    keeper = kept(board, Clock())
    keeper.want(SirenInput(3, "UNACK", 0.0))
    servers.wait_until(board.on, WAIT_S, "on")
    seen = board.received_frames
    servers.wait_until(lambda: board.received_frames >= seen + 1, WAIT_S, "written again")
    assert [s.on for s in board.history] == [True]
    keeper.stop()


def test_an_escalation_sounds_at_once_as_its_level_does(board) -> None:
    clock = Clock()
    keeper = kept(board, clock)
    keeper.want(SirenInput(1, "UNACK", clock.boot() - 2))  # in its pause
    servers.wait_until(lambda: board.received_frames > 1, WAIT_S, "told")
    assert not board.on()
    keeper.want(SirenInput(3, "UNACK", clock.boot()))
    servers.wait_until(board.on, 1, "on, long before the pause would have ended")
    keeper.stop()


def test_a_test_is_one_short_pulse(board) -> None:
    clock = Clock()
    keeper = kept(board, clock)
    assert keeper.health() == {"siren_lost": 0.0}, "never tested is not tested at zero"
    assert keeper.test(0.3) == "done"
    servers.wait_until(lambda: [s.on for s in board.history] == [True, False], WAIT_S, "a pulse")
    on, off = board.history
    assert 0.25 < off.boot_s - on.boot_s < 2
    found = keeper.health()
    assert found["siren_test_outcome"] == 1
    assert found["siren_test_at"] == pytest.approx(clock.wall(), abs=60)
    keeper.stop()


def test_an_alarm_is_not_disturbed_by_a_test(board) -> None:
    keeper = kept(board, Clock())
    keeper.want(SirenInput(3, "UNACK", 0.0))
    servers.wait_until(board.on, WAIT_S, "on")
    assert keeper.test(0.1) == "skipped"
    assert keeper.health()["siren_test_outcome"] == 2
    assert [s.on for s in board.history] == [True]
    keeper.stop()


def test_an_alarm_that_comes_in_a_test_goes_on_sounding(board) -> None:
    keeper = kept(board, Clock())
    outcomes = []
    tester = threading.Thread(target=lambda: outcomes.append(keeper.test(60)))
    tester.start()
    servers.wait_until(board.on, WAIT_S, "the pulse")
    keeper.want(SirenInput(3, "UNACK", 0.0))
    tester.join(WAIT_S)
    assert outcomes == ["skipped"]
    assert [s.on for s in board.history] == [True]
    keeper.stop()


def test_a_test_of_a_board_that_is_gone_has_failed(board) -> None:
    keeper = kept(board, Clock())
    servers.wait_until(lambda: board.received_frames > 0, WAIT_S, "told")
    board.unplug()
    assert keeper.test(0.1) == "failed"
    assert keeper.health() | {"siren_test_at": 0} == {"siren_lost": 1, "siren_test_outcome": 0, "siren_test_at": 0}
    board.replug()
    assert keeper.test(0.1) == "done"
    assert keeper.health()["siren_lost"] == 0
    keeper.stop()


# ---------------------------------------------------------------- pins


@pytest.fixture
def pins():
    factory = MockFactory()
    yield factory
    factory.reset()


@pytest.mark.parametrize("active_high", [True, False])
def test_a_pin_is_off_from_the_first_moment(pins, active_high) -> None:
    relay = GpioRelay(17, active_high=active_high, factory=pins)
    relay.set(False)
    states = [s.state for s in pins.pin(17).states]
    for on in (True, True, False):
        relay.set(on)
        assert pins.pin(17).state is (on is active_high)
    assert active_high not in states[1:], "what comes first is what it floated at"
    relay.close()
    assert pins.pin(17).function == "input", "let go"


def test_a_siren_on_a_pin(pins) -> None:
    keeper = SirenKeeper(GpioRelay(17, factory=pins), PATTERNS, Clock())
    keeper.start()
    assert keeper.test(0.1) == "done"
    assert [s.state for s in pins.pin(17).states if s.timestamp][-2:] == [True, False]
    keeper.stop()


def test_a_pin_that_is_taken_is_named(pins) -> None:
    first, second = GpioRelay(17, factory=pins), GpioRelay(17, factory=pins)
    first.set(True)
    with pytest.raises(OutputError, match="GPIO17"):
        second.set(True)
    first.close()
    second.set(True)
    assert pins.pin(17).state


def test_siren_and_button_that_start_together_share_one_chip() -> None:
    """Its library is looked for and loaded by whoever comes first; two at once would each find it half loaded."""
    program = """
import sys, threading
from edge.outputs.gpio import GpioContact, GpioRelay
outputs = [GpioRelay(pin) for pin in range(2, 14)] + [GpioContact(pin) for pin in range(14, 26)]
barrier = threading.Barrier(len(outputs))
def take(output):
    barrier.wait()
    output.set(True) if isinstance(output, GpioRelay) else output.closed()
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=take, args=(o,)) for o in outputs]
for t in threads: t.start()
for t in threads: t.join()
devices = [getattr(o, "_output", None) or o._input for o in outputs]
print(len({id(d.pin_factory) for d in devices}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"GPIOZERO_PIN_FACTORY": "mock"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("1", "")


# ---------------------------------------------------------------- presses

DEBOUNCE_S, STUCK_S = 0.1, 30.0


def looks(press: Press, line: list[tuple[float, bool]], every_s: float = 0.02, start_s: float = 1000.0):
    """Feed stretches of (seconds, closed) and give the presses."""
    found, now = [], start_s
    for seconds, closed in line:
        end = now + seconds
        while now < end - 1e-9:
            since = press.look(now, closed)
            if since is not None:
                found.append(since)
            now += every_s
    return found


def test_one_press_is_one_press_since_it_began() -> None:
    found = looks(Press(DEBOUNCE_S, STUCK_S), [(1, False), (0.5, True), (1, False)])
    assert found == [pytest.approx(1001, abs=0.05)]


def test_bounces_are_one_press_and_a_spark_is_none() -> None:
    bounce = [(0.04, True), (0.02, False)] * 3
    assert len(looks(Press(DEBOUNCE_S, STUCK_S), [(1, False), *bounce, (0.5, True), *bounce, (1, False)])) == 1
    assert looks(Press(DEBOUNCE_S, STUCK_S), [(1, False), (0.06, True), (1, False)] * 20) == []


def test_closed_from_the_beginning_is_no_press() -> None:
    press = Press(DEBOUNCE_S, STUCK_S)
    assert looks(press, [(20, True)]) == []
    assert not press.fault
    assert looks(press, [(20, True)], start_s=1020) == []
    assert press.stuck
    assert len(looks(press, [(1, False), (1, True)], start_s=1040)) == 1
    assert not press.fault


def test_a_stuck_button_acknowledges_once_and_is_a_fault_until_it_is_open() -> None:
    press = Press(DEBOUNCE_S, STUCK_S)
    assert len(looks(press, [(1, False), (3600, True)], every_s=0.05)) == 1
    assert press.stuck
    looks(press, [(0.04, False), (0.02, True)], start_s=5000)
    assert press.stuck, "a bounce does not mend it"
    looks(press, [(1, False)], start_s=5001)
    assert not press.fault


def test_a_chattering_contact_acknowledges_a_few_times_only_and_is_a_fault_for_a_minute() -> None:
    press = Press(DEBOUNCE_S, STUCK_S)
    assert len(looks(press, [(0.4, False), (0.4, True)] * 300)) == MAX_PRESSES
    assert press.fault
    looks(press, [(CHATTER_S - 1, False)], start_s=1240)
    assert press.fault
    assert len(looks(press, [(3, False), (1, True)], start_s=1240 + CHATTER_S)) == 1
    assert not press.fault


stretches = st.lists(st.tuples(st.floats(0.02, 40), st.booleans()), max_size=30)


@given(stretches)
def test_whatever_a_cable_does_its_presses_are_few_and_each_was_open_before(line) -> None:
    press = Press(DEBOUNCE_S, STUCK_S)
    found = looks(press, line, every_s=0.05)
    closings, was = 0, True
    for _, closed in line:
        closings += closed and not was
        was = closed
    assert len(found) <= closings
    assert all(later - earlier > CHATTER_S for earlier, later in zip(found, found[MAX_PRESSES:], strict=False))
    if line and line[-1][1] and line[-1][0] > STUCK_S + 0.2:
        assert press.stuck


# ---------------------------------------------------------------- buttons


class Looked:
    """A contact, and how often somebody looked."""

    def __init__(self, contact: GpioContact) -> None:
        self.looks = 0
        self._contact = contact

    def closed(self) -> bool:
        found = self._contact.closed()
        self.looks += 1
        return found

    def close(self) -> None:
        self._contact.close()


class Presses:
    def __init__(self) -> None:
        self.since: list[float] = []

    def __call__(self, since_s: float) -> None:
        self.since.append(since_s)


def test_a_button_on_a_pin(pins) -> None:
    presses, clock = Presses(), Clock()
    pin = pins.pin(27)
    contact = Looked(GpioContact(27, factory=pins))
    keeper = ButtonKeeper(contact, 0.05, 30, clock, presses)
    keeper.start()
    servers.wait_until(lambda: contact.looks >= 10, WAIT_S, "seen open for the debounce time")
    assert pin.pull == "up"
    before = clock.boot()
    pin.drive_low()
    servers.wait_until(lambda: presses.since, WAIT_S, "a press")
    assert before <= presses.since[0] <= clock.boot()
    assert keeper.health() == {"button_fault": 0.0}
    keeper.stop()


@pytest.mark.parametrize("line", ["cts", "dsr"])
def test_a_button_on_a_serial_line_and_the_adapter_pulled(line) -> None:
    adapters: list[serial.Serial] = []

    def opened(path: str) -> serial.Serial:
        if path != "there":
            raise FileNotFoundError(path)
        adapters.append(
            serial.serial_for_url("loop://")
        )  # its RTS leads to CTS, its DTR to DSR, as the wires of a button do
        return adapters[-1]

    contact = SerialContact("there", line, opened)
    assert contact.closed()
    setattr(adapters[0], {"cts": "rts", "dsr": "dtr"}[line], False)
    assert not contact.closed()
    contact.close()
    assert not adapters[0].is_open
    with pytest.raises(OutputError, match="away"):
        SerialContact("away", line, opened).closed()


def test_a_button_that_cannot_be_looked_at_is_a_fault_not_a_press(tmp_path) -> None:
    presses = Presses()
    keeper = ButtonKeeper(SerialContact(str(tmp_path / "none"), "cts"), 0.05, 30, Clock(), presses)
    keeper.start()
    servers.wait_until(lambda: keeper.health()["button_fault"] == 1, WAIT_S, "a fault")
    keeper.stop()
    assert presses.since == []


# ---------------------------------------------------------------- configuration


def outputs(**tables: object) -> config.Outputs:
    return config.Outputs.model_validate(tables)


def test_the_siren_is_on_a_board_or_on_a_pin() -> None:
    assert isinstance(outputs(siren={"port": "/a"}).siren, config.SerialSiren)
    chosen = outputs(siren={"driver": "gpio", "pin": 17, "patterns": {"1": {"on_s": 1}}}).siren
    assert isinstance(chosen, config.GpioSiren)
    assert chosen.all_patterns[1].off_s == 0
    assert chosen.all_patterns[2] == PATTERNS[2]


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"siren": {"driver": "gpio", "port": "/a", "pin": 17}}, "Extra inputs"),
        ({"siren": {"driver": "bell", "port": "/a"}}, "expected lcus1 or gpio"),
        ({"siren": {"driver": "gpio", "pin": 40}}, "less than or equal to 27"),
        ({"siren": {"port": "/a", "patterns": {"4": {"on_s": 1}}}}, "less than or equal to 3"),
        ({"siren": {"port": "/a", "patterns": {"1": {"on_s": 0.01}}}}, "greater than or equal to 0.1"),
        ({"siren": {"port": "/a", "patterns": {"1": {"on_s": 1, "off_s": 0.01}}}}, "expected 0 or at least 0.1"),
        ({"siren": {"port": "/a", "self_test": {"day": "sun", "at": "02:30:00"}}}, "outside of 02:00 to 03:00"),
        ({"button": {"driver": "gpio", "pin": 4}}, "only with a siren"),
        ({"siren": {"driver": "gpio", "pin": 4}, "button": {"driver": "gpio", "pin": 4}}, "pin GPIO4: expected once"),
    ],
)
def test_what_cannot_be_is_named(tables, expected) -> None:
    with pytest.raises(ValidationError, match=expected):
        outputs(**tables)
