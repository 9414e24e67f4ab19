"""Central as a process: builds the parts from the configuration, runs them until SIGTERM, ends in good order."""

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import time

from central.alarms.log import AlarmLog
from central.alarms.series import AlarmSeries
from central.alarms.silence import SilenceWatch
from central.alarms.wishes import Wishes
from central.authority import Authority, ends_s, passphrase
from central.chain import BROKER_TOPICS, Chain
from central.commands import Forwarder, Resender, load_key
from central.completeness import CompletenessWriter
from central.config import CentralConfig
from central.config import Embedded as EmbeddedStore
from central.db import Database
from central.enrolment import Renewals
from central.errors import ConfigError, NeedsPerson, StateUnavailable, Unavailable
from central.holding import Holding
from central.identities import Identities
from central.ingest import Ingest
from central.intake import Intake
from central.mqtt import Publisher, Received, Session
from central.notify.channels import channels
from central.notify.graph import Graphs
from central.notify.notifier import Notifier
from central.notify.series import MessageSeries
from central.ranges import Ranges
from central.registry import Registry
from central.status import StatusWriter
from central.store.base import Store
from central.store.configured import store
from central.store.embedded import Embedded
from central.web.server import Page
from common import lock, systemd
from common.calendar import Calendar
from common.clock import Clock
from common.worker import Worker
from wire import command, topics
from wire.identity import CERTIFICATE_REQUEST
from wire.quantities import QUANTITIES
from wire.readings import PackProperties

log = logging.getLogger(__name__)

ALIVE_S = 2.0
SETUP_RETRY_S = 5.0
HOUSEKEEPING = time(3, 30)
DAY_S = 86400
DEAD_LETTER_DAYS = 90
THIN_MS = 600_000
CERTIFICATE_DAYS = 365
_LEAVES = (topics.ALARMS, topics.ACTIVE, topics.STATIONS, topics.STATUS, CERTIFICATE_REQUEST, "cmd/+/result")
"""What comes on the alarms session."""


def run(config: CentralConfig, clock: Clock) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigError before anything is started."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    died: list[str] = []

    def on_thread_death(hook: threading.ExceptHookArgs) -> None:
        # A part that is gone without a sign is worse than a restart, which takes up everything where it was.
        died.append(hook.thread.name if hook.thread else "a thread")
        log.critical("%s has ended, so central ends", died[-1], exc_info=hook.exc_value)
        stop.set()

    threading.excepthook = on_thread_death
    ways = channels(config, clock)
    try:
        lock.hold(config.data_dir)
    except BlockingIOError:
        raise ConfigError(f"data_dir: {config.data_dir} is in use by another central") from None
    except OSError as e:
        raise ConfigError(f"data_dir: {config.data_dir}: {e.strerror}") from e
    db = Database(config.state_at)
    try:
        db.open()
    except StateUnavailable as e:
        raise ConfigError(f"{'state.url' if config.state else 'data_dir'}: {db.name}: {e}") from e
    alarms, holding, database = AlarmLog(db), Holding(db), store(config)
    registry = Registry(config.station, holding)
    registry.load()

    def on_notifying(event_id: str, outcome: str) -> None:
        event = alarms.event(event_id)
        if event is not None and event.source == "gateway":
            intake.receipt(event.gateway, event_id, [("notifying", outcome)])

    gateways = {s.gateway for s in config.station}
    ranges = Ranges(db, clock, gateways.__contains__)
    chain = Chain(gateways, holding, db, clock)
    wishes = Wishes(db, alarms, clock)
    forwarder = resender = None
    if config.commands:
        key = load_key(config.commands.key)
        forwarder = Forwarder(key, lambda: alarms_session, alarms, wishes, clock)
        resender = Resender(key, lambda: alarms_session, ranges, clock)
    else:
        log.warning(
            "no [commands] key: acknowledgements given here do not silence the gateways' sirens, "
            "nothing can be shelved or reset, and lost readings are not asked for"
        )

    renewals = _renewals(config, db, lambda: alarms_session, clock)

    def on_acknowledged() -> None:
        silence.worker.wake()
        if forwarder:
            forwarder.wake()

    def on_online(gateway: str) -> None:
        on_acknowledged()
        if resender and gateway in gateways:
            resender.online(gateway)

    def on_stored(gateway: str, pack: PackProperties, newest_ms: int | None) -> None:
        chain.stored(gateway, pack.lane, newest_ms)
        thinned = pack.thinned[1] - pack.thinned[0] + 1 if pack.thinned else 0
        numbers = pack.range
        ranges.add(gateway, numbers.journal, numbers.first, numbers.last, newest_ms=newest_ms, thinned=thinned)
        if pack.thinned:
            ranges.add(gateway, pack.range.journal, *pack.thinned)
        if resender and pack.lane == "backlog":
            resender.backlog(gateway)

    def on_alarm() -> None:
        notifier.wake()
        series.worker.wake()

    graphs = Graphs(database, registry, clock)
    messages = MessageSeries(config, database, db, alarms, clock)
    notifier = Notifier(
        config,
        db,
        alarms,
        clock,
        ways,
        on_notifying=on_notifying,
        on_acknowledged=on_acknowledged,
        graph=graphs.of,
        on_outcome=messages.worker.wake,
    )
    ingest = Ingest(
        lambda: readings_session, lambda: alarms_session, database, registry, holding, clock, on_stored=on_stored
    )
    series = AlarmSeries(database, db, alarms, clock, config.place, {s.id: s.commune for s in config.station})
    intake = Intake(
        lambda: alarms_session,
        alarms,
        registry,
        holding,
        clock,
        changed=on_alarm,
        described=ingest.replay,
        online=on_online,
        answers=dict.fromkeys((command.ACK, command.SHELVE, command.RESET), forwarder.answered)
        | {command.RESEND: resender.answered}
        if forwarder and resender
        else {},
        fetch_retained=lambda: alarms_session.fetch_retained(),
        renew=renewals.requested if renewals else None,
    )
    silence = SilenceWatch(
        gateways,
        holding.gateways(),
        alarms,
        wishes,
        clock,
        config.gateway_silent_s,
        alarms_flow=lambda: alarms_session.connected,
        readings_flow=lambda: readings_session.connected and ingest.taking,
        changed=on_alarm,
    )

    def heard(then: Callable[[Received], None]) -> Callable[[Received], None]:
        def handle(message: Received) -> None:
            if chain.heard(message):
                silence.heard(message)
                then(message)

        return handle

    any_gateway = f"{topics.ROOT}/+/"
    readings_session = Session(
        "central-readings",
        config.mqtt,
        [any_gateway + topics.READINGS, any_gateway + topics.HEALTH],
        heard(ingest.handle),
        manual_ack=True,
        receive_maximum=100,
    )
    alarms_session = Session(
        "central-alarms",
        config.mqtt,
        [*(any_gateway + leaf for leaf in _LEAVES), *BROKER_TOPICS],
        heard(intake.handle),
    )

    status = StatusWriter(database, registry, alarms, clock, chain.points)
    completeness = CompletenessWriter(database, registry, ranges, clock)
    page = Page(
        config,
        registry,
        database,
        notifier,
        clock,
        linked=lambda: alarms_session.connected,
    )
    look_at_certificate(config, clock)
    notifier.start()
    ranges.worker.start()
    if forwarder and resender:
        forwarder.worker.start()
        resender.worker.start()
    alarms_session.start()
    intake.worker.start()
    silence.worker.start()
    # Alarms go out while the database is still away; readings wait at the broker and on the gateways.
    setup = threading.Thread(
        target=_begin_ingest,
        args=(
            database,
            ingest,
            [status.worker, series.worker, messages.worker, completeness.worker],
            holding,
            readings_session,
            clock,
            stop,
        ),
        name="setup",
        daemon=True,
    )
    setup.start()
    calendar = Calendar(clock)
    for name, job in housekeeping(config, clock, holding, database):
        calendar.daily(HOUSEKEEPING, job, name)
    calendar.daily(HOUSEKEEPING, ranges.compact, "compaction of the journal ranges")
    calendar.start()
    page.start()
    systemd.notify("READY=1")
    while not stop.wait(ALIVE_S):
        systemd.notify("WATCHDOG=1")
    systemd.notify("STOPPING=1")
    page.stop()
    calendar.stop()
    setup.join()
    readings_session.stop()
    intake.worker.stop()
    silence.worker.stop()
    if forwarder and resender:
        forwarder.worker.stop()
        resender.worker.stop()
    alarms_session.stop()
    ingest.stop()
    status.worker.stop()
    completeness.worker.stop()
    series.worker.stop()
    messages.worker.stop()
    ranges.worker.stop()
    with suppress(StateUnavailable):
        ranges.save()
    notifier.stop()
    graphs.close()
    database.close()
    db.close()
    if died:
        raise SystemExit(1)


def _renewals(config: CentralConfig, db: Database, broker: Callable[[], Publisher], clock: Clock) -> Renewals | None:
    """What signs new certificates. Raises ConfigError; None, with a warning, when nothing opens the CA's key."""
    if config.enrolment is None:
        return None
    if config.enrolment.passphrase_file is None:
        log.warning("no enrolment.passphrase_file: gateways' certificates are not renewed, and end")
        return None
    authority = Authority.load(config.enrolment.ca_dir, passphrase(config.enrolment))
    return Renewals(authority, Identities(db), broker, clock)


def housekeeping(
    config: CentralConfig, clock: Clock, holding: Holding, database: Store
) -> list[tuple[str, Callable[[], object]]]:
    """Name and job of what is deleted each night. A database server has a retention policy of its own."""
    jobs: list[tuple[str, Callable[[], object]]] = [
        ("pruning of the dead letters", lambda: holding.prune(clock.wall() - DEAD_LETTER_DAYS * DAY_S)),
        ("look at central's certificate", lambda: look_at_certificate(config, clock)),
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


def _begin_ingest(
    database: Store,
    ingest: Ingest,
    workers: list[Worker],
    holding: Holding,
    session: Session,
    clock: Clock,
    stop: threading.Event,
) -> None:
    warned = False
    while not stop.is_set():
        try:
            database.setup()
        except (Unavailable, NeedsPerson) as e:
            if not warned:
                log.error("database is not ready: %s; readings wait", e)
            warned = True
            clock.wait(stop, SETUP_RETRY_S)
            continue
        ingest.start()
        for gateway in holding.gateways_in_quarantine():
            ingest.replay(gateway)
        session.start()
        for worker in workers:
            worker.start()
        return
