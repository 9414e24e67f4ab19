"""`maillages-edge upgrade`: checks a bundle against the pinned key, then has the bundle install itself."""

import subprocess
import tempfile
from pathlib import Path

from edge.errors import ConfigError
from wire.bundle import BundleRefused, check


def upgrade(file: Path, root: Path, python: str) -> int:
    """The exit code of the bundle. Raises ConfigError, before anything of it is run, when it is not signed by the pinned key."""
    base = root / "opt/maillages"
    try:
        signer = (base / "signer").read_text().strip()
        content = file.read_bytes()
        check(content, signer)
        # What was checked is what is run: nobody else can write there.
        private = tempfile.TemporaryDirectory(prefix=".upgrade-", dir=base)
    except OSError as e:
        raise ConfigError(
            f"{e.filename}: {e.strerror}; expected a bundle, and root's rights on an installed gateway"
        ) from e
    except BundleRefused as e:
        raise ConfigError(f"{file}: refused: {e}") from None
    with private as directory:
        script = Path(directory) / "bundle.sh"
        script.write_bytes(content)
        where = [] if root == Path("/") else ["--root", str(root.absolute())]
        return subprocess.run(["/bin/sh", str(script), *where, "--python", python], check=False).returncode
