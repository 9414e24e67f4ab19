"""F15: pages of the gateway's files are destroyed while it is off. What stood on them is announced, everything else arrives."""

import random
from pathlib import Path

import pytest

from tests.chain import FULL, LEVEL, Account, level
from tests.faults.ear import listening
from tests.faults.scene import scene
from tests.journal_files import readings, reboot

pytestmark = pytest.mark.system

PAGE = 4096


@pytest.mark.timeout(600 if FULL else 300)
@pytest.mark.parametrize("where", ["middle", "first"])
def test_a_destroyed_page_of_the_journal_costs_its_own_readings_and_is_announced(
    tmp_path: Path, where: str, account: Account
) -> None:
    seconds = 120 if FULL else 6
    account.of(
        f"link cut; a page (4 KiB) of the journal destroyed with the gateway off, the {where} one", f"{seconds} s"
    )
    with scene(tmp_path) as it:
        chain = it.chain
        it.link.cut()
        chain.wait_sent(20 * seconds, 2 * seconds)
        chain.kill_edge()
        segment = min((chain.data / "journal").glob("*.log"))
        before = {r[1] for r in chain.journal_lines() if r[0] == "r"}
        values = {r[1]: r[3] for r in chain.journal_lines() if r[0] == "r"}
        reboot(chain.data)
        data = bytearray(segment.read_bytes())
        start = 0 if where == "first" else len(data) // 2 // PAGE * PAGE
        assert len(data) > start + PAGE
        data[start : start + PAGE] = random.Random(2021).randbytes(PAGE)
        segment.write_bytes(data)
        gone = before - readings(bytes(data))
        assert gone
        chain.start_edge()
        with listening(it.broker.port) as heard:
            it.link.restore()
            chain.recovers(account)
            it.shore.water.stop()
            chain.finish()
            announced = {n for h in heard if h.thinned for n in numbers(h.thinned)}
        stored = [(r.time_ms, float(r.fields["value"])) for r in chain.stored()]
        kept = {(r.wall_ms, r.value) for r in chain.journaled()}
    sent = {level(s) for s in chain.log.sent(LEVEL) if s.values}
    found = {value for _, value in stored}
    of_level = {number for number, value in values.items() if value in sent}
    taken = {values[number] for number in of_level} | {value for _, value in kept}
    account.count(
        injected=len(sent),
        unread=len(sent - taken),
        lost=len(taken - found),
        doubled=len(stored) - len(found),
        invented=len(found - sent),
    )
    assert (account.doubled, account.invented) == (0, 0)
    assert kept <= set(stored)
    assert taken - found <= {values[number] for number in gone}, "no more than what stood on the page"
    # What is known of other sensors is not what was stored before the cut.
    unsaid = (gone & of_level) - announced
    assert {values[number] for number in unsaid} <= found, "and each of them is announced"


def numbers(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)
