"""What the gateway does by itself when it alarms: siren, button, SMS."""

import re
from datetime import time
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from common.config import unique
from edge.config.base import Level, PositiveSeconds, Seconds, Strict
from wire.ids import Id


class Pattern(Strict):
    """How a siren sounds: `on_s` on, `off_s` off, and again; `off_s` 0 is continuous. A relay wants 0.1 s to switch."""

    on_s: float = Field(ge=0.1, le=60)
    off_s: float = Field(default=0, ge=0, le=60)

    @field_validator("off_s")
    @classmethod
    def _none_or_heard(cls, off_s: float) -> float:
        if 0 < off_s < 0.1:
            raise ValueError("expected 0 or at least 0.1")
        return off_s


_PATTERNS = {1: Pattern(on_s=0.5, off_s=4.5), 2: Pattern(on_s=2, off_s=2), 3: Pattern(on_s=1, off_s=0)}
"""Short beeps, long ones, continuous."""


class SelfTest(Strict):
    """Once a week on `day` at `at`, Belgian time, the siren sounds for `pulse_s`. Not between 02:00 and 03:00: that hour comes
    twice in autumn, and not at all in spring."""

    day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    at: time
    pulse_s: float = Field(default=1, ge=0.1, le=10)

    @field_validator("at")
    @classmethod
    def _exists_once(cls, at: time) -> time:
        if at.tzinfo is not None:
            raise ValueError("expected a Belgian time of day, without offset")
        if at.hour == 2:
            raise ValueError("expected a time outside of 02:00 to 03:00, when the clocks change")
        return at


class _Siren(Strict):
    """What sounds for unacknowledged alarms of `min_level` and above, at most `max_s` per raise or escalation, in the pattern of
    its level (`patterns` replaces those of some or all)."""

    min_level: Level = 2
    max_s: PositiveSeconds = 900
    patterns: dict[Level, Pattern] = Field(default={})
    self_test: SelfTest | None = None

    @property
    def all_patterns(self) -> dict[int, Pattern]:
        """By level, 1 to 3."""
        return _PATTERNS | self.patterns


class SerialSiren(_Siren):
    """On a relay of an LCUS-1 board."""

    driver: Literal["lcus1"] = "lcus1"
    port: str
    channel: int = Field(default=1, ge=1, le=8)


GpioPin = Annotated[int, Field(ge=0, le=27)]
"""By its GPIO (BCM) number, as on the Pi's 40-pin header."""


class GpioSiren(_Siren):
    """On a pin of the Pi, through a relay module or transistor. `active_high` false: the module switches on at 0 V."""

    driver: Literal["gpio"]
    pin: GpioPin
    active_high: bool = True


def _siren_driver(value: Any) -> Any:
    return value.get("driver", "lcus1") if isinstance(value, dict) else getattr(value, "driver", None)


Siren = Annotated[
    Annotated[SerialSiren, Tag("lcus1")] | Annotated[GpioSiren, Tag("gpio")],
    Discriminator(
        _siren_driver,
        custom_error_type="driver",
        custom_error_message="driver: expected lcus1 or gpio",
    ),
]


class _Button(Strict):
    """Who presses it acknowledges what the siren sounds for. A press counts after `debounce_s`; held for `stuck_s` it is a fault."""

    debounce_s: float = Field(default=0.1, ge=0.02, le=2)
    stuck_s: float = Field(default=30, ge=5, le=600)


class GpioButton(_Button):
    """Between a pin and ground, or with `active_high` between a pin and 3.3 V."""

    driver: Literal["gpio"]
    pin: GpioPin
    active_high: bool = False


class SerialButton(_Button):
    """On a serial adapter of its own: between RTS and CTS, or between DTR and DSR."""

    driver: Literal["serial"]
    port: str
    line: Literal["cts", "dsr"] = "cts"


Button = Annotated[GpioButton | SerialButton, Field(discriminator="driver")]


class Recipient(Strict):
    """Who gets the gateway's own SMS, and may answer them. `phone` in international form. `hours`: from and to, of the Belgian
    day, in which levels below 3 reach them; those of another hour wait for it. A `technician` gets what is wrong with sensors,
    power and the gateway itself beside the alarms; the others get the alarms alone. `exercise`: gets exercise alarms too."""

    id: Id
    phone: str = Field(pattern=r"^\+[1-9]\d{7,14}$")
    min_level: Level = 1
    hours: tuple[time, time] | None = None
    technician: bool = False
    exercise: bool = False

    def reachable(self, at: time) -> bool:
        """Whether `hours` hold at a Belgian time of day; they may go over midnight."""
        if self.hours is None:
            return True
        begin, end = self.hours
        return begin <= at < end if begin <= end else at >= begin or at < end


class Credit(Strict):
    """Of a prepaid card: once a day the operator is asked by the USSD `code`, and below `warn_below` it is an alarm of the gateway.
    `answer` finds the amount in what it says, as its first group."""

    code: str = Field(pattern=r"^[*#][0-9*#]{1,30}#$")
    warn_below: float = Field(gt=0)
    answer: str = r"(\d+[.,]\d\d)"

    @field_validator("answer")
    @classmethod
    def _finds(cls, answer: str) -> str:
        try:
            groups = re.compile(answer).groups
        except re.error as e:
            raise ValueError(f"no regular expression: {e}") from None
        if groups != 1:
            raise ValueError(f"found {groups} groups, expected one, around the amount")
        return answer


class Sms(Strict):
    """A GSM modem. It sends when central has not said `notifying` within `after_s`, or says that it could not."""

    port: str
    baudrate: int = 115200
    pin: str | None = Field(default=None, pattern=r"^\d{4,8}$", repr=False)
    after_s: Seconds = 60
    credit: Credit | None = None
    recipient: tuple[Recipient, ...] = Field(min_length=1)


class Outputs(Strict):
    siren: Siren | None = None
    button: Button | None = None
    sms: Sms | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.button is not None and self.siren is None:
            raise ValueError("button: expected only with a siren, whose alarms it acknowledges")
        pins = [f"GPIO{o.pin}" for o in (self.siren, self.button) if isinstance(o, GpioSiren | GpioButton)]
        unique(pins, "pin")
        return self
