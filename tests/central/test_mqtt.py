"""Central's session on a real Mosquitto, its bytes watched on the way."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from central.config import Mqtt
from central.mqtt import Received, Session
from tests import servers

PUBACK = 4


class Tap:
    """A TCP relay that keeps what the client sends."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.sent = bytearray()
        self._sockets = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        client, _ = self._server.accept()
        broker = socket.create_connection(("127.0.0.1", self._target))
        self._sockets += [client, broker]
        threading.Thread(target=self._pump, args=(broker, client, bytearray()), daemon=True).start()
        self._pump(client, broker, self.sent)

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
        except OSError:
            pass

    def packets(self, kind: int) -> list[bytes]:
        """Bodies of the client's whole packets of a type (MQTT 5, 2.1)."""
        data, at, found = bytes(self.sent), 0, []
        while at + 1 < len(data):
            length, shift, start = 0, 0, at + 1
            while start < len(data) and data[start] & 0x80:
                length |= (data[start] & 0x7F) << shift
                shift, start = shift + 7, start + 1
            if start >= len(data):
                break
            length |= data[start] << shift
            body = data[start + 1 : start + 1 + length]
            if len(body) == length and data[at] >> 4 == kind:
                found.append(body)
            at = start + 1 + length
        return found

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[tuple[Tap, servers.Mosquitto]]:
    with servers.mosquitto(tmp_path) as broker:
        relay = Tap(broker.port)
        yield relay, broker
        relay.close()


def test_acknowledgements_leave_in_the_order_of_the_messages_and_none_for_qos_0(
    tap: tuple[Tap, servers.Mosquitto],
) -> None:
    relay, broker = tap
    got: list[Received] = []
    connected = threading.Event()
    session = Session(
        "central-readings",
        Mqtt(host="127.0.0.1", port=relay.port),
        ["maillages/v1/+/readings"],
        got.append,
        manual_ack=True,
        receive_maximum=100,
        on_connected=connected.set,
    )
    session.start()
    assert connected.wait(10)
    servers.wait_until(lambda: bool(relay.packets(8)), 10, "the subscription")
    sender = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    sender.connect("127.0.0.1", broker.port)
    sender.loop_start()
    for number in range(20):
        sender.publish("maillages/v1/gw-1/readings", str(number), qos=1).wait_for_publish(10)
    sender.publish("maillages/v1/gw-1/readings", "no acknowledgement wanted", qos=0)
    servers.wait_until(lambda: len(got) == 21, 10, "all messages")
    for message in reversed(got):  # two workers finish in any order
        session.ack(message)
    servers.wait_until(lambda: len(relay.packets(PUBACK)) == 20, 10, "all acknowledgements")
    mids = [int.from_bytes(body[:2], "big") for body in relay.packets(PUBACK)]
    assert mids == [m.mid for m in got[:20]]
    sender.publish("maillages/v1/gw-1/readings", "still there", qos=1).wait_for_publish(10)
    servers.wait_until(lambda: len(got) == 22, 10, "the session lives on")
    sender.disconnect()
    sender.loop_stop()
    session.stop()
