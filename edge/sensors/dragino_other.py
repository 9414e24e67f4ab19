"""Other Dragino nodes on LoRaWAN: PS-LB (4-20 mA immersion probe), LAQ4 (CO2), SE01/LSE01 (soil), LWL01/02 and WL03A
(water leak), LTC2 (two PT100).

Sources: Dragino user manuals of these nodes (chapter "Uplink Payload"); dragino/dragino-end-node-decoder@e81cc58a05;
NAMUR NE 43 for the currents that mean a fault.
"""

import struct
from collections.abc import Callable

from pydantic import Field as Constraint
from pydantic import field_validator

from edge.sensors._dragino import DATA, LOG, STATUS, battery_of, ds18b20, log, status
from edge.sensors._lorawan import UplinkOptions, battery, reply, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_FAULT_BELOW_MA, _FAULT_ABOVE_MA = 3.8, 20.5
_SPAN_HPA = {1: 6e3, 2: 1e4, 3: 1.6e4, 4: 2.5e4, 5: 1e5, 6: 4e5, 7: 6e5, 10: 50.0, 11: 500.0, 12: 1000.0}
"""PS-LB, probe model 01xx: the pressure at 20 mA by xx. 8 and 9 (vacuum) are not told consistently, so give the current
only."""
_CONTACT, _SHORT_LOG, _SETTINGS = 10, 7, 4


class DraginoOtherOptions(UplinkOptions):
    """`range_mm`: depth of an immersion probe at 20 mA, where the payload does not say it. `probe`: a DS18B20 is
    fitted."""

    range_mm: float | None = Constraint(default=None, gt=0)
    probe: bool = False

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        _codec(model)
        return model


def decode(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    """One payload of the `model`, in which `battery_voltage` in V stands too, but for WL03A: PS-LB: `water_level` in m
    or `water_pressure` in hPa, `current` in mA; LAQ4: `co2` in ppm, `air_temperature` in Cel, `relative_humidity` in
    %RH, `tvoc` in ppb; SE01: `soil_moisture` in %, `soil_temperature` in degC, `conductivity` in uS/cm; LWL and WL03A:
    `water_leak`, `leak_count`, `leak_duration`; LTC2: `temperature_1` and `temperature_2` in degC. A status frame
    (fPort 5) is a `reply`.

    Raises FrameError: `unknown_port`, `length`; `sensor_fault` for a current outside 3.8 to 20.5 mA; `sensor_missing`.
    """
    return _codec(options.model)(frame, options)


def _ps(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    port = options.port(DATA, LOG, STATUS, _SHORT_LOG)
    if port != DATA:
        return status(frame) if port == STATUS else log(frame)
    volts, kind, span, microamps, millivolts, _pins = struct.unpack(">HBBHHB", sized(frame, 9))
    side = (battery_of(volts),)
    milliamps = microamps / 1000
    if not _FAULT_BELOW_MA <= milliamps <= _FAULT_ABOVE_MA:
        raise FrameError(
            "sensor_fault", f"{milliamps} mA, expected {_FAULT_BELOW_MA} to {_FAULT_ABOVE_MA} (NAMUR NE 43)", side
        )
    fields = [Field("current", milliamps, "mA"), Field("voltage", millivolts / 1000, "V"), *side]
    part = (milliamps - 4) / 16
    range_mm = options.range_mm or (span * 1000.0 if kind == 0 else 0.0)
    if range_mm:
        return [Field("water_level", round(part * range_mm / 1000, 7), "m"), *fields]
    if kind == 1 and span in _SPAN_HPA:
        return [Field("water_pressure", round(part * _SPAN_HPA[span], 4), "hPa"), *fields]
    return fields


def _laq4(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    port = options.port(DATA, LOG, STATUS)
    if port != DATA:
        return status(frame) if port == STATUS else log(frame)
    volts, mode, tvoc, co2, temperature, humidity = struct.unpack(">HBHHhH", sized(frame, 11))
    if (mode & 0x7C) >> 2 == 31:
        return [reply("alarm_settings"), battery(volts)]
    if (mode & 0x7C) >> 2 != 1:
        raise FrameError("format", f"working mode {(mode & 0x7C) >> 2}, expected 1 or 31")
    if co2 in (0, 0xFFFF) or temperature == 0x7FFF or humidity == 0xFFFF:
        raise FrameError(
            "sensor_missing", f"CO2 {co2}, temperature {temperature}, humidity {humidity}", (battery(volts),)
        )
    return [
        Field("co2", co2, "ppm"),
        Field("air_temperature", temperature / 10, "Cel"),
        Field("relative_humidity", humidity / 10, "%RH"),
        Field("tvoc", tvoc, "ppb"),
        battery(volts),
    ]


def _soil(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    port = options.port(DATA, LOG, STATUS)
    if port != DATA:
        return status(frame) if port == STATUS else log(frame)
    volts, probe, moisture, temperature, conductivity, flags = struct.unpack(">HhHhHB", sized(frame, 11))
    side = (*ds18b20(probe, options.probe), battery_of(volts))
    if not flags & 0x10:
        raise FrameError("sensor_missing", "the soil probe is not detected", side)
    if flags & 0x80:
        raw = (
            ("dielectric_constant", moisture / 10),
            ("moisture_raw", temperature & 0xFFFF),
            ("conductivity_raw", conductivity),
        )
        return [*(Field(name, value, "1") for name, value in raw), *side]
    return [
        Field("soil_moisture", moisture / 100, "%"),
        Field("soil_temperature", temperature / 100, "degC"),
        Field("conductivity", conductivity, "uS/cm"),
        *side,
    ]


def _contact(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    options.port(_CONTACT, 7, 8)
    sized(frame, 10)
    volts, mode = struct.unpack(">HB", frame[:3])
    times, minutes = int.from_bytes(frame[3:6], "big"), int.from_bytes(frame[6:9], "big")
    door, leak = Field("door_open", bool(volts & 0x8000), ""), Field("water_leak", bool(volts & 0x4000), "")
    match mode:
        case 1:
            what = [door, Field("open_count", times, "1"), Field("open_duration", minutes, "min")]
        case 2:
            what = [leak, Field("leak_count", times, "1"), Field("leak_duration", minutes, "min")]
        case 3:
            what = [door, leak]
        case _:
            raise FrameError("format", f"mode {mode}, expected 1 to 3", (battery_of(volts),))
    return [*what, battery_of(volts)]


def _wl03a(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    match options.port(DATA, LOG, _SETTINGS, STATUS):
        case 5:
            return status(frame)
        case 3:
            return log(frame)
        case 4:
            return [reply("settings")]
    sized(frame, 11)
    return [
        Field("water_leak", bool(frame[0] & 1), ""),
        Field("leak_count", int.from_bytes(frame[1:4], "big"), "1"),
        Field("leak_duration", int.from_bytes(frame[4:7], "big"), "s"),
        Field("time", int.from_bytes(frame[7:], "big"), "s"),
    ]


def _ltc2(frame: bytes, options: DraginoOtherOptions) -> list[Field]:
    port = options.port(DATA, LOG, STATUS, _SHORT_LOG)
    if port != DATA:
        return status(frame) if port == STATUS else log(frame)
    volts, mode, first, second, at = struct.unpack(">HBHHI", sized(frame, 11))
    side = (battery_of(volts), Field("time", at, "s"))
    kind = 2 if options.named("LB") else mode & 0x0F
    if kind not in (1, 2, 3):
        raise FrameError("format", f"kind {kind}, expected 1 to 3", side)
    if kind == 3:
        return [Field("resistance_1", first / 100, "Ohm"), Field("resistance_2", second / 100, "Ohm"), *side]
    degrees = [_pt100(raw, kind) for raw in (first, second)]
    if degrees == [None, None]:
        raise FrameError("sensor_missing", "no PT100 on either channel", side)
    named = [Field(f"temperature_{n}", value, "degC") for n, value in enumerate(degrees, 1) if value is not None]
    return [*named, *side]


def _pt100(raw: int, kind: int) -> float | None:
    """Kind 1: hundredths, of which only those from E4A8 (-70 degC) up are negative; kind 2: tenths, signed."""
    signed = raw - 0x10000 if raw >= (0xE4A8 if kind == 1 else 0x8000) else raw
    if raw == 0x8001 or (kind == 2 and abs(signed) > 20_000):
        return None
    return signed / (100 if kind == 1 else 10)


Codec = Callable[[bytes, DraginoOtherOptions], list[Field]]
_CODECS: dict[str, Codec] = {
    "PS": _ps,
    "LAQ4": _laq4,
    "SE01": _soil,
    "LSE01": _soil,
    "LWL": _contact,
    "LDS": _contact,
    "WL03A": _wl03a,
    "LWL03A": _wl03a,
    "LTC2": _ltc2,
}


def _codec(model: str) -> Codec:
    """Raises ValueError listing the models."""
    name = "".join(c for c in model.upper() if c.isalnum())
    for prefix in sorted(_CODECS, key=len, reverse=True):
        if name.startswith(prefix):
            return _CODECS[prefix]
    raise ValueError(f"model {model!r} is unknown, expected one that begins with {', '.join(_CODECS)}")


DRIVER = Driver(
    name="dragino_other",
    title="Dragino PS-LB, LAQ4, SE01, LWL02, WL03A and LTC2 nodes (LoRaWAN)",
    link="payload",
    quantities=("water_level", "water_pressure", "co2", "air_temperature", "relative_humidity", "battery_voltage"),
    options=DraginoOtherOptions,
    decode=decode,
    source="Dragino user manuals of these nodes; dragino/dragino-end-node-decoder@e81cc58a05",
    sheet=Sheet(
        wiring="PS-LB: probe's wires as printed, lower it to the bottom, vent tube in dry air. LWL02, WL03A: "
        "electrodes down.",
        limits="PS-LB: `range_mm` is the depth at 20 mA where the payload does not say it.",
        faults="Below 3.8 or above 20.5 mA: broken wire or probe (NAMUR NE 43).",
        options='model = "PS-LB"',
    ),
)
