"""What a reading costs central at 10, 100, 1,000 and 5,000 gateways, and what its people must not wait for.

    .venv/bin/python -m benchmarks.scaling

Real Mosquitto, the real central process, real InfluxDB. The same rate of readings is spread over more and more gateways, each
with a station of its own that it described; rounds of all sizes alternate. Central's processor time is taken over whole
minutes, so that what it does every second, every five seconds and every minute (journal ranges, station_status) is in it. Its
idle time with as many gateways, measured before, is part of the cost. At the end everything must be in the database.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.common import (
    Program,
    Usage,
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
from central.store.influx import Influx
from tests import servers
from tests.fakes.fleet import Fleet
from wire import topics

SIZES = (10, 100, 1000, 5000)
CENTRAL = """
data_dir = "{data}"
{state}
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "influxdb"
url = "{influx}"
database = "maillages"
[web]
port = {page}
"""
STATION = """
[[station]]
id = "station-{i}"
gateway = "gw-{i}"
commune = "61031"
name = "Station {i}"
"""


class Cost(NamedTuple):
    """Of one round: central's and InfluxDB's processor time per reading (us), central's memory (MB), receipts' delay (s)."""

    us: float
    influx_us: float
    rss_mb: float
    p99_s: float


def describe(port: int, gateways: int) -> None:
    """Each gateway's `stations`, retained, as it publishes it at its start."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="describe", protocol=paho.MQTTv5)
    client.max_inflight_messages_set(200)
    client.connect("127.0.0.1", port)
    client.loop_start()
    infos = []
    for i in range(gateways):
        station = {
            "id": f"station-{i}", "name": f"Station {i}", "commune": "61031", "lat": 50.5, "lon": 5.2,
            "sensors": [
                {
                    "id": "level-1", "driver": "maxbotix",
                    "quantities": [{"quantity": "water_level", "period_s": 60.0, "thresholds": [1.0, 2.0, 3.0]}],
                }
            ],
        }  # fmt: skip
        payload = json.dumps({"stations": [station]})
        infos.append(client.publish(topics.topic(f"gw-{i}", topics.STATIONS), payload, qos=1, retain=True))
    for info in infos:
        info.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def measure(gateways: int, rate: float, size: int, minutes: int, state: str) -> Cost:
    """`rate` readings a second in packs of `size`, over all gateways in turn, for so many minutes."""
    with tempfile.TemporaryDirectory(prefix="maillages-bench-") as name:
        tmp = Path(name)
        with (
            servers.influxd(tmp) as influx,
            servers.mosquitto(tmp, "max_inflight_messages 200\nautosave_interval 1800\nset_tcp_nodelay true") as broker,
        ):
            describe(broker.port, gateways)
            config = tmp / "central.toml"
            stations = "".join(STATION.format(i=i) for i in range(gateways))
            head = CENTRAL.format(
                data=tmp / "central", state=state, broker=broker.port, influx=influx.url, page=servers.free_port()
            )
            config.write_text(head + stations)
            fleet = Fleet(broker.port, gateways, retry_s=30.0)
            program = Program([ours("maillages-central"), "run", "-c", config], tmp / "central.log")
            try:
                for gateway in range(gateways):  # every series is there, every gateway known
                    fleet.measure(gateway, 1)
                wait_until(fleet.receipted, 300, "the first receipts", program)
                before, influx_before = usage(program.pid), usage(influx.pid)
                measured, delays = fleet.sent, _drive(fleet, program, rate / size, size, 60.0 * minutes)
                after, influx_after = usage(program.pid), usage(influx.pid)
                measured = fleet.sent - measured
            finally:
                program.stop()
                fleet.close()
            store = Influx(influx.url, "maillages")
            found = store.count("water_level", 0, 2**42, {})
            store.close()
            assert found == fleet.sent, f"{found} stored, {fleet.sent} sent"
            return Cost(
                _us(before, after, measured), _us(influx_before, influx_after, measured), after.rss / 1e6,
                percentile(delays, 99),
            )  # fmt: skip


def _us(before: Usage, after: Usage, readings: int) -> float:
    return (after.cpu_s - before.cpu_s) * 1e6 / readings


def _drive(fleet: Fleet, program: Program, packs_per_s: float, size: int, seconds: float) -> list[float]:
    """Each pack's seconds from its sending to its receipt."""
    begin, sent = time.monotonic(), {}
    earlier = set(fleet.receipts)
    for n in range(round(packs_per_s * seconds)):
        due = begin + n / packs_per_s
        if (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        sent[fleet.measure(n % fleet.gateways, size)] = time.monotonic()
    wait_until(fleet.receipted, 300, "all receipts", program)
    return [fleet.receipts[c] - at for c, at in sent.items() if c not in earlier]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=int, default=1, help="a round of one size")
    parser.add_argument("--rate", type=float, default=2000.0, help="readings a second, all gateways together")
    parser.add_argument("--size", type=int, default=10, help="readings of a pack")
    parser.add_argument("--gateways", type=int, nargs="+", default=SIZES)
    parser.add_argument("--postgres", action="store_true", help="the state in PostgreSQL")
    options = parser.parse_args()
    where = machine("maillages", "sqlalchemy", "msgspec")
    where["influxd"] = tool_version("influxd", "version")
    where["mosquitto"] = tool_version("/usr/sbin/mosquitto", "-h")
    costs: dict[int, list[Cost]] = {n: [] for n in options.gateways}
    for i in range(options.rounds):
        for n in options.gateways if i % 2 == 0 else reversed(options.gateways):
            if options.postgres:
                with servers.postgres() as postgres:
                    state = f'[state]\nurl = "{postgres.database()}"'
                    cost = measure(n, options.rate, options.size, options.minutes, state)
            else:
                cost = measure(n, options.rate, options.size, options.minutes, "")
            costs[n].append(cost)
            print(f"  {n} gateways: {cost.us:.1f} us a reading, InfluxDB {cost.influx_us:.1f}", flush=True)
    base = spread([c.us for c in costs[options.gateways[0]]]).median
    print()
    table(
        [
            "gateways",
            "central, us of processor a reading",
            "of the first",
            "InfluxDB, us",
            "central, MB",
            "receipt p99, s",
        ],
        [
            [
                f"{n:,}",
                spread([c.us for c in found]).text(".1f"),
                f"{spread([c.us for c in found]).median / base:.2f}",
                spread([c.influx_us for c in found]).text(".1f"),
                spread([c.rss_mb for c in found]).text(),
                spread([c.p99_s for c in found]).text(".2f"),
            ]
            for n, found in costs.items()
        ],
    )
    finish(
        "scaling",
        where,
        {
            "rate": options.rate,
            "size": options.size,
            "us_per_reading": {n: spread([c.us for c in found]).json(1) for n, found in costs.items()},
        },
    )


if __name__ == "__main__":
    main()
