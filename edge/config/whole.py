"""edge.toml as a whole: what must agree between its parts, and how the file is read."""

from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

import common.config
from common.config import unique
from edge.config.base import Strict
from edge.config.gateway import ClockConfig, Gateway, Health, JournalConfig, Page
from edge.config.outputs import Outputs, SerialSiren
from edge.config.radio import Modem, NetworkServer
from edge.config.rules import SystemRule
from edge.config.sensors import Power
from edge.config.station import Station
from edge.config.uplink import Mqtt, Uplink
from edge.errors import ConfigError
from wire.alarm import EXERCISE


class EdgeConfig(Strict):
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
        credit = self.outputs.sms.credit if self.outputs.sms else None
        found = (
            self._own("disk_free_percent", h.disk_free_percent, below=True, deadband=2),
            self._own("cpu_temperature", h.cpu_temperature, deadband=5, on_delay_s=120),
            self._own("unconfirmed_s", h.unconfirmed_s if self.mqtt else False),
            self._own("certificate_days", h.certificate_days if self.mqtt and self.mqtt.tls else False, below=True),
            self._own("unsynchronised_s", h.unsynchronised_s if self.clock.trust == "system" else False),
            self._own(
                "sms_unusable", 1 if self.outputs.sms and h.sms_unusable_s else False, on_delay_s=h.sms_unusable_s
            ),
            self._own("sms_credit", credit.warn_below if credit else False, below=True),
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
        if any(r.id == EXERCISE for s in self.station for r in s.rule):
            raise ValueError(
                f"rule id: found {EXERCISE!r}, expected another: it is that of `maillages-edge test alarm`"
            )
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
    return common.config.load(path, EdgeConfig, ConfigError)


def parsed(text: str, name: str) -> EdgeConfig:
    """The text of a file, as `load` takes it."""
    return common.config.parsed(text, name, EdgeConfig, ConfigError)


def checked(data: dict[str, Any], name: str) -> EdgeConfig:
    """What a file says, as a configuration. Raises ConfigError as `load` does; `name` is the file's, for these lines."""
    return common.config.checked(data, name, EdgeConfig, ConfigError)


def example() -> str:
    """A commented configuration that loads as it is."""
    return resources.files("edge.config").joinpath("example.toml").read_text(encoding="utf-8")
