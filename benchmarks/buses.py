"""How well a gateway holds the periods of 32 devices on 4 buses, as the devices see it: `python -m benchmarks.buses`.

The gateway is a real process without a broker. Two buses are Modbus RTU at 9600 Bd, two SDI-12 at 1200 Bd behind an adapter, each
a pty with 8 emulated devices whose answers take as long as on the wire. What counts is when each device was asked: how far
from its own first poll plus whole periods. In the second round one device of each bus says nothing, and what is
measured is how much longer the others wait.
"""

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.common import Program, finish, machine, ours, percentile, table, wait_until
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.pty import PtyDevice
from edge.emulators.rs485 import Rs485Line
from edge.emulators.xy_md02 import XyMd02

DEVICES = 8
LIMIT_MS = 100
SILENT_LIMIT_MS = 1500
"""A device's time-out is 1 s, and a read in which nothing comes returns after 0.5 s."""

Asked = dict[int, list[float]]
_CLOCK = Clock()


class ModbusBus(Rs485Line):
    """11 bits a character at 9600 Bd."""

    def __init__(self, path: Path, silent: bool) -> None:
        devices = [XyMd02(i, f"m{i}", lambda _: (20.0, 50.0), silent=silent and i == 1) for i in range(1, DEVICES + 1)]
        super().__init__(path, devices, clock=_CLOCK, log=DeviceLog())
        self.asked: Asked = defaultdict(list)

    def received(self, data: bytes) -> None:
        if data:
            self.asked[data[0]].append(_CLOCK.boot())
        super().received(data)

    def write(self, data: bytes) -> bool:
        self.pause((8 + len(data)) * 11 / 9600)
        return super().write(data)


class Sdi12Bus(PtyDevice):
    """10 bits a character at 1200 Bd after a break of 12 ms and 8.3 ms of marking; the answer begins 8.3 ms later (SDI-12 1.4, 7)."""

    def __init__(self, path: Path, silent: bool) -> None:
        super().__init__(path)
        self.silent = silent
        self.asked: Asked = defaultdict(list)
        self._input = b""

    def received(self, data: bytes) -> None:
        self._input += data
        while (end := self._input.find(b"!") + 1) > 0:
            question, self._input = self._input[:end], self._input[end:]
            address = int(question[:1])
            self.asked[address].append(_CLOCK.boot())
            if self.silent and address == 1:
                continue
            answer = question[:1] + b"+1.2345+10.25\r\n"
            self.pause(0.0286 + (len(question) + len(answer)) * 10 / 1200)
            self.write(answer)


Bus = ModbusBus | Sdi12Bus


def configuration(directory: Path, buses: Iterable[Bus], period_s: float) -> str:
    lines = [
        "[gateway]",
        'id = "bench"',
        f'data_dir = "{directory}"',
        "[[station]]",
        'id = "bench"',
        'name = "Bench"',
        'commune = "61031"',
        "lat = 50.5",
        "lon = 5.2",
    ]
    for number, bus in enumerate(buses):
        for address in range(1, DEVICES + 1):
            if isinstance(bus, ModbusBus):
                driver, options = "xy_md02", f"{{ unit = {address} }}"
            else:
                driver = "sdi12"
                options = (
                    f'{{ address = "{address}", measure = "R0", quantities = [{{ name = "water_level" }},'
                    ' { name = "water_temperature" }] }'
                )
            lines += [
                "[[station.sensor]]",
                f'id = "b{number}-{address}"',
                f'driver = "{driver}"',
                f'port = "{bus.path}"',
                f"period_s = {period_s}",
                f"options = {options}",
            ]
    return "\n".join(lines) + "\n"


def run(seconds: float, period_s: float, silent: bool) -> list[tuple[str, Asked]]:
    """When each device of each bus was asked, from the second round on (the first finds their places)."""
    with tempfile.TemporaryDirectory(prefix="maillages-buses-") as name:
        directory = Path(name)
        buses: list[Bus] = [
            ModbusBus(directory / "modbus-1", silent),
            ModbusBus(directory / "modbus-2", silent),
            Sdi12Bus(directory / "sdi12-1", silent),
            Sdi12Bus(directory / "sdi12-2", silent),
        ]
        for bus in buses:
            bus.start()
        config = directory / "edge.toml"
        config.write_text(configuration(directory / "data", buses, period_s))
        gateway = Program([ours("maillages-edge"), "run", "--config", config], directory / "log")
        try:
            wait_until(lambda: all(len(bus.asked) == DEVICES for bus in buses), 60, "every device is asked", gateway)
            threading.Event().wait(seconds)
            gateway.check()
        finally:
            gateway.stop()
            for bus in buses:
                bus.stop()
        return [(bus.path.name, {address: times[1:] for address, times in bus.asked.items()}) for bus in buses]


def deviations(times: list[float], period_s: float) -> list[float]:
    """How far (ms) each poll is from the first plus whole periods."""
    return [1000 * (t - times[0] - round((t - times[0]) / period_s) * period_s) for t in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of each of the two rounds")
    parser.add_argument("--period", type=float, default=5, help="of every device, in seconds")
    arguments = parser.parse_args()
    where = machine()
    began = time.monotonic()
    rows, result = [], {}
    for title, silent, limit in (("all answer", False, LIMIT_MS), ("one a bus is silent", True, SILENT_LIMIT_MS)):
        worst = 0.0
        for name, asked in run(arguments.seconds, arguments.period, silent):
            off = [
                abs(d)
                for address, times in asked.items()
                if not (silent and address == 1)
                for d in deviations(times, arguments.period)
            ]
            worst = max(worst, *off)
            rows.append(
                [title, name, str(len(off)), f"{percentile(off, 50):.1f}", f"{percentile(off, 99):.1f}", f"{max(off):.1f}", str(limit)]
            )  # fmt: skip
        result[title.replace(" ", "_")] = {"worst_ms": round(worst, 1), "limit_ms": limit, "held": worst <= limit}
    table(["round", "bus", "polls", "off p50, ms", "p99", "worst", "limit"], rows)
    took = round(time.monotonic() - began)
    finish("buses", where, {"devices": 4 * DEVICES, "period_s": arguments.period, "took_s": took, **result})


if __name__ == "__main__":
    main()
