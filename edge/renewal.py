"""The gateway's certificate is renewed before it ends, by itself: a new key here, a request to central by MQTT, a trial.

A renewed identity waits beside the one in use. It is used for one connection; when the broker has taken a message over that, it
takes the other's place, in one rename. A connection that fails is tried with the old one; if that succeeds, the renewed one is
thrown away and asked for again later. So a gateway always holds an identity that has worked.
"""

import logging
from collections.abc import Mapping

from common.clock import Clock
from edge import config, identity
from edge.errors import ConfigError
from edge.identity import Certificate
from wire.errors import WireError
from wire.identity import CertificateAnswer, CertificateRequest
from wire.ids import uuid7
from wire.station import parse_as

log = logging.getLogger(__name__)

AGAIN_S = 3600.0
"""An answer that does not come, or is no, is asked for again after so long."""
DAY_S = 86400


class Renewal:
    """For the uplink, in its thread; `health` in any. `tls` names one PEM file for key and certificate, which is replaced."""

    def __init__(self, gateway: str, tls: config.Tls, clock: Clock) -> None:
        self._gateway = gateway
        self._tls = tls
        self._clock = clock
        self._next = identity.next_file(tls.cert)
        self._certificate: Certificate | None = None
        self._failed = False
        """The renewed identity has just failed: the other is tried."""
        self._asked_s: float | None = None
        self._waiting: tuple[str, bytes] | None = None
        """Id of the request under way, and the PEM of its key: only in memory, a restart asks anew."""

    @property
    def pending(self) -> bool:
        """Whether a renewed identity waits to be tried."""
        return not self._failed and self._next.exists()

    def files(self, *, renewed: bool) -> config.Tls:
        """What a connection uses."""
        return self._tls.model_copy(update={"cert": self._next, "key": self._next}) if renewed else self._tls

    def request(self) -> bytes | None:
        """What to publish on `identity/request` now, if it is time to."""
        now = self._clock.boot()
        if self._next.exists() or (self._asked_s is not None and now < self._asked_s + AGAIN_S):
            return None
        own = self._own()
        if own is None or not self._clock.synchronised() or self._clock.wall() < own.renew_s:
            return None
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self._gateway)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._asked_s, self._waiting = now, (uuid7(self._clock.wall()), secret)
        log.info("the certificate ends on %s: a new one is asked for", identity.day(own.ends_s))
        request = CertificateRequest(id=self._waiting[0], csr=csr.public_bytes(pem).decode())
        return request.model_dump_json().encode()

    def answer(self, payload: bytes) -> None:
        """Central answered: a certificate that is good for our new key waits to be tried. Raises WireError for anything else,
        also when the disk does not take it."""
        answer = parse_as(CertificateAnswer, payload)
        if self._waiting is None or answer.id != self._waiting[0]:
            raise WireError("a certificate that was not asked for")
        secret = self._waiting[1]
        self._waiting = None
        if answer.certificate is None:
            raise WireError(f"central gives no new certificate: {answer.error}")
        self._verify(answer.certificate.encode(), secret)
        try:
            identity.write_secret(self._next, secret + answer.certificate.encode())
        except OSError as e:
            raise WireError(f"the new certificate cannot be kept: {self._next}: {e.strerror}") from e
        self._failed = False

    def taken(self) -> None:
        """The broker has taken a message under the renewed identity: it is the identity from now on. Raises OSError."""
        self._next.replace(self._tls.cert)
        identity.sync_directory(self._tls.cert.parent)
        self._certificate = self._asked_s = None
        own = self._own()
        if own is not None:
            log.info("the new certificate is in use, until %s", identity.day(own.ends_s))

    def failed(self) -> None:
        """A connection under the renewed identity failed: the next one is made under the other."""
        self._failed = True

    def other_works(self) -> None:
        """The broker has taken a message under the identity in use. Right after the renewed one failed, that one is no good."""
        if self._failed:
            log.warning(
                "the new certificate is refused where the old one is not: it is thrown away, and asked for again"
            )
            self._next.unlink(missing_ok=True)
            self._failed = False
            self._asked_s = self._clock.boot()

    def other_fails(self) -> None:
        """A connection under the identity in use failed: it says nothing against the renewed one, which has its turn again."""
        self._failed = False

    def health(self) -> Mapping[str, float]:
        """Days until the certificate in use ends; nothing while the clock says nothing."""
        own = self._own()
        if own is None or not self._clock.synchronised():
            return {}
        return {"certificate_days": round((own.ends_s - self._clock.wall()) / DAY_S, 2)}

    def _own(self) -> Certificate | None:
        if self._certificate is None:
            try:
                self._certificate = identity.certificate(self._tls.cert)
            except ConfigError:
                return None  # the connection says it
        return self._certificate

    def _verify(self, certificate: bytes, secret: bytes) -> None:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization

        try:
            found = x509.load_pem_x509_certificate(certificate)
            found.verify_directly_issued_by(x509.load_pem_x509_certificate(self._tls.ca.read_bytes()))
            key = serialization.load_pem_private_key(secret, None)
        except (ValueError, TypeError, InvalidSignature) as e:
            raise WireError(f"the new certificate is not of our CA: {e}") from e
        whose = identity.parse(certificate).gateway
        if found.public_key() != key.public_key() or whose != self._gateway:
            raise WireError(f"the new certificate is for {whose or 'nobody'} or another key")
