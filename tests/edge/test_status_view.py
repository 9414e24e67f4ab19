"""The terminal view of `maillages-edge status` where there is little room; what it says of a real gateway: tests/system/test_seeing.py."""

import io

import pytest
from rich.console import Console

from edge.tools import status
from edge.tools.screen import span

MEASURE = {
    "quantity": "air_temperature", "unit": "Cel", "value": -12.5, "qc": 2, "age_s": 4000.0, "fresh": False, "at_least": False,
    "refused_age_s": None, "thresholds": [None, None, None], "descending": False, "trend_per_h": -1.25,
    "recent": [[3600 - i, i] for i in range(60)],
}  # fmt: skip
SENSOR = {"id": "level-1", "driver": "x", "out_of_service": False, "missed": 0, "trouble": None, "measures": [MEASURE]}
LOST = SENSOR | {
    "id": "level-2",
    "measures": [],
    "trouble": {"age_s": 900, "kind": "timeout", "detail": "unit 3 is silent"},
}
TOLD = {
    "answered": True, "gateway": "gw-huy-01", "status": "Actual", "wall_s": 1.78e9, "started_s": 1.779e9, "siren": None,
    "clock_synchronised": False, "linked": False, "waiting": 15320, "unconfirmed_s": 7300, "in_memory": 3, "alarms": [],
    "exercise_s": 1.78e9,
    "health": {"sms_unusable": 1, "under_voltage": 1, "certificate_days": 12.0, "disk_free_percent": 0.0},
    "stations": [{"id": "hoyoux-huy", "level": 0, "sensors": [SENSOR, LOST]}],
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_that_matters_is_cut(width):
    file = io.StringIO()
    Console(file=file, width=width).print(status.view(TOLD, width))
    shown = file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for part in (
        "hoyoux-huy/level-1", "air_temperature", "-12.5 °C", "66 min", "not judged", "-1.25/h",
        "hoyoux-huy/level-2: ✗ nothing for 15 min: unit 3 is silent", "DOWN, certificate for 12 days",
        "EXERCISE alarm under way", "none confirmed for 2 h 01, 3 in memory alone", "CANNOT SEND", "UNDER-VOLTAGE", "NOT SET", "0 % free",
    ):  # fmt: skip
        assert part in " ".join(shown.split()), part


def test_a_course_is_drawn_between_its_lowest_and_its_highest():
    assert status.sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert status.sparkline([2.0, 2.0]) == "▁▁"
    assert status.sparkline([1.0]) == ""
    assert status.sparkline(list(range(1000)), 8)[::7] == "▁█"


def test_a_duration_is_said_in_its_two_largest_units():
    assert [span(s) for s in (0, 119, 120, 7199, 7200, 172800)] == [
        "0 s",
        "119 s",
        "2 min",
        "119 min",
        "2 h 00",
        "2 d 0 h",
    ]
