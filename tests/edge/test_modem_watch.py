"""What a gateway knows of its SMS modem before it needs it: a simulated one on a real pty."""

import pytest

from common.clock import Clock
from common.modem import Modem
from edge.config import Credit
from edge.emulators.gsm import GsmModem
from edge.outputs.modem_watch import ModemWatch
from tests import servers


class Scene:
    def __init__(self, tmp_path, credit=None, **modem):
        self.clock = Clock(scale=60.0, origin_wall=1_800_000_000.0)  # its minutes take a second
        self.phone = GsmModem(tmp_path / "gsm", pin="1234")
        self.phone.start()
        options = {"pin": "1234", "command_timeout_s": 1.0} | modem
        self.watch = ModemWatch(Modem(str(self.phone.path), Clock(), **options), self.clock, credit)
        self.watch.start()

    def close(self):
        self.watch.stop()
        self.phone.stop()


@pytest.fixture
def open_scene(tmp_path):
    scenes = []

    def start(**options):
        scenes.append(Scene(tmp_path, **options))
        return scenes[-1]

    yield start
    for scene in scenes:
        scene.close()


GOOD = {"sms_unusable": 0, "sms_registered": 1, "sms_sim_ready": 1, "sms_signal_dbm": -79}


def seen(scene, expected):
    servers.wait_until(lambda: scene.watch.health() == expected, 20, str(expected))


def test_a_modem_that_could_send_and_one_that_lost_its_network(open_scene, caplog):
    caplog.set_level("INFO")
    scene = open_scene()
    seen(scene, GOOD)
    scene.phone.faults.registered = False
    seen(scene, GOOD | {"sms_unusable": 1, "sms_registered": 0})
    scene.phone.faults.registered = True
    seen(scene, GOOD)
    said = [r.message for r in caplog.records if r.name == "edge.outputs.modem_watch"]
    assert said == ["sms: the modem cannot send: not registered with a network", "sms: the modem can send again"]


def test_a_dead_modem_says_nothing_of_network_and_sim(open_scene):
    scene = open_scene()
    seen(scene, GOOD)
    scene.phone.faults.silent = True
    seen(scene, {"sms_unusable": 1})
    scene.phone.faults.silent = False
    seen(scene, GOOD)


def test_what_is_left_on_a_prepaid_card_is_asked_once_a_day(open_scene):
    scene = open_scene(credit=Credit(code="*110#", warn_below=5))
    seen(scene, GOOD | {"sms_credit": 12.5})
    assert [c for c in scene.phone.commands if "CUSD" in c] == ['AT+CUSD=1,"*110#",15']


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ('0,"Solde: 3.20 EUR\r\nvalable jusqu\'au 31/12",15', 3.2),
        (f'0,"{"Reste 0,00 EUR".encode("utf-16-be").hex().upper()}",72', 0.0),
        ('1,"1. Solde 2. Forfait",15', None),
        ("4", None),
        ("2", None),
    ],
)
def test_operators_answer_in_their_own_ways(open_scene, caplog, answer, left):
    scene = open_scene(credit=Credit(code="#123#", warn_below=5))
    scene.phone.faults.credit = answer
    if left is None:
        servers.wait_until(lambda: "left on the card is not known" in caplog.text, 20, "a warning")
        seen(scene, GOOD)
    else:
        seen(scene, GOOD | {"sms_credit": left})


def test_a_locked_sim_is_named(open_scene, caplog):
    scene = open_scene(pin="0000")
    seen(scene, {"sms_unusable": 1, "sms_registered": 0, "sms_sim_ready": 0, "sms_signal_dbm": -79})
    assert "the modem cannot send: SIM: pin refused" in caplog.text


def test_what_was_not_asked_yet_or_lately_is_not_told(open_scene):
    scene = open_scene()
    assert ModemWatch(None, scene.clock).health() == {}
    seen(scene, GOOD)
    scene.watch.stop()
    seen(scene, {})
