"""Central as a process: builds the parts from the configuration, runs them until SIGTERM, ends in good order."""

import logging
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import time
from time import sleep

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from central.accounts import Accounts
from central.alarms.log import AlarmLog
from central.alarms.neighbours import NeighbourWatch
from central.alarms.own import Own
from central.alarms.reaches import ReachWatch
from central.alarms.series import AlarmSeries
from central.alarms.silence import SilenceWatch
from central.alarms.smog import SmogWatch
from central.alarms.webhook import Webhook
from central.alarms.wishes import Wishes
from central.authority import Authority, ends_s, passphrase
from central.chain import BROKER_TOPICS, Chain
from central.commands import Forwarder, Resender, load_key
from central.completeness import CompletenessWriter
from central.config import CentralConfig
from central.config import Embedded as EmbeddedStore
from central.configurations import Configurations, Pusher
from central.db import Database
from central.enrolment import Renewals
from central.errors import ConfigError, NeedsPerson, StateUnavailable, Unavailable
from central.holding import Holding
from central.identities import Identities
from central.ingest import Ingest
from central.intake import Intake
from central.mqtt import Received, Session
from central.notify.channels import Channels, ModemSms, channels
from central.notify.graph import Graphs
from central.notify.linktest import LinkTest
from central.notify.notifier import Notifier
from central.notify.replies import Replies
from central.notify.series import MessageSeries
from central.notify.shared import recipients_of
from central.orders import Orders, OrderSender
from central.ranges import Ranges
from central.registry import Registry
from central.status import StatusWriter, measured, recent
from central.store.base import Store
from central.store.configured import store
from central.store.embedded import Embedded
from central.web.server import Page
from central.workers import LEADER, Place, lock_name, share
from common import systemd
from common.calendar import Calendar
from common.clock import Clock
from wire import command, topics
from wire.alarm import AlarmEvent
from wire.configuration import RESULT
from wire.errors import WireError
from wire.identity import CERTIFICATE_REQUEST
from wire.quantities import QUANTITIES
from wire.readings import PackProperties
from wire.station import Stations, parse_as

log = logging.getLogger(__name__)

SWITCH_S = 0.0005
"""So long one thread may compute while others wait. What tells people takes its turn a hundred times for one message, and each minute
the rows of thousands of stations are computed: at Python's 5 ms a mail would take a second more."""
LOOK_S = 1.0
"""Real seconds between two looks at who lives and who leads."""
HOLD_TRIES = 4
SETUP_RETRY_S = 5.0
HOUSEKEEPING = time(3, 30)
DAY_S = 86400
DEAD_LETTER_DAYS = 90
THIN_MS = 600_000
CERTIFICATE_DAYS = 365
_LEAVES = (topics.ALARMS, topics.ACTIVE, topics.STATIONS, topics.STATUS, CERTIFICATE_REQUEST, RESULT, "cmd/+/result")
"""What comes on the alarms session."""


def run(config: CentralConfig, clock: Clock, place: Place | None = None) -> None:
    """Run until SIGTERM or SIGINT, as one worker of several if `place` says so. Raises ConfigError before anything is started."""
    place = place or Place()
    stop = threading.Event()
    # A queue, whose `put` may interrupt its own `get`: an Event set by a signal that arrives in its `wait` can stand still for ever.
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def end(*_: object) -> None:
        stop.set()
        woken.put(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    sys.setswitchinterval(SWITCH_S)
    died: list[str] = []

    def on_thread_death(hook: threading.ExceptHookArgs) -> None:
        # A part that is gone without a sign is worse than a restart, which takes up everything where it was.
        died.append(hook.thread.name if hook.thread else "a thread")
        log.critical("%s has ended, so central ends", died[-1], exc_info=hook.exc_value)
        end()

    threading.excepthook = on_thread_death
    ways = channels(config, clock)
    authority = _authority(config)
    key = load_key(config.commands.key) if config.commands else None
    db = Database(config.state_at)
    where = "state.url" if config.state else "data_dir"
    try:
        db.open()
        if not _hold(db, lock_name(place.number)):
            of = "" if place.alone else f", as its worker {place.number}"
            raise ConfigError(f"{where}: {db.name} is in use by another central{of}")
    except StateUnavailable as e:
        raise ConfigError(f"{where}: {db.name}: {e}") from e
    worker = Worker(config, clock, db, place, stop)
    leader: Leader | None = None
    look_at_certificate(config, clock)
    worker.start()
    ready = False
    while not stop.is_set():
        try:
            worker.share_out()
            leads = leader is not None or db.hold(LEADER)
        except StateUnavailable as e:
            log.debug("who lives and who leads cannot be seen: %s", e)
            leads = False
        try:
            if leads and leader is None:
                leader = Leader(config, clock, db, worker, ways, key, authority)
                leader.start()
                log.info("worker %d of %d leads: alarms, messages and page are here", place.number, place.count)
        except StateUnavailable as e:
            log.error("the lead cannot be taken up: %s", e)
            died.append(LEADER)
        if db.lock_lost:
            log.error("the state was away, and another process took up %s meanwhile: begun anew", db.lock_lost)
            died.append(db.lock_lost)
        if died:
            break
        systemd.notify("WATCHDOG=1" if ready else "READY=1")
        ready = True
        with suppress(queue.Empty):
            woken.get(timeout=LOOK_S)
    systemd.notify("STOPPING=1")
    stop.set()
    worker.join_setup()
    if leader:
        leader.stop()
    worker.stop()
    db.close()
    if died:
        raise SystemExit(1)


def _hold(db: Database, name: str) -> bool:
    """Whoever looks who lives holds a lock of a file for a moment, and a worker that was killed may take one to be gone."""
    for _ in range(HOLD_TRIES):
        if db.hold(name):
            return True
        sleep(LOOK_S / 2)
    return False


class Worker:
    """What every process does: it stores the readings of its share of the gateways, and receipts them.

    `heard` gets each of their messages, `stored` each pack that the database has confirmed, with the time of its last reading (Unix
    ms): for who leads, if that is this process.
    """

    def __init__(self, config: CentralConfig, clock: Clock, db: Database, place: Place, stop: threading.Event) -> None:
        self.place = place
        self.gateways = frozenset(s.gateway for s in config.station)
        self.holding = Holding(db)
        self.database = store(config)
        self.registry = Registry(config.station, self.holding)
        self.ranges = Ranges(db, clock, self.gateways.__contains__)
        self._people = recipients_of(config, db, clock)
        self.heard: Callable[[Received], None] = lambda _: None
        self.stored: Callable[[str, PackProperties, int | None], None] = lambda *_: None
        self._db = db
        self._clock = clock
        self._stop = stop
        self._living: set[str] | None = None
        self.receipts = Session(place.session("central-receipts"), config.mqtt, [], lambda _: None)
        self.session = Session(
            place.session("central-readings"),
            config.mqtt,
            [],
            self._handle,
            manual_ack=True,
            receive_maximum=100,
        )
        self.ingest = Ingest(
            lambda: self.session,
            lambda: self.receipts,
            self.database,
            self.registry,
            self.holding,
            clock,
            on_stored=self._stored,
        )
        self._setup = threading.Thread(target=self._begin_ingest, name="setup", daemon=True)
        self._when_ready: list[Callable[[], None]] = []
        self._ready = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Raises StateUnavailable."""
        self._people.adopt()  # whoever leads is to know those of this machine
        self.registry.load()
        self.ranges.worker.start()
        self.receipts.start()
        # Alarms go out while the database is still away; readings wait at the broker and on the gateways.
        self._setup.start()

    def when_ready(self, then: Callable[[], None]) -> None:
        """Call `then` once the time-series database is set up."""
        with self._lock:
            if not self._ready:
                self._when_ready.append(then)
                return
        then()

    def join_setup(self) -> None:
        """After the stop: nothing more begins."""
        self._setup.join()

    def stop(self) -> None:
        self.session.stop()
        self.ingest.stop()
        self.receipts.stop()
        self.ranges.worker.stop()
        with suppress(StateUnavailable):
            self.ranges.save()
        self.database.close()

    def share_out(self) -> None:
        """Take over from a worker that is gone, or give back to one that is here again. Raises StateUnavailable."""
        if self.place.alone:
            if self._living is None:
                # Also of gateways that nobody registered yet: what they send waits in the quarantine.
                self._living = set()
                self.session.follow(EVERYONE, [t for g in sorted(self.gateways) for t in _topics(g)])
            return
        living = self._db.held(self.place.names)
        if living == self._living:
            return
        self._living = living
        mine = share(
            self.gateways,
            self.place.number,
            [n for n in range(1, self.place.count + 1) if lock_name(n) in living],
        )
        log.info(
            "worker %d of %d: %d of %d gateways, of %d workers that live",
            self.place.number,
            self.place.count,
            len(mine),
            len(self.gateways),
            len(living | {lock_name(self.place.number)}),
        )
        others = sorted(self.gateways - mine)
        self.session.follow(
            [t for g in sorted(mine) for t in _topics(g)], [*EVERYONE, *(t for g in others for t in _topics(g))]
        )

    def _handle(self, message: Received) -> None:
        self.heard(message)
        if message.topic.endswith(f"/{topics.STATIONS}"):
            self._learn(message)
        else:
            self.ingest.handle(message)

    def _learn(self, message: Received) -> None:
        """Who leads writes it down; here it says which readings can be stored."""
        try:
            gateway, _ = topics.parse(message.topic)
            self.registry.learn(gateway, parse_as(Stations, message.payload))
            self.ingest.replay(gateway)
        except WireError as e:
            log.debug("message on %s: %s", message.topic, e)
        self.session.ack(message)

    def _stored(self, gateway: str, pack: PackProperties, newest_ms: int | None) -> None:
        thinned = pack.thinned[1] - pack.thinned[0] + 1 if pack.thinned else 0
        numbers = pack.range
        self.ranges.add(gateway, numbers.journal, numbers.first, numbers.last, newest_ms=newest_ms, thinned=thinned)
        if pack.thinned:
            self.ranges.add(gateway, pack.range.journal, *pack.thinned)
        self.stored(gateway, pack, newest_ms)

    def _begin_ingest(self) -> None:
        warned = False
        while not self._stop.is_set():
            try:
                self.database.setup()
                waiting = self.holding.gateways_in_quarantine()
            except (Unavailable, NeedsPerson) as e:
                if not warned:
                    log.error("database is not ready: %s; readings wait", e)
                warned = True
                self._clock.wait(self._stop, SETUP_RETRY_S)
                continue
            self.ingest.start()
            for gateway in waiting:
                self.ingest.replay(gateway)
            self.session.start()
            with self._lock:
                self._ready = True
            for then in self._when_ready:
                then()
            return


EVERYONE = tuple(f"{topics.ROOT}/+/{leaf}" for leaf in (topics.READINGS, topics.HEALTH))


def _topics(gateway: str) -> list[str]:
    """What a worker among several follows of a gateway of its share."""
    return [topics.topic(gateway, leaf) for leaf in (topics.READINGS, topics.HEALTH, topics.STATIONS)]


class Leader:
    """What one process does for all: alarms, people, `station_status`, the page."""

    def __init__(
        self,
        config: CentralConfig,
        clock: Clock,
        db: Database,
        worker: Worker,
        ways: Channels,
        key: Ed25519PrivateKey | None,
        authority: Authority | None,
    ) -> None:
        self._worker = worker
        alone, registry = worker.place.alone, worker.registry
        alarms = AlarmLog(db)
        wishes = Wishes(db, alarms, clock)
        own = Own(alarms, wishes, clock, self._on_alarm)
        self._forwarder: Forwarder | None = None
        self._resender: Resender | None = None
        self._pusher: Pusher | None = None
        self._orderer: OrderSender | None = None
        orders = Orders(db, clock)
        configurations = Configurations(db, clock)
        if key:
            self._pusher = Pusher(key, lambda: self._session, configurations, clock)
            self._orderer = OrderSender(key, lambda: self._session, orders, clock)
            self._forwarder = Forwarder(key, lambda: self._session, alarms, wishes, clock)
            self._resender = Resender(key, lambda: self._session, worker.ranges, clock, shared=not alone)
        else:
            log.warning(
                "no [commands] key: acknowledgements given here do not silence the gateways' sirens, "
                "nothing can be shelved or reset, and lost readings are not asked for"
            )

        def on_notifying(event_id: str, outcome: str) -> None:
            event = alarms.event(event_id)
            if event is not None and event.source == "gateway":
                self._intake.receipt(event.gateway, event_id, [("notifying", outcome)])

        answered: dict[str, Callable[[str, bytes], None]] = {}
        if self._forwarder and self._resender:
            answered = dict.fromkeys((command.ACK, command.SHELVE, command.RESET), self._forwarder.answered)
            answered[command.RESEND] = self._resender.answered
            answered |= dict.fromkeys((command.READ, command.RAW, command.LOGS, command.RESTART), orders.answered)
        self._chain = Chain(worker.gateways, worker.holding, db, clock)
        self._graphs = Graphs(worker.database, registry, clock)
        self._messages = MessageSeries(config, worker.database, db, alarms, clock)
        self._notifier = Notifier(
            config,
            db,
            alarms,
            clock,
            ways,
            on_notifying=on_notifying,
            on_acknowledged=self._on_acknowledged,
            graph=self._graphs.of,
            on_outcome=self._messages.worker.wake,
            own=own,
        )
        modems = [sender for sender in ways.sms if isinstance(sender, ModemSms)]
        people = recipients_of(config, db, clock)
        self._replies = Replies(modems, people, alarms, self._notifier, config.place, clock) if modems else None
        self._link_test = (
            LinkTest(config.link_test, db, alarms, people, ways.email, clock, changed=self._on_alarm)
            if config.link_test
            else None
        )

        def on_board(event: AlarmEvent, stored: bool) -> None:
            self._intake.receipt(event.gateway, event.id, [("board", "true" if stored else "false")])

        self._series = AlarmSeries(worker.database, db, alarms, clock, config.place, config.commune, on_board)
        renewals = Renewals(authority, Identities(db), lambda: self._session, clock) if authority else None
        self._intake = Intake(
            lambda: self._session,
            alarms,
            registry,
            worker.holding,
            clock,
            changed=self._on_alarm,
            described=worker.ingest.replay,
            online=self._on_online,
            answers=answered,
            fetch_retained=lambda: self._session.fetch_retained(),
            renew=renewals.requested if renewals else None,
            configured=configurations.result,
        )
        self._silence = SilenceWatch(
            worker.gateways,
            worker.holding.gateways(),
            own,
            clock,
            config.gateway_silent_s,
            alarms_flow=lambda: self._session.connected,
            readings_flow=(lambda: worker.session.connected and worker.ingest.taking)
            if alone
            else (lambda: self._session.connected),
        )
        self._reaches = ReachWatch(config.reach, own, clock)
        self._neighbours = NeighbourWatch(config.neighbours, worker.database, registry, own, clock)
        self._smog = SmogWatch(config.smog, worker.database, registry, own, clock)
        # Among several, health is the voice of those gateways whose readings go elsewhere.
        leaves = _LEAVES if alone else (*_LEAVES, topics.HEALTH)
        self._session = Session(
            "central-alarms",
            config.mqtt,
            [f"{topics.ROOT}/+/{leaf}" for leaf in leaves],
            self._handle,
            unwanted=[f"{topics.ROOT}/+/{topics.HEALTH}"] if alone else [],
        )
        # A session of its own: a broker without such topics may end the connection that asks for them, again and again.
        self._broker = (
            Session("central-broker", config.mqtt, BROKER_TOPICS, self._chain.heard)
            if config.mqtt.broker_topics
            else None
        )
        self._status = StatusWriter(worker.database, registry, alarms, clock, self._chain.points)
        self._completeness = CompletenessWriter(worker.database, registry, worker.ranges, clock)
        self._page = Page(
            config,
            registry,
            worker.database,
            self._notifier,
            Accounts(db, clock),
            Webhook(
                own,
                registry,
                clock,
                lambda: measured(registry, recent(worker.database, registry, clock.wall()), {}, clock),
            ),
            clock,
            linked=lambda: self._session.connected,
            wishes=wishes,
            wished=self._on_acknowledged,
        )
        self._calendar = Calendar(clock)
        for name, job in housekeeping(config, clock, worker.holding, worker.database):
            self._calendar.daily(HOUSEKEEPING, job, name)
        self._calendar.daily(HOUSEKEEPING, worker.ranges.compact, "compaction of the journal ranges")
        if config.link_test and self._link_test:
            at = time.fromisoformat(config.link_test.at)
            self._calendar.weekly(config.link_test.day, at, self._link_test.begin_if_first, "link test")

    def start(self) -> None:
        """Raises StateUnavailable."""
        self._notifier.start()
        if self._replies:
            self._replies.worker.start()
        if self._link_test:
            self._link_test.worker.start()
        if self._forwarder and self._resender:
            self._forwarder.worker.start()
            self._resender.worker.start()
        if self._pusher:
            self._pusher.worker.start()
        if self._orderer:
            self._orderer.worker.start()
        self._worker.stored = self._on_stored
        self._worker.heard = self._heard
        self._session.start()
        if self._broker:
            self._broker.start()
        self._intake.worker.start()
        self._silence.worker.start()
        self._reaches.worker.start()
        self._worker.when_ready(self._status.worker.start)
        self._worker.when_ready(self._series.worker.start)
        self._worker.when_ready(self._messages.worker.start)
        self._worker.when_ready(self._completeness.worker.start)
        self._worker.when_ready(self._neighbours.worker.start)
        self._worker.when_ready(self._smog.worker.start)
        self._calendar.start()
        self._page.start()

    def stop(self) -> None:
        self._page.stop()
        self._calendar.stop()
        self._intake.worker.stop()
        self._silence.worker.stop()
        self._reaches.worker.stop()
        self._neighbours.worker.stop()
        self._smog.worker.stop()
        if self._forwarder and self._resender:
            self._forwarder.worker.stop()
            self._resender.worker.stop()
        if self._pusher:
            self._pusher.worker.stop()
        if self._orderer:
            self._orderer.worker.stop()
        self._session.stop()
        if self._broker:
            self._broker.stop()
        self._status.worker.stop()
        self._series.worker.stop()
        self._messages.worker.stop()
        self._completeness.worker.stop()
        if self._replies:
            self._replies.worker.stop()
        if self._link_test:
            self._link_test.worker.stop()
        self._notifier.stop()
        self._graphs.close()

    def _handle(self, message: Received) -> None:
        self._heard(message)
        self._intake.handle(message)

    def _heard(self, message: Received) -> None:
        self._chain.heard(message)
        self._silence.heard(message)

    def _on_stored(self, gateway: str, pack: PackProperties, newest_ms: int | None) -> None:
        self._chain.stored(gateway, pack.lane, newest_ms)
        if self._resender and pack.lane == "backlog":
            self._resender.backlog(gateway)

    def _on_acknowledged(self) -> None:
        self._silence.worker.wake()
        if self._forwarder:
            self._forwarder.wake()

    def _on_online(self, gateway: str) -> None:
        self._on_acknowledged()
        if self._resender and gateway in self._worker.gateways:
            self._resender.online(gateway)
        if self._pusher:
            self._pusher.wake()

    def _on_alarm(self) -> None:
        self._notifier.wake()
        self._reaches.worker.wake()
        self._series.worker.wake()


def housekeeping(
    config: CentralConfig, clock: Clock, holding: Holding, database: Store
) -> list[tuple[str, Callable[[], object]]]:
    """Name and job of what is deleted each night. A database server has a retention policy of its own."""
    jobs: list[tuple[str, Callable[[], object]]] = [
        ("pruning of the dead letters", lambda: holding.prune(clock.wall() - DEAD_LETTER_DAYS * DAY_S))
    ]
    if isinstance(database, Embedded) and isinstance(config.store, EmbeddedStore) and config.store.keep_days:
        kept_s = config.store.keep_days * DAY_S
        jobs.append(("pruning of the store", lambda: database.prune(round((clock.wall() - kept_s) * 1000))))
    if isinstance(database, Embedded) and isinstance(config.store, EmbeddedStore) and config.store.thin_days:
        whole_s = config.store.thin_days * DAY_S

        def thin() -> None:
            for quantity in QUANTITIES.keys() - {"rainfall"}:  # sums: what is deleted would be missing from the total
                database.thin(quantity, round((clock.wall() - whole_s) * 1000), THIN_MS)

        jobs.append(("thinning of the store", thin))
    return jobs


def look_at_certificate(config: CentralConfig, clock: Clock) -> None:
    """Say it in time: central's own certificate, and the broker's of the same day, are renewed by a person."""
    tls = config.mqtt.tls
    if tls is None or tls.cert is None:
        return
    try:
        days = (ends_s(tls.cert.read_text(encoding="utf-8")) - clock.wall()) / DAY_S
    except (OSError, ValueError):
        return  # the connection says it
    if days < CERTIFICATE_DAYS:
        log.warning(
            "central's certificate ends in %d days: `maillages-central broker DIR` renews it, and the broker's", days
        )


def _authority(config: CentralConfig) -> Authority | None:
    """The CA that signs new certificates. Raises ConfigError; None, with a warning, when nothing opens its key."""
    if config.enrolment is None:
        return None
    if config.enrolment.passphrase_file is None:
        log.warning("no enrolment.passphrase_file: gateways' certificates are not renewed, and end")
        return None
    return Authority.load(config.enrolment.ca_dir, passphrase(config.enrolment))
