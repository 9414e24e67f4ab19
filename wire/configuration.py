"""A configuration from central to a gateway: topic `config` (retained), and the gateway's answer on `config/result`.

It is signed as a command is (wire/command.py), without an expiry: its version, which only grows, keeps an old one from coming back.
"""

import tomllib
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wire.errors import WireError

RESULT = "config/result"
MAX_TEXT = 64 * 1024
MAX_WHY = 4096
LOCAL = ("gateway", "clock", "journal", "mqtt")
"""Sections that a gateway has by itself alone: what they break, nobody could mend from afar."""
_SECRETS = (("outputs", "sms", "pin"), ("network_server", "password"))

State = Literal["trying", "running", "refused", "rolled-back", "replaced"]


class Configuration(BaseModel):
    """`config`: `text` is TOML, all sections of edge.toml but those of `LOCAL`, without secrets. `made`: RFC 3339; `by`: a person."""

    model_config = ConfigDict(frozen=True, strict=True)

    version: int = Field(ge=1, lt=2**53)
    made: str
    by: str = Field(min_length=1, max_length=120)
    text: str = Field(max_length=MAX_TEXT)


class ConfigurationResult(BaseModel):
    """`config/result`: what became of a version. `trying` comes before one of the others; `refused`: it never ran (`why` has a line
    for each fault: key, what was expected, what was found); `rolled-back`: it ran and was not healthy; `replaced`: somebody on site
    changed the configuration since. `at`: RFC 3339."""

    model_config = ConfigDict(frozen=True)

    version: int = Field(ge=1, lt=2**53)
    state: State
    why: str = Field(default="", max_length=MAX_WHY)
    at: str


def carried(text: str) -> dict[str, Any]:
    """What a configuration's text says. Raises WireError when it is no TOML, or has what is not carried."""
    if len(text.encode()) > MAX_TEXT:
        raise WireError(f"the text has {len(text.encode())} bytes, expected at most {MAX_TEXT}")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise WireError(f"not TOML: {e}") from None
    if found := [name for name in LOCAL if name in data]:
        raise WireError(f"{', '.join(found)}: found, expected none: a gateway has it by itself alone")
    for path in _SECRETS:
        if any(path[-1] in table for table in _at(data, path[:-1])):
            raise WireError(f"{'.'.join(path)}: found, expected none: secrets stay on the gateway, in its own file")
    if any("${credential" in text for text in _texts(data)):
        raise WireError("${credential…}: found, expected none: secrets stay on the gateway, in its own file")
    return data


def completed(data: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A carried configuration with what the gateway's `own` file adds: the sections of `LOCAL`, the PIN, the passwords of network
    servers by their name."""
    whole = {name: own[name] for name in LOCAL if name in own} | data
    pin = next((sms["pin"] for sms in _at(own, ("outputs", "sms")) if "pin" in sms), None)
    if pin is not None and _at(data, ("outputs", "sms")):
        whole["outputs"] = data["outputs"] | {"sms": data["outputs"]["sms"] | {"pin": pin}}
    passwords = {s.get("name"): s["password"] for s in _at(own, ("network_server",)) if "password" in s}
    if passwords and _at(data, ("network_server",)):
        whole["network_server"] = [
            s | ({"password": passwords[s.get("name")]} if s.get("name") in passwords else {})
            for s in data["network_server"]
        ]
    return whole


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    for part in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _texts(part)


def _at(data: Any, path: tuple[str, ...]) -> list[dict[str, Any]]:
    """The tables at a path; of a list all of them."""
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return [table for table in (data if isinstance(data, list) else [data]) if isinstance(table, dict)]
