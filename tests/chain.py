"""The chain on real processes: serial bytes on a pty, the edge and central programs, Mosquitto, InfluxDB.

And its accounts: what the device's own log says that it sent, against what the gateway's journal took and what the store has.
"""

import itertools
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from central.store.base import Row
from central.store.influx import Influx
from common.clock import Clock
from edge.emulators.log import DeviceLog, Sent
from edge.emulators.mb7389 import Mb7389
from edge.journal import Journal
from edge.journal import Row as JournalRow
from tests import servers
from tests.journal_files import parsed

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
{uplink}
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


LEVEL = "hoyoux-test/level-1"

FULL = bool(os.environ.get("MAILLAGES_FULL"))
"""Stated durations instead of CI's short ones: `scripts/faults --full`."""

MAX_DISCARDED_S = 0.1
"""Of traffic, a port and kill: what the kernel or the dying process still held. So of most kills; of one that came while the process
waited for a processor it may be as much as a gateway itself would not call a standstill."""
MOST = 5
"""Of fewer kills the middle one says nothing."""
STANDSTILL_S = 1.0
STOOD_STILL = "the gateway did not read for"
"""So says a gateway that got no processor for a second: what piled up meanwhile is unread, and never stamped as fresh."""
SETTLED_S = 0.3
"""So long after the last frame of a device no reading comes out of it any more."""
MAX_STAMP_LAG_S = 1.0
"""A reading's time is never further than this from the moment at which the device sent it. The device notes it after the write,
and may be made to wait before."""


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


@dataclass
class Account:
    """What one fault did: a row of docs/faults.md. None: no matter of this fault."""

    fault: str = ""
    duration: str = ""
    injected: int | None = None
    """Readings that devices sent, or what else was put in."""
    unread: int | None = None
    """Of these: sent while no gateway read, or still in the kernel or the process when that was killed."""
    lost: int | None = None
    """Taken by the gateway and not in the store at the end."""
    doubled: int | None = None
    """Stored at two times, or told twice."""
    invented: int | None = None
    """Stored and never sent by a device, or an alarm that nothing stands behind."""
    alarms: int = 0
    missed: int = 0
    """Of the alarms: those that reached nobody in time."""
    recovery_s: float | None = None
    """The longest time from the end of the fault until central had receipted all from before it and something from after it."""

    def of(self, fault: str, duration: str) -> None:
        """What is done. Said first, so that a failed test has its row too."""
        self.fault, self.duration = fault, duration

    def count(
        self, *, injected: int, lost: int | None = 0, doubled: int = 0, invented: int = 0, unread: int | None = None
    ) -> None:
        self.injected, self.unread, self.lost, self.doubled, self.invented = injected, unread, lost, doubled, invented

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """An alarm that is due: missed when the block, which waits for what people get of it, fails."""
        self.alarms += 1
        try:
            yield
        except BaseException:
            self.missed += 1
            raise

    @contextmanager
    def recovery(self) -> Iterator[None]:
        """From the end of the fault until all is as before. Of several the longest counts."""
        start = time.monotonic()
        yield
        self.recovery_s = round(max(self.recovery_s or 0.0, time.monotonic() - start), 1)


class Chain:
    """Everything between a pty and InfluxDB. `sensors` (at the end), `uplink` and `central` are more of the configurations."""

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
        uplink: str = "",
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
        # 1 mm nearer at each frame, so that every value is its own for minutes: what is doubled or invented shows.
        self._mm = itertools.cycle(range(4990, 310, -1))
        port = tmp / "ttyLEVEL"
        self.device = Mb7389(
            port, LEVEL, lambda _: next(self._mm) / 1000, clock=self.clock, log=self.log, interval_s=interval_s
        )
        self.sensors = {"level-1"}
        """The names that the device has had in the gateway's configuration."""
        self.lives: list[tuple[float, float]] = []
        """From when to when (boot seconds) a gateway may have read the device: until a kill or an unplug."""
        self._since = 0.0
        edge_toml, central_toml = tmp / "edge.toml", tmp / "central.toml"
        text = EDGE.format(data=self.data, broker=edge_broker or broker.port, port=port, uplink=uplink)
        edge_toml.write_text(text + sensors)
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
        servers.wait_until(lambda: influx_has(self), 60, "the first reading in the store")

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

    def recovers(self, account: Account, timeout_s: float = 60) -> None:
        """The fault is over now: wait until what was taken before, and a reading taken after, have their receipts."""
        before = self.head

        def receipted() -> bool:
            taken, done = self._receipts()
            return any(number > before for number in done & taken) and {n for n in taken if n <= before} <= done

        with account.recovery():
            servers.wait_until(receipted, timeout_s, f"receipts of all readings up to {before} and of a new one")

    def wait_sent(self, count: int, timeout_s: float) -> None:
        """Until the device has sent so many more frames: time, as it goes by for a device."""
        already = len(self.log.sent(LEVEL))
        servers.wait_until(lambda: len(self.log.sent(LEVEL)) >= already + count, timeout_s, f"{count} frames")

    # ------------------------------------------------------------------ what there is

    def stored(self) -> list[Row]:
        return [row for row in self.store.dump("water_level", 0, 2**42) if row.tags["sensor"] in self.sensors]

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
            row
            if row.synchronised or row.boot not in offsets
            else row._replace(wall_ms=row.boot_ms + offsets[row.boot])
            for row in rows
            if row.series in {f"hoyoux-test/{sensor}/water_level" for sensor in self.sensors}
        ]

    def journal_lines(self) -> list[list[Any]]:
        """The records on the disk, from a journal that may be growing."""
        lines = [p.read_bytes().split(b"\n")[:-1] for p in sorted((self.data / "journal").glob("*.log"))]
        return [record for segment in lines for line in segment if (record := parsed(line))]

    @property
    def head(self) -> int:
        """The last number that the gateway took."""
        return max(self._receipts()[0], default=0)

    def _receipts(self) -> tuple[set[int], set[int]]:
        """The numbers of the readings on the disk, and those that need no receipt any more."""
        taken: set[int] = set()
        done: set[int] = set()
        for record in self.journal_lines():
            match record:
                case ["h", header]:
                    for first, last in header["stored"]:
                        done |= set(range(first, last + 1))
                case ["r", number, *_]:
                    taken.add(number)
                case ["k", first, last, held, *_]:  # those get a receipt of their own when their names are known
                    done |= set(range(first, last + 1)) - set(held)
        return taken, done

    def drain(self, timeout_s: float = 60) -> None:
        """Wait until the journal on the disk says that central has receipted everything, then stop edge and central."""

        since: dict[int, float] = {}

        def receipted() -> bool:
            """And what the devices sent last has come through."""
            taken, done = self._receipts()
            now = time.monotonic()
            return bool(taken) and now - since.setdefault(max(taken), now) > SETTLED_S and taken <= done

        servers.wait_until(receipted, timeout_s, "receipts of all readings")
        assert self.edge.terminate() == 0
        assert self.central.terminate() == 0

    def verify(self, account: Account) -> None:
        """0 lost, 0 doubled, 0 invented, nothing stamped later than it was measured, and no frame lost while a gateway read, unless it says
        itself that it stood still."""
        sent = [s for s in self.log.sent(LEVEL) if s.values]
        frames: dict[float, list[int]] = {}
        for i, frame in enumerate(sent):
            frames.setdefault(level(frame), []).append(i)

        def frame_of(time_ms: int, value: float) -> int | None:
            """Which frame a reading is of. A value comes again, minutes later."""
            return min(frames.get(value, []), key=lambda i: abs(sent[i].wall_s - time_ms / 1000), default=None)

        journaled = [(r.wall_ms, r.value) for r in self.journaled()]
        stored = [(r.time_ms, float(r.fields["value"])) for r in self.stored()]
        known = [frame_of(*reading) for reading in stored]
        taken = {frame_of(*reading) for reading in journaled}
        account.count(
            injected=len(sent),
            unread=len(sent) - len(taken - {None}),
            lost=sum((Counter(journaled) - Counter(stored)).values()),
            doubled=len([i for i in known if i is not None]) - len(set(known) - {None}),
            invented=known.count(None) + sum((Counter(stored) - Counter(journaled)).values()),
        )
        assert (account.lost, account.doubled, account.invented) == (0, 0, 0), account
        assert len(taken) == len(journaled), "one frame was taken twice"
        lags = {reading: reading[0] / 1000 - sent[frame_of(*reading) or 0].wall_s for reading in journaled}
        late = {reading: lag for reading, lag in lags.items() if abs(lag) > MAX_STAMP_LAG_S}
        assert not late, f"readings not at the time of their frame (seconds after it): {late}"
        discarded: list[float] = []
        for start, end in self.lives:
            life = [i for i, s in enumerate(sent) if start <= s.boot_s <= end]
            known_at = [at for at, i in enumerate(life) if i in taken]
            if not known_at:
                continue  # it was never on the line
            gaps = [level(sent[i]) for i in life[known_at[0] : known_at[-1]] if i not in taken]
            assert not gaps or self.edge.said(STOOD_STILL), f"frames lost while the gateway read: {gaps}"
            discarded.append(max((end - sent[i].boot_s for i in life[known_at[-1] + 1 :]), default=0.0))
        assert max(discarded, default=0.0) <= STANDSTILL_S, f"traffic lost with a gateway: {discarded}"
        assert len(discarded) < MOST or median(discarded) <= MAX_DISCARDED_S, (
            f"traffic lost with most gateways: {discarded}"
        )


def level(sent: Sent) -> float:
    """What a gateway makes of a frame of the device."""
    return round(5.0 - sent.values["water_distance"], 4)


def influx_has(chain: Chain) -> bool:
    try:
        return chain.store.last("water_level", {}) is not None
    except Exception:  # noqa: BLE001 - the database does not exist yet
        return False
