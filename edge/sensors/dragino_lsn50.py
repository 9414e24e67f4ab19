"""Dragino LSN50 and LSN50v2 sensor nodes on LoRaWAN: one payload per working mode, said in the payload itself.

Source: Dragino user manual LSN50v2 (chapter "Payload", modes 1 to 9, numbered from 0 in the payload);
dragino/dragino-end-node-decoder@e81cc58a05:LSN50 & LSN50-v2.
"""

import struct

from edge.sensors._dragino import DATA, LOG, STATUS, ds18b20, log
from edge.sensors._lorawan import UplinkOptions, battery, plausible, reply, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_I2C, _DISTANCE, _THREE_ADC, _THREE_DS18B20, _WEIGHT, _COUNT, _INTERRUPTS, _ADC_DS18B20, _DS18B20_COUNT = range(9)
_ALARM_SETTINGS = 31
_MISSING = (0x7FFF, 0xFFFF)


class DraginoLsn50Options(UplinkOptions):
    """`probe`: a DS18B20 is fitted (zero degrees is then a value)."""

    probe: bool = False


def decode(frame: bytes, options: DraginoLsn50Options) -> list[Field]:
    """One payload -> `battery_voltage` in V and by mode: `air_temperature` in Cel and `relative_humidity` in %RH (SHT)
    or `illuminance` in lx (BH1750); `water_distance` in m; `count`, `weight` in g; always what is fitted beside it as
    health: `external_temperature` (DS18B20; `_2`, `_3`) in degC, `voltage_1` to `voltage_3` (ADC) in V, `contact`.

    Raises FrameError: `unknown_port`, `length`, `format` for an unknown mode, `sensor_missing` when the sensor of the
    I2C bus does not answer, `no_target` for a distance without echo; with the battery and what else is usable.
    """
    port = options.port(DATA, LOG, STATUS)
    if port == STATUS:
        return (
            [reply("device_status"), Field("firmware", f"{frame[2] & 0xF}.{frame[3] >> 4}.{frame[3] & 0xF}", "")]
            if (len(frame) >= 4)
            else _short(frame)
        )
    if port == LOG:
        return log(frame)
    if len(frame) < 7:
        return _short(frame)
    mode = (frame[6] & 0x7C) >> 2
    if mode == _ALARM_SETTINGS:
        return [reply("alarm_settings")]
    if mode > _DS18B20_COUNT:
        raise FrameError("format", f"working mode {mode}, expected 0 to 8")
    sized(frame, {_THREE_ADC: 12, _DS18B20_COUNT: 17}.get(mode, 11))
    if mode == _THREE_ADC:
        voltages = struct.unpack(">3H", frame[:6])
        side = [Field("battery_voltage", frame[11] / 10, "V"), *_voltages(*voltages)]
        return plausible([*_climate(frame[7:11], tuple(side)), *side])
    volts, first, analog = struct.unpack(">HhH", frame[:6])
    side = [battery(volts), *ds18b20(first, options.probe or mode in (3, 8), "external_temperature")]
    if mode != _DS18B20_COUNT:
        side += _voltages(analog)
    if mode not in (_COUNT, _INTERRUPTS):
        side.append(Field("contact", "closed" if frame[6] & 0x80 else "open", ""))
    return _measured(mode, frame, side)


def _measured(mode: int, frame: bytes, side: list[Field]) -> list[Field]:
    a, b = struct.unpack(">HH", frame[7:11])
    signed_a, signed_b = struct.unpack(">hh", frame[7:11])
    match mode:
        case 0:
            return plausible([*_climate(frame[7:11], tuple(side)), *side])
        case 1:
            if b != 0xFFFF:
                side.append(Field("signal_strength", b, "1"))
            if a in (0, 0xFFFF):
                raise FrameError("no_target", f"distance {a}: nothing measured", tuple(side))
            return [Field("water_distance", a / 1000, "m"), *side]
        case 3:
            return [*side, *_probe(2, signed_a), *_probe(3, signed_b)]
        case 4:
            return [*side, Field("weight", int.from_bytes(frame[9:11] + frame[7:9], "big", signed=True), "g")]
        case 5:
            return [*side, Field("count", struct.unpack(">I", frame[7:11])[0], "1")]
        case 6:
            lines = (frame[6] & 0x80, frame[7] & 1, frame[8] & 1)
            return [*side, *(Field(f"contact_{n}", "closed" if on else "open", "") for n, on in enumerate(lines, 1))]
        case 7:
            return [*side, Field("voltage_2", a / 1000, "V"), Field("voltage_3", b / 1000, "V")]
    second, third, count_1, count_2 = struct.unpack(">hxhII", frame[4:17])
    return [
        *side,
        *_probe(2, second),
        *_probe(3, third),
        Field("count_1", count_1, "1"),
        Field("count_2", count_2, "1"),
    ]


def _climate(four: bytes, side: tuple[Field, ...]) -> list[Field]:
    """Temperature and humidity; or, with a humidity of 0 (no air has that), the lux of a light sensor."""
    temperature, humidity = struct.unpack(">hH", four)
    if humidity == 0:
        return [Field("illuminance", temperature & 0xFFFF, "lx")]
    if temperature & 0xFFFF in _MISSING or humidity == 0xFFFF:
        raise FrameError("sensor_missing", f"{four.hex().upper()}: the sensor on the I2C bus does not answer", side)
    return [Field("air_temperature", temperature / 10, "Cel"), Field("relative_humidity", humidity / 10, "%RH")]


def _probe(number: int, raw: int) -> list[Field]:
    return ds18b20(raw, True, f"external_temperature_{number}")


def _voltages(*millivolts: int) -> list[Field]:
    return [Field(f"voltage_{number}", value / 1000, "V") for number, value in enumerate(millivolts, 1)]


def _short(frame: bytes) -> list[Field]:
    raise FrameError("length", f"{len(frame)} bytes, expected 7 or more")


DRIVER = Driver(
    name="dragino_lsn50",
    title="Dragino LSN50 and LSN50v2 sensor nodes (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "water_distance", "battery_voltage"),
    options=DraginoLsn50Options,
    decode=decode,
    source="Dragino user manual LSN50v2; dragino/dragino-end-node-decoder@e81cc58a05",
    sheet=Sheet(
        wiring="Probes to the terminals of their mode, 3.3 V or 5 V as the probe wants (jumper).",
        limits="By working mode, which the payload says. Configure `level` only with an ultrasonic mode.",
        faults="FFFF: the I2C sensor is missing. Without a DS18B20, zero is no value: `probe = true` only where "
        "one is fitted.",
    ),
)
