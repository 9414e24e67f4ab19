"""How a configuration fault is told to a person, the same on both sides."""

from pydantic import BaseModel, ValidationError

_SECRET = frozenset({"password", "pin", "phone", "headers", "body", "central_key"})


def faults(error: ValidationError) -> list[str]:
    """A pydantic error as lines `key: expected …, found …`. What was found is left out for secrets and phone numbers."""
    lines = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"]) or "(whole file)"
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


def unique(names: list[str], what: str) -> None:
    """Raises ValueError naming what stands twice, for validators."""
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{what} {', '.join(twice)}: expected once")
