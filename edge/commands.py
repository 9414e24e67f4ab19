"""Commands from central: signed, short-lived, answered. Without a valid Ed25519 signature nothing is done (RFC 8032).

Message Expiry of at most 60 s and the remembered ids keep an old one from being replayed.
"""

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from wire.command import MAX_EXPIRY_S, SIGNATURE, public_key, signed_bytes
from wire.errors import WireError

_REMEMBERED = 1024


class CommandVerifier:
    """Checks commands against central's public key (32 bytes, base64), or refuses all when there is none."""

    def __init__(self, central_key: str | None) -> None:
        self._key = central_key
        self._seen: OrderedDict[str, None] = OrderedDict()

    def check(self, topic: str, payload: bytes, properties: Mapping[str, str], expiry_s: int | None) -> dict[str, Any]:
        """The command's arguments. Raises WireError saying what is wrong with it."""
        if expiry_s is None or expiry_s > MAX_EXPIRY_S:
            raise WireError(f"message expiry is {expiry_s} s, expected at most {MAX_EXPIRY_S} s")
        self.verify(topic, payload, properties)
        try:
            arguments = json.loads(payload)
        except ValueError as e:
            raise WireError(f"not JSON: {e}") from e
        if not isinstance(arguments, dict) or not isinstance(arguments.get("id"), str):
            raise WireError("expected a JSON object with an id")
        if arguments["id"] in self._seen:
            raise WireError(f"command {arguments['id']} was already given")
        self._seen[arguments["id"]] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return arguments

    def verify(self, topic: str, payload: bytes, properties: Mapping[str, str]) -> None:
        """Raises WireError unless central has signed this payload for this topic."""
        if self._key is None:
            raise WireError("this gateway has no central_key, so it takes no commands")
        # Imported when the first command comes: it costs a Pi several MB, and most days bring none.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(public_key(self._key))
            key.verify(base64.b64decode(properties.get(SIGNATURE, ""), validate=True), signed_bytes(topic, payload))
        except (InvalidSignature, binascii.Error, ValueError) as e:
            raise WireError("the signature is not central's") from e
