"""Secrets that stand beside a configuration, not in it.

In any text of the file, `${credential:NAME}` stands for the content of the credential NAME (without line ends at its end), and
`${credential_file:NAME}` for the path of its file. A credential is a file: under systemd in `$CREDENTIALS_DIRECTORY`, where
`LoadCredential=credentials:/etc/maillages/credentials` puts the files of that directory under the name `credentials_NAME`
(systemd.exec(5)); otherwise, for a person at a terminal, the file in that directory itself.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DIRECTORY = Path("/etc/maillages/credentials")
_REFERENCE = re.compile(r"\$\{(credential|credential_file):([^}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Loc = tuple[int | str, ...]


class Credentials:
    """Where the credentials are, by the environment of this process."""

    def __init__(self, environment: Mapping[str, str] = os.environ, directory: Path = DIRECTORY) -> None:
        given = environment.get("CREDENTIALS_DIRECTORY")
        self._loaded = Path(given) if given else None
        self._directory = directory

    def file(self, name: str) -> Path:
        """The file of a credential. Raises ValueError that says where it was looked for."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"credential {name!r}: expected a file name of letters, digits, dots, dashes")
        places = [self._directory / name]
        if self._loaded is not None:
            places.insert(0, self._loaded / f"{self._directory.name}_{name}")
        for place in places:
            try:
                if place.is_file():
                    return place
            except PermissionError:
                raise ValueError(f"credential {name}: {place} may not be read by this user, try sudo") from None
        raise ValueError(f"credential {name}: expected a file {' or '.join(map(str, places))}")

    def fill(self, text: str) -> str:
        """`text` with its credentials in place. Raises ValueError naming one that is not there or cannot be read."""
        return _REFERENCE.sub(lambda found: self._value(found[1], found[2]), text)

    def _value(self, what: str, name: str) -> str:
        path = self.file(name)
        if what == "credential_file":
            return str(path)
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as e:
            raise ValueError(f"credential {name}: {path} cannot be read: {e.strerror}") from e
        except UnicodeDecodeError as e:
            raise ValueError(f"credential {name}: {path}: expected text (UTF-8)") from e


def references(data: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Where in a parsed file credentials are named: its place and the text that stands there."""
    if isinstance(data, str):
        if _REFERENCE.search(data):
            yield loc, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from references(value, (*loc, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from references(value, (*loc, index))
