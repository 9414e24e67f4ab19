"""SIGTERM at any moment ends in good order, and loses nothing."""

import random
import time
from pathlib import Path

import pytest

from demo.link import Link
from tests import servers
from tests.chain import FULL, Account, Chain

pytestmark = pytest.mark.system


@pytest.mark.timeout(400)
def test_sigterm_at_any_moment_ends_in_good_order(tmp_path: Path, account: Account) -> None:
    """Gateway and central in turn, at random moments of their lives; then the gateway with a half-open link."""
    rng = random.Random(20180611)
    rounds = 60 if FULL else 8
    account.of("SIGTERM to gateway and central at random moments, once with a half-open link", f"{rounds + 1} times")
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker, Link(broker.port) as link:
        chain = Chain(tmp_path, influx, broker, link.port)

        def end_edge() -> None:
            journal = chain.journal_lines()
            chain.life_ends()
            code = chain.edge.terminate()
            # Before it has set itself up to be told, the signal ends it; then it has not begun to work either.
            assert code == 0 or (code == -15 and chain.journal_lines() == journal), code

        try:
            chain.start()
            for i in range(rounds):
                time.sleep(rng.uniform(0.0, 2.5))  # the moment of the signal, not a wait for anything
                if i % 2:
                    code = chain.central.terminate()
                    assert code in (0, -15), code
                    chain.central.start()
                else:
                    end_edge()
                    chain.start_edge()
            runs = chain.edge.said("gateway gw-test-01 runs")
            servers.wait_until(lambda: chain.edge.said("uplink: connected") > 0 and runs > 0, 10, "a link")
            chain.wait_sent(40, 10)
            link.swallow = True
            chain.wait_sent(20, 10)
            chain.life_ends()
            assert chain.edge.terminate() == 0, "with a link that swallows its goodbye"
            link.restore()
            chain.start_edge()
            chain.recovers(account)
            chain.finish()
        finally:
            chain.stop()
        chain.verify(account)
