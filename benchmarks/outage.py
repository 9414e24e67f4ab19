"""Memory of a gateway over an outage of 30 days, sped up.

    .venv/bin/python -m benchmarks.outage [--days 30] [--interval 60]

The gateway of an edge.toml in this process, as `maillages-edge run` puts it together, on a clock that the benchmark sets: 20 level
sensors with a reading each `--interval` seconds, a flood over the first threshold each day, an uplink to an address where nobody
listens, the journal and the alarm log on disk, housekeeping once a day. Printed is the resident memory after each simulated day.
The limit: after the first five days it grows by less than 1 MiB, measured from their highest to the last day.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

from benchmarks.common import finish, machine, usage
from common.clock import Clock
from edge import memory
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig
from edge.gateway import Gateway
from edge.journal import Journal
from edge.sample import Sample
from edge.sensors.base import Field
from edge.service import stations
from edge.uplink import Uplink
from tests import servers

SENSORS = 20
SETTLED_DAYS = 5
LIMIT_MIB = 1.0


class Calendar:
    """The clock of the outage: it moves when it is told to."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._boot_s, self._wall_s = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
        self.clock = Clock(
            boottime=lambda: self._boot_s + self.passed_s, walltime=lambda: self._wall_s + self.passed_s, trust="always"
        )


def edge_config(data: Path) -> EdgeConfig:
    sensors = [
        {"id": f"level-{i}", "driver": "maxbotix", "port": "unused", "level": {"mounting_height_m": 5.0}}
        for i in range(SENSORS)
    ]
    rule = {"id": "high", "kind": "high", "sensor": "level-0", "quantity": "water_level", "levels": [1.5, 3.0]}
    station = {"id": "bench", "name": "Bench", "commune": "61031", "lat": 50.5, "lon": 5.2}
    return EdgeConfig.model_validate(
        {
            "gateway": {"id": "gw-bench", "data_dir": str(data)},
            "mqtt": {"host": "127.0.0.1", "port": servers.free_port()},
            "station": [station | {"sensor": sensors, "rule": [rule | {"deadband": 0.1, "off_delay_s": 3600}]}],
        }
    )


def level(sensor: int, at_s: float) -> float:
    """A river that ripples, and swells over its first threshold once a day."""
    flood = max(0.0, math.sin(at_s / 86400 * 2 * math.pi)) ** 4
    return round(0.6 + 1.2 * flood + 0.004 * math.sin(at_s / 97 + sensor), 3)


def run(data: Path, days: int, interval_s: float) -> list[float]:
    """Resident memory in MiB after each day."""
    memory.steady()
    config, calendar = edge_config(data), Calendar()
    clock = calendar.clock
    journal, alarms = Journal(data / "journal", clock), AlarmLog(data / "alarms.db")
    gateway = Gateway(config, clock, journal, alarms)
    journal.open()
    gateway.recover(alarms.open())
    assert config.mqtt is not None
    uplink = Uplink(
        config.gateway.id,
        config.mqtt,
        config.uplink,
        clock,
        journal,
        alarms,
        lambda: stations(config, gateway.day),
        gateway.command,
        lambda: gateway.hurried,
    )
    gateway.attach(uplink)
    uplink.start()
    gateway.start()
    memory.trim()
    found: list[float] = []
    pid = int(Path("/proc/self").resolve().name)
    for day in range(1, days + 1):
        while calendar.passed_s < day * 86400:
            calendar.passed_s += interval_s
            for i in range(SENSORS):
                distance = 5.0 - level(i, calendar.passed_s)
                fields = (Field("water_distance", distance, "m"),)
                gateway.post(Sample("bench", f"level-{i}", clock.wall(), clock.boot(), fields))
            gateway.present()  # comes back when the data path has done all that
        journal.prune()
        found.append(usage(pid).rss / 2**20)
        print(f"  day {day}: {found[-1]:.1f} MiB, {journal.depth:,} readings wait", flush=True)
    gateway.stop()
    uplink.stop()
    journal.close()
    alarms.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="(default %(default)s)")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--interval", type=float, default=60, help="seconds between readings (default %(default)s)")
    options = parser.parse_args()
    where = machine("maillages")
    with tempfile.TemporaryDirectory(prefix="maillages-bench-", dir=options.directory) as name:
        found = run(Path(name), options.days, options.interval)
    grown = found[-1] - max(found[:SETTLED_DAYS])
    print(f"\ngrown since the first {SETTLED_DAYS} days: {grown:.2f} MiB (limit {LIMIT_MIB:g})")
    figures = {"rss_mib": [round(x, 1) for x in found], "grown_mib": round(grown, 2)}
    finish("outage", where, {"days": options.days, "interval_s": options.interval, **figures})


if __name__ == "__main__":
    main()
