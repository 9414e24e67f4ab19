"""The gateway itself: who it is, its clock, its journal, what it alarms about itself, its page."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from edge.config.base import PositiveSeconds, Strict
from wire.ids import Id


class Gateway(Strict):
    id: Id
    data_dir: Path


class ClockConfig(Strict):
    """`always`: this machine's clock is kept by something the kernel does not know of (an RTC and GPS, a container host)."""

    trust: Literal["system", "always"] = "system"


class JournalConfig(Strict):
    """`sync_s`: at most this much is lost in a power cut (a killed process loses nothing); while a level or rate alarm stands or a
    watched level rises, each reading is synced as it comes. Stored readings stay `keep_days`,
    unless the journal outgrows `max_mib`; when they are gone, unsent ones are thinned (docs/adr/0003-journal.md)."""

    sync_s: PositiveSeconds = 30
    keep_days: float = Field(default=30, gt=0)
    max_mib: float = Field(default=2048, gt=0)


class Health(Strict):
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


class Page(Strict):
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
