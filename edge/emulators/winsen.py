"""Winsen MH-Z19B/C and MH-Z14A CO2 sensors and ZH03B dust sensors: 9-byte commands and answers.

Sources: Winsen, MH-Z19B user's manual (0x86, 0x79, 0x87, 0x88, 0x99; byte 4 less 40 as temperature: esphome, mhz19.cpp); ZH03B user's
manual (initiative upload, question and answer, dormant mode).
"""

from enum import IntEnum

from edge.emulators.family import Bench, Family
from edge.emulators.plantower import framed, unsigned
from edge.emulators.sensor import AskedDevice

_COMMAND_BYTES = 9
_QUESTION_AND_ANSWER = 0x41


class _Command(IntEnum):
    MODE = 0x78
    ABC = 0x79
    READ = 0x86
    RANGE = 0x99
    SLEEP = 0xA7


class Winsen(AskedDevice):
    """What the families share: commands `FF 01 | command | 5 data bytes | sum`, answers `FF | command | 6 data bytes | sum`."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(
            bench.path,
            clock=bench.clock,
            log=bench.log,
            interval_s=1.0 if bench.interval_s is None else bench.interval_s,
            warm_up_s=bench.warm_up_s,
        )
        self.member = bench.only
        self.options = bench.only.options

    def question(self, data: bytes) -> int:
        if not b"\xff\x01".startswith(data[:2]):
            return -1
        if len(data) < _COMMAND_BYTES:
            return 0
        return _COMMAND_BYTES if sum(data[1:9]) & 0xFF == 0 else -1


class Mhz19(Winsen):
    """Keeps its calibration and range; for `warm_up_s` after a restart it says 0 ppm."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.abc = True
        self.range_ppm = self.options.get("range_ppm", 5000)

    def answer(self, question: bytes) -> None:
        command, data = question[2], question[3:8]
        match command:
            case _Command.READ:
                truth = self.member.truth(self.clock.wall())
                ppm = min(unsigned(truth["co2"]), self.range_ppm) if self.warm else 0
                inside = min(max(round(truth.get("air_temperature", 20.0)) + 43, 0), 255)
                self.send(
                    _answered(_Command.READ, ppm.to_bytes(2) + bytes((inside, 0, 0, 0))),
                    self.member.sensor,
                    {"co2": ppm},
                )
            case _Command.ABC:
                self.abc = data[0] == 0xA0
                self.write(_answered(_Command.ABC, b"\x01"))
            case _Command.RANGE:
                self.range_ppm = int.from_bytes(data[3:5])
                self.write(_answered(_Command.RANGE, b"\x01"))
            case _:
                pass  # calibrations (0x87, 0x88) are not answered


class Zh03b(Winsen):
    """Starts in initiative mode, awake."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.by_question = False
        self.asleep = False

    @property
    def talking(self) -> bool:
        return not (self.by_question or self.asleep)

    def restart(self) -> None:
        super().restart()
        self.by_question = self.asleep = False

    def _masses(self) -> tuple[list[int], dict[str, float]]:
        truth = self.member.truth(self.clock.wall())
        names = ("pm1", "pm2_5", "pm10")
        masses = [unsigned(truth[name]) for name in names]
        return (masses, dict(zip(names, map(float, masses), strict=True))) if self.warm else ([0, 0, 0], {})

    def measure(self) -> None:
        masses, said = self._masses()
        self.send(framed([0, 0, 0, *masses, 0, 0, 0]), self.member.sensor, said)

    def answer(self, question: bytes) -> None:
        command, value = question[2], question[3]
        match command:
            case _Command.SLEEP:
                self.asleep = value == 1
                self.write(_answered(_Command.SLEEP, b"\x01"))
            case _Command.MODE if not self.asleep:
                self.by_question = value == _QUESTION_AND_ANSWER
            case _Command.READ if self.by_question and not self.asleep:
                (pm1, pm2_5, pm10), said = self._masses()
                self.send(
                    _answered(_Command.READ, b"".join(v.to_bytes(2) for v in (pm2_5, pm10, pm1))),
                    self.member.sensor,
                    said,
                )
            case _:
                pass


def _answered(command: int, data: bytes) -> bytes:
    body = bytes((command,)) + data.ljust(6, b"\0")
    return b"\xff" + body + bytes((-sum(body) & 0xFF,))


FAMILIES = (
    Family(
        name="mhz19",
        title="Winsen MH-Z19B, MH-Z19C, MH-Z14A CO2 sensors",
        true={"co2": 1234.0},
        make=Mhz19,
    ),
    Family(
        name="zh03b",
        title="Winsen ZH03B, ZH06 dust sensors",
        true={"pm1": 21.0, "pm2_5": 38.0, "pm10": 52.0},
        make=Zh03b,
        variants=({}, {"mode": "query"}),
    ),
)
