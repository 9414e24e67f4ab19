"""From the last byte of a reading to the siren: what a flood waits for.

    .venv/bin/python -m benchmarks.siren [--directory /var/tmp]

The real edge process on ptys: an MB7389 that crosses its threshold and goes back, 0.4 s each, and an LCUS-1 relay board. Counted
is from the write of the frame's last byte to the board's having switched, for each raise. Two loads: that sensor alone, and with 20
more that give two readings a second each while a backlog of a day drains to a real Mosquitto (a stand-in receipts).
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common import Program, finish, machine, ours, percentile, spread, table, wait_until
from benchmarks.drain import Listener, backlog
from benchmarks.edge import Sensor
from benchmarks.journal import config
from edge.emulators.pty import PtyDevice
from edge.emulators.relay import RelayBoard
from tests import servers

HALF_S = 0.4
BELOW_MM, ABOVE_MM = 1000, 3000
LIMIT_MS = 50.0

ALARM = """
[[station.rule]]
id = "bench-high"
kind = "high"
sensor = "level-1"
quantity = "water_distance"
levels = [2.0]
deadband = 0.1
off_delay_s = 0
[outputs.siren]
port = "{board}"
min_level = 1
[outputs.siren.patterns.1]
on_s = 1
off_s = 0
"""


class Crossing(PtyDevice):
    """An MB7389 that goes over its threshold and back; notes when the last byte of each frame above was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.above_s: list[float] = []
        self._above = False
        self._due = time.monotonic()

    def tick(self) -> float:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + HALF_S
            self._above = not self._above
            at = time.monotonic()
            if self.write(b"R%04d\r" % (ABOVE_MM if self._above else BELOW_MM)) and self._above:
                self.above_s.append(at)
        return max(0.0, self._due - time.monotonic())


def round_(home: Path, raises: int, *, loaded: bool) -> list[float]:
    """Milliseconds of each raise."""
    home.mkdir()
    with ExitStack() as stack:
        water, board = Crossing(home / "water"), RelayBoard(home / "board", boottime=time.monotonic)
        others = [Sensor(home / f"tty{i}", 0.5, first_s=i / 40) for i in range(20 if loaded else 0)]
        for device in (water, board, *others):
            device.start()
            stack.callback(device.stop)
        broker = servers.free_port()
        if loaded:
            count = backlog(home / "data" / "journal", 24 * 60)
            broker = stack.enter_context(servers.mosquitto(home)).port
            stack.callback(Listener(broker, count, receipts=True).close)
        more = "[uplink]\nbacklog_packs_per_s = 5\n"
        path = config(home, [water, *others], broker, ALARM.format(board=board.path) + more, watched=False)
        edge = Program([ours("maillages-edge"), "run", "-c", path], home / "log")
        stack.callback(edge.stop)
        wait_until(lambda: any(s.on for s in board.history), 60, "the siren sounds", edge)
        time.sleep(HALF_S / 2)
        water.above_s.clear()
        wait_until(lambda: len(water.above_s) > raises, raises * HALF_S * 2 + 60, "enough raises", edge)
        sent, on = water.above_s[:raises], [s.boot_s for s in board.history if s.on]
    found = []
    for at in sent:
        switched = next((s for s in on if s >= at), None)
        assert switched is not None, "a raise without its siren"
        assert switched - at < HALF_S, "a raise without its siren"
        found.append((switched - at) * 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="(default %(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--raises", type=int, default=120, help="in a round (default %(default)s)")
    options = parser.parse_args()
    where = machine("maillages")
    rows, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="maillages-bench-", dir=options.directory) as name:
        for label, loaded in (("that sensor alone", False), ("20 more, 40 readings/s, and a drain", True)):
            rounds = [
                round_(Path(name) / f"{loaded}-{i}", options.raises, loaded=loaded) for i in range(options.rounds)
            ]
            parts = [spread([percentile(r, p) for r in rounds]) for p in (50, 99, 100)]
            rows.append([label, *(part.text(".1f") for part in parts), f"p99 <= {LIMIT_MS:.0f}"])
            figures[label] = {f"p{p}_ms": s.json(1) for p, s in zip((50, 99, 100), parts, strict=True)}
            print(" ", rows[-1], flush=True)
    print()
    table(["last byte to siren, ms", "p50", "p99", "worst", "limit"], rows)
    finish("siren", where, {"rounds": options.rounds, "raises": options.raises, **figures})


if __name__ == "__main__":
    main()
