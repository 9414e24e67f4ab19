"""Central's MQTT 5 sessions, on awscrt (docs/adr/0007-mqtt-at-central.md). The only importer of it.

A session is durable (Clean Start false, Session Expiry 14 days) and subscribes again on every connect, because a broker
may say that a session is present and have lost its subscriptions.
"""

import logging
import queue
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from awscrt import io, mqtt5
from awscrt.exceptions import AwsCrtError

from central.config import Mqtt, Tls
from central.errors import ConfigError, NeedsPerson, Unavailable

log = logging.getLogger(__name__)

SESSION_EXPIRY_S = 14 * 86400
RECONNECT_S = (1, 15)
TIMEOUT_S = 10
THROTTLE_S = 2.0
MAX_FILTERS = 100
"""Of one packet."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came. `connection` and `place` among its messages say which acknowledgement it wants; 0: none by hand."""

    topic: str
    payload: bytes
    content_type: str | None
    correlation: bytes | None
    properties: Mapping[str, str]
    retained: bool
    connection: int
    place: int


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
    """One durable session. `unwanted`: as in `follow`. `on_message` runs in the network thread; without `manual_ack` the PUBACK
    follows its return."""

    def __init__(
        self,
        client_id: str,
        mqtt: Mqtt,
        subscriptions: Sequence[str],
        on_message: Callable[[Received], None],
        *,
        unwanted: Sequence[str] = (),
        manual_ack: bool = False,
        receive_maximum: int | None = None,
    ) -> None:
        self._id = client_id
        self._mqtt = mqtt
        self._subscriptions = list(subscriptions)
        self._unwanted = list(unwanted)
        self._handle = on_message
        self._manual_ack = manual_ack
        self._receive_maximum = receive_maximum
        self._client: mqtt5.Client | None = None
        self._connected = False
        self._stopping = False
        self._warned = False
        self._warned_qos_0 = False
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged = threading.Condition(self._lock)
        # What this connection brought and has not acknowledged by hand, in order: place, and the right to do so.
        self._connection = 0
        self._places = 0
        self._received: deque[tuple[int, Any]] = deque()
        self._done: set[int] = set()

    def start(self) -> None:
        """Connect in the background, and again for ever. Raises ConfigError when a file of `tls` cannot be used."""
        tls = _tls(self._mqtt.tls) if self._mqtt.tls else None
        loop = io.EventLoopGroup(1)  # a thread of its own: what one session does holds up no other
        options = mqtt5.ClientOptions(
            host_name=self._mqtt.host,
            port=self._mqtt.port,
            bootstrap=io.ClientBootstrap(loop, io.DefaultHostResolver(loop)),
            socket_options=io.SocketOptions(),
            tls_ctx=tls,
            connect_options=mqtt5.ConnectPacket(
                client_id=self._id,
                keep_alive_interval_sec=self._mqtt.keepalive_s,
                username=self._mqtt.username,
                password=self._mqtt.password,
                session_expiry_interval_sec=SESSION_EXPIRY_S,
                receive_maximum=self._receive_maximum,
            ),
            session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
            # A receipt that is not sent now is asked for again; kept for a later connection it would only repeat that one.
            offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
            min_reconnect_delay_ms=RECONNECT_S[0] * 1000,
            max_reconnect_delay_ms=RECONNECT_S[1] * 1000,
            ping_timeout_ms=min(TIMEOUT_S, self._mqtt.keepalive_s - 1) * 1000,
            connack_timeout_ms=TIMEOUT_S * 1000,
            on_publish_callback_fn=self._message,
            on_lifecycle_event_connection_success_fn=self._on_connected,
            on_lifecycle_event_connection_failure_fn=self._on_failure,
            on_lifecycle_event_disconnection_fn=self._on_disconnected,
            on_lifecycle_event_stopped_fn=lambda _: self._ended.set(),
            disable_metrics=True,  # else it adds to the user name what it is
        )
        self._client = mqtt5.Client(options)
        self._client.start()

    def stop(self) -> None:
        """Disconnect; the broker keeps the session and what comes for it."""
        self._stopping = True
        with self._lock:
            self._acknowledged.notify_all()
        if self._client:
            self._client.stop(mqtt5.DisconnectPacket())
            self._ended.wait(TIMEOUT_S)

    @property
    def connected(self) -> bool:
        return self._connected

    def fetch_retained(self) -> None:
        """Have the broker send all retained messages again: it does at each subscription (MQTT 5, 3.8.3.1)."""
        if self._connected and self._client is not None:
            self._subscribe(self._client, self._subscriptions)

    def follow(self, subscriptions: Collection[str], unwanted: Collection[str]) -> None:
        """From now on these. The broker's session may remember `unwanted` ones of an earlier connection: they are ended."""
        with self._lock:
            before = set(self._subscriptions)
            self._subscriptions, self._unwanted = list(subscriptions), list(unwanted)
        if self._connected and self._client is not None:
            self._unsubscribe(self._client, [topic for topic in unwanted if topic in before])
            self._subscribe(self._client, [topic for topic in subscriptions if topic not in before])

    def ack(self, message: Received) -> None:
        """Acknowledge by hand, in any order: PUBACKs leave in the order in which the messages came (MQTT 5, 4.6).

        Nothing is sent when the connection is another one by now: the broker sends it again.
        """
        with self._lock:
            if self._client is None or message.connection != self._connection or not message.place:
                return
            if not self._received or message.place < self._received[0][0]:
                return  # acknowledged already
            self._done.add(message.place)
            while self._received and self._received[0][0] in self._done:
                place, right = self._received.popleft()
                self._done.remove(place)
                try:
                    self._client.invoke_publish_acknowledgement(right)
                except AwsCrtError as e:  # the connection has just gone: it comes again
                    log.debug("mqtt %s: not acknowledged: %s", self._id, e)
            self._acknowledged.notify_all()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        properties: Sequence[tuple[str, str]] = (),
        expiry_s: int | None = None,
        retain: bool = False,
    ) -> bool:
        """Publish with QoS 1. False when there is no connection: a receipt that is not sent now is asked for again."""
        if not self._connected or self._client is None:
            return False
        try:
            self._client.publish(
                mqtt5.PublishPacket(
                    topic=topic,
                    payload=payload,
                    qos=mqtt5.QoS.AT_LEAST_ONCE,
                    retain=retain,
                    correlation_data_bytes=correlation,
                    user_properties=[mqtt5.UserProperty(name, value) for name, value in properties],
                    message_expiry_interval_sec=expiry_s,
                )
            )
        except (AwsCrtError, RuntimeError, ValueError, TypeError) as e:
            log.warning("mqtt %s: %s could not be published: %s", self._id, topic, e)
            return False
        return True

    # ------------------------------------------------------------------ the client's network thread

    def _on_connected(self, _data: mqtt5.LifecycleConnectSuccessData) -> None:
        self._new_connection(True)
        log.info("mqtt %s: connected", self._id)
        assert self._client is not None  # noqa: S101 - it is what calls
        if not self._subscriptions:
            self._warned = False
        self._unsubscribe(self._client, self._unwanted)
        self._subscribe(self._client, self._subscriptions)

    def _subscribe(self, client: mqtt5.Client, topics: Sequence[str]) -> None:
        for some in _packets(topics):
            subscriptions = [
                # What the broker says of itself would fill the queue that it keeps for this session while central is away.
                mqtt5.Subscription(topic, mqtt5.QoS.AT_MOST_ONCE if topic.startswith("$") else mqtt5.QoS.AT_LEAST_ONCE)
                for topic in some
            ]
            answer = client.subscribe(mqtt5.SubscribePacket(subscriptions=subscriptions))
            answer.add_done_callback(partial(self._on_subscribed, some))

    def _unsubscribe(self, client: mqtt5.Client, topics: Sequence[str]) -> None:
        for some in _packets(topics):
            client.unsubscribe(mqtt5.UnsubscribePacket(topic_filters=list(some)))

    def _on_subscribed(self, topics: Sequence[str], answer: "Future[mqtt5.SubackPacket]") -> None:
        error = answer.exception()
        if error is not None:  # the connection went first; the next one subscribes again
            return
        self._warned = False
        for topic, reason in zip(topics, answer.result().reason_codes, strict=False):
            if reason >= mqtt5.SubackReasonCode.UNSPECIFIED_ERROR:
                log.error("mqtt %s: the broker refuses %s: %s", self._id, topic, reason.name)

    def _on_failure(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        where = f"{self._mqtt.host}:{self._mqtt.port}"
        if data.connack_packet is not None:
            self._warn(f"refused by {where}: {data.connack_packet.reason_code.name}")
        else:
            self._warn(f"no broker at {where}: {data.exception}")

    def _on_disconnected(self, data: mqtt5.LifecycleDisconnectData) -> None:
        self._new_connection(False)
        if not self._ended.is_set():
            code = data.disconnect_packet.reason_code if data.disconnect_packet else None
            if code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
                log.error("mqtt %s: another client uses this id: does a second central run?", self._id)
            reason = code.name if code is not None else data.exception
            self._warn(f"link lost: {reason}")

    def _new_connection(self, connected: bool) -> None:
        with self._lock:
            self._connected = connected
            self._connection += 1
            self._received.clear()
            self._done.clear()
            self._acknowledged.notify_all()

    def _warn(self, text: str) -> None:
        if not self._warned:
            log.warning("mqtt %s: %s", self._id, text)
        self._warned = True

    def _wait_for_room(self) -> None:
        """Read no further while twice the receive maximum is not acknowledged, or memory would hold the broker's whole queue.

        Mosquitto 2.0 sends more than the receive maximum: each PUBACK lets ten messages through (seen on 2.0.11). Not for
        ever, since this is also the thread that answers pings.
        """
        if self._receive_maximum:
            limit = 2 * self._receive_maximum
            self._acknowledged.wait_for(lambda: len(self._received) < limit or self._stopping, THROTTLE_S)

    def _refuse_qos_0(self, topic: str) -> None:
        """The receive maximum does not count QoS 0: a flood of it would fill the memory."""
        if not self._warned_qos_0:
            log.warning("mqtt %s: message on %s with QoS 0 is not taken, expected QoS 1", self._id, topic)
        self._warned_qos_0 = True

    def _message(self, data: mqtt5.PublishReceivedData) -> None:
        packet, place = data.publish_packet, 0
        if self._manual_ack:
            if data.acquire_publish_acknowledgement_control is None:
                self._refuse_qos_0(packet.topic)
                return
            with self._lock:
                self._wait_for_room()
                self._places = place = self._places + 1
                self._received.append((place, data.acquire_publish_acknowledgement_control()))
        received = Received(
            packet.topic,
            packet.payload or b"",
            packet.content_type,
            packet.correlation_data_bytes,
            {p.name: p.value for p in packet.user_properties or ()},
            bool(packet.retain),
            self._connection,
            place,
        )
        try:
            self._handle(received)
        except Exception:
            # An unforeseen fault in one message must not end the thread that receives all others.
            log.exception("mqtt %s: message on %s could not be handled", self._id, received.topic)
            self.ack(received)


def _packets(topics: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(topics), MAX_FILTERS):
        yield topics[first : first + MAX_FILTERS]


def _tls(tls: Tls) -> io.ClientTlsContext:
    """The server is checked against `ca`; with `cert` and `key` central shows who it is. Raises ConfigError."""
    try:  # the standard library says what is wrong with a file; the client's own library does not
        check = ssl.create_default_context(cafile=str(tls.ca))
        if tls.cert and tls.key:
            check.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as e:
        files = ", ".join(str(file) for file in (tls.ca, tls.cert, tls.key) if file)
        raise ConfigError(f"mqtt.tls: expected readable PEM files that belong together, found {files}: {e}") from e
    if tls.cert and tls.key:
        options = io.TlsContextOptions.create_client_with_mtls_from_path(str(tls.cert), str(tls.key))
    else:
        options = io.TlsContextOptions()
    options.min_tls_ver = io.TlsVersion.TLSv1_2
    options.override_default_trust_store_from_path(None, str(tls.ca))
    return io.ClientTlsContext(options)


def ask(mqtt: Mqtt, client_id: str, topic: str, payload: bytes, answers: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """Publish once, over a connection of its own, and give the first message that comes on the topic `answers`.

    Raises ConfigError for the files of `tls`, Unavailable when the broker or its answer does not come, NeedsPerson when it refuses.
    """
    tls = _tls(mqtt.tls) if mqtt.tls else None
    _reach(mqtt, timeout_s)
    came: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    connected: Future[None] = Future()

    def failed(data: mqtt5.LifecycleConnectFailureData) -> None:
        if not connected.done():
            connected.set_exception(Unavailable(f"the broker at {mqtt.host}:{mqtt.port}: {data.exception}"))

    def succeeded(_: mqtt5.LifecycleConnectSuccessData) -> None:
        if not connected.done():
            connected.set_result(None)

    loop = io.EventLoopGroup(1)
    client = mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=mqtt.host,
            port=mqtt.port,
            bootstrap=io.ClientBootstrap(loop, io.DefaultHostResolver(loop)),
            tls_ctx=tls,
            connect_options=mqtt5.ConnectPacket(client_id=client_id, username=mqtt.username, password=mqtt.password),
            connack_timeout_ms=round(timeout_s * 1000),
            on_publish_callback_fn=lambda data: came.put(data.publish_packet.payload or b""),
            on_lifecycle_event_connection_success_fn=succeeded,
            on_lifecycle_event_connection_failure_fn=failed,
            disable_metrics=True,
        )
    )
    client.start()
    try:
        connected.result(timeout_s)
        qos = mqtt5.QoS.AT_LEAST_ONCE
        subscribed = client.subscribe(mqtt5.SubscribePacket([mqtt5.Subscription(answers, qos)])).result(timeout_s)
        if subscribed.reason_codes[0] >= mqtt5.SubackReasonCode.UNSPECIFIED_ERROR:
            raise NeedsPerson(f"the broker refuses {answers}: {subscribed.reason_codes[0].name}")
        done = client.publish(mqtt5.PublishPacket(topic=topic, payload=payload, qos=qos)).result(timeout_s)
        if done.puback is not None and done.puback.reason_code >= mqtt5.PubackReasonCode.UNSPECIFIED_ERROR:
            raise NeedsPerson(f"the broker refuses {topic}: {done.puback.reason_code.name}")
        return came.get(timeout=timeout_s)
    except (queue.Empty, FutureTimeout):
        raise Unavailable(f"the broker at {mqtt.host}:{mqtt.port} does not answer within {timeout_s:g} s") from None
    except AwsCrtError as e:
        raise Unavailable(f"the broker at {mqtt.host}:{mqtt.port}: {e}") from e
    finally:
        client.stop(mqtt5.DisconnectPacket())


def _reach(mqtt: Mqtt, timeout_s: float) -> None:
    """Raises Unavailable saying which step fails: the client itself lets half a minute pass and then says little."""
    where = f"the broker at {mqtt.host}:{mqtt.port}"
    try:
        with socket.create_connection((mqtt.host, mqtt.port), timeout=timeout_s) as plain:
            if mqtt.tls is None:
                return
            context = ssl.create_default_context(cafile=str(mqtt.tls.ca))
            if mqtt.tls.cert and mqtt.tls.key:
                context.load_cert_chain(mqtt.tls.cert, mqtt.tls.key)
            context.wrap_socket(plain, server_hostname=mqtt.host).close()
    except socket.gaierror as e:
        raise Unavailable(f"{where}: the name cannot be resolved: {e.strerror}") from e
    except ssl.SSLCertVerificationError as e:
        raise Unavailable(f"{where}: its certificate is not accepted: {e.verify_message}") from e
    except (OSError, ValueError) as e:
        raise Unavailable(f"{where} cannot be reached: {getattr(e, 'strerror', None) or e}") from e
