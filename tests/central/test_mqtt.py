"""Central's session on a real Mosquitto, its bytes watched on the way."""

import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from central.config import Mqtt, Tls
from central.errors import ConfigError
from central.mqtt import Received, Session
from tests import servers

PUBLISH, PUBACK, SUBSCRIBE = 3, 4, 8


class Tap:
    """A TCP relay that keeps what passes, by direction."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.from_client, self.from_broker = bytearray(), bytearray()
        self._sockets = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        client, _ = self._server.accept()
        broker = socket.create_connection(("127.0.0.1", self._target))
        self._sockets += [client, broker]
        threading.Thread(target=self._pump, args=(broker, client, self.from_broker), daemon=True).start()
        self._pump(client, broker, self.from_client)

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
        except OSError:
            pass

    @staticmethod
    def packets(stream: bytearray, kind: int) -> list[bytes]:
        """Bodies of the whole packets of a type (MQTT 5, 2.1)."""
        data, at, found = bytes(stream), 0, []
        while at + 1 < len(data):
            length, shift, start = 0, 0, at + 1
            while start < len(data) and data[start] & 0x80:
                length |= (data[start] & 0x7F) << shift
                shift, start = shift + 7, start + 1
            if start >= len(data):
                break
            length |= data[start] << shift
            body = data[start + 1 : start + 1 + length]
            if len(body) == length and data[at] >> 4 == kind:
                found.append(body)
            at = start + 1 + length
        return found

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[tuple[Tap, servers.Mosquitto]]:
    with servers.mosquitto(tmp_path) as broker:
        relay = Tap(broker.port)
        yield relay, broker
        relay.close()


def test_acknowledgements_leave_in_the_order_of_the_messages_and_none_for_qos_0(
    tap: tuple[Tap, servers.Mosquitto],
) -> None:
    relay, broker = tap
    got: list[Received] = []
    session = Session(
        "central-readings",
        Mqtt(host="127.0.0.1", port=relay.port),
        ["maillages/v1/+/readings"],
        got.append,
        manual_ack=True,
        receive_maximum=100,
    )
    session.start()
    servers.wait_until(lambda: bool(relay.packets(relay.from_client, SUBSCRIBE)), 10, "the subscription")
    sender = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    sender.connect("127.0.0.1", broker.port)
    sender.loop_start()
    for number in range(20):
        sender.publish("maillages/v1/gw-1/readings", str(number), qos=1).wait_for_publish(10)
    sender.publish("maillages/v1/gw-1/readings", "the receive maximum does not count it", qos=0)
    sender.publish("maillages/v1/gw-1/readings", "21", qos=1).wait_for_publish(10)
    servers.wait_until(lambda: len(got) == 21, 10, "all messages")
    assert [m.payload for m in got[-2:]] == [b"19", b"21"], "QoS 0 is not taken"
    for message in reversed(got):  # two workers finish in any order
        session.ack(message)
    servers.wait_until(lambda: len(relay.packets(relay.from_client, PUBACK)) == 21, 10, "all acknowledgements")
    mids = [int.from_bytes(body[:2], "big") for body in relay.packets(relay.from_client, PUBACK)]
    topic = 2 + len("maillages/v1/gw-1/readings")
    published = [body[topic : topic + 2] for body in relay.packets(relay.from_broker, PUBLISH)]
    del published[20]  # the one with QoS 0, which has no number
    assert mids == [int.from_bytes(mid, "big") for mid in published[:21]]
    sender.publish("maillages/v1/gw-1/readings", "still there", qos=1).wait_for_publish(10)
    servers.wait_until(lambda: len(got) == 22, 10, "the session lives on")
    sender.disconnect()
    sender.loop_stop()
    session.stop()


def _certificates(folder: Path) -> None:
    """A CA, a server for `localhost`, and a client `central`, as PEM files."""
    now = datetime.now(UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def write(stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / f"{stem}.key").write_bytes(key.private_bytes(pem, pkcs8, plain))
        (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(pem))

    authority = ec.generate_private_key(ec.SECP256R1())
    for stem, subject in (("ca", "test CA"), ("other-ca", "test CA"), ("server", "localhost"), ("central", "central")):
        key = authority if stem == "ca" else ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("test CA"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=stem.endswith("ca"), path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject.replace(" ", "-"))]), critical=False)
        )
        write(stem, key, builder.sign(key if stem == "other-ca" else authority, hashes.SHA256()))


@pytest.mark.parametrize(
    ("host", "ca", "own", "connects"),
    [
        ("localhost", "ca", True, True),
        ("localhost", "ca", False, False),  # the broker wants a certificate
        # s2n lets 10 to 30 s pass before it says that a handshake failed, so that an attacker learns nothing by the clock.
        ("localhost", "other-ca", True, False),  # the broker is not who it should be
        ("127.0.0.1", "ca", True, False),  # nor is its name
    ],
)
def test_tls_checks_both_sides(tmp_path: Path, host: str, ca: str, own: bool, connects: bool) -> None:
    _certificates(tmp_path)
    extra = (
        f"cafile {tmp_path}/ca.pem\ncertfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key\n"
        "require_certificate true\nuse_identity_as_username true"
    )
    warnings: list[str] = []
    watcher = logging.Handler()
    watcher.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("central.mqtt")
    logger.addHandler(watcher)
    cert, key = (tmp_path / "central.pem", tmp_path / "central.key") if own else (None, None)
    with servers.mosquitto(tmp_path, extra=extra) as broker:
        tls = Tls(ca=tmp_path / f"{ca}.pem", cert=cert, key=key)
        session = Session("central-alarms", Mqtt(host=host, port=broker.port, tls=tls), ["a/#"], lambda _: None)
        session.start()
        try:
            servers.wait_until(lambda: session.connected or bool(warnings), 60, "a connection or a refusal")
            assert session.connected == connects, warnings
        finally:
            session.stop()
            logger.removeHandler(watcher)


def test_files_of_tls_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    bad = Tls(ca=tmp_path / "bad.pem", cert=tmp_path / "missing.pem", key=tmp_path / "bad.pem")
    with pytest.raises(ConfigError, match=r"mqtt.tls: .*bad.pem, .*missing.pem"):
        Session("x", Mqtt(host="localhost", port=1, tls=bad), [], lambda _: None).start()


def test_a_broker_that_sends_more_than_the_receive_maximum_is_read_no_further(tmp_path: Path) -> None:
    got: list[Received] = []
    with servers.mosquitto(tmp_path, "max_inflight_messages 100") as broker:
        session = Session(
            "central-readings",
            Mqtt(host="127.0.0.1", port=broker.port),
            ["maillages/v1/+/readings"],
            got.append,
            manual_ack=True,
            receive_maximum=10,
        )
        session.start()
        servers.wait_until(lambda: session.connected, 10, "the session")
        sender = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        sender.connect("127.0.0.1", broker.port)
        sender.loop_start()
        while not got:  # until its subscription is there
            sender.publish("maillages/v1/gw-1/readings", "probe", qos=1).wait_for_publish(10)
        for number in range(300):
            sender.publish("maillages/v1/gw-1/readings", str(number), qos=1).wait_for_publish(10)
        servers.wait_until(lambda: len(got) >= 10, 10, "as many as were asked for")
        for message in got[:8]:
            session.ack(message)  # Mosquitto 2.0.11 answers with ten messages for each
        servers.wait_until(lambda: len(got) >= 28, 10, "what there is room for")
        sender.publish("elsewhere", "", qos=1).wait_for_publish(10)  # the broker has gone round meanwhile
        assert len(got) <= 8 + 2 * 10 + 1
        acknowledged = 8
        while got[-1].payload != b"299":
            for message in got[acknowledged:]:
                session.ack(message)
                acknowledged += 1
        assert [m.payload for m in got if m.payload != b"probe"] == [str(n).encode() for n in range(300)]
        sender.disconnect()
        sender.loop_stop()
        session.stop()
