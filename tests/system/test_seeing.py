"""What the tools say of a gateway that runs, and of one that does not: real processes, a real terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.system.test_local_page import Shed, shed

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent


def run(shed: Shed, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    line = [BIN / "maillages-edge", command, "-c", shed.config, *more]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_status_and_doctor_ask_the_running_gateway_and_say_when_none_runs(tmp_path: Path) -> None:
    with shed(tmp_path) as here:
        said = run(here, "status")
        assert (said.returncode, said.stderr) == (0, "")
        (line,) = (line.split() for line in said.stdout.splitlines() if line.startswith("hoyoux-huy/level-1"))
        assert line[1:4] == ["water_level", "0.6", "m"]
        assert "\x1b" not in said.stdout
        assert "link     DOWN" in said.stdout
        told = json.loads(run(here, "status", "--json").stdout)
        assert told["stations"][0]["sensors"][0]["measures"][0]["value"] == 0.6
        assert (tmp_path / "edge/status.sock").stat().st_mode & 0o077 == 0

        here.distance_m = 2.5
        servers.wait_until(lambda: "level 3" in run(here, "status").stdout, 30, "the alarm")

        found = {
            (row["name"], row["verdict"]) for row in map(json.loads, run(here, "doctor", "--json").stdout.splitlines())
        }
        assert {
            ("gateway", "good"),
            ("broker", "bad"),
            ("ports", "bad"),
            ("sensors", "bad"),
            ("siren", "good"),
        } <= found

        screen = drawn(here)
        assert b"\x1b[?1049h" in screen
        assert b"hoyoux-huy/level-1" in screen
        assert screen.endswith(b"\x1b[?25h\x1b[?1049l"), "the terminal is left as it was"

        here.edge.kill9()
        gone = run(here, "status")
        assert (gone.returncode, gone.stdout) == (1, "")
        assert "the gateway does not run: sudo systemctl start maillages-edge" in gone.stderr
        here.edge.start()
        servers.wait_until(lambda: run(here, "status").returncode == 0, 30, "the gateway after kill -9")


def drawn(here: Shed) -> bytes:
    """What a terminal gets, until Ctrl-C after the first picture."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests were started in the background
        os.execv(BIN / "maillages-edge", ["maillages-edge", "status", "-c", str(here.config)])  # noqa: S606
    screen, asked = b"", False
    while True:
        try:
            screen += os.read(terminal, 65536)
        except OSError:
            break
        if not asked and b"clock" in screen:
            asked = True
            os.kill(pid, signal.SIGINT)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return screen
