"""Shelved at the server: the siren is silent and nobody is told, whatever the water does, until the shelf ends. Latched: reset."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from central.alarms.log import AlarmLog
from central.db import Database
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Program
from tests.fakes.providers import SmtpServer
from tests.people import tell
from tests.system.test_acknowledgement import central_command
from tests.system.test_alarms import EDGE
from tests.system.test_silent_gateway import CENTRAL
from wire.alarm import AlarmEvent

pytestmark = pytest.mark.system

PLANU = "planu@example.be"


class Town:
    """Water, siren, gateway, broker, central, mail server. `distance` is what the sensor sees, from 5 m above the bed."""

    def __init__(self, tmp: Path, ends: contextlib.ExitStack, *, key: bool = True) -> None:
        self.distance = 4.5
        level = Mb7389(tmp / "ttyLEVEL", "hoyoux-test/level-1", lambda _: self.distance, clock=Clock(), log=DeviceLog())
        self.siren = RelayBoard(tmp / "ttySIREN")
        public = central_command("keygen", str(tmp / "commands.pem")).stdout.strip()
        broker = ends.enter_context(servers.mosquitto(tmp))
        self.smtp = ends.enter_context(SmtpServer())
        for device in (level, self.siren):
            device.start()
            ends.callback(device.stop)
        edge_toml, self.config = tmp / "edge.toml", tmp / "central.toml"
        text = EDGE.format(tmp=tmp, nobody=broker.port).partition("[outputs.sms]")[0]
        text = text.replace(f"port = {broker.port}\n", f'port = {broker.port}\ncentral_key = "{public}"\n', 1)
        edge_toml.write_text(
            text.replace("deadband = 0.05\n", "deadband = 0.05\nlatching = true\noff_delay_s = 0\n", 1)
        )
        tell(tmp / "central")
        text = CENTRAL.format(tmp=tmp, broker=broker.port, smtp=self.smtp.port, nobody=0)
        text = re.sub(r'kind = "influxdb"\nurl = .*\n', 'kind = "embedded"\n', text)
        text += f"\n[web]\nport = {servers.free_port()}\n"
        self.config.write_text(text + (f'[commands]\nkey = "{tmp / "commands.pem"}"\n' if key else ""))
        self.central = Program("maillages-central", self.config, tmp / "central.log")
        self.edge = Program("maillages-edge", edge_toml, tmp / "edge.log")
        self.central.start()
        ends.callback(self.central.kill9)
        self.edge.start()
        ends.callback(self.edge.kill9)
        self._tmp = tmp
        servers.wait_until(lambda: self.siren.received_frames > 0, 30, "the siren is told to be silent")

    def command(self, *arguments: str) -> str:
        done = central_command(*arguments, "-c", str(self.config))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def standing(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.command("alarms", "--json"))
        return [row for row in found if row["rule"] == "hoyoux-high"]

    def story(self) -> list[AlarmEvent]:
        """The events of the newest alarm of the water, from the file beside the running central."""
        db = Database(self._tmp / "central" / "central.db")
        db.open_read_only()
        try:
            log = AlarmLog(db)
            water = [o for o in log.newest(9) if o.rule == "hoyoux-high"]
            return log.events(water[0].occurrence) if water else []
        finally:
            db.close()

    def until(self, transition: str, timeout_s: float = 40, **more: object) -> AlarmEvent:
        """The newest event of that kind, waited for."""
        found: list[AlarmEvent] = []

        def there() -> bool:
            found[:] = [
                e
                for e in self.story()
                if e.transition == transition and all(getattr(e, name) == value for name, value in more.items())
            ]
            return bool(found)

        servers.wait_until(there, timeout_s, f"{transition} {more}")
        return found[-1]

    def rise(self) -> str:
        """To level 2: siren and mail. The reference of the mail."""
        self.distance = 3.1  # 1.90 m
        servers.wait_until(lambda: self.siren.on(1), 20, "siren on")
        servers.wait_until(lambda: bool(self.smtp.to(PLANU)), 20, "a mail")
        found = re.search(r"réf\. ([0-9A-F]{5})", str(self.smtp.to(PLANU)[-1]["Subject"]))
        assert found
        return found[1]


@pytest.mark.timeout(240)
def test_shelved_while_the_water_rises_then_unshelved_acknowledged_and_reset(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        town = Town(tmp_path, ends)
        reference = town.rise()
        mails = len(town.smtp.mails)

        said = town.command("shelve", reference, "--until", "2h", "--by", "M. Dupont", "--why", "travaux au pont")
        assert "to be shelved until" in said
        shelved = town.until("shelve")
        assert (shelved.by, shelved.note, shelved.withheld, shelved.level) == (
            "M. Dupont", "travaux au pont", "shelved", 2,
        )  # fmt: skip
        servers.wait_until(lambda: not town.siren.on(1), 10, "silence")
        (row,) = town.standing()
        assert (row["reference"], row["withheld"], row["shelved_by"], row["shelved_why"], row["asked"]) == (
            reference, "shelved", "M. Dupont", "travaux au pont", [],
        )  # fmt: skip
        assert reference in town.command("alarms")

        town.distance = 2.6  # 2.40 m: level 3, still told to nobody
        assert town.until("escalate", level=3).withheld == "shelved"
        seen = town.siren.received_frames
        servers.wait_until(lambda: town.siren.received_frames >= seen + 2, 30, "the siren hears of it twice more")
        assert not town.siren.on(1)
        assert len(town.smtp.mails) == mails

        town.command("unshelve", reference, "--by", "Mme Leroy")
        back = town.until("unshelve", state="UNACK", level=3)
        assert (back.by, back.withheld) == ("Mme Leroy", None)
        servers.wait_until(lambda: town.siren.on(1), 10, "the siren again")
        servers.wait_until(lambda: len(town.smtp.mails) > mails, 20, "a mail again")
        assert "seuil local 3" in str(town.smtp.to(PLANU)[-1]["Subject"])
        refused = central_command("unshelve", reference, "--by", "x", "-c", str(town.config))
        assert (refused.returncode, "is not shelved" in refused.stderr) == (2, True)

        refused = central_command("reset", reference, "--by", "x", "-c", str(town.config))
        assert (refused.returncode, "expected one that has returned" in refused.stderr) == (2, True)
        town.distance = 4.5
        town.until("clear", state="RTN_UNACK")
        town.command("ack", reference, "--by", "Mme Leroy")
        town.until("ack", state="RTN_UNACK")
        (row,) = town.standing()
        assert row["waits_for_reset"]
        assert "waits for reset" in town.command("alarms")
        town.command("reset", reference, "--by", "M. Dupont")
        assert town.until("reset").state == "NORMAL"
        assert town.standing() == []
        assert [e.transition for e in town.story()] == [
            "raise", "shelve", "escalate", "unshelve", "clear", "ack", "reset",
        ]  # fmt: skip
        assert town.edge.terminate() == 0
        assert town.central.terminate() == 0


@pytest.mark.timeout(240)
def test_a_shelf_outlives_a_gateway_that_is_away_and_a_central_that_is_killed(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        town = Town(tmp_path, ends)
        reference = town.rise()
        town.edge.kill9()
        town.central.kill9()
        town.command("shelve", reference, "--until", "1h", "--by", "M. Dupont")
        (row,) = town.standing()
        assert (row["asked"], row["withheld"]) == (["shelve"], None)
        town.central.start()
        servers.wait_until(lambda: town.central.said("mqtt central-alarms: connected") == 2, 30, "central again")
        town.central.kill9()  # perhaps after it has sent the command to a gateway that is not there
        town.edge.start()
        town.central.start()
        assert town.until("shelve", 90).by == "M. Dupont"
        servers.wait_until(lambda: not town.siren.on(1), 10, "silence")
        servers.wait_until(lambda: town.standing()[0]["asked"] == [], 10, "nothing is asked for any more")
        assert [e.transition for e in town.story()].count("shelve") == 1
        assert town.edge.said("unconfirmed-s: raise") == 0, "it has not waited for long: it has just started"


@pytest.mark.timeout(240)
def test_without_a_key_it_says_what_to_do(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        town = Town(tmp_path, ends, key=False)
        reference = town.rise()
        refused = central_command("shelve", reference, "--until", "2h", "--by", "x", "-c", str(town.config))
        assert refused.returncode == 2
        assert "maillages-central keygen" in refused.stderr
        assert "central_key" in refused.stderr
        assert town.standing()[0]["asked"] == []
        done = central_command("ack", reference, "--by", "x", "-c", str(town.config))
        assert done.returncode == 0
        assert "the siren of gw-test-01 is not told" in done.stderr
        for until in ("gestern", "25:00", "2026-07-14T18:00:00"):
            wrong = central_command("shelve", reference, "--until", until, "--by", "x", "-c", str(town.config))
            assert wrong.returncode == 2
            assert "expected a span" in wrong.stderr
