"""An alert of Grafana at a central that is a process: told once, also when central is killed before it could answer, and ended by a
person when Grafana has lost sight of it."""

import http.client
import json
import re
import subprocess
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from central.accounts import Accounts
from central.db import Database
from common.clock import Clock
from tests import servers
from tests.chain import Program
from tests.fakes.providers import SmtpServer
from tests.fakes.raw_gateway import RawGateway
from tests.people import tell

pytestmark = pytest.mark.system

CENTRAL = """
data_dir = "{tmp}/central"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "embedded"
[web]
port = {web}
open_reading = true
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@example.be"
[escalation]
step_s = 86400
[[station]]
id = "hoyoux-huy"
gateway = "gw-huy-01"
commune = "61031"
name = "Huy, pont du Hoyoux"
"""
STATIONS = {
    "stations": [{"id": "hoyoux-huy", "name": "Huy", "lat": 50.5, "lon": 5.2, "commune": "61031", "sensors": []}]
}
PAYLOADS = json.loads((Path(__file__).parents[1] / "fakes/grafana_payloads.json").read_text(encoding="utf-8"))


@pytest.mark.timeout(120)
def test_an_alert_is_told_once_through_a_kill_and_ended_by_a_person(tmp_path: Path) -> None:
    with servers.mosquitto(tmp_path) as broker, SmtpServer() as smtp:
        web, config = servers.free_port(), tmp_path / "central.toml"
        config.write_text(CENTRAL.format(tmp=tmp_path, broker=broker.port, web=web, smtp=smtp.port))
        tell(tmp_path / "central")
        central = Program("maillages-central", config, tmp_path / "central.log")

        db = Database(tmp_path / "central" / "central.db")
        db.open()
        _, token = Accounts(db, Clock()).add_token("webhook", 1)
        db.close()

        def ask(method: str, path: str, body: object = None) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", web, timeout=20)
            headers = {"Authorization": f"Bearer {token}"} if method == "POST" else {}
            connection.request(method, path, json.dumps(body).encode() if body else None, headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            assert answer.status == 200, text
            return json.loads(text) if path.startswith("/api/") else text

        def post(name: str) -> str:
            return str(ask("POST", "/api/grafana", PAYLOADS[name])["alerts"][0]["outcome"])

        def described() -> bool:
            return post("firing") != "undescribed"

        central.start()
        try:
            servers.wait_until(lambda: servers.accepts(web), 60, "the page")
            gateway = RawGateway(broker.port)
            gateway.retained("gw-huy-01", "stations", STATIONS)
            gateway.close()
            servers.wait_until(described, 30, "the gateway's description")
            central.kill9()  # Grafana posts again what got no answer
            central.start()
            servers.wait_until(lambda: servers.accepts(web), 60, "the page")
            assert post("firing") == "known"
            servers.wait_until(lambda: len(smtp.mails) >= 1, 30, "the mail")
            assert post("resolved") == "unproven"
            (alarm,) = ask("GET", "/api/alarms")["alarms"]
            read = message_from_bytes(smtp.mails[0][1].as_bytes(), policy=policy.default).get_body(("plain",))
            assert read is not None
            ask("POST", re.findall(r"/ack/[\w-]+", read.get_content())[0])
            subprocess.run(
                ["maillages-central", "reset", alarm["occurrence"], "--by", "M. Dupont", "-c", str(config)],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
            servers.wait_until(lambda: ask("GET", "/api/alarms")["alarms"] == [], 60, "the end of the alarm")
            assert post("firing") == "over"
        finally:
            code = central.terminate()
        assert code == 0
        assert len({m["Message-ID"] for _, m in smtp.mails}) == 1, "told once, and of no return"
