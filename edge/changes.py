"""A configuration that changes while the gateway runs: tried, judged by whether the gateway stays healthy, kept or rolled back.

It comes from the site (`maillages-edge apply`, SIGHUP) or from central (topic `config`). The last change holds, whoever made it:
what central sent goes on after a restart until somebody changes the gateway's own file.
"""

import logging
import queue
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common import toml
from common.clock import Clock, rfc3339
from edge import drivers
from edge.config import EdgeConfig, Sensor, parsed
from edge.errors import ConfigError
from edge.exchange import Exchange, Pushed, State, digest
from wire.configuration import MAX_WHY, Configuration, ConfigurationResult, carried, completed
from wire.configuration import State as PushedState
from wire.errors import WireError

log = logging.getLogger(__name__)

TRIAL_S = 10.0
"""And two periods: within that a sensor must give a value after a change."""
JUDGED_PERIOD_S = 120.0
LINK_S = 60.0


class Running(Protocol):
    """A gateway that runs, as the changes see it (edge.service.Service)."""

    @property
    def config(self) -> EdgeConfig: ...

    @property
    def linked(self) -> bool: ...

    @property
    def heard(self) -> Mapping[str, float]: ...

    def change(self, config: EdgeConfig) -> set[str]: ...

    def tell(self, result: ConfigurationResult) -> None: ...


def effective(own: str, exchange: Exchange) -> tuple[str, str]:
    """What shall run: the gateway's own file, or what central sent, if that ran and nobody changed the file since; and why not, if
    central sent something."""
    pushed = exchange.pushed()
    if pushed is None or pushed.runs is None:
        return own, ""
    if pushed.own != digest(own):
        return own, f"it was changed since central's version {pushed.runs.version}"
    try:
        return _completed(pushed.runs, own), ""
    except (ConfigError, WireError) as e:
        return own, str(e)


def _completed(configuration: Configuration, own: str) -> str:
    """Central's text with what is the gateway's own. Raises WireError, or ConfigError when the own file is no TOML."""
    try:
        return toml.text(completed(carried(configuration.text), tomllib.loads(own)))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"the gateway's own file is no TOML: {e}") from e


def read(path: Path | None) -> str | None:
    """The text of a file; None where there is none, or it cannot be read, which is logged."""
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        log.error("%s cannot be read: %s", path, e)
        return None


class Changes:
    """Tries configurations that a running gateway is handed, and goes back when one is not healthy.

    Healthy: within a while each sensor on a wire gives a value that was opened anew, or that gave one before, if its period is
    at most `JUDGED_PERIOD_S`; and the link is there, if it was before.
    """

    def __init__(
        self, service: Running, clock: Clock, path: Path | None, own: str, sent: "queue.SimpleQueue[Configuration]"
    ) -> None:
        """`own` is the text of the gateway's own file at `path`; `sent` is what central sends."""
        self._service = service
        self._clock = clock
        self._path = path
        self._own = own
        self._sent = sent
        self._exchange = Exchange(service.config.gateway.data_dir)
        self._pushed = self._exchange.pushed()
        self._trial: _Trial | None = None
        self._text = ""
        self._untold: ConfigurationResult | None = None
        """Of a version that somebody replaced on site; there may have been no link to say so."""
        self._waits: Configuration | None = None
        """What central sent during a trial."""

    @property
    def on_trial(self) -> bool:
        return self._trial is not None

    def begin(self, text: str) -> None:
        """Say what runs."""
        self._text = text
        if self._pushed is not None and self._pushed.result.state == "trying":
            # What makes a gateway end is not tried for ever.
            self._result("rolled-back", "the gateway ended while it was on trial")
        if text == self._own:
            self._replaced("the gateway's own file was changed on site")
        self._say("started", "running", kind="start")

    def look(self) -> None:
        """Try what was handed over on site; without that, the file as it is now."""
        try:
            handed = self._exchange.take()
        except (OSError, ValueError, KeyError) as e:
            log.error("configuration: what was handed over cannot be read: %s", e)
            return
        text = handed[1] if handed else read(self._path)
        if text is not None:
            self._attempt(handed[0] if handed else "file", text, "site")

    def receive(self) -> None:
        """Take what central has sent meanwhile."""
        while not self._sent.empty():
            self._take_pushed(self._sent.get())

    def _take_pushed(self, configuration: Configuration) -> None:
        """A version that was tried is answered for; a newer one is tried; an older one refused."""
        last, version = self._pushed, configuration.version
        if last is not None and version < last.configuration.version:
            why = (
                f"version: found {version}, expected more than {last.configuration.version}, which this gateway has had"
            )
            log.error("configuration of central refused: %s", why)
            self._service.tell(self._said(version, "refused", why))
            return
        if last is not None and version == last.configuration.version and last.result.state != "trying":
            if configuration != last.configuration:
                log.error("configuration of central refused: version %d was another one before", version)
            if self._untold is not None:
                self._service.tell(self._untold)
            self._service.tell(last.result)
            return
        if self._trial is not None:
            if self._trial.version != version:
                self._waits = configuration
            return
        pushed = Pushed(
            configuration=configuration,
            result=self._said(version, "trying"),
            runs=last.runs if last is not None else None,
            own=last.own if last is not None else "",
        )
        try:
            self._exchange.keep(pushed)
        except OSError as e:  # its version must outlive a restart
            self._service.tell(self._said(version, "refused", f"it cannot be written down: {e.strerror}"))
            return
        self._pushed = pushed
        self._service.tell(pushed.result)
        try:
            text = _completed(configuration, self._own)
        except (WireError, ConfigError) as e:
            log.error("configuration of central refused: %s", e)
            self._result("refused", str(e))
            return
        self._attempt(f"version {version}", text, f"central-{version}", version)

    def _result(self, state: PushedState, why: str) -> None:
        """Note what became of what central sent, and tell it."""
        if self._pushed is None:
            return
        result = self._said(self._pushed.configuration.version, state, why)
        update: dict[str, object] = {"result": result}
        if state == "running":
            update |= {"runs": self._pushed.configuration, "own": digest(self._own)}
        self._keep(self._pushed.model_copy(update=update))
        self._service.tell(result)

    def _replaced(self, why: str) -> None:
        """What central sent runs no more, by the will of somebody on site."""
        pushed = self._pushed
        if pushed is None or pushed.runs is None:
            return
        version = pushed.runs.version
        result = self._said(version, "replaced", why)
        last = result if version == pushed.configuration.version else pushed.result
        self._keep(pushed.model_copy(update={"runs": None, "result": last}))
        self._untold = result
        self._service.tell(result)

    def _keep(self, pushed: Pushed) -> None:
        self._pushed = pushed
        try:
            self._exchange.keep(pushed)
        except OSError as e:
            log.warning("what became of the configuration cannot be written down: %s", e)

    def _said(self, version: int, state: PushedState, why: str = "") -> ConfigurationResult:
        return ConfigurationResult(version=version, state=state, why=why[:MAX_WHY], at=rfc3339(self._clock.wall()))

    def _attempt(self, name: str, text: str, kind: str, version: int | None = None) -> None:
        """Run by this text, on trial."""
        if self._trial is not None:
            self._say(name, "refused", "another change is on trial: try again in a minute", kind)
            return
        before, linked, now = self._service.config, self._service.linked, self._clock.boot()
        try:
            config = parsed(text, "edge.toml")
            heard = {key for key, at in self._service.heard.items() if now - at <= _limit_s(before, key)}
            anew = self._service.change(config)
        except ConfigError as e:
            log.error("configuration refused: %s", e)
            self._say(name, "refused", str(e), kind)
            return
        wanted = {key: _limit_s(config, key) for key in _judged(config) & (anew | heard)}
        log.info("configuration changed, on trial for %.0f s", max(wanted.values(), default=LINK_S if linked else 0.0))
        self._trial = _Trial(
            name, text, kind, version, before, self._clock.boot(), wanted, linked=linked and config.mqtt is not None
        )
        if version is None:
            self._say(name, "trying", kind=kind)

    def judge(self) -> None:
        """Whether what is on trial is healthy by now, or will not be."""
        trial = self._trial
        if trial is None:
            return
        waited_s = self._clock.boot() - trial.since_s
        silent = {key for key in trial.wanted if self._service.heard.get(key, 0.0) <= trial.since_s}
        late = sorted(key for key in silent if waited_s > trial.wanted[key])
        unlinked = trial.linked and not self._service.linked
        if not silent and not unlinked:
            self._trial = None
            self._text = trial.text
            log.info("configuration healthy after %.0f s: it stays", waited_s)
            if trial.version is None:
                self._replaced("another configuration was applied on site")
                self._own = trial.text if trial.kind == "site" else self._own
            self._say(trial.name, "running", kind=trial.kind)
            self._next()
            return
        if not late and not (unlinked and waited_s > LINK_S):
            return
        why = ", ".join([f"sensor {key} gave no value in {trial.wanted[key]:.0f} s" for key in late])
        why = why or f"the link to central did not come back in {LINK_S:.0f} s"
        try:
            self._service.change(trial.before)
        except ConfigError as e:  # tried again at the next look
            log.warning("configuration not healthy: %s; not back yet: %s", why, e)
            return
        self._trial = None
        log.error("configuration not healthy: %s; the one before runs again", why)
        self._say(trial.name, "rolled-back", why, trial.kind)
        self._next()

    def _next(self) -> None:
        """What central sent during the trial."""
        waits, self._waits = self._waits, None
        if waits is not None:
            self._take_pushed(waits)

    def _say(self, name: str, state: State, why: str = "", kind: str = "") -> None:
        if kind.startswith("central-"):
            self._result(state, why)
        try:
            if state == "running":
                self._exchange.runs(name, self._text, kind, rfc3339(self._clock.wall()))
            else:
                self._exchange.say(name, state, why)
        except OSError as e:
            log.warning("what became of the configuration cannot be written down: %s", e)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A candidate that runs. `version`: central's, None for the site. `wanted`: which sensors must give a value, in how many seconds."""

    name: str
    text: str
    kind: str
    version: int | None
    before: EdgeConfig
    since_s: float
    wanted: Mapping[str, float]
    linked: bool


def _judged(config: EdgeConfig) -> set[str]:
    return {
        f"{s.id}/{x.id}"
        for s in config.station
        for x in s.sensor
        if x.port is not None and not x.out_of_service and _period_s(x) <= JUDGED_PERIOD_S
    }


def _limit_s(config: EdgeConfig, key: str) -> float:
    """Within which a sensor that is well gives a value."""
    sensors = (x for s in config.station for x in s.sensor if f"{s.id}/{x.id}" == key)
    return next((TRIAL_S + 2 * _period_s(sensor) for sensor in sensors), TRIAL_S)


def _period_s(sensor: Sensor) -> float:
    return drivers.find(sensor.driver).period_s if sensor.period_s is None else sensor.period_s
