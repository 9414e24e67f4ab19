"""F14: the SMS modem fails: dead, its SIM locked, its network lost over a message. The gateway is alone; siren and journal go on."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clock import Clock
from edge.emulators.gsm import Faults, GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Account, Program
from tests.system.test_alarms import EDGE

pytestmark = pytest.mark.system

SCALE = 20.0
"""An attempt a minute takes 3 s; a modem's own time-outs are real."""
SIREN_S = 2.0
"""From water at the sensor to the siren: three readings of the emulated device and a loaded machine."""


class Shed:
    """A gateway in an exercise with a level sensor, a siren and a modem, and no network."""

    def __init__(self, tmp: Path, phone: GsmModem, pin: str | None = None) -> None:
        self.tmp, self.phone = tmp, phone
        self.distance_m = 4.5
        self.level = Mb7389(
            tmp / "ttyLEVEL", "hoyoux-test/level-1", lambda _: self.distance_m, clock=Clock(), log=DeviceLog()
        )
        self.siren = RelayBoard(tmp / "ttySIREN")
        self.config = tmp / "edge.toml"
        self.set_pin(pin)
        self.edge = Program("maillages-edge", self.config, tmp / "edge.log")
        exercise = f"{SCALE},{time.clock_gettime(time.CLOCK_BOOTTIME)},{time.time()}"
        self.edge.command += ["--exercise-clock", exercise]

    def set_pin(self, pin: str | None) -> None:
        text = EDGE.format(tmp=self.tmp, nobody=servers.free_port()).replace("max_s = 600", "max_s = 6000")
        if pin is not None:
            text = text.replace("after_s = 2\n", f'after_s = 2\npin = "{pin}"\n')
        self.config.write_text(
            text + "[health]\nsms_unusable_s = 60\ndisk_free_percent = false\ncpu_temperature = false\n"
        )

    def rise(self, account: Account) -> None:
        """To level 3; the siren sounds whatever the modem does."""
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.distance_m = 2.6
        with account.alarm():
            servers.wait_until(lambda: self.siren.on(1), 10, "siren on")
        assert self.siren.history[-1].boot_s - at < SIREN_S

    def goes_on(self) -> None:
        """The journal grows and the siren is told again and again."""
        size, frames = self.journaled, self.siren.received_frames
        servers.wait_until(lambda: self.journaled > size + 500 and self.siren.received_frames > frames, 10, "life")
        assert self.siren.on(1)

    def tried_more(self, times: int = 2) -> None:
        """So many minutes of the gateway's have gone by: it asks the modem for its network once in each."""
        seen = self.phone.commands.count("AT+CREG?")
        servers.wait_until(lambda: self.phone.commands.count("AT+CREG?") > seen + times, 60, "minutes")

    @property
    def journaled(self) -> int:
        return sum(path.stat().st_size for path in (self.tmp / "edge/journal").glob("*.log"))

    @property
    def told(self) -> list[str]:
        return [m.text for m in self.phone.messages if "seuil local 3" in m.text]


@contextlib.contextmanager
def shed(tmp: Path, phone: GsmModem, pin: str | None = None) -> Iterator[Shed]:
    made = Shed(tmp, phone, pin)
    with contextlib.ExitStack() as ends:
        for device in (made.level, made.siren, phone):
            device.start()
            ends.callback(device.stop)
        made.edge.start()
        ends.callback(made.edge.kill9)
        servers.wait_until(lambda: made.siren.received_frames > 0, 20, "the gateway runs")
        yield made
        assert made.edge.terminate() == 0


@pytest.mark.timeout(300)
def test_a_dead_modem_holds_nothing_up_and_sends_once_when_it_is_back(tmp_path: Path, account: Account) -> None:
    account.of("SMS modem dead, water reaches level 3 and the gateway is killed meanwhile", "until its own alarm of it")
    phone = GsmModem(tmp_path / "ttyGSM", faults=Faults(silent=True))
    with shed(tmp_path, phone) as it:
        it.rise(account)
        it.goes_on()
        servers.wait_until(lambda: it.edge.said("planu-huy not told of hoyoux-high") == 1, 30, "it says so")
        servers.wait_until(lambda: it.edge.said("alarm gw-test-01-sms-unusable: raise") == 1, 60, "its own alarm")
        it.edge.kill9()
        it.edge.start()
        servers.wait_until(
            lambda: it.edge.said("planu-huy not told of hoyoux-high") == 2, 60, "the next process tries too"
        )
        it.goes_on()
        assert phone.messages == []
        phone.faults.silent = False
        with account.recovery(), account.alarm():
            servers.wait_until(lambda: len(it.told) == 1, 60, "the SMS after all")
        it.tried_more()
        account.doubled = len(it.told) - 1
        assert account.doubled == 0
        assert it.edge.said("planu-huy has got that of hoyoux-high") == 1
        servers.wait_until(lambda: it.edge.said("alarm gw-test-01-sms-unusable: clear") == 1, 30, "its own alarm ends")
        assert it.edge.said("alarm gw-test-01-sms-unusable: raise") == 1, "the restart was no second one"


@pytest.mark.timeout(300)
def test_a_locked_sim_is_tried_once_and_what_waits_is_sent_once_the_pin_is_right(
    tmp_path: Path, account: Account
) -> None:
    account.of("SIM locked by a wrong PIN, water reaches level 3; the PIN is corrected", "until its own alarm of it")
    phone = GsmModem(tmp_path / "ttyGSM", pin="1234")
    with shed(tmp_path, phone, pin="0000") as it:
        it.rise(account)
        servers.wait_until(lambda: it.edge.said("planu-huy not told of hoyoux-high") == 1, 30, "it says so")
        it.goes_on()
        servers.wait_until(lambda: it.edge.said("alarm gw-test-01-sms-unusable: raise") == 1, 60, "its own alarm")
        assert phone.wrong_pins == 1
        assert it.edge.terminate() == 0
        it.set_pin("1234")
        it.edge.start()
        with account.recovery(), account.alarm():
            servers.wait_until(lambda: len(it.told) == 1, 60, "the SMS after all")
        it.tried_more()
        account.doubled = len(it.told) - 1
        assert account.doubled == 0


@pytest.mark.timeout(300)
def test_a_network_lost_over_a_message_gets_it_once_when_it_is_back(tmp_path: Path, account: Account) -> None:
    account.of("mobile network lost while an SMS is handed over", "until the third attempt")
    phone = GsmModem(tmp_path / "ttyGSM", faults=Faults(cms_error=38))
    with shed(tmp_path, phone) as it:
        it.rise(account)
        servers.wait_until(lambda: phone.pdus, 30, "the message is handed over")
        phone.faults.registered = False
        phone.faults.cms_error = None
        it.goes_on()
        servers.wait_until(lambda: len(phone.pdus) >= 3, 60, "tried again")
        assert phone.messages == []
        phone.faults.registered = True
        with account.recovery(), account.alarm():
            servers.wait_until(lambda: len(it.told) == 1, 60, "the SMS after all")
        it.tried_more()
        account.doubled = len(it.told) - 1
        assert account.doubled == 0
        assert it.edge.said("not told") == 1, "the log says it once"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("dies", ["modem", "gateway"])
def test_who_dies_over_a_message_that_is_sent_never_sends_it_twice(dies: str, tmp_path: Path, account: Account) -> None:
    account.of(f"{dies} lost behind an SMS that the network has, before it says so", "2 attempts more")
    phone = GsmModem(tmp_path / "ttyGSM")
    with shed(tmp_path, phone) as it:
        servers.wait_until(lambda: "AT+CREG?" in phone.commands, 20, "the modem is known")
        phone.faults.delay_s = 1.0
        it.rise(account)
        with account.alarm():
            servers.wait_until(lambda: len(it.told) == 1, 60, "it is sent, and the modem has not said so")
        if dies == "modem":
            phone.unplug()
            servers.wait_until(lambda: it.edge.said("the modem did not say whether it sent") >= 1, 30, "unknown")
            it.goes_on()
            phone.faults.delay_s = 0.0
            phone.replug()
        else:
            it.edge.kill9()
            phone.faults.delay_s = 0.0
            it.edge.start()
        it.tried_more()
        it.goes_on()
        account.doubled = len(it.told) - 1
        assert account.doubled == 0
