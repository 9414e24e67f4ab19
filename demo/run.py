"""The demo, top to bottom: start everything, play the flood, cut a link, bring it back, and give account."""

import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from central import config as central_config
from central.alarms import silence
from central.store import configured
from common.clock import Clock
from demo import children, scenario
from demo.accounts import Account, accounts, stored_readings, total
from demo.children import Child, accepts, free_port, program
from demo.link import Link
from demo.messages import SmtpSink, Told, told
from demo.observer import JournalView, Observer, Passed, central_events, gateway_events
from demo.scenario import GATEWAYS, HUY, LEVELS_M, RIVER, STATIONS, Devices, Timeline, readings
from demo.screen import Screen
from demo.view import GatewayView, Line, StationView, View, alarm_text
from edge.emulators.log import DeviceLog

_FRAME_S = 0.25
_READY_S = 40.0
_SETTLE_S = 20.0
_MISSED_S = 15.0  # real
_LEAD_S = 8.0
"""Real seconds before the window begins: the processes start in them."""
_WARM_UP_S = 0.5
"""Real seconds after the gateways have opened their ports in which no sensor has anything to say yet."""
_TOLERANCE_S = 1.0
"""Real seconds between a frame's last byte and its time stamp; a gateway throws away what waited longer."""


class _Part(Protocol):
    """Something that is started and stopped."""

    def start(self) -> None: ...

    def stop(self) -> object: ...


class DemoFailed(Exception):
    """It cannot go on; the text says why."""


class Interrupted(Exception):
    """A person or the system asked it to end."""


@dataclass(frozen=True, slots=True)
class Options:
    """`directory` None: a temporary one, removed at the end. `influx`: the URL of a database instead of the embedded store."""

    scale: float = 120.0
    mosquitto: bool = False
    influx: str | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so at the end."""

    what: str
    good: bool
    found: str


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo came to. `after_cut` holds real seconds from the return of the link."""

    accounts: list[Account]
    checks: list[Check]
    alarms: dict[str, int]
    messages: dict[str, int]
    after_cut: dict[str, float | None]
    real_s: float
    broker: str
    store: str

    @property
    def good(self) -> bool:
        return all(check.good for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain data, for one line of JSON."""
        return {
            "good": self.good,
            "total": asdict(total(self.accounts)),
            "series": [asdict(account) for account in self.accounts],
            "checks": [asdict(check) for check in self.checks],
            "alarms": self.alarms,
            "messages": self.messages,
            "after_cut": self.after_cut,
            "real_s": round(self.real_s, 1),
            "broker": self.broker,
            "store": self.store,
        }


class Demo:
    """`with Demo(…) as demo: demo.play(screen)` runs everything once; leaving the block ends every process and thread.

    `stop` ends it early: `play` then raises Interrupted. A process that ends by itself makes it raise DemoFailed with the
    end of that process's log.
    """

    def __init__(self, options: Options, stop: threading.Event) -> None:
        self._options = options
        self._stop = stop
        self._ends = ExitStack()
        self._began_s = 0.0
        self._children: list[Child] = []
        self._programs: list[Child] = []
        self.unclean: list[str] = []
        """Our own programs that did not end with 0 when they were told to; known when the block is left."""
        self._phase = "starting"
        self._link_cut = False
        self._cut_at: tuple[float, float] = (0.0, 0.0)
        """The cut in real boot seconds: from, to."""
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._returned_s = 0.0
        """When the link returned, by time.monotonic()."""

    # ------------------------------------------------------------------ life

    def __enter__(self) -> "Demo":
        self._began_s = time.monotonic()
        try:
            self._build()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()
        self.unclean = [f"{c.name}: exit code {c.exit_code}" for c in self._programs if c.exit_code]

    def _build(self) -> None:
        self.directory = self._directory()
        origin = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._timeline = Timeline(self._options.scale, origin, time.time(), _LEAD_S)
        self._clock = Clock.of_exercise(self._timeline.clock_option)
        self._log = DeviceLog(self.directory / "devices.jsonl")
        self._devices = Devices(self.directory, self._clock, self._timeline, self._log)
        self._sink = SmtpSink(self._clock.wall)
        self._broker_port, web_port = free_port(), free_port()
        self._link = self._ends.enter_context(Link(self._broker_port))
        self._observer = Observer(self._broker_port)
        self.page = f"http://127.0.0.1:{web_port}/"
        self._start(self._devices)
        self._start(self._sink)
        store, self.store_name = _store(self._options.influx, self._timeline.begins_wall_s)
        self._configs = scenario.configurations(
            self.directory,
            broker=self._broker_port,
            cut_broker=self._link.port,
            smtp=self._sink.port,
            web=web_port,
            store=store,
            ports=self._devices.ports,
        )
        self._journals = {g: JournalView(self.directory / g / "journal") for g in GATEWAYS}
        self._gateway_events = {g: gateway_events(self.directory / g) for g in GATEWAYS}
        self._central_events = central_events(self.directory / "central")
        self._rules: dict[str, StationView] = {s.series: StationView(s) for s in STATIONS}

    def _directory(self) -> Path:
        if self._options.directory is not None:
            directory = self._options.directory.resolve()
            if directory.exists() and any(directory.iterdir()):
                raise DemoFailed(f"{directory} is not empty, expected a new or empty directory")
            directory.mkdir(parents=True, exist_ok=True)
            return directory
        directory = Path(tempfile.mkdtemp(prefix="maillages-demo-"))
        self._ends.callback(shutil.rmtree, directory, ignore_errors=True)
        return directory

    def _start(self, part: _Part) -> None:
        self._ends.callback(part.stop)
        part.start()

    def _run(self, child: Child) -> Child:
        self._children.append(child)
        self._start(child)
        return child

    # ------------------------------------------------------------------ the play

    def play(self, screen: Screen) -> Result:
        """From the first process to the account. Raises Interrupted, DemoFailed."""
        self._screen = screen
        self._start_processes()
        self._phase = "the water rises"
        crossing = self._timeline.crossing()
        cut_s = crossing - scenario.CUT_BEFORE_S
        self._until(cut_s)
        self._cut()
        self._until(cut_s + scenario.CUT_S)
        # At a high scale a busy machine may need longer than the cut to miss the gateway.
        self._await(lambda: silence.RULE in self._alarms(), _MISSED_S)
        self._restore()
        self._until(self._timeline.ends_wall_s)
        self._phase = "the last readings come in"
        self._devices.power(on=False)
        self._await(self._settled, _SETTLE_S)
        self._phase = "done"
        return self._account()

    def keep(self) -> None:
        """Go on until somebody ends it: the replay does, and everything with it. Raises Interrupted, DemoFailed."""
        self._devices.power(on=True)
        while True:
            self._pause()

    def _start_processes(self) -> None:
        broker = children.mosquitto if self._options.mosquitto else children.iotcore
        self._run(broker(self.directory, self._broker_port))
        self._need(lambda: accepts(self._broker_port), "the broker")
        self._start(self._observer)
        central = self._run(self._program("maillages-central", "central"))
        sessions = ("central-alarms: connected", "central-readings: connected")
        self._need(lambda: all(s in central.log.read_text(errors="replace") for s in sessions), "central on the broker")
        self._say("start", f"central runs; its page is {self.page}")
        gateways = {g: self._run(self._program("maillages-edge", g)) for g in GATEWAYS}
        self._need(lambda: all(self._listens(g, child) for g, child in gateways.items()), "the gateways on their ports")
        self._await(lambda: False, _WARM_UP_S)
        self._devices.power(on=True)
        self._say("start", "two gateways run; their sensors have power")

    def _program(self, command: str, name: str) -> Child:
        arguments = ["run", "-c", str(self._configs[name]), "--exercise-clock", self._timeline.clock_option]
        child = Child(name, [program(command), *arguments], self.directory / f"{name}.log")
        self._programs.append(child)
        return child

    def _listens(self, gateway: str, child: Child) -> bool:
        """Whether a gateway's process has all its sensors' ports open."""
        try:
            files = {fd.readlink() for fd in Path(f"/proc/{child.pid}/fd").iterdir()}
        except OSError:
            return False
        return {sensor.path.resolve() for sensor in self._devices.sensors[gateway]} <= files

    def _cut(self) -> None:
        self._cut_at = (time.clock_gettime(time.CLOCK_BOOTTIME), float("inf"))
        self._link_cut = True
        self._link.cut()
        self._phase = f"{HUY} is cut off"
        self._say("link", f"{HUY} is cut off from the broker, while its river rises to level 3")

    def _restore(self) -> None:
        self._cut_at = (self._cut_at[0], time.clock_gettime(time.CLOCK_BOOTTIME))
        self._returned_s = time.monotonic()
        self._link_cut = False
        self._link.restore()
        self._phase = "the link is back"
        self._say("link", f"{HUY} has its link back, {self._journals[HUY].depth} readings wait in its journal")

    def _settled(self) -> bool:
        """Whether every reading and alarm has arrived."""
        emitted = sum(len(moments) for moments in self._emitted().values())
        journals = self._journals.values()
        taken = sum(sum(j.taken.values()) for j in journals)
        return taken >= emitted and not any(j.depth for j in journals) and not any(map(self._untold, GATEWAYS))

    # ------------------------------------------------------------------ time

    def _until(self, wall_s: float) -> None:
        while self._clock.wall() < wall_s:
            self._tick()

    def _await(self, condition: Callable[[], bool], real_s: float) -> bool:
        """Go on until `condition` holds or the time is up; whether it holds."""
        deadline = time.monotonic() + real_s
        while not (holds := condition()) and time.monotonic() < deadline:
            self._tick()
        return holds

    def _need(self, condition: Callable[[], bool], what: str) -> None:
        if not self._await(condition, _READY_S):
            raise DemoFailed(f"{what}: not ready within {_READY_S:.0f} s")

    def _tick(self) -> None:
        """Look at everything, show it, and let a quarter of a second pass."""
        self._look()
        self._screen.show(self.view())
        self._pause()

    def _pause(self) -> None:
        for child in self._children:
            if child.exit_code is not None:
                raise DemoFailed(
                    f"{child.name} ended by itself (exit code {child.exit_code}). The end of its log:\n{child.tail()}"
                )
        if self._stop.wait(_FRAME_S):
            raise Interrupted

    # ------------------------------------------------------------------ what is seen

    def _look(self) -> None:
        for gateway in GATEWAYS:
            self._journals[gateway].update()
            for event in self._gateway_events[gateway].update():
                self._say("alarm", f"{gateway}  {alarm_text(event)}")
                for shown in self._rules.values():
                    if shown.station.rule == event.rule:
                        shown.state, shown.level = event.state, event.level
        for event in self._central_events.update():
            if event.transition in ("raise", "escalate"):
                self._say("central", f"knows of {event.rule} level {event.level}")
        self._say_news()

    def _say_news(self) -> None:
        """The siren's changes and the messages that have come since the last look."""
        switched = self._devices.siren.history
        for change in switched[self._seen("siren", len(switched)) :]:
            self._say("siren", f"{HUY}  {'sounds' if change.on else 'falls silent'}")
        messages = self._told()
        for message in messages[self._seen("messages", len(messages)) :]:
            self._say(message.channel, f"{message.sender} to {message.to}: {' '.join(message.text.split())}")

    def _seen(self, what: str, now: int) -> int:
        before = self._counts[what]
        self._counts[what] = now
        return before

    def _say(self, topic: str, text: str) -> None:
        self._screen.say(Line(self._clock.wall(), topic, text))

    def _told(self) -> list[Told]:
        origin_boot, origin_wall = time.clock_gettime(time.CLOCK_BOOTTIME), self._clock.wall()
        return told(
            self._sink, self._devices, lambda boot_s: origin_wall + (boot_s - origin_boot) * self._options.scale
        )

    def _untold(self, gateway: str) -> int:
        """Alarm events that the gateway has and central does not."""
        known = {event.id for event in self._central_events.events}
        return sum(1 for event in self._gateway_events[gateway].events if event.id not in known)

    def _emitted(self) -> dict[str, list[tuple[float, float]]]:
        """What the devices have really put on their lines, by series."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for sent in self._log.sent():
            for series, value in readings(sent).items():
                found[series].append((sent.wall_s, value))
        return found

    def view(self) -> View:
        """This moment."""
        emitted = self._emitted()
        for series, shown in self._rules.items():
            shown.points = emitted.get(series, ())
        now = self._clock.wall()
        return View(
            wall_s=now,
            played_s=self._timeline.played(now),
            begins_s=self._timeline.begins_wall_s,
            ends_s=self._timeline.ends_wall_s,
            left_s=max(0.0, self._clock.real(self._timeline.ends_wall_s - now)),
            scale=self._options.scale,
            phase=self._phase,
            page=self.page,
            stations=list(self._rules.values()),
            gateways=[self._gateway_view(g) for g in GATEWAYS],
            told=self._told(),
        )

    def _gateway_view(self, gateway: str) -> GatewayView:
        up = self._observer.online.get(gateway, False)
        cut = self._link_cut and gateway == HUY
        siren = self._devices.siren.on() if gateway == HUY else None
        link = "cut" if cut else "up" if up else "down"
        return GatewayView(gateway, link, self._journals[gateway].depth, self._untold(gateway), siren)

    # ------------------------------------------------------------------ the account

    def _account(self) -> Result:
        self._look()
        emitted = self._emitted()
        taken: dict[str, int] = {}
        for journal in self._journals.values():
            taken |= journal.taken
        store = configured.store(central_config.load(self._configs["central"]))
        try:
            store.setup()
            begin = self._timeline.begins_wall_s - 86400
            stored = stored_readings(store, begin, self._clock.wall() + 86400)
        finally:
            store.close()
        found = accounts(emitted, taken, stored, _TOLERANCE_S * self._options.scale)
        alarms = self._alarms()
        messages = self._told()
        return Result(
            found,
            self._checks(found, emitted, alarms, messages),
            alarms,
            {
                "mail": sum(m.channel == "mail" for m in messages),
                "sms_central": sum(m.channel == "sms" and m.sender == "central" for m in messages),
                "sms_gateway": sum(m.channel == "sms" and m.sender == "gateway" for m in messages),
            },
            {name: None if at is None else round(at, 3) for name, at in self._after_cut().items()},
            time.monotonic() - self._began_s,
            "mosquitto" if self._options.mosquitto else "iotcore",
            self.store_name,
        )

    def _alarms(self) -> dict[str, int]:
        """The highest level that central was told of, by rule."""
        found: dict[str, int] = {}
        for event in self._central_events.events:
            if event.transition in ("raise", "escalate"):
                found[event.rule] = max(event.level, found.get(event.rule, 0))
        return found

    def _after_cut(self) -> dict[str, float | None]:
        """Real seconds from the return of the link: what central had first."""
        returned_wall = self._clock.wall() - (time.monotonic() - self._returned_s) * self._options.scale
        passed = self._observer.passed(HUY, self._returned_s)

        def first(choose: Callable[[Passed], bool]) -> float | None:
            return next((p.at_s - self._returned_s for p in passed if choose(p)), None)

        stored = [p for p in passed if p.kind == "readings stored" and p.measured_s < returned_wall]
        return {
            "alarm": first(lambda p: p.kind == "alarm"),
            "alarm_stored": first(lambda p: p.kind == "alarm stored"),
            "live": first(lambda p: p.kind == "readings" and p.measured_s >= returned_wall),
            "backlog": first(lambda p: p.kind == "readings" and p.measured_s < returned_wall),
            "backlog_stored": stored[-1].at_s - self._returned_s if stored else None,
        }

    def _checks(
        self,
        found: list[Account],
        emitted: dict[str, list[tuple[float, float]]],
        alarms: dict[str, int],
        messages: list[Told],
    ) -> list[Check]:
        everything = total(found)
        expected = {
            s.rule: level
            for s in STATIONS
            if s.rule and (level := sum(1 for t in s.thresholds if max(v for _, v in emitted[s.series]) >= t))
        }
        untold = sum(map(self._untold, GATEWAYS))
        siren = [c for c in self._devices.siren.history if c.on and self._in_cut(c.boot_s)]
        own_sms = [m for m in self._devices.gateway_modem.messages if self._in_cut(m.boot_s)]
        after = self._after_cut()
        order = [after["alarm"], after["live"], after["backlog"]]
        early = [p for p in self._observer.passed(HUY) if p.kind == "alarm" and self._monotonic_in_cut(p.at_s)]
        about_itself = {event.rule for event in self._central_events.events if event.station is None}
        by_readings = {rule: level for rule, level in alarms.items() if rule not in about_itself}
        level_3 = expected.get(RIVER.rule or "") == len(LEVELS_M)
        mails = sum(m.channel == "mail" for m in messages)
        sms = sum(m.channel == "sms" and m.sender == "central" for m in messages)
        return [
            Check("readings: none missing, duplicated or invented", everything.good and everything.stored > 0,
                  f"{everything.missing} missing, {everything.duplicated} duplicated, {everything.invented} invented"),
            Check("alarms: each level that the readings reached, and no more", by_readings == expected and level_3,
                  f"{_levels(by_readings)}; expected {_levels(expected)}"),
            Check("cut off: central says that the gateway is silent", silence.RULE in alarms, _levels(alarms)),
            Check("alarms: central has every event of the gateways", untold == 0, f"{untold} missing"),
            Check("cut off: siren and SMS on the spot", bool(siren) and bool(own_sms),
                  f"siren {len(siren)} time(s), {len(own_sms)} SMS"),
            Check("cut off: nothing reached central", not early, f"{len(early)} alarms"),
            Check("link back: alarm, then live, then backlog", None not in order and order == sorted(order, key=_late),
                  " < ".join("never" if at is None else f"{at:.2f} s" for at in order)),
            Check("people: mails and SMS by central", bool(mails) and bool(sms), f"{mails} mails, {sms} SMS"),
            Check("people: every message says EXERCICE", all(m.marked for m in messages),
                  f"{sum(not m.marked for m in messages)} do not"),
        ]  # fmt: skip

    def _in_cut(self, boot_s: float) -> bool:
        return self._cut_at[0] <= boot_s < self._cut_at[1]

    def _monotonic_in_cut(self, at_s: float) -> bool:
        length = self._cut_at[1] - self._cut_at[0]
        # What was on its way when the plug was pulled may still arrive.
        return self._returned_s - length + 0.2 < at_s < self._returned_s


def _levels(alarms: dict[str, int]) -> str:
    return ", ".join(f"{rule} {level}" for rule, level in sorted(alarms.items())) or "none"


def _late(at_s: float | None) -> float:
    return float("inf") if at_s is None else at_s


def _store(influx: str | None, begins_wall_s: float) -> tuple[str, str]:
    """Central's [store] section, and its name for people. Every run has a database of its own, which stays."""
    if influx is None:
        return '[store]\nkind = "embedded"', "embedded"
    url = urlsplit(influx)
    host = url.netloc.rpartition("@")[2]
    database = f"maillages_demo_{begins_wall_s:.0f}"
    lines = ["[store]", 'kind = "influxdb"', f'url = "{url.scheme}://{host}{url.path.rstrip("/")}"']
    lines.append(f'database = "{database}"')
    if url.username:
        lines += [f'username = "{unquote(url.username)}"', f'password = "{unquote(url.password or "")}"']
    return "\n".join(lines), f"{url.scheme}://{host} {database}"


def handle_signals(stop: threading.Event) -> None:
    """Ctrl-C, SIGTERM and a closed terminal set `stop`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
