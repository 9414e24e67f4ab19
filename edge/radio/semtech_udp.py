"""Semtech's UDP packet forwarder, protocol versions 1 and 2: what a LoRa gateway hears, as datagrams around JSON.

Source: Lora-net/packet_forwarder: PROTOCOL.TXT. It has no authentication: only a forwarder on this machine may be
believed. What it hands over is the radio's payload: of a LoRaWAN device an encrypted frame, of a point-to-point node
what the node sent. Forwarders leave out the padding of base64 and mix both its alphabets (so does PROTOCOL.TXT).
"""

import base64
import binascii
from typing import Any

from edge.radio._network_server import body, number, part, parts, text
from edge.sensors.base import Driver, Field, FrameError, Options, Sheet

_VERSIONS = (1, 2)
_TYPES = ("PUSH_DATA", "PUSH_ACK", "PULL_DATA", "PULL_RESP", "PULL_ACK", "TX_ACK")
_WITH_GATEWAY = ("PUSH_DATA", "PULL_DATA", "TX_ACK")
_HEADER_BYTES, _GATEWAY_BYTES = 4, 8
_CRC_OK, _CRC_BAD = 1, -1


class SemtechUdpOptions(Options):
    """None: a datagram says all."""


def decode(frame: bytes, _options: SemtechUdpOptions) -> list[Field]:
    """One datagram, or the JSON body of one -> `type`, `version`, `token` (hex, to be echoed), `gateway` (EUI);
    `packets`: a list of `payload_hex`, `size`, `rssi` in dBm, `freq_mhz`, `datarate`, `crc_ok`, and with LoRa `snr` in
    dB; `stat` as sent; `error` of a TX_ACK; `txpk` of a PULL_RESP. Packets with a bad CRC are dropped and counted in
    `crc_bad`.

    Raises FrameError: `length` for a datagram or a packet of another size than said; `header` for another version or
    type; `format` for no JSON or no base64; `crc_stat` when all packets had a bad CRC.
    """
    if frame[:1] == b"{":
        return _data(body(frame))
    if len(frame) < _HEADER_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {_HEADER_BYTES} or more")
    if frame[3] >= len(_TYPES):
        raise FrameError("header", f"type {frame[3]:02X}, expected 00 to 05")
    kind = _TYPES[frame[3]]
    at = _HEADER_BYTES + (_GATEWAY_BYTES if kind in _WITH_GATEWAY else 0)
    if len(frame) < at:
        raise FrameError("length", f"{len(frame)} bytes, expected {at} or more in {kind}")
    if frame[0] not in _VERSIONS:
        raise FrameError("header", f"version {frame[0]}, expected 1 or 2")
    fields = [
        Field("type", kind, ""),
        Field("version", frame[0], "1"),
        Field("token", frame[1:3].hex().upper(), ""),
    ]
    if kind in _WITH_GATEWAY:
        fields.append(Field("gateway", frame[4:12].hex().upper(), ""))
    rest = frame[at:]
    match kind:
        case "PUSH_DATA":
            return [*fields, *_data(body(rest))]
        case "PULL_RESP":
            return [*fields, Field("txpk", part(body(rest), "txpk"), "")]
        case "TX_ACK" if rest.strip(b"\0"):  # one 00 byte from a Kerlink iBTS means nothing
            return [*fields, Field("error", text(part(body(rest), "txpk_ack"), "error") or "NONE", "")]
        case "PUSH_ACK" | "PULL_ACK" | "PULL_DATA" if rest:
            raise FrameError("length", f"{len(frame)} bytes, expected {at} in {kind}")
    return fields


def acknowledgement(frame: bytes) -> bytes:
    """What a server answers at once to PUSH_DATA and PULL_DATA, whatever is in them: the version and token, and PUSH_ACK or
    PULL_ACK (PROTOCOL.TXT, sections 3.3 and 5.3). Empty for any other datagram."""
    if len(frame) < _HEADER_BYTES + _GATEWAY_BYTES or frame[0] not in _VERSIONS:
        return b""
    answers = {_TYPES.index("PUSH_DATA"): "PUSH_ACK", _TYPES.index("PULL_DATA"): "PULL_ACK"}
    kind = answers.get(frame[3])
    return frame[:3] + bytes([_TYPES.index(kind)]) if kind else b""


def _data(message: dict[str, Any]) -> list[Field]:
    heard = parts(message, "rxpk")
    good = [packet for packet in heard if packet.get("stat") != _CRC_BAD]
    fields = [Field("packets", [_packet(packet) for packet in good], "")]
    if heard and not good:
        raise FrameError("crc_stat", f"bad CRC in {len(heard)} packets", tuple(fields))
    if len(good) < len(heard):
        fields.append(Field("crc_bad", len(heard) - len(good), "1"))
    if "stat" in message:
        fields.append(Field("stat", part(message, "stat"), ""))
    return fields


def _packet(packet: dict[str, Any]) -> dict[str, Any]:
    payload = _unbase64(text(packet, "data"))
    size = number(packet, "size")
    if size is not None and size != len(payload):
        raise FrameError("length", f"{len(payload)} bytes of payload, expected {size}")
    datarate = packet.get("datr")
    found = {
        "payload_hex": payload.hex().upper(),
        "size": len(payload),
        "rssi": number(packet, "rssi"),
        "freq_mhz": number(packet, "freq"),
        "datarate": datarate if isinstance(datarate, str) else number(packet, "datr"),
        "crc_ok": packet.get("stat") == _CRC_OK,
        "snr": number(packet, "lsnr"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _unbase64(data: str) -> bytes:
    standard = data.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise FrameError("format", f"payload {data[:40]!r} is not base64") from None


DRIVER = Driver(
    name="semtech_udp",
    title="Semtech UDP packet forwarder (LoRa gateway)",
    link="modem",
    quantities=(),
    options=SemtechUdpOptions,
    decode=decode,
    source="Lora-net/packet_forwarder, PROTOCOL.TXT",
    sheet=Sheet(
        wiring="None: a packet forwarder on this machine sends to UDP port 1700.",
        limits="Point-to-point nodes only: LoRaWAN payloads are encrypted. Nothing proves who sent: listen on "
        "127.0.0.1.",
        faults="Packets with a bad CRC are dropped by the forwarder's own word.",
    ),
)
