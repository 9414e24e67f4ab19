"""MicroPython's `cryptolib`: AES in ECB mode, encryption only."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class aes:  # noqa: N801
    def __init__(self, key, mode):
        assert mode == 1
        self._encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305

    def encrypt(self, block):
        return self._encryptor.update(block)
