"""RAKwireless RAK3172, RUI3 firmware, point to point.

Source: RAKwireless, RUI3 AT Command Manual (commands, return codes, defaults; reception blocks settings and ends as AT+PRECV says).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.lora import LineModem, LoraNode, family

_P2P = re.compile(r"(\d{9}):([6-9]|1[0-2]):([0-9]):([0-3]):(\d{1,5}):([5-9]|1\d|2[0-2])")
_VERSION = "RUI_4.0.4_RAK3172-E"
_UNTIL_PACKET, _FOR_EVER, _FOR_EVER_AND_SEND = 65535, 65534, 65533


class Rak3172(LineModem):
    """`settings` are in its flash; `receiving`, the parameter of AT+PRECV, is not. A factory-new one is a LoRaWAN device."""

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, nodes, clock=clock, log=log)
        self.settings = {"NWM": "1", "P2P": "868000000:7:0:0:8:14", "SYNCWORD": "3444", "BAUD": "115200"}
        self.version = "RUI_4.0.4_RAK3172-E"
        self.receiving = 0
        self.transmitted: list[str] = []

    def frame(self, node: LoraNode, payload: bytes) -> bytes:
        if not self.receiving:
            return b""
        if self.receiving == _UNTIL_PACKET:
            self.receiving = 0
        return b"+EVT:RXP2P:%d:%d:%s\r\n" % (node.rssi, node.snr, payload.hex().upper().encode())

    def restart(self) -> None:
        """It comes back deaf, and says its banner."""
        self.receiving = 0
        self.write(b"".join(line.encode() + b"\r\n" for line in self._banner()))

    def end_reception(self) -> None:
        """The time to receive is over."""
        self.receiving = 0
        self.write(b"+EVT:RXP2P RECEIVE TIMEOUT\r\n")

    def _banner(self) -> Sequence[str]:
        mode = "LoRa P2P" if self.settings["NWM"] == "0" else "LoRaWAN"
        return ("RAKwireless RAK3172-E", "-" * 54, f"Version: {self.version}", f"Current Work Mode: {mode}.")

    def answer(self, line: str) -> Sequence[str]:
        if line == "AT":
            return ("", "OK")
        if line == "ATZ":
            self.receiving = 0
            return self._banner()
        if not line.startswith("AT+"):
            return ("", "AT_COMMAND_NOT_FOUND")
        name, _, value = line.removeprefix("AT+").partition("=")
        if name == "VER" and value == "?":
            return (f"AT+VER={_VERSION}", "", "OK")
        if name in ("P2P", "SYNCWORD", "PRECV", "PSEND") and self.settings["NWM"] != "0":
            return ("", "AT_MODE_NO_SUPPORT")
        if name == "PRECV":
            return ("", self._receive(value))
        if name == "PSEND":
            return self._send(value)
        if (name, value) == ("VER", "?"):
            return (f"AT+VER={self.version}", "", "OK")
        if name not in self.settings:
            return ("", "AT_COMMAND_NOT_FOUND")
        if value == "?":
            busy = name == "P2P" and self.receiving
            return ("", "AT_BUSY_ERROR") if busy else (f"AT+{name}={self.settings[name]}", "", "OK")
        return self._write(name, value)

    def _write(self, name: str, value: str) -> Sequence[str]:
        if name == "NWM":
            if value not in ("0", "1"):
                return ("", "AT_PARAM_ERROR")
            changed = self.settings["NWM"] != value
            self.settings["NWM"] = value
            self.receiving = 0 if changed else self.receiving
            return self._banner() if changed else ("", "OK")
        if self.receiving:
            return ("", "AT_BUSY_ERROR")
        if (name == "P2P" and not _P2P.fullmatch(value)) or (
            name == "SYNCWORD" and not re.fullmatch("[0-9A-F]{4}", value)
        ):
            return ("", "AT_PARAM_ERROR")
        self.settings[name] = value
        return ("", "OK")

    def _receive(self, value: str) -> str:
        if not value.isdecimal() or int(value) > _UNTIL_PACKET:
            return "AT_PARAM_ERROR"
        if self.receiving and int(value):
            return "AT_BUSY_ERROR"
        self.receiving = int(value)
        return "OK"

    def _send(self, value: str) -> Sequence[str]:
        if self.receiving not in (0, _FOR_EVER_AND_SEND):
            return ("", "AT_BUSY_ERROR")
        if not re.fullmatch("(?:[0-9A-Fa-f]{2})+", value):
            return ("", "AT_PARAM_ERROR")
        self.transmitted.append(value)
        return ("", "OK", "+EVT:TXP2P DONE")


FAMILIES = (family("rak3172", "RAKwireless RAK3172 LoRa modem (RUI3), and a node", Rak3172),)
