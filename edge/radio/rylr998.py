"""REYAX RYLR998 LoRa modem, AT commands on a UART, 115200 8N1.

Source: REYAX, LoRa AT Command Guide for RYLR998 and RYLR498, 23-OCT-2023.
"""

from typing import Annotated, Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.radio import _rylr as rylr
from edge.sensors.base import Driver, Field, FrameError, Identify, Modem, Sheet

_SLOWEST = {125: 9, 250: 10, 500: 11}


class Settings(rylr.RylrSettings):
    """Limits are those of the guide."""

    driver: Literal["rylr998"]
    band_hz: Annotated[int, Constraint(ge=820_000_000, le=960_000_000)]
    spreading_factor: Annotated[int, Constraint(ge=5, le=11)]
    preamble: Annotated[int, Constraint(ge=4, le=24)]
    network_id: Annotated[int, Constraint(ge=3, le=18)]
    power_dbm: Annotated[int, Constraint(ge=0, le=22)]

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if self.network_id in (16, 17):
            raise ValueError(f"network_id: found {self.network_id}, expected 3 to 15, or 18")
        if self.network_id != 18 and self.preamble != 12:
            raise ValueError(f"preamble: found {self.preamble}, expected 12 unless network_id is 18")
        slowest = _SLOWEST[self.bandwidth_khz]
        if self.spreading_factor > slowest:
            raise ValueError(
                f"spreading_factor: found {self.spreading_factor}, expected at most {slowest} at {self.bandwidth_khz} kHz"
            )
        return self


def _described(line: bytes) -> list[Field] | None:
    """For `scan`: version and settings. A refusal is its sister's too."""
    try:
        reply, *value = rylr.decode(line, rylr.RylrOptions())
    except FrameError:
        return None
    if reply.name != "reply" or reply.value not in rylr.TOLD:
        return None
    if line.startswith(rylr.SISTER) or (line.startswith(b"+VER=") and not line.startswith(b"+VER=RYLR")):
        return None
    return [Field(str(reply.value), value[0].value, "")] if value else []


DRIVER = Driver(
    name="rylr998",
    title="REYAX RYLR998 LoRa modem (AT commands)",
    link="modem",
    quantities=("rssi", "snr"),
    options=rylr.RylrOptions,
    decode=rylr.decode,
    framer=lambda _options: rylr.framer(),
    baudrate=115200,
    identify=Identify(
        requests=(rylr.test(),),
        details=tuple(map(rylr.query, ("VER", "ADDRESS", "NETWORKID", "BAND", "PARAMETER"))),
        reply_s=0.5,
        describe=_described,
    ),
    source="REYAX, LoRa AT Command Guide for RYLR998 and RYLR498, 23-OCT-2023",
    sheet=Sheet(
        wiring="3.3 V supply, 3.3 V levels; 5 V destroys it. Antenna before power. TX to RX and RX to TX.",
        limits="240 bytes a packet. Its settings are written at start from firmware-configs/ and read back; "
        "nodes must have the same.",
        faults="Nodes are not heard: another network id, spreading factor or band. `+ERR` names a refused command.",
    ),
    commands=dict(rylr.COMMANDS),
    recognise=rylr.recognise,
    modem=Modem(settings=Settings, payload=rylr.payload, addressed=True),
)
