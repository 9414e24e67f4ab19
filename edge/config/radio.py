"""What sensors may be behind: LoRa modems, LoRaWAN network servers."""

from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from edge.config.base import Strict
from wire.ids import Id

_PORTS = {"mqtt": 1883, "mqtts": 8883, "udp": 1700}


class Modem(Strict):
    """A LoRa modem on a serial port; `settings` names a file of firmware-configs/ that is written at start and read back.
    `options` are the driver's, beyond what the settings say."""

    name: Id
    driver: str
    port: str
    baudrate: int | None = None
    settings: str | None = None
    options: dict[str, Any] = Field(default={})


class ServerTls(Strict):
    """Of a network server's broker: its own authority, or the system's without `ca`; `cert` and `key` where it asks for them."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together")
        return self


class NetworkServer(Strict):
    """Where uplinks of LoRaWAN devices come from: `url` is mqtt://host[:port] or mqtts://host[:port] of the broker of ChirpStack
    v4 or The Things Stack v3, udp://address[:port] to listen on for Semtech packet forwarders."""

    name: Id
    driver: Literal["chirpstack_v4", "ttn_v3", "semtech_udp"]
    url: str
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
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
