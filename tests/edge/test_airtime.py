"""Air time against what others publish, and the duty cycle of a channel."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import Clock
from edge import config
from edge.errors import ConfigError
from edge.radio import _rylr
from edge.radio._airtime import Channel, airtime_s, duty_cycle
from edge.radio._secured import OVERHEAD_BYTES
from edge.transports.build import build


# The Things Network, lorawan-stack, pkg/toa/toa_test.go, microseconds; the last: 13 bytes at SF9 in the airtime spreadsheet
# that The Things Network links to (formulas of AN1200.13).
@pytest.mark.parametrize(
    ("size", "spreading_factor", "bandwidth_khz", "coding_rate", "microseconds"),
    [
        (10, 7, 125, 5, 41216),
        (10, 8, 125, 5, 72192),
        (10, 9, 125, 5, 144384),
        (10, 10, 125, 5, 288768),
        (10, 11, 125, 5, 577536),
        (10, 12, 125, 5, 991232),
        (10, 7, 250, 5, 20608),
        (10, 7, 500, 5, 10304),
        (10, 7, 125, 6, 45312),
        (10, 7, 125, 7, 49408),
        (10, 7, 125, 8, 53504),
        (13, 7, 125, 5, 46336),
        (15, 7, 125, 5, 46336),
        (16, 7, 125, 5, 51456),
        (19, 7, 125, 5, 51456),
        (13, 9, 125, 5, 164864),
    ],
)
def test_as_published(size, spreading_factor, bandwidth_khz, coding_rate, microseconds):
    found = airtime_s(
        size, spreading_factor=spreading_factor, bandwidth_khz=bandwidth_khz, coding_rate=coding_rate, preamble=8
    )
    assert found == pytest.approx(microseconds / 1e6, abs=1e-9)


@given(st.integers(0, 255), st.integers(5, 11), st.integers(5, 8), st.integers(4, 24))
def test_more_takes_longer(size, spreading_factor, coding_rate, preamble):
    def seconds(size, spreading_factor, coding_rate, preamble):
        return airtime_s(
            size, spreading_factor=spreading_factor, bandwidth_khz=125, coding_rate=coding_rate, preamble=preamble
        )

    now = seconds(size, spreading_factor, coding_rate, preamble)
    assert now <= seconds(size + 1, spreading_factor, coding_rate, preamble)
    assert now < seconds(size, spreading_factor + 1, coding_rate, preamble)
    assert now < seconds(size, spreading_factor, coding_rate, preamble + 1)


@pytest.mark.parametrize(
    ("band_hz", "share"),
    [
        (868_200_000, 0.01),
        (864_000_000, 0.001),
        (865_000_000, 0.001),  # its lower half lies in the sub-band below
        (869_000_000, 0.001),
        (869_525_000, 0.1),
        (869_850_000, 0.01),
        (915_000_000, 0.0),
    ],
)
def test_duty_cycle_of_a_channel(band_hz, share):
    assert duty_cycle(band_hz, 125) == share


def test_a_channel_outside_every_band_never_comes_round():
    channel = Channel(centre_hz=915_000_000, spreading_factor=9, bandwidth_khz=125, coding_rate=5, preamble=12)
    assert channel.least_period_s(10) == float("inf")


def settings(period_s, *, authenticated=True, other=None):
    sensor = {
        "id": "level",
        "driver": "cayenne_lpp",
        "modem": "lora",
        "address": 7,
        "authenticated": authenticated,
        "period_s": period_s,
        "options": {"channels": {1: "water_distance"}},
    }
    sensors = [sensor, sensor | {"id": "more"} | other] if other else [sensor]
    station = {"id": "s", "name": "S", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": sensors}
    modem = {"name": "lora", "driver": "rylr998", "port": "/nonexistent", "settings": "rylr998-eu868"}
    gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
    return config.EdgeConfig.model_validate({"gateway": gateway, "modem": [modem], "station": [station]})


def test_a_period_that_breaks_the_law_is_refused():
    # 15 bytes of sealing and 3 of the smallest value are 36 characters, and 8 bytes of the modem: 0.304 s at SF9.
    with pytest.raises(
        ConfigError, match=r"sensor s/level: period_s is 30, expected at least 30\.4: a payload of 18 bytes .* 1\.0%"
    ):
        build(settings(30), Clock(), print)
    build(settings(31), Clock(), print)
    build(settings(0), Clock(), print)  # not known how often it sends
    build(settings(30, authenticated=False), Clock(), print)
    with pytest.raises(ConfigError, match="period_s is 31"):  # more values of the same node make its packet longer
        build(settings(31, other={"options": {"channels": {2: "battery_voltage"}}}), Clock(), print)


def test_the_table_of_the_decision_record():
    text = (Path(__file__).parents[2] / "docs" / "adr" / "0008-sealed-lora-packets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+), (plain|sealed), (RYLR998|binary modem) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 7
    for payload, how, where, cells in rows:
        size = int(payload) + (OVERHEAD_BYTES if how == "sealed" else 0)
        text_mode = where == "RYLR998"
        for spreading_factor, cell in enumerate(cells.split(" | "), 7):
            channel = Channel(
                centre_hz=868_200_000,
                spreading_factor=spreading_factor,
                bandwidth_khz=125,
                coding_rate=5,
                preamble=12,
                added_bytes=_rylr.ADDED_BYTES if text_mode else 0,
                hex_text=text_mode,
            )
            assert round(1000 * channel.airtime_s(size)) == int(cell), (payload, how, where, spreading_factor)
