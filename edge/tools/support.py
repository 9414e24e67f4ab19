"""What goes to support: findings, state, log and configuration in one archive, without secrets.

What is a secret: edge/secrets.py. The comments of the configuration are left out too.
"""

import io
import json
import subprocess
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.secrets import clean, secrets_of, without_secrets
from edge.tools.doctor import Finding

_LOG_LINES = "5000"


def pack(path: Path, config: Path, findings: Iterable[Finding], situation: dict[str, Any] | None) -> None:
    """Write the archive, for its owner alone. Raises OSError."""
    try:
        data = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = {}
    secrets = secrets_of(data)
    files = {
        "findings.json": _json([clean(f.value(), secrets) for f in findings]),
        "configuration.json": _json(clean(without_secrets(data), secrets)),
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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _log() -> str:
    command = ["journalctl", "-u", "maillages-edge", "-n", _LOG_LINES, "--no-pager", "-o", "short-iso"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"no log: {e}\n"
    return done.stdout or f"no log: {done.stderr}\n"
