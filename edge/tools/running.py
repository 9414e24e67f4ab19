"""The running gateway, asked over its Unix socket: how it is (`/status.json`, edge/situation.py has its members), an exercise."""

import http.client
import json
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.situation import SOCKET

TIMEOUT_S = 5.0


class NotRunning(EdgeError):
    """Nobody answers for the gateway."""


class NotAllowed(NotRunning):
    """This user may not ask it."""


class NotDone(EdgeError):
    """The gateway refuses; the text is its own."""


def situation(data_dir: Path) -> dict[str, Any]:
    """What it knows now. Raises NotRunning or NotAllowed, saying why and what to do."""
    found = ask(data_dir, "GET", "/status.json")
    if not found.get("gateway"):
        raise NotRunning("the gateway has started and does not answer yet: try again in a few seconds")
    return found


def ask(
    data_dir: Path, method: str, target: str, body: dict[str, Any] | None = None, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """One request. Raises NotRunning or NotAllowed, and NotDone with what the gateway says."""
    path = data_dir / SOCKET
    connection = _Unix(path, timeout_s)
    try:
        connection.request(method, target, None if body is None else json.dumps(body))
        response = connection.getresponse()
        found: dict[str, Any] = json.loads(response.read())
    except PermissionError:
        raise NotAllowed(f"{path} may not be used by this user: give the command with sudo") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(
            "the gateway does not run: sudo systemctl start maillages-edge; journalctl -eu maillages-edge says why it ended"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise NotRunning(f"the gateway does not answer ({e}): journalctl -eu maillages-edge") from None
    finally:
        connection.close()
    if response.status == HTTPStatus.CONFLICT:
        raise NotDone(found["error"])
    return found


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
