"""Identities: the CA, who is enrolled, and what central signs for whom."""

import getpass
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from central.authority import Authority, Issued, ends_s, hosts_of, passphrase
from central.broker import Rights, write
from central.config import CentralConfig, Enrolment
from central.db import Database
from central.enrolment import Registrar, Renewals
from central.errors import ConfigError, NeedsPerson, Refused, Unavailable
from central.identities import Identities
from common.clock import Clock
from wire.errors import WireError
from wire.identity import Join, WrongPassphrase, new_passphrase, seal, unseal

NOW = 1_800_000_000.0
DAY = 86400
CLOCK = Clock(walltime=lambda: NOW)


class Plugin:
    """Answers as the dynamic-security plugin does; `down` and `error` are what goes wrong."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []
        self.down = False
        self.error: str | None = None

    def __call__(self, payload: bytes) -> bytes:
        if self.down:
            raise Unavailable("broker:8884: Connection refused")
        asked = json.loads(payload)["commands"]
        self.commands += [(c["command"], c.get("username") or c["rolename"]) for c in asked]
        error = {"error": self.error} if self.error else {}
        return json.dumps({"responses": [{"command": c["command"]} | error for c in asked]}).encode()


class Scene:
    def __init__(self, tmp: Path) -> None:
        self.enrolment = Enrolment(ca_dir=tmp / "ca", brokers=("broker.example.be:8883", "10.0.0.2:8883"))
        self.authority = Authority.create(self.enrolment.ca_dir, "a passphrase of the CA", CLOCK)
        db = Database(tmp / "central.db")
        db.open()
        self.identities = Identities(db)
        self.plugin = Plugin()
        stations = [{"id": "hoyoux-huy", "gateway": "gw-1", "commune": "61031", "name": 'Huy, "pont"'}]
        self.settings = CentralConfig.model_validate(
            {"data_dir": str(tmp), "mqtt": {"host": "x", "port": 8884}, "station": stations}
        )
        self.registrar = Registrar(
            self.settings, self.enrolment, self.authority, self.identities, Rights(self.plugin), CLOCK, "central's key"
        )
        self.answers: list[dict[str, str | None]] = []
        self.renewals = Renewals(self.authority, self.identities, lambda: self, CLOCK)

    def broker(self, folder: Path, plugin: Path, *gateways: str, clock: Clock = CLOCK) -> None:
        user = getpass.getuser()
        write(folder, self.settings, self.enrolment, self.authority, gateways, clock, plugin=plugin, user=user)

    def publish(self, topic: str, payload: bytes, **_: object) -> bool:
        assert topic == "maillages/v1/gw-1/identity/certificate"
        self.answers.append(json.loads(payload))
        return True

    def request(self, name: str = "gw-1", key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        return json.dumps({"id": "r-1", "csr": csr.public_bytes(serialization.Encoding.PEM).decode()}).encode()

    def revoked(self) -> set[str]:
        crl = x509.load_pem_x509_crl((self.enrolment.ca_dir / "crl.pem").read_bytes())
        return {f"{entry.serial_number:x}" for entry in crl}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def certificate(join: Join) -> x509.Certificate:
    return x509.load_pem_x509_certificate(join.identity[join.identity.index("-----BEGIN CERTIFICATE") :].encode())


def test_enrolling_makes_an_identity_that_the_ca_signed_and_the_broker_knows(scene: Scene) -> None:
    join = scene.registrar.enrol("gw-1", "61031", 14)
    made = certificate(join)
    ca = x509.load_pem_x509_certificate(join.ca.encode())
    made.verify_directly_issued_by(ca)
    key = serialization.load_pem_private_key(join.identity.encode(), None)
    assert key.public_key() == made.public_key()
    assert made.subject.rfc4514_string() == "CN=gw-1"
    assert made.not_valid_before_utc.timestamp() == NOW - DAY, "for a clock that is behind"
    assert made.not_valid_after_utc.timestamp() == NOW + 365 * DAY
    assert scene.plugin.commands == [("createRole", "gw-1"), ("createClient", "gw-1")]
    assert [(b.host, b.port) for b in join.brokers] == [("broker.example.be", 8883), ("10.0.0.2", 8883)]
    assert join.central_key == "central's key"
    assert '# name = "Huy, \\"pont\\""' in join.configuration
    assert "PRIVATE" not in repr(join)


@pytest.mark.parametrize(
    ("gateway", "commune", "why"),
    [
        ("GW 1", "61031", "a-z 0-9 -"),
        ("central", "61031", "none of central"),
        ("central-alarms", "61031", "none of central"),
        ("gw-2", "Huy", "NIS code, five digits"),
        ("gw-1", "61072", "registers the stations of gw-1 in 61031"),
    ],
)
def test_what_cannot_be_enrolled_is_named_and_nothing_is_issued(
    scene: Scene, gateway: str, commune: str, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        scene.registrar.enrol(gateway, commune, 14)
    assert not scene.identities.enrolled()
    assert not scene.plugin.commands


def test_nothing_is_issued_when_the_broker_cannot_be_told(scene: Scene) -> None:
    scene.plugin.down = True
    with pytest.raises(Unavailable):
        scene.registrar.enrol("gw-1", "61031", 14)
    scene.plugin.down, scene.plugin.error = False, "No rights"
    with pytest.raises(NeedsPerson, match="No rights"):
        scene.registrar.enrol("gw-1", "61031", 14)
    assert not scene.identities.enrolled()


def test_another_identity_of_the_same_name_revokes_the_first(scene: Scene) -> None:
    first = certificate(scene.registrar.enrol("gw-1", "61031", 14))
    with pytest.raises(Refused, match="--replace"):
        scene.registrar.enrol("gw-1", "61031", 14)
    assert not scene.revoked()
    scene.plugin.error = "Role already exists"  # it is there already: as it should be
    second = certificate(scene.registrar.enrol("gw-1", "61031", 14, replace=True))
    assert scene.revoked() == {f"{first.serial_number:x}"} != {f"{second.serial_number:x}"}
    assert scene.plugin.commands[2:4] == [("deleteClient", "gw-1"), ("deleteRole", "gw-1")], "its connection is cut"
    assert [e.gateway for e in scene.identities.enrolled()] == ["gw-1"]


def test_a_revoked_gateway_is_on_the_list_even_when_the_broker_is_away(scene: Scene) -> None:
    made = certificate(scene.registrar.enrol("gw-1", "61031", 14))
    scene.renewals.requested("gw-1", scene.request())
    scene.plugin.down = True
    done = scene.registrar.revoke("gw-1")
    assert done.certificates == 2, "what it was renewed with too"
    assert done.broker_error is not None
    assert "Connection refused" in done.broker_error
    assert f"{made.serial_number:x}" in scene.revoked()
    scene.plugin.down = False
    assert scene.registrar.revoke("gw-1").broker_error is None, "said again, it reaches the broker"
    with pytest.raises(Refused, match="never enrolled"):
        scene.registrar.revoke("gw-2")


def test_a_gateway_gets_a_certificate_over_its_new_key(scene: Scene) -> None:
    scene.registrar.enrol("gw-1", "61031", 14)
    key = ec.generate_private_key(ec.SECP256R1())
    scene.renewals.requested("gw-1", scene.request(key=key))
    (answer,) = scene.answers
    made = x509.load_pem_x509_certificate(str(answer["certificate"]).encode())
    assert answer["id"] == "r-1"
    assert made.public_key() == key.public_key()
    assert made.subject.rfc4514_string() == "CN=gw-1"


def test_who_may_have_no_certificate_is_told_why(scene: Scene) -> None:
    scene.renewals.requested("gw-1", scene.request())
    scene.registrar.enrol("gw-1", "61031", 14)
    scene.renewals.requested("gw-1", scene.request("gw-2"))
    scene.renewals.requested("gw-1", b'{"id": "r-1", "csr": "x"}')
    scene.renewals.requested("gw-1", scene.request(key=ec.generate_private_key(ec.SECP384R1())))
    for _ in range(5):
        scene.renewals.requested("gw-1", scene.request())
    scene.registrar.revoke("gw-1")
    scene.renewals.requested("gw-1", scene.request())
    expected = [
        "not enrolled",
        "names gw-2, expected gw-1",
        "cannot be read",
        "EC P-256",
        *4 * [""],
        "within a day",
        "revoked",
    ]
    for answer, error in zip(scene.answers, expected, strict=True):
        assert (error in str(answer["error"])) if error else answer["certificate"], answer
    with pytest.raises(WireError, match="csr"):
        scene.renewals.requested("gw-1", b"{}")


def test_the_ca_is_for_its_owner_alone_and_opens_with_its_passphrase_only(scene: Scene, tmp_path: Path) -> None:
    directory = scene.enrolment.ca_dir
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "ca.key").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (directory / "ca.key").read_bytes()
    assert Authority.load(directory, "a passphrase of the CA").pem == scene.authority.pem
    with pytest.raises(ConfigError, match="the passphrase is wrong"):
        Authority.load(directory, "another")
    with pytest.raises(ConfigError, match="holds a CA already"):
        Authority.create(directory, "a passphrase of the CA", CLOCK)
    with pytest.raises(ConfigError, match="maillages-central broker"):
        Authority.load(tmp_path / "nowhere", "x")
    file = tmp_path / "pass"
    file.write_text("secret\n")
    file.chmod(0o644)
    settings = Enrolment(ca_dir=directory, passphrase_file=file, brokers=("x:1",))
    with pytest.raises(ConfigError, match="chmod 600"):
        passphrase(settings)
    file.chmod(0o600)
    assert passphrase(settings) == "secret"


def test_what_has_ended_leaves_the_revocation_list(scene: Scene) -> None:
    scene.identities.add("gw-1", None, Issued("", "aa", NOW + DAY), NOW)
    scene.identities.revoke("gw-1", NOW)
    assert scene.identities.revoked(NOW) == [("aa", NOW)]
    assert scene.identities.revoked(NOW + 3 * DAY) == []


def test_a_join_file_opens_with_its_passphrase_as_a_person_types_it(scene: Scene) -> None:
    join, phrase = scene.registrar.enrol("gw-1", "61031", 14), new_passphrase()
    text = seal(join, phrase)
    assert unseal(text, phrase.upper().replace(" ", "-") + "\n") == join
    assert "PRIVATE" not in text
    for wrong, error in (("bbbb bbbb bbbb bbbb", WrongPassphrase), ("", WrongPassphrase)):
        with pytest.raises(error, match="passphrase"):
            unseal(text, wrong)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda t: t.replace('"sealed": "', '"sealed": "AAAA'), "damaged: its checksum"),
        (lambda t: t.replace('"expires": "2', '"expires": "3'), "damaged: its checksum"),
        (lambda t: t[: len(t) // 2], "no join file"),
        (lambda _: "[]", "no join file"),
        (lambda t: t.replace("maillages-join-1", "maillages-join-2"), "format 'maillages-join-2'"),
        (lambda t: t.replace('"salt"', '"sult"'), "salt is missing"),
    ],
)
def test_a_damaged_join_file_says_so(scene: Scene, damage: Callable[[str], str], why: str) -> None:
    text = seal(scene.registrar.enrol("gw-1", "61031", 14), "bcde")
    with pytest.raises(WireError, match=why):
        unseal(damage(text), "bcde")


def test_what_a_join_file_shows_is_sealed_with_the_rest(scene: Scene) -> None:
    """A later end, with a checksum that fits: the passphrase opens nothing that was changed."""
    from wire import identity

    document = json.loads(seal(scene.registrar.enrol("gw-1", "61031", 14), "bcde"))
    document["expires"] = "2099-01-01T00:00:00.000+00:00"
    document.pop("check")
    forged = json.dumps(document | {"check": identity._check(document)})
    with pytest.raises(WireError):
        unseal(forged, "bcde")


def test_the_broker_keeps_what_is_still_good(scene: Scene, tmp_path: Path) -> None:
    plugin, folder = tmp_path / "plugin.so", tmp_path / "broker"
    with pytest.raises(ConfigError, match=r"--plugin: .*no such file"):
        scene.broker(folder, plugin)
    plugin.touch()
    scene.broker(folder, plugin, "gw-1")
    rights = (folder / "dynamic-security.json").read_text()
    assert [c["username"] for c in json.loads(rights)["clients"]] == ["central", "gw-1"]
    assert "password" not in rights
    (folder / "dynamic-security.json").write_text("changed by the broker")
    first = (folder / "broker.pem").read_bytes()
    scene.broker(folder, plugin)
    assert (folder / "broker.pem").read_bytes() == first
    assert (folder / "dynamic-security.json").read_text() == "changed by the broker"
    scene.enrolment = scene.enrolment.model_copy(update={"brokers": ("mqtt.example.be:8883",)})
    scene.broker(folder, plugin)
    second = (folder / "broker.pem").read_bytes()
    assert hosts_of(second.decode()) == ["mqtt.example.be", "x", "localhost"]
    scene.broker(folder, plugin, clock=Clock(walltime=lambda: NOW + 3 * 365 * DAY))
    assert ends_s((folder / "broker.pem").read_text()) == NOW + 8 * 365 * DAY
    text = (folder / "mosquitto.conf").read_text()
    for line in (
        "require_certificate true",
        "use_identity_as_username true",
        "max_queued_messages 100000",
        "log_dest stderr",
    ):
        assert line in text
    assert text.count("\nlistener ") == 2
