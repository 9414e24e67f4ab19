"""The short form of `scripts/fuzz central`."""

import pytest

from tests.central import fuzz

INPUTS = {"recipients": 60, "central-toml": 60}
"""These take some milliseconds each."""


@pytest.mark.parametrize("name", fuzz.targets())
def test_hostile_input_is_taken_or_refused_with_its_reason(name: str) -> None:
    result = fuzz.Fuzz(name).run(INPUTS.get(name, 800))
    assert result.accepted
    assert result.grown < fuzz.GROWTH_BYTES
