"""The gateway's data path and its commands, in this process, without devices."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from common import texts
from common.clock import BRUSSELS, Clock, rfc3339
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig
from edge.gateway import MAX_UNWRITTEN, Gateway
from edge.journal import Journal, NewRow
from edge.outputs.siren import SirenInput
from edge.sample import Sample
from edge.sensors.base import Field
from tests import servers
from wire.alarm import AlarmEvent
from wire.errors import WireError

CONFIG: dict[str, Any] = {
    "gateway": {"id": "gw-test-01", "data_dir": "unused"},
    "station": [
        {
            "id": "hoyoux-test", "name": "Essai", "commune": "61031", "lat": 50.5, "lon": 5.2,
            "sensor": [{"id": "level-1", "driver": "maxbotix", "port": "unused", "period_s": 0}],
            "rule": [
                {"id": "high", "kind": "high", "sensor": "level-1", "quantity": "water_distance", "levels": [1, 2, 3], "off_delay_s": 0}
            ],
        }
    ],
    "outputs": {"siren": {"port": "unused", "min_level": 1}},
}  # fmt: skip


EXTRA_RULES = [
    {"id": "battery", "kind": "power", "sensor": "level-1", "levels": [3.4], "suppressed_by": "high"},
]


class Hands:
    """Turns a clock by hand."""

    def __init__(self, wall_s: float) -> None:
        self.now = 1000.0
        begin = wall_s - self.now
        self.clock = Clock(
            boottime=lambda: self.now, walltime=lambda: begin + self.now, synchronised=lambda: True, trust="always"
        )

    def move(self, seconds: float) -> None:
        self.now += seconds


class Ear:
    """Hears what the siren is to do."""

    def __init__(self) -> None:
        self.on = False

    def want(self, alarm: SirenInput | None) -> None:
        self.on = alarm is not None


class House:
    """A gateway with its journal and alarm log."""

    def __init__(
        self,
        tmp_path: Path,
        clock: Clock | None = None,
        health: dict[str, object] | None = None,
        button: dict[str, object] | None = None,
        report: Callable[[], dict[str, float]] = dict,
        sms: "SmsModem | None" = None,
        **rule: object,
    ) -> None:
        self.clock = clock or Clock(trust="always")
        self.siren = Ear()
        station = CONFIG["station"][0]
        rules = [station["rule"][0] | rule, *EXTRA_RULES]
        config = CONFIG | {
            "gateway": CONFIG["gateway"] | {"data_dir": str(tmp_path)},
            "station": [station | {"rule": rules}],
            "health": health or {"disk_free_percent": False},
            "outputs": CONFIG["outputs"] | ({"button": button} if button else {}),
        }
        if sms is not None:
            config |= {"outputs": {"sms": {"port": "unused", "recipient": [{"id": "tech", "phone": "+32470000003"}]}}}
        self.journal = Journal(tmp_path / "journal", self.clock)
        self.alarms = AlarmLog(tmp_path / "alarms.db")
        settings = EdgeConfig.model_validate(config)
        self.gateway = Gateway(settings, self.clock, self.journal, self.alarms, siren=self.siren)
        self.gateway.report(report)
        if sms is not None:
            self.gateway.report(sms.health)
        self.journal.open()
        self.gateway.recover(self.alarms.open())
        self.gateway.start()

    def measure(self, value: float, *side: Field) -> None:
        fields = (Field("water_distance", value, "m"),)
        self.gateway.post(Sample("hoyoux-test", "level-1", self.clock.wall(), self.clock.boot(), fields, side))

    def raised(self, value: float = 1.5) -> str:
        """Measure a level and give its occurrence."""
        self.measure(value)
        servers.wait_until(lambda: len(self.alarms.active().active) == 1, 10, "a raise")
        return self.alarms.active().active[0].occurrence

    def close(self) -> None:
        self.gateway.stop()
        self.journal.close()
        self.alarms.close()


def events(house: House) -> list[AlarmEvent]:
    return [AlarmEvent.model_validate_json(payload) for _, payload in house.alarms.unreceipted()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def test_an_acknowledgement_for_less_than_it_is_by_now_is_refused(house: House) -> None:
    house.measure(1.5)
    servers.wait_until(lambda: len(house.alarms.active().active) == 1, 10, "a raise")
    occurrence = house.alarms.active().active[0].occurrence
    house.measure(3.5)
    servers.wait_until(lambda: house.alarms.active().active[0].level == 3, 10, "an escalation")
    ack = {"id": "1", "occurrence": occurrence, "by": "maire", "at": "2026-07-14T16:05:00+00:00"}
    with pytest.raises(WireError, match="is at level 3 by now, acknowledged was level 1"):
        house.gateway.command("ack", ack | {"level": 1})
    assert house.alarms.active().active[0].state == "UNACK"
    assert house.gateway.command("ack", ack | {"level": 3}) == {"occurrence": occurrence, "state": "ACK"}
    with pytest.raises(WireError, match="not active here"):
        house.gateway.command("ack", ack | {"occurrence": "another"})


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("ack", {"id": "1", "by": "maire", "at": "x"}, "occurrence: Field required"),
        ("ack", {"id": "1", "occurrence": "x", "by": "", "at": "x"}, "by: String should have at least 1 character"),
        ("resend", {"id": "1", "journal": "other", "first": 1, "last": 2}, "journal 'other', this one is"),
        ("resend", {"id": "1", "journal": "other", "first": True, "last": 2}, "first"),
        ("shelve", {"id": "1", "occurrence": "x", "by": "maire", "at": "x"}, "until: Field required"),
        ("shelve", {"id": "1", "occurrence": "x", "by": "maire", "at": "x", "until": None}, "x is not active here"),
        ("reset", {"id": "1", "occurrence": "x", "by": "maire", "at": "x"}, "x is not active here"),
        ("reboot", {"id": "1"}, "command 'reboot' is unknown, expected ack, shelve, reset, resend, read"),
    ],
)
def test_a_bad_command_names_what_is_wrong(
    house: House, name: str, arguments: dict[str, object], expected: str
) -> None:
    with pytest.raises(WireError, match=expected):
        house.gateway.command(name, arguments)


def test_a_record_from_before_the_newest_value_ends_no_alarm_and_is_kept(house: House) -> None:
    house.measure(1.5)
    servers.wait_until(lambda: len(house.alarms.active().active) == 1, 10, "a raise")
    wall, boot = house.clock.wall() - 3600, house.clock.boot() - 3600
    house.gateway.post(Sample("hoyoux-test", "level-1", wall, boot, (Field("water_distance", 0.5, "m"),)))
    servers.wait_until(lambda: house.journal.head == 2, 10, "the record is kept")
    house.measure(3.5)
    servers.wait_until(lambda: any(a.level == 3 for a in house.alarms.active().active), 10, "an escalation")
    assert [e.transition for e in events(house)] == ["raise", "escalate"]


def test_an_alarm_goes_out_although_another_process_took_its_number(house: House, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "alarms.db")
    db.execute(
        "INSERT INTO event (seq, id, occurrence, rule, payload, boot_id, boot_s, received)"
        " VALUES (1, 'x', 'x', 'x', '{\"state\": \"NORMAL\"}', 'x', 0, 1)"
    )
    db.commit()
    db.close()
    house.measure(1.5)
    servers.wait_until(lambda: len(house.alarms.unreceipted()) == 1, 10, "the raise is logged")
    assert [event.seq for event in house.alarms.active().active] == [2]


def test_a_fault_in_a_command_is_answered_and_the_data_path_goes_on(house: House) -> None:
    house.gateway.told(None, ())  # type: ignore[arg-type]  # raises in the data path, where nobody waits for it
    house.measure(1.5)
    servers.wait_until(lambda: len(house.alarms.active().active) == 1, 10, "a raise all the same")


def command(house: House, name: str, occurrence: str, **more: object) -> dict[str, Any]:
    at = rfc3339(house.clock.wall())
    return house.gateway.command(name, {"id": name, "occurrence": occurrence, "by": "planificateur", "at": at} | more)


def test_a_shelved_alarm_is_silent_here_goes_on_and_comes_back(house: House) -> None:
    occurrence = house.raised()
    servers.wait_until(lambda: house.siren.on, 10, "the siren sounds")
    until = rfc3339(house.clock.wall() + 3600)
    for _ in range(2):  # central repeats itself until it has the event
        answer = command(house, "shelve", occurrence, until=until, why="travaux")
        assert answer == {"occurrence": occurrence, "state": "UNACK"}
    servers.wait_until(lambda: not house.siren.on, 10, "the siren is silent")
    house.measure(3.5)
    servers.wait_until(lambda: house.alarms.active().active[0].level == 3, 10, "an escalation")
    assert not house.siren.on
    assert house.alarms.announcements() == [], "no SMS"
    command(house, "shelve", occurrence, until=None)
    servers.wait_until(lambda: house.siren.on, 10, "the siren sounds again")
    servers.wait_until(lambda: len(events(house)) == 4, 10, "it is logged")
    told = [(e.transition, e.state, e.level, e.withheld) for e in events(house)]
    assert told == [
        ("raise", "UNACK", 1, None),
        ("shelve", "UNACK", 1, "shelved"),
        ("escalate", "UNACK", 3, "shelved"),
        ("unshelve", "UNACK", 3, None),
    ]
    assert (events(house)[1].until, events(house)[1].note) == (until, "travaux")
    assert [a.event.transition for a in house.alarms.announcements()] == ["unshelve"]


def test_a_press_acknowledges_what_was_heard_and_nothing_later(house: House) -> None:
    occurrence = house.raised()
    servers.wait_until(lambda: house.siren.on, 10, "the siren sounds")
    early = house.clock.boot()
    house.measure(3.5)
    servers.wait_until(lambda: house.alarms.active().active[0].level == 3, 10, "an escalation")
    house.gateway.pressed(early)  # a finger on its way while it became worse
    house.gateway.present()
    assert house.siren.on
    house.gateway.pressed(house.clock.boot())
    servers.wait_until(lambda: not house.siren.on, 10, "the siren is silent")
    servers.wait_until(lambda: len(events(house)) == 3, 10, "it is logged")
    event = events(house)[-1]
    assert (event.occurrence, event.transition, event.by) == (occurrence, "ack", "bouton gw-test-01")
    house.gateway.pressed(house.clock.boot())
    house.gateway.present()
    assert len(events(house)) == 3, "nothing to acknowledge"


def test_a_button_that_is_broken_is_an_alarm_of_the_gateway(tmp_path: Path) -> None:
    house = House(tmp_path, button={"driver": "gpio", "pin": 27}, report=lambda: {"button_fault": 1.0})
    servers.wait_until(lambda: house.alarms.active().active, 10, "an alarm")
    (event,) = house.alarms.active().active
    assert (event.kind, event.level, event.quantity, event.station) == ("system", 1, "button_fault", None)
    house.close()


@pytest.mark.parametrize("until", ["soon", "2026-01-01T00:00:00+00:00", "2199-01-01T00:00:00+00:00"])
def test_a_shelf_needs_an_end_within_a_day(house: House, until: str) -> None:
    with pytest.raises(WireError, match=r"until: found .*expected (RFC 3339|later than)"):
        command(house, "shelve", house.raised(), until=until)


def test_a_shelf_outlives_a_restart(tmp_path: Path) -> None:
    house = House(tmp_path)
    command(house, "shelve", house.raised(), until=rfc3339(house.clock.wall() + 3600))
    house.close()
    house = House(tmp_path)
    house.measure(2.5)
    servers.wait_until(lambda: house.alarms.active().active[0].level == 2, 10, "an escalation")
    assert house.alarms.active().active[0].withheld == "shelved"
    assert not house.siren.on
    house.close()


def test_a_latched_alarm_is_let_go_by_a_person(tmp_path: Path) -> None:
    house = House(tmp_path, latching=True)
    occurrence = house.raised()
    house.measure(0.5)
    servers.wait_until(lambda: house.alarms.active().active[0].state == "RTN_UNACK", 10, "its return")
    with pytest.raises(WireError, match="RTN_UNACK at level 0, expected one that has returned and was acknowledged"):
        command(house, "reset", occurrence)
    assert command(house, "ack", occurrence)["state"] == "RTN_UNACK"
    assert command(house, "reset", occurrence)["state"] == "NORMAL"
    servers.wait_until(lambda: house.alarms.active().active == (), 10, "it is over")
    house.close()


def test_a_battery_of_the_sensor_alarms_untold_while_the_water_is_high(house: House) -> None:
    house.measure(0.5, Field("battery_voltage", 3.3, "V"), Field("tilt", "upright", ""))
    servers.wait_until(lambda: house.siren.on and house.alarms.active().active, 10, "the battery's alarm")
    occurrence = house.alarms.active().active[0].occurrence
    command(house, "ack", occurrence)
    house.measure(1.5)
    servers.wait_until(lambda: any(e.transition == "suppress" for e in events(house)), 10, "it is suppressed")
    house.measure(0.5)
    servers.wait_until(lambda: any(e.transition == "unsuppress" for e in events(house)), 10, "and no more")
    battery = [(e.transition, e.state, e.by) for e in events(house) if e.rule == "battery"]
    assert battery == [
        ("raise", "UNACK", None),
        ("ack", "ACK", "planificateur"),
        ("suppress", "ACK", "high"),
        ("unsuppress", "UNACK", None),
    ]


def test_other_thresholds_hold_from_their_belgian_day_on(tmp_path: Path) -> None:
    hands = Hands(datetime(2026, 10, 31, 23, 59, 50, tzinfo=BRUSSELS).timestamp())
    house = House(tmp_path, hands.clock, dated=[{"from": "2026-11-01", "levels": [0.3]}])
    house.measure(0.5)
    servers.wait_until(lambda: house.journal.head == 1, 10, "a reading")
    hands.move(15)
    servers.wait_until(lambda: house.gateway.day == date(2026, 11, 1), 10, "the day begins")
    house.raised(0.5)
    assert house.alarms.active().active[0].threshold == 0.3
    house.close()


def test_what_is_out_of_service_tells_nobody_until_it_is_back(tmp_path: Path) -> None:
    sensor = CONFIG["station"][0]["sensor"][0]
    house = House(tmp_path)
    house.raised()
    house.close()
    CONFIG["station"][0]["sensor"][0] = sensor | {"out_of_service": True}
    try:
        house = House(tmp_path)
        house.measure(2.5)
        servers.wait_until(lambda: house.alarms.active().active[0].level == 2, 10, "an escalation")
        assert not house.siren.on
        house.close()
    finally:
        CONFIG["station"][0]["sensor"][0] = sensor
    house = House(tmp_path)
    servers.wait_until(lambda: house.siren.on and len(events(house)) == 4, 10, "the siren, and the log of it")
    told = [(e.transition, e.state, e.withheld) for e in events(house)]
    assert told == [
        ("raise", "UNACK", None),
        ("out_of_service", "UNACK", "out_of_service"),
        ("escalate", "UNACK", "out_of_service"),
        ("in_service", "UNACK", None),
    ]
    house.close()


def test_a_gateway_alarms_about_itself_until_it_is_well_and_over_a_restart(tmp_path: Path) -> None:
    full = {"disk_free_percent": 99.99}
    house = House(tmp_path, health=full)
    servers.wait_until(lambda: house.alarms.active().active, 10, "the disk's alarm")
    (event,) = house.alarms.active().active
    assert (event.rule, event.kind, event.station, event.sensor) == (
        "gw-test-01-disk-free-percent",
        "system",
        None,
        None,
    )
    assert (event.quantity, event.unit, event.threshold, event.level) == ("disk_free_percent", None, 99.99, 1)
    assert "son disque est presque plein" in texts.sms(event, None)
    assert "passerelle gw-test-01" in texts.sms(event, None)
    command(house, "ack", event.occurrence)
    house.close()
    house = House(tmp_path, health=full)
    assert [e.transition for e in events(house)] == ["raise", "ack"], "no second raise"
    house.close()
    house = House(tmp_path, health={"disk_free_percent": 0.001})
    servers.wait_until(lambda: house.alarms.active().active == (), 10, "it is well")
    house.close()


def test_readings_that_central_does_not_confirm_are_an_alarm(tmp_path: Path) -> None:
    hands = Hands(datetime(2026, 11, 24, 12, tzinfo=BRUSSELS).timestamp())
    house = House(tmp_path, hands.clock, health={"disk_free_percent": False})
    names = [rule.quantity for rule in house.gateway._watch.own.rules]
    assert "unconfirmed_s" not in names, "without a broker nobody confirms"
    health = {r["n"]: r["v"] for r in house.gateway._health(hands.clock.boot())}
    assert health["unconfirmed_s"] == 0
    house.measure(0.5)
    servers.wait_until(lambda: house.journal.head == 1, 10, "a reading")
    house.gateway._health(hands.clock.boot())
    hands.move(600)
    assert {r["n"]: r["v"] for r in house.gateway._health(hands.clock.boot())}["unconfirmed_s"] == 600
    assert house.journal.form(1, 1, "live", allow_estimated=True) is not None
    assert house.journal.receipt(1, 1)
    assert {r["n"]: r["v"] for r in house.gateway._health(hands.clock.boot())}["unconfirmed_s"] == 0
    house.close()


class SmsModem:
    """What the watch over a modem says."""

    def __init__(self) -> None:
        self.unusable = 1.0

    def health(self) -> dict[str, float]:
        return {"sms_unusable": self.unusable}


def test_a_modem_that_cannot_send_for_ten_minutes_is_an_alarm_that_a_restart_does_not_end(tmp_path: Path) -> None:
    hands = Hands(datetime(2026, 11, 24, 12, tzinfo=BRUSSELS).timestamp())
    modem = SmsModem()
    house = House(tmp_path, hands.clock, health={"disk_free_percent": False}, sms=modem)

    def minutes(count: int) -> list[AlarmEvent]:
        for _ in range(count):
            due = house.gateway._next_health_s
            hands.move(60)
            servers.wait_until(lambda due=due: house.gateway._next_health_s > due, 10, "health of this minute")
        house.gateway.present()
        house.gateway.present()  # the data path went round since, so what was judged is logged
        return [e for e in events(house) if e.quantity == "sms_unusable"]

    assert minutes(9) == []
    (event,) = minutes(2)
    assert (event.transition, event.kind) == ("raise", "system")
    assert "son modem ne peut pas envoyer de SMS" in texts.sms(event, None)
    house.close()
    house = House(tmp_path, hands.clock, health={"disk_free_percent": False}, sms=modem)
    assert minutes(2) == [event]
    modem.unusable = 0.0
    assert [e.transition for e in minutes(2)] == ["raise", "clear"]
    house.close()


def test_an_alarm_or_a_rise_towards_one_hurries_the_gateway_and_calm_comes_back_later(tmp_path: Path) -> None:
    hands = Hands(1_750_000_000.0)
    house = House(tmp_path, hands.clock)

    def measured(value: float) -> None:
        hands.move(60)
        house.measure(value)
        servers.wait_until(lambda: house.journal.head == house_head[0] + 1, 10, "taken")
        house_head[0] += 1
        house.gateway.present()  # the batch before this call is done
        house.gateway.present()

    house_head = [0]
    for _ in range(30):
        measured(0.2)
    assert not house.gateway.hurried, "still water"
    for i in range(10):
        measured(0.2 + 0.01 * i)  # 0.6 an hour: at 1 in less than three
    assert house.gateway.hurried
    assert house.alarms.active().active == (), "no alarm yet"
    for _ in range(60):
        measured(0.3)
    assert not house.gateway.hurried, "still again"
    house.raised(1.5)
    assert house.gateway.hurried, "at once"
    for _ in range(30):
        measured(1.5)
    assert house.gateway.hurried, "as long as it stands"
    house.close()


def test_a_data_path_that_is_stuck_is_not_alive_and_is_again_when_it_goes_on(house: House) -> None:
    """What feeds systemd's watchdog: with a broker that is away it was alive all the time."""
    let_go, entered = threading.Event(), threading.Event()
    servers.wait_until(lambda: house.gateway.alive(5), 10, "the first round")
    house.gateway._ask(lambda: (entered.set(), let_go.wait()))
    assert entered.wait(10)
    servers.wait_until(lambda: not house.gateway.alive(1), 10, "found stuck")
    let_go.set()
    servers.wait_until(lambda: house.gateway.alive(1), 10, "found alive")


def test_what_waits_for_a_disk_is_bounded_the_oldest_go_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, house.journal._fd)  # the kernel says ENOSPC to every write
    os.close(full)
    (tmp_path / "journal" / "reserve").unlink()

    def keep(first: int, count: int) -> None:
        rows = [
            NewRow("hoyoux-test/level-1/water_distance", float(first + i), 1, 1.8e9, 1000.0 + i) for i in range(count)
        ]
        house.gateway._call(lambda: house.gateway._keep(rows))

    keep(0, MAX_UNWRITTEN)
    assert (house.gateway.in_memory, house.gateway._given_up) == (MAX_UNWRITTEN, 0)
    keep(MAX_UNWRITTEN, 30)
    keep(MAX_UNWRITTEN + 30, 70)
    assert house.gateway.in_memory == MAX_UNWRITTEN
    assert [house.gateway._unwritten[i].value for i in (0, -1)] == [100.0, MAX_UNWRITTEN + 99.0]
    assert house.gateway._call(lambda: {r["n"]: r["v"] for r in house.gateway._health(0)})["readings_given_up"] == 100
    assert sum("memory is full" in record.message for record in caplog.records) == 1
    house.close()


def test_readings_of_before_a_start_have_waited_since_it(tmp_path: Path) -> None:
    hands = Hands(datetime(2026, 11, 24, 12, tzinfo=BRUSSELS).timestamp())
    house = House(tmp_path, hands.clock)
    house.measure(0.5)
    servers.wait_until(lambda: house.journal.head == 1, 10, "a reading")
    house.close()
    house = House(tmp_path, hands.clock)
    house.gateway.present()  # its first health was told before
    hands.move(60)
    assert {r["n"]: r["v"] for r in house.gateway._health(hands.clock.boot())}["unconfirmed_s"] == 60
    house.close()
