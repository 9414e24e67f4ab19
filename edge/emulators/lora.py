"""What the emulated LoRa modems share: the battery nodes that they hear, which send Cayenne LPP.

Source: myDevices, "Cayenne LPP" (types and resolutions); distance 130 as in the LPP libraries of The Things Stack and ElectronicCats.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.clock import Clock
from edge.emulators.family import Bench, Family, Word, toml
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import SensorDevice, next_due

# LPP type: bytes, steps a unit, signed
_LPP = {
    0x02: (2, 100, True),  # analog input
    0x67: (2, 10, True),  # temperature, Cel
    0x68: (1, 2, False),  # relative humidity, %
    0x73: (2, 10, False),  # barometric pressure, hPa
    0x74: (2, 100, False),  # voltage, V
    0x82: (4, 1000, False),  # distance, m
}
_MAX_LINE = 600


@dataclass(slots=True)
class LoraNode:
    """One node: every `interval_s` real seconds it sends `values(wall_s)`, keyed by quantity, as `channels` maps them to
    (LPP channel, LPP type)."""

    address: int
    sensor: str
    channels: dict[str, tuple[int, int]]
    values: Callable[[float], dict[str, float]]
    interval_s: float = 60.0
    rssi: int = -72
    snr: int = 9
    due: float = field(default=float("-inf"), repr=False)

    def packet(self, wall_s: float) -> tuple[bytes, dict[str, float]]:
        """The payload, and the values that it says."""
        payload = b""
        said: dict[str, float] = {}
        for quantity, value in self.values(wall_s).items():
            channel, kind = self.channels[quantity]
            size, steps, signed = _LPP[kind]
            raw = round(value * steps)
            payload += bytes((channel, kind)) + raw.to_bytes(size, signed=signed)
            said[quantity] = raw / steps
        return payload, said


class LoraModem(SensorDevice):
    """A modem on the gateway's port. What it has in flash survives an unplug and a restart."""

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, clock, log, interval_s=0)
        self.nodes = list(nodes)

    def tick(self) -> float | None:
        for node in self.nodes:
            now = self._real()
            if node.due <= now:
                node.due = next_due(node.due, node.interval_s, now)
                self.hear(node)
        if not self.nodes:
            return None
        return max(0.0, min(node.due for node in self.nodes) - self._real())

    def hear(self, node: LoraNode) -> None:
        """A packet of `node` arrives now. A modem that does not listen passes nothing on."""
        payload, said = node.packet(self.clock.wall())
        frame = self.frame(node, payload)
        if frame:
            self.send(frame, node.sensor, said)

    @abstractmethod
    def frame(self, node: LoraNode, payload: bytes) -> bytes:
        """What the modem says of a packet, nothing when it does not hear it."""


class LineModem(LoraModem):
    """A modem that takes commands in lines."""

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, nodes, clock=clock, log=log)
        self._input = bytearray()

    def received(self, data: bytes) -> None:
        self._input += data
        while (end := self._input.find(b"\r\n")) >= 0:
            line = self._input[:end].decode("latin-1")
            del self._input[: end + 2]
            for answer in self.answer(line):
                self.write(answer.encode("latin-1") + b"\r\n")
        del self._input[:-_MAX_LINE]

    @abstractmethod
    def answer(self, line: str) -> Sequence[str]:
        """The lines that a command is answered with."""


_CHANNELS = {"water_distance": (1, 0x82), "battery_voltage": (2, 0x74)}
_ADDRESS, _PERIOD_S, _MOUNTING_HEIGHT_M = 12, 30.0, 4.0


def family(
    name: str, title: str, modem: type[LoraModem], *, addressed: bool = False, words: Mapping[str, Word] | None = None
) -> Family:
    """A modem in reach of one node, which says distance and battery as often as SF9 lets it; `addressed`: packets name it."""

    def make(bench: Bench) -> LoraModem:
        member = bench.only

        def values(wall_s: float) -> dict[str, float]:
            truth = member.truth(wall_s)
            return {quantity: truth[quantity] for quantity in _CHANNELS}

        interval_s = _PERIOD_S if bench.interval_s is None else bench.interval_s
        node = LoraNode(_ADDRESS, member.sensor, _CHANNELS, values, interval_s=interval_s)
        return modem(bench.path, [node], clock=bench.clock, log=bench.log)

    def written(sensor: str, path: Path, _: Mapping[str, Any]) -> str:
        channels = {str(channel): quantity for quantity, (channel, _) in _CHANNELS.items()}
        lines = [
            "[[modem]]",
            f"name = {toml(sensor)}",
            f"driver = {toml(name)}",
            f"port = {toml(str(path))}",
            f"settings = {toml(f'{name}-eu868')}",
            "",
            "[[station.sensor]]",
            f"id = {toml(sensor)}",
            'driver = "cayenne_lpp"',
            f"modem = {toml(sensor)}",
            *([f"address = {_ADDRESS}"] if addressed else []),
            f"period_s = {_PERIOD_S:g}",
            f"options = {toml({'channels': channels})}",
            f"level = {toml({'mounting_height_m': _MOUNTING_HEIGHT_M})}",
        ]
        return "\n".join(lines) + "\n"

    return Family(
        name=name,
        title=title,
        true={"water_distance": 2.5, "battery_voltage": 3.6},
        make=make,
        mounting_height_m=_MOUNTING_HEIGHT_M,
        kind="modem",
        written=written,
        words=words or {},
    )
