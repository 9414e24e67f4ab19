"""What is sent down to a LoRaWAN sensor so that it reports as often as a river needs: port and bytes, by model.

Dragino: type 01 and the interval in seconds, three bytes, high byte first; the port is free. 04 FF restarts the node.
Sources: Dragino, End Device AT Commands and Downlink Command (2022-07-23), 4.1 and 4.2; LT Series User Manual, 3.4.
Milesight: port 85; FF 03 and the interval in seconds, FF 8E 00 and in minutes (EM410-RDL), two bytes, low byte first; FF 10 FF
restarts the node. Sources: Milesight, downlink commands of EM300, EM320-TH, EM500; Milesight-IoT/SensorDecoders (encoders of
AM100, AM300, EM310-UDL, EM410-RDL).
"""

import re
from typing import NamedTuple

_DRAGINO = re.compile(
    r"(LDDS\d+|DDS\d+-LB|LDDS04|LLDS12|LSN50|LHT65|PS-LB|LAQ4|SE01|LTC2|LWL02|WL03A)(-?N|V2)?", re.IGNORECASE
)
_MILESIGHT_S = re.compile(
    r"(EM500-(UDL|SWL|PT100|CO2|PP)|EM310-UDL|EM300-TH|EM320-TH|AM10[2347]L?|AM30[78]L?)", re.IGNORECASE
)
_MILESIGHT_MIN = re.compile(r"EM410-RDL", re.IGNORECASE)
_EM400 = re.compile(r"EM400-(UDL|MUD|TLD)", re.IGNORECASE)

SHORTEST_S = 60
"""A sensor that sends more often empties its battery in weeks, and at the slowest rate leaves its 1 % of the air time."""


class Downlink(NamedTuple):
    """To be sent on LoRaWAN port `port`."""

    port: int
    payload: bytes


def report_every(model: str, interval_s: int) -> Downlink:
    """Tells a sensor to report each `interval_s`. Raises ValueError for a model that is not known, or an interval it cannot have."""
    if interval_s < SHORTEST_S:
        raise ValueError(f"an interval of {interval_s} s, expected at least {SHORTEST_S}")
    if _DRAGINO.fullmatch(model):
        _at_most(model, interval_s, 2**24 - 1)
        return Downlink(1, b"\x01" + interval_s.to_bytes(3, "big"))
    if _MILESIGHT_S.fullmatch(model):
        _at_most(model, interval_s, 64800)
        return Downlink(85, b"\xff\x03" + interval_s.to_bytes(2, "little"))
    if _MILESIGHT_MIN.fullmatch(model):
        _at_most(model, interval_s, 1440 * 60)
        if interval_s % 60:
            raise ValueError(f"{model} counts in minutes: an interval of {interval_s} s, expected a multiple of 60")
        return Downlink(85, b"\xff\x8e\x00" + (interval_s // 60).to_bytes(2, "little"))
    raise _unknown(model)


def restart(model: str) -> Downlink:
    """Restarts a sensor. Raises ValueError for a model that is not known."""
    if _DRAGINO.fullmatch(model):
        return Downlink(1, b"\x04\xff")
    if any(known.fullmatch(model) for known in (_MILESIGHT_S, _MILESIGHT_MIN, _EM400)):
        return Downlink(85, b"\xff\x10\xff")
    raise _unknown(model)


def _at_most(model: str, interval_s: int, longest_s: int) -> None:
    if interval_s > longest_s:
        raise ValueError(f"an interval of {interval_s} s, {model} takes at most {longest_s}")


def _unknown(model: str) -> ValueError:
    if _EM400.fullmatch(model):
        return ValueError(
            f"{model}: its manual (four bytes) and its maker's encoder (two) differ: set it by NFC with the maker's app"
        )
    return ValueError(
        f"model {model!r} is not known, expected a Dragino (LDDS75, DDS75-LB, LLDS12, LSN50, LHT65, PS-LB, LAQ4, SE01, LTC2,"
        " LWL02, WL03A) or a Milesight (EM500-UDL, EM500-SWL, EM310-UDL, EM410-RDL, EM300-TH, EM320-TH, AM102 to AM308)"
    )
