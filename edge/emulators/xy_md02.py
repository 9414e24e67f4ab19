"""XY-MD02 temperature and humidity transmitters, Modbus RTU servers on an RS485 line.

Source: seller's manual of the XY-MD02 (input registers 1 and 2, signed, 0.1; holding registers 0x101 to 0x104).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from edge.emulators.family import Bench, Family, Member
from edge.emulators.rs485 import INPUT, Image, Rs485Line, word

_ADDRESS, _BAUD_RATE, _TEMPERATURE_OFFSET, _HUMIDITY_OFFSET = range(0x101, 0x105)


@dataclass(slots=True)
class XyMd02:
    """One transmitter. `climate(wall_s)` is the true (air temperature Cel, relative humidity %RH). A `silent` one is broken.

    `scale`: the registers' steps in a degree, 10, or 100 on some firmware.
    """

    address: int
    sensor: str
    climate: Callable[[float], tuple[float, float]]
    silent: bool = False
    scale: int = 10
    address_register: int | None = _ADDRESS
    any_address: int | None = None
    settings: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = {_ADDRESS: self.address, _BAUD_RATE: 9600, _TEMPERATURE_OFFSET: 0, _HUMIDITY_OFFSET: 0}

    def image(self, wall_s: float, warm: bool) -> Image:
        del warm
        image = Image()
        for register, name, value in zip(
            (1, 2), ("air_temperature", "relative_humidity"), self.climate(wall_s), strict=True
        ):
            image.put(INPUT, register, word(value * self.scale), name, round(value * self.scale) / self.scale)
        return image


def _transmitter(member: Member) -> XyMd02:
    def climate(wall_s: float) -> tuple[float, float]:
        truth = member.truth(wall_s)
        return truth["air_temperature"], truth["relative_humidity"]

    return XyMd02(member.options.get("unit", 1), member.sensor, climate, scale=member.options.get("scale", 10))


def _make(bench: Bench) -> Rs485Line:
    return Rs485Line(bench.path, [_transmitter(m) for m in bench.members], clock=bench.clock, log=bench.log)


FAMILIES = (
    Family(
        name="xy_md02",
        title="XY-MD02 or SHT20 temperature and humidity transmitters on RS485 (Modbus RTU)",
        true={"air_temperature": -4.5, "relative_humidity": 87.3},
        make=_make,
        address="unit",
        variants=({}, {"scale": 100}),
    ),
)
