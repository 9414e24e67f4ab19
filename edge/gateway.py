"""The data path of a gateway, top to bottom: a sample is qualified, kept, judged, acted upon, logged, forwarded.

One thread does all of it, in that order, so what is true after each step is easy to say. Ports, the uplink, the siren and
the SMS modem have threads of their own and only post to this one's queue or are woken by it: none of them can hold it up.
"""

import logging
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

from common import texts
from common.clock import BRUSSELS, Clock, from_rfc3339, rfc3339
from common.texts import Present
from edge import air, drivers, qc, rules
from edge.alarm_log import AlarmLog, AlarmLogUnwritable, Progress
from edge.calibration import DISTANCE, Air, Around, recalibrated, reckoned_sound, upright
from edge.config import MEANT, CommFailRule, EdgeConfig, HighRule, LowRule, Rule, Sensor, StaleRule, Station
from edge.errors import EdgeError
from edge.journal import Journal, JournalUnwritable, NewRow, Row
from edge.outputs.siren import SirenInput, should_sound
from edge.qualify import Qualified, published, qualify
from edge.rules import AlarmState, LevelRule, Observation, SensorRules, Transition
from edge.sample import Sample
from edge.sensors.base import COMMUNICATION_KINDS
from edge.situation import Measure, SensorNow, Situation, Standing, StationNow, Trouble
from edge.vitals import vitals
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
MAX_UNWRITTEN = 20_000
"""Readings held in memory while the disk takes none; beyond that the oldest go, counted and logged."""
COMMAND_TIMEOUT_S = 5.0
SAME_SHELF_S = 1.0
"""Two ends of a shelf, counted on boot time from a wall clock, that are the same one."""
QC_ROWS = 60_000
"""So many readings quality control looks back upon after a restart: a day of 40 series a minute, read in a second or two."""
MEANS_S = 2 * air.HOUR_S
"""After the end of their hour, running means are told for so long; a rule that gets none for so long has lost its data."""
RECENT_S = 3600.0
"""So much of a level is drawn on the page."""
MIN_TREND_S = 600.0
"""A step between the first readings after a start would read there as metres per hour."""
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


@dataclass(frozen=True, slots=True)
class _Watched:
    """A sensor with its rules."""

    station: Station
    sensor: Sensor
    rules: SensorRules
    sound_m_s: float | None

    @property
    def history_s(self) -> float:
        """How far back the journal has what this sensor needs after a restart."""
        return max(self.rules.history_s, self.sensor.air.max_age_s if self.sensor.air else 0.0)


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
        self._alarms = alarms
        self._siren = siren
        self._power = power
        self._status: Status = "Exercise" if clock.exercise else status
        self._uplink: Forwarder = NoUplink()
        self._reporters: list[Callable[[], Mapping[str, float]]] = []
        self._inbox: queue.SimpleQueue[Sample | _Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.day = self._today()
        """The Belgian day whose thresholds hold."""
        self._sensors: dict[str, _Watched] = {}
        self._mean_rules: dict[tuple[str, int], _Watched] = {}
        """By series and hours: the rules that judge a running mean."""
        self._rules: dict[str, tuple[_Watched | None, Rule]] = {}
        self._own = SensorRules(config.own_rules, math.inf)
        self._confirmed = (0, 0.0)
        """How many readings central has confirmed, and since when no more: at first since the start."""
        self._set_rules()
        self._states: dict[str, AlarmState] = {}
        self._unsaved: list[AlarmEvent] = []
        self._unlogged = False
        self._unwritten: list[NewRow] = []
        self._air = Air()
        self._askew: set[str] = set()
        self._missed: Counter[str] = Counter()
        self._qc = {key: qc.SensorQc(watched.sensor) for key, watched in self._sensors.items()}
        self._humidity: dict[str, tuple[float, float]] = {}
        """Of a station: boot second, %RH."""
        self._averages: dict[str, air.RunningMeans] = {}
        self._means: dict[str, air.Means] = {}
        """Of a series, the newest."""
        self._side: dict[str, float] = {}
        self._newest: dict[str, tuple[float, float, int]] = {}
        """Of a series, the newest usable value: value, boot second, flag."""
        self._refused: dict[str, float] = {}
        """Of a series, since which boot second its values are flag 4."""
        self._troubled: dict[str, tuple[str, str, float]] = {}
        """Of a sensor that gives nothing usable: the kind of error, what was said, since which boot second."""
        self._answers: dict[str, dict[str, AlarmEvent]] = {}
        """Of a standing occurrence, the last acknowledgement and shelving."""
        self._sounding: SirenInput | None = None
        self._said: dict[str, float] = {}
        """The health as told last."""
        self._judged_s: dict[str, float] = {}
        self._started_s = 0.0
        self._next_tick_s = 0.0
        self._next_health_s = 0.0
        self._next_snapshot_s = 0.0
        self._next_look_s = 0.0
        self._hurried_until_s = -math.inf
        self._synchronised = False

    def attach(self, uplink: Forwarder) -> None:
        """Forward to this uplink; before `start()`."""
        self._uplink = uplink

    def report(self, health: Callable[[], Mapping[str, float]]) -> None:
        """Tell in health, and judge, what this gives too (it must not wait); before `start()`."""
        self._reporters.append(health)

    # ------------------------------------------------------------------ from other threads

    def post(self, sample: Sample) -> None:
        """A transport has a sample."""
        self._inbox.put(sample)

    def command(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do a verified command of central. Raises WireError when it cannot be done."""
        match name:
            case commands.ACK:
                ack = commands.parse(commands.Ack, arguments)
                return self._call(lambda: self._acknowledge(ack))
            case commands.SHELVE:
                shelve = commands.parse(commands.Shelve, arguments)
                return self._call(lambda: self._shelve(shelve))
            case commands.RESET:
                reset = commands.parse(commands.Reset, arguments)
                return self._call(lambda: self._reset(reset))
            case commands.RESEND:
                resend = commands.parse(commands.Resend, arguments)
                if resend.journal != self._journal.id:
                    raise WireError(f"journal {resend.journal!r}, this one is {self._journal.id}")
                count = self._journal.resend(resend.first, resend.last)
                self._uplink.wake()
                return {"readings": count}
        raise WireError(f"command {name!r} is unknown, expected ack, shelve, reset or resend")

    @property
    def hurried(self) -> bool:
        """Whether readings are urgent: a level or rate alarm stands, or a watched level rises, or did ten minutes ago."""
        return self._clock.boot() < self._hurried_until_s

    def told(self, event: AlarmEvent, notified: tuple[Notified, ...]) -> None:
        """The gateway's own SMS about `event` were tried. Nobody waits for the log of it: the next SMS may be due."""
        self._inbox.put(_Call(lambda: self._report_notified(event, notified), Future()))

    def acknowledge(self, occurrence: str, by: str, level: int | None) -> None:
        """A person did, here and not at central. Raises WireError when it cannot be done."""
        ack = commands.Ack(id=self._new_id(), occurrence=occurrence, by=by, at=rfc3339(self._clock.wall()), level=level)
        self._call(lambda: self._acknowledge(ack))

    def pressed(self, since_boot_s: float) -> None:
        """Somebody has pressed the button beside the siren at that time: what it sounds for, or did, is acknowledged. Not what was
        raised or became worse since: nobody had heard it. Does not wait."""
        self._inbox.put(_Call(lambda: self._acknowledge_heard(since_boot_s), Future()))

    def present(self) -> list[Present]:
        """What each station's watched quantities are now, in the order of the configuration."""
        return self._call(self._present)

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
        self._started_s = self._clock.boot()
        self._confirmed = (self._journal.head - self._journal.depth, self._started_s)
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
        progress = self._alarms.progress()
        same_boot = progress is not None and progress.boot_id == self._clock.boot_id
        shift = 0.0 if progress is None or same_boot else now - max(0.0, wall - progress.wall_s) - progress.boot_s
        states = _readable(saved, self._rules)
        for rule in saved.keys() - self._rules.keys():
            log.warning("rule %s: no longer configured, its state stays in the alarm log", rule)
        judged = progress.judged if progress else self._journal.head
        history_s = max((w.history_s for w in self._sensors.values()), default=0.0)
        rows = self._journal.since(min(wall - history_s, progress.wall_s if progress else wall))
        for row in rows:
            key, _, quantity = row.series.rpartition("/")
            if quantity == "air_temperature":
                self._air.note(key, self._boot_of(row, now, wall), row.value, row.qc)
        for key, watched in self._sensors.items():
            past = [
                (self._boot_of(row, now, wall), row.series.rpartition("/")[2], self._as_now(row, wall))
                for row in rows
                if row.number <= judged and row.series.startswith(key + "/") and row.qc in (1, 2, 3)
            ]
            mine = {rule.id: states[rule.id] for rule in watched.rules.rules if rule.id in states}
            self._states |= rules.resume(watched.rules, mine, now, shift_s=shift, history=past)
        for watched in self._mean_rules.values():
            mine = {rule.id: states[rule.id] for rule in watched.rules.rules if rule.id in states}
            self._states |= rules.resume(watched.rules, mine, now, shift_s=shift)
        own = {rule.id: states[rule.id] for rule in self._own.rules if rule.id in states}
        self._states |= rules.resume(self._own, own, now, shift_s=shift)
        self._remember(now, wall, judged)
        for row in rows:
            if row.number > judged:
                key, _, quantity = row.series.rpartition("/")
                if key in self._sensors:
                    observation = Observation(
                        boot_s=self._boot_of(row, now, wall), quantity=quantity, value=row.value, qc=row.qc
                    )
                    self._judge(self._sensors[key], [observation])
        try:
            for event in self._alarms.answers():
                self._answers.setdefault(event.occurrence, {})[event.transition] = event
        except (EdgeError, WireError) as e:
            log.warning("who acknowledged the alarms that stand is not known: %s", e)
        for rule_id, (owner, configured) in self._rules.items():
            out = owner is not None and owner.sensor.out_of_service
            self._change(rule_id, rules.put_out_of_service(configured, self._states[rule_id], now, out=out))
        self._suppress(now)
        self._next_snapshot_s = now

    def _remember(self, now: float, wall: float, judged: int) -> None:
        """Quality control and running means go on where they were, as far as the newest readings tell."""
        start_s = wall - max((qc.history_s(watched.sensor) for watched in self._sensors.values()), default=0.0)
        for row in self._journal.rows(self._journal.head - QC_ROWS + 1, self._journal.head):
            key, _, quantity = row.series.rpartition("/")
            if key in self._qc and row.wall_ms >= start_s * 1000:
                boot_s = self._boot_of(row, now, wall)
                dated = row.boot == self._journal.boot or (row.synchronised and self._clock.synchronised())
                if dated and row.qc in (1, 2, 3):  # else nobody can say how old it is
                    self._newest[row.series] = (row.value, boot_s, row.qc)
                self._qc[key].remember(boot_s, quantity, self._as_now(row, wall))
                for watched, observation in self._average(key, quantity, boot_s, row.value, row.qc):
                    if row.number > judged:
                        self._judge(watched, [observation])

    def _as_now(self, row: Row, wall: float) -> float:
        """A row's value by the calibration of now: one that has begun meanwhile is no rise of the water."""
        key, _, quantity = row.series.rpartition("/")
        history = self._sensors[key].sensor.calibration
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
            if self._unsaved or now >= self._next_look_s:
                self._look(now)
            if self._unsaved or now >= self._next_snapshot_s or stopping:
                self._save(now)
            if stopping:
                if self._unwritten:
                    log.error("%d readings that the disk did not take are lost", len(self._unwritten))
                return

    def _take(self, samples: Sequence[Sample]) -> None:
        """Qualify, keep, judge, act. Logging (`_save`) follows before the next batch."""
        new: list[NewRow] = []
        observed: list[tuple[_Watched, list[Observation]]] = []
        for sample in samples:
            watched = self._sensors[sample.key]
            if self._power is not None:
                self._power.heard(
                    sample.key, answered=sample.error is None or sample.error.kind not in COMMUNICATION_KINDS
                )
            readings, observations = self._qualify(watched, sample)
            observations += _health_observations(sample)
            self._note_health(sample, readings)
            for reading in readings:
                if reading.series.endswith("/air_temperature"):
                    self._air.note(sample.key, sample.boot_s, reading.value, reading.qc)
            new += [NewRow(r.series, r.value, r.qc, sample.wall_s, sample.boot_s) for r in readings]
            if sample.fields:
                # A record that a device kept comes behind newer values: it is kept, but what it says is over.
                newest = self._judged_s.get(sample.key, sample.boot_s)
                if sample.boot_s < newest:
                    continue
                self._judged_s[sample.key] = sample.boot_s
                for r in readings:
                    if r.qc in (1, 2, 3):
                        self._newest[r.series] = (r.value, sample.boot_s, r.qc)
                        self._refused.pop(r.series, None)
                    else:
                        self._refused.setdefault(r.series, sample.boot_s)
            observed.append((watched, observations))
            for seen in observations:
                if seen.value is not None and seen.quantity is not None and not seen.health:
                    means = self._average(sample.key, seen.quantity, seen.boot_s, seen.value, seen.qc)
                    observed += [(watching, [mean]) for watching, mean in means]
        self._keep(new)
        self._uplink.wake()
        for watched, observations in observed:
            self._judge(watched, observations)
        self._act()

    def _around(self, watched: _Watched, sample: Sample) -> Around:
        # A clock that was never set says an early time, at which the newest calibration had not begun.
        at_s = sample.wall_s if self._synchronised else math.inf
        air, air_cel = watched.sensor.air, None
        if air is not None:
            air_cel = self._air.at(f"{watched.station.id}/{air.sensor}", sample.boot_s, air.max_age_s)
        return Around(at_s, watched.sound_m_s, air_cel)

    def _qualify(self, watched: _Watched, sample: Sample) -> tuple[list[Qualified], list[Observation]]:
        station = watched.station.id
        at_s, humidity = self._humidity.get(station, (0.0, None))
        if abs(sample.boot_s - at_s) > HUMIDITY_S:
            humidity = None
        qualified = qualify(watched.sensor, sample, self._qc[sample.key], self._around(watched, sample), humidity)
        for seen in qualified[1]:
            if seen.quantity == "relative_humidity" and seen.bound is not None:
                self._humidity[station] = (seen.boot_s, seen.bound)
        return qualified

    def _average(
        self, key: str, quantity: str, boot_s: float, value: float, flag: int
    ) -> list[tuple[_Watched, Observation]]:
        """Take a reading into its running means. At the end of an hour: what the rules on them shall observe."""
        if quantity not in MEANT or flag not in (1, 2, 3):
            return []
        series = f"{key}/{quantity}"
        if series not in self._averages:
            sensor = self._sensors[key].sensor
            period_s = drivers.find(sensor.driver).period_s if sensor.period_s is None else sensor.period_s
            self._averages[series] = air.RunningMeans(max(period_s, 60.0))
        means = self._averages[series].add(boot_s, value)
        if means is None:
            return []
        self._means[series] = means
        return [
            (watched, Observation(boot_s=boot_s, quantity=quantity, value=mean, qc=9 if mean is None else 2))
            for (of, hours), watched in self._mean_rules.items()
            if of == series
            for mean in [means.over(hours)]
        ]

    def _keep(self, new: list[NewRow]) -> None:
        rows = self._unwritten + new
        try:
            self._journal.append(rows)
        except JournalUnwritable as e:
            if not self._unwritten:
                log.error("readings are held in memory: %s", e)
            if len(rows) > MAX_UNWRITTEN:
                log.error("memory is full: %d readings are given up", len(rows) - MAX_UNWRITTEN)
            self._unwritten = rows[-MAX_UNWRITTEN:]
            return
        if self._unwritten:
            log.info("readings are written again, %d that were held among them", len(self._unwritten))
        self._unwritten = []
        if self.hurried:
            self._journal.sync()

    def _judge(self, watched: _Watched, observations: Sequence[Observation]) -> None:
        for observation in observations:
            states, transitions = rules.observe(watched.rules, self._states, observation, self._new_id)
            self._states |= states
            self._note(transitions)

    def _tick(self, now: float) -> None:
        if self._today() != self.day:
            self._begin_day()
        for watched in (*self._sensors.values(), *self._mean_rules.values()):
            states, transitions = rules.tick(watched.rules, self._states, now, self._new_id)
            self._states |= states
            self._note(transitions)
        self._act()
        if not self._synchronised and self._clock.synchronised():
            self._note_synchronised()
        if now >= self._next_health_s:
            self._next_health_s = now + HEALTH_S
            health = self._health(now)
            self._said = {record["n"]: record["v"] for record in health}
            self._judge_self(now, health)
            self._uplink.publish_health(health)

    def _look(self, now: float) -> None:
        """Judge whether to hurry. A trend costs too much to reckon it with each reading."""
        self._next_look_s = now + LOOK_S
        if not any(
            rules.urgent(rule, self._states[rule_id])
            for rule_id, (_, rule) in self._rules.items()
            if rule_id in self._states
        ):
            return
        calm, self._hurried_until_s = not self.hurried, now + HURRY_S
        if calm:
            log.info("a watched level rises or has reached its threshold: readings are hurried")
            self._journal.sync()
            self._uplink.wake()

    def _judge_self(self, now: float, health: Sequence[Record]) -> None:
        for record in health:
            observation = Observation(boot_s=now, quantity=record["n"], value=record["v"], qc=2, health=True)
            states, transitions = rules.observe(self._own, self._states, observation, self._new_id)
            self._states |= states
            self._note(transitions)

    def _act(self) -> None:
        """Outputs are a function of state. They come before the log: a siren must not wait for a disk."""
        self._suppress(self._clock.boot())
        if self._siren is None or self._config.outputs.siren is None:
            return
        settings = self._config.outputs.siren
        alarms = [
            SirenInput(s.level, s.state, s.announced_s or 0.0)
            for s in self._states.values()
            if s.state == "UNACK" and s.withheld is None
        ]
        self._sounding = should_sound(self._clock.boot(), alarms, settings.min_level, settings.max_s)
        self._siren.want(self._sounding)

    def _save(self, now: float) -> None:
        """Events, states and progress in one transaction. A disk that takes none: they stay, and are tried again."""
        states = {rule: state.to_json() for rule, state in self._states.items()}
        # Readings that are only in memory were judged, but the journal does not have them: progress cannot pass them.
        progress = Progress(self._journal.head, self._clock.boot_id, now, self._clock.wall())
        # Numbered anew: after a refused commit the log may go on at another number.
        first = self._alarms.next_seq
        events = [event.model_copy(update={"seq": first + i}) for i, event in enumerate(self._unsaved)]
        try:
            self._alarms.commit(events, states, progress)
        except AlarmLogUnwritable as e:
            if not self._unlogged:
                log.error("transitions are held in memory: %s", e)
            self._unlogged = True
            self._next_snapshot_s = now + HEALTH_S
            return
        if self._unlogged:
            log.info("transitions are written again")
        self._unlogged = False
        self._unsaved = []
        self._next_snapshot_s = now + SNAPSHOT_S
        if events:
            self._uplink.wake()
            self._uplink.publish_active()

    # ------------------------------------------------------------------ inside

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

    def _new_id(self) -> str:
        return uuid7(self._clock.wall())

    def _note_synchronised(self) -> None:
        try:
            self._journal.synchronised(round((self._clock.wall() - self._clock.boot()) * 1000))
        except JournalUnwritable:
            return
        self._synchronised = True
        self._uplink.wake()

    def _note_health(self, sample: Sample, readings: Sequence[Qualified]) -> None:
        if len(readings) < max(1, len(sample.fields)):
            self._missed[sample.key] += 1
        if readings:
            self._troubled.pop(sample.key, None)
        else:
            kind, detail = (sample.error.kind, sample.error.reason) if sample.error else ("no_data", "")
            since_s = self._troubled.get(sample.key, ("", "", sample.boot_s))[2]
            self._troubled[sample.key] = (kind, detail, since_s)
        if any(field.name == DISTANCE for field in sample.fields):
            askew = upright(self._sensors[sample.key].sensor.tilt, sample) is not sample
            if askew and sample.key not in self._askew:
                log.warning("%s hangs askew: its distance is not taken", sample.key)
                self._askew.add(sample.key)
            elif not askew and sample.key in self._askew:
                log.info("%s hangs as it should again", sample.key)
                self._askew.remove(sample.key)
        for field in (*sample.side, *(r.measured for r in readings if r.measured is not None)):
            if isinstance(field.value, int | float):
                self._side[f"{sample.key}/{field.name}"] = float(field.value)

    def _health(self, now: float) -> list[Record]:
        at = round(self._clock.wall(), 3)
        values: dict[str, float] = {
            "journal_depth": self._journal.depth,
            "journal_head": self._journal.head,
            "journal_damaged": self._journal.corrupt,
            "journal_thinned": self._journal.thinned,
            "readings_in_memory": len(self._unwritten),
            "clock_synchronised": float(self._synchronised),
            "uptime_s": round(now - self._started_s, 1),
            "unconfirmed_s": round(self._unconfirmed_s(now), 1),
            "unsynchronised_s": 0.0 if self._synchronised else round(now - self._started_s, 1),
            "alarms_active": sum(1 for s in self._states.values() if s.state != "NORMAL"),
            "alarms_withheld": sum(1 for s in self._states.values() if s.withheld is not None),
        }
        values |= vitals(self._config.gateway.data_dir)
        for health in self._reporters:
            values |= health()
        values |= {f"{key}/missed": count for key, count in self._missed.items()}
        if self._power is not None:
            values |= {f"{key}/power_cycles": count for key, count in self._power.cycles.items()}
        values |= {f"{key}/{name}": count for key, checks in self._qc.items() for name, count in checks.found.items()}
        values |= self._side
        fresh: dict[str, dict[str, air.Means]] = {}
        for series, means in self._means.items():
            if now - means.end_s < MEANS_S:
                key, _, quantity = series.rpartition("/")
                fresh.setdefault(key, {})[quantity] = means
        values |= {f"{key}/{name}": v for key, of in fresh.items() for name, v in air.indicators(of).items()}
        return [{"n": name, "t": at, "v": value} for name, value in values.items()]

    def _unconfirmed_s(self, now: float) -> float:
        """For how long readings have waited without a receipt for any."""
        depth = self._journal.depth
        confirmed = self._journal.head - depth
        if depth == 0 or confirmed != self._confirmed[0]:
            self._confirmed = (confirmed, now)
        return now - self._confirmed[1]

    def _event(self, t: Transition, ahead: int) -> AlarmEvent:
        watched, rule = self._rules[t.rule]
        quantity = rule.quantity if isinstance(rule, LevelRule) else None
        log.warning("alarm %s: %s to level %d, %s", t.rule, t.transition, t.level, t.state)
        event = AlarmEvent(
            id=uuid7(self._clock.wall()),
            occurrence=t.occurrence,
            seq=self._alarms.next_seq + ahead,
            source="gateway",
            gateway=self._config.gateway.id,
            station=watched.station.id if watched else None,
            sensor=watched.sensor.id if watched else None,
            quantity=quantity,
            rule=t.rule,
            kind=t.kind,
            transition=t.transition,
            state=t.state,
            level=t.level,
            value=t.value,
            unit=QUANTITIES[quantity].unit if quantity in QUANTITIES else None,
            threshold=t.threshold,
            trend_per_h=round(t.trend_per_h, 4) if t.trend_per_h is not None else None,
            next_level_at=self._rfc3339(t.next_level_s),
            time=rfc3339(self._wall_of(t.boot_s)),
            clock="synchronised" if self._synchronised or self._clock.synchronised() else "estimated",
            data_lost=t.data_lost,
            status=self._status,
            by=t.by,
            until=self._rfc3339(t.until_s),
            withheld=t.withheld,
            note=t.note or ("at least" if t.at_least else None),
            mean_h=rule.mean_h if isinstance(rule, HighRule) else None,
        )
        if t.transition in ("ack", "shelve"):
            self._answers.setdefault(t.occurrence, {})[t.transition] = event
        if t.state == "NORMAL":
            self._answers.pop(t.occurrence, None)
        return event

    def _note(self, transitions: Sequence[Transition]) -> None:
        self._unsaved += [self._event(t, len(self._unsaved) + i) for i, t in enumerate(transitions)]

    def _change(self, rule_id: str, change: rules.Change) -> bool:
        """Take what a person or the configuration did. Whether there was something to tell."""
        self._states[rule_id], transition = change
        self._note([transition] if transition else [])
        return transition is not None

    def _acknowledge(self, ack: commands.Ack) -> dict[str, Any]:
        rule_id, rule, state = self._active(ack.occurrence)
        if ack.level is not None and state.level > ack.level:
            raise WireError(
                f"occurrence {ack.occurrence} is at level {state.level} by now, acknowledged was level {ack.level}"
            )
        if self._change(rule_id, rules.acknowledge(rule, state, self._clock.boot(), ack.by)):
            self._act()
        return self._answer_of(rule_id, ack.occurrence)

    def _acknowledge_heard(self, since_boot_s: float) -> None:
        settings = self._config.outputs.siren
        if settings is None:
            return
        heard = [
            rule_id
            for rule_id, state in self._states.items()
            if state.state == "UNACK" and state.withheld is None and state.level >= settings.min_level
            if state.announced_s is not None and state.announced_s <= since_boot_s
        ]
        log.info("button: pressed, %d alarms acknowledged", len(heard))
        now, by = self._clock.boot(), f"bouton {self._config.gateway.id}"
        for rule_id in heard:
            self._change(rule_id, rules.acknowledge(self._rules[rule_id][1], self._states[rule_id], now, by))
        self._act()

    def _shelve(self, shelve: commands.Shelve) -> dict[str, Any]:
        rule_id, rule, state = self._active(shelve.occurrence)
        now, wall = self._clock.boot(), self._clock.wall()
        if shelve.until is None:
            change = rules.unshelve(rule, state, now, shelve.by)
        else:
            try:
                wait_s = from_rfc3339(shelve.until) - wall
            except ValueError:
                raise WireError(f"until: found {shelve.until!r}, expected RFC 3339 with an offset") from None
            if not 0 < wait_s <= commands.MAX_SHELF_S:
                raise WireError(
                    f"until: found {shelve.until}, expected later than {rfc3339(wall)} by at most {commands.MAX_SHELF_S / 3600:.0f} h"
                )
            if state.shelved_s is not None and abs(state.shelved_s - now - wait_s) < SAME_SHELF_S:
                return self._answer_of(rule_id, shelve.occurrence)  # central repeats itself until it has the event
            change = rules.shelve(rule, state, now, now + wait_s, shelve.by, shelve.why)
        self._change(rule_id, change)
        self._act()
        return self._answer_of(rule_id, shelve.occurrence)

    def _reset(self, reset: commands.Reset) -> dict[str, Any]:
        rule_id, rule, state = self._active(reset.occurrence)
        if not self._change(rule_id, rules.reset(rule, state, self._clock.boot(), reset.by)):
            raise WireError(
                f"occurrence {reset.occurrence} is {state.state} at level {state.level}, expected one that has returned and was"
                " acknowledged"
            )
        return self._answer_of(rule_id, reset.occurrence)

    def _active(self, occurrence: str) -> tuple[str, Rule, AlarmState]:
        for rule_id, state in self._states.items():
            if state.occurrence == occurrence and rule_id in self._rules:
                return rule_id, self._rules[rule_id][1], state
        raise WireError(f"occurrence {occurrence} is not active here")

    def _answer_of(self, rule_id: str, occurrence: str) -> dict[str, Any]:
        return {"occurrence": occurrence, "state": self._states[rule_id].state}

    def _present(self) -> list[Present]:
        now, found = self._clock.boot(), []
        for key, watched in self._sensors.items():
            station = watched.station
            states = [(r, self._states.get(r.id, AlarmState())) for r in watched.rules.rules]
            level = max((s.level for r, s in states if r.kind not in ("power", "quality")), default=0)
            for quantity in dict.fromkeys(
                r.quantity for r, _ in states if isinstance(r, LevelRule) and r.kind != "power"
            ):
                value, at, _ = self._newest.get(f"{key}/{quantity}", (None, 0.0, 9))
                fresh = value is not None and now - at < watched.rules.silence_s
                where = station.name
                if quantity != "water_level":
                    where = f"{QUANTITIES[quantity].label_fr}, {where}"
                found.append(Present(where, quantity, value if fresh else None, level))
        return found

    def _situation(self) -> Situation:
        now = self._clock.boot()
        return Situation(
            gateway=self._config.gateway.id,
            status=self._status,
            boot_s=now,
            wall_s=self._clock.wall(),
            started_s=self._wall_of(self._started_s),
            clock_synchronised=self._synchronised or self._clock.synchronised(),
            stations=tuple(self._station_now(station, now) for station in self._config.station),
            alarms=tuple(sorted(self._standing(), key=lambda a: (-a.level, a.since_s))),
            siren=self._sounding is not None if self._siren is not None else None,
            linked=self._uplink.connected if self._config.mqtt is not None else None,
            waiting=self._journal.depth,
            unconfirmed_s=self._unconfirmed_s(now),
            in_memory=len(self._unwritten),
            health=self._said,
        )

    def _station_now(self, station: Station, now: float) -> StationNow:
        levels = [
            self._states.get(rule.id, AlarmState()).level
            for owner, rule in self._rules.values()
            if owner is not None and owner.station.id == station.id and rule.kind not in ("power", "quality")
        ]
        return StationNow(
            id=station.id,
            name=station.name,
            river=station.river,
            commune=station.commune,
            level=max(levels, default=0),
            sensors=tuple(self._sensor_now(self._sensors[f"{station.id}/{s.id}"], now) for s in station.sensor),
        )

    def _sensor_now(self, watched: _Watched, now: float) -> SensorNow:
        sensor = watched.sensor
        key = f"{watched.station.id}/{sensor.id}"
        measured = (name.rpartition("/")[2] for name in self._newest if name.startswith(f"{key}/"))
        trouble = self._troubled.get(key)
        return SensorNow(
            id=sensor.id,
            driver=sensor.driver,
            out_of_service=sensor.out_of_service,
            missed=self._missed[key],
            trouble=None
            if trouble is None
            else Trouble(
                kind=trouble[0], detail=trouble[1], since_s=self._wall_of(trouble[2]), age_s=max(0.0, now - trouble[2])
            ),
            measures=tuple(
                self._measure(watched, f"{key}/{quantity}", now)
                for quantity in dict.fromkeys((*published(sensor), *measured))
            ),
        )

    def _measure(self, watched: _Watched, series: str, now: float) -> Measure:
        quantity = series.rpartition("/")[2]
        value, at, flag = self._newest.get(series, (None, 0.0, None))
        judging = sorted(
            (rule for rule in watched.rules.rules if isinstance(rule, LevelRule) and rule.quantity == quantity),
            key=lambda rule: ("high", "low").index(rule.kind) if rule.kind in ("high", "low") else 2,
        )
        state = self._states.get(judging[0].id, AlarmState()) if judging else AlarmState()
        reached = state.at_least and state.value is not None and state.valid_s is not None and state.valid_s > at
        if reached:
            value, at, flag = state.value, state.valid_s or 0.0, 3
        levels = judging[0].levels if judging and isinstance(judging[0], HighRule | LowRule) else ()
        thresholds: list[float | None] = [*levels, None, None, None]
        refused = self._refused.get(series)
        settled = bool(state.window) and now - state.window[0].boot_s >= MIN_TREND_S
        recent = [(now - p.boot_s, p.value) for p in state.window if 0 <= now - p.boot_s <= RECENT_S]
        if recent and value is not None and 0 <= now - at < recent[-1][0]:
            recent.append((now - at, value))
        return Measure(
            quantity=quantity,
            unit=QUANTITIES[quantity].unit,
            value=value,
            qc=flag,
            age_s=None if value is None else max(0.0, now - at),
            fresh=value is not None and now - at < watched.rules.silence_s,
            at_least=reached,
            refused_age_s=None if refused is None else max(0.0, now - refused),
            thresholds=(thresholds[0], thresholds[1], thresholds[2]),
            descending=bool(judging) and isinstance(judging[0], LowRule),
            trend_per_h=rules.trend_per_h(state) if settled else None,
            recent=tuple((round(age, 1), v) for age, v in recent),
        )

    def _standing(self) -> Iterator[Standing]:
        for rule_id, state in self._states.items():
            if state.state == "NORMAL" or state.occurrence is None or rule_id not in self._rules:
                continue
            watched, rule = self._rules[rule_id]
            quantity = rule.quantity if isinstance(rule, LevelRule) else None
            place = texts.Place(watched.station.name, watched.station.river) if watched else None
            raised_s = self._wall_of(state.raised_s or 0.0)
            event = AlarmEvent(  # of now, for the words
                id=state.occurrence,
                occurrence=state.occurrence,
                seq=1,
                source="gateway",
                gateway=self._config.gateway.id,
                station=watched.station.id if watched else None,
                sensor=watched.sensor.id if watched else None,
                quantity=quantity,
                rule=rule_id,
                kind=rule.kind,
                transition="clear" if state.state == "RTN_UNACK" else "raise",
                state=state.state,
                level=state.level,
                value=state.value,
                unit=None,
                threshold=None,
                time=rfc3339(max(raised_s, 0.0)),
                clock="estimated",
                data_lost=state.data_lost,
                mean_h=rule.mean_h if isinstance(rule, HighRule) else None,
            )
            done = self._answers.get(state.occurrence, {})
            ack = done.get("ack") if state.state == "ACK" or state.acknowledged else None
            shelved = done.get("shelve") if state.withheld == "shelved" else None
            yield Standing(
                occurrence=state.occurrence,
                reference=texts.reference(state.occurrence),
                where=texts.where(event, place),
                what=texts.headline(event),
                station=event.station,
                sensor=event.sensor,
                rule=rule_id,
                kind=rule.kind,
                state=state.state,
                level=state.level,
                data_lost=state.data_lost,
                since_s=raised_s,
                acknowledged_by=ack.by if ack else None,
                acknowledged_s=from_rfc3339(ack.time) if ack else None,
                withheld=state.withheld,
                withheld_by=state.suppressed_by if state.withheld == "suppressed" else shelved.by if shelved else None,
                until_s=self._wall_of(state.shelved_s)
                if state.withheld == "shelved" and state.shelved_s is not None
                else None,
            )

    def _suppress(self, now: float) -> None:
        for rule_id, (_, rule) in self._rules.items():
            if rule.suppressed_by is not None:
                other = self._states.get(rule.suppressed_by, AlarmState())
                self._change(rule_id, rules.suppress(rule, self._states.get(rule_id, AlarmState()), now, other))

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.wall(), BRUSSELS).date()

    def _set_rules(self) -> None:
        self._sensors = {
            f"{station.id}/{sensor.id}": _Watched(
                station, sensor, sensor_rules(station, sensor, self.day), reckoned_sound(sensor)
            )
            for station in self._config.station
            for sensor in station.sensor
        }
        self._mean_rules = {
            (f"{key}/{quantity}", hours): _Watched(watched.station, watched.sensor, found, watched.sound_m_s)
            for key, watched in self._sensors.items()
            for (quantity, hours), found in mean_rules(watched.station, watched.sensor, self.day).items()
        }
        everyone = (*self._sensors.values(), *self._mean_rules.values())
        self._rules = {rule.id: (watched, rule) for watched in everyone for rule in watched.rules.rules}
        self._rules |= {rule.id: (None, rule) for rule in self._own.rules}

    def _begin_day(self) -> None:
        """From now on the thresholds of this day hold, if it has others."""
        before = self._rules
        self.day = self._today()
        self._set_rules()
        changed = [rule_id for rule_id, (_, rule) in self._rules.items() if rule != before[rule_id][1]]
        if changed:
            log.info("other thresholds from %s on: %s", self.day, ", ".join(changed))
            self._uplink.publish_stations()

    def _wall_of(self, boot_s: float) -> float:
        return self._clock.wall() - (self._clock.boot() - boot_s)

    def _rfc3339(self, boot_s: float | None) -> str | None:
        return None if boot_s is None else rfc3339(self._wall_of(boot_s))

    def _report_notified(self, about: AlarmEvent, notified: tuple[Notified, ...]) -> None:
        state = self._states.get(about.rule)
        current = state if state is not None and state.occurrence == about.occurrence else None
        self._unsaved.append(
            about.model_copy(
                update={
                    "id": uuid7(self._clock.wall()),
                    "seq": self._alarms.next_seq + len(self._unsaved),
                    "transition": "notify",
                    "state": current.state if current else "NORMAL",
                    "level": current.level if current else 0,
                    "time": rfc3339(self._clock.wall()),
                    "notified": notified,
                    "withheld": current.withheld if current else None,
                }
            )
        )


def sensor_rules(station: Station, sensor: Sensor, day: date) -> SensorRules:
    """The rules on the readings of a sensor as configured, with the thresholds of a day. One that watches a level or a rate always
    has `stale` and `comm_fail` too: a station lost in a rise is itself an alarm."""
    configured = tuple(
        rule.on(day) if isinstance(rule, LevelRule) else rule for rule in station.rule if rule.sensor == sensor.id
    )
    kinds = {rule.kind for rule in configured}
    added: list[Rule] = []
    if kinds & {"high", "low", "rise", "fall"}:
        name = f"{station.id}-{sensor.id}"[:50]
        if "stale" not in kinds:
            added.append(StaleRule(id=f"{name}-stale", sensor=sensor.id, kind="stale"))
        if "comm_fail" not in kinds:
            added.append(CommFailRule(id=f"{name}-comm-fail", sensor=sensor.id, kind="comm_fail"))
    period = sensor.period_s if sensor.period_s is not None else 60.0
    stale_after = sensor.stale_after_s or min(max(3 * period, 60.0), 1800.0)
    on_readings = [rule for rule in configured if not isinstance(rule, HighRule) or rule.mean_h is None]
    return SensorRules((*on_readings, *added), stale_after)


def mean_rules(station: Station, sensor: Sensor, day: date) -> dict[tuple[str, int], SensorRules]:
    """The rules on running means of a sensor, by quantity and hours."""
    found: dict[tuple[str, int], list[Rule]] = {}
    for rule in station.rule:
        if isinstance(rule, HighRule) and rule.mean_h is not None and rule.sensor == sensor.id:
            found.setdefault((rule.quantity, rule.mean_h), []).append(rule.on(day))
    return {key: SensorRules(tuple(of), MEANS_S) for key, of in found.items()}


def _health_observations(sample: Sample) -> list[Observation]:
    """What the rules may judge of the sensor's own health, as its battery."""
    return [
        Observation(boot_s=sample.boot_s, quantity=field.name, value=float(field.value), qc=2, health=True)
        for field in sample.side
        if field.name in QUANTITIES and isinstance(field.value, int | float)
    ]


def _readable(saved: dict[str, str], known: Container[str]) -> dict[str, AlarmState]:
    """The saved states that can be read. A damaged one begins anew: it must not keep the others from being watched."""
    states = {}
    for rule, text in saved.items():
        if rule in known:
            try:
                states[rule] = AlarmState.from_json(text)
            except ValueError as e:
                log.error("rule %s: its saved state is damaged and begins anew: %s", rule, e)
    return states
