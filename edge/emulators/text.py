"""A device that sends lines of text, by itself or when asked: a level and a temperature, with a decimal comma as many have."""

from edge.emulators.family import Bench, Family
from edge.emulators.sensor import AskedDevice

# Text has no sum: of a fixed width with a sign, so that a character that is lost shows.
_PATTERN = r"L=(?P<water_level>[-+][0-9]{2},[0-9]{3}) m T=(?P<water_temperature>[-+][0-9]{2},[0-9]) C"
_READY = b"ready\r\n"


class TextDevice(AskedDevice):
    """`request` is the line that asks it, without it it talks. It greets when it starts again, and before each answer."""

    def __init__(self, bench: Bench, request: bytes) -> None:
        super().__init__(
            bench.path,
            clock=bench.clock,
            log=bench.log,
            interval_s=1.0 if bench.interval_s is None else bench.interval_s,
        )
        self.member = bench.only
        self.request = request

    @property
    def talking(self) -> bool:
        return not self.request

    def restart(self) -> None:
        super().restart()
        self._put(_READY)

    def measure(self) -> None:
        truth = self.member.truth(self.clock.wall())
        level, temperature = f"{truth['water_level']:+07.3f}", f"{truth['water_temperature']:+05.1f}"
        said = {"water_level": float(level), "water_temperature": float(temperature)}
        self.send(f"L={level} m T={temperature} C\r\n".replace(".", ",").encode("ascii"), self.member.sensor, said)

    def question(self, data: bytes) -> int:
        if not self.request or not self.request.startswith(data[: len(self.request)]):
            return -1
        return len(self.request)

    def answer(self, question: bytes) -> None:
        del question
        self._put(_READY)
        self.measure()


FAMILIES = (
    Family(
        name="line",
        title="A device that sends lines of text with level and temperature",
        true={"water_level": 1.234, "water_temperature": -0.5},
        make=lambda bench: TextDevice(bench, bench.only.options.get("request", "").encode("latin-1")),
        options={"pattern": _PATTERN, "ignore": "ready"},
        variants=({}, {"request": "READ\r\n"}),
        unchecked=True,
    ),
)
