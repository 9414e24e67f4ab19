"""SenML against the examples of RFC 8428 (tests/wire/senml_vectors.json: input and resolution from core-wg/senml-spec)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import readings, senml
from wire.errors import WireError
from wire.readings import PackProperties, PackRange, Reading

VECTORS = json.loads((Path(__file__).parent / "senml_vectors.json").read_text())["vectors"]
NOW = 1_500_000_000.0


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"])
def test_the_rfcs_examples_resolve(vector: dict) -> None:
    resolved = senml.resolve(vector["input"], NOW)
    if vector["resolved_upstream"] is None:
        assert len(resolved) == len(vector["input"])
        return
    expected = {(r["n"], r.get("v"), r.get("vs"), r.get("vb")) for r in vector["resolved_upstream"] if "vd" not in r}
    found = {(r.name, r.value, r.text, r.flag) for r in resolved if r.data is None}
    assert expected <= found
    if not any("do not compare t" in note for note in vector.get("notes", [])):
        assert [round(r["t"], 3) for r in vector["resolved_upstream"]] == [round(r.time, 3) for r in resolved]
    assert senml.resolve(senml.from_cbor(senml.to_cbor(vector["input"])), NOW) == resolved


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        ([], "non-empty"),
        ([{"n": "a"}], "no value"),
        ([{"n": "a", "v": 1, "vs": "x"}], "more than one value"),
        ([{"n": "-a", "v": 1}], "must start with"),
        ([{"n": "a", "v": 1, "foo_": 2}], "must be understood"),
        ([{"n": "a", "v": 1, "bver": 11}], "newer"),
        ([{"n": "a", "v": None}], "null"),
        ([{"n": "a", "v": True}], "expected a number"),
        ([{"n": "a", "v": 1, "qc": 7}], "QARTOD"),
        ([{"v": 1}], "no name"),
    ],
)
def test_what_the_rfc_forbids_is_refused_by_name(pack: list, said: str) -> None:
    with pytest.raises(WireError, match=said):
        senml.resolve(pack, NOW)


def test_a_bad_record_does_not_spoil_its_neighbours() -> None:
    good, bad, last = senml.resolve_each([{"bn": "a/", "n": "x", "v": 0}, {"n": "y"}, {"n": "z", "v": 2}], NOW)
    assert isinstance(bad, WireError)
    assert (good.name, good.value, last.name) == ("a/x", 0, "a/z")


series = st.sampled_from(["h-huy/level-1/water_level", "h-huy/air/pm10", "m-moha/level-1/water_level"])
reading = st.builds(
    Reading,
    series,
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(2**28 * 1000, 4_000_000_000_000),
)


@given(st.lists(reading, min_size=1, max_size=20))
def test_readings_come_back_as_they_were(sent: list[Reading]) -> None:
    for payload, decode in (
        (senml.to_json(readings.records(sent)), senml.from_json),
        (senml.to_cbor(readings.records(sent)), senml.from_cbor),
    ):
        back = [Reading(r.name, r.value, r.qc, round(r.time * 1000)) for r in senml.resolve(decode(payload), NOW)]
        assert back == sent


def test_properties_say_which_readings_a_pack_carries() -> None:
    pack = PackProperties(PackRange("abc", 5, 7), "backlog", clock_estimated=True)
    assert readings.parse_properties(dict(readings.user_properties(pack)), 3) == pack
    assert readings.parse_correlation(pack.range.correlation()) == pack.range
    assert readings.parse_properties({}, 3) is None
    with pytest.raises(WireError, match="5-7 do not fit 2 records"):
        readings.parse_properties(dict(readings.user_properties(pack)), 2)
