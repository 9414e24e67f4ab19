"""F13: the broker's database is deleted: its sessions, what it queued, what it retained. It is untrusted transport: all comes again."""

import json
from pathlib import Path

import pytest
from paho.mqtt import subscribe

from tests import servers
from tests.chain import FULL, Account
from tests.faults.scene import scene

pytestmark = pytest.mark.system


@pytest.mark.timeout(300)
def test_a_broker_that_has_forgotten_everything_costs_nothing(tmp_path: Path, account: Account) -> None:
    """Central is away meanwhile, so that the broker has acknowledged readings that nobody has."""
    seconds = 60 if FULL else 3
    account.of(
        "central away, water reaches level 3, then the broker killed (-9) and its database deleted", f"{seconds} s"
    )
    with scene(tmp_path) as it:
        chain = it.chain
        chain.central.kill9()
        it.shore.rise(account)
        chain.wait_sent(20 * seconds, 2 * seconds)
        it.broker.kill9()
        database = tmp_path / "mosquitto" / "mosquitto.db"
        assert database.stat().st_size > 0
        database.unlink()
        it.broker.start()
        chain.central.start()
        chain.recovers(account)
        it.told(account)
        servers.wait_until(lambda: active(it.broker.port) == {"water-high"}, 20, "what is retained stands there again")
        it.finish(account)


def active(port: int) -> set[str]:
    """The rules whose alarms the gateway's retained message names."""
    message = subscribe.simple("maillages/v1/gw-test-01/active", hostname=servers.HOST, port=port, keepalive=5)
    assert message.retain
    return {event["rule"] for event in json.loads(message.payload)["active"]}
