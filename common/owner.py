"""Who owns what a person's command, run as root, leaves in the directory of a service that is not."""

import os
from pathlib import Path


def hand_over(file: int | Path, folder: Path) -> None:
    """Give a file, or an open descriptor, to the owner of `folder` if root has made it. Raises OSError."""
    if os.geteuid() == 0:
        owner = folder.stat()
        if (owner.st_uid, owner.st_gid) != (
            0,
            0,
        ):  # else it is root's already, and a unit's filter need not allow the call
            os.chown(file, owner.st_uid, owner.st_gid)
