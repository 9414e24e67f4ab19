"""Broker and link are gone while the water rises: nothing restarts, nothing is lost, and what is urgent arrives first."""

import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demo.link import Link
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from tests import servers
from tests.system.test_chain import FULL, Chain, Report

pytestmark = pytest.mark.system

WATCHDOG_S = 60.0
"""WatchdogSec of the units: without a ping for so long, systemd restarts them."""

WATER = """
[[station.sensor]]
id = "water"
driver = "maxbotix"
port = "{port}"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
[[station.rule]]
id = "water-high"
kind = "high"
sensor = "water"
quantity = "water_level"
levels = [1.2, 1.8, 2.3]
"""


class Notice(NamedTuple):
    pid: int
    at_s: float  # monotonic
    text: str


class ServiceManager:
    """What systemd hears on its notify socket, and from which process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Notice] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ServiceManager":
        self._socket.bind(str(self.path))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", str(self.path))
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        credentials = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
        while True:
            text, ancillary, _, _ = self._socket.recvmsg(1000, socket.CMSG_SPACE(credentials.size))
            if text == b"end":
                return
            ((_, _, data),) = ancillary
            self.heard.append(Notice(credentials.unpack(data)[0], time.monotonic(), text.decode()))

    def of(self, pid: int) -> list[Notice]:
        return [notice for notice in self.heard if notice.pid == pid]


class Heard(NamedTuple):
    """A message of a gateway. For packs: lane, numbers, and the numbers that it says were given up."""

    leaf: str
    lane: str | None
    first: int
    last: int
    thinned: str | None


@contextmanager
def listening(port: int) -> Iterator[list[Heard]]:
    """What gateways publish, in the order in which the broker passes it on."""
    heard: list[Heard] = []
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def on_message(_c: object, _u: object, message: paho.MQTTMessage) -> None:
        if not message.retain:
            pairs = dict(getattr(message.properties, "UserProperty", ()))
            leaf = message.topic.rpartition("/")[2]
            numbers = int(pairs.get("first", 0)), int(pairs.get("last", 0))
            heard.append(Heard(leaf, pairs.get("lane"), *numbers, pairs.get("thinned")))

    client.on_connect = lambda c, *_: c.subscribe("maillages/v1/+/+", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.timeout(900 if FULL else 150)
def test_broker_and_link_away_then_alarm_first_live_next_backlog_behind_and_nothing_restarts(
    tmp_path: Path, record_property: Report
) -> None:
    seconds, interval = (600, 0.2) if FULL else (20, 0.05)
    distance = {"m": 4.5}
    notify = tmp_path / "notify"
    with (
        servers.influxd(tmp_path) as influx,
        servers.mosquitto(tmp_path) as broker,
        Link(broker.port) as link,
        ServiceManager(notify) as manager,
    ):
        chain = Chain(
            tmp_path,
            influx,
            broker,
            link.port,
            interval_s=interval,
            sensors=WATER.format(port=tmp_path / "ttyWATER"),
            environment={"NOTIFY_SOCKET": str(notify)},
        )
        water = Mb7389(
            tmp_path / "ttyWATER",
            "hoyoux-test/water",
            lambda _: distance["m"],
            clock=chain.clock,
            log=DeviceLog(),
            interval_s=0.5,
        )
        try:
            water.start()
            chain.start()
            broker.kill9()
            link.cut()
            gone = chain.clock.boot()
            distance["m"] = 2.6  # level 3 while nobody hears
            chain.wait_sent(round(seconds / interval), 2 * seconds)
            assert chain.clock.boot() - gone > 0.9 * seconds
            assert chain.edge.said("escalate") + chain.edge.said("raise") > 0, "judged without a link"
            broker.start()
            with listening(broker.port) as heard:
                link.restore()
                servers.wait_until(lambda: any(h.lane == "backlog" for h in heard), 60, "the backlog")
                chain.wait_sent(20, 20)
                water.stop()
                chain.finish(timeout_s=120)
                order = list(heard)
        finally:
            chain.stop()
            water.stop()
        outcome = chain.verify()
    first = {lane: next(i for i, h in enumerate(order) if h.lane == lane) for lane in ("live", "backlog")}
    alarms = [i for i, h in enumerate(order) if h.leaf == "alarms"]
    assert alarms
    assert max(alarms[:1]) < min(first.values()), "the alarm goes first"
    backlog = [i for i, h in enumerate(order) if h.lane == "backlog"]
    assert first["live"] < backlog[-1] or len(backlog) <= 4, "live readings wait for no backlog"
    processes = {notice.pid for notice in manager.heard}
    assert len(processes) == 2, "edge and central, and no other after them"
    for pid in processes:
        notices = manager.of(pid)
        assert [n.text for n in notices if n.text != "WATCHDOG=1"] == ["READY=1", "STOPPING=1"]
        silences = [later.at_s - earlier.at_s for earlier, later in itertools.pairwise(notices)]
        assert max(silences) < WATCHDOG_S / 4, "fed all the while"
    outcome.report(record_property, "broker killed and link cut, water reaches level 3 meanwhile", f"{seconds} s")
