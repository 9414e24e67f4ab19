"""The journal: every reading that the gateway took, numbered without gaps, until central has stored it and 30 days more.

One append-only log in segment files, `<sequence>-<first number>.log`. A line is one record, `<crc32 hex> <JSON array>\\n`:

    h  header: the whole state at the start of the segment (format, journal id, next number, what is stored, open packs …)
    s  [s, index, series]                       a series gets a short index in this segment
    b  [b, ordinal, boot id]                    the machine booted
    y  [y, ordinal, offset_ms]                  first synchronisation of a boot: wall = boot time + offset
    r  [r, number, series index, value, qc, wall_ms, boot_ms, synchronised]
    p  [p, first, last, lane, estimated, offset_ms, thinned]  a pack's bounds and times, fixed before its first publication
    k  [k, first, last, held, boot_ms]          central's receipt: stored, but for the numbers that it holds in quarantine; when it came
    u  [u, first, last]                         central asks for them again
    g  [g, first, last]                         lost by the disk, in a power cut or by thinning: given up, to be announced
    t  [t, sequence, count]                     that segment was thinned by so many readings; stands also behind its header
    c  [c]                                      closed in good order

A reading is *taken* when the write of its `r` line has returned: a killed process loses none. Segments are synced to the disk
in the background, every `sync_s` or when `sync` asks for it, and a power cut loses at most what came since. Since each header
holds the state, opening reads the newest segment only. A torn last line is cut off; a damaged line elsewhere costs its own record:
header and series are repeated in the midst of a segment, so that those of a destroyed page are read there.

What does not fit leaves in this order: segments of stored readings, the oldest first; then unsent ones are thinned, per series
and ten minutes to the first, the lowest and the highest as they were measured. Their numbers are given up when their turn to be
sent comes. A pack that was published stays as it is.

Why segments and not a database table: SQLite writes a 4 KiB page or two per committed reading (docs/adr/0003-journal.md).
"""

import ctypes
import errno
import itertools
import json
import logging
import os
import threading
import uuid
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from common.clock import Clock
from common.intervals import Intervals
from edge.errors import EdgeError
from wire import readings, senml
from wire.readings import Lane, PackProperties, PackRange, Reading

log = logging.getLogger(__name__)

FORMAT = 1
_RESERVE_BYTES = 256 * 1024
_RECENT_ROWS = 2000
_REPEAT_BYTES = (8 * 1024, 64 * 1024)
"""After so many, then every so many bytes of a segment header and series stand again: beyond a page of the disk."""
_LOST_TAIL = 1000
"""So many numbers a power cut can cost at most: half as many readings that are not synced to the disk are synced at once."""
_MAX_OCCUPIED = 50_000
_THIN_MS = 600_000
_NEWEST_SEGMENTS = 2
"""Not thinned: a restart judges by their rows, and counts on them when a header is damaged."""
_AMOUNTS = ("rainfall",)
"""Of which each reading that is not zero is a part of a sum."""
_BYTES_PER_RECORD = 96  # an upper bound of one SenML record in JSON, so that a pack stays below 16 KiB


class JournalUnwritable(EdgeError):
    """The disk takes no more (full, read-only, failing); what was to be appended is not taken."""


class PackLost(EdgeError):
    """The disk no longer gives back all readings of a pack. It is no pack any more; those that are left are to be sent anew."""


class NewRow(NamedTuple):
    """A reading to be taken: series `<station>/<sensor>/<quantity>`, value in the table's unit, QARTOD flag, when measured."""

    series: str
    value: float
    qc: int
    wall_s: float
    boot_s: float


class Row(NamedTuple):
    """A reading that was taken. `boot` counts the boots of this journal."""

    number: int
    series: str
    value: float
    qc: int
    wall_ms: int
    boot_ms: int
    synchronised: bool
    boot: int


class Pack(NamedTuple):
    """A pack whose bytes are fixed: numbers, lane, whether its clock is estimated, the offset that re-stamps its rows."""

    first: int
    last: int
    lane: Lane
    estimated: bool
    offset_ms: int | None
    thinned: tuple[int, int] | None


class Message(NamedTuple):
    """A pack ready to publish."""

    payload: bytes
    properties: list[tuple[str, str]]
    correlation: bytes


class _Segment(NamedTuple):
    path: Path
    sequence: int
    first: int


class Salvaged(NamedTuple):
    """What can be read of a segment: its rows, how many lines are damaged, how many rows have lost the name of their series."""

    rows: list[Row]
    damaged: int
    nameless: int


def salvage(data: bytes) -> Salvaged:
    """Read the bytes of a segment, of any state, line by line: each has its own checksum. A last line without its end may still be
    under way, so it is not counted as damaged."""
    *lines, tail = data.split(b"\n")
    records = [record for line in (*lines, tail) if (record := _parse(line))]
    names = _names(records)
    boot = _first_boot(records)
    rows: list[Row] = []
    nameless = 0
    for record in records:
        match record:
            case ["h", header]:
                boot = header["boot"][0]
            case ["b", ordinal, _]:
                boot = ordinal
            case ["r", number, index, value, qc, wall_ms, boot_ms, synchronised]:
                if index in names:
                    rows.append(Row(number, names[index], value, qc, wall_ms, boot_ms, bool(synchronised), boot))
                else:
                    nameless += 1
    return Salvaged(rows, sum(_parse(line) is None for line in lines), nameless)


def _line(record: Sequence[Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> list[Any] | None:
    """The record of a line without its newline, or None when it is damaged."""
    if len(line) < 12 or line[8:9] != b" ":
        return None
    body = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(body):
            return None
        record = json.loads(body)
    except ValueError:
        return None
    return record if isinstance(record, list) and record else None


class Journal:
    """The journal of one gateway in `directory`. Safe to use from several threads; `open()` before anything else."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        sync_s: float = 30,
        keep_days: float = 30,
        max_bytes: float = 2048 * 2**20,
        segment_bytes: int = 256 * 1024,
        fdatasync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self._dir = directory
        self._clock = clock
        self._sync_s = sync_s
        self._keep_s = keep_days * 86400
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._fdatasync = fdatasync
        self._lock = threading.RLock()
        self._sync_now = threading.Event()
        self._stopping = False
        self._unsynced = 0
        self._thread: threading.Thread | None = None
        self._fd = -1
        self._size = 0
        self._repeat_at = 0
        self._dirty = False
        self._owed = b""
        """How this boot began, as long as the disk does not take it; goes before the next record."""
        self._segments: list[_Segment] = []
        self._cache: tuple[Path, list[Row]] | None = None
        self._occupied: dict[str, set[int]] | None = None
        self._occupied_from = 0
        self._occupied_count = 0
        self._recent: deque[Row] = deque(maxlen=_RECENT_ROWS)
        self.id = ""
        self.corrupt = 0
        """Damaged records met since start."""
        self.thinned = 0
        """Readings that this journal has given up by thinning."""
        self.refused = False
        """Whether the disk did not take what was written last."""
        self._next = 1
        self._boot = 0
        self._boot_id = ""
        self._closed = False
        self._offsets: dict[int, int] = {}
        self._stored = Intervals()
        self._packs: dict[int, Pack] = {}
        self._held = Intervals()
        self._claimed = Intervals()
        """Numbers that are stored, held or in a pack."""
        self._thinned: list[tuple[int, int]] = []
        """Numbers given up that are to be announced."""
        self._thin: dict[Path, bool] = {}
        """Whether a segment was thinned, where that is known."""
        self._newest_ms = 0
        self._waits_from_ms: int | None = None
        """Boot times, in this boot: of the newest reading, and since when readings wait without a receipt for any."""
        self._series: dict[str, int] = {}
        self._next_index = 0
        """Of the series in this segment: beyond every one that was ever used in it."""
        self._last_ms: dict[str, int] = {}
        self._last_boot_ms: dict[str, int] = {}
        self._unset_ms: int | None = None
        """Wall minus boot time of a boot whose clock was never set, once it is needed."""

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Recover the state, cut a torn tail, note a new boot, and start syncing.

        Raises JournalUnwritable when there is none and none can be begun. A full disk is no reason: it is told of, and what
        belongs to a new boot is written when there is space.
        """
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            for draft in self._dir.glob("*.thin"):
                draft.unlink()
            self._recover()
            self._make_reserve()
            if self._boot_id != self._clock.boot_id:
                if self._boot_id and not self._closed:
                    self._skip_lost_tail()
                self._boot += 1
                self._boot_id = self._clock.boot_id
                self._last_boot_ms.clear()
                self._waits_from_ms = None
                self._owed += _line(["b", self._boot, self._boot_id])
                try:
                    self._write([])
                except JournalUnwritable as e:  # alarms need no disk: the gateway must run
                    log.error("the new boot is noted later: %s", e)
            self._closed = False
        except OSError as e:
            raise JournalUnwritable(f"journal {self._dir}: {e.strerror}") from e
        self._thread = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sync and close."""
        self._stopping = True
        self._sync_now.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            if self._fd >= 0:
                try:
                    self._write([_line(["c"])])
                    os.fsync(self._fd)
                except (JournalUnwritable, OSError) as e:
                    log.warning("journal %s: not closed in good order: %s", self._dir, e)
                os.close(self._fd)
                self._fd = -1

    # ------------------------------------------------------------------ taking readings

    def append(self, new: Sequence[NewRow]) -> list[Row]:
        """Take readings, all or none: numbered, and written to the operating system when this returns.

        Two readings of one series never get the same millisecond, not even after the clock was set back.
        Raises JournalUnwritable; then none is taken, and the caller still has them.
        """
        if not new:
            return []
        with self._lock:
            # Before the lines are made: a series index is good in its own segment only.
            self._roll_if_full()
            synchronised = self._boot in self._offsets
            rows: list[Row] = []
            lines: list[bytes] = []
            undo = dict(self._last_ms), dict(self._last_boot_ms), dict(self._series)
            repeats = self._size >= self._repeat_at
            if repeats:
                lines += [self._header(), *(_line(["s", index, name]) for name, index in self._series.items())]
            for offset, (series, value, qc, wall_s, boot_s) in enumerate(new):
                index = self._series.get(series)
                if index is None:
                    index = self._series[series] = self._next_index
                    self._next_index += 1
                    lines.append(_line(["s", index, series]))
                boot_ms = max(round(boot_s * 1000), self._last_boot_ms.get(series, -1) + 1)
                self._last_boot_ms[series] = boot_ms
                wall_ms = self._free_ms(series, self._dated_ms(wall_s, boot_ms), rows)
                row = Row(self._next + offset, series, value, qc, wall_ms, boot_ms, synchronised, self._boot)
                rows.append(row)
                lines.append(_line(["r", row.number, index, value, qc, wall_ms, boot_ms, int(synchronised)]))
            try:
                self._put(b"".join(lines))
            except JournalUnwritable:
                self._last_ms, self._last_boot_ms, self._series = undo
                raise
            if repeats:
                self._repeat_at = self._size + _REPEAT_BYTES[1]
            self._next += len(rows)
            self._unsynced += len(rows)
            if self._unsynced >= _LOST_TAIL // 2:
                self.sync()
            self._remember(rows)
            return rows

    def sync(self) -> None:
        """Sync to the disk now, in the background: nobody waits for a slow card."""
        self._sync_now.set()

    def synchronised(self, offset_ms: int) -> bool:
        """The clock is synchronised: wall time = boot time + `offset_ms`. True the first time in a boot."""
        with self._lock:
            if self._boot in self._offsets:
                return False
            self._write([_line(["y", self._boot, offset_ms])])
            self._offsets[self._boot] = offset_ms
            return True

    # ------------------------------------------------------------------ sending

    @property
    def head(self) -> int:
        """The last number taken; 0 when none was."""
        return self._next - 1

    @property
    def boot(self) -> int:
        """The ordinal of the present boot."""
        return self._boot

    @property
    def depth(self) -> int:
        """How many readings wait for their receipt."""
        with self._lock:
            return self.head - len(self._stored)

    @property
    def waited_s(self) -> float:
        """For how long readings of this boot had waited without a receipt for any, when the newest was taken."""
        with self._lock:
            return 0.0 if self._waits_from_ms is None else max(0, self._newest_ms - self._waits_from_ms) / 1000

    def packs(self) -> list[Pack]:
        """The packs that were published and have no receipt, oldest first."""
        with self._lock:
            return [self._packs[first] for first in sorted(self._packs)]

    def unpacked(self, start: int = 1) -> tuple[int, int] | None:
        """The first run of numbers from `start` on that are neither stored nor in a pack."""
        with self._lock:
            return self._claimed.gap(start, self.head)

    def form(self, first: int, last: int, lane: Lane, *, allow_estimated: bool) -> Pack | None:
        """Fix the next pack from `first` on, at most to `last`: one clock state, at most 16 KiB; journaled before it returns.

        None when its first row must wait for the clock (`allow_estimated` false), or when there is none. Raises JournalUnwritable.
        """
        with self._lock:
            limit = min(last, first + min(readings.MAX_RECORDS, readings.MAX_PAYLOAD_BYTES // _BYTES_PER_RECORD) - 1)
            rows = self.rows(first, limit)
            if not rows or rows[0].number != first:
                there = self._first_row(first, last)
                self._give_up(first, last if there is None else there - 1)
                return None if there is None else self.form(there, last, lane, allow_estimated=allow_estimated)
            state = self._clock_state(rows[0])
            if state is None and not allow_estimated:
                return None
            end = first
            for row in rows[1:]:
                if row.number != end + 1 or self._clock_state(row) != state:
                    break
                end = row.number
            offset = state if state is not None and state >= 0 else None
            thinned = self._thinned[0] if self._thinned else None
            pack = Pack(first, end, lane, state is None, offset, thinned)
            self._write([_line(["p", *pack])])
            self._thinned = self._thinned[1:]
            self._add_pack(pack)
            return pack

    def message(self, pack: Pack) -> Message:
        """The bytes of a pack, always the same ones. Raises PackLost."""
        rows = self.rows(pack.first, pack.last)
        if len(rows) != pack.last - pack.first + 1:
            self._dissolve(pack)
            raise PackLost(f"journal {self._dir}: of readings {pack.first}-{pack.last} {len(rows)} are left")
        out = [
            Reading(
                r.series,
                r.value,
                r.qc,
                r.wall_ms if r.synchronised or pack.offset_ms is None else r.boot_ms + pack.offset_ms,
            )
            for r in rows
        ]
        bounds = PackRange(self.id, pack.first, pack.last)
        properties = readings.user_properties(PackProperties(bounds, pack.lane, pack.estimated, pack.thinned))
        return Message(senml.to_json(readings.records(out)), properties, bounds.correlation())

    def receipt(self, first: int, last: int, held: Sequence[int] = ()) -> bool:
        """Central stored this pack. False, and nothing changes, when no such pack is outstanding.

        `held` are numbers that central keeps in quarantine: they are not sent again unasked, and stay as unsent ones do.
        """
        with self._lock:
            pack = self._packs.get(first)
            released = self._held.gap(first, last) is None  # central's quarantine let them go
            if not released and (pack is None or pack.last != last):
                return False
            at_ms = round(self._clock.boot() * 1000)
            self._write([_line(["k", first, last, list(held), at_ms])])
            self._apply_receipt(first, last, held, at_ms)
            return True

    def resend(self, first: int, last: int) -> int:
        """Return stored readings to the backlog. Gives how many; those no longer on the disk cannot be."""
        with self._lock:
            oldest = self._segments[0].first
            first, last = max(first, oldest), min(last, self.head)
            if first > last:
                return 0
            before = len(self._stored)
            self._write([_line(["u", first, last])])
            self._apply_resend(first, last)
            return before - len(self._stored)

    def rows(self, first: int, last: int) -> list[Row]:
        """The readable rows of a range, in order."""
        with self._lock:
            if self._recent and self._recent[0].number <= first:
                start = first - self._recent[0].number
                return [
                    self._recent[i]
                    for i in range(max(0, start), min(len(self._recent), last - self._recent[0].number + 1))
                ]
            out: list[Row] = []
            for i, segment in enumerate(self._segments):
                after = self._segments[i + 1].first if i + 1 < len(self._segments) else self._next
                if segment.first <= last and after > first:
                    there = self._segment_rows(segment)
                    out += there[bisect_left(there, first, key=_number) : bisect_right(there, last, key=_number)]
            return out

    def since(self, wall_s: float) -> list[Row]:
        """Rows measured at or after a wall time, in order: to prime the rules after a restart."""
        with self._lock:
            limit = round(wall_s * 1000)
            out: list[Row] = []
            for segment in reversed(self._segments):
                out[:0] = [row for row in self._segment_rows(segment) if row.wall_ms >= limit]
                header = _first_record(segment.path)
                if header and header[0] == "h" and max(header[1]["last_ms"].values(), default=0) < limit:
                    break
            return out

    def prune(self) -> int:
        """Delete whole segments of stored readings that are older than `keep_days`, or the oldest while the journal is too large.
        If it still is, thin the oldest unsent readings. Gives how many segments went."""
        with self._lock:
            sizes = {segment: segment.path.stat() for segment in self._segments}
            total = sum(stat.st_size for stat in sizes.values())
            oldest_kept = self._clock.wall() - self._keep_s
            gone = 0
            for segment in self._stored_segments():
                stat = sizes[segment]
                if total > self._max_bytes or (stat.st_mtime < oldest_kept and self._last_before(segment, oldest_kept)):
                    self._delete(segment)
                    total -= stat.st_size
                    gone += 1
        while total > self._max_bytes:
            with self._lock:  # one at a time: readings wait meanwhile
                freed = self._thin_oldest()
                if not freed:
                    break
                with suppress(JournalUnwritable):  # then it is noted with the next record
                    self._put(b"")
            total -= freed
        with self._lock:
            self._make_reserve()
        return gone

    # ------------------------------------------------------------------ inside

    def _remember(self, rows: Sequence[Row]) -> None:
        """Keep the latest rows at hand, without a gap: numbers may have been passed over after a power cut."""
        if self._recent and self._recent[-1].number != rows[0].number - 1:
            self._recent.clear()
        self._recent.extend(rows)
        self._newest_ms = rows[-1].boot_ms
        if self._waits_from_ms is None:
            self._waits_from_ms = rows[0].boot_ms

    def _stored_segments(self) -> list[_Segment]:
        """Those of which every reading is stored, oldest first, without the one that grows."""
        return [
            segment
            for segment, following in itertools.pairwise(self._segments)
            if self._stored.gap(segment.first, following.first - 1) is None
        ]

    def _delete(self, segment: _Segment) -> None:
        segment.path.unlink()
        self._forget(segment)
        self._segments.remove(segment)
        self._thin.pop(segment.path, None)

    def _forget(self, segment: _Segment) -> None:
        """Nothing up to the end of this segment is at hand any more: a pack made of it could not be made again."""
        following = self._segments[self._segments.index(segment) + 1]
        while self._recent and self._recent[0].number < following.first:
            self._recent.popleft()

    def _thin_oldest(self) -> int:
        """Thin the oldest segment that was not yet. Gives how many bytes that freed; 0 when there is none, or no space for it."""
        for segment in self._segments[:-_NEWEST_SEGMENTS]:
            if not self._is_thin(segment):
                try:
                    return self._thin_segment(segment)
                except OSError as e:
                    segment.path.with_suffix(".thin").unlink(missing_ok=True)
                    log.error("journal %s: %s cannot be thinned: %s", self._dir, segment.path.name, e.strerror)
                    return 0
        return 0

    def _is_thin(self, segment: _Segment) -> bool:
        if segment.path not in self._thin:
            with segment.path.open("rb") as file:
                file.readline()
                record = _parse(file.readline().rstrip(b"\n"))
            self._thin[segment.path] = record is not None and record[0] == "t"
        return self._thin[segment.path]

    def _thin_segment(self, segment: _Segment) -> int:
        """Write it anew beside it, and put that in its place. Raises OSError; then it stays as it was."""
        rows = self._segment_rows(segment)
        unsent = [row for row in rows if row.number not in self._claimed]
        kept = {row.number for row in rows if row.number in self._claimed and row.number not in self._stored}
        kept |= _telling(unsent)
        count = sum(row.number not in kept for row in unsent)
        header, *lines = segment.path.read_bytes().split(b"\n")
        out = [header, _line(["t", segment.sequence, count]).rstrip(b"\n")]
        for line in lines:
            record = _parse(line)
            if record is None or record[0] != "r" or record[1] in kept:  # damaged lines stay too, for salvage
                out.append(line)
        data = b"\n".join(out)
        before = segment.path.stat()
        draft = segment.path.with_suffix(".thin")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.utime(draft, ns=(before.st_atime_ns, before.st_mtime_ns))
        draft.replace(segment.path)
        self._thin[segment.path] = True
        self._cache = None
        self._forget(segment)
        log.warning(
            "journal %s: no more room, %d unsent readings of %s thinned out", self._dir, count, segment.path.name
        )
        self.thinned += count
        self._owed += _line(["t", segment.sequence, count])
        return max(1, before.st_size - len(data))

    def _first_row(self, first: int, last: int) -> int | None:
        """The first number of a range that the disk gives back."""
        for i, segment in enumerate(self._segments):
            after = self._segments[i + 1].first if i + 1 < len(self._segments) else self._next
            if segment.first <= last and after > first:
                for row in self._segment_rows(segment):
                    if first <= row.number <= last:
                        return row.number
        return None

    def _last_before(self, segment: _Segment, wall_s: float) -> bool:
        rows = self._segment_rows(segment)
        return not rows or rows[-1].wall_ms < wall_s * 1000

    def _clock_state(self, row: Row) -> int | None:
        """-1: its wall time is good; an offset: its boot synchronised later; None: it never did, so far."""
        return -1 if row.synchronised else self._offsets.get(row.boot)

    def _dated_ms(self, wall_s: float, boot_ms: int) -> int:
        """Wall time as it is published, unless the clock is set later. One of a clock that was never set (1970) would be taken
        as relative to now by who receives it (RFC 8428 section 4.5.3), anew each time it comes: such a boot stands behind all
        earlier readings, as if no time had passed without power."""
        if wall_s >= senml.RELATIVE_TIME_LIMIT_S:
            return round(wall_s * 1000)
        if self._unset_ms is None:
            newest = self._recent[-1] if self._recent else None
            if newest and newest.boot == self._boot and not newest.synchronised:
                self._unset_ms = newest.wall_ms - newest.boot_ms
            else:
                latest_ms = max(self._last_ms.values(), default=0)
                self._unset_ms = max(latest_ms + 1, senml.RELATIVE_TIME_LIMIT_S * 1000) - boot_ms
        return boot_ms + self._unset_ms

    def _free_ms(self, series: str, wall_ms: int, batch: Sequence[Row]) -> int:
        """The first free millisecond of a series from `wall_ms` on; `batch` are the rows that are not written yet."""
        last = self._last_ms.get(series)
        if last is None or wall_ms > last:
            self._last_ms[series] = wall_ms
        elif wall_ms == last:
            wall_ms = self._last_ms[series] = last + 1
        else:
            # The wall clock was set back, or several came in one ms: earlier readings may hold this very one.
            taken = self._taken_ms(wall_ms, batch).setdefault(series, set())
            while wall_ms in taken:
                wall_ms += 1
            self._last_ms[series] = max(last, wall_ms)
        if self._occupied is not None:
            self._occupied.setdefault(series, set()).add(wall_ms)
            self._occupied_count += 1
            if self._occupied_count > _MAX_OCCUPIED:
                self._occupied = None  # read again when it is needed again
        return wall_ms

    def _taken_ms(self, wall_ms: int, batch: Sequence[Row]) -> dict[str, set[int]]:
        if self._occupied is None or wall_ms < self._occupied_from:
            self._occupied, self._occupied_from, self._occupied_count = {}, wall_ms, 0
            for row in (*self.since(wall_ms / 1000), *batch):
                self._occupied.setdefault(row.series, set()).add(row.wall_ms)
        return self._occupied

    def _add_pack(self, pack: Pack) -> None:
        self._packs[pack.first] = pack
        self._claimed.add(pack.first, pack.last)

    def _apply_receipt(self, first: int, last: int, held: Iterable[int], at_ms: int) -> None:
        pack = self._packs.get(first)
        if pack is not None and pack.last == last:
            del self._packs[first]
        self._held.remove(first, last)
        self._stored.add(first, last)
        self._claimed.add(first, last)
        for number in held:
            self._stored.remove(number, number)
            self._held.add(number, number)
        self._waits_from_ms = at_ms if self.depth else None

    def _apply_resend(self, first: int, last: int) -> None:
        self._stored.remove(first, last)
        self._held.remove(first, last)
        self._claimed.remove(first, last)
        for pack in self._packs.values():
            self._claimed.add(pack.first, pack.last)

    def _dissolve(self, pack: Pack) -> None:
        with self._lock:
            if self._packs.pop(pack.first, None) is None:
                return
            self._claimed = Intervals((a, b) for a, b in [*self._stored.pairs(), *self._held.pairs()])
            for other in self._packs.values():
                self._claimed.add(other.first, other.last)
            if pack.thinned:
                self._thinned.insert(0, pack.thinned)

    def _give_up(self, first: int, last: int) -> None:
        """Numbers that the disk no longer gives back: marked, announced with the next pack, reported."""
        holes = [s for s, after in itertools.pairwise(self._segments) if s.first <= last and after.first > first]
        if not holes or not all(self._is_thin(segment) for segment in holes):
            log.error("journal %s: readings %d-%d cannot be read back and are given up", self._dir, first, last)
        self._write([_line(["g", first, last])])
        self._apply_give_up(first, last)

    def _skip_lost_tail(self) -> None:
        """After a power cut the last rows may be gone while central has them: their numbers must not be given twice."""
        first, last = self._next, self._next + _LOST_TAIL - 1
        self._owed += _line(["g", first, last])
        self._next = last + 1
        self._apply_give_up(first, last)

    def _apply_give_up(self, first: int, last: int) -> None:
        self._stored.add(first, last)
        self._claimed.add(first, last)
        if self._thinned and self._thinned[-1][1] == first - 1:
            first = self._thinned.pop()[0]
        self._thinned.append((first, last))

    def _write(self, lines: list[bytes]) -> None:
        self._roll_if_full()
        self._put(b"".join(lines))

    def _roll_if_full(self) -> None:
        if self._size >= self._segment_bytes:
            self._roll()

    def _put(self, data: bytes) -> None:
        owed = self._owed
        self.refused = True
        self._freeing(lambda: self._put_once(owed + data))
        self.refused = False
        self._owed = self._owed[len(owed) :]  # making space may owe something more

    def _freeing(self, write: Callable[[], None]) -> None:
        """Do it; on a full disk make space and do it once more. Raises JournalUnwritable."""
        try:
            write()
        except OSError as e:
            if e.errno != errno.ENOSPC or not self._free_space():
                raise JournalUnwritable(f"journal {self._dir}: {e.strerror}") from e
            try:
                write()
            except OSError as again:
                raise JournalUnwritable(f"journal {self._dir}: {again.strerror}") from again

    def _put_once(self, data: bytes) -> None:
        """Write all or leave the file as it was."""
        try:
            _write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)
        self._dirty = True

    def _make_reserve(self) -> None:
        """A file to give back to a full disk, so that receipts can still be noted and free more."""
        reserve = self._dir / "reserve"
        try:
            if not reserve.exists():
                reserve.write_bytes(bytes(_RESERVE_BYTES))
        except OSError as e:
            reserve.unlink(missing_ok=True)
            log.warning("journal %s: no space kept for a full disk: %s", self._dir, e.strerror)

    def _free_space(self) -> bool:
        """Give a full disk something back: the oldest stored readings, else by thinning, else the reserve."""
        stored = self._stored_segments()
        if stored:
            self._delete(stored[0])
            return True
        reserve = self._dir / "reserve"
        if not reserve.exists():
            return False
        reserve.unlink()  # what is thinned is written anew first
        if self._thin_oldest():
            self._make_reserve()
        return True

    def _header(self) -> bytes:
        return _line([
            "h",
            {
                "format": FORMAT,
                "journal": self.id,
                "next": self._next,
                "boot": [self._boot, self._boot_id],
                "offsets": sorted(self._offsets.items())[-50:],
                "stored": self._stored.pairs(),
                "held": self._held.pairs(),
                "packs": [list(pack) for pack in self._packs.values()],
                "thinned": self._thinned,
                "thinned_count": self.thinned,
                "waits": [self._waits_from_ms, self._newest_ms],
                "last_ms": self._last_ms,
                "last_boot_ms": self._last_boot_ms,
            },
        ])  # fmt: skip

    def _roll(self) -> None:
        """Go on in a new segment. Raises JournalUnwritable; then the present one stays."""
        self._freeing(self._roll_once)

    def _roll_once(self) -> None:
        """The old segment is synced first, so that a header never describes rows that a power cut took."""
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        path = self._dir / f"{sequence:08d}-{self._next:012d}.log"
        header = self._header()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            _write_all(fd, header)
            os.fsync(fd)
            if self._fd >= 0:
                os.fsync(self._fd)
            _sync_directory(self._dir)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, len(header)
        self._repeat_at = self._size + _REPEAT_BYTES[0]
        self._owed = b""  # the header has it
        self._series = {}
        self._next_index = 0
        self._segments.append(_Segment(path, sequence, self._next))

    def _recover(self) -> None:
        for path in sorted(self._dir.glob("*-*.log")):
            sequence, _, first = path.stem.partition("-")
            self._segments.append(_Segment(path, int(sequence), int(first)))
        start = len(self._segments)
        position = 0
        while start > 0:
            start -= 1
            record = _first_record(self._segments[start].path)
            if record is not None and record[0] == "h":
                self._load_header(record[1])
                break
        else:
            found = self._repeated_header()
            if found is None:
                self._set_aside()
                self.id = uuid.uuid4().hex
                self._roll()
                return
            start, position = found
        for segment in self._segments[start:]:
            self._replay(segment, position, newest=segment is self._segments[-1])
            position = 0
        newest = self._segments[-1]
        self._fd = os.open(newest.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = newest.path.stat().st_size
        self._repeat_at = self._size + _REPEAT_BYTES[0]

    def _repeated_header(self) -> tuple[int, int] | None:
        """Load the newest header in the midst of a segment: which segment that is, and where what follows begins. None: no such."""
        for i, segment in reversed(list(enumerate(self._segments))):
            data = segment.path.read_bytes()
            end = len(data)
            while (start := data.rfind(b"\n", 0, end)) >= 0:
                record = _parse(data[start + 1 : data.find(b"\n", start + 1)])
                if record and record[0] == "h":
                    log.error("journal %s: %s has lost its beginning", self._dir, segment.path.name)
                    self.corrupt += 1
                    self._load_header(record[1])
                    return i, data.find(b"\n", start + 1) + 1
                end = start
        return None

    def _set_aside(self) -> None:
        """Nothing here can be read: keep it for salvage, never delete it, and begin a new journal."""
        for segment in self._segments:
            log.error("journal %s: %s has no readable header, kept as .damaged", self._dir, segment.path.name)
            segment.path.rename(segment.path.with_suffix(".damaged"))
            self.corrupt += 1
        self._segments = []

    def _load_header(self, header: dict[str, Any]) -> None:
        if header["format"] != FORMAT:
            raise JournalUnwritable(f"journal {self._dir}: format {header['format']}, expected {FORMAT}")
        self.id = header["journal"]
        self._next = header["next"]
        self._boot, self._boot_id = header["boot"]
        self._offsets = dict(header["offsets"])
        self._stored = Intervals((a, b) for a, b in header["stored"])
        self._held = Intervals((a, b) for a, b in header["held"])
        self._claimed = Intervals((a, b) for a, b in [*header["stored"], *header["held"]])
        for record in header["packs"]:
            self._add_pack(_pack(record))
        self._thinned = [(a, b) for a, b in header["thinned"]]
        self.thinned = header.get("thinned_count", 0)
        self._waits_from_ms, self._newest_ms = header.get("waits", (None, 0))
        self._last_ms = dict(header["last_ms"])
        self._last_boot_ms = dict(header["last_boot_ms"])

    def _replay(self, segment: _Segment, position: int, *, newest: bool) -> None:
        """Take in what stands in a segment from a byte on."""
        data = segment.path.read_bytes()
        names = _names(map(_parse, data.split(b"\n")))
        self._series = {series: index for index, series in names.items()}
        self._next_index = max(names, default=-1) + 1
        while position < len(data):
            end = data.find(b"\n", position)
            record = _parse(data[position:end]) if end >= 0 else None
            if record is None:
                if newest and (end < 0 or _no_record_after(data, end + 1)):
                    log.warning(
                        "journal %s: torn last record cut off (%d bytes)", segment.path.name, len(data) - position
                    )
                    os.truncate(segment.path, position)
                    return
                self.corrupt += 1
                log.error("journal %s: damaged record at byte %d skipped", segment.path.name, position)
            else:
                self._apply(record, names)
            position = end + 1 if end >= 0 else len(data)

    def _apply(self, record: list[Any], names: dict[int, str]) -> None:
        self._closed = False
        match record:
            case ["r", number, index, value, qc, wall_ms, boot_ms, synchronised]:
                self._next = number + 1
                self._next_index = max(self._next_index, index + 1)
                series = names.get(index)
                if series is None:
                    return
                self._last_ms[series] = max(self._last_ms.get(series, wall_ms), wall_ms)
                self._last_boot_ms[series] = boot_ms
                row = Row(number, series, value, qc, wall_ms, boot_ms, bool(synchronised), self._boot)
                self._remember([row])
            case ["b", ordinal, boot_id]:
                self._boot, self._boot_id = ordinal, boot_id
                self._last_boot_ms.clear()
                self._waits_from_ms = None
            case ["y", ordinal, offset_ms]:
                self._offsets[ordinal] = offset_ms
            case ["p", *fields]:
                pack = _pack(fields)
                if pack.thinned in self._thinned:
                    self._thinned.remove(pack.thinned)
                self._add_pack(pack)
            case ["k", first, last, held, *at_ms]:  # before the time stood there, that of the newest reading has to do
                self._apply_receipt(first, last, held, at_ms[0] if at_ms else self._newest_ms)
            case ["u", first, last]:
                self._apply_resend(first, last)
            case ["g", first, last]:
                self._next = max(self._next, last + 1)
                self._apply_give_up(first, last)
            case ["t", _, count]:
                self.thinned += count
            case ["c"]:
                self._closed = True

    def _segment_rows(self, segment: _Segment) -> list[Row]:
        """All readable rows of a segment; the last one asked for is kept, since a backlog is read in order."""
        growing = segment is self._segments[-1]
        if self._cache and self._cache[0] == segment.path and not growing:
            return self._cache[1]
        rows = salvage(segment.path.read_bytes()).rows
        if not growing:
            self._cache = segment.path, rows
        return rows

    def _sync_loop(self) -> None:
        failing = False
        while True:
            hurried = self._clock.wait(self._sync_now, self._sync_s)
            self._sync_now.clear()
            if self._stopping:
                return
            with self._lock:
                if not self._dirty or self._fd < 0:
                    continue
                self._dirty = False
                self._unsynced = 0
                fd = os.dup(self._fd)
            try:
                self._fdatasync(fd)
                failing = False
                if not hurried:
                    _clean(fd)
            except OSError as e:
                if not failing:
                    log.error("journal %s: not synced to the disk: %s", self._dir, e.strerror)
                failing = self._dirty = True
            finally:
                os.close(fd)


def _clean(fd: int) -> None:
    """Have the kernel think of the file as clean, which fdatasync alone does not.

    Else its own flusher, 30 s after the inode became dirty (proc(5), dirty_expire_centisecs), writes the page between two of our
    syncs once more, and an SD card wears twice as fast. What others have written to the file system goes with it, as it
    would within those 30 s by itself.
    """
    ctypes.CDLL(None).syncfs(fd)  # syncfs(2); whether the data are on the disk, fdatasync has said


def _write_all(fd: int, data: bytes) -> None:
    """write(2) may take a part only: near the end of a disk it does, and says why at the next call."""
    done = 0
    while done < len(data):
        done += os.write(fd, data[done:])


def _telling(rows: Iterable[Row]) -> set[int]:
    """Numbers of the first, the lowest and the highest reading per series and ten minutes, among those that quality control did
    not fail if there are any: a spike must not stand for the crest. Amounts that are not zero stay all."""
    groups: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.series, row.boot, row.boot_ms // _THIN_MS), []).append(row)
    kept: set[int] = set()
    for (series, _, _), group in groups.items():
        usable = [row for row in group if row.qc in (1, 2, 3)] or group
        kept |= {usable[0].number, min(usable, key=_value).number, max(usable, key=_value).number}
        if series.rpartition("/")[2] in _AMOUNTS:
            kept |= {row.number for row in usable if row.value != 0}
    return kept


def _names(records: Iterable[list[Any] | None]) -> dict[int, str]:
    """The series of a segment by index. They may stand behind their readings, where a page before them is destroyed."""
    return {record[1]: record[2] for record in records if record and record[0] == "s"}


def _first_boot(records: Iterable[list[Any]]) -> int:
    """The ordinal of the boot at the start of a segment, also of one that has lost its header."""
    for record in records:
        match record:
            case ["h", header]:
                ordinal: int = header["boot"][0]
                return ordinal
            case ["b", int(ordinal), _]:
                return ordinal - 1
    return 0


def _number(row: Row) -> int:
    return row.number


def _value(row: Row) -> float:
    return row.value


def _pack(fields: Sequence[Any]) -> Pack:
    first, last, lane, estimated, offset_ms, thinned = fields
    return Pack(first, last, lane, bool(estimated), offset_ms, tuple(thinned) if thinned else None)


def _first_record(path: Path) -> list[Any] | None:
    with path.open("rb") as file:
        line = file.readline()
    return _parse(line[:-1]) if line.endswith(b"\n") else None


def _no_record_after(data: bytes, position: int) -> bool:
    return all(_parse(line) is None for line in data[position:].split(b"\n"))


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
