"""What the uplinks of LoRaWAN network servers share: a JSON body around a payload that a codec reads."""

import base64
import binascii
import json
import re
from typing import Any

from pydantic import Field as Constraint
from pydantic import model_validator

from edge import drivers
from edge.errors import ConfigError
from edge.sensors._lorawan_misc import vendor
from edge.sensors.base import Driver, Field, FrameError, Options

_CODECS = (
    (r"(EM[345]|AM[13])\d\d", "milesight"),
    (r"DL-", "decentlab"),
    (r"L?DDS\d|LLDS\d", "dragino_ldds"),
    (r"LHT65", "dragino_lht65"),
    (r"LSN50", "dragino_lsn50"),
    (r"PS-|LAQ4|L?SE01|LWL0|WL03|LTC2|LDS0", "dragino_other"),
    (r"ERS|EMS|ELT", "elsys"),
    (r"VEGAPULS", "vegapuls_air"),
    (r"KELLER|ADT1|ARC1", "keller_lorawan"),
    (r"STRIPS|SQUARE", "sensative"),
)
"""Codec by how the model's name begins; other names begin with their vendor's."""

_LARGEST = 2**64
"""No number of these protocols is larger; JSON's may be, and infinite."""


class ServerOptions(Options):
    """`topic`: of the message, which says the event and the device. `model`: of the device; with it, or with `codec` (a
    driver of payloads) and its `codec_options`, the payload is read too."""

    topic: str = ""
    model: str = ""
    codec: str = ""
    codec_options: dict[str, Any] = Constraint(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> "ServerOptions":
        try:
            driver = codec(self)
        except ConfigError as e:
            raise ValueError(str(e)) from None
        if driver is not None and driver.link != "payload":
            raise ValueError(f"codec {driver.name} is for {driver.link}, expected one for payload")
        return self


def codec(options: ServerOptions) -> Driver | None:
    """The codec of a device's payloads, None without `codec` and `model`. Raises ConfigError."""
    if options.codec:
        return drivers.find(options.codec)
    if not options.model:
        return None
    for pattern, name in _CODECS:
        if re.match(pattern, options.model, re.IGNORECASE):
            return drivers.find(name)
    return vendor(options.model)


def body(frame: bytes) -> dict[str, Any]:
    """The JSON object. Raises FrameError `format`."""
    try:
        found = json.loads(frame, parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        raise FrameError("format", f"not JSON: {e}") from None
    if not isinstance(found, dict):
        raise FrameError("format", f"{type(found).__name__}, expected a JSON object")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def part(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """An object inside, empty when it is absent (protobuf leaves out what is empty). Raises FrameError `format`."""
    found = parent.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise FrameError("format", f"{key} is {type(found).__name__}, expected an object")
    return found


def parts(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects inside, as `part`."""
    found = parent.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise FrameError("format", f"{key}, expected a list of objects")
    return found


def text(parent: dict[str, Any], key: str) -> str:
    """A string inside, empty when it is absent. Raises FrameError `format`."""
    found = parent.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise FrameError("format", f"{key} is {type(found).__name__}, expected a string")
    return found


def number(parent: dict[str, Any], key: str) -> float | int | None:
    """A number inside, None when it is absent. Raises FrameError `format`."""
    found = parent.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < _LARGEST:
        raise FrameError("format", f"{key} is {str(found)[:40]!r}, expected a number")
    return found


def count(parent: dict[str, Any], key: str) -> int:
    """A whole number inside, 0 when it is absent. Raises FrameError `format`."""
    found = number(parent, key)
    if found is not None and found != int(found):
        raise FrameError("format", f"{key} is {found}, expected a whole number")
    return int(found or 0)


def unbase64(data: str) -> bytes:
    """Raises FrameError `format`."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise FrameError("format", f"payload {data[:40]!r} is not base64") from None


def given(*fields: Field) -> list[Field]:
    """The fields that say something: absent is not zero, and not empty either."""
    return [field for field in fields if field.value not in (None, "")]


def reception(gateways: list[dict[str, Any]], lora: bool) -> list[Field]:
    """Of the gateways that heard one uplink, how many and how well the best of them did. A LoRa gateway that says no
    SNR means 0 (protobuf leaves zeros out); FSK has none."""
    heard = [(number(gateway, "rssi"), gateway) for gateway in gateways]
    rssi, best = max(heard, key=lambda pair: float("-inf") if pair[0] is None else pair[0], default=(None, {}))
    snr = number(best, "snr")
    return given(
        Field("gateways", len(gateways), "1"),
        Field("rssi", rssi, "dBm"),
        Field("snr", 0.0 if snr is None and lora and gateways else snr, "dB"),
    )


def best(gateways: list[dict[str, Any]]) -> dict[str, Any]:
    """The gateway with the strongest signal, the first of equals; empty without any."""
    return max(gateways, key=lambda gateway: float("-inf") if (r := number(gateway, "rssi")) is None else r, default={})


def uplink(side: list[Field], payload: bytes, fport: int, options: ServerOptions) -> list[Field]:
    """The fields of an uplink: what the codec reads in its payload, then what the server says of it.

    Raises FrameError as the codec, with the server's part.
    """
    fields = [*side, Field("payload_hex", payload.hex().upper(), "")]
    driver = codec(options)
    if driver is None:
        printable = payload.isascii() and payload.decode("latin-1").isprintable()
        return [*fields, Field("text", payload.decode("latin-1"), "")] if printable else fields
    known = {"model": options.model, "fport": fport or None} | options.codec_options
    try:
        values = drivers.options(driver, {k: v for k, v in known.items() if k in driver.options.model_fields})
    except ConfigError as e:
        return [*fields, Field("codec", f"not read: {e}", "")]
    try:
        return [*driver.decode(payload, values), *fields]
    except FrameError as e:
        raise FrameError(e.kind, e.reason, (*e.fields, *fields), e.at_most_m) from e
