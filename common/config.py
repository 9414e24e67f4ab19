"""How a configuration fault is told to a person, the same on both sides."""

from pydantic import BaseModel, ValidationError

_NAMES = ("id", "name")
_SECRET = frozenset({"password", "pin", "phone", "headers", "body", "central_key"})


def faults(error: ValidationError, data: object = None) -> list[str]:
    """A pydantic error as lines `key: expected …, found …`. What was found is left out for secrets and phone numbers.

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
        elif isinstance(found, (dict, list, tuple, BaseModel)) or _SECRET & {str(part) for part in item["loc"]}:
            lines.append(f"{key}: {message}")
        else:
            lines.append(f"{key}: {message}, found {found!r}")
    return lines


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
