"""edge.outputs.siren: when it sounds, and the LCUS-1 board on a real pty."""

import logging
from contextlib import contextmanager
from itertools import pairwise

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from edge.emulators.relay import RelayBoard
from edge.errors import OutputError
from edge.outputs.relay import Relay, command
from edge.outputs.siren import SirenInput, should_sound

WAIT_S = 10


@contextmanager
def plugged(path, channels=1):
    board = RelayBoard(path, channels)
    board.start()
    try:
        yield board
    finally:
        board.stop()


@pytest.fixture
def board(tmp_path):
    with plugged(tmp_path / "relay") as device:
        yield device


@pytest.fixture
def siren(board):
    output = Relay(str(board.path))
    yield output
    output.close()


def becomes(board, on, channel=1):
    with board.changed:
        return board.changed.wait_for(lambda: board.on(channel) == on, WAIT_S)


def has_taken(board, frames):
    with board.changed:
        return board.changed.wait_for(lambda: board.received_frames >= frames, WAIT_S)


# When it sounds


@pytest.mark.parametrize(
    ("level", "state", "age_s", "expected"),
    [
        (2, "UNACK", 0, True),
        (3, "UNACK", 899.9, True),
        (3, "UNACK", 900, False),
        (1, "UNACK", 0, False),
        (3, "ACK", 0, False),
        (3, "RTN_UNACK", 0, False),
        (0, "NORMAL", 0, False),
        (2, "UNACK", 1000, False),
    ],
)
def test_one_alarm(level, state, age_s, expected):
    alarm = SirenInput(level, state, 5000 - age_s)
    assert should_sound(5000, [alarm], min_level=2, max_s=900) == (alarm if expected else None)


def test_no_alarm_no_sound():
    assert not should_sound(5000, [], min_level=1, max_s=900)


def test_an_escalation_gives_it_its_time_again():
    assert not should_sound(2000, [SirenInput(2, "UNACK", 1000)], min_level=2, max_s=900)
    assert should_sound(2000, [SirenInput(3, "UNACK", 1950)], min_level=2, max_s=900)


def test_an_alarm_of_the_boot_before_still_counts():
    assert should_sound(30, [SirenInput(3, "UNACK", -200)], min_level=2, max_s=900)


inputs = st.builds(
    SirenInput,
    st.integers(0, 3),
    st.sampled_from(["NORMAL", "UNACK", "ACK", "RTN_UNACK"]),
    st.floats(-1e6, 1e6),
)


@given(st.floats(0, 1e6), st.lists(inputs), st.lists(inputs), st.integers(1, 3), st.floats(1, 1e4))
def test_alarms_add_up_and_silence_never_lasts_less_than_one_of_them(now, some, others, min_level, max_s):
    apart = should_sound(now, some, min_level, max_s), should_sound(now, others, min_level, max_s)
    assert should_sound(now, others + some, min_level, max_s) in apart
    assert (should_sound(now, others + some, min_level, max_s) is None) == (apart == (None, None))


# The bytes


@pytest.mark.parametrize(
    ("channel", "on", "frame"),
    [(1, True, "A00101A2"), (1, False, "A00100A1"), (2, True, "A00201A3"), (8, False, "A00800A8")],
)
def test_the_vendors_frames(channel, on, frame):
    assert command(channel, on).hex().upper() == frame


# The board


def test_on_and_off(board, siren):
    siren.set(True)
    assert becomes(board, True)
    siren.set(False)
    assert becomes(board, False)
    assert [s.on for s in board.history] == [True, False]
    assert all(a.boot_s <= b.boot_s for a, b in pairwise(board.history))


def test_told_again_it_does_not_click_again(board, siren):
    for _ in range(5):
        siren.set(True)
    assert has_taken(board, 5)
    assert [s.on for s in board.history] == [True]


def test_the_channel_is_the_one_configured(tmp_path):
    with plugged(tmp_path / "relay", channels=4) as board:
        siren = Relay(str(board.path), channel=3)
        siren.set(True)
        assert becomes(board, True, channel=3)
        assert not any(board.on(c) for c in (1, 2, 4))
        siren.close()


def test_a_board_pulled_and_put_back_sounds_again(board, siren, caplog):
    caplog.set_level(logging.INFO)
    siren.set(True)
    assert becomes(board, True)
    board.unplug()
    for _ in range(3):
        with pytest.raises(OutputError, match=str(board.path)):
            siren.set(True)
    assert not board.on()
    board.replug()
    siren.set(True)
    assert becomes(board, True)
    messages = [r.message for r in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith(f"relay {board.path}: lost")
    assert messages[1] == f"relay {board.path}: back"


def test_a_replug_between_two_calls_goes_unnoticed_but_by_the_relay(board, siren):
    siren.set(True)
    assert becomes(board, True)
    board.unplug()
    board.replug()
    siren.set(True)
    assert becomes(board, True)
    assert [s.on for s in board.history] == [True, False, True]


def test_no_port_at_the_start_is_no_end(tmp_path):
    path = tmp_path / "relay"
    siren = Relay(str(path))
    with pytest.raises(OutputError, match=str(path)):
        siren.set(False)
    with plugged(path) as board:
        siren.set(True)
        assert becomes(board, True)
        siren.close()
        assert board.on()


def test_a_port_that_pyserial_does_not_know_is_named():
    with pytest.raises(OutputError, match="nonsense://"):
        Relay("nonsense://x").set(True)


def test_the_board_ignores_bad_frames_and_finds_the_next_good_one(board):
    with serial.Serial(str(board.path), 9600) as line:
        for frame in ("A00101A3", "A00102A3", "A00901AA", "0055", "A0", "A00101A2"):
            line.write(bytes.fromhex(frame))
        assert becomes(board, True)
    assert board.received_frames == 1
    assert board.refused >= 4
