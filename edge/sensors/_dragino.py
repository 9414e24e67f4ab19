"""What Dragino's LoRaWAN nodes share. Payloads are big-endian. Sources: Dragino user manuals of the nodes (chapter
"Uplink Payload"); dragino/dragino-end-node-decoder@e81cc58a05."""

from edge.sensors._lorawan import battery, reply, sized
from edge.sensors.base import Field

DATA, LOG, STATUS = 2, 3, 5
"""LoRaWAN ports: measurement, records kept by the node and asked for, status after joining."""

_NO_PROBE = {0x0CCC, 0x7FFF, -1}
"""What nodes say without a DS18B20: 327.6 (the nodes' manuals), and 7FFF or FFFF (LSN50)."""


def battery_of(word: int) -> Field:
    """The battery is the low 14 bits, in mV; above them stand flags."""
    return battery(word & 0x3FFF)


def status(frame: bytes) -> list[Field]:
    """The status frame of fPort 5: product, firmware, band, sub-band, battery in mV."""
    sized(frame, 7)
    firmware = f"{frame[1] & 0x0F}.{frame[2] >> 4}.{frame[2] & 0x0F}"
    return [reply("device_status"), battery(int.from_bytes(frame[5:7], "big")), Field("firmware", firmware, "")]


def log(frame: bytes) -> list[Field]:
    """Records of fPort 3 are old and asked for by hand: that they came is said, they are no reading of now."""
    return [reply("datalog"), Field("bytes", len(frame), "1")]


def ds18b20(raw: int, fitted: bool, name: str = "temperature") -> list[Field]:
    """The temperature of a node's optional probe, in tenths of a degree (signed). Zero is also what some nodes send
    without a probe, and a value only where one is `fitted`; outside -55 to 125 (data sheet) it is none."""
    if raw in _NO_PROBE or (raw == 0 and not fitted) or not -550 <= raw <= 1250:
        return []
    return [Field(name, raw / 10, "degC")]
