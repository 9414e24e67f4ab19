"""Reyax RYLR998 LoRa modem; its nodes send their payloads as hexadecimal text.

Sources: REYAX, "LoRa AT Command Guide" for RYLR998/RYLR498 (commands, `+RCV`, `+ERR` numbers), and for RYLR896/RYLR406.
"""

from collections.abc import Sequence
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.lora import LineModem, LoraNode, family

__all__ = ["LoraNode", "Rylr896", "Rylr998"]

_UNKNOWN_COMMAND, _NOT_AT, _BAD_LENGTH = 4, 2, 5


class Rylr998(LineModem):
    """`settings` are in its flash.

    `peers` are the modems in reach of it: what it sends, each of them hears that is awake, has the same channel and network, and
    is addressed. `transmitted` keeps what was sent.
    """

    version = "RYLR998_REYAX_V1.2.2"
    factory = (
        ("MODE", "0"),
        ("IPR", "115200"),
        ("BAND", "915000000"),
        ("PARAMETER", "9,7,1,12"),
        ("ADDRESS", "0"),
        ("NETWORKID", "18"),
        ("CPIN", "No Password!"),
        ("CRFOP", "22"),
    )

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, nodes, clock=clock, log=log)
        self.settings = dict(self.factory)
        self.transmitted: list[str] = []
        self.peers: list[Rylr998] = []

    def frame(self, node: LoraNode, payload: bytes) -> bytes:
        text = payload.hex().upper().encode()
        return b"+RCV=%d,%d,%s,%d,%d\r\n" % (node.address, len(text), text, node.rssi, node.snr)

    def overhear(self, sender: dict[str, str], address: str, text: str) -> None:
        """A packet is on the air: received when it is on this modem's channel and for its address, or for all."""
        same = all(sender[name] == self.settings[name] for name in ("BAND", "PARAMETER", "NETWORKID"))
        if same and self.settings["MODE"] == "0" and address in ("0", self.settings["ADDRESS"]):
            self.write(f"+RCV={sender['ADDRESS']},{len(text)},{text},-72,9\r\n".encode("latin-1"))

    def answer(self, line: str) -> Sequence[str]:
        return (self._answer(line),)

    def _answer(self, line: str) -> str:
        if line == "AT":
            return "+OK"
        if not line.startswith("AT+"):
            return f"+ERR={_NOT_AT}"
        command = line.removeprefix("AT+")
        name, equals, value = command.partition("=")
        if command == "VER?":
            return f"+VER={self.version}"
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


class Rylr896(Rylr998):
    """The older sister: other limits and factory settings, the same lines."""

    version = "RYLR89C_V1.2.7"
    factory = (
        ("MODE", "0"),
        ("IPR", "115200"),
        ("BAND", "915000000"),
        ("PARAMETER", "12,7,1,4"),
        ("ADDRESS", "0"),
        ("NETWORKID", "0"),
        ("CPIN", "No Password!"),
        ("CRFOP", "15"),
    )


FAMILIES = (
    family("rylr998", "REYAX RYLR998 LoRa modem, and a node", Rylr998, addressed=True),
    family("rylr896", "REYAX RYLR896 LoRa modem, and a node", Rylr896, addressed=True),
)
