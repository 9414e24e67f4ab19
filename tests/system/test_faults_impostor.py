"""A gateway that names another's receipt topic, or publishes another's station, on a real broker with a real central."""

import json
import queue
import time
from collections.abc import Sequence
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from central.alarms.log import AlarmLog
from central.db import Database
from central.holding import Holding
from central.store.influx import Influx
from tests import servers
from tests.system.test_chain import CENTRAL, Program, Report

pytestmark = pytest.mark.system

VICTIM, IMPOSTOR = "gw-test-01", "gw-other-02"
STATION = """
[[station]]
id = "mehaigne-test"
gateway = "gw-other-02"
commune = "61081"
name = "Mehaigne, essai"
"""


class RawGateway:
    """An MQTT client that publishes what it likes, and hears the receipts of both gateways."""

    def __init__(self, port: int) -> None:
        self.receipts: queue.SimpleQueue[tuple[str, bytes, list[tuple[str, str]]]] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("maillages/v1/+/receipt", 1)
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def receipts_so_far(self) -> list[str]:
        """The gateways of the receipts that have come and were not looked at; they go on waiting to be."""
        found = [self.receipts.get() for _ in range(self.receipts.qsize())]
        for receipt in found:
            self.receipts.put(receipt)
        return [to for to, _, _ in found]

    def pack(self, gateway: str, names: Sequence[str], first: int, answer_to: str) -> str:
        """Publish readings of 1.0 under these names; gives the correlation data."""
        now = time.time()
        records = [{"n": n, "u": "m", "v": 1.0, "t": round(now, 3) + i / 1000} for i, n in enumerate(names)]
        last = first + len(names) - 1
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/senml+json"
        properties.CorrelationData = f"forged:{first}-{last}".encode()
        properties.ResponseTopic = f"maillages/v1/{answer_to}/receipt"
        properties.UserProperty = [
            ("journal", "forged"),
            ("first", str(first)),
            ("last", str(last)),
            ("lane", "live"),
        ]
        self._publish(gateway, "readings", json.dumps(records), properties)
        return f"forged:{first}-{last}"

    def alarm(self, event: dict[str, object], leaf: str = "alarms", gateway: str = IMPOSTOR) -> None:
        """Publish an event, or the set of the active ones."""
        payload = {"active": [event]} if leaf == "active" else event
        self._publish(gateway, leaf, json.dumps(payload), Properties(PacketTypes.PUBLISH))

    def retained(self, gateway: str, leaf: str, payload: object) -> None:
        """Publish what the broker keeps."""
        self._publish(gateway, leaf, json.dumps(payload), Properties(PacketTypes.PUBLISH), retain=True)

    def _publish(self, gateway: str, leaf: str, payload: str, properties: Properties, *, retain: bool = False) -> None:
        self._client.publish(
            f"maillages/v1/{gateway}/{leaf}", payload, qos=1, properties=properties, retain=retain
        ).wait_for_publish(10)

    def _message(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self.receipts.put((message.topic.split("/")[2], properties.CorrelationData, properties.UserProperty))


@pytest.mark.timeout(90)
def test_a_receipt_goes_to_the_topic_that_it_came_on_and_anothers_station_is_refused(
    tmp_path: Path, record_property: Report
) -> None:
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        config = tmp_path / "central.toml"
        text = CENTRAL.format(data=tmp_path / "central", broker=broker.port, influx=influx.url)
        config.write_text(text + STATION)
        central = Program("maillages-central", config, tmp_path / "central.log")
        impostor = RawGateway(broker.port)
        try:
            central.start()
            servers.wait_until(lambda: central.said("connected") == 3, 20, "central's sessions")

            pack = impostor.pack(IMPOSTOR, ["mehaigne-test/level-1/water_level"], 1, answer_to=VICTIM)
            assert impostor.receipts.get(timeout=20) == (IMPOSTOR, pack.encode(), [("stored", "true")])

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
        record_property(
            "fault", "a gateway names another's receipt topic, publishes another's station, alarm and active set"
        )
        record_property("duration", "7 messages")
        for name, value in (("taken", 2), ("lost", 0), ("doubled", 0), ("invented", 0)):
            record_property(name, value)
