"""One process per data directory: two gateways, or two centrals, on the same files would give the same numbers twice."""

import fcntl
import os
from pathlib import Path

from common.owner import hand_over


def hold(data_dir: Path, name: str = "lock") -> int:
    """Lock `data_dir` (made if missing, for its owner alone) until this process ends, however it ends; gives the descriptor that
    holds the lock. Of several locks of one directory each has its `name`. Made by root it belongs to the owner of the directory.

    Raises OSError: BlockingIOError when another process holds it, else what the file system says.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(data_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        hand_over(descriptor, data_dir)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
