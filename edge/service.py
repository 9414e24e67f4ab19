"""The gateway as a process: builds the parts from the configuration, runs them until SIGTERM, ends in good order.

The watchdog is fed while the data path answers and the uplink's thread runs, and by nothing else: a network outage restarts
nothing.
"""

import logging
import signal
import threading
from datetime import date, time
from pathlib import Path

from common import lock, systemd, texts
from common.calendar import Calendar
from common.clock import Clock, rfc3339
from common.modem import Modem, is_emulated
from edge import drivers
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig, GpioSiren, SerialButton, SerialSiren, Sms
from edge.errors import ConfigError
from edge.gateway import Gateway
from edge.journal import Journal
from edge.outputs.button import ButtonKeeper, Contact, SerialContact
from edge.outputs.modem_watch import ModemWatch
from edge.outputs.power import PowerCycler
from edge.outputs.relay import Relay
from edge.outputs.siren import SirenKeeper
from edge.outputs.sms import SmsNotifier
from edge.page.server import PageServer
from edge.qualify import published
from edge.situation import SOCKET
from edge.transports.build import build
from edge.uplink import Uplink
from edge.watch import sensor_rules
from wire.station import CalibrationInfo, QuantityInfo, SensorInfo, StationInfo, Stations

log = logging.getLogger(__name__)

ALIVE_S = 2.0
HOUSEKEEPING = time(3, 30)
DAY_S = 86400
ALARM_DAYS = 90
"""So long an alarm that is over, and that central has, stays in the log."""


def run(config: EdgeConfig, clock: Clock) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigError before anything is started, and EdgeError when the disk refuses."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    data = config.gateway.data_dir
    try:
        lock.hold(data)
    except BlockingIOError:
        raise ConfigError(f"gateway.data_dir: {data} is in use by another gateway") from None
    except OSError as e:
        # Alarms need no disk: a directory that cannot be written now is the journal's to tell of.
        log.error("%s cannot be locked against a second gateway: %s", data, e.strerror)
    journal = Journal(
        data / "journal",
        clock,
        sync_s=config.journal.sync_s,
        keep_days=config.journal.keep_days,
        max_bytes=config.journal.max_mib * 2**20,
    )
    alarms = AlarmLog(data / "alarms.db")
    siren = siren_keeper(config, clock)
    power = _power(config, clock)
    modem = _modem(config, clock, data)
    watch = ModemWatch(modem, clock) if modem else None
    gateway = Gateway(config, clock, journal, alarms, siren=siren, power=power)
    button = _button(config, clock, gateway)
    if siren:
        gateway.report(siren.health)
    if button:
        gateway.report(button.health)
    if watch:
        gateway.report(watch.health)
    transports = build(config, clock, gateway.post)
    sms = _sms(config, modem, clock, alarms, gateway)
    pages = [PageServer(where, clock, gateway.situation) for where in (data / SOCKET, config.page) if where is not None]

    journal.open()
    gateway.recover(alarms.open())
    uplink = None
    if config.mqtt:
        uplink = Uplink(
            config.gateway.id,
            config.mqtt,
            config.uplink,
            clock,
            journal,
            alarms,
            lambda: stations(config, gateway.day),
            gateway.command,
            lambda: gateway.hurried,
        )
        gateway.report(uplink.health)
        gateway.attach(uplink)
        uplink.start()
    if siren:
        siren.start()
    if power:
        power.start()
    gateway.start()
    if button:
        button.start()
    if sms:
        sms.start()
    if watch:
        watch.start()
    for transport in transports:
        transport.start()
    for page in pages:
        page.start()
    calendar = Calendar(clock)
    calendar.daily(HOUSEKEEPING, journal.prune, "pruning of the journal")
    calendar.daily(HOUSEKEEPING, lambda: alarms.prune(clock.wall() - ALARM_DAYS * DAY_S), "pruning of the alarm log")
    self_test = config.outputs.siren.self_test if config.outputs.siren else None
    if siren and self_test:
        pulse_s = self_test.pulse_s
        calendar.weekly(self_test.day, self_test.at, lambda: siren.test(pulse_s), "test of the siren")
    calendar.start()
    if not config.station:
        log.warning("no [[station]] is configured: nothing is measured")
    log.info("gateway %s runs, %d readings wait for their receipt", config.gateway.id, journal.depth)
    systemd.notify("READY=1")
    while not stop.wait(ALIVE_S):
        if gateway.alive(ALIVE_S * 10) and (uplink is None or uplink.alive):
            systemd.notify("WATCHDOG=1")
    systemd.notify("STOPPING=1")
    calendar.stop()
    for page in pages:
        page.stop()
    for transport in transports:
        transport.stop()
    if button:
        button.stop()
    gateway.stop()
    if watch:
        watch.stop()
    if sms:
        sms.stop()
    if power:
        power.stop()
    if uplink:
        uplink.stop()
    if siren:
        siren.stop()
    journal.close()
    alarms.close()


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
    supplies = {f"{s.id}/{sensor.id}": sensor.power for s in config.station for sensor in s.sensor if sensor.power}
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
