"""Central's state itself, on both databases: all or nothing, one writer at a time, carried over, honest when it is away."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Double, Integer, LargeBinary, Text, delete, inspect, select
from sqlalchemy.exc import DataError, IntegrityError

from central.alarms.log import AlarmLog
from central.alarms.wishes import Wishes
from central.db import Database
from central.errors import StateUnavailable
from central.holding import DeadLetter, Held, Holding
from central.ranges import Gap, Ranges
from central.tables import alarm_event, dead_letter, gateway, metadata, quarantine, series_cursor
from common.clock import Clock
from tests import servers
from tests.central.test_alarm_log import OCC, STORY
from tests.central.test_cli_views import run
from wire.ids import uuid7

T0 = 1_784_000_000.0
SCHEMA = Path(__file__).parents[2] / "central" / "schema"
HELD = Held("gw-1", "j", 1, "h-huy/level-9/water_level", {"v": 0.0}, True)
LETTER = DeadLetter("maillages/v1/gw-1/readings", "v is null", b"[]", "j", 7)

ROW = {"id": 1, "received_s": T0, "topic": "t", "reason": "r", "payload": b""}


def letters(db: Database) -> list[str]:
    return [r.reason for r in db.rows(select(dead_letter).order_by(dead_letter.c.id))]


def test_the_schema_is_what_queries_believe(state_at, open_state):
    with open_state(state_at).transaction() as tx:
        found = inspect(tx)
        assert set(metadata.tables) == set(found.get_table_names()) - {"schema_version"}
        for name, table in metadata.tables.items():
            there = {c["name"]: c for c in found.get_columns(name)}
            assert list(there) == [c.name for c in table.columns]
            assert found.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key], name
            for column in table.columns:
                kinds = [k for k in (Text, Double, LargeBinary, Boolean, Integer) if isinstance(column.type, k)]
                kind = kinds[0] if kinds else Text  # a decorator of it
                if tx.dialect.name == "sqlite":
                    kind = Integer if kind is Boolean else kind
                is_there = there[column.name]["type"]
                assert isinstance(is_there, kind) or (kind is Double and str(is_there) == "REAL"), (
                    f"{name}.{column.name}"
                )
                if not column.primary_key:
                    assert there[column.name]["nullable"] == column.nullable, f"{name}.{column.name}"


def test_a_transaction_is_all_or_nothing_also_within_another(state_at, open_state):
    db = open_state(state_at)

    def fail_within() -> None:
        with db.transaction() as tx:
            tx.execute(dead_letter.insert(), ROW)
            with db.transaction():
                Holding(db).keep([LETTER], [HELD], T0)
            assert letters(db) == ["r", "v is null"], "seen by itself"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert letters(db) == []
    assert db.rows(select(quarantine)) == []
    Holding(db).keep([LETTER], [HELD], T0)
    assert letters(db) == ["v is null"]


def test_a_wrong_statement_ends_its_transaction_and_no_other(state_at, open_state):
    db = open_state(state_at)
    with pytest.raises(IntegrityError), db.transaction() as tx:
        tx.execute(dead_letter.insert(), [ROW, ROW])
    assert letters(db) == []
    with pytest.raises((DataError, OverflowError)), db.transaction() as tx:
        tx.execute(dead_letter.insert(), ROW | {"number": 2**70})
    with db.transaction() as tx:
        tx.execute(dead_letter.insert(), ROW)
    assert letters(db) == ["r"]


def test_two_processes_write_one_after_the_other(state_at, open_state):
    """What is read within a transaction still holds when it writes: as with two connections of two processes."""
    dbs = [open_state(state_at), open_state(state_at)]
    failed = []

    def count(db: Database) -> None:
        try:
            for _ in range(50):
                with db.transaction() as tx:
                    at = tx.execute(select(series_cursor.c.position)).scalar_one()
                    tx.execute(series_cursor.update().values(position=at + 1))
        except StateUnavailable as e:
            failed.append(e)

    threads = [threading.Thread(target=count, args=(db,)) for db in dbs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [r.position for r in dbs[0].rows(select(series_cursor))] == [200]


def test_two_processes_that_start_at_once_make_one_schema(state_at):
    dbs, failed = [Database(state_at) for _ in range(4)], []

    def start(db: Database) -> None:
        try:
            db.open()
        except StateUnavailable as e:
            failed.append(e)

    threads = [threading.Thread(target=start, args=(db,)) for db in dbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [r.position for r in dbs[0].rows(select(series_cursor))] == [0]
    for db in dbs:
        db.close()


def test_what_a_client_sends_is_kept_whatever_it_is(state_at, open_state):
    """U+0000, which PostgreSQL takes in no text; reasons and payloads longer than an entry of an index may be."""
    db = open_state(state_at)
    holding = Holding(db)
    long = [DeadLetter("t" * 9000, "é" * 1000, bytes(range(256)) * 16, "j", n) for n in (1, 2)]
    holding.keep([DeadLetter("t", "a\x00b", b"\x00", None, None), *long], [HELD._replace(name="a\x00b")], T0)
    holding.keep(long, [], T0 + 1)
    assert letters(db) == ["a\ufffdb", "é" * 1000, "é" * 1000]
    assert [letter.payload for _, letter in holding.dead_letters()][:1] == [bytes(range(256)) * 16]
    assert [held.name for _, held in holding.quarantined("gw-1")] == ["a\ufffdb"]


def test_repeats_push_no_older_letter_out(state_at, open_state):
    db = open_state(state_at)
    holding = Holding(db)
    holding.keep([LETTER], [], T0)
    many = [LETTER._replace(number=8)] * 500
    for _ in range(5):
        holding.keep(many, [], T0)
    holding.keep([LETTER._replace(number=9)], [], T0)
    assert [r.id for r in db.rows(select(dead_letter.c.id).order_by(dead_letter.c.id))] == [1, 2, 3]


def test_what_a_gateway_says_replaces_what_it_said(state_at, open_state):
    db = open_state(state_at)
    with db.transaction() as tx:
        tx.execute(gateway.insert(), {"gateway": "gw-1", "stations": '{"stations": []}'})
    holding = Holding(db)
    assert [(s is not None, status) for s, status, _ in holding.gateways().values()] == [(True, None)]
    assert holding.gateways_in_quarantine() == []
    holding.keep([], [HELD, HELD, HELD._replace(number=2)], T0)
    assert (holding.unknown_names(), holding.gateways_in_quarantine()) == ([("gw-1", HELD.name, 2)], ["gw-1"])
    holding.release([row_id for row_id, _ in holding.quarantined("gw-1")])
    assert holding.quarantined("gw-1") == []


def carried_over(db: Database) -> None:
    """What the program of version 6 had written is there, and can be gone on with."""
    alarms, holding = AlarmLog(db), Holding(db)
    clock = Clock(boottime=lambda: 100.0, walltime=lambda: T0)
    (occurrence,) = alarms.open_occurrences()
    assert (occurrence.state, occurrence.level, occurrence.raised_s) == ("UNACK", 2, T0)
    (event,) = alarms.events(occurrence.occurrence)
    assert Wishes(db, alarms, clock).asked() == {occurrence.occurrence: ("shelve",)}
    assert Ranges(db, clock, lambda _: True).gaps("gw-huy-01") == [Gap("j", 101, 104)]
    assert [(h.number, h.estimated) for _, h in holding.quarantined("gw-huy-01")] == [(1, False), (2, True)]
    assert [letter.payload for _, letter in holding.dead_letters()] == [b'\x00\xff[{"v":null}]']
    assert not holding.gateways()["gw-huy-01"][1].online
    assert not alarms.record(event, T0 + 1).new
    later = event.model_copy(update={"id": uuid7(T0), "seq": 2, "transition": "escalate", "level": 3})
    assert alarms.record(later, T0 + 1).new
    with pytest.raises(IntegrityError, match="append-only"), db.transaction() as tx:
        tx.execute(delete(alarm_event))


def test_a_database_of_version_6_is_carried_over(tmp_path, open_state):
    file = tmp_path / "central.db"
    old = sqlite3.connect(file)
    old.executescript((Path(__file__).parent / "databases" / "central_v6.sql").read_text())
    old.close()
    carried_over(open_state(file))


def test_a_file_moves_to_postgresql_by_command(tmp_path, postgres, open_state):
    file, config, url = tmp_path / "central.db", tmp_path / "central.toml", postgres.database()
    old = sqlite3.connect(file)
    old.executescript((Path(__file__).parent / "databases" / "central_v6.sql").read_text())
    old.close()
    config.write_text(f'data_dir = "{tmp_path}"\n[mqtt]\nhost = "127.0.0.1"\n[state]\nurl = "{url}"\n')
    moved = run("move-state", str(file), "-c", str(config))
    assert moved.returncode == 0, moved.stderr
    assert "rows copied from" in moved.stdout
    db = open_state(url)
    carried_over(db)
    assert [r.position for r in db.rows(select(alarm_event.c.position))] == [1, 2], "new numbers follow the old ones"
    again = run("move-state", str(file), "-c", str(config))
    assert (again.returncode, "expected an empty state" in again.stderr) == (2, True)


@pytest.mark.parametrize("version", range(1, 6))
def test_older_databases_are_carried_over(tmp_path, open_state, version):
    file = tmp_path / "central.db"
    old = sqlite3.connect(file)
    for number in range(1, version + 1):
        old.executescript((SCHEMA / f"schema_v{number}.sqlite.sql").read_text())
    old.execute(f"PRAGMA user_version = {version}")
    old.execute(
        "INSERT INTO alarm_event (id, source, gateway, seq, occurrence, time_s, received_s, json)"
        " VALUES (?, 'gateway', 'gw-huy-01', 1, ?, ?, ?, ?)",
        (STORY[0].id, OCC, T0, T0, STORY[0].model_dump_json()),
    )
    old.commit()
    old.close()
    assert AlarmLog(open_state(file)).events(OCC) == [STORY[0]]


def test_a_newer_state_is_refused_and_left_alone(state_at, open_state):
    db = open_state(state_at)
    with db.transaction() as tx:
        newer = {"sqlite": "PRAGMA user_version = 999", "postgresql": "INSERT INTO schema_version VALUES (999)"}
        tx.exec_driver_sql(newer[tx.dialect.name])
    with pytest.raises(StateUnavailable, match="999 is newer"):
        Database(state_at).open()
    with pytest.raises(StateUnavailable, match="version 999, this program's is"):
        Database(state_at).open_read_only()


def test_a_view_sees_what_is_written_and_writes_nothing(state_at, open_state):
    db, view = open_state(state_at), Database(state_at)
    view.open_read_only()
    with db.transaction() as tx:
        Holding(db).keep([LETTER], [], T0)
        assert letters(view) == [], "and does not wait for it"
        assert letters(db) == ["v is null"]
        tx.execute(delete(quarantine))
    assert letters(view) == ["v is null"]
    with pytest.raises(StateUnavailable, match=r"read-?only"), view.transaction() as tx:
        tx.execute(delete(dead_letter))
    view.close()


def test_closed_it_says_so(state_at, open_state):
    db = open_state(state_at)
    db.close()
    with pytest.raises(StateUnavailable, match="is not open"):
        db.rows(select(dead_letter))


def test_a_server_that_was_away_is_used_again(open_state):
    with servers.postgres() as server:
        url = server.database()
        db = open_state(url)
        Holding(db).keep([LETTER], [], T0)

        def delete_and_lose_it() -> None:
            with db.transaction() as tx:
                tx.execute(delete(dead_letter))
                server.kill9()
                tx.execute(select(dead_letter))

        with pytest.raises(StateUnavailable):
            delete_and_lose_it()
        with pytest.raises(StateUnavailable):
            db.rows(select(dead_letter))
        server.restart()
        assert letters(db) == ["v is null"], "what was not committed is not there"
        Holding(db).keep([LETTER._replace(number=8)], [], T0)
        assert len(letters(db)) == 2
    assert "maillages" in db.name


def test_a_password_is_in_no_name_and_no_fault(tmp_path):
    assert "geheim" not in Database("postgresql://maillages:geheim@127.0.0.1/maillages").name
    config = tmp_path / "central.toml"
    for url in (
        "postgres://m:geheim@127.0.0.1/m",
        "postgresql://m:geheim@127.0.0.1",
        "postgresql://m:geheim@127.0.0.1:1/m",
    ):
        config.write_text(f'data_dir = "{tmp_path}"\n[mqtt]\nhost = "127.0.0.1"\n[state]\nurl = "{url}"\n')
        shown = run("alarms", "-c", str(config))
        assert (shown.returncode, "expected" in shown.stderr, "geheim" in shown.stderr) == (2, True, False), (
            shown.stderr
        )
