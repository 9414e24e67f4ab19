"""What `maillages-edge test` does: sound the siren for a moment, send an SMS that says it is a test. Nobody else hears of it:
nothing is journaled, logged as an alarm or told to central.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common import lock, texts
from common.clock import Clock
from edge.config import EdgeConfig, GpioSiren
from edge.errors import ConfigError
from edge.service import siren_keeper, sms_modem


@dataclass(frozen=True, slots=True)
class Trial:
    """What was done with one output. `to`: the siren's port or pin, or who was to get the SMS. `outcome`: `done`, `sent`, `failed`,
    `unknown` (the modem took it and said no more)."""

    output: str
    to: str
    outcome: str
    detail: str

    @property
    def good(self) -> bool:
        return self.outcome in ("done", "sent")

    def lines(self) -> list[str]:
        """For people."""
        return [f"Test  {self.output} {self.to}: {self.outcome}. {self.detail}"]

    def value(self) -> dict[str, Any]:
        """For programs."""
        return {
            "status": "Test",
            "output": self.output,
            "to": self.to,
            "outcome": self.outcome,
            "detail": self.detail,
        }


def hold(config: EdgeConfig) -> None:
    """Keep the gateway from starting until this process ends. Raises ConfigError while it runs: it holds the ports."""
    data = config.gateway.data_dir
    try:
        lock.hold(data)
    except BlockingIOError:
        raise ConfigError(f"the gateway runs and holds its outputs: expected it stopped ({data} is in use)") from None
    except OSError as e:
        raise ConfigError(
            f"gateway.data_dir: {data} cannot be locked: {e.strerror}; expected to run as the gateway's user"
        ) from e


def siren(config: EdgeConfig, clock: Clock, pulse_s: float) -> Trial:
    """Sound it for `pulse_s` seconds, and wait. Whatever ends this, it is switched off. Raises ConfigError without a siren."""
    keeper, chosen = siren_keeper(config, clock), config.outputs.siren
    if keeper is None or chosen is None:
        raise ConfigError("outputs.siren: missing, expected a siren to test")
    where = f"GPIO{chosen.pin}" if isinstance(chosen, GpioSiren) else f"{chosen.port} channel {chosen.channel}"
    keeper.start()
    try:
        outcome = keeper.test(pulse_s)
    finally:
        keeper.stop()
    done = f"It was told to sound for {pulse_s:g} s and to be silent; whether it did, only you have heard."
    return Trial("siren", where, outcome, done if outcome == "done" else "It took no command.")


def sms(config: EdgeConfig, clock: Clock, to: str | None) -> Iterator[Trial]:
    """Send one to the recipient `to`, or to each technician. Raises ConfigError when there is none, or no modem."""
    settings = config.outputs.sms
    if settings is None:
        raise ConfigError("outputs.sms: missing, expected a modem to test")
    chosen = [r for r in settings.recipient if (r.technician if to is None else r.id == to)]
    if not chosen:
        known = ", ".join(r.id for r in settings.recipient)
        raise ConfigError(
            f"outputs.sms.recipient: none with technician = true, expected --to with one of {known}"
            if to is None
            else f"recipient {to!r} is unknown, expected one of {known}"
        )
    modem = sms_modem(settings, clock, config.gateway.data_dir)
    for recipient in chosen:
        text = texts.modem_test(config.gateway.id, clock.wall())
        outcome = modem.send(recipient.phone, text)
        detail = f'Text: "{text}"' if outcome.kind == "sent" else f"{outcome.reason}."
        yield Trial("sms", recipient.id, outcome.kind, detail)
