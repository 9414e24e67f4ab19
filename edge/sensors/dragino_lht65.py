"""Dragino LHT65 and LHT65N: temperature and humidity (SHT20), and one of several external sensors, on LoRaWAN.

Sources: Dragino user manuals LHT65 and LHT65N (chapter "Uplink Payload");
dragino/dragino-end-node-decoder@e81cc58a05:LHT65N.
"""

import struct

from edge.sensors._dragino import DATA, LOG, STATUS, battery_of, log, status
from edge.sensors._lorawan import UplinkOptions, plausible, reply, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_NO_TEMPERATURE = 0x7FFF
_NO_HUMIDITY = 0xFFF
_DISCONNECTED, _STORED = 0x80, 0x40
_TIMED = (9, 10)
_WITHOUT_CLIMATE = {0x0E: "motion", 0x0F: "probe_id", 0x10: "probe_id", 0x20: "probe_id"}
_BATTERY_STATES = ("ultra_low", "low", "ok", "good")


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> `air_temperature` in Cel, `relative_humidity` in %RH, `battery_voltage` in V (not in the modes
    with a time), and what the external sensor gives as health: `external_temperature` in degC, `external_humidity` in
    %RH, `illuminance` in lx, `external_voltage` in V, `count`, `contact`, `time` (Unix).

    Raises FrameError: `unknown_port`, `length`; `sensor_missing` when the inner sensor does not answer, `implausible` when
    nothing else is left; with what is usable.
    """
    port = options.port(DATA, LOG, STATUS)
    if port == STATUS:
        return status(frame)
    if port == LOG:
        return log(frame)
    sized(frame, 11)
    first, temperature, humidity, mode = struct.unpack(">HhHB", frame[:7])
    if mode & _STORED:
        return log(frame)
    kind = mode & 0x3F
    if kind in _WITHOUT_CLIMATE:
        return [reply(_WITHOUT_CLIMATE[kind]), battery_of(first)]
    charge = (humidity if kind in _TIMED else first) >> 14
    side = [Field("battery_state", _BATTERY_STATES[charge], "")]
    if kind not in _TIMED:
        side.insert(0, battery_of(first))
    if not mode & _DISCONNECTED:
        side += _external(kind, frame)
    if temperature == _NO_TEMPERATURE or (humidity & 0xFFF) == _NO_HUMIDITY:
        raise FrameError("sensor_missing", "the inner temperature and humidity sensor does not answer", tuple(side))
    return plausible(
        [
            Field("air_temperature", temperature / 100, "Cel"),
            Field("relative_humidity", (humidity & 0xFFF) / 10, "%RH"),
            *side,
        ]
    )


def _external(kind: int, frame: bytes) -> list[Field]:
    word, signed = struct.unpack(">H", frame[7:9])[0], struct.unpack(">h", frame[7:9])[0]
    match kind:
        case 1 | 2:
            return _temperature(signed)
        case 3 | 11 | 12:
            at = _temperature(signed)
            return [*at, Field("external_humidity", struct.unpack(">H", frame[9:])[0] / 10, "%RH")] if at else []
        case 4:
            return [Field("contact", "high" if frame[7] else "low", ""), Field("changed", bool(frame[8]), "")]
        case 5:
            return [Field("illuminance", word, "lx")]
        case 6:
            return [Field("external_voltage", word / 1000, "V")]
        case 7:
            return [Field("count", word, "1")]
        case 8:
            return [Field("count", struct.unpack(">I", frame[7:])[0], "1")]
        case 9 | 10:
            at = _temperature(struct.unpack(">h", frame[:2])[0])
            return [*at, Field("time", struct.unpack(">I", frame[7:])[0], "s")]
    return []


def _temperature(raw: int) -> list[Field]:
    """Of a probe: nothing where none is, nor beyond what one can read (DS18B20 -55 to 125, TMP117 to 150)."""
    return [Field("external_temperature", raw / 100, "degC")] if -5500 <= raw <= 15000 else []


DRIVER = Driver(
    name="dragino_lht65",
    title="Dragino LHT65 and LHT65N temperature and humidity nodes (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "battery_voltage"),
    options=UplinkOptions,
    decode=decode,
    source="Dragino user manuals LHT65, LHT65N; dragino/dragino-end-node-decoder@e81cc58a05",
    sheet=Sheet(
        wiring="In shade or a radiation shield; the outer probe's plug firmly in.",
        limits="-40 to 80 °C, 0 to 99.9 %RH.",
        faults="7FFF: the probe is missing (327.67 °C in other programs).",
    ),
)
