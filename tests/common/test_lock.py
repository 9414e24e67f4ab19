"""One process per data directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import lock

CHILD = "import sys, pathlib; from common import lock; lock.hold(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"


def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ended(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
        with pytest.raises(BlockingIOError):
            lock.hold(tmp_path / "data")
        child.kill()
    os.close(lock.hold(tmp_path / "data"))


def test_made_by_root_it_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("expected root")
    os.chown(tmp_path, 65534, 65534)
    os.close(lock.hold(tmp_path))
    assert (tmp_path / "lock").stat().st_uid == 65534
