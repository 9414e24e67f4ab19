"""Simex TRS-02a and SPT-86L temperature transmitters for PT100 probes, by Modbus RTU on RS485, 9600 8N1.

Source: Simex, TRS-02a user manual, pages 12 to 14; SPT-86L user manual, pages 20 to 21. Holding registers (function 3): 1 value
(signed, with a decimal point by the model), 2 status, of the SPT-86L also 3 number of decimals. When the probe breaks, register 1
keeps the last good value: only the status says so. Read alone, register 1 then answers with the status as exception code.
"""

from typing import Literal

from pydantic import Field as Constraint

from edge.sensors import _modbus_rtu as rtu
from edge.sensors.base import Driver, ErrorKind, Field, FrameError, ModbusRead, Options, Sheet

VALUE, STATUS = 1, 2

_STATUS: dict[str, dict[int, tuple[ErrorKind, str]]] = {
    "TRS-02a": {
        0x10: ("sensor_fault", "water inside the module"),
        0x20: ("sensor_fault", "temperature sensor damaged"),
        0x40: ("out_of_range", "below the input range of -50 Cel, sensor damage possible"),
        0x60: ("sensor_fault", "PT100 line short-circuited"),
        0x80: ("out_of_range", "above the input range of 550 Cel, sensor damage possible"),
        0xA0: ("sensor_fault", "PT100 line open"),
    },
    "SPT-86L": {
        0x10: ("sensor_fault", "characteristic of the user wrongly defined"),
        0x20: ("no_data", "waiting for the first measurement since the configuration changed"),
        0x60: ("out_of_range", "below the input range"),
        0xA0: ("out_of_range", "above the input range"),
        0xC0: ("sensor_fault", "sensor failure"),
    },
}


class Pt100Options(Options):
    """`unit`: Modbus address. `quantity`: what the probe is in. `decimals` of the value, where register 3 does not give them."""

    model: Literal["TRS-02a", "SPT-86L"] = "TRS-02a"
    unit: int = Constraint(default=1, ge=1, le=247)
    quantity: Literal["air_temperature", "water_temperature"] = "air_temperature"
    decimals: int = Constraint(default=1, ge=0, le=3)


def decode(frame: bytes, options: Pt100Options) -> list[Field]:
    """One whole RTU reply -> the temperature in Cel, with its `status` when that was read; a confirmed write gives `reply` first.

    Raises FrameError: `length crc exception format`; `sensor_fault`, `out_of_range` or `no_data` for what the status says.
    """
    try:
        reply = rtu.parse_reply(frame)
    except FrameError as e:
        known = _STATUS[options.model].get(frame[2]) if e.kind == "exception" else None
        if known is None:
            raise
        raise FrameError("exception", f"code {frame[2]:02X}: {known[1]}") from e
    if isinstance(reply, rtu.Written):
        return [
            Field("reply", "write_ok", ""),
            Field("register", reply.register, "1"),
            Field("value", int.from_bytes(frame[4:6], "big"), "1"),
        ]
    if len(reply.words) > 3:
        raise FrameError("length", f"{len(reply.words)} registers, expected value, status, decimals")
    side = tuple(Field("status", status, "1") for status in reply.words[1:2])
    for field in side:
        if field.value:
            kind, said = _STATUS[options.model].get(field.value, ("sensor_fault", "not in the manual"))
            raise FrameError(kind, f"status {field.value:02X}: {said}", side)
    decimals = reply.words[2] if len(reply.words) == 3 else options.decimals
    if decimals > 3:
        raise FrameError("format", f"{decimals} decimals, expected 0 to 3")
    value = reply.words[0] - 0x10000 if reply.words[0] & 0x8000 else reply.words[0]
    return [Field(options.quantity, value / 10**decimals, "Cel"), *side]


def _count(options: Pt100Options) -> int:
    return 3 if options.model == "SPT-86L" else 2


def read_value_and_status(unit: int = 1) -> bytes:
    """Read the temperature and whether it can be trusted."""
    return rtu.read_request(unit, 3, VALUE, 2)


def read_value(unit: int = 1) -> bytes:
    """Read the temperature alone; what is wrong is answered by an exception."""
    return rtu.read_request(unit, 3, VALUE, 1)


def read_status(unit: int = 1) -> bytes:
    """Read the status alone."""
    return rtu.read_request(unit, 3, STATUS, 1)


def write_register(register: int, value: int, unit: int = 1) -> bytes:
    """Write one of the device's settings."""
    return rtu.write_single(unit, register, value)


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    request = rtu.parse_request(frame)
    if request is None:
        return []
    name = {
        (3, VALUE, 2): "read_value_and_status",
        (3, VALUE, 1): "read_value",
        (3, STATUS, 1): "read_status",
    }.get((request.function, request.register, request.count))
    return [
        Field("command", name or ("write_register" if request.values else "read"), ""),
        Field("function", request.function, "1"),
        Field("register", request.register, "1"),
        Field("count", request.count, "1"),
        *(Field("written", value, "1") for value in request.values),
    ]


DRIVER = Driver(
    name="pt100_modbus",
    title="Simex TRS-02a, SPT-86L transmitters for PT100 probes (Modbus RTU)",
    link="modbus",
    quantities=("air_temperature", "water_temperature"),
    options=Pt100Options,
    decode=decode,
    reads=lambda options: (ModbusRead(function=3, register=VALUE, count=_count(options)),),
    source="Simex, TRS-02a user manual; Simex, SPT-86L user manual",
    sheet=Sheet(
        wiring="RS485, A and B, supply on its label. The PT100 with three wires, the two of one end of the "
        "element to the pair.",
        limits="By model and probe; the transmitter says when it is out of range.",
        faults="A broken probe: the value register keeps the last good value, so the status is read with it and "
        "says short or open.",
        options='model = "TRS-02a", unit = 1',
    ),
    commands={
        function.__name__: function for function in (read_value_and_status, read_value, read_status, write_register)
    },
    recognise=recognise,
)
