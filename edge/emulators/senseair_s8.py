"""Senseair S8 CO2 sensor: a Modbus RTU server that answers to FE as well.

Source: Senseair, Modbus on Senseair S8 (TDE2067): input registers 0 to 3, holding registers 0, 1 and 31.
"""

from dataclasses import dataclass, field

from edge.emulators.family import Bench, Family
from edge.emulators.rs485 import INPUT, Image, Rs485Line, word
from edge.emulators.sensor import Truth

_ANY = 0xFE
_STATUS, _CO2 = 0, 3
_ACKNOWLEDGEMENT, _SPECIAL, _ABC_HOURS = 0, 1, 31


@dataclass(slots=True)
class SenseairS8:
    """`status` are the bits of the meter status. It says 0 ppm until it is warm."""

    sensor: str
    truth: Truth
    address: int = 1
    silent: bool = False
    status: int = 0
    address_register: int | None = None
    any_address: int | None = _ANY
    settings: dict[int, int] = field(default_factory=lambda: {_ACKNOWLEDGEMENT: 0, _SPECIAL: 0, _ABC_HOURS: 180})

    def image(self, wall_s: float, warm: bool) -> Image:
        image = Image()
        for register in (1, 2):
            image.put(INPUT, register, word(0))
        image.put(INPUT, _STATUS, word(self.status))
        co2 = word(self.truth(wall_s)["co2"] if warm else 0)
        said = float(int.from_bytes(co2))
        image.put(INPUT, _CO2, co2, "co2" if warm else "", said)
        return image


def _make(bench: Bench) -> Rs485Line:
    servers = [SenseairS8(m.sensor, m.truth, m.options.get("unit", _ANY)) for m in bench.members]
    return Rs485Line(bench.path, servers, clock=bench.clock, log=bench.log, warm_up_s=bench.warm_up_s)


FAMILIES = (
    Family(
        name="senseair_s8",
        title="Senseair S8 CO2 sensor (Modbus RTU)",
        true={"co2": 1234.0},
        make=_make,
        variants=({}, {"unit": 104}),
        address="unit",
    ),
)
