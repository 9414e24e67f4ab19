"""Netvox level and air sensors on LoRaWAN: version, device type, report type, battery, then values, big-endian. The
payload says the device type itself.

Source: Netvox LoRaWAN Application Command; TheThingsNetwork/lorawan-devices: vendor/netvox/payload (r718x.js,
r72616.js, r718ubb.js, r718a.js, r718wa.js, r718wb2.js, r726xx.js, r718pa.js and those with the same layouts).
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, reply, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_DATA, _COMMAND = 6, 7
_LOW_BATTERY = 0x80
_R718X, _R718PE, _R72616, _R718UBB = 0x34, 0xB1, 0x36, 0xBB
_MISSING = 0xFFFF

Value = tuple[str, str, str, float]
_TEMPERATURE, _HUMIDITY = ("h", "air_temperature", "Cel", 100), ("H", "relative_humidity", "%RH", 100)
_DISTANCE: Value = ("H", "water_distance", "m", 1000)
_PM2_5: Value = ("H", "pm2_5", "ug/m3", 1)
_PARTICLES = (0x05, 0x09, 0x0D, 0x57, 0x58)
"""RA0715, R72615A, RA0715Y, R718PA, R718PB: report 1 has the factory's calibration, 2 the atmosphere's."""
_STATUS: Value = ("B", "status", "1", 1)
_REPORTS: dict[tuple[int, int], tuple[Value, ...]] = {
    (_R718X, 1): (_STATUS, _DISTANCE, ("h", "temperature", "degC", 10), ("B", "fill", "%", 1), ("B", "tilt", "deg", 1)),
    (_R718PE, 1): (_STATUS, _DISTANCE, ("B", "fill", "%", 1)),
    (_R72616, 1): (_TEMPERATURE, _HUMIDITY, _PM2_5),
    (_R718UBB, 1): (_TEMPERATURE, _HUMIDITY, ("H", "co2", "ppm", 1), ("B", "shock", "1", 1)),
    (_R718UBB, 2): (("I", "air_pressure", "hPa", 100), ("3s", "illuminance", "lx", 1)),
    **dict.fromkeys(((kind, 1) for kind in (0x35, 0x37, 0x6A)), (_TEMPERATURE, _HUMIDITY, _PM2_5)),
    **dict.fromkeys(((kind, 1) for kind in (0x01, 0x0B, 0x13, 0x6E)), (_TEMPERATURE, _HUMIDITY)),
    **dict.fromkeys(((kind, 1) for kind in (0x12, 0x32)), (("?", "water_leak", "", 1),)),
    **dict.fromkeys(
        ((kind, 1) for kind in (0x06, 0x46, 0x47)), (("?", "water_leak", "", 1), ("?", "water_leak_2", "", 1))
    ),
    **dict.fromkeys(
        ((kind, 1) for kind in _PARTICLES), tuple(("H", f"{pm}_cf1", "ug/m3", 1) for pm in ("pm1", "pm2_5", "pm10"))
    ),
    **dict.fromkeys(((kind, 2) for kind in _PARTICLES), (("H", "pm1", "ug/m3", 1), _PM2_5, ("H", "pm10", "ug/m3", 1))),
    (_R718UBB, 3): (_PM2_5, ("H", "pm10", "ug/m3", 1), ("H", "tvoc", "ppb", 1)),
}
"""Values after the battery, by device and report type."""


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload -> what its device and report type say, in the table's units where it has them (`water_distance`,
    `air_temperature`, `relative_humidity`, `air_pressure`, `pm1`, `pm2_5`, `pm10`, `co2`), `water_leak`, `battery_voltage` in V,
    `battery_low`. A version report (report type 0), an answer to a command (fPort 7), and what a particle sensor reports beside
    its particles are a `reply`.

    Raises FrameError: `unknown_port`, `length`, `format` for an unknown device or report; `no_target` for a distance of
    65535, with what stays usable.
    """
    if options.port(_DATA, _COMMAND) == _COMMAND:
        return [reply("command_answer")]
    sized(frame, 11)
    if frame[2] == 0:
        return [reply("version"), Field("firmware", f"{frame[3] / 10}", ""), Field("date_code", frame[5:9].hex(), "")]
    report = _REPORTS.get((frame[1], frame[2]))
    if report is None and frame[1] in _PARTICLES:
        return [reply("other_report"), Field("report", frame[2], "1")]
    if report is None:
        raise FrameError("format", f"device type {frame[1]:02X} with report type {frame[2]} is unknown")
    layout = ">" + "".join(code for code, *_ in report)
    fields = [
        Field("battery_voltage", (frame[3] & 0x7F) / 10, "V"),
        Field("battery_low", bool(frame[3] & _LOW_BATTERY), ""),
    ]
    values = []
    for raw, (_, name, unit, divisor) in zip(
        struct.unpack(layout, frame[4 : 4 + struct.calcsize(layout)]), report, strict=True
    ):
        number = int.from_bytes(raw, "big") if isinstance(raw, bytes) else raw
        if number == _MISSING and unit != "lx":
            if name == "water_distance":
                raise FrameError("no_target", "distance 65535: nothing measured", tuple(fields))
            continue
        values.append(Field(name, number if divisor == 1 else number / divisor, unit))
    return plausible([*values, *fields])


DRIVER = Driver(
    name="netvox",
    title="Netvox R718X/PE level, leak, climate and air sensors (LoRaWAN)",
    link="payload",
    quantities=(
        "water_distance",
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "pm1",
        "pm2_5",
        "pm10",
        "co2",
        "battery_voltage",
    ),
    options=UplinkOptions,
    decode=decode,
    source="Netvox LoRaWAN Application Command; TheThingsNetwork/lorawan-devices, vendor/netvox",
    sheet=Sheet(
        wiring="Mount it plumb above the lowest water, clear of walls, pipes and spray.",
        limits="Level R718X, R718PE; leak R718WA, R718WB, R311W; climate R711, R718A, R718AB, R720A; air R72616, R72716, RA0716, "
        "R718UBB; particles of R726, RA0715, R718PA, R718PB, whose other reports are not read. R718X says its tilt: beyond "
        "`tilt.max_deg` no distance is taken.",
        faults="65535: nothing measured. Report type 0 is the version, no reading.",
    ),
)
