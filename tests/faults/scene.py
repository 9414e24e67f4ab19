"""Where a fault happens: the chain with its servers and a link that can fail, and on request what stands at the river."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.clock import Clock
from demo.link import Link
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.chain import Account, Chain
from tests.fakes.providers import SmtpServer
from tests.people import tell

SMS_AFTER_S = 5
"""So long the gateway waits for central's word before it sends an SMS of its own."""

SHORE = """
[[station.sensor]]
id = "water"
driver = "maxbotix"
port = "{tmp}/ttyWATER"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
[[station.rule]]
id = "water-high"
kind = "high"
sensor = "water"
quantity = "water_level"
levels = [1.2, 1.8, 2.3]
[outputs.siren]
port = "{tmp}/ttySIREN"
min_level = 2
max_s = 600
[outputs.sms]
port = "{tmp}/ttyGSM"
after_s = {sms_after_s}
[[outputs.sms.recipient]]
id = "planu-huy"
phone = "+32470000001"
"""

SMTP = """
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@example.be"
"""


class Shore:
    """The devices: water at 0.50 m, a siren that sounds from level 2 on, a modem."""

    def __init__(self, tmp: Path) -> None:
        self.distance_m = 4.5
        self.water = Mb7389(
            tmp / "ttyWATER", "hoyoux-test/water", lambda _: self.distance_m, clock=Clock(), log=DeviceLog()
        )
        self.siren = RelayBoard(tmp / "ttySIREN")
        self.phone = GsmModem(tmp / "ttyGSM")

    def __enter__(self) -> "Shore":
        for device in (self.water, self.siren, self.phone):
            device.start()
        return self

    def __exit__(self, *_: object) -> None:
        for device in (self.water, self.siren, self.phone):
            device.stop()

    def power_falls(self) -> None:
        """The relay board loses its power for a moment: the siren is off until it is told again."""
        self.siren.unplug()
        self.siren.replug()

    def rise(self, account: Account, distance_m: float = 2.6) -> None:
        """To level 3, or as near: the siren sounds at once, whatever else has failed."""
        self.distance_m = distance_m
        with account.alarm():
            servers.wait_until(lambda: self.siren.on(1), 10, "siren on")


@dataclass
class Scene:
    """The parts, all of them running. `chain` reaches the broker over `link`."""

    influx: servers.Influxd
    broker: servers.Mosquitto
    link: Link
    chain: Chain
    shore: Shore
    smtp: SmtpServer

    def told(self, account: Account) -> None:
        """The coordinator hears of level 3: by central's mail, or, when central is away, by an SMS of the gateway's own modem."""
        with account.alarm():
            servers.wait_until(lambda: bool(self.mails or self.shore.phone.messages), 30, "a mail or an SMS")

    def finish(self, account: Account, timeout_s: float = 60) -> None:
        """No more water; all is drained, the programs end in good order, and the accounts are right."""
        self.shore.water.stop()
        self.chain.finish(timeout_s)
        self.chain.verify(account)

    @property
    def mails(self) -> list[str]:
        """The subjects of the coordinator's. One that a killed central sends again is the same by its Message-ID."""
        return list({m["Message-ID"]: str(m["Subject"]) for m in self.smtp.to("planu@example.be")}.values())


@contextlib.contextmanager
def scene(
    tmp: Path,
    *,
    sensors: str = "",
    central: str = "",
    uplink: str = "",
    interval_s: float = 0.05,
    influx_data: Path | None = None,
    edge_data: Path | None = None,
    central_data: Path | None = None,
    environment: Mapping[str, str] | None = None,
    edge_command: list[str] | None = None,
) -> Iterator[Scene]:
    """From the first reading in the store on. `edge_command` runs the gateway instead of its program, with the configuration's
    path appended; the directories are where a disk of their own is to be."""
    with contextlib.ExitStack() as ends:
        influx = ends.enter_context(servers.influxd(influx_data or tmp))
        broker = ends.enter_context(servers.mosquitto(tmp))
        link = ends.enter_context(Link(broker.port))
        smtp = ends.enter_context(SmtpServer())
        shore = ends.enter_context(Shore(tmp))
        chain = Chain(
            tmp,
            influx,
            broker,
            link.port,
            interval_s=interval_s,
            sensors=SHORE.format(tmp=tmp, sms_after_s=SMS_AFTER_S) + sensors,
            central=SMTP.format(smtp=smtp.port) + central,
            uplink=uplink,
            edge_data=edge_data,
            central_data=central_data,
            environment=environment,
        )
        tell(central_data or tmp / "central")
        if edge_command is not None:
            chain.edge.command = [*edge_command, chain.edge.command[-1]]
        ends.callback(chain.stop)
        chain.start()
        yield Scene(influx, broker, link, chain, shore, smtp)
