"""Central asks for the readings that it lacks: what it knows of each journal, when it asks, and when it stops asking."""

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from central.commands import MAX_COMMANDS, MAX_FRUITLESS, MAX_NUMBERS, MAX_UNANSWERED, Resender, keygen, load_key
from central.db import Database
from central.ranges import KEPT_DAYS, MAX_JOURNALS, Gap, Ranges
from common.clock import Clock
from edge.commands import CommandVerifier
from tests.central.test_commands import Line
from wire import command
from wire.errors import WireError

T0 = 1_784_000_000.0
GW = "gw-huy-01"
DAY_S = 86400


class Asking:
    """A central's ranges and resender, on hands of its own."""

    def __init__(self, path: Path, state_at: Path | str | None = None) -> None:
        self.now = 1000.0
        self.db = Database(state_at or path / "central.db")
        self.db.open()
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now)
        self.line = Line()
        if not (path / "key.pem").exists():
            self.public = keygen(path / "key.pem")
        self.key = load_key(path / "key.pem")
        self.start()

    def start(self) -> None:
        """Central starts, or starts again."""
        self.ranges = Ranges(self.db, self.clock, {GW}.__contains__)
        self.resender = Resender(self.key, lambda: self.line, self.ranges, self.clock)

    def wait(self, seconds: float) -> list[command.Resend]:
        """Time goes by; what was asked meanwhile."""
        before, end = len(self.line.sent), self.now + seconds
        while self.now < end:
            self.now = min(self.resender.look(), end)
        self.resender.look()
        return [command.Resend.model_validate(json.loads(s[1])) for s in self.line.sent[before:]]

    def answer(self, asked: command.Resend, readings: int, **members: object) -> None:
        said = {"id": asked.id, "ok": True, "readings": readings} | members
        self.resender.answered(GW, json.dumps(said).encode())


@pytest.fixture
def central(tmp_path: Path, state_at: Path | str):
    made = Asking(tmp_path, state_at)
    yield made
    made.db.close()


def test_a_gap_is_asked_for_when_the_backlog_is_at_rest_and_a_gateway_accepts_it(central: Asking) -> None:
    central.ranges.add(GW, "j", 1, 10)
    central.ranges.add(GW, "j", 21, 30)
    assert central.wait(600) == [], "not online"
    central.resender.online(GW)
    central.wait(50)
    central.resender.backlog(GW)
    assert central.wait(50) == [], "what it has not sent yet comes by itself"
    (asked,) = central.wait(25)
    assert (asked.journal, asked.first, asked.last) == ("j", 11, 20)
    topic, payload, properties, expiry_s = central.line.sent[-1]
    assert topic == f"maillages/v1/{GW}/cmd/resend"
    arguments = CommandVerifier(central.public).check(topic, payload, properties, expiry_s)
    assert command.parse(command.Resend, arguments) == asked
    central.answer(asked, 10)
    central.ranges.add(GW, "j", 11, 20)
    assert central.wait(7200) == []


def test_nothing_is_asked_without_a_gap(central: Asking) -> None:
    central.ranges.add(GW, "j", 1, 10)
    central.ranges.add(GW, "j", 11, 500)
    central.ranges.add("gw-stranger", "j", 100, 200)
    central.resender.online(GW)
    central.resender.online("gw-stranger")
    assert central.wait(7200) == []


def test_asking_is_bounded_and_goes_on_when_it_helps(central: Asking) -> None:
    central.ranges.add(GW, "j", MAX_NUMBERS * 3, MAX_NUMBERS * 3)
    for i in range(1, 20):
        central.ranges.add(GW, "k", i * 10, i * 10)
    central.resender.online(GW)
    asked = central.wait(70)
    assert len(asked) == MAX_COMMANDS
    assert all(a.last - a.first < MAX_NUMBERS for a in asked)
    for a in asked:
        central.answer(a, a.last - a.first + 1)
        central.ranges.add(GW, a.journal, a.first, a.last)
        central.resender.backlog(GW)
    again = central.wait(70)
    assert len(again) == MAX_COMMANDS
    assert not {(a.journal, a.first) for a in again} & {(a.journal, a.first) for a in asked}


def test_one_that_does_not_answer_or_refuses_is_left_alone_until_it_is_back(central: Asking) -> None:
    central.ranges.add(GW, "j", 5, 5)
    central.resender.online(GW)
    assert len(central.wait(DAY_S)) == MAX_UNANSWERED
    central.resender.online(GW)
    (asked,) = central.wait(65)
    central.answer(asked, 0, ok=False, error="no central_key")
    assert central.wait(DAY_S) == []
    central.resender.answered(GW, b'{"id":"of another central","ok":true,"readings":3}')
    with pytest.raises(WireError, match="readings"):
        central.resender.answered(GW, b'{"id":"x","ok":true,"readings":-1}')


def test_what_a_gateway_has_no_longer_is_given_up(central: Asking) -> None:
    central.ranges.add(GW, "j", 5, 5)
    central.resender.online(GW)
    times = 0
    for _ in range(24 * 60):
        for asked in central.wait(60):
            times += 1
            central.answer(asked, 0)
    assert times == MAX_FRUITLESS
    assert central.ranges.gaps(GW) == []


def test_what_is_known_survives_a_restart_and_a_restored_backup_lacks_what_came_after(tmp_path: Path) -> None:
    central = Asking(tmp_path)
    central.ranges.add(GW, "j", 1, 100)
    central.ranges.save()
    backup = tmp_path / "backup.db"
    with sqlite3.connect(tmp_path / "central.db") as file:
        file.execute("VACUUM INTO ?", (str(backup),))
    file.close()
    central.ranges.add(GW, "j", 101, 300)
    central.ranges.save()
    central.start()
    central.ranges.add(GW, "j", 301, 301)
    assert central.ranges.gaps(GW) == []
    central.db.close()
    (tmp_path / "restored").mkdir()
    backup.rename(tmp_path / "restored" / "central.db")
    restored = Asking(tmp_path / "restored")
    restored.ranges.add(GW, "j", 302, 302)
    assert restored.ranges.gaps(GW) == [Gap("j", 101, 301)]
    restored.db.close()


def test_days_are_forgotten_on_request_and_old_ones_become_one(central: Asking) -> None:
    for day in range(KEPT_DAYS + 10):
        central.ranges.add(GW, "j", day * 100 + 1, day * 100 + 100)
        central.ranges.save()
        central.now += DAY_S
    central.ranges.compact()
    assert central.ranges.gaps(GW) == []
    (rows,) = central.db.rows(text("SELECT count(*), min(day) FROM journal_range"))
    assert tuple(rows) == (KEPT_DAYS, 0)
    central.ranges.forget(central.clock.wall() - 3 * DAY_S)
    central.start()
    central.ranges.add(GW, "j", 9999, 9999)
    (gap,) = central.ranges.gaps(GW)
    assert gap == Gap("j", (KEPT_DAYS + 7) * 100 + 1, 9998)


def test_made_up_journals_are_not_remembered_without_end(central: Asking) -> None:
    for i in range(3 * MAX_JOURNALS):
        central.ranges.add(GW, f"j{i}", 1, 1)
    central.ranges.save()
    (rows,) = central.db.rows(text("SELECT count(*) FROM journal_range"))
    assert rows[0] == MAX_JOURNALS


NUMBERS = st.integers(1, 60)


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 9), st.integers(0, 3)), max_size=30))
def test_gaps_are_what_is_not_there(tmp_path_factory: pytest.TempPathFactory, packs) -> None:
    """Packs in any order over days, saves and restarts between them, against a plain set."""
    central = Asking(tmp_path_factory.mktemp("ranges"))
    here: set[int] = set()
    for first, more, then in packs:
        central.ranges.add(GW, "j", first, first + more)
        here |= set(range(first, first + more + 1))
        if then >= 1:
            central.ranges.save()
        if then == 2:
            central.now += DAY_S
        if then == 3:
            central.start()
    found = {n for gap in central.ranges.gaps(GW) for n in range(gap.first, gap.last + 1)}
    assert found == set(range(1, max(here, default=0) + 1)) - here
    central.db.close()
