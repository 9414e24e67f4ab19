"""What is no backup changes nothing; what is one is whole, also when it was made in the midst of a transaction."""

import tarfile
from pathlib import Path

import pytest

from central import backup
from central.config import CentralConfig
from central.db import Database
from central.errors import Refused
from central.holding import DeadLetter, Holding
from common.clock import Clock

LETTER = DeadLetter("maillages/v1/gw-1/readings", "no pack", b"x")


@pytest.fixture
def config(tmp_path: Path) -> CentralConfig:
    return CentralConfig.model_validate({"data_dir": tmp_path / "data", "mqtt": {"host": "127.0.0.1"}})


def letters(config: CentralConfig) -> int:
    db = Database(config.data_dir / "central.db")
    db.open()
    found = len(Holding(db).dead_letters())
    db.close()
    return found


def test_a_backup_in_the_midst_of_a_transaction_has_what_was_committed(config: CentralConfig, tmp_path: Path) -> None:
    file, db = tmp_path / "b.tar", Database(config.data_dir / "central.db")
    db.open()
    Holding(db).keep([LETTER], [], 1.0)
    with db.transaction():
        Holding(db).keep([LETTER._replace(payload=b"y")], [], 2.0)
        assert backup.backup(config, file, Clock()) == ["central.db"]
    db.close()
    assert letters(config) == 2
    _, names, aside = backup.restore(config, file, Clock())
    assert (names, letters(config)) == (["central.db"], 1)
    assert (aside / "central.db").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_is_no_backup_or_a_damaged_one_is_refused_and_changes_nothing(
    config: CentralConfig, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="nothing of central"):
        backup.backup(config, tmp_path / "empty.tar", Clock())
    db = Database(config.data_dir / "central.db")
    db.open()
    Holding(db).keep([LETTER], [], 1.0)
    db.close()
    good = tmp_path / "good.tar"
    backup.backup(config, good, Clock())
    content = bytearray(good.read_bytes())
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 2])
    with tarfile.open(good) as tar:
        at = tar.getmember("central.db").offset_data
    content[at + 4096 : at + 12288] = b"\xff" * 8192
    (tmp_path / "bad.tar").write_bytes(content)
    (tmp_path / "text.tar").write_text("no tar at all")
    before = sorted(p.name for p in config.data_dir.iterdir())
    for name in ("cut.tar", "bad.tar", "text.tar", "missing.tar"):
        with pytest.raises(Refused, match=name):
            backup.restore(config, tmp_path / name, Clock())
    assert sorted({p.name for p in config.data_dir.iterdir()} - {"lock"}) == before
    assert letters(config) == 1
