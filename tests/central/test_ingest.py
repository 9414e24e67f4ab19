"""What central makes of a pack: whose station it is, what is refused, what is held. On a real embedded store."""

import dataclasses
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central import config
from central.db import Database
from central.holding import Holding
from central.ingest import Decoder, Ingest
from central.mqtt import Received
from central.registry import Registry
from central.store.base import Reading
from central.store.embedded import Embedded
from common.clock import Clock
from tests import servers
from wire import senml
from wire.station import Stations

NOW = 1_780_000_000.0
STATIONS = (
    config.Station(id="h-huy", gateway="gw-1", commune="61031", name="Huy"),
    config.Station(id="m-moha", gateway="gw-2", commune="61072", name="Moha"),
)


class Broker:
    """Notes what would go to the broker."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, list[tuple[str, str]]]] = []
        self.acked: list[int] = []

    def ack(self, message: Received) -> None:
        self.acked.append(message.place)

    def publish(self, topic, _payload, *, correlation=None, properties=()):
        self.sent.append((topic, correlation, list(properties)))
        return True


def clock() -> Clock:
    return Clock(walltime=lambda: NOW, trust="always")


@pytest.fixture
def holding(tmp_path: Path):
    db = Database(tmp_path / "central.db")
    db.open()
    yield Holding(db)
    db.close()


def pack(*records: dict, gateway: str = "gw-1", first: int = 1, numbered: bool = True) -> Received:
    properties = {"journal": "j", "first": str(first), "last": str(first + len(records) - 1), "lane": "live"}
    payload = json.dumps(list(records)).encode()
    topic = f"maillages/v1/{gateway}/readings"
    return Received(topic, payload, None, None, properties if numbered else {}, False, 1, 7)


def level(value: float, station: str = "h-huy", **more: object) -> dict:
    return {"n": f"{station}/level-1/water_level", "u": "m", "t": NOW, "v": value, **more}


def test_zero_is_stored_and_another_gateways_station_is_refused(holding: Holding) -> None:
    decoded = Decoder(Registry(STATIONS, holding), clock()).decode(pack(level(0.0), level(1.0, "m-moha")))
    assert [p.fields["value"] for p in decoded.points] == [0.0]
    (letter,) = decoded.letters
    assert letter.number == 2
    assert "not registered to gateway gw-1" in letter.reason
    assert decoded.receipt == [("stored", "true"), ("rejected", f"2 {letter.reason}")]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (level(1.0, u="cm"), "unit 'cm', expected 'm'"),
        (level(1.0, t=NOW + 100_000), "in the future"),
        (level(1.0, t=5), "the clock was not set"),
        (level(1.0, t=0), "the clock was not set"),
        (level(1.0, t=1_000_000_000), "the clock was not set"),
        (level(1.0, qc=8), "QARTOD"),
        ({"n": "h-huy/level-1/wetness", "u": "m", "t": NOW, "v": 1}, "quantity 'wetness' is unknown"),
        ({"n": "h-huy/level-1/water_level", "u": "m", "t": NOW, "vs": "high"}, "no numeric value"),
    ],
)
def test_a_bad_record_is_named_and_the_good_one_stored(holding: Holding, record: dict, said: str) -> None:
    decoded = Decoder(Registry(STATIONS, holding), clock()).decode(pack(record, level(2.0)))
    assert [p.fields["value"] for p in decoded.points] == [2.0]
    assert said in decoded.letters[0].reason
    assert decoded.letters[0].number == 1


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1", b"\xff\x00", b"[]"])
def test_what_is_no_pack_becomes_a_dead_letter(holding: Holding, payload: bytes) -> None:
    message = Received("maillages/v1/gw-1/readings", payload, None, None, {}, False, 1, 7)
    decoded = Decoder(Registry(STATIONS, holding), clock()).decode(message)
    assert not decoded.points
    assert decoded.receipt is None
    assert len(decoded.letters) == 1


def test_an_unknown_station_is_held_and_stored_when_it_is_registered(tmp_path: Path, holding: Holding) -> None:
    store, broker = Embedded(tmp_path / "store.db"), Broker()
    store.setup()
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(STATIONS, holding), holding, clock())
    ingest.start()
    ingest.handle(pack(level(1.5, "new-one"), level(0.5)))
    servers.wait_until(lambda: broker.acked == [7], 10, "acknowledged")
    assert broker.sent == [("maillages/v1/gw-1/receipt", b"j:1-2", [("stored", "true"), ("held", "1")])]
    ingest.stop()

    more = (*STATIONS, config.Station(id="new-one", gateway="gw-1", commune="61031", name="New"))
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(more, holding), holding, clock())
    ingest.start()
    ingest.replay("gw-1")
    servers.wait_until(lambda: len(broker.sent) == 2, 10, "released")
    ingest.stop()
    assert broker.sent[1] == ("maillages/v1/gw-1/receipt", b"j:1-1", [("stored", "true")])
    assert store.last("water_level", {"station": "new-one"}) == (round(NOW * 1000), 1.5)
    assert holding.unknown_names() == []
    store.close()


def test_a_sensor_that_the_gateway_does_not_list_is_held(holding: Holding) -> None:
    registry = Registry(STATIONS, holding)
    info = {"id": "h-huy", "name": "Huy", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensors": []}
    registry.publish("gw-1", Stations.model_validate({"stations": [info]}))
    decoded = Decoder(registry, clock()).decode(pack(level(1.0)))
    assert decoded.receipt == [("stored", "true"), ("held", "1")]


class SlowStore(Embedded):
    """A store whose first write takes until `go` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writing, self.go = threading.Event(), threading.Event()

    def write(self, points):
        if not self.writing.is_set():
            self.writing.set()
            assert self.go.wait(10)
        return super().write(points)


def described(*sensors: str) -> Stations:
    quantity = {"quantity": "water_level", "period_s": 60, "thresholds": (None, None, None)}
    infos = [{"id": s, "driver": "maxbotix", "quantities": [quantity]} for s in sensors]
    info = {"id": "h-huy", "name": "Huy", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensors": infos}
    return Stations.model_validate({"stations": [info]})


def test_readings_of_a_sensor_that_is_no_longer_configured_are_stored(holding: Holding) -> None:
    """A backlog may be older than the configuration, and central restarted since."""
    registry = Registry(STATIONS, holding)
    registry.publish("gw-1", described("level-1"))
    registry.publish("gw-1", described("level-one"))
    after = Registry(STATIONS, holding)
    after.load()
    for one in (registry, after):
        assert Decoder(one, clock()).decode(pack(level(1.0))).receipt == [("stored", "true")]
        assert [s.id for s in one.sensors("h-huy")] == ["level-one"]


def test_what_is_registered_while_it_is_being_held_is_stored(tmp_path: Path, holding: Holding) -> None:
    store, broker, registry = SlowStore(tmp_path / "store.db"), Broker(), Registry(STATIONS, holding)
    store.setup()
    registry.publish("gw-1", described())
    ingest = Ingest(lambda: broker, lambda: broker, store, registry, holding, clock())
    ingest.start()
    ingest.handle(pack(level(1.5)))
    assert store.writing.wait(10)
    registry.publish("gw-1", described("level-1"))
    ingest.replay("gw-1")  # the other worker finds nothing: the reading is not in the quarantine yet
    ingest.handle(pack(level(2.5, t=NOW - 1), first=2))
    servers.wait_until(lambda: len(broker.sent) == 1, 10, "what came after the replay")
    store.go.set()
    servers.wait_until(lambda: len(broker.sent) == 3, 10, "released")
    ingest.stop()
    stored, held = ("stored", "true"), ("held", "1")
    assert [sent[1:] for sent in broker.sent] == [
        (b"j:2-2", [stored]),
        (b"j:1-1", [stored, held]),
        (b"j:1-1", [stored]),
    ]
    assert store.last("water_level", {"station": "h-huy"}) == (round(NOW * 1000), 1.5)
    store.close()


def test_a_write_that_waits_holds_up_no_other_and_is_not_acknowledged(tmp_path: Path, holding: Holding) -> None:
    store, broker = SlowStore(tmp_path / "store.db"), Broker()
    store.setup()
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(STATIONS, holding), holding, clock())
    ingest.start()
    ingest.handle(pack(level(1.5)))
    assert store.writing.wait(10)
    ingest.handle(pack(level(2.5, t=NOW + 1), first=2))
    servers.wait_until(lambda: len(broker.sent) == 1, 10, "the second pack's receipt")
    assert broker.sent[0][1] == b"j:2-2"
    store.go.set()
    servers.wait_until(lambda: len(broker.sent) == 2, 10, "the first pack's receipt")
    ingest.stop()
    store.close()


def test_health_gets_a_receipt_when_it_asks_for_one_and_was_stored(tmp_path: Path, holding: Holding) -> None:
    store, broker = SlowStore(tmp_path / "store.db"), Broker()
    store.setup()
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(STATIONS, holding), holding, clock())
    ingest.start()

    def health(place: int, correlation: bytes | None, payload: bytes) -> Received:
        return Received("maillages/v1/gw-9/health", payload, None, correlation, {}, False, 1, place)

    good = json.dumps([{"n": "joined", "t": NOW, "v": 1}]).encode()
    ingest.handle(health(1, b"join-1", good))
    assert store.writing.wait(10)
    assert not broker.sent, "not before the database has it"
    store.go.set()
    for place, correlation, payload in ((2, None, good), (3, b"bad", b'[{"n": "x"}]'), (4, b"no pack", b"?")):
        ingest.handle(health(place, correlation, payload))
    servers.wait_until(lambda: sorted(broker.acked) == [1, 2, 3, 4], 10, "all are done with")
    assert broker.sent == [("maillages/v1/gw-9/receipt", b"join-1", [("stored", "true")])]
    ingest.stop()
    store.close()


RECORD = st.fixed_dictionaries(
    {
        "n": st.sampled_from(
            ["h-huy/level-1/water_level", "m-moha/level-1/water_level", "x-new/level-1/water_level", "h-huy"]
        ),
        "v": st.one_of(st.floats(-10, 10), st.integers(-3, 3), st.just("1"), st.just(True), st.none()),
        "t": st.one_of(st.floats(NOW - 5, NOW), st.just(0), st.just(-5), st.just(NOW + 100_000)),
    },
    optional={
        "u": st.sampled_from(["m", "Cel", 3]),
        "qc": st.sampled_from([1, 2, 3, 4, 9, 8, True]),
        "vs": st.just("a"),
    },
)


@given(st.lists(RECORD, min_size=1, max_size=6))
def test_the_short_way_and_the_long_way_agree(records: list[dict]) -> None:
    """The content type of our gateways opens the short way; without one every pack goes the long way."""
    decoder = Decoder(Registry(STATIONS, Holding(Database(Path("never-opened")))), clock())
    decoder.decode(pack(level(1.0)))  # the name is known from here on
    message = pack(*records)
    short = decoder.decode(dataclasses.replace(message, content_type=senml.JSON_TYPE))
    long = decoder.decode(message)
    assert [(p.series, dict(p.fields), p.time_ms) for p in short.points] == [tuple(p) for p in long.points]
    assert list(short.numbers) == list(long.numbers)
    assert (short.receipt, short.letters, short.held) == (long.receipt, long.letters, long.held)


def test_our_own_packs_go_the_short_way(holding: Holding) -> None:
    decoder = Decoder(Registry(STATIONS, holding), clock())
    message = dataclasses.replace(
        pack({"bn": "h-huy/level-1/", "n": "water_level", "u": "m", "t": NOW, "v": 0, "qc": 3}),
        content_type=senml.JSON_TYPE,
    )
    decoder.decode(message)
    (reading,) = decoder.decode(message).points
    assert isinstance(reading, Reading)
    assert (reading.value, reading.qc, reading.time_ms) == (0.0, 3, round(NOW * 1000))
