"""How a gateway gets its identity: the join file that central makes and a technician carries, and the renewal over MQTT.

An identity is one PEM text with an EC P-256 private key and its certificate (RFC 5280), whose CN is the gateway's id.

The join file is JSON. What is secret in it is sealed with AES-256-GCM (NIST SP 800-38D) by a key that scrypt (RFC 7914) makes
from a passphrase; the rest is authenticated with it. `check` is a SHA-256 over all: a damaged copy is told from a wrong passphrase.
"""

import base64
import hashlib
import json
import secrets
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wire.alarm import describe
from wire.errors import WireError
from wire.ids import Id

CERTIFICATE_REQUEST = "identity/request"
CERTIFICATE = "identity/certificate"
"""Leaves of the topics of a renewal: the gateway asks, central answers."""

MAX_JOIN_BYTES = 256 * 1024
_FORMAT = "maillages-join-1"
_ALPHABET = "bcdefghjknprstuvx"
"""Letters that lie in the same place on AZERTY, QWERTY and QWERTZ and that nobody takes for another: 4.09 bits each."""
_LETTERS = 16
_SCRYPT = (2**15, 8, 1)
"""N, r, p: 32 MiB and some tenths of a second on a Raspberry Pi."""


class CertificateRequest(BaseModel):
    """`identity/request`: a gateway asks for a new certificate over the key of `csr` (PKCS #10, PEM; RFC 2986)."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=64)
    csr: str = Field(max_length=4096)


class CertificateAnswer(BaseModel):
    """`identity/certificate`: the certificate (PEM), or why there is none. It is believed by what it is, signed by the CA over
    the gateway's own new key, so nothing else signs it."""

    model_config = ConfigDict(frozen=True)

    id: str | None
    certificate: str | None = Field(default=None, max_length=8192)
    error: str | None = None


class BrokerAddress(BaseModel):
    model_config = ConfigDict(frozen=True)

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(ge=1, le=65535)


class Join(BaseModel):
    """What a join file holds. Times are RFC 3339. `identity` and `ca` are PEM; `central_key` signs commands; `configuration` is
    TOML, what edge.toml shall have beside gateway and broker."""

    model_config = ConfigDict(frozen=True)

    gateway: Id
    commune: str = Field(pattern=r"^\d{5}$")
    made: str
    expires: str
    identity: str = Field(repr=False)
    ca: str
    brokers: tuple[BrokerAddress, ...] = Field(min_length=1)
    central_key: str | None
    configuration: str = ""


class WrongPassphrase(WireError):
    """The passphrase is not the one that the join file was sealed with."""


def new_passphrase() -> str:
    """Four groups of four letters, 65 bits."""
    letters = [secrets.choice(_ALPHABET) for _ in range(_LETTERS)]
    return " ".join("".join(letters[i : i + 4]) for i in range(0, _LETTERS, 4))


def seal(join: Join, passphrase: str) -> str:
    """The text of a join file."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    head = {
        "format": _FORMAT,
        "gateway": join.gateway,
        "made": join.made,
        "expires": join.expires,
        "scrypt": list(_SCRYPT),
        "salt": _text(salt),
        "nonce": _text(nonce),
    }
    key = _key(passphrase, salt, _SCRYPT)
    sealed = {"sealed": _text(AESGCM(key).encrypt(nonce, join.model_dump_json().encode(), _bytes(head)))}
    return json.dumps(head | sealed | {"check": _check(head | sealed)}, indent=1) + "\n"


def unseal(text: str, passphrase: str) -> Join:
    """What a join file holds. Raises WireError when it is none or damaged, WrongPassphrase when only the passphrase is wrong."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = look(text)
    sealed, check = head.pop("sealed"), head.pop("check")
    if check != _check(head | {"sealed": sealed}):
        raise WireError("the join file is damaged: its checksum does not fit")
    try:
        salt, nonce, secret = (base64.b64decode(part, validate=True) for part in (head["salt"], head["nonce"], sealed))
        n, r, p = (int(number) for number in head["scrypt"])
        if n * r * p > 2**20:
            raise ValueError(f"scrypt {n}, {r}, {p} takes more than a gateway has")
        key = _key(passphrase, salt, (n, r, p))
        return Join.model_validate_json(AESGCM(key).decrypt(nonce, secret, _bytes(head)))
    except InvalidTag:
        raise WrongPassphrase("the passphrase is not that of this join file") from None
    except ValidationError as e:
        raise WireError(f"the join file is of another version: {describe(e)}") from None
    except (KeyError, TypeError, ValueError) as e:
        raise WireError(f"the join file cannot be read: {e}") from None


def look(text: str) -> dict[str, Any]:
    """The open part of a join file, without its passphrase: not to be believed yet. Raises WireError when it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        raise WireError("this is no join file: expected JSON") from None
    if not isinstance(found, dict) or not str(found.get("format")).startswith("maillages-join-"):
        raise WireError("this is no join file: expected one that `maillages-central enrol` made")
    if found["format"] != _FORMAT:
        raise WireError(f"join file of format {found['format']!r}, this program knows {_FORMAT!r}")
    missing = {"gateway", "made", "expires", "scrypt", "salt", "nonce", "sealed", "check"} - found.keys()
    if missing:
        raise WireError(f"the join file is damaged: {', '.join(sorted(missing))} is missing")
    return found


def _key(passphrase: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    n, r, p = cost
    letters = "".join(character for character in passphrase.lower() if character.isalpha())
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(letters.encode())


def _bytes(head: dict[str, Any]) -> bytes:
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _check(document: dict[str, Any]) -> str:
    return hashlib.sha256(_bytes(document)).hexdigest()[:16]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
