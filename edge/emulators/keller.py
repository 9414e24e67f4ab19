"""KELLER Series 30 pressure probes, by Modbus RTU or by the KELLER bus.

Source: KELLER, Description of the communication protocol for Series 30 and Series 40 pressure transmitters, chapters 4.9 (registers),
5 (functions, exceptions, status).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.clock import Clock
from edge.emulators.family import Family, Member
from edge.emulators.log import DeviceLog
from edge.emulators.rs485 import HOLDING, Image, Rs485Line, crc16, word
from edge.emulators.sensor import AskedDevice, Truth

_CHANNELS = ("CH0", "P1", "P2", "T", "TOB1", "TOB2")
_OTHER_ORDER = ("P1", "TOB1", "P2", "TOB2", "P1", "T")
_SAID = {"P1": ("water_pressure", 1000.0), "TOB1": ("water_temperature", 1.0)}

_REQUEST_BYTES = {30: 5, 32: 5, 48: 4, 66: 5, 69: 4, 73: 5, 74: 5, 95: 5}
_ANY = 250
_ILLEGAL, _NOT_INITIALISED = 2, 32


def channels(truth: Mapping[str, float], options: Mapping[str, Any]) -> dict[str, float]:
    """The probe's channels in bar and Cel, for a true `water_level`. Without a vent tube P1 and P2 carry the air's pressure."""
    water = truth["water_level"] * options.get("density_kg_m3", 1000.0) * options.get("gravity_m_s2", 9.81) / 100_000
    air = 0.0 if options.get("compensation", "none") == "vent" else truth.get("air_pressure", 1013.25) / 1000
    temperature = truth.get("water_temperature", 11.5)
    return {
        "CH0": water,
        "P1": water + air,
        "P2": air,
        "T": temperature,
        "TOB1": temperature,
        "TOB2": temperature,
    }


@dataclass(slots=True)
class KellerServer:
    """A probe on a Modbus line."""

    address: int
    sensor: str
    truth: Truth
    options: Mapping[str, Any]
    silent: bool = False
    address_register: int | None = None
    any_address: int | None = None
    settings: dict[int, int] = field(default_factory=dict)

    def image(self, wall_s: float, warm: bool) -> Image:
        del warm
        found = channels(self.truth(wall_s), self.options)
        image = Image()
        for first, order in ((0x0000, _CHANNELS), (0x0100, _OTHER_ORDER)):
            for index, name in enumerate(order):
                _put(image, first + 2 * index, name, found[name], struct.pack(">f", found[name]))
        for index, name in enumerate(_CHANNELS):
            value = found[name]
            steps = 100 if name.startswith("T") else 100_000
            _put(image, 0x0010 + index, name, value, word(value * 100))
            _put(image, 0x0020 + 2 * index, name, value, _int32(value * steps))
        return image


def _put(image: Image, register: int, name: str, value: float, data: bytes) -> None:
    quantity, factor = _SAID.get(name, ("", 1.0))
    image.put(HOLDING, register, data, quantity, value * factor)


def _int32(value: float) -> bytes:
    """What does not fit stands at its end, as the probe says it."""
    return min(max(round(value), -(1 << 31)), (1 << 31) - 1).to_bytes(4, signed=True)


@dataclass(slots=True)
class KellerProbe:
    """A probe on a KELLER bus: until it is `initialised` it refuses everything else. `status` are the bits of its channels' faults."""

    address: int
    sensor: str
    truth: Truth
    options: Mapping[str, Any] = field(default_factory=dict)
    silent: bool = False
    initialised: bool = False
    status: int = 0


class KellerBus(AskedDevice):
    """Several probes on two wires: with `echo` the adapter returns what is sent."""

    def __init__(
        self, path: Path, probes: Sequence[KellerProbe], *, clock: Clock, log: DeviceLog, echo: bool = True
    ) -> None:
        super().__init__(path, clock=clock, log=log)
        self.probes = list(probes)
        self.echo = echo

    def restart(self) -> None:
        super().restart()
        for probe in self.probes:
            probe.initialised = False

    def question(self, data: bytes) -> int:
        if len(data) < 2:
            return 0
        size = _REQUEST_BYTES.get(data[1])
        if size is None:
            return -1
        if len(data) < size:
            return 0
        return size if _sealed(data[: size - 2]) == data[:size] else -1

    def answer(self, question: bytes) -> None:
        if self.echo:
            self._put(question)
        for probe in self.probes:
            if question[0] in (probe.address, _ANY) and not probe.silent:
                self._answer(probe, question)

    def _answer(self, probe: KellerProbe, question: bytes) -> None:
        address, function, data = question[0], question[1], question[2:-2]
        said: dict[str, float] = {}
        if function == 48:
            body = bytes((5, 20, 12, 28, 13, int(probe.initialised)))
            probe.initialised = True
        elif not probe.initialised:
            self.write(_sealed(bytes((address, function | 0x80, _NOT_INITIALISED))))
            return
        elif function in (73, 74) and data[0] < len(_CHANNELS):
            name = _CHANNELS[data[0]]
            value = channels(probe.truth(self.clock.wall()), probe.options)[name]
            steps = 100 if name.startswith("T") else 100_000
            body = struct.pack(">f", value) if function == 73 else _int32(value * steps)
            body += bytes((probe.status,))
            if name in _SAID:
                quantity, factor = _SAID[name]
                said = {quantity: value * factor}
        elif function == 69:
            body = (123_456 + probe.address).to_bytes(4)
        elif function == 66:
            probe.address = data[0] or probe.address
            body = bytes((probe.address,))
        elif function == 30 and data[0] in (80, 81):
            body = struct.pack(">f", 0.0 if data[0] == 80 else 3.0)
        else:
            self.write(_sealed(bytes((address, function | 0x80, _ILLEGAL))))
            return
        self.send(_sealed(bytes((address, function)) + body), probe.sensor, said)


def _sealed(body: bytes) -> bytes:
    """The CRC of Modbus, but high byte first."""
    return body + crc16(body).to_bytes(2)


def _server(member: Member) -> KellerServer:
    return KellerServer(member.options.get("unit", 1), member.sensor, member.truth, member.options)


def _probe(member: Member) -> KellerProbe:
    return KellerProbe(member.options.get("address", _ANY), member.sensor, member.truth, member.options)


FAMILIES = (
    Family(
        name="keller_modbus",
        title="KELLER Series 30 pressure probes (Modbus RTU)",
        true={"water_level": 1.234, "water_temperature": 11.5},
        make=lambda b: Rs485Line(b.path, [_server(m) for m in b.members], clock=b.clock, log=b.log),
        options={"compensation": "vent"},
        variants=(
            {},
            {"register": "P1", "block": "int32"},
            {"register": "P1+P2", "compensation": "p2"},
            {"register": "CH0", "compensation": "ch0"},
        ),
        address="unit",
    ),
    Family(
        name="keller_bus",
        title="KELLER Series 30 pressure probes (KELLER bus)",
        true={"water_level": 1.234},
        make=lambda b: KellerBus(b.path, [_probe(m) for m in b.members], clock=b.clock, log=b.log),
        options={"compensation": "vent"},
        variants=({}, {"channel": "CH0", "compensation": "ch0"}),
        address="address",
    ),
)
