"""The 9-byte frames of Winsen's sensors: to them `FF 01 | command | 5 data bytes | sum`, from them `FF | command | 6 data
bytes | sum`. The sum is the two's complement of the sum of bytes 1 to 7 (Winsen, MH-Z19B and ZH03B user's manuals).
"""

from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Field, FrameError

HEAD, TO_SENSOR = 0xFF, 0x01
FRAME_BYTES = 9
READ = 0x86


def _sum(frame: bytes | bytearray) -> int:
    return -sum(frame[1:8]) & 0xFF


def _check(frame: bytes | bytearray) -> FrameError | None:
    if frame[8] != _sum(frame):
        return FrameError("checksum", f"sum {frame[8]:02X}, computed {_sum(frame):02X}")
    if frame[1] not in (READ, TO_SENSOR) and any(frame[3:8]):  # an answer to something else
        return FrameError("header", f"{frame[1]:02X} confirmed with data {frame[2:8].hex().upper()}, expected none")
    return None


def begins(commands: bytes) -> tuple[bytes, bytes]:
    """What an answer to one of `commands` begins with (see `_framing.head`)."""
    return bytes((HEAD,)), commands


def cut(buffer: bytearray) -> Step | None:
    """How the answer is cut with which a buffer begins."""
    if len(buffer) < FRAME_BYTES:
        return None
    if error := _check(buffer[:FRAME_BYTES]):
        return 1, error
    return FRAME_BYTES, bytes(buffer[:FRAME_BYTES])


def framer(commands: bytes) -> ScanFramer:
    """A framer of the answers to `commands`."""
    return ScanFramer(cut, head(begins(commands)))


def data(frame: bytes, commands: bytes) -> bytes:
    """The six data bytes of an answer to one of `commands`. Raises FrameError: `header length checksum`."""
    if not frame or frame[0] != HEAD or (len(frame) > 1 and frame[1] not in commands):
        raise FrameError(
            "header",
            f"begins with {frame[:2].hex().upper() or 'nothing'}, expected FF and {' or '.join(f'{c:02X}' for c in commands)}",
        )
    if len(frame) != FRAME_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {FRAME_BYTES}")
    if error := _check(frame):
        raise error
    return frame[2:8]


def reply(name: str, payload: bytes) -> list[Field]:
    """A confirmation: its first data byte is 1 when the command was accepted, the others are zero."""
    return [Field("reply", name, ""), Field("ok", payload[0] == 1, "")]


def command(code: int, *values: int) -> bytes:
    """A command with up to 5 data bytes, the rest zero."""
    frame = bytes((HEAD, TO_SENSOR, code, *values)).ljust(8, b"\0")
    return frame + bytes((_sum(frame),))


def commanded(frame: bytes) -> bytes:
    """Command and data bytes of a command; nothing when it is none. Raises FrameError `checksum`."""
    if len(frame) != FRAME_BYTES or frame[0] != HEAD or frame[1] != TO_SENSOR:
        return b""
    if error := _check(frame):
        raise error
    return frame[2:8]
