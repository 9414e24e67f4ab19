"""InfluxDB line protocol, as 1.x, 2.x, 3.x and VictoriaMetrics read it. The same point gives the same bytes.

Integers carry `i`, floats their shortest exact form, strings stand in double quotes (`"` and backslash escaped, nothing else).
"""

import math

from central.store.base import MAX_TIME_MS, MIN_TIME_MS, Point, Reading, Value, check, check_field

_KEY_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_STRING_ESCAPES = str.maketrans({'"': r"\"", "\\": r"\\"})


def line(point: Point | Reading) -> str:
    """The point as one line without its newline, time in ms. Raises ValueError for what `base.check` refuses."""
    if type(point) is Reading and math.isfinite(point.value) and MIN_TIME_MS <= point.time_ms <= MAX_TIME_MS:
        return f"{point.series.prefix}value={point.value!r},qc={point.qc}i {point.time_ms}"
    check(point)
    fields = ",".join([_field(name, value) for name, value in point.fields.items()])
    return f"{point.series.prefix}{fields} {point.time_ms}"


def _field(name: str, value: Value) -> str:
    check_field(name, value)
    key = name.translate(_KEY_ESCAPES)
    if isinstance(value, float):
        return f"{key}={value!r}"
    if isinstance(value, int):
        return f"{key}={value}i"
    return f'{key}="{value.translate(_STRING_ESCAPES)}"'
