"""F5: a USB adapter is unplugged, and comes back under another number, while another device has got its own."""

from pathlib import Path

import pytest

from edge.emulators.pty import PtyDevice
from tests import servers
from tests.chain import FULL, Account
from tests.faults.scene import scene

pytestmark = pytest.mark.system

COMM_FAIL = """
[[station.rule]]
id = "hoyoux-comm"
kind = "comm_fail"
sensor = "level-1"
errors = 2
"""


@pytest.mark.timeout(240)
def test_a_pulled_adapter_comes_back_by_itself_under_another_number_and_is_told_of(
    tmp_path: Path, account: Account
) -> None:
    """The pty hangs up and its path disappears; then the path leads to another pty. Who sits on the first one is not read."""
    times, seconds = (3, 30) if FULL else (1, 1)
    account.of("serial adapter pulled and put back under another number", f"{times} x {seconds} s beyond the alarm")
    with scene(tmp_path, sensors=COMM_FAIL) as it:
        chain = it.chain

        def told(transition: str) -> int:
            rows = chain.store.dump("alarm", 0, 2**53)
            return sum(1 for r in rows if (r.tags["rule"], r.fields["transition"]) == ("hoyoux-comm", transition))

        for time in range(1, times + 1):
            number = chain.device.path.readlink()
            chain.life_ends()
            chain.device.unplug()
            strangers = [PtyDevice(tmp_path / f"ttySTRANGER{time}")]
            strangers[0].start()  # it gets the lowest number that is free
            with account.alarm():
                servers.wait_until(lambda n=time: told("raise") == n, 40, "comm_fail at central")
            chain.device.pause(seconds)
            assert told("clear") == time - 1
            chain.device.replug()
            while chain.device.path.readlink() == number:  # another program let go of it meanwhile
                chain.device.unplug()
                strangers.append(PtyDevice(tmp_path / f"ttySTRANGER{time}-{len(strangers)}"))
                strangers[-1].start()
                chain.device.replug()
            with account.recovery():
                servers.wait_until(lambda n=time: told("clear") == n, 20, "comm_fail cleared at central")
            assert all(stranger.write(b"R4999\r" * 3) for stranger in strangers)
            chain.wait_sent(20, 10)
            for stranger in strangers:
                stranger.stop()
        assert chain.edge.running
        it.finish(account)
