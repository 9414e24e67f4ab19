"""Configurations of gateways, as central sends them: written down first, sent until the gateway says what became of them, kept for ever.

Whoever pushes one (the command line, in another process) writes it into central.db and no more. The newest of each gateway is
retained by the broker, so a gateway that was away gets it when it is back.
"""

import base64
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, func, select, update

from central.db import Database
from central.errors import Refused
from central.tables import configuration
from common.clock import Clock, from_rfc3339, rfc3339
from common.worker import Worker
from wire import topics
from wire.command import SIGNATURE, signed_bytes
from wire.configuration import Configuration, ConfigurationResult, carried
from wire.errors import WireError
from wire.station import parse_as

log = logging.getLogger(__name__)

POLL_S = 2.0
RETRY_S = (15.0, 900.0)


class Sender(Protocol):
    """What this needs of a session."""

    def publish(self, topic: str, payload: bytes, *, properties: Sequence[tuple[str, str]], retain: bool) -> bool: ...


class Sent(NamedTuple):
    """A version of a gateway's configuration. Times are Unix seconds. `state` is None until the gateway has said something."""

    gateway: str
    version: int
    text: str
    by: str
    made_s: float
    state: str | None
    why: str
    result_s: float | None

    @property
    def answered(self) -> bool:
        return self.state not in (None, "trying")


class Configurations:
    """What was sent to whom, in central.db."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def check(self, text: str) -> None:
        """Raises Refused for what no gateway would take from central. All else the gateway itself checks."""
        try:
            carried(text)
        except WireError as e:
            raise Refused(str(e)) from None

    def push(self, gateway: str, text: str, by: str) -> int:
        """Write the next version down; gives its number. Raises Refused as `check` does."""
        self.check(text)
        c = configuration.c
        with self._db.transaction() as tx:
            last = tx.execute(select(func.max(c.version)).where(c.gateway == gateway)).scalar_one()
            version = int(last or 0) + 1
            tx.execute(
                configuration.insert(),
                {
                    "gateway": gateway,
                    "version": version,
                    "text": text,
                    "author": by,
                    "made_s": self._clock.wall(),
                    "why": "",
                },
            )
        return version

    def history(self, gateway: str) -> list[Sent]:
        """All versions, the oldest first."""
        c = configuration.c
        rows = self._db.rows(select(configuration).where(c.gateway == gateway).order_by(c.version))
        return [_sent(row) for row in rows]

    def newest(self) -> list[Sent]:
        """The newest version of each gateway."""
        other = configuration.alias()
        newest = select(func.max(other.c.version)).where(other.c.gateway == configuration.c.gateway).scalar_subquery()
        return [_sent(row) for row in self._db.rows(select(configuration).where(configuration.c.version == newest))]

    def result(self, gateway: str, payload: bytes) -> None:
        """A gateway said what became of a version. Raises WireError."""
        result = parse_as(ConfigurationResult, payload)
        try:
            at_s = from_rfc3339(result.at)
        except ValueError as e:
            raise WireError(f"at: {e}") from None
        said = {"state": result.state, "why": result.why, "result_s": at_s}
        c = configuration.c
        with self._db.transaction() as tx:
            of = (c.gateway == gateway, c.version == result.version)
            done = tx.execute(update(configuration).where(*of).values(**said))
            if not done.rowcount and result.state != "trying":
                # The state is older than what was sent: the next version must be higher.
                unknown = {"gateway": gateway, "version": result.version, "text": "", "author": "", "made_s": at_s}
                tx.execute(configuration.insert(), unknown | said)
        if not done.rowcount:
            log.warning("gateway %s has configuration %d, which is not known here", gateway, result.version)
        elif result.state in ("refused", "rolled-back"):
            log.warning("gateway %s: configuration %d %s: %s", gateway, result.version, result.state, result.why)
        else:
            log.info("gateway %s: configuration %d %s", gateway, result.version, result.state)


def _sent(row: Row[Any]) -> Sent:
    return Sent(row.gateway, row.version, row.text, row.author, row.made_s, row.state, row.why, row.result_s)


class Pusher:
    """Sends the newest configuration of each gateway, in its `worker`, until it has answered for it."""

    def __init__(
        self, key: Ed25519PrivateKey, sender: Callable[[], Sender], configurations: Configurations, clock: Clock
    ) -> None:
        self._key = key
        self._sender = sender
        self._configurations = configurations
        self._clock = clock
        self._asked: dict[tuple[str, int], tuple[float, float]] = {}
        """When a version is due again (boot seconds), and how long after that."""
        self._lock = threading.Lock()
        self.worker = Worker("configuration-pusher", self._look, clock)

    def wake(self) -> None:
        """A gateway is back: send now."""
        with self._lock:
            self._asked.clear()
        self.worker.wake()

    def _look(self) -> float:
        now = self._clock.boot()
        for sent in self._configurations.newest():
            key = (sent.gateway, sent.version)
            with self._lock:
                due_s, delay_s = self._asked.get(key, (now, RETRY_S[0]))
            if not sent.answered and due_s <= now and self._send(sent):
                with self._lock:
                    self._asked[key] = (now + delay_s, min(delay_s * 2, RETRY_S[1]))
        # Real seconds: another process may have written one down.
        return now + POLL_S * self._clock.scale

    def _send(self, sent: Sent) -> bool:
        body = Configuration(version=sent.version, made=rfc3339(sent.made_s), by=sent.by, text=sent.text)
        topic, payload = topics.topic(sent.gateway, topics.CONFIG), body.model_dump_json().encode()
        signature = base64.b64encode(self._key.sign(signed_bytes(topic, payload))).decode()
        return self._sender().publish(topic, payload, properties=[(SIGNATURE, signature)], retain=True)
