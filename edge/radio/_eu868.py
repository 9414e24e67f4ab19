"""What European law lets a LoRa modem around 868 MHz do, and the settings that most modems share."""

from typing import Annotated, Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.radio._airtime import Channel
from edge.sensors.base import ModemSettings

BANDS = (
    (863_000_000, 868_600_000, 14),
    (868_700_000, 869_200_000, 14),
    (869_400_000, 869_650_000, 27),
    (869_700_000, 870_000_000, 14),
)
"""Where a short-range device may send in Belgium: from and to in Hz, and dBm of effective radiated power (25 mW, 500 mW) with a
dipole. ERC Recommendation 70-03, annex 1; ETSI EN 300 220-2. Each has its duty cycle, 0.1 to 10 %."""


def limit_dbm(centre_hz: int, bandwidth_khz: int) -> int | None:
    """The most effective radiated power on a channel; None when it lies in no band."""
    half_hz = bandwidth_khz * 500
    return next((dbm for low, high, dbm in BANDS if low <= centre_hz - half_hz and centre_hz + half_hz <= high), None)


def check(key: str, value: int, centre_hz: int, bandwidth_khz: int, power_dbm: int) -> None:
    """Raises ValueError when a channel lies in no band, or its power is more than the band's. `key` and `value` are what the
    settings file says of the channel."""
    most_dbm = limit_dbm(centre_hz, bandwidth_khz)
    if most_dbm is None:
        bands = ", ".join(f"{low_hz / 1e6:g} to {high_hz / 1e6:g}" for low_hz, high_hz, _ in BANDS)
        raise ValueError(f"{key}: found {value} with {bandwidth_khz} kHz, expected a channel inside {bands} MHz")
    if power_dbm > most_dbm:
        raise ValueError(f"power_dbm: found {power_dbm}, expected at most {most_dbm} in this band")


class LoraSettings(ModemSettings):
    """A LoRa channel as modems with a Semtech chip take it. All nodes of a network share all but `power_dbm`."""

    frequency_hz: int
    spreading_factor: Annotated[int, Constraint(ge=7, le=12)]
    bandwidth_khz: Literal[125, 250, 500]
    coding_rate: Annotated[int, Constraint(ge=5, le=8, description="denominator of 4/n")]
    preamble: Annotated[int, Constraint(ge=6, le=65535)]
    power_dbm: int

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        check("frequency_hz", self.frequency_hz, self.frequency_hz, self.bandwidth_khz, self.power_dbm)
        return self

    @property
    def carrier(self) -> tuple[int, int]:
        return self.frequency_hz, self.bandwidth_khz

    @property
    def on_air(self) -> Channel:
        return Channel(
            centre_hz=self.frequency_hz,
            spreading_factor=self.spreading_factor,
            bandwidth_khz=self.bandwidth_khz,
            coding_rate=self.coding_rate,
            preamble=self.preamble,
        )
