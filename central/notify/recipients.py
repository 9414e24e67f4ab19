"""Who is told of an occurrence, and in which order. People's data (names, numbers, addresses) stand in one file of their own,
`recipients.json` in the data directory, mode 0600: apart from the configuration and from the alarm log, which know ids only. Where
several machines share the state they stand in a table of it (central/notify/shared.py).

A commune keeps its people in a table (central/notify/table.py) and imports it. A running central takes up a changed file by
itself. Every look into it by a command is noted in `recipients-access.log`: when, which user of the machine, what.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from central.config import Email, Level, Nis
from central.errors import ConfigError
from central.notify.oncall import Calendar, Hours
from common.clock import Clock, rfc3339
from common.config import faults
from common.texts import Language
from wire.alarm import Kind, Status
from wire.ids import Id

log = logging.getLogger(__name__)

FILE = "recipients.json"
ACCESS_LOG = "recipients-access.log"

Role = Literal["bourgmestre", "planu", "zone_secours", "technicien", "autre"]
Channel = Literal["sms", "email", "webhook"]
Phone = Annotated[str, Field(pattern=r"^\+[1-9]\d{7,14}$", description="international form, E.164")]


class Recipient(BaseModel):
    """A person or service who is told. `communes`: those of the stations, or "all".

    `channels`: in order, the next one when the one before does not take the message; empty: all that are given, at once.
    `order`: the step of the escalation among those on call. `on_call`: when they are told first (central/notify/oncall.py), empty
    for always; at other times they come after those who are. `quiet`: hours in which a message of level 1 waits. `kinds`
    limits what they are told of. `exercise`: gets exercise and test messages too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id
    name: str = Field(min_length=1, max_length=100)
    role: Role = "autre"
    communes: Literal["all"] | tuple[Nis, ...]
    phone: Phone | None = None
    email: Email | None = None
    webhook: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    channels: tuple[Channel, ...] = ()
    language: Language = "fr"
    min_level: Level = 1
    kinds: tuple[Kind, ...] | None = None
    order: int = Field(default=1, ge=1, le=20)
    on_call: str = ""
    exceptions: str = ""
    quiet: str = ""
    exercise: bool = False

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable() or not name.strip():
            raise ValueError("expected printable text")
        return name.strip()

    @field_validator("on_call", "exceptions", "quiet")
    @classmethod
    def _readable(cls, text: str, info: object) -> str:
        field = getattr(info, "field_name", "")
        if field == "quiet":
            Hours.parse(text)
        else:
            Calendar.parse(text if field == "on_call" else "", text if field == "exceptions" else "")
        return text

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.addresses:
            raise ValueError("expected phone, email or webhook")
        if not self.communes:
            raise ValueError('communes: expected NIS codes or "all"')
        if missing := [c for c in self.channels if c not in self.addresses]:
            raise ValueError(f"channels: no address for {', '.join(missing)}")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("channels: each once")
        return self

    @property
    def addresses(self) -> dict[Channel, str]:
        """By channel; what is not given is not in it."""
        given: dict[Channel, str | None] = {"sms": self.phone, "email": self.email, "webhook": self.webhook}
        return {channel: address for channel, address in given.items() if address}

    def is_on_call(self, wall_s: float) -> bool:
        return Calendar.parse(self.on_call, self.exceptions).covers(wall_s)

    def quiet_until(self, wall_s: float) -> float | None:
        """The end of the quiet hours in which a moment lies (Unix), None when it lies in none."""
        return Hours.parse(self.quiet).end_of(wall_s)


_ALL = TypeAdapter(tuple[Recipient, ...])


class Recipients:
    """The file, and who stands in it. Safe from several threads: what is read is never changed."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE
        self._stamp: tuple[int, int] | None = None
        self._known: tuple[Recipient, ...] = ()
        self._broken = False

    def adopt(self) -> None:
        """Nothing is to be taken over: the file is where it was."""

    def all(self) -> tuple[Recipient, ...]:
        """Everyone, as the file says now. A file that cannot be read leaves who was known before, and is logged once."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._known, self._stamp = (), None
            return ()
        except OSError as e:
            self._note_broken(f"{self.path}: {e.strerror}")
            return self._known
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            try:
                self._known = self.load()
            except ConfigError as e:
                self._note_broken(str(e))
                return self._known
            self._stamp, self._broken = stamp, False
        return self._known

    def load(self) -> tuple[Recipient, ...]:
        """Everyone; nobody without a file. Raises ConfigError naming what is wrong, never a number or an address."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return _ALL.validate_python(data)
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{self.path}: cannot be read: {e}") from e
        except json.JSONDecodeError as e:
            raise ConfigError(f"{self.path}: not JSON: {e}") from e
        except ValidationError as e:
            lines = (line.partition(", found ")[0] for line in faults(e))
            raise ConfigError("\n".join(f"{self.path}: {line}" for line in lines)) from e

    def save(self, recipients: Iterable[Recipient]) -> None:
        """Replace all, at once or not at all; for the owner of the data directory only."""
        rows = [r.model_dump(mode="json", exclude_defaults=True) for r in recipients]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".recipients-")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(rows, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            owner = self.path.parent.stat()
            if os.geteuid() == 0:
                os.chown(name, owner.st_uid, owner.st_gid)  # made by root for the service
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def note_access(self, user: str, what: str, clock: Clock) -> None:
        """Write down who looked at people's data, or changed it."""
        path = self.path.with_name(ACCESS_LOG)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
            file.write(f"{rfc3339(clock.wall())} {user} {what}\n")

    def _note_broken(self, what: str) -> None:
        if not self._broken:
            log.error("recipients: %s; those known before are told", what)
        self._broken = True


def eligible(
    recipients: Sequence[Recipient],
    communes: frozenset[str],
    kind: Kind,
    level: int,
    status: Status,
    at_s: float,
    *,
    mending: bool = False,
) -> list[list[Recipient]]:
    """The steps of the escalation: recipients of any of the communes, for this kind and level. Those on call at `at_s` come
    first, by `order`, then all others, by `order`.

    Exercises and tests reach only those who are marked for them. `mending`: what says nothing of the water is for technicians; where
    there is none, for all but the mayors, since an alarm that nobody gets is worse.
    """
    chosen = [
        r
        for r in recipients
        if (r.communes == "all" or communes.intersection(r.communes))
        and level >= r.min_level
        and (r.kinds is None or kind in r.kinds)
        and (status == "Actual" or r.exercise)
    ]
    if mending:
        chosen = [r for r in chosen if r.role == "technicien"] or [r for r in chosen if r.role != "bourgmestre"]
    rank = {r.id: (not r.is_on_call(at_s), r.order) for r in chosen}
    return [[r for r in chosen if rank[r.id] == step] for step in sorted(set(rank.values()))]
