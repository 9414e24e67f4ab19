"""Who owns which port: the names in a configuration, held against each other and against what they lead to now.

A device has several names (/dev/ttyUSB0, its links in /dev/serial, usb:VID:PID). One that is not plugged in has only that by which it
is named, and is no fault: a gateway starts without it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge import config, drivers
from edge.errors import ConfigError, PortError
from edge.transports.port import Lister, device


@dataclass(frozen=True, slots=True)
class _Owner:
    """`key` of a port in the configuration. `with_others`: of one name, other owners of the same kind may share it."""

    key: str
    url: str
    kind: str
    with_others: bool = False


def faults(settings: config.EdgeConfig, lister: Lister) -> list[str]:
    """A line for each port that is none, or that two would own. Opens nothing."""
    found: list[str] = []
    owners: dict[str, _Owner] = {}
    for owner in _owners(settings):
        if owner.kind == "output" and owner.url.startswith("usb:"):
            found.append(f"{owner.key}: found {owner.url}, expected a path such as /dev/serial/by-id/...")
            continue
        where = _where(owner.url, lister)
        if owner.kind != "file" and (what := _instead_of_a_device(where)):
            found.append(f"{owner.key}: {owner.url} is {what}, expected a serial device")
        other = owners.setdefault(where, owner)
        if other is owner or ((other.url, other.kind) == (owner.url, owner.kind) and owner.with_others):
            continue
        if other.url == owner.url:
            found.append(f"{owner.key}: port {owner.url} is named twice, by {other.key} too; expected one owner")
        elif other.with_others and other.kind == owner.kind:
            found.append(
                f"{owner.key}: {owner.url} is the same device as {other.url} of {other.key}; expected one name for it"
            )
        else:
            found.append(
                f"{owner.key}: {owner.url} is the same device as {other.url} of {other.key}; expected one owner"
            )
    return found


def _owners(settings: config.EdgeConfig) -> Iterator[_Owner]:
    outputs = settings.outputs
    if isinstance(outputs.siren, config.SerialSiren):
        yield _Owner("outputs.siren.port", outputs.siren.port, "output", with_others=True)
    if isinstance(outputs.button, config.SerialButton):
        yield _Owner("outputs.button.port", outputs.button.port, "output")
    if outputs.sms is not None:
        yield _Owner("outputs.sms.port", outputs.sms.port, "output")
    for station in settings.station:
        for sensor in station.sensor:
            key = f"sensor {station.id}/{sensor.id}"
            if sensor.power is not None:
                yield _Owner(f"{key} power.port", sensor.power.port, "output", with_others=True)
            if sensor.port is not None:
                yield _Owner(f"{key} port", sensor.port, _link(sensor), with_others=True)
    for modem in settings.modem:
        yield _Owner(f"modem {modem.name} port", modem.port, "modem")
    for server in settings.network_server:
        if server.driver == "semtech_udp":
            yield _Owner(f"network_server {server.name} url", server.url, "network_server")


def _link(sensor: config.Sensor) -> str:
    """Files and lines are not asked in one way, and build says so; an unknown driver is a fault of its own."""
    try:
        return "file" if drivers.find(sensor.driver).link == "file" else "line"
    except ConfigError:
        return "line"


def _where(url: str, lister: Lister) -> str:
    """The device that a name leads to now, the name itself where there is none."""
    try:
        url = device(url, lister)
    except (PortError, OSError):
        return url
    return url if "://" in url else os.path.realpath(url)


def _instead_of_a_device(path: str) -> str:
    """What else than a serial device is there; empty for one, and for nothing."""
    try:
        mode = Path(path).stat().st_mode if path.startswith("/") else stat.S_IFCHR
    except OSError:
        return ""
    if stat.S_ISCHR(mode):
        return ""
    return "a directory" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "no serial device"
