"""The chain on real processes: serial bytes on a pty, the edge and central programs, Mosquitto, InfluxDB, and kill -9.

`scripts/faults` runs this and the other fault tests of this directory and writes docs/faults.md from what they report.
"""

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from central.store.base import Row
from central.store.influx import Influx
from common.clock import Clock
from demo.link import Link
from edge.emulators.log import DeviceLog, Sent
from edge.emulators.mb7389 import Mb7389
from edge.journal import Journal
from edge.journal import Row as JournalRow
from tests import servers

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


FULL = bool(os.environ.get("MAILLAGES_FULL"))
"""Stated durations instead of CI's short ones: `scripts/faults --full`."""

KILLS = 50
MAX_DISCARDED_S = 0.1
"""Of traffic, a port and kill: what the kernel or the dying process still held."""
MAX_STAMP_LAG_S = 1.0
"""A reading's time is never further than this behind the moment at which the device sent it."""

Report = Callable[[str, object], None]
"""pytest's `record_property`: what docs/faults.md says of a test."""


class Program:
    """One of our programs, started as a user would. `environment` is added to this process's own."""

    def __init__(self, name: str, config: Path, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = [name, "run", "-c", str(config)]
        self.log = log
        self._environment = dict(os.environ) | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self._environment)

    def kill9(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process that `start` made is still there: nothing restarts it."""
        return self._process is not None and self._process.poll() is None

    def said(self, text: str) -> int:
        """How often its log says so."""
        return self.log.read_text(errors="replace").count(text) if self.log.exists() else 0


class Outcome(NamedTuple):
    """What became of the readings of one sensor, from the devices' own log, the journal and the store.

    `discarded`: frames that were sent while the gateway read and died with it, of which the oldest was `oldest_ms` old.
    `unread`: frames that were sent while no gateway read.
    """

    taken: int
    lost: int
    doubled: int
    invented: int
    discarded: int = 0
    oldest_ms: float = 0.0
    unread: int = 0

    def report(self, record: Report, fault: str, duration: str) -> None:
        record("fault", fault)
        record("duration", duration)
        for name, value in self._asdict().items():
            record(name, value)


class Chain:
    """Everything between a pty and InfluxDB. `sensors` and `central` are more of the two configurations."""

    def __init__(
        self,
        tmp: Path,
        influx: servers.Influxd,
        broker: servers.Mosquitto,
        edge_broker: int | None = None,
        *,
        interval_s: float = 0.05,
        sensors: str = "",
        central: str = "",
        edge_data: Path | None = None,
        central_data: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.tmp = tmp
        self.influx = influx
        self.broker = broker
        self.log = DeviceLog()
        self.data = edge_data or tmp / "edge"
        self.clock = Clock(trust="always")
        # 1 mm nearer at each frame, so that every value is its own: what is doubled or invented shows.
        self._mm = iter(range(4990, 310, -1))
        port = tmp / "ttyLEVEL"
        self.device = Mb7389(
            port, LEVEL, lambda _: next(self._mm) / 1000, clock=self.clock, log=self.log, interval_s=interval_s
        )
        self.lives: list[tuple[float, float]] = []
        """From when to when (boot seconds) a gateway may have read the device: until a kill or an unplug."""
        self._since = 0.0
        edge_toml, central_toml = tmp / "edge.toml", tmp / "central.toml"
        edge_toml.write_text(EDGE.format(data=self.data, broker=edge_broker or broker.port, port=port) + sensors)
        text = CENTRAL.format(data=central_data or tmp / "central", broker=broker.port, influx=influx.url)
        central_toml.write_text(text + central)
        self.edge = Program("maillages-edge", edge_toml, tmp / "edge.log", environment)
        self.central = Program("maillages-central", central_toml, tmp / "central.log", environment)
        self.store = Influx(influx.url, "maillages")

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Everything, until the first reading is in the store."""
        self.device.start()
        self.central.start()
        self.start_edge()
        servers.wait_until(lambda: influx_has(self), 30, "the first reading in the store")

    def start_edge(self) -> None:
        self.life_begins()
        self.edge.start()

    def kill_edge(self) -> None:
        self.life_ends()
        self.edge.kill9()

    def life_begins(self) -> None:
        """From now on a gateway may read."""
        self._since = self.clock.boot()

    def life_ends(self) -> None:
        """What the device sends from now on, or has just sent, no gateway reads."""
        self.lives.append((self._since, self.clock.boot()))
        self.life_begins()

    def stop(self) -> None:
        """For the end of a test that failed, too."""
        self.device.stop()
        for program in (self.edge, self.central):
            if program.running:
                program.kill9()

    def finish(self, timeout_s: float = 60) -> None:
        """No more frames; wait for the receipts of all readings; end both programs in good order."""
        self.life_ends()
        self.device.stop()
        self.drain(timeout_s)

    def wait_sent(self, count: int, timeout_s: float) -> None:
        """Until the device has sent so many more frames: time, as it goes by for a device."""
        already = len(self.log.sent(LEVEL))
        servers.wait_until(lambda: len(self.log.sent(LEVEL)) >= already + count, timeout_s, f"{count} frames")

    # ------------------------------------------------------------------ what there is

    def stored(self) -> list[Row]:
        return [row for row in self.store.dump("water_level", 0, 2**42) if row.tags["sensor"] == "level-1"]

    def journaled(self) -> list[JournalRow]:
        """What the edge took, at the times at which it published it, read from its journal when it has stopped."""
        journal = Journal(self.data / "journal", Clock(trust="always"))
        journal.open()
        rows = journal.rows(1, journal.head)
        depth = journal.depth
        journal.close()
        assert depth == 0, f"{depth} readings have no receipt"
        offsets = {record[1]: record[2] for record in self.journal_lines() if record[0] == "y"}
        return [
            row if row.synchronised else row._replace(wall_ms=row.boot_ms + offsets[row.boot])
            for row in rows
            if row.series == f"{LEVEL}/water_level"
        ]

    def journal_lines(self) -> list[list[Any]]:
        """The records on the disk, from a journal that may be growing."""
        lines = [p.read_bytes().split(b"\n")[:-1] for p in sorted((self.data / "journal").glob("*.log"))]
        return [json.loads(line[9:]) for segment in lines for line in segment]

    def drain(self, timeout_s: float = 60) -> None:
        """Wait until the journal on the disk says that central has receipted everything, then stop the edge."""

        def receipted() -> bool:
            taken, done = set(), set()
            for record in self.journal_lines():
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

    def verify(self) -> Outcome:
        """0 lost, 0 doubled, 0 invented, nothing stamped later than it was measured; what died with a gateway is apart."""
        journaled = [(r.wall_ms, r.value) for r in self.journaled()]
        stored = [(r.time_ms, float(r.fields["value"])) for r in self.stored()]
        sent = {level(s): s for s in self.log.sent(LEVEL) if s.values}
        found = Outcome(
            taken=len(journaled),
            lost=sum((Counter(journaled) - Counter(stored)).values()),
            doubled=len(stored) - len({value for _, value in stored}),
            invented=sum(1 for _, value in stored if value not in sent)
            + sum((Counter(stored) - Counter(journaled)).values()),
        )
        assert (found.lost, found.doubled, found.invented) == (0, 0, 0), found
        late = {
            v: ms / 1000 - sent[v].wall_s
            for ms, v in journaled
            if not -0.1 < ms / 1000 - sent[v].wall_s < MAX_STAMP_LAG_S
        }
        assert not late, f"readings not at the time of their frame (seconds after it): {late}"
        taken = {value for _, value in journaled}
        discarded: list[float] = []
        for start, end in self.lives:
            frames = [s for s in self.log.sent(LEVEL) if s.values and start <= s.boot_s <= end]
            known = [i for i, s in enumerate(frames) if level(s) in taken]
            if not known:
                continue  # it was never on the line
            gaps = [level(s) for s in frames[known[0] : known[-1]] if level(s) not in taken]
            assert not gaps, f"frames lost while the gateway read: {gaps}"
            discarded += [end - s.boot_s for s in frames[known[-1] + 1 :]]
        assert all(age <= MAX_DISCARDED_S for age in discarded), f"seconds of traffic lost with a gateway: {discarded}"
        return found._replace(
            discarded=len(discarded),
            oldest_ms=round(max(discarded, default=0.0) * 1000, 1),
            unread=len(sent) - len(taken) - len(discarded),
        )


LEVEL = "hoyoux-test/level-1"


def level(sent: Sent) -> float:
    """What a gateway makes of a frame of the device."""
    return round(5.0 - sent.values["water_distance"], 4)


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_invented_whatever_is_killed(tmp_path: Path, record_property: Report) -> None:
    """kill -9 of edge, central, broker and influxd at random moments, fixed seed."""
    rng = random.Random(20210714)
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        try:
            chain.start()
            victims = [rng.choice(["edge", "central", "broker", "influx"]) for _ in range(KILLS)]
            for victim in victims:
                time.sleep(rng.uniform(0.3, 1.5))  # the moment of the kill, not a wait for anything
                kill, start = {
                    "edge": (chain.kill_edge, chain.start_edge),
                    "central": (chain.central.kill9, chain.central.start),
                    "broker": (broker.kill9, broker.start),
                    "influx": (influx.kill9, influx.start),
                }[victim]
                kill()
                time.sleep(rng.uniform(0.0, 0.5))
                start()
            chain.finish()
        finally:
            chain.stop()
        outcome = chain.verify()
        assert outcome.taken > KILLS
        counted = ", ".join(f"{name} {n}" for name, n in sorted(Counter(victims).items()))
        outcome.report(record_property, f"kill -9 at random moments ({counted})", f"{KILLS} kills")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("then", ["reset", "kill"])
def test_a_half_open_link_loses_nothing(tmp_path: Path, then: str, record_property: Report) -> None:
    """The link swallows every byte while TCP stays open; then it is reset, or the gateway is killed as well."""
    seconds = 25 if FULL else 10
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker, Link(broker.port) as link:
        chain = Chain(tmp_path, influx, broker, link.port)
        try:
            chain.start()
            link.swallow = True
            chain.wait_sent(20 * seconds, 2 * seconds)
            if then == "kill":
                chain.kill_edge()
                chain.start_edge()
            link.restore()
            chain.wait_sent(20, 10)
            chain.finish()
        finally:
            chain.stop()
        outcome = chain.verify()
        assert outcome.taken > 15 * seconds
        fault = (
            "half-open link (bytes swallowed, TCP open), then "
            + {
                "reset": "TCP reset",
                "kill": "kill -9 of the gateway",
            }[then]
        )
        outcome.report(record_property, fault, f"{seconds} s")


def influx_has(chain: Chain) -> bool:
    try:
        return chain.store.last("water_level", {}) is not None
    except Exception:  # noqa: BLE001 - the database does not exist yet
        return False
