"""A person answers: the gateway's siren falls silent, nobody else is told, the boards' `alarm` series says who."""

import contextlib
import re
import subprocess
from pathlib import Path

import pytest

from central.store.influx import Influx
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Program
from tests.fakes.providers import SmtpServer
from tests.people import tell
from tests.system.test_alarms import EDGE
from tests.system.test_silent_gateway import CENTRAL

pytestmark = pytest.mark.system


def central_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["maillages-central", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.timeout(300)
def test_an_acknowledgement_at_central_silences_the_siren_even_when_the_gateway_was_away(tmp_path: Path) -> None:
    distance = {"m": 4.5}
    level = Mb7389(
        tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: distance["m"], clock=Clock(), log=DeviceLog()
    )
    siren = RelayBoard(tmp_path / "ttySIREN")
    key = tmp_path / "commands.pem"
    made = central_command("keygen", str(key))
    assert made.returncode == 0, made.stderr
    assert key.stat().st_mode & 0o777 == 0o600
    assert central_command("keygen", str(key)).returncode == 2, "never replaced"
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        influx = ends.enter_context(servers.influxd(tmp_path))
        smtp = ends.enter_context(SmtpServer())
        for device in (level, siren):
            device.start()
            ends.callback(device.stop)
        edge_toml, central_toml = tmp_path / "edge.toml", tmp_path / "central.toml"
        edge_toml.write_text(
            EDGE.format(tmp=tmp_path, nobody=broker.port)
            .replace(f"port = {broker.port}\n", f'port = {broker.port}\ncentral_key = "{made.stdout.strip()}"\n', 1)
            .partition("[outputs.sms]")[0]
        )
        tell(tmp_path / "central")
        text = CENTRAL.format(tmp=tmp_path, broker=broker.port, smtp=smtp.port, nobody=influx.port)
        central_toml.write_text(f'{text}\n[commands]\nkey = "{key}"\n[web]\nport = {servers.free_port()}\n')
        central = Program("maillages-central", central_toml, tmp_path / "central.log")
        edge = Program("maillages-edge", edge_toml, tmp_path / "edge.log")
        edge_log = tmp_path / "edge.log"
        central.start()
        ends.callback(central.kill9)
        edge.start()
        ends.callback(edge.kill9)
        servers.wait_until(lambda: siren.received_frames > 0, 20, "the siren is told to be silent")

        distance["m"] = 2.6
        servers.wait_until(lambda: siren.on(1), 20, "siren on")
        servers.wait_until(lambda: bool(smtp.to("planu@example.be")), 20, "a mail")
        (mail,) = smtp.to("planu@example.be")
        found = re.search(r"réf\. ([0-9A-F]{5})", str(mail["Subject"]))
        assert found, mail["Subject"]

        edge.kill9()  # it does not hear of the acknowledgement
        wrong = central_command("ack", "FFFFF", "--by", "x", "-c", str(central_toml))
        assert wrong.returncode == 2
        assert "expected one" in wrong.stderr
        done = central_command("ack", found[1], "--by", "Cellule de crise", "-c", str(central_toml))
        assert done.returncode == 0, done.stderr
        assert "acknowledged by Cellule de crise" in done.stdout
        assert (
            "already acknowledged by Cellule de crise"
            in central_command("ack", found[1], "--by", "Un autre", "-c", str(central_toml)).stdout
        )
        edge.start()
        servers.wait_until(lambda: "to level 3, ACK" in edge_log.read_text(), 60, "the gateway acknowledges")
        servers.wait_until(lambda: not siren.on(1), 10, "silence")

        store = Influx(influx.url, "maillages", None, None)

        def written() -> dict[object, str]:
            rows = store.dump("alarm", 0, 2**53)
            return {row.fields["transition"]: str(row.fields["text"]) for row in rows}

        servers.wait_until(lambda: {"raise", "ack"} <= set(written()), 20, "the alarm series")
        assert written()["raise"] == "Huy, pont du Hoyoux : seuil local 3 atteint"
        assert written()["ack"] == "Huy, pont du Hoyoux : acquittée par Cellule de crise (seuil local 3 atteint)"
        assert edge.terminate() == 0
        assert central.terminate() == 0
