"""The drivers that exist: every public module of edge.sensors and edge.radio that is not `base`. Found by their place,
imported only when asked for by name."""

import pkgutil
import tomllib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

import edge.radio
import edge.sensors
from common.config import faults
from edge.errors import ConfigError
from edge.sensors.base import Driver, ModemSettings, Options

_PACKAGES = (edge.sensors, edge.radio)


def _modules() -> dict[str, str]:
    return {
        module.name: f"{package.__name__}.{module.name}"
        for package in _PACKAGES
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "base" and not module.name.startswith("_")
    }


def names() -> list[str]:
    """Names of all drivers, sorted. Imports none of them."""
    return sorted(_modules())


def find(name: str) -> Driver:
    """The driver of this name. Raises ConfigError, which lists those that exist."""
    module = _modules().get(name)
    if module is None:
        raise ConfigError(f"driver {name!r} is unknown, expected one of {', '.join(names())}")
    driver: Driver = import_module(module).DRIVER
    return driver


def option_names(driver: Driver) -> list[str]:
    """What a configuration may say to a driver."""
    return [option.alias or name for name, option in driver.options.model_fields.items()]


def options(driver: Driver, values: Mapping[str, Any]) -> Options:
    """A driver's options from a configuration's values. Raises ConfigError with one line per fault."""
    try:
        return driver.options.model_validate(dict(values))
    except ValidationError as e:
        known = ", ".join(option_names(driver)) or "none"
        raise ConfigError("\n".join(f"{driver.name} option {line} (options: {known})" for line in faults(e))) from e


def settings(driver: Driver, text: str, name: str = "settings") -> ModemSettings:
    """A modem's settings from a file's text. Raises ConfigError with one line per fault; `name` is the file's, for these lines."""
    if driver.modem is None:
        raise ConfigError(f"driver {driver.name} is for {driver.link}, expected one for modem")
    try:
        return driver.modem.settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{name}: not TOML: {e}") from e
    except ValidationError as e:
        raise ConfigError("\n".join(f"{name}: {line}" for line in faults(e))) from e
