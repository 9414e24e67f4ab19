"""The payloads as others write and read them (tests/wire/golden, by hand): the models and the published schemas agree on them.

`accepted` goes through the models unchanged, `newer` has members that are not known yet and are ignored, `refused` says what
is wrong. A file is named `<schema>.<case>.json`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wire import alarm, command, schemas, senml
from wire.command import Command
from wire.errors import WireError
from wire.station import parse_as

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path(schemas.__file__).parent
NOW = 1_784_045_200.0


def cases(kind: str, ending: str = "json") -> list[Path]:
    found = sorted((GOLDEN / kind).glob(f"*.{ending}"))
    assert found
    return found


def named(path: Path) -> str:
    return path.name.removesuffix(".json")


def schema_of(path: Path) -> str:
    return path.name.partition(".")[0]


def read(schema: str, payload: bytes) -> Any:
    """`payload` as its receiver reads it; SenML as unresolved records that do resolve."""
    if schema in ("readings", "health"):
        pack = senml.from_json(payload)
        senml.resolve(pack, NOW)
        return pack
    model = schemas.MODELS[schema]
    if schema == "alarm":
        return alarm.parse(payload)
    if issubclass(model, Command):
        return command.parse(model, json.loads(payload))
    return parse_as(model, payload)


def write(message: Any) -> bytes:
    """As its sender writes it: an alarm and `active` whole, the others with the members that were given."""
    if isinstance(message, list):
        return senml.to_json(message)
    if isinstance(message, alarm.AlarmEvent):
        return alarm.dump(message)
    return message.model_dump_json(exclude_unset=True).encode()


def same(left: bytes, right: bytes) -> bool:
    """The same members in the same order with the same values; 0 is not 0.0, and null is not absent."""
    return json.dumps(json.loads(left)) == json.dumps(json.loads(right))


@pytest.mark.parametrize("path", cases("accepted"), ids=named)
def test_goes_through_the_models_unchanged(path: Path) -> None:
    payload = path.read_bytes()
    assert same(write(read(schema_of(path), payload)), payload)


@pytest.mark.parametrize("path", cases("newer"), ids=named)
def test_members_that_are_not_known_yet_are_ignored(path: Path) -> None:
    payload = path.read_bytes()
    message = read(schema_of(path), payload)
    if isinstance(message, list):
        assert senml.resolve(message, NOW) == senml.resolve(
            [{k: r[k] for k in ("bn", "n", "u", "t", "v")} for r in message], NOW
        )
    else:
        assert read(schema_of(path), write(message)) == message
        assert not same(write(message), payload)


@pytest.mark.parametrize("path", cases("refused"), ids=named)
def test_is_refused_with_what_is_wrong(path: Path) -> None:
    case = json.loads(path.read_bytes())
    with pytest.raises(WireError) as refusal:
        read(schema_of(path), json.dumps(case["payload"]).encode())
    assert case["error"] in str(refusal.value)


@pytest.mark.parametrize(
    ("schema", "payload"), [("alarm", b"{"), ("active", b"\xff\xfe"), ("readings", b"[{"), ("status", b"")]
)
def test_what_is_no_json_is_refused(schema: str, payload: bytes) -> None:
    with pytest.raises(WireError, match=r"JSON"):
        read(schema, payload)


@pytest.mark.parametrize("path", cases("accepted", "cbor.hex"), ids=lambda p: p.name)
def test_cbor_is_the_same_pack_byte_for_byte(path: Path) -> None:
    payload = bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))
    pack = json.loads(path.with_name(path.name.replace(".cbor.hex", ".json")).read_bytes())
    assert json.dumps(senml.from_cbor(payload)) == json.dumps(pack)
    assert senml.to_cbor(pack) == payload


def test_every_payload_has_a_schema_and_goldens_of_both_sorts() -> None:
    names = {name.removesuffix(".schema.json") for name in schemas.documents()}
    assert {schema_of(p) for p in cases("accepted")} == names
    assert {schema_of(p) for p in cases("refused")} == names


def test_the_schemas_on_disk_are_those_of_the_models() -> None:
    on_disk = {p.name: json.loads(p.read_bytes()) for p in SCHEMAS.glob("*.schema.json")}
    assert on_disk == schemas.documents(), "run: python -m wire.schemas"


@pytest.fixture(scope="module")
def valid() -> Callable[[str, Any], bool]:
    jsonschema = pytest.importorskip("jsonschema")
    validators = {}
    for path in SCHEMAS.glob("*.schema.json"):
        schema = json.loads(path.read_bytes())
        jsonschema.Draft202012Validator.check_schema(schema)
        validators[path.name.removesuffix(".schema.json")] = jsonschema.Draft202012Validator(schema)
    return lambda schema, payload: validators[schema].is_valid(payload)


@pytest.mark.parametrize("path", [*cases("accepted"), *cases("newer")], ids=named)
def test_the_schema_accepts_it(path: Path, valid: Callable[[str, Any], bool]) -> None:
    assert valid(schema_of(path), json.loads(path.read_bytes()))


@pytest.mark.parametrize("path", cases("refused"), ids=named)
def test_the_schema_refuses_it_unless_only_the_code_can_tell(path: Path, valid: Callable[[str, Any], bool]) -> None:
    case = json.loads(path.read_bytes())
    assert valid(schema_of(path), case["payload"]) == case.get("schema_accepts", False)


@pytest.mark.parametrize(
    "change",
    [{"u": "cm"}, {"n": "colour"}, {"t": 12.5}, {"bn": "hoyoux-huy/"}, {"bn": None}],
    ids=["unit", "quantity", "relative time", "no sensor", "no base name"],
)
def test_the_schema_of_readings_is_that_of_our_gateways(
    change: dict[str, Any], valid: Callable[[str, Any], bool]
) -> None:
    (record,) = json.loads((GOLDEN / "accepted" / "readings.one-zero.json").read_bytes())
    assert valid("readings", [record, {k: v for k, v in record.items() if k != "bn"}])
    assert not valid("readings", [{k: v for k, v in (record | change).items() if v is not None}])
