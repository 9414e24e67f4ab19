"""The families that can be emulated. Each module beside this one that emulates some declares `FAMILIES`; they are found by place."""

import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import edge.emulators
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import Truth
from edge.emulators.trouble import Trouble


class Device(Protocol):
    """A device that is there from `start` to `stop`; `trouble` may be changed meanwhile."""

    trouble: Trouble

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def restart(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A sensor on the line: its key in the log, what it measures, and the options by which its driver reads it."""

    sensor: str
    truth: Truth
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a device is made of. `interval_s`: how often one that talks by itself does so, None: as the real one."""

    path: Path
    members: Sequence[Member]
    clock: Clock
    log: DeviceLog = field(default_factory=DeviceLog)
    interval_s: float | None = None
    warm_up_s: float = 2.0

    @property
    def only(self) -> Member:
        """The one sensor of a line that is not shared."""
        (member,) = self.members
        return member


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a person may tell such a device beyond values and troubles: `example` as it is typed, `name=value`; `do` gets the device
    and the value, and raises ValueError for one that cannot be."""

    example: str
    do: Callable[[Any, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A device family: `name` is that of the driver that reads it. A `modem` hears a node, whose values are `true`; an `output` has
    no driver and measures nothing.

    `true` is what it measures if nothing else is said, by quantity; `make` gives the device on a bench; `port` where on its path the
    gateway opens it. `options` are the driver's, each of the `variants` another set of more. `address` names the option that is a
    device's address on a shared line. `unchecked` frames carry neither sum nor CRC: noise can make another value of them.
    `written` is the part of edge.toml for a modem or output, by its id, path and options. `words` may be typed; `happened` is all that was
    done to the device, as lines.
    """

    name: str
    title: str
    true: Mapping[str, float]
    make: Callable[[Bench], Device]
    options: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ({},)
    address: str | None = None
    period_s: float = 5.0
    port: Callable[[Path], Path] = lambda path: path
    mounting_height_m: float | None = None
    unchecked: bool = False
    kind: Literal["sensor", "modem", "output"] = "sensor"
    written: Callable[[str, Path, Mapping[str, Any]], str] | None = None
    words: Mapping[str, Word] = field(default_factory=dict)
    happened: Callable[[Any], Sequence[str]] = lambda _: ()

    def stanza(self, sensor: str, path: Path, options: Mapping[str, Any], period_s: float | None = None) -> str:
        """The part of edge.toml that reads this device, a sensor's within a `[[station]]`."""
        if self.written is not None:
            return self.written(sensor, path, options)
        lines = [
            "[[station.sensor]]",
            f"id = {toml(sensor)}",
            f"driver = {toml(self.name)}",
            f"port = {toml(str(self.port(path)))}",
            f"period_s = {self.period_s if period_s is None else period_s:g}",
        ]
        if options:
            lines.append(f"options = {toml(dict(options))}")
        if self.mounting_height_m is not None:
            lines.append(f"level = {toml({'mounting_height_m': self.mounting_height_m})}")
        return "\n".join(lines) + "\n"


def families() -> dict[str, Family]:
    """All families by name, sorted."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(edge.emulators.__path__):
        for family in getattr(import_module(f"edge.emulators.{module.name}"), "FAMILIES", ()):
            if family.name in found:
                raise ValueError(f"family {family.name} is declared twice")
            found[family.name] = family
    return dict(sorted(found.items()))


def toml(value: object) -> str:
    """A value as it stands in a TOML file on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are written alike
