"""Many gateways on one connection: each pack is sent again until its receipt, as a gateway does it."""

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from wire import readings, senml, topics
from wire.alarm import AlarmEvent
from wire.readings import PackProperties, PackRange, Reading

START_MS = 1_767_225_600_000  # 2026-01-01: in the past on any right clock


class _Sent(NamedTuple):
    topic: str
    payload: bytes
    properties: Properties
    at_s: float


class Fleet:
    """Gateways `gw-0` to `gw-<n>`, each with a station `station-<i>` of one sensor. Times are those of `time.monotonic`.

    `waiting`: packs and events without a receipt. `receipts`: when each came first, by correlation data.
    """

    def __init__(self, port: int, gateways: int, retry_s: float = 2.0, start_ms: int = START_MS) -> None:
        self.gateways = gateways
        self.sent = 0
        self.retry_s = retry_s
        self._start_ms = start_ms
        self.waiting: dict[bytes, _Sent] = {}
        self.receipts: dict[bytes, float] = {}
        self.changed = threading.Condition()
        self._next = [1] * gateways
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="fleet", protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(500)
        self._client.on_message = self._on_receipt
        self._stop = threading.Event()
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"{topics.ROOT}/+/{topics.RECEIPT}", 1)
        assert subscribed.wait(10)
        self._again = threading.Thread(target=self._send_again, daemon=True)
        self._again.start()

    def measure(self, gateway: int, size: int) -> bytes:
        """Send the next `size` readings of a gateway in a pack; gives its correlation data."""
        first = self._next[gateway]
        self._next[gateway] += size
        self.sent += size
        name = f"station-{gateway}/level-1/water_level"
        values = [Reading(name, (n % 4000) / 1000, 1, self._start_ms + n * 1000) for n in range(first, first + size)]
        pack = PackProperties(PackRange(f"j-{gateway}", first, first + size - 1), "live", False)
        payload = senml.to_json(readings.records(values))
        user = readings.user_properties(pack)
        return self._send(topics.topic(f"gw-{gateway}", topics.READINGS), payload, pack.range.correlation(), user)

    def alarm(self, event: AlarmEvent) -> bytes:
        topic = topics.topic(event.gateway, topics.ALARMS)
        return self._send(topic, event.model_dump_json().encode(), event.id.encode(), [])

    def receipted(self, correlations: Iterable[bytes] | None = None) -> bool:
        with self.changed:
            return not self.waiting if correlations is None else all(c in self.receipts for c in correlations)

    def close(self) -> None:
        self._stop.set()
        self._again.join()
        self._client.disconnect()
        self._client.loop_stop()

    def _send(self, topic: str, payload: bytes, correlation: bytes, user: list[tuple[str, str]]) -> bytes:
        properties = Properties(PacketTypes.PUBLISH)
        if user:
            properties.ContentType = senml.JSON_TYPE
            properties.UserProperty = user
        properties.CorrelationData = correlation
        with self.changed:
            self.waiting[correlation] = _Sent(topic, payload, properties, time.monotonic())
        self._client.publish(topic, payload, qos=1, properties=properties)
        return correlation

    def _on_receipt(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        correlation = message.properties.CorrelationData  # type: ignore[union-attr]
        with self.changed:
            self.receipts.setdefault(correlation, time.monotonic())
            self.waiting.pop(correlation, None)
            self.changed.notify_all()

    def _send_again(self) -> None:
        while not self._stop.wait(self.retry_s / 4):
            now = time.monotonic()
            with self.changed:
                late = [(c, s) for c, s in self.waiting.items() if now - s.at_s >= self.retry_s]
                for correlation, sent in late:
                    self.waiting[correlation] = sent._replace(at_s=now)
            for _, sent in late:
                self._client.publish(sent.topic, sent.payload, qos=1, properties=sent.properties)
