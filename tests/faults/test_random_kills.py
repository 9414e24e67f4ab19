"""kill -9 of gateway, central, broker and database at random moments: 0 lost, 0 doubled, 0 invented."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import servers
from tests.chain import FULL, Account, Chain

pytestmark = pytest.mark.system

KILLS = 1000 if FULL else 50


@pytest.mark.timeout(6 * KILLS + 300)
def test_nothing_is_lost_doubled_or_invented_whatever_is_killed(tmp_path: Path, account: Account) -> None:
    """A fixed seed: the same victims and the same pauses each time."""
    rng = random.Random(20210714)
    victims = [rng.choice(["gateway", "central", "broker", "database"]) for _ in range(KILLS)]
    counted = ", ".join(f"{name} {n}" for name, n in sorted(Counter(victims).items()))
    account.of(f"kill -9 at random moments ({counted})", f"{KILLS} kills")
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        kills = {
            "gateway": (chain.kill_edge, chain.start_edge),
            "central": (chain.central.kill9, chain.central.start),
            "broker": (broker.kill9, broker.start),
            "database": (influx.kill9, influx.start),
        }
        try:
            chain.start()
            for victim in victims:
                kill, start = kills[victim]
                time.sleep(rng.uniform(0.3, 1.5))  # the moment of the kill, not a wait for anything
                kill()
                time.sleep(rng.uniform(0.0, 0.5))
                start()
            chain.recovers(account)
            chain.finish()
        finally:
            chain.stop()
        chain.verify(account)
    assert account.injected is not None
    assert account.injected > KILLS
