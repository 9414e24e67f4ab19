"""`dead-letters` and `quarantine`, as an operator runs them: another process, beside a central that has the file open."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import delete

from central.alarms.log import AlarmLog
from central.alarms.wishes import Wishes
from central.db import Database
from central.errors import StateUnavailable
from central.holding import DeadLetter, Held, Holding
from central.orders import Orders
from central.tables import dead_letter
from common.clock import Clock, rfc3339
from common.texts import reference
from tests.central.test_alarm_log import OCC, STORY
from wire.command import READ, RESTART, Read, Restart
from wire.ids import uuid7

T0 = 1_780_000_000.0
RECORD = {"n": "h-huy/level-9/water_level", "t": T0, "v": 0.0}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from central.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUTF8": "1", "NO_COLOR": "1"},
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "central.toml"
    file.write_text(f'data_dir = "{tmp_path / "data"}"\n[mqtt]\nhost = "127.0.0.1"\n')
    return file


@pytest.fixture
def central(tmp_path: Path):
    """The database as a running central holds it."""
    db = Database(tmp_path / "data" / "central.db")
    db.open()
    yield db
    db.close()


def test_lists_dead_letters_newest_first_in_the_midst_of_centrals_transaction(config: Path, central: Database) -> None:
    holding = Holding(central)
    holding.keep([DeadLetter("maillages/v1/gw-1/readings", "v is null", b'[{"v":null}]', "j", 7)], [], T0)
    holding.keep([DeadLetter("maillages/v1/gw-2/alarms", "not JSON", b"\xff\x1b[2J" + b"x" * 500)], [], T0 + 1)
    with central.transaction() as tx:
        tx.execute(delete(dead_letter))
        shown = run("dead-letters", "-c", str(config))
    assert shown.returncode == 0, shown.stderr
    head, second, first = shown.stdout.splitlines()
    assert head.split() == ["received", "topic", "journal", "number", "reason", "payload"]
    assert first.split() == [
        "2026-05-28T20:26:40.000+00:00", "maillages/v1/gw-1/readings", "j", "7", "v", "is", "null", '[{"v":null}]'
    ]  # fmt: skip
    assert "\x1b" not in second
    assert r"\xff\x1b[2Jxxx" in second
    assert second.endswith("x…")
    assert len(second) < 200


def test_limits_the_list_to_the_newest(config: Path, central: Database) -> None:
    letters = [DeadLetter("maillages/v1/gw-1/readings", f"reason {n}", b"[]", "j", n) for n in range(1, 6)]
    Holding(central).keep(letters, [], T0)
    lines = run("dead-letters", "-c", str(config), "--limit", "2").stdout.splitlines()[1:]
    assert ["reason 5" in lines[0], "reason 4" in lines[1], len(lines)] == [True, True, 2]


def test_counts_what_waits_in_quarantine_by_name(config: Path, central: Database) -> None:
    held = [Held("gw-1", "j", n, RECORD["n"], RECORD, False) for n in (1, 2, 3)]
    other = Held("gw-1", "j", 4, "h-huy/air/pm10", {"n": "h-huy/air/pm10", "t": T0, "v": 4.0}, False)
    Holding(central).keep([], [*held, other], T0)
    shown = run("quarantine", "-c", str(config))
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["gateway", "name", "readings"],
        ["gw-1", "h-huy/air/pm10", "1"],
        ["gw-1", "h-huy/level-9/water_level", "3"],
    ]


@pytest.mark.parametrize("command", ["dead-letters", "quarantine", "alarms"])
def test_makes_no_database_where_there_is_none(config: Path, tmp_path: Path, command: str) -> None:
    shown = run(command, "-c", str(config))
    assert shown.returncode == 2
    assert "expected the state of a central that has run" in shown.stderr
    assert not (tmp_path / "data").exists()


def test_leaves_an_older_database_as_it_is(config: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "central.db"
    with sqlite3.connect(file) as old:
        old.execute("PRAGMA user_version = 1")
    old.close()
    before = file.read_bytes()
    shown = run("dead-letters", "-c", str(config))
    assert shown.returncode == 2
    assert "version 1, this program's is" in shown.stderr
    assert file.read_bytes() == before


def test_a_view_cannot_write(tmp_path: Path, central: Database) -> None:
    view = Database(tmp_path / "data" / "central.db")
    view.open_read_only()
    try:
        with pytest.raises(StateUnavailable, match="readonly"), view.transaction() as tx:
            tx.execute(delete(dead_letter))
    finally:
        view.close()


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    shown = run("quarantine", "-c", str(tmp_path / "none.toml"))
    assert shown.returncode == 2
    assert "none.toml: cannot be read" in shown.stderr


def test_lists_what_stands_and_shelves_centrals_own_without_a_key(config: Path, central: Database) -> None:
    alarms = AlarmLog(central)
    now = time.time()
    own = STORY[0].model_copy(
        update={
            "source": "central",
            "rule": "gateway-silent",
            "station": None,
            "time": rfc3339(now - 60),
            "occurrence": uuid7(now),
        }
    )
    alarms.record(own, now)
    over = STORY[0].model_copy(update={"id": "x", "occurrence": OCC, "state": "NORMAL", "transition": "clear"})
    alarms.record(over, now)
    ref = reference(own.occurrence)
    shown = run("alarms", "-c", str(config))
    assert shown.returncode == 0, shown.stderr
    head, line = shown.stdout.splitlines()
    assert re.split(r"  +", head) == [
        "reference", "level", "where", "rule", "state", "since", "acknowledged by", "shelved until",
    ]  # fmt: skip
    assert re.split(r"  +", line)[:5] == [ref, "1", "gw-huy-01", "gateway-silent", "UNACK"]

    done = run("shelve", ref, "--until", "2h", "--by", "Technicien", "--why", "routeur", "-c", str(config))
    assert done.returncode == 0, done.stderr
    assert "UNACK, shelve asked" in run("alarms", "-c", str(config)).stdout
    (wish,) = Wishes(central, alarms, Clock()).pending("central")
    assert (wish.by, wish.why, round((wish.until_s or 0) - now - 7200) < 60) == ("Technicien", "routeur", True)
    (row,) = json.loads(run("alarms", "--json", "-c", str(config)).stdout)
    assert (row["reference"], row["asked"], row["withheld"], row["station"]) == (ref, ["shelve"], None, None)

    for arguments, expected in (
        (("shelve", ref, "--until", "25h"), "by at most 24 h"),
        (("reset", ref), "expected one that has returned"),
        (("shelve", OCC, "--until", "2h"), "no [commands] key"),
    ):
        refused = run(*arguments, "--by", "x", "-c", str(config))
        assert refused.returncode == 2
        assert expected in refused.stderr


def test_lists_what_was_ordered_of_a_gateway_and_orders_nothing_without_a_key(config: Path, central: Database) -> None:
    orders = Orders(central, Clock(trust="always"))
    orders.ask("gw-huy-01", READ, Read, "Anne", station="hoyoux-huy")
    refused = orders.ask("gw-huy-01", RESTART, Restart, "Bert \x1b[2J", station="hoyoux-huy", sensor="level-1")
    orders.answered("gw-huy-01", json.dumps({"id": refused, "ok": False, "error": "no"}).encode())
    shown = run("gateway", "orders", "gw-huy-01", "-c", str(config))
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[2:] for line in shown.stdout.splitlines()[1:]] == [
        ["Bert", r"\x1b[2J", "restart", "hoyoux-huy/level-1", "refused"],
        ["Anne", "read", "hoyoux-huy", "waiting"],
    ]
    done = run("gateway", "logs", "gw-huy-01", "--by", "Anne", "-c", str(config))
    assert (done.returncode, "nothing was done: central.toml has no [commands] key" in done.stderr) == (2, True)
