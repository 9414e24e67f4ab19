"""Identifiers: gateways, stations, sensors, recipients; and UUIDv7 for events and occurrences."""

import re
import secrets
import uuid
from typing import Annotated

from pydantic import StringConstraints

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]

_ID = re.compile(ID_PATTERN)


def is_id(text: str) -> bool:
    """Whether `text` may name a gateway, station, sensor or recipient (1 to 63 of a-z 0-9 -, not starting with -)."""
    return _ID.fullmatch(text) is not None


def uuid7(wall_s: float) -> str:
    """A UUIDv7 (RFC 9562, 5.7) for the moment `wall_s` (Unix seconds): sorts by time, unique by 74 random bits."""
    ms = round(wall_s * 1000) & 0xFFFF_FFFF_FFFF
    value = (ms << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    return str(uuid.UUID(int=value))
