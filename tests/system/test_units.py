"""The systemd units, as far as a machine without systemd can tell: their syntax, and readiness on a real notify socket."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.chain import Account, Chain
from tests.system.test_alarms import EDGE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("unit", ["maillages-edge.service", "maillages-central.service"])
def test_units_are_notify_units_that_restart_and_wait_for_no_network(unit: str) -> None:
    text = (ROOT / "systemd" / unit).read_text()
    assert "Type=notify" in text
    assert "WatchdogSec=" in text
    assert "Restart=always" in text
    assert "network" not in "".join(line for line in text.splitlines() if not line.startswith(("#", "Description")))


needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


@needs_systemd_analyze
@pytest.mark.parametrize("unit", [path.name for path in sorted((ROOT / "systemd").glob("*.service"))])
def test_units_verify(unit: str, tmp_path: Path) -> None:
    installed = tmp_path / unit
    text = (ROOT / "systemd" / unit).read_text()
    text = re.sub(r"^(User|Group)=maillages\n", "", text, flags=re.MULTILINE)
    installed.write_text(re.sub(r"(=)(/opt/maillages/bin/|/usr/bin/chronyc)", r"\1/bin/true ", text))
    done = subprocess.run(["systemd-analyze", "verify", str(installed)], capture_output=True, text=True, check=False)
    # Loading a kernel module is another unit's, which a machine without systemd may not have.
    said = [line for line in done.stderr.splitlines() if unit in line and "modprobe@" not in line]
    assert not said, done.stderr


@needs_systemd_analyze
@pytest.mark.parametrize("unit", ["maillages-edge.service", "maillages-central.service"])
def test_units_are_confined(unit: str) -> None:
    """An exposure of at most 1.5, as systemd counts it."""
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--threshold=15",
        "--no-pager",
        str(ROOT / "systemd" / unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_each_udev_rule_is_a_list_of_matches_and_assignments() -> None:
    term = r'[A-Z]+(\{[A-Za-z0-9_/]+\})?(==|!=|=|\+=|:=)"[^"]*"'
    for line in (ROOT / "systemd/udev/60-maillages.rules").read_text().splitlines():
        assert not line or line.startswith("#") or re.fullmatch(f"{term}(, {term})*", line), line


@pytest.mark.system
@needs_systemd_analyze
def test_both_do_their_work_under_the_system_calls_that_their_units_leave_them(tmp_path: Path) -> None:
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        for program in (chain.edge, chain.central):
            unit = ROOT / "systemd" / f"{program.command[0]}.service"
            program.command = [sys.executable, str(ROOT / "tests/fakes/confined.py"), str(unit), *program.command]
        try:
            chain.start()
            chain.wait_sent(20, 20)
            for program in (chain.edge, chain.central):
                assert "Seccomp:\t2" in Path(f"/proc/{program.pid}/status").read_text()
            chain.finish()
        finally:
            chain.stop()
        account = Account()
        chain.verify(account)
        assert account.injected is not None
        assert account.injected >= 20


@pytest.mark.system
@pytest.mark.timeout(240)
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
