"""The gateway's data path and its commands, in this process, without devices."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clock import Clock
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig
from edge.gateway import Gateway
from edge.journal import Journal
from edge.sample import Sample
from edge.sensors.base import Field
from tests import servers
from wire.alarm import AlarmEvent
from wire.errors import WireError

CONFIG = {
    "gateway": {"id": "gw-test-01", "data_dir": "unused"},
    "station": [
        {
            "id": "hoyoux-test", "name": "Essai", "commune": "61031", "lat": 50.5, "lon": 5.2,
            "sensor": [{"id": "level-1", "driver": "maxbotix", "port": "unused", "period_s": 0}],
            "rule": [
                {"id": "high", "kind": "high", "sensor": "level-1", "quantity": "water_distance", "levels": [1, 2, 3]}
            ],
        }
    ],
}  # fmt: skip


class House:
    """A gateway with its journal and alarm log."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = Clock(trust="always")
        self.journal = Journal(tmp_path / "journal", self.clock)
        self.alarms = AlarmLog(tmp_path / "alarms.db")
        self.gateway = Gateway(EdgeConfig.model_validate(CONFIG), self.clock, self.journal, self.alarms)
        self.journal.open()
        self.gateway.recover(self.alarms.open())
        self.gateway.start()

    def measure(self, value: float) -> None:
        self.gateway.post(
            Sample(
                "hoyoux-test", "level-1", self.clock.wall(), self.clock.boot(), (Field("water_distance", value, "m"),)
            )
        )

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
        ("reboot", {"id": "1"}, "command 'reboot' is unknown, expected ack or resend"),
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
