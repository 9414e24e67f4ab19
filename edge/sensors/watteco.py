"""Watteco (nke) sensors on LoRaWAN: ZigBee cluster library reports, big-endian. Levo and Levo+ (4-20 mA, 0-10 V),
Hygrotempo, Atmo and what else reports the clusters below; and compressed batches (an even first byte) of these.

Source: Watteco support, "Frame structure" and "Clusters"; TheThingsNetwork/lorawan-devices: vendor/nke-watteco;
actility/device-catalog@53ef3f3388: vendors/watteco.
"""

import math
import struct
from contextlib import suppress
from typing import Any

from pydantic import Field as Constraint

from edge.sensors._lorawan import UplinkOptions, plausible, reply, usable
from edge.sensors._watteco_batch import Sample, Series, samples
from edge.sensors.base import Driver, Field, FrameError, Sheet

_PORT = 125
_READ_ANSWER, _CONFIGURED, _CONFIGURATION, _REPORT, _ALARM = 0x01, 0x07, 0x09, 0x0A, 0x8A
_TYPES = {
    **dict.fromkeys((0x08, 0x18, 0x20, 0x30), ">B"),
    0x10: ">?",
    0x21: ">H",
    0x23: ">I",
    0x28: ">b",
    0x29: ">h",
    0x2B: ">i",
    0x39: ">f",
}
"""How struct reads a ZCL data type."""
_BYTE_STRING, _FIRMWARE = 0x41, 0x0D
_FIRMWARE_BYTES = 6
_SUPPLIES = (
    "external_power_voltage",
    "rechargeable_battery_voltage",
    "battery_voltage",
    "solar_voltage",
    "tic_voltage",
)
_FAULT_BELOW_MA, _FAULT_ABOVE_MA = 3.8, 20.5


_ANALOG = {
    0: Series(name="current", unit="mA", kind="f32", step=0.004),
    1: Series(name="voltage", unit="V", kind="f32"),
    2: Series(name="battery_voltage", unit="V", kind="u16", step=100, divisor=1000),
    3: Series(name="external_power_voltage", unit="V", kind="u16", step=100, divisor=1000),
    4: Series(name="count", unit="", kind="u32"),
}
_BATCHES: tuple[tuple[tuple[str, ...], int, dict[int, Series]], ...] = (
    (("LEVO", "PRESSO"), 3, _ANALOG),
    (
        ("HYGROTEMPO",),
        2,
        {
            0: Series(name="air_temperature", unit="Cel", kind="i16", step=10, divisor=100),
            1: Series(name="relative_humidity", unit="%RH", kind="u16", step=100, divisor=100),
            2: Series(name="battery_voltage", unit="V", kind="u16", divisor=1000),
            3: Series(name="violation", unit="", kind="bit"),
        },
    ),
    (
        ("ATMO",),
        3,
        {
            0: Series(name="air_temperature", unit="Cel", kind="i16", divisor=100),
            1: Series(name="relative_humidity", unit="%RH", kind="u16", divisor=100),
            2: Series(name="air_pressure", unit="hPa", kind="i16"),
            3: Series(name="count_1", unit="", kind="u32"),
            4: Series(name="count_2", unit="", kind="u32"),
            5: Series(name="battery_voltage", unit="V", kind="u16", divisor=1000),
        },
    ),
)
"""By model: bits of a label, and what each label stands for (the manufacturer's drivers in actility/device-catalog)."""
_NOW_S = 60
"""A sample as old as this, or younger, is a reading of now; an older one is history."""


class WattecoOptions(UplinkOptions):
    """`range_m`: water over a 4-20 mA probe at 20 mA; without it a Levo gives its current only."""

    range_m: float | None = Constraint(default=None, gt=0)


def decode(frame: bytes, options: WattecoOptions) -> list[Field]:
    """One report -> `air_temperature` in Cel, `relative_humidity` in %RH, `air_pressure` in hPa, `water_level` in m and
    `current` in mA (analog input, first endpoint), `voltage` in V (second), `battery_voltage` in V and other supplies,
    `state`, `count`. An alarm report is a report with its causes behind it; answers to commands are a `reply`.

    Of a batch, what is a minute old at most, and `history` with older samples, each with its `age_s`; `model` says how to read it.

    Raises FrameError: `unknown_port`; `length`; `format` for a batch of an unknown model, an unknown cluster or type; `exception` for a
    refused command; `sensor_fault` for a current outside 3.8 to 20.5 mA (NAMUR NE 43).
    """
    options.port(_PORT)
    if len(frame) < 6:
        raise FrameError("length", f"{len(frame)} bytes, expected 6 or more")
    if not frame[0] & 1:
        return _batch(frame, options)
    endpoint = (frame[0] & 0xE0) >> 5 | (frame[0] & 0x06) << 2
    command = frame[1]
    if command == _CONFIGURED:
        if frame[4]:
            raise FrameError("exception", f"the device refused a report configuration: status {frame[4]:02X}")
        return [reply("configure_report_ok")]
    if command == _CONFIGURATION:
        return [reply("report_configuration")]
    cluster, attribute = struct.unpack(">HH", frame[2:6])
    at = 6
    if command == _READ_ANSWER:
        if len(frame) > 6 and frame[6]:
            raise FrameError("exception", f"the device refused to read: status {frame[6]:02X}")
        at = 7
    elif command not in (_REPORT, _ALARM):
        return [reply("command_answer")]
    return plausible(_attribute((cluster, attribute), endpoint, _value(frame, at), options))


def _value(frame: bytes, at: int) -> Any:
    if at >= len(frame):
        raise FrameError("length", f"{len(frame)} bytes, expected a type at byte {at}")
    kind = frame[at]
    if kind == _BYTE_STRING:
        end = at + 2 + (frame[at + 1] if at + 1 < len(frame) else 0)
        if end > len(frame) or at + 1 >= len(frame):
            raise FrameError("length", f"{len(frame)} bytes, expected {end} or more")
        return frame[at + 2 : end]
    if kind == _FIRMWARE:
        if len(frame) < at + 1 + _FIRMWARE_BYTES:
            raise FrameError("length", f"{len(frame)} bytes, expected {at + 1 + _FIRMWARE_BYTES} or more")
        return frame[at + 1 : at + 1 + _FIRMWARE_BYTES]
    layout = _TYPES.get(kind)
    if layout is None:
        raise FrameError("format", f"type {kind:02X} is unknown")
    end = at + 1 + struct.calcsize(layout)
    if end > len(frame):
        raise FrameError("length", f"{len(frame)} bytes, expected {end} or more")
    return struct.unpack(layout, frame[at + 1 : end])[0]


def _batch(frame: bytes, options: WattecoOptions) -> list[Field]:
    known = next(((bits, table) for names, bits, table in _BATCHES if options.named(*names)), None)
    if known is None:
        models = ", ".join(name for names, _, _ in _BATCHES for name in names)
        raise FrameError("format", f"a compressed batch, which can be read with a `model` of {models}")
    every = sorted(samples(frame, *known), key=lambda sample: -sample.age_s)
    youngest = {sample.series.name: sample for sample in every}
    now = [sample for sample in youngest.values() if sample.age_s <= _NOW_S]
    older: dict[int, list[Sample]] = {}
    for sample in every:
        if not any(sample is one for one in now):
            older.setdefault(sample.age_s, []).append(sample)
    history: list[dict[str, Any]] = []
    for age_s, old in older.items():
        with suppress(FrameError):
            fields = plausible([field for sample in old for field in _sampled(sample, options)])
            history.append(
                {"age_s": age_s} | {field.name: field.value for field in fields if field.name != "implausible"}
            )
    kept = [Field("history", history, "")] if history else []
    side = [field for sample in now if sample.series.name != "current" for field in _sampled(sample, options)]
    try:
        first = [field for sample in now if sample.series.name == "current" for field in _sampled(sample, options)]
    except FrameError as e:
        raise FrameError(e.kind, e.reason, usable((*side, *kept))) from None
    return plausible([*first, *side, *kept])


def _sampled(sample: Sample, options: WattecoOptions) -> list[Field]:
    if sample.series.name == "current":
        return _analog(0, sample.value, options)
    return [Field(sample.series.name, sample.value, sample.series.unit)]


def _attribute(which: tuple[int, int], endpoint: int, value: Any, options: WattecoOptions) -> list[Field]:
    """By cluster and attribute of the ZigBee cluster library."""
    if which == (0x0000, 0x0002) and isinstance(value, bytes):
        if len(value) < 3:
            raise FrameError("length", f"{len(value)} bytes in a firmware version, expected 3 or more")
        first, second, third, *build = value
        return [reply("firmware"), Field("firmware", f"{first}.{second}.{third}.{int.from_bytes(build)}", "")]
    if isinstance(value, bytes):
        name = f"attribute_{which[0]:04X}_{which[1]:04X}"
        return _supplies(value) if which == (0x0050, 0x0006) else [Field(name, value.hex().upper(), "")]
    match which:
        case (0x0402, 0x0000):
            return [Field("air_temperature", value / 100, "Cel")]
        case (0x0405, 0x0000):
            return [Field("relative_humidity", value / 100, "%RH")]
        case (0x0403, 0x0000):
            return [Field("air_pressure", float(value), "hPa")]
        case (0x000C, 0x0055):
            return _analog(endpoint, value, options)
        case (0x000F, 0x0055):
            return [Field("state", bool(value), "")]
        case (0x000F, 0x0402):
            return [Field("count", value, "1")]
        case (0x8004, 0x0000):
            return [reply("message_type"), Field("confirmed", bool(value), "")]
    raise FrameError("format", f"cluster {which[0]:04X} with attribute {which[1]:04X} is unknown")


def _analog(endpoint: int, value: float, options: WattecoOptions) -> list[Field]:
    if not math.isfinite(value):
        raise FrameError("sensor_fault", f"the analog input is {value}")
    shown = round(value, 6)
    if endpoint != 0:
        return [Field("voltage", shown, "V")]
    if not _FAULT_BELOW_MA <= value <= _FAULT_ABOVE_MA:
        raise FrameError("sensor_fault", f"{shown} mA, expected {_FAULT_BELOW_MA} to {_FAULT_ABOVE_MA} (NAMUR NE 43)")
    fields = [Field("current", shown, "mA")]
    if options.range_m is None:
        return fields
    return [Field("water_level", round((value - 4) / 16 * options.range_m, 6), "m"), *fields]


def _supplies(data: bytes) -> list[Field]:
    """Node power descriptor: which supply is in use, which are there (a bit each), then millivolts of each."""
    if len(data) < 2:
        raise FrameError("length", f"{len(data)} bytes in a power descriptor, expected 2 or more")
    present = [name for bit, name in enumerate(_SUPPLIES) if data[1] >> bit & 1]
    if len(data) < 2 + 2 * len(present):
        raise FrameError("length", f"{len(data)} bytes in a power descriptor, expected {2 + 2 * len(present)}")
    volts = struct.unpack(f">{len(present)}H", data[2 : 2 + 2 * len(present)])
    if not present:
        return [reply("power_descriptor")]
    return [Field(name, value / 1000, "V") for name, value in zip(present, volts, strict=True)]


DRIVER = Driver(
    name="watteco",
    title="Watteco Levo, Hygrotempo and other ZCL reports (LoRaWAN)",
    link="payload",
    quantities=("water_level", "air_temperature", "relative_humidity", "air_pressure", "battery_voltage"),
    options=WattecoOptions,
    decode=decode,
    source="Watteco support, frame structure and clusters; TheThingsNetwork/lorawan-devices, vendor/nke-watteco",
    sheet=Sheet(
        wiring="A 4-20 mA probe to the Levo's input, polarity as printed; Hygrotempo outdoors in a radiation shield.",
        limits="`range_m`: metres of water at 20 mA, else the current only. Compressed batches are read of Levo, "
        "Presso, Hygrotempo and Atmo, by `model`: switch them off on others.",
        faults="Below 3.8 or above 20.5 mA: broken wire or probe (NAMUR NE 43).",
        options='model = "Levo", range_m = 5.0',
    ),
)
