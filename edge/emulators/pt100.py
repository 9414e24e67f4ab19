"""Simex TRS-02a and SPT-86L transmitters for PT100 probes, Modbus RTU servers.

Source: Simex, TRS-02a and SPT-86L user manuals: holding registers 1 value, 2 status, of the SPT-86L also 3 decimals. When the probe
breaks register 1 keeps its value.
"""

from dataclasses import dataclass, field

from edge.emulators.family import Family, Member
from edge.emulators.rs485 import HOLDING, Image, Rs485Line, word
from edge.emulators.sensor import Truth

_VALUE, _STATUS, _DECIMALS = 1, 2, 3


@dataclass(slots=True)
class Pt100:
    """`status` other than 0 says what is broken (A0: line open, 60: short-circuited); the value stands still then."""

    address: int
    sensor: str
    truth: Truth
    quantity: str = "air_temperature"
    decimals: int = 1
    silent: bool = False
    status: int = 0
    address_register: int | None = None
    any_address: int | None = None
    settings: dict[int, int] = field(default_factory=dict)
    _last: bytes = field(default=b"\0\0", init=False)

    def image(self, wall_s: float, warm: bool) -> Image:
        del warm
        if self.status == 0:
            self._last = word(self.truth(wall_s)[self.quantity] * 10**self.decimals)
        image = Image()
        said = int.from_bytes(self._last, signed=True) / 10**self.decimals
        image.put(HOLDING, _VALUE, self._last, "" if self.status else self.quantity, said)
        image.put(HOLDING, _STATUS, word(self.status))
        image.put(HOLDING, _DECIMALS, word(self.decimals))
        return image


def _transmitter(member: Member) -> Pt100:
    options = member.options
    return Pt100(
        options.get("unit", 1),
        member.sensor,
        member.truth,
        options.get("quantity", "air_temperature"),
        options.get("decimals", 1),
    )


FAMILIES = (
    Family(
        name="pt100_modbus",
        title="Simex TRS-02a, SPT-86L transmitters for PT100 probes (Modbus RTU)",
        true={"air_temperature": -4.5, "water_temperature": 11.5},
        make=lambda b: Rs485Line(b.path, [_transmitter(m) for m in b.members], clock=b.clock, log=b.log),
        variants=({}, {"model": "SPT-86L", "quantity": "water_temperature"}),
        address="unit",
    ),
)
