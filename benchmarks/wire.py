"""Bytes on the wire for 20 sensors a minute: what a 4G subscription pays, in calm batches and with each reading at once.

    .venv/bin/python -m benchmarks.wire

The real edge process with 20 MB7389s on ptys, one reading a minute each, a real Mosquitto behind a TCP relay, and a central that
receipts each pack and alarm. The relay counts what passes in both directions; segments are counted by the kernel (TCP_INFO of
linux/tcp.h, tcpi_segs_in and tcpi_segs_out), each with 52 bytes of IPv4 and TCP headers (RFC 791, RFC 9293, RFC 7323). Health,
receipts and keep-alive are in it. There is no TLS, which adds 22 bytes to each record (RFC 8446, 5.2).
"""

import argparse
import select
import socket
import struct
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.common import Program, finish, machine, ours, table, wait_until
from benchmarks.journal import config, journaled, plugged
from tests import servers
from wire import topics

SENSORS = 20
GATEWAY = "gw-bench"
HEADERS = 52
_SEGS_OUT = 136  # tcpi_segs_out of struct tcp_info; tcpi_segs_in follows


class Relay:
    """Passes one connection at a time on to the broker, and counts."""

    def __init__(self, broker: int) -> None:
        self._broker = broker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.payload = 0
        self._gateway: socket.socket | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                gateway, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker))
                self._gateway = gateway
                for one in (gateway, broker):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._pass_on(gateway, broker):
                    pass
                broker.close()

    def _pass_on(self, gateway: socket.socket, broker: socket.socket) -> bool:
        for ready in select.select([gateway, broker], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return False
            self.payload += len(data)
            (broker if ready is gateway else gateway).sendall(data)
        return True

    def segments(self) -> int:
        """Sent and received so far on the gateway's connection."""
        assert self._gateway is not None
        info = self._gateway.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return sum(struct.unpack_from("=II", info, _SEGS_OUT))

    def close(self) -> None:
        self._listener.close()


def central(port: int) -> paho.Client:
    """Receipts what comes, at once."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="central", protocol=paho.MQTTv5)

    def on_message(_c: object, _u: object, message: paho.MQTTMessage) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        properties.UserProperty = [("stored", "true")]
        client.publish(topics.topic(GATEWAY, topics.RECEIPT), b"", qos=1, properties=properties)

    ready = threading.Event()
    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe([(topics.topic(GATEWAY, leaf), 1) for leaf in (topics.READINGS, topics.ALARMS)])
    assert ready.wait(10)
    return client


def round_(home: Path, pack_interval_s: float, seconds: float) -> tuple[float, float, int]:
    """Bytes a minute as payload of TCP, bytes a minute with headers, readings."""
    home.mkdir()
    with servers.mosquitto(home) as broker:
        listener, relay = central(broker.port), Relay(broker.port)
        sensors = plugged(home, SENSORS, 60)
        path = config(home, sensors, relay.port, f"[uplink]\npack_interval_s = {pack_interval_s}\n")
        program = Program([ours("maillages-edge"), "run", "-c", path], home / "log")
        try:
            wait_until(lambda: journaled(home) >= SENSORS, 150, "a minute of readings", program)
            payload, segments, count = relay.payload, relay.segments(), journaled(home)
            time.sleep(seconds)
            payload, segments = relay.payload - payload, relay.segments() - segments
            count = journaled(home) - count
        finally:
            program.stop()
            for sensor in sensors:
                sensor.stop()
            relay.close()
            listener.disconnect()
            listener.loop_stop()
    minutes = seconds / 60
    return payload / minutes, (payload + HEADERS * segments) / minutes, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="counted, whole minutes (default %(default)s)")
    parser.add_argument(
        "--intervals", type=float, nargs="+", default=[0, 60, 300], help="of pack_interval_s (default 0, 60, 300)"
    )
    options = parser.parse_args()
    where = machine("maillages")
    rows = []
    figures = {}
    with tempfile.TemporaryDirectory(prefix="maillages-bench-") as name:
        for interval_s in options.intervals:
            payload, whole, count = round_(Path(name) / str(interval_s), interval_s, options.seconds)
            month = whole * 60 * 24 * 30 / 1e6
            rows.append([f"{interval_s:g}", f"{count}", f"{payload:,.0f}", f"{whole:,.0f}", f"{month:,.0f}"])
            figures[f"pack_interval_{interval_s:g}_s"] = [round(payload), round(whole)]
            print(" ", rows[-1], flush=True)
    print()
    table(["pack_interval_s", "readings", "MQTT, bytes a minute", "with TCP/IP, bytes a minute", "MB in 30 days"], rows)
    finish("wire", where, {"seconds": options.seconds, "bytes_per_minute": figures})


if __name__ == "__main__":
    main()
