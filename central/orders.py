"""What technicians order of a gateway from here: read now, raw bytes, its log, the restart of a device.

Whoever orders (the command line, in another process) writes it into central.db and no more. The running central signs it and sends it
once, to be done within a minute or never: one that it did not send in time expires here, one that the gateway did not get expires at
the broker, and the gateway does none after its time.
"""

import json
import logging
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, select, update

from central.commands import Sender, send
from central.db import Database
from central.tables import gateway_order
from common.clock import Clock, rfc3339
from common.worker import Worker
from wire.command import MAX_EXPIRY_S, CommandResult, Order
from wire.errors import WireError
from wire.ids import uuid7
from wire.station import parse_as

log = logging.getLogger(__name__)

POLL_S = 0.5
MAX_ANSWER = 65536
"""Characters of an answer that are kept."""

State = Literal["waiting", "sent", "done", "refused", "expired"]


class Ordered(NamedTuple):
    """An order. Times are Unix seconds. `waiting`: this central has not sent it; `sent`: no answer has come; `expired`: it was never
    sent. `answer` is the gateway's, as it came."""

    id: str
    gateway: str
    command: str
    arguments: dict[str, Any]
    by: str
    asked_s: float
    until_s: float
    state: State
    answer: str | None

    @property
    def answered(self) -> bool:
        return self.state in ("done", "refused")


class Orders:
    """What was ordered of whom, in central.db."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def ask(self, gateway: str, command: str, model: type[Order], by: str, **arguments: Any) -> str:
        """Write an order down, for a minute from now; gives its id. Raises pydantic's ValidationError for bad arguments."""
        now = self._clock.wall()
        until_s = now + MAX_EXPIRY_S
        order = model.model_validate(
            {"id": uuid7(now), "by": by[:120], "at": rfc3339(now), "until": rfc3339(until_s)} | arguments
        )
        with self._db.transaction() as tx:
            tx.execute(
                gateway_order.insert(),
                {
                    "id": order.id,
                    "gateway": gateway,
                    "command": command,
                    "arguments": order.model_dump_json(),
                    "author": by,
                    "asked_s": now,
                    "until_s": until_s,
                    "state": "waiting",
                },
            )
        return order.id

    def get(self, order_id: str) -> Ordered:
        """Raises KeyError."""
        rows = self._db.rows(select(gateway_order).where(gateway_order.c.id == order_id))
        if not rows:
            raise KeyError(order_id)
        return _ordered(rows[0])

    def waiting(self) -> list[Ordered]:
        """What is to be sent, the oldest first."""
        c = gateway_order.c
        return [
            _ordered(r) for r in self._db.rows(select(gateway_order).where(c.state == "waiting").order_by(c.asked_s))
        ]

    def history(self, gateway: str, limit: int) -> list[Ordered]:
        """The newest orders of a gateway, the newest first."""
        c = gateway_order.c
        rows = self._db.rows(select(gateway_order).where(c.gateway == gateway).order_by(c.asked_s.desc()).limit(limit))
        return [_ordered(row) for row in rows]

    def mark(self, order_id: str, before: State, after: State) -> bool:
        """False when it was not as `before`."""
        c = gateway_order.c
        with self._db.transaction() as tx:
            done = tx.execute(update(gateway_order).where(c.id == order_id, c.state == before).values(state=after))
        return bool(done.rowcount)

    def answered(self, gateway: str, payload: bytes) -> None:
        """A gateway answered one. Raises WireError."""
        result = parse_as(CommandResult, payload)
        c = gateway_order.c
        said = {
            "state": "done" if result.ok else "refused",
            "answer": payload.decode(errors="replace")[:MAX_ANSWER],
            "answered_s": self._clock.wall(),
        }
        with self._db.transaction() as tx:
            this = (c.id == (result.id or ""), c.gateway == gateway, c.state.in_(("waiting", "sent")))
            done = tx.execute(update(gateway_order).where(*this).values(**said))
        if not done.rowcount:
            raise WireError(f"answer to {result.id}, which was not ordered of {gateway}, or is answered")
        log.info("gateway %s: %s", gateway, "done as ordered" if result.ok else f"refused: {result.error}")


def _ordered(row: Row[Any]) -> Ordered:
    return Ordered(
        row.id,
        row.gateway,
        row.command,
        json.loads(row.arguments),
        row.author,
        row.asked_s,
        row.until_s,
        row.state,
        row.answer,
    )


class OrderSender:
    """Signs and sends what waits, once, in its `worker`."""

    def __init__(self, key: Ed25519PrivateKey, sender: Callable[[], Sender], orders: Orders, clock: Clock) -> None:
        self._key = key
        self._sender = sender
        self._orders = orders
        self._clock = clock
        self.worker = Worker("order-sender", self.look, clock)

    def look(self) -> float:
        """Send what waits, let expire what is too late; gives the boot second of the next look. Raises StateUnavailable."""
        for order in self._orders.waiting():
            left_s = math.floor(order.until_s - self._clock.wall())
            if left_s < 1:
                self._orders.mark(order.id, "waiting", "expired")
                log.warning("gateway %s: %s was not sent in time, and is not done", order.gateway, order.command)
                continue
            # Marked first: after a kill in between it is not sent, and nothing is sent twice.
            if not self._orders.mark(order.id, "waiting", "sent"):
                continue
            payload = json.dumps(order.arguments).encode()
            if send(self._sender(), self._key, order.gateway, order.command, payload, left_s):
                log.warning("gateway %s: %s ordered by %s", order.gateway, order.command, order.by)
            else:
                self._orders.mark(order.id, "sent", "waiting")  # there is no broker: it comes back in time, or not
        # Real seconds: another process may have written one down.
        return self._clock.boot() + POLL_S * self._clock.scale
