"""Central's own certification authority: the identities of gateways, broker and central (X.509, RFC 5280).

Its directory holds `ca.pem`, `ca.key` (PKCS #8, encrypted by a passphrase, mode 0600) and `crl.pem`. Keys are EC P-256, signatures
ECDSA with SHA-256: what a Raspberry Pi does in a millisecond. Validity begins a day early, for clocks that are behind.
"""

import getpass
import ipaddress
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from central.config import Enrolment
from central.errors import ConfigError, Refused
from common.clock import Clock

CA_DAYS = 20 * 365
SERVER_DAYS = 5 * 365
"""Of broker and central: they are renewed by `maillages-central broker`, which a person runs."""
GATEWAY_DAYS = 365
"""Of gateways, which renew by themselves."""


class Issued(NamedTuple):
    """A certificate (PEM), its serial in hexadecimal, its end (Unix seconds)."""

    pem: str
    serial: str
    not_after_s: float


class Authority:
    """The CA in `directory`, opened by its passphrase. `create` makes one, `load` opens one."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._directory = directory
        self._key = key
        self._certificate = certificate

    @classmethod
    def create(cls, directory: Path, passphrase: str, clock: Clock) -> "Authority":
        """Make a CA. Raises ConfigError when there is one already, or when the directory cannot be written."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Maillages CA {secrets.token_hex(4)}")])
        now = _now(clock)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase.encode()),
        )
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_new(directory / "ca.key", encrypted)
        except FileExistsError:
            raise ConfigError(
                f"{directory}: holds a CA already; every gateway knows it, so it is not replaced"
            ) from None
        except OSError as e:
            raise ConfigError(f"enrolment.ca_dir: {directory}: cannot be written: {e.strerror}") from e
        (directory / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made = cls(directory, key, certificate)
        made.write_crl([], clock)
        return made

    @classmethod
    def load(cls, directory: Path, passphrase: str) -> "Authority":
        """Raises ConfigError naming the file and what is wrong with it."""
        try:
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), passphrase.encode())
            certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
        except FileNotFoundError as e:
            raise ConfigError(f"{e.filename}: no such file; `maillages-central broker DIR` makes the CA") from e
        except OSError as e:
            raise ConfigError(f"enrolment.ca_dir: {e.filename}: cannot be read: {e.strerror}") from e
        except (ValueError, TypeError) as e:
            raise ConfigError(
                f"{directory / 'ca.key'}: cannot be opened: the passphrase is wrong, or the file damaged ({e})"
            ) from e
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(f"{directory}: ca.key and ca.pem do not belong together")
        return cls(directory, key, certificate)

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def gateway(self, gateway: str, key: ec.EllipticCurvePublicKey, clock: Clock) -> Issued:
        """A certificate whose CN is the gateway's id, for `GATEWAY_DAYS`."""
        return self._issue(gateway, key, GATEWAY_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH, (), clock)

    def client(self, name: str, key: ec.EllipticCurvePublicKey, clock: Clock) -> Issued:
        """A certificate for central itself."""
        return self._issue(name, key, SERVER_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH, (), clock)

    def server(self, hosts: Sequence[str], key: ec.EllipticCurvePublicKey, clock: Clock) -> Issued:
        """A certificate for a broker that is reached by these names and addresses."""
        return self._issue(hosts[0], key, SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, hosts, clock)

    def write_crl(self, revoked: Iterable[tuple[str, float]], clock: Clock) -> Path:
        """Write `crl.pem` anew: serial (hexadecimal) and time (Unix seconds) of what counts no more.

        It says to be valid as long as the CA: past that date OpenSSL would refuse every client.
        """
        now = _now(clock)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - timedelta(days=1))
            .next_update(self._certificate.not_valid_after_utc)
        )
        for serial, at_s in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(serial, 16))
                .revocation_date(datetime.fromtimestamp(int(at_s), UTC))
                .build()
            )
        path = self._directory / "crl.pem"
        new = path.with_suffix(".new")
        new.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        new.replace(path)
        return path

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        days: int,
        usage: x509.ObjectIdentifier,
        hosts: Sequence[str],
        clock: Clock,
    ) -> Issued:
        now = _now(clock)
        end = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        pem = made.public_bytes(serialization.Encoding.PEM).decode()
        return Issued(pem, f"{made.serial_number:x}", end.timestamp())


def request_key(gateway: str, csr: str) -> ec.EllipticCurvePublicKey:
    """The public key of a gateway's request (PKCS #10, PEM). Raises Refused when it is not its own, or of another kind."""
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        names = [str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as e:
        raise Refused(f"the request cannot be read: {e}") from None
    if names != [gateway]:
        raise Refused(f"the request names {', '.join(names) or 'nobody'}, expected {gateway}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused("the request has another key than EC P-256")
    if not valid:
        raise Refused("the request is not signed by its own key")
    return key


def new_key() -> tuple[ec.EllipticCurvePublicKey, str]:
    """A new key: its public half, and the private one as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.public_key(), pem.decode()


def passphrase(settings: Enrolment) -> str:
    """The CA's passphrase, from `passphrase_file` or asked on the terminal. Raises ConfigError."""
    path = settings.passphrase_file
    if path is None:
        if not sys.stdin.isatty():
            raise ConfigError("the CA's passphrase: expected enrolment.passphrase_file, or a terminal")
        return getpass.getpass("Passphrase of the CA: ")
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigError(f"enrolment.passphrase_file: {path} can be read by everybody; chmod 600 it")
        text = path.read_text(encoding="utf-8").strip()
    except OSError as e:
        raise ConfigError(f"enrolment.passphrase_file: {path}: cannot be read: {e.strerror}") from e
    if not text:
        raise ConfigError(f"enrolment.passphrase_file: {path} is empty")
    return text


def write_new(path: Path, data: bytes) -> None:
    """A new file for its owner alone. Raises OSError, FileExistsError among them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def ends_s(pem: str) -> float:
    """When a certificate (PEM) ends, in Unix seconds. Raises ValueError."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()


def hosts_of(pem: str) -> list[str]:
    """The names and addresses that a certificate (PEM) is for. Raises ValueError."""
    try:
        names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names.value]


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(int(clock.wall()), UTC)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
