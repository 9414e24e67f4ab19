"""Ultrasonic range finders that send `FF | mm, high byte first | sum`: DFRobot A02YYUW, JSN-SR04T, AJ-SR04M.

Sources: DFRobot wiki SEN0311; esphome, jsn_sr04t.cpp (the AJ-SR04M sums the distance alone); makers' sheets for the mode by resistor.
"""

from edge.emulators.family import Bench, Family
from edge.emulators.sensor import AskedDevice


class Ultrasonic(AskedDevice):
    """One that talks by itself, or at each `trigger`. The true `water_distance` is left out where nothing reflects: 0."""

    def __init__(
        self, bench: Bench, *, nearest_mm: int, farthest_mm: int, trigger: bytes = b"", head: int = 0xFF
    ) -> None:
        super().__init__(
            bench.path,
            clock=bench.clock,
            log=bench.log,
            interval_s=0.1 if bench.interval_s is None else bench.interval_s,
        )
        self.member = bench.only
        self.nearest_mm = nearest_mm
        self.farthest_mm = farthest_mm
        self.trigger = trigger
        self._summed = head

    @property
    def talking(self) -> bool:
        return not self.trigger

    def measure(self) -> None:
        distance = self.member.truth(self.clock.wall()).get("water_distance")
        mm = (
            0
            if distance is None or distance * 1000 > self.farthest_mm
            else max(round(distance * 1000), self.nearest_mm)
        )
        data = mm.to_bytes(2)
        values = {"water_distance": mm / 1000} if mm > self.nearest_mm else {}
        self.send(b"\xff" + data + bytes((self._summed + sum(data) & 0xFF,)), self.member.sensor, values)

    def question(self, data: bytes) -> int:
        return 1 if self.trigger and data[:1] == self.trigger else -1

    def answer(self, question: bytes) -> None:
        del question
        self.measure()


def _a02yyuw(bench: Bench) -> Ultrasonic:
    return Ultrasonic(bench, nearest_mm=30, farthest_mm=4500)


def _jsn_sr04t(bench: Bench) -> Ultrasonic:
    options = bench.only.options
    aj = options.get("model", "").startswith("AJ")
    asked = options.get("mode") == "query"
    trigger = (b"\x01" if aj else b"\x55") if asked else b""
    return Ultrasonic(bench, nearest_mm=200, farthest_mm=6000, trigger=trigger, head=0 if aj else 0xFF)


FAMILIES = (
    Family(
        name="a02yyuw",
        title="DFRobot A02YYUW range finder",
        true={"water_distance": 2.468},
        make=_a02yyuw,
        mounting_height_m=4.0,
    ),
    Family(
        name="jsn_sr04t",
        title="JSN-SR04T, AJ-SR04M range finders",
        true={"water_distance": 2.468},
        make=_jsn_sr04t,
        variants=({}, {"mode": "query"}, {"model": "AJ-SR04M"}, {"model": "AJ-SR04M", "mode": "query"}),
        mounting_height_m=4.0,
    ),
)
