"""Sealed packets of our own nodes: who sends, which number, what, and the proof of all three. Pure.

    byte 0      0x01: version 1, from a node to its gateway
    bytes 1-2   node, big-endian
    bytes 3-6   counter, big-endian, from 1 on
    then        the payload, enciphered
    last 8      tag

AES-128-CCM (NIST SP 800-38C, RFC 3610) with a tag of 8 bytes (M=8) and a length field of 2 (L=2). The nonce of 13 bytes is the
header (bytes 0 to 6: direction, node, counter) and six zeros; the header is also the associated data. One key belongs to one
node, which never uses a counter twice under it: that is all that the cipher asks for (RFC 3610, section 1).
"""

from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from edge.sensors.base import FrameError

UPLINK = 0x01
KEY_BYTES = 16
TAG_BYTES = 8
NONCE_BYTES = 13
LAST_COUNTER = 0xFFFF_FFFF

_HEADER = Struct(">BHI")
OVERHEAD_BYTES = _HEADER.size + TAG_BYTES
"""What sealing adds to a payload."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a packet says of itself; nothing of it is proven before `unseal`."""

    node: int
    counter: int


def header(packet: bytes) -> Header:
    """The header of a sealed packet. Raises FrameError `unauthenticated` for bytes that are none (plain Cayenne LPP, another
    version, too short)."""
    if len(packet) < OVERHEAD_BYTES:
        raise FrameError(
            "unauthenticated", f"{len(packet)} bytes, expected a sealed packet of at least {OVERHEAD_BYTES}"
        )
    kind, node, counter = _HEADER.unpack_from(packet)
    if kind != UPLINK:
        raise FrameError("unauthenticated", f"first byte {kind:02X}, expected {UPLINK:02X} of a sealed packet")
    return Header(node, counter)


def seal(key: bytes, node: int, counter: int, payload: bytes) -> bytes:
    """A packet of `node` (0 to 65535) under its key of 16 bytes. The caller never gives a counter (1 to 2^32-1) twice.
    Raises ValueError for what does not fit."""
    if not 1 <= counter <= LAST_COUNTER:
        raise ValueError(f"counter is {counter}, expected 1 to {LAST_COUNTER}")
    if not 0 <= node <= 0xFFFF:
        raise ValueError(f"node is {node}, expected 0 to 65535")
    head = _HEADER.pack(UPLINK, node, counter)
    return head + _cipher(key).encrypt(_nonce(head), payload, head)


def unseal(key: bytes, packet: bytes) -> bytes:
    """The payload of a packet that whoever holds `key` sealed. Whether its counter is fresh is the caller's to judge.
    Raises FrameError `unauthenticated` as `header` does, `forged` when the tag is not this key's."""
    header(packet)
    head, sealed = packet[: _HEADER.size], packet[_HEADER.size :]
    try:
        return _cipher(key).decrypt(_nonce(head), sealed, head)
    except InvalidTag:
        raise FrameError("forged", "the tag is not that of the node's key") from None


def _cipher(key: bytes) -> AESCCM:
    if len(key) != KEY_BYTES:
        raise ValueError(f"key has {len(key)} bytes, expected {KEY_BYTES}")
    return AESCCM(key, tag_length=TAG_BYTES)


def _nonce(head: bytes) -> bytes:
    return head.ljust(NONCE_BYTES, b"\0")
