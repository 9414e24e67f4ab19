"""Plantower PMS5003 (PMS7003, PMSA003), PMS3003 and PMS5003T dust sensors: frames of words by themselves, or when asked.

Source: Plantower, PMS5003 series data manual V2.3, appendices I and II; PMS3003 and PMS5003T data manuals.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum

from edge.emulators.family import Bench, Family
from edge.emulators.sensor import AskedDevice

_HEAD = b"BM"
_COMMAND_BYTES = 7
_VERSION_AND_ERROR = 0x9700


class _Command(IntEnum):
    MODE = 0xE1
    READ = 0xE2
    SLEEP = 0xE4


Words = Callable[[Mapping[str, float]], tuple[list[int], dict[str, float]]]
"""What is there -> the words after the length, and what they say by quantity."""


class Plantower(AskedDevice):
    """Starts awake and in active mode, as after power-on. Asleep it hears only the command to wake."""

    def __init__(self, bench: Bench, words: Words) -> None:
        super().__init__(
            bench.path,
            clock=bench.clock,
            log=bench.log,
            interval_s=1.0 if bench.interval_s is None else bench.interval_s,
            warm_up_s=bench.warm_up_s,
        )
        self.member = bench.only
        self.words = words
        self.passive = False
        self.asleep = False

    @property
    def talking(self) -> bool:
        return not (self.passive or self.asleep)

    def restart(self) -> None:
        super().restart()
        self.passive = self.asleep = False

    def measure(self) -> None:
        words, said = self.words(self.member.truth(self.clock.wall()))
        if not self.warm:
            words, said = [0] * len(words), {}
        self.send(framed(words), self.member.sensor, said)

    def question(self, data: bytes) -> int:
        if not _HEAD.startswith(data[:2]):
            return -1
        if len(data) < _COMMAND_BYTES:
            return 0
        return _COMMAND_BYTES if sum(data[:5]) == int.from_bytes(data[5:7]) else -1

    def answer(self, question: bytes) -> None:
        command, value = question[2], question[4]
        if self.asleep and (command, value) != (_Command.SLEEP, 1):
            return
        match command:
            case _Command.MODE:
                self.passive = value == 0
                self._acknowledge(command, value)
            case _Command.READ if self.passive:
                self.measure()
            case _Command.SLEEP:
                waking = self.asleep and value == 1
                self.asleep = value == 0
                if waking:
                    self._warm_at = self.clock.boot() + self.warm_up_s
                self._acknowledge(command, value)
            case _:
                pass

    def _acknowledge(self, command: int, value: int) -> None:
        self.write(framed([command << 8 | value]))


def framed(words: list[int]) -> bytes:
    """Words with head, length and sum."""
    body = _HEAD + (2 * len(words) + 2).to_bytes(2) + b"".join(w.to_bytes(2) for w in words)
    return body + (sum(body) & 0xFFFF).to_bytes(2)


def unsigned(value: float) -> int:
    """A word; what does not fit stands at its end."""
    return min(max(round(value), 0), 0xFFFF)


def _masses(truth: Mapping[str, float]) -> tuple[list[int], dict[str, float]]:
    """By the factory's particle, which reads more than the air above 30 ug/m3, then as in the air."""
    air = [unsigned(truth[name]) for name in ("pm1", "pm2_5", "pm10")]
    factory = [value if value <= 30 else unsigned(value * 1.5) for value in air]
    return [*factory, *air], dict(zip(("pm1", "pm2_5", "pm10"), map(float, air), strict=True))


def _counts(air: list[int]) -> list[int]:
    """Plausible numbers of particles above 0.3, 0.5, 1, 2.5, 5 and 10 um in 0.1 L; never none."""
    fine, all_of_it = air[1], air[2]
    return [
        unsigned(n) for n in (60 + 180 * fine, 18 + 52 * fine, 3 + 9 * fine, all_of_it, all_of_it / 5, all_of_it / 9)
    ]


def _pms5003(truth: Mapping[str, float]) -> tuple[list[int], dict[str, float]]:
    masses, said = _masses(truth)
    return [*masses, *_counts(masses[3:]), _VERSION_AND_ERROR], said


def _pms3003(truth: Mapping[str, float]) -> tuple[list[int], dict[str, float]]:
    masses, said = _masses(truth)
    return [*masses, 0, 0, _VERSION_AND_ERROR], said


def _pms5003t(truth: Mapping[str, float]) -> tuple[list[int], dict[str, float]]:
    masses, said = _masses(truth)
    temperature, humidity = round(truth["air_temperature"] * 10), unsigned(truth["relative_humidity"] * 10)
    said |= {"air_temperature": temperature / 10, "relative_humidity": humidity / 10}
    return [*masses, *_counts(masses[3:])[:4], temperature & 0xFFFF, humidity, _VERSION_AND_ERROR], said


_DUST = {"pm1": 21.0, "pm2_5": 38.0, "pm10": 52.0}

FAMILIES = (
    Family(
        name="pms5003",
        title="Plantower PMS5003, PMS7003, PMSA003 dust sensors",
        true=_DUST,
        make=lambda bench: Plantower(bench, _pms5003),
        variants=({}, {"mode": "query"}),
    ),
    Family(
        name="pms3003",
        title="Plantower PMS3003 dust sensor",
        true=_DUST,
        make=lambda bench: Plantower(bench, _pms3003),
    ),
    Family(
        name="pms5003t",
        title="Plantower PMS5003T dust, temperature and humidity sensor",
        true=_DUST | {"air_temperature": -7.5, "relative_humidity": 81.0},
        make=lambda bench: Plantower(bench, _pms5003t),
        variants=({}, {"mode": "query"}),
    ),
)
