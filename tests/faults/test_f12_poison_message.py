"""F12: messages that nobody can store: poison on every topic, and a gateway that speaks in another's name."""

import contextlib
import queue
from pathlib import Path

import pytest

from central.alarms.log import AlarmLog
from central.db import Database
from central.holding import Holding
from central.store.influx import Influx
from tests import servers
from tests.central.test_poison import POISON
from tests.chain import CENTRAL, Account, Program
from tests.fakes.raw_gateway import RawGateway
from tests.faults.scene import scene

pytestmark = pytest.mark.system

VICTIM, IMPOSTOR = "gw-test-01", "gw-other-02"
STATION = """
[[station]]
id = "mehaigne-test"
gateway = "gw-other-02"
commune = "61081"
name = "Mehaigne, essai"
"""


@pytest.mark.timeout(240)
def test_a_receipt_goes_to_the_topic_that_it_came_on_and_anothers_station_is_refused(
    tmp_path: Path, account: Account
) -> None:
    account.of(
        "a gateway names another's receipt topic, publishes another's station, alarm and active set", "9 messages"
    )
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        config = tmp_path / "central.toml"
        text = CENTRAL.format(data=tmp_path / "central", broker=broker.port, influx=influx.url)
        config.write_text(text + STATION)
        central = Program("maillages-central", config, tmp_path / "central.log")
        impostor = RawGateway(broker.port)
        try:
            central.start()
            for session in ("alarms", "readings", "receipts"):
                servers.wait_until(
                    lambda s=session: central.said(f"central-{s}: connected") == 1, 20, f"session {session}"
                )

            first = None
            for _ in range(10):  # until central has subscribed it is nobody's
                pack = impostor.pack(IMPOSTOR, ["mehaigne-test/level-1/water_level"], 1, answer_to=VICTIM)
                with contextlib.suppress(queue.Empty):
                    first = impostor.receipts.get(timeout=5)
                    break
            assert first == (IMPOSTOR, pack.encode(), [("stored", "true")])

            names = ["hoyoux-test/level-1/water_level", "mehaigne-test/level-1/water_level"]
            pack = impostor.pack(IMPOSTOR, names, 2, answer_to=VICTIM)
            to, correlation, properties = impostor.receipts.get(timeout=20)
            reason = f"station hoyoux-test is not registered to gateway {IMPOSTOR}"
            assert (to, correlation) == (IMPOSTOR, pack.encode())
            assert properties == [("stored", "true"), ("rejected", f"2 {reason}")]

            event = {
                "id": "0190a000-0000-7000-8000-000000000001", "occurrence": "0190a000-0000-7000-8000-000000000002",
                "seq": 1, "source": "gateway", "gateway": IMPOSTOR, "station": "hoyoux-test", "sensor": "level-1",
                "quantity": "water_level", "rule": "hoyoux-high", "kind": "high", "transition": "raise", "state": "UNACK",
                "level": 3, "value": 9.0, "unit": "m", "threshold": 2.3, "time": "2026-07-14T18:05:00.000+02:00",
                "clock": "synchronised", "status": "Actual",
            }  # fmt: skip
            impostor.alarm(event)
            impostor.alarm(event | {"gateway": VICTIM})
            impostor.alarm(event, "active")
            impostor.alarm(event | {"gateway": VICTIM}, "active")
            occurrence = "0190a000-0000-7000-8000-000000000004"
            mine = event | {"station": "hoyoux-test", "gateway": VICTIM, "occurrence": occurrence}
            impostor.alarm(mine | {"id": "0190a000-0000-7000-8000-000000000005"}, gateway=VICTIM)
            theirs = mine | {"station": "mehaigne-test", "gateway": IMPOSTOR, "transition": "clear", "state": "NORMAL"}
            impostor.alarm(theirs | {"id": "0190a000-0000-7000-8000-000000000006"})
            # What comes on the same session after them is answered, so they have been dealt with.
            honest = event | {"station": "mehaigne-test", "id": "0190a000-0000-7000-8000-000000000003"}
            impostor.alarm(honest)
            expected = {(VICTIM, b"0190a000-0000-7000-8000-000000000005"), (IMPOSTOR, str(honest["id"]).encode())}
            got = set()
            while got != expected:
                to, correlation, properties = impostor.receipts.get(timeout=20)
                if ("stored", "true") in properties:
                    got.add((to, correlation))
                    assert got <= expected
            assert central.terminate() == 0
        finally:
            if central.running:
                central.kill9()
            impostor.close()
        answered = []
        while not impostor.receipts.empty():
            answered.append(impostor.receipts.get())
        assert all(dict(p).keys() == {"notifying"} for _, _, p in answered), answered

        rows = Influx(influx.url, "maillages").dump("water_level", 0, 2**42)
        account.count(injected=2, lost=2 - len(rows), invented=sum(r.tags["station"] != "mehaigne-test" for r in rows))
        assert [r.tags["station"] for r in rows] == ["mehaigne-test"] * 2
        db = Database(tmp_path / "central" / "central.db")
        db.open()
        letters = [(letter.topic.rpartition("/")[2], letter.reason) for _, letter in Holding(db).dead_letters()]
        assert sorted((o.gateway, o.station, o.state) for o in AlarmLog(db).open_occurrences()) == [
            (IMPOSTOR, "mehaigne-test", "UNACK"),
            (VICTIM, "hoyoux-test", "UNACK"),
        ]
        db.close()
        assert sorted(letters) == sorted([
            ("readings", reason),
            ("alarms", reason),
            ("alarms", f"gateway: {VICTIM} on the topic of {IMPOSTOR}"),
            ("alarms", f"occurrence {occurrence} is not of gateway {IMPOSTOR}"),
            ("active", reason),
            ("active", f"gateway: {VICTIM} on the topic of {IMPOSTOR}"),
        ])  # fmt: skip


LEAVES = ("readings", "alarms", "health", "active", "stations", "status", "receipt", "cmd/ack", "cmd/resend", "nothing")


@pytest.mark.timeout(240)
def test_poison_on_every_topic_holds_nothing_up(tmp_path: Path, account: Account) -> None:
    """What breaks decoders, on the topics that central hears and on those that the gateway hears, while readings flow."""
    account.of(f"{len(POISON)} kinds of poison on {len(LEAVES)} topics, water reaches level 3 meanwhile", "3 rounds")
    with scene(tmp_path) as it:
        chain = it.chain
        stranger = RawGateway(it.broker.port)
        try:
            for turn in range(3):
                for leaf in LEAVES:
                    for poison in POISON:
                        stranger.raw("gw-test-01", leaf, poison.payload, poison.content_type)
                if turn == 1:
                    it.shore.rise(account)
            it.told(account)
            chain.recovers(account)
        finally:
            stranger.close()
        assert chain.edge.running
        assert chain.central.running
        it.finish(account)
        db = Database(tmp_path / "central" / "central.db")
        db.open()
        letters = Holding(db).dead_letters()
        db.close()
    assert letters, "a person can see what it was"
    assert len(letters) <= len(LEAVES) * len(POISON), "repeats are one"
