"""How long a backlog of seven days takes to drain, and how late live readings are meanwhile.

    .venv/bin/python -m benchmarks.drain [--central]

The journal holds 201,600 unsent readings (20 sensors, one a minute, seven days) when the real edge process starts, beside a
real Mosquitto. A stand-in for central receipts each pack at once; with `--central` the real one does, when InfluxDB has
confirmed it. All 20 are MB7389s on ptys; meanwhile the first gives 5 readings a second, the others go on with one a minute.
The drain is counted from the gateway's word that it is online to the last backlog reading's receipt; a live reading from its
last byte to a subscriber of the broker.
"""

import argparse
import json
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.common import Program, finish, machine, ours, percentile, spread, table, usage, wait_until
from benchmarks.edge import Sensor
from benchmarks.journal import config
from common.clock import Clock
from edge.journal import Journal, NewRow
from tests import servers
from wire import readings, senml, topics

GATEWAY = "gw-bench"
SENSORS, MINUTES = 20, 7 * 24 * 60
LIVE_S = 0.2
LIMIT_S, LATE_LIMIT_S = 10.0, 2.0

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
id = "bench"
gateway = "gw-bench"
commune = "61031"
name = "Bench"
"""


class Listener:
    """Subscribes to what the gateway says and, when it is to, receipts; notes when the backlog's end came."""

    def __init__(self, port: int, backlog: int, *, receipts: bool) -> None:
        self.online_s: float | None = None
        self.drained_s: float | None = None
        self.late_s: list[float] = []
        self.sensor: Sensor | None = None
        self._waiting = backlog
        self._receipts = receipts
        self._backlog = backlog
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=paho.MQTTv5)
        self._client.on_message = self._message
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        leaves = (topics.STATUS, topics.READINGS, topics.RECEIPT)
        self._client.subscribe([(topics.topic(GATEWAY, leaf), 1) for leaf in leaves])
        assert ready.wait(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _message(self, client: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        leaf = topics.parse(message.topic).leaf
        if leaf == topics.STATUS and json.loads(message.payload)["online"] and self.online_s is None:
            self.online_s = now
        if leaf == topics.RECEIPT:
            bounds = readings.parse_correlation(message.properties.CorrelationData)
            if bounds is not None:
                self._waiting -= max(0, min(bounds.last, self._backlog) - bounds.first + 1)
                if self._waiting <= 0 and self.drained_s is None:
                    self.drained_s = now
        if leaf == topics.READINGS:
            if self._receipts:
                receipt = Properties(PacketTypes.PUBLISH)
                receipt.CorrelationData = message.properties.CorrelationData
                receipt.UserProperty = [("stored", "true")]
                client.publish(topics.topic(GATEWAY, topics.RECEIPT), b"", qos=1, properties=receipt)
            if self.sensor is not None and dict(message.properties.UserProperty)["lane"] == "live":
                pack = senml.resolve(json.loads(message.payload), 0)
                came = (round(r.value * 1000) for r in pack if r.value is not None and "/level-1/" in r.name)
                self.late_s += [now - self.sensor.sent[mm] for mm in came if mm in self.sensor.sent]


class Round(NamedTuple):
    seconds: float
    cpu_s: float
    late_s: list[float]


def backlog(directory: Path, minutes: int) -> int:
    """Write the journal of an outage that is over now; how many readings."""
    end_wall, end_boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    ago = [minutes * 60.0]
    clock = Clock(walltime=lambda: end_wall - ago[0], boottime=lambda: end_boot - ago[0], trust="always")
    journal = Journal(directory, clock, sync_s=3600)
    journal.open()
    journal.synchronised(round((end_wall - end_boot) * 1000))
    for minute in range(minutes):
        for number in range(SENSORS):
            ago[0] = (minutes - minute) * 60 - number * 60 / SENSORS
            row = NewRow(f"bench/level-{number + 1}/water_distance", 1.5 + number / 100, 1, clock.wall(), clock.boot())
            journal.append([row])
    count = journal.head
    journal.close()
    return count


def round_(home: Path, minutes: int, *, central: bool) -> Round:
    home.mkdir()
    count = backlog(home / "data" / "journal", minutes)
    with ExitStack() as stack:
        broker = stack.enter_context(servers.mosquitto(home))
        programs = []
        if central:
            influx = stack.enter_context(servers.influxd(home))
            path = home / "central.toml"
            path.write_text(CENTRAL.format(data=home / "central", broker=broker.port, influx=influx.url))
            programs.append(Program([ours("maillages-central"), "run", "-c", path], home / "central.log"))
            stack.callback(programs[0].stop)
            wait_until(lambda: ": connected" in (home / "central.log").read_text(), 60, "central", *programs)
        listener = Listener(broker.port, count, receipts=not central)
        stack.callback(listener.close)
        sensors = [Sensor(home / f"tty{i}", 60 if i else LIVE_S, first_s=i * 60 / SENSORS) for i in range(SENSORS)]
        for sensor in sensors:
            sensor.start()
            stack.callback(sensor.stop)
        listener.sensor = sensors[0]
        path = config(home, sensors, broker.port)
        edge = Program([ours("maillages-edge"), "run", "-c", path], home / "log")
        stack.callback(edge.stop)
        wait_until(lambda: listener.online_s is not None, 60, "the gateway online", edge, *programs)
        before = usage(edge.pid).cpu_s
        wait_until(lambda: listener.drained_s is not None, 120, "the backlog drained", edge, *programs)
        cpu_s = usage(edge.pid).cpu_s - before
    assert listener.online_s is not None
    assert listener.drained_s is not None
    assert listener.late_s, "no live reading came during the drain"
    return Round(listener.drained_s - listener.online_s, cpu_s, listener.late_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="(default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=int, default=MINUTES, help="of backlog (default %(default)s)")
    parser.add_argument("--central", action="store_true", help="the real central with InfluxDB receipts")
    options = parser.parse_args()
    where = machine("maillages", "paho-mqtt")
    rounds = []
    with tempfile.TemporaryDirectory(prefix="maillages-bench-", dir=options.directory) as name:
        for i in range(options.rounds):
            r = round_(Path(name) / str(i), options.minutes, central=options.central)
            print(
                f"  {r.seconds:.1f} s, {r.cpu_s:.1f} s of processor, {len(r.late_s)} live readings,"
                f" latest {max(r.late_s):.3f} s",
                flush=True,
            )
            rounds.append(r)
    seconds, cpu = spread([r.seconds for r in rounds]), spread([r.cpu_s for r in rounds])
    p50, worst = spread([percentile(r.late_s, 50) for r in rounds]), spread([max(r.late_s) for r in rounds])
    rows = [
        [f"{options.minutes * SENSORS:,} readings drained, s", seconds.text(".1f"), f"<= {LIMIT_S:.0f}"],
        ["of it processor of the gateway, s", cpu.text(".1f"), ""],
        ["live readings meanwhile, p50, s", p50.text(".3f"), ""],
        ["live readings meanwhile, worst, s", worst.text(".3f"), f"<= {LATE_LIMIT_S:.0f}"],
    ]
    print()
    table(["measured: median (lowest to highest)", "", "limit"], rows)
    figures = {"drain_s": seconds.json(1), "cpu_s": cpu.json(1), "late_worst_s": worst.json()}
    finish("drain", where, {"rounds": options.rounds, "central": options.central, **figures})


if __name__ == "__main__":
    main()
