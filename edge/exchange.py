"""How a configuration is handed to a running gateway, and what it says became of it: files in `config/` of the data directory.

`running.toml` is what runs, `candidate.json` what shall be tried (`id`, `text`), `outcome.json` an Outcome. SIGHUP says that there
is something to look at.
"""

import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from common.owner import hand_over
from edge.errors import ConfigError
from wire.configuration import Configuration, ConfigurationResult

HISTORY = 20


class Pushed(BaseModel):
    """`pushed.json`: `configuration` is the newest that central sent, `result` what became of it. `runs`: the one of central's that
    was healthy last; it runs unless the gateway's own file is another by now than the one whose digest is `own`."""

    model_config = ConfigDict(frozen=True)

    configuration: Configuration
    result: ConfigurationResult
    runs: Configuration | None = None
    own: str = ""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


State = Literal["trying", "running", "refused", "rolled-back"]


class Outcome(BaseModel):
    """Of the candidate `id`: `trying`, `running`, `refused` (it never ran), `rolled-back` (it ran, and was not healthy); `why` says
    it to a person. `pid` is the gateway's."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: State
    why: str = ""
    pid: int

    @property
    def final(self) -> bool:
        return self.state != "trying"


class Exchange:
    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / "config"

    # ------------------------------------------------------------------ the tool's side

    def offer(self, text: str) -> str:
        """Hand a candidate over; gives its id. Raises ConfigError when this user may not."""
        name = secrets.token_hex(8)
        try:
            self._write("candidate.json", json.dumps({"id": name, "text": text}))
        except OSError as e:
            raise ConfigError(
                f"{self._directory}: cannot be written: {e.strerror}; expected to run as root or the gateway's user"
            ) from e
        return name

    def outcome(self) -> Outcome | None:
        """The last word of the gateway; None when there is none."""
        try:
            return Outcome.model_validate_json((self._directory / "outcome.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def running(self) -> str | None:
        """The text of what ran last; None when no gateway ran here. Raises ConfigError when this user may not read it."""
        try:
            return (self._directory / "running.toml").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as e:
            raise ConfigError(
                f"{self._directory}: cannot be read: {e.strerror}; expected to run as root or the gateway's user"
            ) from e

    # ------------------------------------------------------------------ the gateway's side

    def take(self) -> tuple[str, str] | None:
        """Id and text of what shall be tried, once."""
        path = self._directory / "candidate.json"
        try:
            found = json.loads(path.read_bytes())
            path.unlink()
            return str(found["id"]), str(found["text"])
        except FileNotFoundError:
            return None

    def runs(self, name: str, text: str, kind: str, when: str) -> None:
        """This text runs from `when` (RFC 3339) on; `kind` says where it came from, for the history. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("running.toml", text)
        self._remember(kind, text, when)
        self.say(name, "running")

    def say(self, name: str, state: State, why: str = "") -> None:
        """Raises OSError."""
        self._write("outcome.json", Outcome(id=name, state=state, why=why, pid=os.getpid()).model_dump_json())

    def pushed(self) -> Pushed | None:
        """What central sent last."""
        try:
            return Pushed.model_validate_json((self._directory / "pushed.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def keep(self, pushed: Pushed) -> None:
        """Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("pushed.json", pushed.model_dump_json())

    def history(self) -> list[Path]:
        """What ran here, the oldest first; at most `HISTORY` of them."""
        return sorted((self._directory / "history").glob("*.toml"))

    def _remember(self, name: str, text: str, when: str) -> None:
        known = self.history()
        if known and known[-1].read_text(encoding="utf-8") == text:
            return
        number = int(known[-1].name[:6]) + 1 if known else 1
        (self._directory / "history").mkdir(mode=0o700, exist_ok=True)
        self._write(f"history/{number:06d}.{when.replace(':', '')[:17]}.{name}.toml", text)
        for old in known[: max(0, len(known) + 1 - HISTORY)]:
            old.unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all, for the owner of the directory alone."""
        descriptor, temporary = tempfile.mkstemp(dir=self._directory, prefix=".new.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                hand_over(descriptor, self._directory)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(self._directory / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
