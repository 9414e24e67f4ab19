"""A river passes its threshold at a gateway: the commune downstream has its mail from a real central, once, also through a kill."""

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

REACH = """
[[station]]
id = "station-0"
gateway = "gw-0"
commune = "61041"
name = "Modave, pont"
river = "Hoyoux"
[[reach]]
id = "hoyoux"
upstream = "station-0"
downstream = ["61031"]
travel_s = 5400
"""


@pytest.mark.timeout(240)
def test_the_commune_downstream_is_told_once_through_a_kill(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        smtp = ends.enter_context(SmtpServer())
        tell(tmp_path / "central", PLANNER)
        text = CENTRAL.format(tmp=tmp_path, broker=broker.port, smtp=smtp.port, nobody=servers.free_port())
        toml = tmp_path / "central.toml"
        toml.write_text(f"{text}{REACH}[web]\nport = {servers.free_port()}\n")
        central = Program("maillages-central", toml, tmp_path / "central.log")
        central.start()
        ends.callback(central.kill9)
        servers.wait_until(lambda: "leads" in (tmp_path / "central.log").read_text(), 20, "a central that leads")
        fleet = Fleet(broker.port, 1)
        ends.callback(fleet.close)
        now = time.time()
        event = AlarmEvent.model_validate(
            {
                "id": uuid7(now), "occurrence": uuid7(now), "seq": 1, "source": "gateway", "gateway": "gw-0",
                "station": "station-0", "sensor": "level-1", "quantity": "water_level", "rule": "high", "kind": "high",
                "transition": "raise", "state": "UNACK", "level": 2, "value": 1.6, "unit": "m", "threshold": 1.5,
                "time": rfc3339(now), "clock": "synchronised",
            }
        )  # fmt: skip
        sent = fleet.alarm(event)
        servers.wait_until(lambda: fleet.receipted([sent]), 20, "the receipt")
        servers.wait_until(lambda: bool(smtp.to(PLANNER["email"])), 20, "the mail downstream")
        central.kill9()
        central.start()
        log = tmp_path / "central.log"
        servers.wait_until(lambda: log.read_text().count("leads") == 2, 20, "a central that leads again")
        higher = event.model_copy(update={"id": uuid7(now + 1), "seq": 2, "transition": "escalate", "level": 3})
        fleet.alarm(higher)
        servers.wait_until(
            lambda: len({m["Message-ID"] for m in smtp.to(PLANNER["email"])}) == 2, 20, "the second mail"
        )
        first, *_, last = smtp.to(PLANNER["email"])
        assert "seuil local 2 atteint EN AMONT - Hoyoux, Modave, pont" in " ".join(str(first["Subject"]).split())
        assert "AGGRAVATION" in str(last["Subject"])
        text = first.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
        assert "L'eau peut arriver en aval dès" in text
