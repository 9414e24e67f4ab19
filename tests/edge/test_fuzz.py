"""The short form of `scripts/fuzz`."""

import pytest

from tests.edge import fuzz


@pytest.mark.parametrize("name", fuzz.names())
def test_broken_bytes_give_fields_or_a_frame_error(name: str) -> None:
    result = fuzz.Fuzz(name).run(2000)
    assert result.decoded
    assert result.refused
    assert result.grown < fuzz.GROWTH_BYTES
