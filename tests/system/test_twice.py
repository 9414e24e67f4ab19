"""A technician starts by hand what the service already runs: the second one says so and touches nothing."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests import servers
from tests.chain import CENTRAL, Program
from tests.system.test_alarms import EDGE

pytestmark = pytest.mark.system


@pytest.mark.parametrize("program", ["maillages-edge", "maillages-central"])
def test_a_second_one_on_the_same_data_is_refused(tmp_path: Path, program: str) -> None:
    config, log = tmp_path / "config.toml", tmp_path / "first.log"
    nobody = servers.free_port()
    central = CENTRAL.format(data=tmp_path / "data", broker=nobody, influx=f"http://127.0.0.1:{nobody}")
    config.write_text(
        EDGE.format(tmp=tmp_path, nobody=nobody)
        if program.endswith("edge")
        else f"{central}\n[web]\nport = {servers.free_port()}\n"
    )
    first = Program(program, config, log)
    with contextlib.ExitStack() as ends:
        first.start()
        ends.callback(first.kill9)
        servers.wait_until(lambda: "no broker" in log.read_text() or " runs, " in log.read_text(), 30, "the first runs")
        second = subprocess.run([program, "run", "-c", str(config)], capture_output=True, text=True, timeout=30)
        assert second.returncode == 2
        assert "data_dir" in second.stderr
        assert "is in use by another" in second.stderr
        assert first.terminate() == 0
