"""Any Modbus RTU device, by a map of its registers in the configuration.

Source: Modbus Application Protocol V1.1b3 for functions 3 and 4; the rest is the device's manual. Registers count from 0, as they
are sent: a manual's 40001 or 30001 is 0.
"""

import struct
from collections.abc import Sequence
from typing import Literal

from pydantic import Field as Constraint
from pydantic import field_validator

from edge.sensors import _modbus_rtu as rtu
from edge.sensors._named import Named, distinct, fields
from edge.sensors.base import Driver, Field, FrameError, ModbusRead, Options, Sheet
from wire.quantities import QUANTITIES

ANY = 0
MAX_COUNT = 125  # registers in one reply (6.3)

_TYPES = {
    "int16": (1, "h"),
    "uint16": (1, "H"),
    "int32": (2, "i"),
    "uint32": (2, "I"),
    "float32": (2, "f"),
    "int64": (4, "q"),
    "uint64": (4, "Q"),
    "float64": (4, "d"),
}
"""Registers, and the format by which struct reads them."""


class Register(Named):
    """A value at `address` and what it is (see Named). `order` of its bytes as they come, A being the highest: ABCD by the
    standard, CDAB with the low word first, BADC with the bytes of each word swapped, DCBA with both."""

    address: int = Constraint(ge=0, le=0xFFFF)
    function: Literal[3, 4] = 3
    type: Literal["int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64"] = "int16"
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"

    @property
    def count(self) -> int:
        return _TYPES[self.type][0]

    def raw(self, words: Sequence[int]) -> float:
        """The value in its own words."""
        if self.order in ("CDAB", "DCBA"):
            words = words[::-1]
        data = struct.pack(f"{'<' if self.order in ('BADC', 'DCBA') else '>'}{len(words)}H", *words)
        value: float = struct.unpack(f">{_TYPES[self.type][1]}", data)[0]
        return float(f"{value:.7g}") if self.type == "float32" else value  # the digits that it has


class ModbusOptions(Options):
    """`unit`: Modbus address, 0 for whoever is alone on the line. `registers`: the first is what the device is there for (see
    `_named.fields`). Those that follow one another without a gap are read in one request."""

    unit: int = Constraint(default=1, ge=ANY, le=247)
    registers: tuple[Register, ...] = Constraint(min_length=1)

    @field_validator("registers")
    @classmethod
    def _distinct(cls, registers: tuple[Register, ...]) -> tuple[Register, ...]:
        distinct(registers)
        return registers


def _runs(registers: tuple[Register, ...]) -> list[list[Register]]:
    """Registers that one request can read together; the run of the first configured one comes first."""
    runs: list[list[Register]] = []
    for one in sorted(registers, key=lambda r: (r.function, r.address)):
        last = runs[-1] if runs else []
        if last and one.function == last[0].function and one.address <= _end(last) and _span([*last, one]) <= MAX_COUNT:
            last.append(one)
        else:
            runs.append([one])
    return sorted(([r for r in registers if r in run] for run in runs), key=lambda run: registers.index(run[0]))


def _end(run: Sequence[Register]) -> int:
    return max(one.address + one.count for one in run)


def _span(run: Sequence[Register]) -> int:
    return _end(run) - min(one.address for one in run)


def reads(options: ModbusOptions) -> tuple[ModbusRead, ...]:
    """One read for each run of registers."""
    return tuple(
        ModbusRead(
            function=run[0].function,
            register=min(one.address for one in run),
            count=_span(run),
            options=options.model_copy(update={"registers": tuple(run)}),
        )
        for run in _runs(options.registers)
    )


def decode(frame: bytes, options: ModbusOptions) -> list[Field]:
    """One whole RTU reply to a read of all `registers` -> their fields, in the order of the configuration.

    Raises FrameError: `length crc exception format`; `header` for a reply from another unit or to another function;
    `sensor_fault` and `out_of_range` by the configuration, or for a float that is no number.
    """
    reply = rtu.parse_reply(frame)
    if options.unit not in (ANY, reply.unit):
        raise FrameError("header", f"reply from unit {reply.unit}, asked was {options.unit}")
    if isinstance(reply, rtu.Written):
        return [
            Field("reply", "write_ok", ""),
            Field("register", reply.register, "1"),
            Field("count", reply.count, "1"),
        ]
    if reply.function != options.registers[0].function:
        raise FrameError("header", f"reply to function {reply.function}, asked was {options.registers[0].function}")
    if len(reply.words) != _span(options.registers):
        raise FrameError("length", f"{len(reply.words)} registers, expected {_span(options.registers)}")
    first = min(one.address for one in options.registers)
    raws = [one.raw(reply.words[one.address - first :][: one.count]) for one in options.registers]
    return fields(options.registers, raws)


def read(register: int, count: int = 1, function: Literal[3, 4] = 3, unit: int = 1) -> bytes:
    """Read registers."""
    return rtu.read_request(unit, function, register, count)


def write_register(register: int, value: int, unit: int = 1) -> bytes:
    """Write one register."""
    return rtu.write_single(unit, register, value)


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    request = rtu.parse_request(frame)
    if request is None:
        return []
    return [
        Field("command", "write_register" if request.values else "read", ""),
        Field("unit", request.unit, "1"),
        Field("function", request.function, "1"),
        Field("register", request.register, "1"),
        Field("count", request.count, "1"),
        *(Field("written", value, "1") for value in request.values),
    ]


DRIVER = Driver(
    name="modbus",
    title="Any Modbus RTU device, by a map of its registers",
    link="modbus",
    quantities=tuple(QUANTITIES),
    options=ModbusOptions,
    decode=decode,
    reads=reads,
    source="Modbus Application Protocol V1.1b3; the device's manual",
    sheet=Sheet(
        wiring="RS485, A and B as on the device; 120 Ohm at both ends of a long line.",
        limits="Functions 3 and 4. Registers count from 0, as they are sent: a manual's 40001 or 30001 is 0.",
        faults="Off by one register: the manual counts from 1. Impossible values: the order of words or bytes. "
        "Exception 2: no such register.",
        options='unit = 1, registers = [{ name = "water_level", address = 0, type = "int16", factor = 0.001 }]',
    ),
    commands={"read": read, "write_register": write_register},
    recognise=recognise,
)
