"""Honeywell HPMA115S0 and HPMA115C0 dust sensors: commands and answers with a length, and frames by themselves.

Source: Honeywell, HPM Series data sheet 32322550 issue F, tables 4 to 7.
"""

from enum import IntEnum

from edge.emulators.family import Bench, Family
from edge.emulators.plantower import framed, unsigned
from edge.emulators.sensor import AskedDevice

_ACCEPTED, _REFUSED = b"\xa5\xa5", b"\x96\x96"
_COMPACT = ("pm1", "pm2_5", "pm4", "pm10")


class _Command(IntEnum):
    START = 0x01
    STOP = 0x02
    READ = 0x04
    SET_COEFFICIENT = 0x08
    READ_COEFFICIENT = 0x10
    STOP_SENDING = 0x20
    SEND = 0x40


class Hpma115(AskedDevice):
    """Starts with the fan on and sending by itself, as after power-on. A stopped one refuses to be read."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(
            bench.path,
            clock=bench.clock,
            log=bench.log,
            interval_s=1.0 if bench.interval_s is None else bench.interval_s,
            warm_up_s=bench.warm_up_s,
        )
        self.member = bench.only
        self.compact = bench.only.options.get("model") == "HPMA115C0"
        self.measuring = True
        self.sending = True
        self.coefficient = 100

    @property
    def talking(self) -> bool:
        return self.measuring and self.sending

    def restart(self) -> None:
        super().restart()
        self.measuring = self.sending = True

    def _masses(self) -> dict[str, float]:
        truth = self.member.truth(self.clock.wall())
        names = _COMPACT if self.compact else ("pm2_5", "pm10")
        return {name: float(unsigned(truth[name]) if self.warm else 0) for name in names}

    def measure(self) -> None:
        masses = self._masses()
        words = list(map(int, masses.values())) if self.compact else [0, *map(int, masses.values())]
        self._say(framed(words + [0] * (13 - len(words))), masses)

    def _say(self, frame: bytes, masses: dict[str, float]) -> None:
        self.send(frame, self.member.sensor, masses if self.warm else {})

    def question(self, data: bytes) -> int:
        if data[0] != 0x68:
            return -1
        if len(data) < 2 or len(data) < (size := data[1] + 3):
            return 0 if len(data) < 2 or data[1] <= 2 else -1
        return size if sum(data[:size]) & 0xFF == 0 else -1

    def answer(self, question: bytes) -> None:
        command, data = question[2], question[3:-1]
        match command:
            case _Command.START | _Command.STOP:
                if command == _Command.START and not self.measuring:
                    self._warm_at = self.clock.boot() + self.warm_up_s
                self.measuring = command == _Command.START
                self.write(_ACCEPTED)
            case _Command.STOP_SENDING | _Command.SEND:
                self.sending = command == _Command.SEND
                self.write(_ACCEPTED)
            case _Command.READ if self.measuring:
                masses = self._masses()
                words = list(map(int, masses.values()))
                if self.compact:
                    words += [0, 0]
                self._say(_answered(_Command.READ, b"".join(w.to_bytes(2) for w in words)), masses)
            case _Command.SET_COEFFICIENT if len(data) == 1 and 30 <= data[0] <= 200:
                self.coefficient = data[0]
                self.write(_ACCEPTED)
            case _Command.READ_COEFFICIENT:
                self.write(_answered(_Command.READ_COEFFICIENT, bytes((self.coefficient,))))
            case _:
                self.write(_REFUSED)


def _answered(command: int, data: bytes) -> bytes:
    body = bytes((0x40, 1 + len(data), command)) + data
    return body + bytes((-sum(body) & 0xFF,))


FAMILIES = (
    Family(
        name="hpma115",
        title="Honeywell HPMA115S0, HPMA115C0 dust sensors",
        true={"pm1": 21.0, "pm2_5": 38.0, "pm4": 45.0, "pm10": 52.0},
        make=Hpma115,
        variants=({}, {"model": "HPMA115C0"}),
    ),
)
