"""The uplink against a real broker: what it meets on the way must not end its thread, which carries the alarms."""

import logging
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.clock import Clock
from edge import config
from edge.alarm_log import AlarmLog
from edge.errors import ConfigError
from edge.journal import Journal, NewRow
from edge.uplink import Uplink, tls_context
from tests import servers
from wire import topics
from wire.station import Active, Stations

GATEWAY = "gw-test-01"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[servers.Mosquitto]:
    with servers.mosquitto(tmp_path / "broker", "allow_anonymous true") as running:
        yield running


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal", Clock(trust="always"))
    made.open()
    yield made
    made.close()


@pytest.fixture
def alarms(tmp_path: Path) -> Iterator[AlarmLog]:
    made = AlarmLog(tmp_path / "alarms.db")
    made.open()
    yield made
    made.close()


class Central:
    """A client that hears a gateway's readings and answers with receipts."""

    def __init__(self, port: int) -> None:
        self.packs: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="central", protocol=paho.MQTTv5)
        subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.client.on_message = lambda _c, _u, message: self.packs.put(message)
        self.client.on_subscribe = lambda *_: subscribed.put(None)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(topics.topic(GATEWAY, topics.READINGS), 1)
        subscribed.get(timeout=10)

    def receipt(self, pack: paho.MQTTMessage, *held: str) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = pack.properties.CorrelationData
        properties.UserProperty = [("held", number) for number in held]
        self.client.publish(topics.topic(GATEWAY, topics.RECEIPT), b"", qos=1, properties=properties)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def uplink(journal: Journal, alarms: Any, port: int, tls: config.Tls | None = None) -> Uplink:
    return Uplink(
        GATEWAY,
        config.Mqtt(host="127.0.0.1", port=port, tls=tls),
        config.Uplink(),
        Clock(trust="always"),
        journal,
        alarms,
        lambda: Stations(stations=()),
        lambda _name, _arguments: {},
    )


def take(journal: Journal, count: int) -> None:
    journal.synchronised(1_750_000_000_000)
    journal.append([NewRow("a/s/water_level", 1.0, 1, 1_750_000_001.0 + i, 1.0 + i) for i in range(count)])


def test_a_held_number_that_is_none_costs_only_itself(
    broker: servers.Mosquitto, journal: Journal, alarms: AlarmLog
) -> None:
    central = Central(broker.port)
    up = uplink(journal, alarms, broker.port)
    take(journal, 3)
    up.start()
    central.receipt(central.packs.get(timeout=10), "\N{SUPERSCRIPT TWO}", "9" * 5000, "77", "-1", "2")
    servers.wait_until(lambda: journal.depth == 1, 10, "two of three stored, the second held")
    assert up.alive
    up.stop()
    assert not up.alive
    central.close()


def test_tls_files_that_are_gone_are_named_and_waited_for(
    tmp_path: Path, journal: Journal, alarms: AlarmLog, caplog: pytest.LogCaptureFixture
) -> None:
    tls = config.Tls(ca=tmp_path / "ca.pem", cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"mqtt\.tls\.ca: .*ca\.pem cannot be read"):
        tls_context(tls)
    up = uplink(journal, alarms, servers.free_port(), tls)
    with caplog.at_level(logging.WARNING, "edge.uplink"):
        up.start()
        servers.wait_until(lambda: "ca.pem cannot be read" in caplog.text, 10, "the fault is told")
        assert up.alive
        up.stop()
    for path in (tls.ca, tls.cert, tls.key):
        path.write_text("nothing")
    with pytest.raises(ConfigError, match=r"mqtt\.tls\.ca: .*ca\.pem: .*expected PEM"):
        tls_context(tls)


class Stumbling:
    """An alarm log with a fault of the unforeseen kind, once."""

    def __init__(self) -> None:
        self.asked = 0

    def unreceipted(self) -> list[tuple[str, bytes]]:
        self.asked += 1
        if self.asked == 1:
            raise KeyError("unforeseen")
        return []

    def receipt(self, event_id: str, notifying: str | None) -> None: ...

    def active(self) -> Active:
        return Active(active=())


def test_an_unforeseen_fault_costs_the_session_and_not_the_thread(
    broker: servers.Mosquitto, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    central = Central(broker.port)
    up = uplink(journal, Stumbling(), broker.port)
    take(journal, 1)
    up.start()
    central.receipt(central.packs.get(timeout=10))
    servers.wait_until(lambda: journal.depth == 0, 10, "the readings go out all the same")
    assert "a fault of this program" in caplog.text
    up.stop()
    central.close()
