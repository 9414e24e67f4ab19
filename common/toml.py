"""Values in TOML 1.0, for what is written by programs. Reading is `tomllib`'s."""

import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any


def value(found: Any) -> str:
    """A value; tables inline."""
    if isinstance(found, str):
        return _string(found)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, datetime | date | time):
        return found.isoformat()
    if isinstance(found, Mapping):
        return "{ " + ", ".join(f"{_key(str(k))} = {value(v)}" for k, v in found.items()) + " }" if found else "{}"
    if isinstance(found, list | tuple):
        return "[" + ", ".join(map(value, found)) + "]"
    return repr(found)


def text(table: Mapping[str, Any]) -> str:
    """A whole file, a line a key."""
    return "".join(f"{_key(key)} = {value(found)}\n" for key, found in table.items())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
