"""The uplink: alarms first, then live readings, then the backlog, to central by MQTT 5, until central's receipt.

One thread decides everything; paho's network thread only posts to its inbox.
Each connection is a new paho client with a clean session: what is outstanding is known from the journal and the alarm
log, so nothing depends on what a client or a broker remembers. A PUBACK only ends a message's place in the flight; a
receipt alone marks readings stored.
"""

import json
import logging
import math
import queue
import random
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.clock import Clock, rfc3339
from edge import config, identity
from edge.alarm_log import AlarmLogUnwritable
from edge.commands import CommandVerifier
from edge.errors import ConfigError
from edge.journal import Journal, JournalUnwritable, Pack, PackLost
from edge.link import LinkFault, check, check_dates, checks_floor, tls_context
from edge.renewal import Renewal
from wire import VERSION, readings, senml, topics
from wire.configuration import RESULT, Configuration, ConfigurationResult
from wire.errors import WireError
from wire.identity import CERTIFICATE, CERTIFICATE_REQUEST
from wire.station import Active, GatewayStatus, Stations, parse_as

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 16
"""Messages without PUBACK, of all lanes; below the receive maximum of 20 that Mosquitto allows by default."""
MAX_BACKLOG_IN_FLIGHT = 8
BACKLOG_RECORDS = 16, readings.MAX_RECORDS
"""A pack of the backlog has so many at first, twice as many while the link takes them swiftly, half as many when it does not."""
SWIFT_S, SLOW_S = 0.25, 1.0
"""From sending a pack of the backlog to its PUBACK; a live reading waits about as long behind it."""
CONNECT_TIMEOUT_S = 10
BACKOFF_S = (1.0, 30.0)
STEADY_S = 10.0
"""A session that fell sooner has proven nothing: the back-off goes on from where it was."""
RETURN_S = 900.0
"""At another broker than the first, the first is tried so often."""
ESTIMATED_AFTER_S = 120.0
"""With the link up, readings taken before the clock was synchronised wait this long for it."""
_NO_SUBSCRIBER = 16
_NOT_AUTHORISED = 135
_UNSPECIFIED = "Unspecified error"


class AlarmSource(Protocol):
    """What the uplink needs of the alarm log."""

    def unreceipted(self) -> list[tuple[str, bytes]]:
        """Events without a first receipt, oldest first: id and payload."""
        ...

    def receipt(self, event_id: str, notifying: str | None) -> None: ...

    def active(self) -> Active: ...


class CommandHandler(Protocol):
    def __call__(self, name: str, arguments: dict[str, Any]) -> "dict[str, Any] | Future[dict[str, Any]]":
        """Do a verified command and answer, at once or, what takes longer, later. Raises WireError when it cannot be done."""
        ...


@dataclass
class _Sent:
    """How a pack or an event stands in this run: when it is due again (boot seconds), in which session it last went."""

    session: int = 0
    due_s: float = 0.0
    delay_s: float = 0.0


@dataclass
class _Session:
    """One connection: its client, what awaits a PUBACK there."""

    number: int
    broker: int
    client: paho.Client
    renewed: bool = False
    """It is made under a renewed identity, which is not proven yet."""
    connected: bool = False
    since_s: float = 0.0
    refused: bool = False
    """The broker gives us no rights; it has been said."""
    flight: dict[int, tuple[str, Any]] = field(default_factory=dict)

    def in_flight(self, lane: str) -> int:
        return sum(1 for kind, _ in self.flight.values() if kind == lane)


class Uplink:
    """`start()` connects and goes on for ever; `wake()` says that there is something new; `stop()` says goodbye."""

    def __init__(
        self,
        gateway: str,
        mqtt: config.Mqtt,
        settings: config.Uplink,
        clock: Clock,
        journal: Journal,
        alarms: AlarmSource,
        stations: Callable[[], Stations],
        on_command: CommandHandler,
        hurried: Callable[[], bool] = lambda: False,
        on_configuration: Callable[[Configuration], None] = lambda _: None,
        on_alarm: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        """`on_alarm`: of an event (id), what was heard: `broker` with `taken`, `nobody` or `refused`; or a property of a receipt."""
        self._gateway = gateway
        self._mqtt = mqtt
        self._settings = settings
        self._clock = clock
        self._journal = journal
        self._alarms = alarms
        self._stations = stations
        self._on_command = on_command
        self._hurried = hurried
        self._on_configuration = on_configuration
        self._on_alarm = on_alarm
        self._verifier = CommandVerifier(mqtt.central_key)
        tls = mqtt.tls
        # Key and certificate in one file are ours to renew; files of their own are somebody else's.
        self._renewal = Renewal(gateway, tls, clock) if tls and tls.cert == tls.key else None
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._session: _Session | None = None
        self._sessions = 0
        self._trial: _Session | None = None
        """A connection to the first broker that is being tried while another one's session goes on."""
        self._trial_at_s = 0.0
        self._brokers: tuple[config.Broker, ...] = (mqtt, *mqtt.fallback)
        self._backoff_s = [BACKOFF_S[0]] * len(self._brokers)
        self._connect_at_s = [0.0] * len(self._brokers)
        self._packs: dict[int, _Sent] = {}
        self._events: dict[str, _Sent] = {}
        self._live_from = 1
        self._live_blocked = False
        self._last_live_s = -math.inf
        self._disk_again_s = 0.0
        self._next_backlog_s = 0.0
        self._backlog_records = BACKLOG_RECORDS[0]
        self._started_wall_s = 0.0
        self._unwritable = False
        self._refusals = 0  # PUBACKs that said no since the last receipt

    # ------------------------------------------------------------------ from other threads

    def start(self) -> None:
        self._started_wall_s = self._clock.wall()
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish that the gateway goes offline, disconnect, and end the thread."""
        self._inbox.put(("stop",))
        if self._thread:
            self._thread.join()

    def wake(self) -> None:
        """There may be something to send."""
        self._inbox.put(("wake",))

    def publish_active(self) -> None:
        """The set of active occurrences changed."""
        self._inbox.put(("active",))

    def publish_stations(self) -> None:
        """What the stations are changed."""
        self._inbox.put(("stations",))

    def publish_result(self, result: ConfigurationResult) -> None:
        """Tell central what became of a configuration, if there is a link; central asks again by the message that it retains."""
        self._inbox.put(("result", result.model_dump_json().encode()))

    def publish_health(self, pack: Iterable[senml.Record]) -> None:
        """Send a health pack now, if there is a link; it is not kept."""
        self._inbox.put(("health", senml.to_json(pack)))

    @property
    def connected(self) -> bool:
        session = self._session
        return session is not None and session.connected

    def health(self) -> Mapping[str, float]:
        """What there is to tell of the link itself."""
        return self._renewal.health() if self._renewal else {}

    @property
    def alive(self) -> bool:
        """Whether the uplink's thread runs, with or without a link."""
        return self._thread is not None and self._thread.is_alive()

    # ------------------------------------------------------------------ the uplink thread

    def _run(self) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=self._clock.real(self._pause_s()))
            except queue.Empty:
                item = ("wake",)
            if item[0] == "stop":
                self._say_goodbye()
                return
            try:
                self._handle(item)
                self._connect_if_due()
                self._renew_if_due()
                self._pump()
            except (JournalUnwritable, AlarmLogUnwritable) as e:
                if not self._unwritable:
                    log.warning("uplink: what needs the disk waits: %s", e)
                self._unwritable = True
                self._disk_again_s = self._next_backlog_s = self._clock.boot() + 1
            except Exception:
                # This thread carries the alarms: whatever this was, it must not be the last thing that it does.
                log.exception("uplink: a fault of this program, the connection begins anew")
                with suppress(Exception):
                    self._end_session("a fault of this program", self._session.broker if self._session else 0)
                # It may meet each broker with the same fault.
                self._connect_at_s = [max(self._connect_at_s)] * len(self._brokers)
            else:
                if self._unwritable and self._clock.boot() >= self._disk_again_s and not self._journal.refused:
                    log.info("uplink: the disk takes notes again")
                    self._unwritable = False

    def _handle(self, item: tuple[Any, ...]) -> None:
        match item:
            case ("connected", number, refusal):
                self._connected(number, refusal)
            case ("disconnected", number, reason):
                self._disconnected(number, reason)
            case ("puback", number, mid, reason):
                self._puback(number, mid, reason)
            case ("message", number, message) if self._is_current(number):
                self._message(message)
            case ("active",) if self.connected:
                self._publish_active()
            case ("stations",) if self.connected:
                self._publish_stations()
            case ("result", payload) if self.connected:
                self._publish(RESULT, payload, ("state", None))
            case ("answered", name, command_id, answer) if self.connected:
                self._answer(name, command_id, answer)
            case ("health", payload) if self.connected:
                self._publish(topics.HEALTH, payload, ("health", None), content_type=senml.JSON_TYPE)

    def _pause_s(self) -> float:
        """Seconds until something is due by itself."""
        now = self._clock.boot()
        session = self._session
        if session is None:
            return max(0.0, min(self._connect_at_s) - now)
        if not session.connected:
            return 5.0
        due = [sent.due_s for sent in self._packs.values() if sent.session == session.number]
        due += [sent.due_s for sent in self._events.values() if sent.session == session.number]
        due += [at for at in (self._next_live_s(), self._next_backlog_s) if at > now]
        return min(max(min(due, default=now + 5.0) - now, 0.005), 5.0)

    # ------------------------------------------------------------------ connection

    def _connect_if_due(self) -> None:
        now = self._clock.boot()
        if self._session is not None:
            self._try_first_if_due(self._session, now)
            return
        broker = min(range(len(self._brokers)), key=lambda i: self._connect_at_s[i])
        if now < self._connect_at_s[broker]:
            return
        self._sessions += 1
        address = self._brokers[broker]
        renewed = self._renewal is not None and self._renewal.pending
        try:
            client = self._client(self._sessions, renewed=renewed)
            self._session = _Session(self._sessions, broker, client, renewed=renewed)
            # paho's own keepalive detects a half-open link after 1.5 times keepalive_s at most.
            client.connect(address.host, address.port, keepalive=self._mqtt.keepalive_s, clean_start=True)
        except (ConfigError, OSError, ValueError) as e:  # its TLS files may be exchanged right now
            if self._renewal is not None:
                (self._renewal.failed if renewed else self._renewal.other_fails)()
            self._end_session(self._why(str(e), broker), broker)
            return
        client.loop_start()

    def _try_first_if_due(self, session: _Session, now: float) -> None:
        """Connect to the first broker beside the session at another one, which ends only when the first has answered."""
        if not session.connected or session.broker == 0 or self._trial is not None or now < self._trial_at_s:
            return
        # What is outstanding would go again. But without receipts it may be this broker that does not lead to central.
        if self._journal.packs() and now < self._trial_at_s + RETURN_S:
            return
        self._trial_at_s = now + RETURN_S
        self._sessions += 1
        try:
            client = self._client(self._sessions)
        except ConfigError as e:
            log.warning("uplink: the first broker is not tried: %s", e)
            return
        self._trial = _Session(self._sessions, 0, client)
        first = self._brokers[0]
        # In paho's thread: an address that swallows packets must not hold up this one.
        client.connect_async(first.host, first.port, keepalive=self._mqtt.keepalive_s, clean_start=True)
        client.loop_start()

    def _end_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.client.disconnect()  # its thread ends by itself, as soon as its connect returns

    def _renew_if_due(self) -> None:
        """Ask for a new certificate before ours ends; change to it in a new connection, in a quiet moment."""
        session = self._session
        if self._renewal is None or session is None or not session.connected:
            return
        if self._renewal.pending and not session.renewed and not self._hurried():
            log.info("uplink: connects anew with the new certificate")
            self._session = None
            _drop(session)
            self._connect_at_s[session.broker] = self._clock.boot()
            self._connect_if_due()
            return
        request = self._renewal.request()
        if request is not None:
            self._publish(CERTIFICATE_REQUEST, request, ("identity", None))

    def _why(self, reason: str, broker: int) -> str:
        """A reason, and what our own certificate, the clock and the broker say to it: told once per outage."""
        tls = self._mqtt.tls
        if tls is None or self._backoff_s[broker] > BACKOFF_S[0]:
            return reason
        try:
            if self._clock.synchronised():
                check_dates(identity.certificate(tls.cert), self._clock)
            if "EOF" in reason:  # TLS stood and was closed: often the alert that says why is lost with it
                check(self._brokers[broker], tls, self._clock)
        except (LinkFault, ConfigError) as e:
            return f"{reason}; {e}"
        return reason

    def _client(self, number: int, *, renewed: bool = False) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._gateway,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(MAX_IN_FLIGHT + 4)
        if self._mqtt.tls:
            tls = self._renewal.files(renewed=renewed) if self._renewal else self._mqtt.tls
            client.tls_set_context(tls_context(tls, self._clock))
        if self._mqtt.username:
            client.username_pw_set(self._mqtt.username, self._mqtt.password)
        client.will_set(topics.topic(self._gateway, topics.STATUS), self._status(online=False), qos=1, retain=True)

        def post(*item: Any) -> None:
            self._inbox.put(item)

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            post("connected", number, str(reason) if reason.is_failure else None)

        errors: list[str] = []  # a socket's error and a TLS alert are only in paho's log

        def on_log(_c: Any, _u: Any, level: int, text: str) -> None:
            if level == paho.MQTT_LOG_ERR:
                errors.append(text)

        def on_disconnect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            said = str(reason)
            post("disconnected", number, errors[-1] if errors and said == _UNSPECIFIED else said)

        def on_connect_fail(_c: Any, _u: Any) -> None:
            post("disconnected", number, "unreachable")

        def on_publish(_c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
            post("puback", number, mid, reason.value)

        def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
            post("message", number, message)

        client.on_log = on_log

        def on_socket_open(_c: Any, _u: Any, sock: Any) -> None:
            # Else a reading waits up to 40 ms for the acknowledgement of the PUBACK that went before it (RFC 896, RFC 1122).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        client.on_socket_open = on_socket_open
        client.on_connect = on_connect
        client.on_connect_fail = on_connect_fail
        client.on_disconnect = on_disconnect
        client.on_publish = on_publish
        client.on_message = on_message
        return client

    def _is_current(self, number: int) -> bool:
        return self._session is not None and self._session.number == number

    def _connected(self, number: int, refusal: str | None) -> None:
        if refusal is not None:
            self._disconnected(number, f"refused: {refusal}")
            return
        if self._trial is not None and self._trial.number == number:
            if self._session is not None:
                # No word of going offline: where brokers hand on to each other it might come last.
                _drop(self._session)
            self._session, self._trial = self._trial, None
        session = self._session
        if session is None or session.number != number:
            return
        if self._mqtt.tls is not None and not self._clock.synchronised():
            try:
                checks_floor(session.client.socket(), self._mqtt.tls)
            except (LinkFault, ConfigError) as e:
                self._disconnected(number, str(e))
                return
        session.connected = True
        session.since_s = self._clock.boot()
        self._trial_at_s = session.since_s + RETURN_S
        address = self._brokers[session.broker]
        log.info("uplink: connected to %s:%d", address.host, address.port)
        # Subscribed again on every connect: a broker that lost its data says session present or not, as it pleases.
        session.client.subscribe(
            [
                (topics.topic(self._gateway, topics.RECEIPT), 1),
                (topics.topic(self._gateway, topics.CONFIG), 1),
                (topics.topic(self._gateway, CERTIFICATE), 1),
                (topics.topic(self._gateway, "cmd/+"), 1),
            ]
        )
        self._publish(topics.STATUS, self._status(online=True), ("state", None), retain=True)
        self._publish_stations()
        self._publish_active()
        # What waits now is backlog; what comes from here on is live, and goes first.
        self._live_from = self._journal.head + 1
        self._live_blocked = False
        self._backlog_records = BACKLOG_RECORDS[0]
        self._next_backlog_s = session.since_s + 1 / self._settings.backlog_packs_per_s

    def _disconnected(self, number: int, reason: str) -> None:
        session = self._session
        if self._trial is not None and self._trial.number == number:
            log.debug("uplink: the first broker is still away: %s", reason)
            self._end_trial()
        elif session is not None and session.number == number:
            if self._renewal is not None and not session.connected:
                (self._renewal.failed if session.renewed else self._renewal.other_fails)()
            elif self._renewal is not None and session.renewed:
                self._renewal.failed()
            self._end_session(reason if session.connected else self._why(reason, session.broker), session.broker)

    def _end_session(self, reason: str, broker: int) -> None:
        """Drop what there is of a session. The next is tried after the back-off; with another broker at once, if none stood."""
        session, self._session = self._session, None
        now = self._clock.boot()
        if session is not None and session.connected and now - session.since_s >= STEADY_S:
            self._backoff_s = [BACKOFF_S[0]] * len(self._brokers)
        again_s = now + self._backoff_s[broker] * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnects
        address = self._brokers[broker]
        if session is not None and session.connected:
            log.warning("uplink: link to %s:%d lost: %s", address.host, address.port, reason)
            # A link that falls is mostly not its broker's fault: all wait, and the first is asked first.
            self._connect_at_s = [max(at, again_s) for at in self._connect_at_s]
        elif self._backoff_s[broker] == BACKOFF_S[0]:
            log.warning("uplink: no link to %s:%d: %s", address.host, address.port, reason)
        self._connect_at_s[broker] = again_s
        self._backoff_s[broker] = min(self._backoff_s[broker] * 2, BACKOFF_S[1])
        if session is not None:
            _drop(session)

    def _say_goodbye(self) -> None:
        if self._trial is not None:
            _drop(self._trial)
        session, self._session = self._session, None
        if session is None:
            return
        if session.connected:
            info = session.client.publish(
                topics.topic(self._gateway, topics.STATUS), self._status(online=False), qos=1, retain=True
            )
            try:
                info.wait_for_publish(2)
            except (ValueError, RuntimeError):
                log.debug("uplink: closing without goodbye")
        session.client.disconnect()
        session.client.loop_stop()

    def _status(self, *, online: bool) -> bytes:
        since = rfc3339(self._started_wall_s)
        return (
            GatewayStatus(online=online, boot=self._clock.boot_id, version=VERSION, since=since)
            .model_dump_json()
            .encode()
        )

    # ------------------------------------------------------------------ what to send next

    def _pump(self) -> None:
        """Fill the flight: alarms first, then live readings, then the backlog."""
        session = self._session
        while session is not None and session.connected and len(session.flight) < MAX_IN_FLIGHT:
            if not (self._send_alarm(session) or self._send_live(session) or self._send_backlog(session)):
                return

    def _send_alarm(self, session: _Session) -> bool:
        now = self._clock.boot()
        for event_id, payload in self._alarms.unreceipted():
            sent = self._events.setdefault(event_id, _Sent())
            if sent.session == session.number and now < sent.due_s:
                continue
            self._mark(sent, session, now)
            self._publish(topics.ALARMS, payload, ("alarm", event_id), correlation=event_id.encode())
            return True
        return False

    def _send_live(self, session: _Session) -> bool:
        now = self._clock.boot()
        if len(self._journal.packs()) >= self._settings.window_packs:
            self._live_blocked = True
        elif self._live_blocked:
            self._live_from = self._journal.head + 1
            self._live_blocked = False
        elif now >= self._next_live_s():
            run = self._journal.unpacked(self._live_from)
            if run is not None:
                pack = self._journal.form(*run, "live", allow_estimated=self._may_estimate(session))
                if pack is not None:
                    self._last_live_s = now
                    self._send_pack(session, pack, "live", now)
                    return True
        return self._send_due(session, "live", now)

    def _next_live_s(self) -> float:
        """When the next pack of live readings may go; sooner as soon as it matters."""
        settings = self._settings
        interval_s = settings.pack_interval_active_s if self._hurried() else settings.pack_interval_s
        return max(self._disk_again_s, self._last_live_s + interval_s)

    def _send_backlog(self, session: _Session) -> bool:
        now = self._clock.boot()
        if session.in_flight("backlog") >= MAX_BACKLOG_IN_FLIGHT or now < self._next_backlog_s:
            return False
        if self._send_due(session, "backlog", now):
            self._next_backlog_s = now + 1 / self._settings.backlog_packs_per_s
            return True
        if len(self._journal.packs()) >= self._settings.window_packs // 2:  # the other half is for live readings
            return False
        run = self._journal.unpacked()
        if run is None or run[0] >= self._live_from:
            return False
        last = min(run[1], self._live_from - 1, run[0] + self._backlog_records - 1)
        pack = self._journal.form(run[0], last, "backlog", allow_estimated=self._may_estimate(session))
        if pack is None:
            return False
        self._next_backlog_s = now + 1 / self._settings.backlog_packs_per_s
        self._send_pack(session, pack, "backlog", now)
        return True

    def _send_due(self, session: _Session, lane: str, now: float) -> bool:
        """Send again the oldest pack of a lane that is due. What another session left unreceipted goes with the backlog."""
        for pack in self._journal.packs():
            sent = self._packs.setdefault(pack.first, _Sent())
            mine = sent.session == session.number
            if (pack.lane if mine else "backlog") != lane or (mine and now < sent.due_s):
                continue
            self._send_pack(session, pack, lane, now)
            return True
        return False

    def _may_estimate(self, session: _Session) -> bool:
        return self._clock.boot() - session.since_s >= ESTIMATED_AFTER_S

    def _send_pack(self, session: _Session, pack: Pack, lane: str, now: float) -> None:
        try:
            message = self._journal.message(pack)
        except PackLost as e:
            log.error("uplink: %s; they are sent anew", e)
            self._packs.pop(pack.first, None)
            return
        self._mark(self._packs.setdefault(pack.first, _Sent()), session, now)
        self._publish(
            topics.READINGS,
            message.payload,
            (lane, pack.first),
            content_type=senml.JSON_TYPE,
            correlation=message.correlation,
            properties=message.properties,
        )

    def _mark(self, sent: _Sent, session: _Session, now: float) -> None:
        if sent.session != session.number:
            sent.session, sent.delay_s = session.number, 0.0
        sent.delay_s = min(sent.delay_s * 2 or self._settings.retry_s, self._settings.retry_max_s)
        sent.due_s = now + sent.delay_s

    # ------------------------------------------------------------------ MQTT

    def _publish(
        self,
        leaf: str,
        payload: bytes,
        kind: tuple[str, Any],
        *,
        retain: bool = False,
        content_type: str | None = None,
        correlation: bytes | None = None,
        properties: list[tuple[str, str]] | None = None,
    ) -> None:
        session = self._session
        if session is None:
            return
        p = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if content_type:
            p.ContentType = content_type
        if correlation:
            p.CorrelationData = correlation
            p.ResponseTopic = topics.topic(self._gateway, topics.RECEIPT)
        if properties:
            p.UserProperty = properties
        info = session.client.publish(topics.topic(self._gateway, leaf), payload, qos=1, retain=retain, properties=p)
        session.flight[info.mid] = kind

    def _publish_stations(self) -> None:
        self._publish(topics.STATIONS, self._stations().model_dump_json().encode(), ("state", None), retain=True)

    def _publish_active(self) -> None:
        self._publish(topics.ACTIVE, self._alarms.active().model_dump_json().encode(), ("state", None), retain=True)

    def _puback(self, number: int, mid: int, reason: int) -> None:
        session = self._session
        if session is None or session.number != number:
            return
        kind, key = session.flight.pop(mid, ("", None))
        if kind == "alarm":
            taken = "nobody" if reason == _NO_SUBSCRIBER else "taken"
            self._on_alarm(key, "broker", "refused" if reason >= 0x80 else taken)
        if reason < 0x80:
            self._proven(session)
            if reason != _NO_SUBSCRIBER:
                if kind == "backlog":
                    self._weigh(self._packs.get(key))
                return
        if reason == _NOT_AUTHORISED and not session.refused:
            session.refused = True
            log.error("uplink: the broker takes nothing from %s: it is revoked, or unknown there", self._gateway)
        # Nobody was there to keep it: not sent. Again soon, then less soon.
        if kind in ("live", "backlog"):
            sent = self._packs.get(key)
        elif kind == "alarm":
            sent = self._events.get(key)
        else:
            return
        self._refusals += 1
        if sent is not None:
            sent.due_s = min(sent.due_s, self._clock.boot() + min(2.0 ** min(self._refusals, 6), sent.delay_s))

    def _weigh(self, sent: _Sent | None) -> None:
        """A pack of the backlog has its PUBACK: how large the next ones may be."""
        if sent is None:
            return  # its receipt came first
        took_s = self._clock.boot() - (sent.due_s - sent.delay_s)
        if took_s < SWIFT_S:
            self._backlog_records = min(self._backlog_records * 2, BACKLOG_RECORDS[1])
        elif took_s > SLOW_S:
            self._backlog_records = max(self._backlog_records // 2, BACKLOG_RECORDS[0])

    def _proven(self, session: _Session) -> None:
        """The broker has taken a message: the identity of this session is good."""
        if self._renewal is None:
            return
        if not session.renewed:
            self._renewal.other_works()
            return
        try:
            self._renewal.taken()
            session.renewed = False
        except OSError as e:  # it is in use all the same, and tried again with the next message
            log.error("uplink: the new certificate cannot be put in its place: %s", e.strerror)

    def _message(self, message: paho.MQTTMessage) -> None:
        try:
            leaf = topics.parse(message.topic).leaf
            if leaf == topics.RECEIPT:
                self._receipt(message)
            elif leaf == topics.CONFIG:
                self._configuration(message)
            elif leaf.startswith("cmd/"):
                self._command(leaf.removeprefix("cmd/"), message)
            elif leaf == CERTIFICATE and self._renewal is not None:
                self._renewal.answer(bytes(message.payload))
        except WireError as e:
            log.warning("uplink: message on %s refused: %s", message.topic, e)

    def _receipt(self, message: paho.MQTTMessage) -> None:
        data = getattr(message.properties, "CorrelationData", None)
        if data is None:
            raise WireError("a receipt needs correlation data")
        pairs: list[tuple[str, str]] = getattr(message.properties, "UserProperty", [])
        bounds = readings.parse_correlation(data)
        if bounds is None:
            event_id = data.decode(errors="replace")
            self._events.pop(event_id, None)
            self._alarms.receipt(event_id, dict(pairs).get("notifying"))
            for name, value in pairs:
                self._on_alarm(event_id, name, value)
            return
        if bounds.journal != self._journal.id:
            raise WireError(f"receipt for journal {bounds.journal}, this one is {self._journal.id}")
        numbers = [int(value) for key, value in pairs if key == "held" and _is_number(value)]
        held = [number for number in numbers if bounds.first <= number <= bounds.last]
        for key, value in pairs:
            if key == "rejected":
                log.error("central rejected reading %s", value)
        if self._journal.receipt(bounds.first, bounds.last, held):
            self._packs.pop(bounds.first, None)
            self._refusals = 0

    def _configuration(self, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload)
        if not payload:  # no longer retained
            return
        self._verifier.verify(message.topic, payload, dict(getattr(message.properties, "UserProperty", [])))
        self._on_configuration(parse_as(Configuration, payload))

    def _command(self, name: str, message: paho.MQTTMessage) -> None:
        properties = dict(getattr(message.properties, "UserProperty", []))
        expiry_s = getattr(message.properties, "MessageExpiryInterval", None)
        command_id = None
        try:
            arguments = self._verifier.check(message.topic, bytes(message.payload), properties, expiry_s)
            command_id = arguments["id"]
            answer = self._on_command(name, arguments)
        except WireError as e:
            self._answer(name, command_id, e)
            return
        if isinstance(answer, Future):  # its link may be gone by then: nobody waits so long
            answer.add_done_callback(lambda done: self._inbox.put(("answered", name, command_id, _outcome(done))))
        else:
            self._answer(name, command_id, answer)

    def _answer(self, name: str, command_id: str | None, answer: dict[str, Any] | BaseException) -> None:
        if isinstance(answer, BaseException):
            log.warning("uplink: command %s refused: %s", name, answer)
            body = {"id": command_id, "ok": False, "error": str(answer)}
        else:
            body = {"id": command_id, "ok": True} | answer
        self._publish(topics.command_result(name), json.dumps(body).encode(), ("state", None))


def _outcome(done: "Future[dict[str, Any]]") -> dict[str, Any] | BaseException:
    """What a command came to."""
    return done.exception() or done.result()


def _drop(session: _Session) -> None:
    session.client.on_disconnect = None
    session.client.disconnect()
    session.client.loop_stop()


def _is_number(text: str) -> bool:
    """Whether `int` takes this text for a number of a reading: a foreign digit such as the superscript two it does not."""
    return text.isascii() and text.isdecimal() and len(text) < 20
