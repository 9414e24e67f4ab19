"""Real servers for tests: InfluxDB 1.x, Mosquitto and PostgreSQL on free loopback ports, their data in a directory of the test.

    with servers.influxd(tmp_path) as influx:
        requests to influx.url ...
        influx.kill9()
        influx.restart()      # same port, same data

Each starts as soon as the block is entered, is ready when it is, and is ended by its process id when the block is left.
Ports are taken once and kept across restarts. A missing program skips the test, unless MAILLAGES_REQUIRE_SERVERS is set.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

HOST = "127.0.0.1"
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


PATIENCE_S = 60.0
"""Ten programs that start on two processors take half a minute: a deadline is there to end what hangs, never to measure speed."""


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll `condition` until it holds; TimeoutError naming `what` when it does not within `timeout_s`, or `PATIENCE_S` if that is more."""
    deadline = time.monotonic() + max(timeout_s, PATIENCE_S)
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {max(timeout_s, PATIENCE_S)} s")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:`port`."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


class Server:
    """One process listening on 127.0.0.1:`port`, its output in `log`."""

    def __init__(self, command: list[str], port: int, log: Path, ready: Callable[[], bool]) -> None:
        self.command = command
        self.user: dict[str, Any] = {}  # as whom it runs, if not as who tests
        self.port = port
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it serves. RuntimeError with the end of its log when it ends or does not get ready."""
        assert self._process is None, "already running"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.log.parent, **self.user
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                code = self._process.poll()
                self.kill9()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.command[0]} not ready on port {self.port} (exit code {code}):\n{tail}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not end."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill9(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: it holds its port and answers nothing, until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Influxd(Server):
    """InfluxDB 1.x; `url` has no trailing slash. No database exists at first."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


class Mosquitto(Server):
    """Mosquitto with one listener that lets everyone in, unless the extra configuration says otherwise."""


class Postgres(Server):
    """A PostgreSQL cluster of its own. `database()` gives the URL of an empty schema: a database of its own takes 8 MB."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        super().__init__(command, port, log, self._answers)
        self._made = 0

    def database(self) -> str:
        self._made += 1
        name = f"state{self._made}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql://maillages@{HOST}:{self.port}/postgres?options=-csearch_path%3D{name}"

    def connect(self, url: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of its own, in autocommit; `url` one of `database()`."""
        return psycopg.connect(url or f"postgresql://maillages@{HOST}:{self.port}/postgres", autocommit=True)

    def stop(self) -> None:
        """SIGINT: it ends its connections and then itself."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
        super().stop()

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _program(name: str, more: str = "") -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin" + more)
    if found is None:
        message = f"{name} is not installed"
        if os.environ.get("MAILLAGES_REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def _pings(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 204
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def influxd(directory: Path, *, auth: bool = False, http: str = "") -> Iterator[Influxd]:
    """InfluxDB of Debian (1.6) below `directory`/influxd. `auth` asks for passwords; `http` is more of its [http] section."""
    program = _program("influxd")
    home = directory / "influxd"
    home.mkdir(parents=True, exist_ok=True)
    port, rpc = free_port(), free_port()
    config = home / "influxdb.conf"
    config.write_text(f"""reporting-disabled = true
bind-address = "{HOST}:{rpc}"
[meta]
  dir = "{home}/meta"
[data]
  dir = "{home}/data"
  wal-dir = "{home}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "{HOST}:{port}"
  log-enabled = false
  auth-enabled = {str(auth).lower()}
{http}
[ifql]
  enabled = false
[logging]
  level = "warn"
""")
    server = Influxd([program, "-config", str(config)], port, home / "influxd.log", lambda: _pings(port))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def mosquitto(directory: Path, extra: str = "", *, port: int | None = None) -> Iterator[Mosquitto]:
    """Mosquitto below `directory`/mosquitto; `extra` is more configuration, after the listener's.

    Its sessions are saved every second and on stop; what a `kill9` loses is what came after the last save.
    """
    program = _program("mosquitto")
    home = directory / "mosquitto"
    home.mkdir(parents=True, exist_ok=True)
    listen = port or free_port()
    access = "" if "allow_anonymous" in extra else "allow_anonymous true\n"
    user = "user root\n" if os.geteuid() == 0 else ""
    config = home / "mosquitto.conf"
    config.write_text(f"""{user}persistence true
persistence_location {home}/
autosave_interval 1
max_queued_messages 500000
log_dest stderr
log_type error
log_type warning
log_type notice
listener {listen} {HOST}
{access}{extra}
""")
    server = Mosquitto([program, "-c", str(config)], listen, home / "mosquitto.log", lambda: accepts(listen))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL of Debian. It refuses to run as root: then it runs as nobody, so its directory is one that nobody can reach.

    It does not wait for the disk: what a machine that loses its power would lose, no test looks at.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    where = "".join(f":{folder}" for folder in versions)
    initdb, program = _program("initdb", where), _program("postgres", where)
    user = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="maillages-pg-") as home:
        if user:
            shutil.chown(home, "nobody", "nogroup")
        data = f"{home}/data"
        subprocess.run(
            [initdb, "-D", data, "-U", "maillages", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=home,
            **user,
        )
        port = free_port()
        settings = {
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "log_min_messages": "fatal",
            "log_statement": "none",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = Postgres([program, "-D", data, *options], port, Path(home) / "postgres.log")
        server.user = user
        server.start()
        try:
            yield server
        finally:
            server.stop()
