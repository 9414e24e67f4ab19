"""Who stores whose readings, and who leads."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.errors import StateUnavailable
from central.holding import Holding
from central.ranges import Ranges
from central.workers import LEADER, Place, share
from common.clock import Clock
from tests import servers
from tests.central.test_state import LETTER

GATEWAYS = [f"gw-{i}" for i in range(30)]
living = st.sets(st.integers(1, 12), min_size=1)


@given(living)
def test_each_gateway_has_exactly_one_worker(workers):
    shares = Counter(g for n in workers for g in share(GATEWAYS, n, workers))
    assert shares == Counter(GATEWAYS)


@given(living, st.data())
def test_when_one_goes_only_its_gateways_move(workers, data):
    gone = data.draw(st.sampled_from(sorted(workers)))
    rest = workers - {gone}
    for n in rest:
        assert share(GATEWAYS, n, workers) <= share(GATEWAYS, n, rest)


def test_shares_are_about_equal():
    thousand = [f"gw-{i}" for i in range(1000)]
    sizes = [len(share(thousand, n, range(1, 5))) for n in range(1, 5)]
    assert 200 < min(sizes) <= max(sizes) < 300


def test_a_place_is_a_number_among_a_count():
    assert Place.parse("2/3") == Place(2, 3)
    assert (Place(1, 3).session("central-readings"), Place(2, 3).session("central-readings")) == (
        "central-readings",
        "central-readings-2",
    )
    for wrong in ("", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/", "a/b"):
        with pytest.raises(ValueError, match="expected <number>/<count>"):
            Place.parse(wrong)


HOLDER = """
import pathlib, sys
from central.db import Database
where = sys.argv[1]
db = Database(where if "://" in where else pathlib.Path(where))
db.open()
print(db.hold("leader"), flush=True)
sys.stdin.read()
"""


def test_a_lock_is_free_as_soon_as_its_process_is_killed(state_at, open_state):
    db = open_state(state_at)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state_at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "True\n"
        assert not db.hold(LEADER)
        assert db.held([LEADER, "worker-1"]) == {LEADER}
        holder.kill()
        holder.wait()
    servers.wait_until(lambda: db.hold(LEADER), 10, "the lock is free")
    assert db.held([LEADER, "worker-1"]) == {LEADER}
    other = open_state(state_at)
    assert not other.hold(LEADER)
    assert other.held(["worker-1", LEADER]) == {LEADER}
    db.close()
    servers.wait_until(lambda: other.hold(LEADER), 10, "the lock is free")  # the server hears of it a moment later


def test_who_lost_the_lock_with_the_connection_writes_nothing_more(open_state):
    with servers.postgres() as server:
        url = server.database()
        db, other = open_state(url), open_state(url)
        assert db.hold(LEADER)
        _cut(server, url)
        with pytest.raises(StateUnavailable):
            Holding(other).keep([LETTER], [], 0.0)
        with pytest.raises(StateUnavailable):
            Holding(db).keep([LETTER], [], 0.0)
        assert Holding(db).keep([LETTER], [], 0.0), "taken again with the new connection, since nobody else wanted it"
        assert not other.hold(LEADER)

        _cut(server, url)
        with pytest.raises(StateUnavailable):
            other.hold(LEADER)
        assert other.hold(LEADER)
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                Holding(db).keep([LETTER._replace(number=8)], [], 0.0)
        assert db.lock_lost == LEADER
        assert len(Holding(other).dead_letters()) == 1


def _cut(server: servers.Postgres, url: str) -> None:
    """The connections of all others are ended by the server."""
    with server.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'maillages-central' AND datname = current_database()"
        )


def test_workers_between_whom_a_gateway_changes_hands_forget_nothing_of_its_journal(state_at, open_state):
    clock = Clock(boottime=lambda: 1000.0, walltime=lambda: 1_784_000_000.0)
    first, second = (Ranges(open_state(state_at), clock, lambda _: True) for _ in range(2))
    for ranges, numbers in ((first, (1, 10)), (second, (11, 20)), (first, (21, 30)), (second, (41, 50))):
        ranges.add("gw-1", "j", *numbers)
        ranges.save()
    first.save()
    anew = Ranges(open_state(state_at), clock, lambda _: True)
    assert [(g.first, g.last) for g in anew.gaps("gw-1")] == [(31, 40)]
