"""REYAX RYLR896 (and RYLR406) LoRa modem: the RYLR998's older sister, with the same lines and other limits. 115200 8N1.

Source: REYAX, RYLR40x/RYLR89x LoRa AT Command Guide (limits of PARAMETER, NETWORKID and CRFOP; from memory, not read again). Its
firmware gives an SNR of 40 and more for near nodes, where the RYLR998 gives about 10: it is passed on as it is.
"""

from typing import Annotated, Literal

from pydantic import Field as Constraint

from edge.radio import _rylr as rylr
from edge.sensors.base import Driver, Field, FrameError, Identify, Modem, Sheet


class Settings(rylr.RylrSettings):
    """Limits are those of the guide."""

    driver: Literal["rylr896"]
    spreading_factor: Annotated[int, Constraint(ge=7, le=12)]
    preamble: Annotated[int, Constraint(ge=4, le=7)]
    network_id: Annotated[int, Constraint(ge=0, le=16)]
    power_dbm: Annotated[int, Constraint(ge=0, le=15)]


def _described(line: bytes) -> list[Field] | None:
    """For `scan`: its version, by which it is known."""
    try:
        reply, *value = rylr.decode(line, rylr.RylrOptions())
    except FrameError:
        return None
    if not value or reply.value not in rylr.TOLD or (reply.value == "ver" and not line.startswith(rylr.SISTER)):
        return None
    return [Field(str(reply.value), value[0].value, "")]


DRIVER = Driver(
    name="rylr896",
    title="REYAX RYLR896 LoRa modem (AT commands)",
    link="modem",
    quantities=("rssi", "snr"),
    options=rylr.RylrOptions,
    decode=rylr.decode,
    framer=lambda _options: rylr.framer(),
    baudrate=115200,
    sheet=Sheet(
        wiring="3.3 V supply, 3.3 V levels; 5 V destroys it. Antenna before power. TX to RX and RX to TX.",
        limits="240 bytes a packet. Its settings are written at start from firmware-configs/ and read back; nodes must have the same.",
        faults="Nodes are not heard: another network id, spreading factor or band. The SNR of older firmware is about 40, in no unit.",
    ),
    source="REYAX, RYLR40x/RYLR89x LoRa AT Command Guide",
    identify=Identify(
        requests=(rylr.query("VER"),),
        details=tuple(map(rylr.query, ("ADDRESS", "NETWORKID", "BAND", "PARAMETER"))),
        reply_s=0.5,
        describe=_described,
    ),
    commands=dict(rylr.COMMANDS),
    recognise=rylr.recognise,
    modem=Modem(settings=Settings, payload=rylr.payload, addressed=True),
)
