"""File systems of a test's own: small ones that are full, and one whose card fails. Mounting them needs root; else a skip."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of some MiB that `fill` fills to the last byte, again and again, until `free`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        self._filler.unlink()


class Card(SmallDisk):
    """An ext4 file system on a loop device, mounted as Debian does: an error makes it read-only."""

    def __init__(self, path: Path, image: Path) -> None:
        super().__init__(path)
        self.image = image

    def mount(self) -> None:
        _mount("-o", "loop,errors=remount-ro", str(self.image), str(self.path))

    def fail(self) -> None:
        """The kernel finds an error: from now on read-only, whatever is open. ext4(5), option `abort`."""
        _mount("-o", "remount,abort", str(self.path))

    def unmount(self) -> None:
        """As a reboot does. Nothing may have a file open on it. What is mounted next is a copy: a mount namespace that another process
        made meanwhile may keep the old one mounted, as it was."""
        subprocess.run(["umount", str(self.path)], check=True)
        copy = self.image.with_suffix(".copy")
        shutil.copyfile(self.image, copy)
        self.image = copy


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")


@contextlib.contextmanager
def small_disk(path: Path, mib: int) -> Iterator[SmallDisk]:
    """A file system of `mib` MiB in memory, at the new directory `path`."""
    path.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={mib}m", "maillages-test", str(path))
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def card(path: Path, mib: int) -> Iterator[Card]:
    """An ext4 file system of `mib` MiB in a file beside the new directory `path`, mounted there."""
    path.mkdir()
    image = path.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(mib * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    made = Card(path, image)
    made.mount()
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
