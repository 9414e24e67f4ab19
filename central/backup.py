"""Backup and restore of what central keeps in `data_dir`: one tar file, mode 0600 (it holds personal data).

The state is copied before the store, each by SQLite's own online backup: so the state never claims a reading that the store of the
same file lacks, and what came in between central stores twice without harm. After a restore central asks every gateway for the
numbers that it lacks. PostgreSQL and InfluxDB have tools of their own, which `elsewhere` names.
"""

import io
import json
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from central.config import CentralConfig, InfluxDb
from central.db import Database
from central.errors import Refused, StateUnavailable
from central.workers import LEADER, lock_name
from common.clock import Clock, rfc3339

FORMAT = 1
_MANIFEST = "manifest.json"
_DATABASES = ("central.db", "store.db")
"""In this order."""
_FILES = ("recipients.json", "recipients-access.log")


def elsewhere(config: CentralConfig) -> list[str]:
    """What no backup of `data_dir` holds, and the tool for it; to be run after the backup of the state."""
    said = []
    if config.state:
        said.append("state and recipients are in PostgreSQL: pg_dump --format=custom, and pg_restore")
    if isinstance(config.store, InfluxDb):
        said.append(
            f"the readings are in InfluxDB: after this, influxd backup -portable -database {config.store.database} DIR (1.x) or"
            " influx backup DIR (2.x)"
        )
    return said


def backup(config: CentralConfig, file: Path, clock: Clock) -> list[str]:
    """Write `file`, also beside a running central; what it holds. An older `file` is replaced only by a whole new one.

    Raises Refused when there is nothing to be saved, or it cannot be read or written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".maillages-") as made:
            work = Path(made)  # mode 0700
            names = [name for name in _DATABASES if _copied(config.data_dir / name, work / name)]
            names += [name for name in _FILES if (config.data_dir / name).exists()]
            if not names:
                raise Refused(f"{config.data_dir}: nothing of central is there")
            manifest = {"format": FORMAT, "made": rfc3339(clock.wall()), "files": names}
            part = work / "backup.tar"
            with part.open("xb") as out, tarfile.open(fileobj=out, mode="w") as tar:
                text = json.dumps(manifest).encode()
                member = tarfile.TarInfo(_MANIFEST)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
                for name in names:
                    tar.add(work / name if name in _DATABASES else config.data_dir / name, name, recursive=False)
                tar.close()
                out.flush()
                os.fsync(out.fileno())
            part.chmod(0o600)
            part.replace(file)
            _sync_directory(file.absolute().parent)
    except OSError as e:
        raise Refused(f"{file}: cannot be written: {e.strerror or e}") from e
    except sqlite3.Error as e:
        raise Refused(f"{config.data_dir}: cannot be read: {e}") from e
    return names


def restore(config: CentralConfig, file: Path, clock: Clock) -> tuple[str, list[str], Path]:
    """Put back what `file` holds, and keep what was there in a directory of its own: when the backup was made, the names, and
    that directory. All is checked before anything is moved. Raises Refused, and when central is running."""
    data = config.data_dir
    db = Database(config.state_at)
    try:
        if config.state:
            db.open()
        if not (db.hold(LEADER) and db.hold(lock_name(1))):
            raise Refused(f"{db.name}: central is running, expected it to be stopped")
    except StateUnavailable as e:
        db.close()
        raise Refused(f"{db.name}: {e}") from e
    except Refused:
        db.close()
        raise
    try:
        with tempfile.TemporaryDirectory(dir=data, prefix=".restore-") as made:
            work = Path(made)
            when, names = _unpacked(file, work)
            aside = data / f"before-restore-{rfc3339(clock.wall())[:19].replace(':', '')}"
            aside.mkdir(mode=0o700)
            owner = data.stat()
            for name in names:
                for old in (name, f"{name}-wal", f"{name}-shm"):
                    if (data / old).exists():
                        (data / old).rename(aside / old)
                (work / name).chmod(0o600)
                if os.geteuid() == 0:
                    os.chown(work / name, owner.st_uid, owner.st_gid)
                (work / name).rename(data / name)
            _sync_directory(data)
    except OSError as e:
        raise Refused(f"{data}: cannot be restored: {e.strerror or e}") from e
    finally:
        db.close()
    return when, names, aside


def _copied(source: Path, target: Path) -> bool:
    """Copy a SQLite database that may be in use; False when there is none."""
    if not source.exists():
        return False
    # At once, under one read lock: in steps, each commit of a busy central would begin it again.
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as db,
        closing(sqlite3.connect(target)) as copy,
    ):
        db.backup(copy)
    return True


def _unpacked(file: Path, work: Path) -> tuple[str, list[str]]:
    """The files of a backup in `work`, on the disk. Raises Refused when it is none, or damaged."""
    try:
        with tarfile.open(file) as tar:
            manifest = json.load(tar.extractfile(_MANIFEST) or io.BytesIO())
            if manifest["format"] != FORMAT:
                raise Refused(f"{file}: format {manifest['format']}, expected {FORMAT}")
            names = [name for name in (*_DATABASES, *_FILES) if name in manifest["files"]]
            for name in names:
                content = tar.extractfile(name)
                if content is None:
                    raise Refused(f"{file}: {name} is no file")
                with (work / name).open("xb") as out:
                    while block := content.read(1 << 20):
                        out.write(block)
                    out.flush()
                    os.fsync(out.fileno())
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as e:
        raise Refused(f"{file}: expected a file of `maillages-central backup`: {e}") from e
    except FileNotFoundError as e:
        raise Refused(f"{file}: no such file") from e
    for name in _DATABASES:
        if name in names:
            try:
                with closing(sqlite3.connect(work / name)) as db:
                    said = db.execute("PRAGMA integrity_check").fetchone()[0]
            except sqlite3.Error as e:
                said = str(e)
            if said != "ok":
                raise Refused(f"{file}: {name} is damaged: {said}")
    return str(manifest["made"]), names


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
