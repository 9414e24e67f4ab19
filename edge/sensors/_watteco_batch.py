"""Watteco's compressed batches: several samples of several quantities in one payload, each with its age. Pure.

A batch is a string of bits: a head (how many series, whether they share their moments), the first sample of each series, then
the differences from sample to sample, Huffman coded: the code says how many bits of difference follow. What a label stands
for, and how long labels are, the device's table says.

Source: Watteco support, "Batch" (bits, Huffman tables); actility/device-catalog: vendors/watteco/drivers (the manufacturer's),
against whose examples this was held.
"""

import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

from edge.sensors.base import FrameError

Kind = Literal["bit", "u16", "i16", "u32", "f32"]
_BITS: dict[Kind, int] = {"bit": 1, "u16": 16, "i16": 16, "u32": 32, "f32": 32}
_TAIL = tuple((11, 0b10000000000 + code) for code in range(2, 8))
_CODES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((2, 0), (2, 1), (2, 3), (3, 5), (4, 9), (5, 17), (6, 33), (7, 65), (8, 129), (10, 512), *_TAIL),
    (
        (7, 111), (5, 26), (4, 12), (3, 3), (3, 7), (2, 2), (2, 0), (3, 2), (6, 54), (9, 443), (9, 441), (10, 885),
        (10, 884), (10, 880), (11, 1763), (11, 1762),
    ),
    ((4, 9), (3, 5), (2, 0), (2, 1), (2, 3), (5, 17), (6, 33), (7, 65), (8, 129), (10, 512), *_TAIL),
)  # fmt: skip
"""Three tables of (bits, code), the n-th for a difference of n bits; the last for a value that is given whole."""
_WHOLE = 15
_MOMENTS = 1
"""The table in which moments before and after the series are coded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What a label of a device stands for; a difference is in steps of `step`, a value in 1 / `divisor`."""

    name: str
    unit: str
    kind: Kind
    step: float = 1
    divisor: float = 1


@dataclass(frozen=True, slots=True)
class Sample:
    series: Series
    value: float
    age_s: int


class _Bits:
    """Parts of a byte come first byte first, the bits of each lowest first; codes as they come."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bit(self) -> int:
        if self._at >= 8 * len(self._data):
            raise FrameError("length", f"{len(self._data)} bytes end within a batch")
        self._at += 1
        return self._data[(self._at - 1) >> 3] >> ((self._at - 1) & 7) & 1

    def end(self) -> None:
        """Raises FrameError `length` when more is left than fills the last byte."""
        if len(self._data) - (self._at + 7 >> 3):
            raise FrameError("length", f"{len(self._data)} bytes, expected {self._at + 7 >> 3} in this batch")

    def number(self, bits: int) -> int:
        """The first, perhaps incomplete, byte is the highest."""
        found = 0
        while bits:
            part = bits % 8 or 8
            found = found << 8 | sum(self.bit() << place for place in range(part))
            bits -= part
        return found

    def value(self, kind: Kind) -> float:
        raw = self.number(_BITS[kind])
        if kind == "f32":
            return float(struct.unpack(">f", raw.to_bytes(4, "big"))[0])
        return raw - 0x10000 if kind == "i16" and raw & 0x8000 else raw

    def code(self, table: int) -> int:
        """How many bits of difference follow."""
        if table >= len(_CODES):
            raise FrameError("format", f"Huffman table {table} of a batch, expected 0 to {len(_CODES) - 1}")
        read = bits = 0
        while bits < 11:
            read, bits = read << 1 | self.bit(), bits + 1
            if (bits, read) in _CODES[table]:
                return _CODES[table].index((bits, read))
        raise FrameError("format", f"{read:011b} is no code of Huffman table {table}")

    def moment(self, table: int, before: int) -> int:
        """Seconds of the device; a first one is whole."""
        if not before:
            return self.number(32)
        size = self.code(table)
        if size == _WHOLE:
            return self.number(32)
        return before + (self.number(size) + (1 << size) - 1 if size else 0)

    def next(self, series: Series, coding: int, table: int, before: float) -> tuple[float, bool]:
        """The value behind `before`, and whether it was coded as the same. `coding`: 0 differences of both signs, 1 rising,
        else falling."""
        size = self.code(table)
        if size == _WHOLE:
            return self.value(series.kind), False
        if size == 0:
            return before, True
        read = self.number(size)
        if coding == 0:
            return before + (read if read >= 1 << (size - 1) else read + 1 - (1 << size)) * series.step, False
        return before + (read + (1 << size) - 1) * series.step * (1 if coding == 1 else -1), False


def samples(data: bytes, label_bits: int, table: Mapping[int, Series]) -> list[Sample]:
    """All samples of a batch, the oldest of each series first. Raises FrameError: `length`, `format`."""
    bits = _Bits(data)
    head = bits.number(8)
    shared, alone, count = head & 2, head & 4, head >> 4
    bits.number(4)  # the batch's own counter, and a spare bit
    found: dict[int, list[tuple[int, float]]] = {}
    coding: dict[int, tuple[int, int]] = {}
    last = 0

    def label(known: Container[int]) -> int:
        number = bits.number(label_bits)
        if number not in known:
            raise FrameError("format", f"label {number} in a batch, expected another")
        return number

    for _ in range(count):
        one = label(table)
        last = bits.moment(_MOMENTS, last)
        found[one] = [(last, bits.value(table[one].kind))]
        coding[one] = (0, 0) if alone else (bits.number(2), bits.number(2))
    if not found:
        raise FrameError("format", "a batch of no series")
    if alone:
        pass
    elif shared:
        moments: list[int] = []
        more, coded = bits.number(8), bits.number(2)
        for nth in range(more):
            moments.append(
                bits.moment(coded, moments[-1]) if nth else _first(bits, coded, next(iter(found.values()))[0][0])
            )
        for _ in range(count):
            one = label(found)
            known = False
            for at in moments:
                if not bits.bit():
                    continue
                value, same = bits.next(table[one], *coding[one], found[one][-1][1])
                if same and not known:
                    known = True  # the first sample, which stands in front
                else:
                    found[one].append((at, value))
        last = moments[-1] if moments else 0
    else:
        for _ in range(count):
            one = label(found)
            if more := bits.number(8):
                coded = bits.number(2)
                for _ in range(more):
                    at, value = found[one][-1]
                    at = bits.moment(coded, at)
                    found[one].append((at, bits.next(table[one], *coding[one], value)[0]))
                    last = max(last, at)
    now = bits.moment(_MOMENTS, last)
    bits.end()
    return [
        Sample(table[one], value / table[one].divisor, now - at)
        for one, series in found.items()
        for at, value in series
    ]


def _first(bits: _Bits, table: int, before: int) -> int:
    """The first shared moment: that of the first sample, unless it is given whole."""
    return bits.number(32) if bits.code(table) == _WHOLE else before
