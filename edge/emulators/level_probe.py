"""RS485 level probes with the map of registers that most makers share (QDY30A and alike).

Source: ybzhan.com, RS485 level gauge communication example: 0 address, 1 baud rate code, 2 unit code, 3 decimals, 4 value, 5
temperature or zero, 6 full scale; some answer requests to address 0 with their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.emulators.family import Bench, Family, Member
from edge.emulators.rs485 import HOLDING, INPUT, Image, Rs485Line, word
from edge.emulators.sensor import Truth

_ADDRESS, _BAUD, _UNIT, _DECIMALS, _VALUE, _TEMPERATURE, _FULL_SCALE = range(7)
# Decimals that a probe in this unit has, and how many of it are a metre of water, or a hectopascal.
_LENGTHS = {"m": (3, 1.0), "cm": (1, 100.0), "mm": (0, 1000.0), "mH2O": (3, 1.0), "mmH2O": (0, 1000.0)}
_PRESSURES = {"kPa": (2, 0.1), "mbar": (1, 1.0), "bar": (4, 0.001), "MPa": (5, 0.0001), "Pa": (0, 100.0)}
_HPA_PER_M = 98.0665


@dataclass(slots=True)
class LevelProbe:
    """A probe that shows the true `water_level` in the unit and with the decimals of its options."""

    address: int
    sensor: str
    truth: Truth
    options: Mapping[str, Any] = field(default_factory=dict)
    silent: bool = False
    address_register: int | None = _ADDRESS
    any_address: int | None = 0
    settings: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.settings = {_ADDRESS: self.address, _BAUD: 3}

    def image(self, wall_s: float, warm: bool) -> Image:
        del warm
        truth = self.truth(wall_s)
        unit = self.options.get("unit", "m")
        if unit in _LENGTHS:
            (decimals, steps), quantity, value = _LENGTHS[unit], "water_level", truth["water_level"]
        else:
            (decimals, steps), quantity = _PRESSURES[unit], "water_pressure"
            value = truth.get("water_pressure", truth["water_level"] * _HPA_PER_M)
        decimals = self.options.get("decimals", decimals)
        shown = word(value * steps * 10**decimals)
        said = int.from_bytes(shown, signed=True) / 10**decimals / steps
        image = Image()
        for function in (HOLDING, INPUT):
            for register in range(_FULL_SCALE + 1):
                image.put(function, register, word(0))
            image.put(function, _ADDRESS, word(self.address))
            image.put(function, _DECIMALS, word(decimals))
            image.put(function, _VALUE, shown, quantity, said)
            temperature = word(truth.get("water_temperature", 11.5) * 10)
            image.put(
                function, _TEMPERATURE, temperature, "water_temperature", int.from_bytes(temperature, signed=True) / 10
            )
            image.put(function, _FULL_SCALE, word(0x7FFF))
        return image


def _probe(member: Member) -> LevelProbe:
    return LevelProbe(member.options.get("address", 1), member.sensor, member.truth, member.options)


def _make(bench: Bench) -> Rs485Line:
    return Rs485Line(bench.path, [_probe(m) for m in bench.members], clock=bench.clock, log=bench.log)


FAMILIES = (
    Family(
        name="modbus_level_probe",
        title="RS485 level probes, QDY30A and alike (Modbus RTU)",
        true={"water_level": 1.234, "water_temperature": 11.5},
        make=_make,
        variants=(
            {},
            {"unit": "cm"},
            {"unit": "mm", "words": ["level", "temperature"], "first_register": 4, "decimals": 0},
            {"address": 0},
        ),
        address="address",
    ),
)
