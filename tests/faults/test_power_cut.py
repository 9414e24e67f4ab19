"""A power cut: no number is given twice, and what the disk has lost is announced."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.chain import LEVEL, Account, Chain, level
from tests.faults.ear import listening
from tests.journal_files import EARLIER_BOOT, line, reboot

pytestmark = pytest.mark.system

SKIPPED = 1000
"""Numbers that a gateway passes over after a power cut (docs/wire.md)."""
UNSYNCED = 40


def cut_power(data: Path, unsynced: int) -> list[list[Any]]:
    """As after a power cut: the last `unsynced` readings and what was written beside them never reached the disk, a record is
    torn, and the machine has booted anew. Gives the readings that are gone."""
    path = max((data / "journal").glob("*.log"))
    records = [json.loads(text[9:]) for text in path.read_bytes().split(b"\n")[:-1]]
    at = [i for i, record in enumerate(records) if record[0] == "r"][-unsynced]
    path.write_bytes(b"".join(map(line, records[:at])))
    reboot(data)
    with path.open("ab") as file:
        file.write(line(records[at])[:20])
    with sqlite3.connect(data / "alarms.db") as db:
        db.execute("UPDATE progress SET boot_id = ?", [EARLIER_BOOT])
    db.close()
    return [record for record in records[at:] if record[0] == "r"]


@pytest.mark.timeout(240)
def test_after_a_power_cut_no_number_is_given_twice_and_the_gap_is_announced(tmp_path: Path, account: Account) -> None:
    account.of(f"power cut: the last {UNSYNCED} readings never reached the disk, central has most of them", "1 cut")
    with (
        servers.influxd(tmp_path) as influx,
        servers.mosquitto(tmp_path) as broker,
        listening(broker.port) as heard,
    ):
        chain = Chain(tmp_path, influx, broker)
        try:
            chain.start()
            chain.wait_sent(80, 20)
            chain.kill_edge()
            gone = cut_power(chain.data, UNSYNCED)
            first_gone = gone[0][1]
            published = max(h.last for h in heard)
            assert published > first_gone, "central has some of what the disk has lost"
            chain.start_edge()
            chain.recovers(account)
            chain.wait_sent(20, 20)
            chain.finish()
        finally:
            chain.stop()
        packs = [h for h in heard if h.leaf == "readings"]
        journaled = {(r.wall_ms, r.value) for r in chain.journaled()}
        stored = [(r.time_ms, float(r.fields["value"])) for r in chain.stored()]

    sent = {level(s) for s in chain.log.sent(LEVEL) if s.values}
    values = [value for _, value in stored]
    taken = journaled | {(record[5], record[3]) for record in gone}
    account.count(
        injected=len(sent),
        unread=len(sent - {value for _, value in taken}),
        lost=len(taken - set(stored)),
        doubled=len(values) - len(set(values)),
        invented=len(set(values) - sent),
    )
    skipped = f"{first_gone}-{first_gone + SKIPPED - 1}"
    assert {h.thinned for h in packs if h.thinned} == {skipped}
    after = [h for h in packs if h.first > published]
    assert after
    assert min(h.first for h in after) == first_gone + SKIPPED, "no number is given twice"
    assert journaled <= set(stored), "0 lost of what the disk has"
    extra = {time_ms: value for time_ms, value in stored if (time_ms, value) not in journaled}
    assert extra
    assert set(extra) <= {record[5] for record in gone}, "and central kept what it had"
    assert (account.doubled, account.invented) == (0, 0)
