"""From rising water to a mail: real bytes, gateway, broker, central, SMTP server. The database is down all the while."""

import contextlib
from pathlib import Path

import pytest

from common.clock import Clock
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from tests import servers
from tests.fakes.providers import SmtpServer
from tests.people import tell
from tests.system.test_alarms import EDGE
from tests.system.test_chain import Program

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


@pytest.mark.timeout(120)
def test_a_rise_becomes_a_mail_while_the_database_is_down_and_the_gateway_sends_no_sms_of_its_own(
    tmp_path: Path,
) -> None:
    distance = {"m": 4.5}
    level = Mb7389(
        tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: distance["m"], clock=Clock(), log=DeviceLog()
    )
    phone = GsmModem(tmp_path / "ttyGSM")
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        smtp = ends.enter_context(SmtpServer())
        for device in (level, phone):
            device.start()
            ends.callback(device.stop)
        edge_toml, central_toml = tmp_path / "edge.toml", tmp_path / "central.toml"
        edge_toml.write_text(EDGE.format(tmp=tmp_path, nobody=broker.port).replace("after_s = 2", "after_s = 6"))
        tell(tmp_path / "central")
        central_toml.write_text(
            CENTRAL.format(tmp=tmp_path, broker=broker.port, smtp=smtp.port, nobody=servers.free_port())
        )
        central = Program("maillages-central", central_toml, tmp_path / "central.log")
        edge = Program("maillages-edge", edge_toml, tmp_path / "edge.log")
        central.start()
        ends.callback(central.kill9)
        log = tmp_path / "central.log"
        servers.wait_until(lambda: "central-alarms: connected" in log.read_text(), 20, "central on the broker")
        edge.start()
        ends.callback(edge.kill9)
        taken = tmp_path / "edge" / "journal"
        servers.wait_until(lambda: any('"r"' in p.read_text() for p in taken.glob("*.log")), 20, "a reading is taken")

        distance["m"] = 2.6
        servers.wait_until(lambda: bool(smtp.to("planu@example.be")), 20, "a mail")
        (mail,) = smtp.to("planu@example.be")
        assert "seuil local 3" in str(mail.get("Subject")) + mail.as_string()
        # Twice the time after which the gateway would have sent its own SMS, in readings of the device.
        sent = len(level.log.sent("hoyoux-test/level-1"))
        servers.wait_until(lambda: len(level.log.sent("hoyoux-test/level-1")) > sent + 72, 40, "12 s of life")
        assert not phone.messages, "central said that it tells people"
        assert edge.terminate() == 0
        assert central.terminate() == 0
