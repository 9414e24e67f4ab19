"""Winsen ZH03B and ZH06 particle sensors on a UART, 9600 8N1; 3.3 V levels, 5 V for the fan.

Source: Winsen, ZH03B laser dust module user's manual. By itself ("initiative upload") it sends 24 bytes, `42 4D 00 14`, with
PM1, PM2.5, PM10 in words 4 to 6; asked ("question and answer") it answers 9 bytes with PM2.5, PM10, PM1, in this order.
"""

from typing import Literal

from edge.sensors import _plantower as plantower
from edge.sensors import _winsen as winsen
from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Driver, Field, FrameError, Identify, Options, Sheet

DATA = 20
MODE, SLEEP = 0x78, 0xA7
_REPLIES = {MODE: "mode", SLEEP: "sleep"}
_ANSWERED = bytes((winsen.READ, *_REPLIES))
_COMMANDS = {
    (winsen.READ, 0): "read",
    (MODE, 0x40): "initiative_mode",
    (MODE, 0x41): "qa_mode",
    (SLEEP, 1): "sleep",
    (SLEEP, 0): "wake",
}

_cut_sent = plantower.cut(DATA)
_begins = head(plantower.BEGINS, winsen.begins(_ANSWERED))


class Zh03bOptions(Options):
    """`mode`: `active` has the sensor send once a second (initiative upload), `query` on request (question and answer)."""

    mode: Literal["active", "query"] = "active"


def _cut(buffer: bytearray) -> Step | None:
    return winsen.cut(buffer) if buffer[0] == winsen.HEAD else _cut_sent(buffer)


def decode(frame: bytes, options: Zh03bOptions) -> list[Field]:
    """One frame of either mode -> `pm1 pm2_5 pm10` in ug/m3; or a `reply` and whether it was `ok`.

    Raises FrameError: `header length checksum`; `warming_up` for a frame of zeros.
    """
    del options
    if frame[:1] != bytes((winsen.HEAD,)):
        payload = plantower.data(frame, DATA)
        plantower.warmed_up(payload)
        pm1, pm2_5, pm10 = plantower.words(payload)[3:6]
    else:
        payload = winsen.data(frame, _ANSWERED)
        if frame[1] != winsen.READ:
            return winsen.reply(_REPLIES[frame[1]], payload)
        plantower.warmed_up(payload)
        pm2_5, pm10, pm1 = plantower.words(payload)
    return [Field("pm1", pm1, "ug/m3"), Field("pm2_5", pm2_5, "ug/m3"), Field("pm10", pm10, "ug/m3")]


def read() -> bytes:
    """Ask for a reading."""
    return winsen.command(winsen.READ)


def initiative_mode() -> bytes:
    """Send a reading every second."""
    return winsen.command(MODE, 0x40)


def qa_mode() -> bytes:
    """Send a reading only when asked."""
    return winsen.command(MODE, 0x41)


def sleep() -> bytes:
    """Stop fan and laser."""
    return winsen.command(SLEEP, 1)


def wake() -> bytes:
    """Start fan and laser."""
    return winsen.command(SLEEP, 0)


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    body = winsen.commanded(frame)
    if not body:
        return []
    name = _COMMANDS.get((body[0], body[1]))
    if name is None:
        raise FrameError("format", f"command {body[0]:02X} {body[1]:02X} is unknown")
    return [Field("command", name, "")]


def setup(options: Zh03bOptions) -> tuple[bytes, ...]:
    """What is sent when the port opens: wake first, then the mode."""
    return wake(), qa_mode() if options.mode == "query" else initiative_mode()


def request(options: Zh03bOptions) -> bytes:
    """What is sent every period: a query in query mode, nothing (no bytes) in active mode."""
    return read() if options.mode == "query" else b""


DRIVER = Driver(
    name="zh03b",
    title="Winsen ZH03B, ZH06 particle sensors (UART, active or query mode)",
    link="stream",
    quantities=("pm1", "pm2_5", "pm10"),
    options=Zh03bOptions,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut, _begins),
    setup=setup,
    request=request,
    identify=Identify(requests=(read(),), reply_s=0.5),
    source="Winsen, ZH03B laser dust module user's manual",
    sheet=Sheet(
        wiring="5 V supply for the fan, 3.3 V levels.",
        limits="0 to 1000 ug/m3. Runs on between readings.",
        faults="Too high in humid air. In query mode the order is PM2.5, PM10, PM1; another program may name "
        "them wrongly.",
        options='mode = "active"',
    ),
    commands={function.__name__: function for function in (read, initiative_mode, qa_mode, sleep, wake)},
    recognise=recognise,
)
