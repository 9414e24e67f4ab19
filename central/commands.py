"""Signed commands to gateways. Today there is one, `cmd/ack`: a person answered here, and the gateway's siren must know.

Whoever notes an acknowledgement (page, mail link, command line in another process) writes it in the alarm log and no more.
This asks the gateway, again and again until its own event confirms: the log is the queue, so a restart forgets nothing.
"""

import base64
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from central.alarms.log import AlarmLog, Occurrence
from central.errors import ConfigError
from common.clock import Clock, rfc3339
from common.worker import Worker
from wire import command, topics
from wire.command import CommandResult
from wire.ids import uuid7
from wire.station import parse_as

log = logging.getLogger(__name__)

POLL_S = 2.0
RETRY_S = (15.0, 900.0)


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
    """When an acknowledgement is asked for again (boot seconds), and how long it is waited after that."""

    due_s: float
    delay_s: float = RETRY_S[0]


class AckForwarder:
    """Asks the gateways for the acknowledgements that people gave here, in its `worker`; `wake` when there is a new one."""

    def __init__(self, key: Ed25519PrivateKey, sender: Callable[[], Sender], alarms: AlarmLog, clock: Clock) -> None:
        self._key = key
        self._sender = sender
        self._alarms = alarms
        self._clock = clock
        self._asked: dict[tuple[str, float | None], _Asked] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        self.worker = Worker("ack-forwarder", self._ask, clock)

    def wake(self) -> None:
        """Somebody has acknowledged, or a gateway is back: ask now."""
        with self._lock:
            for asked in self._asked.values():
                asked.due_s, asked.delay_s = 0.0, RETRY_S[0]
        self.worker.wake()

    def answered(self, gateway: str, payload: bytes) -> None:
        """A gateway answered `cmd/ack`. The confirmation is its event; a refusal is only said. Raises WireError."""
        result = parse_as(CommandResult, payload)
        if not result.ok and gateway not in self._refused:
            log.warning("gateway %s does not acknowledge: %s", gateway, result.error)
        (self._refused.discard if result.ok else self._refused.add)(gateway)

    def _ask(self) -> float:
        pending = {(o.occurrence, o.acked_s): o for o in self._alarms.unconfirmed_acks()}
        now = self._clock.boot()
        due = []
        with self._lock:
            self._asked = {key: asked for key, asked in self._asked.items() if key in pending}
            for key, occurrence in pending.items():
                asked = self._asked.setdefault(key, _Asked(now))
                if asked.due_s <= now:
                    due.append((occurrence, asked))
        for occurrence, asked in due:
            if self._send(occurrence):
                asked.due_s = now + asked.delay_s
                asked.delay_s = min(asked.delay_s * 2, RETRY_S[1])
        # Real seconds: another process may have noted an acknowledgement in the log.
        return now + POLL_S * self._clock.scale

    def _send(self, occurrence: Occurrence) -> bool:
        topic = topics.topic(occurrence.gateway, f"cmd/{command.ACK}")
        body = command.Ack(
            id=uuid7(self._clock.wall()),
            occurrence=occurrence.occurrence,
            by=(occurrence.acked_by or "central")[:120],
            at=rfc3339(occurrence.acked_s or self._clock.wall()),
            level=occurrence.level or None,
        )
        payload = json.dumps(body.model_dump(exclude_none=True)).encode()
        signature = base64.b64encode(self._key.sign(command.signed_bytes(topic, payload))).decode()
        return self._sender().publish(
            topic, payload, properties=[(command.SIGNATURE, signature)], expiry_s=command.MAX_EXPIRY_S
        )
