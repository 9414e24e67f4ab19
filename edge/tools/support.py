"""What goes to support: findings, state, log and configuration in one archive, without secrets.

Two nets: in the configuration what stands under a secret's name is left out, and so are its comments; in every text what looks like a
key or a telephone number is blotted out, and so are the secrets of the configuration, wherever they stand.
"""

import contextlib
import io
import json
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.credentials import Credentials, references
from edge.tools.doctor import Finding

BLOT = "***"
_SECRET_NAME = re.compile(r"pin$|password|passphrase|secret|token|phone|key$", re.IGNORECASE)
_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", re.DOTALL),
    re.compile(r"(?<![\w])(?:\+|00)[1-9](?:[ ./-]?\d){7,14}(?!\d)"),
    re.compile(r"(?<![\w.])0\d{1,3}[ ./-]?\d{2,3}(?:[ ./-]?\d{2}){2}(?![\d.])"),
    re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32,}(?![0-9A-Za-z])"),
    re.compile(r"(?<![0-9A-Za-z+/])(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*\d)[A-Za-z0-9+/]{40,}={0,2}"),
    re.compile(r"(?<=://)[^/\s@]+@"),
)
_LOG_LINES = "5000"


def pack(path: Path, config: Path, findings: Iterable[Finding], situation: dict[str, Any] | None) -> None:
    """Write the archive, for its owner alone. Raises OSError."""
    try:
        data = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = {}
    secrets = sorted({text for text in (*_secrets(data), *_credentials(data)) if text}, key=len, reverse=True)
    files = {
        "findings.json": _json([clean(f.value(), secrets) for f in findings]),
        "configuration.json": _json(clean(_without(data), secrets)),
        "status.json": _json(clean(situation, secrets)),
        "log.txt": clean(_log(), secrets),
    }
    with path.open("xb") as file:
        path.chmod(0o600)
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))


def clean(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A value without what looks like a secret, and without `secrets`."""
    if isinstance(value, dict):
        return {key: clean(part, secrets) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean(part, secrets) for part in value]
    if not isinstance(value, str):
        return value
    for pattern in _PATTERNS:
        value = pattern.sub(BLOT, value)
    for secret in secrets:
        value = re.sub(rf"(?<![0-9A-Za-z]){re.escape(secret)}(?![0-9A-Za-z])", BLOT, value)
    return value


def _secrets(data: Any, *, within: bool = False) -> Iterator[str]:
    if isinstance(data, dict):
        for key, part in data.items():
            yield from _secrets(part, within=within or _names_secret(key, part))
    elif isinstance(data, list):
        for part in data:
            yield from _secrets(part, within=within)
    elif within:
        yield str(data)


def _credentials(data: Any) -> Iterator[str]:
    """The values of those that the configuration names, as far as they can be read."""
    for _, text in references(data):
        with contextlib.suppress(ValueError):
            yield Credentials().fill(text)


def _without(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: BLOT if _names_secret(key, part) else _without(part) for key, part in data.items()}
    return [_without(part) for part in data] if isinstance(data, list) else data


def _names_secret(key: str, value: Any) -> bool:
    """A pin of the Pi is a number, a path of a key a file's name: neither is secret."""
    if key == "pin":
        return isinstance(value, str)
    return _SECRET_NAME.search(key) is not None and not (key == "key" and str(value).startswith("/"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _log() -> str:
    command = ["journalctl", "-u", "maillages-edge", "-n", _LOG_LINES, "--no-pager", "-o", "short-iso"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"no log: {e}\n"
    return done.stdout or f"no log: {done.stderr}\n"
