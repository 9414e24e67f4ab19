"""A counter that never gives a number twice, through battery changes and power cuts at any moment.

It writes ahead: `STEP` numbers are reserved in flash before the first of them is given, and a boot goes on behind the last
reserved one. Two files take turns, so a torn write costs only itself: the other still holds the reservation before it,
and of the new one nothing had been given.

    record   reserved up to (4 bytes), the same with all bits turned (4 bytes)

Flash wear: one write every STEP packets. Every 10 minutes that is 821 writes a year, 411 to each file; the flash of a Pico bears
100,000 erasures of each sector (Winbond W25Q16JV), which littlefs spreads over 352 sectors besides. A boot costs a write,
but only when it sends, and at most STEP of four thousand million numbers: enough for 67 million battery changes.
"""

import struct

STEP = 64
LAST = 0xFFFFFFFF


class CounterLost(Exception):
    """What was reserved is not known any more. To begin anew would repeat numbers: the node needs a new key."""


class Counter:
    """`open_file` is the file system's: littlefs keeps the old content until a file is closed. A test passes one that loses
    power."""

    def __init__(self, folder=".", open_file=open):
        self._files = (folder + "/counter.a", folder + "/counter.b")
        self._open = open_file
        found = [self._read(name) for name in self._files]
        known = [value for value in found if value is not None and value >= 0]
        if not known and found[0] is not None and found[1] is not None:
            raise CounterLost()
        # A torn file without another is the very first reservation: nothing was given.
        self._reserved = max(known) if known else 0
        self._turn = 1 if known and found[0] == self._reserved else 0
        self._given = self._reserved

    def next(self):
        """A number that was never given. Raises OSError when flash does not take the reservation: nothing is given then."""
        if self._given == self._reserved:
            self._reserve()
        self._given += 1
        return self._given

    def _reserve(self):
        end = self._reserved + STEP
        if end > LAST:
            raise CounterLost()
        name = self._files[self._turn]
        with self._open(name, "wb") as file:
            file.write(struct.pack(">II", end, end ^ LAST))
        if self._read(name) != end:
            raise OSError("flash does not keep what was written")
        self._reserved = end
        self._turn = 1 - self._turn

    def _read(self, name):
        """What a file reserves, -1 when it is torn, None when there is none."""
        try:
            with self._open(name, "rb") as file:
                record = file.read()
        except OSError:
            return None
        if len(record) != 8:
            return -1
        end, turned = struct.unpack(">II", record)
        return end if end ^ turned == LAST else -1
