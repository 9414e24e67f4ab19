"""A hundred alarms in a minute over 31 communes, beside the readings of 5,000 gateways that all have just come back.

    .venv/bin/python -m benchmarks.storm            # 4 minutes; --whole: until the last message of the flood, 14 minutes

Real Mosquitto, InfluxDB 1.x, central process and SMTP server. Each gateway says once in that minute that it is online, and sends
a pack of readings a minute, before, while and after the alarms come at random moments (`--seed`). The people are imported from a
table as a commune keeps it: each commune has a planner (told at once) and a mayor (told at the next step), and two emergency
zones get all of level 2 and above of their half. A mail tells of the alarm whose link it carries; links are looked up in
central's outbox, and the account is made from the mails: each pair of recipient and alarm once per step, none missing.
"""

import argparse
import csv
import hashlib
import json
import random
import re
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import closing
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.common import Program, finish, machine, ours, percentile, table, tool_version, usage, wait_until
from benchmarks.scaling import CENTRAL, describe
from central.store.base import Reading, Series
from central.store.influx import Influx
from common import texts
from common.clock import rfc3339
from tests import servers
from tests.fakes.fleet import Fleet
from tests.fakes.providers import SmtpServer
from wire import topics
from wire.alarm import AlarmEvent
from wire.ids import uuid7

COMMUNES = sorted(texts.phrases("commune"))
ZONES = {"zone-huy": COMMUNES[:17], "zone-waremme": COMMUNES[17:]}
ZONE_LEVEL = 2
PACK = 8
DAY_S = 86_400
SETTLE_S = 20.0
LIMIT_S = 1.0
MORE = """
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@example.be"
[escalation]
step_s = {step_s}
rounds = 1
"""
STATION = """
[[station]]
id = "station-{i}"
gateway = "gw-{i}"
commune = "{commune}"
name = "Station {i}"
"""


class Told(NamedTuple):
    """That somebody is to be told of an alarm: at once (step 1) or at the next step."""

    event: str
    recipient: str
    step: int


def commune(gateway: int) -> str:
    return COMMUNES[gateway % len(COMMUNES)]


def people(path: Path) -> None:
    """The table, as `maillages-central recipients import` takes it."""
    rows = [("zone de secours", zone, ", ".join(where), ZONE_LEVEL, 1) for zone, where in ZONES.items()]
    rows += [("planu", f"planu-{nis}", nis, 1, 1) for nis in COMMUNES]
    rows += [("bourgmestre", f"bourgmestre-{nis}", nis, 1, 2) for nis in COMMUNES]
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow(["identifiant", "nom", "fonction", "communes", "courriel", "seuil", "étape"])
        out.writerows(
            [who, who, role, where, f"{who}@example.be", level, step] for role, who, where, level, step in rows
        )


def expected(event: AlarmEvent, where: str) -> set[Told]:
    zones = [zone for zone, communes in ZONES.items() if where in communes and event.level >= ZONE_LEVEL]
    first = {Told(event.id, who, 1) for who in (f"planu-{where}", *zones)}
    return first | {Told(event.id, f"bourgmestre-{where}", 2)}


def alarm(gateway: int, level: int) -> AlarmEvent:
    """A raise at its station, now."""
    now = time.time()
    return AlarmEvent(
        id=uuid7(now), occurrence=uuid7(now), seq=1, source="gateway", gateway=f"gw-{gateway}",
        station=f"station-{gateway}", sensor="level-1", quantity="water_level", rule="high", kind="high",
        transition="raise", state="UNACK", level=level, value=float(level), unit="m", threshold=float(level),
        trend_per_h=0.4, time=rfc3339(now), clock="synchronised",
    )  # fmt: skip


def a_day(url: str, gateways: int) -> None:
    """The last day of the stations that will raise an alarm, which their mails draw."""
    now_ms = round(time.time() * 1000)
    with closing(Influx(url, "maillages")) as store:
        store.setup()
        for i in range(gateways):
            tags = {"gateway": f"gw-{i}", "station": f"station-{i}", "sensor": "level-1"}
            series = Series("water_level", tags)
            ages = range(DAY_S, 0, -60)
            store.write([Reading(series, 0.4 + age % 3600 / 9000, 1, now_ms - age * 1000) for age in ages])


class Storm:
    def __init__(self, fleet: Fleet, port: int, program: Program, seed: int) -> None:
        self.fleet = fleet
        self._program = program
        self._random = random.Random(seed)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="statuses", protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(200)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.sent: dict[str, float] = {}
        """Event -> when it was handed to the broker's connection (monotonic)."""
        self.events: dict[str, AlarmEvent] = {}
        self.receipts: list[bytes] = []

    def blow(self, alarms: int, seconds: float, stop_at: float) -> None:
        """Alarms at random moments of `seconds`, each gateway's `online` in the same time; readings until `stop_at`."""
        begin, gateways = time.monotonic(), self.fleet.gateways
        due = [
            (begin + i * 60 / gateways, "readings", i % gateways)
            for i in range(round((stop_at - begin) / 60 * gateways))
        ]
        due += [(begin + i * seconds / gateways, "status", i) for i in range(gateways)]
        due += [(begin + self._random.uniform(0, seconds), "alarm", i) for i in range(alarms)]
        for at, what, gateway in sorted(due):
            if (wait := at - time.monotonic()) > 0:
                time.sleep(wait)
            if what == "readings":
                self.fleet.measure(gateway, PACK)
            elif what == "status":
                status = {"online": True, "boot": "b", "version": "1", "since": rfc3339(time.time())}
                topic = topics.topic(f"gw-{gateway}", topics.STATUS)
                self._client.publish(topic, json.dumps(status), qos=1, retain=True)
            else:
                event = alarm(gateway, self._random.choices((1, 2, 3), (4, 4, 2))[0])
                self.events[event.id], self.sent[event.id] = event, time.monotonic()
                self.receipts.append(self.fleet.alarm(event))
            self._program.check()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Outbox:
    """Central's own, read beside it: of which alarm and step a mail's link is, and what waits."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def links(self) -> dict[bytes, Told]:
        query = "SELECT t.hash, m.event, m.recipient, m.step FROM ack_token t JOIN message m ON m.id = t.message"
        return {bytes(row[0]): Told(*row[1:]) for row in self._ask(query)}

    def states(self) -> dict[Told, str]:
        query = "SELECT event, recipient, step, state FROM message WHERE purpose = 'alarm'"
        return {Told(*row[:3]): row[3] for row in self._ask(query)}

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()


def told_by(mail: Message, links: dict[bytes, Told]) -> list[Told]:
    """What a mail tells, by its links."""
    body = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    return [links[hashlib.sha256(token.encode()).digest()] for token in re.findall(r"/ack/([\w-]+)", body)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateways", type=int, default=5000)
    parser.add_argument("--alarms", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="in which the alarms come")
    parser.add_argument("--step", type=float, default=90.0, help="seconds to the next step")
    parser.add_argument("--seed", type=int, default=20210714)
    parser.add_argument("--whole", action="store_true", help="wait until the last message of the flood is told")
    parser.add_argument("--keep", type=Path, help="a directory for central's log and state, kept")
    options = parser.parse_args()
    where = machine("maillages", "sqlalchemy", "msgspec")
    where["influxd"] = tool_version("influxd", "version")
    where["mosquitto"] = tool_version("/usr/sbin/mosquitto", "-h")
    with (
        tempfile.TemporaryDirectory(prefix="maillages-bench-") as name,
        SmtpServer() as smtp,
        servers.influxd(Path(name)) as influx,
        servers.mosquitto(Path(name), "max_inflight_messages 200\nautosave_interval 5\nset_tcp_nodelay true") as broker,
    ):
        tmp = options.keep or Path(name)
        tmp.mkdir(parents=True, exist_ok=True)
        describe(broker.port, options.gateways)
        a_day(influx.url, options.alarms)
        config = tmp / "central.toml"
        head = CENTRAL.format(
            data=tmp / "central", state="", broker=broker.port, influx=influx.url, page=servers.free_port()
        )
        stations = "".join(STATION.format(i=i, commune=commune(i)) for i in range(options.gateways))
        config.write_text(head + MORE.format(smtp=smtp.port, step_s=options.step) + stations)
        people(tmp / "people.csv")
        subprocess.run(
            [ours("maillages-central"), "recipients", "import", tmp / "people.csv", "-c", config],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        fleet = Fleet(broker.port, options.gateways, retry_s=30.0, start_ms=round((time.time() - 60) * 1000))
        program = Program([ours("maillages-central"), "run", "-c", config], tmp / "central.log")
        storm = Storm(fleet, broker.port, program, options.seed)
        try:
            for gateway in range(options.gateways):
                fleet.measure(gateway, 1)
            wait_until(fleet.receipted, 300, "the first receipts", program)
            before, began = usage(program.pid), time.monotonic()
            outbox = Outbox(tmp / "central" / "central.db")
            end = began + options.seconds + options.step + SETTLE_S
            storm.blow(options.alarms, options.seconds, end)
            wanted = {
                told for event in storm.events.values() for told in expected(event, commune(int(event.gateway[3:])))
            }
            if options.whole:
                wait_until(
                    lambda: sum(s == "accepted" for s in outbox.states().values()) >= len(wanted), 900, "all", program
                )
            wait_until(fleet.receipted, 60, "all receipts", program)
            after, took_s = usage(program.pid), time.monotonic() - began
        finally:
            storm.close()
            program.stop()
            fleet.close()
        links, states = outbox.links(), outbox.states()
        with closing(Influx(influx.url, "maillages")) as store:
            stored = store.count("water_level", 0, 2**42, {}) - options.alarms * DAY_S // 60
        print(
            f"readings {fleet.sent:,}, stored {stored:,}; central {(after.cpu_s - before.cpu_s) / took_s:.0%} of a processor,"
            f" {after.rss / 1e6:.0f} MB"
        )
        report(options, where, storm, smtp, wanted, links, states)


def report(
    options: argparse.Namespace,
    where: dict[str, Any],
    storm: Storm,
    smtp: SmtpServer,
    wanted: set[Told],
    links: dict[bytes, Told],
    states: dict[Told, str],
) -> None:
    """Who was told of what, how often and how late."""
    told: Counter[Told] = Counter()
    delay: dict[Told, float] = {}
    joint = 0
    ids = Counter(str(mail["Message-ID"]) for _, mail in smtp.mails)
    for (_, mail), at in zip(smtp.mails, smtp.times, strict=True):
        tells = told_by(mail, links)
        joint += len(tells) > 1
        for each in tells:
            told[each] += 1
            delay.setdefault(each, at - storm.sent[each.event] - (each.step - 1) * options.step)
    waiting = {t for t in wanted if t not in told and states.get(t) == "waiting"}
    missing = wanted - told.keys() - waiting
    level = {event.id: event.level for event in storm.events.values()}
    groups = {
        "planner of the commune, at once": [t for t in wanted if t.recipient.startswith("planu")],
        "mayor, after the step": [t for t in wanted if t.step == 2],
        "emergency zone, level 3": [t for t in wanted if t.recipient in ZONES and level[t.event] == 3],
        "emergency zone, level 2, flooded": [t for t in wanted if t.recipient in ZONES and level[t.event] == 2],
    }
    rows, figures = [], {}
    for name, group in groups.items():
        delays = [delay[t] for t in group if t in delay]
        if not delays:
            continue
        p50, p99, worst = percentile(delays, 50), percentile(delays, 99), max(delays)
        held = sum(t in waiting for t in group)
        rows.append([name, str(len(group)), str(len(delays)), str(held), f"{p50:.3f}", f"{p99:.3f}", f"{worst:.3f}"])
        figures[name] = {"due": len(group), "told": len(delays), "p50_s": round(p50, 3), "p99_s": round(p99, 3)}
    print()
    table(["from the event to its mail taken, s", "due", "told", "held for room", "p50", "p99", "worst"], rows)
    receipts = [storm.fleet.receipts[c] - storm.sent[c.decode()] for c in storm.receipts]
    twice = sum(n > 1 for n in told.values())
    print(f"\nreceipt of an alarm: p50 {percentile(receipts, 50):.3f} s, p99 {percentile(receipts, 99):.3f} s")
    print(
        f"{len(storm.events)} alarms, {len(wanted)} to tell, {len(smtp.mails)} mails ({joint} about several alarms);"
        f" missing {len(missing)}, told twice {twice}, not due {len(told.keys() - wanted)},"
        f" mails under one Message-ID {sum(n > 1 for n in ids.values())}"
    )
    finish("storm", where, {
        "gateways": options.gateways, "alarms": len(storm.events), "due": len(wanted), "mails": len(smtp.mails),
        "missing": len(missing), "twice": twice, "held": len(waiting), "limit_s": LIMIT_S, "groups": figures,
    })  # fmt: skip


if __name__ == "__main__":
    main()
