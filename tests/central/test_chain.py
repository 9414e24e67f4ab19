"""How the chain is, by the minute: a gateway that is away has a row, zero is a value, what the broker does not say is left out."""

from pathlib import Path

import pytest

from central.chain import Chain
from central.db import Database
from central.holding import Holding
from central.mqtt import Received
from common.clock import Clock
from wire.station import GatewayStatus

T0 = 1_784_000_000.0


class Scene:
    def __init__(self, path: Path) -> None:
        self.now = T0
        self.db = Database(path / "central.db")
        self.db.open()
        self.holding = Holding(self.db)
        self.chain = Chain(
            ["gw-2", "gw-1"], self.holding, self.db, Clock(walltime=lambda: self.now, boottime=lambda: self.now)
        )

    def hear(self, topic: str, payload: bytes = b"", *, retained: bool = False) -> bool:
        return self.chain.heard(Received(topic, payload, None, None, {}, retained, 1, 0))

    def rows(self) -> dict[str, dict[str, float | int | str]]:
        return {dict(p.series.tags).get("gateway", "central"): dict(p.fields) for p in self.chain.points()}


@pytest.fixture
def scene(tmp_path: Path):
    made = Scene(tmp_path)
    yield made
    made.db.close()


def test_a_gateway_that_was_never_heard_has_a_row_all_the_same(scene: Scene) -> None:
    assert scene.rows()["gw-1"] == {"online": 0}
    scene.holding.set_status(
        "gw-1", GatewayStatus(online=True, boot="b", version="1", since="2026-07-14T00:00:00Z"), T0
    )
    assert scene.hear("maillages/v1/gw-1/readings")
    scene.now += 40
    assert scene.rows()["gw-1"] == {"online": 1, "heard_s": 40.0}


def test_the_brokers_voice_is_not_the_gateways(scene: Scene) -> None:
    assert scene.hear("maillages/v1/gw-1/status", b'{"online": false}')
    assert scene.hear("maillages/v1/gw-1/active", b"{}", retained=True)
    assert scene.rows()["gw-1"] == {"online": 0}


def test_the_delay_is_the_longest_of_the_minute_and_of_live_readings_only(scene: Scene) -> None:
    scene.chain.stored("gw-1", "live", round((T0 - 2) * 1000))
    scene.chain.stored("gw-1", "live", round((T0 - 7) * 1000))
    scene.chain.stored("gw-1", "backlog", round((T0 - 9000) * 1000))
    scene.chain.stored("gw-2", "live", round((T0 + 1) * 1000))  # a clock that is ahead
    rows = scene.rows()
    assert (rows["gw-1"]["delay_s"], rows["gw-2"]["delay_s"]) == (7.0, 0.0)
    assert "delay_s" not in scene.rows()["gw-1"], "nothing new is no delay"


def test_what_the_broker_says_of_itself_goes_nowhere_else_and_grows_old(scene: Scene) -> None:
    assert not scene.hear("$SYS/broker/publish/messages/dropped", b"0")
    assert not scene.hear("$SYS/broker/uptime", b"86400 seconds")
    assert not scene.hear("$SYS/broker/clients/connected", b"many")
    row = scene.rows()["central"]
    assert (row["broker_dropped"], row["broker_uptime_s"]) == (0.0, 86400.0)
    assert "broker_clients" not in row
    assert row["alarms_open"] == row["messages_waiting"] == 0
    scene.now += 3601
    assert "broker_dropped" not in scene.rows()["central"], "stale is not told as fresh"
