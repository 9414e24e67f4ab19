"""A level that spikes, sticks and then floods, through the real gateway: what each reading is flagged, and who is told."""

import contextlib
import json
import math
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.journal import Journal, Row
from tests import servers
from tests.chain import Program
from wire.alarm import AlarmEvent

pytestmark = pytest.mark.system

SCALE = 60

EDGE = """
[gateway]
id = "gw-test-01"
data_dir = "{tmp}/edge"
[mqtt]
host = "127.0.0.1"
port = {broker}
[[station]]
id = "hoyoux-test"
name = "Huy, pont du Hoyoux"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{tmp}/ttyLEVEL"
period_s = 0
stale_after_s = 300
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
flat_line = {{ water_level = {{ tolerance = 0.001, suspect_s = 1500, fail_s = 1740 }} }}
[[station.rule]]
id = "high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [1.2]
on_delay_s = 60
"""


class Listener:
    """What central would hear of health and alarms."""

    def __init__(self, port: int) -> None:
        self.health: dict[str, float] = {}
        self.alarms: list[AlarmEvent] = []
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("maillages/v1/#", 1)
        self._client.loop_start()

    def _heard(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.endswith("/health"):
            self.health |= {record["n"]: record["v"] for record in json.loads(message.payload)}
        if message.topic.endswith("/alarms"):
            self.alarms.append(AlarmEvent.model_validate_json(message.payload))

    def told(self, rule: str, transition: str) -> bool:
        return any(e.rule == rule and e.transition == transition for e in self.alarms)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Water:
    """The true level at the device: calm with ripples, and whatever is done to it."""

    def __init__(self) -> None:
        self.how = "calm"
        self._frame = 0
        self._flood = 0.5

    def distance_m(self, _wall_s: float) -> float:
        self._frame += 1
        level = 0.5 + 0.003 * math.sin(self._frame)
        if self.how == "spike":
            self.how, level = "calm", 1.6
        elif self.how == "stuck":
            level = 0.512
        elif self.how == "flood":
            self._flood = level = min(self._flood + 0.05, 1.9)
        return 5.0 - level


@pytest.mark.timeout(300)
def test_a_spike_tells_nobody_a_stuck_level_is_lost_and_a_flood_is_believed(tmp_path: Path) -> None:
    boot, wall = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
    clock = Clock(scale=SCALE, origin_boot=boot, origin_wall=wall)
    water, log = Water(), DeviceLog()
    device = Mb7389(
        tmp_path / "ttyLEVEL", "hoyoux-test/level-1", water.distance_m, clock=clock, log=log, interval_s=0.1
    )
    config = tmp_path / "edge.toml"
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        config.write_text(EDGE.format(tmp=tmp_path, broker=broker.port))
        central = Listener(broker.port)
        ends.callback(central.stop)
        device.start()
        ends.callback(device.stop)
        edge = Program("maillages-edge", config, tmp_path / "edge.log")
        edge.command += ["--exercise-clock", f"{SCALE},{boot},{wall}"]
        edge.start()
        ends.callback(edge.kill9)

        def health(test: str) -> float:
            return central.health.get(f"hoyoux-test/level-1/water_level/qc_{test}", 0)

        def sent(count: int) -> None:
            already = len(log.sent())
            servers.wait_until(lambda: len(log.sent()) >= already + count, 20, "frames")

        servers.wait_until(lambda: "journal_head" in central.health, 20, "health")
        sent(20)
        water.how = "spike"
        servers.wait_until(lambda: health("spike") == 1, 20, "a spike in health")
        water.how = "stuck"
        sent(80)
        edge.kill9()
        edge.start()
        servers.wait_until(
            lambda: any(e.kind == "stale" and e.transition == "raise" for e in central.alarms), 60, "stale"
        )
        assert health("flat_line") > 0
        assert not central.told("high", "raise"), "neither the spike nor what is stuck is high water"
        water.how = "flood"
        servers.wait_until(lambda: central.told("high", "raise"), 20, "high water")
        servers.wait_until(
            lambda: any(e.kind == "stale" and e.transition == "clear" for e in central.alarms), 20, "measured again"
        )
        assert edge.terminate() == 0
    rows = journaled(tmp_path / "edge" / "journal", clock)
    spike = next(row for row in rows if row.value == 1.6)
    assert spike.qc == 3
    stuck = [row.qc for row in rows if row.value == 0.512]
    print({flag: stuck.count(flag) for flag in set(stuck)})
    assert stuck == sorted(stuck), "1, then 3, then 4, over the restart"
    assert set(stuck) == {1, 3, 4}
    flood = [row.qc for row in rows if row.value > 0.53 and row is not spike]
    print({flag: flood.count(flag) for flag in set(flood)})
    assert flood[0] == 3
    assert set(flood) <= {1, 3}


def journaled(path: Path, clock: Clock) -> list[Row]:
    journal = Journal(path, clock)
    journal.open()
    rows = journal.rows(1, journal.head)
    journal.close()
    return rows
