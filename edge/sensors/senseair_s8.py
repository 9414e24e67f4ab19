"""Senseair S8 CO2 sensor by Modbus RTU on a UART, 9600 8N1; any S8 answers to address FE.

Source: Senseair, Modbus on Senseair S8 (TDE2067). Input registers (function 4): 0 meter status, 1 alarm status, 2 output
status, 3 CO2 in ppm. Holding registers: 0 acknowledgement, 1 special command, 31 period of the automatic baseline correction
(ABC) in hours, 0 for never. Ask at most every 2 s.
"""

from pydantic import Field as Constraint

from edge.sensors import _modbus_rtu as rtu
from edge.sensors.base import Driver, Field, FrameError, ModbusRead, Options, Sheet

ANY = 0xFE
STATUS, CO2 = 0, 3
ACKNOWLEDGEMENT, SPECIAL, ABC_PERIOD = 0, 1, 31
_BACKGROUND, _ZERO = 0x7C06, 0x7C07
ABC_HOURS = 180

_OUT_OF_RANGE = 5
_STATUS = {
    0: "fatal error",
    1: "offset regulation error",
    2: "algorithm error",
    3: "output error",
    4: "self-diagnostics error",
    _OUT_OF_RANGE: "out of range",
    6: "memory error",
}


class SenseairS8Options(Options):
    """`unit`: Modbus address; FE is answered by any S8, so only one may be on the line."""

    unit: int = Constraint(default=ANY, ge=1, le=ANY)


def decode(frame: bytes, options: SenseairS8Options) -> list[Field]:
    """One whole RTU reply -> `co2` in ppm, with the meter `status` when registers 0 to 3 were read; a confirmed write or a
    holding register gives `reply` first.

    Raises FrameError: `length crc exception format`; `sensor_fault` or `out_of_range` for what the status says, or a negative
    value; `warming_up` at 0 ppm.
    """
    del options
    reply = rtu.parse_reply(frame)
    if isinstance(reply, rtu.Written):
        return [
            Field("reply", "write_ok", ""),
            Field("register", reply.register, "1"),
            Field("value", int.from_bytes(frame[4:6], "big"), "1"),
        ]
    if reply.function == 3:
        return [Field("reply", "holding_registers", ""), *(Field("value", word, "1") for word in reply.words)]
    if len(reply.words) not in (1, 4):
        raise FrameError("length", f"{len(reply.words)} registers, expected 1 (CO2) or 4 (status to CO2)")
    side: tuple[Field, ...] = ()
    if len(reply.words) == 4:
        side = (Field("status", reply.words[0], "1"),)
        _judge(reply.words[0], side)
    co2 = reply.words[-1] - 0x10000 if reply.words[-1] & 0x8000 else reply.words[-1]
    if co2 < 0:
        raise FrameError("out_of_range", f"{co2} ppm", side)
    if co2 == 0:
        raise FrameError("warming_up", "0 ppm: nothing is measured yet", side)
    return [Field("co2", co2, "ppm"), *side]


def _judge(status: int, side: tuple[Field, ...]) -> None:
    bits = [bit for bit in range(16) if status >> bit & 1]
    if not bits:
        return
    said = ", ".join(_STATUS.get(bit, f"bit {bit}") for bit in bits)
    raise FrameError("out_of_range" if bits == [_OUT_OF_RANGE] else "sensor_fault", f"meter status: {said}", side)


def read_co2(unit: int = ANY) -> bytes:
    """Read the value alone."""
    return rtu.read_request(unit, 4, CO2, 1)


def read_status_and_co2(unit: int = ANY) -> bytes:
    """Read the value and whether it can be trusted."""
    return rtu.read_request(unit, 4, STATUS, 4)


def clear_acknowledgement(unit: int = ANY) -> bytes:
    """To be sent before a calibration, whose result stands in this register afterwards."""
    return rtu.write_single(unit, ACKNOWLEDGEMENT, 0)


def background_calibration(unit: int = ANY) -> bytes:
    """Take the present air for 400 ppm."""
    return rtu.write_single(unit, SPECIAL, _BACKGROUND)


def zero_calibration(unit: int = ANY) -> bytes:
    """Take the present gas (nitrogen) for 0 ppm."""
    return rtu.write_single(unit, SPECIAL, _ZERO)


def background_calibration_result(unit: int = ANY) -> bytes:
    """Read the calibration's result: bit 5 background, bit 6 zero done."""
    return rtu.read_request(unit, 3, ACKNOWLEDGEMENT, 1)


def abc_disable(unit: int = ANY) -> bytes:
    """Trust the calibration: for places whose air never gets down to 400 ppm."""
    return rtu.write_single(unit, ABC_PERIOD, 0)


def abc_enable(hours: int = ABC_HOURS, unit: int = ANY) -> bytes:
    """Take the lowest value of so many hours for 400 ppm. Raises ValueError outside 1 to 4800."""
    if not 1 <= hours <= 4800:
        raise ValueError(f"ABC period is {hours} h, expected 1 to 4800")
    return rtu.write_single(unit, ABC_PERIOD, hours)


def abc_get_period(unit: int = ANY) -> bytes:
    """Read the period of the automatic correction."""
    return rtu.read_request(unit, 3, ABC_PERIOD, 1)


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    request = rtu.parse_request(frame)
    if request is None:
        return []
    written = request.values[0] if request.values else None
    name = {
        (4, CO2, None): "read_co2",
        (4, STATUS, None): "read_status_and_co2",
        (3, ACKNOWLEDGEMENT, None): "background_calibration_result",
        (3, ABC_PERIOD, None): "abc_get_period",
        (6, ACKNOWLEDGEMENT, 0): "clear_acknowledgement",
        (6, SPECIAL, _BACKGROUND): "background_calibration",
        (6, SPECIAL, _ZERO): "zero_calibration",
        (6, ABC_PERIOD, 0): "abc_disable",
    }.get((request.function, request.register, written))
    if name is None and (request.function, request.register) == (6, ABC_PERIOD):
        name = "abc_enable"
    return [
        Field("command", name or ("read" if written is None else "write"), ""),
        Field("function", request.function, "1"),
        Field("register", request.register, "1"),
        Field("count", request.count, "1"),
        *(Field("written", value, "1") for value in request.values),
    ]


DRIVER = Driver(
    name="senseair_s8",
    title="Senseair S8 CO2 sensor (Modbus RTU)",
    link="modbus",
    quantities=("co2",),
    options=SenseairS8Options,
    decode=decode,
    reads=lambda _options: (ModbusRead(function=4, register=STATUS, count=4),),
    source="Senseair, Modbus on Senseair S8, TDE2067",
    sheet=Sheet(
        wiring="5 V supply, levels of 3.3 V. It answers to address 254, so it must be alone on the line unless "
        "given its own.",
        limits="400 to 2000 ppm (extended to 10000). Ask at most every 2 s.",
        faults="0 ppm: it warms up. The status says fatal error, offset, algorithm, output, self-test, out of "
        "range, memory. It takes the lowest of 8 days for 400 ppm.",
    ),
    commands={
        function.__name__: function
        for function in (
            read_co2,
            read_status_and_co2,
            clear_acknowledgement,
            background_calibration,
            zero_calibration,
            background_calibration_result,
            abc_disable,
            abc_enable,
            abc_get_period,
        )
    },
    recognise=recognise,
)
