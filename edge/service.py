"""The gateway as a process: builds the parts from the configuration, runs them until SIGTERM, ends in good order.

The watchdog is fed while the data path answers and the uplink's thread runs, and by nothing else: a network outage restarts
nothing.
"""

import logging
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import lock, systemd, texts
from common.clock import Clock, rfc3339
from common.modem import Modem, is_emulated
from edge import drivers, memory
from edge.alarm_log import AlarmLog
from edge.changes import Changes, effective, read
from edge.config import EdgeConfig, GpioSiren, Power, SerialButton, SerialSiren, Sms, parsed
from edge.errors import ConfigError
from edge.exchange import Exchange
from edge.exercise import Exercises
from edge.gateway import Gateway
from edge.housekeeping import Housekeeping
from edge.journal import Journal
from edge.orders import NAMES, Orders, RecentLog
from edge.outputs.button import ButtonKeeper, Contact, SerialContact
from edge.outputs.modem_watch import ModemWatch
from edge.outputs.power import PowerCycler
from edge.outputs.relay import Relay
from edge.outputs.siren import SirenKeeper
from edge.outputs.sms import SmsNotifier
from edge.page.server import PageServer
from edge.qualify import published
from edge.sample import Sample
from edge.situation import SOCKET
from edge.transports.base import Transport
from edge.transports.build import build, made_of
from edge.uplink import Uplink
from edge.watch import sensor_rules
from wire.configuration import Configuration, ConfigurationResult
from wire.station import CalibrationInfo, QuantityInfo, SensorInfo, StationInfo, Stations

if TYPE_CHECKING:
    from common.calendar import Calendar

log = logging.getLogger(__name__)

ALIVE_S = 2.0
TRIAL_LOOK_S = 0.25


def run(config: EdgeConfig, clock: Clock, path: Path | None = None) -> None:
    """Run until SIGTERM or SIGINT. At SIGHUP try what `maillages-edge apply` has handed over, or else the file at `path` again.

    Raises ConfigError before anything is started, and EdgeError when the disk refuses."""
    memory.steady()
    stop, look = threading.Event(), threading.Event()
    # A queue, whose `put` may interrupt its own `get`: an Event set by a signal that arrives in its `wait` can stand still for ever.
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def on_signal(number: int, _frame: object) -> None:
        (look if number == signal.SIGHUP else stop).set()
        woken.put(None)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    data = config.gateway.data_dir
    try:
        lock.hold(data)
    except BlockingIOError:
        raise ConfigError(f"gateway.data_dir: {data} is in use by another gateway") from None
    except OSError as e:
        # Alarms need no disk: a directory that cannot be written now is the journal's to tell of.
        log.error("%s cannot be locked against a second gateway: %s", data, e.strerror)
    sent: queue.SimpleQueue[Configuration] = queue.SimpleQueue()

    def on_configuration(configuration: Configuration) -> None:
        sent.put(configuration)
        woken.put(None)

    own = read(path)
    text, why = (None, "") if own is None else effective(own, Exchange(data))
    if text is not None and text != own:
        try:
            config = parsed(text, "the configuration that central sent")
            check(config, clock)
        except ConfigError as e:
            text, why = own, str(e)
    if why:
        log.warning("the gateway's own file holds: %s", why)
    recent = RecentLog(clock)
    logging.getLogger().addHandler(recent)
    service = Service(config, clock, on_configuration, recent)
    service.start()
    changes = Changes(service, clock, path, own or "", sent)
    changes.begin(text or "")
    log.info("gateway %s runs, %d readings wait for their receipt", config.gateway.id, service.waiting)
    if not config.station:
        log.warning("no [[station]] is configured: nothing is measured")
    memory.trim()
    systemd.notify("READY=1")
    while not stop.is_set():
        if service.alive(ALIVE_S * 10):
            systemd.notify("WATCHDOG=1")
        if look.is_set():
            look.clear()
            changes.look()
        changes.receive()
        changes.judge()
        with suppress(queue.Empty):
            woken.get(timeout=TRIAL_LOOK_S if changes.on_trial else ALIVE_S)
    systemd.notify("STOPPING=1")
    service.stop()


class _Inlet:
    """Where transports put samples, while one data path gives way to the next: nothing of what they read is lost. Notes when a
    sensor last gave a value."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._to: Callable[[Sample], None] | None = None
        self._keys: frozenset[str] = frozenset()
        self._held: list[Sample] = []
        self.heard: dict[str, float] = {}
        """Boot second, by `<station>/<sensor>`."""

    def post(self, sample: Sample) -> None:
        with self._lock:
            if sample.fields:
                self.heard[sample.key] = self._clock.boot()
            if self._to is None:
                self._held.append(sample)
            elif sample.key in self._keys:
                self._to(sample)

    def hold(self) -> None:
        with self._lock:
            self._to = None

    def release(self, to: Callable[[Sample], None], keys: frozenset[str]) -> None:
        """Everything goes there, what was held first. Of a sensor that is none of `keys` nobody takes anything."""
        with self._lock:
            for sample in self._held:
                if sample.key in keys:
                    to(sample)
            self._held, self._to, self._keys = [], to, keys


@dataclass
class _Parts:
    """What is made of one configuration."""

    config: EdgeConfig
    siren: SirenKeeper | None
    power: PowerCycler | None
    modem: Modem | None
    watch: ModemWatch | None
    gateway: Gateway
    button: ButtonKeeper | None
    sms: SmsNotifier | None
    exercises: Exercises
    orders: Orders
    pages: list[PageServer]
    calendar: "Calendar | None"
    uplink: Uplink | None
    transports: dict[str, Transport]
    made_of: dict[str, object]

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(f"{s.id}/{sensor.id}" for s in self.config.station for sensor in s.sensor)


class Service:
    """The parts of a gateway and their order. Journal and alarm log stay as long as it lives; `change` puts a new configuration in
    the place of the old one, and of what is the same in both, ports above all, nothing stops."""

    def __init__(
        self,
        config: EdgeConfig,
        clock: Clock,
        on_configuration: Callable[[Configuration], None] = lambda _: None,
        recent: RecentLog | None = None,
    ) -> None:
        """`on_configuration` gets what central sends, in the uplink's thread. Raises ConfigError."""
        self._clock = clock
        self._recent = recent or RecentLog(clock)
        self._on_configuration = on_configuration
        data = config.gateway.data_dir
        self._journal = Journal(
            data / "journal",
            clock,
            sync_s=config.journal.sync_s,
            keep_days=config.journal.keep_days,
            max_bytes=config.journal.max_mib * 2**20,
        )
        self._alarms = AlarmLog(data / "alarms.db")
        self._housekeeping = Housekeeping(self._journal, self._alarms, clock)
        self._inlet = _Inlet(clock)
        self._parts = self._build(config, None)

    @property
    def config(self) -> EdgeConfig:
        return self._parts.config

    @property
    def waiting(self) -> int:
        """Readings that wait for their receipt."""
        return self._journal.depth

    @property
    def linked(self) -> bool:
        return self._parts.uplink is not None and self._parts.uplink.connected

    @property
    def heard(self) -> Mapping[str, float]:
        """When each sensor last gave a value: boot second, by `<station>/<sensor>`."""
        return self._inlet.heard

    def tell(self, result: ConfigurationResult) -> None:
        """Tell central what became of its configuration."""
        if self._parts.uplink is not None:
            self._parts.uplink.publish_result(result)

    def alive(self, within_s: float) -> bool:
        """Whether the data path went round within so many real seconds, and the uplink runs."""
        uplink = self._parts.uplink
        return self._parts.gateway.alive(within_s) and (uplink is None or uplink.alive)

    def start(self) -> None:
        self._journal.open()
        self._alarms.open()
        self._start(self._parts, None)
        self._housekeeping.start()

    def stop(self) -> None:
        parts = self._parts
        self._housekeeping.stop()
        self._stop(parts, None)
        self._journal.close()
        self._alarms.close()

    def change(self, config: EdgeConfig) -> set[str]:
        """Run by this configuration from now on; gives the sensors (`<station>/<sensor>`) whose port is opened anew.

        Raises ConfigError, and then nothing has changed.
        """
        for name, old, new in (
            ("gateway", self.config.gateway, config.gateway),
            ("clock", self.config.clock, config.clock),
            ("journal", self.config.journal, config.journal),
        ):
            if old != new:
                raise ConfigError(f"{name}: changes with a restart only: put it into the file, and restart the gateway")
        if self._parts.gateway.in_memory:
            raise ConfigError("the disk takes no readings now, and those in memory would be lost: try again later")
        old_parts = self._parts
        new_parts = self._build(config, old_parts)
        self._inlet.hold()
        self._stop(old_parts, new_parts)
        self._parts = new_parts
        self._start(new_parts, old_parts)
        if new_parts.uplink is not None and new_parts.uplink is old_parts.uplink:
            new_parts.uplink.publish_stations()
        kept = [name for name, t in new_parts.transports.items() if old_parts.transports.get(name) is t]
        same = {key for name in kept for key in _keys_of(config, name)}
        return set(new_parts.keys) - same

    def _build(self, config: EdgeConfig, old: _Parts | None) -> _Parts:
        clock, data = self._clock, config.gateway.data_dir
        before, outputs = old.config if old else None, config.outputs
        same_siren = old is not None and before is not None and before.outputs.siren == outputs.siren
        same_power = before is not None and _supplies(before) == _supplies(config)
        same_modem = before is not None and _modem_of(before.outputs.sms) == _modem_of(outputs.sms)
        siren = old.siren if old and same_siren else siren_keeper(config, clock)
        power = old.power if old and same_power else _power(config, clock)
        modem = old.modem if old and same_modem else _modem(config, clock, data)
        watch = (
            old.watch
            if old and same_modem
            else ModemWatch(modem, clock, outputs.sms.credit if outputs.sms else None)
            if modem
            else None
        )
        gateway = Gateway(config, clock, self._journal, self._alarms, siren=siren, power=power)
        button = _button(config, clock, gateway)
        for part in (siren, button, watch):
            if part is not None:
                gateway.report(part.health)
        transports = {transport.name: transport for transport in build(config, clock, self._inlet.post)}
        made = made_of(config)
        if old is not None:
            kept = {n for n, entry in made.items() if n in old.transports and old.made_of.get(n) == entry}
            transports |= {name: old.transports[name] for name in kept}
        same_uplink = before is not None and (before.mqtt, before.uplink) == (config.mqtt, config.uplink)
        uplink = old.uplink if old and same_uplink else self._uplink(config)
        if uplink is not None:
            gateway.report(uplink.health)
            gateway.attach(uplink)
        sms = _sms(config, modem, clock, self._alarms, gateway)
        exercises = Exercises(config, clock, gateway, siren, sms, lambda: uplink is not None and uplink.connected)
        pages = [PageServer(data / SOCKET, clock, gateway.situation, exercises)]
        if config.page is not None:
            pages.append(PageServer(config.page, clock, gateway.situation))
        return _Parts(
            config=config,
            siren=siren,
            power=power,
            modem=modem,
            watch=watch,
            gateway=gateway,
            button=button,
            sms=sms,
            exercises=exercises,
            orders=Orders(config, clock, gateway, transports, power, self._recent),
            pages=pages,
            calendar=_calendar(config, clock, siren),
            uplink=uplink,
            transports=transports,
            made_of=made,
        )

    def _uplink(self, config: EdgeConfig) -> Uplink | None:
        if config.mqtt is None:
            return None
        # It may outlive this configuration: what it asks for is that of the one that holds then.
        return Uplink(
            config.gateway.id,
            config.mqtt,
            config.uplink,
            self._clock,
            self._journal,
            self._alarms,
            lambda: stations(self.config, self._parts.gateway.day),
            self._command,
            lambda: self._parts.gateway.hurried,
            self._on_configuration,
            lambda *heard: self._parts.exercises.heard_of(*heard),
        )

    def _command(self, name: str, arguments: dict[str, Any]) -> "dict[str, Any] | Future[dict[str, Any]]":
        if name in NAMES:
            return self._parts.orders.take(name, arguments)
        return self._parts.gateway.command(name, arguments)

    def _start(self, parts: _Parts, old: _Parts | None) -> None:
        """All of it; of what `old` has too nothing."""
        parts.gateway.recover(self._alarms.states())
        for part in (parts.uplink, parts.siren, parts.power):
            if part is not None and (old is None or part not in (old.uplink, old.siren, old.power)):
                part.start()
        parts.gateway.start()
        self._inlet.release(parts.gateway.post, parts.keys)
        if parts.button:
            parts.button.start()
        if parts.sms:
            parts.sms.start()
        if parts.watch and (old is None or parts.watch is not old.watch):
            parts.watch.start()
        for name, transport in parts.transports.items():
            if old is None or old.transports.get(name) is not transport:
                transport.start()
        for page in parts.pages:
            page.start()
        parts.orders.start()
        if parts.calendar:
            parts.calendar.start()

    def _stop(self, parts: _Parts, new: _Parts | None) -> None:
        """All of it, in good order; of what `new` has too nothing."""
        if parts.calendar:
            parts.calendar.stop()
        parts.orders.stop()
        parts.exercises.end()
        for page in parts.pages:
            page.stop()
        for name, transport in parts.transports.items():
            if new is None or new.transports.get(name) is not transport:
                transport.stop()
        if parts.button:
            parts.button.stop()
        parts.gateway.stop()
        if parts.watch and (new is None or parts.watch is not new.watch):
            parts.watch.stop()
        if parts.sms:
            parts.sms.stop()
        for part in (parts.power, parts.uplink, parts.siren):
            if part is not None and (new is None or part not in (new.power, new.uplink, new.siren)):
                part.stop()


def _calendar(config: EdgeConfig, clock: Clock, siren: SirenKeeper | None) -> "Calendar | None":
    """The weekly test of the siren, if there is one: without it a gateway need not carry the scheduler (3.5 MB)."""
    self_test = config.outputs.siren.self_test if config.outputs.siren else None
    if siren is None or self_test is None:
        return None
    from common.calendar import Calendar

    calendar = Calendar(clock)
    pulse_s = self_test.pulse_s
    calendar.weekly(self_test.day, self_test.at, lambda: siren.test(pulse_s), "test of the siren")
    return calendar


def _keys_of(config: EdgeConfig, transport: str) -> set[str]:
    return {
        f"{s.id}/{x.id}"
        for s in config.station
        for x in s.sensor
        if transport in (f"port {x.port}", f"modem {x.modem}", f"network server {x.network_server}")
    }


def _supplies(config: EdgeConfig) -> dict[str, Power]:
    return {f"{s.id}/{sensor.id}": sensor.power for s in config.station for sensor in s.sensor if sensor.power}


def _modem_of(settings: Sms | None) -> tuple[object, ...] | None:
    return None if settings is None else (settings.port, settings.baudrate, settings.pin, settings.credit)


def check(config: EdgeConfig, clock: Clock) -> None:
    """Raises ConfigError for what `run` would refuse of the configuration alone. Touches no device, no disk and no network."""
    data = config.gateway.data_dir
    gateway = Gateway(config, clock, Journal(data / "journal", clock), AlarmLog(data / "alarms.db"))
    build(config, clock, gateway.post)
    siren_keeper(config, clock)
    _modem(config, clock, data)


def siren_keeper(config: EdgeConfig, clock: Clock) -> SirenKeeper | None:
    """The siren as configured, not started. Raises ConfigError when an exercise would sound a real one."""
    match config.outputs.siren:
        case None:
            return None
        case SerialSiren() as siren:
            if clock.exercise and not is_emulated(siren.port):
                raise ConfigError(
                    "outputs.siren.port: an exercise expects an emulated relay board (a pty or loopback socket), found"
                    f" {siren.port!r}"
                )
            return SirenKeeper(Relay(siren.port, siren.channel), siren.all_patterns, clock)
        case GpioSiren() as siren:
            if clock.exercise:
                raise ConfigError("outputs.siren.driver: an exercise expects lcus1 on an emulated board, found gpio")
            from edge.outputs.gpio import GpioRelay

            return SirenKeeper(GpioRelay(siren.pin, active_high=siren.active_high), siren.all_patterns, clock)


def _button(config: EdgeConfig, clock: Clock, gateway: Gateway) -> ButtonKeeper | None:
    button = config.outputs.button
    if button is None:
        return None
    contact: Contact
    if isinstance(button, SerialButton):
        contact = SerialContact(button.port, button.line)
    else:
        from edge.outputs.gpio import GpioContact

        contact = GpioContact(button.pin, active_high=button.active_high)
    return ButtonKeeper(contact, button.debounce_s, button.stuck_s, clock, gateway.pressed)


def _power(config: EdgeConfig, clock: Clock) -> PowerCycler | None:
    supplies = _supplies(config)
    relays = {key: Relay(supply.port, supply.channel) for key, supply in supplies.items()}
    return PowerCycler(supplies, relays, clock) if supplies else None


def _modem(config: EdgeConfig, clock: Clock, data: Path) -> Modem | None:
    settings = config.outputs.sms
    return sms_modem(settings, clock, data) if settings else None


def sms_modem(settings: Sms, clock: Clock, data: Path) -> Modem:
    """The modem as configured, its port not open. Raises ConfigError."""
    try:
        return Modem(
            settings.port,
            clock,
            baudrate=settings.baudrate,
            pin=settings.pin,
            refused_pin=data / "refused_pin",
            reports=True,
        )
    except ValueError as e:
        raise ConfigError(f"outputs.sms.port: {e}") from e


def _sms(
    config: EdgeConfig, modem: Modem | None, clock: Clock, alarms: AlarmLog, gateway: Gateway
) -> SmsNotifier | None:
    settings = config.outputs.sms
    if settings is None or modem is None:
        return None
    places = {s.id: texts.Place(s.name, s.river) for s in config.station}
    return SmsNotifier(settings, modem, alarms, clock, gateway, lambda station: places.get(station or ""))


def stations(config: EdgeConfig, day: date) -> Stations:
    """What the gateway publishes about its stations, with the thresholds of a day."""
    found = []
    for station in config.station:
        sensors = []
        for sensor in station.sensor:
            driver = drivers.find(sensor.driver)
            thresholds = {
                rule.quantity: tuple([*rule.levels, None, None, None][:3])
                for rule in sensor_rules(station, sensor, day).rules
                if rule.kind == "high"
            }
            period = sensor.period_s if sensor.period_s is not None else driver.period_s
            infos = tuple(
                QuantityInfo(quantity=q, period_s=period, thresholds=thresholds.get(q, (None, None, None)))
                for q in published(sensor)
            )
            history = tuple(
                CalibrationInfo(
                    quantity=entry.quantity,
                    since=rfc3339(entry.begin_s),
                    by=entry.by,
                    offset=entry.offset,
                    slope=entry.slope,
                )
                for entry in sensor.calibration
            )
            sensors.append(SensorInfo(id=sensor.id, driver=sensor.driver, quantities=infos, calibration=history))
        found.append(
            StationInfo(
                id=station.id,
                name=station.name,
                commune=station.commune,
                lat=station.lat,
                lon=station.lon,
                river=station.river,
                sensors=tuple(sensors),
            )
        )
    return Stations(stations=tuple(found))
