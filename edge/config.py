"""edge.toml: one typed model, checked whole at start, without touching the world. Unknown keys are refused.

Units are in the names (`_s`, `_m`, `_per_h`). `example()` is the commented file that `maillages-edge config --example`
prints and a test loads.
"""

import tomllib
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from common.config import faults, unique
from edge.errors import ConfigError
from wire.command import public_key
from wire.ids import Id
from wire.quantities import QUANTITIES


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Level = Annotated[int, Field(ge=1, le=3)]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
QuantityName = Annotated[str, Field(json_schema_extra={"enum": sorted(QUANTITIES)})]


MEANT = ("pm2_5", "pm10", "no2", "o3")
"""Quantities of which running means are kept: those whose thresholds are set on means."""


def _known_quantity(name: str) -> str:
    if name not in QUANTITIES:
        raise ValueError(f"quantity {name!r} is unknown, expected one of {', '.join(QUANTITIES)}")
    return name


class Gateway(_Config):
    id: Id
    data_dir: Path


class ClockConfig(_Config):
    """`always`: this machine's clock is kept by something the kernel does not know of (an RTC and GPS, a container host)."""

    trust: Literal["system", "always"] = "system"


class Tls(_Config):
    ca: Path
    cert: Path
    key: Path


class Broker(_Config):
    host: str
    port: int = Field(default=8883, ge=1, le=65535)


class Mqtt(Broker):
    """The broker, and in `fallback` others with the same TLS and credentials, in order, for when it cannot be reached.
    `central_key` is central's Ed25519 public key (base64), which signs commands; without it they are refused."""

    fallback: tuple[Broker, ...] = ()
    keepalive_s: int = Field(default=20, ge=5, le=300)
    tls: Tls | None = None
    username: str | None = None
    password: str | None = None
    central_key: str | None = None

    @field_validator("central_key")
    @classmethod
    def _is_public_key(cls, text: str | None) -> str | None:
        if text is not None:
            public_key(text)
        return text


class Uplink(_Config):
    """`pack_interval_s` 0 sends each reading at once; more saves data volume. `pack_interval_active_s` holds instead, for the
    whole gateway, while a level or rate alarm stands or a watched level rises. Retries double from `retry_s` to `retry_max_s`."""

    pack_interval_s: Seconds = 0
    pack_interval_active_s: Seconds = 0
    window_packs: int = Field(default=100, ge=4, le=1000)
    backlog_packs_per_s: float = Field(default=10, gt=0)
    retry_s: PositiveSeconds = 60
    retry_max_s: PositiveSeconds = 900


class JournalConfig(_Config):
    """`sync_s`: at most this much is lost in a power cut (a killed process loses nothing); while a level or rate alarm stands or a
    watched level rises, each reading is synced as it comes. Stored readings stay `keep_days`,
    unless the journal outgrows `max_mib`; when they are gone, unsent ones are thinned (docs/adr/0003-journal.md)."""

    sync_s: PositiveSeconds = 30
    keep_days: float = Field(default=30, gt=0)
    max_mib: float = Field(default=2048, gt=0)


class LevelFromDistance(_Config):
    """Water level = datum + mounting height - distance. `mounting_height_m`: sensor face above the reference mark;
    `datum_m`: that mark above the gauge zero."""

    mounting_height_m: float = Field(gt=0)
    datum_m: float = 0


class GrossRange(_Config):
    """QARTOD gross range in the quantity's unit (of rainfall in mm/h): outside `fail` the flag is 4, outside `suspect` 3."""

    fail: tuple[float, float]
    suspect: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if self.fail[0] >= self.fail[1]:
            raise ValueError("fail: expected [lowest, highest]")
        if self.suspect and not self.fail[0] <= self.suspect[0] < self.suspect[1] <= self.fail[1]:
            raise ValueError("suspect: expected a span inside fail")
        return self


class Calibration(_Config):
    """What `by` found on site: from the moment `from` on (with its UTC offset), `quantity` = slope * measured + offset.

    It is applied to what was measured since, until the next entry of the quantity. Entries are only ever added.
    """

    quantity: QuantityName
    begin: AwareDatetime = Field(alias="from")
    by: str = Field(min_length=1, max_length=64)
    offset: float = Field(default=0, ge=-1e6, le=1e6)
    slope: float = Field(default=1, gt=0, le=100)

    @property
    def begin_s(self) -> float:
        """Unix time."""
        return self.begin.timestamp()


class Air(_Config):
    """For an ultrasonic device that does not compensate by itself: the `sensor` of the same station whose `air_temperature`
    says how fast sound is. Without one of the last `max_age_s` the distance stays uncompensated, with flag 3."""

    sensor: Id
    max_age_s: PositiveSeconds = 3600


class Tilt(_Config):
    """Beyond `max_deg` from plumb a distance is none: at 20 degrees it is 6 % too long. `upright`: the acceleration (x, y, z)
    that a device says when it hangs as it should; without it only devices that say their tilt are judged."""

    max_deg: float = Field(default=20, gt=0, le=90)
    upright: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _direction(self) -> Self:
        if self.upright is not None and not any(self.upright):
            raise ValueError("upright: found [0, 0, 0], expected a direction")
        return self


class Spike(_Config):
    """How far a reading may stand out from both its neighbours, in the quantity's unit."""

    suspect: float = Field(gt=0)
    fail: float = Field(gt=0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.suspect > self.fail:
            raise ValueError("expected suspect at or below fail")
        return self


class Rate(_Config):
    """A change of more than `change` (the quantity's unit) in `within_s`, or in proportion, gets flag 3."""

    change: float = Field(gt=0)
    within_s: PositiveSeconds


class FlatLine(_Config):
    """A quantity whose readings differ by less than `tolerance` for `suspect_s` gets flag 3, for `fail_s` 4 (never without it)."""

    tolerance: float = Field(gt=0)
    suspect_s: PositiveSeconds
    fail_s: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.fail_s is not None and self.suspect_s > self.fail_s:
            raise ValueError("expected suspect_s at or below fail_s")
        return self


class Rs485(_Config):
    """`rts`: the kernel raises RTS while it sends, for a transceiver that does not find the direction by itself."""

    rts: bool = False


class Power(_Config):
    """A relay in the sensor's supply, which cuts it while drawn: for `off_s`, when `after` attempts to hear it have failed in a row."""

    driver: Literal["lcus1"] = "lcus1"
    port: str
    channel: int = Field(default=1, ge=1, le=8)
    after: int = Field(default=5, ge=2)
    off_s: PositiveSeconds = 10


class Sensor(_Config):
    """A sensor on a serial `port` of its own or shared, behind a `modem` by its node `address`, or behind a `network_server`
    by its `dev_eui` (16 hexadecimal digits). Some modems' packets, and a packet forwarder's, name no sender: there it has none,
    unless it is `authenticated`.
    A port is a path, or an adapter by what it is: `usb:VID:PID` or `usb:VID:PID:SERIAL`.

    `authenticated`: behind a modem, only packets that the node has sealed with its key are believed (`maillages-edge radio
    rekey` makes it). Without, plain payloads are, and the health says so.

    `period_s` 0: every valid frame is a reading. Otherwise one reading per period: the median of the frames of the last
    `median_s` seconds before it is due (one frame for polled devices).

    `gross_range`, `spike`, `rate` and `flat_line` set a test of quality control by quantity (the defaults stand in edge/qc.py);
    false switches one of the last three off. `sentinels`: values by which the device says that it has none, in the device's own
    quantity and unit. Particle counters are suspect above `humid_from` %RH.
    """

    id: Id
    driver: str
    port: str | None = None
    baudrate: int | None = None
    rs485: Rs485 | None = None
    modem: str | None = None
    address: int | None = Field(default=None, ge=0, le=65535)
    network_server: str | None = None
    dev_eui: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{16}$", to_upper=True)] | None = None
    authenticated: bool = False
    period_s: Seconds | None = None
    median_s: PositiveSeconds = 10
    options: dict[str, Any] = {}
    level: LevelFromDistance | None = None
    gross_range: dict[str, GrossRange] = {}
    calibration: tuple[Calibration, ...] = ()
    air: Air | None = None
    tilt: Tilt = Tilt()
    spike: dict[str, Spike | Literal[False]] = {}
    rate: dict[str, Rate | Literal[False]] = {}
    flat_line: dict[str, FlatLine | Literal[False]] = {}
    sentinels: dict[str, tuple[float, ...]] = {}
    humid_from: float = Field(default=80, gt=0)
    stale_after_s: PositiveSeconds | None = None
    power: Power | None = None
    out_of_service: bool = False
    """Under maintenance: its alarms are judged and logged, and tell nobody."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if sum(way is not None for way in (self.port, self.modem, self.network_server)) != 1:
            raise ValueError("expected either port, modem or network_server")
        if self.dev_eui is not None and self.network_server is None:
            raise ValueError("dev_eui: expected only with network_server")
        if self.authenticated and (self.modem is None or self.address is None):
            raise ValueError("authenticated: expected only with modem and the node's address")
        for tests in (self.gross_range, self.spike, self.rate, self.flat_line, self.sentinels):
            for quantity in tests:
                _known_quantity(quantity)
        return self

    @model_validator(mode="after")
    def _history(self) -> Self:
        newest: dict[str, Calibration] = {}
        for entry in self.calibration:
            _known_quantity(entry.quantity)
            if self.level is not None and entry.quantity == "water_distance":
                raise ValueError("calibration: found water_distance, expected water_level, which this sensor publishes")
            last = newest.get(entry.quantity)
            if last is not None and entry.begin <= last.begin:
                raise ValueError(
                    f"calibration: {entry.quantity} from {entry.begin.isoformat()} stands after"
                    f" {last.begin.isoformat()}, expected later dates, each once"
                )
            newest[entry.quantity] = entry
        return self


class DatedLevels(_Config):
    """Thresholds that hold from a day on, by the Belgian calendar, until the next entry's."""

    since: date = Field(alias="from")
    levels: tuple[float, ...] = Field(min_length=1, max_length=3)
    deadband: float | None = Field(default=None, ge=0)


class _RuleBase(_Config):
    """`latching`: an alarm that has returned stays until someone resets it. `suppressed_by`: another rule of the station while
    whose alarm stands this one tells nobody (it is judged and logged all the same)."""

    id: Id
    off_delay_s: Seconds = 0
    on_delay_s: Seconds = 0
    latching: bool = False
    suppressed_by: Id | None = None
    text: str | None = None


class _SensorRule(_RuleBase):
    sensor: Id


class _LevelRule(_SensorRule):
    """`levels`: thresholds of local levels 1, 2, 3 in the quantity's unit, at least one. A level is reached at its threshold
    for `on_delay_s`, left `deadband` before it for `off_delay_s`. `dated`: other thresholds from a day on."""

    quantity: str
    levels: tuple[float, ...] = Field(min_length=1, max_length=3)
    deadband: float = Field(default=0, ge=0)
    dated: tuple[DatedLevels, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _known_quantity(self.quantity)
        for key, levels in (("levels", self.levels), *((f"dated {d.since}", d.levels) for d in self.dated)):
            if list(levels) != sorted(set(levels), reverse=self.descending):
                raise ValueError(f"{key}: expected {'descending' if self.descending else 'ascending'} thresholds")
        days = [entry.since for entry in self.dated]
        if days != sorted(set(days)):
            raise ValueError("dated: expected each day once, in order")
        return self

    @property
    def descending(self) -> bool:
        return False

    def on(self, day: date) -> Self:
        """The rule with the thresholds of a day."""
        current = [entry for entry in self.dated if entry.since <= day]
        if not current:
            return self
        deadband = self.deadband if current[-1].deadband is None else current[-1].deadband
        return self.model_copy(update={"levels": current[-1].levels, "deadband": deadband})


class HighRule(_LevelRule):
    """At or above a threshold; left below threshold - `deadband`. With `and_rise_per_h`, a level is reached only while the
    quantity also rises at least so fast (its unit per hour); it is left by the value alone. With `mean_h`, the running mean over
    so many hours is judged, at the end of each hour, when 75 % of it was measured (edge/air.py)."""

    kind: Literal["high"]
    and_rise_per_h: float | None = Field(default=None, gt=0)
    mean_h: Literal[1, 8, 24] | None = None

    @model_validator(mode="after")
    def _mean_of_air(self) -> Self:
        if self.mean_h is not None and self.quantity not in MEANT:
            raise ValueError(f"mean_h: expected only with {', '.join(MEANT)}")
        if self.mean_h is not None and self.and_rise_per_h is not None:
            raise ValueError("expected mean_h or and_rise_per_h, not both")
        return self


class _DescendingRule(_LevelRule):
    @property
    def descending(self) -> bool:
        return True


class LowRule(_DescendingRule):
    """At or below a threshold (descending); left above threshold + `deadband`."""

    kind: Literal["low"]


class PowerRule(_DescendingRule):
    """As `low`, of what feeds the sensor: its battery."""

    kind: Literal["power"]
    quantity: str = "battery_voltage"


class RiseRule(_LevelRule):
    """Rise over `window_s`, in the quantity's unit per hour."""

    kind: Literal["rise"]
    window_s: PositiveSeconds = 3600


class FallRule(_LevelRule):
    """Fall over `window_s`, in the quantity's unit per hour, a positive number."""

    kind: Literal["fall"]
    window_s: PositiveSeconds = 3600


class StaleRule(_SensorRule):
    """No valid value for `after_s` (default: the sensor's `stale_after_s`). At the level of the sensor's own level and rate
    alarms when there is one, else `level`."""

    kind: Literal["stale"]
    after_s: PositiveSeconds | None = None
    level: Level = 1


class CommFailRule(_SensorRule):
    """The device or its line fails `errors` times in a row."""

    kind: Literal["comm_fail"]
    errors: int = Field(default=3, ge=1)
    level: Level = 1


class QualityRule(_SensorRule):
    """Of what the sensor said in the last `window_s`, at least the share `failed` is flag 4 or no value; over again below half
    of that. Not judged on fewer than `at_least` observations."""

    kind: Literal["quality"]
    failed: float = Field(default=0.5, gt=0, le=1)
    at_least: int = Field(default=6, ge=1)
    window_s: PositiveSeconds = 3600
    level: Level = 1


StationRule = Annotated[
    HighRule | LowRule | PowerRule | RiseRule | FallRule | StaleRule | CommFailRule | QualityRule,
    Field(discriminator="kind"),
]


class SystemRule(_RuleBase):
    """One of the gateway about itself: `quantity` is a value of its health, reached from `limit` on, or down to it with `below`."""

    kind: Literal["system", "power"]
    quantity: str
    limit: float
    below: bool = False
    deadband: float = 0

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.limit,)


Rule = StationRule | SystemRule


class Health(_Config):
    """When the gateway alarms about itself, at level 1; `false` for never. `unconfirmed_s`: readings wait and central confirms none;
    `unsynchronised_s`: since the start, and nobody has set the clock; `sms_unusable_s`: the modem does not answer, its SIM is
    missing or locked, or it has no network; `certificate_days`: so few are left of the certificate, which should have been renewed."""

    disk_free_percent: Annotated[float, Field(gt=0, lt=100)] | Literal[False] = 10.0
    cpu_temperature: float | Literal[False] = 80.0
    unconfirmed_s: PositiveSeconds | Literal[False] = 900.0
    unsynchronised_s: PositiveSeconds | Literal[False] = 900.0
    sms_unusable_s: PositiveSeconds | Literal[False] = 600.0
    certificate_days: Annotated[float, Field(gt=0)] | Literal[False] = 30.0
    under_voltage: bool = True


class Station(_Config):
    id: Id
    name: str
    commune: str = Field(pattern=r"^\d{5}$", description="NIS code")
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    river: str | None = None
    sensor: tuple[Sensor, ...] = Field(min_length=1)
    rule: tuple[StationRule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [s.id for s in self.sensor]
        unique(ids, "sensor id")
        unique([r.id for r in self.rule], "rule id")
        for rule in self.rule:
            if rule.sensor not in ids:
                raise ValueError(f"rule {rule.id}: sensor {rule.sensor!r} is unknown, expected one of {', '.join(ids)}")
            # None that is itself suppressed: two that suppress each other would tell nobody of anything.
            others = [r.id for r in self.rule if r.id != rule.id and r.suppressed_by is None]
            if rule.suppressed_by is not None and rule.suppressed_by not in others:
                raise ValueError(
                    f"rule {rule.id}: suppressed_by {rule.suppressed_by!r}, expected another rule of the station that is not"
                    f" suppressed itself: {', '.join(others) or 'none'}"
                )
        for sensor in self.sensor:
            others = [name for name in ids if name != sensor.id]
            if sensor.air is not None and sensor.air.sensor not in others:
                raise ValueError(
                    f"sensor {sensor.id}: air.sensor {sensor.air.sensor!r} is unknown, expected one of {', '.join(others) or 'none'}"
                )
        return self


class Modem(_Config):
    """A LoRa modem on a serial port; `settings` names a file of firmware-configs/ that is written at start and read back.
    `options` are the driver's, beyond what the settings say."""

    name: Id
    driver: str
    port: str
    baudrate: int | None = None
    settings: str | None = None
    options: dict[str, Any] = {}


class ServerTls(_Config):
    """Of a network server's broker: its own authority, or the system's without `ca`; `cert` and `key` where it asks for them."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together")
        return self


class NetworkServer(_Config):
    """Where uplinks of LoRaWAN devices come from: `url` is mqtt://host[:port] or mqtts://host[:port] of the broker of ChirpStack
    v4 or The Things Stack v3, udp://address[:port] to listen on for Semtech packet forwarders."""

    name: Id
    driver: Literal["chirpstack_v4", "ttn_v3", "semtech_udp"]
    url: str
    username: str | None = None
    password: str | None = None
    topic: str | None = Field(default=None, min_length=1)
    tls: ServerTls | None = None

    @field_validator("url")
    @classmethod
    def _whole(cls, url: str) -> str:
        try:
            where = urlsplit(url)
            port = _PORTS[where.scheme] if where.port is None else where.port
            if where.scheme not in _PORTS or port == 0:
                raise ValueError(url)
        except (ValueError, KeyError):
            raise ValueError("expected mqtt://host:port, mqtts://host:port or udp://address:port") from None
        if not where.hostname or "@" in where.netloc or where.path.strip("/") or where.query or where.fragment:
            raise ValueError("expected a host and a port only; username and password have keys of their own")
        host = f"[{where.hostname}]" if ":" in where.hostname else where.hostname
        return f"{where.scheme}://{host}:{port}"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        scheme = urlsplit(self.url).scheme
        if (scheme == "udp") != (self.driver == "semtech_udp"):
            raise ValueError(
                f"url: {scheme} is not for {self.driver}, expected udp for semtech_udp, else mqtt or mqtts"
            )
        if self.tls is not None and scheme != "mqtts":
            raise ValueError("tls: expected only with mqtts")
        if scheme == "udp" and (self.username or self.password or self.topic):
            raise ValueError("username, password, topic: expected only with mqtt or mqtts")
        return self

    @property
    def subscription(self) -> str:
        """The topic of uplinks. The Things Stack lets a user (`application@tenant`) read its own only."""
        if self.topic is not None:
            return self.topic
        return (
            "application/+/device/+/event/up"
            if self.driver == "chirpstack_v4"
            else f"v3/{self.username or '+'}/devices/+/up"
        )


_PORTS = {"mqtt": 1883, "mqtts": 8883, "udp": 1700}


class Pattern(_Config):
    """How a siren sounds: `on_s` on, `off_s` off, and again; `off_s` 0 is continuous. A relay wants 0.1 s to switch."""

    on_s: float = Field(ge=0.1, le=60)
    off_s: float = Field(default=0, ge=0, le=60)

    @field_validator("off_s")
    @classmethod
    def _none_or_heard(cls, off_s: float) -> float:
        if 0 < off_s < 0.1:
            raise ValueError("expected 0 or at least 0.1")
        return off_s


_PATTERNS = {1: Pattern(on_s=0.5, off_s=4.5), 2: Pattern(on_s=2, off_s=2), 3: Pattern(on_s=1, off_s=0)}
"""Short beeps, long ones, continuous."""


class SelfTest(_Config):
    """Once a week on `day` at `at`, Belgian time, the siren sounds for `pulse_s`. Not between 02:00 and 03:00: that hour comes
    twice in autumn, and not at all in spring."""

    day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    at: time
    pulse_s: float = Field(default=1, ge=0.1, le=10)

    @field_validator("at")
    @classmethod
    def _exists_once(cls, at: time) -> time:
        if at.tzinfo is not None:
            raise ValueError("expected a Belgian time of day, without offset")
        if at.hour == 2:
            raise ValueError("expected a time outside of 02:00 to 03:00, when the clocks change")
        return at


class _Siren(_Config):
    """What sounds for unacknowledged alarms of `min_level` and above, at most `max_s` per raise or escalation, in the pattern of
    its level (`patterns` replaces those of some or all)."""

    min_level: Level = 2
    max_s: PositiveSeconds = 900
    patterns: dict[Level, Pattern] = {}
    self_test: SelfTest | None = None

    @property
    def all_patterns(self) -> dict[int, Pattern]:
        """By level, 1 to 3."""
        return _PATTERNS | self.patterns


class SerialSiren(_Siren):
    """On a relay of an LCUS-1 board."""

    driver: Literal["lcus1"] = "lcus1"
    port: str
    channel: int = Field(default=1, ge=1, le=8)


GpioPin = Annotated[int, Field(ge=0, le=27)]
"""By its GPIO (BCM) number, as on the Pi's 40-pin header."""


class GpioSiren(_Siren):
    """On a pin of the Pi, through a relay module or transistor. `active_high` false: the module switches on at 0 V."""

    driver: Literal["gpio"]
    pin: GpioPin
    active_high: bool = True


def _siren_driver(value: Any) -> Any:
    return value.get("driver", "lcus1") if isinstance(value, dict) else getattr(value, "driver", None)


Siren = Annotated[
    Annotated[SerialSiren, Tag("lcus1")] | Annotated[GpioSiren, Tag("gpio")],
    Discriminator(
        _siren_driver,
        custom_error_type="driver",
        custom_error_message="driver: expected lcus1 or gpio",
    ),
]


class _Button(_Config):
    """Who presses it acknowledges what the siren sounds for. A press counts after `debounce_s`; held for `stuck_s` it is a fault."""

    debounce_s: float = Field(default=0.1, ge=0.02, le=2)
    stuck_s: float = Field(default=30, ge=5, le=600)


class GpioButton(_Button):
    """Between a pin and ground, or with `active_high` between a pin and 3.3 V."""

    driver: Literal["gpio"]
    pin: GpioPin
    active_high: bool = False


class SerialButton(_Button):
    """On a serial adapter of its own: between RTS and CTS, or between DTR and DSR."""

    driver: Literal["serial"]
    port: str
    line: Literal["cts", "dsr"] = "cts"


Button = Annotated[GpioButton | SerialButton, Field(discriminator="driver")]


class Recipient(_Config):
    """Who gets the gateway's own SMS, and may answer them. `phone` in international form. `hours`: from and to, of the Belgian
    day, in which levels below 3 reach them; those of another hour wait for it. A `technician` gets what is wrong with sensors,
    power and the gateway itself beside the alarms; the others get the alarms alone."""

    id: Id
    phone: str = Field(pattern=r"^\+[1-9]\d{7,14}$")
    min_level: Level = 1
    hours: tuple[time, time] | None = None
    technician: bool = False

    def reachable(self, at: time) -> bool:
        """Whether `hours` hold at a Belgian time of day; they may go over midnight."""
        if self.hours is None:
            return True
        begin, end = self.hours
        return begin <= at < end if begin <= end else at >= begin or at < end


class Sms(_Config):
    """A GSM modem. It sends when central has not said `notifying` within `after_s`, or says that it could not."""

    port: str
    baudrate: int = 115200
    pin: str | None = Field(default=None, pattern=r"^\d{4,8}$")
    after_s: Seconds = 60
    recipient: tuple[Recipient, ...] = Field(min_length=1)


class Outputs(_Config):
    siren: Siren | None = None
    button: Button | None = None
    sms: Sms | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.button is not None and self.siren is None:
            raise ValueError("button: expected only with a siren, whose alarms it acknowledges")
        pins = [f"GPIO{o.pin}" for o in (self.siren, self.button) if isinstance(o, GpioSiren | GpioButton)]
        unique(pins, "pin")
        return self


class Page(_Config):
    """The gateway's own page, for who stands beside it: `listen` is address:port, IPv6 in brackets. Read-only, no password: for
    a network of the gateway's own, never the Internet."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _whole(cls, listen: str) -> str:
        try:
            where = urlsplit(f"//{listen}")
            whole = bool(where.hostname and where.port) and where.netloc == listen and "@" not in listen
        except ValueError:
            whole = False
        if not whole:
            raise ValueError(f"found {listen!r}, expected address:port, as 0.0.0.0:8080 or [::]:8080")
        return listen

    @property
    def host(self) -> str:
        return urlsplit(f"//{self.listen}").hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(f"//{self.listen}").port or 0


class EdgeConfig(_Config):
    gateway: Gateway
    clock: ClockConfig = ClockConfig()
    mqtt: Mqtt | None = None
    uplink: Uplink = Uplink()
    journal: JournalConfig = JournalConfig()
    modem: tuple[Modem, ...] = ()
    network_server: tuple[NetworkServer, ...] = ()
    station: tuple[Station, ...] = ()
    """None: a gateway that has joined and measures nothing yet."""
    outputs: Outputs = Outputs()
    health: Health = Health()
    page: Page | None = None

    @property
    def own_rules(self) -> tuple[SystemRule, ...]:
        """What the gateway watches about itself."""
        h = self.health
        found = (
            self._own("disk_free_percent", h.disk_free_percent, below=True, deadband=2),
            self._own("cpu_temperature", h.cpu_temperature, deadband=5, on_delay_s=120),
            self._own("unconfirmed_s", h.unconfirmed_s if self.mqtt else False),
            self._own("certificate_days", h.certificate_days if self.mqtt and self.mqtt.tls else False, below=True),
            self._own("unsynchronised_s", h.unsynchronised_s if self.clock.trust == "system" else False),
            self._own(
                "sms_unusable", 1 if self.outputs.sms and h.sms_unusable_s else False, on_delay_s=h.sms_unusable_s
            ),
            self._own("readings_in_memory", 1, on_delay_s=120),
            self._own("under_voltage", 1 if h.under_voltage else False, kind="power", off_delay_s=600),
            self._own("siren_lost", 1 if self.outputs.siren else False, on_delay_s=120),
            self._own("button_fault", 1 if self.outputs.button else False),
        )
        return tuple(rule for rule in found if rule is not None)

    def _own(
        self, quantity: str, limit: float | Literal[False], kind: Literal["system", "power"] = "system", **more: Any
    ) -> SystemRule | None:
        if limit is False:
            return None
        name = f"{self.gateway.id[:40]}-{quantity.replace('_', '-')}"
        return SystemRule(id=name, kind=kind, quantity=quantity, limit=limit, **more)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unique([s.id for s in self.station], "station id")
        unique([r.id for s in self.station for r in s.rule] + [r.id for r in self.own_rules], "rule id")
        names = [m.name for m in self.modem]
        unique(names, "modem name")
        outputs = (self.outputs.siren, *(e.power for s in self.station for e in s.sensor))
        relays = [(r.port, r.channel) for r in outputs if isinstance(r, SerialSiren | Power)]
        unique([f"{port} channel {channel}" for port, channel in relays], "relay")
        servers = {server.name: server for server in self.network_server}
        unique([server.name for server in self.network_server], "network_server name")
        for station in self.station:
            for sensor in station.sensor:
                if sensor.modem is not None and sensor.modem not in names:
                    raise ValueError(
                        f"sensor {station.id}/{sensor.id}: modem {sensor.modem!r} is unknown, expected one of {', '.join(names) or 'none'}"
                    )
                if sensor.network_server is not None:
                    where = f"sensor {station.id}/{sensor.id}"
                    server = servers.get(sensor.network_server)
                    if server is None:
                        raise ValueError(
                            f"{where}: network_server {sensor.network_server!r} is unknown, expected one of {', '.join(servers) or 'none'}"
                        )
                    if (sensor.dev_eui is None) != (server.driver == "semtech_udp"):
                        found = "none" if sensor.dev_eui is None else sensor.dev_eui
                        wanted = (
                            "none with semtech_udp" if server.driver == "semtech_udp" else f"one with {server.driver}"
                        )
                        raise ValueError(f"{where}: dev_eui: found {found}, expected {wanted}")
        self._nodes_agree()
        return self

    def _nodes_agree(self) -> None:
        """A node has one key and one counter: all of its sensors are authenticated or none is, and no other has its number."""
        behind = [(f"{s.id}/{x.id}", x) for s in self.station for x in s.sensor if x.modem is not None]
        for key, sensor in behind:
            for other, twin in behind:
                same = sensor.address == twin.address
                if same and sensor.authenticated and (twin.modem, twin.authenticated) != (sensor.modem, True):
                    raise ValueError(
                        f"sensor {key}: node {sensor.address} is authenticated, expected the same of {other}, behind the same modem"
                    )


def load(path: Path) -> EdgeConfig:
    """Read and check a file. Raises ConfigError with one line per fault: file, key, what was found, what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not TOML: {e}") from e
    return parse(text, str(path))


def parse(text: str, name: str) -> EdgeConfig:
    """Check the text of a file, which faults call `name`. Raises ConfigError as `load` does."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{name}: not TOML: {e}") from e
    try:
        return EdgeConfig.model_validate(data)
    except ValidationError as e:
        raise ConfigError("\n".join(f"{name}: {line}" for line in faults(e, data))) from e


def example() -> str:
    """A commented configuration that loads as it is."""
    return _EXAMPLE


_EXAMPLE = """\
# edge.toml - unknown keys are refused; durations end in _s (seconds), lengths in _m (metres).

[gateway]
id = "gw-huy-01"                          # also the MQTT client id and the certificate's CN
data_dir = "/var/lib/maillages-edge"      # journal and alarm log

[clock]
trust = "system"                          # "always" only where the kernel cannot know that the clock is right

[mqtt]                                    # leave it out and the gateway journals and alarms on its own
host = "broker.example.be"
port = 8883
# central_key = "base64 Ed25519 public key"   # without it commands of central are refused
# fallback = [{ host = "broker-2.example.be", port = 8883 }]   # when it is away; same TLS, same credentials
[mqtt.tls]                                # maillages-edge join writes these three; one file for both is renewed by itself
ca = "/var/lib/maillages-edge/identity/ca.pem"
cert = "/var/lib/maillages-edge/identity/gateway.pem"
key = "/var/lib/maillages-edge/identity/gateway.pem"

[uplink]
pack_interval_s = 0                       # 0: each reading at once; 60 saves three quarters of the data volume
pack_interval_active_s = 0                # instead, while a level or rate alarm stands or a watched level rises

[journal]
sync_s = 30                               # a power cut loses at most this, and when a level rises nothing; a killed process never
keep_days = 30

[[modem]]                                 # a LoRa modem, whose nodes are sensors below
name = "lora"
driver = "rylr998"
port = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"
settings = "rylr998-eu868"                # written at start and read back

[[network_server]]                        # LoRaWAN devices, whose uplinks come from a broker, are sensors below
name = "chirpstack"
driver = "chirpstack_v4"                  # or "ttn_v3"; or "semtech_udp" with url = "udp://127.0.0.1:1700"
url = "mqtt://127.0.0.1:1883"             # mqtts:// for TLS
# username = "maillages"                  # The Things Stack: application@tenant, and an API key as password
# password = "..."
# topic = "application/+/device/+/event/up"   # this default of ChirpStack; The Things Stack: v3/<username>/devices/+/up
# tls = { ca = "/etc/maillages/lorawan-ca.pem" }   # with mqtts, where the system does not know the authority

[[station]]
id = "hoyoux-huy"
name = "Huy, pont du Hoyoux"
commune = "61031"                         # NIS code
lat = 50.519
lon = 5.240
river = "Hoyoux"

[[station.sensor]]
id = "level-1"
driver = "maxbotix"                       # maillages-edge drivers lists them
port = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A10K-if00-port0"
period_s = 60                             # 0: every frame is a reading
options = { model = "MB7389" }
level = { mounting_height_m = 4.20, datum_m = 0.0 }     # level = datum + mounting height - distance
gross_range = { water_level = { fail = [-0.5, 4.2], suspect = [0.0, 3.5] } }
# spike = { water_level = { suspect = 0.15, fail = 0.30 } }       # these three are the defaults; false switches one off
# rate = { water_level = { change = 0.5, within_s = 600 } }
# flat_line = { water_level = { tolerance = 0.001, suspect_s = 43200, fail_s = 86400 } }
# power = { port = "/dev/ttyUSB9", channel = 2, after = 5, off_s = 10 }   # a relay that cuts its supply when it is silent
# sentinels = { water_distance = [9.999] }                        # what the device says when it has no value
# tilt = { max_deg = 20 }                 # of a device that says its tilt: beyond it a distance is none
# air = { sensor = "air-temp" }           # of an ultrasonic device that does not compensate for the air by itself

[[station.sensor]]
id = "air-temp"
driver = "cayenne_lpp"
modem = "lora"
address = 12                              # of the node on the modem
# authenticated = true                    # only sealed packets; its key: maillages-edge radio rekey 12 -c edge.toml
options = { channels = { 1 = "air_temperature" } }
period_s = 600

[[station.sensor.calibration]]            # what was found on site; entries are only ever added, by date
quantity = "air_temperature"
from = 2026-05-04T10:30:00+02:00          # applies to what is measured from then on
by = "J. Dupont"
offset = -0.4                             # published = slope * measured + offset
slope = 1.0

[[station.sensor]]
id = "level-2"
driver = "dragino_ldds"
network_server = "chirpstack"
dev_eui = "a84041ffff123456"              # as the network server shows it
options = { model = "LDDS75" }
level = { mounting_height_m = 4.20 }
period_s = 1200                           # how often it sends by itself; one that is late is missed

[[station.rule]]
id = "hoyoux-high"                        # local thresholds 1, 2, 3: never an authority's phase
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [1.20, 1.80, 2.30]
deadband = 0.05
on_delay_s = 0
off_delay_s = 3600                        # a lull in a flood is no all-clear
# and_rise_per_h = 0.10                   # reached only while it also rises so fast
# dated = [{ from = 2027-04-01, levels = [1.00, 1.50, 2.00] }]   # other thresholds from a day on
# latching = true                         # stays after its return until a person resets it
# suppressed_by = "hoyoux-rise"           # tells nobody while that alarm of the station stands

[[station.rule]]
id = "hoyoux-rise"
kind = "rise"
sensor = "level-1"
quantity = "water_level"
levels = [0.30]                           # metres per hour
window_s = 3600
off_delay_s = 3600

# Without rules of these kinds, a sensor with high or rise gets them with their defaults.
[[station.rule]]
id = "hoyoux-stale"
kind = "stale"
sensor = "level-1"
after_s = 900

[[station.rule]]
id = "hoyoux-comm-fail"
kind = "comm_fail"
sensor = "level-1"
errors = 3

# The Walloon smog plan's thresholds are on running means over 24 hours. Low-cost sensors are indicative: local thresholds, as all.
# [[station.rule]]
# id = "dust-pm10"
# kind = "high"
# sensor = "dust-1"
# quantity = "pm10"
# mean_h = 24                             # 1, 8 or 24; each hour, when 75 % of it was measured
# levels = [50, 70, 150]                  # for pm2_5: [35, 50]
# deadband = 5

[[station.rule]]
id = "level-2-battery"                    # kinds also: low, fall, quality
kind = "power"
sensor = "level-2"
quantity = "battery_voltage"
levels = [3.4, 3.2]                       # descending
deadband = 0.1

[health]                                  # alarms of the gateway about itself, to technicians; false switches one off
disk_free_percent = 10
cpu_temperature = 80
unconfirmed_s = 900                       # readings wait, and central confirms none
sms_unusable_s = 600                      # modem dead, SIM missing or locked, no network
certificate_days = 30                     # so few are left of it, and it has not been renewed

[page]                                    # leave it out and there is none; without a password: never towards the Internet
listen = "0.0.0.0:8080"

[outputs.siren]
driver = "lcus1"                          # or "gpio", with pin = 17 (and active_high = false) instead of port and channel
port = "/dev/serial/by-id/usb-1a86_USB2.0-Serial-if00-port0"
channel = 1
min_level = 2
max_s = 900                               # per raise or escalation
# patterns = { 2 = { on_s = 2, off_s = 2 }, 3 = { on_s = 1, off_s = 0 } }   # by level; off_s 0 is continuous
self_test = { day = "wed", at = 11:00:00, pulse_s = 1 }                     # weekly, Belgian time

# [outputs.button]                        # acknowledges what the siren sounds for
# driver = "gpio"                         # or "serial", with port and line = "cts" (button between RTS and CTS) or "dsr"
# pin = 27                                # between the pin and ground

[outputs.sms]
port = "/dev/serial/by-id/usb-SimTech-if03-port0"
# pin = "1234"
after_s = 60                              # when central has not said that it tells people

[[outputs.sms.recipient]]
id = "planu-huy"
phone = "+32470000001"
min_level = 1
"""
