"""Nobody shuts an acknowledgement out: real attackers in processes of their own, and somebody who answers meanwhile."""

import contextlib
import http.client
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from central.config import CentralConfig
from central.web.limits import HEAD_S, MAX_PER_ADDRESS
from common.clock import Clock
from tests.central.scene import HUY, Scene

# How soon an acknowledgement is answered is what is tested: the machine must do nothing else.
pytestmark = [pytest.mark.system, pytest.mark.alone]

PATIENCE_S = 5.0
"""Somebody with a phone in the rain."""


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(made):
        made.start()
        made.gateway(HUY)
        yield made


@contextlib.contextmanager
def attack(port: int, address: str, count: int, kind: str, again: int) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.hoarder", str(port), address, str(count), kind, str(again)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def insist(port: int, method: str, path: str, source: str) -> int:
    """As `request`, by somebody who tries again when the connection is lost, as long as they are patient."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return request(port, method, path, source)
        except ConnectionError:
            if time.monotonic() > until:
                raise


def request(port: int, method: str, path: str, source: str) -> int:
    """The status of one request from an address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S, source_address=(source, 0))
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["silent", "slow", "stream", "unread"])
@pytest.mark.parametrize(
    ("attacker", "person", "again", "ask"),
    [
        ("127.0.0.2", "127.0.0.1", 600, request),
        ("127.0.0.2", "127.0.0.2", 5, insist),  # an office that shares the attacker's address
        ("127.0.0.1", "127.0.0.1", 600, request),  # all come through a proxy
    ],
)
def test_600_lasting_connections_do_not_prevent_an_acknowledgement(
    scene, kind, attacker, person, again, ask, record_property
) -> None:
    event = scene.event("hoyoux-huy", "raise", "UNACK", 1, 10, value=0.6)
    path = scene.ack_path()
    with attack(scene.port, attacker, 600, kind, again):
        began = time.monotonic()
        assert ask(scene.port, "GET", path, person) == 200
        assert ask(scene.port, "POST", path, person) == 200
        taken_s = time.monotonic() - began
    record_property("seconds", round(taken_s, 2))
    assert taken_s < PATIENCE_S
    assert scene.alarms.occurrence(event.occurrence).acked_by == "Planification d'urgence, Huy"


def test_a_head_that_does_not_come_costs_a_connection_no_longer_than_it_may(scene) -> None:
    ends = {}
    with contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", scene.port))))
            for _ in range(3)
        ]
        began = time.monotonic()
        socks[1].sendall(b"GET / HTTP/1.1\r\nHost: ")
        socks[2].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\n")  # the second never ends
        for i, sock in enumerate(socks):
            sock.settimeout(HEAD_S + PATIENCE_S)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(65536):
                    pass
            ends[i] = time.monotonic() - began
    assert all(end < HEAD_S + PATIENCE_S for end in ends.values()), ends
    assert ends[0] >= HEAD_S - 0.1, "it had its time"


def test_an_address_keeps_its_newest_connections_and_a_proxy_all(scene) -> None:
    def hold(source: str) -> list[socket.socket]:
        held = []
        for _ in range(MAX_PER_ADDRESS + 5):
            sock = socket.create_connection(("127.0.0.1", scene.port), source_address=(source, 0))
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(64).startswith(b"HTTP/1.1 200")
            held.append(sock)
        return held

    def alive(socks: list[socket.socket]) -> list[bool]:
        """Whether something new comes on each after what has come already: a stream tells the time each second."""
        heard: dict[socket.socket, bool] = {}
        for sock in socks:
            sock.setblocking(False)
            try:
                while sock.recv(65536):
                    pass
            except BlockingIOError:
                continue
            except ConnectionResetError:
                pass
            heard[sock] = False
        deadline = time.monotonic() + PATIENCE_S
        while len(heard) < len(socks) and time.monotonic() < deadline:
            for sock in select.select([s for s in socks if s not in heard], [], [], 0.1)[0]:
                with contextlib.suppress(ConnectionResetError):
                    heard[sock] = bool(sock.recv(65536))
        return [heard.get(sock, False) for sock in socks]

    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(contextlib.closing(sock)) for sock in hold("127.0.0.2")]
        assert alive(held) == [False] * 5 + [True] * MAX_PER_ADDRESS
        through_proxy = [stack.enter_context(contextlib.closing(sock)) for sock in hold("127.0.0.1")]
        assert all(alive(through_proxy))


def test_a_proxy_is_named_by_its_address() -> None:
    with pytest.raises(ValueError, match=r"web\.proxies"):
        CentralConfig.model_validate({"data_dir": "/x", "mqtt": {"host": "x"}, "web": {"proxies": ["proxy.huy.be"]}})
