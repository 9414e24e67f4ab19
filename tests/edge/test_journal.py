"""The journal: a model test over kills, torn tails, receipts and re-sends, and the cases that bite."""

import errno
import math
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.clock import Clock
from common.intervals import Intervals
from edge.journal import Journal, JournalUnwritable, NewRow
from tests import servers
from tests.disks import small_disk
from wire import senml

SERIES = ("a/s/water_level", "a/s/pm10", "b/t/water_level")


class Machine:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.boot_s = 1000.0
        self.wall_s = 1_750_000_000.0
        self.boot_id = "a boot"

    def clock(self) -> Clock:
        clock = Clock(boottime=lambda: self.boot_s, walltime=lambda: self.wall_s, trust="always")
        clock.boot_id = self.boot_id
        return clock


def opened(path: Path, machine: Machine, **options: int) -> Journal:
    journal = Journal(path, machine.clock(), sync_s=3600, **options)
    journal.open()
    return journal


def new(machine: Machine, value: float = 1.0, series: str = SERIES[0]) -> NewRow:
    return NewRow(series, value, 1, machine.wall_s, machine.boot_s)


class JournalModel(RuleBasedStateMachine):
    """The real journal against a dictionary. A kill is an abandoned object; what its writes returned must be there again."""

    @initialize(backlog=st.integers(0, 12))
    def begin(self, backlog: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.machine = Machine()
        self.path = Path(self.folder.name)
        self.journal = self.opened()
        self.journal.synchronised(round((self.machine.wall_s - self.machine.boot_s) * 1000))
        self.taken: dict[int, tuple[str, float]] = {}
        self.stored: set[int] = set()
        self.payloads: dict[int, bytes] = {}
        self.measured_ms: dict[int, int] = {}
        self.given_up: set[int] = set()
        self.announced: set[int] = set()
        self.asked_again: set[int] = set()
        for seed in range(backlog):
            self.take(step_s=30.0, count=60, seed=seed)

    @rule(step_s=st.floats(-100, 100), count=st.integers(1, 100), seed=st.integers(0, 10_000))
    def take(self, step_s: float, count: int, seed: int) -> None:
        self.machine.boot_s += abs(step_s)
        self.machine.wall_s += step_s
        rng = random.Random(seed)
        rows = [new(self.machine, float(rng.randint(-99, 99)), rng.choice(SERIES)) for _ in range(count)]
        for row in self.journal.append(rows):
            self.taken[row.number] = (row.series, row.value)
            self.measured_ms[row.number] = row.boot_ms

    @rule()
    def pack(self) -> None:
        run = self.journal.unpacked()
        if run:
            formed = self.journal.form(*run, "live", allow_estimated=False)
            self.given_up |= set(range(run[0], formed.first if formed else run[1] + 1))
            if formed:
                self.payloads[formed.first] = self.journal.message(formed).payload
                if formed.thinned:
                    self.announced |= set(range(formed.thinned[0], formed.thinned[1] + 1))

    @precondition(lambda self: self.journal.thinned and self.journal.unpacked())
    @rule()
    def drain(self) -> None:
        """In the end central knows of every number what became of it, and of none that it got that it was given up."""
        resent = set(self.asked_again)
        while self.journal.unpacked():
            self.pack()
        for pack in self.journal.packs():
            assert self.journal.receipt(pack.first, pack.last)
            self.stored |= set(range(pack.first, pack.last + 1))
        for _ in range(20):  # the last gaps are announced with the next packs, one each
            self.take_one()
            self.pack()
        assert self.given_up <= self.announced
        assert self.stored | self.announced | self.published() == self.taken.keys()
        assert (self.stored | self.published()) & self.announced <= resent

    def take_one(self) -> None:
        self.machine.boot_s += 1
        self.machine.wall_s += 1
        (row,) = self.journal.append([new(self.machine)])
        self.taken[row.number] = (row.series, row.value)
        self.measured_ms[row.number] = row.boot_ms

    @precondition(lambda self: self.journal.packs())
    @rule(data=st.data())
    def receipt(self, data: st.DataObject) -> None:
        pack = data.draw(st.sampled_from(self.journal.packs()))
        assert self.journal.receipt(pack.first, pack.last)
        assert not self.journal.receipt(pack.first, pack.last)
        self.stored |= set(range(pack.first, pack.last + 1))

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        first = data.draw(st.sampled_from(sorted(self.stored)))
        if self.journal.resend(first, first):  # else its segment is gone
            self.stored.discard(first)
            self.asked_again.add(first)

    @rule(torn=st.binary(max_size=30).filter(lambda b: b"\n" not in b))
    def kill(self, torn: bytes) -> None:
        newest = sorted(self.path.glob("*-*.log"))[-1]
        with newest.open("ab") as file:
            file.write(torn)
        self.journal = self.opened()

    @rule()
    def outgrow(self) -> None:
        """What is stored may go, what is unsent is thinned, what was published stays."""
        before = self.unsent()
        self.journal.prune()
        there = self.there()
        assert self.published() <= there.keys()
        for readings in before.values():
            left = [self.taken[number][1] for number in readings if number in there]
            values = [self.taken[number][1] for number in readings]
            assert {values[0], min(values), max(values)} <= set(left)
        event("thinned" if self.journal.thinned else "nothing thinned")

    def opened(self) -> Journal:
        return opened(self.path, self.machine, segment_bytes=2000, max_bytes=1)

    def there(self) -> dict[int, tuple[str, float]]:
        return {r.number: (r.series, r.value) for r in self.journal.rows(1, self.journal.head)}

    def published(self) -> set[int]:
        return {number for pack in self.journal.packs() for number in range(pack.first, pack.last + 1)}

    def unsent(self) -> dict[tuple[str, int], list[int]]:
        """The numbers on the disk that are neither stored nor published, per series and ten minutes."""
        found: dict[tuple[str, int], list[int]] = {}
        for number, (series, _) in self.there().items():
            if number not in self.stored | self.published():
                found.setdefault((series, self.measured_ms[number] // 600_000), []).append(number)
        return found

    @invariant()
    def agrees(self) -> None:
        assert self.journal.head == len(self.taken)
        rows = self.journal.rows(1, self.journal.head)
        assert {r.number: (r.series, r.value) for r in rows}.items() <= self.taken.items()
        gone = self.taken.keys() - {r.number for r in rows}
        assert len(gone - self.stored - self.asked_again) <= self.journal.thinned
        assert self.journal.depth == len(self.taken) - len(self.stored | self.given_up)
        times = [(r.series, r.wall_ms) for r in rows]
        assert len(set(times)) == len(times), "two readings of one series in one millisecond"
        for pack in self.journal.packs():
            assert self.journal.message(pack).payload == self.payloads[pack.first], "the same bytes, always"

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


@pytest.mark.parametrize("seed", range(20))
def test_intervals_are_a_set(seed: int) -> None:
    rng = random.Random(seed)
    intervals, model = Intervals(), set()
    for _ in range(60):
        first = rng.randint(1, 60)
        last = first + rng.randint(0, 9)
        if rng.random() < 0.7:
            intervals.add(first, last)
            model |= set(range(first, last + 1))
        else:
            intervals.remove(first, last)
            model -= set(range(first, last + 1))
        assert {n for a, b in intervals for n in range(a, b + 1)} == model
        assert len(intervals) == len(model)
        missing = [n for n in range(1, 71) if n not in model]
        gap = intervals.gap(1, 70)
        assert gap is not None
        assert gap[0] == missing[0]


def test_zero_is_a_value(tmp_path: Path) -> None:
    journal = opened(tmp_path, Machine())
    machine = Machine()
    journal.synchronised(0)
    journal.append([new(machine, 0.0)])
    pack = journal.form(1, 1, "live", allow_estimated=False)
    assert pack is not None
    assert b'"v":0.0' in journal.message(pack).payload
    journal.close()


def test_rows_before_synchronisation_are_restamped_when_it_comes(tmp_path: Path) -> None:
    machine = Machine()
    machine.wall_s = 86400.0  # a Pi without a clock wakes in 1970
    journal = opened(tmp_path, machine)
    journal.append([new(machine)])
    assert journal.form(1, 1, "live", allow_estimated=False) is None, "it waits for the clock"
    journal.synchronised(1_750_000_000_000)
    pack = journal.form(1, 1, "live", allow_estimated=False)
    assert pack is not None
    assert not pack.estimated
    assert b'"t":1750001000.0' in journal.message(pack).payload
    journal.close()


def test_without_synchronisation_a_pack_says_estimated(tmp_path: Path) -> None:
    machine = Machine()
    journal = opened(tmp_path, machine)
    journal.append([new(machine)])
    pack = journal.form(1, 1, "live", allow_estimated=True)
    assert pack is not None
    assert ("clock", "estimated") in journal.message(pack).properties
    journal.close()


def test_a_clock_that_was_never_set_gives_no_time_that_means_relative_to_now(tmp_path: Path) -> None:
    """And the process may be killed meanwhile. Below 2^28 s SenML takes a time as relative (RFC 8428 section 4.5.3)."""
    machine = Machine()
    journal = opened(tmp_path, machine)
    journal.append([new(machine)])
    before_ms = round(machine.wall_s * 1000)
    machine.wall_s, machine.boot_s, machine.boot_id = 60.0, 60.0, "the next boot"
    wall_ms = []
    for _ in range(2):
        journal.close()
        journal = opened(tmp_path, machine)
        for _ in range(2):
            machine.wall_s += 5
            machine.boot_s += 5
            wall_ms += [row.wall_ms for row in journal.append([new(machine), new(machine, series=SERIES[1])])]
    assert wall_ms == [before_ms + 1 + ms for ms in (0, 0, 5000, 5000, 10_000, 10_000, 15_000, 15_000)]
    journal.close()


def test_a_fresh_gateway_whose_clock_was_never_set_publishes_absolute_times(tmp_path: Path) -> None:
    machine = Machine()
    machine.wall_s = 60.0
    journal = opened(tmp_path, machine)
    (row,) = journal.append([new(machine)])
    assert row.wall_ms == senml.RELATIVE_TIME_LIMIT_S * 1000
    journal.close()


def test_unsent_segments_are_never_pruned(tmp_path: Path) -> None:
    machine = Machine()
    journal = opened(tmp_path, machine, segment_bytes=500, max_bytes=1)
    journal.synchronised(0)
    for _ in range(60):
        machine.wall_s += 1
        machine.boot_s += 1
        journal.append([new(machine)])
    assert journal.prune() == 0
    run = journal.unpacked()
    while run:
        pack = journal.form(*run, "backlog", allow_estimated=False)
        assert pack is not None
        journal.receipt(pack.first, pack.last)
        run = journal.unpacked()
    assert journal.prune() > 0
    journal.close()


def test_held_numbers_stay_until_central_lets_them_go(tmp_path: Path) -> None:
    machine = Machine()
    journal = opened(tmp_path, machine)
    journal.synchronised(0)
    journal.append([new(machine), new(machine)])
    pack = journal.form(1, 2, "live", allow_estimated=False)
    assert pack is not None
    journal.receipt(1, 2, held=[2])
    assert journal.depth == 1
    assert journal.unpacked() is None, "not sent again unasked"
    assert journal.receipt(2, 2)
    assert journal.depth == 0
    journal.close()


def test_after_a_power_cut_readings_are_sent_beyond_the_numbers_that_were_passed_over(tmp_path: Path) -> None:
    machine = Machine()
    before = opened(tmp_path, machine)
    before.synchronised(0)
    before.append([new(machine, 1.0)])
    clock = machine.clock()
    clock.boot_id = "another boot"
    journal = Journal(tmp_path, clock, sync_s=3600)
    journal.open()
    journal.synchronised(0)
    machine.boot_s += 1
    machine.wall_s += 1
    (row,) = journal.append([new(machine, 2.0)])
    assert row.number == 1002
    pack = journal.form(1002, 1002, "live", allow_estimated=False)
    assert pack is not None
    message = journal.message(pack)
    assert b'"v":2.0' in message.payload
    assert ("thinned", "2-1001") in message.properties
    assert [r.number for r in journal.rows(1, journal.head)] == [1, 1002]
    journal.close()
    before.close()


class Disk:
    """Counts the syncs, and refuses those that it is told to."""

    def __init__(self) -> None:
        self.syncs = 0
        self.failing = False

    def fdatasync(self, fd: int) -> None:
        self.syncs += 1
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(fd)


def test_the_disk_is_synced_when_it_is_asked_for_and_before_a_power_cut_could_cost_too_many_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine, disk = Machine(), Disk()
    journal = Journal(tmp_path, machine.clock(), sync_s=3600, fdatasync=disk.fdatasync)
    journal.open()
    journal.append([new(machine)])
    assert disk.syncs == 0, "calm: later"
    journal.sync()
    servers.wait_until(lambda: disk.syncs == 1, 10, "synced at once")
    for _ in range(5):
        journal.append([new(machine)] * 100)
    servers.wait_until(lambda: disk.syncs == 2, 10, "500 readings are enough")
    disk.failing = True
    for count in (3, 4):
        journal.append([new(machine)])
        journal.sync()
        servers.wait_until(lambda count=count: disk.syncs == count, 10, "tried")  # type: ignore[misc]
    disk.failing = False
    journal.append([new(machine)])
    journal.sync()
    servers.wait_until(lambda: disk.syncs == 5, 10, "and again")
    assert caplog.text.count("not synced to the disk") == 1, "the edge, not the level"
    journal.close()


def test_a_sync_that_fails_is_made_up_for(tmp_path: Path) -> None:
    machine, disk = Machine(), Disk()
    disk.failing = True
    journal = Journal(tmp_path, machine.clock(), sync_s=0.01, fdatasync=disk.fdatasync)
    journal.open()
    journal.append([new(machine)])
    servers.wait_until(lambda: disk.syncs > 3, 10, "tried again and again without another reading")
    journal.close()


def test_what_outgrows_its_room_keeps_the_crest_and_central_is_told_what_is_gone(tmp_path: Path) -> None:
    machine = Machine()
    journal = opened(tmp_path, machine, segment_bytes=4000, max_bytes=1)
    journal.synchronised(0)
    values = [round(1 + 0.5 * math.exp(-(((i - 900) / 200) ** 2)), 4) for i in range(1800)]
    values[300] = 9.99  # a spike that quality control failed
    for i, value in enumerate(values):
        machine.boot_s += 1
        machine.wall_s += 1
        journal.append([NewRow(SERIES[0], value, 4 if i == 300 else 1, machine.wall_s, machine.boot_s)])
        if i % 100 == 0:
            journal.append([NewRow("a/s/rainfall", 0.2, 1, machine.wall_s, machine.boot_s)])
    head = journal.head
    journal.prune()
    left = journal.rows(1, head)
    assert len(left) < head / 4
    assert head - len(left) == journal.thinned
    levels = [row.value for row in left if row.series == SERIES[0]]
    assert 1.5 in levels, "the crest, as measured"
    assert 9.99 not in levels, "not the spike in its place"
    assert sum(row.series == "a/s/rainfall" for row in left) == 18, "each part of the sum"
    journal.close()

    journal = opened(tmp_path, machine, segment_bytes=4000, max_bytes=1)
    assert journal.thinned == head - len(left), "counted over a restart"
    got: list[int] = []
    told: list[int] = []
    while run := journal.unpacked():
        pack = journal.form(*run, "backlog", allow_estimated=False)
        assert pack is not None
        got += range(pack.first, pack.last + 1)
        told += range(pack.thinned[0], pack.thinned[1] + 1) if pack.thinned else []
        assert journal.receipt(pack.first, pack.last)
    assert got == [row.number for row in left]
    assert sorted(got + told) == list(range(1, head + 1)), "each number once: sent, or said to be given up"
    assert journal.depth == 0
    journal.close()


def test_a_draft_of_a_thinning_that_was_killed_is_no_segment(tmp_path: Path) -> None:
    machine = Machine()
    journal = opened(tmp_path, machine)
    journal.append([new(machine)])
    journal.close()
    (segment,) = tmp_path.glob("*.log")
    segment.with_suffix(".thin").write_bytes(segment.read_bytes()[:10])
    journal = opened(tmp_path, machine)
    assert len(journal.rows(1, 1)) == 1
    assert not list(tmp_path.glob("*.thin"))
    journal.close()


def test_a_full_disk_makes_room_by_thinning_and_receipts_are_noted_to_the_end(tmp_path: Path) -> None:
    machine = Machine()
    with small_disk(tmp_path / "disk", 2) as disk:
        journal = opened(disk.path / "journal", machine, segment_bytes=40_000)
        journal.synchronised(0)
        (stored,) = journal.append([new(machine)])
        pack = journal.form(1, 1, "live", allow_estimated=False)
        assert pack is not None
        taken = {stored.number: stored.value}

        def measure_until_full() -> None:
            while len(taken) < 30_000:
                machine.boot_s += 1
                machine.wall_s += 1
                for row in journal.append([new(machine, math.sin(machine.boot_s / 1000), s) for s in SERIES]):
                    taken[row.number] = row.value
                if len(taken) > 9_000:
                    disk.fill()

        with pytest.raises(JournalUnwritable):
            measure_until_full()
        assert journal.thinned > 0
        there = {row.number: row.value for row in journal.rows(1, journal.head)}
        assert there.items() <= taken.items()
        assert len(there) == len(taken) - journal.thinned
        assert max(there.values()) == max(taken.values()), "the crest is there"
        assert 1 in there, "what was published stays"
        disk.free()
        journal.close()
        again = opened(disk.path / "journal", machine, segment_bytes=40_000)
        assert {row.number: row.value for row in again.rows(1, again.head)} == there
        assert again.thinned == journal.thinned
        assert again.receipt(1, 1)
        again.close()
