"""Decentlab sensor nodes on LoRaWAN, protocol version 2: device id, flag word, then groups of big-endian words, each
there when its flag is set (lowest first). Which groups a node has depends on its model.

Sources: Decentlab data sheets, chapter "Payload", of each model (decentlab.com);
decentlab/decentlab-decoders@ae766f03a2. Pressure and resistance scales are on the delivery sheet of each device.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pydantic import Field as Constraint
from pydantic import field_validator, model_validator

from edge.sensors._lorawan import UplinkOptions, usable
from edge.sensors.base import Driver, Field, FrameError, Sheet

VERSION = 2
_PORT = 1
_HEADER_BYTES = 5

_FROM_SHEET = {"PR26": ("pmin", "pmax"), "PR36": ("kp",), "PR36CTD": ("kp", "kec")}

Words = tuple[int, ...]


class DecentlabOptions(UplinkOptions):
    """`model`: such as `DL-MBX`; `codec` names it too, in the way of the manufacturer (`dl-pr26-0-1`). From the
    delivery sheet: `pmin` and `pmax` in bar (PR26; PR21 where it is not -1 to 10), `kp` (PR36, PR36CTD), `kec`
    (PR36CTD), `r_ohm` (DLR2). `slope` and `offset` belong to what is connected to a DLR2 and change nothing of what it
    says itself."""

    codec: str = ""
    pmin: float | None = None
    pmax: float | None = None
    kp: float | None = None
    kec: float | None = None
    r_ohm: float | None = Constraint(default=None, gt=0)
    slope: float | None = None
    offset: float | None = None

    @field_validator("kp", "kec")
    @classmethod
    def _not_zero(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("expected a factor other than 0")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "DecentlabOptions":
        name = _known(self)
        for key in _FROM_SHEET.get(name, ()):
            if getattr(self, key) is None:
                raise ValueError(f"{key} is missing, expected it from the delivery sheet of the DL-{name}")
        return self


@dataclass(frozen=True, slots=True)
class _Value:
    name: str
    unit: str
    convert: Callable[[Words, DecentlabOptions], float]


@dataclass(frozen=True, slots=True)
class _Group:
    """`count` tells how many samples a mean is of: without any there is no value."""

    words: int
    values: tuple[_Value, ...]
    count: int | None = None
    status: int | None = None


def _word(name: str, unit: str, at: int, scale: float = 1, zero: int = 0) -> _Value:
    """(word - zero) / scale."""
    return _Value(name, unit, lambda x, _: (x[at] - zero) / scale if scale != 1 else x[at] - zero)


def _of(name: str, unit: str, convert: Callable[[Words], float]) -> _Value:
    return _Value(name, unit, lambda x, _: convert(x))


def _double(x: Words, at: int = 0) -> int:
    return x[at] + (x[at + 1] << 16)


def _ratio(x: Words) -> float:
    """The 24-bit converter of the DLR2, as part of its full scale."""
    return _double(x) / 8388608 - 1


_BATTERY = _Group(1, (_word("battery_voltage", "V", 0, 1000),))
_BAROMETER = (
    _of("air_pressure", "hPa", lambda x: x[-1] * 2 / 100),
    _of("pressure_barometric", "Pa", lambda x: x[-1] * 2),
)
_SHT2X = _Group(
    2,
    (
        _of("air_temperature", "Cel", lambda x: 175.72 * x[0] / 65536 - 46.85),
        _of("relative_humidity", "%RH", lambda x: 125 * x[1] / 65536 - 6),
    ),
)
_SHT3X = _Group(
    2,
    (
        _of("air_temperature", "Cel", lambda x: 175 * x[0] / 65535 - 45),
        _of("relative_humidity", "%RH", lambda x: 100 * x[1] / 65535),
    ),
)
_LIDAR = (
    "average",
    "minimum",
    "maximum",
    "median",
    *(f"{n}th_percentile" for n in (10, 25, 75, 90)),
    "most_frequent_value",
)


def _bar(x: Words, options: DecentlabOptions) -> float:
    pmin, pmax = -1.0 if options.pmin is None else options.pmin, 10.0 if options.pmax is None else options.pmax
    return (x[0] - 16384) / 32768 * (pmax - pmin) + pmin


def _pressure(bar: Callable[[Words, DecentlabOptions], float]) -> _Value:
    return _Value("water_pressure", "hPa", lambda x, options: bar(x, options) * 1000)


def _bar_36(x: Words, options: DecentlabOptions) -> float:
    return (x[0] - 32768) / (options.kp or 1)


_KELLER_D = _Group(2, (_pressure(_bar), _of("water_temperature", "Cel", lambda x: (x[1] - 384) * 0.003125 - 50)))


def _milliamps(x: Words, options: DecentlabOptions) -> float:
    return 1.5 * (x[0] - 32768) / 32768 / (options.r_ohm or 10.0) * 1000


def _pt1000(x: Words, options: DecentlabOptions) -> float:
    part = _ratio(x) / 2
    ohm = part * (options.r_ohm or 2000.0) / (1 - part)
    return -244.83 + 2.3419 * ohm + 0.0010664 * ohm**2


def _thermistor_ohm(x: Words, options: DecentlabOptions) -> float:
    return _ratio(x) * (options.r_ohm or 2000.0) / (1 - _ratio(x))


def _pulses(prefix: str = "") -> _Group:
    return _Group(
        4,
        (
            _word(f"{prefix}pulse_count", "1", 0),
            _word(f"{prefix}pulse_interval", "s", 1),
            _of(f"{prefix}cumulative_pulse_count", "1", partial(_double, at=2)),
        ),
    )


def _ctd(conductivity: float) -> _Group:
    """Depth, temperature, conductivity in steps of `conductivity` uS/cm."""
    return _Group(
        4,
        (
            _word("water_level", "m", 0, 1000, 32768),
            _word("water_depth", "mm", 0, 1, 32768),
            _word("water_temperature", "Cel", 1, 10, 32768),
            _word("conductivity", "uS/cm", 2, 1 / conductivity),
            _word("freezing_flag", "1", 3),
        ),
    )


_MODELS: dict[str, tuple[_Group, ...]] = {
    "MBX": (
        _Group(2, (_word("water_distance", "m", 0, 1000), _word("number_of_valid_samples", "1", 1)), count=1),
        _BATTERY,
    ),
    "LID": (
        _Group(
            11,
            (
                _word("water_distance", "m", 3, 1000),
                *(_word(f"distance_{name}", "mm", at) for at, name in enumerate(_LIDAR)),
                _word("number_of_samples", "1", 9),
                _word("total_acquisition_time", "ms", 10, 1.024),
            ),
            count=9,
        ),
        _BATTERY,
    ),
    "PR21": (_KELLER_D, _BATTERY),
    "PR26": (_KELLER_D, _BATTERY),
    "PR36": (_Group(2, (_pressure(_bar_36), _word("water_temperature", "Cel", 1, 256, 32768))), _BATTERY),
    "PR36CTD": (
        _Group(
            4,
            (
                _pressure(_bar_36),
                _word("water_temperature", "Cel", 2, 256, 32768),
                _word("temperature_electronics", "degC", 1, 256, 32768),
                _word("temperature_pt1000", "degC", 2, 256, 32768),
                _Value("conductivity", "mS/cm", lambda x, options: (x[3] - 32768) / (options.kec or 1)),
            ),
        ),
        _BATTERY,
    ),
    "CTD10": (_ctd(1), _BATTERY),
    "CTD10B": (_ctd(2), _BATTERY),
    "PM": (
        _BATTERY,
        _Group(
            10,
            (
                *(_word(name, "ug/m3", at, 10) for at, name in enumerate(("pm1", "pm2_5", "pm4", "pm10"))),
                _word("typical_particle_size", "nm", 4),
                *(_word(name, "1/cm3", at, 10) for at, name in enumerate(("n0_5", "n1_0", "n2_5", "n4_0", "n10"), 5)),
            ),
        ),
        _SHT2X,
        _Group(1, _BAROMETER),
    ),
    "IAM": (
        _BATTERY,
        _SHT3X,
        _Group(1, _BAROMETER),
        _Group(
            2,
            (
                _word("ambient_light_visible_infrared", "1", 0),
                _word("ambient_light_infrared", "1", 1),
                _of(
                    "illuminance",
                    "lx",
                    lambda x: max(1.0 * x[0] - 1.64 * x[1], 0.59 * x[0] - 0.86 * x[1], 0) * 1.5504,
                ),
            ),
        ),
        _Group(
            3,
            (_word("co2", "ppm", 0, 1, 32768), _word("co2_sensor_status", "1", 1), _word("raw_ir_reading", "1", 2)),
            status=1,
        ),
        _Group(1, (_word("activity_counter", "1", 0),)),
        _Group(1, (_word("total_voc", "ppb", 0),)),
    ),
    "LP8P": (
        _SHT2X,
        _Group(2, (*_BAROMETER, _word("barometer_temperature", "degC", 0, 100, 5000))),
        _Group(
            8,
            (
                _word("co2", "ppm", 0, 1, 32768),
                _word("co2_concentration_lpf", "ppm", 1, 1, 32768),
                _word("co2_sensor_temperature", "degC", 2, 100, 32768),
                _word("capacitor_voltage_1", "V", 3, 1000),
                _word("capacitor_voltage_2", "V", 4, 1000),
                _word("co2_sensor_status", "1", 5),
                _word("raw_ir_reading", "1", 6),
                _word("raw_ir_reading_lpf", "1", 7),
            ),
            status=5,
        ),
        _BATTERY,
    ),
    "SHT35": (_SHT3X, _BATTERY),
    "DS18": (_Group(1, (_word("temperature", "degC", 0, 16, 32768),)), _BATTERY),
    "RHC": (
        _Group(
            4,
            (
                _of("sensor_id", "1", _double),
                _word("relative_humidity", "%RH", 2, 100),
                _word("air_temperature", "Cel", 3, 100, 32768),
            ),
        ),
        _BATTERY,
    ),
    "NTU": (
        _Group(
            5,
            (
                _word("status", "1", 0),
                _word("water_temperature", "Cel", 1, 100, 32768),
                _word("turbidity_in_ntu", "NTU", 2, 10),
                _word("turbidity_in_fnu", "FNU", 3, 10),
                _word("turbidity_in_mg_l", "mg/L", 4, 10),
            ),
        ),
        _BATTERY,
    ),
    "TBRG": (
        _Group(
            4,
            (
                _word("rainfall", "mm", 0, 10),
                _word("precipitation_interval", "s", 1),
                _of("cumulative_precipitation", "mm", lambda x: _double(x, 2) / 10),
            ),
        ),
        _BATTERY,
    ),
    "DLR2002": (_pulses(), _BATTERY),
    "DLR2003": (_Group(1, (_word("input", "1", 0),)), _BATTERY),
    "DLR2004": (_Group(1, (_Value("current", "mA", _milliamps),)), _BATTERY),
    "DLR2005": (_Group(2, (_of("voltage", "V", lambda x: 3 * _ratio(x)),)), _BATTERY),
    "DLR2006": (_Group(2, (_of("potentiometer_position", "1", _ratio),)), _BATTERY),
    "DLR2008": (_Group(2, (_Value("temperature", "degC", _pt1000),)), _BATTERY),
    "DLR2009": (
        _Group(
            2,
            (
                _Value("thermistor_resistance", "Ohm", _thermistor_ohm),
                _Value(
                    "temperature",
                    "degC",
                    lambda x, o: -245.18 + 0.23469 * _thermistor_ohm(x, o) + 0.0000104876 * _thermistor_ohm(x, o) ** 2,
                ),
            ),
        ),
        _BATTERY,
    ),
    "DLR2010": (_pulses("ch0_"), _pulses("ch1_"), _BATTERY),
    "DLR2011": (_Group(1, (_word("ch0_input", "1", 0),)), _Group(1, (_word("ch1_input", "1", 0),)), _BATTERY),
    "DLR2012": (_Group(2, (_of("strain_gauge", "um/m", lambda x: _ratio(x) / 64 * 4 / 2.02 * 1e6),)), _BATTERY),
}


def _known(options: DecentlabOptions) -> str:
    """The key of `_MODELS`: DL-PR36-8192 is a PR36, a DL-LID2 is no LID. Raises ValueError listing them."""
    parts = re.sub("[^A-Z0-9]+", " ", (options.model or options.codec).upper()).removeprefix("DL").split()
    for length in (2, 1):  # DLR2-004 is one model
        if "".join(parts[:length]) in _MODELS:
            return "".join(parts[:length])
    raise ValueError(f"model {options.model!r} is unknown, expected DL- and one of {', '.join(_MODELS)}")


def decode(frame: bytes, options: DecentlabOptions) -> list[Field]:
    """One payload -> the values of the groups in it and `device_id`. A payload of the battery alone is good.

    Values of the table are in its units: `water_distance` (LID: the median), `water_level` (CTD10: depth over the
    probe), `water_pressure` (a probe's, against what its model refers to), `water_temperature` of what hangs in the
    water. CO2 with a status of its sensor other than 0 is left out.

    Raises FrameError: `unknown_port`; `header` for another version; `length`; `format` for a flag that the model has
    not; `no_target` for a distance of which no sample was valid, with the battery.
    """
    options.port(_PORT)
    if len(frame) < _HEADER_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {_HEADER_BYTES} or more")
    version, device, flags = struct.unpack(">BHH", frame[:_HEADER_BYTES])
    if version != VERSION:
        raise FrameError("header", f"protocol version {version}, expected {VERSION}")
    groups = _MODELS[_known(options)]
    if flags >> len(groups):
        raise FrameError("format", f"flags {flags:#06x}, expected at most {len(groups)} groups")
    present = [group for bit, group in enumerate(groups) if flags >> bit & 1]
    expected = _HEADER_BYTES + 2 * sum(group.words for group in present)
    if len(frame) != expected:
        raise FrameError("length", f"{len(frame)} bytes, expected {expected} for flags {flags:#06x}")
    words = struct.unpack(f">{(len(frame) - _HEADER_BYTES) // 2}H", frame[_HEADER_BYTES:])
    fields: list[Field] = []
    empty = False
    for group, part in _split(present, words):
        empty = empty or (group.count is not None and part[group.count] == 0)
        if group.count is None or part[group.count]:
            fields += _values(group, part, options)
    fields.append(Field("device_id", device, "1"))
    if empty:
        raise FrameError("no_target", "the distance is of 0 valid samples", usable(fields))
    return fields


def _split(groups: list[_Group], words: Words) -> Iterator[tuple[_Group, Words]]:
    at = 0
    for group in groups:
        yield group, words[at : at + group.words]
        at += group.words


def _values(group: _Group, words: Words, options: DecentlabOptions) -> Iterator[Field]:
    good = group.status is None or words[group.status] == 0
    for value in group.values:
        if good or not value.name.startswith("co2") or value.name == "co2_sensor_status":
            yield Field(value.name, round(value.convert(words, options), 6), value.unit)


DRIVER = Driver(
    name="decentlab",
    title="Decentlab level, pressure, air and data logger nodes (LoRaWAN)",
    link="payload",
    quantities=(
        "water_distance",
        "water_level",
        "water_pressure",
        "water_temperature",
        "rainfall",
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "pm1",
        "pm2_5",
        "pm4",
        "pm10",
        "co2",
        "battery_voltage",
    ),
    options=DecentlabOptions,
    decode=decode,
    source="Decentlab data sheets (decentlab.com); decentlab/decentlab-decoders@ae766f03a2",
    sheet=Sheet(
        wiring="DL-MBX: mount it plumb above the lowest water, clear of walls, pipes and spray. DL-PR26, PR36: "
        "lower the probe to the bottom, logger in dry air for the vent tube.",
        limits="Ranges by model. PR26, PR36, PR36CTD and DLR2 need the constants of their delivery sheet.",
        faults="An uplink with the battery only: the sensor gave nothing. A distance of which no sample was "
        "valid is no target.",
        options='model = "DL-MBX"',
    ),
)
