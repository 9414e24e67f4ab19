"""`maillages-edge init`: the installed command on a real pty, emulated devices, and what it writes."""

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from common.clock import Clock
from common.toml import value
from edge.cli import app
from edge.config import example, load
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from edge.errors import ConfigError
from edge.tools import communes
from edge.tools.document import Document, Line, replace_file
from tests.fakes.terminal import Terminal

COMMAND = Path(sys.executable).parent / "maillages-edge"
STATION = ["--station-name", "Huy, pont", "--commune", "huy", "--position", "50.519,5.240"]


@pytest.fixture
def level(tmp_path):
    """A range finder over water, `distance` metres away, that may be changed."""

    class Water:
        distance = 2.963
        port = str(tmp_path / "level")

    log = DeviceLog()
    device = Mb7389(tmp_path / "level", "level", lambda _: Water.distance, clock=Clock(), log=log, interval_s=0.05)
    device.start()
    yield Water
    device.stop()


@pytest.fixture
def seat():
    """Puts a person before a command."""
    people = []

    def take(*arguments):
        people.append(Terminal(COMMAND, *arguments))
        return people[-1]

    yield take
    for person in people:
        person.close()


def init(*arguments):
    """Without a terminal."""
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def maxbotix(port):
    return ["--port", port, "--driver", "maxbotix", "--set", "model=MB7389"]


@pytest.mark.parametrize(
    ("text", "nis"),
    [
        ("Huy", "61031"), ("HOEI", "61031"), ("61031", "61031"), ("ferrieres", "61019"), ("Fexhe le haut clocher", "64025"),
        ("waremme", "64074"), ("oreye", "64056"), ("villers", "61068"),
    ],
)  # fmt: skip
def test_a_commune_is_found_by_its_name(text, nis):
    assert communes.find(text).nis == nis


@pytest.mark.parametrize(
    ("text", "meant"), [("Hui", "Huy"), ("Liege", "expected a commune"), ("", "expected a commune")]
)
def test_what_is_no_commune_says_which_were_meant(text, meant):
    with pytest.raises(ValueError, match=meant):
        communes.find(text)


def test_there_are_31_communes():
    found = communes.communes()
    assert len({c.nis for c in found}) == len({c.name for c in found}) == 31


@pytest.mark.parametrize(
    "text",
    [
        "50.519, 5.24", "50.519 5.24", "50,519 5,24", "geo:50.519,5.24", "https://www.openstreetmap.org/#map=19/50.519/5.24",
        "https://www.google.be/maps/@50.519,5.24,17z",
    ],
)  # fmt: skip
def test_a_position_is_taken_as_maps_give_it(text):
    assert communes.position(text) == (50.519, 5.24)


def test_a_place_far_from_its_commune_is_remarked():
    huy = communes.find("Huy")
    assert communes.remark(huy, 50.519, 5.24) == ""
    assert "exchanged" in communes.remark(huy, 5.24, 50.519)
    assert "nearer is Waremme" in communes.remark(huy, 50.70, 5.25)
    assert "outside of Huy-Waremme" in communes.remark(huy, 50.85, 4.35)


SIMPLE = st.one_of(
    st.text(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=50)
@given(st.recursive(SIMPLE, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_every_value_is_read_back(found):
    assert tomllib.loads(f"key = {value(found)}") == {"key": found}


def test_a_sensor_is_added_to_its_station_and_comments_stay():
    text = example()
    document = Document(text, "edge.toml")
    document.add("[[station]]", [Line("id", "b")])
    document.add("[[station.sensor]]", [Line("id", "new"), Line("driver", "sds011", "dust")], station=0)
    found = tomllib.loads(document.text)
    assert [x["id"] for x in found["station"][0]["sensor"]] == ["level-1", "air-temp", "level-2", "new"]
    assert [s["id"] for s in found["station"]] == ["hoyoux-huy", "b"]
    added = set(document.text.splitlines()) - set(text.splitlines())
    assert set(text.splitlines()) <= set(document.text.splitlines())
    assert {line.split(" ")[0] for line in added} == {"id", "driver"}


def test_a_file_that_cannot_be_added_to_is_left_alone():
    text = 'station = [{ id = "a", sensor = [{ id = "x" }] }]\n'
    document = Document(text, "edge.toml")
    with pytest.raises(ConfigError, match=r"by hand:\s+\[\[station.sensor\]\]"):
        document.add("[[station.sensor]]", [Line("id", "y")], station=0)
    assert document.text == text


def test_a_file_is_replaced_whole_with_its_rights(tmp_path):
    path = tmp_path / "edge.toml"
    replace_file(path, "one")
    assert path.stat().st_mode & 0o007 == 0
    path.chmod(0o640)
    replace_file(path, "two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_flags_answer_every_question(tmp_path, level):
    path = tmp_path / "edge.toml"
    done = init(
        path, "--gateway-id", "gw", "--data-dir", tmp_path / "data", *maxbotix(level.port), *STATION, "--river", "Hoyoux",
        "--gauge", "0,84", "--mounting-height", "3.5", "--levels", "1.2 1.8 2.3", "--rise", "0.3", "--siren", "gpio:17",
        "--sms", "/dev/ttyUSB7", "--recipient", "planu=+32470000001", "--recipient", "me=+32470000002:2:technician",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    config = load(path)
    station = config.station[0]
    assert (station.id, station.commune, station.lat, station.river) == ("huy-pont", "61031", 50.519, "Hoyoux")
    [sensor] = station.sensor
    assert sensor.level.mounting_height_m == 3.5
    assert sensor.level.datum_m + 3.5 - 2.963 == pytest.approx(0.84)
    assert sensor.gross_range["water_level"].fail[1] > 3.5 + sensor.level.datum_m
    assert [(rule.kind, rule.levels) for rule in station.rule] == [("high", (1.2, 1.8, 2.3)), ("rise", (0.3,))]
    assert [(r.id, r.min_level, r.technician) for r in config.outputs.sms.recipient] == [
        ("planu", 1, False),
        ("me", 2, True),
    ]
    assert config.outputs.siren.pin == 17


def test_a_second_sensor_is_added_to_the_file(tmp_path, level):
    path = tmp_path / "edge.toml"
    path.write_text(example())
    path.chmod(0o640)
    done = init(
        path, *maxbotix(level.port), "--station", "hoyoux-huy", "--sensor-id", "level-3", "--gauge", "1.00",
        "--levels", "1.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    before, after = Document(example(), "").data, load(path)
    assert [x.id for x in after.station[0].sensor] == ["level-1", "air-temp", "level-2", "level-3"]
    assert after.station[0].rule[-1].sensor == "level-3"
    assert len(after.station[0].rule) == len(before["station"][0]["rule"]) + 1
    assert set(example().splitlines()) <= set(path.read_text().splitlines())


def test_the_siren_is_sounded_and_silenced(tmp_path, level):
    board = RelayBoard(tmp_path / "siren", channels=2)
    board.start()
    try:
        done = init(
            tmp_path / "edge.toml", "--gateway-id", "gw", *maxbotix(level.port), *STATION, "--gauge", "1", "--levels", "none",
            "--siren", f"{board.path}:2", "--siren-test",
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert "told to sound for 1 s" in done.stderr
        with board.changed:
            assert board.changed.wait_for(lambda: len(board.history) >= 2, 5)
        assert [(change.channel, change.on) for change in board.history] == [(2, True), (2, False)]
    finally:
        board.stop()
    assert load(tmp_path / "edge.toml").outputs.siren.channel == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--station-name: missing"),
        (["--station-name", "x", "--commune", "Lyon"], "--commune: found 'Lyon'"),
        ([*STATION, "--gauge", "x"], "--gauge: found 'x', expected a number"),
        ([*STATION, "--gauge", "1"], "--levels: missing"),
        ([*STATION, "--gauge", "1", "--levels", "1 2 9"], "9 m cannot be reached"),
        ([*STATION, "--gauge", "1", "--levels", "1.5", "--sms", "/dev/x"], "--recipient: missing"),
    ],
)
def test_without_a_terminal_the_flag_that_is_missing_is_named(tmp_path, level, arguments, said):
    path = tmp_path / "edge.toml"
    done = init(path, "--gateway-id", "gw", *maxbotix(level.port), *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not path.exists()


def test_a_silent_sensor_is_named_with_what_to_do(tmp_path):
    done = init(tmp_path / "edge.toml", "--gateway-id", "gw", *maxbotix("/dev/ttyUSB77"), *STATION)
    assert done.exit_code == 2
    assert "/dev/ttyUSB77 cannot be opened" in done.stderr
    assert "Is the adapter plugged in" in done.stderr


def test_a_level_that_a_probe_measures_itself_gets_a_calibration(tmp_path):
    """Offline nothing is measured: the level is the probe's, and the file says no calibration."""
    path = tmp_path / "edge.toml"
    options = ["--port", "/dev/ttyUSB0", "--driver", "modbus_level_probe", "--levels", "1", "--offline"]
    assert init(path, "--gateway-id", "gw", *options, *STATION).exit_code == 0
    sensor = load(path).station[0].sensor[0]
    assert (sensor.level, sensor.calibration) == (None, ())


def talk(seat, path, level):
    """The dialogue up to the level."""
    person = Terminal(
        COMMAND, "init", path, "--gateway-id", "gw", "--data-dir", path.parent / "data", *maxbotix(level.port)
    )
    person.wait("It answers: water_distance 2.963 m")
    person.say("Name, as", "Huy, pont du Hoyoux")
    person.say("Id [huy-pont-du-hoyoux]", "")
    person.say("Commune", "Hui")
    person.wait("Huy, Hannut?")
    person.say("Commune", "huy")
    person.say("Position", "5.24 50.519")
    person.wait("look exchanged")
    person.say("right all the same", "n")
    person.say("Position", "50.519 5.24")
    person.say("River", "Hoyoux")
    person.say("Id of this sensor", "")
    person.say("every so many", "60")
    person.wait("Is it there")
    return person


def test_a_technician_is_asked_and_nothing_is_written_before_the_end(tmp_path, level, seat):
    path = tmp_path / "edge.toml"
    person = talk(seat, path, level)
    level.distance = 1.5
    person.say("", "y")
    person.wait("Right: 2.963 m became 1.500 m")
    level.distance = 2.963
    person.say("Take it away", "")
    person.say("staff gauge", "0,84")
    person.say("sensor's face", "none")
    person.wait("= 0.840 m, as the gauge says")
    person.say("Thresholds of water_level", "0.5 1")
    person.say("stands at once", "", 5)
    person.say("Thresholds of water_level", "1.2 1.8 2.3")
    person.say("Warn too", "")
    person.say("another sensor", "")
    person.say("relay board", "")
    person.say("GSM modem", "")
    person.wait("levels = [1.2, 1.8, 2.3]")
    assert not path.exists()
    person.say("Write this", "")
    assert person.end() == 0
    assert load(path).station[0].sensor[0].level.mounting_height_m == 3.803


def test_a_reversed_sign_is_named_and_nothing_is_written(tmp_path, level, seat):
    path = tmp_path / "edge.toml"
    person = talk(seat, path, level)
    level.distance = 4.2
    person.say("", "y")
    person.wait("REVERSED: it measures 4.200 m, before 2.963 m")
    person.say("Stop here", "")
    assert person.end() == 1
    assert not path.exists()


def test_ctrl_c_leaves_the_file_as_it_was(tmp_path, level, seat):
    path = tmp_path / "edge.toml"
    path.write_text(example())
    person = seat("init", path, *maxbotix(level.port))
    person.wait("Add a sensor")
    person.interrupt()
    person.wait(f"{path} is as it was")
    assert person.end() == 1
    assert path.read_text() == example()
    assert [p.name for p in tmp_path.glob("*edge.toml*")] == ["edge.toml"]


def test_a_moment_is_written_with_its_offset():
    assert tomllib.loads(f"x = {value(datetime(2026, 5, 4, tzinfo=UTC))}") == {"x": datetime(2026, 5, 4, tzinfo=UTC)}
