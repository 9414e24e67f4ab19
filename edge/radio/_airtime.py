"""How long a LoRa packet is on the air, and how often the law lets it be sent. Pure.

Sources: Semtech AN1200.13 "LoRa Modem Designer's Guide" and SX1276/77/78/79 datasheet, section 4.1.1.7 (SF7 to SF12); Semtech
SX1261/2 datasheet, section 6.1.4 (SF5 and SF6). Duty cycles: ERC Recommendation 70-03, annex 1; ETSI EN 300 220-2.
"""

from dataclasses import dataclass
from math import ceil

DUTY_CYCLES = (
    (863_000_000, 865_000_000, 0.001),
    (865_000_000, 868_600_000, 0.01),
    (868_700_000, 869_200_000, 0.001),
    (869_400_000, 869_650_000, 0.1),
    (869_700_000, 870_000_000, 0.01),
)
"""From and to in Hz, and the share of each hour in which one device may send, without listening before it talks."""

_LOW_RATE_S = 0.016
"""Symbols longer than this take the low data rate optimisation (SF11 and SF12 at 125 kHz)."""


def airtime_s(
    size: int, *, spreading_factor: int, bandwidth_khz: float, coding_rate: int = 5, preamble: int = 8, crc: bool = True
) -> float:
    """Seconds on the air of `size` bytes behind an explicit header; `coding_rate` is the denominator of 4/n, `preamble` in
    symbols."""
    symbol_s = (1 << spreading_factor) / (bandwidth_khz * 1000)
    bits = 8 * size + 16 * crc - 4 * spreading_factor
    if spreading_factor < 7:
        sync, bits, per_block = 6.25, bits + 20, 4 * spreading_factor
    else:
        sync, bits = 4.25, bits + 28
        per_block = 4 * (spreading_factor - 2 * (symbol_s > _LOW_RATE_S))
    symbols = preamble + sync + 8 + max(ceil(bits / per_block), 0) * coding_rate
    return symbols * symbol_s


def duty_cycle(centre_hz: float, bandwidth_khz: float) -> float:
    """The share of the time in which a device may send on this channel: the strictest of the sub-bands that it touches, 0
    where there is none."""
    half_hz = bandwidth_khz * 500
    return min(
        (share for low, high, share in DUTY_CYCLES if centre_hz - half_hz < high and low < centre_hz + half_hz),
        default=0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where and how a modem sends; `coding_rate` is the denominator of 4/n, `preamble` in symbols, `added_bytes` what the modem
    puts around a payload, `hex_text` whether nodes send payloads as hexadecimal text."""

    centre_hz: int
    spreading_factor: int
    bandwidth_khz: int
    coding_rate: int
    preamble: int
    added_bytes: int = 0
    hex_text: bool = False

    def airtime_s(self, size: int) -> float:
        """Seconds on the air of a payload of `size` bytes."""
        return airtime_s(
            (2 if self.hex_text else 1) * size + self.added_bytes,
            spreading_factor=self.spreading_factor,
            bandwidth_khz=self.bandwidth_khz,
            coding_rate=self.coding_rate,
            preamble=self.preamble,
        )

    @property
    def duty_cycle(self) -> float:
        """The share of the time in which a device may send here (see duty_cycle)."""
        return duty_cycle(self.centre_hz, self.bandwidth_khz)

    def least_period_s(self, size: int) -> float:
        """The shortest time from one such packet to the next that keeps the duty cycle; infinite outside every sub-band."""
        share = self.duty_cycle
        return self.airtime_s(size) / share if share else float("inf")
