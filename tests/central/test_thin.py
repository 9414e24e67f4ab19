"""Down-sampling of the embedded store: first, lowest and highest of an interval stay as measured, nothing is invented."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from central.store.base import Reading, Series
from central.store.embedded import Embedded

LEVEL = Series("water_level", {"station": "h-huy", "sensor": "level-1"})
OTHER = Series("rainfall", {"station": "h-huy", "sensor": "rain-1"})
T0, PART = 1_780_000_200_000, 600_000


def made(path: Path, readings: list[tuple[int, float, int]]) -> Embedded:
    store = Embedded(path)
    store.setup()
    store.write([Reading(LEVEL, v, qc, T0 + at) for at, v, qc in readings])
    return store


def values(store: Embedded) -> list[tuple[int, float, int]]:
    rows = store.dump("water_level", 0, 2**53)
    return [(r.time_ms - T0, float(r.fields["value"]), int(r.fields["qc"])) for r in rows]


def test_the_crest_stays_and_what_is_young_or_another_measurement_too(tmp_path: Path) -> None:
    level = [
        (i * 60_000, v, 1) for i, v in enumerate([1.0, 1.2, 3.7, 0.0, 1.1, 1.0, 1.3, 1.2, 1.1, 1.0, 2.0, 2.1, 2.2, 2.1])
    ]
    store = made(tmp_path / "s.db", level)
    store.write([Reading(OTHER, 0.2, 1, T0 + i * 1000) for i in range(20)])
    assert store.thin("water_level", T0 + PART + 200_000, PART) == 7
    assert values(store) == [level[0], level[2], level[3], *level[10:]]
    assert store.thin("water_level", T0 + PART + 200_000, PART) == 0
    assert store.count("rainfall", 0, 2**53, {}) == 20
    store.close()


@settings(max_examples=40)
@given(
    st.dictionaries(st.integers(0, 2 * PART - 1), st.tuples(st.floats(-9, 9), st.sampled_from([1, 3, 4])), max_size=20)
)
def test_extremes_of_each_flag_stay_and_every_row_was_measured(tmp_path_factory, found) -> None:
    before = sorted((at, v, qc) for at, (v, qc) in found.items())
    store = made(tmp_path_factory.mktemp("thin") / "s.db", before)
    store.thin("water_level", T0 + 2 * PART, PART)
    after = values(store)
    store.close()
    assert set(after) <= set(before)
    for part in (0, 1):
        for qc in (1, 3, 4):
            was, rest = ([r for r in rows if r[0] // PART == part and r[2] == qc] for rows in (before, after))
            assert len(rest) <= 3
            if was:
                assert rest[0] == was[0]
                assert {f(r[1] for r in rest) for f in (min, max)} == {f(r[1] for r in was) for f in (min, max)}
