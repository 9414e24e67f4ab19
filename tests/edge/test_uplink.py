"""The uplink against a real broker: what it meets on the way must not end its thread, which carries the alarms."""

import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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
from edge.link import tls_context
from edge.uplink import RETURN_S, Uplink
from tests import servers
from wire import topics
from wire.readings import parse_correlation
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


def uplink(
    journal: Journal,
    alarms: Any,
    port: int,
    tls: config.Tls | None = None,
    *,
    mqtt: config.Mqtt | None = None,
    clock: Clock | None = None,
    settings: config.Uplink | None = None,
    hurried: Callable[[], bool] = lambda: False,
) -> Uplink:
    return Uplink(
        GATEWAY,
        mqtt or config.Mqtt(host="127.0.0.1", port=port, tls=tls),
        settings or config.Uplink(),
        clock or Clock(trust="always"),
        journal,
        alarms,
        lambda: Stations(stations=()),
        lambda _name, _arguments: {},
        hurried,
    )


def take(journal: Journal, count: int, start: int = 1) -> None:
    journal.synchronised(1_750_000_000_000)
    journal.append(
        [NewRow("a/s/water_level", 1.0, 1, 1_750_000_000.0 + i, 0.0 + i) for i in range(start, start + count)]
    )


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
        tls_context(tls, Clock(trust="always"))
    up = uplink(journal, alarms, servers.free_port(), tls)
    with caplog.at_level(logging.WARNING, "edge.uplink"):
        up.start()
        servers.wait_until(lambda: "ca.pem cannot be read" in caplog.text, 10, "the fault is told")
        assert up.alive
        up.stop()
    for path in (tls.ca, tls.cert, tls.key):
        path.write_text("nothing")
    with pytest.raises(ConfigError, match=r"mqtt\.tls\.ca: .*ca\.pem: .*expected PEM"):
        tls_context(tls, Clock(trust="always"))


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


class Broken(Stumbling):
    """An alarm log whose fault stays."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.asked_s: list[float] = []

    def unreceipted(self) -> list[tuple[str, bytes]]:
        self.asked_s.append(self._clock.boot())
        raise KeyError("unforeseen")


def test_a_fault_that_stays_is_met_less_and_less_often(broker: servers.Mosquitto, journal: Journal) -> None:
    clock = Clock(trust="always", scale=10)
    alarms = Broken(clock)
    up = uplink(journal, alarms, broker.port, clock=clock)
    up.start()
    servers.wait_until(lambda: len(alarms.asked_s) >= 5, 20, "five sessions met it")
    up.stop()
    # At least half of 1, 2, 4 and 8 s lie between them; 1 s each time would be 4.
    assert alarms.asked_s[4] - alarms.asked_s[0] >= 7.5


def test_a_backlog_leaves_half_the_window_to_live_readings(
    broker: servers.Mosquitto, journal: Journal, alarms: AlarmLog
) -> None:
    central = Central(broker.port)
    take(journal, 2000)
    up = uplink(journal, alarms, broker.port, settings=config.Uplink(window_packs=8))
    up.start()
    packs = [central.packs.get(timeout=10) for _ in range(4)]
    take(journal, 1, start=2001)
    up.wake()
    packs.append(central.packs.get(timeout=10))
    assert [dict(pack.properties.UserProperty)["lane"] for pack in packs] == ["backlog"] * 4 + ["live"]
    for pack in packs:
        central.receipt(pack)
    while journal.depth:
        central.receipt(central.packs.get(timeout=10))
        servers.wait_until(lambda: journal.depth == 0 or not central.packs.empty(), 10, "all receipted or more came")
    up.stop()
    central.close()


def test_packs_of_a_backlog_grow_on_a_swift_link_and_shrink_on_a_slow_one(
    broker: servers.Mosquitto, journal: Journal, alarms: AlarmLog
) -> None:
    central, clock = Central(broker.port), Clock(trust="always", scale=10)
    take(journal, 5000)
    up = uplink(journal, alarms, broker.port, clock=clock, settings=config.Uplink(backlog_packs_per_s=2))
    up.start()
    sizes: list[int] = []

    def size() -> int:
        pack = central.packs.get(timeout=10)
        central.receipt(pack)
        sizes.append(len(json.loads(pack.payload)))
        return sizes[-1]

    servers.wait_until(lambda: size() > 100, 10, "large packs")
    assert sizes[0] == 16
    assert sizes == sorted(sizes)
    before = clock.boot()
    broker.freeze()
    servers.wait_until(lambda: clock.boot() - before > 3, 10, "three seconds without a PUBACK")
    broker.thaw()
    servers.wait_until(lambda: size() < 100, 10, "smaller packs")
    up.stop()
    central.close()


def test_calm_readings_go_in_batches_and_urgent_ones_at_once(
    broker: servers.Mosquitto, journal: Journal, alarms: AlarmLog
) -> None:
    urgent = {"now": False}
    central = Central(broker.port)
    up = uplink(
        journal,
        alarms,
        broker.port,
        settings=config.Uplink(pack_interval_s=3600),
        hurried=lambda: urgent["now"],
    )
    up.start()
    servers.wait_until(lambda: up.connected, 10, "connected")
    take(journal, 1)
    up.wake()
    assert numbers([central.packs.get(timeout=10).properties.CorrelationData]) == [1]
    for i in range(2, 12):
        take(journal, 1, i)
        up.wake()
    with pytest.raises(queue.Empty):
        central.packs.get(timeout=0.5)
    urgent["now"] = True
    up.wake()
    assert numbers([central.packs.get(timeout=10).properties.CorrelationData]) == list(range(2, 12)), "one pack, no gap"
    take(journal, 1, 12)
    up.wake()
    assert numbers([central.packs.get(timeout=10).properties.CorrelationData]) == [12]
    up.stop()
    central.close()


class Counter:
    """A central at each of several brokers that counts, and receipts while `receipting`."""

    def __init__(self, *ports: int) -> None:
        self.at = [Central(port) for port in ports]
        self.receipting = True
        self.heard: list[tuple[int, bytes, bytes]] = []
        for i, central in enumerate(self.at):
            central.client.on_message = lambda _c, _u, message, i=i: self._count(i, message)

    def _count(self, broker: int, message: paho.MQTTMessage) -> None:
        self.heard.append((broker, message.properties.CorrelationData, message.payload))
        if self.receipting:
            self.at[broker].receipt(message)

    def packs(self, broker: int) -> dict[bytes, bytes]:
        return {correlation: payload for at, correlation, payload in self.heard if at == broker}

    def close(self) -> None:
        for central in self.at:
            central.close()


def numbers(packs: Iterable[bytes]) -> list[int]:
    bounds = [parse_correlation(correlation) for correlation in packs]
    return sorted(n for b in bounds if b is not None for n in range(b.first, b.last + 1))


def test_the_first_broker_dies_the_next_takes_over_and_the_first_is_gone_back_to(
    tmp_path: Path, journal: Journal, alarms: AlarmLog, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = {"s": 0.0}
    clock = Clock(boottime=lambda: time.monotonic() + ahead["s"], trust="always")
    with servers.mosquitto(tmp_path / "1") as first, servers.mosquitto(tmp_path / "2") as second:
        counter = Counter(first.port, second.port)
        mqtt = config.Mqtt(
            host="127.0.0.1", port=first.port, fallback=(config.Broker(host="127.0.0.1", port=second.port),)
        )
        up = uplink(journal, alarms, first.port, mqtt=mqtt, clock=clock)
        with caplog.at_level(logging.INFO, "edge.uplink"):
            up.start()
            servers.wait_until(lambda: up.connected, 10, "connected to the first")
            for i in range(1, 21):
                take(journal, 1, i)
                up.wake()
            servers.wait_until(lambda: journal.depth == 0, 10, "all receipted at the first")
            counter.receipting = False
            for i in range(21, 31):
                take(journal, 1, i)
                up.wake()
            servers.wait_until(lambda: len(numbers(counter.packs(0))) == 30, 10, "ten more at the first, no receipt")
            first.kill9()
            take(journal, 10, 31)
            up.wake()
            counter.receipting = True
            servers.wait_until(lambda: journal.depth == 0, 10, "all receipted at the second")
        assert numbers(counter.packs(1)) == list(range(21, 41)), (
            "what was outstanding goes again, what was stored does not"
        )
        both = counter.packs(0) | counter.packs(1)
        assert numbers(both) == list(range(1, 41)), "each number in one pack"
        assert all(both[c] == payload for _, c, payload in counter.heard), "the same bytes"
        assert len(counter.heard) == len(counter.packs(0)) + len(counter.packs(1)), "each pack once at each broker"
        assert f"link to 127.0.0.1:{first.port} lost" in caplog.text
        assert f"connected to 127.0.0.1:{second.port}" in caplog.text

        # Still away: tried, and the session at the second goes on.
        ahead["s"] += RETURN_S
        take(journal, 1, 41)
        up.wake()
        servers.wait_until(lambda: journal.depth == 0, 10, "the second carries on")
        first.restart()
        servers.wait_until(lambda: counter.at[0].client.is_connected(), 30, "central is back at the first")
        counter.at[0].client.subscribe(topics.topic(GATEWAY, topics.READINGS), 1)
        ahead["s"] += RETURN_S + 60
        up.wake()
        with caplog.at_level(logging.INFO, "edge.uplink"):
            text = f"connected to 127.0.0.1:{first.port}"
            servers.wait_until(lambda: caplog.text.count(text) == 2, 10, "back at the first")
            take(journal, 5, 42)
            up.wake()
            servers.wait_until(lambda: journal.depth == 0, 10, "receipted at the first")
        assert set(numbers(counter.packs(0))) >= set(range(42, 47))
        assert numbers(counter.packs(1)) == list(range(21, 42))
        up.stop()
        counter.close()


class HangsUp:
    """Accepts connections and ends them."""

    def __init__(self) -> None:
        self.times = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.times += 1
                connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def test_brokers_that_refuse_are_asked_in_turn_and_told_of_once(
    journal: Journal, alarms: AlarmLog, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = HangsUp(), HangsUp()
    mqtt = config.Mqtt(host="127.0.0.1", port=one.port, fallback=(config.Broker(host="127.0.0.1", port=two.port),))
    up = uplink(journal, alarms, one.port, mqtt=mqtt)
    with caplog.at_level(logging.WARNING, "edge.uplink"):
        up.start()
        servers.wait_until(lambda: min(one.times, two.times) >= 2, 20, "both were tried again")
        up.stop()
    for broker in (one, two):
        assert caplog.text.count(f"no link to 127.0.0.1:{broker.port}") == 1
        broker.close()
