"""Microchip RN2483, point to point.

Source: Microchip, RN2483 LoRa Technology Module Command Reference, DS40001784G (commands, answers, defaults). That it answers
`busy` while the LoRaWAN stack is not paused is from public code, not from the reference.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.lora import LineModem, LoraNode, family

_DEFAULTS = {
    "mod": "lora",
    "freq": "868100000",
    "pwr": "1",
    "sf": "sf12",
    "bw": "125",
    "cr": "4/5",
    "prlen": "8",
    "crc": "on",
    "iqi": "off",
    "sync": "34",
    "wdt": "15000",
}
_ALLOWED = {
    "mod": "lora|fsk",
    "freq": r"433\d{6}|86[3-9]\d{6}",
    "pwr": r"-[1-3]|\d|1[0-5]",
    "sf": r"sf([7-9]|1[0-2])",
    "bw": "125|250|500",
    "cr": "4/[5-8]",
    "prlen": r"\d{1,5}",
    "crc": "on|off",
    "iqi": "on|off",
    "sync": "[0-9A-Fa-f]{2}",
    "wdt": r"\d{1,10}",
}


class Rn2483(LineModem):
    """`settings` and all else is lost when it restarts. `old`: firmware before 1.0.5, without `radio rxstop` and `radio get rssi`."""

    old = False

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, nodes, clock=clock, log=log)
        self.settings: dict[str, str] = {}
        self.restarts = 0
        self.transmitted: list[str] = []
        self._power_up()

    def _power_up(self) -> None:
        self.settings = dict(_DEFAULTS)
        self.paused = False
        self.receiving = False
        self._last = (-128, 0)

    def frame(self, node: LoraNode, payload: bytes) -> bytes:
        if not self.receiving:
            return b""
        self.receiving = False
        self._last = (node.rssi, node.snr)
        return b"radio_rx  %s\r\n" % payload.hex().upper().encode()

    def restart(self) -> None:
        """It loses its power for a moment: factory settings, deaf, and its banner."""
        self.write("".join(f"{line}\r\n" for line in self.answer("sys reset")).encode())

    def end_reception(self) -> None:
        """The watchdog, or a packet with a CRC error."""
        self.receiving = False
        self.write(b"radio_err\r\n")

    def answer(self, line: str) -> Sequence[str]:
        match line.split(" "):
            case ["sys", "reset"]:
                self.restarts += 1
                self._power_up()
                return (self._version(),)
            case ["sys", "get", "ver"]:
                return (self._version(),)
            case ["mac", "pause"]:
                self.paused = True
                return ("4294967245",)
            case ["radio", "get", "snr"]:
                return (str(self._last[1]),)
            case ["radio", "get", "rssi"] if not self.old:
                return (str(self._last[0]),)
            case ["radio", "get", name] if name in self.settings:
                return (self.settings[name],)
            case ["radio", "set", name, value] if re.fullmatch(_ALLOWED.get(name, "$."), value):
                self.settings[name] = value
                return ("ok",)
            case ["radio", "rxstop"] if not self.old:
                self.receiving = False
                return ("ok",)
            case ["radio", "rx", window] if window.isdecimal():
                if not self.paused or self.receiving:
                    return ("busy",)
                self.receiving = True
                return ("ok",)
            case ["radio", "tx", digits] if re.fullmatch("(?:[0-9A-Fa-f]{2})+", digits):
                if not self.paused or self.receiving:
                    return ("busy",)
                self.transmitted.append(digits)
                return ("ok", "radio_tx_ok")
            case _:
                return ("invalid_param",)

    def _version(self) -> str:
        return "RN2483 1.0.3 Mar 22 2017 06:00:42" if self.old else "RN2483 1.0.5 Oct 31 2018 15:06:52"


FAMILIES = (family("rn2483", "Microchip RN2483 LoRa modem, and a node", Rn2483),)
