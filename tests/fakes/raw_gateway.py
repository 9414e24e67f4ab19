"""An MQTT client in the place of a gateway, that publishes what it likes."""

import json
import queue
import time
from collections.abc import Sequence

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class RawGateway:
    """An MQTT client that publishes what it likes, and hears the receipts of both gateways."""

    def __init__(self, port: int) -> None:
        self.receipts: queue.SimpleQueue[tuple[str, bytes, list[tuple[str, str]]]] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("maillages/v1/+/receipt", 1)
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def receipts_so_far(self) -> list[str]:
        """The gateways of the receipts that have come and were not looked at; they go on waiting to be."""
        found = [self.receipts.get() for _ in range(self.receipts.qsize())]
        for receipt in found:
            self.receipts.put(receipt)
        return [to for to, _, _ in found]

    def pack(self, gateway: str, names: Sequence[str], first: int, answer_to: str) -> str:
        """Publish readings of 1.0 under these names; gives the correlation data."""
        now = time.time()
        records = [{"n": n, "u": "m", "v": 1.0, "t": round(now, 3) + i / 1000} for i, n in enumerate(names)]
        last = first + len(names) - 1
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/senml+json"
        properties.CorrelationData = f"forged:{first}-{last}".encode()
        properties.ResponseTopic = f"maillages/v1/{answer_to}/receipt"
        properties.UserProperty = [
            ("journal", "forged"),
            ("first", str(first)),
            ("last", str(last)),
            ("lane", "live"),
        ]
        self._publish(gateway, "readings", json.dumps(records), properties)
        return f"forged:{first}-{last}"

    def alarm(self, event: dict[str, object], leaf: str = "alarms", gateway: str = "gw-other-02") -> None:
        """Publish an event, or the set of the active ones."""
        payload = {"active": [event]} if leaf == "active" else event
        self._publish(gateway, leaf, json.dumps(payload), Properties(PacketTypes.PUBLISH))

    def retained(self, gateway: str, leaf: str, payload: object) -> None:
        """Publish what the broker keeps."""
        self._publish(gateway, leaf, json.dumps(payload), Properties(PacketTypes.PUBLISH), retain=True)

    def _publish(self, gateway: str, leaf: str, payload: str, properties: Properties, *, retain: bool = False) -> None:
        self._client.publish(
            f"maillages/v1/{gateway}/{leaf}", payload, qos=1, properties=properties, retain=retain
        ).wait_for_publish(10)

    def _message(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self.receipts.put((message.topic.split("/")[2], properties.CorrelationData, properties.UserProperty))
