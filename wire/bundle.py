"""The signature of a bundle, which `sh` and `maillages-edge upgrade` install: the last 152 bytes of the file.

    MAILLAGES-ED25519 <public key, base64> <signature of all bytes before this line, base64>\\n

Ed25519 (RFC 8032). systemd/install.sh checks the same with openssl.
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

TRAILER = 152
_WORD = b"MAILLAGES-ED25519"


class BundleRefused(Exception):
    """A bundle that must not be installed; the text says why."""


def signed(body: bytes, key: Ed25519PrivateKey) -> bytes:
    """The body with its signature behind it."""
    parts = (_WORD, base64.b64encode(key.public_key().public_bytes_raw()), base64.b64encode(key.sign(body)))
    return body + b" ".join(parts) + b"\n"


def check(bundle: bytes, signer: str) -> None:
    """Raises BundleRefused unless the whole is signed by `signer` (public key, base64)."""
    words = bundle[-TRAILER:].split()
    if len(words) != 3 or words[0] != _WORD:
        raise BundleRefused("it carries no signature: it is cut short, or unsigned")
    if words[1].decode("ascii", "replace") != signer:
        raise BundleRefused(f"it is signed by {words[1].decode('ascii', 'replace')}, this gateway knows {signer}")
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer, validate=True))
        public.verify(base64.b64decode(words[2], validate=True), bundle[:-TRAILER])
    except (InvalidSignature, binascii.Error, ValueError):
        raise BundleRefused("it is not what was signed: damaged, or changed") from None
