"""CPU, memory and latency of a gateway, beside ThingsBoard's, on the same serial bytes and the same broker.

    .venv/bin/python -m benchmarks.edge --setup          # once: the peer's own environment (needs the network)
    .venv/bin/python -m benchmarks.edge

An MB7389 on a pty writes 20 frames a second (`R1234` CR). Rounds of maillages-edge and thingsboard-gateway 3.8.5 alternate
on one Mosquitto; a stand-in for each one's server answers what it needs (receipts; session limits). CPU (user and system)
is counted from the first reading that arrives after the warm-up to the last, resident memory at the end, both with child
processes; latency from the last byte's write to a subscriber of the broker.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.common import (
    Program,
    Usage,
    children,
    finish,
    machine,
    ours,
    percentile,
    spread,
    table,
    tool_version,
    usage,
    wait_until,
)
from edge.emulators.pty import PtyDevice
from tests import servers

PEER_VERSION = "3.8.5"
PEER = Path("~/.cache/maillages-bench/thingsboard-gateway").expanduser()
INTERVAL_S = 0.05
FIRST_MM, LAST_MM = 301, 4999
START_TIMEOUT_S = 60

EDGE = """
[gateway]
id = "gw-bench"
data_dir = "{data}"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[[station]]
id = "bench"
name = "Bench"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{port}"
period_s = 0
options = {{ model = "MB7389" }}
[[station.rule]]
id = "bench-rise"
kind = "rise"
sensor = "level-1"
quantity = "water_distance"
levels = [1000.0]
"""

LIMITS = {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""}
SESSION_LIMITS = {
    "maxPayloadSize": 65536,
    "maxInflightMessages": 100,
    "rateLimits": LIMITS,
    "gatewayRateLimits": LIMITS,
}


class Sensor(PtyDevice):
    """An MB7389 whose every frame is its own value; notes when the last byte of each was written."""

    def __init__(self, path: Path, interval_s: float = INTERVAL_S, *, first_s: float = 0.0) -> None:
        super().__init__(path)
        self._interval_s = interval_s
        self.sent: dict[int, float] = {}
        self._mm = FIRST_MM
        self._due = time.monotonic() + first_s

    def tick(self) -> float:
        now = time.monotonic()
        if now >= self._due:
            self._due = max(self._due + self._interval_s, now)
            if self.write(b"R%04d\r" % self._mm):
                self.sent[self._mm] = time.monotonic()
            self._mm = self._mm + 1 if self._mm < LAST_MM else FIRST_MM
        return max(0.0, self._due - time.monotonic())


class Server:
    """Stands for central and for ThingsBoard's server; notes when each value first came out of the broker."""

    def __init__(self, port: int) -> None:
        self.came: dict[int, float] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="server", protocol=paho.MQTTv5)
        self._client.on_message = self._message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        topics = ("maillages/v1/gw-bench/readings", "v1/gateway/telemetry", "v1/devices/me/rpc/request/+")
        self._client.subscribe([(topic, 1) for topic in topics])
        assert subscribed.wait(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _message(self, client: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        if message.topic.startswith("v1/devices/me/rpc/request/"):
            answer = message.topic.replace("request", "response")
            client.publish(answer, json.dumps(SESSION_LIMITS).encode(), qos=1)
            return
        payload = json.loads(message.payload)
        if message.topic == "v1/gateway/telemetry":
            values = [round(item["values"]["distance"]) for items in payload.values() for item in items]
        else:
            values = [round(record["v"] * 1000) for record in payload]
            receipt = Properties(PacketTypes.PUBLISH)
            receipt.CorrelationData = message.properties.CorrelationData
            receipt.UserProperty = [("stored", "true")]
            client.publish("maillages/v1/gw-bench/receipt", b"", qos=1, properties=receipt)
        for value in values:
            self.came.setdefault(value, now)


class Round(NamedTuple):
    cpu_ms: float  # per reading
    rss_mib: float
    latency_ms: list[float]
    sent: int
    missing: int


class Bench:
    def __init__(self, tmp: Path, broker: servers.Mosquitto, peer: Path, warm_s: float, seconds: float) -> None:
        self.tmp, self.broker, self.peer = tmp, broker, peer
        self.warm_s, self.seconds = warm_s, seconds

    def edge(self, home: Path, port: Path) -> Program:
        config = home / "edge.toml"
        config.write_text(EDGE.format(data=home / "data", broker=self.broker.port, port=port))
        return Program([ours("maillages-edge"), "run", "-c", config], home / "log")

    def thingsboard(self, home: Path, port: Path) -> Program:
        """As its documentation has it, with storage on disk: SQLite."""
        config, run = home / "config", home / "run"
        for directory in (config, run / "logs", home / "data"):
            directory.mkdir(parents=True)
        package = next(self.peer.glob("lib/python3*/site-packages/thingsboard_gateway/config"))
        for name in ("logs.json", "statistics/statistics.json"):
            source, target = package / name, config / name
            if source.exists():
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(source.read_bytes())
        rates = ("rateLimits", "dpRateLimits", "messagesRateLimits")
        rates += ("deviceMessagesRateLimits", "deviceRateLimits", "deviceDpRateLimits")
        thingsboard = {
            "host": "127.0.0.1",
            "port": self.broker.port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "deviceFiltering": {"enable": False, "filterFile": "list.json"},
            "minPackSendDelayMS": 50,
            "minPackSizeToSend": 500,
            "maxPayloadSizeBytes": 8196,
            "security": {"type": "accessToken", "accessToken": "TEST"},
            "qos": 1,
            **dict.fromkeys(rates, "0:0"),
        }
        storage = {
            "type": "sqlite",
            "data_file_path": f"{home}/data/",
            "max_read_records_count": 1000,
            "writing_batch_size": 1000,
            "messages_ttl_in_days": 7,
            "messages_ttl_check_in_hours": 1,
        }
        connector = {"type": "serial", "name": "pty", "configuration": "custom_serial.json", "class": "SerialConnector"}
        gateway = {
            "thingsboard": thingsboard,
            "storage": storage,
            "grpc": {"enabled": False},
            "connectors": [connector],
        }
        device = {
            "name": "bench",
            "type": "default",
            "port": str(port),
            "baudrate": 9600,
            "converter": "SerialUplinkConverter",
            "delimiter": "\r",
            "telemetry": [{"type": "int", "key": "distance", "fromByte": 1}],
            "attributes": [],
        }
        serial = {"name": "pty", "logLevel": "INFO", "uplinkQueueSize": 100000, "devices": [device]}
        (config / "tb_gateway.json").write_text(json.dumps(gateway))
        (config / "custom_serial.json").write_text(json.dumps(serial))
        command = [self.peer / "bin" / "thingsboard-gateway"]
        return Program(command, home / "log", cwd=run, env={"TB_GW_CONFIG_DIR": str(config), "PATH": "/usr/bin:/bin"})

    def round(self, start: Callable[[Path, Path], Program], name: str) -> Round:
        home = self.tmp / name
        home.mkdir()
        sensor, server = Sensor(home / "tty"), Server(self.broker.port)
        with contextlib.ExitStack() as stack:
            stack.callback(server.close)
            sensor.start()
            stack.callback(sensor.stop)
            program = start(home, sensor.path)
            stack.callback(program.stop)
            wait_until(lambda: len(server.came) > 20, START_TIMEOUT_S, f"{name}: readings", program)
            time.sleep(self.warm_s)
            sensor.sent.clear()
            server.came.clear()
            before = total(program.pid)
            time.sleep(self.seconds)
            after = total(program.pid)
            counted = len(server.came)
            sensor.stop()
            time.sleep(2)  # what is on its way arrives
            sent, came = dict(sensor.sent), dict(server.came)
        latency = [(came[mm] - at) * 1000 for mm, at in sent.items() if mm in came]
        cpu_ms = (after.cpu_s - before.cpu_s) * 1000 / counted
        return Round(cpu_ms, after.rss / 2**20, latency, len(sent), len(sent) - len(latency))


def total(pid: int) -> Usage:
    """Of the process and its children."""
    each = [usage(p) for p in (pid, *children(pid))]
    return Usage(*(sum(x) for x in zip(*each, strict=True)))


def setup(peer: Path) -> None:
    """The peer's own virtual environment, from PyPI."""
    if not peer.exists():
        subprocess.run([sys.executable, "-m", "venv", peer], check=True)
    packages = [f"thingsboard-gateway=={PEER_VERSION}", "pyserial"]
    subprocess.run([peer / "bin" / "pip", "install", "--quiet", *packages], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setup", action="store_true", help="install the peer and end")
    parser.add_argument("--peer", type=Path, default=PEER, help="the peer's environment (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=float, default=5, help="seconds before the count")
    parser.add_argument("--seconds", type=float, default=40, help="counted in a round")
    options = parser.parse_args()
    if options.setup:
        setup(options.peer)
        return
    if not (options.peer / "bin" / "thingsboard-gateway").exists():
        sys.exit(f"{options.peer} has no thingsboard-gateway: run with --setup first")
    where = machine("maillages", "paho-mqtt", "pyserial")
    where["mosquitto"] = tool_version("/usr/sbin/mosquitto", "-h")
    where["thingsboard-gateway"] = PEER_VERSION
    mine: list[Round] = []
    theirs: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="maillages-bench-") as name:
        tmp = Path(name)
        with servers.mosquitto(tmp, "max_inflight_messages 200\nset_tcp_nodelay true") as broker:
            bench = Bench(tmp, broker, options.peer, options.warm, options.seconds)
            for i in range(options.rounds):
                mine.append(bench.round(bench.edge, f"maillages-{i}"))
                theirs.append(bench.round(bench.thingsboard, f"thingsboard-{i}"))
                for label, r in (("maillages", mine[-1]), ("thingsboard", theirs[-1])):
                    p95 = percentile(r.latency_ms, 95)
                    print(
                        f"  {label}: {r.cpu_ms:.2f} ms CPU a reading, {r.rss_mib:.1f} MiB, p95 {p95:.1f} ms", flush=True
                    )
    report(where, mine, theirs, options.rounds, options.seconds)


def report(where: dict[str, Any], mine: list[Round], theirs: list[Round], rounds: int, seconds: float) -> None:
    rows, figures = [], {}
    measures: tuple[tuple[str, str, str, Callable[[Round], float], float | None], ...] = (
        ("cpu_ms_per_reading", "CPU a reading, ms", ".2f", lambda r: r.cpu_ms, 0.33),
        ("rss_mib", "resident memory, MiB", ".1f", lambda r: r.rss_mib, 0.75),
        ("latency_p50_ms", "last byte to subscriber p50, ms", ".1f", lambda r: percentile(r.latency_ms, 50), None),
        ("latency_p95_ms", "last byte to subscriber p95, ms", ".1f", lambda r: percentile(r.latency_ms, 95), 0.1),
        ("missing", "readings missing in a round", ".0f", lambda r: r.missing, None),
    )
    for key, label, form, measure, limit in measures:
        a, b = [measure(r) for r in mine], [measure(r) for r in theirs]
        ratio = spread([x / y for x, y in zip(a, b, strict=True)]) if all(b) else None
        limit_text = f"<= {limit}" if limit else ""
        rows.append(
            [label, spread(a).text(form), spread(b).text(form), ratio.text(".3f") if ratio else "-", limit_text]
        )
        figures[key] = {"maillages": spread(a).json(), "thingsboard": spread(b).json()}
        if ratio:
            figures[key]["ratio"] = ratio.json()
    print()
    table(["measured: median (lowest to highest)", "maillages-edge", "thingsboard-gateway", "ratio", "limit"], rows)
    sent = spread([r.sent for r in (*mine, *theirs)])
    print(f"readings in a round: {sent.text()}")
    finish("edge", where, {"rounds": rounds, "seconds": seconds, "interval_s": INTERVAL_S, **figures})


if __name__ == "__main__":
    main()
