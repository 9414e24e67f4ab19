"""What a technician orders of a gateway from central: both processes, a real broker, a stream and a Modbus line on ptys."""

import base64
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from central.commands import load_key
from central.db import Database
from central.holding import Holding
from central.orders import Orders
from common.clock import Clock, rfc3339
from edge.emulators.log import DeviceLog
from edge.emulators.rs485 import Rs485Line
from edge.emulators.senseair_s8 import SenseairS8
from tests import servers
from tests.system.test_acknowledgement import central_command
from tests.system.test_push import Pair
from wire.command import signed_bytes

pytestmark = pytest.mark.system

CO2 = """
[[station.sensor]]
id = "co2"
driver = "senseair_s8"
port = "{tmp}/ttyCO2"
period_s = 600
"""
RAW = "FE 04 00 03 00 01 D5 C5"
"""Read input register 3: the CO2 in ppm."""


class Eve:
    """Somebody at the broker, with what she heard there; with `key`, who signs as central does."""

    def __init__(self, port: int, key: Ed25519PrivateKey) -> None:
        self.heard: list[tuple[str, bytes, dict[str, str]]] = []
        self._key = key
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda _c, _u, m: self.heard.append(
            (m.topic, m.payload, dict(getattr(m.properties, "UserProperty", [])))
        )
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("maillages/v1/gw-test-01/cmd/#", 1), ("maillages/v1/gw-test-01/status", 1)])
        self._client.loop_start()

    @property
    def status(self) -> list[bytes]:
        """What the gateway said of itself."""
        return [payload for topic, payload, _ in self.heard if topic.endswith("/status")]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, topic: str, payload: bytes, signature: str | None = None) -> str:
        """Publish it, signed by the key unless a signature is given; the error that is answered."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.MessageExpiryInterval = 60
        signature = signature or base64.b64encode(self._key.sign(signed_bytes(topic, payload))).decode()
        properties.UserProperty = [("signature", signature)]
        before = len(self.answers(topic))
        self._client.publish(topic, payload, qos=1, properties=properties).wait_for_publish(10)
        servers.wait_until(lambda: len(self.answers(topic)) > before, 20, f"an answer to {payload!r}")
        return str(self.answers(topic)[-1].get("error"))

    def answers(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for heard, payload, _ in self.heard if heard == f"{topic}/result"]


def order(pair: Pair, *words: str) -> subprocess.CompletedProcess[str]:
    return central_command("gateway", *words, "--by", "Anne", "-c", str(pair.config))


@pytest.mark.timeout(240)
def test_orders_are_done_once_in_time_and_answered(tmp_path: Path) -> None:
    ppm, log = {"co2": 500.0}, DeviceLog()
    line = Rs485Line(tmp_path / "ttyCO2", [SenseairS8("hoyoux-test/co2", lambda _: ppm)], clock=Clock(), log=log)
    with contextlib.ExitStack() as ends:
        line.start()
        ends.callback(line.stop)
        pair = Pair(tmp_path, ends, station=CO2.format(tmp=tmp_path), mqtt="raw_commands = true\n")
        eve = Eve(pair.broker.port, load_key(tmp_path / "commands.pem"))
        ends.callback(eve.stop)
        servers.wait_until(lambda: bool(log.sent("hoyoux-test/co2")), 40, "the first poll, and the next in ten minutes")

        ppm["co2"] = 777.0
        done = order(pair, "read", "gw-test-01", "hoyoux-test")
        assert [row.split()[:3] for row in done.stdout.splitlines()[1:]] == [
            ["hoyoux-test/level-1", "water_level", "1"],
            ["hoyoux-test/co2", "co2", "777"],
        ], done.stderr
        done = order(pair, "raw", "gw-test-01", "hoyoux-test/co2", RAW, "--reply", "1", "--yes")
        assert done.stdout.startswith("FE 04 02 03 09"), done.stdout + done.stderr
        done = order(pair, "restart", "gw-test-01", "hoyoux-test/co2")
        assert "is opened anew" in done.stdout, done.stderr
        done = order(pair, "logs", "gw-test-01", "--lines", "40")
        assert "Anne orders: raw" in done.stdout
        assert done.stdout.count("\n") <= 40
        topic, payload, signed = next(heard for heard in eve.heard if heard[0].endswith("cmd/restart"))
        assert "was already given" in eve.say(topic, payload, signed["signature"])
        assert pair.edge.terminate() == 0
        servers.wait_until(lambda: not json.loads(eve.status[-1])["online"], 20, "it says that it goes")
        pair.edge.start()
        # It says so after it has subscribed.
        servers.wait_until(lambda: json.loads(eve.status[-1])["online"], 40, "online again")
        late = json.loads(payload) | {"id": "late", "until": rfc3339(Clock(trust="always").wall() - 1)}
        assert "nothing was done" in eve.say(topic, json.dumps(late).encode())
        far = json.loads(payload) | {"id": "far", "until": "2099-01-01T00:00:00+00:00"}
        assert "one of the two clocks is wrong" in eve.say(topic, json.dumps(far).encode())
        assert "not central's" in eve.say(topic, payload, "AAAA")
        unknown = topic.replace("restart", "format")
        assert "'format' is unknown, expected ack" in eve.say(unknown, b'{"id":"f"}')

        with state(pair) as db:
            ordered = Orders(db, Clock()).history("gw-test-01", 9)
        assert [(o.by, o.command, o.state) for o in ordered] == [
            ("Anne", name, "done") for name in ("logs", "restart", "raw", "read")
        ]
        assert pair.edge.terminate() == 0
        servers.wait_until(lambda: not json.loads(eve.status[-1])["online"], 20, "it says that it goes")
        servers.wait_until(lambda: not online(pair), 20, "central has heard so")
        done = order(pair, "restart", "gw-test-01", "hoyoux-test/co2")
        assert (done.returncode, "nothing was sent: gw-test-01 is offline since" in done.stderr) == (3, True)


@contextlib.contextmanager
def state(pair: Pair) -> Iterator[Database]:
    db = Database(pair.tmp / "central/central.db")
    db.open_read_only()
    try:
        yield db
    finally:
        db.close()


def online(pair: Pair) -> bool:
    with state(pair) as db:
        status = Holding(db).gateways()["gw-test-01"][1]
    return status is not None and status.online
