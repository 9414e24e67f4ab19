"""Central sends a gateway its configuration: signed, tried, kept or rolled back; both processes, a real broker, a real sensor port."""

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from central.commands import load_key
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from tests import servers
from tests.chain import Program
from tests.system.test_acknowledgement import central_command
from wire.command import signed_bytes

pytestmark = pytest.mark.system

STATION = """
[[station]]
id = "hoyoux-test"
name = "Hoyoux"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{tmp}/ttyLEVEL"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
[[station.rule]]
id = "high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [1.8, 2.5]
"""
EDGE = """
[gateway]
id = "gw-test-01"
data_dir = "{tmp}/edge"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
central_key = "{key}"
"""
CENTRAL = """
data_dir = "{tmp}/central"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "embedded"
[commands]
key = "{tmp}/commands.pem"
[[station]]
id = "hoyoux-test"
gateway = "gw-test-01"
name = "Hoyoux"
commune = "61031"
"""


class Pair:
    """A gateway with a range finder, a broker, central."""

    def __init__(self, tmp: Path, ends: contextlib.ExitStack, *, station: str = "", mqtt: str = "") -> None:
        """`station`, `mqtt`: more of these sections of edge.toml."""
        self.tmp = tmp
        self.key = central_command("keygen", str(tmp / "commands.pem")).stdout.strip()
        self.broker = ends.enter_context(servers.mosquitto(tmp))
        level = Mb7389(tmp / "ttyLEVEL", "level", lambda _: 4.0, clock=Clock(), log=DeviceLog(), interval_s=0.1)
        level.start()
        ends.callback(level.stop)
        self.station = STATION.format(tmp=tmp) + station
        self.own, self.config = tmp / "edge.toml", tmp / "central.toml"
        self.own.write_text(EDGE.format(tmp=tmp, broker=self.broker.port, key=self.key) + mqtt + self.station)
        self.config.write_text(CENTRAL.format(tmp=tmp, broker=self.broker.port))
        self.central = Program("maillages-central", self.config, tmp / "central.log")
        self.edge = Program("maillages-edge", self.own, tmp / "edge.log")
        for program in (self.central, self.edge):
            program.start()
            ends.callback(program.kill9)
        servers.wait_until(lambda: self.edge.said("uplink: connected") > 0, 30, "the gateway is connected")
        servers.wait_until(lambda: self.central.said("central-alarms: connected") > 0, 30, "central is connected")

    def push(self, text: str):
        file = self.tmp / "pushed.toml"
        file.write_text(text)
        return central_command(
            "config", "push", "gw-test-01", str(file), "--by", "Anne", "--yes", "-c", str(self.config)
        )

    def history(self) -> str:
        return central_command("config", "history", "gw-test-01", "-c", str(self.config)).stdout

    def running(self) -> str:
        return (self.tmp / "edge/config/running.toml").read_text()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as ends:
        yield Pair(tmp_path, ends)


def test_a_configuration_is_sent_tried_and_kept_and_what_is_wrong_comes_back(pair: Pair) -> None:
    done = pair.push(pair.station.replace("1.8, 2.5", "0.8, 2.5"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gw-test-01: version 1 running" in done.stdout
    servers.wait_until(lambda: pair.edge.said("alarm high: raise to level 1") == 1, 10, "the new threshold counts")

    done = pair.push(pair.station.replace("1.8, 2.5", "0.7, 2.5").replace('"maxbotix"', '"maxbotics"'))
    assert done.returncode == 1
    assert "station hoyoux-test, sensor level-1: driver: maxbotix -> maxbotics" in done.stdout
    assert "sensor hoyoux-test/level-1: driver 'maxbotics' is unknown" in done.stderr
    done = pair.push(pair.station.replace("ttyLEVEL", "ttyNOBODY"))
    assert done.returncode == 1
    assert "sensor hoyoux-test/level-1 gave no value in 10 s" in done.stderr
    assert [line.split()[0] for line in pair.history().splitlines()] == ["version", "1", "2", "3"]
    assert [word in pair.history() for word in ("running", "refused", "rolled-back", "Anne")] == [True] * 4

    # What was sent goes on after a restart, and nothing of it is tried again.
    assert pair.edge.terminate() == 0
    pair.edge.start()
    servers.wait_until(lambda: pair.edge.said("uplink: connected") > 1, 30, "connected again")
    assert "[0.8, 2.5]" in pair.running()


def test_what_is_not_signed_or_older_or_a_secret_is_refused(pair: Pair) -> None:
    done = pair.push('[outputs.sms]\nport = "/dev/x"\npin = "1234"\n' + pair.station)
    assert done.returncode == 2
    assert "outputs.sms.pin: found, expected none" in done.stderr
    assert pair.push(pair.station.replace("1.8, 2.5", "0.8, 2.5")).returncode == 0
    assert pair.push(pair.station.replace("1.8, 2.5", "0.9, 2.5")).returncode == 0
    key = load_key(pair.tmp / "commands.pem")
    topic = "maillages/v1/gw-test-01/config"
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", pair.broker.port)
    client.loop_start()
    body = {"version": 1, "made": "2026-11-25T00:00:00Z", "by": "Eve", "text": pair.station}
    old, forged = json.dumps(body).encode(), json.dumps(body | {"version": 9}).encode()
    for payload, signature in ((old, key.sign(signed_bytes(topic, old))), (forged, b"0" * 64)):
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("signature", base64.b64encode(signature).decode())]
        client.publish(topic, payload, qos=1, properties=properties).wait_for_publish(5)
    servers.wait_until(lambda: pair.edge.said("the signature is not central's") == 1, 10, "the forged is refused")
    servers.wait_until(
        lambda: pair.edge.said("version: found 1, expected more than 2, which this gateway has had") == 1, 10, "the old"
    )
    client.disconnect()
    client.loop_stop()
    assert "[0.9, 2.5]" in pair.running()

    # Whoever changes it on site afterwards is right.
    pair.own.write_text(pair.own.read_text().replace("1.8, 2.5", "0.6, 2.5"))
    assert pair.edge.terminate() == 0
    pair.edge.start()
    servers.wait_until(lambda: "replaced" in pair.history(), 30, "central knows")
    assert "[0.6, 2.5]" in pair.running()
