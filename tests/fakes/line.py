"""Serial lines that misbehave: mixed into a simulated device before its class, as `class Dribbling(Dribble, Mb7389)`.

Each says by `write` whether the frame still went whole, so the device's own log stays true.
"""

import random

PAUSE_S = 1.6


class Dribble:
    """One byte at a time, with a pause before each but the first."""

    pause_s = 0.02

    def write(self, data: bytes) -> bool:
        for i in range(len(data)):
            if i:
                self.pause(self.pause_s)
            if not super().write(data[i : i + 1]):
                return False
        return True


class SplitFrame:
    """Every `every`th frame stops in its middle for 1.6 s."""

    every = 3
    _frames = 0

    def write(self, data: bytes) -> bool:
        self._frames += 1
        if self._frames % self.every:
            return super().write(data)
        half = len(data) // 2
        super().write(data[:half])
        self.pause(PAUSE_S)
        return super().write(data[half:])


class Noise:
    """Random bytes before every second frame."""

    _frames = 0
    _random = random.Random(1)

    def write(self, data: bytes) -> bool:
        self._frames += 1
        if self._frames % 2 == 0:
            super().write(self._random.randbytes(self._random.randint(1, 12)))
        return super().write(data)


class LostBytes:
    """Every third frame lacks a byte, in turn each one of it."""

    _frames = 0

    def write(self, data: bytes) -> bool:
        self._frames += 1
        if self._frames % 3:
            return super().write(data)
        lost = self._frames // 3 % len(data)
        super().write(data[:lost] + data[lost + 1 :])
        return False


class Silent:
    """Says nothing while `silent`."""

    silent = False

    def write(self, data: bytes) -> bool:
        return not self.silent and super().write(data)
