"""Dragino distance nodes on LoRaWAN: LDDS75/45/20 and DDS75/45/20-LB (ultrasonic), LDDS04 and DDS04-LB (four ultrasonic
heads), LLDS12 (lidar).

Sources: Dragino user manuals LDDS75, LDDS20, LDDS04, LLDS12, DDS75-LB (chapter "Uplink Payload": 0 no sensor, 20 mm
invalid, sensor flag; lidar strength not over 100, or 65535, is not credible);
dragino/dragino-end-node-decoder@e81cc58a05.
"""

import struct
from typing import Literal

from edge.sensors._dragino import DATA, LOG, STATUS, battery_of, ds18b20, log, status
from edge.sensors._lorawan import UplinkOptions, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_INVALID_MM = 20
_WEAK, _OVEREXPOSED = 100, 65535


_MOST_MM, _LIDAR_MOST_MM = 7500, 12_000
"""The widest of the ultrasonic models (LDDS75), and LLDS12: beyond, no echo can have come back."""


class DraginoLddsOptions(UplinkOptions):
    """`model`: LDDS75 unless said; `LDDS75-old` before firmware 1.1.4. `probe`: a DS18B20 is fitted (zero degrees is
    then a value). `head`: which of the four heads of an LDDS04 is the water's."""

    probe: bool = False
    head: Literal[1, 2, 3, 4] | None = None


def decode(frame: bytes, options: DraginoLddsOptions) -> list[Field]:
    """One payload -> `water_distance` in m, `battery_voltage` in V, `temperature` in degC of a DS18B20 if there is one;
    LDDS04: `distance_1` to `distance_4` in mm; LLDS12: `signal_strength`, `lidar_temperature`. A status frame (fPort 5)
    is a `reply`.

    Raises FrameError: `unknown_port`, `length`; `sensor_missing`, `no_target` and `out_of_range`, with the battery.
    """
    port = options.port(DATA, LOG, STATUS)
    if port == STATUS:
        return status(frame)
    if port == LOG:
        return log(frame)
    if options.named("DDS04"):
        return _four(sized(frame, 11), options)
    if options.named("LLDS"):
        return _lidar(sized(frame, 11), options)
    if options.named("OLD") and len(frame) != 8:
        raise FrameError(
            "sensor_missing", f"{len(frame)} bytes: firmware before 1.1.4 says so that no sensor is connected"
        )
    volts, distance, _interrupt, probe, flag = struct.unpack(">HHBhB", sized(frame, 8))
    side = (battery_of(volts), *ds18b20(probe, options.probe))
    if distance == 0 or (flag == 0 and not options.named("OLD")):
        raise FrameError("sensor_missing", f"distance {distance}, sensor flag {flag}: no sensor is connected", side)
    return [_distance(distance, side), *side]


def _distance(millimetres: int, side: tuple[Field, ...], most: int = _MOST_MM) -> Field:
    if millimetres <= _INVALID_MM:
        raise FrameError("no_target", f"distance {millimetres} mm: out of range, or no echo", side)
    if millimetres > most:
        raise FrameError("out_of_range", f"distance {millimetres} mm, expected at most {most}", side)
    return Field("water_distance", millimetres / 1000, "m")


def _four(frame: bytes, options: DraginoLddsOptions) -> list[Field]:
    volts, *distances, _kind = struct.unpack(">H4HB", frame)
    side = (battery_of(volts),)
    if not any(distances):
        raise FrameError("sensor_missing", "distance 0 on all heads: no sensor is connected", side)
    if not any(distance > _INVALID_MM for distance in distances):
        raise FrameError("no_target", f"distances {distances} mm: out of range, or no echo", side)
    heads = [
        Field(f"distance_{head}", distance, "mm")
        for head, distance in enumerate(distances, 1)
        if distance > _INVALID_MM
    ]
    if options.head is None:
        return [*heads, *side]
    others = (*heads, *side)
    mine = distances[options.head - 1]
    if mine == 0:
        raise FrameError("sensor_missing", f"distance 0: head {options.head} is not connected", others)
    return [_distance(mine, others), *others]


def _lidar(frame: bytes, options: DraginoLddsOptions) -> list[Field]:
    volts, probe, distance, strength, _interrupt, temperature, _kind = struct.unpack(">HhHHBbB", frame)
    side = (
        battery_of(volts),
        Field("signal_strength", strength, "1"),
        Field("lidar_temperature", temperature, "degC"),
        *ds18b20(probe, options.probe),
    )
    if distance == 0 or strength <= _WEAK or strength == _OVEREXPOSED:
        raise FrameError("no_target", f"distance {distance} mm with strength {strength} is not credible", side)
    return [_distance(distance, side, _LIDAR_MOST_MM), *side]


DRIVER = Driver(
    name="dragino_ldds",
    title="Dragino LDDS75/45/20/04, DDS-LB and LLDS12 distance nodes (LoRaWAN)",
    link="payload",
    quantities=("water_distance", "battery_voltage"),
    options=DraginoLddsOptions,
    decode=decode,
    source="Dragino user manuals LDDS75, LDDS04, LLDS12, DDS75-LB; dragino/dragino-end-node-decoder@e81cc58a05",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="LDDS75: 0.28 to 7.5 m, LDDS20: 3 cm to 2 m (through a tank's bottom), LDDS45: to 4.5 m. LDDS75 "
        "compensates for temperature. An LDDS04 has four heads: `head` says which is the water's.",
        faults="0: the head is not connected. 20 mm: no valid echo. Firmware before 1.1.4 swaps words: `model = "
        '"LDDS75-old"`. Without a DS18B20 no temperature: `probe = true` only where one is fitted.',
        options='model = "LDDS75"',
    ),
)
