"""Ways to reach a person against real servers: SMTP with STARTTLS and a login, and a webhook."""

import contextlib
import hashlib
import hmac
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from central.config import Smtp, Webhook
from central.notify.channels import SmtpChannel, WebhookChannel
from central.notify.mail import Mail
from tests import servers

RIGHT = "right"
LETTER = Mail("objet é", "texte\n", "<p>texte</p>", b"\x89PNG")


def certificate(folder, host):
    """A self-signed certificate for an address of this machine; gives the paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smtp")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = folder / f"{host}.pem", folder / f"{host}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


class Secured:
    """An SMTP server that takes mail only after STARTTLS and a login."""

    def __init__(self, cert, key, *, tls=True):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
        self.taken, self.logins = [], []
        self.bye = False
        secured = {"tls_context": context, "require_starttls": True, "auth_required": True} if tls else {}
        self.controller = Controller(
            self, hostname="127.0.0.1", port=servers.free_port(), ready_timeout=10, authenticator=self.login, **secured
        )

    def login(self, _server, session, _envelope, mechanism, data):
        self.logins.append((mechanism, data.login, session.ssl is not None))
        return AuthResult(success=data.password == RIGHT.encode(), handled=False)

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
        self.taken.append(envelope.content)
        return "250 OK"

    async def handle_NOOP(self, server, _session, _envelope, _argument):  # noqa: N802
        if self.bye:
            server.transport.abort()
        return "250 OK"

    def __enter__(self):
        self.controller.start()
        return self

    def __exit__(self, *_):
        self.controller.stop()


def channel(server, **changes):
    settings = {
        "host": "127.0.0.1",
        "port": server.controller.port,
        "from": "a@c.test",
        "username": "alertes",
        "timeout_s": 5,
    }
    return SmtpChannel(Smtp.model_validate(settings | changes))


def sent(smtp, message_id):
    """What became of a mail by itself."""
    with contextlib.closing(smtp):
        return smtp.send("p@huy.test", LETTER, message_id, 1.7e9)


def test_a_mail_goes_by_starttls_and_a_login(tmp_path):
    cert, key = certificate(tmp_path, "127.0.0.1")
    with Secured(cert, key) as server:
        assert sent(channel(server, ca=cert, password=RIGHT), "id-1").kind == "accepted"
        assert len(server.taken) == 1
        assert b"Message-ID: <id-1@c.test>" in server.taken[0]
        assert all(secure for _, _, secure in server.logins)

        refused = sent(channel(server, ca=cert, password=RIGHT[::-1]), "id-2")
        assert (refused.kind, refused.reason) == ("retry", "login refused (535)")
        strange = sent(channel(server, password=RIGHT), "id-3")
        assert (strange.kind, strange.reason) == ("retry", "no secure session (SSLCertVerificationError)")
        assert len(server.taken) == 1


def test_mails_that_follow_each_other_share_a_session_and_one_that_the_server_ended_is_begun_anew(tmp_path):
    cert, key = certificate(tmp_path, "127.0.0.1")
    with Secured(cert, key) as server:
        smtp = channel(server, ca=cert, password=RIGHT)
        for number in range(3):
            assert smtp.send("p@huy.test", LETTER, f"id-{number}", 1.7e9).kind == "accepted"
        assert (len(server.taken), len(server.logins)) == (3, 1)
        server.bye = True
        assert smtp.send("p@huy.test", LETTER, "id-3", 1.7e9).kind == "accepted"
        assert (len(server.taken), len(server.logins)) == (4, 2)
        server.bye = False
        smtp.close()
        assert smtp.send("p@huy.test", LETTER, "id-4", 1.7e9).kind == "accepted"
        assert (len(server.taken), len(server.logins)) == (5, 3)
        smtp.close()


def test_a_certificate_of_another_host_and_a_server_without_tls_get_neither_mail_nor_password(tmp_path):
    cert, key = certificate(tmp_path, "127.0.0.2")
    with Secured(cert, key) as server:
        assert sent(channel(server, ca=cert, password=RIGHT), "id-1").kind == "retry"
        assert (server.taken, server.logins) == ([], [])
    with Secured(cert, key, tls=False) as server:
        plain = sent(channel(server, ca=cert, password=RIGHT), "id-1")
        assert (plain.kind, plain.reason) == ("retry", "no secure session (SMTPNotSupportedError)")
        assert (server.taken, server.logins) == ([], [])


class Hook:
    """A webhook that answers with `status`, or hangs up."""

    def __init__(self):
        self.status, self.got = 200, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                if outer.status is None:
                    self.close_connection = True
                    return
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/x"


@pytest.fixture
def hook():
    with Hook() as made:
        yield made


@pytest.mark.parametrize(
    ("status", "kind"),
    [(204, "accepted"), (302, "retry"), (400, "failed"), (408, "retry"), (410, "failed"), (429, "retry"), (503, "retry"), (None, "retry")],
)  # fmt: skip
def test_what_a_webhook_answers_decides_what_follows(hook, status, kind):
    hook.status = status
    assert WebhookChannel(Webhook(), exercise=True).send(hook.url, {"id": "1"}).kind == kind


def test_what_is_posted_is_signed(hook):
    key = "a key of twenty characters"
    WebhookChannel(Webhook(key=key), exercise=False).send(hook.url, {"id": "1", "text": "crue é"})
    ((headers, body),) = hook.got
    assert json.loads(body) == {"id": "1", "text": "crue é"}
    assert headers["X-Maillages-Signature"] == "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def test_an_exercise_posts_to_nobody_outside_and_a_hook_that_is_not_there_is_tried_again():
    ways = WebhookChannel(Webhook(), exercise=True)
    assert ways.send("https://hooks.example.be/x", {}).kind == "failed"
    assert ways.send(f"http://127.0.0.1:{servers.free_port()}/", {}).kind == "retry"
    for none in ("http://[::1", "http://127.0.0.1:x/", "http:///", "nothing"):
        assert ways.send(none, {}).kind == "failed"
