"""Every vector file against its driver, in both directions; whole, and byte by byte."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge import decode, drivers
from edge.sensors.base import Driver, Field, FrameError, Options

FOLDER = Path(__file__).parent.parent / "vectors"


def _all() -> list[Any]:
    return [
        pytest.param(path.stem, vector, id=f"{path.stem}: {vector['id']}")
        for path in sorted(FOLDER.glob("*.toml"))
        for vector in tomllib.loads(path.read_text(encoding="utf-8"))["vector"]
    ]


def _raw(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode("latin-1")


def _fields(vector: dict[str, Any]) -> list[Field]:
    return [Field(f["name"], f["value"], f["unit"], f.get("channel")) for f in vector.get("fields", [])]


def _options(driver: Driver, vector: dict[str, Any]) -> Options:
    return drivers.options(driver, vector.get("options", {}))


def test_every_driver_has_vectors_and_every_file_a_driver() -> None:
    assert drivers.names() == sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", drivers.names())
def test_a_driver_says_what_it_is(name: str) -> None:
    driver = drivers.find(name)
    assert driver.name == name
    assert driver.title
    assert driver.source


@pytest.mark.parametrize(("name", "vector"), _all())
def test_bytes_give_fields(name: str, vector: dict[str, Any]) -> None:
    driver = drivers.find(name)
    expected = _fields(vector)
    if "command" in vector:
        assert driver.recognise is not None
        assert driver.recognise(_raw(vector)) == expected
        return
    fields, errors = decode.decode(driver, _raw(vector), _options(driver, vector))
    assert [e.kind for e in errors] == vector.get("errors", [])
    assert (fields or [side for e in errors for side in e.fields]) == expected
    assert [e.at_most_m for e in errors if e.kind == "blind_zone"] == (
        [vector["at_most_m"]] if "at_most_m" in vector else []
    )


@pytest.mark.parametrize(("name", "vector"), [p for p in _all() if "command" in p.values[1]])
def test_commands_give_bytes(name: str, vector: dict[str, Any]) -> None:
    build = drivers.find(name).commands[vector["command"]["name"]]
    assert build(**vector["command"].get("arguments", {})) == _raw(vector)


@pytest.mark.parametrize(
    ("name", "vector"),
    [p for p in _all() if p.values[0] == "cayenne_lpp" and not {"errors", "options"} & p.values[1].keys()],
)
def test_fields_give_a_payload(name: str, vector: dict[str, Any]) -> None:
    assert drivers.find(name).commands["encode"](_fields(vector)) == _raw(vector)


def test_every_command_has_a_vector() -> None:
    shown = {(p.values[0], p.values[1]["command"]["name"]) for p in _all() if "command" in p.values[1]}
    built = {(name, command) for name in drivers.names() for command in drivers.find(name).commands}
    assert built - shown <= {
        ("cayenne_lpp", "encode"),
        ("xy_md02", "set_baud_rate"),
        ("xy_md02", "set_humidity_offset"),
        ("rylr998", "reset"),
    }


@pytest.mark.parametrize(
    ("name", "vector"), [p for p in _all() if "command" not in p.values[1] and drivers.find(p.values[0]).framer]
)
def test_byte_by_byte_is_the_same_as_whole(name: str, vector: dict[str, Any]) -> None:
    driver = drivers.find(name)
    assert driver.framer is not None
    whole, split = driver.framer(_options(driver, vector)), driver.framer(_options(driver, vector))
    raw = _raw(vector)
    assert [_shown(i) for byte in raw for i in split.feed(bytes((byte,)))] == [_shown(i) for i in whole.feed(raw)]


def _shown(item: bytes | FrameError) -> bytes | str:
    return item if isinstance(item, bytes) else str(item)


def test_unknown_names_are_answered_with_what_exists() -> None:
    with pytest.raises(Exception, match=re.escape("'sds012' is unknown, expected one of ")):
        drivers.find("sds012")
