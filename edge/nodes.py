"""Keys and counters of our own LoRa nodes, in the gateway's data directory.

`node-keys.json` (mode 0600) holds each node's keys, the newest first: those before it count until a packet under the newer one
has come. `nodes.db` holds the last counter accepted under each key. It is written, with `synchronous=FULL`, before the
packet's values go on: after a kill or a power cut no packet that was ever believed is believed again. A disk that takes no
more must not silence a river: counters are then held in memory, and the log says so.

A key is named in logs and tables by `key_id` only.
"""

import fcntl
import json
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edge.errors import EdgeError
from edge.radio._secured import KEY_BYTES, header, unseal
from edge.sensors.base import FrameError

log = logging.getLogger(__name__)

KEY_FILE = "node-keys.json"
COUNTERS = "nodes.db"
_BUSY_S = 0.5
"""How long `radio list` may hold up a packet."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    node INTEGER NOT NULL, key_id TEXT NOT NULL, counter INTEGER NOT NULL, heard_s REAL NOT NULL, PRIMARY KEY (node, key_id)
) WITHOUT ROWID
"""

_REMEMBER = """
INSERT INTO node VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET counter = excluded.counter, heard_s = excluded.heard_s
WHERE excluded.counter > counter
"""


class NodeKeysUnusable(EdgeError):
    """The key file or the counters cannot be read or written; the text says which and why, and holds no key."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last packet accepted under a key: its counter, and when (Unix seconds)."""

    counter: int
    heard_s: float


def key_id(key: bytes) -> str:
    """A name for a key, from which it cannot be found."""
    return sha256(b"maillages node key" + key).hexdigest()[:8]


class NodeKeys:
    """What a modem asks whether a packet is its node's. For one thread; `open()` before `unseal`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._keys: dict[int, tuple[bytes, ...]] = {}
        self._version: object = None
        self._heard: dict[tuple[int, str], Heard] = {}
        self._db: sqlite3.Connection | None = None
        self._unwritten = False

    def open(self, nodes: Sequence[int]) -> None:
        """Read the keys and counters. What cannot be read is logged, as is each of `nodes` that has no key."""
        self._refresh()
        for node in nodes:
            if node not in self._keys:
                log.error("node %d has no key, its packets are refused: maillages-edge radio rekey %d", node, node)
        try:
            self._db, self._heard = _counters(self._data_dir / COUNTERS)
        except (sqlite3.Error, OSError) as e:
            self._note_unwritten(e)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def unseal(self, packet: bytes, address: int | None, wall_s: float) -> tuple[int, bytes]:
        """The node, and the payload of a packet that it sealed and that is newer than all before it; `address` is what the modem
        says of its sender, None where a modem knows none.

        Raises FrameError: `unauthenticated` for no sealed packet, `forged` for another sender or a tag of none of its
        keys, `replay` for a counter that is not higher than the last, `no_key`.
        """
        head = header(packet)
        if address is not None and head.node != address:
            raise FrameError("forged", f"a packet of node {head.node} sent by node {address}")
        self._refresh()
        keys = self._keys.get(head.node, ())
        if not keys:
            raise FrameError("no_key", f"node {head.node} has no key: maillages-edge radio rekey {head.node}")
        for position, key in enumerate(keys):
            try:
                payload = unseal(key, packet)
            except FrameError:
                continue
            self._accept(head.node, key_id(key), Heard(head.counter, wall_s))
            if len(keys) > position + 1:
                self._retire(head.node, keys[: position + 1])
            return head.node, payload
        raise FrameError("forged", f"the tag is of none of node {head.node}'s keys")

    def _accept(self, node: int, key: str, heard: Heard) -> None:
        last = self._heard.get((node, key))
        if last is not None and heard.counter <= last.counter:
            raise FrameError("replay", f"counter {heard.counter}, the last one was {last.counter}")
        self._heard[node, key] = heard
        try:
            if self._db is None:
                self._db, before = _counters(self._data_dir / COUNTERS)
                self._heard = before | self._heard
            rows = self._heard if self._unwritten else {(node, key): heard}
            with self._db:
                self._db.executemany(
                    _REMEMBER,
                    [(n, k, h.counter, h.heard_s) for (n, k), h in rows.items()],
                )
        except (sqlite3.Error, OSError) as e:
            self._note_unwritten(e)
        else:
            if self._unwritten:
                log.info("counters of nodes are written again")
            self._unwritten = False

    def _note_unwritten(self, error: Exception) -> None:
        if not self._unwritten:
            log.error("counters of nodes are held in memory, replays after a restart would pass: %s", error)
        self._unwritten = True

    def _retire(self, node: int, kept: tuple[bytes, ...]) -> None:
        log.info("node %d uses its key %s, those before are forgotten", node, key_id(kept[-1]))
        self._keys[node] = kept
        try:
            with _changing(self._data_dir) as keys:
                now = keys.get(node, ())
                if kept[-1] in now:
                    keys[node] = now[: now.index(kept[-1]) + 1]
        except NodeKeysUnusable as e:
            log.error("the old key of node %d stays in the file: %s", node, e)

    def _refresh(self) -> None:
        """Read the key file again when it is another one: `rekey` needs no restart."""
        version = _version(self._data_dir / KEY_FILE)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = read_keys(self._data_dir)
        except NodeKeysUnusable as e:
            log.error("keys of nodes stay as they were: %s", e)


def read_keys(data_dir: Path) -> dict[int, tuple[bytes, ...]]:
    """Each node's keys, the newest first; none without a file. Raises NodeKeysUnusable."""
    path = data_dir / KEY_FILE
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise NodeKeysUnusable(f"{path}: cannot be read: {e.__class__.__name__}") from None
    if mode & 0o077:
        log.error("%s: mode is %04o, expected 0600: others could read the keys, rekey these nodes", path, mode)
    try:
        keys = {int(node): tuple(bytes.fromhex(key) for key in keys) for node, keys in json.loads(text).items()}
        if any(len(key) != KEY_BYTES for of_node in keys.values() for key in of_node):
            raise ValueError
    except (ValueError, TypeError, AttributeError):  # whose texts would show a key
        raise NodeKeysUnusable(
            f"{path}: expected node numbers with lists of keys of {2 * KEY_BYTES} hex digits"
        ) from None
    return keys


def read_heard(data_dir: Path) -> dict[tuple[int, str], Heard]:
    """The last packet under each (node, key_id), beside a gateway that runs. Raises NodeKeysUnusable."""
    path = data_dir / COUNTERS
    if not path.exists():
        return {}
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return _rows(db)
        finally:
            db.close()
    except sqlite3.Error as e:
        raise NodeKeysUnusable(f"{path}: {e}") from e


def issue_key(data_dir: Path, node: int) -> bytes:
    """A new key for a node, before those that it has. Durable when this returns. Raises NodeKeysUnusable."""
    key = secrets.token_bytes(KEY_BYTES)
    with _changing(data_dir) as keys:
        keys[node] = (key, *keys.get(node, ()))
    return key


def write_private(path: Path, text: str, owner: os.stat_result | None = None) -> None:
    """Write a new file for its owner's eyes, durably and in one piece. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        if owner is not None and os.geteuid() == 0:  # the gateway does not run as root
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _changing(data_dir: Path) -> Iterator[dict[int, tuple[bytes, ...]]]:
    """The keys, to be changed: written when the block ends. The gateway and `rekey` take turns."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        folder = os.open(data_dir, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = read_keys(data_dir)
            yield keys
            shown = {str(node): [key.hex() for key in of_node] for node, of_node in sorted(keys.items())}
            write_private(data_dir / KEY_FILE, json.dumps(shown, indent=1) + "\n", data_dir.stat())
        finally:
            os.close(folder)
    except OSError as e:
        raise NodeKeysUnusable(f"{data_dir / KEY_FILE}: cannot be written: {e.strerror}") from e


def _version(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _counters(path: Path) -> tuple[sqlite3.Connection, dict[tuple[int, str], Heard]]:
    """Open or create the counters. A damaged file is kept beside, and a new one begun."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open_counters(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as e:
        damaged = path.with_suffix(".damaged")
        log.error("counters of nodes %s: %s; kept as %s, each node's next packet counts as new", path, e, damaged.name)
        path.with_name(path.name + "-journal").unlink(missing_ok=True)
        path.rename(damaged)
        return _open_counters(path)


def _open_counters(path: Path) -> tuple[sqlite3.Connection, dict[tuple[int, str], Heard]]:
    db = sqlite3.connect(path, timeout=_BUSY_S)
    try:
        db.execute("PRAGMA journal_mode = PERSIST")  # as the alarm log: a full disk must not refuse an old row's update
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
        db.execute(_SCHEMA)
        if os.geteuid() == 0:  # a technician's `read`: the gateway does not run as root
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
        return db, _rows(db)
    except sqlite3.Error:
        db.close()
        raise


def _rows(db: sqlite3.Connection) -> dict[tuple[int, str], Heard]:
    return {(node, key): Heard(counter, at) for node, key, counter, at in db.execute("SELECT * FROM node")}
