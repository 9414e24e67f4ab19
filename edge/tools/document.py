"""edge.toml as a text to which tables are added: what a person wrote in it stays as it is, comments too."""

import copy
import os
import re
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.toml import value
from edge.errors import ConfigError

_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.-]+)\s*\]\]?\s*(?:#.*)?$")
_COMMENT_COLUMN = 42
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Line:
    """A key of a table, its value, and what a person should know about it."""

    key: str
    value: Any
    comment: str = ""


class Document:
    """`text` is the file as it will be, `data` what it says. Raises ConfigError when the text is no TOML."""

    def __init__(self, text: str, name: str) -> None:
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as e:
            raise ConfigError(f"{name}: not TOML: {e}") from e
        self.text = text
        self._name = name

    @classmethod
    def read(cls, path: Path) -> "Document":
        """The file, or an empty one where there is none. Raises ConfigError."""
        try:
            return cls(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            return cls("", str(path))
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: cannot be read: {e}") from e

    def note(self, comment: str) -> None:
        """A comment at the end."""
        self.text = _joined(self.text, "".join(f"# {line}\n" for line in comment.splitlines()))

    def add(self, header: str, lines: Sequence[Line], comment: str = "", station: int | None = None) -> None:
        """A table `[outputs.siren]` or another of a list `[[station]]`; one that begins `station.` goes into the station of that
        place. Raises ConfigError when the file is written in a way that this would not keep."""
        wanted = copy.deepcopy(self.data)
        _put(wanted, header, {line.key: line.value for line in lines}, station)
        stanza = rendered(header, lines, comment)
        where = len(self.text) if station is None else _end_of_station(self.text, station)
        text = _joined(self.text[:where], stanza, self.text[where:])
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            found = {}
        if found != wanted:
            raise ConfigError(f"{self._name}: cannot be added to by this program, add by hand:\n\n{stanza}")
        self.text, self.data = text, wanted


def rendered(header: str, lines: Sequence[Line], comment: str = "") -> str:
    """A table as text."""
    shown = [f"# {part}" for part in comment.splitlines()] + [header]
    for line in lines:
        text = f"{line.key} = {value(line.value)}"
        shown.append(f"{text:<{_COMMENT_COLUMN - 1}} # {line.comment}" if line.comment else text)
    return "\n".join(shown) + "\n"


def replace_file(path: Path, text: str) -> None:
    """Put `text` into the file, whole or not at all; its owner and rights stay, a new one is for its owner alone (or, by root, for
    the group of its directory). Raises ConfigError."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            _give(descriptor, path)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
        temporary = None
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be written: {e.strerror}") from e
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _give(descriptor: int, path: Path) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        if os.geteuid() == 0:
            os.fchown(descriptor, 0, path.parent.stat().st_gid)
            os.fchmod(descriptor, 0o640)
        else:
            os.fchmod(descriptor, _MODE)
        return
    if os.geteuid() == 0:
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)


def _put(data: dict[str, Any], header: str, table: dict[str, Any], station: int | None) -> None:
    *parents, last = header.strip("[]").split(".")
    place: Any = data
    for name in parents:
        place = place.setdefault(name, {})
        if isinstance(place, list):
            place = place[station if name == "station" and station is not None else -1]
    if header.startswith("[["):
        place.setdefault(last, []).append(table)
    elif last in place:
        raise ConfigError(f"{header}: is there already")
    else:
        place[last] = table


def _end_of_station(text: str, station: int) -> int:
    """Where what belongs to the station of this place ends: before the next table's own comment."""
    lines = text.splitlines(keepends=True)
    seen, end = -1, len(lines)
    for i, line in enumerate(lines):
        if (header := _HEADER.match(line)) is None:
            continue
        name = header[1]
        if seen == station and not name.startswith("station."):
            end = i
            break
        seen += name == "station" and line.lstrip().startswith("[[")
    while end and end < len(lines) and lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return sum(len(line) for line in lines[:end])


def _joined(*parts: str) -> str:
    """With one empty line between them."""
    shown = [part.strip("\n") for part in parts if part.strip("\n")]
    return "\n\n".join(shown) + "\n" if shown else ""
