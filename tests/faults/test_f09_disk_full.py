"""F9: a full disk, at the gateway, at central, of the database; a card that has become read-only. Alarms go on, readings wait."""

import contextlib
import time
from collections import Counter
from pathlib import Path

import pytest

from central.alarms.log import AlarmLog
from central.db import Database
from central.holding import Holding
from common.clock import rfc3339
from tests import servers
from tests.central.test_alarm_log import STORY
from tests.chain import CENTRAL, FULL, LEVEL, Account, Chain, Program, level
from tests.disks import SmallDisk, card, small_disk
from tests.fakes.raw_gateway import RawGateway
from tests.faults.scene import Scene, scene
from tests.journal_files import reboot

pytestmark = pytest.mark.system

SECONDS = 120 if FULL else 5


def fills(disk: SmallDisk, chain: Chain, times: int = 1) -> None:
    """Until the gateway says that its disk takes nothing. The journal gives its reserve first, which is filled as well."""

    def held() -> bool:
        disk.fill()
        return chain.edge.said("readings are held in memory") >= times

    servers.wait_until(held, 30, "readings are held in memory")


def mailed(it: Scene, account: Account, count: int = 1) -> None:
    with account.alarm():
        servers.wait_until(lambda: len(it.mails) >= count, 20, f"mail {count}")


@pytest.mark.timeout(400)
def test_a_full_disk_at_the_edge_silences_no_alarm_and_loses_no_reading(tmp_path: Path, account: Account) -> None:
    account.of("disk of the gateway full, water reaches level 3 meanwhile", f"{SECONDS} s")
    with small_disk(tmp_path / "disk", 4) as disk, scene(tmp_path, edge_data=disk.path / "edge") as it:
        chain = it.chain
        fills(disk, chain)
        taken = len([r for r in chain.journal_lines() if r[0] == "r"])
        it.shore.rise(account)
        mailed(it, account)
        chain.wait_sent(20 * SECONDS, 2 * SECONDS)
        assert len([r for r in chain.journal_lines() if r[0] == "r"]) == taken, "the disk was not full"
        assert chain.edge.said("WARNING") + chain.edge.said("ERROR") < 30, "the edge is logged, not the level"
        disk.free()
        chain.recovers(account)
        assert chain.edge.said("readings are written again") > 0
        it.finish(account)
        assert not it.shore.phone.messages, "central told them"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("ended", ["kill -9", "SIGTERM", "reboot"])
def test_a_gateway_that_starts_on_a_full_disk_alarms_and_catches_up(
    tmp_path: Path, ended: str, account: Account
) -> None:
    """What it held in memory when it was ended was not taken, and is gone."""
    account.of(
        f"{ended} and start of a gateway whose disk is full, water rises to levels 2 and 3", "until the second alarm"
    )
    with small_disk(tmp_path / "disk", 4) as disk, scene(tmp_path, edge_data=disk.path / "edge") as it:
        chain, shore = it.chain, it.shore
        fills(disk, chain)
        shore.rise(account, 3.0)
        mailed(it, account)
        if ended == "SIGTERM":
            assert chain.edge.terminate() == 0
        else:
            chain.edge.kill9()
        if ended == "reboot":
            reboot(chain.data)
        shore.power_falls()
        disk.fill()
        chain.edge.start()
        shore.rise(account, 3.0)
        fills(disk, chain, times=2)
        shore.rise(account)
        mailed(it, account, 2)
        disk.free()
        chain.recovers(account)
        assert chain.edge.said("readings are written again") > 0
        shore.water.stop()
        chain.device.stop()
        chain.drain()
        taken_is_stored(chain, account)
        assert not list((disk.path / "edge").glob("*.damaged"))
        assert not shore.phone.messages


def taken_is_stored(chain: Chain, account: Account) -> None:
    """The store has what the journal took, and nothing else."""
    taken = Counter((r.wall_ms, r.value) for r in chain.journaled())
    stored = Counter((r.time_ms, float(r.fields["value"])) for r in chain.stored())
    sent = {level(s) for s in chain.log.sent(LEVEL) if s.values}
    account.count(
        injected=len(sent),
        unread=len(sent) - len({value for _, value in taken}),
        lost=sum((taken - stored).values()),
        doubled=stored.total() - len({value for _, value in stored}),
        invented=sum((stored - taken).values()) + len({value for _, value in stored} - sent),
    )
    assert (account.lost, account.doubled, account.invented) == (0, 0, 0), account


@pytest.mark.timeout(400)
def test_a_card_that_becomes_read_only_silences_no_alarm_and_loses_no_more_than_a_power_cut(
    tmp_path: Path, account: Account
) -> None:
    """ext4 as Debian mounts it: an error makes it read-only under the running gateway, and what was not synced is gone. Then a
    person reboots."""
    account.of("card of the gateway read-only, water reaches level 3 meanwhile; then a reboot", f"{SECONDS} s")
    with card(tmp_path / "card", 8) as disk, scene(tmp_path, edge_data=disk.path / "edge") as it:
        chain, shore = it.chain, it.shore
        it.link.cut()
        chain.wait_sent(40, 10)
        disk.fail()
        servers.wait_until(lambda: chain.edge.said("readings are held in memory") > 0, 10, "held in memory")
        shore.rise(account)
        it.link.restore()
        mailed(it, account)
        chain.wait_sent(20 * SECONDS, 2 * SECONDS)
        assert chain.edge.said("WARNING") + chain.edge.said("ERROR") < 30, "the edge is logged, not the level"
        taken = {r[3] for r in chain.journal_lines() if r[0] == "r" and r[2] == of_level(chain)}
        assert chain.edge.terminate() == 0
        disk.unmount()
        disk.mount()
        reboot(chain.data)
        shore.power_falls()
        chain.edge.start()
        chain.recovers(account)
        shore.rise(account)
        shore.water.stop()
        chain.device.stop()
        chain.drain()
        kept = {(r.wall_ms, r.value) for r in chain.journaled()}
        stored = [(r.time_ms, float(r.fields["value"])) for r in chain.stored()]
    sent = {level(s) for s in chain.log.sent(LEVEL) if s.values}
    values = {value for _, value in stored}
    taken |= {value for _, value in kept}
    account.count(
        injected=len(sent),
        unread=len(sent - taken),
        lost=len(taken - values),
        doubled=len(stored) - len(values),
        invented=len(values - sent),
    )
    assert (account.doubled, account.invented) == (0, 0)
    assert kept <= set(stored)


def of_level(chain: Chain) -> int:
    """The index under which the only segment of the journal has the series of the chain's sensor."""
    return next(r[1] for r in chain.journal_lines() if r[0] == "s" and r[2] == f"{LEVEL}/water_level")


@pytest.mark.timeout(400 if FULL else 120)
def test_central_on_a_full_disk_gives_no_receipt_and_the_gateways_own_modem_tells_people(
    tmp_path: Path, account: Account
) -> None:
    """Alarm log, outbox and dead letters are on the full disk; the database is not."""
    account.of("disk of central (alarm log, dead letters) full, water reaches level 3", f"{SECONDS} s")
    with small_disk(tmp_path / "disk", 4) as disk, scene(tmp_path, central_data=disk.path / "central") as it:
        chain, shore = it.chain, it.shore
        stranger = RawGateway(it.broker.port)
        try:
            disk.fill()
            # A dead letter must be kept before its pack is receipted.
            stranger.pack("gw-other-02", ["hoyoux-test/level-1/water_level"], 1, answer_to="gw-other-02")
            servers.wait_until(lambda: chain.central.said("readings wait") > 0, 20, "central says that readings wait")
            shore.rise(account)
            with account.alarm():
                servers.wait_until(lambda: len(shore.phone.messages) == 1, 30, "the gateway's own SMS")
            assert not it.mails
            chain.wait_sent(20 * SECONDS, 2 * SECONDS)
            assert "gw-other-02" not in stranger.receipts_so_far()
            assert chain.central.said("WARNING") + chain.central.said("ERROR") < 40, "the edge is logged, not the level"
            disk.free()
            chain.recovers(account, timeout_s=80)
            assert chain.central.said("takes readings again") == 1
            servers.wait_until(
                lambda: "gw-other-02" in stranger.receipts_so_far(), 20, "the receipt of the refused pack"
            )
            servers.wait_until(lambda: told_of_own_sms(chain), 60, "central records the alarm and the gateway's SMS")
        finally:
            stranger.close()
        it.finish(account, timeout_s=90)


def told_of_own_sms(chain: Chain) -> bool:
    transitions = {row.fields["transition"] for row in chain.store.dump("alarm", 0, 2**53)}
    return {"raise", "notify"} <= transitions


@pytest.mark.timeout(240)
def test_what_the_broker_keeps_is_fetched_again_when_central_has_space_and_nobody_reconnects(tmp_path: Path) -> None:
    with (
        servers.mosquitto(tmp_path) as broker,
        small_disk(tmp_path / "disk", 4) as disk,
        contextlib.ExitStack() as ends,
    ):
        config, log = tmp_path / "central.toml", tmp_path / "central.log"
        text = CENTRAL.format(data=disk.path / "central", broker=broker.port, influx="http://127.0.0.1:1")
        config.write_text(f"{text}\n[web]\nport = {servers.free_port()}\n")
        central = Program("maillages-central", config, log)
        central.start()
        ends.callback(central.kill9)
        gateway = RawGateway(broker.port)
        ends.callback(gateway.close)
        servers.wait_until(lambda: "central-alarms: connected" in log.read_text(), 20, "central on the broker")
        disk.fill()
        now = rfc3339(time.time())
        event = STORY[0].model_copy(update={"gateway": "gw-test-01", "station": "hoyoux-test", "time": now})
        sensor = {"id": "level-1", "driver": "x", "quantities": [{"quantity": "water_level", "period_s": 60}]}
        station = {"id": "hoyoux-test", "name": "x", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensors": [sensor]}
        gateway.retained("gw-test-01", "status", {"online": True, "boot": "b", "version": "1", "since": now})
        gateway.retained("gw-test-01", "stations", {"stations": [station]})
        gateway.retained("gw-test-01", "active", {"active": [event.model_dump(mode="json")]})
        servers.wait_until(lambda: "nothing can be recorded" in log.read_text(), 20, "central says so")
        db = Database(disk.path / "central" / "central.db")
        db.open_read_only()
        ends.callback(db.close)
        assert Holding(db).gateways() == {}
        assert AlarmLog(db).open_occurrences() == []
        disk.free()
        servers.wait_until(lambda: bool(AlarmLog(db).open_occurrences()), 40, "the active alarm")
        servers.wait_until(lambda: all(Holding(db).gateways().get("gw-test-01", [None])), 20, "stations and status")
        assert "alarms are recorded again" in log.read_text()
        assert log.read_text().count("central-alarms: connected") == 1, "on the connection that there was"
        assert central.terminate() == 0


@pytest.mark.timeout(400 if FULL else 120)
def test_a_database_on_a_full_disk_takes_nothing_and_all_later(tmp_path: Path, account: Account) -> None:
    account.of("disk of InfluxDB full; 1.6.7 needs a restart after that", f"{SECONDS} s")
    with small_disk(tmp_path / "disk", 32) as disk, scene(tmp_path, influx_data=disk.path) as it:
        chain = it.chain
        disk.fill()
        servers.wait_until(lambda: chain.central.said("readings wait") > 0, 60, "central says that readings wait")
        chain.wait_sent(10, 10)  # the last receipts are on their way
        receipts = [r for r in chain.journal_lines() if r[0] == "k"]
        chain.wait_sent(20 * SECONDS, 2 * SECONDS)
        assert [r for r in chain.journal_lines() if r[0] == "k"] == receipts, "a receipt without a record"
        disk.free()
        it.influx.restart()  # 1.6.7 keeps the error of its write-ahead log for as long as it runs
        chain.recovers(account, timeout_s=80)
        assert chain.central.said("takes readings again") > 0
        it.finish(account, timeout_s=90)
