"""Random and broken bytes for every driver: `scripts/fuzz [--inputs N] [--seed S] [DRIVER ...]`.

An input is a vector of the driver, or pieces of some, with bytes changed, lost, repeated or put in; of every second the sum is
made right again, so that what is behind it sees broken data. The framer, which lives as long as a gateway's, gets it in one piece
or two; each frame that it finds, and the input itself, go to the decoder, the input to `recognise` as well, and the frames are the
answers in a dialogue. What may come of it are fields and FrameError. Memory is looked at after the first tenth and at the end.
"""

import argparse
import gc
import os
import random
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge import drivers
from edge.sensors import _modbus_rtu, keller_bus, sdi12
from edge.sensors.base import Driver, Field, FrameError, Framer, Options

_VECTORS = Path(__file__).parent.parent / "vectors"
_PAGE = os.sysconf("SC_PAGE_SIZE")
BUFFER_BYTES = 1024
"""More than any driver's longest frame: what a framer may keep."""
GROWTH_BYTES = 2 << 20
"""Of the process over nine tenths of the inputs: caches of the interpreter, not 3 bytes an input of a million."""


def _low_byte(start: int, sign: int) -> Callable[[bytes], bytes]:
    """The last byte is that of the sum of all from `start` on, or (-1) what makes it zero."""
    return lambda raw: raw[:-1] + bytes((sign * sum(raw[start:-1]) & 0xFF,))


def _word(raw: bytes) -> bytes:
    return raw[:-2] + (sum(raw[:-2]) & 0xFFFF).to_bytes(2, "big")


def _winsen(raw: bytes) -> bytes:
    return _word(raw) if raw[:1] == b"B" else _low_byte(1, -1)(raw)


def _hpma115(raw: bytes) -> bytes:
    return _word(raw) if raw[:1] == b"B" else _low_byte(0, -1)(raw)


def _sps30(raw: bytes) -> bytes:
    body = raw[1:-2]
    return raw[:1] + body + bytes((~sum(body) & 0xFF,)) + raw[-1:]


def _sds011(raw: bytes) -> bytes:
    return raw[:-2] + bytes((sum(raw[2:-2]) & 0xFF,)) + raw[-1:]


def _sdi12(raw: bytes) -> bytes:
    body = raw.rstrip(b"\r\n")[:-3]
    return body + sdi12.crc16(body) + b"\r\n"


_SEALS: dict[str, Callable[[bytes], bytes]] = {
    "a02yyuw": _low_byte(0, 1),
    "hpma115": _hpma115,
    "jsn_sr04t": _low_byte(0, 1),
    "keller_bus": lambda raw: raw[:-2] + keller_bus.crc16(raw[:-2]),
    "mhz19": _winsen,
    "pms3003": _word,
    "pms5003": _word,
    "pms5003t": _word,
    "sdi12": _sdi12,
    "sds011": _sds011,
    "sps30": _sps30,
    "zh03b": _winsen,
}
"""How an input of a driver gets its sum; those that are `modbus` by their link have the same."""


@dataclass(frozen=True, slots=True)
class Result:
    frames: int
    dropped: int
    decoded: int
    refused: int
    grown: int
    """Bytes of resident memory."""


class Fuzz:
    """The inputs of one driver, the same for the same seed."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self._driver: Driver = drivers.find(name)
        self._random = random.Random(f"{seed} {name}")
        vectors = tomllib.loads((_VECTORS / f"{name}.toml").read_text(encoding="utf-8"))["vector"]
        self._known = [bytes.fromhex(v["hex"]) if "hex" in v else v["text"].encode("latin-1") for v in vectors]
        options = [drivers.options(self._driver, v.get("options", {})) for v in vectors]
        self._options = [one for i, one in enumerate(options) if one not in options[:i]]
        self._framers = [(one, self._driver.framer(one)) for one in self._options] if self._driver.framer else []
        modbus = self._driver.link == "modbus"
        self._seal = _SEALS.get(name, (lambda raw: _modbus_rtu.seal(raw[:-2])) if modbus else None)
        self._frames = self._dropped = self._decoded = self._refused = 0

    def run(self, inputs: int) -> Result:
        """Raises AssertionError, with the input, for another exception than FrameError or a framer that keeps too much."""
        before = 0
        for number in range(inputs):
            if number == inputs // 10:
                before = _resident()
            raw = self._input()
            try:
                self._one(raw)
            except Exception as e:
                raise AssertionError(f"{self._driver.name}: input {number}, {raw.hex()}: {e!r}") from e
        return Result(self._frames, self._dropped, self._decoded, self._refused, _resident() - before)

    def _input(self) -> bytes:
        r = self._random
        raw = bytearray(r.choice(self._known))
        for _ in range(r.randrange(5)):
            at = r.randrange(len(raw) + 1)
            match r.randrange(8):
                case 0 | 1 if raw:
                    raw[at % len(raw)] ^= 1 << r.randrange(8)
                case 2 if raw:
                    raw[at % len(raw)] = r.choice((0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)))
                case 3:
                    del raw[at : at + r.randrange(1, 9)]
                case 4:
                    raw[at:at] = r.randbytes(r.randrange(1, 9))
                case 5:
                    raw = raw[:at] + r.choice(self._known)[r.randrange(16) :]
                case 6:
                    raw[at:at] = raw[at : at + r.randrange(1, 9)] * r.randrange(1, 9)
                case 7:
                    raw = bytearray(r.randbytes(at))
        whole = bytes(raw[:2000])
        return self._seal(whole) if self._seal and r.randrange(2) else whole

    def _one(self, raw: bytes) -> None:
        if self._framers:
            options, framer = self._random.choice(self._framers)
            at = self._random.randrange(len(raw) + 1)
            frames = [frame for part in (raw[:at], raw[at:]) for frame in self._cut(framer, part)]
            for frame in frames:
                self._read(self._driver.decode, frame, options)
            if self._driver.dialogue is not None:
                self._read(self._talk, options, frames)
        else:
            options = self._random.choice(self._options)
        self._read(self._driver.decode, raw, options)
        if self._driver.recognise is not None:
            self._read(self._driver.recognise, raw)

    def _cut(self, framer: Framer, part: bytes) -> list[bytes]:
        items = list(framer.feed(part))
        frames = [item for item in items if isinstance(item, bytes)]
        self._frames += len(frames)
        self._dropped += len(items) - len(frames)
        kept = len(framer._buffer)  # type: ignore[attr-defined]
        assert kept < BUFFER_BYTES, f"the framer keeps {kept} bytes"
        return frames

    def _talk(self, options: Options, answers: list[bytes]) -> list[Field]:
        """A dialogue that gets these answers, and then none."""
        assert self._driver.dialogue is not None
        dialogue = self._driver.dialogue(options)
        try:
            next(dialogue)
            for answer in answers:
                dialogue.send(answer)
            while True:
                dialogue.throw(FrameError("timeout", "no answer"))
        except StopIteration as end:
            fields: list[Field] = end.value
            return fields

    def _read(self, read: Callable[..., list[Field]], *arguments: object) -> None:
        try:
            fields = read(*arguments)
        except FrameError:
            self._refused += 1
        else:
            assert all(isinstance(field, Field) for field in fields), f"no fields: {fields!r}"
            self._decoded += 1


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def names() -> list[str]:
    """Every driver that has vectors."""
    return [name for name in drivers.names() if (_VECTORS / f"{name}.toml").exists()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of each driver (default: a million)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("driver", nargs="*")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.driver or names():
        began = time.monotonic()
        try:
            result = Fuzz(name, arguments.seed).run(arguments.inputs)
        except AssertionError as e:
            failed = True
            print(f"FAILED {e}", flush=True)
            continue
        grown = result.grown > GROWTH_BYTES
        failed |= grown
        print(
            f"{'FAILED' if grown else 'ok'} {name}: {arguments.inputs} inputs in {time.monotonic() - began:.0f} s;"
            f" {result.frames} frames, {result.dropped} dropped; {result.decoded} decoded, {result.refused} refused;"
            f" memory {result.grown / 1024:+.0f} KiB",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
