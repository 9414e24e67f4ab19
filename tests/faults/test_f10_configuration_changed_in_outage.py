"""F10: the configuration is changed in an outage. The backlog is of the journal, not of the configuration: nothing of it is lost."""

from collections import Counter
from pathlib import Path

import pytest

from tests import servers
from tests.chain import FULL, Account
from tests.faults.scene import scene

pytestmark = pytest.mark.system

PERIOD = "period_s = 0\n"


@pytest.mark.timeout(600 if FULL else 300)
def test_a_changed_configuration_loses_nothing_of_the_backlog(tmp_path: Path, account: Account) -> None:
    """A sensor is renamed, another one taken out, a threshold lowered, after an attempt that is refused."""
    seconds = 120 if FULL else 3
    account.of(
        "link cut; a broken configuration tried; then a sensor renamed, one taken out, a threshold lowered",
        f"{seconds} s, 2 changes",
    )
    with scene(tmp_path) as it:
        chain = it.chain
        config = tmp_path / "edge.toml"
        before = config.read_text()
        it.link.cut()
        chain.wait_sent(20 * seconds, 2 * seconds)
        chain.life_ends()
        assert chain.edge.terminate() == 0

        config.write_text(before.replace(PERIOD, "period_s = -1\n", 1))
        chain.edge.start()
        servers.wait_until(lambda: not chain.edge.running, 10, "a broken configuration is refused")
        assert chain.edge.said("period_s") > 0, "and the fault is named"

        after = before.replace('"level-1"', '"level-one"').replace("levels = [100.0]", "levels = [0.001]")
        head, water, _ = after.partition('[[station.sensor]]\nid = "water"')
        assert water
        config.write_text(head)
        chain.sensors.add("level-one")
        chain.start_edge()
        with account.alarm():
            servers.wait_until(lambda: chain.edge.said("alarm hoyoux-high: raise") == 1, 10, "the new threshold holds")
        chain.wait_sent(40, 10)
        it.link.restore()
        chain.recovers(account)
        it.finish(account)
        named = Counter(row.tags["sensor"] for row in chain.stored())
        waters = [row for row in chain.store.dump("water_level", 0, 2**42) if row.tags["sensor"] == "water"]
    assert named["level-1"] >= 20 * seconds * 0.9, "under the name that it had when they were taken"
    assert named["level-one"] >= 40 * 0.9
    assert len(waters) >= 4 * seconds, "also those of the sensor that is gone"
