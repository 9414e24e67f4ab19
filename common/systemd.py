"""sd_notify(3): readiness and watchdog pings over the datagram socket that the service manager names. Nothing without one."""

import os
import socket


def notify(state: str) -> bool:
    """Send a state such as `READY=1` or `WATCHDOG=1`. False when no service manager listens; never raises for that."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall(state.encode())
        except OSError:
            return False
    return True
