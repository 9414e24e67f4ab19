"""JSON as Python reads it knows NaN and Infinity; the wire does not: one of them would break every reader after it."""

import json
from pathlib import Path

import pytest

from wire import alarm
from wire.errors import WireError
from wire.station import Stations, parse_as

ACCEPTED = Path(__file__).parent / "golden" / "accepted"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(number: float) -> None:
    event = json.loads(next(ACCEPTED.glob("alarm*.json")).read_text())
    event = event.get("payload", event) | {"value": number}
    with pytest.raises(WireError, match=r"value: Input should be a finite number"):
        alarm.parse(json.dumps(event).encode())
    quantity = {"quantity": "water_level", "period_s": 60, "thresholds": [number, None, None]}
    station = {
        "id": "a", "name": "A", "commune": "61031", "lat": 50.5, "lon": 5.2,
        "sensors": [{"id": "s", "driver": "maxbotix", "quantities": [quantity]}],
    }  # fmt: skip
    with pytest.raises(WireError, match=r"thresholds\.0: Input should be a finite number"):
        parse_as(Stations, json.dumps({"stations": [station]}).encode())
