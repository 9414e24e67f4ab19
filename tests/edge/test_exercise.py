"""An exercise alarm on the gateway: it ends at its time, at a real alarm and after a kill, and nothing mistakes it for a real one."""

import json
from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.exercise import Exercises, Refused
from tests import servers
from tests.edge.test_gateway import CONFIG, Hands, House, command, events
from wire.alarm import EXERCISE, AlarmEvent, Notified
from wire.errors import WireError

RAISED = ("raise", "UNACK", 3, "Exercise")
OVER = [("clear", "RTN_UNACK", 0, "Exercise"), ("ack", "NORMAL", 0, "Exercise")]


@pytest.fixture
def house(tmp_path: Path):
    made = House(tmp_path)
    yield made
    made.close()


def begin(house: House, seconds: float = 600.0) -> AlarmEvent:
    return house.gateway.begin_exercise("hoyoux-test", 3, "technicien", house.clock.boot() + seconds)


def story(house: House, status: str = "Exercise") -> list[tuple[str, str, int, str]]:
    return [(e.transition, e.state, e.level, e.status) for e in events(house) if e.status == status]


def wait(house: House, *expected: tuple[str, str, int, str]) -> None:
    servers.wait_until(lambda: story(house) == list(expected), 10, f"{expected}, found {story(house)}")
    assert [e.seq for e in events(house)] == list(range(1, len(events(house)) + 1)), "no number is missing"


def test_an_exercise_is_no_state_of_a_rule_and_ends_at_its_time(tmp_path: Path) -> None:
    hands = Hands(1.795e9)
    house = House(tmp_path, hands.clock)
    event = begin(house, 20)
    wait(house, RAISED)
    assert (event.value, event.sensor, event.rule) == (None, None, EXERCISE)
    assert not house.siren.on, "the pulse is the siren's own test"
    situation = house.gateway.situation().result(10)
    assert (situation.alarms, situation.stations[0].level) == ((), 0)
    assert situation.exercise_s is not None
    hands.move(21)
    wait(house, RAISED, *OVER)
    assert house.alarms.active().active == ()
    assert house.gateway.situation().result(10).exercise_s is None
    house.close()


def test_a_real_alarm_ends_it_at_once_and_none_begins_while_one_stands(house: House) -> None:
    begin(house)
    with pytest.raises(WireError, match="an exercise is under way"):
        begin(house)
    house.measure(3.5)
    wait(house, RAISED, *OVER)
    assert house.siren.on
    assert story(house, "Actual") == [("raise", "UNACK", 3, "Actual")]
    assert house.gateway.exercise_ended == "a real alarm has begun: high"
    first = next(e for e in events(house) if e.status == "Actual")
    command(house, "ack", first.occurrence)
    with pytest.raises(WireError, match="alarm high stands"):
        begin(house)


def test_one_that_a_kill_left_is_over_when_the_gateway_is_back(house: House, tmp_path: Path) -> None:
    begin(house)
    wait(house, RAISED)
    killed = (tmp_path / "alarms.db").read_bytes()
    house.close()
    (tmp_path / "alarms.db").write_bytes(killed)
    back = House(tmp_path)
    wait(back, RAISED, *OVER)
    assert back.alarms.active().active == ()
    back.close()


def test_it_is_acknowledged_as_any_alarm_and_cannot_be_shelved(house: House) -> None:
    occurrence = begin(house).occurrence
    wait(house, RAISED)
    with pytest.raises(WireError, match="is an exercise"):
        command(house, "shelve", occurrence, until="2099-01-01T00:00:00+00:00")
    command(house, "ack", occurrence)
    sent = Notified(channel="sms", to="tech", at="2026-11-25T00:00:00+00:00", result="sent")
    house.gateway.told(events(house)[0], (sent,))
    acked = [("ack", "ACK", 3, "Exercise"), ("notify", "ACK", 3, "Exercise")]
    wait(house, RAISED, *acked)
    house.gateway.end_exercise("enough")
    wait(house, RAISED, *acked, ("clear", "NORMAL", 0, "Exercise"))
    house.gateway.told(events(house)[0], (sent,))  # the modem was slow
    wait(house, RAISED, *acked, ("clear", "NORMAL", 0, "Exercise"), ("notify", "NORMAL", 0, "Exercise"))
    assert house.alarms.active().active == ()


def test_what_is_not_configured_is_left_out_and_a_bad_wish_is_refused(house: House) -> None:
    exercises = Exercises(EdgeConfig.model_validate(CONFIG), house.clock, house.gateway, None, None, lambda: False)
    with pytest.raises(Refused, match="no exercise has begun"):
        exercises.report(b"")
    for wish, error in (({"level": 4}, "level"), ({"station": "amay"}, "found 'amay', expected one of hoyoux-test")):
        with pytest.raises(Refused, match=error):
            exercises.begin(json.dumps(wish).encode())
    exercises.begin(b'{"level": 2}')
    servers.wait_until(lambda: exercises.report(b"")["over"], 10, "nothing is left to wait for")
    assert {link["state"] for link in exercises.report(b"")["links"]} == {"absent"}
    house.measure(3.5)
    servers.wait_until(lambda: bool(story(house, "Actual")), 10, "a real alarm")
    with pytest.raises(Refused, match="alarm high stands"):
        exercises.begin(b"")


def test_no_rule_on_readings_has_its_id(tmp_path: Path) -> None:
    station = CONFIG["station"][0]
    rules = [station["rule"][0] | {"id": EXERCISE}]
    with pytest.raises(ValueError, match="rule id: found 'exercise'"):
        EdgeConfig.model_validate(CONFIG | {"station": [station | {"rule": rules}]})


def test_links_are_those_of_its_own_event_and_what_comes_early_counts(house: House) -> None:
    config = EdgeConfig.model_validate(CONFIG | {"mqtt": {"host": "127.0.0.1"}})
    exercises = Exercises(config, house.clock, house.gateway, None, None, lambda: True)
    exercises.begin(b'{"within_s": 600}')

    def states() -> dict[str, str]:
        return {link["link"]: link["state"] for link in exercises.report(b"")["links"] if link["state"] != "absent"}

    wait(house, ("raise", "UNACK", 3, "Exercise"))
    (event,) = events(house)
    for other in ("broker", "stored", "board"):
        exercises.heard_of("another", other, "true")
    assert set(states().values()) == {"waiting"}
    exercises.heard_of(event.id, "broker", "nobody")
    assert states()["broker"] == "waiting", "it is sent again until central is there"
    exercises.heard_of(event.id, "stored", "true")
    exercises.heard_of(event.id, "notifying", "none")
    exercises.heard_of(event.id, "board", "true")
    servers.wait_until(lambda: exercises.report(b"")["over"], 10, "every link is known")
    assert states() == {"broker": "good", "central": "good", "notification": "failed", "board": "good"}
    link = next(link for link in exercises.report(b"")["links"] if link["link"] == "notification")
    assert "exercices = oui" in link["remedy"]
