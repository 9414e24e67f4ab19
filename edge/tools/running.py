"""How the running gateway is, asked over its Unix socket: the object of `/status.json` (edge/situation.py has its members)."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.situation import SOCKET

TIMEOUT_S = 5.0


class NotRunning(EdgeError):
    """Nobody answers for the gateway."""


class NotAllowed(NotRunning):
    """This user may not ask it."""


def situation(data_dir: Path) -> dict[str, Any]:
    """What it knows now. Raises NotRunning or NotAllowed, saying why and what to do."""
    path = data_dir / SOCKET
    connection = _Unix(path)
    try:
        connection.request("GET", "/status.json")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
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
    if not found.get("gateway"):
        raise NotRunning("the gateway has started and does not answer yet: try again in a few seconds")
    return found


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))
