"""Providers that misbehave: an SMTP server and an HTTP gateway for SMS, real sockets on loopback."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller


def _free_port() -> int:
    """aiosmtpd knocks at the port that it was given, so 0 will not do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SmtpServer:
    """Keeps the mails that it accepted, in order, and `times`, when it did (`time.monotonic`).

    `answer` is what it says after DATA: a reply, "drop" to cut the line, "hang" to say nothing until `release()`. `refuse` names
    addresses that it does not take (550)."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, Message]] = []
        self.times: list[float] = []
        self.seen: list[str] = []  # Message-ID of every DATA, accepted or not
        self.answer = "250 OK"
        self.refuse: set[str] = set()
        self.changed = threading.Condition()
        self._released: asyncio.Event | None = None
        self._controller = Controller(self, hostname="127.0.0.1", port=_free_port(), ready_timeout=10)

    def __enter__(self) -> "SmtpServer":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._controller.stop()

    @property
    def port(self) -> int:
        return int(self._controller.port)

    def release(self) -> None:
        self.answer = "250 OK"
        if self._released is not None:
            self._controller.loop.call_soon_threadsafe(self._released.set)

    def to(self, address: str) -> list[Message]:
        with self.changed:
            return [mail for to, mail in self.mails if to == address]

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
        if address in self.refuse:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, _session, envelope):  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=default)
        answer = self.answer
        with self.changed:
            self.seen.append(str(mail["Message-ID"]))
            if answer.startswith("250"):
                self.mails.append((envelope.rcpt_tos[0], mail))
                self.times.append(time.monotonic())
            self.changed.notify_all()
        if answer == "drop":
            server.transport.abort()
            return "250 never heard"
        if answer == "hang":
            self._released = asyncio.Event()
            await self._released.wait()
            return "451 too late"
        return answer


TAKEN = (0, "")


class SmsServer:
    """An HTTP gateway for SMS that takes JSON {to, text, id}. `answer(body)` gives status and body, None to cut the line, or TAKEN to
    take it and cut the line; a 429 comes with `Retry-After: 1`.

    `accepted` holds the bodies that it took: with status 200, unless the body says `"ok":0`. Like an idempotent provider it takes an
    id once (`requests` has them all). What has no id is taken each time.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, str]], tuple[int, str] | None] = lambda _: (200, '{"ok":1}'),
        *,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.accepted: dict[str, dict[str, str]] = {}
        self.requests: list[dict[str, str]] = []
        self.changed = threading.Condition()
        self.gate = threading.Event()  # cleared: requests are read and not answered
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.changed:
                    outer.requests.append(body)
                    outer.changed.notify_all()
                outer.gate.wait(30)
                answer = outer.answer(body)
                if answer is None:
                    self.close_connection = True
                    return
                status, text = answer
                with outer.changed:
                    if answer == TAKEN or (status == 200 and '"ok":0' not in text):
                        outer.accepted.setdefault(body.get("id", str(len(outer.requests))), body)
                    outer.changed.notify_all()
                if answer == TAKEN:
                    self.close_connection = True
                    return
                try:
                    self.send_response(status)
                    if status == 429:
                        self.send_header("Retry-After", "1")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    self.close_connection = True  # the other side was killed

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> "SmsServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/send"

    def to(self, number: str) -> list[str]:
        with self.changed:
            return [body["text"] for body in self.accepted.values() if body["to"] == number]
