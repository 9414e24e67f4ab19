"""One behaviour suite for every store; then what only a real InfluxDB does, and what other versions of it would answer.

InfluxDB 2.x is not in Debian: the tests of it run where MAILLAGES_INFLUX2_URL and MAILLAGES_INFLUX2_TOKEN name one that runs
and its operator's token. They use the organisation `maillages-test` and remove their buckets and tokens again.
"""

import base64
import gzip
import http.server
import json
import math
import os
import socket
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client.client.influxdb_client import InfluxDBClient

from central.errors import NeedsPerson, Unavailable
from central.store.base import Point, Reading, Row, Series
from central.store.embedded import Embedded
from central.store.influx import BATCH, Influx, Tokens, setup_2x
from central.store.lineprotocol import line
from tests import servers

T0 = 1_780_000_000_000
HUY = Series("water_level", {"gateway": "gw-huy-01", "station": "hoyoux-huy", "sensor": "level-1"})
AMAY = Series("water_level", {"gateway": "gw-amay-01", "station": "meuse-amay", "sensor": "level-1"})


def reading(series, value, time_ms, qc=1):
    return Point(series, {"value": value, "qc": qc}, time_ms)


@pytest.fixture(scope="module")
def influx_server(tmp_path_factory):
    with servers.influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


class Server2x(NamedTuple):
    url: str
    admin_token: str


class Bucket(NamedTuple):
    """A bucket of its own, and the two tokens of it that a set-up makes."""

    url: str
    name: str
    tokens: Tokens

    def store(self):
        """As central reaches it."""
        return Influx(self.url, self.name, "maillages", self.tokens.write)


@pytest.fixture(scope="session")
def influx_2x():
    url, token = os.environ.get("MAILLAGES_INFLUX2_URL"), os.environ.get("MAILLAGES_INFLUX2_TOKEN")
    if not url or not token:
        pytest.skip("no InfluxDB 2.x: MAILLAGES_INFLUX2_URL and MAILLAGES_INFLUX2_TOKEN are not set")
    return Server2x(url, token)


@contextmanager
def new_bucket(server, retention_days=0):
    name = f"t-{uuid.uuid4()}"
    tokens = setup_2x(
        server.url, server.admin_token, organisation="maillages-test", bucket=name, retention_days=retention_days
    )
    try:
        yield Bucket(server.url, name, tokens)
    finally:
        with InfluxDBClient(server.url, token=server.admin_token) as client:
            bucket = client.buckets_api().find_bucket_by_name(name)
            for made in client.authorizations_api().find_authorizations(org_id=bucket.org_id):
                if made.permissions[0].resource.id == bucket.id:
                    client.authorizations_api().delete_authorization(made)
            client.buckets_api().delete_bucket(bucket)


@pytest.fixture
def bucket(influx_2x):
    with new_bucket(influx_2x) as made:
        yield made


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("influxdb", marks=pytest.mark.system),
        pytest.param("influxdb 2.x", marks=pytest.mark.system),
    ]
)
def store(request, tmp_path):
    match request.param:
        case "embedded":
            made = Embedded(tmp_path / "store.db")
        case "influxdb":
            made = Influx(request.getfixturevalue("influx_server").url, f"t-{uuid.uuid4()}")
        case "influxdb 2.x":
            made = request.getfixturevalue("bucket").store()
    made.setup()
    yield made
    made.close()


def test_a_reading_is_stored_as_the_point_with_its_fields(store):
    """The short form that nearly every reading takes on its way, among points of the long form."""
    store.write([Reading(HUY, 0.0, 1, T0), reading(AMAY, 2.5, T0), Reading(HUY, -1.25, 4, T0 + 1)])
    assert store.dump("water_level", T0, T0 + 2) == [
        Row(dict(AMAY.tags), T0, {"value": 2.5, "qc": 1}),
        Row(dict(HUY.tags), T0, {"value": 0.0, "qc": 1}),
        Row(dict(HUY.tags), T0 + 1, {"value": -1.25, "qc": 4}),
    ]


class TestEveryStore:
    def test_answers_a_ping_and_is_set_up_again_at_will(self, store):
        store.write([reading(HUY, 1.0, T0)])
        store.setup()
        assert store.ping()
        assert store.last("water_level", {}) == (T0, 1.0)

    def test_what_does_not_exist_is_empty(self, store):
        assert store.series("water_level", {}, "value", T0, T0 + 1) == []
        assert store.last("water_level", {"station": "nowhere"}) is None
        assert store.count("water_level", T0, T0 + 1, {}) == 0
        assert store.dump("water_level", T0, T0 + 2) == []
        assert store.write([]).rejected == ()

    def test_reads_back_one_series_in_order_of_time_in_a_half_open_range(self, store):
        points = [reading(HUY, 1.5 + i / 8, T0 + i * 1000) for i in (3, 0, 2, 1, 4)]
        assert store.write([*points, reading(AMAY, 9.5, T0 + 1)]).rejected == ()
        tags = {"station": "hoyoux-huy"}
        assert store.series("water_level", tags, "value", T0, T0 + 3000) == [
            (T0, 1.5), (T0 + 1000, 1.625), (T0 + 2000, 1.75),
        ]  # fmt: skip
        assert store.series("water_level", {}, "qc", T0, T0 + 1000) == [(T0, 1), (T0 + 1, 1)]
        assert store.last("water_level", tags) == (T0 + 4000, 2.0)
        assert store.last("water_level", {}) == (T0 + 4000, 2.0)
        assert store.last("water_level", {"station": "meuse-amay", "sensor": "level-1"}, "qc") == (T0 + 1, 1)
        assert store.count("water_level", T0, T0 + 3000, tags) == 3
        assert store.count("water_level", T0, T0 + 5000, {}) == 6

    def test_zero_is_a_value_and_absent_is_none(self, store):
        store.write([reading(HUY, 0.0, T0), Point(HUY, {"qc": 9}, T0 + 1)])
        assert store.series("water_level", {}, "value", T0, T0 + 10) == [(T0, 0.0)]
        assert store.last("water_level", {}) == (T0, 0.0)
        assert store.count("water_level", T0, T0 + 10, {}) == 1
        assert store.count("water_level", T0, T0 + 10, {}, "qc") == 2

    def test_a_repeat_changes_nothing(self, store):
        points = [reading(HUY, 1.25, T0), reading(AMAY, 2.5, T0)]
        for _ in range(3):
            store.write(points)
        assert store.count("water_level", T0, T0 + 1, {}) == 2

    def test_a_second_write_overwrites_its_fields_and_keeps_the_others_and_the_last_of_a_batch_wins(self, store):
        store.write([Point(HUY, {"value": 1.5, "qc": 1, "clock": 1}, T0)])
        store.write([Point(HUY, {"qc": 3}, T0), Point(HUY, {"qc": 4}, T0)])
        assert [row.fields for row in store.dump("water_level", T0, T0 + 1)] == [{"value": 1.5, "qc": 4, "clock": 1}]

    def test_dumps_rows_with_tags_and_fields_ordered_by_time_then_tags(self, store):
        store.write(
            [reading(HUY, 2.5, T0 + 1), reading(HUY, 1.5, T0), reading(AMAY, 3.5, T0), reading(HUY, 0.5, T0 + 9)]
        )
        assert store.dump("water_level", T0, T0 + 9) == [
            Row(dict(AMAY.tags), T0, {"value": 3.5, "qc": 1}),
            Row(dict(HUY.tags), T0, {"value": 1.5, "qc": 1}),
            Row(dict(HUY.tags), T0 + 1, {"value": 2.5, "qc": 1}),
        ]

    def test_dumps_more_than_a_page(self, store):
        n = 23_456
        store.write([reading(HUY, float(i), T0 + i) for i in range(n)])
        store.write([reading(AMAY, float(i), T0 + 7 * i) for i in range(100)])
        rows = store.dump("water_level", T0, T0 + n)
        mine = [(row.time_ms, row.fields["value"]) for row in rows if row.tags["station"] == "hoyoux-huy"]
        assert mine == [(T0 + i, i) for i in range(n)]
        assert len(rows) == n + 100

    @pytest.mark.parametrize("text", ['pont de l\'Hôtel, "vieux"', r"a\b", r"end\\", "two\nlines", "a=b,c d", "", "🌊"])
    def test_strings_come_back_as_they_were(self, store, text):
        assert store.write([Point(HUY, {"name": text, "level": 2}, T0)]).rejected == ()
        assert store.series("water_level", {}, "name", T0, T0 + 1) == [(T0, text)]

    @pytest.mark.parametrize("tag", ["l'Hoyoux", 'a "b"', "a=b,c d", "Méhaigne"])
    def test_tags_come_back_as_they_were(self, store, tag):
        store.write([reading(Series("air pressure", {"station": tag}), 1.5, T0), reading(HUY, 1.5, T0)])
        assert store.last("air pressure", {"station": tag}) == (T0, 1.5)
        assert [row.tags for row in store.dump("air pressure", T0, T0 + 1)] == [{"station": tag}]

    @pytest.mark.parametrize("value", [1e300, -1e-300, 5e-324, 0.1 + 0.2, -0.5, 123456789.123456789, 1e16, 2.0])
    def test_floats_are_exact(self, store, value):
        store.write([reading(HUY, value, T0)])
        assert store.last("water_level", {}) == (T0, value)

    @pytest.mark.parametrize(
        ("fields", "time_ms", "reason"),
        [
            ({"value": math.nan}, T0, "finite"),
            ({"value": math.inf}, T0, "finite"),
            ({"value": 1.5, "qc": 2**63}, T0, "64 bits"),
            ({"value": True}, T0, "expected float, int or str"),
            ({"value": None}, T0, "expected float, int or str"),
            ({"name": "\ud800"}, T0, "surrogates"),
            ({}, T0, "no field"),
            ({"time": 1.5}, T0, "cannot be named"),
            ({"": 1.5}, T0, "printable"),
            ({"value": 1.5}, 2**62, "out of range"),
        ],
    )
    def test_an_impossible_point_is_named_and_the_others_are_stored(self, store, fields, time_ms, reason):
        bad = Point(HUY, fields, time_ms)
        (rejected,) = store.write([reading(HUY, 1.0, T0), bad, reading(HUY, 2.0, T0 + 1)]).rejected
        assert rejected.point is bad
        assert reason in rejected.reason
        assert store.count("water_level", T0, T0 + 10, {}) == 2

    def test_a_field_keeps_its_first_type_and_a_conflict_rejects_that_point_alone(self, store):
        store.write([reading(HUY, 1.0, T0)])
        good = [reading(HUY, float(i), T0 + i) for i in range(1, 400)]
        bad = [Point(HUY, {"value": 7}, T0 + 1000 + i) for i in range(3)]
        batch = [*good[:10], bad[0], *good[10:200], bad[1], *good[200:], bad[2]]
        rejected = store.write(batch).rejected
        assert [r.point for r in rejected] == bad
        assert all("field type conflict" in r.reason for r in rejected)
        assert store.count("water_level", T0, T0 + 5000, {}) == 400

    def test_many_threads_write_and_read_at_once(self, store):
        faults = []

        def work(k):
            series = Series("pm10", {"station": f"s-{k}"})
            try:
                for i in range(10):
                    store.write([reading(series, float(i), T0 + 100 * i + j) for j in range(100)])
                    store.last("pm10", {"station": f"s-{k}"})
            except Exception as e:  # noqa: BLE001 - whatever it is, it fails the test
                faults.append(e)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        assert faults == []
        assert store.count("pm10", T0, T0 + 1000, {}) == 6000


class TestSeries:
    def test_is_equal_by_value_whatever_the_order_of_its_tags(self):
        again = Series("water_level", dict(reversed(HUY.tags)))
        assert again == HUY
        assert hash(again) == hash(HUY)
        assert again.prefix == HUY.prefix
        assert HUY != AMAY

    @pytest.mark.parametrize(
        ("measurement", "tags"),
        [("", {}), ("m", {"a": ""}), ("m", {"a": "x\ny"}), ("m", {"a": "x\\"}), ("#m", {}), ("m", {"time": "x"})],
    )
    def test_refuses_what_line_protocol_cannot_carry(self, measurement, tags):
        with pytest.raises(ValueError, match=r"name|comment|time"):
            Series(measurement, tags)


class TestLineProtocol:
    def test_is_what_the_reference_says(self):
        point = Point(
            Series("water level", {"station": "a b", "Ort": "x,y=z"}), {"value": 2.0, "qc": 1, "n a": 'q"\\'}, T0
        )
        assert line(point) == rf'water\ level,Ort=x\,y\=z,station=a\ b value=2.0,qc=1i,n\ a="q\"\\" {T0}'

    @given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
    def test_numbers_keep_every_bit(self, value, qc):
        fields = line(reading(HUY, value, T0, qc)).split(" ")[1]
        text, _, integer = fields.partition(",")
        assert float(text.removeprefix("value=")).hex() == value.hex()
        assert integer == f"qc={qc}i"


class TestEmbedded:
    def test_keeps_everything_across_processes(self, tmp_path):
        first = Embedded(tmp_path / "store.db")
        first.setup()
        first.write([reading(HUY, 1.5, T0)])
        first.close()
        second = Embedded(tmp_path / "store.db")
        second.setup()
        (rejected,) = second.write([Point(HUY, {"value": 1}, T0), reading(HUY, 2.5, T0 + 1)]).rejected
        assert rejected.point.fields == {"value": 1}
        assert second.series("water_level", {}, "value", T0, T0 + 9) == [(T0, 1.5), (T0 + 1, 2.5)]
        second.close()

    def test_two_processes_writing_new_series_end_with_both(self, tmp_path):
        one, two = Embedded(tmp_path / "store.db"), Embedded(tmp_path / "store.db")
        one.setup()
        two.setup()
        one.write([reading(HUY, 1.5, T0)])
        with pytest.raises(Unavailable):
            two.write([reading(HUY, 2.5, T0 + 1)])
        assert two.write([reading(HUY, 2.5, T0 + 1)]).rejected == ()
        assert one.count("water_level", T0, T0 + 9, {}) == 2
        one.close()
        two.close()

    def test_prunes_what_is_older_of_one_measurement_or_all(self, tmp_path):
        store = Embedded(tmp_path / "store.db")
        store.setup()
        other = Series("pm10", {"station": "x"})
        store.write([reading(s, float(i), T0 + i) for s in (HUY, AMAY, other) for i in range(10)])
        assert store.prune(T0 + 4, "water_level") == 8
        assert store.count("water_level", T0, T0 + 10, {}) == 12
        assert store.count("pm10", T0, T0 + 10, {}) == 10
        assert store.prune(T0 + 100) == 22
        store.close()

    def test_is_unavailable_before_its_set_up(self, tmp_path):
        store = Embedded(tmp_path / "store.db")
        assert not store.ping()
        with pytest.raises(Unavailable):
            store.write([reading(HUY, 1.0, T0)])
        with pytest.raises(Unavailable):
            store.last("water_level", {})

    def test_a_file_that_is_no_database_needs_a_person(self, tmp_path):
        (tmp_path / "store.db").write_bytes(b"not a database, by far" * 100)
        with pytest.raises(NeedsPerson, match=r"store\.db"):
            Embedded(tmp_path / "store.db").setup()

    def test_a_full_disk_needs_a_person_and_keeps_what_was_confirmed(self, tmp_path):
        store = Embedded(tmp_path / "store.db")
        store.setup()
        store.write([reading(HUY, 1.0, T0)])
        store._writer.execute("PRAGMA max_page_count = 20")
        with pytest.raises(NeedsPerson, match="full"):
            store.write([reading(HUY, float(i), T0 + i) for i in range(50_000)])
        assert store.count("water_level", T0, T0 + 50_000, {}) == 1
        store._writer.execute("PRAGMA max_page_count = 100000")
        assert store.write([reading(HUY, 2.0, T0 + 1)]).rejected == ()
        store.close()


@pytest.mark.system
class TestRealInflux:
    def test_an_unknown_database_needs_a_person(self, influx_server):
        store = Influx(influx_server.url, "nope")
        with pytest.raises(NeedsPerson, match=r"404.*nope"):
            store.write([reading(HUY, 1.0, T0)])
        with pytest.raises(NeedsPerson, match="nope"):
            store.last("water_level", {})
        store.close()

    def test_points_beyond_the_retention_are_rejected_alone(self, influx_server):
        store = Influx(influx_server.url, "short")
        store._query('CREATE DATABASE "short" WITH DURATION 1d REPLICATION 1 NAME "autogen"')
        now_ms = round(time.time() * 1000)  # the server judges by its own clock
        old = reading(HUY, 1.0, now_ms - 3 * 86_400_000)
        rejected = store.write([reading(HUY, 2.0, now_ms), old, reading(HUY, 3.0, now_ms + 1)]).rejected
        assert [r.point for r in rejected] == [old]
        assert store.count("water_level", now_ms, now_ms + 10, {}) == 2
        store.close()

    def test_a_dropped_retention_policy_needs_a_person_and_costs_nothing(self, influx_server):
        store = Influx(influx_server.url, "headless")
        store.setup()
        store._query('DROP RETENTION POLICY "autogen" ON "headless"')
        with pytest.raises(NeedsPerson, match="retention policy not found"):
            store.write([reading(HUY, 1.0, T0)])
        store.close()

    def test_survives_kill_9_right_after_the_write_and_waits_while_it_is_down(self, tmp_path):
        with servers.influxd(tmp_path) as server:
            store = Influx(server.url, "kill")
            store.setup()
            for i in range(5):
                points = [reading(HUY, float(i), T0 + 100 * i + j) for j in range(20)]
                assert store.write(points).rejected == ()
                server.kill9()
                assert not store.ping()
                with pytest.raises(Unavailable):
                    store.write(points)
                server.restart()
                assert store.count("water_level", T0, T0 + 1000, {}) == 20 * (i + 1)
            store.close()

    def test_a_frozen_server_is_unavailable_within_the_timeout(self, tmp_path):
        with servers.influxd(tmp_path) as server:
            store = Influx(server.url, "frozen", timeout_s=0.5)
            store.setup()
            server.freeze()
            with pytest.raises(Unavailable, match="timed out"):
                store.write([reading(HUY, 1.0, T0)])
            server.thaw()
            assert store.write([reading(HUY, 1.0, T0)]).rejected == ()
            assert store.count("water_level", T0, T0 + 1, {}) == 1
            store.close()

    def test_passwords(self, tmp_path):
        with servers.influxd(tmp_path, auth=True) as server:
            admin = Influx(server.url, "maillages", "admin", "geheim")
            admin._query("CREATE USER \"admin\" WITH PASSWORD 'geheim' WITH ALL PRIVILEGES")
            admin.setup()
            admin._query("CREATE USER \"reader\" WITH PASSWORD 'r'")
            assert admin.write([reading(HUY, 1.0, T0)]).rejected == ()
            for store in (
                Influx(server.url, "maillages"),
                Influx(server.url, "maillages", "admin", "wrong"),
                Influx(server.url, "maillages", "reader", "r"),
            ):
                with pytest.raises(NeedsPerson, match=r"40[13]"):
                    store.write([reading(HUY, 1.0, T0)])
                store.close()
            admin._query('GRANT ALL ON "maillages" TO "reader"')
            plain = Influx(server.url, "maillages", "reader", "r")
            plain.setup()
            assert plain.write([reading(HUY, 2.0, T0 + 1)]).rejected == ()
            plain.close()
            admin.close()

    def test_a_body_beyond_the_limit_is_halved(self, tmp_path):
        with servers.influxd(tmp_path, http="  max-body-size = 2000") as server:
            store = Influx(server.url, "small")
            store.setup()
            assert store.write([reading(HUY, float(i), T0 + i) for i in range(200)]).rejected == ()
            assert store.count("water_level", T0, T0 + 200, {}) == 200
            giant = Point(HUY, {"name": "x" * 3000}, T0 + 500)
            (rejected,) = store.write([giant, reading(HUY, 1.0, T0 + 501)]).rejected
            assert rejected.point is giant
            store.close()

    def test_compressed_is_the_same(self, influx_server):
        store = Influx(influx_server.url, "gzip", compress=True)
        store.setup()
        store.write([reading(HUY, float(i), T0 + i) for i in range(1000)])
        assert store.count("water_level", T0, T0 + 1000, {}) == 1000
        store.close()


@pytest.mark.system
class TestReal2x:
    def test_a_second_set_up_keeps_the_bucket_and_makes_two_more_tokens(self, influx_2x, bucket):
        store = bucket.store()
        store.write([reading(HUY, 1.5, T0)])
        again = setup_2x(influx_2x.url, influx_2x.admin_token, organisation="maillages-test", bucket=bucket.name)
        assert len({*bucket.tokens, *again}) == 4
        other = Influx(bucket.url, bucket.name, "", again.write)
        assert other.write([reading(HUY, 2.5, T0 + 1)]).rejected == ()
        assert store.series("water_level", {}, "value", T0, T0 + 9) == [(T0, 1.5), (T0 + 1, 2.5)]
        store.close()
        other.close()

    def test_finds_its_bucket_among_more_than_a_page_of_them(self, influx_2x, bucket):
        """A page of the server is 20; without the second page the bucket would be made again, and refused."""
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(new_bucket(influx_2x))
            setup_2x(influx_2x.url, influx_2x.admin_token, organisation="maillages-test", bucket=bucket.name)
            store = bucket.store()
            assert store.write([reading(HUY, 1.5, T0)]).rejected == ()
            store.close()

    def test_the_reading_token_reads_and_cannot_write(self, bucket):
        store = bucket.store()
        store.write([reading(HUY, 1.5, T0)])
        grafana = Influx(bucket.url, bucket.name, "any", bucket.tokens.read)
        grafana.setup()
        assert grafana.last("water_level", {}) == (T0, 1.5)
        with pytest.raises(NeedsPerson, match=r"403.*insufficient permissions"):
            grafana.write([reading(HUY, 2.5, T0 + 1)])
        store.close()
        grafana.close()

    def test_a_wrong_token_and_a_bucket_that_is_missing_or_another_s_need_a_person_and_reject_no_point(
        self, influx_2x, bucket
    ):
        points = [reading(HUY, 1.5, T0), reading(HUY, 2.5, T0 + 1)]
        wrong = Influx(bucket.url, bucket.name, "maillages", "wrong")
        for refused in (wrong.setup, lambda: wrong.write(points), lambda: wrong.last("water_level", {})):
            with pytest.raises(NeedsPerson, match="401"):
                refused()
        with new_bucket(influx_2x) as other:
            for name in ("missing", other.name):
                store = Influx(bucket.url, name, "maillages", bucket.tokens.write)
                with pytest.raises(NeedsPerson, match=rf"{name}.*404 no dbrp mapping"):
                    store.write(points)
                with pytest.raises(NeedsPerson, match=name):
                    store.last("water_level", {})
                store.close()
        wrong.close()

    def test_points_beyond_the_retention_are_rejected_alone(self, influx_2x):
        with new_bucket(influx_2x, retention_days=1) as short:
            store = short.store()
            now_ms = round(time.time() * 1000)  # the server judges by its own clock
            old = reading(HUY, 1.0, now_ms - 3 * 86_400_000)
            rejected = store.write([reading(HUY, 2.0, now_ms), old, reading(HUY, 3.0, now_ms + 1)]).rejected
            assert [r.point for r in rejected] == [old]
            assert "422" in rejected[0].reason
            assert store.count("water_level", now_ms, now_ms + 10, {}) == 2
            store.close()

    def test_compressed_is_the_same(self, bucket):
        store = Influx(bucket.url, bucket.name, "maillages", bucket.tokens.write, compress=True)
        store.write([reading(HUY, float(i), T0 + i) for i in range(1000)])
        assert store.count("water_level", T0, T0 + 1000, {}) == 1000
        store.close()

    def test_the_set_up_asks_for_the_operator_s_token(self, bucket):
        for token in ("wrong", bucket.tokens.write):
            with pytest.raises(NeedsPerson, match=r"401.*unauthorized"):
                setup_2x(bucket.url, token, organisation="maillages-test", bucket=bucket.name)


class Answer:
    """What the scripted server says to one request: status, body, headers; or `drop` the connection, or `hang`."""

    def __init__(self, status=204, body=b"", headers=(), *, drop=False, hang=False):
        self.status = status
        self.body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.headers = headers
        self.drop = drop
        self.hang = hang


@contextmanager
def scripted(answer):
    """An HTTP server that answers each request (path, headers, lines of the body) as `answer` says; yields its URL and log."""
    posts = []
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            lines = body.decode().split("\n")
            posts.append((self.path, self.headers, lines))
            say = answer(posts[-1])
            if say.hang:
                release.wait(30)
            if say.hang or say.drop:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(say.status)
            for name, value in say.headers:
                self.send_header(name, value)
            if say.status != 204:
                self.send_header("Content-Length", str(len(say.body)))
            self.end_headers()
            if say.status != 204:
                self.wfile.write(say.body)

        do_GET = do_POST  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((servers.HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://{servers.HOST}:{server.server_port}", posts
    finally:
        release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def poisoned(status, body):
    """A server that refuses with `status` and `body` every batch with a line that holds `poison`."""

    def answer(request):
        return Answer(status, body) if any("poison" in text for text in request[2]) else Answer()

    return answer


POISON = Point(HUY, {"value": 1.0, "name": "poison"}, T0 + 77)


class TestAnswersOfOtherVersions:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            pytest.param(400, {"error": "partial write: field type conflict: … dropped=1"}, id="1.x partial write"),
            pytest.param(400, {"error": "partial write: unable to parse '…': … dropped=0"}, id="1.x unparsable"),
            pytest.param(
                422,
                {
                    "code": "unprocessable entity",
                    "message": "failure writing points to database: partial write: … dropped=1",
                },
                id="2.x partial write",
            ),
            pytest.param(400, {"code": "invalid", "message": "unable to parse '…'"}, id="2.x refuses the whole batch"),
            pytest.param(
                400,
                {
                    "error": "partial write of line protocol occurred",
                    "data": [{"original_line": "…", "line_number": 1, "error_message": "invalid column type"}],
                },
                id="3.x partial write",
            ),
            pytest.param(500, {"error": "partial write of line protocol occurred"}, id="3.x as internal error"),
            pytest.param(413, b"Request Entity Too Large", id="too big"),
        ],
    )
    @pytest.mark.parametrize("where", [0, 50, 99])
    def test_a_poisonous_point_is_isolated_and_every_other_confirmed(self, status, body, where):
        points = [reading(HUY, float(i), T0 + i) for i in range(99)]
        points.insert(where, POISON)
        with scripted(poisoned(status, body)) as (url, posts):
            store = Influx(url, "db")
            rejected = store.write(points).rejected
            store.close()
        assert [r.point for r in rejected] == [POISON]
        assert str(status) in rejected[0].reason
        confirmed = {text for _, _, lines in posts if not any("poison" in t for t in lines) for text in lines}
        assert confirmed == {line(p) for p in points if p is not POISON}
        assert len(posts) <= 2 * math.ceil(math.log2(len(points))) + 1

    @pytest.mark.parametrize(
        ("answer", "retry_after_s"),
        [
            (Answer(503, b"busy", [("Retry-After", "17")]), 17.0),
            (Answer(429, {"code": "too many requests"}, [("Retry-After", "3")]), 3.0),
            (Answer(503, b"", [("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")]), None),
            (Answer(500, {"error": "engine: timeout"}), None),
            (Answer(502, b"<html>"), None),
            (Answer(504), None),
            (Answer(408), None),
            (Answer(drop=True), None),
        ],
    )
    def test_patience(self, answer, retry_after_s):
        with scripted(lambda _: answer) as (url, posts):
            store = Influx(url, "db")
            with pytest.raises(Unavailable) as caught:
                store.write([reading(HUY, 1.0, T0), reading(HUY, 2.0, T0 + 1)])
            store.close()
        assert caught.value.retry_after_s == retry_after_s
        assert len(posts) == 1, "it is the caller who tries again"

    def test_a_silent_server_is_unavailable(self):
        with scripted(lambda _: Answer(hang=True)) as (url, _):
            store = Influx(url, "db", timeout_s=0.2)
            with pytest.raises(Unavailable, match="timed out"):
                store.write([reading(HUY, 1.0, T0)])
            assert not store.ping()
            store.close()

    def test_nobody_there_is_unavailable(self):
        store = Influx(f"http://{servers.HOST}:{servers.free_port()}", "db")
        with pytest.raises(Unavailable):
            store.write([reading(HUY, 1.0, T0)])
        with pytest.raises(Unavailable):
            store.setup()
        assert not store.ping()
        store.close()

    def test_a_failure_in_the_middle_of_isolating_raises_and_the_repeat_ends_well(self):
        calls = iter([Answer(400, {"error": "partial write: x dropped=1"}), Answer(), Answer(503)])
        isolate = poisoned(400, {"error": "partial write: x dropped=1"})
        points = [reading(HUY, 1.0, T0), reading(HUY, 2.0, T0 + 1), reading(HUY, 3.0, T0 + 2), POISON]
        with scripted(lambda request: next(calls, None) or isolate(request)) as (url, _):
            store = Influx(url, "db")
            with pytest.raises(Unavailable):
                store.write(points)
            assert [r.point for r in store.write(points).rejected] == [POISON]
            store.close()

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(401, {"code": "unauthorized", "message": "unauthorized access"}),
            Answer(403, {"error": "not authorized to write"}),
            Answer(404, {"code": "not found", "message": "no dbrp mapping found for db"}),
            Answer(500, {"error": "retention policy not found: zzz"}),
            Answer(422, {"error": "Adding a new database would exceed limit of 5 databases"}),
            Answer(405, b""),
            Answer(302, b"", [("Location", "/login")]),
            Answer(200, b"<html>a captive portal"),
        ],
    )
    def test_what_only_a_person_can_mend_rejects_no_point(self, answer):
        with scripted(lambda _: answer) as (url, posts):
            store = Influx(url, "db")
            with pytest.raises(NeedsPerson, match=str(answer.status)):
                store.write([reading(HUY, 1.0, T0), reading(HUY, 2.0, T0 + 1)])
            store.close()
        assert len(posts) == 1

    @pytest.mark.parametrize("compress", [False, True])
    def test_posts_batches_in_ms_with_basic_credentials(self, compress):
        points = [reading(HUY, float(i), T0 + i) for i in range(BATCH + 1)]
        with scripted(lambda _: Answer()) as (url, posts):
            store = Influx(url + "/", "crue à Huy", "any", "clé", compress=compress)
            assert store.write(points).rejected == ()
            store.close()
        assert [len(lines) for _, _, lines in posts] == [BATCH, 1]
        assert [text for _, _, lines in posts for text in lines] == [line(p) for p in points]
        path, headers, _ = posts[0]
        assert urlsplit(path).path == "/write"
        assert parse_qs(urlsplit(path).query) == {"db": ["crue à Huy"], "precision": ["ms"]}
        assert headers["Authorization"] == "Basic " + base64.b64encode("any:clé".encode()).decode()

    def test_set_up_leaves_servers_alone_that_create_databases_otherwise(self):
        with scripted(lambda _: Answer(200, {"results": [{"error": "not implemented: CREATE DATABASE"}]})) as (
            url,
            posts,
        ):
            Influx(url, "db").setup()
        assert len(posts) == 2

    def test_an_answer_that_is_not_influx_needs_a_person(self):
        with scripted(lambda _: Answer(200, b"<html>")) as (url, _), pytest.raises(NeedsPerson, match="html"):
            Influx(url, "db").last("water_level", {})

    def test_a_query_that_took_too_long_is_patience(self):
        body = {"results": [{"error": "query-timeout limit exceeded"}]}
        with scripted(lambda _: Answer(200, body)) as (url, _), pytest.raises(Unavailable):
            Influx(url, "db").last("water_level", {})


class TwoPointX:
    """The part of the management API of InfluxDB 2.x that a set-up needs, with state; asks for the token `admin`."""

    def __init__(self):
        self.orgs = [{"id": "01", "name": "other"}]
        self.buckets = []
        self.authorizations = []

    def __call__(self, request):
        path, headers, lines = request
        if headers["Authorization"] != "Token admin":
            return Answer(401, {"code": "unauthorized", "message": "unauthorized access"}, [JSON])
        kind = urlsplit(path).path.removeprefix("/api/v2/")
        held = getattr(self, kind)
        if lines == [""]:
            return Answer(200, {kind: held, "links": {"self": path}}, [JSON])
        made = json.loads("\n".join(lines)) | {"id": f"{len(held):016x}", "token": f"token-{len(held)}"}
        held.append(made)
        return Answer(201, made, [JSON])


JSON = ("Content-Type", "application/json")


class TestSetUpOf2x:
    def test_makes_organisation_bucket_and_tokens_once_and_new_tokens_each_time(self):
        server = TwoPointX()
        with scripted(server) as (url, _):
            first = setup_2x(url, "admin", organisation="crise", bucket="maillages", retention_days=30)
            second = setup_2x(url, "admin", organisation="crise", bucket="maillages")
        assert [o["name"] for o in server.orgs] == ["other", "crise"]
        assert [(b["name"], b["retentionRules"][0]["everySeconds"]) for b in server.buckets] == [
            ("maillages", 2_592_000)
        ]
        assert len({*first, *second}) == 4
        rights = [[(p["action"], p["resource"]["id"]) for p in a["permissions"]] for a in server.authorizations]
        bucket = server.buckets[0]["id"]
        assert rights == [[("read", bucket), ("write", bucket)], [("read", bucket)]] * 2

    def test_wrong_token_and_a_slash_need_a_person_and_silence_patience(self):
        with scripted(TwoPointX()) as (url, _):
            with pytest.raises(NeedsPerson, match="401"):
                setup_2x(url, "wrong", organisation="crise", bucket="maillages")
            with pytest.raises(NeedsPerson, match="without /"):
                setup_2x(url, "admin", organisation="crise", bucket="maillages/30d")
        with pytest.raises(Unavailable):
            setup_2x(f"http://{servers.HOST}:{servers.free_port()}", "admin", organisation="crise", bucket="maillages")
