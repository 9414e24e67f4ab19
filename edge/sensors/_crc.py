"""The CRC-16 of Modbus, of the KELLER bus and of SDI-12: polynomial 8005, least significant bit first (so A001).

Source: Modbus over Serial Line V1.02, 6.2.2; SDI-12 1.4, 4.4.12.
"""


def _of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0xA001 if byte & 1 else byte >> 1
    return byte


TABLE = tuple(map(_of, range(256)))


def crc16(data: bytes | bytearray, initial: int) -> int:
    """The CRC over `data` (Modbus and KELLER begin with FFFF, SDI-12 with 0)."""
    crc = initial
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc
