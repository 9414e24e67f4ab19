"""MaxBotix ultrasonic range finders on a serial line, 9600 8N1, output only: `R`, digits, carriage return.

The digits' number, their unit, and which of them mean "no target" or "target in the blind zone" depend on the model
(MaxBotix data sheets PD11500 HRXL-WR, PD12593 HRXL-WRS, PD12673 SCXL-WRS, PD12141 HRUSB-EZ, and those of XL and LV).
"""

import re
from dataclasses import dataclass
from functools import cache

from pydantic import field_validator

from edge.sensors._framing import ScanFramer, Step
from edge.sensors.base import Driver, Field, FrameError, Identify, Options, Sheet

SOUND_M_S = 344.7
"""With which LV and XL reckon: they assume air of 22.5 degrees Celsius, HR measure it (maxbotix.com, "Pulse Width")."""
LINE_BYTES = 128
"""Longer than any line that a sensor sends; what goes on beyond has lost its carriage return."""


@dataclass(frozen=True, slots=True)
class Family:
    """`digits` after the R, in units of `unit_m`; at or under `blind` the target is at or inside the blind zone;
    `no_target` is said when there is no echo, and what lies below it is a range. `pattern` finds it in a model's name.
    `sound_m_s` as in Driver."""

    title: str
    pattern: str
    digits: int
    unit_m: float
    blind: int
    no_target: int
    sound_m_s: float | None = None


# Matched in this order against the name in capitals without spaces and signs.
FAMILIES = (
    Family("HRXL-MaxSonar-WR 10 m", r"HRXL.*10M|MB73(63|66|68|83|86|88)", 4, 0.001, 500, 9999),
    Family("HRXL-MaxSonar-WRS, SCXL-MaxSonar-WRS 5 m", r"HRXL.*WRS|SCXL|MB7[35][3-8]4", 4, 0.001, 500, 5000),
    Family(
        "HRXL-MaxSonar-WR 5 m, HRLV-MaxSonar, HRUSB-MaxSonar",
        r"HRXL.*5M|HRLV|HRUSB|MB73(60|67|69|80|87|89|6X|8X)|MB1[04][0-4]3",
        4,
        0.001,
        300,
        5000,
    ),
    Family("XL-MaxSonar (cm)", r"^XL(?!.*10M)|MB70[67]0|MB12[0-4]0", 3, 0.01, 20, 765, SOUND_M_S),
    Family("LV-MaxSonar (inches)", r"^LV|MB10[0-4]0", 3, 0.0254, 6, 254, SOUND_M_S),
)


@cache
def family(model: str) -> Family:
    """The family of a model's name, such as `MB7389` or `HRXL-MaxSonar-WR 5 m`. Raises ValueError listing the families."""
    name = re.sub(r"[^A-Z0-9]", "", model.upper())
    for candidate in FAMILIES:
        if re.search(candidate.pattern, name):
            return candidate
    raise ValueError(
        f"model {model!r} is unknown, expected a part number such as MB7389 or a family: "
        + "; ".join(candidate.title for candidate in FAMILIES)
    )


class MaxBotixOptions(Options):
    """`model`: part number or family with its range; the same line means different distances on different models."""

    model: str

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        family(model)
        return model


# A letter before the R makes it part of a word of the banner (`-WR1234` would be a name, not a range), unless that letter
# stands where a carriage return was, after a digit.
_READING = re.compile(rb"(?:^|(?<=[^A-Za-z])|(?<=[0-9][A-Za-z]))R(\d+) ?\r\Z")
_BANNER = re.compile(rb"(?!R\d)(?=.*[A-Za-z]{2})[ -~]+\r\Z")


def _cut(buffer: bytearray) -> Step | None:
    end = buffer.find(b"\r", 0, LINE_BYTES)
    if end < 0:
        if len(buffer) < LINE_BYTES:
            return None
        hint = _hint(bytes(buffer[:LINE_BYTES]))
        return LINE_BYTES, FrameError("overflow", f"{LINE_BYTES} bytes without a carriage return{hint}")
    line = bytes(buffer[: end + 1])
    reading = _READING.search(line)
    if reading and line[: reading.start()].strip(b"\xff"):
        return reading.start(), FrameError(
            "format", f"{_shown(line[: reading.start()])} before a range: the end of a line was lost"
        )
    return end + 1, line


def decode(frame: bytes, options: MaxBotixOptions) -> list[Field]:
    """One line with its carriage return -> `water_distance` in m.

    Raises FrameError: `no_target`; `blind_zone` with `at_most_m`; `out_of_range`; `no_data` for a line of the power-up
    banner (one of which, `RoHSv24b …`, begins with R); `format` for anything else. The sensor is known to slip in bytes
    FF (ESPHome strips them too); HRUSB models put a space before the carriage return (PD12141, page 3).
    """
    line = frame.replace(b"\xff", b"")
    reading = _READING.match(line)
    spec = family(options.model)
    if reading is None:
        if not line.endswith(b"\r"):
            raise FrameError("format", f"{_shown(line)} does not end in a carriage return{_hint(line)}")
        if _BANNER.match(line):
            raise FrameError("no_data", f"{_shown(line)} belongs to the power-up banner")
        raise FrameError("format", f"{_shown(line)}, expected R and {spec.digits} digits{_hint(line)}")
    digits = reading[1]
    if len(digits) != spec.digits:
        raise FrameError("format", f"{len(digits)} digits in {_shown(line)}, expected {spec.digits} ({spec.title})")
    value = int(digits)
    if value == spec.no_target:
        raise FrameError("no_target", f"{value} means that no echo came back ({spec.title})")
    if value > spec.no_target or value == 0:
        raise FrameError("out_of_range", f"{value}, expected 1 to {spec.no_target} ({spec.title})")
    if value <= spec.blind:
        at_most_m = round(spec.blind * spec.unit_m, 6)
        raise FrameError(
            "blind_zone", f"{value}: the target is at or inside {at_most_m} m ({spec.title})", at_most_m=at_most_m
        )
    return [Field("water_distance", round(value * spec.unit_m, 6), "m")]


def _hint(line: bytes) -> str:
    """What it may be that bytes are no text."""
    return (
        ""
        if line.isascii()
        else "; bytes that are no text: is the polarity the other one (RS232 or TTL), or is there noise on the line?"
    )


def _shown(line: bytes) -> str:
    return repr(line.decode("latin-1"))


def _described(line: bytes) -> list[Field] | None:
    """For `scan`, which knows no model: the range as it is said."""
    reading = _READING.match(line.replace(b"\xff", b""))
    if reading is None or len(reading[1]) not in {family.digits for family in FAMILIES}:
        return None
    return [Field("line", f"R{reading[1].decode()}", "")]


DRIVER = Driver(
    name="maxbotix",
    title="MaxBotix HRXL, HRLV, HRUSB, SCXL, XL and LV range finders (serial text)",
    link="stream",
    quantities=("water_distance",),
    options=MaxBotixOptions,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut),
    identify=Identify(describe=_described),
    sound_m_s=lambda options: family(options.model).sound_m_s,
    source="MaxBotix data sheets PD11500, PD12593, PD12673, PD12141",
    sheet=Sheet(
        wiring="Supply 2.7 to 5.5 V; one data wire. Two variants by part number: TTL goes to a UART of the "
        "supply's level, RS232 has the inverse polarity at 0 V to supply and needs an inverting adapter. "
        "The sensor takes no commands.",
        limits="Range by model: HRXL 0.3 m (some 0.5 m) to 5 or 10 m, XL 0.2 to 7.65 m, LV in inches. HRXL "
        "compensates for the air's temperature by itself, XL and LV do not: configure `air`.",
        faults="Garbage or silence: the polarity is the other one. A wrong `model` gives wrong metres: 5000 is "
        '"no target" on a 5 m model and 5 m on a 10 m model. Spider webs, foam and pipe walls give false '
        "echoes; the median of the period is taken.",
        options='model = "MB7389"',
    ),
)
