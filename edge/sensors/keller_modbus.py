"""KELLER Series 30 pressure probes (26Y, 33X, 36X, 36XiW) by Modbus RTU on RS485, 9600 8N1 (or 115200), factory address 1.

Source: KELLER, Description of the communication protocol for Series 30 and Series 40 pressure transmitters, chapter 4. Values by
function 3: float32 in two registers from 0 on, in another order from 0x100 on; int16 from 0x10 and int32 from 0x20 on.
Firmware 5.20 gives at most four registers at once, the oldest two.
"""

from typing import Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.sensors import _keller as keller
from edge.sensors import _modbus_rtu as rtu
from edge.sensors.base import Driver, Field, FrameError, ModbusRead, Sheet

_ORDER = ("CH0", "P1", "P2", "T", "TOB1", "TOB2")
_OTHER_ORDER = ("P1", "TOB1", "P2", "TOB2", "P1", "T", "ConTc")

Block = Literal["float32", "int16", "int32"]
_BLOCKS: dict[Block, tuple[tuple[int, int, tuple[str, ...]], ...]] = {
    "float32": ((0x0000, 2, _ORDER), (0x0100, 2, _OTHER_ORDER)),
    "int16": ((0x0010, 1, _ORDER),),
    "int32": ((0x0020, 2, _ORDER),),
}
"""First register, registers a channel, and the channels in order."""


def _place(channels: str, block: Block) -> tuple[int, int]:
    """First register and number of registers of channels (`P1+TOB1`) that follow one another. Raises ValueError."""
    names = tuple(channels.split("+"))
    for first, width, order in _BLOCKS[block]:
        for at in range(len(order) - len(names) + 1):
            if order[at : at + len(names)] == names:
                return first + at * width, width * len(names)
    orders = " or ".join("+".join(order) for _, _, order in _BLOCKS[block])
    raise ValueError(f"register: found {channels!r}, expected a part of {orders}")


class KellerModbusOptions(keller.KellerOptions):
    """`unit`: Modbus address. `register`: the channels to read, in one request, as they follow one another in the `block`."""

    unit: int = Constraint(default=1, ge=1, le=255)
    channels: str = Constraint(default="P1+TOB1", alias="register")
    block: Block = "float32"

    @model_validator(mode="after")
    def _readable(self) -> Self:
        _place(self.channels, self.block)
        if not self.needs() <= set(self.channels.split("+")):
            raise ValueError(
                f"register: found {self.channels!r}, compensation {self.compensation!r} needs {', '.join(sorted(self.needs()))}"
            )
        return self


def decode(frame: bytes, options: KellerModbusOptions) -> list[Field]:
    """One whole RTU reply -> the quantities of the channels asked (see `_keller.fields`); a confirmed write gives `reply` first.

    Raises FrameError: `length crc exception format`; `header` for a reply to another function; `sensor_fault` for NaN,
    `saturated` for an infinity or the end of an integer. A missing temperature costs no pressure.
    """
    reply = rtu.parse_reply(frame)
    if isinstance(reply, rtu.Written):
        return [
            Field("reply", "write_ok", ""),
            Field("register", reply.register, "1"),
            Field("value", int.from_bytes(frame[4:6], "big"), "1"),
        ]
    names = options.channels.split("+")
    _, count = _place(options.channels, options.block)
    if len(reply.words) != count:
        raise FrameError("length", f"{len(reply.words)} registers, expected {count} ({options.channels})")
    data, width = frame[3:-2], 2 * count // len(names)
    values: dict[str, float] = {}
    lost: FrameError | None = None
    for index, name in enumerate(names):
        raw = data[index * width : (index + 1) * width]
        try:
            values[name] = keller.from_float(raw) if options.block == "float32" else keller.from_integer(raw, name)
        except FrameError as e:
            lost = FrameError(e.kind, f"{name}: {e.reason}")
            if not name.startswith("T"):
                raise lost from e
    if lost is not None and not values:
        raise lost
    return keller.fields(values, options)


def read(channels: str = "P1+TOB1", block: Block = "float32", unit: int = 1) -> bytes:
    """Read channels that follow one another in a block. Raises ValueError."""
    return rtu.read_request(unit, 3, *_place(channels, block))


def read_p1(unit: int = 1) -> bytes:
    """Read the pressure."""
    return read("P1", unit=unit)


def read_p2(unit: int = 1) -> bytes:
    """Read the second sensor's pressure."""
    return read("P2", unit=unit)


def read_tob1(unit: int = 1) -> bytes:
    """Read the pressure sensor's temperature."""
    return read("TOB1", unit=unit)


def read_p1_tob1(unit: int = 1) -> bytes:
    """Read pressure and temperature of one moment."""
    return read("P1+TOB1", unit=unit)


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    request = rtu.parse_request(frame)
    if request is None:
        return []
    named = {_place(name, "float32"): name for name in ("P1", "P2", "TOB1", "P1+TOB1")}
    known = named.get((request.register, request.count)) if request.function == 3 else None
    name = f"read_{known.lower().replace('+', '_')}" if known else "write" if request.values else "read"
    return [
        Field("command", name, ""),
        Field("function", request.function, "1"),
        Field("register", request.register, "1"),
        Field("count", request.count, "1"),
        *(Field("written", value, "1") for value in request.values),
    ]


def _reads(options: KellerModbusOptions) -> tuple[ModbusRead, ...]:
    register, count = _place(options.channels, options.block)
    return (ModbusRead(function=3, register=register, count=count),)


DRIVER = Driver(
    name="keller_modbus",
    title="KELLER Series 30 pressure and level probes (Modbus RTU)",
    link="modbus",
    quantities=("water_level", "water_pressure", "air_pressure", "water_temperature"),
    options=KellerModbusOptions,
    decode=decode,
    reads=_reads,
    source="KELLER, Description of the communication protocol for Series 30 and Series 40 pressure transmitters",
    sheet=Sheet(
        wiring="RS485, two wires A and B, and the supply on the probe's label. The vent tube of a gauge probe "
        "must end in dry air. 120 Ohm at both ends of a long line.",
        limits='A gauge (vented) probe needs `compensation = "vent"` to give a level; an absolute one a second '
        "pressure, or the level follows the weather: 1 hPa is 1 cm. 0.1 bar is about 1.02 m of water.",
        faults="A wet vent tube shifts the level. Zero drifts over years: add a calibration. NaN is a fault of "
        "the probe, an infinity out of its range. Silence: A and B swapped, or another address or baud "
        "rate (9600 or 115200).",
        options='unit = 1, compensation = "vent"',
    ),
    commands={function.__name__: function for function in (read, read_p1, read_p2, read_tob1, read_p1_tob1)},
    recognise=recognise,
)
