"""Signed commands to gateways.

`cmd/ack`, `cmd/shelve`, `cmd/reset`: a person answered here, and the gateway's siren must know. Whoever notes an
acknowledgement or a wish (page, mail link, command line in another process) writes it in central.db and no more. The gateway is
asked again and again until its own event confirms: the database is the queue, so a restart forgets nothing.

`cmd/resend`: central lacks readings that the gateway holds as stored, as after a restore from a backup.
"""

import base64
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from central.alarms.log import AlarmLog, Occurrence
from central.alarms.wishes import Wish, Wishes
from central.errors import ConfigError
from central.ranges import Gap, Ranges
from common.clock import Clock, rfc3339
from common.worker import Worker
from wire import command, topics
from wire.command import CommandResult, ResendResult
from wire.ids import uuid7
from wire.station import parse_as

log = logging.getLogger(__name__)

POLL_S = 2.0
RETRY_S = (15.0, 900.0)
REST_S = 60.0
"""A backlog from which nothing came for so long is at rest."""
MAX_COMMANDS = 5
MAX_NUMBERS = 20_000
MAX_FRUITLESS = 5
"""What a gateway has in flight it counts as not stored, and sends again within 15 minutes: this takes longer."""
MAX_UNANSWERED = 3


class Sender(Protocol):
    """What this needs of a session."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        properties: Sequence[tuple[str, str]],
        expiry_s: int,
    ) -> bool: ...


def keygen(path: Path) -> str:
    """Write a new private key (PEM, mode 0600) and give its public key in base64: the `central_key` of every edge.toml.

    Raises ConfigError when the file exists (its loss would cut every gateway off) or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(pem)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already; every gateway knows this key, so it is not replaced") from None
    except OSError as e:
        raise ConfigError(f"{path}: cannot be written: {e.strerror}") from e
    return public_key(key)


def public_key(key: Ed25519PrivateKey) -> str:
    """The 32 bytes of the public key, base64."""
    return base64.b64encode(
        key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    ).decode()


def load_key(path: Path) -> Ed25519PrivateKey:
    """Raises ConfigError when it cannot be read or is no Ed25519 private key."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise ConfigError(
            f"commands.key: {path}: expected a file with an Ed25519 private key (PEM): cannot be read: {e.strerror}"
        ) from e
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise ConfigError(
            f"commands.key: {path}: expected an Ed25519 private key without a passphrase (PEM), found none: {e}"
        ) from e
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"commands.key: {path}: expected an Ed25519 private key, found {type(key).__name__}")
    return key


@dataclass(slots=True)
class _Asked:
    """When it is asked for again (boot seconds), and how long it is waited after that."""

    due_s: float
    delay_s: float = RETRY_S[0]


_Key = tuple[str, str, float | None]
"""Occurrence, command, and when a person gave it."""


class Forwarder:
    """Asks the gateways for what people want of their alarms: acknowledgements, shelves, resets. In its `worker`; `wake` when
    there is something new."""

    def __init__(
        self, key: Ed25519PrivateKey, sender: Callable[[], Sender], alarms: AlarmLog, wishes: Wishes, clock: Clock
    ) -> None:
        self._key = key
        self._sender = sender
        self._alarms = alarms
        self._wishes = wishes
        self._clock = clock
        self._asked: dict[_Key, _Asked] = {}
        self._refused: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self.worker = Worker("command-forwarder", self._ask, clock)

    def wake(self) -> None:
        """A person wants something, or a gateway is back: ask now."""
        with self._lock:
            for asked in self._asked.values():
                asked.due_s, asked.delay_s = 0.0, RETRY_S[0]
        self.worker.wake()

    def answered(self, gateway: str, payload: bytes) -> None:
        """A gateway answered one of these. The confirmation is its event; a refusal is only said. Raises WireError."""
        result = parse_as(CommandResult, payload)
        error = None if result.ok else result.error or "no reason given"
        if error and error != self._refused.get(gateway):
            log.warning("gateway %s refuses a command: %s", gateway, error)
        self._refused[gateway] = error

    def _ask(self) -> float:
        pending: dict[_Key, Occurrence | Wish] = {
            (o.occurrence, command.ACK, o.acked_s): o for o in self._alarms.unconfirmed_acks()
        }
        for wish in self._wishes.pending("gateway"):
            if wish.command != command.RESET or self._alarms.waits_for_reset(wish.occurrence):
                pending[wish.occurrence.occurrence, wish.command, wish.at_s] = wish
        now = self._clock.boot()
        due = []
        with self._lock:
            self._asked = {key: asked for key, asked in self._asked.items() if key in pending}
            for key, wanted in pending.items():
                asked = self._asked.setdefault(key, _Asked(now))
                if asked.due_s <= now:
                    due.append((wanted, asked))
        for wanted, asked in due:
            if self._send(wanted):
                asked.due_s = now + asked.delay_s
                asked.delay_s = min(asked.delay_s * 2, RETRY_S[1])
        # Real seconds: another process may have written one down.
        return now + POLL_S * self._clock.scale

    def _send(self, wanted: Occurrence | Wish) -> bool:
        command_id = uuid7(self._clock.wall())
        if isinstance(wanted, Occurrence):
            ack = command.Ack(
                id=command_id,
                occurrence=wanted.occurrence,
                by=(wanted.acked_by or "central")[:120],
                at=rfc3339(wanted.acked_s or self._clock.wall()),
                level=wanted.level or None,
            )
            return _send(self._sender(), self._key, wanted.gateway, command.ACK, ack)
        occurrence, at = wanted.occurrence.occurrence, rfc3339(wanted.at_s)
        body: command.Command
        if wanted.command == command.RESET:
            body = command.Reset(id=command_id, occurrence=occurrence, by=wanted.by, at=at)
        else:
            until = None if wanted.until_s is None else rfc3339(wanted.until_s)
            body = command.Shelve(
                id=command_id, occurrence=occurrence, by=wanted.by, at=at, until=until, why=wanted.why
            )
        return _send(self._sender(), self._key, wanted.occurrence.gateway, wanted.command, body)


class Resender:
    """Asks gateways for the readings that central lacks, in its `worker`.

    A gateway is asked when it is online and its backlog has come to rest, since what it has not sent yet comes by itself; at
    most `MAX_COMMANDS` ranges of `MAX_NUMBERS` at a time, and again only when those have come. A range that it says that it
    has not is asked for `MAX_FRUITLESS` times, ever less often, and then given up. One that does not answer, or refuses, is
    asked again when it comes back. `shared`: other processes store readings too, so what comes is seen by what still lacks.
    """

    def __init__(
        self,
        key: Ed25519PrivateKey,
        sender: Callable[[], Sender],
        ranges: Ranges,
        clock: Clock,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        self._key = key
        self._sender = sender
        self._ranges = ranges
        self._clock = clock
        self._lock = threading.Lock()
        self._gateways: dict[str, _Resending] = {}
        self.worker = Worker("resender", self.look, clock)

    def online(self, gateway: str) -> None:
        """A gateway said that it is online."""
        with self._lock:
            self._gateways[gateway] = _Resending(self._clock.boot() + REST_S)

    def backlog(self, gateway: str) -> None:
        """A pack of its backlog came: it is not at rest."""
        with self._lock:
            state = self._gateways.get(gateway)
            if state is not None:
                state.due_s = self._clock.boot() + REST_S

    def answered(self, gateway: str, payload: bytes) -> None:
        """A gateway answered `cmd/resend`. Raises WireError."""
        result = parse_as(ResendResult, payload)
        with self._lock:
            state = self._gateways.get(gateway)
            gap = state.waiting.pop(result.id or "", None) if state else None
            if state is None or gap is None:
                return
            state.unanswered = 0
            if not result.ok:
                log.warning("gateway %s does not send %d-%d again: %s", gateway, gap.first, gap.last, result.error)
                state.due_s = float("inf")
            elif result.readings:
                log.info("gateway %s sends %d readings of %d-%d again", gateway, result.readings, gap.first, gap.last)
                state.fruitless, state.delay_s = {}, REST_S
            else:
                state.fruitless[gap] = state.fruitless.get(gap, 0) + 1
                if state.fruitless[gap] >= MAX_FRUITLESS:
                    log.error("gateway %s has not got readings %d-%d any more: given up", gateway, gap.first, gap.last)
                    self._ranges.add(gateway, *gap)

    def look(self) -> float:
        """Ask whoever is due; gives the boot second of the next look."""
        now = self._clock.boot()
        with self._lock:
            due = [g for g, state in self._gateways.items() if state.due_s <= now]
        for gateway in due:
            self._ask(gateway, now)
        return now + REST_S / 4

    def _ask(self, gateway: str, now: float) -> None:
        gaps = self._ranges.gaps(gateway)
        with self._lock:
            state = self._gateways[gateway]
            if self._shared and gaps != state.lacked:
                state.lacked, state.due_s = gaps, now + REST_S
                return
            state.waiting.clear()
            state.due_s = now + (state.delay_s if gaps else REST_S)
            if not gaps:
                state.delay_s = REST_S
                return
            state.delay_s = min(state.delay_s * 2, RETRY_S[1])
            state.unanswered += 1
            if state.unanswered > MAX_UNANSWERED:
                log.warning(
                    "gateway %s does not answer cmd/%s: asked again when it comes back", gateway, command.RESEND
                )
                state.due_s = float("inf")
                return
            asked = [gap._replace(last=min(gap.last, gap.first + MAX_NUMBERS - 1)) for gap in gaps[:MAX_COMMANDS]]
            wanted = {uuid7(self._clock.wall()): gap for gap in asked}
            state.waiting.update(wanted)
        log.warning(
            "gateway %s: %d readings are not here, asked to send again %s",
            gateway,
            sum(gap.last - gap.first + 1 for gap in gaps),
            ", ".join(f"{gap.first}-{gap.last}" for gap in asked),
        )
        for command_id, gap in wanted.items():
            body = command.Resend(id=command_id, journal=gap.journal, first=gap.first, last=gap.last)
            _send(self._sender(), self._key, gateway, command.RESEND, body)


@dataclass(slots=True)
class _Resending:
    """How far it is with a gateway. Times are boot seconds. `fruitless`: gaps of which it said that it has nothing. `lacked`: at
    the last look."""

    due_s: float
    delay_s: float = REST_S
    unanswered: int = 0
    lacked: list[Gap] | None = None
    waiting: dict[str, Gap] = field(default_factory=dict)
    fruitless: dict[Gap, int] = field(default_factory=dict)


def _send(sender: Sender, key: Ed25519PrivateKey, gateway: str, name: str, body: command.Command) -> bool:
    return send(sender, key, gateway, name, body.model_dump_json().encode(), command.MAX_EXPIRY_S)


def send(sender: Sender, key: Ed25519PrivateKey, gateway: str, name: str, payload: bytes, expiry_s: int) -> bool:
    """Sign a command and publish it, for so long. Whether the broker is there."""
    topic = topics.topic(gateway, f"cmd/{name}")
    signature = base64.b64encode(key.sign(command.signed_bytes(topic, payload))).decode()
    return sender.publish(topic, payload, properties=[(command.SIGNATURE, signature)], expiry_s=expiry_s)
