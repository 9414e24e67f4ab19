"""`maillages-edge diff` and `apply`: a configuration against the one that runs, and in its place."""

import os
import signal
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import lock
from common.clock import Clock
from common.difference import differences
from edge import service
from edge.config import EdgeConfig, load
from edge.errors import ConfigError
from edge.exchange import Exchange, Outcome
from edge.tools.document import replace_file

_WAIT_S = 400.0
"""Longer than any trial: `changes.TRIAL_S` and two of the longest periods that are judged, twice."""
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that could run. `changes` is what a person would say of it, against `against`."""

    path: Path
    text: str
    config: EdgeConfig
    against: str
    changes: list[str]


def candidate(path: Path, target: Path, clock: Clock) -> Candidate:
    """Read and check `path` as `run` would, and compare it with what runs, or with the file at `target` where nothing ran yet.

    Raises ConfigError."""
    config = load(path)
    service.check(config, clock)
    text = path.read_text(encoding="utf-8")
    running = Exchange(config.gateway.data_dir).running()
    old = running if running is not None else _text(target)
    against = "what runs" if running is not None else str(target)
    return Candidate(path, text, config, against, differences(_data(old), tomllib.loads(text)))


def is_running(config: EdgeConfig) -> bool:
    """Whether a gateway holds the data directory. Raises ConfigError when this user may not look."""
    data = config.gateway.data_dir
    if not (data / "lock").exists():
        return False
    try:
        os.close(lock.hold(data))
    except BlockingIOError:
        return True
    except OSError as e:
        raise ConfigError(f"{data}: {e.strerror}; expected to run as root or the gateway's user") from e
    return False


def put(found: Candidate, target: Path) -> Path | None:
    """The candidate becomes the file; gives where the one before is kept."""
    before = _text(target)
    kept = target.with_name(target.name + ".previous")
    if before and before != found.text:
        replace_file(kept, before)
    replace_file(target, found.text)
    return kept if before and before != found.text else None


def tried(found: Candidate, clock: Clock, tell: Callable[[str], None], wait: Callable[[float], None]) -> Outcome:
    """Have the running gateway try it, and wait until it knows. Raises ConfigError when it does not say."""
    exchange = Exchange(found.config.gateway.data_dir)
    last = exchange.outcome()
    if last is None:
        raise ConfigError("the gateway that runs does not say its process: restart it once")
    name = exchange.offer(found.text)
    try:
        os.kill(last.pid, signal.SIGHUP)
    except OSError as e:
        raise ConfigError(f"the gateway, process {last.pid}, cannot be told: {e.strerror}") from e
    end_s, begin_s = clock.boot() + _WAIT_S, clock.boot()
    while clock.boot() < end_s:
        outcome = exchange.outcome()
        if outcome is not None and outcome.id == name and outcome.final:
            tell("")
            return outcome
        tell(f"{clock.boot() - begin_s:.0f} s   it runs on trial: every sensor that gave values must give them again")
        wait(_LOOK_S)
    raise ConfigError("the gateway does not say what became of it: `journalctl -u maillages-edge` does")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e


def _data(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
