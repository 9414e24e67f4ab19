"""Central's MQTT 5 sessions. The only importer of paho on this side.

A session is durable (Clean Start false, Session Expiry 14 days) and subscribes again on every connect, because a broker
may say that a session is present and have lost its subscriptions.
"""

import logging
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from central.config import Mqtt

log = logging.getLogger(__name__)

SESSION_EXPIRY_S = 14 * 86400


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came. `connection` and `mid` say which acknowledgement it wants; `mid` 0 (QoS 0) wants none."""

    topic: str
    payload: bytes
    content_type: str | None
    correlation: bytes | None
    properties: Mapping[str, str]
    retained: bool
    connection: int
    mid: int


class Publisher(Protocol):
    """What the handlers of messages need in order to answer."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        properties: Sequence[tuple[str, str]] = (),
    ) -> bool: ...


class Session:
    """One durable session. `on_message` runs in the network thread; without `manual_ack` the PUBACK follows its return."""

    def __init__(
        self,
        client_id: str,
        mqtt: Mqtt,
        subscriptions: Sequence[str],
        on_message: Callable[[Received], None],
        *,
        manual_ack: bool = False,
        receive_maximum: int | None = None,
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._id = client_id
        self._mqtt = mqtt
        self._subscriptions = list(subscriptions)
        self._handle = on_message
        self._manual_ack = manual_ack
        self._receive_maximum = receive_maximum
        self._on_connected = on_connected
        self._connection = 0
        self._lock = threading.Lock()
        self._received: deque[int] = deque()  # what this connection brought and is not acknowledged by hand, in order
        self._done: set[int] = set()  # those of them that are handled, behind one that is not
        self._client: paho.Client | None = None
        self._warned = False

    def start(self) -> None:
        """Connect in the background, and again for ever."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self._id, protocol=paho.MQTTv5, manual_ack=self._manual_ack
        )
        client.reconnect_delay_set(1, 15)
        client.connect_timeout = 10
        if self._mqtt.tls:
            context = ssl.create_default_context(cafile=str(self._mqtt.tls.ca))
            if self._mqtt.tls.cert and self._mqtt.tls.key:
                context.load_cert_chain(self._mqtt.tls.cert, self._mqtt.tls.key)
            client.tls_set_context(context)
        if self._mqtt.username:
            client.username_pw_set(self._mqtt.username, self._mqtt.password)
        client.on_connect = self._connected
        client.on_connect_fail = self._connect_failed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        if self._receive_maximum:
            properties.ReceiveMaximum = self._receive_maximum
        client.connect_async(
            self._mqtt.host,
            self._mqtt.port,
            keepalive=self._mqtt.keepalive_s,
            clean_start=False,
            properties=properties,
        )
        self._client = client
        client.loop_start()

    def stop(self) -> None:
        """Disconnect; the broker keeps the session and what comes for it."""
        if self._client:
            self._client.disconnect()
            self._client.loop_stop()

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected()

    def ack(self, message: Received) -> None:
        """Acknowledge by hand, in any order: PUBACKs leave in the order in which the messages came (MQTT 5, 4.6).

        Nothing is sent when the connection is another one by now: the broker sends it again.
        """
        with self._lock:
            if self._client is None or message.connection != self._connection or not message.mid:
                return
            self._done.add(message.mid)
            while self._received and self._received[0] in self._done:
                mid = self._received.popleft()
                self._done.remove(mid)
                self._client.ack(mid, 1)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        properties: Sequence[tuple[str, str]] = (),
        expiry_s: int | None = None,
    ) -> bool:
        """Publish with QoS 1. False when there is no connection: a receipt that is not sent now is asked for again."""
        if not self.connected or self._client is None:
            return False
        p = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if correlation is not None:
            p.CorrelationData = correlation
        if properties:
            p.UserProperty = list(properties)
        if expiry_s is not None:
            p.MessageExpiryInterval = expiry_s
        return self._client.publish(topic, payload, qos=1, properties=p).rc == paho.MQTT_ERR_SUCCESS

    # ------------------------------------------------------------------ paho's network thread

    def _connected(self, client: paho.Client, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            self._warn(f"refused: {reason}")
            return
        self._new_connection()
        self._warned = False
        log.info("mqtt %s: connected", self._id)
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])
        self._on_connected()

    def _connect_failed(self, _client: paho.Client, _u: Any) -> None:
        self._warn(f"no broker at {self._mqtt.host}:{self._mqtt.port}")

    def _disconnected(self, _c: paho.Client, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        self._new_connection()
        self._warn(f"link lost: {reason}")

    def _new_connection(self) -> None:
        with self._lock:
            self._connection += 1
            self._received.clear()
            self._done.clear()

    def _warn(self, text: str) -> None:
        if not self._warned:
            log.warning("mqtt %s: %s", self._id, text)
        self._warned = True

    def _message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        properties: Any = message.properties
        received = Received(
            message.topic,
            bytes(message.payload),
            getattr(properties, "ContentType", None),
            getattr(properties, "CorrelationData", None),
            dict(getattr(properties, "UserProperty", ())),
            message.retain,
            self._connection,
            message.mid,
        )
        if self._manual_ack and received.mid:
            with self._lock:
                self._received.append(received.mid)
        try:
            self._handle(received)
        except Exception:
            # An unforeseen fault in one message must not end the thread that receives all others.
            log.exception("mqtt %s: message on %s could not be handled", self._id, received.topic)
            if self._manual_ack:
                self.ack(received)
