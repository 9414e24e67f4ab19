"""Commands of central to a gateway and their answers: topics `cmd/<name>` and `cmd/<name>/result` (docs/wire.md).

A command is JSON with an id of its own, has a Message Expiry of at most `MAX_EXPIRY_S`, and carries in the user property
`signature` the base64 of an Ed25519 signature (RFC 8032) over `signed_bytes`.
"""

import base64
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wire.alarm import describe
from wire.errors import WireError

MAX_EXPIRY_S = 60
MAX_SHELF_S = 24 * 3600.0
"""Longer than this nobody shelves an alarm: it would be forgotten."""
SIGNATURE = "signature"

ACK = "ack"
SHELVE = "shelve"
RESET = "reset"
RESEND = "resend"
READ = "read"
RAW = "raw"
LOGS = "logs"
RESTART = "restart"
KNOWN = (ACK, SHELVE, RESET, RESEND, READ, RAW, LOGS, RESTART)
MAX_RAW_BYTES = 256
MAX_LOG_LINES = 300


KEY_BYTES = 32


def public_key(text: str) -> bytes:
    """The bytes of an Ed25519 public key (RFC 8032) from their base64. Raises WireError, without the text: it may be a
    private key in the wrong place."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        raise WireError(
            f"expected base64 of {KEY_BYTES} bytes, found {len(text)} characters that are no base64"
        ) from None
    if len(key) != KEY_BYTES:
        raise WireError(f"expected base64 of {KEY_BYTES} bytes, found base64 of {len(key)} bytes")
    return key


def signed_bytes(topic: str, payload: bytes) -> bytes:
    """What is signed: the topic too, so that a command cannot be moved to another gateway or renamed."""
    return topic.encode() + b"\n" + payload


class Command(BaseModel):
    """What every command has: its id, never used twice."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: str = Field(min_length=1, max_length=64)


AnyCommand = TypeVar("AnyCommand", bound=Command)


class Ack(Command):
    """`cmd/ack`: `by` acknowledged `occurrence` at `at` (RFC 3339), which they knew to be at local level `level`. One that
    has become worse since is not acknowledged: it was answered for less."""

    occurrence: str
    by: str = Field(min_length=1, max_length=120)
    at: str
    level: int | None = Field(default=None, ge=0, le=3)


class Shelve(Command):
    """`cmd/shelve`: `by` wants to hear no more of `occurrence` until `until` (RFC 3339), at most a day from now; None ends it.
    `why` becomes the `note` of the event."""

    occurrence: str
    by: str = Field(min_length=1, max_length=120)
    at: str
    until: str | None
    why: str | None = Field(default=None, max_length=500)


class Reset(Command):
    """`cmd/reset`: `by` lets go a latched `occurrence` that has returned and was acknowledged."""

    occurrence: str
    by: str = Field(min_length=1, max_length=120)
    at: str


class Order(Command):
    """What a technician at central wants done once: `by` whom, asked `at`, and not done after `until` (RFC 3339), whatever became of
    the message's expiry on its way."""

    by: str = Field(min_length=1, max_length=120)
    at: str
    until: str


class Read(Order):
    """`cmd/read`: ask the sensors of `station`, or the one, now."""

    station: str
    sensor: str | None = None


class Raw(Order):
    """`cmd/raw`: write these bytes (hex) to the port of a sensor, between two polls, and hear for `reply_s` what comes back."""

    station: str
    sensor: str
    hex: str = Field(pattern=rf"^([0-9A-Fa-f]{{2}}){{1,{MAX_RAW_BYTES}}}$")
    reply_s: float = Field(default=2, ge=0.1, le=10)


class Logs(Order):
    """`cmd/logs`: the newest so many lines of the gateway's log, without secrets."""

    lines: int = Field(default=50, ge=1, le=MAX_LOG_LINES)


class Restart(Order):
    """`cmd/restart`: cut the power of a sensor for a moment where a relay can, else open its port anew."""

    station: str
    sensor: str


class Resend(Command):
    """`cmd/resend`: the readings `first` to `last` of `journal` go to the backlog again."""

    journal: str
    first: int = Field(ge=1)
    last: int = Field(ge=1)


def parse(model: type[AnyCommand], arguments: Mapping[str, Any]) -> AnyCommand:
    """The arguments of a command as `model`. Raises WireError naming the member and what was expected."""
    try:
        return model.model_validate(arguments)
    except ValidationError as e:
        raise WireError(describe(e)) from e


class CommandResult(BaseModel):
    """Answer to a command. `id` is None when the command had none that could be read; `error` says why it was not done."""

    model_config = ConfigDict(frozen=True)

    id: str | None
    ok: bool
    error: str | None = None


class ResendResult(CommandResult):
    """Answer to `cmd/resend`: how many readings go to the backlog again. Those no longer on the gateway's disk cannot."""

    readings: int = Field(default=0, ge=0)


class Reading(BaseModel):
    """What a sensor (`<station>/<sensor>`) says: a value and its age (s) and QARTOD flag, or `error`, why it gives none."""

    model_config = ConfigDict(frozen=True)

    sensor: str
    quantity: str | None = None
    value: float | None = None
    unit: str | None = None
    age_s: float | None = None
    qc: int | None = None
    error: str | None = None


class ReadResult(CommandResult):
    """Answer to `cmd/read`."""

    values: tuple[Reading, ...] = ()


class RawResult(CommandResult):
    """Answer to `cmd/raw`: the bytes that came (hex), none when the line was silent."""

    hex: str = ""


class LogsResult(CommandResult):
    """Answer to `cmd/logs`, the oldest line first."""

    log: tuple[str, ...] = ()


class RestartResult(CommandResult):
    """Answer to `cmd/restart`: what is done."""

    done: str = ""
