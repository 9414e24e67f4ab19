"""What the tools say: results on standard output, notes and progress on standard error; colour on a terminal only."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import typer

from edge.sensors.base import Field, FrameError

PIPE_COLUMNS = 120
"""Width of what goes into a pipe or file."""

GOOD, WARNING, BAD, STRONG, FAINT = "good", "warning", "bad", "strong", "faint"
_STYLES: dict[str, dict[str, Any]] = {
    GOOD: {"fg": "green"},
    WARNING: {"fg": "yellow"},
    BAD: {"fg": "red"},
    STRONG: {"bold": True},
    FAINT: {"dim": True},
}
_CLEAR = "\r\x1b[K"


def paint(text: str, style: str) -> str:
    """`text` in a style; Screen takes it off again where there is no terminal."""
    return typer.style(text, **_STYLES[style])


class Screen:
    """Standard output and error of a tool; may be used from several threads. NO_COLOR is obeyed (no-color.org).

    With `as_json` standard output carries the objects given to `say`, one a line, and no text.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._lock = threading.Lock()
        self._colour = False if os.environ.get("NO_COLOR") else None
        self._shows_progress = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._progress = ""

    @property
    def columns(self) -> int:
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS

    def say(self, lines: Iterable[str], value: Any) -> None:
        """A result: its lines for people, or the object that says the same."""
        text = json.dumps(value, ensure_ascii=False) if self.as_json else "\n".join(lines)
        with self._lock:
            self._clear()
            typer.echo(text, color=self._colour)
            self._draw()

    def note(self, text: str) -> None:
        """Something beside the results, for people."""
        with self._lock:
            self._clear()
            typer.echo(text, err=True, color=self._colour)
            self._draw()

    def progress(self, text: str) -> None:
        """What is going on, in one line that the next one replaces; an empty text ends it. Only on a terminal."""
        with self._lock:
            if self._shows_progress and text != self._progress:
                self._clear()
                self._progress = text
                self._draw()

    def _clear(self) -> None:
        if self._progress:
            typer.echo(_CLEAR, nl=False, err=True, color=True)

    def _draw(self) -> None:
        if self._progress:
            shown = self._progress[: shutil.get_terminal_size().columns - 1]
            typer.echo(paint(shown, FAINT), nl=False, err=True, color=self._colour)


def time_of_day(wall_s: float) -> str:
    """Local time, as `18:05:00.123`."""
    return datetime.fromtimestamp(wall_s, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    s = int(max(0.0, seconds))
    if s < 120:
        return f"{s} s"
    if s < 7200:
        return f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60:02d}" if s < 172800 else f"{s // 86400} d {s % 86400 // 3600} h"


def field_text(field: Field) -> str:
    """A field for people: `pm2_5 12.3 ug/m3`."""
    name = field.name if field.channel is None else f"{field.name}[{field.channel}]"
    unit = "" if field.unit in ("", "1") else f" {field.unit}"
    return f"{name} {field.value}{unit}"


def field_object(field: Field) -> dict[str, Any]:
    """A field as `decode` prints it."""
    shown = {"quantity": field.name, "value": field.value, "unit": field.unit}
    return shown if field.channel is None else shown | {"channel": field.channel}


def error_object(error: FrameError) -> dict[str, str]:
    return {"kind": error.kind, "reason": error.reason}


def hexadecimal(data: bytes) -> str:
    return data.hex(" ").upper()


def printable(data: bytes) -> str:
    """Bytes as characters, a dot for what is none."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
