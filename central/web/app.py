"""The page, its stream of changes, the link that acknowledges, and the API: one ASGI application.

Everything is rendered here, in French, and works without JavaScript; `/events` sends the parts that have changed. Nothing comes
from elsewhere and nothing stands inline, so the policy that browsers enforce can forbid the rest. Links carry the path of
`web.public_url`; a proxy may pass that path on or cut it off. GET changes nothing: mail scanners follow links. (But of a provider's
report of an SMS, under a secret address that stands in no mail.)
"""

import asyncio
import base64
import hmac
import ipaddress
import json
import logging
import math
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from central.accounts import MAX_PASSWORD, Accounts, Lockout, Session
from central.accounts import Scope as TokenScope
from central.alarms.log import Occurrence
from central.alarms.webhook import Webhook
from central.alarms.webhook import parse as parse_delivery
from central.alarms.wishes import Wishes
from central.config import Cap, SmsReport, Web
from central.errors import NeedsPerson, Refused, StateUnavailable, Unavailable
from central.notify.cap import MEDIA_TYPE
from central.notify.notifier import Notifier
from central.status import Measured
from central.web import words
from central.web.chart import PAGE
from central.web.situation import Alarm, Observer, Situation, Station
from central.web.words import say
from common import texts
from common.clock import Clock, from_rfc3339, parse_until, rfc3339
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

REFRESH_S = 1.0
"""Real seconds between two renderings for all who look; each is also told the time, by which it knows that it still hears."""
MAX_BODY, MAX_DELIVERY = 4096, 1024 * 1024
"""Bytes of a form, and of what Grafana posts."""
BODY_TIMEOUT_S = 10.0
PROBLEM = "application/problem+json"
COOKIE, LOGIN_COOKIE = "__Host-maillages", "__Host-maillages-login"
FREE_TRIES = 5
"""Failed sign-ins in a row of an address, before it has to wait."""
HASHES, MAX_WAITING = 2, 20
"""Passwords that are checked at once (64 MiB each), and that may wait for it."""
MAX_HOURS = 168
MAX_NOTE = 75
"""With the name it fits into what a gateway takes as `by` (120)."""
REPORT_TRIES, REPORT_PAUSE_S = 4, 0.5
MAX_WHY = 200
SHELVES_H = (1, 2, 4, 8, 24)
"""For how many hours an alarm can be shelved on the page."""
RATE_PER_S, BURST = 2.0, 60

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
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class Pages:
    """The handlers. `public_url`: where people reach the page. `cap`: whom CAP messages are for. `webhook` takes what Grafana posts.
    `closing` ends the streams when it is set. `wished()` is called after a wish was written; `signs`: gateways are sent commands.
    `reports`: how providers of SMS report."""

    def __init__(
        self,
        observer: Observer,
        notifier: Notifier,
        accounts: Accounts,
        clock: Clock,
        web: Web,
        cap: Cap | None,
        webhook: Webhook,
        closing: asyncio.Event,
        wishes: Wishes,
        wished: Callable[[], None],
        *,
        signs: bool,
        reports: Sequence[SmsReport],
    ) -> None:
        self._reports = reports
        self._wishes = wishes
        self._wished = wished
        self._signs = signs
        self._webhook = webhook
        self._root = root = urlsplit(web.public_url).path.rstrip("/")
        self._public_url = web.public_url.rstrip("/")
        self._accounts = accounts
        self._open = web.open_reading
        self._proxies = {*web.proxies}
        self._lockout = Lockout(clock, FREE_TRIES)
        self._hashing = asyncio.Semaphore(HASHES)
        self._waiting = 0
        self._reading = asyncio.Semaphore(1)
        self._asked = Rate(clock)
        self._cap = cap
        self._observer = observer
        self._notifier = notifier
        self._clock = clock
        self._closing = closing
        self._env = _environment(root)
        self._parts = _Shared(self._render_parts, clock)

    async def overview(self, request: Request) -> Response:
        session = await self._reader(request)
        return HTMLResponse(await run_in_threadpool(self._overview, session))

    async def alarms(self, request: Request) -> Response:
        session = await self._reader(request)
        return HTMLResponse(await run_in_threadpool(self._alarms, session))

    async def answer(self, request: Request) -> Response:
        """An operator acknowledges on the page."""
        session, form = await self._operator(request)
        occurrence, note = request.path_params["occurrence"], form.get("note", "").strip()[:MAX_NOTE]
        by = f"{session.account} ({note})" if note else session.account
        if await run_in_threadpool(self._notifier.acknowledge, occurrence, by) is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return RedirectResponse(f"{self._root}/alarmes#{quote(occurrence)}", HTTPStatus.SEE_OTHER)

    async def shelve(self, request: Request) -> Response:
        """An operator shelves an alarm, for a reason, or gives its shelf another end."""
        session, form = await self._operator(request)
        why = form.get("why", "").strip()[:MAX_WHY]
        now_s = self._clock.wall()
        try:
            until_s = parse_until(form.get("until", ""), now_s)
        except ValueError:
            raise HTTPException(HTTPStatus.BAD_REQUEST) from None
        if not why:
            raise HTTPException(HTTPStatus.BAD_REQUEST)
        return await self._wish(request, lambda known: self._wishes.shelve(known, session.account, until_s, why))

    async def unshelve(self, request: Request) -> Response:
        """An operator ends a shelf: what stands is told again."""
        session, _ = await self._operator(request)
        return await self._wish(request, lambda known: self._wishes.unshelve(known, session.account))

    async def _operator(self, request: Request) -> tuple[Session, dict[str, str]]:
        """Who acts, and the form. Raises HTTPException 401 or 403."""
        form = await _form(request)
        session = await self._session(request)
        if session is None:
            raise HTTPException(HTTPStatus.UNAUTHORIZED)
        if not session.may("operator") or not _same(form.get("csrf"), session.csrf):
            raise HTTPException(HTTPStatus.FORBIDDEN)
        return session, form

    async def _wish(self, request: Request, write: Callable[[Occurrence], None]) -> Response:
        """Write down what is wished of an alarm; its owner does it. Raises HTTPException 404, and 409 for what cannot be."""
        occurrence = request.path_params["occurrence"]

        def written() -> None:
            known = self._notifier.occurrence(occurrence)
            if known is None:
                raise HTTPException(HTTPStatus.NOT_FOUND)
            if not self._can_shelve(known):
                raise HTTPException(HTTPStatus.CONFLICT)
            try:
                write(known)
            except Refused as e:
                log.info("page: %s", e)
                raise HTTPException(HTTPStatus.CONFLICT) from None

        await run_in_threadpool(written)
        self._wished()
        return RedirectResponse(f"{self._root}/alarmes#{quote(occurrence)}", HTTPStatus.SEE_OTHER)

    def _can_shelve(self, occurrence: Occurrence) -> bool:
        """A gateway does only what is signed."""
        return occurrence.state != "NORMAL" and (occurrence.source == "central" or self._signs)

    # ------------------------------------------------------------------ who asks

    async def sign_in(self, request: Request) -> Response:
        """The form, and what comes back of it. Its token stands in a cookie too: no other site can sign anybody in."""
        if request.method != "POST":
            return self._login(secrets.token_urlsafe(16), None)
        form = await _form(request)
        csrf = request.cookies.get(LOGIN_COOKIE, "")
        if not csrf or not _same(form.get("csrf"), csrf):
            raise HTTPException(HTTPStatus.FORBIDDEN)
        name, password = form.get("name", "").strip().lower()[:40], form.get("password", "")[:MAX_PASSWORD]
        subjects = f"account {name}@{self._address(request)}", f"address {self._address(request)}"
        wait_s = max(self._lockout.wait_s(s) for s in subjects)
        if wait_s > 0 or self._waiting >= MAX_WAITING:
            seconds = math.ceil(wait_s) or 5
            return self._login(csrf, say("login.wait", seconds=seconds), HTTPStatus.TOO_MANY_REQUESTS, seconds)
        for subject in subjects:
            self._lockout.failed(subject)  # before the hash is made: many at once count too
        self._waiting += 1
        try:
            async with self._hashing:
                secret = await run_in_threadpool(self._accounts.sign_in, name, password)
        finally:
            self._waiting -= 1
        if secret is None:
            log.warning("page: a sign-in failed, from %s", self._address(request))
            return self._login(csrf, say("login.wrong"), HTTPStatus.UNAUTHORIZED)
        for subject in subjects:
            self._lockout.succeeded(subject)
        log.info("page: %s signed in, from %s", name, self._address(request))
        response = RedirectResponse(f"{self._root}/", HTTPStatus.SEE_OTHER)
        _set_cookie(response, COOKIE, secret)
        return response

    async def sign_out(self, request: Request) -> Response:
        form, session = await _form(request), await self._session(request)
        if session is not None:
            if not _same(form.get("csrf"), session.csrf):
                raise HTTPException(HTTPStatus.FORBIDDEN)
            await run_in_threadpool(self._accounts.sign_out, request.cookies[COOKIE])
        response = RedirectResponse(f"{self._root}/connexion", HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")
        return response

    def _login(self, csrf: str, problem: str | None, status: int = 200, retry_s: int | None = None) -> Response:
        page = self._page("login.html", title=say("login.title"), csrf=csrf, problem=problem)
        headers = {"retry-after": str(retry_s)} if retry_s else None
        response = HTMLResponse(page, status, headers)
        _set_cookie(response, LOGIN_COOKIE, csrf)
        return response

    async def _session(self, request: Request, *, touch: bool = True) -> Session | None:
        secret = request.cookies.get(COOKIE)
        return await run_in_threadpool(lambda: self._accounts.session(secret, touch=touch)) if secret else None

    async def _reader(self, request: Request, *, touch: bool = True) -> Session | None:
        """Who looks; None for anybody, where that is allowed. Raises HTTPException 401."""
        session = await self._session(request, touch=touch)
        if session is None and not self._open:
            raise HTTPException(HTTPStatus.UNAUTHORIZED)
        return session

    async def _program(self, request: Request) -> None:
        """A token of scope read, or whoever may read the page. Raises HTTPException 401, 429."""
        secret = _credential(request)
        if not secret:
            await self._reader(request)
            return
        await self._token(secret, "read")

    async def _token(self, secret: str, scope: TokenScope) -> None:
        """Raises HTTPException 401, 429."""
        token = await run_in_threadpool(self._accounts.token, secret, scope) if secret else None
        if token is None:
            detail = f"expected a token of scope {scope} that has not ended"
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED, detail, {"www-authenticate": 'Bearer, Basic realm="Maillages"'}
            )
        wait_s = self._asked.wait_s(token.id)
        if wait_s:
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, headers={"retry-after": str(math.ceil(wait_s))})

    def _address(self, request: Request) -> str:
        """The other end; behind one of our proxies the last that it names."""
        host = request.client.host if request.client else ""
        if host in self._proxies:
            host = request.headers.get("x-forwarded-for", host).rpartition(",")[2].strip()
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return "unknown"
        if address.version == 6:
            return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
        return str(address)

    # ------------------------------------------------------------------ what it says

    async def events(self, request: Request) -> Response:
        """Server-sent events `part`: {"id", "html"} of each part that has changed since the last."""
        await self._reader(request, touch=False)
        stream = StreamingResponse(self._stream(request), media_type="text/event-stream")
        stream.headers["x-accel-buffering"] = "no"
        return Response(media_type="text/event-stream") if request.method == "HEAD" else stream

    async def ack(self, request: Request) -> Response:
        if request.method == "POST":
            await _body(request)
        return await run_in_threadpool(self._ack, request.path_params["token"], request.method == "POST")

    async def api_alarms(self, request: Request) -> Response:
        await self._program(request)
        return JSONResponse(await run_in_threadpool(lambda: _api_alarms(self._observer.situation())))

    async def api_series(self, request: Request) -> Response:
        """`station`, `quantity`, `hours` (at most MAX_HOURS): [time, value] of the readings, the oldest first."""
        await self._program(request)
        asked = request.query_params
        try:
            hours = float(asked.get("hours", "24"))
        except ValueError:
            hours = math.nan
        if not 0 < hours <= MAX_HOURS:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"hours: expected a number up to {MAX_HOURS}")
        station, quantity = asked.get("station", ""), asked.get("quantity", "")
        try:
            async with self._reading:
                found = await run_in_threadpool(self._observer.series, station, quantity, hours)
        except (Unavailable, NeedsPerson):
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer") from None
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        values = [[rfc3339(at / 1000), value] for at, value in found]
        unit = QUANTITIES[quantity].unit
        return JSONResponse({"station": station, "quantity": quantity, "unit": unit, "values": values})

    async def api_grafana(self, request: Request) -> Response:
        """What Grafana's webhook contact point posts (central/alarms/webhook.py)."""
        await self._token(_credential(request), "webhook")
        body = await _body(request, MAX_DELIVERY)
        try:
            delivery = await run_in_threadpool(parse_delivery, body)
            done = await run_in_threadpool(self._webhook.take, delivery)
        except Refused as e:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(e)) from None
        except StateUnavailable:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "the alarm log does not answer") from None
        return JSONResponse({"alerts": [d._asdict() for d in done]})

    async def api_stations(self, request: Request) -> Response:
        await self._program(request)
        return JSONResponse(await run_in_threadpool(lambda: _api(self._observer.situation())))

    async def sms_report(self, request: Request) -> Response:
        """A provider says what became of an SMS. One that is asked before the message's own outcome is written waits for a moment."""
        token = request.path_params["token"]
        report = next((r for r in self._reports if _same(token, r.token)), None)
        if report is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        text = f"{request.url.query}\n{(await _body(request)).decode(errors='replace')}"
        found = re.search(report.id, text)
        if found is None:
            log.warning("a report of an SMS names no message: expected %r", report.id)
            raise HTTPException(HTTPStatus.BAD_REQUEST)
        delivered, failed = (bool(re.search(p, text)) for p in (report.delivered, report.failed))
        for _ in range(REPORT_TRIES if delivered != failed else 0):
            if await run_in_threadpool(self._notifier.note_delivery, found[1], delivered=delivered):
                break
            await asyncio.sleep(REPORT_PAUSE_S)
        return PlainTextResponse("ok\n")

    async def cap_feed(self, request: Request) -> Response:
        await self._admit(request)
        return Response(
            await run_in_threadpool(self._observer.cap_feed, f"{self._public_url}/cap"),
            media_type="application/atom+xml",
        )

    async def cap_message(self, request: Request) -> Response:
        sender = (await self._admit(request)).sender
        name = request.path_params["identifier"]
        found = await run_in_threadpool(self._observer.cap_message, name, sender, f"{self._public_url}/alarmes")
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(found, media_type=MEDIA_TYPE)

    async def _admit(self, request: Request) -> Cap:
        """Raises HTTPException 404 where there are no CAP messages, 401 without the token."""
        if self._cap is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        secret = _credential(request)
        if not _same(secret, self._cap.token) and not await run_in_threadpool(self._accounts.token, secret, "cap"):
            raise HTTPException(HTTPStatus.UNAUTHORIZED, headers={"www-authenticate": 'Basic realm="CAP", Bearer'})
        return self._cap

    async def health(self, _request: Request) -> Response:
        """Whether the page and the alarm log answer; the database of the readings is no condition."""
        try:
            await run_in_threadpool(self._observer.check)
        except StateUnavailable:
            return PlainTextResponse("alarm log: no answer\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("ok\n")

    async def error(self, request: Request, error: Exception) -> Response:
        """HTTPException and what nobody foresaw, for people or as RFC 9457."""
        known = error if isinstance(error, HTTPException) else HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if path.startswith("/api/"):
            status = HTTPStatus(known.status_code)
            detail = known.detail if known.detail != status.phrase else _DETAILS.get(status, known.detail)
            problem = {
                "type": "about:blank",
                "title": status.phrase,
                "status": known.status_code,
                "detail": f"{request.method} {request.url.path}: {detail}",
            }
            return JSONResponse(problem, known.status_code, known.headers, media_type=PROBLEM)
        wants_page = request.method == "GET" and not path.startswith(("/cap/", "/events"))
        if known.status_code == HTTPStatus.UNAUTHORIZED and wants_page:
            return RedirectResponse(f"{self._root}/connexion", HTTPStatus.SEE_OTHER)
        return self._error_page(known.status_code, known.headers)

    # ------------------------------------------------------------------ rendering, in worker threads

    def _overview(self, session: Session | None) -> str:
        return self._page("overview.html", title=words.say("title"), session=session, parts=self._parts.get())

    def _alarms(self, session: Session | None) -> str:
        self._observer.note_access(session.account if session else "anyone", "page of the alarms")
        return self._page(
            "alarms.html",
            session=session,
            title=words.say("alarms_title"),
            stories=self._observer.stories(),
            shelves=self._observer.shelves(),
            can_shelve=self._can_shelve,
            spans=SHELVES_H,
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
        return self._env.get_template(name).render(
            **{"session": None, "exercise": self._clock.exercise, "now_s": now_s} | parts
        )

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

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        yield "retry: 3000\n\n"
        sent: dict[str, str] = {}
        while not self._closing.is_set():
            try:
                await self._reader(request, touch=False)
                parts = await run_in_threadpool(self._parts.get)
            except (StateUnavailable, HTTPException):
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
                except StateUnavailable as e:
                    if not self._failing:
                        log.error("the page cannot read the alarm log: %s", e)
                    self._failing = True
                    raise
                self._failing = False
            return self._made[1]


def application(
    observer: Observer,
    notifier: Notifier,
    accounts: Accounts,
    clock: Clock,
    web: Web,
    cap: Cap | None,
    webhook: Webhook,
    closing: asyncio.Event,
    wishes: Wishes,
    wished: Callable[[], None],
    *,
    signs: bool,
    reports: Sequence[SmsReport] = (),
) -> ASGIApp:
    """The ASGI application. It opens nothing and starts nothing."""
    root = urlsplit(web.public_url).path.rstrip("/")
    pages = Pages(
        observer, notifier, accounts, clock, web, cap, webhook, closing, wishes, wished, signs=signs, reports=reports
    )
    routes: list[BaseRoute] = [
        Route("/", pages.overview),
        Route("/alarmes", pages.alarms),
        Route("/alarmes/{occurrence}", pages.answer, methods=["POST"]),
        Route("/alarmes/{occurrence}/veille", pages.shelve, methods=["POST"]),
        Route("/alarmes/{occurrence}/fin-de-veille", pages.unshelve, methods=["POST"]),
        Route("/connexion", pages.sign_in, methods=["GET", "POST"]),
        Route("/deconnexion", pages.sign_out, methods=["POST"]),
        Route("/events", pages.events),
        Route("/ack/{token}", pages.ack, methods=["GET", "POST"]),
        Route("/api/grafana", pages.api_grafana, methods=["POST"]),
        Route("/api/stations", pages.api_stations),
        Route("/api/alarms", pages.api_alarms),
        Route("/api/series", pages.api_series),
        Route("/sms/{token}", pages.sms_report, methods=["GET", "POST"]),
        Route("/cap/atom.xml", pages.cap_feed),
        Route("/cap/{identifier}.xml", pages.cap_message),
        Route("/healthz", pages.health),
        Mount("/static", StaticFiles(packages=[("central.web", "static"), ("common", "static")])),
    ]
    under = [Mount(root, routes=routes)] if root else []
    handlers: dict[Any, Any] = {HTTPException: pages.error, Exception: pages.error}
    https = web.tls is not None or web.public_url.startswith("https:")
    return _Headers(Starlette(routes=[*under, *routes], exception_handlers=handlers), https=https)


class _Headers:
    """Puts the headers that forbid onto every answer."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = [*_HEADERS, *([_HSTS] if https else [])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
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


def _same(given: str | None, expected: str) -> bool:
    return hmac.compare_digest((given or "").encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


def _set_cookie(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, secure=True, httponly=True, samesite="strict")


async def _form(request: Request) -> dict[str, str]:
    """A form's fields, the last of each name. Raises HTTPException 413, 408 or 400."""
    try:
        text = (await _body(request)).decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=10, errors="replace"))
    except ValueError:
        raise HTTPException(HTTPStatus.BAD_REQUEST) from None


async def _body(request: Request, limit: int = MAX_BODY) -> bytes:
    """What a client sends. Raises HTTPException 413, 408, or 400 when the sender leaves in the middle."""
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    except TimeoutError:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from None
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST) from None
    return body


class Rate:
    """How often each token asks: `RATE_PER_S`, and `BURST` at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def wait_s(self, token: str) -> float:
        """Count one request; real seconds to wait when it is too many, else 0. Called with tokens that exist only."""
        now = self._clock.boot()
        spent, at = self._spent.get(token, (0.0, now))
        spent = max(0.0, spent - self._clock.real(now - at) * RATE_PER_S)
        if spent + 1 > BURST:
            return (spent + 1 - BURST) / RATE_PER_S
        self._spent[token] = spent + 1, now
        return 0.0


_DETAILS = {
    HTTPStatus.NOT_FOUND: "no such resource, expected /api/stations, /api/alarms or /api/series with a known station and quantity",
    HTTPStatus.METHOD_NOT_ALLOWED: "expected GET, or POST to /api/grafana",
    HTTPStatus.UNAUTHORIZED: "expected a token of scope read that has not ended, as Authorization: Bearer",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests of this token, see Retry-After",
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
        "alarms": [_api_alarm(a) for a in x.alarms],
    }


def _api_alarms(s: Situation) -> dict[str, Any]:
    """Every alarm that stands, also of whole gateways. No name of a person."""
    alarms = [
        {"gateway": a.occurrence.gateway, "station": a.occurrence.station, "rule": a.occurrence.rule} | _api_alarm(a)
        for a in s.alarms
    ]
    return {"time": rfc3339(s.now_s), "exercise": s.exercise, "alarms": alarms}


def _api_alarm(a: Alarm) -> dict[str, Any]:
    return {
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
