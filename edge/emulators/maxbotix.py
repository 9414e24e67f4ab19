"""MaxBotix range finders: `R`, digits, carriage return, about 6 times a second; a banner of lines at power-on.

Sources: MaxBotix data sheets HRXL-MaxSonar-WR (PD11500), XL-MaxSonar-WR, LV-MaxSonar-EZ, HRUSB-MaxSonar-EZ (PD12141).
"""

from dataclasses import dataclass
from pathlib import Path

from common.clock import Clock
from edge.emulators.family import Bench, Family
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import SensorDevice, Truth

INTERVAL_S = 1 / 6


@dataclass(frozen=True, slots=True)
class Model:
    """Digits after the R, in steps of `step_m`; what is nearer than `blind` reads as it, and nothing reads as `no_target`."""

    digits: int
    step_m: float
    blind: int
    no_target: int
    end: bytes = b"\r"


MODELS = {
    "MB7389": Model(4, 0.001, 300, 5000),
    "MB7386": Model(4, 0.001, 500, 9999),
    "MB7060": Model(3, 0.01, 20, 765),
    "MB1010": Model(3, 0.0254, 6, 254),
    "HRUSB-MaxSonar-EZ1": Model(4, 0.001, 300, 5000, b" \r"),
}


class MaxBotix(SensorDevice):
    """The true `water_distance` is left out where nothing reflects. It hears nothing: output only."""

    def __init__(
        self,
        path: Path,
        sensor: str,
        truth: Truth,
        model: str = "MB7389",
        *,
        clock: Clock,
        log: DeviceLog,
        interval_s: float = INTERVAL_S,
    ) -> None:
        super().__init__(path, clock, log, interval_s)
        if model not in MODELS:
            raise ValueError(f"model {model!r} is not emulated, expected {', '.join(MODELS)}")
        self.sensor = sensor
        self.truth = truth
        self.model = MODELS[model]
        self._name = model

    def measure(self) -> None:
        model = self.model
        distance = self.truth(self.clock.wall()).get("water_distance")
        steps = model.no_target
        if distance is not None:
            steps = min(max(round(distance / model.step_m), model.blind), model.no_target)
        seen = model.blind < steps < model.no_target
        values = {"water_distance": round(steps * model.step_m, 6)} if seen else {}
        self.send(b"R%0*d%b" % (model.digits, steps, model.end), self.sensor, values)

    def restart(self) -> None:
        for line in (self._name, "PN:" + self._name, "Copyright 2011-2013", "RoHSv24b 0513", "TempI"):
            self._put(line.encode("ascii") + b"\r")


def _make(bench: Bench) -> MaxBotix:
    member = bench.only
    return MaxBotix(
        bench.path,
        member.sensor,
        member.truth,
        member.options["model"],
        clock=bench.clock,
        log=bench.log,
        interval_s=INTERVAL_S if bench.interval_s is None else bench.interval_s,
    )


FAMILIES = (
    Family(
        name="maxbotix",
        title="MaxBotix HRXL, HRUSB, XL and LV range finders",
        true={"water_distance": 2.468},
        make=_make,
        options={"model": "MB7389"},
        variants=tuple({"model": model} for model in MODELS),
        mounting_height_m=4.0,
        unchecked=True,
    ),
)
