"""Every wired family: its emulator on a real pty, read by the real transport and driver, without trouble and under each.

All devices of one trouble run at once, each with a port and a transport of its own; what came is judged family by family.
"""

import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest

from common.clock import Clock
from edge import config, drivers
from edge.emulators.family import Bench, Member, families
from edge.emulators.log import DeviceLog
from edge.emulators.trouble import Trouble
from edge.transports.build import build
from tests import servers
from tests.fakes.samples import Samples

CLOCK = Clock()
WIRED = ("stream", "poll", "modbus", "file")
FAMILIES = families()
VARIANTS = {
    f"{name}-{'-'.join(f'{k}={v}' for k, v in variant.items()) or 'plain'}": (family, {**family.options, **variant})
    for name, family in FAMILIES.items()
    for variant in family.variants
    if family.kind == "sensor"
}
INTERVAL_S = 0.05
WINDOW_S = 1.0
WAIT_S = 30

TROUBLES = {
    "late_and_noisy": "dribble_s=0.003,lag_s=0.1,noise=0.5",
    "lose": "lose=0.02",
    "lose_every": "lose_every=3",
    "corrupt": "corrupt=0.7",
    "silent": "silent",
    "restart": "restart_every=5",
}
FRAMES = 6
FEW = 0.2
"""Of frames without a sum: a median bears a few, not most."""

FORGETS = {
    "sps30": "sensor_state",
    "keller_bus": "sensor_state",
    "mhz19": "warming_up",
    "senseair_s8": "warming_up",
    "pms5003": "warming_up",
    "zh03b": "warming_up",
    "ds18b20": "no_data",
    "maxbotix": "no_data",
}
"""What a family that restarts is heard to say, once."""


def other(value):
    """Another true value of the same kind, which the device can say as well."""
    return float(round(value * 0.6)) if value == int(value) else round(value * 0.6, 3)


@dataclass
class Run:
    """One device under one trouble. `cut`: how many samples had come when the trouble ended."""

    name: str
    trouble: str
    path: Path
    steady: bool
    samples: Samples = field(default_factory=Samples)
    log: DeviceLog = field(default_factory=DeviceLog)
    cut: int = 0
    failed: str | None = None

    def __post_init__(self):
        self.family, self.options = VARIANTS[self.name]
        truths = (
            [self.family.true] * 2 if self.steady else [self.family.true, {k: other(v) for k, v in self.true.items()}]
        )
        self.truths = truths
        turn = cycle(truths)
        self.driver = drivers.find(self.family.name)
        self.device = self.family.make(
            Bench(
                path=self.path,
                members=[Member("hoyoux/s", lambda _wall_s: next(turn), self.options)],
                clock=CLOCK,
                log=self.log,
                interval_s=INTERVAL_S,
                warm_up_s=1.0,
            )
        )
        (self.transport,) = build(self.settings(), CLOCK, self.samples)

    @property
    def true(self):
        return self.family.true

    @property
    def talks(self):
        return self.driver.link == "stream" and not (self.driver.request and self.driver.request(self.parsed))

    @property
    def parsed(self):
        return drivers.options(self.driver, self.options)

    def settings(self):
        """As a technician gets it from `simulate`."""
        period_s = (WINDOW_S if self.steady else 0) if self.talks else 0.3
        stanza = tomllib.loads(self.family.stanza("s", self.path, self.options, period_s))
        station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, **stanza["station"]}
        return config.EdgeConfig.model_validate(
            {"gateway": {"id": "gw-1", "data_dir": "/nonexistent"}, "station": [station]}
        )

    def start(self):
        self.device.start()
        self.transport.start()

    def stop(self):
        self.transport.stop()
        self.device.stop()

    def came(self):
        """The values of the quantities that the family is true in: (name, value)."""
        return [(f.name, f.value) for s in list(self.samples.all) for f in s.fields if f.name in self.true]

    def forgot(self):
        """Whether the driver has noticed that the device began anew; a state that passes may escape a poll, not all of them."""
        return FORGETS[self.family.name] in {kind for _, kind in list(self.transport.dropped)}

    def good(self, start=0):
        return sum(bool(s.fields) for s in self.samples.all[start:])


@pytest.fixture(scope="module", params=TROUBLES)
def runs(request, tmp_path_factory):
    """All devices, well, then in trouble, then well again."""
    text = TROUBLES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    corrupt = request.param == "corrupt"
    all_ = [
        Run(name, request.param, root / str(i), steady=corrupt and VARIANTS[name][0].unchecked)
        for i, name in enumerate(VARIANTS)
    ]
    for run in all_:
        run.start()
    try:
        each(all_, lambda run: run.good(), "no value comes")
        for seed, run in enumerate(all_):
            run.device.trouble = Trouble.parse(f"{text},seed={seed}")
            if run.steady:
                run.device.trouble.corrupt = FEW
        each(all_, lambda run: run.device.trouble.frames >= FRAMES or run.device.trouble.silent, "too few frames leave")
        if request.param == "restart":
            each(all_, lambda run: run.family.name not in FORGETS or run.forgot(), "what it forgot is not noticed")
        if request.param == "silent":
            each(all_, lambda run: run.samples.all[-1].error, "silence is no error")
        for run in all_:
            run.device.trouble = Trouble()
            run.cut = len(run.samples.all)
        each(all_, lambda run: run.good(run.cut) >= 2, "no value comes again")
    finally:
        with ThreadPoolExecutor(len(all_)) as pool:
            list(pool.map(Run.stop, all_))
    return {run.name: run for run in all_}


def each(all_, enough, what):
    """Wait for every device, all within one deadline; one that fails is named by its own test."""
    deadline = time.monotonic() + WAIT_S
    for run in all_:
        try:
            servers.wait_until(lambda run=run: enough(run), max(0.0, deadline - time.monotonic()), what)
        except TimeoutError:
            run.failed = run.failed or f"{what}; the last samples: {run.samples.all[-3:]}"


@pytest.mark.parametrize("name", VARIANTS)
def test_true_values_come_through_no_wrong_one_does_and_they_come_back(name, runs):
    run = runs[name]
    if run.steady and not run.talks:
        pytest.skip("text without a sum, asked once: a bit that makes another digit of one cannot be told")
    assert run.failed is None, run.failed
    said = {(n, round(v, 6)) for sent in run.log.sent() for n, v in sent.values.items()}
    logged = {n for n, _ in said}
    came = run.came()
    assert came
    for quantity, value in came:
        assert any(value == pytest.approx(truth[quantity], rel=0.02) for truth in run.truths), (quantity, value)
        assert quantity not in logged or (quantity, round(value, 6)) in said, f"{quantity} {value} was never sent"
    if run.trouble == "restart" and run.family.name in FORGETS:
        assert run.forgot()


def test_every_wired_driver_has_an_emulator():
    wired = {name for name in drivers.names() if drivers.find(name).link in WIRED}
    assert wired == {name for name, family in FAMILIES.items() if family.kind == "sensor"}
    modems = {name for name in drivers.names() if drivers.find(name).modem is not None}
    assert modems == {name for name, family in FAMILIES.items() if family.kind == "modem"}
