"""MClimate flood, HT and CO2 sensors (and CO2 notifier) on LoRaWAN, big-endian.

Source: MClimate documentation, "Uplink" of each device; TheThingsNetwork/lorawan-devices: vendor/mclimate;
actility/device-catalog: vendors/mclimate. Answers to
commands stand before the keep-alive in the same payload.
"""

import struct

from pydantic import field_validator

from edge.sensors._lorawan import UplinkOptions, battery, plain, plausible, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_KEEP_ALIVE, _KEEP_ALIVE_BYTES = 1, 7
_HT_ALONE_BYTES = 5
"""An HT sensor of the firmware that knows no thermistor."""
_NO_THERMISTOR = b"\x04\x00"
_OTHERS = ("DISPLAY", "PIR", "LITE")
_REASONS = ("keep_alive", "test_button", "flood_detected", "fraud_detected")


class MClimateOptions(UplinkOptions):
    models = ("FLOOD", "HT", "CO2")

    @field_validator("model")
    @classmethod
    def _no_display(cls, model: str) -> str:
        if any(other in plain(model) for other in _OTHERS):
            raise ValueError(f"found {model!r}, whose layout is another, expected a flood, HT or CO2 sensor")
        return model


def decode(frame: bytes, options: MClimateOptions) -> list[Field]:
    """One payload of a `model` (flood, HT or CO2) -> flood: `flood`, `box_tamper`, `reason`, `temperature` in degC
    where it is sent; HT and CO2: `air_temperature` in Cel, `relative_humidity` in %RH, `co2` in ppm,
    `external_temperature` in degC where a thermistor is connected; `battery_voltage` in V.

    Raises FrameError: `unknown_port`, `length`, `format` for another keep-alive.
    """
    options.port(2, 1)
    if options.named("FLOOD"):
        return _flood(sized(frame, 2, 3))
    if len(frame) == _HT_ALONE_BYTES and frame[0] == _KEEP_ALIVE and not options.named("CO2"):
        return plausible(_ht(frame + _NO_THERMISTOR))
    if len(frame) < _KEEP_ALIVE_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {_KEEP_ALIVE_BYTES} or more")
    last = frame[-_KEEP_ALIVE_BYTES:]
    if last[0] != _KEEP_ALIVE:
        raise FrameError("format", f"keep-alive {last[0]:02X}, expected {_KEEP_ALIVE:02X}")
    return plausible(_co2(last) if options.named("CO2") else _ht(last))


def _flood(frame: bytes) -> list[Field]:
    reason = frame[0] >> 5
    fields = [
        Field("flood", bool(frame[0] & 0x02), ""),
        Field("box_tamper", bool(frame[0] & 0x08), ""),
        Field("reason", _REASONS[reason] if reason < len(_REASONS) else str(reason), ""),
        battery(frame[1] * 16),
    ]
    return [*fields, Field("temperature", frame[2], "degC")] if len(frame) > 2 else fields


def _ht(frame: bytes) -> list[Field]:
    temperature, humidity, volts, thermistor = struct.unpack(">xHBBH", frame)
    external = [] if thermistor & 0x0400 else [Field("external_temperature", (thermistor & 0x3FF) / 10, "degC")]
    return [*_climate(temperature, humidity), *external, Field("battery_voltage", (20 + (volts >> 4)) / 10, "V")]


def _co2(frame: bytes) -> list[Field]:
    co2, temperature, humidity, volts = struct.unpack(">xHHBB", frame)
    return [Field("co2", co2, "ppm"), *_climate(temperature, humidity), battery(1600 + 8 * volts)]


def _climate(temperature: int, humidity: int) -> list[Field]:
    return [
        Field("air_temperature", (temperature - 400) / 10, "Cel"),
        Field("relative_humidity", round(humidity * 100 / 256, 2), "%RH"),
    ]


DRIVER = Driver(
    name="mclimate",
    title="MClimate flood, HT and CO2 sensors (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "co2", "battery_voltage"),
    options=MClimateOptions,
    decode=decode,
    source="MClimate documentation; TheThingsNetwork/lorawan-devices, vendor/mclimate",
    sheet=Sheet(
        wiring="Flood: electrodes down. The others in shade.",
        limits="By model.",
        faults="Answers to commands stand before the keep-alive.",
        options='model = "HT"',
    ),
)
