"""What gateways say of themselves and their alarms: recorded at once, receipted, handed to the notifier."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from central.alarms.log import AlarmLog
from central.errors import StateUnavailable
from central.holding import DeadLetter, Holding
from central.mqtt import Publisher, Received
from central.registry import Registry
from common.clock import Clock
from common.worker import Worker
from wire import alarm, topics
from wire.alarm import AlarmEvent
from wire.configuration import RESULT as CONFIGURATION_RESULT
from wire.errors import WireError
from wire.identity import CERTIFICATE_REQUEST
from wire.station import Active, GatewayStatus, Stations, parse_as

log = logging.getLogger(__name__)

FETCH_S = 15.0
"""Real seconds."""
LATER = frozenset({topics.STATIONS, topics.STATUS})
"""What waits behind alarms: the broker keeps it, and only the newest of a gateway counts. After an outage thousands come at once."""
BATCH = 50
LATER_S = 0.5
"""Real seconds in which such messages gather: each transaction waits for the disk, and what tells people waits for it."""


class Intake:
    """Handles the messages of the alarms session, in its network thread: the broker is acknowledged after the record. What gateways
    say of themselves (`LATER`) is recorded by `worker`, many at a time.

    `changed` is called after an alarm was recorded or reconciled; `described` when a gateway's stations came; `online` when a
    gateway says that it is; `answers` by name of the command, with the gateway and its answer (they may raise WireError).
    `configured` takes what a gateway says of a configuration (it may raise WireError).
    `renew` takes a gateway's request for a certificate (None: there is no CA). `fetch_retained` has the broker send its
    retained messages again: `worker` calls it for lists of active alarms that the disk did not take.
    """

    def __init__(
        self,
        broker: Callable[[], Publisher],
        alarms: AlarmLog,
        registry: Registry,
        holding: Holding,
        clock: Clock,
        *,
        changed: Callable[[], None],
        described: Callable[[str], None],
        online: Callable[[str], None],
        answers: Mapping[str, Callable[[str, bytes], None]],
        fetch_retained: Callable[[], None],
        renew: Callable[[str, bytes], None] | None = None,
        configured: Callable[[str, bytes], None],
    ) -> None:
        self._broker = broker
        self._alarms = alarms
        self._registry = registry
        self._holding = holding
        self._clock = clock
        self._changed = changed
        self._described = described
        self._online = online
        self._answers = {topics.command_result(name): answered for name, answered in answers.items()}
        self._fetch_retained = fetch_retained
        self._renew = renew
        self._configured = configured
        self._unwritable = False
        self._missed = False
        self._fetch_s: float | None = None
        self._later: dict[str, Received] = {}  # by topic
        self._later_s = 0.0  # boot second before which none is recorded
        self._lock = threading.Lock()
        self.worker = Worker("intake", self._work, clock)

    def handle(self, message: Received) -> None:
        """Never raises for what a client sent: what is wrong becomes a dead letter.

        What the disk does not take gets no receipt: its gateway sends it again, and meanwhile tells people itself.
        """
        leaf = message.topic.rpartition("/")[2]
        if leaf in LATER:
            with self._lock:
                self._later[message.topic] = message
            self.worker.wake()
            return
        try:
            self._handle(message)
        except StateUnavailable as e:
            self._not_written(e)
            if leaf == topics.ACTIVE:  # nobody sends it again unasked
                self._missed = True
                self.worker.wake()
        except Exception as e:
            # Nobody foresaw this; it is this message's fault, and must hold up no other.
            log.exception("message on %s cannot be handled", message.topic)
            with suppress(StateUnavailable):
                self._refuse(message, WireError(f"cannot be handled: {type(e).__name__}"))

    def _handle(self, message: Received) -> None:
        try:
            gateway, leaf = topics.parse(message.topic)
            match leaf:
                case topics.ALARMS:
                    self._alarm(gateway, message)
                case topics.ACTIVE:
                    self._active(gateway, message)
                case _ if leaf == CERTIFICATE_REQUEST and self._renew is not None:
                    self._renew(gateway, message.payload)
                case _ if leaf == CONFIGURATION_RESULT:
                    self._configured(gateway, message.payload)
                case _ if leaf in self._answers:
                    self._answers[leaf](gateway, message.payload)
        except WireError as e:
            self._refuse(message, e)

    def _alarm(self, gateway: str, message: Received) -> None:
        event = alarm.parse(message.payload)
        self._check_owner(gateway, event)
        self._alarms.record(event, self._clock.wall())
        self._written()
        self._changed()  # before the receipt, which a lost link may hold up
        self.receipt(gateway, event.id, [("stored", "true")])

    def _written(self) -> None:
        if self._unwritable:
            log.info("alarms are recorded again")
        self._unwritable = False

    def _not_written(self, error: StateUnavailable) -> None:
        if not self._unwritable:
            log.error("nothing can be recorded: %s; alarms get no receipt", error)
        self._unwritable = True

    def _work(self) -> float | None:
        due = [at for at in (self._take_later(), self._fetch_missed()) if at is not None]
        return min(due, default=None)

    def _take_later(self) -> float | None:
        if self._clock.boot() < self._later_s:
            return self._later_s if self._later else None
        while not self.worker.stopping:
            with self._lock:
                taken = dict(islice(self._later.items(), BATCH))
                for topic in taken:
                    del self._later[topic]
            if not taken:
                break
            try:
                self._record(list(taken.values()))
            except StateUnavailable as e:
                self._not_written(e)
                with self._lock:
                    self._later = taken | self._later
                return self._clock.boot() + FETCH_S * self._clock.scale
            self._written()
            self._later_s = self._clock.boot() + LATER_S * self._clock.scale
            if len(taken) < BATCH:
                break
        return self._later_s if self._later else None

    def _record(self, messages: Sequence[Received]) -> None:
        """In one transaction; one by one when one of them breaks it."""
        try:
            with self._holding.together():
                then = [self._note(message) for message in messages]
        except StateUnavailable:
            raise
        except Exception as e:
            if len(messages) > 1:
                for message in messages:
                    self._record([message])
                return
            log.exception("message on %s cannot be handled", messages[0].topic)
            self._refuse(messages[0], WireError(f"cannot be handled: {type(e).__name__}"))
            return
        for call in then:
            call()

    def _note(self, message: Received) -> Callable[[], None]:
        """Record what a gateway says of itself; gives what is to be done once it is on the disk."""
        try:
            gateway, leaf = topics.parse(message.topic)
            if leaf == topics.STATIONS:
                return self._stations(gateway, message)
            status = parse_as(GatewayStatus, message.payload)
        except WireError as e:
            self._refuse(message, e)
            return lambda: None
        self._holding.set_status(gateway, status, self._clock.wall())
        return (lambda: self._online(gateway)) if status.online else (lambda: None)

    def _fetch_missed(self) -> float | None:
        """What could not be recorded is fetched again, every `FETCH_S` until all of it could be."""
        now = self._clock.boot()
        if not self._missed:
            return None
        if self._fetch_s is None:
            self._fetch_s = now + FETCH_S * self._clock.scale
        if now < self._fetch_s:
            return self._fetch_s
        self._missed, self._fetch_s = False, None
        self._fetch_retained()
        return None

    def _active(self, gateway: str, message: Received) -> None:
        own = []
        for event in parse_as(Active, message.payload).active:
            try:
                self._check_owner(gateway, event)
            except WireError as e:
                self._refuse(message, e)
            else:
                own.append(event)
        self._alarms.reconcile(gateway, Active(active=tuple(own)), self._clock.wall())
        self._written()
        self._changed()

    def _check_owner(self, gateway: str, event: AlarmEvent) -> None:
        """Raises WireError when the event is not this gateway's to report."""
        if event.source != "gateway":
            raise WireError(f"source: {event.source} from gateway {gateway}, expected gateway")
        if event.gateway != gateway:
            raise WireError(f"gateway: {event.gateway} on the topic of {gateway}")
        if event.station is not None and self._registry.owner(event.station) not in (None, gateway):
            raise WireError(f"station {event.station} is not registered to gateway {gateway}")
        known = self._alarms.occurrence(event.occurrence)
        if known is not None and known.gateway != gateway:
            raise WireError(f"occurrence {event.occurrence} is not of gateway {gateway}")

    def _refuse(self, message: Received, error: WireError) -> None:
        log.warning("message on %s refused: %s", message.topic, error)
        self._holding.keep([DeadLetter(message.topic, str(error), message.payload)], [], self._clock.wall())

    def _stations(self, gateway: str, message: Received) -> Callable[[], None]:
        strangers = self._registry.publish(gateway, parse_as(Stations, message.payload))
        for station in strangers:
            log.warning("gateway %s describes station %s, which is not registered to it", gateway, station)
        return lambda: self._described(gateway)

    def receipt(self, gateway: str, event_id: str, properties: Sequence[tuple[str, str]]) -> None:
        self._broker().publish(
            topics.topic(gateway, topics.RECEIPT), b"", correlation=event_id.encode(), properties=properties
        )
