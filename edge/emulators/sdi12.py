"""SDI-12 probes on one wire, behind an adapter that makes the break and the levels.

Source: SDI-12 Support Group, SDI-12 version 1.4, sections 4.4 (commands, service request, pages of data) and 4.4.12 (CRC).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.clock import Clock
from edge.emulators.family import Bench, Family, Member
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import AskedDevice, Truth

_BEGUN = re.compile(rb"[?0-9A-Za-z][!-~]*")
_COMMAND = re.compile(rb"(\?|[0-9A-Za-z])([!-~]*?)!")
_MEASURE = re.compile(r"(M|C|V)(C?)([1-9]?)")
_CONTINUOUS = re.compile(r"R(C?)([0-9])")
_MEASURED_CHARACTERS, _OTHER_CHARACTERS = 35, 75
_IDENTITY = "14MAILLAGEEMUL01001"
_LONGEST = 32
_DIGITS = 7


@dataclass(slots=True)
class Sdi12Probe:
    """Measures its `quantities` (name, factor, offset as in the configuration), in their order.

    It announces `announced_s` for a measurement and is ready, real seconds, after `ready_s`; 0 and 0: at once. A page of data has at
    most `page_characters`.
    """

    address: str
    sensor: str
    truth: Truth
    quantities: Sequence[Mapping[str, Any]] = ()
    announced_s: int = 1
    ready_s: float = 0.1
    decimals: int = 3
    page_characters: int | None = None
    silent: bool = False
    pages: list[str] = field(default_factory=list, init=False)
    said: dict[str, float] = field(default_factory=dict, init=False)
    crc: bool = field(default=False, init=False)
    ready_at: float = field(default=0.0, init=False)
    request_at: float | None = field(default=None, init=False)
    """When the service request is due."""

    def forget(self) -> None:
        self.pages.clear()
        self.request_at = None

    def measure(self, wall_s: float, characters: int) -> int:
        """Fill the pages with what is there now; returns the number of values."""
        truth = self.truth(wall_s)
        named = self.quantities or [{"name": name} for name in truth]
        self.pages = [""]
        self.said = {}
        for one in named:
            factor, offset = one.get("factor", 1), one.get("offset", 0)
            raw = (truth.get(one["name"], 0.0) - offset) / factor
            text = f"{raw:+.{max(0, min(self.decimals, _DIGITS - len(str(int(abs(raw))))))}f}"
            self.said[one["name"]] = float(f"{float(text) * factor + offset:.10g}")
            if self.pages[-1] and len(self.pages[-1]) + len(text) > (self.page_characters or characters):
                self.pages.append("")
            self.pages[-1] += text
        return len(named)


class Sdi12Bus(AskedDevice):
    """Several probes; with `echo` the adapter returns what is sent."""

    def __init__(
        self, path: Path, probes: Sequence[Sdi12Probe], *, clock: Clock, log: DeviceLog, echo: bool = True
    ) -> None:
        super().__init__(path, clock=clock, log=log)
        self.probes = list(probes)
        self.echo = echo

    def restart(self) -> None:
        super().restart()
        for probe in self.probes:
            probe.forget()

    def tick(self) -> float | None:
        """Send the service requests that are due."""
        waits = []
        for probe in self.probes:
            if probe.request_at is None:
                continue
            if probe.request_at <= self._real():
                probe.request_at = None
                self._say(probe, "", crc=False)
            else:
                waits.append(probe.request_at - self._real())
        return min(waits, default=None)

    def question(self, data: bytes) -> int:
        found = _COMMAND.match(data)
        if found:
            return found.end()
        return 0 if len(data) < _LONGEST and _BEGUN.fullmatch(data) else -1

    def answer(self, question: bytes) -> None:
        if self.echo:
            self._put(question)
        address, body = chr(question[0]), question[1:-1].decode("ascii")
        for probe in self.probes:
            if address in ("?", probe.address) and not probe.silent:
                probe.request_at = None  # a command ends a measurement that no other may disturb
                self._answer(probe, body)

    def _answer(self, probe: Sdi12Probe, body: str) -> None:
        if body == "":
            self._say(probe, "", crc=False)
        elif body == "I":
            self._say(probe, _IDENTITY, crc=False)
        elif change := re.fullmatch("A([0-9A-Za-z])", body):
            probe.address = change[1]
            self._say(probe, "", crc=False)
        elif start := _MEASURE.fullmatch(body):
            self._start(probe, *start.groups())
        elif data := re.fullmatch("D([0-9])", body):
            self._data(probe, int(data[1]))
        elif now := _CONTINUOUS.fullmatch(body):
            probe.measure(self.clock.wall(), _OTHER_CHARACTERS)
            self._say(probe, probe.pages[0], crc=bool(now[1]), said=probe.said)

    def _start(self, probe: Sdi12Probe, kind: str, crc: str, index: str) -> None:
        del index  # the additional measurements are of the same
        probe.crc = bool(crc)
        if kind == "V":
            probe.pages, probe.said, count, after, announced = ["+0"], {}, 1, 0.0, 0
        else:
            count = probe.measure(self.clock.wall(), _MEASURED_CHARACTERS if kind == "M" else _OTHER_CHARACTERS)
            after, announced = probe.ready_s, probe.announced_s
        probe.ready_at = self._real() + after
        self._say(probe, f"{announced:03}{count:02}" if kind == "C" else f"{announced:03}{count}", crc=False)
        if kind == "M" and announced:
            probe.request_at = probe.ready_at

    def _data(self, probe: Sdi12Probe, page: int) -> None:
        if self._real() < probe.ready_at:
            probe.forget()
        text = probe.pages[page] if page < len(probe.pages) else ""
        last = page + 1 == len(probe.pages)
        self._say(probe, text, crc=probe.crc and bool(text), said=probe.said if last else {})

    def _say(self, probe: Sdi12Probe, text: str, *, crc: bool, said: Mapping[str, float] | None = None) -> None:
        line = (probe.address + text).encode("ascii")
        self.send(line + (crc16(line) if crc else b"") + b"\r\n", probe.sensor, dict(said or {}))


def crc16(data: bytes) -> bytes:
    """Polynomial A001 from 0, as three printable characters of six bits each, the first of four."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return bytes(0x40 | part for part in (crc >> 12, crc >> 6 & 0x3F, crc & 0x3F))


def _probe(member: Member) -> Sdi12Probe:
    options = member.options
    return Sdi12Probe(str(options.get("address", "0")), member.sensor, member.truth, options.get("quantities", ()))


def _make(bench: Bench) -> Sdi12Bus:
    return Sdi12Bus(bench.path, [_probe(m) for m in bench.members], clock=bench.clock, log=bench.log)


FAMILIES = (
    Family(
        name="sdi12",
        title="SDI-12 probes, several on one wire",
        true={"water_level": 1.234, "water_temperature": -0.5},
        make=_make,
        options={
            "measure": "MC",
            "ready_within_s": 2,
            "quantities": [{"name": "water_level"}, {"name": "water_temperature"}],
        },
        variants=({}, {"measure": "CC"}, {"measure": "RC0"}, {"address": "b"}),
        address="address",
    ),
)
