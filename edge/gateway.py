"""The data path of a gateway, top to bottom: a sample is qualified, judged, acted upon, kept, logged, forwarded.

One thread does all of it, in that order, so what is true after each step is easy to say. Ports, the uplink, the siren and
the SMS modem have threads of their own and only post to this one's queue or are woken by it: none of them can hold it up.
"""

import itertools
import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

from common import air
from common.clock import BRUSSELS, Clock, from_rfc3339, rfc3339
from common.texts import Present
from edge import drivers, qc
from edge.alarm_log import AlarmLog, Progress
from edge.alarms import Alarms, readable
from edge.calibration import Air, Around, recalibrated
from edge.config import MEANT, EdgeConfig
from edge.health import OwnHealth, Report
from edge.journal import Journal, JournalUnwritable, NewRow, Row
from edge.latest import Latest, Usable
from edge.outputs.siren import SirenInput, should_sound
from edge.overview import Overview
from edge.qualify import Qualified, qualify
from edge.rules import Observation
from edge.sample import Sample
from edge.sensors.base import COMMUNICATION_KINDS
from edge.situation import Situation
from edge.watch import MEANS_S, Watched, Watchlist
from wire import command as commands
from wire.alarm import AlarmEvent, Notified, Status
from wire.errors import WireError
from wire.ids import uuid7
from wire.quantities import QUANTITIES
from wire.senml import Record

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 1.0
SNAPSHOT_S = 1800.0
"""A snapshot of the rules is some 80 kB; after a restart the readings since are judged again."""
HEALTH_S = 60.0
LOOK_S = 10.0
HURRY_S = 600.0
"""For so long after the last sign of urgency the gateway hurries on."""
MAX_BATCH = 200
WRITTEN_AT_ONCE = 200
MAX_UNWRITTEN = 20_000
"""Readings held in memory while the disk takes none (4 MB); beyond that the oldest go, counted in health and logged once."""
COMMAND_TIMEOUT_S = 5.0
QC_ROWS = 60_000
"""So many readings quality control looks back upon after a restart: a day of 40 series a minute, read in a second or two."""
HUMIDITY_S = 1800.0
"""For so long the humidity that one sensor of a station measured holds for the others."""


class Siren(Protocol):
    def want(self, alarm: SirenInput | None) -> None: ...


class Power(Protocol):
    @property
    def cycles(self) -> Mapping[str, int]: ...

    def heard(self, key: str, *, answered: bool) -> None: ...


class Forwarder(Protocol):
    """What the data path tells the uplink."""

    def wake(self) -> None: ...

    def publish_active(self) -> None: ...

    def publish_stations(self) -> None: ...

    def publish_health(self, pack: Sequence[Record]) -> None: ...

    @property
    def connected(self) -> bool: ...


class NoUplink:
    """A gateway without a broker: it journals and alarms on its own."""

    connected = False

    def wake(self) -> None: ...

    def publish_active(self) -> None: ...

    def publish_stations(self) -> None: ...

    def publish_health(self, pack: Sequence[Record]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    """Something another thread wants done in the data path."""

    do: Callable[[], Any]
    answer: "Future[Any]"


class Gateway:
    """`post(sample)` is the sink of the transports. `recover()` before `start()`; `stop()` flushes and ends the thread."""

    def __init__(
        self,
        config: EdgeConfig,
        clock: Clock,
        journal: Journal,
        alarms: AlarmLog,
        *,
        siren: Siren | None = None,
        power: Power | None = None,
        status: Status = "Actual",
    ) -> None:
        self._config = config
        self._clock = clock
        self._journal = journal
        self._log = alarms
        self._siren = siren
        self._power = power
        self._status: Status = "Exercise" if clock.exercise else status
        self._uplink: Forwarder = NoUplink()
        self._inbox: queue.SimpleQueue[Sample | _Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        name = config.gateway.id
        self._watch = Watchlist(config, self._today())
        self._alarms = Alarms(name, clock, alarms, self._watch, self._status, self._dated)
        self._latest = Latest()
        self._overview = Overview(name, clock, self._watch, self._alarms, self._latest)
        self._own = OwnHealth(config.gateway.data_dir, clock, journal)
        self._unwritten: deque[NewRow] = deque()
        self._given_up = 0
        self._giving_up = False
        self._air = Air()
        self._humidity: dict[str, tuple[float, float]] = {}
        """Of a station: boot second, %RH."""
        self._qc = {key: qc.SensorQc(watched.sensor) for key, watched in self._watch.sensors.items()}
        self._averages = air.Averages()
        self._sounding: SirenInput | None = None
        self._said: dict[str, float] = {}
        """The health as told last."""
        self._next_tick_s = 0.0
        self._next_health_s = 0.0
        self._next_snapshot_s = 0.0
        self._next_look_s = 0.0
        self._hurried_until_s = -math.inf
        self._synchronised = False
        self._exercise_until_s = 0.0
        self._exercise_ended = ""

    def attach(self, uplink: Forwarder) -> None:
        """Forward to this uplink; before `start()`."""
        self._uplink = uplink

    def report(self, health: Report) -> None:
        """Tell in health, and judge, what this gives too; before `start()`."""
        self._own.add(health)

    # ------------------------------------------------------------------ from other threads

    def post(self, sample: Sample) -> None:
        """A transport has a sample."""
        self._inbox.put(sample)

    def command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do a verified command of central. Raises WireError when it cannot be done."""
        match name:
            case commands.ACK:
                ack = commands.parse(commands.Ack, arguments)
                return self._call(lambda: self._ordered(self._alarms.acknowledge(ack)))
            case commands.SHELVE:
                shelve = commands.parse(commands.Shelve, arguments)
                return self._call(lambda: self._ordered(self._alarms.shelve(shelve)))
            case commands.RESET:
                reset = commands.parse(commands.Reset, arguments)
                return self._call(lambda: self._ordered(self._alarms.reset(reset)))
            case commands.RESEND:
                resend = commands.parse(commands.Resend, arguments)
                if resend.journal != self._journal.id:
                    raise WireError(f"journal {resend.journal!r}, this one is {self._journal.id}")
                count = self._journal.resend(resend.first, resend.last)
                self._uplink.wake()
                return {"readings": count}
        raise WireError(f"command {name!r} is unknown, expected {', '.join(commands.KNOWN)}")

    @property
    def day(self) -> date:
        """The Belgian day whose thresholds hold."""
        return self._watch.day

    @property
    def in_memory(self) -> int:
        """Readings that the disk does not take now."""
        return len(self._unwritten)

    @property
    def hurried(self) -> bool:
        """Whether readings are urgent: a level or rate alarm stands, or a watched level rises, or did ten minutes ago."""
        return self._clock.boot() < self._hurried_until_s

    def told(self, event: AlarmEvent, notified: tuple[Notified, ...]) -> None:
        """The gateway's own SMS about `event` were tried. Nobody waits for the log of it: the next SMS may be due."""
        self._inbox.put(_Call(lambda: self._alarms.notified(event, notified), Future()))

    def acknowledge(self, occurrence: str, by: str, level: int | None) -> None:
        """A person did, here and not at central. Raises WireError when it cannot be done."""
        ack = commands.Ack(
            id=uuid7(self._clock.wall()), occurrence=occurrence, by=by, at=rfc3339(self._clock.wall()), level=level
        )
        self._call(lambda: self._ordered(self._alarms.acknowledge(ack)))

    def begin_exercise(self, station: str, level: int, by: str, until_boot_s: float) -> AlarmEvent:
        """Raise an exercise alarm, which ends at that time if nothing ended it before. Raises WireError when it cannot be now."""
        return self._call(lambda: self._begin_exercise(station, level, by, until_boot_s))

    def end_exercise(self, note: str) -> None:
        """Does not wait; nothing happens when none stands."""
        self._inbox.put(_Call(lambda: self._end_exercise(note), Future()))

    @property
    def exercise(self) -> AlarmEvent | None:
        """The last event of the exercise alarm that stands."""
        return self._alarms.exercise

    @property
    def exercise_ended(self) -> str:
        """Why the last exercise alarm ended."""
        return self._exercise_ended

    def pressed(self, since_boot_s: float) -> None:
        """Somebody has pressed the button beside the siren at that time: what it sounds for, or did, is acknowledged. Not what was
        raised or became worse since: nobody had heard it. Does not wait."""
        self._inbox.put(_Call(lambda: self._acknowledge_heard(since_boot_s), Future()))

    def present(self) -> list[Present]:
        """What each station's watched quantities are now, in the order of the configuration."""
        return self._call(self._overview.present)

    def situation(self) -> "Future[Situation]":
        """All that the gateway knows now; it comes when the data path gets to it."""
        return self._ask(self._situation)

    def _ask(self, do: Callable[[], T]) -> "Future[T]":
        answer: Future[T] = Future()
        self._inbox.put(_Call(do, answer))
        return answer

    def _call(self, do: Callable[[], T]) -> T:
        try:
            return self._ask(do).result(COMMAND_TIMEOUT_S)
        except FutureTimeout:
            raise WireError("the gateway is busy, try again") from None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self._own.start()
        if self._clock.synchronised():  # before the first reading, which then needs no other time later
            self._note_synchronised()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take what the transports have posted, save the rules' states, and end."""
        self._inbox.put(None)
        if self._thread:
            self._thread.join()

    def alive(self, within_s: float) -> bool:
        """Whether the data path went round within so many real seconds."""
        return self._clock.real(self._clock.boot() - self._next_tick_s) < within_s

    def recover(self, saved: dict[str, str]) -> None:
        """Resume the rules where they stood: saved states, then every reading journaled since, judged at its own time."""
        now, wall = self._clock.boot(), self._clock.wall()
        progress = self._log.progress()
        same_boot = progress is not None and progress.boot_id == self._clock.boot_id
        shift = 0.0 if progress is None or same_boot else now - max(0.0, wall - progress.wall_s) - progress.boot_s
        states = readable(saved, self._watch.rules)
        for rule in saved.keys() - self._watch.rules.keys():
            log.warning("rule %s: no longer configured, its state stays in the alarm log", rule)
        judged = progress.judged if progress else self._journal.head
        history_s = max((w.history_s for w in self._watch.sensors.values()), default=0.0)
        rows = self._journal.since(min(wall - history_s, progress.wall_s if progress else wall))
        for row in rows:
            key, _, quantity = row.series.rpartition("/")
            if quantity == "air_temperature":
                self._air.note(key, self._boot_of(row, now, wall), row.value, row.qc)
        for key, watched in self._watch.sensors.items():
            past = [
                (self._boot_of(row, now, wall), row.series.rpartition("/")[2], self._as_now(row, wall))
                for row in rows
                if row.number <= judged and row.series.startswith(key + "/") and row.qc in (1, 2, 3)
            ]
            self._alarms.resume(watched.rules, states, now, shift, past)
        for of in (*(watched.rules for watched in self._watch.means.values()), self._watch.own):
            self._alarms.resume(of, states, now, shift)
        self._remember(now, wall, judged)
        for row in rows:
            if row.number > judged:
                key, _, quantity = row.series.rpartition("/")
                if key in self._watch.sensors:
                    observation = Observation(
                        boot_s=self._boot_of(row, now, wall), quantity=quantity, value=row.value, qc=row.qc
                    )
                    self._alarms.observe(self._watch.sensors[key].rules, [observation])
        self._alarms.recall(now)
        self._next_snapshot_s = now

    def _remember(self, now: float, wall: float, judged: int) -> None:
        """Quality control and running means go on where they were, as far as the newest readings tell."""
        start_s = wall - max((qc.history_s(watched.sensor) for watched in self._watch.sensors.values()), default=0.0)
        for row in self._journal.rows(self._journal.head - QC_ROWS + 1, self._journal.head):
            key, _, quantity = row.series.rpartition("/")
            if key in self._qc and row.wall_ms >= start_s * 1000:
                boot_s = self._boot_of(row, now, wall)
                dated = row.boot == self._journal.boot or (row.synchronised and self._clock.synchronised())
                if dated and row.qc in (1, 2, 3):  # else nobody can say how old it is
                    self._latest.usable[row.series] = Usable(row.value, boot_s, row.qc)
                self._qc[key].remember(boot_s, quantity, self._as_now(row, wall))
                for watched, observation in self._average(key, quantity, boot_s, row.value, row.qc):
                    if row.number > judged:
                        self._alarms.observe(watched.rules, [observation])

    def _as_now(self, row: Row, wall: float) -> float:
        """A row's value by the calibration of now: one that has begun meanwhile is no rise of the water."""
        key, _, quantity = row.series.rpartition("/")
        history = self._watch.sensors[key].sensor.calibration
        return recalibrated(history, quantity, row.value, row.wall_ms / 1000, wall)

    def _boot_of(self, row: Row, now: float, wall: float) -> float:
        """A row's moment on this boot's scale."""
        if row.boot == self._journal.boot:
            return row.boot_ms / 1000
        return now - max(0.0, wall - row.wall_ms / 1000)

    # ------------------------------------------------------------------ the data path

    def _run(self) -> None:
        while True:
            batch, calls, stopping = self._next_batch()
            now = self._clock.boot()
            if batch or self._unwritten:
                self._take(batch)
            for call in calls:
                self._answer(call)
            if now >= self._next_tick_s or stopping:
                self._next_tick_s = now + TICK_S
                self._tick(now)
            if self._alarms.unsaved or now >= self._next_look_s:
                self._look(now)
            if self._alarms.unsaved or now >= self._next_snapshot_s or stopping:
                self._save(now)
            if stopping:
                if self._unwritten:
                    log.error("%d readings that the disk did not take are lost", len(self._unwritten))
                return

    def _next_batch(self) -> tuple[list[Sample], list[_Call], bool]:
        samples: list[Sample] = []
        calls: list[_Call] = []
        timeout = max(0.0, self._clock.real(self._next_tick_s - self._clock.boot()))
        try:
            item = self._inbox.get(timeout=max(timeout, 0.02))
            while True:
                if item is None:
                    return samples, calls, True
                if isinstance(item, _Call):
                    calls.append(item)
                else:
                    samples.append(item)
                if len(samples) >= MAX_BATCH:
                    break
                item = self._inbox.get_nowait()
        except queue.Empty:
            pass
        return samples, calls, False

    def _take(self, samples: Sequence[Sample]) -> None:
        """Qualify, judge, act, keep, forward: a siren must not wait for a disk. Logging (`_save`) follows before the next batch."""
        new: list[NewRow] = []
        observed: list[tuple[Watched, list[Observation]]] = []
        for sample in samples:
            watched = self._watch.sensors[sample.key]
            if self._power is not None:
                self._power.heard(
                    sample.key, answered=sample.error is None or sample.error.kind not in COMMUNICATION_KINDS
                )
            readings, observations = self._qualify(watched, sample)
            observations += _health_observations(sample)
            self._latest.attempt(watched.sensor, sample, readings)
            for reading in readings:
                if reading.series.endswith("/air_temperature"):
                    self._air.note(sample.key, sample.boot_s, reading.value, reading.qc)
            new += [NewRow(r.series, r.value, r.qc, sample.wall_s, sample.boot_s) for r in readings]
            if not self._latest.told(sample, readings):
                continue  # it is kept, but what it says is over
            observed.append((watched, observations))
            for seen in observations:
                if seen.value is not None and seen.quantity is not None and not seen.health:
                    means = self._average(sample.key, seen.quantity, seen.boot_s, seen.value, seen.qc)
                    observed += [(watching, [mean]) for watching, mean in means]
        for watched, observations in observed:
            self._alarms.observe(watched.rules, observations)
        self._act()
        self._keep(new)
        self._uplink.wake()

    def _qualify(self, watched: Watched, sample: Sample) -> tuple[list[Qualified], list[Observation]]:
        station = watched.station.id
        at_s, humidity = self._humidity.get(station, (0.0, None))
        if abs(sample.boot_s - at_s) > HUMIDITY_S:
            humidity = None
        qualified = qualify(watched.sensor, sample, self._qc[sample.key], self._around(watched, sample), humidity)
        for seen in qualified[1]:
            if seen.quantity == "relative_humidity" and seen.bound is not None:
                self._humidity[station] = (seen.boot_s, seen.bound)
        return qualified

    def _around(self, watched: Watched, sample: Sample) -> Around:
        # A clock that was never set says an early time, at which the newest calibration had not begun.
        at_s = sample.wall_s if self._synchronised else math.inf
        air, air_cel = watched.sensor.air, None
        if air is not None:
            air_cel = self._air.at(f"{watched.station.id}/{air.sensor}", sample.boot_s, air.max_age_s)
        return Around(at_s, watched.sound_m_s, air_cel)

    def _average(
        self, key: str, quantity: str, boot_s: float, value: float, flag: int
    ) -> list[tuple[Watched, Observation]]:
        """Take a reading into its running means. At the end of an hour: what the rules on them shall observe."""
        if quantity not in MEANT or flag not in (1, 2, 3):
            return []
        series, sensor = f"{key}/{quantity}", self._watch.sensors[key].sensor
        period_s = drivers.find(sensor.driver).period_s if sensor.period_s is None else sensor.period_s
        means = self._averages.add(series, max(period_s, 60.0), boot_s, value)
        if means is None:
            return []
        return [
            (watched, Observation(boot_s=boot_s, quantity=quantity, value=mean, qc=9 if mean is None else 2))
            for (of, hours), watched in self._watch.means.items()
            if of == series
            for mean in [means.over(hours)]
        ]

    def _keep(self, new: Iterable[NewRow]) -> None:
        waiting = self._unwritten
        held = len(waiting)
        waiting.extend(new)
        try:
            while waiting:  # a part at a time: a disk that takes nothing must not be asked with all that waits
                part = list(itertools.islice(waiting, WRITTEN_AT_ONCE))
                self._journal.append(part)
                for _ in part:
                    waiting.popleft()
        except JournalUnwritable as e:
            if not held:
                log.error("readings are held in memory: %s", e)
            over = max(0, len(waiting) - MAX_UNWRITTEN)
            if over and not self._giving_up:
                log.error("memory is full: from now on the oldest readings are given up")
            self._giving_up |= over > 0
            self._given_up += over
            for _ in range(over):
                waiting.popleft()
            return
        self._giving_up = False
        if held:
            log.info(
                "readings are written again, %d that were held among them, %d were given up since the start",
                held,
                self._given_up,
            )
        if self.hurried:
            self._journal.sync()

    def _act(self) -> None:
        """Outputs are a function of state. They come before the log: a siren must not wait for a disk."""
        self._alarms.suppress(self._clock.boot())
        if self._alarms.exercise is not None and (rule := self._alarms.pressing) is not None:
            self._end_exercise(f"a real alarm has begun: {rule}")
        if self._siren is None or self._config.outputs.siren is None:
            return
        settings = self._config.outputs.siren
        alarms = [
            SirenInput(s.level, s.state, s.announced_s or 0.0)
            for s in self._alarms.states.values()
            if s.state == "UNACK" and s.withheld is None
        ]
        self._sounding = should_sound(self._clock.boot(), alarms, settings.min_level, settings.max_s)
        self._siren.want(self._sounding)

    def _save(self, now: float) -> None:
        """Log events, states and progress. A disk that takes none: they stay, and are tried again."""
        # Readings that are only in memory were judged, but the journal does not have them: progress cannot pass them.
        saved = self._alarms.save(Progress(self._journal.head, self._clock.boot_id, now, self._clock.wall()))
        self._next_snapshot_s = now + (HEALTH_S if saved is None else SNAPSHOT_S)
        if saved:
            self._uplink.wake()
            self._uplink.publish_active()

    # ------------------------------------------------------------------ each second, each minute

    def _tick(self, now: float) -> None:
        if self._today() != self.day:
            self._begin_day()
        self._alarms.tick(now)
        self._act()
        if self._alarms.exercise is not None and now >= self._exercise_until_s:
            self._end_exercise("its time was over")
        if not self._synchronised and self._clock.synchronised():
            self._note_synchronised()
        if now >= self._next_health_s:
            self._next_health_s = now + HEALTH_S
            health = self._health(now)
            self._said = {record["n"]: record["v"] for record in health}
            self._judge_self(now, health)
            self._uplink.publish_health(health)

    def _look(self, now: float) -> None:
        """Judge whether to hurry."""
        self._next_look_s = now + LOOK_S
        if not self._alarms.urgent:
            return
        calm, self._hurried_until_s = not self.hurried, now + HURRY_S
        if calm:
            log.info("a watched level rises or has reached its threshold: readings are hurried")
            self._journal.sync()
            self._uplink.wake()

    def _health(self, now: float) -> list[Record]:
        at = round(self._clock.wall(), 3)
        values = self._own.values(now, synchronised=self._synchronised, in_memory=len(self._unwritten))
        states = self._alarms.states.values()
        values["readings_given_up"] = self._given_up
        values["alarms_active"] = sum(1 for s in states if s.state != "NORMAL")
        values["alarms_withheld"] = sum(1 for s in states if s.withheld is not None)
        values |= {f"{key}/missed": count for key, count in self._latest.missed.items()}
        if self._power is not None:
            values |= {f"{key}/power_cycles": count for key, count in self._power.cycles.items()}
        values |= {f"{key}/{name}": count for key, checks in self._qc.items() for name, count in checks.found.items()}
        values |= self._latest.side
        values |= self._averages.indicators(now, MEANS_S)
        return [{"n": name, "t": at, "v": value} for name, value in values.items()]

    def _judge_self(self, now: float, health: Sequence[Record]) -> None:
        self._alarms.observe(
            self._watch.own,
            [Observation(boot_s=now, quantity=r["n"], value=r["v"], qc=2, health=True) for r in health],
        )

    def _note_synchronised(self) -> None:
        try:
            self._journal.synchronised(round((self._clock.wall() - self._clock.boot()) * 1000))
        except JournalUnwritable:
            return
        self._synchronised = True
        self._uplink.wake()

    def _dated(self) -> bool:
        return self._synchronised or self._clock.synchronised()

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.wall(), BRUSSELS).date()

    def _begin_day(self) -> None:
        changed = self._watch.begin(self._today())
        if changed:
            log.info("other thresholds from %s on: %s", self.day, ", ".join(changed))
            self._uplink.publish_stations()

    # ------------------------------------------------------------------ what other threads have asked

    def _answer(self, call: _Call) -> None:
        if not call.answer.set_running_or_notify_cancel():
            return
        try:
            call.answer.set_result(call.do())
        except WireError as e:
            call.answer.set_exception(e)
        except Exception as e:
            # Who asked gets an answer, and the data path goes on: it watches the water.
            log.exception("a call failed by a fault of this program")
            call.answer.set_exception(WireError(f"the gateway could not do it: {e!r}"))

    def _ordered(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What a person wanted is done: act upon it before they hear so."""
        self._act()
        return answer

    def _begin_exercise(self, station: str, level: int, by: str, until_boot_s: float) -> AlarmEvent:
        if self._status != "Actual":
            raise WireError("this whole gateway is in an exercise")
        event = self._alarms.begin_exercise(station, level, by)
        self._exercise_until_s, self._exercise_ended = until_boot_s, ""
        return event

    def _end_exercise(self, note: str) -> None:
        if self._alarms.exercise is not None:
            self._exercise_ended = note
            self._alarms.end_exercise(note)

    def _acknowledge_heard(self, since_boot_s: float) -> None:
        settings = self._config.outputs.siren
        if settings is not None:
            self._alarms.acknowledge_heard(settings.min_level, since_boot_s)
            self._act()

    def _situation(self) -> Situation:
        now = self._clock.boot()
        return Situation(
            gateway=self._config.gateway.id,
            status=self._status,
            boot_s=now,
            wall_s=self._clock.wall(),
            started_s=self._clock.wall_of(self._own.started_s),
            clock_synchronised=self._dated(),
            stations=self._overview.stations(),
            alarms=self._overview.alarms(),
            siren=self._sounding is not None if self._siren is not None else None,
            linked=self._uplink.connected if self._config.mqtt is not None else None,
            waiting=self._journal.depth,
            unconfirmed_s=self._own.unconfirmed_s(now),
            in_memory=len(self._unwritten),
            exercise_s=from_rfc3339(exercise.time) if (exercise := self._alarms.exercise) else None,
            health=self._said,
        )


def _health_observations(sample: Sample) -> list[Observation]:
    """What the rules may judge of the sensor's own health, as its battery."""
    return [
        Observation(boot_s=sample.boot_s, quantity=field.name, value=float(field.value), qc=2, health=True)
        for field in sample.side
        if field.name in QUANTITIES and isinstance(field.value, int | float)
    ]
