"""What central deletes each night, and what it leaves."""

from pathlib import Path

import pytest

from central import config
from central.db import Database
from central.holding import DeadLetter, Held, Holding
from central.service import housekeeping, store
from central.store.base import Point, Series
from common.clock import Clock

NOW = 1_780_000_000.0
DAY_S = 86400


@pytest.fixture
def holding(tmp_path: Path):
    db = Database(tmp_path / "central.db")
    db.open()
    yield Holding(db)
    db.close()


def settings(tmp_path: Path, **kept: object) -> config.CentralConfig:
    return config.CentralConfig.model_validate(
        {"data_dir": tmp_path, "mqtt": {"host": "127.0.0.1"}, "store": {"kind": "embedded", **kept}}
    )


def test_deletes_dead_letters_after_90_days_and_no_held_reading(tmp_path: Path, holding: Holding) -> None:
    held = Held("gw-1", "j", 1, "h-huy/level-1/water_level", {"n": "x", "v": 0.0}, False)
    letters = [DeadLetter("maillages/v1/gw-1/readings", "v is null", b"[]", "j", n) for n in (2, 3)]
    holding.keep(letters[:1], [held], NOW - 91 * DAY_S)
    holding.keep(letters[1:], [], NOW - 89 * DAY_S)
    configured = settings(tmp_path)
    for _, job in housekeeping(configured, Clock(walltime=lambda: NOW), holding, store(configured)):
        job()
    assert [letter.number for _, letter in holding.dead_letters()] == [3]
    assert [h for _, h in holding.quarantined("gw-1")] == [held]


def test_prunes_the_embedded_store_by_keep_days_only_when_it_is_set(tmp_path: Path, holding: Holding) -> None:
    clock = Clock(walltime=lambda: NOW)
    huy = Series("water_level", {"station": "h-huy"})
    ages_d = (400, 31, 29, 0)
    forever, month = settings(tmp_path), settings(tmp_path, keep_days=30)
    database = store(forever)
    database.setup()
    database.write([Point(huy, {"value": 1.0}, round((NOW - age * DAY_S) * 1000)) for age in ages_d])

    def left_after(configured: config.CentralConfig) -> int:
        for _, job in housekeeping(configured, clock, holding, database):
            job()
        return database.count("water_level", 0, round(NOW * 1000) + 1, {})

    assert left_after(forever) == 4
    assert left_after(month) == 2
    database.close()
