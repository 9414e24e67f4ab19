"""Hostile requests to the running page, on raw sockets: each is refused or answered, never by a fault of ours, and no secret is logged."""

import contextlib
import logging
import random
import re
import socket
from urllib.parse import quote

import pytest

from common.clock import Clock
from tests.central.scene import HUY, Scene
from tests.central.test_accounts import sign_in

TOKEN = "cap-token-that-nobody-may-see-0123456789"  # noqa: S105
PASSWORD = "mot-de-passe-tres-secret"  # noqa: S105
SETTINGS = {"cap": {"sender": "crise@huy.test", "token": TOKEN}}
PATHS = [
    "/",
    "/alarmes",
    "/connexion",
    "/deconnexion",
    "/ack/x",
    "/api/stations",
    "/api/alarms",
    "/api/series",
    "/cap/atom.xml",
    "/healthz",
]
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "FOO", "get", "G\tET", ""]
TARGETS = [
    "/%",
    "/%zz",
    "/%00",
    "/%ff%fe",
    "/ack/%2e%2e/%2e%2e/etc/passwd",
    "/static/../app.py",
    "/static/%2e%2e/app.py",
    "//evil.test/",
    "/ack/" + "a" * 5000,
    "/" + "%25" * 3000,
    "/api/series?station=%00&hours=1e999",
    "/api/series?station=x&quantity=y&hours=nan",
    "/api/series?" + "a=1&" * 3000,
    "/alarmes/%0d%0aSet-Cookie:x",
    "*",
    "http://[::1",
    "/\u00e9",
    "/cap/%00.xml",
    "/events?x=%",
]
HEADERS = [
    "X: " + "a" * 70_000,
    "X: a\r\n" * 3000 + "Y: b",
    "Content-Length: -1",
    "Content-Length: 99999999999",
    "Content-Length: 5\r\nContent-Length: 6",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 3",
    "Host: a\r\nHost: b",
    "Cookie: session=" + "b" * 4000,
    "Authorization: Basic !!!",
    f"Authorization: Bearer {TOKEN[::-1]}",
    "Authorization: Basic " + "A" * 3000,
    "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=" + "-" * 3000,
    "X-Forwarded-For: " + "1.1.1.1, " * 500,
    "no colon at all",
    " folded",
    "\x00: \x00",
]
BODIES = [
    b"",
    b"[" * 5000,
    b'{"a":' * 1000,
    b"by=%zz&x=%",
    b"by=" + b"%00" * 500,
    b"&" * 5000,
    b"a" * 70_000,
    b"zz\r\n",
    b"5\r\nab",
    b"\xff" * 100,
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("hostile"), Clock(trust="always"), settings=SETTINGS, open_reading=False)
    with contextlib.closing(made):
        made.start()
        made.gateway(HUY)
        yield made


def status_of(port: int, raw: bytes) -> int | None:
    """Of the answer to bytes as they are, after which nothing more is sent; None when there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        with contextlib.suppress(OSError):  # the other end has heard enough
            line.sendall(raw)
            line.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(OSError):
            while b"\r\n" not in got and (part := line.recv(4096)):
                got += part
    found = re.match(rb"HTTP/1\.[01] (\d{3})", got)
    return int(found[1]) if found else None


def test_whatever_is_asked_is_answered_without_a_fault_and_nothing_secret_is_logged(scene, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    dice = random.Random(20210714)
    seen = set()
    for number in range(250):
        method = dice.choice(METHODS) if number % 3 == 0 else dice.choice(("GET", "POST"))
        target = dice.choice(TARGETS if number % 2 else PATHS)
        body = b"" if method == "GET" else dice.choice(BODIES)
        length = [f"Content-Length: {len(body)}"] if number % 4 else []
        lines = [f"{method} {target} HTTP/1.1", "Host: c.test", *length, *dice.sample(HEADERS, dice.randrange(3))]
        raw = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body
        status = status_of(scene.port, raw)
        assert status is None or status < 500 or status in (501, 505), f"{status} for {raw[:300]!r}"
        seen.add(status)
    assert {400, 404, 405, 413} <= seen
    assert sign_in(scene, "nobody", PASSWORD).status == 401
    with_token = scene.ask("GET", "/cap/atom.xml", Authorization=f"Bearer {TOKEN}")
    without = scene.ask("GET", f"/cap/atom.xml?token={quote(TOKEN)}")
    assert (with_token.status, without.status) == (200, 401)
    assert scene.get("/healthz").status == 200
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert TOKEN not in said
    assert PASSWORD not in said
    assert not [r for r in caplog.records if r.exc_info], "a fault of ours"
