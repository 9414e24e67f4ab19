"""Sealing a packet, from AES-ECB alone: MicroPython's cryptolib has no CCM.

AES-128-CCM with a tag of 8 bytes and a nonce of 13 (NIST SP 800-38C, RFC 3610: M=8, L=2). `encrypt` turns a block of 16 bytes
into its cipher block under the node's key.
"""

import struct

TAG_BYTES = 8
UPLINK = 1  # version 1, from a node to its gateway


def packet(encrypt, node, counter, payload):
    """Header (kind, node, counter), enciphered payload, tag. No counter may come twice under one key."""
    head = struct.pack(">BHI", UPLINK, node, counter)
    return head + seal(encrypt, head + bytes(13 - len(head)), head, payload)


def seal(encrypt, nonce, associated, payload):
    """Enciphered payload and tag (RFC 3610, sections 2.2 and 2.3)."""
    mac = encrypt(bytes((0x59,)) + nonce + struct.pack(">H", len(payload)))
    for block in _blocks(struct.pack(">H", len(associated)) + associated):
        mac = encrypt(_xor(mac, block))
    for block in _blocks(payload):
        mac = encrypt(_xor(mac, block))
    sealed = b""
    for number, block in enumerate(_blocks(payload), 1):
        sealed += _xor(block, encrypt(_counter_block(nonce, number)))
    return sealed[: len(payload)] + _xor(mac, encrypt(_counter_block(nonce, 0)))[:TAG_BYTES]


def _counter_block(nonce, number):
    return b"\x01" + nonce + struct.pack(">H", number)


def _blocks(data):
    for start in range(0, len(data), 16):
        block = data[start : start + 16]
        yield block + bytes(16 - len(block))


def _xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))
