"""The page, its stream of changes, the link that acknowledges, and the API: one ASGI application.

Everything is rendered here, in French, and works without JavaScript; `/events` sends the parts that have changed. Nothing comes
from elsewhere and nothing stands inline, so the policy that browsers enforce can forbid the rest. Links carry the path of
`web.public_url`; a proxy may pass that path on or cut it off. GET changes nothing: mail scanners follow links.
"""

import asyncio
import base64
import hmac
import json
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from central.config import Cap
from central.notify.cap import MEDIA_TYPE
from central.notify.notifier import Notifier
from central.status import Measured
from central.web import words
from central.web.chart import PAGE
from central.web.situation import Observer, Situation, Station
from common import texts
from common.clock import Clock, from_rfc3339, rfc3339
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

REFRESH_S = 1.0
"""Real seconds between two renderings for all who look; each is also told the time, by which it knows that it still hears."""
MAX_BODY = 4096
BODY_TIMEOUT_S = 10.0
PROBLEM = "application/problem+json"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
]


class Pages:
    """The handlers. `public_url`: where people reach the page. `cap`: whom CAP messages are for. `closing` ends the streams when
    it is set."""

    def __init__(
        self,
        observer: Observer,
        notifier: Notifier,
        clock: Clock,
        public_url: str,
        cap: Cap | None,
        closing: asyncio.Event,
    ) -> None:
        root = urlsplit(public_url).path.rstrip("/")
        self._public_url = public_url.rstrip("/")
        self._cap = cap
        self._observer = observer
        self._notifier = notifier
        self._clock = clock
        self._closing = closing
        self._env = _environment(root)
        self._parts = _Shared(self._render_parts, clock)

    async def overview(self, _request: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(self._overview))

    async def alarms(self, _request: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(self._alarms))

    async def events(self, request: Request) -> Response:
        """Server-sent events `part`: {"id", "html"} of each part that has changed since the last."""
        stream = StreamingResponse(self._stream(), media_type="text/event-stream")
        stream.headers["x-accel-buffering"] = "no"
        return Response(media_type="text/event-stream") if request.method == "HEAD" else stream

    async def ack(self, request: Request) -> Response:
        if request.method == "POST":
            await _discard_body(request)
        return await run_in_threadpool(self._ack, request.path_params["token"], request.method == "POST")

    async def api_stations(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(lambda: _api(self._observer.situation())))

    async def cap_feed(self, request: Request) -> Response:
        self._admit(request)
        return Response(
            await run_in_threadpool(self._observer.cap_feed, f"{self._public_url}/cap"),
            media_type="application/atom+xml",
        )

    async def cap_message(self, request: Request) -> Response:
        sender = self._admit(request).sender
        name = request.path_params["identifier"]
        found = await run_in_threadpool(self._observer.cap_message, name, sender, f"{self._public_url}/alarmes")
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(found, media_type=MEDIA_TYPE)

    def _admit(self, request: Request) -> Cap:
        """Raises HTTPException 404 where there are no CAP messages, 401 without the token."""
        if self._cap is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        if not hmac.compare_digest(_credential(request).encode(), self._cap.token.encode()):
            raise HTTPException(HTTPStatus.UNAUTHORIZED, headers={"www-authenticate": 'Basic realm="CAP", Bearer'})
        return self._cap

    async def health(self, _request: Request) -> Response:
        """Whether the page and the alarm log answer; the database of the readings is no condition."""
        try:
            await run_in_threadpool(self._observer.check)
        except sqlite3.Error:
            return PlainTextResponse("alarm log: no answer\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("ok\n")

    async def error(self, request: Request, error: Exception) -> Response:
        """HTTPException and what nobody foresaw, for people or as RFC 9457."""
        known = error if isinstance(error, HTTPException) else HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR)
        if request.scope["path"].removeprefix(request.scope.get("root_path", "")).startswith("/api/"):
            problem = {
                "type": "about:blank",
                "title": HTTPStatus(known.status_code).phrase,
                "status": known.status_code,
                "detail": f"{request.method} {request.url.path}: {_DETAILS.get(HTTPStatus(known.status_code), known.detail)}",
            }
            return JSONResponse(problem, known.status_code, known.headers, media_type=PROBLEM)
        return self._error_page(known.status_code, known.headers)

    # ------------------------------------------------------------------ rendering, in worker threads

    def _overview(self) -> str:
        return self._page("overview.html", title=words.say("title"), parts=self._parts.get())

    def _alarms(self) -> str:
        return self._page(
            "alarms.html",
            title=words.say("alarms_title"),
            stories=self._observer.stories(),
            shelves=self._observer.shelves(),
        )

    def _ack(self, token: str, answer: bool) -> Response:
        occurrence = self._notifier.token_occurrence(token)
        if occurrence is None:
            text, title = words.say("ack.unknown"), words.say("ack.title")
            return HTMLResponse(self._page("error.html", title=title, text=text), HTTPStatus.NOT_FOUND)
        outcome, by = None, occurrence.answered_by
        if occurrence.state == "NORMAL":
            outcome = "over"
        elif answer:
            done = self._notifier.acknowledge_by_token(token)
            by = done.before if done else None
            outcome = "already" if by else "done"
        elif by:
            outcome = "was"
        alarm = self._observer.alarm(occurrence)
        if alarm is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        recipient = self._notifier.token_recipient(token)
        title = words.say("ack.title")
        return HTMLResponse(
            self._page("ack.html", title=title, alarm=alarm, outcome=outcome, by=by, recipient=recipient)
        )

    def _error_page(self, status: int, headers: Mapping[str, str] | None = None) -> Response:
        known = texts.phrases("page")["error"]
        text = known.get(str(status)) or known["other"].format(status=status)
        return HTMLResponse(self._page("error.html", title=str(status), text=text), status, headers)

    def _page(self, name: str, **parts: Any) -> str:
        now_s = self._clock.wall()
        return self._env.get_template(name).render(exercise=self._clock.exercise, now_s=now_s, **parts)

    def _render_parts(self) -> dict[str, str]:
        s = self._observer.situation()
        part: Any = self._env.get_template("parts.html").module
        cards = {f"station-{x.station.id}": part.station(x, s.now_s) for x in s.stations}
        return {
            "time": part.time(s.now_s),
            "summary": part.summary(s),
            "stations": part.stations(cards.values()),
            **cards,
            "alarms": part.alarms(s),
            "gateways": part.gateways(s),
        }

    async def _stream(self) -> AsyncIterator[str]:
        yield "retry: 3000\n\n"
        sent: dict[str, str] = {}
        while not self._closing.is_set():
            try:
                parts = await run_in_threadpool(self._parts.get)
            except sqlite3.Error:
                return  # whoever looks is told of the silence, and asks again
            for name, html in changes(sent, parts).items():
                yield f"event: part\ndata: {json.dumps({'id': name, 'html': html})}\n\n"
            sent = parts
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._closing.wait()
            except TimeoutError:
                continue


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The parts to be replaced: each card by itself, unless cards came, went or changed their order."""
    if [n for n in before if n.startswith("station-")] != [n for n in now if n.startswith("station-")]:
        return {n: html for n, html in now.items() if not n.startswith("station-") and before.get(n) != html}
    return {n: html for n, html in now.items() if n != "stations" and before.get(n) != html}


class _Shared:
    """One rendering for all who look, made again when it is asked for and REFRESH_S old."""

    def __init__(self, render: Callable[[], dict[str, str]], clock: Clock) -> None:
        self._render = render
        self._clock = clock
        self._lock = threading.Lock()
        self._made: tuple[float, dict[str, str]] | None = None
        self._failing = False

    def get(self) -> dict[str, str]:
        with self._lock:
            now = self._clock.boot()
            if self._made is None or self._clock.real(now - self._made[0]) >= REFRESH_S / 2:
                try:
                    self._made = now, self._render()
                except sqlite3.Error as e:
                    if not self._failing:
                        log.error("the page cannot read the alarm log: %s", e)
                    self._failing = True
                    raise
                self._failing = False
            return self._made[1]


def application(
    observer: Observer, notifier: Notifier, clock: Clock, public_url: str, cap: Cap | None, closing: asyncio.Event
) -> ASGIApp:
    """The ASGI application. It opens nothing and starts nothing."""
    root = urlsplit(public_url).path.rstrip("/")
    pages = Pages(observer, notifier, clock, public_url, cap, closing)
    routes: list[BaseRoute] = [
        Route("/", pages.overview),
        Route("/alarmes", pages.alarms),
        Route("/events", pages.events),
        Route("/ack/{token}", pages.ack, methods=["GET", "POST"]),
        Route("/api/stations", pages.api_stations),
        Route("/cap/atom.xml", pages.cap_feed),
        Route("/cap/{identifier}.xml", pages.cap_message),
        Route("/healthz", pages.health),
        Mount("/static", StaticFiles(packages=[("central.web", "static"), ("common", "static")])),
    ]
    under = [Mount(root, routes=routes)] if root else []
    handlers: dict[Any, Any] = {HTTPException: pages.error, Exception: pages.error}
    return _Headers(Starlette(routes=[*under, *routes], exception_handlers=handlers))


class _Headers:
    """Puts the headers that forbid onto every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, guarded)


def _credential(request: Request) -> str:
    """The token of a Bearer, or the password of Basic (RFC 7617); "" without."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""


async def _discard_body(request: Request) -> None:
    """Read what a form may send and nobody needs. Raises HTTPException 413 or 408."""
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY:
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    except TimeoutError:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from None


_DETAILS = {
    HTTPStatus.NOT_FOUND: "no such resource, expected /api/stations",
    HTTPStatus.METHOD_NOT_ALLOWED: "expected GET",
    HTTPStatus.INTERNAL_SERVER_ERROR: "central's log says more",
}


def _environment(root: str) -> jinja2.Environment:
    def event_time(event: AlarmEvent, now_s: float) -> str:
        return words.when(from_rfc3339(event.time), now_s)

    env = jinja2.Environment(
        loader=jinja2.PackageLoader("central.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    env.globals |= {
        "root": root,
        "say": words.say,
        "commune": words.commune,
        "label": words.label,
        "when": words.when,
        "age": words.age,
        "trend": words.trend,
        "direction": words.direction,
        "positions": words.positions,
        "amount": words.amount,
        "number": words.number,
        "box": PAGE,
        "second": lambda now_s: texts.local_time(now_s, "second"),
        "event_time": event_time,
        "transition": texts.transition,
        "reference": texts.reference,
        "word": lambda status: texts.phrases("word")[status],
    }
    return env


def _api(s: Situation) -> dict[str, Any]:
    """The API's members keep their meaning; new ones may come. Units are those of `wire/quantities.py`."""
    return {
        "time": rfc3339(s.now_s),
        "exercise": s.exercise,
        "broker_connected": s.linked,
        "readings": {"available": not s.failed, "read": rfc3339(s.read_s) if s.read_s is not None else None},
        "gateways": [
            {"id": g.id, "online": g.online, "heard": rfc3339(g.heard_s) if g.heard_s is not None else None}
            for g in s.gateways
        ],
        "stations": [_api_station(x) for x in s.stations],
    }


def _api_station(x: Station) -> dict[str, Any]:
    quantities = [x.main, *x.others] if x.main else []
    return {
        "id": x.station.id,
        "name": x.station.name,
        "river": x.station.river,
        "commune": {"nis": x.station.commune, "name": words.commune(x.station.commune)},
        "gateway": x.station.gateway,
        "lat": x.info.lat if x.info else None,
        "lon": x.info.lon if x.info else None,
        "state": x.state,
        "level": x.level,
        "silent": x.silent,
        "quantities": [_api_quantity(m) for m in quantities],
        "alarms": [
            {
                "occurrence": a.occurrence.occurrence,
                "kind": a.occurrence.kind,
                "status": a.occurrence.status,
                "level": a.occurrence.level,
                "state": a.occurrence.state,
                "acknowledged": a.occurrence.state == "ACK" or a.occurrence.acked_by is not None,
                "withheld": a.withheld,
                "shelved_until": rfc3339(a.shelf.until_s) if a.shelf else None,
                "waits_for_reset": a.waits_for_reset,
                "raised": rfc3339(words.bounded(a.occurrence.raised_s)),
            }
            for a in x.alarms
        ],
    }


def _api_quantity(m: Measured) -> dict[str, Any]:
    known = QUANTITIES.get(m.info.quantity)
    return {
        "quantity": m.info.quantity,
        "sensor": m.sensor,
        "unit": known.unit if known else None,
        "value": m.newest[1] if m.newest else None,
        "time": rfc3339(m.newest[0] / 1000) if m.newest else None,
        "online": m.online,
        "trend_per_h": m.trend_per_h,
        "thresholds": list(m.info.thresholds),
        "alarm_level": m.level,
    }
