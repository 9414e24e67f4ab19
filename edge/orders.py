"""What a technician at central orders: read now, write raw bytes, send the log, restart a device. One at a time, in a thread of its
own, since a device may take long and the uplink carries alarms.

None is done late: beside the message's expiry, which the broker watches, each says until when it is wanted. A gateway whose clock was
never set cannot judge that, and so does only what changes nothing.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from common.clock import Clock, from_rfc3339, rfc3339
from edge.config import EdgeConfig
from edge.errors import PortError
from edge.gateway import Gateway
from edge.outputs.power import PowerCycler
from edge.secrets import clean, secrets_of
from edge.sensors.base import FrameError
from edge.situation import SensorNow
from edge.transports.base import Transport
from edge.transports.file import FileRead
from edge.transports.poll import Polled
from wire import command
from wire.command import Logs, Raw, Read, Reading, Restart
from wire.errors import WireError

log = logging.getLogger(__name__)

NAMES = frozenset({command.READ, command.RAW, command.LOGS, command.RESTART})
READ_S = 45.0
"""A device that sleeps takes half a minute to be warm."""
SKEW_S = 10.0
"""By so much central's clock may be ahead."""
LOG_BYTES = 12_000
"""Of an answer: what a broker with small messages takes too."""
MAX_WAITING = 8
_LOOK_S = 0.2
_KEPT_LINES = 500
_LINE = 400


class RecentLog(logging.Handler):
    """Keeps the newest lines of this process's log."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.INFO)
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        at = rfc3339(self._clock.wall())
        try:
            self._lines.append(f"{at} {record.levelname} {record.name}: {record.getMessage()}"[:_LINE])
        except Exception:  # noqa: BLE001 - a bad message is no reason to fail whoever logs
            self.handleError(record)

    def newest(self, lines: int) -> list[str]:
        return list(self._lines)[-lines:]


class _Order(NamedTuple):
    name: str
    wanted: Read | Raw | Logs | Restart
    answer: "Future[dict[str, Any]]"


_MODELS: Mapping[str, type[Read] | type[Raw] | type[Logs] | type[Restart]] = {
    command.READ: Read,
    command.RAW: Raw,
    command.LOGS: Logs,
    command.RESTART: Restart,
}


class Orders:
    """`take` from the uplink's thread; `start` before, `stop` after."""

    def __init__(
        self,
        config: EdgeConfig,
        clock: Clock,
        gateway: Gateway,
        transports: Mapping[str, Transport],
        power: PowerCycler | None,
        recent: RecentLog,
    ) -> None:
        self._config = config
        self._clock = clock
        self._gateway = gateway
        self._transports = transports
        self._power = power
        self._recent = recent
        self._waiting: queue.Queue[_Order | None] = queue.Queue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What was not done yet is answered so."""
        self._stopped.set()
        self._waiting.put(None)
        if self._thread:
            self._thread.join(timeout=5)

    def take(self, name: str, arguments: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        """The answer to come. Raises WireError for what is not done."""
        wanted = command.parse(_MODELS[name], arguments)
        self._check_time(wanted)
        if self._waiting.qsize() >= MAX_WAITING:
            raise WireError("too many orders at once: wait for their answers")
        log.warning("%s orders: %s", wanted.by, name)
        answer: Future[dict[str, Any]] = Future()
        self._waiting.put(_Order(name, wanted, answer))
        return answer

    def _check_time(self, wanted: Read | Raw | Logs | Restart) -> None:
        try:
            until_s = from_rfc3339(wanted.until)
        except ValueError:
            raise WireError(f"until: found {wanted.until!r}, expected RFC 3339 with an offset") from None
        if not self._clock.synchronised():
            if isinstance(wanted, Read | Logs):
                return
            raise WireError(
                "the gateway's clock is not set, so it cannot tell whether this is still wanted: only read and logs are done"
            )
        now = self._clock.wall()
        if now > until_s:
            raise WireError(f"too late: wanted until {wanted.until}, and here it is {rfc3339(now)}; nothing was done")
        if until_s - now > command.MAX_EXPIRY_S + SKEW_S:
            raise WireError(
                f"wanted until {wanted.until}, and here it is {rfc3339(now)}: one of the two clocks is wrong"
            )

    # ------------------------------------------------------------------ its thread

    def _run(self) -> None:
        while (order := self._waiting.get()) is not None:
            try:
                self._check_time(order.wanted)
                if self._stopped.is_set():
                    raise WireError("the gateway ends or changes its configuration: nothing was done")
                order.answer.set_result(self._done(order.wanted))
            except WireError as e:
                order.answer.set_exception(e)
            except Exception as e:
                log.exception("order %s failed by a fault of this program", order.name)
                order.answer.set_exception(WireError(f"the gateway could not do it: {e!r}"))

    def _done(self, wanted: Read | Raw | Logs | Restart) -> dict[str, Any]:
        match wanted:
            case Read():
                return {"values": [reading.model_dump(exclude_none=True) for reading in self._read(wanted)]}
            case Raw():
                return {"hex": self._raw(wanted).hex()}
            case Logs():
                return {"log": self._log(wanted.lines)}
            case Restart():
                return {"done": self._restart(wanted)}

    def _read(self, wanted: Read) -> list[Reading]:
        keys = self._keys(wanted.station, wanted.sensor)
        asked: list[Future[None]] = []
        for key in keys:
            transport = self._transport(key)
            if isinstance(transport, Polled):
                asked.append(transport.poll_now(key))
        end_s = self._clock.boot() + READ_S
        while not all(done.done() for done in asked) and self._clock.boot() < end_s:
            if self._clock.wait(self._stopped, _LOOK_S):
                break
        silent = {key for key in keys if isinstance(self._transport(key), Polled)}
        for key, done in zip(sorted(silent, key=keys.index), asked, strict=True):
            if not done.cancel():
                silent.discard(key)
        situation = self._gateway.situation().result(command.MAX_EXPIRY_S)
        sensors = {f"{station.id}/{s.id}": s for station in situation.stations for s in station.sensors}
        return [reading for key in keys for reading in _said(key, sensors[key], unasked=key in silent)]

    def _raw(self, wanted: Raw) -> bytes:
        if self._config.mqtt is None or not self._config.mqtt.raw_commands:
            raise WireError(
                "this gateway takes no raw bytes: raw_commands = true in [mqtt] of its own edge.toml allows them"
            )
        (key,) = self._keys(wanted.station, wanted.sensor)
        transport = self._transport(key)
        if not isinstance(transport, Polled) or isinstance(transport, FileRead):
            raise WireError(f"{key} is not asked on a line: raw bytes go to sensors that are polled on a serial port")
        data = bytes.fromhex(wanted.hex)
        log.warning("raw bytes to %s, by %s: %s", transport.name, wanted.by, data.hex(" "))
        answer = transport.exchange(data, wanted.reply_s)
        end_s = self._clock.boot() + READ_S
        while not answer.done() and self._clock.boot() < end_s and not self._clock.wait(self._stopped, _LOOK_S):
            pass
        if answer.cancel():
            raise WireError(f"{transport.name} is lost, or not free: nothing was written")
        try:
            return answer.result(wanted.reply_s + _LOOK_S)[:1024]
        except (PortError, FrameError) as e:
            raise WireError(f"{transport.name}: {e}") from None

    def _log(self, count: int) -> list[str]:
        secrets = secrets_of(self._config.model_dump(mode="json"))
        found: deque[str] = deque()
        room = LOG_BYTES
        for line in reversed(self._recent.newest(count)):
            shown = str(clean(line, secrets))
            room -= len(shown.encode()) + 4
            if room < 0:
                break
            found.appendleft(shown)
        return list(found)

    def _restart(self, wanted: Restart) -> str:
        (key,) = self._keys(wanted.station, wanted.sensor)
        transport = self._transport(key)
        if self._power is not None and self._power.supplies(key):
            return f"the power of {key} is cut for {self._power.cut(key, wanted.by):g} s"
        log.warning("%s is opened anew, by %s", transport.name, wanted.by)
        transport.stop()
        transport.start()
        return f"{transport.name} is opened anew (no relay is in the supply of {key})"

    def _keys(self, station: str, sensor: str | None) -> list[str]:
        known = [f"{s.id}/{x.id}" for s in self._config.station for x in s.sensor]
        found = [
            key for key in known if key == f"{station}/{sensor}" or (sensor is None and key.startswith(f"{station}/"))
        ]
        if not found:
            wanted = station if sensor is None else f"{station}/{sensor}"
            raise WireError(f"sensor: found {wanted}, expected one of {', '.join(known) or 'none: there is none'}")
        return found

    def _transport(self, key: str) -> Transport:
        return next(t for t in self._transports.values() if key in t.keys)


def _said(key: str, sensor: SensorNow, *, unasked: bool) -> Sequence[Reading]:
    """The newest values of a sensor, and what is wrong with it. `unasked`: its line was not free in time."""
    found = [
        Reading(sensor=key, quantity=m.quantity, value=m.value, unit=m.unit, age_s=round(m.age_s or 0.0, 1), qc=m.qc)
        for m in sensor.measures
        if m.value is not None
    ]
    if sensor.trouble is not None:
        kind, detail = sensor.trouble.kind, sensor.trouble.detail
        found.append(Reading(sensor=key, error=f"{kind}: {detail}", age_s=round(sensor.trouble.age_s, 1)))
    elif unasked:
        found.append(Reading(sensor=key, error="it could not be asked in time: its line is lost or busy"))
    return found or [Reading(sensor=key, error="nothing was heard of it yet")]
