"""The way to central: the broker, and how readings go there."""

from pathlib import Path

from pydantic import Field, field_validator

from edge.config.base import PositiveSeconds, Seconds, Strict
from wire.command import public_key


class Tls(Strict):
    ca: Path
    cert: Path
    key: Path


class Broker(Strict):
    host: str
    port: int = Field(default=8883, ge=1, le=65535)


class Mqtt(Broker):
    """The broker, and in `fallback` others with the same TLS and credentials, in order, for when it cannot be reached.
    `central_key` is central's Ed25519 public key (base64), which signs commands; without it they are refused. `raw_commands`: central
    may write raw bytes to the ports of sensors, which can change a device for good."""

    fallback: tuple[Broker, ...] = ()
    keepalive_s: int = Field(default=20, ge=5, le=300)
    tls: Tls | None = None
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    central_key: str | None = None
    raw_commands: bool = False

    @field_validator("central_key")
    @classmethod
    def _is_public_key(cls, text: str | None) -> str | None:
        if text is not None:
            public_key(text)
        return text


class Uplink(Strict):
    """`pack_interval_s` 0 sends each reading at once; more saves data volume. `pack_interval_active_s` holds instead, for the
    whole gateway, while a level or rate alarm stands or a watched level rises. Retries double from `retry_s` to `retry_max_s`.
    The backlog goes as fast as the link acknowledges it, at most at `backlog_packs_per_s`."""

    pack_interval_s: Seconds = 0
    pack_interval_active_s: Seconds = 0
    window_packs: int = Field(default=100, ge=4, le=1000)
    backlog_packs_per_s: float = Field(default=1000, gt=0)
    retry_s: PositiveSeconds = 60
    retry_max_s: PositiveSeconds = 900
