"""A gateway dies: central tells people that it is silent, once, also through a kill of central itself, until it speaks again."""

import contextlib
import time
from pathlib import Path

import pytest

from central.store.embedded import Embedded
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from tests import servers
from tests.chain import Program
from tests.fakes.providers import SmtpServer
from tests.people import tell
from tests.system.test_alarms import EDGE

pytestmark = pytest.mark.system

CENTRAL = """
data_dir = "{tmp}/central"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "influxdb"
url = "http://127.0.0.1:{nobody}"
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@example.be"
[[station]]
id = "hoyoux-test"
gateway = "gw-test-01"
commune = "61031"
name = "Huy, pont du Hoyoux"
river = "Hoyoux"
"""

SCALE = 60.0
"""The default of 15 minutes takes 15 s."""


@pytest.mark.timeout(300)
def test_a_gateway_that_dies_is_told_of_once_until_it_speaks_again(tmp_path: Path) -> None:
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    exercise = f"{SCALE},{boot},{time.time()}"
    clock = Clock.of_exercise(exercise)
    level = Mb7389(tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: 4.5, clock=clock, log=DeviceLog())
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        smtp = ends.enter_context(SmtpServer())
        level.start()
        ends.callback(level.stop)
        edge_toml, central_toml = tmp_path / "edge.toml", tmp_path / "central.toml"
        edge_toml.write_text(
            EDGE.format(tmp=tmp_path, nobody=broker.port)
            .replace(f"port = {broker.port}\n", f"port = {broker.port}\nkeepalive_s = 5\n", 1)
            .partition("[outputs.siren]")[0]
        )
        tell(tmp_path / "central")
        text = CENTRAL.format(tmp=tmp_path, broker=broker.port, smtp=smtp.port, nobody=0)
        head, _, tail = text.partition('kind = "influxdb"')
        text = head + 'kind = "embedded"\n' + tail.partition("\n")[2].partition("\n")[2]
        central_toml.write_text(f"{text}[escalation]\nstep_s = 86400\n[web]\nport = {servers.free_port()}\n")
        central = Program("maillages-central", central_toml, tmp_path / "central.log")
        edge = Program("maillages-edge", edge_toml, tmp_path / "edge.log")
        for program in (central, edge):
            program.command += ["--exercise-clock", exercise]
            program.start()
            ends.callback(program.kill9)
        log = tmp_path / "central.log"

        def mails() -> list[str]:
            """Subjects. A mail that a killed central sends again has the same Message-ID, by which it is one."""
            return list({m["Message-ID"]: str(m["Subject"]) for m in smtp.to("planu@example.be")}.values())

        def longest_silence() -> float:
            """The longest that the boards were told, in seconds."""
            with contextlib.closing(Embedded(tmp_path / "central" / "store.db")) as store:
                store.setup()
                rows = [r.fields for r in store.dump("gateway_status", 0, 2**53)]
            return max(float(f["heard_s"]) for f in rows if "heard_s" in f)

        def the_limit_goes_by() -> None:
            start = clock.boot()
            servers.wait_until(lambda: clock.boot() - start > 1200, 60, "20 minutes")

        servers.wait_until(lambda: "central-readings: connected" in log.read_text(), 20, "central listens")
        the_limit_goes_by()
        assert mails() == [], "it lives"

        edge.kill9()
        servers.wait_until(lambda: len(mails()) == 1, 60, "a mail")
        assert "PASSERELLE MUETTE - passerelle gw-test-01 (Huy, pont du Hoyoux)" in mails()[0]
        servers.wait_until(lambda: longest_silence() > 900, 30, "a row of the silence")
        central.kill9()
        central.start()
        servers.wait_until(lambda: log.read_text().count("central-readings: connected") == 2, 20, "central is back")
        the_limit_goes_by()
        assert len(mails()) == 1, f"the same silence is not told again: {mails()}"

        edge.start()
        servers.wait_until(lambda: len(mails()) == 2, 60, "a second mail")
        assert "passerelle de nouveau entendue" in mails()[1]
        assert edge.terminate() == 0
        assert central.terminate() == 0
    store = Embedded(tmp_path / "central" / "store.db")
    store.setup()
    gateway = [r.fields for r in store.dump("gateway_status", 0, 2**53)]
    assert {f["online"] for f in gateway} == {0, 1}, "the boards see it go"
    assert any("delay_s" in f for f in gateway)
    assert [r.fields["accepted"] for r in store.dump("message", 0, 2**53) if r.tags["channel"] == "email"] == [1, 1]
    assert any(r.fields.get("broker_clients", 0) >= 2 for r in store.dump("central_status", 0, 2**53)), "what $SYS says"
    store.close()
