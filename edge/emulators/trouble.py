"""What goes wrong between a device and who listens to it: one layer for all emulators."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from random import Random


@dataclass(slots=True, kw_only=True)
class Trouble:
    """How a device misbehaves. Each may be changed while it runs; by itself nothing does. Seconds are real.

    A frame is what the device sends at once. `lose`, `corrupt` and `noise` are shares from 0 to 1, by `seed` the same each time.
    """

    dribble_s: float = 0.0
    """The bytes come one by one, so far apart."""
    lag_s: float = 0.0
    """Each frame comes so late."""
    split_every: int = 0
    """Each so-manieth frame stops in its middle for `split_s`."""
    split_s: float = 1.6
    lose: float = 0.0
    """Of the bytes, which do not arrive."""
    lose_every: int = 0
    """Each so-manieth frame does not arrive; 0: none is lost."""
    corrupt: float = 0.0
    """Of the frames, in which one bit is inverted. Every sum and CRC shows one bit; plain text has neither."""
    noise: float = 0.0
    """Of the frames, before which some bytes of garbage come."""
    silent: bool = False
    """Nothing arrives. The device works on, and does not know it."""
    restart_every: int = 0
    """After each so-manieth frame the device loses its power for a moment, and forgets what it was told."""
    seed: int = 0
    _random: Random = field(init=False, repr=False)
    frames: int = field(default=0, init=False)
    """How many the device has sent since this trouble began."""

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 - the same trouble each time

    @classmethod
    def parse(cls, text: str) -> "Trouble":
        """From `NAME=VALUE,...`, such as `corrupt=0.05,lag_s=0.3,silent`. Raises ValueError: what was found, what is expected."""
        types = {one.name: one.type for one in fields(cls) if one.init}
        found: dict[str, float | int | bool] = {}
        for item in filter(None, text.split(",")):
            name, _, value = item.strip().partition("=")
            if name not in types:
                raise ValueError(f"trouble {name!r} is unknown, expected {', '.join(types)}")
            kind = types[name]
            try:
                found[name] = _switch(value) if kind is bool else int(value) if kind is int else float(value)
            except ValueError:
                raise ValueError(f"trouble {item.strip()!r}, expected {name}={_EXPECTED[kind]}") from None
            if kind is not bool and not 0 <= found[name] <= _HIGHEST.get(name, float("inf")):
                raise ValueError(f"trouble {item.strip()!r}, expected {name} from 0 to {_HIGHEST.get(name, 'any')}")
        return cls(**found)  # type: ignore[arg-type]

    def text(self) -> str:
        """As `parse` takes it; empty when nothing is wrong."""
        given = [(one.name, getattr(self, one.name), one.default) for one in fields(self) if one.init]
        return ",".join(f"{name}={value:g}" for name, value, default in given if value != default)

    def arriving(self, frame: bytes) -> bytes:
        """What arrives of the next frame."""
        self.frames += 1
        if self.silent or (self.lose_every and self.frames % self.lose_every == 0):
            return b""
        arriving = bytearray(frame)
        if arriving and self._random.random() < self.corrupt:
            arriving[self._random.randrange(len(arriving))] ^= 1 << self._random.randrange(8)
        if self.lose:
            arriving = bytearray(byte for byte in arriving if self._random.random() >= self.lose)
        return bytes(arriving)

    def pieces(self, arriving: bytes) -> Iterator[tuple[float, bytes]]:
        """In which pieces that comes, and after which pause each: garbage first, where there is some."""
        if self.noise and not self.silent and self._random.random() < self.noise:
            yield 0.0, self._random.randbytes(self._random.randint(1, _MOST_NOISE))
        pause_s = self.lag_s
        if self.dribble_s:
            step = 1
        elif self.split_every and self.frames % self.split_every == 0:
            step = len(arriving) // 2 or 1
        else:
            step = len(arriving) or 1
        for start in range(0, len(arriving), step):
            yield pause_s, arriving[start : start + step]
            pause_s = self.dribble_s or self.split_s

    def restarts(self) -> bool:
        """Whether the device restarts after the frame that it has just sent."""
        return bool(self.restart_every) and self.frames % self.restart_every == 0


_MOST_NOISE = 12
_HIGHEST: Mapping[str, float] = {"lose": 1, "corrupt": 1, "noise": 1}
_EXPECTED: Mapping[object, str] = {bool: "1 or 0", int: "a whole number", float: "a number"}


def _switch(text: str) -> bool:
    if text not in ("", "0", "1"):
        raise ValueError(text)
    return text != "0"
