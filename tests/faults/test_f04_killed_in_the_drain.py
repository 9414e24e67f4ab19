"""F4: gateway, central, database and broker are killed while a backlog drains."""

from pathlib import Path

import pytest

from tests import servers
from tests.chain import FULL, Account
from tests.faults.ear import listening
from tests.faults.scene import scene

pytestmark = pytest.mark.system

BACKLOG = 300
"""Readings. Eight packs a second: four kills fall into the drain."""


@pytest.mark.timeout(900 if FULL else 300)
def test_each_of_the_four_is_killed_in_the_drain_and_all_arrives_once(tmp_path: Path, account: Account) -> None:
    rounds = 20 if FULL else 1
    account.of(
        f"gateway, central, database and broker killed (-9) one after the other in the drain of {BACKLOG} readings",
        f"{4 * rounds} kills",
    )
    with scene(tmp_path, interval_s=0.02, uplink="backlog_packs_per_s = 8") as it:
        chain = it.chain

        def drains(before: int) -> None:
            """A pack of the backlog has just passed; more are behind it."""
            with listening(it.broker.port) as heard:
                servers.wait_until(lambda: any(0 < h.first <= before for h in heard), 30, "a pack of the backlog")

        for _ in range(rounds):
            it.link.cut()
            chain.wait_sent(BACKLOG, 30)
            before = chain.head
            it.link.restore()
            drains(before)
            chain.kill_edge()
            chain.start_edge()
            drains(before)
            chain.central.kill9()
            chain.central.start()
            drains(before)
            it.influx.kill9()
            it.influx.start()
            drains(before)
            it.broker.kill9()
            it.broker.start()
            chain.recovers(account)
        it.finish(account)
