"""The settings files of radio modules (firmware-configs/): found by name, read and checked. Writing them is the transport's."""

from pathlib import Path

from edge.errors import ConfigError
from edge.radio.rylr998 import Settings, parse_settings

_INSTALLED = Path(__file__).parent / "firmware_configs"
_SOURCE = Path(__file__).parent.parent / "firmware-configs"


def load(name: str) -> Settings:
    """The settings called `name` (as `rylr998-eu868`, with or without `.toml`), or those of a file when `name` is an absolute
    path. Raises ConfigError, which lists the names there are.
    """
    path = Path(name)
    if not path.is_absolute():
        path = folder() / f"{name.removesuffix('.toml')}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        known = ", ".join(sorted(p.stem for p in folder().glob("*.toml"))) or "none"
        raise ConfigError(
            f"settings {name!r} cannot be read ({e.strerror}), expected a full path or one of {known}"
        ) from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"settings {name!r}: not UTF-8: {e}") from e
    return parse_settings(text, path.name)


def folder() -> Path:
    """Where the files are: inside an installed package, or beside the sources."""
    return _INSTALLED if _INSTALLED.is_dir() else _SOURCE
