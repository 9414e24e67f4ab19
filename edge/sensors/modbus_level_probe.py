"""RS485 level probes with the map of registers that most makers share (QDY30A and alike), Modbus RTU, 9600 8N1, address 1.

Holding registers (function 3, one signed word each): 0 address, 1 baud rate code, 2 unit code, 3 number of decimals, 4 value,
some 5 temperature in tenths (others: zero), 6 full scale. The unit's codes differ from maker to maker, so the unit is
configured; the decimals can be read with the value. Sources: ybzhan.com, RS485 level gauge communication example; Lobaro,
Modbus sensor pages (registers of pressure transmitters).
"""

from typing import Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.sensors import _modbus_rtu as rtu
from edge.sensors.base import Driver, Field, FrameError, ModbusRead, Options, Sheet

LEVEL = 4
ANY = 0
MAX_DECIMALS = 5
_ENDS = (-0x8000, 0x7FFF)

_UNITS = {
    "m": ("water_level", "m", 1.0),
    "cm": ("water_level", "m", 0.01),
    "mm": ("water_level", "m", 0.001),
    "mH2O": ("water_level", "m", 1.0),
    "mmH2O": ("water_level", "m", 0.001),
    "MPa": ("water_pressure", "hPa", 10_000.0),
    "kPa": ("water_pressure", "hPa", 10.0),
    "Pa": ("water_pressure", "hPa", 0.01),
    "bar": ("water_pressure", "hPa", 1000.0),
    "mbar": ("water_pressure", "hPa", 1.0),
    "kgf/cm2": ("water_pressure", "hPa", 980.665),
    "psi": ("water_pressure", "hPa", 68.94757),
}
"""What a value in this unit is in the table, and the factor to its unit there."""

Word = Literal["address", "baud_code", "unit_code", "decimals", "level", "temperature", "zero", "full_scale"]


class LevelProbeOptions(Options):
    """`address`: the Modbus address; 0 asks whoever is on the line, and takes an answer from any address (some probes do so).

    `words`: what the registers from `first_register` on are, in order. `decimals` of the value, where they are not among the words.
    `unit` of the value: with a length or a water column it is a level, else a pressure.
    """

    address: int = Constraint(default=1, ge=ANY, le=247)
    function: Literal[3, 4] = 3
    first_register: int = Constraint(default=LEVEL - 1, ge=0, le=0xFFFF)
    words: tuple[Word, ...] = Constraint(default=("decimals", "level"), min_length=1)
    decimals: int | None = Constraint(default=None, ge=0, le=MAX_DECIMALS)
    unit: Literal["m", "cm", "mm", "mH2O", "mmH2O", "MPa", "kPa", "Pa", "bar", "mbar", "kgf/cm2", "psi"] = "m"

    @model_validator(mode="after")
    def _decimals_known(self) -> Self:
        if self.decimals is None and "decimals" not in self.words:
            raise ValueError("decimals: expected their number, or 'decimals' among words")
        return self


def decode(frame: bytes, options: LevelProbeOptions) -> list[Field]:
    """One whole RTU reply -> `water_level` in m or `water_pressure` in hPa, `water_temperature` in Cel, and what else `words`
    names, as it stands in the register; a confirmed write gives `reply` first.

    Slightly negative is a value: zero drifts. Raises FrameError: `length crc exception format`; `header` for a reply from
    another address or function; `saturated` at the ends of a word's range.
    """
    reply = rtu.parse_reply(frame)
    if options.address not in (ANY, reply.unit):
        raise FrameError("header", f"reply from address {reply.unit}, asked was {options.address}")
    if isinstance(reply, rtu.Written):
        return [
            Field("reply", "write_ok", ""),
            Field("register", reply.register, "1"),
            Field("value", int.from_bytes(frame[4:6], "big"), "1"),
        ]
    if reply.function != options.function:
        raise FrameError("header", f"reply to function {reply.function}, asked was {options.function}")
    if len(reply.words) != len(options.words):
        raise FrameError(
            "length", f"{len(reply.words)} registers, expected {len(options.words)} ({', '.join(options.words)})"
        )
    words = dict(zip(options.words, reply.words, strict=True))
    decimals = words.get("decimals", options.decimals)
    if decimals is None or decimals > MAX_DECIMALS:
        raise FrameError("format", f"{decimals} decimals, expected 0 to {MAX_DECIMALS}")
    return [_field(name, word, decimals, options.unit) for name, word in words.items()]


def _field(name: str, word: int, decimals: int, unit: str) -> Field:
    if name not in ("level", "temperature", "zero", "full_scale"):
        return Field(name, word, "1")
    signed = word - 0x10000 if word & 0x8000 else word
    if name in ("zero", "full_scale"):
        return Field(name, signed / 10**decimals, unit)
    if signed in _ENDS:
        raise FrameError("saturated", f"{name}: {signed} is the end of the register's range")
    if name == "temperature":
        return Field("water_temperature", signed / 10, "Cel")
    quantity, its_unit, factor = _UNITS[unit]
    return Field(quantity, round(signed * factor / 10**decimals, 6), its_unit)


def read_level(address: int = 1) -> bytes:
    """Read the value alone."""
    return rtu.read_request(address, 3, LEVEL, 1)


def read_level_temperature(address: int = 1) -> bytes:
    """Read the value and the register behind it."""
    return rtu.read_request(address, 3, LEVEL, 2)


def read_decimals_level(address: int = 1) -> bytes:
    """Read the number of decimals and the value."""
    return rtu.read_request(address, 3, LEVEL - 1, 2)


def read(register: int, count: int = 1, address: int = 1) -> bytes:
    """Read registers."""
    return rtu.read_request(address, 3, register, count)


def write_register(register: int, value: int, address: int = 1) -> bytes:
    """Write one register: 0 gives the probe another address, 1 another baud rate."""
    return rtu.write_single(address, register, value)


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    request = rtu.parse_request(frame)
    if request is None:
        return []
    name = {
        (3, LEVEL, 1): "read_level",
        (3, LEVEL, 2): "read_level_temperature",
        (3, LEVEL - 1, 2): "read_decimals_level",
    }.get((request.function, request.register, request.count))
    return [
        Field("command", name or ("write_register" if request.values else "read"), ""),
        Field("address", request.unit, "1"),
        Field("function", request.function, "1"),
        Field("register", request.register, "1"),
        Field("count", request.count, "1"),
        *(Field("written", value, "1") for value in request.values),
    ]


DRIVER = Driver(
    name="modbus_level_probe",
    title="RS485 level probes, QDY30A and alike (Modbus RTU)",
    link="modbus",
    quantities=("water_level", "water_pressure", "water_temperature"),
    options=LevelProbeOptions,
    decode=decode,
    reads=lambda o: (ModbusRead(function=o.function, register=o.first_register, count=len(o.words)),),
    unit=lambda o: o.address,
    source="ybzhan.com, RS485 level gauge communication example; Lobaro, Modbus sensor pages",
    sheet=Sheet(
        wiring="RS485, A and B, supply 12 to 24 V, a common ground. 120 Ohm at both ends of a long line. Dips of "
        "the supply restart the probe: feed it through a wire of its own.",
        limits="The register holds digits only: decimals are read with them, the unit is in the configuration as "
        "on the label. Level slightly below zero is drift.",
        faults="Wrong by a factor of 10: the decimals or the unit. Silence: A and B swapped, or another address "
        "or baud rate. Sediment on the membrane.",
        options='address = 1, unit = "m"',
    ),
    commands={
        function.__name__: function
        for function in (read_level, read_level_temperature, read_decimals_level, read, write_register)
    },
    recognise=recognise,
)
