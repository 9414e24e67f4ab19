"""Gateways come and go: enrol, revoke, and the renewal of certificates that a gateway asks for by MQTT."""

import logging
import sqlite3
import tomllib
from collections.abc import Callable
from typing import NamedTuple

from central.authority import Authority, new_key, request_key
from central.broker import RESERVED, Rights
from central.config import CentralConfig, Enrolment
from central.errors import NeedsPerson, Refused, Unavailable
from central.identities import Identities
from central.mqtt import Publisher
from common.clock import Clock, rfc3339
from wire import topics
from wire.identity import CERTIFICATE, BrokerAddress, CertificateAnswer, CertificateRequest, Join
from wire.ids import is_id
from wire.station import parse_as

log = logging.getLogger(__name__)

DAY_S = 86400
RENEWALS_A_DAY = 5


class Revoked(NamedTuple):
    """What a revocation did: how many certificates count no more, and why the broker does not know it yet (None: it does)."""

    certificates: int
    broker_error: str | None


class Registrar:
    """Makes and ends identities, for the command line. `central_key`: the public key of the commands (base64), if there is one."""

    def __init__(
        self,
        settings: CentralConfig,
        enrolment: Enrolment,
        authority: Authority,
        identities: Identities,
        rights: Rights,
        clock: Clock,
        central_key: str | None,
    ) -> None:
        self._settings = settings
        self._enrolment = enrolment
        self._authority = authority
        self._identities = identities
        self._rights = rights
        self._clock = clock
        self._central_key = central_key

    def enrol(
        self, gateway: str, commune: str, days: float, *, replace: bool = False, configuration: str | None = None
    ) -> Join:
        """A new identity, known to the broker, with `days` to join. `configuration`: TOML for its edge.toml.

        Raises Refused, or Unavailable and NeedsPerson when the broker does not take it: then nothing was issued.
        """
        self._check(gateway, commune, replace=replace)
        text = self._stations(gateway) if configuration is None else _checked(configuration)
        now = self._clock.wall()
        try:
            if replace:
                self._rights.expel(gateway)
            self._rights.admit(gateway)
        except (Unavailable, NeedsPerson) as e:
            raise type(e)(f"{e}; nothing was issued, since it could not connect") from e
        public, key = new_key()
        issued = self._authority.gateway(gateway, public, self._clock)
        if replace:
            self._identities.revoke(gateway, now)
        self._identities.add(gateway, commune, issued, now)
        if replace:
            self._authority.write_crl(self._identities.revoked(now), self._clock)
        return Join(
            gateway=gateway,
            commune=commune,
            made=rfc3339(now),
            expires=rfc3339(now + days * DAY_S),
            identity=key + issued.pem,
            ca=self._authority.pem,
            brokers=tuple(BrokerAddress(host=host, port=port) for host, port in self._enrolment.addresses),
            central_key=self._central_key,
            configuration=text,
        )

    def revoke(self, gateway: str) -> Revoked:
        """End an identity: here, on the revocation list, and at the broker, which cuts the connection. Raises Refused."""
        if not self._identities.known(gateway):
            names = ", ".join(e.gateway for e in self._identities.enrolled()) or "none"
            raise Refused(f"{gateway} was never enrolled; expected one of: {names}")
        now = self._clock.wall()
        count = self._identities.revoke(gateway, now)
        self._authority.write_crl(self._identities.revoked(now), self._clock)
        try:
            self._rights.expel(gateway)
        except (Unavailable, NeedsPerson) as e:
            return Revoked(count, str(e))
        return Revoked(count, None)

    def remarks(self, gateway: str) -> list[str]:
        """What is still missing for a gateway to be of use."""
        found = []
        if not any(s.gateway == gateway for s in self._settings.station):
            found.append(f"no [[station]] of central.toml is of {gateway}: its readings will wait in the quarantine")
        if self._central_key is None:
            found.append(
                "central.toml has no [commands] key: the gateway takes no acknowledgement from central (keygen)"
            )
        if self._enrolment.passphrase_file is None:
            found.append(
                "without enrolment.passphrase_file the service renews no certificate: this gateway's ends in a year"
            )
        return found

    def _check(self, gateway: str, commune: str, *, replace: bool) -> None:
        if not is_id(gateway) or gateway in RESERVED:
            raise Refused(
                f"gateway {gateway!r}: expected 1 to 63 of a-z 0-9 -, not beginning with -, none of {', '.join(sorted(RESERVED))}"
            )
        if len(commune) != 5 or not commune.isdecimal():
            raise Refused(f"--commune {commune!r}: expected the NIS code, five digits, as 61031 for Huy")
        registered = {s.commune for s in self._settings.station if s.gateway == gateway}
        if registered and commune not in registered:
            raise Refused(
                f"--commune {commune}: central.toml registers the stations of {gateway} in {', '.join(sorted(registered))}"
            )
        if self._identities.find(gateway) is not None and not replace:
            raise Refused(
                f"{gateway} is enrolled already; with --replace its present identity is revoked and a new one made,"
                " for another Raspberry Pi or a lost join file"
            )

    def _stations(self, gateway: str) -> str:
        """The stations that central registers to it, as they may begin in edge.toml, commented out: sensors are set up on site."""
        lines = []
        for s in self._settings.station:
            if s.gateway == gateway:
                lines += [
                    "# [[station]]                             # as central registers it; complete it with its sensors",
                    f'# id = "{s.id}"',
                    f"# name = {_quoted(s.name)}",
                    f'# commune = "{s.commune}"',
                    "# lat = 50.5",
                    "# lon = 5.2",
                    *([f"# river = {_quoted(s.river)}"] if s.river else []),
                    "",
                ]
        return "\n".join(lines)


class Renewals:
    """Answers gateways that ask for a new certificate; `broker` gives the session that answers."""

    def __init__(
        self, authority: Authority, identities: Identities, broker: Callable[[], Publisher], clock: Clock
    ) -> None:
        self._authority = authority
        self._identities = identities
        self._broker = broker
        self._clock = clock

    def requested(self, gateway: str, payload: bytes) -> None:
        """Sign and answer, or say why not. Raises WireError when it is no request."""
        request = parse_as(CertificateRequest, payload)
        try:
            answer = CertificateAnswer(id=request.id, certificate=self._sign(gateway, request.csr))
            log.info("gateway %s has a new certificate", gateway)
        except Refused as e:
            log.warning("gateway %s gets no new certificate: %s", gateway, e)
            answer = CertificateAnswer(id=request.id, error=str(e))
        self._broker().publish(topics.topic(gateway, CERTIFICATE), answer.model_dump_json().encode())

    def _sign(self, gateway: str, csr: str) -> str:
        now = self._clock.wall()
        key = request_key(gateway, csr)
        known = self._identities.find(gateway)
        if known is None:
            raise Refused(f"{gateway} is not enrolled, or revoked")
        if self._identities.issued_since(gateway, now - DAY_S) >= RENEWALS_A_DAY:
            raise Refused(f"{gateway} has had {RENEWALS_A_DAY} certificates within a day")
        issued = self._authority.gateway(gateway, key, self._clock)
        try:
            self._identities.add(gateway, known.commune, issued, now)
        except sqlite3.Error as e:  # what is not written down could not be revoked
            raise Refused(f"central cannot record it: {e}") from e
        return issued.pem


def _checked(text: str) -> str:
    """Raises Refused when it is no TOML, or names what the join file gives."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise Refused(f"--config-for-edge: not TOML: {e}") from None
    if taken := {"gateway", "mqtt"} & found.keys():
        raise Refused(f"--config-for-edge: found [{'], ['.join(sorted(taken))}], which the join file writes itself")
    return text


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
