"""InfluxDB line protocol, as 1.x, 2.x, 3.x and VictoriaMetrics read it. The same point gives the same bytes.

Integers carry `i`, floats their shortest exact form, strings stand in double quotes (`"` and backslash escaped, nothing else).
"""

from central.store.base import MAX_TIME_MS, MIN_TIME_MS, Point, Value, check, check_field

_KEY_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_STRING_ESCAPES = str.maketrans({'"': r"\"", "\\": r"\\"})


def line(point: Point) -> str:
    """The point as one line without its newline, time in ms. Raises ValueError for what `base.check` refuses.

    A reading (`value` and `qc`, nearly all that central ever writes) takes a short way: 0.45 us instead of 0.75.
    """
    series, fields, time_ms = point
    if not fields or not MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
        check(point)
    if len(fields) == 2:
        value, qc = fields.get("value"), fields.get("qc")
        if type(value) is float and value - value == 0.0 and type(qc) is int and 0 <= qc <= 9:
            return f"{series.prefix}value={value!r},qc={qc}i {time_ms}"
    return f"{series.prefix}{','.join([_field(name, value) for name, value in fields.items()])} {time_ms}"


def _field(name: str, value: Value) -> str:
    check_field(name, value)
    key = name.translate(_KEY_ESCAPES)
    if isinstance(value, float):
        return f"{key}={value!r}"
    if isinstance(value, int):
        return f"{key}={value}i"
    return f'{key}="{value.translate(_STRING_ESCAPES)}"'
