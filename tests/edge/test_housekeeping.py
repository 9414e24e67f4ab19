"""What a gateway's disk is relieved of, on a clock that is turned by hand."""

import os
from pathlib import Path

import pytest

from common.clock import Clock
from edge.alarm_log import AlarmLog
from edge.housekeeping import Housekeeping
from edge.journal import Journal, NewRow

NOW_S = 1.8e9
DAY_S = 86400.0


@pytest.mark.parametrize("synchronised", [True, False])
def test_what_is_stored_and_old_leaves_unless_the_clock_may_be_wrong(tmp_path: Path, synchronised: bool) -> None:
    passed_s = 0.0
    clock = Clock(
        boottime=lambda: 1000.0 + passed_s, walltime=lambda: NOW_S + passed_s, synchronised=lambda: synchronised
    )
    journal, alarms = Journal(tmp_path, clock, keep_days=1, segment_bytes=1000), AlarmLog(tmp_path / "alarms.db")
    journal.open()
    alarms.open()
    for i in range(60):
        journal.append([NewRow("s/a/water_level", float(i), 1, clock.wall(), clock.boot() + i)])
    pack = journal.form(1, 60, "live", allow_estimated=True)
    assert pack is not None
    journal.receipt(pack.first, pack.last)
    files = sorted(tmp_path.glob("*.log"))
    for path in files:
        os.utime(path, (NOW_S, NOW_S))
    keeping = Housekeeping(journal, alarms, clock)
    keeping.tidy()
    assert sorted(tmp_path.glob("*.log")) == files, "they are of today"
    passed_s = 2 * DAY_S
    keeping.tidy()
    assert sorted(tmp_path.glob("*.log")) == (files[-1:] if synchronised else files)
    assert len(files) > 2
    journal.close()
    alarms.close()
