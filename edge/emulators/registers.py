"""A Modbus device by a map of its registers, as the configuration gives it.

Source: MODBUS Application Protocol V1.1b3 (registers are sent high byte first; what is longer than one has no order by the standard).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.emulators.family import Family, Member
from edge.emulators.rs485 import HOLDING, Image, Rs485Line
from edge.emulators.sensor import Truth

_FORMATS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "float32": ">f",
    "int64": ">q",
    "uint64": ">Q",
    "float64": ">d",
}


@dataclass(slots=True)
class Registers:
    """`registers` are those of the configuration: name, address, function, type, order, factor, offset."""

    address: int
    sensor: str
    truth: Truth
    registers: list[Mapping[str, Any]]
    silent: bool = False
    address_register: int | None = None
    any_address: int | None = 0
    settings: dict[int, int] = field(default_factory=dict)

    def image(self, wall_s: float, warm: bool) -> Image:
        del warm
        truth = self.truth(wall_s)
        image = Image()
        for one in self.registers:
            kind, factor, offset = one.get("type", "int16"), one.get("factor", 1), one.get("offset", 0)
            raw = (truth.get(one["name"], 0.0) - offset) / factor
            if not kind.startswith("float"):
                bits = 8 * struct.calcsize(_FORMATS[kind])
                lowest = 0 if kind.startswith("u") else -(1 << bits - 1)
                raw = min(max(round(raw), lowest), lowest + (1 << bits) - 1)
            data = _ordered(struct.pack(_FORMATS[kind], raw), one.get("order", "ABCD"))
            said = float(f"{raw * factor + offset:.10g}")
            image.put(one.get("function", HOLDING), one["address"], data, one["name"], said)
        return image


def _ordered(data: bytes, order: str) -> bytes:
    """Bytes, high one first, in the device's order: by words or within each word the other way round, or both."""
    if order in ("BADC", "DCBA"):
        data = b"".join(data[i : i + 2][::-1] for i in range(0, len(data), 2))
    if order in ("CDAB", "DCBA"):
        data = b"".join(data[i : i + 2] for i in range(len(data) - 2, -1, -2))
    return data


def _device(member: Member) -> Registers:
    return Registers(
        member.options.get("unit", 1), member.sensor, member.truth, list(member.options.get("registers", ()))
    )


_MAP = [
    {"name": "water_level", "address": 8, "factor": 0.001},
    {"name": "water_temperature", "address": 1, "function": 4, "factor": 0.1},
    {"name": "battery_voltage", "address": 20, "type": "float32", "order": "CDAB"},
]

FAMILIES = (
    Family(
        name="modbus",
        title="Any Modbus RTU device, by a map of its registers",
        true={"water_level": 1.234, "water_temperature": -0.5, "battery_voltage": 12.5},
        make=lambda b: Rs485Line(b.path, [_device(m) for m in b.members], clock=b.clock, log=b.log),
        options={"registers": _MAP},
        variants=({}, {"unit": 0}),
        address="unit",
    ),
)
