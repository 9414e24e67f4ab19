"""Ultrasonic range finders that send FF, the distance in mm (two bytes, high first) and a sum: what their drivers share."""

from collections.abc import Callable

from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Field, FrameError

HEAD, FRAME_BYTES = 0xFF, 4

Sum = Callable[[bytes | bytearray], int]
"""The sum of a frame (or of more bytes that begin with one)."""


def sum_with_head(frame: bytes | bytearray) -> int:
    return (frame[0] + frame[1] + frame[2]) & 0xFF


def sum_of_data(frame: bytes | bytearray) -> int:
    return (frame[1] + frame[2]) & 0xFF


def framer(checksum: Sum) -> ScanFramer:
    """A framer of frames with this sum."""

    def cut(buffer: bytearray) -> Step | None:
        if len(buffer) < FRAME_BYTES:
            return None
        if error := _check(buffer, checksum):
            return 1, error
        return FRAME_BYTES, bytes(buffer[:FRAME_BYTES])

    return ScanFramer(cut, head((bytes((HEAD,)),)))


def distance(frame: bytes, checksum: Sum, *, blind_mm: int, farthest_mm: int) -> list[Field]:
    """One frame -> `water_distance` in m.

    Raises FrameError: `header length checksum`; `no_target` for 0; `blind_zone` with `at_most_m` up to `blind_mm`;
    `out_of_range` beyond `farthest_mm`.
    """
    if frame[:1] != bytes((HEAD,)):
        raise FrameError("header", f"begins with {frame[:1].hex().upper() or 'nothing'}, expected {HEAD:02X}")
    if len(frame) != FRAME_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {FRAME_BYTES}")
    if error := _check(frame, checksum):
        raise error
    value = int.from_bytes(frame[1:3], "big")
    if value == 0:
        raise FrameError("no_target", "0 mm means that no echo came back")
    if value <= blind_mm:
        raise FrameError(
            "blind_zone", f"{value} mm: the target is at or inside {blind_mm} mm", at_most_m=blind_mm / 1000
        )
    if value > farthest_mm:
        raise FrameError("out_of_range", f"{value} mm, the sensor measures up to {farthest_mm} mm")
    return [Field("water_distance", value / 1000, "m")]


def _check(frame: bytes | bytearray, checksum: Sum) -> FrameError | None:
    if frame[3] != checksum(frame):
        return FrameError("checksum", f"sum {frame[3]:02X}, computed {checksum(frame):02X}")
    return None
