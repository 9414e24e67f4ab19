"""Reyax RYLR998 LoRa modem and the battery nodes that it hears, which send Cayenne LPP as hexadecimal text.

Sources: REYAX, "LoRa AT Command Guide" for RYLR998/RYLR498 (commands, `+RCV`, `+ERR` numbers); myDevices, "Cayenne LPP"
(types and resolutions); distance 130 as in the LPP libraries of The Things Stack and ElectronicCats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.clock import Clock
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
_UNKNOWN_COMMAND, _NOT_AT, _BAD_LENGTH = 4, 2, 5
_MAX_LINE = 512


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


class Rylr998(SensorDevice):
    """A modem on the port of a gateway or of a node. `settings` survive an unplug, as they do in its flash.

    `peers` are the modems in reach of it: what it sends, each of them hears that is awake, has the same channel and network, and
    is addressed. `transmitted` keeps what was sent.
    """

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, clock, log, interval_s=0)
        self.nodes = list(nodes)
        self.settings = {
            "MODE": "0",
            "IPR": "115200",
            "BAND": "915000000",
            "PARAMETER": "9,7,1,12",
            "ADDRESS": "0",
            "NETWORKID": "18",
            "CPIN": "No Password!",
            "CRFOP": "22",
        }
        self.transmitted: list[str] = []
        self.peers: list[Rylr998] = []
        self._input = bytearray()

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
        """A packet of `node` arrives now."""
        payload = b""
        said: dict[str, float] = {}
        for quantity, value in node.values(self.clock.wall()).items():
            channel, kind = node.channels[quantity]
            size, steps, signed = _LPP[kind]
            raw = round(value * steps)
            payload += bytes((channel, kind)) + raw.to_bytes(size, signed=signed)
            said[quantity] = raw / steps
        text = payload.hex().upper().encode()
        self.send(b"+RCV=%d,%d,%s,%d,%d\r\n" % (node.address, len(text), text, node.rssi, node.snr), node.sensor, said)

    def overhear(self, sender: dict[str, str], address: str, text: str) -> None:
        """A packet is on the air: received when it is on this modem's channel and for its address, or for all."""
        same = all(sender[name] == self.settings[name] for name in ("BAND", "PARAMETER", "NETWORKID"))
        if same and self.settings["MODE"] == "0" and address in ("0", self.settings["ADDRESS"]):
            self.write(f"+RCV={sender['ADDRESS']},{len(text)},{text},-72,9\r\n".encode("latin-1"))

    def received(self, data: bytes) -> None:
        self._input += data
        while (end := self._input.find(b"\r\n")) >= 0:
            line = self._input[:end].decode("latin-1")
            del self._input[: end + 2]
            self.write(self._answer(line).encode("latin-1") + b"\r\n")
        del self._input[:-_MAX_LINE]

    def _answer(self, line: str) -> str:
        if line == "AT":
            return "+OK"
        if not line.startswith("AT+"):
            return f"+ERR={_NOT_AT}"
        command = line.removeprefix("AT+")
        name, equals, value = command.partition("=")
        if command == "VER?":
            return "+VER=RYLR998_REYAX_V1.2.2"
        if command.endswith("?") and command[:-1] in self.settings:
            return f"+{command[:-1]}={self.settings[command[:-1]]}"
        if name == "SEND" and equals:
            _, _, rest = value.partition(",")
            length, _, text = rest.partition(",")
            if length != str(len(text)):
                return f"+ERR={_BAD_LENGTH}"
            self.transmitted.append(value)
            for peer in self.peers:
                peer.overhear(self.settings, value.partition(",")[0], text)
            return "+OK"
        if name in self.settings and equals:
            self.settings[name] = value
            return f"+IPR={value}" if name == "IPR" else "+OK"
        return f"+ERR={_UNKNOWN_COMMAND}"
