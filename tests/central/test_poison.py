"""Whatever a client sends, the next good pack is stored, the next alarm is told, and memory and disk stay bounded."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central.alarms.log import AlarmLog
from central.db import Database
from central.holding import MAX_LETTER_BYTES, Holding
from central.ingest import Decoder, Ingest
from central.intake import Intake
from central.mqtt import Received
from central.registry import Registry
from central.store.embedded import Embedded
from tests import servers
from tests.central.test_alarm_log import OCC, STORY
from tests.central.test_ingest import NOW, STATIONS, Broker, clock, level, pack
from wire import senml

NUMBERED = {"journal": "j", "first": "1", "last": "1", "lane": "live"}


@pytest.fixture
def db(state_at: Path | str):
    database = Database(state_at)
    database.open()
    yield database
    database.close()


def message(payload: bytes, leaf: str = "readings", content: str | None = None, properties: Any = None) -> Received:
    return Received(f"maillages/v1/gw-1/{leaf}", payload, content, None, properties or {}, False, 1, 7)


def record(**labels: Any) -> dict[str, Any]:
    return {"n": "new-one/s/water_level", "u": "m", "t": 1.784e9, "v": 1.0} | labels


POISON = [
    message(b"[" * 100_000),
    message(b"[" * 100_000, "health"),
    message(json.dumps([record()]).encode(), properties=NUMBERED | {"first": "9" * 25, "last": "9" * 25}),
    message(b'[{"n":"a/b/c","v":1,"bt":1e308,"t":1e308}]'),
    message(b'[{"n":"a/b/c","v":' + b"9" * 400 + b"}]"),
    message(cbor2.dumps([record(v=10**400)]), content=senml.CBOR_TYPE),
    message(cbor2.dumps([record(u=b"m")]), content=senml.CBOR_TYPE),
    message(cbor2.dumps([record(u={"a": 1})]), content=senml.CBOR_TYPE),
    message(bytes.fromhex("81a2616e63612f626176c48219ffff01"), content=senml.CBOR_TYPE),  # a decimal fraction, 1e-65536
    message(bytes.fromhex("c482") + b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x01", content=senml.CBOR_TYPE),
]


def test_poison_ends_no_worker_and_is_acknowledged(tmp_path: Path, db: Database) -> None:
    store, broker, kept = Embedded(tmp_path / "store.db"), Broker(), Holding(db)
    store.setup()
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(STATIONS, kept), kept, clock())
    ingest.start()
    for poison in POISON * 2:
        ingest.handle(poison)
    ingest.handle(pack(level(1.5)))
    servers.wait_until(lambda: len(broker.acked) == 2 * len(POISON) + 1, 20, "every message is acknowledged")
    assert store.count("water_level", 0, 2**53, {}) == 1
    assert 5 <= len(kept.dead_letters()) <= len(POISON), "repeats are one"
    ingest.stop()


class Stumbling(Broker):
    """A session whose first publish fails in a way that nobody foresaw."""

    def publish(self, topic, payload, *, correlation=None, properties=()):
        if not self.acked:
            raise RuntimeError("nobody foresaw this")
        return super().publish(topic, payload, correlation=correlation, properties=properties)


def test_what_nobody_foresaw_costs_one_message(tmp_path: Path, db: Database) -> None:
    store, broker, kept = Embedded(tmp_path / "store.db"), Stumbling(), Holding(db)
    store.setup()
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(STATIONS, kept), kept, clock())
    ingest.start()
    ingest.handle(pack(level(1.5)))
    servers.wait_until(lambda: len(broker.acked) == 1, 10, "acknowledged")
    assert broker.sent == []
    assert kept.dead_letters()[0][1].reason == "cannot be handled: RuntimeError"
    ingest.handle(pack(level(0.5)))
    servers.wait_until(lambda: len(broker.acked) == 2, 10, "the next one")
    assert len(broker.sent) == 1
    ingest.stop()


def laughs(depth: int) -> bytes:
    """CBOR of a list that holds itself twice, `depth` times over (tags 28 and 29 share values): a few bytes, 2^depth items."""
    inner = bytes.fromhex("d81c8101")  # shareable 0: [1]
    for i in range(depth):
        inner = bytes.fromhex("d81c82") + inner + b"\xd8\x1d" + cbor2.dumps(depth - i)
    return inner


BAD_TYPES: list[dict[str, Any]] = [
    {"qc": 1.0}, {"qc": "1"}, {"qc": [1]}, {"qc": None}, {"qc": True}, {"ut": "soon"}, {"ut": []}, {"ut": True},
    {"v": "1"}, {"v": True}, {"v": {}}, {"v": None}, {"t": "now"}, {"t": [1]}, {"u": 1}, {"u": ["m"]}, {"n": 1},
    {"n": None}, {"vs": 1, "v": 1}, {"vd": 5}, {"s": "1"}, {"v": 10**30}, {"t": 10**400},
]  # fmt: skip


@pytest.mark.parametrize("content", [senml.JSON_TYPE, senml.CBOR_TYPE])
@pytest.mark.parametrize("bad", [*BAD_TYPES, None, 7, "x", []], ids=repr)
def test_a_record_of_a_bad_type_costs_that_record(bad: Any, content: str) -> None:
    good = {"n": "h-huy/level-1/water_level", "u": "m", "t": NOW - 10, "v": 1.0}
    records = [good, good | bad if isinstance(bad, dict) else bad, good | {"t": NOW - 5, "v": 0.0}]
    payload = json.dumps(records).encode() if content == senml.JSON_TYPE else cbor2.dumps(records)
    decoder = Decoder(Registry(STATIONS, None), clock())  # type: ignore[arg-type]
    out = decoder.decode(message(payload, content=content, properties=NUMBERED | {"last": "3"}))
    assert [point.fields["value"] for point in out.points] == [1.0, 0.0]
    assert list(out.numbers) == [1, 3]
    assert [letter.number for letter in out.letters] == [2]
    assert out.receipt is not None
    assert [text[0] for name, text in out.receipt if name == "rejected"] == ["2"]


def test_a_bad_base_field_costs_those_that_rely_on_it_and_nothing_falls_back_on_the_one_before() -> None:
    records = [
        {"bn": "h-huy/level-1/", "n": "water_level", "u": "m", "t": NOW - 40, "v": 1.0},
        {"bn": 7, "n": "water_level", "u": "m", "t": NOW - 30, "v": 2.0},
        {"n": "water_level", "u": "m", "t": NOW - 20, "v": 3.0},
        {"bn": "h-huy/level-2/", "n": "water_level", "u": "m", "t": NOW - 10, "v": 4.0},
        {"bu": 7, "n": "water_level", "u": "m", "t": NOW - 9, "v": 5.0},
        {"n": "water_level", "t": NOW - 8, "v": 6.0},
    ]
    decoder = Decoder(Registry(STATIONS, None), clock())  # type: ignore[arg-type]
    properties = NUMBERED | {"last": "6"}
    out = decoder.decode(message(json.dumps(records).encode(), content=senml.JSON_TYPE, properties=properties))
    assert list(out.numbers) == [1, 4, 5]
    assert [letter.number for letter in out.letters] == [2, 3, 6]
    assert all(word in out.letters[1].reason for word in ("bn", "7", "expected a string"))


@pytest.mark.parametrize("label", ["n", "bn", "v", "qc", "u", "vd", "vs", "ut", "x_"])
def test_what_grows_without_end_when_it_is_shown_is_shown_short(label: str) -> None:
    payload = b"\x81\xa2" + cbor2.dumps("t") + b"\x01" + cbor2.dumps(label) + laughs(60)
    out = Decoder(Registry(STATIONS, None), clock()).decode(message(payload, content=senml.CBOR_TYPE))  # type: ignore[arg-type]
    assert out.letters
    assert all(len(letter.reason) < 300 for letter in out.letters)


@pytest.mark.parametrize("label", ["u", "vs", "bn", "n", "qc"])
def test_one_long_text_shared_by_many_records_is_not_multiplied(label: str) -> None:
    """The peak of what Python allocates for 20 000 records that share a text of 100 kB; multiplied it would be 2 GB."""
    long = "x" * 100_000
    if label == "bn":
        records: list[Any] = [record(bn=long), *[{"v": 1}] * 20_000]
        payload = cbor2.dumps(records)
    else:
        entry = cbor2.dumps(label)
        first = b"\xa1" + entry + b"\xd8\x1c" + cbor2.dumps(long)
        again = b"\xa1" + entry + b"\xd8\x1d\x00"
        payload = b"\x99\x4e\x21" + first + again * 20_000
    assert len(payload) < 256 * 1024
    decoder = Decoder(Registry(STATIONS, None), clock())  # type: ignore[arg-type]
    tracemalloc.start()
    out = decoder.decode(message(payload, content=senml.CBOR_TYPE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert out.letters
    assert peak < 100_000_000


def test_what_can_never_be_stored_is_not_held() -> None:
    units = ["m", "cm", None, "x" * 100_000]
    records = [{k: v for k, v in record(u=u, t=NOW - i).items() if v is not None} for i, u in enumerate(units)]
    decoder = Decoder(Registry(STATIONS, None), clock())  # type: ignore[arg-type]
    out = decoder.decode(message(json.dumps(records).encode(), properties=NUMBERED | {"last": "4"}))
    assert [held.number for held in out.held] == [1]
    assert [letter.number for letter in out.letters] == [2, 3, 4]
    assert all("expected 'm'" in letter.reason for letter in out.letters)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(
        ["n", "v", "u", "t", "bn", "bt", "bv", "bu", "bs", "s", "vs", "vb", "vd", "qc", "ut", "x_"])), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip
properties = st.dictionaries(
    st.sampled_from(["journal", "first", "last", "lane", "clock", "other"]), st.text(max_size=24), max_size=5
)


@settings(max_examples=300, deadline=None)
@given(
    payload=st.binary(max_size=200)
    | json_values.map(lambda v: json.dumps(v).encode())
    | st.lists(json_values).map(cbor2.dumps),
    content=st.sampled_from([None, senml.JSON_TYPE, senml.CBOR_TYPE, "text/plain"]),
    properties=properties | st.just(NUMBERED),
    leaf=st.sampled_from(["readings", "health"]),
)
def test_decode_never_raises(payload: bytes, content: str | None, properties: dict[str, str], leaf: str) -> None:
    decoder = Decoder(Registry(STATIONS, None), clock())  # type: ignore[arg-type]
    out = decoder.decode(message(payload, leaf, content, properties))
    assert sum(len(letter.payload) for letter in out.letters) <= 20 * (len(payload) + 200)


def test_a_million_bad_records_are_a_few_letters(db: Database) -> None:
    kept = Holding(db)
    decoder = Decoder(Registry(STATIONS, kept), clock())
    for leaf in ("health", "readings"):
        out = decoder.decode(message(b"[" + b",".join([b"1"] * 15_000) + b"]", leaf))
        assert len(out.letters) <= 11
        assert sum(len(letter.payload) for letter in out.letters) < 1000
    big = decoder.decode(message(b"x" * 200_000))
    kept.keep(big.letters, [], 0.0)
    assert len(kept.dead_letters()[0][1].payload) == MAX_LETTER_BYTES


def test_what_finds_no_room_in_the_quarantine_gets_no_receipt(tmp_path: Path, db: Database) -> None:
    store, broker, kept = Embedded(tmp_path / "store.db"), Broker(), Holding(db, max_quarantine=0)
    store.setup()
    ingest = Ingest(lambda: broker, lambda: broker, store, Registry(STATIONS, kept), kept, clock())
    ingest.start()
    ingest.handle(pack(level(1.5, "new-one"), level(0.5)))
    servers.wait_until(lambda: broker.acked == [7], 10, "acknowledged")
    ingest.stop()
    assert broker.sent == []
    assert store.count("water_level", 0, 2**53, {}) == 1


@pytest.mark.parametrize("leaf", ["health", "readings"])
def test_a_record_of_base_fields_alone_is_no_fault(db: Database, leaf: str) -> None:
    station = next(iter(STATIONS))
    base, value = {"bn": f"{station.id}/level-1/"}, {"n": "water_level", "u": "m", "t": NOW, "v": 1.0}
    body = json.dumps([base, value]).encode()
    out = Decoder(Registry(STATIONS, Holding(db)), clock()).decode(message(body, leaf))
    assert out.letters == []
    assert len(out.points) == 1


class Deaf:
    """A session that cannot publish in a way that nobody foresaw."""

    def publish(self, *_: Any, **__: Any) -> bool:
        raise RuntimeError("nobody foresaw this")


def test_an_alarm_is_told_of_though_its_receipt_fails(db: Database) -> None:
    alarms, kept, changed = AlarmLog(db), Holding(db), []
    intake = Intake(
        Deaf,
        alarms,
        Registry(STATIONS, kept),
        kept,
        clock(),
        changed=lambda: changed.append(True),
        described=lambda _: None,
        online=lambda _: None,
        answers={},
        fetch_retained=lambda: None,
        configured=lambda *_: None,
    )
    event = STORY[0].model_copy(update={"gateway": "gw-1", "station": None})
    intake.handle(message(event.model_dump_json().encode(), "alarms"))
    assert changed
    assert alarms.occurrence(OCC) is not None
    for bad in (
        {"id": "x" * 70_000},
        {"seq": 2**70},
        {"time": "0001-01-01T00:00:00+00:00"},
        {"time": "9999-12-31T23:59:59+00:00"},
        {"source": "central"},
    ):
        changes = json.loads(event.model_dump_json()) | bad
        intake.handle(message(json.dumps(changes).encode(), "alarms"))
    assert len(kept.dead_letters()) >= 5
    assert len(alarms.events(OCC)) == 1
