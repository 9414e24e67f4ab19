"""The processes that the demo starts: brokers and the programs of this project, as a user would start them."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

_STOP_S = 15.0


class Child:
    """One process, its output in `log`. It has a session of its own, so that Ctrl-C is the demo's to handle."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101 - started before it is asked
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and before it was started."""
        return self._process.poll() if self._process else None

    def stop(self) -> int | None:
        """SIGTERM, then SIGKILL for one that does not end. Gives its exit code; None when it was never started."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def program(name: str) -> str:
    """The path of one of our own commands: beside this Python, or on the PATH. Raises FileNotFoundError."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed, expected it beside {sys.executable} or on the PATH")
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:`port`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False


def iotcore(directory: Path, port: int) -> Child:
    """The embedded broker (rumqttd in a Python wheel). Its own defaults would listen everywhere, without MQTT 5, and take
    20 KB: hence a configuration."""
    config = directory / "iotcore.toml"
    config.write_text(_IOTCORE.format(port=port))
    command = [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]
    return Child("broker", command, directory / "broker.log")


def mosquitto(directory: Path, port: int) -> Child:
    """Debian's Mosquitto. Raises FileNotFoundError."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError("mosquitto is not installed, expected it on the PATH or in /usr/sbin")
    config = directory / "mosquitto.conf"
    config.write_text(_MOSQUITTO.format(port=port))
    return Child("broker", [found, "-c", str(config)], directory / "broker.log")


_IOTCORE = """\
id = 0
[router]
id = 0
max_connections = 20
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 100
"""

_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 100000
log_dest stderr
log_type error
log_type warning
"""
