"""Central's state on both databases that it can be kept in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from central.db import Database
from tests import servers


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def state_at(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty state is to be made. What uses it runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return tmp_path / "central.db"
    server: servers.Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def open_state() -> Iterator[Callable[[Path | str], Database]]:
    """Opens a state that is closed after the test."""
    opened = []

    def opener(where: Path | str) -> Database:
        db = Database(where)
        db.open()
        opened.append(db)
        return db

    yield opener
    for db in opened:
        db.close()
