"""THE data path of central, top to bottom: a pack comes in, is decoded, checked, stored, and only then receipted.

Two workers do the same: each takes what has come, up to a batch, decodes and stores it, acknowledges to the broker by hand
and sends the receipts. While one waits for the database the other decodes. The session's receive maximum bounds what is in
memory; when the database is slow the broker waits. Repeats are harmless: a point is known by its series and time.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from central.errors import NeedsPerson, StateUnavailable, Unavailable
from central.holding import DeadLetter, Held, Holding
from central.mqtt import Publisher, Received
from central.registry import Registry
from central.store.base import Point, Reading, Series, Store
from common.clock import Clock
from wire import readings, senml, topics
from wire.errors import WireError, shown
from wire.quantities import QUANTITIES
from wire.readings import PackProperties
from wire.senml import Resolved

log = logging.getLogger(__name__)

MAX_BATCH_POINTS = 5000
MAX_MESSAGE_BYTES = 256 * 1024
MAX_LETTERS = 10
"""Of one message that is no pack of our gateways; of a pack, each of its at most 500 numbers is accounted for."""
MAX_REASON = 200
MAX_AHEAD_S = 86400.0
"""A reading from further in the future than this was not measured: its clock is wrong."""
EARLIEST_S = 1_262_304_000.0
"""2010-01-01: a reading from before comes of a clock that was never set, which begins in 1970; replayed measurements of 2013 pass."""
RETRY_S = (0.5, 30.0)
PERSON_RETRY_S = 30.0

_WORKERS = 2


class _Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A SenML record as our gateways write it; anything else goes the long way."""

    n: str
    u: str
    t: float
    v: float
    qc: Literal[1, 2, 3, 4, 9] = 1
    bn: str = ""


_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_json = msgspec.json.Decoder().decode
_decode_plain = msgspec.json.Decoder(list[_Record]).decode


class Acknowledger(Protocol):
    """What this needs of the session that brings the messages."""

    def ack(self, message: Received) -> None: ...


@dataclass(slots=True)
class Decoded:
    """A message taken apart: what to store, what to refuse, what to hold, and the receipt that follows the write."""

    message: Received
    gateway: str = ""
    pack: PackProperties | None = None
    points: list[Point | Reading] = field(default_factory=list)
    numbers: Sequence[int] = ()
    letters: list[DeadLetter] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    receipt: list[tuple[str, str]] | None = None
    released: list[tuple[int, str | None, int | None]] = field(default_factory=list)
    """Rows of the quarantine that this stores: row id, journal, number."""


class _Known(NamedTuple):
    """A SenML name that resolves to a registered series."""

    series: Series
    unit: str


@dataclass(frozen=True, slots=True)
class _Refused:
    """A name that never will, and why; `held` when it may yet."""

    reason: str
    held: bool


class _Names(NamedTuple):
    """What became of names, by gateway and name, at one generation of the registry."""

    generation: int
    by_gateway: dict[str, dict[str, _Known | _Refused]]


class Decoder:
    """Turns messages into points. Names are resolved once and remembered until the registry changes."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._names = _Names(-1, {})

    def decode(self, message: Received) -> Decoded:
        """Never raises for what a client sent: what is wrong becomes dead letters."""
        out = Decoded(message)
        try:
            out.gateway, leaf = topics.parse(message.topic)
            if leaf == topics.HEALTH:
                self._health(out, _records(message))
            elif not self._plain_readings(out):
                self._readings(out, _records(message))
        except WireError as e:
            log.warning("message on %s refused: %s", message.topic, e)
            return Decoded(message, out.gateway, letters=[DeadLetter(message.topic, str(e), message.payload)])
        except Exception as e:
            # Whatever it is that nobody foresaw: it is this message's fault, and must not end the thread that stores all others.
            log.exception("message on %s cannot be decoded", message.topic)
            letter = DeadLetter(message.topic, f"cannot be decoded: {type(e).__name__}", message.payload)
            return Decoded(message, out.gateway, letters=[letter])
        return out

    def _plain_readings(self, out: Decoded) -> bool:
        """The short way of nearly every pack, 0.4 us a reading: ours, of known series, without a fault. False: look closer."""
        message = out.message
        if message.content_type != senml.JSON_TYPE or len(message.payload) > MAX_MESSAGE_BYTES:
            return False
        try:
            records = _decode_plain(message.payload)
        except _NO_JSON:
            return False
        out.pack = readings.parse_properties(message.properties, len(records))
        if out.pack is None or out.pack.clock_estimated:
            return False
        names, latest_s = self._names_of(out.gateway), self._clock.wall() + MAX_AHEAD_S
        points: list[Point | Reading] = []
        base, name = "", None
        for record in records:
            if record.bn or record.n != name:
                base, name = record.bn or base, record.n
                known = names.get(base + name)
                if not isinstance(known, _Known):
                    return False
                series, unit = known
            time_s = record.t
            if record.u != unit or not EARLIEST_S <= time_s < latest_s:
                return False
            points.append(Reading(series, record.v, record.qc, round(time_s * 1000)))
        out.points = points
        out.numbers = range(out.pack.range.first, out.pack.range.last + 1)
        out.receipt = [("stored", "true")]
        return True

    def _readings(self, out: Decoded, records: list[senml.Record]) -> None:
        now = self._clock.wall()
        # A numbered pack has absolute times only: a small one is a clock that was never set, and must not be taken for "now".
        resolved = senml.resolve_each(records, 0.0 if "journal" in out.message.properties else now)
        out.pack = readings.parse_properties(out.message.properties, len(resolved))
        latest_ms = (now + MAX_AHEAD_S) * 1000
        estimated = out.pack is not None and out.pack.clock_estimated
        number = out.pack.range.first if out.pack else 0
        names = self._names_of(out.gateway)
        points = out.points
        numbers: list[int] = []
        receipt: list[tuple[str, str]] = [("stored", "true")]
        for item in resolved:
            if isinstance(item, Resolved):
                known = names.get(item.name) or self._look_up(names, out.gateway, item.name)
                value, time_ms = item.value, round(item.time * 1000)
                dated = EARLIEST_S * 1000 <= time_ms < latest_ms
                if isinstance(known, _Known) and value is not None and item.unit == known.unit and dated:
                    fields: dict[str, Any] = {"value": float(value), "qc": item.qc}
                    if estimated:
                        fields["clock"] = 1
                    points.append(Point(known.series, fields, time_ms))
                    numbers.append(number)
                elif isinstance(known, _Refused) and known.held and dated and _may_be_stored(item):
                    self._hold(out, item, number, estimated, receipt)
                else:
                    self._reject(out, _reason(item, known, time_ms, latest_ms), number, receipt, item)
            else:
                self._reject(out, str(item), number, receipt)
            number += 1
        out.numbers = numbers
        out.receipt = receipt if out.pack else None

    def _health(self, out: Decoded, records: list[senml.Record]) -> None:
        """One row of `gateway_health` per time: each record a float field under its own name. Receipted when it asks for it."""
        series = Series("gateway_health", {"gateway": out.gateway})
        rows: dict[int, dict[str, float]] = {}
        for item in senml.resolve_each(records, self._clock.wall()):
            if isinstance(item, WireError):
                _add_letter(out, DeadLetter(out.message.topic, str(item), b""))
            elif item.value is not None:
                rows.setdefault(round(item.time * 1000), {})[item.name] = float(item.value)
        out.points += [Point(series, fields, time_ms) for time_ms, fields in rows.items()]
        out.receipt = [("stored", "true")] if out.message.correlation and out.points else None

    def _names_of(self, gateway: str) -> dict[str, _Known | _Refused]:
        """What is known of the names of a gateway's packs."""
        names, generation = self._names, self._registry.generation
        if names.generation != generation:
            names = self._names = _Names(generation, {})
        return names.by_gateway.setdefault(gateway, {})

    def _look_up(self, names: dict[str, _Known | _Refused], gateway: str, name: str) -> _Known | _Refused:
        found = names[name] = self.resolve(gateway, name)
        return found

    def resolve(self, gateway: str, name: str) -> _Known | _Refused:
        """The series that a SenML name stands for, or why there is none."""
        parts = name.split("/")
        if len(parts) != 3:
            return _Refused(f"name {shown(name)}: expected <station>/<sensor>/<quantity>", held=False)
        station, sensor, quantity = parts
        if quantity not in QUANTITIES:
            return _Refused(f"quantity {shown(quantity)} is unknown", held=False)
        owner = self._registry.owner(station)
        if owner is None:
            return _Refused(f"station {station} is not registered", held=True)
        if owner != gateway:
            return _Refused(f"station {station} is not registered to gateway {gateway}", held=False)
        if not self._registry.sensor_known(station, sensor):
            return _Refused(f"sensor {station}/{sensor} is not registered", held=True)
        tags = {"gateway": gateway, "station": station, "sensor": sensor}
        return _Known(Series(quantity, tags), QUANTITIES[quantity].unit)

    def _hold(self, out: Decoded, item: Resolved, number: int, estimated: bool, receipt: list[tuple[str, str]]) -> None:
        journal = out.pack.range.journal if out.pack else None
        record = {"v": item.value, "u": item.unit, "t": item.time, "qc": item.qc}
        out.held.append(Held(out.gateway, journal, number if out.pack else None, item.name, record, estimated))
        receipt.append(("held", str(number)))

    def _reject(
        self, out: Decoded, reason: str, number: int, receipt: list[tuple[str, str]], item: Resolved | None = None
    ) -> None:
        """`item` None: the reason itself says what was found."""
        journal = out.pack.range.journal if out.pack else None
        letter = DeadLetter(
            out.message.topic, reason, _short(item).encode() if item else b"", journal, number if out.pack else None
        )
        _add_letter(out, letter)
        receipt.append(("rejected", f"{number} {reason[:MAX_REASON]}"))


def _add_letter(out: Decoded, letter: DeadLetter) -> None:
    """A message without properties can hold a million bad records: the first ones tell a person what is wrong with it."""
    if out.pack is not None or len(out.letters) < MAX_LETTERS:
        out.letters.append(letter)
    elif len(out.letters) == MAX_LETTERS:
        out.letters.append(DeadLetter(letter.topic, "more records of this message are refused", b""))


def _records(message: Received) -> list[senml.Record]:
    """The pack of a message, decoded and not resolved. Raises WireError."""
    if len(message.payload) > MAX_MESSAGE_BYTES:
        raise WireError(f"{len(message.payload)} bytes, at most {MAX_MESSAGE_BYTES} are taken")
    if message.content_type == senml.CBOR_TYPE:
        return senml.from_cbor(message.payload)
    if message.content_type not in (None, senml.JSON_TYPE):
        raise WireError(f"content type {shown(message.content_type)}, expected {senml.JSON_TYPE} or {senml.CBOR_TYPE}")
    try:
        records = _decode_json(message.payload)
    except _NO_JSON as e:
        raise WireError(f"not JSON: {e}") from e
    if not isinstance(records, list):
        raise WireError("expected a JSON array of records")
    return records


def _may_be_stored(item: Resolved) -> bool:
    """Whether it could be, were its station registered: nothing else is worth holding."""
    return item.value is not None and item.unit == _unit(item.name)


def _unit(name: str) -> str:
    """The unit of the quantity in a SenML name."""
    return QUANTITIES[name.rpartition("/")[2]].unit


def _short(item: Resolved) -> str:
    """A record for a dead letter: a text or unit of many kilobytes can be shared by hundreds of them."""
    text, data, unit = item.text, item.data, item.unit
    return repr(item._replace(text=text and text[:200], data=data and data[:200], unit=unit and unit[:200]))


def _reason(item: Resolved, known: _Known | _Refused, time_ms: int, latest_ms: float) -> str:
    if isinstance(known, _Refused) and not known.held:
        return known.reason
    if item.value is None:
        return f"{item.name}: no numeric value"
    unit = _unit(item.name)
    if item.unit != unit:
        return f"{item.name}: unit {shown(item.unit)}, expected {unit!r}"
    if time_ms < EARLIEST_S * 1000:
        return f"{item.name}: time {time_ms} ms, expected one since 2010 (limit {EARLIEST_S * 1000:.0f}): the clock was not set"
    return f"{item.name}: time {time_ms} ms is more than {MAX_AHEAD_S:.0f} s in the future (limit {latest_ms:.0f})"


class Ingest:
    """Takes messages of the readings session (`handle`), stores them, acknowledges and receipts.

    Receipts leave on another connection: on its own, the broker's PUBACK for a receipt stands behind all readings that it
    has written for that connection already, and a backlog holds up the receipts of everyone. `on_stored` is called with the
    gateway and the pack of each receipt, and the time (Unix ms) of the last reading that was stored of it, if any was.
    """

    def __init__(
        self,
        session: Callable[[], Acknowledger],
        receipts: Callable[[], Publisher],
        store: Store,
        registry: Registry,
        holding: Holding,
        clock: Clock,
        *,
        on_stored: Callable[[str, PackProperties, int | None], None] = lambda *_: None,
    ) -> None:
        self._session = session
        self._receipts = receipts
        self._store = store
        self._registry = registry
        self._holding = holding
        self._clock = clock
        self._on_stored = on_stored
        self._decoder = Decoder(registry, clock)
        self._inbox: queue.SimpleQueue[Received | str | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._workers = [threading.Thread(target=self._work, name=f"ingest-{i}", daemon=True) for i in range(_WORKERS)]
        self._waiting_lock = threading.Lock()
        self._waiting: set[int] = set()  # workers

    def handle(self, message: Received) -> None:
        """A message came; returns at once."""
        self._inbox.put(message)

    @property
    def taking(self) -> bool:
        """False while readings wait for the database: what gateways send now may not get here."""
        return not self._waiting

    def replay(self, gateway: str) -> None:
        """Stations of this gateway may have been registered: try its quarantine again."""
        self._inbox.put(gateway)

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End; what is not stored is not acknowledged, so the broker or the gateway sends it again."""
        self._stop.set()
        for _ in self._workers:
            self._inbox.put(None)
        for worker in self._workers:
            if worker.ident is not None:
                worker.join(timeout=10)

    # ------------------------------------------------------------------ the workers

    def _work(self) -> None:
        while True:
            generation = self._registry.generation
            try:
                batch = self._take()
                if not batch or not self._handle_batch(batch):
                    return
            except Exception:  # the last resort: readings of all gateways depend on this thread
                log.exception("a batch is given up; its messages come again with the next connection")
                continue
            if generation != self._registry.generation:
                # Registered while they were on their way into the quarantine: the replay may have come too early.
                for gateway in {decoded.gateway for decoded in batch if decoded.held}:
                    self.replay(gateway)

    def _handle_batch(self, batch: list[Decoded]) -> bool:
        """Store, receipt and acknowledge. False when stopped before. What nobody foresaw costs the one message that caused it."""
        try:
            if not self._store_batch(batch):
                return False
            for decoded in batch:
                self._finish(decoded)
        except Exception as e:
            if len(batch) > 1:
                log.exception("a batch of %d messages cannot be handled: one by one", len(batch))
                return all(self._handle_batch([decoded]) for decoded in batch)
            (decoded,) = batch
            log.exception("message on %s cannot be handled", decoded.message.topic)
            letter = DeadLetter(
                decoded.message.topic, f"cannot be handled: {type(e).__name__}", decoded.message.payload
            )
            try:
                self._holding.keep([letter], [], self._clock.wall())
            except (OSError, StateUnavailable) as trouble:
                log.error("a dead letter cannot be kept: %s", trouble)
            if decoded.message.connection >= 0:
                self._session().ack(decoded.message)
        return True

    def _take(self) -> list[Decoded]:
        """What has come, decoded, up to a batch; waits for the first. Empty when stopped."""
        batch: list[Decoded] = []
        points = 0
        item = self._inbox.get()
        while item is not None and not self._stop.is_set():
            decoded = self._decoder.decode(item) if isinstance(item, Received) else self._from_quarantine(item)
            batch.append(decoded)
            points += len(decoded.points)
            if points >= MAX_BATCH_POINTS:
                return batch
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return batch
        return []

    def _from_quarantine(self, gateway: str) -> Decoded:
        """The held readings of a gateway that are registered by now, as if they came in."""
        nothing = Received(topics.topic(gateway, topics.READINGS), b"", None, None, {}, False, -1, 0)
        out = Decoded(nothing, gateway)
        out.receipt = None
        try:
            quarantined = self._holding.quarantined(gateway)
        except StateUnavailable as e:
            log.error(
                "the quarantine cannot be read, %s is replayed when it describes its stations again: %s", gateway, e
            )
            return out
        for row_id, held in quarantined:
            known = self._decoder.resolve(gateway, held.name)
            record = held.record
            if isinstance(known, _Known) and record["v"] is not None and record["u"] == known.unit:
                fields: dict[str, Any] = {"value": float(record["v"]), "qc": record["qc"]}
                if held.estimated:
                    fields["clock"] = 1
                out.points.append(Point(known.series, fields, round(record["t"] * 1000)))
                out.released.append((row_id, held.journal, held.number))
        return out

    def _store_batch(self, batch: list[Decoded]) -> bool:
        """Store a batch, however long it takes. False when stopped before."""
        delay = RETRY_S[0]
        while True:
            points = [point for decoded in batch for point in decoded.points]
            try:
                result = self._store.write(points)
                if result.rejected:
                    self._reject_points(batch, {id(r.point): r.reason for r in result.rejected})
                if not self._holding.keep(
                    [letter for decoded in batch for letter in decoded.letters],
                    [held for decoded in batch for held in decoded.held],
                    self._clock.wall(),
                ):
                    for decoded in batch:
                        if decoded.held:  # no receipt: the gateway goes on sending what is kept nowhere else
                            decoded.receipt = None
            except (OSError, StateUnavailable) as e:
                self._note_waiting(f"dead letters cannot be kept: {e}")
                pause = delay
            except Unavailable as e:
                self._note_waiting(f"database does not take readings: {e}")
                pause = e.retry_after_s or delay
                delay = min(delay * 2, RETRY_S[1])
            except NeedsPerson as e:
                self._note_waiting(f"database needs a person: {e}")
                pause = PERSON_RETRY_S
            else:
                self._note_stored()
                return True
            if self._clock.wait(self._stop, pause):
                return False

    def _note_waiting(self, text: str) -> None:
        with self._waiting_lock:
            if not self._waiting:
                log.error("%s; readings wait", text)
            self._waiting.add(threading.get_ident())

    def _note_stored(self) -> None:
        """A worker waits no more; another may, for something else."""
        with self._waiting_lock:
            if self._waiting == {threading.get_ident()}:
                log.info("database takes readings again")
            self._waiting.discard(threading.get_ident())

    def _reject_points(self, batch: list[Decoded], reasons: dict[int, str]) -> None:
        """Take out what the database will never take, so that a second attempt does not say it twice."""
        for decoded in batch:
            refused = [i for i, point in enumerate(decoded.points) if id(point) in reasons]
            for i in refused:
                point, reason = decoded.points[i], reasons[id(decoded.points[i])]
                number = decoded.numbers[i] if decoded.pack else None
                journal = decoded.pack.range.journal if decoded.pack else None
                payload = repr((point.series, point.fields, point.time_ms)).encode()
                decoded.letters.append(DeadLetter(decoded.message.topic, reason, payload, journal, number))
                if decoded.pack is None:
                    decoded.receipt = None
                elif decoded.receipt is not None:
                    decoded.receipt.append(("rejected", f"{number} {reason[:MAX_REASON]}"))
            if refused:
                out = set(refused)
                decoded.points = [point for i, point in enumerate(decoded.points) if i not in out]
                decoded.numbers = [number for i, number in enumerate(decoded.numbers) if i not in out]

    def _finish(self, decoded: Decoded) -> None:
        receipts = self._receipts()
        to = topics.topic(decoded.gateway, topics.RECEIPT) if decoded.gateway else ""
        if decoded.released:
            try:
                self._holding.release([row_id for row_id, _, _ in decoded.released])
            except StateUnavailable as e:
                log.error(
                    "stored readings cannot leave the quarantine, they are stored again at the next replay: %s", e
                )
                return
            for _, journal, number in decoded.released:
                if journal is not None and number is not None:
                    correlation = readings.PackRange(journal, number, number).correlation()
                    receipts.publish(to, b"", correlation=correlation, properties=[("stored", "true")])
            return
        if decoded.message.connection < 0:
            return
        if decoded.pack is not None and decoded.receipt is not None:
            # To the gateway on whose topic it came, whatever Response Topic it names.
            receipts.publish(to, b"", correlation=decoded.pack.range.correlation(), properties=decoded.receipt)
            self._on_stored(decoded.gateway, decoded.pack, decoded.points[-1].time_ms if decoded.points else None)
        elif decoded.receipt is not None and decoded.message.correlation:
            receipts.publish(to, b"", correlation=decoded.message.correlation, properties=decoded.receipt)
        self._session().ack(decoded.message)
