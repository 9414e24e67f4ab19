"""Errors of the gateway, sorted by what the caller does.

    EdgeError
    ├── ConfigError     stop: a person must mend the file (exit 2)
    ├── PortError       retry: the device is gone; it comes back by itself
    │   └── PortInUse   another program holds it; a tool says so and goes on with the next
    ├── FrameError      drop this frame, count its kind, go on
    └── OutputError     try the other way to warn, tell a person

`FrameError` lives with the drivers (edge.sensors.base), which are pure.
"""

from pathlib import Path


class EdgeError(Exception):
    """Anything the gateway raises on purpose."""


class ConfigError(EdgeError):
    """The configuration cannot be used; the text names file, key, what was found and what was expected."""


class PortError(EdgeError):
    """A serial port cannot be opened, read or written now."""


class PortInUse(PortError):
    """A serial port that exists and is held by another program."""


class OutputError(EdgeError):
    """A siren or modem did not do what it was told; the text names the device and its answer."""


def told(file: Path, error: Exception) -> str:
    """An error of a configuration, each line with the file's name."""
    if not isinstance(error, ConfigError):
        return str(error)
    return "\n".join(line if line.startswith(f"{file}: ") else f"{file}: {line}" for line in str(error).splitlines())
