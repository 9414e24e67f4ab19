"""Compressed batches against what the manufacturer's own decoder makes of them (actility/device-catalog, vendors/watteco)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sensors._watteco_batch import Series, samples
from edge.sensors.base import FrameError

_TEMPERATURE = Series(name="t", unit="Cel", kind="i16", step=10, divisor=100)
_BATTERY = Series(name="b", unit="V", kind="u16", step=100, divisor=1000)
_FLOAT = Series(name="f", unit="mA", kind="f32", step=0.004)


@pytest.mark.parametrize(
    ("text", "label_bits", "table", "expected"),
    [
        (  # moments of each series its own
            "20010000017D0585A8E9401708F07703FCD903",
            3,
            {0: _TEMPERATURE, 5: _BATTERY},
            [("t", 25.7, 41), ("t", 25.9, 11), ("b", 3.7, 30), ("b", 3.7, 0)],
        ),
        ("26020000803606A2FC11E4F7", 3, {0: _TEMPERATURE, 1: _BATTERY}, [("t", 31.4, 30), ("b", 2.29, 0)]),
        (  # an hour, rising and falling
            "1000A062BFECC11715B45B96DD2D8B76CB12BB65C5B35BD67705",
            1,
            {0: _TEMPERATURE},
            [
                ("t", 40.3, 3025),
                ("t", 40.8, 2425),
                ("t", 40.6, 1825),
                ("t", 39.9, 1225),
                ("t", 37.5, 625),
                ("t", 36.7, 25),
            ],
        ),
    ],
)
def test_as_the_manufacturer_reads_it(
    text: str, label_bits: int, table: dict[int, Series], expected: list[tuple[str, float, int]]
) -> None:
    found = samples(bytes.fromhex(text), label_bits, table)
    assert [(one.series.name, one.value, one.age_s) for one in found] == expected


@given(st.binary(max_size=60), st.integers(1, 3))
def test_any_bytes_give_samples_or_a_frame_error(data: bytes, label_bits: int) -> None:
    kind, found = "", []
    try:
        found = samples(data, label_bits, {0: _TEMPERATURE, 1: _BATTERY, 2: _FLOAT})
    except FrameError as e:
        kind = e.kind
    assert found or kind in ("length", "format")
