"""What the payload codecs of LoRaWAN devices share: the options that a network server knows, and the checks on them."""

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field as Constraint
from pydantic import field_validator

from edge.sensors.base import Field, FrameError, Options
from wire.quantities import QUANTITIES

_USABLE = ("battery_voltage", "battery_level")
_PLAUSIBLE = {"air_temperature": (-60, 125), "relative_humidity": (0, 100), "air_pressure": (300, 1250)}
"""What sensors of these nodes can read at all."""


def plain(model: str) -> str:
    """A model's name in capitals, without spaces and signs."""
    return "".join(c for c in model.upper() if c.isalnum())


class UplinkOptions(Options):
    """`model`: the device's type, where payloads of a vendor differ by it. `fport`: the LoRaWAN port that the payload
    came on; without it (a node behind a point-to-point modem) the codec's own port is taken.

    `models`: set by a codec whose payloads do not say whose they are: parts of the names of the types that it reads. A model
    with none of them is refused, as its bytes would be read as something that they are not."""

    models: ClassVar[tuple[str, ...]] = ()

    model: str = ""
    fport: int | None = Constraint(default=None, ge=0, le=255)

    @field_validator("model")
    @classmethod
    def _read(cls, model: str) -> str:
        if model and cls.models and not any(part in plain(model) for part in cls.models):
            raise ValueError(f"found {model!r}, expected one of {', '.join(cls.models)}")
        return model

    def named(self, *parts: str) -> bool:
        """Whether the model's name contains one of `parts` (capitals, no spaces or signs)."""
        return any(part in plain(self.model) for part in parts)

    def port(self, *known: int) -> int:
        """The port of this payload, the first of `known` when none is said. Raises FrameError `unknown_port`."""
        if self.fport is None:
            return known[0]
        if self.fport not in known:
            raise FrameError(
                "unknown_port", f"fPort {self.fport}, expected {' or '.join(str(number) for number in known)}"
            )
        return self.fport


def sized(frame: bytes, *lengths: int) -> bytes:
    """The frame, if it has one of these lengths. Raises FrameError `length`."""
    if len(frame) not in lengths:
        raise FrameError("length", f"{len(frame)} bytes, expected {' or '.join(str(n) for n in lengths)}")
    return frame


def battery(millivolts: int) -> Field:
    return Field("battery_voltage", millivolts / 1000, "V")


def reply(what: str) -> Field:
    """First field of a payload that is well-formed and no measurement."""
    return Field("reply", what, "")


def usable(fields: Iterable[Field]) -> tuple[Field, ...]:
    """What may go along with an error: battery and health, no value of the table."""
    return tuple(field for field in fields if field.name in _USABLE or field.name not in QUANTITIES)


def plausible(fields: Iterable[Field]) -> list[Field]:
    """The fields without those that no sensor can have read, which are named in a field `implausible`. Raises
    FrameError `implausible` when nothing but what is usable anyway is left."""
    good, odd = [], []
    for field in fields:
        limits = _PLAUSIBLE.get(field.name)
        if limits is None or limits[0] <= field.value <= limits[1]:
            good.append(field)
        else:
            odd.append(f"{field.name} {field.value} {field.unit}")
    if not odd:
        return good
    if all(field.name in _USABLE for field in good):
        raise FrameError("implausible", ", ".join(odd), usable(good))
    return [*good, Field("implausible", ", ".join(odd), "")]
