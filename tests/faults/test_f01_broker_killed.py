"""F1: the broker is killed, and the link is away too. Nothing restarts, nothing is lost, and what is urgent arrives first."""

import itertools
import socket
import struct
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chain import FULL, Account
from tests.faults.ear import listening
from tests.faults.scene import scene

pytestmark = pytest.mark.system

WATCHDOG_S = 60.0
"""WatchdogSec of the units: without a ping for so long, systemd restarts them."""


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


@pytest.mark.timeout(900 if FULL else 300)
def test_broker_and_link_away_then_alarm_first_live_next_backlog_behind_and_nothing_restarts(
    tmp_path: Path, account: Account
) -> None:
    seconds, interval = (600, 0.2) if FULL else (12, 0.05)
    account.of("broker killed (-9) and link cut, water reaches level 3 meanwhile", f"{seconds} s")
    notify = tmp_path / "notify"
    with (
        ServiceManager(notify) as manager,
        scene(tmp_path, interval_s=interval, environment={"NOTIFY_SOCKET": str(notify)}) as it,
    ):
        chain = it.chain
        it.broker.kill9()
        it.link.cut()
        gone = chain.clock.boot()
        it.shore.rise(account)
        chain.wait_sent(round(seconds / interval), 2 * seconds)
        assert chain.clock.boot() - gone > 0.9 * seconds
        it.broker.start()
        with listening(it.broker.port) as heard:
            it.link.restore()
            chain.recovers(account)
            it.told(account)
            chain.wait_sent(20, 20)
            it.finish(account, timeout_s=120)
            order = list(heard)
    first = {lane: next(i for i, h in enumerate(order) if h.lane == lane) for lane in ("live", "backlog")}
    alarms = [i for i, h in enumerate(order) if h.leaf == "alarms"]
    assert alarms
    assert alarms[0] < min(first.values()), "the alarm goes first"
    backlog = [i for i, h in enumerate(order) if h.lane == "backlog"]
    assert first["live"] < backlog[-1] or len(backlog) <= 4, "live readings wait for no backlog"
    processes = {notice.pid for notice in manager.heard}
    assert len(processes) == 2, "edge and central, and no other after them"
    for pid in processes:
        notices = manager.of(pid)
        assert [n.text for n in notices if n.text != "WATCHDOG=1"] == ["READY=1", "STOPPING=1"]
        silences = [later.at_s - earlier.at_s for earlier, later in itertools.pairwise(notices)]
        assert max(silences) < WATCHDOG_S / 4, "fed all the while"
