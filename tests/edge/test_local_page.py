"""The gateway's own page, in this process: what people have done, and a data path that does not answer."""

import contextlib
import http.client
import re
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import get_args

import pytest

from common import texts, words
from common.clock import Clock, rfc3339
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig, Page
from edge.gateway import Gateway
from edge.journal import Journal
from edge.page import html
from edge.page.server import PageServer
from edge.sample import Sample
from edge.sensors.base import ErrorKind, Field, FrameError
from edge.situation import Situation, StationNow
from tests import servers
from tests.edge.test_gateway import CONFIG, Hands, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def seen(house: House) -> Situation:
    return house.gateway.situation().result(10)


def shown(house: House) -> str:
    """The text of the page."""
    now = html.Now(house.clock.boot(), house.clock.wall(), answered=True)
    live = html.document(seen(house), now).partition("<div id")[2].partition("<footer>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", live).split())


def test_who_acknowledged_is_known_and_still_after_a_restart(tmp_path: Path, house: House) -> None:
    occurrence = house.raised(2.5)
    assert "SANS RÉPONSE" in shown(house)
    house.gateway.acknowledge(occurrence, "planu-huy", None)
    (alarm,) = seen(house).alarms
    assert (alarm.state, alarm.level, alarm.acknowledged_by) == ("ACK", 2, "planu-huy")
    assert "Acquittée par planu-huy" in shown(house)
    house.close()
    again = House(tmp_path)
    with contextlib.closing(again):
        (alarm,) = seen(again).alarms
        assert (alarm.occurrence, alarm.acknowledged_by) == (occurrence, "planu-huy")
        (measure,) = seen(again).stations[0].sensors[0].measures
        assert (measure.value, measure.qc) == (2.5, 1), "the last known, from the journal"
        again.measure(3.5)
        servers.wait_until(lambda: seen(again).alarms[0].level == 3, 10, "worse")
        assert seen(again).alarms[0].acknowledged_by is None, "an acknowledgement of less"


@pytest.mark.parametrize("set_before", [True, False])
@pytest.mark.parametrize("set_after", [True, False])
def test_after_a_reboot_a_value_is_known_where_both_clocks_were_right(
    tmp_path: Path, set_before: bool, set_after: bool
) -> None:
    def clock(wall_s: float, boot_id: str, *, right: bool) -> Clock:
        made = Clock(boottime=lambda: 1000.0, walltime=lambda: wall_s, synchronised=lambda: right)
        made.boot_id = boot_id
        return made

    first = House(tmp_path, clock(1_795_000_000.0, "first", right=set_before))
    first.measure(0.5)
    servers.wait_until(lambda: seen(first).stations[0].sensors[0].measures[0].value == 0.5, 10, "a reading")
    first.close()
    second = House(tmp_path, clock(1_795_000_600.0, "second", right=set_after))
    with contextlib.closing(second):
        (measure,) = seen(second).stations[0].sensors[0].measures
        assert measure.age_s == (pytest.approx(600) if set_before and set_after else None)
        assert not measure.fresh
        assert ("Horloge pas à l'heure" in shown(second).replace("&#x27;", "'")) is not set_after


def test_water_that_has_reached_the_sensor_is_at_least_there_and_a_refused_value_is_none(tmp_path: Path) -> None:
    clock = Clock(trust="always")
    station = CONFIG["station"][0]
    rule = station["rule"][0] | {"quantity": "water_level"}
    sensor = station["sensor"][0] | {
        "level": {"mounting_height_m": 5.0},
        "gross_range": {"water_level": {"fail": [-1.0, 4.9]}},
    }
    config = CONFIG | {
        "gateway": CONFIG["gateway"] | {"data_dir": str(tmp_path)},
        "station": [station | {"sensor": [sensor], "rule": [rule]}],
    }
    journal, alarms = Journal(tmp_path / "journal", clock), AlarmLog(tmp_path / "alarms.db")
    gateway = Gateway(EdgeConfig.model_validate(config), clock, journal, alarms)
    journal.open()
    gateway.recover(alarms.open())
    gateway.start()

    def say(*distance: float, error: FrameError | None = None) -> StationNow:
        fields = tuple(Field("water_distance", d, "m") for d in distance)
        gateway.post(Sample("hoyoux-test", "level-1", clock.wall(), clock.boot(), fields, (), error))
        return gateway.situation().result(10).stations[0]

    try:
        say(4.5)
        (measure,) = say(0.05).sensors[0].measures
        assert (measure.value, measure.refused_age_s is not None) == (0.5, True)
        now = say(error=FrameError("blind_zone", "0.30 m or nearer", at_most_m=0.3))
        (measure,) = now.sensors[0].measures
        assert (measure.at_least, measure.value, measure.fresh, now.level) == (True, 4.7, True, 3)
        assert now.sensors[0].trouble is not None
        assert now.sensors[0].trouble.kind == "blind_zone"
        text = html.document(gateway.situation().result(10), html.Now(clock.boot(), clock.wall(), answered=True))
        assert "au moins 4,70\u00a0m" in text
        (measure,) = say(4.4).sensors[0].measures
        assert (measure.at_least, measure.value, measure.refused_age_s) == (False, 0.6, None)
    finally:
        gateway.stop()
        journal.close()
        alarms.close()


def test_a_shelved_alarm_says_until_when_and_by_whom(house: House) -> None:
    occurrence = house.raised()
    until = house.clock.wall() + 3600
    house.gateway.command(
        "shelve",
        {"id": "1", "occurrence": occurrence, "by": "J. Dupont", "at": rfc3339(until), "until": rfc3339(until)},
    )
    (alarm,) = seen(house).alarms
    assert (alarm.withheld, alarm.withheld_by) == ("shelved", "J. Dupont")
    assert alarm.until_s == pytest.approx(until, abs=1)
    # By then it may be tomorrow, and the day is said.
    assert f"En veille jusqu'à {words.when(until, house.clock.wall())}" in shown(house).replace("&#x27;", "'")
    assert "ne prévient personne" in shown(house)
    assert seen(house).siren is False


def test_readings_wait_since_the_gateway_runs_not_since_the_machine_does(house: House) -> None:
    house.measure(0.5)
    servers.wait_until(lambda: seen(house).waiting == 1, 10, "a reading")
    assert house.clock.boot() > 60
    assert seen(house).unconfirmed_s < 60


def test_a_value_grows_old_and_is_never_fresh_again(tmp_path: Path) -> None:
    hands = Hands(1_795_000_000.0)
    house = House(tmp_path, hands.clock)
    with contextlib.closing(house):
        house.measure(0.5, Field("battery_voltage", 3.6, "V"))
        servers.wait_until(lambda: seen(house).stations[0].sensors[0].measures[0].value == 0.5, 10, "a reading")
        hands.move(7200)
        servers.wait_until(lambda: bool(seen(house).alarms), 10, "stale")
        (measure,) = seen(house).stations[0].sensors[0].measures
        assert (measure.value, measure.fresh) == (0.5, False)
        assert measure.age_s == pytest.approx(7200)
        assert "dernière valeur connue, il y a 2 h 00 min" in shown(house)
        assert "PLUS DE MESURE" in shown(house)


@contextlib.contextmanager
def served(situation, clock: Clock) -> Iterator[int]:
    port = servers.free_port()
    page = PageServer(Page(listen=f"127.0.0.1:{port}"), clock, situation)
    page.start()
    try:
        servers.wait_until(lambda: servers.accepts(port), 10, "the page")
        yield port
    finally:
        page.stop()


def got(port: int, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_data_path_that_does_not_answer_is_said_with_the_last_it_knew(house: House) -> None:
    house.raised(2.5)
    stuck: list[Future[Situation]] = []
    hangs = False

    def situation() -> "Future[Situation]":
        if not hangs:
            return house.gateway.situation()
        stuck.append(Future())
        return stuck[-1]

    hands = Hands(1_795_000_000.0)
    hands.now = house.clock.boot()
    with served(situation, hands.clock) as port:
        status, text = got(port)
        assert status == 200
        assert "ne répond pas" not in text
        hangs = True
        hands.move(120)
        status, text = got(port)
        assert status == 200
        assert "Le programme des mesures ne répond pas" in text
        assert "il y a 2 min" in text
        assert "2,50\u00a0m" in text, "the last that it knew"
        assert "mesuré" not in text, "nothing is told as fresh"
        hands.move(10)
        assert '"answered": false' in got(port, "/status.json")[1]
        assert len(stuck) == 1, "one question waits, however many look"
        stuck[0].set_result(seen(house))
        hangs = False
        assert "ne répond pas" not in got(port)[1]


def test_before_the_first_answer_it_says_that_it_knows_nothing(house: House) -> None:
    with served(Future, house.clock) as port:
        status, text = got(port)
        assert status == 200
        assert "n&#x27;a encore rien dit" in text
        assert got(port, "/status.json")[1] == '{"answered": false, "age_s": null}'


@pytest.mark.parametrize("listen", ["", "8080", "0.0.0.0", ":8080", "0.0.0.0:0", "0.0.0.0:99999", "a@b:80", "h:80/x"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="expected address:port"):
        Page(listen=listen)


def test_addresses() -> None:
    assert (Page(listen="[::]:8080").host, Page(listen="0.0.0.0:80").port) == ("::", 80)


def test_each_kind_of_error_has_words() -> None:
    assert set(get_args(ErrorKind)) <= set(texts.phrases("lan")["error"])
