"""The page as a part of central: uvicorn in a thread with a loop of its own. Whatever befalls it, alarms go on.

A port that is taken, or an address that this machine does not have (yet), is said once and tried again: an alarm chain must not
end because of its page.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial

import uvicorn

from central.accounts import Accounts
from central.alarms.webhook import Webhook
from central.alarms.wishes import Wishes
from central.config import CentralConfig, SmsHttp
from central.db import Database
from central.errors import StateUnavailable
from central.notify.notifier import Notifier
from central.registry import Registry
from central.store.base import Store
from central.web.app import application
from central.web.history import History
from central.web.limits import LimitedProtocol, Limits
from central.web.situation import Observer
from common.clock import Clock

log = logging.getLogger(__name__)

RETRY_S = 5.0
STOP_S = 5.0
MAX_HEAD = 16 * 1024


class Page:
    """Serves the page on `web.host` and `web.port`. The state is only read, beside the process's own connection. `linked()`: whether
    central has its broker. `wished()`: somebody wants something of an alarm."""

    def __init__(
        self,
        config: CentralConfig,
        registry: Registry,
        store: Store,
        notifier: Notifier,
        accounts: Accounts,
        webhook: Webhook,
        clock: Clock,
        linked: Callable[[], bool],
        wishes: Wishes,
        wished: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._db = Database(config.state_at)
        self._notifier = notifier
        self._accounts = accounts
        self._wishes = wishes
        self._wished = wished
        self._webhook = webhook
        self._clock = clock
        self._history = History(store, registry, clock)
        self._observer = Observer(config, self._db, registry, self._history, clock, linked)
        self._stop = threading.Event()
        self._end: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._history.start()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the streams and the server; requests in hand get a moment."""
        self._stop.set()
        self._end()
        if self._thread:
            self._thread.join(STOP_S)
        self._history.stop()
        self._db.close()

    def _run(self) -> None:
        web = self._config.web
        failing = False
        while not self._stop.is_set():
            try:
                with _listen(web.host, web.port) as listener:
                    self._db.open_read_only()
                    scheme = "https" if web.tls else "http"
                    log.info(
                        "the page is served on %s://%s:%d, for people %s", scheme, web.host, web.port, web.public_url
                    )
                    failing = False
                    asyncio.run(self._serve(listener))
            except (OSError, StateUnavailable) as e:
                if not failing:
                    log.error(
                        "no page: web.host %s, web.port %d: %s; tried again every %g s", web.host, web.port, e, RETRY_S
                    )
                failing = True
            except Exception:
                log.exception("the page ended; begun again in %g s", RETRY_S)
            finally:
                self._db.close()
            self._clock.wait(self._stop, RETRY_S * self._clock.scale)

    async def _serve(self, listener: socket.socket) -> None:
        loop, closing = asyncio.get_running_loop(), asyncio.Event()
        web = self._config.web
        server = uvicorn.Server(
            uvicorn.Config(
                application(
                    self._observer,
                    self._notifier,
                    self._accounts,
                    self._clock,
                    web,
                    self._config.cap,
                    self._webhook,
                    closing,
                    self._wishes,
                    self._wished,
                    signs=self._config.commands is not None,
                    reports=[s.report for s in self._config.sms if isinstance(s, SmsHttp) and s.report],
                ),
                ssl_certfile=web.tls.cert if web.tls else None,
                ssl_keyfile=web.tls.key if web.tls else None,
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                lifespan="off",
                ws="none",
                http=partial(LimitedProtocol, limits=Limits(web.proxies)),  # type: ignore[arg-type]
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEAD,
                timeout_graceful_shutdown=1,
            )
        )

        def end() -> None:
            server.should_exit = True
            closing.set()

        self._end = lambda: _call(loop, end)
        if not self._stop.is_set():
            await server.serve(sockets=[listener])


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family)
