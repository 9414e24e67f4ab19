"""The gateway's alarm log: what it keeps for a full disk, and what it does with a file that is not one."""

import sqlite3
from pathlib import Path

import pytest

from edge.alarm_log import AlarmLog, AlarmLogUnwritable, Progress


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
