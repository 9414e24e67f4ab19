"""Who may hold how many connections to the page, and for how long: an acknowledgement finds room.

At a limit an old connection goes, not the newest: first one that waits for a request or is a stream of changes (its reader comes
back), then one whose answer is not fetched, then the oldest. So whoever opens hundreds of lasting ones shuts out nobody: an
answer takes a fraction of a second. Who shares the address of an attacker that also keeps the server busy may have to try twice.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Collection, Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 500
MAX_PER_ADDRESS = 50
"""From one address (IPv6: one /64) that is no proxy. A commune's office may share one."""
HEAD_S = 10.0
"""Real seconds for the head of a request: slow senders hold a connection no longer."""
REQUEST_S = 30.0
"""Real seconds after which an answer that is not fetched can be spared."""
FRESH_S = 1.0
"""Real seconds in which a connection may be expected to ask."""
_WARN_EVERY_S = 60.0


class Limits:
    """The open connections of one server, oldest first. Used from its event loop only.

    `proxies`: addresses that speak for many people and have no limit of their own.
    """

    def __init__(self, proxies: Collection[str]) -> None:
        self._proxies = {ipaddress.ip_address(proxy) for proxy in proxies}
        self._open: dict[LimitedProtocol, str | None] = {}
        self._warned_s = float("-inf")

    def opened(self, connection: "LimitedProtocol", now: float) -> None:
        """A connection came; an older one may have to go."""
        address = self._address(connection.client)
        if address is not None:
            own = [c for c, owner in self._open.items() if owner == address]
            if len(own) >= MAX_PER_ADDRESS:
                self._warn(f"{address} has more than {MAX_PER_ADDRESS} connections", now)
                _spare_one(own, now)
        if len(self._open) >= MAX_CONNECTIONS:
            self._warn(f"more than {MAX_CONNECTIONS} connections", now)
            _spare_one(self._open, now)
        self._open[connection] = address

    def closed(self, connection: "LimitedProtocol") -> None:
        self._open.pop(connection, None)

    def _address(self, client: tuple[str, int] | None) -> str | None:
        """Whose limit it counts against; None for proxies."""
        if client is None:
            return None
        address = ipaddress.ip_address(client[0].partition("%")[0])
        if address in self._proxies:
            return None
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address)

    def _warn(self, what: str, now: float) -> None:
        if now - self._warned_s >= _WARN_EVERY_S:
            self._warned_s = now
            log.warning("page: %s; the oldest that can be spared are closed", what)


def _spare_one(connections: Iterable["LimitedProtocol"], now: float) -> None:
    min(connections, key=lambda c: c.cost(now)).drop()  # the oldest among equals


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 under `limits`, with a time-out for the head of a request (uvicorn has one between requests only)."""

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._begun_s: float | None = None
        self._waiting_s = 0.0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()
        self._limits.opened(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._limits.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note_request()

    def on_response_complete(self) -> None:
        self._begun_s = None
        super().on_response_complete()  # may begin the next request that is here already
        self._expect_head()
        self._note_request()

    def cost(self, now: float) -> int:
        """0: it has waited for a request, is a stream, or was answered long ago. 1: its reader is behind. 2: it is new. 3: busy."""
        if self._begun_s is None:
            return 2 if now - self._waiting_s < FRESH_S else 0
        if now - self._begun_s > REQUEST_S or self.scope["path"].endswith("/events"):
            return 0
        return 1 if self.transport.get_write_buffer_size() else 3

    def drop(self) -> None:
        """Close at once. The place is free now, not when the event loop has come to tell of it."""
        self._limits.closed(self)
        self.transport.abort()

    def _note_request(self) -> None:
        if self._begun_s is None and self.cycle is not None and not self.cycle.response_complete:
            self._begun_s = self.loop.time()

    def _expect_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._waiting_s = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._begun_s is None:
            self.drop()
