"""The systemd units, as far as a machine without systemd can tell: their syntax, and readiness on a real notify socket."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests import servers
from tests.system.test_alarms import EDGE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("unit", ["maillages-edge.service", "maillages-central.service"])
def test_units_are_notify_units_that_restart_and_wait_for_no_network(unit: str) -> None:
    text = (ROOT / "systemd" / unit).read_text()
    assert "Type=notify" in text
    assert "WatchdogSec=" in text
    assert "Restart=always" in text
    assert "network" not in "".join(line for line in text.splitlines() if not line.startswith(("#", "Description")))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", ["maillages-edge.service", "maillages-central.service"])
def test_units_verify(unit: str, tmp_path: Path) -> None:
    installed = tmp_path / unit
    text = (ROOT / "systemd" / unit).read_text()
    installed.write_text(text.replace("/opt/maillages/bin/", "/bin/true ").replace("User=maillages\n", ""))
    done = subprocess.run(["systemd-analyze", "verify", str(installed)], capture_output=True, text=True, check=False)
    assert unit not in done.stderr, done.stderr


@pytest.mark.system
@pytest.mark.timeout(60)
def test_the_gateway_is_ready_and_feeds_the_watchdog_with_no_broker(tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(EDGE.format(tmp=tmp_path, nobody=servers.free_port()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process = subprocess.Popen(
            ["maillages-edge", "run", "-c", str(config)],
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            process.terminate()
            said = manager.recv(100)
            while said == b"WATCHDOG=1":
                said = manager.recv(100)
            assert said == b"STOPPING=1"
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
