"""How fast each driver's framer goes through bytes: `python -m benchmarks.framers [DRIVER ...]`.

`garbage` is random bytes, `1 %` the same with good frames put in so that they are one byte in a hundred, fed as a port gives them,
4096 at a time, and 64; `frames` is nothing but good frames. Against each framer there are the beginnings of its own frame and
the whole of it, over and over, alone, before bytes that make a large length, and before some text: the slowest of them is shown.
It is fed whole, as much and four times as much: a framer whose time grows faster than its bytes needs more than four times as long.
"""

import argparse
import random
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import Spread, finish, machine, spread, table
from edge import drivers
from edge.sensors.base import Driver, FrameError, Options

LIMIT_MB_S = 20
"""On garbage without and with frames, for frames of bytes; the framers of text are shown beside them."""
GROWTH_LIMIT = 2
"""Times longer a byte, when there are four times as many: 1 is linear, 4 quadratic."""

_OPTIONS: dict[str, dict[str, dict[str, int]]] = {
    "keller_bus": {"keller_bus, any address": {}, "keller_bus, address 1": {"address": 1}}
}
"""Where they change what a frame can begin with: each is measured."""
_VECTORS = Path(__file__).parent.parent / "tests" / "vectors"


class Case(NamedTuple):
    title: str
    driver: Driver
    options: Options
    frame: bytes
    text: bool


def cases(names: list[str]) -> Iterator[Case]:
    """Each driver with a framer, and the first of its vectors that is one good frame with these options."""
    for name in names or drivers.names():
        driver = drivers.find(name)
        if driver.framer is None:
            continue
        vectors = tomllib.loads((_VECTORS / f"{name}.toml").read_text(encoding="utf-8"))["vector"]
        for title, also in _OPTIONS.get(name, {name: {}}).items():
            for vector in vectors:
                raw = bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode("latin-1")
                options = drivers.options(driver, vector.get("options", {}) | also)
                frame = good(driver, raw, options)
                if frame:
                    yield Case(title, driver, options, frame, "text" in vector)
                    break


def good(driver: Driver, raw: bytes, options: Options) -> bytes | None:
    """The frame, when the bytes are one good one."""
    assert driver.framer is not None
    match list(driver.framer(options).feed(raw)):
        case [bytes(frame)]:
            try:
                driver.decode(frame, options)
            except FrameError:
                return None
            return frame
    return None


def seconds(case: Case, data: bytes, feed: int) -> tuple[float, int]:
    """Of processor for all of the data, in feeds of so many bytes; and how many times the good frame came out."""
    assert case.driver.framer is not None
    framer = case.driver.framer(case.options)
    found = 0
    began = time.process_time()
    for at in range(0, len(data), feed):
        for item in framer.feed(data[at : at + feed]):
            if item == case.frame:
                found += 1
    return time.process_time() - began, found


def rate(case: Case, data: bytes, feed: int, rounds: int) -> Spread:
    """MB/s of processor time, which leaves out what the machine did beside."""
    return spread([len(data) / 1e6 / seconds(case, data, feed)[0] for _ in range(rounds)])


def with_frames(case: Case, garbage: bytes) -> tuple[bytes, int]:
    """Garbage of which about one byte in a hundred is of a good frame, and how many frames there are."""
    step = 99 * len(case.frame)
    pieces = [garbage[at : at + step] for at in range(0, len(garbage), step)]
    # Without the end of a line before it a frame of text is not one.
    return (b"\r\n" * case.text + case.frame).join(pieces), len(pieces) - 1


def against(case: Case) -> dict[str, bytes]:
    """What is repeated to make the framer work for nothing."""
    size = len(case.frame)
    beginnings = {n: case.frame[:n] for n in (1, 2, 3, 4, size - 1, size) if n <= size}
    tails = {"": b"", " + FF FF": b"\xff\xff", " + 00": b"\0", " + 100 A": b"A" * 100}
    return {f"first {n}{tail}": begin + tails[tail] for n, begin in beginnings.items() for tail in tails}


def slowest(case: Case, size: int, rounds: int) -> tuple[str, float, float]:
    """What is slowest, its MB/s, and the worst growth of any."""
    best: dict[str, float] = {}
    growth = 0.0
    for title, piece in against(case).items():
        once = (piece * (size // len(piece) + 1))[:size]
        short = min(seconds(case, once, len(once))[0] for _ in range(rounds))
        long = min(seconds(case, once * 4, 4 * len(once))[0] for _ in range(rounds))
        best[title] = 4 * size / 1e6 / long
        growth = max(growth, long / 4 / short)
    title = min(best, key=best.__getitem__)
    return title, best[title], growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kib", type=int, default=512, help="of garbage a round")
    parser.add_argument("driver", nargs="*")
    arguments = parser.parse_args()
    where = machine()
    garbage = random.Random(1).randbytes(arguments.kib << 10)
    rows: list[list[str]] = []
    result: dict[str, dict[str, object]] = {}
    missed: list[str] = []
    most_grown = 0.0
    for case in cases(arguments.driver):
        mixed, put_in = with_frames(case, garbage)
        _, found = seconds(case, mixed, 4096)
        rates = {
            "garbage": rate(case, garbage, 4096, arguments.rounds),
            "garbage_64": rate(case, garbage, 64, arguments.rounds),
            "mixed": rate(case, mixed, 4096, arguments.rounds),
            "mixed_64": rate(case, mixed, 64, arguments.rounds),
            "frames": rate(case, case.frame * (len(garbage) // len(case.frame)), 4096, arguments.rounds),
        }
        title, worst, growth = slowest(case, 1 << 14, 3)
        held = min(rates["garbage"].median, rates["mixed"].median) >= LIMIT_MB_S
        verdict = "text" if case.text else "held" if held else "missed"
        missed += [case.title] * (verdict == "missed")
        most_grown = max(most_grown, growth)
        rows.append(
            [case.title, *(f"{r.median:.1f}" for r in rates.values()), f"{100 * found / put_in:.0f}", verdict,
             title, f"{worst:.2f}", f"{growth:.2f}"]
        )  # fmt: skip
        result[case.title] = {
            **{name: r.json(1) for name, r in rates.items()},
            "verdict": verdict,
            "slowest": [title, round(worst, 2)],
            "growth": round(growth, 2),
        }
    table(
        [
            "MB/s",
            "garbage",
            "by 64",
            "1 %",
            "by 64",
            "frames",
            "found, %",
            f">= {LIMIT_MB_S}",
            "slowest",
            "MB/s",
            "growth",
        ],
        rows,
    )
    limits = {
        "limit_mb_s": LIMIT_MB_S,
        "missed": missed,
        "growth_limit": GROWTH_LIMIT,
        "linear": most_grown <= GROWTH_LIMIT,
    }
    finish("framers", where, {**limits, "drivers": result})


if __name__ == "__main__":
    main()
