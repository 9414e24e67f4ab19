"""Enrolment as people do it: `maillages-central broker`, a real Mosquitto on what it wrote, `enrol`, `join`, `revoke`, and what
another certificate may not do there."""

import getpass
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from central.authority import Authority, new_key
from central.broker import Rights
from central.config import load
from central.db import Database
from central.enrolment import Registrar
from central.identities import Identities
from central.store.embedded import Embedded
from common.clock import Clock
from edge import config, identity, link
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.link import LinkFault
from edge.tools import join as joining
from tests import servers
from tests.chain import Program
from wire.identity import new_passphrase, seal

pytestmark = pytest.mark.system

CENTRAL = """
data_dir = "{tmp}/central"
[clock]
trust = "always"
[mqtt]
host = "localhost"
port = {inner}
[mqtt.tls]
ca = "{tmp}/ca/ca.pem"
cert = "{tmp}/ca/central.pem"
key = "{tmp}/ca/central.key"
[web]
port = {web}
[commands]
key = "{tmp}/commands.pem"
[enrolment]
ca_dir = "{tmp}/ca"
passphrase_file = "{tmp}/ca.passphrase"
brokers = ["localhost:{outer}"]
[[station]]
id = "hoyoux-test"
gateway = "gw-1"
commune = "61031"
name = "Hoyoux, essai"
"""

STATION = """
[clock]
trust = "always"
[[station]]
id = "hoyoux-test"
name = "Hoyoux, essai"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{port}"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
"""

GATEWAY = """
[gateway]
id = "{gateway}"
data_dir = "{home}/data"
[clock]
trust = "always"
[mqtt]
host = "localhost"
port = {port}
[mqtt.tls]
ca = "{ca}"
cert = "{home}/gateway.pem"
key = "{home}/gateway.pem"
"""

CLOCK = Clock(trust="always")


class Client(paho.Client):
    """An MQTT client with an identity, and what it was told."""

    def __init__(self, ca: Path, identity: Path, port: int, client_id: str = "") -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        self.tls_set(str(ca), str(identity), str(identity))
        self.connack, self.gone = threading.Event(), threading.Event()
        self.pubacks: dict[int, int] = {}
        self.subacks: dict[int, int] = {}
        self.got: list[str] = []
        self.on_connect = lambda *_: self.connack.set()
        self.on_disconnect = lambda *_: self.gone.set()
        self.on_publish = lambda _c, _u, mid, reason, _p: self.pubacks.update({mid: reason.value})
        self.on_subscribe = lambda _c, _u, mid, reasons, _p: self.subacks.update({mid: reasons[0].value})
        self.on_message = lambda _c, _u, message: self.got.append(message.topic)
        self.connect("localhost", port)
        self.loop_start()

    def tell(self, topic: str) -> int:
        """The reason code of the PUBACK."""
        mid = self.publish(topic, "x", 1).mid
        servers.wait_until(lambda: mid in self.pubacks, 10, "a PUBACK")
        return self.pubacks[mid]

    def listen(self, topic: str) -> int:
        """The reason code of the SUBACK."""
        mid = self.subscribe(topic, 1)[1]
        servers.wait_until(lambda: mid in self.subacks, 10, "a SUBACK")
        return self.subacks[mid] if isinstance(mid, int) else 0xFF

    def close(self) -> None:
        self.disconnect()
        self.loop_stop()
        if (left_open := self.socket()) is not None:  # the thread ended before the broker closed it
            left_open.close()


class Site:
    """A central, its broker, and the machines of two gateways, below one directory."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.outer, self.inner = servers.free_port(), servers.free_port()
        self.toml = tmp / "central.toml"
        self.toml.write_text(CENTRAL.format(tmp=tmp, inner=self.inner, outer=self.outer, web=servers.free_port()))
        self.said = ""
        self.central_said("keygen", f"{tmp}/commands.pem", config=False)
        self.central_said("broker", f"{tmp}/broker", "--user", "root" if os.geteuid() == 0 else "nobody")
        self.broker = servers.Mosquitto(
            [servers._program("mosquitto"), "-c", f"{tmp}/broker/mosquitto.conf"],
            self.outer,
            tmp / "mosquitto.log",
            lambda: servers.accepts(self.outer) and servers.accepts(self.inner),
        )
        self.central = Program("maillages-central", self.toml, tmp / "central.log")
        self.passphrases: list[str] = []

    def central_said(self, *arguments: str, code: int = 0, config: bool = True) -> str:
        more = ["-c", str(self.toml)] if config else []
        done = subprocess.run(
            ["maillages-central", *arguments, *more], capture_output=True, text=True, check=False, cwd=self.tmp
        )
        assert done.returncode == code, done.stdout + done.stderr
        self.said += done.stderr
        return done.stdout

    def enrol(self, gateway: str, *more: str, commune: str = "61031") -> Path:
        file = self.tmp / f"{gateway}-{len(self.passphrases)}.join"
        out = self.central_said("enrol", gateway, "--commune", commune, "-o", str(file), *more)
        found = re.search(r"passphrase +((?:[a-z]{4} ){3}[a-z]{4})", out)
        assert found, out
        self.passphrases.append(found[1])
        return file

    def enrolled(self, gateway: str) -> Path:
        """The identity of a gateway, enrolled as `enrol` does, in this process: it saves a second each time."""
        settings = load(self.toml)
        assert settings.enrolment
        db = Database(settings.data_dir / "central.db")
        db.open()
        try:
            registrar = Registrar(
                settings, settings.enrolment, self.authority(), Identities(db), Rights.of(settings.mqtt), CLOCK, None
            )
            made = registrar.enrol(gateway, "61031", 1)
        finally:
            db.close()
        self.passphrases.append(new_passphrase())
        (self.tmp / f"{gateway}.join").write_text(seal(made, self.passphrases[-1]))
        (self.tmp / f"{gateway}.join").chmod(0o600)
        path = self.tmp / f"{gateway}.pem"
        path.touch(0o600)
        path.write_text(made.identity)
        return path

    def join(self, gateway: str, file: Path, *more: str, passphrase: str | None = None) -> tuple[int, str]:
        home = self.tmp / gateway
        done = subprocess.run(
            [
                "maillages-edge",
                "join",
                str(file),
                "-c",
                str(home / "edge.toml"),
                "--data-dir",
                str(home / "data"),
                "--user",
                getpass.getuser(),
                *more,
            ],
            input=(passphrase or self.passphrases[-1]) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        self.said += done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def identity(self, gateway: str) -> Path:
        return self.tmp / gateway / "data/identity/gateway.pem"

    def client(self, identity: Path, client_id: str = "", port: int | None = None) -> Client:
        return Client(self.tmp / "ca/ca.pem", identity, port or self.outer, client_id)

    def forged(self, name: str, authority: Authority, clock: Clock = CLOCK) -> Path:
        """An identity that nobody enrolled."""
        public, key = new_key()
        path = self.tmp / f"{name}-forged-{os.urandom(4).hex()}.pem"
        path.write_text(key + authority.gateway(name, public, clock).pem)
        return path

    def authority(self) -> Authority:
        return Authority.load(self.tmp / "ca", (self.tmp / "ca.passphrase").read_text().strip())

    def check(self, identity: Path, ca: Path | None = None, **broker: Any) -> None:
        address = {"host": "localhost", "port": self.outer} | broker
        link.check(
            config.Broker(**address), config.Tls(ca=ca or self.tmp / "ca/ca.pem", cert=identity, key=identity), CLOCK
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    made.broker.start()
    made.central.start()
    try:
        servers.wait_until(lambda: made.central.said("central-readings: connected") > 0, 20, "central at its broker")
        yield made
    finally:
        made.broker.stop()
        made.central.terminate()


def test_from_enrolment_to_the_first_stored_reading(site: Site) -> None:
    port = site.tmp / "ttyLEVEL"
    (site.tmp / "station.toml").write_text(STATION.format(port=port))
    file = site.enrol("gw-1", "--config-for-edge", str(site.tmp / "station.toml"))
    code, said = site.join("gw-1", file)
    assert code == 0, said
    assert "sent its receipt" in said
    assert "gw-1 has joined" in said
    millimetres = iter(range(4990, 310, -1))
    device = Mb7389(port, "x", lambda _: next(millimetres) / 1000, clock=CLOCK, log=DeviceLog(), interval_s=0.05)
    device.start()
    edge = Program("maillages-edge", site.tmp / "gw-1/edge.toml", site.tmp / "edge.log")
    edge.start()
    try:
        store = Embedded(site.tmp / "central/store.db")
        store.setup()
        servers.wait_until(lambda: store.last("water_level", {"gateway": "gw-1"}) is not None, 20, "a stored reading")
        code, said = site.join("gw-1", file)
        assert code == 2
        assert "the gateway runs" in said
        assert edge.terminate() == 0
    finally:
        device.stop()
        edge.kill9()
    assert not site.central.said("the broker refuses"), "both of its sessions have the topics that they want"
    assert "wait for their receipt" in (site.tmp / "edge.log").read_text()


def test_a_gateway_writes_and_reads_under_its_own_root_alone(site: Site) -> None:
    second, third = site.enrolled("gw-2"), site.enrolled("gw-3")
    one, other = site.client(second), site.client(third)
    assert one.listen("maillages/v1/gw-2/receipt") < 0x80
    for topic in ("maillages/v1/gw-3/receipt", "maillages/v1/+/receipt", "maillages/#", "#", "$SYS/#", "$CONTROL/#"):
        assert one.listen(topic) >= 0x80, topic
    assert one.tell("maillages/v1/gw-2/status") == 0
    for topic in ("maillages/v1/gw-3/status", "maillages/v1/gw-3/cmd/ack", "elsewhere", "$CONTROL/dynamic-security/v1"):
        assert one.tell(topic) == 135, topic
    assert other.listen("maillages/v1/gw-3/cmd/+") < 0x80
    assert other.tell("maillages/v1/gw-3/cmd/ack") < 0x80
    servers.wait_until(lambda: other.got == ["maillages/v1/gw-3/cmd/ack"], 10, "its own")
    assert not one.got
    # Whatever client id it says: central keeps its sessions.
    impostor = site.client(second, "central-alarms")
    assert impostor.connack.wait(10)
    assert impostor.tell("maillages/v1/gw-2/status") == 0
    assert one.gone.wait(10), "it is gw-2, and took its own place"
    assert not site.central.said("another client uses this id")
    for client in (one, other, impostor):
        client.close()


def test_a_revoked_gateway_is_cut_off_at_once_and_kept_out(site: Site) -> None:
    identity = site.enrolled("gw-4")
    client = site.client(identity)
    assert client.tell("maillages/v1/gw-4/status") == 0
    assert "cut its connection" in site.central_said("revoke", "gw-4")
    assert client.gone.wait(5), "an open connection is cut"
    client.close()
    back = site.client(identity)
    assert back.tell("maillages/v1/gw-4/status") == 135
    back.close()
    code, said = site.join("gw-4", site.tmp / "gw-4.join")
    assert code == 1
    assert "gives gw-4 no rights" in said
    assert "it is revoked, or this broker does not know it" in said
    # What maillages-crl.service does where systemd runs: now not even TLS lets it in.
    (site.tmp / "broker/crl.pem").write_bytes((site.tmp / "ca/crl.pem").read_bytes())
    os.kill(site.broker.pid, signal.SIGHUP)

    def refused() -> bool:
        try:
            site.check(identity)
        except LinkFault as e:
            return "its certificate is revoked" in e.what
        return False

    servers.wait_until(refused, 10, "TLS refuses it")
    # Enrolled again, it is another identity.
    again = site.client(site.enrolled("gw-4"))
    assert again.tell("maillages/v1/gw-4/status") == 0
    again.close()


def test_who_is_not_enrolled_is_refused_and_told_why(site: Site, tmp_path: Path) -> None:
    stranger = site.client(site.forged("gw-unknown", site.authority()))
    assert stranger.connack.wait(10)
    assert stranger.tell("maillages/v1/gw-unknown/status") == 135
    assert stranger.listen("maillages/v1/gw-unknown/receipt") >= 0x80
    stranger.close()
    nobody = ssl.create_default_context(cafile=str(site.tmp / "ca/ca.pem"))
    for port in (site.outer, site.inner):
        with (
            socket.create_connection(("localhost", port), 5) as plain,
            nobody.wrap_socket(plain, server_hostname="localhost") as secured,
            pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
        ):
            secured.recv(1)
    other_ca = Authority.create(tmp_path / "ca", "of somebody else", CLOCK)
    with pytest.raises(LinkFault, match="not of the broker's CA"):
        site.check(site.forged("gw-1", other_ca))
    past = Clock(walltime=lambda: (datetime.now(UTC) - timedelta(days=400)).timestamp(), trust="always")
    expired = site.forged("gw-1", site.authority(), past)
    with pytest.raises(LinkFault, match=r"the certificate of gw-1 ended on 20\d\d-.*new join file"):
        site.check(expired)
    with pytest.raises(LinkFault, match=r"refuses gw-1: its certificate ended on|closes the connection|breaks the TLS"):
        link._tls(  # a gateway whose clock hides it from itself: the broker says it
            socket.create_connection(("localhost", site.outer), 5),
            config.Broker(host="localhost", port=site.outer),
            config.Tls(ca=site.tmp / "ca/ca.pem", cert=expired, key=expired),
            CLOCK,
        )


def test_what_is_in_the_way_is_named_with_its_remedy(site: Site, tmp_path: Path) -> None:
    own = site.forged("gw-1", site.authority())
    for broker, what, remedy in (
        ({"host": "no-such-broker.invalid"}, "cannot be resolved", "is there a network"),
        ({"port": servers.free_port()}, "refuses the connection", "is the port right"),
        ({"host": "127.0.0.1"}, "is not for '127.0.0.1'", "brokers as gateways reach it"),
    ):
        with pytest.raises(LinkFault) as fault:
            site.check(own, **broker)
        assert what in fault.value.what
        assert remedy in fault.value.remedy
    Authority.create(tmp_path / "ca", "of somebody else", CLOCK)
    with pytest.raises(LinkFault, match="not one of our CA"):
        site.check(own, ca=tmp_path / "ca/ca.pem")
    with servers.mosquitto(tmp_path) as plain, pytest.raises(LinkFault, match=r"does not speak TLS|breaks the TLS"):
        site.check(own, port=plain.port)


def test_the_dates_of_a_broker_count_once_the_clock_is_set_and_never_below_our_own(site: Site, tmp_path: Path) -> None:
    authority, own = site.authority(), site.forged("gw-1", site.authority())
    long_ago = Clock(walltime=lambda: (datetime.now(UTC) - timedelta(days=700)).timestamp(), trust="always")
    old = site.forged("gw-1", authority, long_ago)
    never_set = Clock(synchronised=lambda: False)
    for days, what in ((-6 * 365, "has ended, and the clock says"), (20, "is not valid yet, and the clock says")):
        then = Clock(walltime=lambda days=days: CLOCK.wall() + days * 86400, trust="always")
        public, key = new_key()
        pem, secret = tmp_path / f"server{days}.pem", tmp_path / f"server{days}.key"
        pem.write_text(authority.server(["localhost"], public, then).pem)
        secret.write_text(key)
        tls = f"cafile {site.tmp}/ca/ca.pem\ncertfile {pem}\nkeyfile {secret}\n"
        with servers.mosquitto(tmp_path / str(days), tls) as broker:
            with pytest.raises(LinkFault, match=what):
                site.check(own, port=broker.port)
            address = config.Broker(host="localhost", port=broker.port)
            for identity_file, refused in ((own, days < 0), (old, False)):
                files = config.Tls(ca=site.tmp / "ca/ca.pem", cert=identity_file, key=identity_file)
                with (
                    socket.create_connection(("localhost", address.port), 5) as plain,
                    link.tls_context(files, never_set).wrap_socket(plain, server_hostname="localhost") as secured,
                ):
                    if refused:
                        with pytest.raises(LinkFault, match="before ours began"):
                            link.checks_floor(secured, files)
                    else:
                        link.checks_floor(secured, files)


def test_a_restart_and_a_hangup_of_the_broker_lose_nothing_for_a_central_that_is_away(
    site: Site, tmp_path: Path
) -> None:
    """Debian's logrotate sends the hangup. With an acl_file what comes after it is acknowledged and lost (see the ADR)."""
    identity = site.enrolled("gw-5")
    assert site.central.terminate() == 0
    site.broker.restart()
    os.kill(site.broker.pid, signal.SIGHUP)
    client = site.client(identity)
    assert client.tell("maillages/v1/gw-5/alarms") == 0, "a session that is away keeps it"
    client.close()
    # Who joins meanwhile is told; his half minute goes by in two seconds.
    (tmp_path / "gateway.pem").write_bytes(identity.read_bytes())
    toml = GATEWAY.format(gateway="gw-5", home=tmp_path, port=site.outer, ca=site.tmp / "ca/ca.pem")
    quick = Clock(scale=15, origin_boot=CLOCK.boot(), origin_wall=CLOCK.wall())
    steps: list[str] = []
    with pytest.raises(LinkFault, match="central sent no receipt within 30 s") as fault:
        joining.prove(config.parsed(toml, "edge.toml"), quick, lambda step, _: steps.append(step))
    assert steps == ["broker"]
    assert "maillages-central" in fault.value.remedy
    site.central.start()
    servers.wait_until(lambda: site.central.said("maillages/v1/gw-5/alarms refused") > 0, 20, "what came meanwhile")


def test_no_secret_is_readable_by_others_or_in_a_log(site: Site) -> None:
    file = site.enrol("gw-9")
    assert site.join("gw-9", file)[0] == 0
    exposed = [
        p for p in site.tmp.rglob("*") if p.is_file() and p.stat().st_mode & 0o077 and b"PRIVATE KEY" in p.read_bytes()
    ]
    assert [p for p in exposed if "forged" not in p.name] == []
    for name in ("ca.passphrase", "ca/ca.key", "gw-9/edge.toml", "gw-9/data/identity/gateway.pem", file.name):
        assert (site.tmp / name).stat().st_mode & 0o777 == 0o600, name
    logs = site.said + "".join(p.read_text(errors="replace") for p in site.tmp.glob("*.log"))
    assert "gw-9" in logs
    key = site.identity("gw-9").read_text().splitlines()[1]
    for secret in (*site.passphrases, (site.tmp / "ca.passphrase").read_text().strip(), "PRIVATE", key):
        assert secret not in logs


def test_a_certificate_is_renewed_before_its_end_and_a_bad_one_is_thrown_away(site: Site, tmp_path: Path) -> None:
    site.enrolled("gw-6")
    past = Clock(walltime=lambda: (datetime.now(UTC) - timedelta(days=300)).timestamp(), trust="always")
    own, waiting = tmp_path / "gateway.pem", tmp_path / "gateway.next.pem"
    own.write_bytes(site.forged("gw-6", site.authority(), past).read_bytes())
    before = own.read_bytes()
    other_ca = Authority.create(tmp_path / "other", "of somebody else", CLOCK)
    waiting.write_bytes(site.forged("gw-6", other_ca).read_bytes())
    toml = tmp_path / "edge.toml"
    toml.write_text(GATEWAY.format(gateway="gw-6", home=tmp_path, port=site.outer, ca=site.tmp / "ca/ca.pem"))
    edge = Program("maillages-edge", toml, tmp_path / "edge.log")
    edge.start()
    try:
        servers.wait_until(lambda: edge.said("it is thrown away") > 0, 30, "the bad one is recognised")
        assert not waiting.exists()
        assert own.read_bytes() == before
        edge.kill9()  # and so it asks at once, not in an hour
        edge.start()
        servers.wait_until(lambda: edge.said("the new certificate is in use") > 0, 30, "a new certificate")
        assert identity.certificate(own).ends_s > CLOCK.wall() + 360 * 86400
        assert own.stat().st_mode & 0o777 == 0o600
        assert not waiting.exists()
        assert edge.running
        assert edge.terminate() == 0
    finally:
        if edge.running:
            edge.kill9()
    assert site.central.said("gateway gw-6 has a new certificate") == 1
    client = site.client(own)
    assert client.tell("maillages/v1/gw-6/status") == 0
    client.close()
    assert "PRIVATE" not in edge.log.read_text()
