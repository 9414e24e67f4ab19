"""Sensirion SPS30 dust sensor on a UART: SHDLC frames, and the states of its measurement.

Source: Sensirion, SPS30 data sheet 1.0 (March 2020), sections 4 and 5.
"""

import struct
from collections import deque
from enum import IntEnum

from edge.emulators.family import Bench, Family
from edge.emulators.sensor import AskedDevice

_FLAG = 0x7E
_STUFFED = {0x7E: b"\x7d\x5e", 0x7D: b"\x7d\x5d", 0x11: b"\x7d\x31", 0x13: b"\x7d\x33"}


class _Command(IntEnum):
    START = 0x00
    STOP = 0x01
    READ = 0x03
    SLEEP = 0x10
    WAKE = 0x11
    CLEAN = 0x56
    INTERVAL = 0x80
    INFO = 0xD0
    VERSION = 0xD1
    STATUS = 0xD2
    RESET = 0xD3


_WRONG_LENGTH, _UNKNOWN, _WRONG_PARAMETER, _NOT_NOW = 0x01, 0x02, 0x04, 0x43
_LENGTHS: dict[int, int] = {
    _Command.START: 2,
    _Command.STOP: 0,
    _Command.READ: 0,
    _Command.SLEEP: 0,
    _Command.WAKE: 0,
    _Command.CLEAN: 0,
    _Command.INFO: 1,
    _Command.VERSION: 0,
    _Command.STATUS: 1,
    _Command.RESET: 0,
}
_ALLOWED: dict[int, str] = {
    _Command.START: "idle",
    _Command.STOP: "measuring",
    _Command.READ: "measuring",
    _Command.CLEAN: "measuring",
    _Command.SLEEP: "idle",
    _Command.WAKE: "asleep",
}
"""The state in which a command is accepted, and below the one that follows."""
_MOVES: dict[int, str] = {
    _Command.START: "measuring",
    _Command.STOP: "idle",
    _Command.SLEEP: "asleep",
    _Command.WAKE: "idle",
    _Command.RESET: "idle",
}
_FLOAT, _WORDS = 3, 5
_AWAKE_S = 0.1
"""How long a byte keeps the sleeping interface awake."""


class Sps30(AskedDevice):
    """Starts idle, as after power-on: nothing is measured until it is told. `states` are those that it went through."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.path, clock=bench.clock, log=bench.log, warm_up_s=bench.warm_up_s)
        self.member = bench.only
        self.state = "idle"
        self.states: deque[str] = deque(maxlen=100)
        self.cleaning_interval_s = 604_800
        self._new_every_s = 1.0 if bench.interval_s is None else bench.interval_s
        self._new_at = 0.0
        self._format = _FLOAT
        self._interface_until = float("-inf")

    def restart(self) -> None:
        super().restart()
        self.state = "idle"

    def question(self, data: bytes) -> int:
        if data[0] != _FLAG:
            self._interface_until = self._real() + _AWAKE_S
            return -1
        end = data.find(_FLAG, 1)
        if end < 0:
            return 0
        return end + 1 if end > 1 else -1

    def answer(self, question: bytes) -> None:
        body = _unstuffed(question[1:-1])
        if len(body) < 4 or ~sum(body[:-1]) & 0xFF != body[-1] or body[0] != 0 or body[2] != len(body) - 4:
            return
        command, data = body[1], body[3:-1]
        if self.state == "asleep" and not (command == _Command.WAKE and self._real() < self._interface_until):
            return
        if command not in _LENGTHS and command != _Command.INTERVAL:
            self._reply(command, _UNKNOWN)
        elif command in _LENGTHS and len(data) != _LENGTHS[command]:
            self._reply(command, _WRONG_LENGTH)
        elif command in _ALLOWED or command == _Command.RESET:
            self._act(command, data)
        else:
            self._tell(command, data)

    def _act(self, command: int, data: bytes) -> None:
        if self.state != _ALLOWED.get(command, self.state):
            self._reply(command, _NOT_NOW)
        elif command == _Command.START and (data[0] != 1 or data[1] not in (_FLOAT, _WORDS)):
            self._reply(command, _WRONG_PARAMETER)
        elif command == _Command.READ:
            self._values()
        else:
            if command == _Command.START:
                self._format = data[1]
                self._new_at = self._real()
            if command == _Command.RESET:
                self.restart()
            if command in _MOVES:
                self.state = _MOVES[command]
                self.states.append(self.state)
            self._reply(command, 0)

    def _values(self) -> None:
        if self._real() < self._new_at:
            self._reply(_Command.READ, 0)
            return
        self._new_at = self._real() + self._new_every_s
        truth = self.member.truth(self.clock.wall())
        masses = [truth[name] for name in ("pm1", "pm2_5", "pm4", "pm10")]
        numbers = [6.5 * masses[0], 7.6 * masses[0], 7.7 * masses[1], 7.75 * masses[2], 7.8 * masses[3]]
        values = [*masses, *numbers, 0.55] if self.warm else [0.0] * 10
        if self._format == _FLOAT:
            data = struct.pack(">10f", *values)
            said = dict(zip(("pm1", "pm2_5", "pm4", "pm10"), masses, strict=True))
        else:
            words = [*map(round, values[:9]), round(values[9] * 1000)]  # the size in nm
            data = struct.pack(">10H", *words)
            said = {n: float(w) for n, w in zip(("pm1", "pm2_5", "pm4", "pm10"), words, strict=False)}
        self.send(_framed(_Command.READ, 0, data), self.member.sensor, said if self.warm else {})

    def _tell(self, command: int, data: bytes) -> None:
        match command, data:
            case _Command.INTERVAL, b"\x00":
                self._reply(command, 0, self.cleaning_interval_s.to_bytes(4))
            case _Command.INTERVAL, _ if len(data) == 5:
                self.cleaning_interval_s = int.from_bytes(data[1:])
                self._reply(command, 0)
            case _Command.INFO, b"\x00":
                self._reply(command, 0, b"00080000\0")
            case _Command.INFO, b"\x03":
                self._reply(command, 0, b"EMULATED00000001\0")
            case _Command.VERSION, _:
                self._reply(command, 0, bytes((2, 2, 0, 7, 0, 2, 0)))
            case _Command.STATUS, _:
                self._reply(command, 0, bytes(5))
            case _:
                self._reply(command, _WRONG_PARAMETER)

    def _reply(self, command: int, state: int, data: bytes = b"") -> None:
        self.write(_framed(command, state, data))


def _framed(command: int, state: int, data: bytes) -> bytes:
    body = bytes((0, command, state, len(data))) + data
    body += bytes((~sum(body) & 0xFF,))
    return b"\x7e" + b"".join(_STUFFED.get(byte, bytes((byte,))) for byte in body) + b"\x7e"


def _unstuffed(data: bytes) -> bytes:
    body = bytearray()
    inverted = 0
    for byte in data:
        if byte == 0x7D:
            inverted = 0x20
        else:
            body.append(byte ^ inverted)
            inverted = 0
    return bytes(body)


FAMILIES = (
    Family(
        name="sps30",
        title="Sensirion SPS30 dust sensor (SHDLC)",
        true={"pm1": 21.25, "pm2_5": 38.5, "pm4": 45.0, "pm10": 52.75},
        make=Sps30,
    ),
)
