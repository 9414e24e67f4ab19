"""The alarm event: one transition of one occurrence (ISA-18.2 states, CAP status). Levels are local thresholds, never a phase."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from wire.errors import WireError, shown
from wire.ids import Id

Kind = Literal["high", "low", "rise", "fall", "stale", "comm_fail", "quality", "power", "system"]
Transition = Literal[
    "raise", "escalate", "deescalate", "clear", "ack", "shelve", "unshelve", "suppress", "unsuppress",
    "out_of_service", "in_service", "reset", "notify",
]  # fmt: skip
State = Literal["NORMAL", "UNACK", "ACK", "RTN_UNACK"]
Status = Literal["Actual", "Exercise", "Test"]
Withheld = Literal["shelved", "suppressed", "out_of_service"]

EXERCISE = "exercise"
"""The rule of the alarm by which a gateway tries the whole way (status `Exercise`). No rule on readings has this id."""


class Notified(BaseModel):
    """One message attempt: to whom (a recipient id, never a number or address), when (RFC 3339) and its outcome."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    channel: Literal["sms", "email"]
    to: Id
    at: str
    result: Literal["sent", "failed", "unknown"]


class AlarmEvent(BaseModel):
    """Section "Alarm event" of docs/wire.md. Unknown members are ignored: adding one is a safe change.

    `time` is RFC 3339 with milliseconds and offset. `seq` is the source's own gapless counter. `trend_per_h` is in `unit`
    per hour. `value` is None when there is none (a sensor that fell silent). `withheld`: nobody is to be told, and why.
    `mean_h`: `value` and `threshold` are of the running mean over so many hours (air quality; indicative).
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    id: str = Field(min_length=1, max_length=64)
    occurrence: str = Field(min_length=1, max_length=64)
    seq: int = Field(ge=1, lt=2**53)
    source: Literal["gateway", "central"]
    gateway: Id
    station: Id | None
    sensor: Id | None
    quantity: str | None
    rule: Id
    kind: Kind
    transition: Transition
    state: State
    level: int = Field(ge=0, le=3)
    value: float | None
    unit: str | None
    threshold: float | None
    trend_per_h: float | None = None
    next_level_at: str | None = None
    time: str
    clock: Literal["synchronised", "estimated"]
    data_lost: bool = False
    status: Status = "Actual"
    by: str | None = Field(default=None, max_length=200)
    until: str | None = Field(default=None, max_length=64)
    note: str | None = Field(default=None, max_length=1000)
    notified: tuple[Notified, ...] = ()
    withheld: Withheld | None = None
    mean_h: int | None = Field(default=None, ge=1, le=24)

    @field_validator("time")
    @classmethod
    def _time_has_offset(cls, text: str) -> str:
        from datetime import datetime

        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("expected RFC 3339 with an offset")
        if not 1970 <= moment.year < 2200:  # a Pi whose clock was never set begins in 1970, and its alarm counts
            raise ValueError("expected a year from 1970 to 2199")
        return text


def parse(payload: bytes) -> AlarmEvent:
    """One event from JSON. Raises WireError naming the member and what was expected."""
    try:
        return AlarmEvent.model_validate_json(payload)
    except ValidationError as e:
        raise WireError(describe(e)) from e


def dump(event: AlarmEvent) -> bytes:
    """The event as JSON, members in the contract's order."""
    return event.model_dump_json().encode()


def describe(error: ValidationError) -> str:
    """A pydantic error as one line: member, what was expected, what was found."""
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(p) for p in item["loc"]) or "payload"
        found: Any = item.get("input")
        parts.append(f"{where}: {item['msg']}" + (f", found {shown(found)}" if not isinstance(found, dict) else ""))
    return "; ".join(parts)
