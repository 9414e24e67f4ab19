"""What of a gateway is secret, and texts without it, for support and for central.

Two nets: in the configuration what stands under a secret's name is left out; in every text what looks like a key or a telephone number
is blotted out, and so are the secrets of the configuration, wherever they stand.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from common.credentials import Credentials, references

BLOT = "***"
_SECRET_NAME = re.compile(r"pin$|password|passphrase|secret|token|phone|key$", re.IGNORECASE)
_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", re.DOTALL),
    re.compile(r"(?<![\w])(?:\+|00)[1-9](?:[ ./-]?\d){7,14}(?!\d)"),
    re.compile(r"(?<![\w.])0\d{1,3}[ ./-]?\d{2,3}(?:[ ./-]?\d{2}){2}(?![\d.])"),
    re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32,}(?![0-9A-Za-z])"),
    re.compile(r"(?<![0-9A-Za-z+/])(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*\d)[A-Za-z0-9+/]{40,}={0,2}"),
    re.compile(r"(?<=://)[^/\s@]+@"),
)


def secrets_of(data: Any) -> list[str]:
    """Every secret that stands in a configuration, or in a credential that it names, the longest first."""
    return sorted({text for text in (*_secrets(data), *_credentials(data)) if text}, key=len, reverse=True)


def clean(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A value without what looks like a secret, and without `secrets`."""
    if isinstance(value, dict):
        return {key: clean(part, secrets) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean(part, secrets) for part in value]
    if not isinstance(value, str):
        return value
    for pattern in _PATTERNS:
        value = pattern.sub(BLOT, value)
    for secret in secrets:
        value = re.sub(rf"(?<![0-9A-Za-z]){re.escape(secret)}(?![0-9A-Za-z])", BLOT, value)
    return value


def _secrets(data: Any, *, within: bool = False) -> Iterator[str]:
    if isinstance(data, dict):
        for key, part in data.items():
            yield from _secrets(part, within=within or _names_secret(key, part))
    elif isinstance(data, list):
        for part in data:
            yield from _secrets(part, within=within)
    elif within:
        yield str(data)


def _credentials(data: Any) -> Iterator[str]:
    """The values of those that the configuration names, as far as they can be read."""
    for _, text in references(data):
        with contextlib.suppress(ValueError):
            yield Credentials().fill(text)


def without_secrets(data: Any) -> Any:
    """A configuration in which a blot stands for each secret."""
    if isinstance(data, dict):
        return {key: BLOT if _names_secret(key, part) else without_secrets(part) for key, part in data.items()}
    return [without_secrets(part) for part in data] if isinstance(data, list) else data


def _names_secret(key: str, value: Any) -> bool:
    """A pin of the Pi is a number, a path of a key a file's name: neither is secret."""
    if key == "pin":
        return isinstance(value, str)
    return _SECRET_NAME.search(key) is not None and not (key == "key" and str(value).startswith("/"))
