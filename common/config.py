"""How a configuration fault is told to a person, the same on both sides."""

import tomllib
from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.credentials import Credentials, Loc, references

Model = TypeVar("Model", bound=BaseModel)

_NAMES = ("id", "name")
_SECRET = frozenset(
    {"password", "pin", "phone", "headers", "body", "central_key", "token", "webhook_token", "database_password"}
)


def load(path: Path, model: type[Model], error: type[Exception], credentials: Credentials | None = None) -> Model:
    """Read and check a TOML file; credentials that it names are filled in. Raises `error` with one line per fault: file, key,
    what was found, what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise error(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise error(f"{path}: not TOML: {e}") from e
    return parsed(text, str(path), model, error, credentials)


def parsed(
    text: str, name: str, model: type[Model], error: type[Exception], credentials: Credentials | None = None
) -> Model:
    """The text of a file, as `load` takes it; `name` is the file's, for what is told."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise error(f"{name}: not TOML: {e}") from e
    return checked(data, name, model, error, credentials)


def checked(
    data: dict[str, Any],
    name: str,
    model: type[Model],
    error: type[Exception],
    credentials: Credentials | None = None,
) -> Model:
    """What a file says, as `load` takes it. `data` stays as it is: the credentials are in the model alone."""
    credentials = credentials or Credentials()
    filled = deepcopy(data)
    secret, missing = [], []
    for loc, text in references(data):
        secret.append(loc)
        try:
            _put(filled, loc, credentials.fill(text))
        except ValueError as e:
            missing.append(f"{name}: {_key(loc, data)}: {e}")
    if missing:
        raise error("\n".join(missing))
    try:
        return model.model_validate(filled)
    except ValidationError as e:
        raise error("\n".join(f"{name}: {line}" for line in faults(e, filled, secret))) from e


def _put(data: Any, loc: Loc, text: str) -> None:
    for part in loc[:-1]:
        data = data[part]
    data[loc[-1]] = text


def faults(error: ValidationError, data: object = None, secret: Collection[Loc] = ()) -> list[str]:
    """A pydantic error as lines `key: expected …, found …`. What was found is left out for secrets and phone numbers, and at
    the places `secret`.

    With the file's `data` the tables of a list are called by their `id` or `name`, as a person who looks for them does."""
    lines = []
    items = error.errors(include_url=False)
    places = [item["loc"] for item in items]
    for item in items:
        loc = item["loc"]
        if item["type"] == "too_short" and any(len(p) > len(loc) and p[: len(loc)] == loc for p in places):
            continue  # pydantic leaves out of a list what has a fault: there is one, and it is told
        key = _key(loc, data) or "(whole file)"
        message = item["msg"].removeprefix("Value error, ")
        found = item.get("input")
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key, expected none of this name")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing, expected a value")
        elif (
            isinstance(found, (dict, list, tuple, BaseModel))
            or _SECRET & {str(part) for part in loc}
            or any(_within(place, loc) for place in secret)
        ):
            lines.append(f"{key}: {message}")
        else:
            lines.append(f"{key}: {message}, found {found!r}")
    return lines


def _within(place: Loc, loc: Loc) -> bool:
    """Whether a fault at `loc` may show what stands at `place`. Pydantic puts the names of a union's members between."""
    parts = iter(loc)
    return all(part in parts for part in place)


def _key(loc: tuple[int | str, ...], data: object) -> str:
    parts = []
    for part in loc:
        parts.append(str(part))
        if isinstance(part, int) and isinstance(data, list) and part < len(data):
            data = data[part]
            called = (
                [data[name] for name in _NAMES if isinstance(data.get(name), str)] if isinstance(data, dict) else []
            )
            parts[-1] += "".join(f" ({name[:40]!r})" for name in called[:1])
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return ".".join(parts)


def unique(names: list[str], what: str) -> None:
    """Raises ValueError naming what stands twice, for validators."""
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what} {', '.join(twice)}: expected once")
