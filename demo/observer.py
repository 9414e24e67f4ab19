"""What the demo sees without taking part: the broker's traffic, the gateways' files, central's alarm log."""

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from wire import senml, topics
from wire.alarm import AlarmEvent
from wire.errors import WireError

Kind = Literal["alarm", "readings", "alarm stored", "readings stored"]


@dataclass(frozen=True, slots=True)
class Passed:
    """A message that went through the broker, or a receipt that central gave; `at_s` is real time.monotonic().

    `measured_s`: Unix time of the oldest reading of the pack, for readings and their receipts.
    """

    at_s: float
    gateway: str
    kind: Kind
    measured_s: float = 0.0


class Observer:
    """A client of the broker that only listens. `online` says what each gateway's status topic says."""

    def __init__(self, port: int) -> None:
        self.online: dict[str, bool] = {}
        self._port = port
        self._lock = threading.Lock()
        self._passed: list[Passed] = []
        self._sent: dict[bytes, Passed] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="demo-observer", protocol=paho.MQTTv5)

    def start(self) -> None:
        """Connect and subscribe; what passes from then on is seen. Raises OSError."""
        self._client.on_connect = lambda client, *_: client.subscribe(f"{topics.ROOT}/#", qos=1)
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def passed(self, gateway: str, after_s: float = 0.0) -> list[Passed]:
        """In the order in which the broker gave them out."""
        with self._lock:
            return [p for p in self._passed if p.gateway == gateway and p.at_s >= after_s]

    def _take(self, message: paho.MQTTMessage) -> None:
        try:
            gateway, leaf = topics.parse(message.topic)
        except WireError:
            return
        properties: Any = message.properties
        correlation = getattr(properties, "CorrelationData", b"")
        now = time.monotonic()
        passed: Passed | None = None
        if leaf == topics.STATUS:
            self.online[gateway] = json.loads(message.payload)["online"]
        elif leaf == topics.ALARMS:
            passed = self._sent[correlation] = Passed(now, gateway, "alarm")
        elif leaf == topics.READINGS:
            records = senml.resolve_each(json.loads(message.payload), 0.0)
            oldest = min(r.time for r in records if isinstance(r, senml.Resolved))
            passed = self._sent[correlation] = Passed(now, gateway, "readings", oldest)
        elif leaf == topics.RECEIPT and ("stored", "true") in getattr(properties, "UserProperty", ()):
            about = self._sent.get(correlation)
            if about is not None:
                kind: Kind = "alarm stored" if about.kind == "alarm" else "readings stored"
                passed = Passed(now, gateway, kind, about.measured_s)
        if passed is not None:
            with self._lock:
                self._passed.append(passed)


class JournalView:
    """A gateway's journal as its files say (edge/journal.py describes them): what was taken, what waits for its receipt."""

    def __init__(self, directory: Path) -> None:
        self.taken: Counter[str] = Counter()
        """Readings by series."""
        self._directory = directory
        self._read: dict[Path, int] = {}
        self._series: dict[tuple[Path, int], str] = {}
        self._waiting: set[int] = set()

    @property
    def depth(self) -> int:
        return len(self._waiting)

    def update(self) -> None:
        """Read what has been appended since."""
        for path in sorted(self._directory.glob("*.log")):
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.splitlines():
                self._take(path, json.loads(line[9:]))

    def _take(self, path: Path, record: list[Any]) -> None:
        match record:
            case ["s", index, series]:
                self._series[path, index] = series
            case ["r", number, index, *_]:
                self.taken[self._series[path, index]] += 1
                self._waiting.add(number)
            case ["k", first, last, held, *_]:
                self._waiting -= set(range(first, last + 1)) - set(held)


class EventLog:
    """The alarm events in an SQLite file of a gateway or of central, in the order in which they were recorded."""

    def __init__(self, path: Path, query: str) -> None:
        self.events: list[AlarmEvent] = []
        self._path = path
        self._query = query
        self._last = 0

    def update(self) -> list[AlarmEvent]:
        """What has been recorded since."""
        if not self._path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1)) as db:
                rows = db.execute(self._query, (self._last,)).fetchall()
        except sqlite3.OperationalError:  # its tables are not there yet, or it is busy: next time
            return []
        new = [AlarmEvent.model_validate_json(text) for _, text in rows]
        if rows:
            self._last = rows[-1][0]
        self.events += new
        return new


def gateway_events(data_dir: Path) -> EventLog:
    """The gateway's own log."""
    return EventLog(data_dir / "alarms.db", "SELECT seq, payload FROM event WHERE seq > ? ORDER BY seq")


def central_events(data_dir: Path) -> EventLog:
    """Central's log, of all gateways."""
    return EventLog(
        data_dir / "central.db", "SELECT position, json FROM alarm_event WHERE position > ? ORDER BY position"
    )


def wait_until(condition: Callable[[], bool], stop: threading.Event, timeout_s: float) -> bool:
    """Look every 50 ms until `condition` holds, `stop` is set or the time is up; whether it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline or stop.wait(0.05):
            return condition()
    return True
