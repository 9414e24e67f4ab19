"""`maillages-edge decode`: what a driver makes of bytes given by hand. Nothing is opened but a file named."""

import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from edge import drivers
from edge.errors import ConfigError
from edge.sensors.base import COMMUNICATION_KINDS, Driver, Field, FrameError, Options

_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}


def from_hex(text: str) -> bytes:
    """Hex digits, spaced or not. Raises ConfigError."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"format: --hex: found {text!r}, expected pairs of hex digits") from None


def from_ascii(text: str) -> bytes:
    r"""Latin-1 text, in which a typed `\r`, `\n`, `\t`, `\\` and `\xNN` stand for their bytes. Raises ConfigError."""

    def byte(escape: re.Match[str]) -> str:
        return _ESCAPES.get(escape[1]) or chr(int(escape[1][1:], 16))

    try:
        return re.sub(r"\\(x[0-9A-Fa-f]{2}|[rnt\\])", byte, text).encode("latin-1")
    except UnicodeEncodeError as e:
        raise ConfigError(
            f"--ascii: found {text[e.start]!r}, expected latin-1 characters (or \\xNN for a byte)"
        ) from None


def from_file(path: Path) -> bytes:
    """A file's bytes. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise ConfigError(f"--json: {path} cannot be read: {e.strerror}") from e


def source(hex_text: str | None, ascii_text: str | None, json_file: Path | None) -> bytes:
    """The bytes of the one option of the three that is given. Raises ConfigError."""
    given = [
        *([] if hex_text is None else [from_hex(hex_text)]),
        *([] if ascii_text is None else [from_ascii(ascii_text)]),
        *([] if json_file is None else [from_file(json_file)]),
    ]
    if len(given) != 1:
        raise ConfigError(f"expected one of --hex, --ascii, --json, found {len(given) or 'none'}")
    return given[0]


def values(model: str | None, fport: int | None, assignments: list[str]) -> dict[str, Any]:
    """Options of a driver from `--model`, `--fport` and `--set key=value`; a value that is JSON is taken as such, and a list
    or table as it stands in edge.toml. Raises ConfigError."""
    found: dict[str, Any] = {}
    if model is not None:
        found["model"] = model
    if fport is not None:
        found["fport"] = fport
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set: found {assignment!r}, expected key=value")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    with suppress(json.JSONDecodeError):
        return json.loads(text)
    if text.startswith(("[", "{")) and "\n" not in text:  # a regular expression may begin so too, and is then no TOML
        with suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(f"value = {text}")["value"]
    return text


def decode(driver: Driver, raw: bytes, options: Options) -> tuple[list[Field], list[FrameError]]:
    """All fields of all good frames in `raw`, and what was dropped, in order.

    Bytes in which a framer finds neither are shown to the decoder whole, which says what is wrong with them. Replies to commands
    do not count beside a device that says why it has no value.
    """
    fields: list[Field] = []
    errors: list[FrameError] = []
    measured = False

    def one(frame: bytes) -> None:
        nonlocal measured
        try:
            found = driver.decode(frame, options)
        except FrameError as e:
            errors.append(e)
        else:
            fields.extend(found)
            measured = measured or not (found and found[0].name == "reply")

    if driver.recognise is not None:
        try:
            fields.extend(driver.recognise(raw))
        except FrameError as e:
            return [], [e]
        if fields:
            # Some confirmations repeat the command; any other command is no reply.
            try:
                return [*driver.decode(raw, options), *fields], []
            except FrameError:
                return fields, []
    if driver.framer is None:
        one(raw)
        return fields, errors
    for item in driver.framer(options).feed(raw):
        if isinstance(item, FrameError):
            errors.append(item)
        else:
            one(item)
    if not fields and not errors:
        one(raw)
    if not measured and any(error.kind not in COMMUNICATION_KINDS for error in errors):
        return [], errors
    return fields, errors


def line(field: Field) -> str:
    """One reading as a line of JSON."""
    shown = {"quantity": field.name, "value": field.value, "unit": field.unit}
    return json.dumps(shown if field.channel is None else shown | {"channel": field.channel})


def run(name: str, raw: bytes, option_values: dict[str, Any], out: TextIO, err: TextIO) -> int:
    """Print the readings of `raw` on `out`, one line each, and what was dropped on `err`, as `class: reason`.

    Returns 0 when at least one frame was good (a stream may begin and end anywhere), else 2; then `out` has only the side
    quantities that stay usable. An empty payload of a codec that allows it is good. Raises ConfigError.
    """
    driver = drivers.find(name)
    fields, errors = decode(driver, raw, drivers.options(driver, option_values))
    bad = bool(errors) and not fields
    for field in fields or [side for error in errors for side in error.fields]:
        print(line(field), file=out)
    for text in dict.fromkeys(str(error) for error in errors):
        print(text, file=err)
    return 2 if bad else 0
