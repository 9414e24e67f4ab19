"""Hears at the broker what gateways publish."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


class Heard(NamedTuple):
    """A message of a gateway. For packs: lane, numbers, and the numbers that it says were given up."""

    leaf: str
    lane: str | None
    first: int
    last: int
    thinned: str | None


@contextmanager
def listening(port: int) -> Iterator[list[Heard]]:
    """What gateways publish, in the order in which the broker passes it on."""
    heard: list[Heard] = []
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def on_message(_c: object, _u: object, message: paho.MQTTMessage) -> None:
        if not message.retain:
            pairs = dict(getattr(message.properties, "UserProperty", ()))
            leaf = message.topic.rpartition("/")[2]
            numbers = int(pairs.get("first", 0)), int(pairs.get("last", 0))
            heard.append(Heard(leaf, pairs.get("lane"), *numbers, pairs.get("thinned")))

    client.on_connect = lambda c, *_: c.subscribe("maillages/v1/+/+", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
