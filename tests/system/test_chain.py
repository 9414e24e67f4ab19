"""The chain on real processes: serial bytes on a pty, the edge and central programs, Mosquitto, InfluxDB, and kill -9."""

import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from central.store.base import Row
from central.store.influx import Influx
from common.clock import Clock
from demo.devices.log import DeviceLog
from demo.devices.mb7389 import Mb7389
from edge.journal import Journal
from edge.journal import Row as JournalRow
from tests import servers
from tests.fakes.proxy import Proxy

pytestmark = pytest.mark.system

EDGE = """
[gateway]
id = "gw-test-01"
data_dir = "{data}"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
keepalive_s = 5
[uplink]
retry_s = 2
retry_max_s = 4
[[station]]
id = "hoyoux-test"
name = "Hoyoux, essai"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{port}"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
[[station.rule]]
id = "hoyoux-high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [100.0]
"""

CENTRAL = """
data_dir = "{data}"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "influxdb"
url = "{influx}"
database = "maillages"
[[station]]
id = "hoyoux-test"
gateway = "gw-test-01"
commune = "61031"
name = "Hoyoux, essai"
"""


class Program:
    """One of our programs, started as a user would."""

    def __init__(self, name: str, config: Path, log: Path) -> None:
        self._command = [name, "run", "-c", str(config)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)


class Chain:
    """Everything between a pty and InfluxDB."""

    def __init__(
        self, tmp: Path, influx: servers.Influxd, broker: servers.Mosquitto, edge_broker: int | None = None
    ) -> None:
        self.tmp = tmp
        self.influx = influx
        self.broker = broker
        self.log = DeviceLog()
        clock = Clock(trust="always")
        # 1 mm further at each frame, so that every value is its own: what is doubled or invented shows.
        self._mm = iter(range(400, 4990))
        port = tmp / "ttyLEVEL"
        self.device = Mb7389(
            port, "hoyoux-test/level-1", lambda _: next(self._mm) / 1000, clock=clock, log=self.log, interval_s=0.05
        )
        edge, central = tmp / "edge.toml", tmp / "central.toml"
        edge.write_text(EDGE.format(data=tmp / "edge", broker=edge_broker or broker.port, port=port))
        central.write_text(CENTRAL.format(data=tmp / "central", broker=broker.port, influx=influx.url))
        self.edge = Program("maillages-edge", edge, tmp / "edge.log")
        self.central = Program("maillages-central", central, tmp / "central.log")
        self.store = Influx(influx.url, "maillages")

    def stored(self) -> list[Row]:
        return self.store.dump("water_level", 0, 2**42)

    def journaled(self) -> list[JournalRow]:
        """What the edge took, read from its journal when it has stopped."""
        journal = Journal(self.tmp / "edge" / "journal", Clock(trust="always"))
        journal.open()
        rows = journal.rows(1, journal.head)
        depth = journal.depth
        journal.close()
        assert depth == 0, f"{depth} readings have no receipt"
        return rows

    def drain(self, timeout_s: float = 60) -> None:
        """Wait until the journal on the disk says that central has receipted everything, then stop the edge."""

        def receipted() -> bool:
            text = "".join(p.read_text() for p in sorted((self.tmp / "edge" / "journal").glob("*.log")))
            taken, done = set(), set()
            for line in text.splitlines():
                record = json.loads(line[9:])
                if record[0] == "h":
                    for first, last in record[1]["stored"]:
                        done |= set(range(first, last + 1))
                elif record[0] == "r":
                    taken.add(record[1])
                elif record[0] == "k":
                    done |= set(range(record[1], record[2] + 1))
            return bool(taken) and taken <= done

        servers.wait_until(receipted, timeout_s, "receipts of all readings")
        assert self.edge.terminate() == 0
        assert self.central.terminate() == 0

    def verify(self) -> int:
        """0 lost, 0 duplicated, 0 invented. Gives how many readings there were."""
        taken = [(r.wall_ms, r.value) for r in self.journaled()]
        stored = [(r.time_ms, float(r.fields["value"])) for r in self.stored()]
        assert sorted(stored) == sorted(taken), "the store and the journal differ"
        values = [value for _, value in stored]
        assert len(set(values)) == len(values), "one value stored twice"
        sent = {round(5.0 - s.values["water_distance"], 4) for s in self.log.sent("hoyoux-test/level-1") if s.values}
        assert set(values) <= sent, "a value that the device never sent"
        return len(stored)


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_invented_whatever_is_killed(tmp_path: Path) -> None:
    """kill -9 of edge, central, broker and influxd at random moments, fixed seed."""
    rng = random.Random(20210714)
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        chain.device.start()
        try:
            chain.central.start()
            chain.edge.start()
            servers.wait_until(lambda: influx_has(chain), 30, "the first reading in the store")
            for victim in [rng.choice(["edge", "central", "broker", "influx"]) for _ in range(KILLS)]:
                time.sleep(rng.uniform(0.3, 1.5))  # the moment of the kill, not a wait for anything
                target = getattr(chain, victim)
                target.kill9()
                time.sleep(rng.uniform(0.0, 0.5))
                target.start()
            chain.device.stop()
            chain.drain()
        finally:
            chain.device.stop()
            for program in (chain.edge, chain.central):
                program.kill9()
        assert chain.verify() > KILLS


@pytest.mark.timeout(180)
def test_a_half_open_link_loses_nothing(tmp_path: Path) -> None:
    """For 10 s the link swallows every byte while TCP stays open; then it is reset."""
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker, Proxy(broker.port) as proxy:
        chain = Chain(tmp_path, influx, broker, proxy.port)
        chain.device.start()
        try:
            chain.central.start()
            chain.edge.start()
            servers.wait_until(lambda: influx_has(chain), 30, "the first reading in the store")
            proxy.swallow = True
            sent = len(chain.log.sent("hoyoux-test/level-1"))
            servers.wait_until(
                lambda: len(chain.log.sent("hoyoux-test/level-1")) >= sent + 200, 30, "10 s of readings into the void"
            )
            proxy.reset()
            chain.device.stop()
            chain.drain()
        finally:
            chain.device.stop()
            for program in (chain.edge, chain.central):
                program.kill9()
        assert chain.verify() > 200


KILLS = 50


def influx_has(chain: Chain) -> bool:
    try:
        return chain.store.last("water_level", {}) is not None
    except Exception:  # noqa: BLE001 - the database does not exist yet
        return False
