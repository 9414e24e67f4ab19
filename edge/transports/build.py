"""From the configuration to transports: which driver sits on which port. Touches no device."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import serial
from serial.tools.list_ports import comports

import edge
from common.clock import Clock
from edge import config, drivers
from edge.errors import ConfigError
from edge.qualify import published
from edge.radio._airtime import Channel
from edge.sensors.base import Driver, ModemSettings
from edge.transports import owners
from edge.transports.base import Sink, Source, Transport
from edge.transports.file import FilePort, FileRead
from edge.transports.modem import Keys, LoraModem
from edge.transports.poll import Poll
from edge.transports.port import Lister, Port, is_usb
from edge.transports.stream import Stream

_WIRED = ("stream", "poll", "modbus", "file")
_SEALED = 15
"""Bytes that sealing adds (edge.radio._secured, not imported where no node has a key)."""
_LEAST_VALUE = 3
"""Bytes of the smallest value in Cayenne LPP: channel, type and one more."""


def build(settings: config.EdgeConfig, clock: Clock, sink: Sink, lister: Lister = comports) -> list[Transport]:
    """One transport for each port that a sensor or modem names. Raises ConfigError: what was found, what was expected; a line for
    each fault."""
    wired: dict[str, list[tuple[Source, config.Sensor]]] = {}
    nodes: dict[str, list[Source]] = {}
    devices: dict[str, list[Source]] = {}
    faults = owners.faults(settings, lister)
    for station in settings.station:
        for sensor in station.sensor:
            try:
                source = _source(station.id, sensor)
            except ConfigError as e:
                faults.append(str(e))
                continue
            if sensor.modem is not None:
                nodes.setdefault(sensor.modem, []).append(source)
            elif sensor.network_server is not None:
                devices.setdefault(sensor.network_server, []).append(source)
            elif sensor.port is not None:
                wired.setdefault(sensor.port, []).append((source, sensor))
    makers: list[Callable[[], Transport]] = [
        *(partial(_wired, url, members, clock, sink, lister) for url, members in wired.items()),
        *(
            partial(_modem, settings.gateway.data_dir, modem, nodes.get(modem.name, []), clock, sink, lister)
            for modem in settings.modem
        ),
        *(
            partial(_network_server, settings.gateway.id, server, devices.get(server.name, []), clock, sink)
            for server in settings.network_server
        ),
    ]
    transports: list[Transport] = []
    for make in makers:
        try:
            transports.append(make())
        except ConfigError as e:
            faults.append(str(e))
    if faults:
        raise ConfigError("\n".join(faults))
    return transports


def made_of(settings: config.EdgeConfig) -> dict[str, object]:
    """What each transport of `build` is made of, by its name: one whose entry is equal in two configurations serves both."""
    servers = {server.name: server for server in settings.network_server}
    found: dict[str, list[object]] = {f"modem {modem.name}": [modem] for modem in settings.modem}
    found |= {f"network server {name}": [server, settings.gateway.id] for name, server in servers.items()}
    for station in settings.station:
        for sensor in station.sensor:
            if sensor.port is not None:
                name = f"port {sensor.port}"
            else:
                name = (
                    f"modem {sensor.modem}" if sensor.modem is not None else f"network server {sensor.network_server}"
                )
            seen = {
                key: getattr(sensor, key)
                for key in ("id", "driver", "baudrate", "rs485", "address", "dev_eui", "authenticated", "period_s")
            }
            found.setdefault(name, []).append((station.id, seen, sensor.median_s, sensor.options))
    return dict(found)


def _source(station: str, sensor: config.Sensor) -> Source:
    where = f"sensor {station}/{sensor.id}"
    try:
        driver = drivers.find(sensor.driver)
        options = drivers.options(driver, sensor.options)
    except ConfigError as e:
        raise ConfigError("\n".join(f"{where}: {line}" for line in str(e).splitlines())) from e
    expected = _WIRED if sensor.port is not None else ("payload",)
    if driver.link not in expected:
        raise ConfigError(
            f"{where}: driver {driver.name} is for {driver.link}, expected one for {' or '.join(expected)}"
        )
    for entry in sensor.calibration:
        if entry.quantity not in (known := published(sensor)):
            raise ConfigError(f"{where}: calibration of {entry.quantity}, expected of one of {', '.join(known)}")
    default_s = 0.0 if driver.link == "payload" else driver.period_s
    period_s = default_s if sensor.period_s is None else sensor.period_s
    return Source(
        station,
        sensor.id,
        driver,
        options,
        period_s,
        sensor.median_s,
        sensor.address,
        sensor.dev_eui,
        sensor.authenticated,
    )


def _wired(
    url: str, members: list[tuple[Source, config.Sensor]], clock: Clock, sink: Sink, lister: Lister
) -> Transport:
    sources = [source for source, _ in members]
    where = f"port {url} ({', '.join(source.key for source in sources)})"
    faults: list[str] = []
    baudrates = {sensor.baudrate or source.driver.baudrate for source, sensor in members}
    if len(baudrates) > 1:
        faults.append(f"{where}: baudrates {sorted(baudrates)}, expected one")
    kind = ""
    try:
        kind = _shared(where, sources)
    except ConfigError as e:
        faults.append(str(e))
    if kind not in ("", "stream") and not all(source.period_s for source in sources):
        faults.append(f"{where}: period_s is 0, expected more for a device that is asked")
    try:
        rts = _rts(where, url, kind, members)
    except ConfigError as e:
        faults.append(str(e))
    if faults:
        raise ConfigError("\n".join(faults))
    name = f"port {url}"
    if kind == "file":
        return FileRead(name, FilePort(url, clock), sources, clock, sink)
    port = _port(where, url, baudrates.pop(), clock, lister, rts=rts)
    if kind == "stream":
        return Stream(name, port, sources, clock, sink)
    if kind == "poll":
        return Poll(name, port, sources, clock, sink)
    from edge.transports.modbus import ModbusLine  # pymodbus costs 5 MB and start-up time

    return ModbusLine(name, port, sources, clock, sink)


def _shared(where: str, sources: list[Source]) -> str:
    """The one kind of all sensors on a port, checked: alone, or on a bus where each has an address of its own."""
    kinds = {_kind(source) for source in sources}
    if len(sources) == 1:
        return kinds.pop()
    families = {source.driver.name for source in sources}
    if kinds == {"modbus"}:
        addresses: list[int | str | None] = [source.driver.unit(source.options) for source in sources]
        word = "units"
    elif kinds == {"poll"} and len(families) == 1 and (address := sources[0].driver.address) is not None:
        addresses = [address(source.options) for source in sources]
        word = "addresses"
    else:
        raise ConfigError(
            f"{where}: found {len(sources)} sensors, expected one, or several on Modbus or of one driver that has addresses"
            f" (drivers here: {', '.join(sorted(families))})"
        )
    if None in addresses:
        anybody = ", ".join(s.key for s, a in zip(sources, addresses, strict=True) if a is None)
        raise ConfigError(
            f"{where}: {anybody} is asked at the address of any device, expected its own on a shared line"
        )
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f"{where}: {word} {addresses}, expected each once")
    return kinds.pop()


def _rts(where: str, url: str, kind: str, members: list[tuple[Source, config.Sensor]]) -> bool:
    """Whether RTS is to turn the line around."""
    said = {sensor.rs485.rts for _, sensor in members if sensor.rs485 is not None}
    if len(said) > 1:
        raise ConfigError(f"{where}: rs485 is not the same for all, expected one")
    if said == {True} and (kind == "file" or "://" in url):
        raise ConfigError(f"{where}: rs485 by RTS, expected only on a serial port of this machine")
    return said == {True}


def _kind(source: Source) -> str:
    """A stream device that has something to ask is one set to answer only (SDS011 in query mode)."""
    driver = source.driver
    if driver.link == "stream" and driver.request is not None and driver.request(source.options):
        return "poll"
    return driver.link


def _modem(
    data_dir: Path, modem: config.Modem, sources: list[Source], clock: Clock, sink: Sink, lister: Lister
) -> Transport:
    where = f"modem {modem.name}"
    driver = drivers.find(modem.driver)
    if driver.link != "modem":
        raise ConfigError(f"{where}: driver {driver.name} is for {driver.link}, expected one for modem")
    port = _port(where, modem.port, modem.baudrate or driver.baudrate, clock, lister)
    if driver.modem is None:
        raise ConfigError(f"{where}: driver {driver.name} cannot be used here: expected one that declares modem")
    found = modem_settings(where, modem.settings, driver) if modem.settings is not None else None
    try:
        options = drivers.options(driver, {**(found.options() if found is not None else {}), **modem.options})
    except ConfigError as e:
        raise ConfigError("\n".join(f"{where}: {line}" for line in str(e).splitlines())) from e
    _addresses(where, driver, driver.modem.addressed, sources)
    steps = found.steps() if found is not None else ()
    channel = found.on_air if found is not None else None
    if channel is not None:
        _check_duty(channel, sources)
    return LoraModem(
        where, port, driver, options, steps, sources, clock, sink, keys=_keys(data_dir, sources), channel=channel
    )


def _keys(data_dir: Path, sources: list[Source]) -> Keys | None:
    if not any(source.authenticated for source in sources):
        return None
    from edge.nodes import NodeKeys  # cryptography and SQLite cost start-up time where no node has a key

    return NodeKeys(data_dir)


def _check_duty(channel: Channel, sources: list[Source]) -> None:
    """Refuse a period at which not even the node's smallest packet keeps its duty cycle."""
    for source in sources:
        named = sum(len(getattr(s.options, "channels", ())) for s in sources if s.address == source.address)
        size = _SEALED * source.authenticated + max(_LEAST_VALUE * named, 1)
        least_s = channel.least_period_s(size)
        if 0 < source.period_s < least_s:
            raise ConfigError(
                f"sensor {source.key}: period_s is {source.period_s:g}, expected at least {least_s:.1f}: a payload of {size} bytes is"
                f" {channel.airtime_s(size):.3f} s on the air, and {channel.duty_cycle:.1%} of the time is allowed"
            )


def _addresses(where: str, driver: Driver, addressed: bool, sources: list[Source]) -> None:
    """That each packet of a modem can be given to the sensors that it belongs to."""
    sealed = {source.authenticated for source in sources}
    if not addressed and len(sealed) > 1:
        raise ConfigError(
            f"{where}: some sensors are authenticated, expected all or none: packets of {driver.name} name no sender"
        )
    if True in sealed:  # the sealed packet names it
        addressed = True
    for source in sources:
        if addressed and source.address is None:
            raise ConfigError(f"sensor {source.key}: address: found none, expected the node's address on {where}")
        if not addressed and source.address is not None:
            raise ConfigError(
                f"sensor {source.key}: address: found {source.address}, expected none: packets of {driver.name} name no sender"
            )
    stations = {source.station for source in sources}
    if not addressed and len(stations) > 1:
        raise ConfigError(
            f"{where}: found sensors of {', '.join(sorted(stations))}, expected those of one node at one station: packets of"
            f" {driver.name} name no sender"
        )


def _network_server(
    gateway: str, server: config.NetworkServer, sources: list[Source], clock: Clock, sink: Sink
) -> Transport:
    # paho costs start-up time where no network server is
    from edge.transports.network_server import MqttPort, NetworkServer, PacketForwarder, UdpPort

    name = f"network server {server.name}"
    driver = drivers.find(server.driver)
    if server.driver == "semtech_udp":
        return PacketForwarder(name, UdpPort(server.url, clock), driver, sources, clock, sink)
    return NetworkServer(name, MqttPort(f"{gateway}-{server.name}", server, clock), driver, sources, clock, sink)


def modem_settings(where: str, name: str, driver: Driver) -> ModemSettings:
    """A modem's settings by the name of a file of firmware-configs/, or by a path. Raises ConfigError."""
    path = settings_file(where, name)
    try:
        return drivers.settings(driver, path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{where}: settings {name!r} cannot be read: {e}") from e


def settings_file(where: str, name: str) -> Path:
    """The file of a modem's settings by its name in firmware-configs/, or by its path. Raises ConfigError."""
    package = Path(edge.__path__[0])
    for folder in (package / "firmware_configs", package.parent / "firmware-configs"):  # installed; checked out
        for path in (folder / name, folder / f"{name}.toml"):
            if path.is_file():
                return path
    raise ConfigError(f"{where}: settings {name!r} not found, expected a file of firmware-configs/ or a path")


def _port(where: str, url: str, baudrate: int, clock: Clock, lister: Lister, *, rts: bool = False) -> Port:
    try:
        if not is_usb(url):
            serial.serial_for_url(url, do_not_open=True)
    except ValueError as e:
        raise ConfigError(f"{where}: {e}") from e
    return Port(url, baudrate, clock, rts=rts, lister=lister)
