"""REYAX RYLR896 (and RYLR406) LoRa modem: the RYLR998's older sister, with the same lines and other limits. 115200 8N1.

Source: REYAX, RYLR40x/RYLR89x LoRa AT Command Guide (limits of PARAMETER, NETWORKID and CRFOP; from memory, not read again). Its
firmware gives an SNR of 40 and more for near nodes, where the RYLR998 gives about 10: it is passed on as it is.
"""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.radio import rylr998
from edge.radio._airtime import Channel
from edge.radio._eu868 import check
from edge.sensors.base import Modem, ModemSettings, SettingStep

_BANDWIDTHS = {125: 7, 250: 8, 500: 9}


class Settings(ModemSettings):
    """A settings file (firmware-configs/) of a RYLR896. All nodes of a network share all but `address` and `power_dbm`."""

    driver: Literal["rylr896"]
    band_hz: int
    spreading_factor: Annotated[int, Constraint(ge=7, le=12)]
    bandwidth_khz: Literal[125, 250, 500]
    coding_rate: Annotated[int, Constraint(ge=5, le=8, description="denominator of 4/n")]
    preamble: Annotated[int, Constraint(ge=4, le=7)]
    network_id: Annotated[int, Constraint(ge=0, le=16)]
    address: Annotated[int, Constraint(ge=0, le=0xFFFF)]
    power_dbm: Annotated[int, Constraint(ge=0, le=15)]

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        check("band_hz", self.band_hz, self.band_hz, self.bandwidth_khz, self.power_dbm)
        return self

    @property
    def on_air(self) -> Channel:
        return Channel(
            centre_hz=self.band_hz,
            spreading_factor=self.spreading_factor,
            bandwidth_khz=self.bandwidth_khz,
            coding_rate=self.coding_rate,
            preamble=self.preamble,
            added_bytes=rylr998.ADDED_BYTES,
            hex_text=True,
        )

    def steps(self) -> tuple[SettingStep, ...]:
        parameter = f"{self.spreading_factor},{_BANDWIDTHS[self.bandwidth_khz]},{self.coding_rate - 4},{self.preamble}"
        return rylr998.at_steps(
            ("ADDRESS", self.address),
            ("NETWORKID", self.network_id),
            ("BAND", self.band_hz),
            ("PARAMETER", parameter),
            ("CRFOP", self.power_dbm),
        )


DRIVER = replace(
    rylr998.DRIVER,
    name="rylr896",
    title="REYAX RYLR896 LoRa modem (AT commands)",
    source="REYAX, RYLR40x/RYLR89x LoRa AT Command Guide",
    identify=None,  # it answers as its sister does: `scan` shows the version
    modem=Modem(settings=Settings, payload=rylr998.payload, addressed=True),
)
