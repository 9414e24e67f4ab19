"""Every payload codec and network server driver, on what its vectors become when bytes are lost, added and changed."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import drivers
from edge.errors import ConfigError
from edge.sensors.base import Field, FrameError
from wire.quantities import QUANTITIES

FOLDER = Path(__file__).parent.parent / "vectors"
SIGNAL = {"battery_voltage", "battery_level", "rssi", "snr"}
SERVERS = ["chirpstack_v4", "semtech_udp", "ttn_v3"]
CODECS = [name for name in drivers.names() if drivers.find(name).link == "payload"]


def _vectors(name: str) -> list[tuple[bytes, dict[str, Any]]]:
    vectors = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["vector"]
    return [
        (bytes.fromhex(v["hex"]) if "hex" in v else v["text"].encode("latin-1"), v.get("options", {})) for v in vectors
    ]


KNOWN = {name: _vectors(name) for name in [*CODECS, *SERVERS]}


@st.composite
def _frames(draw: st.DrawFn, names: list[str]) -> tuple[str, bytes, dict[str, Any]]:
    name = draw(st.sampled_from(names))
    raw, options = draw(st.sampled_from(KNOWN[name]))
    frame = bytearray(raw)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(frame)))
        frame[at : at + draw(st.integers(0, 3))] = draw(
            st.one_of(st.binary(max_size=8), st.sampled_from((b"\xff\xff", b"\x7f\xff", b"\0\0", b"\x7f\xc0\0\0")))
        )
    return name, bytes(frame), options


def _check(name: str, frame: bytes, values: dict[str, Any]) -> None:
    driver = drivers.find(name)
    fields, error = _decoded(name, frame, values)
    if error is not None:
        assert error.reason
        assert (error.kind == "blind_zone") == (error.at_most_m is not None)
        assert {field.name for field in error.fields} & QUANTITIES.keys() <= SIGNAL
        return
    assert fields or name == "cayenne_lpp"
    for field in fields:
        assert isinstance(field, Field)
        assert not isinstance(field.value, float) or math.isfinite(field.value)
        if field.name in QUANTITIES:
            assert field.unit == QUANTITIES[field.name].unit
        if field.name in driver.quantities:
            assert isinstance(field.value, int | float)


def _decoded(name: str, frame: bytes, values: dict[str, Any]) -> tuple[list[Field], FrameError | None]:
    driver = drivers.find(name)
    try:
        return driver.decode(frame, drivers.options(driver, values)), None
    except FrameError as error:
        return [], error


@given(_frames(CODECS))
def test_a_broken_payload_gives_fields_or_its_error(case: tuple[str, bytes, dict[str, Any]]) -> None:
    _check(*case)


@given(_frames(SERVERS))
def test_a_broken_message_gives_fields_or_its_error(case: tuple[str, bytes, dict[str, Any]]) -> None:
    _check(*case)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("qg==")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@given(st.sampled_from(SERVERS), st.data())
def test_a_message_of_other_types_gives_fields_or_its_error(name: str, data: st.DataObject) -> None:
    raw, options = data.draw(st.sampled_from([known for known in KNOWN[name] if known[0][:1] == b"{"]))
    try:
        message = json.loads(raw)
    except ValueError:
        return
    inside = message
    while isinstance(inside, dict) and inside:
        key = data.draw(st.sampled_from(sorted(inside)))
        if data.draw(st.booleans()):
            inside[key] = data.draw(JSON)
            break
        inside = inside[key][0] if isinstance(inside[key], list) and inside[key] else inside[key]
    _check(name, json.dumps(message).encode(), options)


ON_ANY_PORT = {"elsys", "milesight", "pf_wilsen"}
"""Devices whose port can be set, or is not said; the misc drivers are their vendors'."""


@pytest.mark.parametrize("name", [n for n in CODECS if n not in ON_ANY_PORT and not n.endswith("_misc")])
def test_a_payload_on_a_port_of_nobody_is_no_reading(name: str) -> None:
    for raw, options in KNOWN[name]:
        if "fport" in options:
            fields, error = _decoded(name, raw, options | {"fport": 199})
            assert error is not None or fields[0].name == "reply"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("dingtek", "Dingtek DF400"),  # percent and level stand where others have the temperature
        ("talkpool", "Talkpool OY1320"),  # a water meter, whose count would read as a temperature
        ("mclimate", "MClimate fan coil thermostat"),
        ("mclimate", "MClimate CO2 display"),
        ("decentlab", "DL-LID2"),
        ("decentlab", "DL-PMC1"),
        ("lorawan_air_misc", "Talkpool OY1320"),
        ("lorawan_level_misc", "Dingtek DF400"),
    ],
)
def test_a_type_with_another_layout_is_refused(name: str, model: str) -> None:
    with pytest.raises(ConfigError, match=model):
        drivers.options(drivers.find(name), {"model": model})
