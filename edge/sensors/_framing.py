"""The one stream framer: a protocol says how its next frame is cut, the rest (resynchronising, counting noise) is here."""

from collections.abc import Callable, Iterator

from edge.sensors.base import FrameError

Step = tuple[int, bytes | FrameError | None]
"""How many bytes to take off the buffer, and what they were: a frame (without bytes: none, and no fault either, such as a
blank line), something dropped, or (None) noise."""

Cut = Callable[[bytearray], Step | None]
"""Decides on the first bytes of a buffer that is never empty; None asks for more.

A decision must hold whatever follows: given once for a buffer, the same for every longer one that begins with it. That
makes the frames independent of how the bytes were split. A cut must decide within a bounded number of bytes, and take one
byte, not the frame, when a check fails. Noise is given one byte at a time.
"""

NOISE_BYTES = 64
"""A run of noise is reported at its first byte, then once per this many: the count stays a count of faults, not of bytes."""


class ScanFramer:
    """A Framer (edge.sensors.base) over a `Cut`. `feed` must be iterated to its end; it keeps at most one unfinished frame."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._buffer = bytearray()
        self._noise = 0

    def feed(self, data: bytes) -> Iterator[bytes | FrameError]:
        self._buffer += data
        while self._buffer and (step := self._cut(self._buffer)) is not None:
            length, item = step
            byte = self._buffer[0]
            del self._buffer[:length]
            if item is None:
                self._noise += 1
                if self._noise % NOISE_BYTES == 1:
                    yield FrameError("header", f"byte {byte:02X} begins no frame")
            elif item != b"":
                # What is left of a dropped frame is not a second fault.
                self._noise = 1 if isinstance(item, FrameError) else 0
                yield item

    def reset(self) -> None:
        self._buffer.clear()
        self._noise = 0
