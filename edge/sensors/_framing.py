"""The one stream framer: a protocol says what its frames begin with and how the next one is cut, the rest (finding it,
resynchronising, counting noise) is here."""

import re
from collections.abc import Callable, Iterator, Sequence

from edge.sensors.base import FrameError

Step = tuple[int, bytes | FrameError | None]
"""How many bytes to take off the buffer, and what they were: a frame (without bytes: none, and no fault either, such as a
blank line), something dropped, or (None) noise."""

Cut = Callable[[bytearray], Step | None]
"""Decides on the first bytes of a buffer that is never empty, and matches the head where there is one; None asks for more.

A decision must hold whatever follows: given once for a buffer, the same for every longer one that begins with it. That
makes the frames independent of how the bytes were split. A cut must decide within a bounded number of bytes, and take one
byte, not the frame, when a check fails.
"""

NOISE_BYTES = 64
"""A run of noise is reported at its first byte, then once per this many: the count stays a count of faults, not of bytes."""


def head(*beginnings: Sequence[bytes]) -> re.Pattern[bytes]:
    """What a frame can begin with, each beginning as its bytes in order, and of each those that can stand there.

    `head((b"\\xaa", b"\\xc0\\xc5"))` is AA C0 or AA C5. The pattern matches a beginning that the end of the bytes cuts short too.
    """

    def pattern(beginning: Sequence[bytes]) -> bytes:
        first, *rest = beginning
        return b"[%b]" % re.escape(first) + (b"(?:%b|\\Z)" % pattern(rest) if rest else b"")

    return re.compile(b"|".join(map(pattern, beginnings)))


class ScanFramer:
    """A Framer (edge.sensors.base) over a `Cut`, asked wherever `begins` (see `head`) matches; without it, at every byte.

    `feed` must be iterated to its end, or up to a frame: then the next `feed` goes on behind it. Of what was iterated to its end
    it keeps at most one unfinished frame. Its time grows with the number of bytes, whatever they are.
    """

    def __init__(self, cut: Cut, begins: re.Pattern[bytes] | None = None) -> None:
        self._cut = cut
        self._begins = begins
        self._buffer = bytearray()
        self._noise = 0

    def feed(self, data: bytes) -> Iterator[bytes | FrameError]:
        buffer = self._buffer
        buffer += data
        while buffer:
            start = self._next(buffer, self._noise > 0)
            if start:
                yield from self._drop(start)
                if not buffer:
                    return
            step = self._cut(buffer)
            if step is None:
                return
            length, item = step
            if item is None:
                yield from self._drop(length)
                continue
            del buffer[:length]
            if item != b"":
                # What is left of a dropped frame is not a second fault.
                self._noise = 1 if isinstance(item, FrameError) else 0
                yield item

    def _next(self, buffer: bytearray, noisy: bool) -> int:  # noqa: ARG002 - one framer's answer depends on it
        """Where the cut is to be asked first, the length of the buffer if nowhere; `noisy`: what came before it was noise.

        What it passes over must be no frame, whatever follows.
        """
        if self._begins is None:
            return 0
        found = self._begins.search(buffer)
        return found.start() if found else len(buffer)

    def _drop(self, length: int) -> list[FrameError]:
        """Take noise off the buffer; what is to be reported of it."""
        reported = self._buffer[-self._noise % NOISE_BYTES : length : NOISE_BYTES]
        del self._buffer[:length]
        self._noise += length
        return [FrameError("header", f"byte {byte:02X} begins no frame") for byte in reported]

    def reset(self) -> None:
        self._buffer.clear()
        self._noise = 0
