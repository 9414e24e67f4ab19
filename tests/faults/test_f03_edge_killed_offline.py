"""F3: the gateway is killed while it has no network. Its readings wait, its siren resumes, its SMS is not sent again."""

import contextlib
from pathlib import Path

import pytest

from common.clock import Clock
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import FULL, Account, Program
from tests.faults.scene import scene
from tests.system.test_alarms import EDGE

pytestmark = pytest.mark.system


@pytest.mark.timeout(300)
def test_a_gateway_killed_with_a_half_open_link_and_with_none_loses_nothing(tmp_path: Path, account: Account) -> None:
    seconds = 20 if FULL else 5
    account.of(
        "link half-open, then gateway killed (-9), water reaches level 3, link cut, gateway killed again",
        f"{seconds} s and 2 kills",
    )
    with scene(tmp_path) as it:
        it.link.swallow = True
        it.chain.wait_sent(20 * seconds, 2 * seconds)
        it.chain.kill_edge()
        it.chain.start_edge()
        it.shore.rise(account)
        it.link.cut()
        it.chain.wait_sent(20, 10)
        it.chain.kill_edge()
        it.shore.power_falls()
        it.chain.start_edge()
        it.shore.rise(account)
        it.link.restore()
        it.chain.recovers(account)
        it.told(account)
        it.finish(account)


@pytest.mark.timeout(240)
def test_siren_and_sms_with_no_network_survive_a_kill(tmp_path: Path, account: Account) -> None:
    account.of("gateway with no broker killed (-9) at level 3, after its siren and its SMS", "1 kill")
    config = tmp_path / "edge.toml"
    config.write_text(EDGE.format(tmp=tmp_path, nobody=servers.free_port()))
    distance = {"m": 4.5}
    level = Mb7389(
        tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: distance["m"], clock=Clock(), log=DeviceLog()
    )
    siren = RelayBoard(tmp_path / "ttySIREN")
    phone = GsmModem(tmp_path / "ttyGSM")
    edge = Program("maillages-edge", config, tmp_path / "edge.log")
    with contextlib.ExitStack() as ends:
        for device in (level, siren, phone):
            device.start()
            ends.callback(device.stop)
        edge.start()
        ends.callback(edge.kill9)
        servers.wait_until(lambda: siren.received_frames > 0, 20, "the siren is told to be silent")
        assert not siren.on(1)
        assert not phone.messages

        distance["m"] = 2.6  # 2.40 m: from nothing to level 3 at once
        with account.alarm():
            servers.wait_until(lambda: siren.on(1), 10, "siren on")
        with account.alarm():
            servers.wait_until(lambda: len(phone.messages) == 1, 20, "SMS")
        message = phone.messages[0]
        assert message.number == "+32470000001"
        assert "seuil local 3" in message.text
        assert "2,40 m" in message.text

        edge.kill9()
        siren.unplug()  # which switches its relay off
        siren.replug()
        assert not siren.on(1)
        edge.start()
        with account.recovery(), account.alarm():
            servers.wait_until(lambda: siren.on(1), 20, "the siren resumes: nobody has acknowledged")
        # Long after the SMS would be due again, there is still one; the siren's re-assertions show that time went by.
        seen = siren.received_frames
        servers.wait_until(lambda: siren.received_frames >= seen + 2, 30, "10 s of life")
        account.doubled = len(phone.messages) - 1
        assert account.doubled == 0
        assert edge.terminate() == 0
        assert not siren.on(1), "silenced when nobody is there to end it"
