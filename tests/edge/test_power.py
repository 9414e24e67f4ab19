"""A sensor that does not answer gets its power cut: a relay board on a real pty, in front of a sensor that hangs."""

import time

import pytest
from pydantic import ValidationError

from common.clock import Clock
from edge import config
from edge.emulators.relay import RelayBoard
from edge.outputs.power import EVERY_S, PowerCycler
from edge.outputs.relay import Relay
from tests import servers

SUPPLY = config.Power.model_validate({"port": "unused", "channel": 2, "after": 3, "off_s": 0.2})


class Hands:
    """A clock whose boot time is moved by hand; it waits real seconds."""

    def __init__(self):
        self.moved = 0.0
        self.clock = Clock(boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + self.moved)


@pytest.fixture
def board(tmp_path):
    made = RelayBoard(tmp_path / "relays", channels=2)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def scene(board):
    hands = Hands()
    relay = Relay(str(board.path), 2)
    relay.set(True)  # as a process left it that was killed in between
    cycler = PowerCycler({"a/level": SUPPLY}, {"a/level": relay}, hands.clock)
    cycler.start()
    yield cycler, hands
    cycler.stop()


def switched(board):
    return [(s.channel, s.on) for s in board.history]


def test_the_power_is_cut_after_failures_in_a_row_and_not_again_at_once(board, scene):
    cycler, hands = scene
    servers.wait_until(lambda: switched(board)[-1:] == [(2, False)], 10, "what was cut is given back at the start")
    begun = len(board.history)
    for answered in (False, False, True, False, False):
        cycler.heard("a/level", answered=answered)
    cycler.heard("b/other", answered=False)
    cycler.heard("a/level", answered=False)
    servers.wait_until(lambda: len(board.history) == begun + 2, 10, "the relay clicks twice")
    assert switched(board)[begun:] == [(2, True), (2, False)]
    cut, back = board.history[begun:]
    assert back.boot_s - cut.boot_s >= 0.2
    assert cycler.cycles == {"a/level": 1}
    for _ in range(10):
        cycler.heard("a/level", answered=False)
    hands.moved = EVERY_S
    cycler.heard("a/level", answered=False)
    servers.wait_until(lambda: len(board.history) == begun + 4, 10, "once more, half an hour later")
    assert cycler.cycles == {"a/level": 2}


def test_a_person_has_it_cut_at_once_and_failures_wait_after_that(board, scene):
    cycler, _ = scene
    servers.wait_until(lambda: switched(board)[-1:] == [(2, False)], 10, "what was cut is given back at the start")
    begun = len(board.history)
    assert (cycler.supplies("a/level"), cycler.supplies("a/other")) == (True, False)
    assert cycler.cut("a/level", "Anne") == 0.2
    servers.wait_until(lambda: switched(board)[begun:] == [(2, True), (2, False)], 10, "cut and given back")
    for _ in range(10):
        cycler.heard("a/level", answered=False)
    assert cycler.cycles == {"a/level": 1}, "not again within half an hour"


def test_a_board_that_is_pulled_while_it_cuts_is_told_to_give_back_when_it_is_there_again(board, scene):
    cycler, _ = scene
    servers.wait_until(lambda: switched(board)[-1:] == [(2, False)], 10, "the start")
    for _ in range(3):
        cycler.heard("a/level", answered=False)
    servers.wait_until(lambda: board.on(2), 10, "cut")
    board.unplug()
    frames = board.received_frames
    board.replug()
    servers.wait_until(lambda: board.received_frames > frames and not board.on(2), 10, "told again")


def test_a_gateway_that_ends_leaves_no_sensor_without_power(board):
    slow = SUPPLY.model_copy(update={"off_s": 600.0})
    cycler = PowerCycler({"a/level": slow}, {"a/level": Relay(str(board.path), 2)}, Clock())
    cycler.start()
    for _ in range(3):
        cycler.heard("a/level", answered=False)
    servers.wait_until(lambda: board.on(2), 10, "cut")
    cycler.stop()
    servers.wait_until(lambda: not board.on(2), 10, "given back")


def test_one_relay_has_one_use():
    sensor = {"id": "s", "driver": "maxbotix", "port": "/a", "power": {"port": "/r", "channel": 1}}
    station = {"id": "a", "name": "A", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": [sensor]}
    whole = {"gateway": {"id": "g", "data_dir": "/a"}, "station": [station], "outputs": {"siren": {"port": "/r"}}}
    with pytest.raises(ValidationError, match="/r channel 1"):
        config.EdgeConfig.model_validate(whole)
    whole["outputs"]["siren"]["channel"] = 2
    config.EdgeConfig.model_validate(whole)
