"""Readings that central stores per second, beside raw posts to the same InfluxDB.

    .venv/bin/python -m benchmarks.ingest

Real Mosquitto, the real central process, real InfluxDB. Packs wait at the broker for central's session, as after an outage
of central; central starts and takes them, as `--workers` processes of one state (docs/adr/0012-workers.md). Measured from the first
receipt to the last, receipts as gateways see them.
The yardstick posts the same readings, formatted beforehand, in batches of 5,000 lines on one kept connection. Rounds of
both alternate; the ratio is taken within a round. At the end everything must be in the database.
"""

import argparse
import http.client
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.common import Program, finish, machine, ours, spread, table, tool_version, wait_until
from central import workers
from central.store.influx import Influx
from tests import servers
from wire import readings, senml, topics
from wire.readings import PackProperties, PackRange, Reading

GATEWAYS = 20
RAW_LINES = 5000
START_MS = 1_767_225_600_000  # 2026-01-01: in the past on any right clock
GATEWAY_STEP_MS = 1000

CENTRAL = """
data_dir = "{data}"
[web]
port = {page}
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "influxdb"
url = "{influx}"
database = "maillages"
"""
STATION = """
[[station]]
id = "station-{i}"
gateway = "gw-{i}"
commune = "61031"
name = "Station {i}"
"""


class Message(NamedTuple):
    topic: str
    payload: bytes
    pack: PackProperties


class Load:
    """Packs of 20 gateways in turn, no reading twice: each takes up its gateway's times where the last one ended."""

    def __init__(self) -> None:
        self.numbers = [1] * GATEWAYS

    def readings(self, gateway: int, size: int) -> list[Reading]:
        first = self.numbers[gateway]
        self.numbers[gateway] += size
        name = f"station-{gateway}/level-1/water_level"
        return [Reading(name, (n % 4000) / 1000, 1, START_MS + n * GATEWAY_STEP_MS) for n in range(first, first + size)]

    def messages(self, packs: int, size: int) -> list[Message]:
        """`packs` (a multiple of 20) packs of `size` readings."""
        out = []
        for i in range(packs):
            gateway = i % GATEWAYS
            first = self.numbers[gateway]
            payload = senml.to_json(readings.records(self.readings(gateway, size)))
            pack = PackProperties(PackRange(f"j-{gateway}", first, first + size - 1), "backlog", False)
            out.append(Message(topics.topic(f"gw-{gateway}", topics.READINGS), payload, pack))
        return out

    def bodies(self, lines: int) -> list[bytes]:
        """The same in line protocol, mixed in the same way, in bodies of 5,000 lines."""
        made: list[str] = []
        packs = lines // 100
        for i in range(packs):
            gateway = i % GATEWAYS
            prefix = f"water_level,gateway=gw-{gateway},sensor=level-1,station=station-{gateway}"
            made += [f"{prefix} value={r.value!r},qc=1i {r.time_ms}" for r in self.readings(gateway, 100)]
        return ["\n".join(made[i : i + RAW_LINES]).encode() for i in range(0, lines, RAW_LINES)]


def client(name: str) -> paho.Client:
    return paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)


def preload(port: int, messages: list[Message]) -> None:
    """Hand the packs to the broker, which keeps them for central."""
    c = client("load")
    c.max_inflight_messages_set(200)
    c.connect("127.0.0.1", port)
    c.loop_start()
    infos = []
    for message in messages:
        p = Properties(PacketTypes.PUBLISH)
        p.ContentType = senml.JSON_TYPE
        p.CorrelationData = message.pack.range.correlation()
        p.UserProperty = readings.user_properties(message.pack)
        infos.append(c.publish(message.topic, message.payload, qos=1, properties=p))
    for info in infos:
        info.wait_for_publish(60)
    c.disconnect()
    c.loop_stop()


class Receipts:
    """Listens as the last gateway of each worker in a turn; their receipts stand for all."""

    def __init__(self, port: int, share: Iterable[Collection[str]]) -> None:
        last = [max(gateways, key=lambda name: int(name.removeprefix("gw-"))) for gateways in share]
        self._topics = [topics.topic(gateway, topics.RECEIPT) for gateway in last]
        self.times: dict[str, list[float]] = {topic: [] for topic in self._topics}
        self._client = client("listener")
        self._client.on_message = lambda _client, _, message: self.times[message.topic].append(time.perf_counter())
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe([(topic, 0) for topic in self._topics])
        assert subscribed.wait(10)

    def turns(self) -> int:
        """How many times all gateways have had their receipt."""
        return min(map(len, self.times.values()))

    def seconds(self) -> float:
        """From the first receipt to the last."""
        return max(t[-1] for t in self.times.values()) - min(t[0] for t in self.times.values())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Bench:
    def __init__(self, tmp: Path, influx: servers.Influxd, broker: servers.Mosquitto, workers: int) -> None:
        self.influx, self.broker, self.workers = influx, broker, workers
        self.configs = [tmp / f"central-{n}.toml" for n in range(workers)]
        self.logs = [config.with_suffix(".log") for config in self.configs]
        stations = "".join(STATION.format(i=i) for i in range(GATEWAYS))
        for config in self.configs:
            text = CENTRAL.format(data=tmp / "central", page=servers.free_port(), broker=broker.port, influx=influx.url)
            config.write_text(text + stations)
        self.load = Load()
        self.raw_load = Load()
        self.stored = 0
        self.raw_lines = 0
        self.posts = http.client.HTTPConnection("127.0.0.1", influx.port)

    def centrals(self) -> list[Program]:
        """As a person starts them; each with a page of its own, since they share a machine."""
        return [
            Program([ours("maillages-central"), "run", "-c", config, "--worker", f"{n}/{self.workers}"], log)
            for n, (config, log) in enumerate(zip(self.configs, self.logs, strict=True), 1)
        ]

    def share(self) -> list[frozenset[str]]:
        names, living = [f"gw-{i}" for i in range(GATEWAYS)], range(1, self.workers + 1)
        return [workers.share(names, n, living) for n in living]

    def session(self) -> None:
        """Let central make its sessions at the broker, and its database."""
        programs = self.centrals()
        for log, program in zip(self.logs, programs, strict=True):
            wait_until(lambda log=log: "central-readings" in log.read_text(), 30, "central", program)  # type: ignore[misc]
        time.sleep(8)  # the shares are settled, and the subscriptions that follow
        stop(programs)

    def ingest(self, packs: int, size: int) -> float:
        """Messages per second."""
        preload(self.broker.port, self.load.messages(packs, size))
        receipts = Receipts(self.broker.port, self.share())
        programs = self.centrals()
        try:
            wait_until(lambda: receipts.turns() >= packs // GATEWAYS, 300, "all receipts", programs[0])
        finally:
            stop(programs)
            receipts.close()
        self.stored += packs * size
        return (packs - GATEWAYS) / receipts.seconds()

    def raw(self, lines: int) -> float:
        """Lines per second."""
        bodies = self.raw_load.bodies(lines)
        begin = time.perf_counter()
        for body in bodies:
            self.posts.request("POST", "/write?db=raw&precision=ms", body)
            answer = self.posts.getresponse()
            answer.read()
            assert answer.status == 204, answer.status
        self.raw_lines += lines
        return lines / (time.perf_counter() - begin)

    def verify(self) -> None:
        for database, expected in (("maillages", self.stored), ("raw", self.raw_lines)):
            store = Influx(self.influx.url, database)
            found = store.count("water_level", 0, 2**42, {})
            assert found == expected, f"{database}: {found} stored, {expected} sent"
            store.close()


def stop(programs: list[Program]) -> None:
    """All at once, so that none takes over what another had."""
    for program in programs:
        program.terminate()
    for program in programs:
        program.stop()


def rounds(n: int) -> Iterator[bool]:
    """Which of the two goes first, in turn."""
    for i in range(n):
        yield i % 2 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="processes of central")
    parser.add_argument("--readings", type=int, default=300_000, help="a round, in packs of 100")
    parser.add_argument("--messages", type=int, default=10_000, help="a round, in packs of 1 and 3")
    options = parser.parse_args()
    where = machine("maillages", "paho-mqtt", "msgspec")
    where["influxd"] = tool_version("influxd", "version")
    where["mosquitto"] = tool_version("/usr/sbin/mosquitto", "-h")
    with tempfile.TemporaryDirectory(prefix="maillages-bench-") as name:
        tmp = Path(name)
        with (
            servers.influxd(tmp) as influx,
            servers.mosquitto(tmp, "max_inflight_messages 200\nautosave_interval 1800\nset_tcp_nodelay true") as broker,
        ):
            bench = Bench(tmp, influx, broker, options.workers)
            bench.session()
            Influx(influx.url, "raw").setup()
            bench.raw(50_000)  # warm
            packs = options.readings // 100 // GATEWAYS * GATEWAYS
            ours_per_s, raw_per_s = [], []
            for ours_first in rounds(options.rounds):
                for mine in (ours_first, not ours_first):
                    if mine:
                        ours_per_s.append(bench.ingest(packs, 100) * 100)
                    else:
                        raw_per_s.append(bench.raw(options.readings))
                print(f"  round: central {ours_per_s[-1]:,.0f}/s, raw {raw_per_s[-1]:,.0f}/s", flush=True)
            small = {
                size: [bench.ingest(options.messages // GATEWAYS * GATEWAYS, size) for _ in range(options.rounds)]
                for size in (1, 3)
            }
            bench.verify()
    central, raw = spread(ours_per_s), spread(raw_per_s)
    ratio = spread([a / b for a, b in zip(ours_per_s, raw_per_s, strict=True)])
    ones, threes = spread(small[1]), spread(small[3])
    print()
    table(
        ["measured", "median (lowest to highest)", "limit"],
        [
            ["central, packs of 100: readings/s", central.text(), ""],
            ["raw posts of 5,000 lines: lines/s", raw.text(), ""],
            ["central / raw, of each round", ratio.text(".2f"), ">= 0.70"],
            ["central, packs of 1: messages/s", ones.text(), ""],
            ["central, packs of 3: messages/s", threes.text(), ""],
        ],
    )
    finish(
        "ingest",
        where,
        {
            "rounds": options.rounds,
            "workers": options.workers,
            "readings_per_s": central.json(0),
            "raw_lines_per_s": raw.json(0),
            "ratio": ratio.json(),
            "messages_per_s_packs_of_1": ones.json(0),
            "messages_per_s_packs_of_3": threes.json(0),
        },
    )


if __name__ == "__main__":
    main()
