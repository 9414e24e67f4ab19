"""Renewal of the gateway's certificate: when it is asked for, what is taken for an answer, and which identity is left after any end."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.clock import Clock
from edge import config, identity
from edge.renewal import AGAIN_S, Renewal
from wire.errors import WireError

NOW = datetime(2026, 11, 25, tzinfo=UTC)
PEM = serialization.Encoding.PEM


class Ca:
    """A certification authority of the test's own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self.issue("CA", self.key.public_key(), 0, 4000)

    def issue(self, name: str, key: ec.EllipticCurvePublicKey, begins: float, ends: float) -> bytes:
        """From and to in days from now."""
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=begins))
            .not_valid_after(NOW + timedelta(days=ends))
            .sign(self.key, hashes.SHA256())
        )
        return made.public_bytes(PEM)

    def identity(self, begins: float, ends: float, name: str = "gw-1") -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return secret + self.issue(name, key.public_key(), begins, ends)


CA = Ca()


class Scene:
    def __init__(self, tmp: Path, begins: float = -300, ends: float = 65) -> None:
        self.boot, self.synchronised = 1000.0, True
        clock = Clock(
            boottime=lambda: self.boot, walltime=lambda: NOW.timestamp(), synchronised=lambda: self.synchronised
        )
        self.own, self.next = tmp / "gateway.pem", tmp / "gateway.next.pem"
        (tmp / "ca.pem").write_bytes(CA.pem)
        self.old = CA.identity(begins, ends)
        self.own.write_bytes(self.old)
        self.next.unlink(missing_ok=True)
        self.renewal = Renewal("gw-1", config.Tls(ca=tmp / "ca.pem", cert=self.own, key=self.own), clock)

    def answer(self, ca: Ca = CA, name: str = "gw-1", **changes: object) -> bytes:
        """Central's answer to the request that is due now."""
        request = self.renewal.request()
        assert request is not None
        asked = json.loads(request)
        key = x509.load_pem_x509_csr(asked["csr"].encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return json.dumps({"id": asked["id"], "certificate": ca.issue(name, key, -1, 365).decode()} | changes).encode()


@pytest.mark.parametrize(
    ("begins", "ends", "due"), [(-1, 364, False), (-200, 165, False), (-244, 121, True), (-400, -1, True)]
)
def test_it_is_asked_for_when_a_third_is_left(tmp_path: Path, begins: float, ends: float, due: bool) -> None:
    scene = Scene(tmp_path, begins, ends)
    assert scene.renewal.health() == {"certificate_days": ends}
    assert (scene.renewal.request() is not None) == due


def test_it_is_asked_again_after_an_hour_and_never_by_a_clock_that_nobody_set(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.synchronised = False
    assert scene.renewal.request() is None
    assert scene.renewal.health() == {}
    scene.synchronised = True
    first = scene.renewal.request()
    assert first is not None
    assert scene.renewal.request() is None
    scene.boot += AGAIN_S
    second = scene.renewal.request()
    assert second is not None
    assert json.loads(first)["csr"] != json.loads(second)["csr"], "a new key each time"


def test_what_is_no_answer_changes_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for why, answer in (
        ("not of our CA", lambda: scene.answer(Ca())),
        ("for gw-2", lambda: scene.answer(name="gw-2")),
        ("not of our CA", lambda: scene.answer(certificate="x")),
        ("revoked", lambda: scene.answer(certificate=None, error="gw-1 is revoked")),
        ("not asked for", lambda: scene.answer(id="another")),
        ("another key", lambda: scene.answer(certificate=CA.identity(-1, 365).partition(b"-----END PRIVATE KEY-----\n")[2].decode())),
        ("id", lambda: b"{}"),
    ):  # fmt: skip
        with pytest.raises(WireError, match=why):
            scene.renewal.answer(answer())
        scene.boot += AGAIN_S
        assert not scene.next.exists()
        assert not scene.renewal.pending
    assert scene.own.read_bytes() == scene.old


def test_the_new_one_takes_the_place_of_the_old_when_it_has_worked(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.renewal.answer(scene.answer())
    assert scene.renewal.pending
    assert scene.own.read_bytes() == scene.old
    assert scene.next.stat().st_mode & 0o777 == 0o600
    assert scene.renewal.files(renewed=True).cert == scene.next
    scene.renewal.taken()
    assert not scene.next.exists()
    assert identity.certificate(scene.own).ends_s == (NOW + timedelta(days=365)).timestamp()
    assert scene.renewal.health() == {"certificate_days": 365.0}
    assert scene.renewal.request() is None


def test_one_that_is_refused_is_thrown_away_when_the_old_one_works(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.renewal.answer(scene.answer())
    scene.renewal.failed()
    assert not scene.renewal.pending, "the old one is tried"
    scene.renewal.other_fails()
    assert scene.renewal.pending, "it was the link: the new one has its turn again"
    scene.renewal.failed()
    scene.renewal.other_works()
    assert not scene.next.exists()
    assert scene.own.read_bytes() == scene.old
    assert scene.renewal.request() is None
    scene.boot += AGAIN_S
    assert scene.renewal.request() is not None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["ask", "connect new", "connect old", "link down", "restart"]), max_size=12), st.booleans()
)
def test_whatever_happens_there_is_an_identity_that_the_broker_takes(
    tmp_path: Path, steps: list[str], good: bool
) -> None:
    """`good`: whether the broker will take what central signs. The old one it takes."""
    scene = Scene(tmp_path)
    for step in steps:
        renewal, renewed = scene.renewal, scene.renewal.pending
        if step == "ask" and not scene.next.exists():
            scene.boot += AGAIN_S
            if renewal.request() is not None:
                scene.boot += AGAIN_S
                renewal.answer(scene.answer())
        elif step == "restart":
            scene.renewal = Renewal("gw-1", renewal.files(renewed=False), scene.renewal._clock)
        elif step == "link down":
            (renewal.failed if renewed else renewal.other_fails)()
        elif step.startswith("connect"):
            if not renewed:
                renewal.other_works()
            elif good:
                renewal.taken()
            else:
                renewal.failed()
        ends = identity.certificate(scene.own).ends_s
        if not good:
            assert scene.own.read_bytes() == scene.old
        assert ends >= (NOW + timedelta(days=65)).timestamp()
