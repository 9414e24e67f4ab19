"""What the demo plays: places, devices, thresholds, recipients, and the moments of the flood.

The flood of Dead Run of 11 June 2018, 08:00 to 10:45 UTC, passes a station on the Hoyoux; the smaller one of the evening
before passes the Mehaigne, the dust of a Bonfire Night a school. Everything is shifted so that it ends now.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from central.commands import keygen
from central.notify import table
from central.notify.recipients import Recipients
from common.clock import Clock
from demo.series import dust, river
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog, Sent
from edge.emulators.mb7389 import Mb7389
from edge.emulators.pty import PtyDevice
from edge.emulators.relay import RelayBoard
from edge.emulators.rs485 import Rs485Line
from edge.emulators.rylr998 import LoraNode, Rylr998
from edge.emulators.sds011 import Sds011
from edge.emulators.sensor import SensorDevice
from edge.emulators.xy_md02 import XyMd02

START = datetime(2018, 6, 11, 8, 0, tzinfo=UTC).timestamp()
END = datetime(2018, 6, 11, 10, 45, tzinfo=UTC).timestamp()
_EVENING_BEFORE_S = datetime(2018, 6, 10, 19, 50, tzinfo=UTC).timestamp() - START
_BONFIRE_NIGHT_S = datetime(2018, 11, 5, 18, 15, tzinfo=UTC).timestamp() - START
_BONFIRE_SENSOR = "5331"

CUT_BEFORE_S = 7 * 60.0
CUT_S = 25 * 60.0
"""The link of the first gateway is cut so long before its river crosses level 3, and for so long."""

MOUNTING_M = 4.0
LEVELS_M = (0.55, 0.80, 1.20)
LEVELS_PM = (50.0, 75.0, 100.0)

HUY, WANZE = "gw-huy-01", "gw-wanze-01"
GATEWAYS = (HUY, WANZE)


@dataclass(frozen=True, slots=True)
class Station:
    """A station as the screen shows it, by one of its quantities. `thresholds` are those of its rule, if it has one."""

    id: str
    gateway: str
    name: str
    sensor: str
    quantity: str
    unit: str
    decimals: int
    top: float
    thresholds: tuple[float, ...] = ()
    rule: str | None = None

    @property
    def series(self) -> str:
        return f"{self.id}/{self.sensor}/{self.quantity}"


STATIONS = (
    Station("hoyoux-huy", HUY, "Huy, Hoyoux", "level-1", "water_level", "m", 2, 2.0, LEVELS_M, "hoyoux-high"),
    Station("mehaigne-wanze", WANZE, "Wanze, Mehaigne", "level-1", "water_level", "m", 2, 2.0, LEVELS_M, "mehaigne-high"),
    Station("ecole-wanze", WANZE, "Wanze, école", "dust-1", "pm2_5", "µg/m³", 1, 120.0, LEVELS_PM, "ecole-pm"),
    Station("ecole-wanze", WANZE, "Wanze, air", "air-1", "air_temperature", "°C", 1, 40.0),
)  # fmt: skip
RIVER = STATIONS[0]
"""The one whose gateway is cut off while it crosses level 3."""


class Timeline:
    """Which moment of the replay it is. `ends_wall_s`: the exercise's wall time at which the window ends."""

    def __init__(self, scale: float, real_boot_s: float, real_wall_s: float, lead_s: float) -> None:
        """The window begins `lead_s` real seconds from now and ends when real time has come to its last moment."""
        self.ends_wall_s = real_wall_s + lead_s + (END - START) / scale
        self.begins_wall_s = self.ends_wall_s - (END - START)
        self.clock_option = f"{scale!r},{real_boot_s!r},{self.begins_wall_s - lead_s * scale!r}"
        """For `--exercise-clock`: all processes get these same three numbers."""

    def played(self, wall_s: float) -> float:
        """Unix seconds of 2018 at a wall time of the exercise."""
        return wall_s - self.begins_wall_s + START

    def crossing(self) -> float:
        """The exercise's wall time at which the river reaches level 3."""
        found = river().crossing(LEVELS_M[2], START, END)
        assert found is not None  # noqa: S101 - it is in the series
        return self.begins_wall_s + found - START


class Devices:
    """Everything that hangs on serial ports, in `directory`. Sensors get power by `power`, when the gateways listen."""

    def __init__(self, directory: Path, clock: Clock, timeline: Timeline, log: DeviceLog) -> None:
        water, (pm2_5, pm10) = river(), dust(_BONFIRE_SENSOR)

        def distance(wall_s: float) -> float:
            return MOUNTING_M - water.at(timeline.played(wall_s))

        def evening_before(wall_s: float) -> dict[str, float]:
            level = water.at(timeline.played(wall_s) + _EVENING_BEFORE_S)
            return {"water_distance": MOUNTING_M - level, "battery_voltage": 3.9}

        def particles(wall_s: float) -> tuple[float, float]:
            night = timeline.played(wall_s) + _BONFIRE_NIGHT_S
            return pm2_5.at(night), pm10.at(night)

        def climate(wall_s: float) -> tuple[float, float]:
            hours = (timeline.played(wall_s) - START) / 3600
            return 17.5 - 0.8 * hours, min(99.0, 88.0 + 3.5 * hours)  # made up: a shower cools the morning

        node = LoraNode(
            7,
            "mehaigne-wanze/level-1",
            {"water_distance": (1, 0x82), "battery_voltage": (2, 0x74)},
            evening_before,
            interval_s=2.0,
        )
        self.ports = {name: directory / name for name in _PORTS}
        self.siren = RelayBoard(self.ports["siren"])
        self.gateway_modem = GsmModem(self.ports["gsm-huy"])
        self.central_modem = GsmModem(self.ports["gsm-central"])
        self.sensors: dict[str, Sequence[SensorDevice]] = {
            HUY: [Mb7389(self.ports["level"], "hoyoux-huy/level-1", distance, clock=clock, log=log)],
            WANZE: [
                Rylr998(self.ports["lora"], [node], clock=clock, log=log),
                Sds011(self.ports["dust"], "ecole-wanze/dust-1", particles, clock=clock, log=log),
                Rs485Line(self.ports["rs485"], [XyMd02(1, "ecole-wanze/air-1", climate)], clock=clock, log=log),
            ],
        }
        self.power(on=False)

    def power(self, *, on: bool) -> None:
        for sensor in self._all_sensors():
            sensor.powered = on

    def start(self) -> None:
        for device in self._all():
            device.start()

    def stop(self) -> None:
        for device in self._all():
            device.stop()

    def _all_sensors(self) -> list[SensorDevice]:
        return [sensor for group in self.sensors.values() for sensor in group]

    def _all(self) -> list[PtyDevice]:
        return [*self._all_sensors(), self.siren, self.gateway_modem, self.central_modem]


_PORTS = ("level", "lora", "dust", "rs485", "siren", "gsm-huy", "gsm-central")


def readings(sent: Sent) -> dict[str, float]:
    """The readings that a gateway must make of a frame, by series: distances are levels above the gauge's zero."""
    out = {}
    for name, value in sent.values.items():
        quantity = "water_level" if name == "water_distance" else name
        out[f"{sent.sensor}/{quantity}"] = round(MOUNTING_M - value, 4) if name == "water_distance" else value
    return out


def configurations(
    directory: Path, *, broker: int, cut_broker: int, smtp: int, web: int, store: str, ports: dict[str, Path]
) -> dict[str, Path]:
    """Write the three configuration files, as a technician would. Gives their paths by gateway id and "central".

    `cut_broker` is the broker's port behind the link that fails; `store` is central's [store] section.
    """
    common = {name.replace("-", "_"): path for name, path in ports.items()}
    central_key = keygen(directory / "commands.pem")
    files = {}
    for name, text in ((HUY, _HUY), (WANZE, _WANZE), ("central", _CENTRAL)):
        files[name] = directory / f"{name}.toml"
        files[name].write_text(
            text.format(
                directory=directory,
                broker=cut_broker if name == HUY else broker,
                smtp=smtp,
                web=web,
                store=store,
                central_key=central_key,
                **common,
            ),
            encoding="utf-8",
        )
        files[name].chmod(0o600)
    people = directory / "recipients.csv"
    people.write_text(RECIPIENTS, encoding="utf-8")
    Recipients(directory / "central").save(table.read(people))  # maillages-central recipients import
    return files


# Durations are seconds of the sped-up clock: 600 s are 5 real ones. Frames come in real time, so each is a reading of its own
# (period_s 0), and silence is judged with patience (stale_after_s): half a real second of it is nothing.
_HUY = """\
[gateway]
id = "gw-huy-01"
data_dir = "{directory}/gw-huy-01"
[mqtt]
host = "127.0.0.1"
port = {broker}
central_key = "{central_key}"
[uplink]
retry_s = 600
backlog_packs_per_s = 0.01
[journal]
sync_s = 600

[[station]]
id = "hoyoux-huy"
name = "Huy, pont du Hoyoux"
commune = "61031"
lat = 50.519
lon = 5.240
river = "Hoyoux"
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{level}"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 4.0 }}
gross_range = {{ water_level = {{ fail = [-0.5, 4.0] }} }}
stale_after_s = 1800
[[station.rule]]
id = "hoyoux-high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [0.55, 0.80, 1.20]
deadband = 0.05
off_delay_s = 1800

[health]
unconfirmed_s = 7200   # the cut is shorter: this story is about the water
[outputs.siren]
port = "{siren}"
min_level = 3
max_s = 900
[outputs.sms]
port = "{gsm_huy}"
after_s = 360
[[outputs.sms.recipient]]
id = "garde-hoyoux"
phone = "+32470000001"
"""

_WANZE = """\
[gateway]
id = "gw-wanze-01"
data_dir = "{directory}/gw-wanze-01"
[mqtt]
host = "127.0.0.1"
port = {broker}
central_key = "{central_key}"
[uplink]
retry_s = 600
[journal]
sync_s = 600

[[modem]]
name = "lora"
driver = "rylr998"
port = "{lora}"
settings = "rylr998-eu868"

[[station]]
id = "mehaigne-wanze"
name = "Wanze, pont de la Mehaigne"
commune = "61072"
lat = 50.534
lon = 5.208
river = "Mehaigne"
[[station.sensor]]
id = "level-1"
driver = "cayenne_lpp"
modem = "lora"
address = 7
options = {{ channels = {{ 1 = "water_distance", 2 = "battery_voltage" }} }}
level = {{ mounting_height_m = 4.0 }}
stale_after_s = 3600
[[station.rule]]
id = "mehaigne-high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [0.55, 0.80, 1.20]
deadband = 0.05
off_delay_s = 1800

[[station]]
id = "ecole-wanze"
name = "Wanze, école communale"
commune = "61072"
lat = 50.538
lon = 5.212
[[station.sensor]]
id = "dust-1"
driver = "sds011"
port = "{dust}"
period_s = 0
stale_after_s = 3600
[[station.sensor]]
id = "air-1"
driver = "xy_md02"
port = "{rs485}"
period_s = 120
[[station.rule]]
id = "ecole-pm"
kind = "high"
sensor = "dust-1"
quantity = "pm2_5"
levels = [50.0, 75.0, 100.0]
deadband = 5.0
off_delay_s = 1800
"""

_CENTRAL = """\
data_dir = "{directory}/central"
[mqtt]
host = "127.0.0.1"
port = {broker}
broker_topics = false # the embedded one has none
{store}
[commands]
key = "{directory}/commands.pem"
[web]
host = "127.0.0.1"
port = {web}
public_url = "http://127.0.0.1:{web}"
open_reading = true
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@exercice.example"
[[sms]]
kind = "modem"
port = "{gsm_central}"
[escalation]
step_s = 900
rounds = 1

[[station]]
id = "hoyoux-huy"
gateway = "gw-huy-01"
commune = "61031"
name = "Huy, pont du Hoyoux"
river = "Hoyoux"
[[station]]
id = "mehaigne-wanze"
gateway = "gw-wanze-01"
commune = "61072"
name = "Wanze, pont de la Mehaigne"
river = "Mehaigne"
[[station]]
id = "ecole-wanze"
gateway = "gw-wanze-01"
commune = "61072"
name = "Wanze, école communale"
"""

RECIPIENTS = """\
identifiant;nom;fonction;communes;téléphone;courriel;seuil;étape;exercices
planu-huy;Coordination PLANU, Huy;planu;Huy;+32470000010;planu.huy@exercice.example;1;1;oui
bourgmestre-huy;Bourgmestre, Huy;bourgmestre;Huy;+32470000011;;2;2;oui
planu-wanze;Coordination PLANU, Wanze;planu;Wanze;+32470000020;planu.wanze@exercice.example;1;1;oui
bourgmestre-wanze;Bourgmestre, Wanze;bourgmestre;Wanze;+32470000021;;2;2;oui
"""
"""Central's recipients, as a commune keeps them."""

PEOPLE = {
    "+32470000001": "garde-hoyoux",
    "+32470000010": "planu-huy",
    "+32470000011": "bourgmestre-huy",
    "+32470000020": "planu-wanze",
    "+32470000021": "bourgmestre-wanze",
    "planu.huy@exercice.example": "planu-huy",
    "planu.wanze@exercice.example": "planu-wanze",
}
"""Who has which number and address: screens show the name."""
