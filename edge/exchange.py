"""How a configuration is handed to a running gateway, and what it says became of it: files in `config/` of the data directory.

`running.toml` is what runs, `candidate.json` what shall be tried (`id`, `text`), `outcome.json` an Outcome. SIGHUP says that there
is something to look at.
"""

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.errors import ConfigError

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

    def runs(self, name: str, text: str) -> None:
        """This text runs from now on. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("running.toml", text)
        self.say(name, "running")

    def say(self, name: str, state: State, why: str = "") -> None:
        """Raises OSError."""
        self._write("outcome.json", Outcome(id=name, state=state, why=why, pid=os.getpid()).model_dump_json())

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all, for the owner of the directory alone."""
        descriptor, temporary = tempfile.mkstemp(dir=self._directory, prefix=f".{name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                if os.geteuid() == 0:
                    owner = self._directory.stat()
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(self._directory / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
