"""What `maillages-edge radio` does: set a modem up, reckon what the law leaves its nodes, a new key for a node, and what is known of
each. No key is logged or listed."""

import json
import math
import tomllib
from base64 import b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.clock import Clock, rfc3339
from edge import drivers
from edge.config import EdgeConfig, Modem, Sensor
from edge.errors import ConfigError, EdgeError
from edge.nodes import Heard, issue_key, key_id, read_heard, read_keys, write_private
from edge.radio._airtime import duty_cycle
from edge.radio._downlinks import report_every, restart
from edge.radio._eu868 import limit_dbm
from edge.radio.rylr998 import Settings
from edge.sensors.base import Driver, ModemSettings
from edge.tools.screen import BAD, GOOD, STRONG, paint
from edge.transports.build import modem_settings, settings_file
from edge.transports.modem import LoraModem, shown
from edge.transports.port import Port

_DIPOLE_DBI = 2.15


class NoAnswer(EdgeError):
    """Nothing at a port answers as the modem would."""


class StillInSetUp(EdgeError):
    """A modem took its settings and does not go back to work."""


DEFAULT_PERIOD_S = 600.0
"""What a node is told where the gateway's configuration has no `period_s` for it."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as the technician sees it. `keys` are names of keys, the newest first; `counter` and `heard` are of the last packet
    accepted under any of them, None without."""

    node: int
    modem: str
    sensors: tuple[str, ...]
    authenticated: bool
    keys: tuple[str, ...]
    counter: int | None
    heard: str | None


def rekey(config: EdgeConfig, node: int, file: Path) -> str:
    """Give a node a new key and write `file` for it; the text tells a person all about it, the key included.

    Raises ConfigError when no authenticated sensor is at this node or `file` exists, NodeKeysUnusable when the key cannot be kept.
    """
    behind = _behind(config).get(node, [])
    sensors = [sensor for _, sensor in behind if sensor.authenticated]
    if not sensors:
        found = ", ".join(str(n) for n, s in _behind(config).items() if s[0][1].authenticated) or "none"
        raise ConfigError(f"node {node}: no sensor is authenticated there, expected one of {found}")
    if file.exists():
        raise ConfigError(f"{file}: exists; it may hold the key of a node, delete it first")
    modem = next(m for m in config.modem if m.name == sensors[0].modem)
    key = issue_key(config.gateway.data_dir, node)
    try:
        write_private(file, json.dumps(_for_node(modem, node, sensors, key), indent=1) + "\n")
    except OSError as e:
        raise ConfigError(f"{file}: cannot be written: {e.strerror}; the key is lost, rekey with another --file") from e
    names = ", ".join(name for name, _ in behind)
    return (
        f"Node {node} ({names}) has a new key, {key_id(key)}:\n\n    {key.hex()}\n\n"
        f"It is shown this once, and stands in {file} (mode 0600): copy that to the node as node.json, then delete it here.\n"
        "The gateway takes it at once, and packets under the old key until the first under the new one has come.\n"
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a modem, as it was `before` and is `after`; `expected` as the file wants it. Texts of the modem's line."""

    asked: str
    expected: str
    before: str
    after: str
    written: bool
    good: bool

    def lines(self) -> list[str]:
        """For people."""
        mark = paint("✓", GOOD) if self.good else paint("✗", BAD)
        if not self.good:
            said = f"expected {self.expected}, the modem says {self.after}"
        else:
            said = f"was {self.before}, now {self.after}" if self.written else f"{self.after}, as it was"
        return [f"  {mark} {self.asked:<18} {said}"]

    def value(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def settings_of(name: str) -> tuple[Driver, ModemSettings]:
    """A file of firmware-configs/ by its name, or another by its path, and the driver that it is for. Raises ConfigError."""
    path = settings_file("radio", name)
    try:
        named = tomllib.loads(path.read_text(encoding="utf-8")).get("driver")
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path}: not TOML: {e}") from e
    if not isinstance(named, str):
        raise ConfigError(f"{path}: driver: missing, expected the modem's driver")
    driver = drivers.find(named)
    return driver, modem_settings("radio", name, driver)


def apply(name: str, port: str, baudrate: int | None, clock: Clock) -> list[Setting]:
    """Set up the modem at `port` as the file says, and read all of it back. Raises ConfigError; PortError when the port cannot be
    used, NoAnswer when nothing there speaks as such a modem, StillInSetUp when it does not go back to work."""
    driver, settings = settings_of(name)
    line = Port(port, baudrate or driver.baudrate, clock)
    options = drivers.options(driver, settings.options())
    modem = LoraModem(port, line, driver, options, settings.steps(), (), clock, lambda _: None)
    found, left = modem.set_up()
    if not found[-1].after:
        raise NoAnswer(f"no {driver.name} answers on {port} at {line.baudrate} baud")
    if not left:
        raise StillInSetUp(f"the {driver.name} does not leave its configuration: it may not receive")
    return [
        Setting(
            shown((one.step.query,)),
            shown((one.step.expected,)),
            shown(one.before),
            shown(one.after),
            one.written,
            one.holds,
        )
        for one in found
    ]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the law, and the air that all share, leave a site's nodes. Powers in dBm, times in seconds, shares of 1.

    `erp_dbm` is what a node's antenna sends, `most_dbm` what it may (ERC Recommendation 70-03, annex 1). The duty cycle is each
    device's own. `used` is the share of the time in which somebody sends, `met` the chance that a packet meets another and both are
    lost (pure ALOHA: N. Abramson, 1970, 1 - exp(-2 G)); modems that keep the stronger of two lose fewer.
    """

    name: str
    nodes: int
    size: int
    period_s: float
    erp_dbm: float
    most_dbm: int
    duty_cycle: float
    airtime_s: float
    at_least: bool
    """The airtime is a lower bound: the manual does not say more."""

    @property
    def least_period_s(self) -> float:
        return self.airtime_s / self.duty_cycle if self.duty_cycle else math.inf

    @property
    def used(self) -> float:
        return self.nodes * self.airtime_s / self.period_s

    @property
    def met(self) -> float:
        return 1 - math.exp(-2 * (self.nodes - 1) * self.airtime_s / self.period_s)

    @property
    def lawful(self) -> bool:
        return self.erp_dbm <= self.most_dbm + 0.005 and self.period_s >= self.least_period_s

    def lines(self) -> list[str]:
        """For people."""
        least = "at least " if self.at_least else ""
        power = GOOD if self.erp_dbm <= self.most_dbm + 0.005 else BAD
        often = GOOD if self.period_s >= self.least_period_s else BAD
        sent = paint(f"{self.erp_dbm:.4g} dBm e.r.p.", power)
        every = paint(f"each every {self.period_s:g} s", often)
        duty = f"{self.duty_cycle:.1%} for each node: {3600 * self.duty_cycle:g} s an hour"
        packet = f"{self.size} bytes, {least}{self.airtime_s:.3f} s on the air: not before {self.least_period_s:.1f} s"
        site = f"{self.nodes} nodes, {every}: {least}{self.used:.2%} of the time is used, {least}{self.met:.2%} of packets meet"
        return [
            paint(self.name, STRONG),
            f"  power       {sent}, allowed {self.most_dbm} ({_milliwatts(self.most_dbm)} mW)",
            f"  duty cycle  {duty}",
            f"  a packet    {packet}",
            f"  the site    {site}",
        ]

    def value(self) -> dict[str, Any]:
        """For programs."""
        more = {"least_period_s": self.least_period_s, "used": self.used, "met": self.met, "lawful": self.lawful}
        return asdict(self) | more


def plan(name: str, nodes: int, size: int, period_s: float, gain_dbi: float) -> Plan:
    """For `nodes` that each send `size` bytes every `period_s`, with an antenna of `gain_dbi` (2.15: a dipole, for which powers e.r.p.
    are said). Raises ConfigError."""
    _, settings = settings_of(name)
    centre_hz, width_khz = settings.carrier
    most_dbm = limit_dbm(centre_hz, width_khz)
    if most_dbm is None:
        raise ConfigError(f"{name}: {centre_hz / 1e6:g} MHz lies in no band of Europe's")
    return Plan(
        name,
        nodes,
        size,
        period_s,
        settings.power_dbm + gain_dbi - _DIPOLE_DBI,
        most_dbm,
        duty_cycle(centre_hz, width_khz),
        settings.airtime_s(size),
        settings.on_air is None,
    )


def _milliwatts(dbm: int) -> str:
    return f"{10 ** (dbm / 10):.0f}"


def downlink(model: str, interval_s: int | None, as_json: bool) -> str:
    """What to send down to a LoRaWAN sensor, as each network server wants it: a new interval, or without one a restart.

    Raises ConfigError for a model or an interval that it cannot have."""
    try:
        port, payload = report_every(model, interval_s) if interval_s is not None else restart(model)
    except ValueError as e:
        raise ConfigError(str(e)) from e
    text = b64encode(payload).decode()
    if as_json:
        return json.dumps({"model": model, "fport": port, "hex": payload.hex(), "base64": text}) + "\n"
    what = "a restart" if interval_s is None else f"a report each {interval_s} s"
    return (
        f"{model}, {what}: port {port}, {payload.hex(' ').upper()}\n\n"
        f"ChirpStack v4   topic   application/APPLICATION/device/DEV_EUI/command/down\n"
        f'                payload {{"devEui": "DEV_EUI", "confirmed": true, "fPort": {port}, "data": "{text}"}}\n'
        f"The Things      topic   v3/APPLICATION@TENANT/devices/DEVICE/down/push\n"
        f'                payload {{"downlinks": [{{"f_port": {port}, "frm_payload": "{text}", "confirmed": true}}]}}\n\n'
        "The sensor takes it after its next uplink. Set `period_s` of its sensors in edge.toml to the same.\n"
    )


def _for_node(modem: Modem, node: int, sensors: list[Sensor], key: bytes) -> dict[str, object]:
    settings: list[str] = []
    gateway = 0
    found = None
    if modem.settings is not None:
        found = modem_settings(f"modem {modem.name}", modem.settings, drivers.find(modem.driver))
    if isinstance(found, Settings):
        gateway = found.address
        own = found.model_copy(update={"address": node})
        settings = ["MODE=0", *(step.write.decode("ascii").strip().removeprefix("AT+") for step in own.steps())]
    period_s = min((s.period_s for s in sensors if s.period_s), default=DEFAULT_PERIOD_S)
    return {"node": node, "key": key.hex(), "gateway": gateway, "settings": settings, "period_s": period_s}


def nodes(config: EdgeConfig) -> list[NodeInfo]:
    """Every node of the configuration, by its number. Raises NodeKeysUnusable."""
    keys = read_keys(config.gateway.data_dir)
    heard = read_heard(config.gateway.data_dir)
    found = []
    for node, behind in sorted(_behind(config).items()):
        names = tuple(key_id(key) for key in keys.get(node, ()))
        last = max((heard[node, name] for name in names if (node, name) in heard), key=_when, default=None)
        found.append(
            NodeInfo(
                node,
                behind[0][1].modem or "",
                tuple(name for name, _ in behind),
                behind[0][1].authenticated,
                names,
                last.counter if last else None,
                rfc3339(last.heard_s) if last else None,
            )
        )
    return found


def listing(found: list[NodeInfo], as_json: bool) -> str:
    """One line a node: a table, or objects."""
    if as_json:
        return "\n".join(json.dumps(asdict(info), ensure_ascii=False) for info in found)
    rows = [("NODE", "MODEM", "SENSORS", "KEY", "COUNTER", "LAST HEARD")]
    for info in found:
        if not info.authenticated:
            key = "unauthenticated"
        elif not info.keys:
            key = "none: refused"
        else:
            key = info.keys[0] + (f" (not used yet, {info.keys[-1]} counts)" if len(info.keys) > 1 else "")
        counter = "-" if info.counter is None else str(info.counter)
        rows.append((str(info.node), info.modem, ", ".join(info.sensors), key, counter, info.heard or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _behind(config: EdgeConfig) -> dict[int, list[tuple[str, Sensor]]]:
    found: dict[int, list[tuple[str, Sensor]]] = {}
    for station in config.station:
        for sensor in station.sensor:
            if sensor.modem is not None and sensor.address is not None:
                found.setdefault(sensor.address, []).append((f"{station.id}/{sensor.id}", sensor))
    return found


def _when(heard: Heard) -> float:
    return heard.heard_s
