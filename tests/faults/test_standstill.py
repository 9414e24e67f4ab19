"""The gateway stands still, as on a machine that is out of memory: what piled up meanwhile is never stamped as fresh."""

import os
import signal
from pathlib import Path

import pytest

from tests import servers
from tests.chain import FULL, STOOD_STILL, Account, Chain

pytestmark = pytest.mark.system


@pytest.mark.timeout(240)
def test_what_piled_up_while_the_gateway_stood_still_is_never_stamped_as_fresh(
    tmp_path: Path, account: Account
) -> None:
    """SIGSTOP, as a machine out of memory does to its processes; the kernel keeps the frames of all that time."""
    seconds = 40 if FULL else 4
    account.of("gateway stopped (SIGSTOP) while its device went on", f"{seconds} s")
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        try:
            chain.start()
            chain.wait_sent(40, 10)
            chain.life_ends()
            os.kill(chain.edge.pid, signal.SIGSTOP)
            chain.wait_sent(20 * seconds, 2 * seconds)
            chain.life_begins()
            os.kill(chain.edge.pid, signal.SIGCONT)
            chain.recovers(account)
            assert chain.edge.said(STOOD_STILL) == 1, "it says so"
            chain.finish()
        finally:
            chain.stop()
        chain.verify(account)
    assert account.unread is not None
    assert account.unread >= 19 * seconds, "what came meanwhile is thrown away"
