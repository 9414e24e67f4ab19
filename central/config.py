"""central.toml: one typed model, checked whole at start, without touching the world. Unknown keys are refused.

Units are in the names (`_s`). `example()` is the commented file that `maillages-central config --example` prints and a test
loads. People's data (names, numbers,
addresses) stand in a file of their own (central/notify/recipients.py).
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

import common.config
from central.errors import ConfigError
from common import texts
from common.air import SMOG
from common.config import unique
from common.modem import is_emulated
from common.texts import GRAFANA_RULE, Place
from wire.alarm import AlarmEvent
from wire.ids import Id
from wire.quantities import QUANTITIES

LINK_TEST = "link-test"
"""The rule of central by which people are asked to answer."""
GATEWAY_SILENT = "gateway-silent"
"""The rule of central by which a gateway is missed."""
GATEWAYS_SILENT, STATIONS_SILENT = "gateways-silent", "stations-silent"
"""Those by which many that are silent at once are told as one."""
NEIGHBOURS_RULE, SMOG_RULE = "neighbours-", "smog-"
"""So begin the rules by which neighbours are compared, and the air of communes is judged."""
RULES = frozenset({LINK_TEST, GATEWAY_SILENT, GATEWAYS_SILENT, STATIONS_SILENT})
"""What no rule of the configuration may be called."""
PLACES = 2
"""So many stations of a gateway are named in a message about all of it."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Level = Annotated[int, Field(ge=1, le=3)]
Port = Annotated[int, Field(ge=1, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Nis = Annotated[str, Field(pattern=r"^\d{5}$", description="NIS code of a commune (Statbel)")]
Link = Annotated[str, Field(pattern=r"^https?://[^\s\\]+$", max_length=300)]
Email = Annotated[str, Field(pattern=r"^[^@\s<>,]+@[^@\s<>,]+$")]


class ClockConfig(_Config):
    """`always`: this machine's clock is kept by something the kernel does not know of (a container host)."""

    trust: Literal["system", "always"] = "system"


class Tls(_Config):
    """Without `cert` and `key` the server is checked and central signs in by username and password."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together")
        return self


class Mqtt(_Config):
    """`broker_topics`: ask the broker how it is ($SYS), for the boards. Not every broker has them."""

    host: str
    port: Port = 8883
    keepalive_s: int = Field(default=20, ge=5, le=300)
    broker_topics: bool = True
    tls: Tls | None = None
    username: str | None = None
    password: str | None = Field(default=None, repr=False)


class InfluxDb(_Config):
    """InfluxDB 1.6 to 3 or VictoriaMetrics, by `/write?db=` with Basic authentication."""

    kind: Literal["influxdb"]
    url: str = Field(pattern=r"^https?://")
    database: str = "maillages"
    username: str | None = None
    password: str | None = Field(default=None, repr=False)


class Embedded(_Config):
    """SQLite in `data_dir`: for a pilot or a demonstration. Rows older than `keep_days` go each night; without it all stay. Of readings
    older than `thin_days` stay the first, lowest and highest of each ten minutes; rainfall stays whole."""

    kind: Literal["embedded"]
    keep_days: float | None = Field(default=None, gt=0)
    thin_days: float | None = Field(default=None, ge=31)


Store = Annotated[InfluxDb | Embedded, Field(discriminator="kind")]


class WebTls(_Config):
    """Certificate chain and private key (PEM) of the page."""

    cert: Path
    key: Path


class Web(_Config):
    """Where the pages listen, and the address under which people reach them (it stands in the mails' links). `proxies`: IP
    addresses of reverse proxies; any other address gets a limited number of connections.

    `open_reading`: page and API can be read without an account. Without `tls` it listens on loopback only, for a proxy that does
    HTTPS, unless `plain_http` says that such a proxy reaches it otherwise.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = Field(default="http://127.0.0.1:8080", pattern=r"^https?://[^/\s]+(/[^?#\s]*)?$")
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    open_reading: bool = False
    tls: WebTls | None = None
    plain_http: bool = False

    @field_validator("proxies")
    @classmethod
    def _addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_address(proxy)
            except ValueError:
                raise ValueError(f"expected IP addresses, found {proxy!r}") from None
        return proxies

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Self:
        if self.tls is None and not self.plain_http and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} in plain HTTP: expected [web.tls], or loopback behind a proxy, or plain_http = true"
            )
        return self


class Smtp(_Config):
    """`starttls` false only for a server on this machine. `ca`: a CA of your own that the server's certificate comes from, instead of
    the system's. `timeout_s` bounds each step of the dialogue."""

    host: str
    port: Port = 587
    starttls: bool = True
    ca: Path | None = None
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    from_: Email = Field(alias="from")
    timeout_s: PositiveSeconds = 20


class Webhook(_Config):
    """How messages are posted to a recipient's webhook. `key`: signs the body, `X-Maillages-Signature: sha256=<HMAC in hex>`."""

    key: str | None = Field(default=None, repr=False, min_length=20)
    timeout_s: PositiveSeconds = 10


class SmsReport(_Config):
    """How a provider reports what became of an SMS: it calls `/sms/<token>` under `web.public_url` (GET or POST).

    `id`, `delivered`, `failed` are regular expressions, searched in the query string and the body together. The group of `id` is the
    name of the message: our `{id}`, or the provider's own that `reference` (its group) finds in the answer to the request. What is
    neither delivered nor failed changes nothing.
    """

    token: str = Field(min_length=20, max_length=100, pattern=r"^[A-Za-z0-9_-]+$", repr=False)
    id: str
    delivered: str
    failed: str
    reference: str | None = None

    @field_validator("id", "delivered", "failed", "reference")
    @classmethod
    def _regular_expression(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is None:
            return None
        try:
            groups = re.compile(text).groups
        except re.error as e:
            raise ValueError(f"expected a regular expression: {e}") from e
        if info.field_name in ("id", "reference") and groups != 1:
            raise ValueError(f"expected a regular expression with one group, found {groups}")
        return text


class SmsHttp(_Config):
    """A provider of SMS reached by one HTTP request.

    `{number}` (with +), `{digits}` (without), `{text}`, `{sender}` and `{id}` (the same at each attempt of one message) are
    replaced in `url` (percent-encoded) and `body` (escaped for JSON or form encoding, by `Content-Type`). A message is
    accepted by a 2xx status and, if given, a body that `success` (a regular expression) finds. A status in
    `permanent_statuses` is final for this provider, 408, 425, 429 and 5xx are not; a request that was sent and not answered
    has an unknown fate. `on_unknown` "repeat" sends it again under the same `{id}`: told twice rather than never; "leave"
    leaves it to the next step.
    """

    kind: Literal["http"]
    url: str = Field(pattern=r"^https?://")
    method: Literal["POST", "GET", "PUT"] = "POST"
    headers: dict[str, str] = Field(default={}, repr=False)
    body: str | None = Field(default=None, repr=False)
    sender: str = "MAILLAGES"
    success: str | None = None
    permanent_statuses: tuple[int, ...] = (400, 401, 403, 404, 405, 410, 413, 414, 415, 422)
    on_unknown: Literal["repeat", "leave"] = "repeat"
    timeout_s: PositiveSeconds = 15
    report: SmsReport | None = None

    @field_validator("success")
    @classmethod
    def _regular_expression(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                re.compile(text)
            except re.error as e:
                raise ValueError(f"expected a regular expression: {e}") from e
        return text

    @model_validator(mode="after")
    def _says_what_and_to_whom(self) -> Self:
        request = self.url + (self.body or "")
        if "{text}" not in request or not ("{number}" in request or "{digits}" in request):
            raise ValueError("expected {text} and {number} (or {digits}) in url or body")
        return self


class SmsModem(_Config):
    """A GSM modem at central."""

    kind: Literal["modem"]
    port: str
    baudrate: int = 115200
    pin: str | None = Field(default=None, repr=False, pattern=r"^\d{4,8}$")


class SmsApprise(_Config):
    """A service of Apprise, best effort: it says only that it handed the text over. `{digits}` and `{number}` as above."""

    kind: Literal["apprise"]
    url: str = Field(repr=False, pattern=r"^[a-z0-9]+://")


SmsGateway = Annotated[SmsHttp | SmsModem | SmsApprise, Field(discriminator="kind")]


class Station(_Config):
    """A registered station: central accepts it from its own gateway only. `name` and `river` are those of the messages.

    `downstream`: the communes that its water reaches next, whose boards show it first. `sheet` and `photo`: links for the boards.
    """

    id: Id
    gateway: Id
    commune: Nis
    name: str = Field(min_length=1, max_length=60)
    river: str | None = Field(default=None, max_length=40)
    downstream: tuple[Nis, ...] = ()
    sheet: Link | None = None
    photo: Link | None = None


class Reach(_Config):
    """A station whose water reaches communes downstream: from `level` on there, they are warned. `travel_s`: the shortest time that it
    is known to take; messages say from when on it may arrive. `id` names the rule in the alarm log."""

    id: Id
    upstream: Id
    downstream: tuple[Nis, ...] = Field(min_length=1)
    travel_s: float = Field(gt=0, le=3 * 86400)
    level: Level = 2


class Neighbours(_Config):
    """Two stations of one reach that go together: what the first shows less what the second shows is `difference`, give or take
    `tolerance` (both in the quantity's unit). Apart for `for_s`, technicians are told. `for_s` is longer than a wave takes from the one to
    the other, `tolerance` wider than the slope of the water changes in a flood. `rule` is its name in the alarm log."""

    id: Annotated[Id, Field(max_length=50)]
    stations: tuple[Id, Id]
    quantity: str = "water_level"
    difference: float = 0.0
    tolerance: float = Field(gt=0)
    for_s: float = Field(default=3600, ge=600, le=86400)

    @property
    def rule(self) -> str:
        return f"{NEIGHBOURS_RULE}{self.id}"

    @field_validator("quantity")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in QUANTITIES:
            raise ValueError(f"expected one of {', '.join(QUANTITIES)}")
        return name


class Smog(_Config):
    """Thresholds of a commune's mean over 24 hours, ug/m3, for levels 1, 2, 3. As given: information, alerte and (PM10) the last of the
    Walloon smog plan (wallonie.be, read in November 2026). Directive (EU) 2024/2881 is to be law by 11 December 2026: look again."""

    pm10: tuple[float, ...] = SMOG["pm10"]
    pm2_5: tuple[float, ...] = SMOG["pm2_5"]

    @field_validator("pm10", "pm2_5")
    @classmethod
    def _rising(cls, limits: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(limits) <= 3 or limits[0] <= 0 or list(limits) != sorted(set(limits)):
            raise ValueError("expected one to three rising thresholds above 0")
        return limits


def smog_rule(quantity: str, commune: str) -> str:
    """The rule of central by which a commune's air is judged."""
    return f"{SMOG_RULE}{quantity.replace('_', '-')}-{commune}"


class Escalation(_Config):
    """The next step is told `step_s` after the one before, until someone acknowledges; all steps `rounds` times."""

    step_s: PositiveSeconds = 300
    rounds: int = Field(default=3, ge=1, le=20)


class Commands(_Config):
    """`key`: Ed25519 private key (PEM) that signs commands to gateways. Without it central sends none."""

    key: Path


class LinkTest(_Config):
    """Everyone gets a test message on the first `day` of each month at `at` (Belgian time, HH:MM), and is to answer; `report_to` (ids of
    recipients) get a mail that says who did not within `report_after_s`."""

    day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = "mon"
    at: str = Field(default="10:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    report_to: tuple[Id, ...] = Field(min_length=1)
    report_after_s: float = Field(default=86400, ge=600)


class Cap(_Config):
    """CAP messages at `/cap/atom.xml`, for who has the `token` (Bearer, or the password of Basic). `sender`: an address of who is
    responsible. Without this section there are none."""

    sender: Email
    token: str = Field(min_length=20, max_length=200, repr=False)


class Grafana(_Config):
    """The Grafana that `maillages-central grafana push` brings boards and rules to. `token`: of a service account with the role Admin;
    `ca`: a CA of your own that its certificate comes from. It mails to the `technicians` itself, and posts to `webhook_url` (by default
    `/api/grafana` under `web.public_url`) with `webhook_token`, of scope webhook. `database_*`: how it reaches the database, as an account
    that may only read; by default where central does.
    """

    url: Link
    token: str = Field(repr=False, min_length=1)
    ca: Path | None = None
    technicians: tuple[Email, ...] = Field(min_length=1)
    webhook_url: Link | None = None
    webhook_token: str = Field(repr=False, min_length=20)
    database_url: Link | None = None
    database_username: str = "grafana"
    database_password: str = Field(repr=False)


class Enrolment(_Config):
    """The own CA of gateways, broker and central. `brokers`: `host:port` as the gateways reach them, the first one first.
    `passphrase_file` opens the CA's key; without it a person at a terminal does, and nothing is renewed."""

    ca_dir: Path
    passphrase_file: Path | None = None
    brokers: tuple[str, ...] = Field(min_length=1)

    @field_validator("brokers")
    @classmethod
    def _addresses(cls, brokers: tuple[str, ...]) -> tuple[str, ...]:
        for broker in brokers:
            host, _, port = broker.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"expected host:port, found {broker!r}")
        return brokers

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each broker."""
        return [(host.strip("[]"), int(port)) for host, _, port in (b.rpartition(":") for b in self.brokers)]


class State(_Config):
    """Alarm log, outbox and what else central must not forget, in PostgreSQL instead of a file of `data_dir`."""

    url: str = Field(repr=False)

    @model_validator(mode="after")
    def _postgresql(
        self,
    ) -> Self:  # of the table, so that a fault does not show what was found: there is a password in it
        parts = urlsplit(self.url)
        if parts.scheme != "postgresql" or not parts.path.strip("/"):
            raise ValueError("url: expected postgresql://user:password@host/database")
        return self


class CentralConfig(_Config):
    data_dir: Path
    """Absolute: a central that is started from somewhere else must not begin a second alarm log."""
    clock: ClockConfig = ClockConfig()
    mqtt: Mqtt
    state: State | None = None
    store: Store = Embedded(kind="embedded")
    web: Web = Field(default_factory=Web)
    smtp: Smtp | None = None
    sms: tuple[SmsGateway, ...] = ()
    webhook: Webhook = Webhook()
    station: tuple[Station, ...] = ()
    reach: tuple[Reach, ...] = ()
    neighbours: tuple[Neighbours, ...] = ()
    smog: Smog | None = None
    escalation: Escalation = Escalation()
    gateway_silent_s: float = Field(default=900, ge=180)
    """A gateway from which nothing came for so long raises an alarm; healthy ones speak every minute."""
    commands: Commands | None = None
    cap: Cap | None = None
    link_test: LinkTest | None = None
    enrolment: Enrolment | None = None
    grafana: Grafana | None = None

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("expected an absolute path")
        return path

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, data: Any) -> Any:
        if isinstance(data, dict) and "recipient" in data:
            raise ValueError(
                "recipient: not here any more, expected a table that `maillages-central recipients import` takes"
            )
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unique([s.id for s in self.station], "station id")
        stations = {s.id for s in self.station}
        named = [(f"reach.{i}", r.id) for i, r in enumerate(self.reach)]
        named += [(f"neighbours.{i}", n.id) for i, n in enumerate(self.neighbours)]
        unique([name for _, name in named], "id of a reach or of neighbours")
        for key, name in named:
            if name in RULES or name.startswith((NEIGHBOURS_RULE, SMOG_RULE, GRAFANA_RULE)):
                raise ValueError(f"{key}.id: {name} is a rule of central, expected another name")
        for i, reach in enumerate(self.reach):
            if reach.upstream not in stations:
                raise ValueError(f"reach.{i}.upstream: expected the id of a [[station]], found {reach.upstream!r}")
        for i, pair in enumerate(self.neighbours):
            if len(stations.intersection(pair.stations)) < 2:
                raise ValueError(f"neighbours.{i}.stations: expected the ids of two [[station]], found {pair.stations}")
        return self

    @property
    def state_at(self) -> Path | str:
        """Where the state is: a file, or the URL of a PostgreSQL database."""
        return self.state.url if self.state else self.data_dir / "central.db"

    def reach_of(self, event: AlarmEvent) -> Reach | None:
        """The reach that raised it; None for any other alarm."""
        return next((r for r in self.reach if r.id == event.rule), None) if event.source == "central" else None

    def neighbours_of(self, event: AlarmEvent) -> Neighbours | None:
        """The neighbours whose disagreement it is; None for any other alarm."""
        return next((n for n in self.neighbours if n.rule == event.rule), None) if event.source == "central" else None

    def commune_of(self, event: AlarmEvent) -> str | None:
        """The NIS code of the commune whose air it is about; None for any other alarm."""
        of_air = event.source == "central" and event.rule.startswith(SMOG_RULE)
        return event.rule.rpartition("-")[2] if of_air else None

    def commune(self, event: AlarmEvent) -> str | None:
        """The NIS code of the station's commune, or of the one whose air it is; None of what is about a whole gateway."""
        found = next((s.commune for s in self.station if s.id == event.station), None)
        return self.commune_of(event) or found

    def communes_told(self, event: AlarmEvent) -> frozenset[str]:
        """Those whose people are told: of the station; downstream of a reach; of both neighbours; whose air it is; of a whole gateway
        those of all its stations."""
        if commune := self.commune_of(event):
            return frozenset({commune})
        if reach := self.reach_of(event):
            return frozenset(reach.downstream)
        if pair := self.neighbours_of(event):
            return frozenset(s.commune for s in self.station if s.id in pair.stations)
        return frozenset(
            s.commune for s in self.station if s.gateway == event.gateway and event.station in (None, s.id)
        )

    def place(self, event: AlarmEvent) -> Place | None:
        """Where an event happened, for texts: a station, two neighbours, a commune, or the stations of a whole gateway; None for a
        station that is not its own."""
        if commune := self.commune_of(event):
            return Place(texts.commune(commune))
        if pair := self.neighbours_of(event):
            return Place(" / ".join(s.name for i in pair.stations for s in self.station if s.id == i))
        if event.station is None:
            names = [s.name for s in self.station if s.gateway == event.gateway]
            more = [f"+{len(names) - PLACES}"] if len(names) > PLACES else []
            return Place(" / ".join(names[:PLACES] + more)) if names else None
        for station in self.station:
            if station.id == event.station and station.gateway == event.gateway:
                reach = self.reach_of(event)
                return Place(station.name, station.river, reach.travel_s if reach else None)
        return None


def load(path: Path) -> CentralConfig:
    """Read and check a file. Raises ConfigError with one line per fault: file, key, what was found, what was expected."""
    return common.config.load(path, CentralConfig, ConfigError)


def refuse_real_channels(config: CentralConfig) -> None:
    """An exercise on a scaled clock must not reach anyone. Raises ConfigError naming each channel that leaves this machine."""
    bad = []
    if config.smtp and not is_loopback(config.smtp.host):
        bad.append(f"smtp.host: an exercise expects a loopback address, found {config.smtp.host!r}")
    for i, gateway in enumerate(config.sms):
        if isinstance(gateway, SmsModem):
            if not is_emulated(gateway.port):
                bad.append(
                    f"sms.{i}.port: an exercise expects an emulated modem (a pty or loopback socket), found {gateway.port!r}"
                )
        elif not is_loopback(urlsplit(gateway.url).hostname or ""):
            bad.append(f"sms.{i}.url: an exercise expects a loopback address")
    if bad:
        raise ConfigError("\n".join(bad))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def example() -> str:
    """A commented configuration that loads as it is."""
    return _EXAMPLE


_EXAMPLE = """\
# central.toml - unknown keys are refused; durations end in _s (seconds).
# This file holds secrets: owner maillages, mode 0600. A secret can stand in a file of its own:
# "${credential:NAME}" is replaced by the content of /etc/maillages/credentials/NAME, "${credential_file:NAME}" by its path.

data_dir = "/var/lib/maillages-central"    # alarm log, outbox, dead letters
gateway_silent_s = 900      # a gateway from which nothing came for so long is an alarm

[clock]
trust = "system"            # "always" only where the kernel cannot know that the clock is right (a container)

[mqtt]
host = "broker.example.be"
port = 8883
username = "central"
password = "change-me"
[mqtt.tls]
ca = "/etc/maillages/ca.pem"
# cert = "/etc/maillages/central.pem"      # instead of username and password
# key = "/etc/maillages/central.key"

# [state]                   # what central must not forget: central.db in data_dir, or a PostgreSQL database
# url = "postgresql://maillages:change-me@127.0.0.1/maillages"

[store]
kind = "influxdb"           # or "embedded": SQLite in data_dir, for a pilot
url = "http://127.0.0.1:8086"
database = "maillages"
username = "maillages"
password = "change-me"

[web]
host = "127.0.0.1"          # behind a reverse proxy that does HTTPS
port = 8080
public_url = "https://crues.example.be"    # stands in the links of the mails
# open_reading = true       # everybody may look; else who has an account: maillages-central user --help
# [web.tls]                 # HTTPS without a proxy
# cert = "/etc/maillages/page.pem"
# key = "/etc/maillages/page.key"

[smtp]
host = "smtp.example.be"
port = 587
starttls = true
username = "alertes@example.be"
password = "change-me"
from = "alertes@example.be"

# [webhook]                  # signs what is posted to the recipients' webhooks
# key = "change-me: 20 characters at least"

# SMS gateways, in the order in which they are tried.
[[sms]]
kind = "modem"
port = "/dev/serial/by-id/usb-SimTech-if03-port0"
# pin = "1234"

[[sms]]
kind = "http"               # OVH; without noStopClause it holds messages back at night
url = "https://eu.example.net/sms/jobs"
headers = { "Content-Type" = "application/json", "Authorization" = "Bearer change-me" }
body = '{"receivers":["{number}"],"sender":"{sender}","message":"{text}","noStopClause":true,"priority":"high","tag":"{id}"}'
sender = "HUYWAREMME"
success = '"totalCreditsRemoved"'
# [sms.report]              # what became of it, in your provider's words: it calls https://crues.example.be/sms/<token>
# token = "change-me-20-characters-at-least"
# reference = '"ids":\\[(\\d+)'     # the provider's own number, in its answer; without this it gives back {id}
# id = '\\bid=(\\d+)'
# delivered = '\\bstatus=delivered\\b'
# failed = '\\bstatus=(failed|undelivered|expired|rejected)\\b'

# [[sms]]
# kind = "apprise"          # best effort: it only says handed over
# url = "bulksms://user:password@{digits}"

# The registry: central accepts a station from its own gateway only.
[[station]]
id = "hoyoux-huy"
gateway = "gw-huy-01"
commune = "61031"           # NIS code
name = "Huy, pont du Hoyoux"
river = "Hoyoux"
# downstream = ["61072"]                   # the communes that its water reaches next, whose board shows it first
# sheet = "https://..."                    # links on the station's board
# photo = "https://..."

# Warns communes downstream when a local threshold is reached upstream.
# [[reach]]
# id = "hoyoux-downstream"
# upstream = "hoyoux-huy"     # a station
# downstream = ["61072"]      # NIS codes of the communes that are warned
# level = 2                   # from which local threshold on
# travel_s = 3600             # the shortest time that the water is known to take

# Tells technicians when two stations of one reach do not go together: one of them is wrong, or something blocks the reach.
# [[neighbours]]
# id = "hoyoux-pair"
# stations = ["hoyoux-huy", "hoyoux-marchin"]
# difference = -0.35          # the first less the second, in metres, when both are right
# tolerance = 0.20            # wider than this difference changes in a flood
# for_s = 3600                # longer than a wave takes from the one to the other

# Tells the people of a commune when the mean of its dust sensors over 24 hours passes a threshold of the Walloon smog plan (indicative).
# [smog]
# pm10 = [50, 70, 150]        # ug/m3: information, alerte, last
# pm2_5 = [35, 50]

# Who is told stands in a table of its own: maillages-central recipients --help
[escalation]
step_s = 300
rounds = 3

# A test message to everyone on the first Monday of each month; who does not answer is named in a report.
# [link_test]
# report_to = ["technicien"]

# CAP 1.2 messages of the alarms at /cap/atom.xml, for tools of authorities that have the token.
# [cap]
# sender = "alertes@example.be"
# token = "change-me: 20 characters at least"

# Boards and alert rules in a Grafana: maillages-central grafana push, verify
# [grafana]
# url = "https://grafana.example.be"
# token = "${credential:grafana-token}"          # of a service account with the role Admin
# technicians = ["technique@example.be"]        # Grafana mails to them of central, broker and database
# webhook_token = "${credential:grafana-webhook}"     # maillages-central token add --scope webhook
# database_password = "${credential:influx-read}"    # of the user grafana, who may only read

# [commands]
# key = "/etc/maillages/central-commands.pem"   # Ed25519; maillages-central keygen

# [enrolment]
# ca_dir = "/etc/maillages/ca"                  # maillages-central broker makes the CA
# passphrase_file = "/etc/maillages/ca.passphrase"    # mode 0600; or a credential
# brokers = ["broker.example.be:8883"]          # as the gateways reach it
"""
