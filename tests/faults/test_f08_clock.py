"""F8: the gateway's clock is wrong: set by an hour either way, never synchronised, in 1970."""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import servers
from tests.chain import LEVEL, Account, Chain, level
from tests.faults.scene import scene

pytestmark = pytest.mark.system

EDGE_WITH_A_CLOCK = """
import json, logging, sys, time
from pathlib import Path
from common.clock import Clock
from edge import config, service
logging.basicConfig(level=logging.INFO)
path = Path(sys.argv[1])
def state(name):
    return json.loads(path.read_text())[name]
clock = Clock(
    walltime=lambda: time.time() + state("wall"),
    boottime=lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + state("boot"),
    synchronised=lambda: state("synchronised"),
)
clock.boot_id = state("boot_id")
service.run(config.load(Path(sys.argv[2])), clock)
"""


class GatewayClock:
    """The clock of a gateway's process: how far off its two times are, whether it is synchronised, which boot it is."""

    def __init__(self, path: Path) -> None:
        self.command = [sys.executable, "-c", EDGE_WITH_A_CLOCK, str(path)]
        self._path = path
        self._state: dict[str, object] = {"wall": 0.0, "boot": 0.0, "synchronised": True, "boot_id": "boot-1"}
        self.set()

    def set(self, **state: object) -> None:
        self._state |= state
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._state))
        fresh.replace(self._path)


def balance(chain: Chain, account: Account) -> None:
    """Every row of the journal is in the store once, at its own time, and nothing else is."""
    rows = [(r.wall_ms, r.value) for r in chain.journaled()]
    stored = [(r.time_ms, float(r.fields["value"])) for r in chain.stored()]
    sent = {level(s) for s in chain.log.sent(LEVEL) if s.values}
    account.count(
        injected=len(sent),
        unread=len(sent - {value for _, value in rows}),
        lost=sum((Counter(rows) - Counter(stored)).values()),
        doubled=len(stored) - len({value for _, value in stored}),
        invented=sum((Counter(stored) - Counter(rows)).values()),
    )
    assert (account.lost, account.doubled, account.invented) == (0, 0, 0), account
    assert len({time_ms for time_ms, _ in rows}) == len(rows), "one time for two readings"


@pytest.mark.timeout(240)
def test_a_clock_that_is_set_restamps_nothing_and_doubles_no_time(tmp_path: Path, account: Account) -> None:
    offsets = (0.0, -1.0, -3600.0, 3600.0, 0.0)
    account.of("clock of the gateway set back by 1 s, by 1 h, forward by 2 h, and right again", "4 steps")
    clock = GatewayClock(tmp_path / "clock.json")
    with scene(tmp_path, edge_command=clock.command) as it:
        chain = it.chain
        steps: list[float] = []
        for to in offsets[1:]:
            steps.append(time.time())
            clock.set(wall=to)
            chain.wait_sent(30, 10)
        chain.recovers(account)
        it.shore.water.stop()
        chain.finish()
        balance(chain, account)
        rows = chain.journaled()
        alarms = chain.edge.said("alarm water-high")
    sent = {level(s): s for s in chain.log.sent(LEVEL) if s.values}
    assert [r.boot_ms for r in rows] == sorted(r.boot_ms for r in rows)
    for row in rows:
        frame = sent[row.value]
        phase = sum(1 for at in steps if at <= frame.wall_s)
        lags = [row.wall_ms / 1000 - frame.wall_s - offsets[i] for i in {phase, min(phase + 1, len(steps))}]
        assert any(-0.1 < lag < 1.0 for lag in lags), f"{row} was sent at {frame.wall_s}"
    assert alarms == 0, "no rule runs on the wall clock"


@pytest.mark.timeout(240)
def test_readings_of_1970_get_their_time_when_it_is_known_and_a_mark_when_it_never_is(
    tmp_path: Path, account: Account
) -> None:
    """Two boots without a network begin in 1970. The first is never synchronised; the second is, when the link is back."""
    account.of("two boots in 1970 with no network, water reaches level 3; one is never synchronised", "2 boots")
    clock = GatewayClock(tmp_path / "clock.json")
    in_1970 = -time.time() + 30
    with scene(tmp_path, edge_command=clock.command) as it:
        chain = it.chain
        it.link.cut()
        chain.kill_edge()
        clock.set(wall=in_1970, synchronised=False, boot_id="boot-2")
        chain.start_edge()
        it.shore.rise(account)
        chain.wait_sent(20, 10)
        chain.kill_edge()
        it.shore.power_falls()
        clock.set(wall=-time.time() + 30, boot_id="boot-3")
        chain.start_edge()
        it.shore.rise(account)
        chain.wait_sent(20, 10)
        second_boot = chain.head
        it.link.restore()
        it.told(account)
        chain.wait_sent(40, 10)
        clock.set(wall=0.0, synchronised=True)
        servers.wait_until(lambda: any(r[0] == "y" and r[1] == 3 for r in chain.journal_lines()), 10, "synchronised")
        chain.wait_sent(20, 10)
        with account.recovery():
            clock.set(boot=130.0)  # two minutes go by: the first boot's readings are not held back any longer
            it.shore.water.stop()
            chain.finish()
        balance(chain, account)
        rows = chain.journaled()
        marked = {r.time_ms for r in chain.stored() if r.fields.get("clock") == 1}
    sent = {level(s): s for s in chain.log.sent(LEVEL) if s.values}
    assert {r.wall_ms for r in rows if r.boot == 2} == marked
    assert marked
    assert any(r.boot == 3 and not r.synchronised and r.number <= second_boot for r in rows), "taken in 1970"
    wrong = [r for r in rows if r.boot != 2 and not -0.1 < r.wall_ms / 1000 - sent[r.value].wall_s < 1.0]
    assert not wrong, "every other reading has its own time"
