"""Why there is no link to a broker, in words for the person on site: the steps of a connection, one after the other.

The TLS alert by which a broker refuses a certificate comes after the handshake (TLS 1.3, RFC 8446 4.4.2.4), so it is waited for.
"""

import errno
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass

from common.clock import Clock
from edge import config, identity
from edge.errors import ConfigError, EdgeError

TIMEOUT_S = 10.0
ALERT_S = 1.0
"""So long a broker has, after the handshake, to refuse our certificate."""
_CLOCK = "set this machine's clock: `timedatectl` shows it; with a network it comes by itself, else `sudo date -s '2026-11-25 14:30'`"
_AGAIN = "the administrator makes a new join file (maillages-central enrol {gateway} --replace …)"
# openssl/x509_vfy.h: X509_V_ERR_…, X509_V_FLAG_NO_CHECK_TIME
_NOT_YET_VALID, _HAS_EXPIRED, _HOSTNAME, _ADDRESS = 9, 10, 62, 64
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)


@dataclass(eq=False)
class LinkFault(EdgeError):
    """What is wrong, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def tls_context(tls: config.Tls, clock: Clock) -> ssl.SSLContext:
    """The gateway's side of TLS, read from its files. Until the clock is synchronised the chain is checked and the dates are not:
    a Raspberry Pi begins in 1970. Raises ConfigError naming the file that cannot be used."""
    for key, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        try:
            path.read_bytes()  # OpenSSL's own errors do not say which file
        except OSError as e:
            raise ConfigError(f"mqtt.tls.{key}: {path} cannot be read: {e.strerror}") from e
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
    except (OSError, ValueError) as e:
        raise ConfigError(f"mqtt.tls.ca: {tls.ca}: {e}, expected PEM certificates") from e
    if not clock.synchronised():
        context.verify_flags |= _NO_CHECK_TIME
    try:
        # With no password at all, OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (OSError, ValueError) as e:
        raise ConfigError(
            f"mqtt.tls.cert, mqtt.tls.key: {tls.cert} and {tls.key}: {e}, expected a PEM certificate and its bare key"
        ) from e
    return context


def checks_floor(connection: object, tls: config.Tls) -> None:
    """Before the clock is synchronised: a broker's certificate that ended before ours began is an old one. Raises LinkFault."""
    found = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if found and ssl.cert_time_to_seconds(str(found["notAfter"])) < identity.certificate(tls.cert).begins_s:
        raise LinkFault(
            f"the broker's certificate ended on {found['notAfter']}, before ours began", "ask the administrator"
        )


def check(broker: config.Broker, tls: config.Tls | None, clock: Clock) -> str:
    """Name, TCP, TLS and the broker's consent to our certificate; gives the TLS version. Raises LinkFault or ConfigError."""
    where = f"{broker.host}:{broker.port}"
    if tls is not None:
        check_dates(identity.certificate(tls.cert), clock)
    try:
        addresses = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        raise LinkFault(
            f"the name {broker.host} cannot be resolved ({e.strerror})",
            "is there a network? `ip route` must show a default; one bar of 4G is enough, none is not. Is the name right?",
        ) from e
    try:
        plain = socket.create_connection((broker.host, broker.port), timeout=TIMEOUT_S)
    except ConnectionRefusedError as e:
        raise LinkFault(
            f"{where} refuses the connection",
            "the machine is there, the broker is not: is the port right, and does Mosquitto run on it (systemctl status mosquitto)?",
        ) from e
    except TimeoutError as e:
        raise LinkFault(
            f"{where} ({addresses[0][4][0]}) does not answer within {TIMEOUT_S:g} s",
            "a firewall drops it, or the network leads nowhere: try `ping -c 3 1.1.1.1`, then ask for port"
            f" {broker.port} to be opened",
        ) from e
    except OSError as e:
        hint = "no network: `ip route` must show a default" if e.errno in _NO_ROUTE else "see the reason"
        raise LinkFault(f"{where} cannot be reached ({e.strerror or e})", hint) from e
    with plain:
        return "plain" if tls is None else _tls(plain, broker, tls, clock)


def check_dates(own: identity.Certificate, clock: Clock) -> None:
    """Whether our own certificate counts now. A clock that was never set says nothing about its end. Raises LinkFault."""
    now = clock.wall()
    if now < own.begins_s:
        raise LinkFault(
            f"the clock says {identity.day(now)}, and the certificate of {own.gateway} counts from {identity.day(own.begins_s)} on",
            _CLOCK,
        )
    if now > own.ends_s:
        raise LinkFault(
            f"the certificate of {own.gateway} ended on {identity.day(own.ends_s)} (the clock says {identity.day(now)})",
            "if the clock is right, " + _AGAIN.format(gateway=own.gateway),
        )


def _tls(plain: socket.socket, broker: config.Broker, tls: config.Tls, clock: Clock) -> str:
    where = f"{broker.host}:{broker.port}"
    own = identity.certificate(tls.cert)
    try:
        with tls_context(tls, clock).wrap_socket(plain, server_hostname=broker.host) as secured:
            secured.settimeout(ALERT_S)
            with suppress(TimeoutError):  # silence is consent: it waits for our CONNECT
                if not secured.recv(1):
                    raise LinkFault(
                        f"{where} closes the connection",
                        "its log says why (journalctl -u mosquitto), at the same second",
                    )
            return secured.version() or "TLS"
    except ssl.SSLCertVerificationError as e:
        raise _server_fault(e, where, broker.host, clock) from e
    except ssl.SSLError as e:
        raise _alert(e.reason or str(e), where, own) from e
    except TimeoutError as e:
        raise LinkFault(
            f"{where} does not answer in TLS", f"is port {broker.port} really the broker's, with TLS?"
        ) from e
    except OSError as e:
        raise LinkFault(
            f"{where} breaks the TLS handshake off ({e.strerror or e})",
            f"does its log refuse us (journalctl -u mosquitto)? Is port {broker.port} really the broker's?",
        ) from e


def _server_fault(e: ssl.SSLCertVerificationError, where: str, host: str, clock: Clock) -> LinkFault:
    match e.verify_code:
        case code if code == _NOT_YET_VALID:
            return LinkFault(
                f"the certificate of {where} is not valid yet, and the clock says {identity.day(clock.wall())}", _CLOCK
            )
        case code if code == _HAS_EXPIRED:
            return LinkFault(
                f"the certificate of {where} has ended, and the clock says {identity.day(clock.wall())}",
                "if the clock is right, the administrator renews it (maillages-central broker …)",
            )
        case code if code in (_HOSTNAME, _ADDRESS):
            return LinkFault(
                f"the certificate of {where} is not for {host!r}",
                "the administrator names the broker in [enrolment] brokers as gateways reach it, and runs maillages-central broker",
            )
    return LinkFault(
        f"the certificate of {where} is not one of our CA ({e.verify_message})",
        "this is another broker, or somebody in between: go no further; compare host and port with the administrator",
    )


def _alert(reason: str, where: str, own: identity.Certificate) -> LinkFault:
    """A broker's refusal, by the name that OpenSSL gives the alert (RFC 8446 section 6.2)."""
    again = _AGAIN.format(gateway=own.gateway)
    if "CERTIFICATE_REVOKED" in reason:
        return LinkFault(f"{where} refuses {own.gateway}: its certificate is revoked", again)
    if "CERTIFICATE_EXPIRED" in reason:
        return LinkFault(f"{where} refuses {own.gateway}: its certificate ended on {identity.day(own.ends_s)}", again)
    if "UNKNOWN_CA" in reason or "BAD_CERTIFICATE" in reason or "CERTIFICATE_UNKNOWN" in reason:
        return LinkFault(f"{where} refuses {own.gateway}: its certificate is not of the broker's CA", again)
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        return LinkFault(f"{where} does not speak TLS", "is the port right? A broker's port for TLS is mostly 8883")
    return LinkFault(f"{where} breaks the TLS handshake off ({reason})", "its log says why (journalctl -u mosquitto)")


_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
