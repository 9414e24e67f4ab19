"""The gateway's alarm log: what it keeps, for a full disk and for how long, what stands, and a file that is no log."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import rfc3339
from edge.alarm_log import AlarmLog, AlarmLogUnwritable, Progress
from wire import alarm
from wire.alarm import AlarmEvent

T0 = 1_784_000_000.0
DAY_S = 86400.0


def free_pages(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
        return free
    finally:
        db.close()


def test_the_file_and_its_journal_keep_space_for_a_full_disk_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    for _ in range(3):
        log = AlarmLog(path)
        log.open()
        log.commit([], {"rule": "{}"}, Progress(1, "boot", 1.0, 1.0))
        log.close()
        assert (tmp_path / "alarms.db-journal").stat().st_size > 32 * 4096
    size = path.stat().st_size
    assert free_pages(path) >= 128
    assert size < 2**20


def test_a_process_killed_while_it_makes_the_reserve_leaves_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    log = AlarmLog(path)
    log.open()
    log.close()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE reserve AS SELECT zeroblob(524288) AS space")
    db.commit()
    db.close()
    log.open()
    log.close()
    assert free_pages(path) >= 64


def test_a_damaged_file_is_set_aside_and_one_that_cannot_be_opened_is_not(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    log = AlarmLog(path)
    assert log.open() == {}
    log.close()
    assert path.with_suffix(".damaged").exists()

    other = tmp_path / "directory.db"
    other.mkdir()
    with pytest.raises(AlarmLogUnwritable, match=r"directory\.db"):
        AlarmLog(other).open()
    assert other.is_dir()


def event(seq: int, occurrence: int, transition: str, state: str, *, at_s: float = T0, level: int = 1) -> AlarmEvent:
    return AlarmEvent.model_validate(
        {
            "id": f"e{seq}", "occurrence": f"o{occurrence}", "seq": seq, "source": "gateway", "gateway": "gw-1",
            "station": "s", "sensor": "level-1", "quantity": "water_level", "rule": f"r{occurrence}", "kind": "high",
            "transition": transition, "state": state, "level": level, "value": 1.0, "unit": "m", "threshold": 0.5,
            "time": rfc3339(at_s), "clock": "synchronised", "withheld": None,
        }
    )  # fmt: skip


@contextmanager
def opened(path: Path) -> Iterator[AlarmLog]:
    log = AlarmLog(path)
    log.open()
    with closing(log):
        yield log


def record(log: AlarmLog, *events: AlarmEvent) -> None:
    log.commit(events, {}, Progress(1, "boot", 1.0, 1.0))


def flood(path: Path, occurrences: int, *, at_s: float = T0) -> None:
    """So many occurrences that have come and gone, all received."""
    with opened(path) as log:
        seq = log.next_seq
        story = [("raise", "UNACK"), ("ack", "ACK"), ("clear", "NORMAL")]
        events = [
            event(seq + 3 * o + i, seq + o, t, s, at_s=at_s)
            for o in range(occurrences)
            for i, (t, s) in enumerate(story)
        ]
        record(log, *events)
        for e in events:
            log.receipt(e.id, "true")


STEPS = [
    ("raise", "UNACK"), ("escalate", "UNACK"), ("deescalate", "UNACK"), ("ack", "ACK"), ("clear", "RTN_UNACK"),
    ("clear", "NORMAL"), ("ack", "NORMAL"), ("notify", "UNACK"), ("notify", "ACK"), ("shelve", "UNACK"),
    ("unshelve", "UNACK"), ("unsuppress", "ACK"), ("reset", "NORMAL"),
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(STEPS), st.integers(0, 3)), max_size=25), st.booleans())
def test_what_stands_and_what_is_announced_is_what_the_whole_log_says(steps, reopened: bool) -> None:
    """Against the events read one by one."""
    events = [event(i, o, t, s, level=level) for i, (o, (t, s), level) in enumerate(steps, 1)]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "alarms.db"
        with opened(path) as log:
            record(log, *events[: len(events) // 2])
            if not reopened:
                record(log, *events[len(events) // 2 :])
        if reopened:
            with opened(path) as log:
                record(log, *events[len(events) // 2 :])
        last = {e.occurrence: e for e in events}
        standing = sorted((e for e in last.values() if e.state != "NORMAL"), key=lambda e: e.seq)
        announced = []
        for occurrence in [e.occurrence for e in standing]:
            own = [e for e in events if e.occurrence == occurrence]
            spoken = [e for e in own if e.transition != "notify"]
            telling = [
                e
                for e in own
                if e.transition in ("raise", "escalate") or (e.transition in ("unshelve", "unsuppress") and e.level > 0)
            ]
            if spoken and spoken[-1].state in ("UNACK", "RTN_UNACK") and telling:
                announced.append(telling[-1])
        with opened(path) as log:
            assert list(log.active().active) == standing
            found = [a.event for a in log.announcements()]
            assert found == sorted(announced, key=lambda e: e.seq)


def test_looking_for_announcements_does_not_read_what_is_over(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, which no busy computer changes."""
    path = tmp_path / "alarms.db"

    def steps() -> int:
        with opened(path) as log:
            seq = log.next_seq
            record(log, event(seq, 10**6 + seq, "raise", "UNACK"))
            counted = 0

            def count() -> int:
                nonlocal counted
                counted += 1
                return 0

            db = log._connection()
            db.set_progress_handler(count, 1)
            assert [a.event.seq for a in log.announcements()][-1] == seq
            assert log.active().active[-1].seq == seq
            db.set_progress_handler(None, 1)
            record(log, event(seq + 1, 10**6 + seq, "ack", "ACK"), event(seq + 2, 10**6 + seq, "clear", "NORMAL"))
            return counted

    few = steps()
    flood(path, 400)
    assert steps() < few * 2


def test_prunes_what_is_over_received_and_old_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    old, young = T0 - 91 * DAY_S, T0 - 89 * DAY_S
    flood(path, 150, at_s=old)
    with opened(path) as log:
        n = log.next_seq
        kept = [
            event(n, 7001, "raise", "UNACK", at_s=old),  # stands
            event(n + 1, 7002, "raise", "UNACK", at_s=old),
            event(n + 2, 7002, "clear", "RTN_UNACK", at_s=old),  # nobody has answered
            event(n + 3, 7003, "raise", "UNACK", at_s=old),
            event(n + 4, 7003, "ack", "ACK", at_s=young),
            event(n + 5, 7003, "clear", "NORMAL", at_s=young),  # ended lately
            event(n + 6, 7004, "raise", "UNACK", at_s=old),
            event(n + 7, 7004, "ack", "ACK", at_s=old),
            event(n + 8, 7004, "clear", "NORMAL", at_s=old),  # central has not got it
            event(n + 9, 7005, "raise", "UNACK", at_s=old),
            event(n + 10, 7005, "ack", "ACK", at_s=old),
            event(n + 11, 7005, "clear", "NORMAL", at_s=old),  # the last number
        ]
        record(log, *kept)
        for e in kept:
            if e.seq != n + 8:
                log.receipt(e.id, "true")
        assert log.sms_begin("e1", "planu", "x")
        assert log.sms_begin(kept[0].id, "planu", "x")
        assert log.prune(T0 - 90 * DAY_S) == 450
        assert log.prune(T0 - 90 * DAY_S) == 0
        assert log.sms_tried(kept[0].id) == {"planu"}
        assert log.sms_tried("e1") == set()
    with opened(path) as log:
        assert log.next_seq == n + 12
        assert [e for e, _ in log.unreceipted()] == [kept[8].id]
        assert [e.occurrence for e in log.active().active] == ["o7001", "o7002"]
    with closing(sqlite3.connect(path)) as db:
        assert [alarm.parse(r[0].encode()) for r in db.execute("SELECT payload FROM event ORDER BY seq")] == kept


def test_a_log_of_version_1_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    events = [
        event(1, 1, "raise", "UNACK"), event(2, 2, "raise", "UNACK"), event(3, 2, "ack", "ACK"), event(4, 2, "clear", "NORMAL"),
    ]  # fmt: skip
    with closing(sqlite3.connect(path)) as db:
        db.executescript(resources.files("edge").joinpath("schema/schema_v1.sql").read_text())
        db.executemany(
            "INSERT INTO event (seq, id, occurrence, rule, payload, boot_id, boot_s) VALUES (?, ?, ?, ?, ?, 'b', 1)",
            [(e.seq, e.id, e.occurrence, e.rule, alarm.dump(e).decode()) for e in events],
        )
        db.execute("PRAGMA user_version = 1")
        db.commit()
    with opened(path) as log:
        assert list(log.active().active) == events[:1]
        assert [a.event for a in log.announcements()] == events[:1]
        record(log, event(5, 1, "ack", "ACK"), event(6, 1, "clear", "NORMAL"))
        assert log.active().active == ()


AT = "2026-11-24T11:00:00.000+00:00"
EARLIER = "2026-11-23T11:00:00.000+00:00"
LATER = "2026-11-25T11:00:00.000+00:00"


def sent(log: AlarmLog, references: list[int], *events: AlarmEvent, at: str = AT) -> None:
    for e in events:
        assert log.sms_begin(e.id, "planu", at)
        log.sms_end(e.id, "planu", "sent", references)


def test_an_sms_is_delivered_with_its_last_part_and_one_of_several_alarms_settles_all(tmp_path: Path) -> None:
    with opened(tmp_path / "alarms.db") as log:
        first, second, other = (event(n, n, "raise", "UNACK") for n in (1, 2, 3))
        record(log, first, second, other)
        sent(log, [7, 8], first, second)
        sent(log, [9], other, at=LATER)
        assert log.sms_report("mayor", 7, "delivered", EARLIER) is None, "to somebody else"
        assert log.sms_report("planu", 77, "delivered", EARLIER) is None
        assert log.sms_report("planu", 7, "delivered", LATER) is None, "too long ago"
        assert log.sms_report("planu", 8, "delivered", EARLIER) == []
        assert log.sms_report("planu", 8, "delivered", EARLIER) is None, "each part once"
        assert log.sms_overdue(AT) == []
        settled = log.sms_report("planu", 7, "delivered", EARLIER)
        assert settled is not None
        assert [(s.event, s.recipient, s.at, s.fate) for s in settled] == [
            (first, "planu", AT, "delivered"),
            (second, "planu", AT, "delivered"),
        ]
        assert log.sms_overdue("2027") == [(other, "planu", LATER, "unknown")]
        assert log.sms_overdue("2027") == [], "once"


def test_a_reference_that_is_used_again_is_the_newest_ones(tmp_path: Path) -> None:
    with opened(tmp_path / "alarms.db") as log:
        old, new = (event(n, n, "raise", "UNACK") for n in (1, 2))
        record(log, old, new)
        sent(log, [7], old, at=AT)
        sent(log, [7, 8], new, at=LATER)
        for expected in (new, old):
            settled = log.sms_report("planu", 7, "failed", EARLIER)
            assert settled is not None
            assert [s.event for s in settled] == [expected]
        assert log.sms_report("planu", 8, "delivered", EARLIER) is None, "it has failed"
        assert log.sms_told("planu", "o1") is None


def test_what_waits_may_begin_again_and_nothing_else_may(tmp_path: Path) -> None:
    with opened(tmp_path / "alarms.db") as log:
        for result in ("waiting", "waiting", "sent", "failed", "unknown"):
            assert log.sms_begin("e1", "planu", AT) or result in ("failed", "unknown")
            assert not log.sms_begin("e1", "planu", AT), "it is being tried"
            log.sms_end("e1", "planu", result)
            assert log.sms_tried("e1") == (set() if result == "waiting" else {"planu"})
        log.sms_begin("e2", "planu", AT)
    with opened(tmp_path / "alarms.db") as log:
        assert not log.sms_begin("e2", "planu", AT), "a process that died over it"


def test_a_log_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    with closing(sqlite3.connect(path)) as db:
        for number in (1, 2):
            script = resources.files("edge").joinpath(f"schema/schema_v{number}.sql").read_text(encoding="utf-8")
            db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
        db.execute("INSERT INTO sms VALUES ('e1', 'planu', 'failed', ?)", (AT,))
        db.commit()
    with opened(path) as log:
        assert log.sms_tried("e1") == {"planu"}
        assert log.sms_overdue(LATER) == []
