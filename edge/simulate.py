"""`maillages-edge simulate`: an emulated device for a technician's bench, on a port that a gateway can read."""

import contextlib
import json
import os
import select
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from common.clock import Clock
from edge import drivers
from edge.emulators.family import Bench, Device, Family, Member, families
from edge.emulators.log import DeviceLog
from edge.emulators.pty import PtyDevice
from edge.emulators.trouble import Trouble
from edge.errors import ConfigError
from wire.quantities import QUANTITIES

_STATION = """\
# edge.toml: a sensor belongs in a [[station]]; `maillages-edge config --example` prints one.
"""
_HELP = "Enter changes it: {}corrupt=0.1 a trouble, ok, restart, unplug, plug. Ctrl-C ends."
_KEPT = 100
_LARGEST = 1e6


@dataclass(frozen=True, slots=True)
class Ramp:
    """From `start` to `end` in `seconds`, back in as many, and again."""

    start: float
    end: float
    seconds: float

    def at(self, elapsed_s: float) -> float:
        turn = elapsed_s / self.seconds % 2
        return self.start + (self.end - self.start) * min(turn, 2 - turn)


@dataclass(slots=True)
class World:
    """What there is to measure: fixed values and ramps by quantity. `values` may be changed while devices look.

    A device that measures a distance may be given the `water_level` instead, under its mounting height.
    """

    family: Family
    values: dict[str, float] = field(default_factory=dict)
    ramps: dict[str, Ramp] = field(default_factory=dict)
    since_s: float = 0.0

    def known(self) -> list[str]:
        """The quantities that may be given."""
        extra = ["water_level"] if self.family.mounting_height_m is not None else []
        return [*self.family.true, *extra]

    def set(self, quantity: str, value: float) -> None:
        """Raises ConfigError for a quantity that this family does not measure."""
        self._check(quantity)
        self.ramps.pop(quantity, None)
        self.values[quantity] = value

    def ramp(self, quantity: str, ramp: Ramp) -> None:
        """Raises ConfigError for a quantity that this family does not measure."""
        self._check(quantity)
        self.ramps[quantity] = ramp

    def at(self, wall_s: float) -> dict[str, float]:
        """The truth at a wall time."""
        now = self.values | {quantity: ramp.at(wall_s - self.since_s) for quantity, ramp in self.ramps.items()}
        truth = {**self.family.true, **now}
        if self.family.mounting_height_m is not None and "water_level" in now:
            truth["water_distance"] = self.family.mounting_height_m - now["water_level"]
        return truth

    def _check(self, quantity: str) -> None:
        if quantity not in self.known():
            raise ConfigError(
                f"quantity {quantity!r}: {self.family.name} does not show it, expected {', '.join(self.known()) or 'none'}"
            )


def assignment(text: str, option: str) -> tuple[str, float]:
    """`quantity=number`. Raises ConfigError."""
    name, _, value = text.partition("=")
    try:
        return name, _number(value)
    except ValueError:
        raise ConfigError(f"{option}: found {text!r}, expected quantity=number, such as water_level=1.2") from None


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) <= _LARGEST:  # not a number fails too
        raise ValueError(text)
    return value


def ramp(text: str) -> tuple[str, Ramp]:
    """`quantity=FROM:TO:SECONDS`. Raises ConfigError."""
    name, _, rest = text.partition("=")
    try:
        start, end, seconds = map(_number, rest.split(":"))
        if seconds <= 0:
            raise ValueError(seconds)
    except ValueError:
        raise ConfigError(
            f"--ramp: found {text!r}, expected quantity=FROM:TO:SECONDS, such as water_level=0.5:2.5:600"
        ) from None
    return name, Ramp(start, end, seconds)


def trouble(text: str) -> Trouble:
    """As Trouble.parse, but raises ConfigError."""
    try:
        return Trouble.parse(text)
    except ValueError as e:
        raise ConfigError(str(e)) from None


def find(name: str) -> Family:
    """The family of this name. Raises ConfigError, which lists those that exist."""
    known = families()
    if name not in known:
        raise ConfigError(f"family {name!r} is not emulated, expected one of {', '.join(known)}")
    return known[name]


def listing(as_json: bool) -> str:
    """All families: name, title, what they show, and the options that make another device of them."""
    known = families().values()
    if as_json:
        return json.dumps(
            [
                {
                    "name": f.name,
                    "title": f.title,
                    "true": dict(f.true),
                    "variants": [{**f.options, **v} for v in f.variants],
                }
                for f in known
            ],
            ensure_ascii=False,
        )
    width = max(len(f.name) for f in known)
    return "\n".join(f"{f.name:{width}}  {f.title}" + (f": {', '.join(f.true)}" if f.true else "") for f in known)


def free(path: Path) -> Path:
    """The path, if nothing is there that a device would replace; a link that leads nowhere was left behind. Raises ConfigError."""
    if path.exists() or (path.is_symlink() and path.resolve().exists()):
        raise ConfigError(
            f"{path} is there already: another simulation, or something else; remove it, or give another --link"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no directory, expected one for the link")
    return path


@dataclass(slots=True)
class Simulation:
    """A family on the bench: its device and what it is told. Nothing runs before `run`."""

    family: Family
    world: World
    link: Path
    options: Sequence[Mapping[str, Any]]
    """One set for each device on the line."""
    device: Device
    log: DeviceLog

    @classmethod
    def of(
        cls,
        family: Family,
        *,
        link: Path | None = None,
        values: Sequence[str] = (),
        ramps: Sequence[str] = (),
        addresses: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        log: Path | None = None,
        clock: Clock | None = None,
    ) -> "Simulation":
        """Raises ConfigError: what was found, what was expected."""
        clock = clock or Clock()
        world = World(family, since_s=clock.wall())
        for text in values:
            world.set(*assignment(text, "--value"))
        for text in ramps:
            world.ramp(*ramp(text))
        options = {**family.options, **(settings or {})}
        several: list[dict[str, Any]] = [options]
        if addresses:
            if family.address is None:
                raise ConfigError(f"--address: {family.name} has none, expected it for a device on a shared line")
            several = [{**options, family.address: int(a) if a.isdecimal() else a} for a in addresses]
        for one in several:
            if family.kind != "output":
                drivers.options(drivers.find(family.name), one)
            elif unknown := sorted(one.keys() - family.options.keys()):
                raise ConfigError(
                    f"{family.name} option {unknown[0]!r} is unknown, expected {', '.join(family.options)}"
                )
        kept = DeviceLog(log, keep=_KEPT)
        path = free(link or Path(tempfile.gettempdir()) / f"maillages-{family.name}")
        members = [Member(name, world.at, one) for name, one in zip(_ids(several, family), several, strict=True)]
        try:
            device = family.make(Bench(path=path, members=members, clock=clock, log=kept))
        except (ValueError, KeyError) as e:
            raise ConfigError(f"{family.name} cannot be emulated so: {e}") from None
        return cls(family, world, path, several, device, kept)

    def stanza(self) -> str:
        """What reads it, for edge.toml."""
        ids = _ids(self.options, self.family)
        return "\n".join(self.family.stanza(i, self.link, one) for i, one in zip(ids, self.options, strict=True))

    def described(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "family": self.family.name,
            "port": str(self.family.port(self.link)),
            "true": {name: round(value, 6) for name, value in self.world.at(self.world.since_s).items()},
            "trouble": _named(self.device.trouble),
            "stanza": self.stanza(),
        }

    def text(self) -> str:
        """For a person."""
        said = self.described()
        true = ", ".join(f"{n} {v:g} {QUANTITIES[n].unit}" for n, v in said["true"].items() if n in QUANTITIES)
        return (
            f"{self.family.title}\n"
            f"port     {said['port']}\n"
            + (f"shows    {true}\n" if true else "")
            + f"trouble  {said['trouble']}\n"
            + "".join(f"type     {word.example}\n" for word in self.family.words.values())
            + f"\n{_STATION}{said['stanza']}"
        )

    def told(self, line: str) -> str:
        """Do what a person typed; returns what is so now. Raises ConfigError."""
        device = self.device
        name = line.partition("=")[0]
        match line:
            case "":
                return ""
            case "ok":
                device.trouble = Trouble()
            case "restart":
                device.restart()
                return "restarted"
            case "unplug" | "plug" if isinstance(device, PtyDevice):
                device.unplug() if line == "unplug" else device.replug()
                return line + "ged"
            case _ if name in self.world.known():
                self.world.set(*assignment(line, "value"))
                return f"{line} from now on"
            case _ if name in self.family.words:
                try:
                    self.family.words[name].do(device, line.partition("=")[2])
                except ValueError as e:
                    raise ConfigError(f"{line}: {e}") from None
                return line
            case _:
                device.trouble = trouble(line)
        return f"trouble: {_named(device.trouble)}"

    def run(self, out: TextIO, source: TextIO, *, as_json: bool, ended: threading.Event) -> None:
        """Until `ended`: describe it on `out`, obey lines from `source`, and on a terminal tell what it sends."""
        self.device.start()
        try:
            print(json.dumps(self.described(), ensure_ascii=False) if as_json else self.text(), file=out, flush=True)
            alive = out.isatty() and not as_json
            if alive:
                value = f"{self.world.known()[-1]}=2.1 a value, " if self.world.known() else ""
                print(_HELP.format(value), file=out, flush=True)
            told = 0
            for line in _lines(source, ended):
                happened = self.family.happened(self.device)
                for what in happened[told:]:
                    print(f"\r\x1b[K{what}" if alive else json.dumps(what) if as_json else what, file=out, flush=True)
                told = len(happened)
                if line is not None:
                    try:
                        print(self.told(line.strip()), file=out, flush=True)
                    except ConfigError as e:
                        print(e, file=out, flush=True)
                elif alive and self.family.kind != "output":
                    print(f"\r\x1b[K{self._sent()}", end="", file=out, flush=True)
            if alive:
                print(file=out)
        finally:
            self.device.stop()

    def _sent(self) -> str:
        last = self.log.sent()[-1:]
        shown = ", ".join(f"{name} {value:g}" for one in last for name, value in one.values.items())
        return f"{self.log.total} frames arrived whole" + (f", last: {shown or 'no value'}" if last else "")


def _lines(source: TextIO, ended: threading.Event) -> Iterator[str | None]:
    """Lines as they come; None once a second. After the end of `source` only that."""
    descriptor, typed, listening = source.fileno(), b"", True
    while not ended.is_set():
        if not listening:
            time.sleep(1)  # a wait for the event could stand still for ever when the signal that sets it arrives in it
            yield None
        elif select.select([descriptor], [], [], 1)[0]:
            data = os.read(descriptor, 4096)
            listening = bool(data)
            *lines, typed = (typed + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        else:
            yield None


def _ids(options: Sequence[Mapping[str, Any]], family: Family) -> list[str]:
    name = family.name.replace("_", "-")
    if len(options) == 1 or family.address is None:
        return [name]
    return [f"{name}-{one[family.address]}" for one in options]


def _named(one: Trouble) -> str:
    """What is wrong, as it is typed."""
    return one.text() or "none"


@contextlib.contextmanager
def interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, while it lasts."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
