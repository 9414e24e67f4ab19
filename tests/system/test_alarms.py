"""Alone by the river: no broker at all. The siren sounds, the SMS goes out, and the answer to it silences the siren."""

import contextlib
from pathlib import Path

import pytest

from common.clock import Clock
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Program

pytestmark = pytest.mark.system

EDGE = """
[gateway]
id = "gw-test-01"
data_dir = "{tmp}/edge"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {nobody}
[[station]]
id = "hoyoux-test"
name = "Huy, pont du Hoyoux"
commune = "61031"
lat = 50.5
lon = 5.2
river = "Hoyoux"
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{tmp}/ttyLEVEL"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
[[station.rule]]
id = "hoyoux-high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [1.2, 1.8, 2.3]
deadband = 0.05
[outputs.siren]
port = "{tmp}/ttySIREN"
min_level = 2
max_s = 600
[outputs.sms]
port = "{tmp}/ttyGSM"
after_s = 2
[[outputs.sms.recipient]]
id = "planu-huy"
phone = "+32470000001"
"""


@pytest.mark.timeout(240)
def test_a_mayor_answers_ok_and_the_siren_is_silent_with_no_network(tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(EDGE.format(tmp=tmp_path, nobody=servers.free_port()))
    level = Mb7389(tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: 3.0, clock=Clock(), log=DeviceLog())
    siren = RelayBoard(tmp_path / "ttySIREN")
    phone = GsmModem(tmp_path / "ttyGSM")
    edge = Program("maillages-edge", config, tmp_path / "edge.log")
    with contextlib.ExitStack() as ends:
        for device in (level, siren, phone):
            device.start()
            ends.callback(device.stop)
        edge.start()
        ends.callback(edge.kill9)
        servers.wait_until(lambda: len(phone.messages) == 1 and siren.on(1), 30, "siren and SMS")
        order = phone.messages[0].text.partition("Répondez ")[2]
        assert order.startswith("OK ")
        phone.incoming("+32470000001", "ETAT")
        servers.wait_until(lambda: len(phone.messages) == 2, 20, "the present levels")
        assert phone.messages[1].text.endswith(": Huy, pont du Hoyoux 2,00 m (seuil 2)")
        phone.incoming("+32470000001", order)
        servers.wait_until(lambda: len(phone.messages) == 3, 20, "an answer")
        assert phone.messages[2].text.startswith(f"Merci. Alarme {order[3:]} prise en charge par vous")
        servers.wait_until(lambda: not siren.on(1), 10, "the siren is silent")
        edge.kill9()
        edge.start()
        seen = siren.received_frames
        servers.wait_until(lambda: siren.received_frames >= seen + 2, 30, "the gateway runs again")
        assert not siren.on(1), "acknowledged before the kill"
        assert edge.terminate() == 0
