"""Thirty stations fall silent at once: one mail from a real central, killed while it gathers them, and one answer for all."""

import contextlib
import time
from pathlib import Path

import pytest

from common.clock import rfc3339
from tests import servers
from tests.chain import Program
from tests.fakes.fleet import Fleet
from tests.fakes.providers import SmtpServer
from tests.people import PLANNER, tell
from tests.system.test_silent_gateway import CENTRAL
from wire.alarm import AlarmEvent
from wire.ids import uuid7

pytestmark = pytest.mark.system

SCALE = 10.0
STATIONS = 30
STATION = '[[station]]\nid = "station-{i}"\ngateway = "gw-0"\ncommune = "61031"\nname = "Pont {i}"\n'


def silent(i: int, now: float, transition: str = "raise", before: AlarmEvent | None = None) -> AlarmEvent:
    return AlarmEvent.model_validate(
        {
            "id": uuid7(now), "occurrence": before.occurrence if before else uuid7(now), "seq": i + 1 + (STATIONS if before else 0),
            "source": "gateway", "gateway": "gw-0", "station": f"station-{i}", "sensor": "level-1", "quantity": "water_level",
            "rule": f"stale-{i}", "kind": "stale", "transition": transition, "state": "RTN_UNACK" if before else "UNACK",
            "level": 0 if before else 1, "value": None, "unit": "m", "threshold": None, "time": rfc3339(now),
            "clock": "synchronised", "status": "Exercise",
        }
    )  # fmt: skip


@pytest.mark.timeout(90)
def test_thirty_silent_stations_are_one_mail_through_a_kill(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        smtp = ends.enter_context(SmtpServer())
        tell(tmp_path / "central", PLANNER)
        text = CENTRAL.format(tmp=tmp_path, broker=broker.port, smtp=smtp.port, nobody=servers.free_port())
        toml, log = tmp_path / "central.toml", tmp_path / "central.log"
        stations = "".join(STATION.format(i=i) for i in range(STATIONS))
        toml.write_text(f"{text}{stations}[escalation]\nstep_s = 86400\n[web]\nport = {servers.free_port()}\n")
        central = Program("maillages-central", toml, log)
        central.command += ["--exercise-clock", f"{SCALE},{time.clock_gettime(time.CLOCK_BOOTTIME)},{time.time()}"]
        central.start()
        ends.callback(central.kill9)
        servers.wait_until(lambda: central.said("leads") == 1, 20, "a central that leads")
        fleet = Fleet(broker.port, 1)
        ends.callback(fleet.close)

        def subjects() -> list[str]:
            """A mail that a killed central sends again has the same Message-ID, by which it is one."""
            found = {m["Message-ID"]: str(m["Subject"]) for m in smtp.to(PLANNER["email"])}
            return [" ".join(subject.split()) for subject in found.values()]

        raised = [silent(i, time.time()) for i in range(STATIONS)]
        sent = [fleet.alarm(event) for event in raised]
        servers.wait_until(lambda: fleet.receipted(sent), 20, "the receipts")
        central.kill9()
        central.start()
        servers.wait_until(lambda: bool(subjects()), 20, "the mail")
        back = [fleet.alarm(silent(i, time.time(), "clear", event)) for i, event in enumerate(raised)]
        servers.wait_until(lambda: fleet.receipted(back), 20, "the receipts of the return")
        servers.wait_until(lambda: len(subjects()) > 1, 20, "the mail of the return")
        assert central.terminate() == 0
        first, second = subjects()
        assert "30 STATIONS MUETTES - passerelle gw-0 (Pont 0 / Pont 1 / +28)" in first
        assert "stations de nouveau entendues" in second
