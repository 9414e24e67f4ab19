"""Nova SDS011 dust sensor: 10-byte frames once a second, or when asked; 19-byte commands.

Source: Nova Fitness, "Laser Dust Sensor Control Protocol V1.3" and the SDS011 data sheet (range 0.0 to 999.9 ug/m3).
"""

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from common.clock import Clock
from edge.emulators.family import Bench, Family
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import SensorDevice

_HEAD, _TAIL = 0xAA, 0xAB
_COMMAND, _REPLY, _DATA = 0xB4, 0xC5, 0xC0
_COMMAND_LENGTH = 19
_ALL = b"\xff\xff"


class _Command(IntEnum):
    REPORTING = 2
    QUERY = 4
    SET_ID = 5
    SLEEP = 6
    FIRMWARE = 7
    PERIOD = 8


class Sds011(SensorDevice):
    """`pm(wall_s)` is the true (PM2.5, PM10) in ug/m3. Starts in active mode, awake and warm, as one that has run for a while.

    For `warm_up_s` (of the clock) after waking the fan is not up to speed, and it sends a third of what is there.
    """

    def __init__(
        self,
        path: Path,
        sensor: str,
        pm: Callable[[float], tuple[float, float]],
        *,
        clock: Clock,
        log: DeviceLog,
        interval_s: float = 1.0,
        device_id: bytes = b"\xa1\x60",
        warm_up_s: float = 0.0,
    ) -> None:
        super().__init__(path, clock, log, interval_s)
        self.sensor = sensor
        self.pm = pm
        self.device_id = device_id
        self.query_mode = False
        self.asleep = False
        self.working_period = 0
        self.warm_up_s = warm_up_s
        self.rested_s = 0.0
        """How long the laser was off, by the clock, up to the last waking."""
        self._slept_at = clock.boot()
        self._warm_at = 0.0
        self._input = bytearray()

    def restart(self) -> None:
        """Mode, id and working period stay in its memory; sleep does not."""
        self._input.clear()
        self._sleep(False)
        self._warm_at = self.clock.boot() + self.warm_up_s

    def tick(self) -> float | None:
        return None if self.asleep or self.query_mode else super().tick()

    def measure(self) -> None:
        share = 1 if self.clock.boot() >= self._warm_at else 3
        raw = [min(max(round(value * 10 / share), 0), 9999) for value in self.pm(self.clock.wall())]
        body = b"".join(value.to_bytes(2, "little") for value in raw) + self.device_id
        self.send(_frame(_DATA, body), self.sensor, {"pm2_5": raw[0] / 10, "pm10": raw[1] / 10})

    def received(self, data: bytes) -> None:
        self._input += data
        while (start := self._input.find(bytes((_HEAD, _COMMAND)))) >= 0:
            del self._input[:start]
            if len(self._input) < _COMMAND_LENGTH:
                return
            command = bytes(self._input[:_COMMAND_LENGTH])
            if command[-1] != _TAIL or sum(command[2:17]) & 0xFF != command[17]:
                del self._input[0]
                continue
            del self._input[:_COMMAND_LENGTH]
            if command[15:17] in (_ALL, self.device_id):
                self._obey(command[2], command[3], command[4], command[13:15])
        del self._input[:-1]  # at most a head whose command byte has not come

    def _obey(self, command: int, is_set: int, value: int, new_id: bytes) -> None:
        if self.asleep and command != _Command.SLEEP:
            return
        match command:
            case _Command.REPORTING:
                self.query_mode = value == 1 if is_set else self.query_mode
                self._reply(command, is_set, int(self.query_mode))
            case _Command.QUERY:
                self.measure()
            case _Command.SET_ID:
                self.device_id = new_id
                self._reply(command, 0, 0)
            case _Command.SLEEP:
                if is_set:
                    self._sleep(value == 0)
                self._reply(command, is_set, int(not self.asleep))
            case _Command.FIRMWARE:
                self.write(_frame(_REPLY, bytes((command, 15, 7, 10)) + self.device_id))
            case _Command.PERIOD:
                self.working_period = value if is_set else self.working_period
                self._reply(command, is_set, self.working_period)
            case _:
                pass

    def _sleep(self, asleep: bool) -> None:
        now = self.clock.boot()
        if asleep and not self.asleep:
            self._slept_at = now
        elif self.asleep and not asleep:
            self.rested_s += now - self._slept_at
            self._warm_at = now + self.warm_up_s
        self.asleep = asleep

    def _reply(self, command: int, is_set: int, value: int) -> None:
        self.write(_frame(_REPLY, bytes((command, is_set, value, 0)) + self.device_id))


def _frame(kind: int, body: bytes) -> bytes:
    return bytes((_HEAD, kind)) + body + bytes((sum(body) & 0xFF, _TAIL))


def _make(bench: Bench) -> Sds011:
    member = bench.only

    def pm(wall_s: float) -> tuple[float, float]:
        truth = member.truth(wall_s)
        return truth["pm2_5"], truth["pm10"]

    device_id = member.options.get("device_id", "FFFF")
    return Sds011(
        bench.path,
        member.sensor,
        pm,
        clock=bench.clock,
        log=bench.log,
        interval_s=1.0 if bench.interval_s is None else bench.interval_s,
        device_id=b"\xa1\x60" if device_id == "FFFF" else bytes.fromhex(device_id),
    )


FAMILIES = (
    Family(
        name="sds011",
        title="Nova SDS011 dust sensor",
        true={"pm2_5": 38.4, "pm10": 52.7},
        make=_make,
        variants=({}, {"mode": "query"}, {"device_id": "B1C2"}),
    ),
)
