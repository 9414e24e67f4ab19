"""Power cuts, a clock that is set back, a gateway that stands still, and SIGTERM at any moment."""

import json
import os
import random
import signal
import sqlite3
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from demo.link import Link
from tests import servers
from tests.system.test_chain import FULL, LEVEL, Chain, Report, level
from tests.system.test_faults_link import listening

pytestmark = pytest.mark.system

SKIPPED = 1000
"""Numbers that a gateway passes over after a power cut (docs/wire.md)."""

EARLIER_BOOT = "00000000-0000-0000-0000-00000000b007"

EDGE_WITH_A_CLOCK = """
import logging, sys, time
from pathlib import Path
from common.clock import Clock
from edge import config, service
logging.basicConfig(level=logging.INFO)
offset = Path(sys.argv[2])
clock = Clock(trust="always", walltime=lambda: time.time() + float(offset.read_text()))
service.run(config.load(Path(sys.argv[1])), clock)
"""


def line(record: list[Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


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


def reboot(data: Path) -> None:
    """Make the boot that wrote the newest segment another one than the present. In place, which a full disk allows."""
    path = max((data / "journal").glob("*.log"))
    records = [json.loads(text[9:]) for text in path.read_bytes().split(b"\n")[:-1]]
    for record in records:
        if record[0] == "b":
            record[2] = EARLIER_BOOT
        elif record[0] == "h" and record[1]["boot"][1]:
            record[1]["boot"][1] = EARLIER_BOOT
    with path.open("r+b") as file:
        file.write(b"".join(map(line, records)))


@pytest.mark.timeout(120)
def test_after_a_power_cut_no_number_is_given_twice_and_the_gap_is_announced(
    tmp_path: Path, record_property: Report
) -> None:
    with (
        servers.influxd(tmp_path) as influx,
        servers.mosquitto(tmp_path) as broker,
        listening(broker.port) as heard,
    ):
        chain = Chain(tmp_path, influx, broker)
        try:
            chain.start()
            chain.wait_sent(100, 20)
            chain.kill_edge()
            gone = cut_power(chain.data, 40)
            first_gone = gone[0][1]
            published = max(h.last for h in heard)
            assert published > first_gone, "central has some of what the disk has lost"
            chain.start_edge()
            chain.wait_sent(60, 20)
            chain.finish()
        finally:
            chain.stop()
        packs = [h for h in heard if h.leaf == "readings"]
        journaled = {(r.wall_ms, r.value) for r in chain.journaled()}
        stored = [(r.time_ms, float(r.fields["value"])) for r in chain.stored()]

    skipped = f"{first_gone}-{first_gone + SKIPPED - 1}"
    assert {h.thinned for h in packs if h.thinned} == {skipped}
    after = [h for h in packs if h.first > published]
    assert after
    assert min(h.first for h in after) == first_gone + SKIPPED, "no number is given twice"
    assert journaled <= set(stored), "0 lost of what the disk has"
    extra = {time_ms: value for time_ms, value in stored if (time_ms, value) not in journaled}
    assert extra
    assert set(extra) <= {record[5] for record in gone}, "and central kept what it had"
    values = [value for _, value in stored]
    assert len(set(values)) == len(values)
    sent = {level(s) for s in chain.log.sent(LEVEL) if s.values}
    assert set(values) <= sent
    record_property("fault", f"power cut: {len(gone)} readings not yet synced, {len(extra)} of them already at central")
    record_property("duration", "1 cut")
    for name, value in (("taken", len(journaled | set(stored))), ("lost", 0), ("doubled", 0), ("invented", 0)):
        record_property(name, value)


@pytest.mark.timeout(120)
def test_a_clock_that_is_set_back_restamps_nothing_and_doubles_no_time(tmp_path: Path, record_property: Report) -> None:
    offsets = (0.0, -1.0, -3600.0, 0.0)
    offset = tmp_path / "offset"

    def step(to: float) -> None:
        fresh = tmp_path / "offset.new"
        fresh.write_text(str(to))
        fresh.replace(offset)

    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        step(offsets[0])
        chain.edge.command = [sys.executable, "-c", EDGE_WITH_A_CLOCK, chain.edge.command[-1], str(offset)]
        steps: list[float] = []
        try:
            chain.start()
            chain.wait_sent(40, 10)
            for to in offsets[1:]:
                steps.append(time.time())
                step(to)
                chain.wait_sent(40, 10)
            chain.finish()
        finally:
            chain.stop()
        rows = chain.journaled()
        stored = [(r.time_ms, float(r.fields["value"])) for r in chain.stored()]
    sent = {level(s): s for s in chain.log.sent(LEVEL) if s.values}
    assert sorted(stored) == sorted((r.wall_ms, r.value) for r in rows)
    assert len({r.wall_ms for r in rows}) == len(rows), "one time for two readings"
    assert len({r.value for r in rows}) == len(rows)
    assert [r.boot_ms for r in rows] == sorted(r.boot_ms for r in rows)
    for row in rows:
        frame = sent[row.value]
        phase = sum(1 for at in steps if at <= frame.wall_s)
        lags = [row.wall_ms / 1000 - frame.wall_s - offsets[i] for i in {phase, min(phase + 1, len(steps))}]
        assert any(-0.1 < lag < 1.0 for lag in lags), f"{row} was sent at {frame.wall_s}"
    assert chain.edge.said("alarm ") == 0, "no rule runs on the wall clock"
    record_property("fault", "clock of the gateway set back by 1 s and by 1 h, and forward again")
    record_property("duration", "3 steps")
    for name, value in (("taken", len(rows)), ("lost", 0), ("doubled", 0), ("invented", 0)):
        record_property(name, value)


@pytest.mark.timeout(120)
def test_what_piled_up_while_the_gateway_stood_still_is_never_stamped_as_fresh(
    tmp_path: Path, record_property: Report
) -> None:
    """SIGSTOP, as a machine out of memory does to its processes; the kernel keeps the frames of all that time."""
    seconds = 40 if FULL else 4
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker)
        try:
            chain.start()
            chain.wait_sent(40, 10)
            chain.life_ends()
            os.kill(chain.edge.pid, signal.SIGSTOP)
            chain.wait_sent(20 * seconds, 2 * seconds)
            chain.life_begins()
            os.kill(chain.edge.pid, signal.SIGCONT)
            chain.wait_sent(40, 10)
            assert chain.edge.said("the gateway did not read for") == 1, "it says so"
            chain.finish()
        finally:
            chain.stop()
        outcome = chain.verify()
        assert outcome.unread >= 19 * seconds, "what came meanwhile is thrown away"
        outcome.report(record_property, "gateway stopped (SIGSTOP) while its device went on", f"{seconds} s")


@pytest.mark.timeout(400)
def test_sigterm_at_any_moment_ends_in_good_order(tmp_path: Path, record_property: Report) -> None:
    """Gateway and central in turn, at random moments of their lives; then the gateway with a half-open link."""
    rng = random.Random(20180611)
    rounds = 60 if FULL else 8
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker, Link(broker.port) as link:
        chain = Chain(tmp_path, influx, broker, link.port)

        def end_edge() -> None:
            journal = chain.journal_lines()
            chain.life_ends()
            code = chain.edge.terminate()
            # Before it has set itself up to be told, the signal ends it; then it has not begun to work either.
            assert code == 0 or (code == -15 and chain.journal_lines() == journal), code

        try:
            chain.start()
            for i in range(rounds):
                time.sleep(rng.uniform(0.0, 2.5))  # the moment of the signal, not a wait for anything
                if i % 2:
                    code = chain.central.terminate()
                    assert code in (0, -15), code
                    chain.central.start()
                else:
                    end_edge()
                    chain.start_edge()
            runs = chain.edge.said("gateway gw-test-01 runs")
            servers.wait_until(lambda: chain.edge.said("uplink: connected") > 0 and runs > 0, 10, "a link")
            chain.wait_sent(40, 10)
            link.swallow = True
            chain.wait_sent(20, 10)
            chain.life_ends()
            assert chain.edge.terminate() == 0, "with a link that swallows its goodbye"
            link.restore()
            chain.start_edge()
            chain.wait_sent(40, 10)
            chain.finish()
        finally:
            chain.stop()
        outcome = chain.verify()
        outcome.report(record_property, "SIGTERM to gateway and central at random moments", f"{rounds + 1} times")
