"""HTTP/1.1 for the page, in one thread beside the data path: GET and HEAD of two addresses, one request a connection. The same on
a Unix socket in the data directory is for the tools of who may read that directory; there `/exercise` too: GET how the last one is, POST
begins one, POST `/exercise/end` ends it.

Who may hold how much: a connection has `HEAD_S` to ask and `CONNECTION_S` in all, a request `HEAD_BYTES`; one address may have
`MAX_PER_ADDRESS` connections and all together `MAX_CONNECTIONS`. At a limit an old connection that has not asked yet goes, not the
newest: an answer takes milliseconds, so half-open ones shut out nobody. What is shown is made at most once in `FRESH_S`, and one
question at a time waits in the data path, however many people look.
"""

import asyncio
import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from common import texts
from common.clock import Clock
from edge.config import Page
from edge.errors import EdgeError
from edge.exercise import Exercises
from edge.page import html
from edge.situation import Situation

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_PER_ADDRESS = 16
HEAD_BYTES = 8192
HEAD_S = 5.0
CONNECTION_S = 15.0
ANSWER_S = 2.0
"""Real seconds that the data path has to answer; then the page shows what it said last."""
FRESH_S = 1.0
RETRY_S = 30.0
"""Real seconds after which an address that could not be had is tried again."""

_TEXT, _HTML, _JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
}  # fmt: skip


class _Answer(NamedTuple):
    status: int
    kind: str
    body: bytes


class PageServer:
    """`situation` asks the data path, and returns at once. `start()` never fails: an address in use is logged, and tried again."""

    def __init__(
        self,
        where: Page | Path,
        clock: Clock,
        situation: "Callable[[], Future[Situation]]",
        exercises: Exercises | None = None,
    ) -> None:
        self._where = where
        self._clock = clock
        self._situation = situation
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._open: dict[asyncio.StreamWriter, str] = {}
        self._asking: set[asyncio.StreamWriter] = set()
        """Those that have sent no whole head yet."""
        self._asked: Future[Situation] | None = None
        self._last: Situation | None = None
        self._made: dict[str, tuple[float, _Answer]] = {}
        self._failing = False
        self._orders: dict[tuple[str, str], Callable[[bytes], dict[str, Any]]] = {}
        if exercises is not None:
            self._orders = {
                ("GET", "/exercise"): exercises.report,
                ("POST", "/exercise"): exercises.begin,
                ("POST", "/exercise/end"): exercises.end,
            }

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=5)

    # ------------------------------------------------------------------ in its thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve())
        except Exception:
            log.exception("page: it ended by a fault of this program; the gateway goes on without")

    async def _serve(self) -> None:
        told = False
        while not self._stopping.is_set():
            try:
                server = await self._listen()
            except OSError as e:
                if not told:
                    log.error("page: %s cannot be had, the gateway goes on without: %s", self._name, e)
                    told = True
                await self._pause(RETRY_S)
                continue
            log.info("page: %s", self._name)
            await self._stopping.wait()
            server.close()
            if self._asked is not None:
                self._asked.cancel()

    @property
    def _name(self) -> str:
        return str(self._where) if isinstance(self._where, Path) else f"http://{self._where.listen}"

    async def _listen(self) -> asyncio.Server:
        if isinstance(self._where, Page):
            return await asyncio.start_server(self._connected, self._where.host, self._where.port, limit=HEAD_BYTES)
        server = await asyncio.start_unix_server(self._connected, self._where, limit=HEAD_BYTES)
        self._where.chmod(0o600)
        return server

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        self._make_room(peer[0] if peer else "")
        self._open[writer] = peer[0] if peer else ""
        self._asking.add(writer)
        try:
            async with asyncio.timeout(CONNECTION_S):
                answer, only_head = await self._answer(reader, writer)
                writer.write(_head(answer) + (b"" if only_head else answer.body))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError):
            pass  # whoever it was has gone, or takes nothing
        except Exception:
            log.exception("page: an answer failed by a fault of this program")
        finally:
            writer.transport.abort()
            self._open.pop(writer, None)
            self._asking.discard(writer)

    def _make_room(self, address: str) -> None:
        own = [writer for writer, owner in self._open.items() if owner == address]
        for held, limit in ((own, MAX_PER_ADDRESS), (list(self._open), MAX_CONNECTIONS)):
            if len(held) >= limit:
                spared = next((writer for writer in held if writer in self._asking), held[0])
                self._open.pop(spared, None)
                self._asking.discard(spared)
                spared.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[_Answer, bool]:
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return _refusal(408), False
        except asyncio.LimitOverrunError:
            return _refusal(431), False
        self._asking.discard(writer)
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return _refusal(400), False
        order = self._orders.get((method, target))
        if order is not None:
            return await self._order(order, reader, head), False
        if method not in ("GET", "HEAD"):
            return _refusal(405), False
        return await self._page(target.partition("?")[0]), method == "HEAD"

    async def _order(
        self, order: Callable[[bytes], dict[str, Any]], reader: asyncio.StreamReader, head: bytes
    ) -> _Answer:
        """What a tool asks for, in a thread: it may wait for the data path."""
        length = re.search(rb"\r\ncontent-length: *(\d{1,4})\r\n", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        try:
            done = await asyncio.to_thread(order, body)
        except EdgeError as e:
            return _Answer(409, _JSON, json.dumps({"error": str(e)}).encode())
        return _Answer(200, _JSON, json.dumps(done, ensure_ascii=False).encode())

    async def _page(self, path: str) -> _Answer:
        if path not in ("/", "/status.json"):
            return _refusal(404)
        answered = await self._ask()
        boot_s = self._clock.boot()
        made_s, answer = self._made.get(path, (-1.0, None))
        if answer is not None and self._clock.real(boot_s - made_s) < FRESH_S:
            return answer
        now = html.Now(boot_s, self._clock.wall(), answered)
        if path == "/":
            answer = _Answer(200, _HTML, html.document(self._last, now).encode())
        else:
            answer = _Answer(200, _JSON, html.status(self._last, now).encode())
        self._made[path] = boot_s, answer
        return answer

    async def _ask(self) -> bool:
        """Whether `_last` is of now. What was asked once and is not answered yet is not asked again."""
        if self._asked is None:
            if self._last is not None and self._clock.real(self._clock.boot() - self._last.boot_s) < FRESH_S:
                return True
            self._asked = self._situation()
        asked = self._asked
        # Waited for, never cancelled: others may wait for the same.
        await asyncio.wait([asyncio.wrap_future(asked)], timeout=ANSWER_S)
        if not asked.done():
            return False
        if self._asked is asked:
            self._asked = None
            if asked.exception() is None:
                self._last = asked.result()
            elif not self._failing:
                log.error("page: the gateway does not say how it is: %s", asked.exception())
            self._failing = asked.exception() is not None
        return not self._failing


def _refusal(status: int) -> _Answer:
    known = texts.phrases("page")["error"]
    text = known.get(str(status)) or known["other"].format(status=status)
    return _Answer(status, _TEXT, f"{text}\n".encode())


def _head(answer: _Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        f"Content-Security-Policy: {html.policy()}",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        *(["Allow: GET, HEAD"] if answer.status == 405 else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
