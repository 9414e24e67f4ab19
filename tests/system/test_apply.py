"""`maillages-edge apply` with a real gateway process: no reading and no alarm is lost. That what is not healthy goes back: test_push.py."""

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clock import Clock
from edge.alarm_log import AlarmLog
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.sds011 import Sds011
from tests import servers
from tests.chain import Program

pytestmark = pytest.mark.system

COMMAND = Path(sys.executable).parent / "maillages-edge"
SENSOR = """
[[station.sensor]]
id = "dust"
driver = "sds011"
port = "{tmp}/ttyDUST"
period_s = 1
median_s = 1
"""
EDGE = """
[gateway]
id = "gw"
data_dir = "{tmp}/data"
[clock]
trust = "always"
[[station]]
id = "huy"
name = "Huy"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level"
driver = "maxbotix"
port = "{tmp}/ttyLEVEL"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
rate = {{ water_level = false }}
spike = {{ water_level = false }}
[[station.rule]]
id = "high"
kind = "high"
sensor = "level"
quantity = "water_level"
levels = [0.5, 4.9]
"""


class Site:
    """A gateway with a range finder of 10 Hz, whose every frame is another millimetre."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp = tmp_path
        self.config = tmp_path / "edge.toml"
        self.config.write_text(EDGE.format(tmp=tmp_path))
        steps = itertools.cycle(range(1000, 4400))
        self.level = Mb7389(
            tmp_path / "ttyLEVEL",
            "huy/level",
            lambda _: next(steps) / 1000,
            clock=Clock(),
            log=DeviceLog(),
            interval_s=0.1,
        )
        self.dust = Sds011(tmp_path / "ttyDUST", "dust", lambda _: (3.0, 5.0), clock=Clock(), log=DeviceLog())
        self.edge = Program("maillages-edge", self.config, tmp_path / "edge.log")

    def readings(self, sensor: str) -> list[float]:
        """All that are in the journal, in order."""
        series, found = {}, []
        for path in sorted((self.tmp / "data" / "journal").glob("*.log")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                record = json.loads(line[9:])
                if record[0] == "s":
                    series[record[1]] = record[2]
                elif record[0] == "r" and series[record[2]].startswith(sensor):
                    found.append(record[3])
        return found

    def apply(self, text: str) -> subprocess.CompletedProcess[str]:
        file = self.tmp / "new.toml"
        file.write_text(text)
        return subprocess.run(
            [COMMAND, "apply", file, "-c", self.config, "--yes"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def standing(self) -> list[tuple[str, str]]:
        log = AlarmLog(self.tmp / "data" / "alarms.db")
        log.open()
        try:
            return [(e.occurrence, e.state) for e in log.active().active if e.rule == "high"]
        finally:
            log.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with contextlib.ExitStack() as ends:
        for device in (made.level, made.dust):
            device.start()
            ends.callback(device.stop)
        made.edge.start()
        ends.callback(made.edge.kill9)
        servers.wait_until(lambda: (tmp_path / "data/config/outcome.json").exists(), 30, "a gateway that runs")
        servers.wait_until(lambda: len(made.readings("huy/level")) > 5, 30, "readings")
        yield made


def test_no_reading_and_no_alarm_is_lost(site: Site) -> None:
    text = site.config.read_text()
    more = text + SENSOR.format(tmp=site.tmp)
    for changed, said in (
        (text.replace("0.5, 4.9", "0.4, 4.9"), "station huy, rule high: levels: 0.5, 4.9 -> 0.4, 4.9"),
        (more, "station huy, sensor dust: new: driver sds011"),
        (text.replace("0.5, 4.9", "0.3, 4.9"), "station huy, sensor dust: gone"),
    ):
        done = site.apply(changed)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert site.config.read_text() == changed
    assert site.readings("huy/dust")
    for wrong, said in (
        (text.replace('"maxbotix"', '"maxbotics"'), "driver 'maxbotics' is unknown"),
        (text.replace('id = "gw"', 'id = "gw-2"'), "gateway: changes with a restart only"),
    ):
        assert said in site.apply(wrong).stderr
    assert site.config.read_text() == changed
    enough = len(site.readings("huy/level")) + 5
    servers.wait_until(lambda: len(site.readings("huy/level")) > enough, 10, "more readings")
    assert site.edge.terminate() == 0
    distances = [round((5.0 - level) * 1000) for level in site.readings("huy/level")]
    assert distances == list(range(distances[0], distances[0] + len(distances)))
    assert len(site.standing()) == 1
    raised = [line for line in site.edge.log.read_text().splitlines() if "alarm high: raise" in line]
    assert len(raised) == 1
