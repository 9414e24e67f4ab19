"""SenML (RFC 8428): packs of records in JSON and CBOR, and their resolution.

A *pack* here is the decoded array of maps with JSON labels (`bn`, `t`, `v` …). `resolve` gives records with full names and
absolute times. Ours adds one label, `qc`, the QARTOD flag (left out when 1); all unknown labels are kept out, except that a
label ending in `_` refuses the pack, as the RFC asks.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wire.errors import WireError, shown

JSON_TYPE = "application/senml+json"
CBOR_TYPE = "application/senml+cbor"

VERSION = 10
"""The Base Version that this code understands (RFC 8428 section 4.4)."""

RELATIVE_TIME_LIMIT_S = 2**28
"""Times below this are relative to now (RFC 8428 section 4.5.3)."""
MAX_TIME_S = 253_402_300_800.0
"""The beginning of the year 10000."""

MAX_INTEGER = 2**63
"""Beyond it readers of JSON differ (RFC 8259 section 6), and no time or measured value is."""

MAX_NAME = 1024
"""Of a name and of a base name: one long base name would be repeated for every record."""

_CBOR_LABELS = {
    "bver": -1,
    "bn": -2,
    "bt": -3,
    "bu": -4,
    "bv": -5,
    "bs": -6,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}
_JSON_LABELS = {number: label for label, number in _CBOR_LABELS.items()}
_NAME_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NAME = _NAME_FIRST | frozenset("-:./_")
_KNOWN = frozenset(_CBOR_LABELS) | {"qc"}
_BASE_LABELS = frozenset({"bver", "bn", "bt", "bu", "bv", "bs"})
_OTHER_VALUES = frozenset({"vs", "vb", "vd", "s"})

Record = dict[str, Any]
"""One SenML record under its JSON labels."""


class Resolved(NamedTuple):
    """A resolved record (RFC 8428 section 4.6): full name, absolute Unix time in s, one value or only a sum."""

    name: str
    unit: str | None
    time: float
    value: float | None
    text: str | None
    flag: bool | None
    data: bytes | None
    sum: float | None
    update: float | None
    version: int
    qc: int


def _number(value: Any, label: str, index: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WireError(f"record {index}: {label} is {shown(value)}, expected a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise WireError(f"record {index}: {label} is {shown(value)}, expected a finite number")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise WireError(
            f"record {index}: {label} has {value.bit_length()} bits, expected a number as JSON readers take it"
        )
    return value


def _finite_sum(base: float, value: float, label: str, index: int) -> float:
    total = base + value
    if not math.isfinite(total):
        raise WireError(f"record {index}: {label} with its base value is not finite")
    return total


def _string(value: Any, label: str, index: int) -> str:
    if not isinstance(value, str):
        raise WireError(f"record {index}: {label} is {shown(value)}, expected a string")
    return value


def _check_name(name: str, index: int) -> None:
    if not name:
        raise WireError(f"record {index}: no name")
    if len(name) > MAX_NAME:
        raise WireError(f"record {index}: name has {len(name)} characters, at most {MAX_NAME} are taken")
    if name[0] not in _NAME_FIRST or not _NAME.issuperset(name):
        raise WireError(
            f"record {index}: name {shown(name)} must start with a letter or digit and use A-Z a-z 0-9 - : . / _ only"
        )


def resolve(pack: Sequence[Mapping[str, Any]], now_s: float) -> list[Resolved]:
    """Resolve a decoded pack, in its own order. Raises WireError naming the record (counted from 0) and the label.

    `now_s` (Unix seconds) is the origin of relative times.
    """
    out: list[Resolved] = []
    for item in resolve_each(pack, now_s):
        if isinstance(item, WireError):
            raise item
        out.append(item)
    return out


def resolve_each(pack: Sequence[Mapping[str, Any]], now_s: float) -> list[Resolved | WireError]:
    """As `resolve`, but a bad record stands as a WireError in its place, so that the good ones can be kept.

    Raises WireError for what spoils the whole pack: no array, a newer version, a label that must be understood.
    """
    if not isinstance(pack, list) or not pack:
        raise WireError("a SenML pack is a non-empty array of records")
    base = _Base()
    out: list[Resolved | WireError] = []
    for i, record in enumerate(pack):
        if not isinstance(record, dict):
            out.append(WireError(f"record {i}: {shown(record)}, expected an object"))
            continue
        if not _KNOWN.issuperset(record):
            for label in record:
                if isinstance(label, str) and label.endswith("_"):
                    raise WireError(f"record {i}: label {shown(label)} must be understood, and is not")
        try:
            if not _BASE_LABELS.isdisjoint(record):
                base.take(record, i)
                if _BASE_LABELS.issuperset(record):  # base fields alone make no record
                    continue
            if base.bad:
                base.refuse(record)
            out.append(_resolve_one(record, base, i, now_s))
        except WireError as e:
            out.append(e)
    if base.version > VERSION:
        raise WireError(f"bver {shown(base.version)} is newer than {VERSION}")
    return out


class _Base:
    """The base fields in force; they apply from their record on until replaced (RFC 8428 section 4.1)."""

    __slots__ = ("bad", "checked", "name", "sum", "time", "unit", "value", "version")

    def __init__(self) -> None:
        self.name = ""
        self.time = 0.0
        self.unit: str | None = None
        self.value: float | None = None
        self.sum: float | None = None
        self.version = VERSION
        self.checked: set[str] = set()
        self.bad: dict[str, WireError] = {}
        """Base fields that cannot be read: what relies on them is not known, and must not fall back on those before."""

    def take(self, record: Mapping[str, Any], i: int) -> None:
        """The base fields of a record. Those that are wrong are `bad` from here on."""
        for label in _BASE_LABELS & record.keys():
            try:
                self._set(label, record[label], i)
                self.bad.pop(label, None)
            except WireError as e:
                self.bad[label] = e

    def _set(self, label: str, value: Any, i: int) -> None:
        match label:
            case "bn":
                self.name = _string(value, "bn", i)
                if len(self.name) > MAX_NAME:
                    raise WireError(f"record {i}: bn has {len(self.name)} characters, at most {MAX_NAME} are taken")
            case "bt":
                self.time = _number(value, "bt", i)
            case "bu":
                self.unit = _string(value, "bu", i)
            case "bv":
                self.value = _number(value, "bv", i)
            case "bs":
                self.sum = _number(value, "bs", i)
            case "bver":
                self.version = max(self.version, int(_number(value, "bver", i)))

    def refuse(self, record: Mapping[str, Any]) -> None:
        """Raises the WireError of a bad base field that `record` relies on."""
        for label, error in self.bad.items():
            if label != "bu" or "u" not in record:
                raise error


def _resolve_one(record: Mapping[str, Any], base: _Base, i: int, now_s: float) -> Resolved:
    get = record.get
    name = base.name + _string(get("n", ""), "n", i)
    if name not in base.checked:
        _check_name(name, i)
        base.checked.add(name)
    time = _finite_sum(base.time, _number(get("t", 0), "t", i), "t", i)
    if time < RELATIVE_TIME_LIMIT_S:
        time += now_s
    if abs(time) > MAX_TIME_S:
        raise WireError(f"record {i}: t is {time:g} s, expected a time before the year 10000")
    value = get("v")
    if value is not None:
        value = _number(value, "v", i)
    elif "v" in record:
        raise WireError(f"record {i}: v is null, expected a number")
    qc = get("qc", 1)
    if type(qc) is not int or qc not in (1, 2, 3, 4, 9):  # 1.0 would be another type in the database
        raise WireError(f"record {i}: qc is {shown(qc)}, expected a QARTOD flag 1, 2, 3, 4 or 9")
    unit = base.unit if "u" not in record else _string(record["u"], "u", i)
    update = get("ut")
    if update is not None:
        update = _number(update, "ut", i)
    if value is not None and base.value is None and base.sum is None and _OTHER_VALUES.isdisjoint(record):
        return Resolved(name, unit, time, value, None, None, None, None, update, base.version, qc)

    text, flag, data = get("vs"), get("vb"), get("vd")
    if (value is not None) + (text is not None) + (flag is not None) + (data is not None) > 1:
        raise WireError(f"record {i}: more than one value")
    if text is not None:
        _string(text, "vs", i)
    if flag is not None and not isinstance(flag, bool):
        raise WireError(f"record {i}: vb is {shown(flag)}, expected true or false")
    if isinstance(data, str):
        data = _unbase64(data, i)
    elif data is not None and not isinstance(data, bytes):
        raise WireError(f"record {i}: vd is {shown(data)}, expected base64url")
    total = get("s")
    if total is not None:
        total = _number(total, "s", i)
    if (
        base.value is not None
        and text is None
        and flag is None
        and data is None
        and (value is not None or total is None)
    ):
        value = _finite_sum(base.value, value or 0, "v", i)
    if base.sum is not None:
        total = _finite_sum(base.sum, total or 0, "s", i)
    if value is None and text is None and flag is None and data is None and total is None:
        raise WireError(f"record {i}: no value (SenML has no empty value; leave the record out)")
    return Resolved(name, unit, time, value, text, flag, data, total, update, base.version, qc)


def _unbase64(text: str, index: int) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as e:
        raise WireError(f"record {index}: vd is not base64url") from e


def to_json(pack: Iterable[Record]) -> bytes:
    """The pack as UTF-8 JSON without spaces; the same pack gives the same bytes."""
    return json.dumps(list(pack), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def from_json(payload: bytes) -> list[Record]:
    """Decode a JSON pack, unresolved. Raises WireError."""
    try:
        pack = json.loads(payload)
    except (ValueError, RecursionError) as e:
        raise WireError(f"not JSON: {e}") from e
    if not isinstance(pack, list):
        raise WireError(f"expected a JSON array of records, found {type(pack).__name__}")
    return pack


def to_cbor(pack: Iterable[Record]) -> bytes:
    """The pack as CBOR with the RFC's integer labels; `qc` stays a string label, as extensions must."""
    import cbor2

    encoded: bytes = cbor2.dumps([{_CBOR_LABELS.get(k, k): v for k, v in record.items()} for record in pack])
    return encoded


def from_cbor(payload: bytes) -> list[Record]:
    """Decode a CBOR pack, unresolved, to JSON labels. Raises WireError."""
    import cbor2

    try:
        # Bad UTF-8 becomes U+FFFD, which no name and no unit may have: refusing it by itself, cbor2 5 never frees what it was
        # decoding (github.com/agronholm/cbor2/issues/257).
        pack = cbor2.loads(payload, str_errors="replace")
    except Exception as e:  # its tags make dates, patterns and decimals, which raise what they like
        raise WireError(f"not CBOR: {type(e).__name__}: {e}") from e
    if not isinstance(pack, list):
        raise WireError(f"expected a CBOR array of maps, found {shown(pack)}")
    # What is no map is kept in its place, for `resolve_each` to refuse.
    out: list[Any] = [{_JSON_LABELS.get(k, k): v for k, v in r.items()} if isinstance(r, dict) else r for r in pack]
    return out
