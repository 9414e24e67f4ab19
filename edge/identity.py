"""The gateway's identity on disk: one PEM file with its key and its certificate (RFC 5280), so that one rename exchanges both.

A renewed one lies beside it as `*.next.pem` until the broker has taken a message under it.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from edge.errors import ConfigError

RENEW_PART = 3
"""A certificate is renewed when one part in so many of its life is left."""


class Certificate(NamedTuple):
    """Whose a certificate is (its CN), and from when to when it counts (Unix seconds)."""

    gateway: str
    begins_s: float
    ends_s: float

    @property
    def renew_s(self) -> float:
        """From when on it is to be renewed."""
        return self.ends_s - (self.ends_s - self.begins_s) / RENEW_PART


def certificate(path: Path) -> Certificate:
    """The first certificate of a PEM file. Raises ConfigError naming the file."""
    try:
        return parse(path.read_bytes())
    except OSError as e:
        raise ConfigError(f"mqtt.tls.cert: {path} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise ConfigError(f"mqtt.tls.cert: {path}: {e}, expected a PEM certificate") from e


def parse(pem: bytes) -> Certificate:
    """Raises ValueError."""
    # Imported when it is needed: it costs a Pi several MB.
    from cryptography import x509

    found = x509.load_pem_x509_certificate(pem)
    names = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Certificate(
        str(names[0].value) if names else "",
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
    )


def day(wall_s: float) -> str:
    """A date and time for people, UTC."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def next_file(path: Path) -> Path:
    """Where a renewed identity waits."""
    return path.with_name(f"{path.stem}.next{path.suffix}")


def write_secret(path: Path, data: bytes) -> None:
    """Write or replace a file in one piece, for its owner alone, on the disk when this returns. Raises OSError."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """A rename is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
