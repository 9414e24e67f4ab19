"""`maillages-edge doctor`: what is wrong with this gateway, and what to do. It asks the running gateway; while none runs it asks the
devices itself. It changes nothing (a SIM that wants the configured PIN gets it, as from the gateway).
"""

import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

from common.clock import Clock
from common.credentials import DIRECTORY
from common.modem import ModemError
from edge import config, identity, link, service
from edge.config import EdgeConfig, SerialButton, SerialSiren
from edge.errors import ConfigError, EdgeError, PortError
from edge.tools import read, running, scan
from edge.tools.screen import BAD, FAINT, GOOD, STRONG, WARNING, paint, span
from edge.transports.port import Plugged, device, plugged
from edge.vitals import vitals

Verdict = Literal["good", "warning", "bad", "unknown"]

_MARKS: dict[Verdict, tuple[str, str]] = {
    "good": ("✓", GOOD),
    "warning": ("!", WARNING),
    "bad": ("✗", BAD),
    "unknown": ("?", FAINT),
}
_WRITTEN_S = 1_767_225_600.0
"""2026-01-01: this program is younger, so a clock before it was never set."""
DAY_S = 86400
_WEAK_DBM = -103
"""Below it SMS get lost (+CSQ 5 and less, TS 27.007 8.5)."""
_SCAN_S = 40.0
_PLAN = scan.Plan()
_AGREES_M = 0.05
_SIM = {
    "pin_required": (
        "the SIM wants a PIN, and edge.toml has none",
        'pin = "…" under [outputs.sms], and restart the gateway',
    ),
    "pin_refused": (
        "the SIM did not take the PIN of edge.toml; it is not tried again, so that the SIM is not locked",
        "correct pin under [outputs.sms]: the right one is on the card's letter",
    ),
    "puk_required": ("the SIM is locked", "put it into a telephone and enter its PUK, from the operator's letter"),
    "missing": ("the modem sees no SIM", "is it in, the right way round? Take the modem's power away before"),
    "failure": ("the SIM fails", "try it in a telephone; else ask the operator for another"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found, and what to do about it."""

    name: str
    verdict: Verdict
    reason: str
    remedy: str = ""

    def lines(self) -> list[str]:
        """For people."""
        mark, style = _MARKS[self.verdict]
        shown = [f"  {paint(mark, style)} {self.name:<16} {self.reason}"]
        return [*shown, f"    {paint('What to do:', STRONG)} {self.remedy}"] if self.remedy else shown

    def value(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


class Doctor:
    """`gauges`: what the staff gauge reads now, by `station/sensor`. `plan`: what is asked on a port whose sensor gives nothing.
    `root` is where the machine's files are. `user` runs the gateway."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        gauges: Mapping[str, float] | None = None,
        plan: scan.Plan = _PLAN,
        root: Path = Path("/"),
        user: str = "maillages",
    ) -> None:
        self._path = path
        self._clock = clock
        self._gauges = gauges or {}
        self._plan = plan
        self._root = root
        self._user = user
        self._credentials = root / DIRECTORY.relative_to("/")
        self.running: dict[str, Any] | None = None
        self.settings: EdgeConfig | None = None

    def run(self) -> Iterator[Finding]:
        """Each finding as soon as it is known."""
        yield from self._configuration()
        settings = self.settings
        if settings is not None:
            try:
                self.running = running.situation(settings.gateway.data_dir)
                yield Finding("gateway", "good", f"runs, since {identity.day(self._started_s())}")
            except running.NotAllowed as e:
                what, _, todo = str(e).partition(": ")
                yield Finding("gateway", "bad", what, todo)
                return
            except running.NotRunning as e:
                what, _, todo = str(e).partition(": ")
                yield Finding("gateway", "bad", what, todo)
        yield from self._unit()
        yield from self._clock_set()
        if settings is None:
            return
        yield from self._machine(settings)
        yield from self._ports(settings)
        yield from self._sensors(settings)
        yield from self._sms(settings)
        yield from self._brokers(settings)
        yield from self._receipts(settings)
        yield from self._outputs(settings)

    # ------------------------------------------------------------------ the program

    def _configuration(self) -> Iterator[Finding]:
        try:
            settings = config.load(self._path)
            service.check(settings, self._clock)
        except ConfigError as e:
            for line in str(e).splitlines():
                yield Finding("configuration", "bad", line, "correct it; maillages-edge check says whether all is well")
            return
        self.settings = settings
        mode = self._path.stat().st_mode
        if mode & stat.S_IROTH:
            yield Finding(
                "configuration",
                "bad",
                f"{self._path} can be read by everybody, with its secrets",
                f"sudo chmod o-r {self._path}",
            )
        else:
            count = sum(len(station.sensor) for station in settings.station)
            yield Finding("configuration", "good", f"{self._path}: {count} sensors")
        for secret in sorted(self._credentials.glob("*")) if os.access(self._credentials, os.R_OK) else ():
            if secret.stat().st_mode & 0o077:
                yield Finding("configuration", "bad", f"{secret} can be read by others", f"sudo chmod 600 {secret}")
        if not settings.station:
            yield Finding(
                "configuration", "warning", "no station: nothing is measured", f"add [[station]] to {self._path}"
            )
        yield from _reversed_scales(settings)

    def _started_s(self) -> float:
        return float(self.running["started_s"]) if self.running else 0.0

    def _unit(self) -> Iterator[Finding]:
        if not (self._root / "run/systemd/system").is_dir():
            yield Finding("unit", "unknown", "no systemd runs here")
            return
        names = ("ActiveState", "UnitFileState", "NRestarts")
        done = subprocess.run(
            ["systemctl", "show", "maillages-edge", f"--property={','.join(names)}"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        state, enabled, restarts = (found.get(name, "") for name in names)
        if state != "active":
            yield Finding(
                "unit", "bad", f"maillages-edge is {state or 'not there'}", "sudo systemctl enable --now maillages-edge"
            )
        elif enabled != "enabled":
            yield Finding(
                "unit", "bad", "maillages-edge will not start with the machine", "sudo systemctl enable maillages-edge"
            )
        elif restarts not in ("", "0"):
            yield Finding(
                "unit", "warning", f"was restarted {restarts} times", "journalctl -eu maillages-edge says why"
            )
        else:
            yield Finding("unit", "good", "enabled and active")

    # ------------------------------------------------------------------ the machine

    def _clock_set(self) -> Iterator[Finding]:
        now = self._clock.wall()
        if now < _WRITTEN_S:
            todo = "connect the network, it comes by itself (timedatectl), or sudo date -s '2026-11-25 14:30'; fit an RTC battery"
            yield Finding("clock", "bad", f"it says {identity.day(now)}: it was never set", todo)
        elif not (self._clock.synchronised() or (self.settings is not None and self.settings.clock.trust == "always")):
            todo = "timedatectl must show a time server that answers; without a network the times of readings are estimates"
            yield Finding(
                "clock", "warning", f"it says {identity.day(now)}, and no time server has confirmed that", todo
            )
        else:
            yield Finding("clock", "good", f"{identity.day(now)}, synchronised")

    def _machine(self, settings: EdgeConfig) -> Iterator[Finding]:
        data = settings.gateway.data_dir
        found = vitals(data, self._root)
        free = found.get("disk_free_percent")
        least = settings.health.disk_free_percent or 0.0
        if not data.is_dir():
            yield Finding("disk", "bad", f"{data} is not there", f"sudo install -d -o {self._user} -m 700 {data}")
        elif os.statvfs(data).f_flag & os.ST_RDONLY:
            todo = (
                "the card is failing or was pulled: copy the journal (maillages-edge journal salvage), replace the card"
            )
            yield Finding("disk", "bad", f"{data} can only be read", todo)
        elif free is None:
            yield Finding("disk", "unknown", f"{data} does not say how full it is")
        elif free < least or free < 1:
            todo = "sudo du -xh --max-depth=3 / | sort -h | tail; journalctl --vacuum-size=50M; max_mib of [journal] limits ours"
            full = "is full: no reading can be kept" if free < 1 else "is nearly full"
            yield Finding("disk", "bad", f"{data} {full} ({free:.1f} % free)", todo)
        else:
            yield Finding("disk", "good", f"{free:.0f} % free")
        used = found.get("storage_used_up_percent")
        if used is None:
            yield Finding(
                "card", "unknown", "this card does not say how worn it is", "replace an SD card every three years"
            )
        else:
            todo = "replace it soon" if used >= 80 else ""
            yield Finding("card", "bad" if used >= 80 else "good", f"up to {used:.0f} % of its life is used", todo)
        low = found.get("under_voltage")
        if low is None:
            yield Finding("power", "unknown", "this machine does not say whether its voltage is low")
        elif low:
            todo = "the Pi's own supply (5.1 V, 3 A or 5 A) and a short thick cable; USB devices on a powered hub"
            yield Finding("power", "bad", "under-voltage", todo)
        else:
            yield Finding("power", "good", "the voltage holds")
        heat = found.get("cpu_temperature")
        limit = settings.health.cpu_temperature or 80.0
        if heat is not None:
            todo = "shade and air for its box; a heat sink" if heat >= limit else ""
            yield Finding("heat", "bad" if heat >= limit else "good", f"processor at {heat:.0f} °C", todo)

    def _ports(self, settings: EdgeConfig) -> Iterator[Finding]:
        here = plugged()
        for url, use in _used(settings).items():
            if "://" in url:
                continue
            name = f"port of {use}"
            try:
                path = Path(device(url))
            except PortError as e:
                yield Finding("ports", "bad", f"{name}: {e}", _plugged_in(here))
                continue
            if not path.exists():
                yield Finding("ports", "bad", f"{name}: {url} is not there", _plugged_in(here))
            elif (why := _refused(path, self._user)) is not None:
                todo = f"sudo usermod -aG {why} {self._user}, and restart the gateway"
                yield Finding("ports", "bad", f"{name}: {url} is not for user {self._user}", todo)
            else:
                yield Finding("ports", "good", f"{name}: {url}")

    # ------------------------------------------------------------------ sensors

    def _sensors(self, settings: EdgeConfig) -> Iterator[Finding]:
        if self.running is not None:
            yield from self._heard(settings, self.running)
        elif settings.station:
            yield from self._asked(settings)

    def _heard(self, settings: EdgeConfig, told: dict[str, Any]) -> Iterator[Finding]:
        """As the running gateway has it."""
        for station in told["stations"]:
            for sensor in station["sensors"]:
                key = f"{station['id']}/{sensor['id']}"
                trouble = sensor["trouble"]
                values = {m["quantity"]: m["value"] for m in sensor["measures"] if m["fresh"]}
                if trouble is not None:
                    hints: Mapping[str, str] = read.HINTS  # type: ignore[assignment]
                    said = trouble["detail"] or trouble["kind"]
                    todo = "see ports" if trouble["kind"] == "port" else hints.get(trouble["kind"], "")
                    if trouble["kind"] in ("timeout", "length", "format", "header", "checksum", "crc"):
                        todo += " Doctor finds more with the gateway stopped: sudo systemctl stop maillages-edge."
                    yield Finding("sensors", "bad", f"{key}: nothing for {span(trouble['age_s'])}: {said}", todo)
                elif not values:
                    yield Finding(
                        "sensors", "warning", f"{key}: nothing fresh", "wait for its next period, then look again"
                    )
                else:
                    yield from self._values(settings, key, values)

    def _asked(self, settings: EdgeConfig) -> Iterator[Finding]:
        """Asked now, as `read` does; what is silent or not understood is looked for on its port."""
        answers: list[read.Answer] = []
        wired = {
            f"{station.id}/{sensor.id}" for station in settings.station for sensor in station.sensor if sensor.port
        }
        part = [s.model_copy(update={"sensor": tuple(x for x in s.sensor if x.port)}) for s in settings.station]
        reader = read.Reader(
            settings.model_copy(update={"station": tuple(s for s in part if s.sensor)}), "", self._clock, 5.0
        )
        reader.run(Event(), answers.append, lambda _: None)
        lost = [a for a in answers if not a.good and a.sample is not None and a.sample.error is not None]
        reports = self._searched({str(a.wanted.sensor.port) for a in lost if _to_search(a)})
        for answer in answers:
            if answer.good:
                values = {r.series.rpartition("/")[2]: r.value for r in answer.readings}
                yield from self._values(settings, answer.wanted.key, values)
                continue
            todo = _seen_instead(answer, reports.get(str(answer.wanted.sensor.port))) or read.hint(answer)
            if answer.sample is not None and answer.sample.error is not None and answer.sample.error.kind == "port":
                todo = f"see ports; {todo}"
            yield Finding("sensors", "bad", f"{answer.wanted.key}: {read.problem(answer)}", todo)
        others = sum(len(s.sensor) for s in settings.station) - len(wired)
        if others:
            yield Finding("sensors", "unknown", f"{others} radio nodes are known to the running gateway alone")

    def _searched(self, urls: set[str]) -> dict[str, scan.Report]:
        found: dict[str, scan.Report] = {}
        names: dict[str, str] = {}
        for url in urls:
            try:
                names[device(url)] = url
            except PortError:
                continue
        if names:
            end = self._clock.boot() + _SCAN_S

            def take(report: scan.Report) -> None:
                found[names[report.port.device]] = report

            ports = [Plugged(path, (), "") for path in names]
            scan.scan(ports, self._clock, self._plan, lambda: self._clock.boot() >= end, take, lambda _: None)
        return found

    def _values(self, settings: EdgeConfig, key: str, values: Mapping[str, float]) -> Iterator[Finding]:
        shown = ", ".join(f"{quantity} {value:g}" for quantity, value in values.items())
        yield Finding("sensors", "good", f"{key}: {shown}")
        level = values.get("water_level")
        if level is not None:
            sensor = next(x for s in settings.station for x in s.sensor if f"{s.id}/{x.id}" == key)
            yield from _level(key, sensor, level, self._gauges.get(key))

    # ------------------------------------------------------------------ modem, central, outputs

    def _sms(self, settings: EdgeConfig) -> Iterator[Finding]:
        sms = settings.outputs.sms
        if sms is None:
            yield Finding("sms", "unknown", "no modem is configured")
            return
        if self.running is None:
            modem = service.sms_modem(sms, self._clock, settings.gateway.data_dir)
            try:
                status = modem.status()
            except ModemError as e:
                yield Finding(
                    "sms", "bad", f"the modem: {e.reason}", "power, cable, port: maillages-edge scan finds it"
                )
                return
            finally:
                modem.close()
            sim, registered, signal = status.sim, status.registered, status.signal_dbm
        else:
            health = self.running["health"]
            if "sms_sim_ready" not in health:
                lost = bool(health.get("sms_unusable"))
                todo = "power, cable, port: maillages-edge scan finds it" if lost else "it is asked once a minute"
                yield Finding(
                    "sms", "bad" if lost else "unknown", "the modem does not answer" if lost else "not asked yet", todo
                )
                return
            sim = "ready" if health["sms_sim_ready"] else "pin_required" if sms.pin is None else "failure"
            registered, signal = bool(health["sms_registered"]), health.get("sms_signal_dbm")
        if sim != "ready":
            yield Finding("sms", "bad", *_SIM[sim])
            return
        if not registered:
            todo = "antenna, place, and whether the SIM is active: try it in a telephone at the same place"
            yield Finding("sms", "bad", "the SIM is good, and no network has taken it", todo)
            return
        weak = signal is not None and signal < _WEAK_DBM
        todo = "a better antenna, higher, away from metal" if weak else ""
        said = "SIM and network are good, " + ("signal not known" if signal is None else f"signal {signal:g} dBm")
        yield Finding("sms", "warning" if weak else "good", said, todo)
        todo = "maillages-edge test sms spends one message and shows it"
        left = None if self.running is None else self.running["health"].get("sms_credit")
        if sms.credit is None:
            yield Finding("sms credit", "unknown", "nobody asks; a prepaid card wants `credit`", todo)
        elif left is None:
            yield Finding("sms credit", "unknown", "the running gateway asks once a day, and has no answer", todo)
        else:
            low = left < sms.credit.warn_below
            yield Finding("sms credit", "warning" if low else "good", f"{left:g} left", "charge it" if low else "")

    def _brokers(self, settings: EdgeConfig) -> Iterator[Finding]:
        mqtt = settings.mqtt
        if mqtt is None:
            yield Finding("broker", "unknown", "none is configured: the gateway alarms on its own")
            return
        for broker in (mqtt, *mqtt.fallback):
            try:
                version = link.check(broker, mqtt.tls, self._clock)
                yield Finding("broker", "good", f"{broker.host}:{broker.port} reached, {version}")
            except link.LinkFault as e:
                yield Finding("broker", "bad", e.what, e.remedy)
            except ConfigError as e:
                yield Finding("broker", "bad", str(e), "maillages-edge join installs them")
        if mqtt.tls is None:
            yield Finding(
                "certificate",
                "warning",
                "the link is not protected: no [mqtt.tls]",
                "join with a file of the administrator",
            )
            return
        try:
            own = identity.certificate(mqtt.tls.cert)
        except EdgeError as e:
            yield Finding("certificate", "bad", str(e), "sudo reads it; else maillages-edge join with a new file")
            return
        days = (own.ends_s - self._clock.wall()) / DAY_S
        said = (
            f"of {own.gateway}, {days:.0f} days left"
            if days >= 0
            else f"of {own.gateway} ended on {identity.day(own.ends_s)}"
        )
        if days < 0:
            yield Finding(
                "certificate", "bad", said, f"a new join file: maillages-central enrol {own.gateway} --replace …"
            )
        elif days < (settings.health.certificate_days or 0):
            yield Finding(
                "certificate", "bad", said, "it should have renewed itself: is central up? journalctl -u maillages-edge"
            )
        else:
            yield Finding("certificate", "good", said)

    def _receipts(self, settings: EdgeConfig) -> Iterator[Finding]:
        told = self.running
        if told is None or settings.mqtt is None:
            return
        waiting, since = told["waiting"], told["unconfirmed_s"]
        if told["in_memory"]:
            yield Finding(
                "journal", "bad", f"{told['in_memory']} readings are in memory alone: the disk takes none", "see disk"
            )
        if waiting and since >= (settings.health.unconfirmed_s or 900):
            todo = "see broker; if that is good, central or its database is away: ask the administrator"
            yield Finding("receipts", "bad", f"{waiting} readings wait, none confirmed for {span(since)}", todo)
        elif not told["linked"]:
            yield Finding(
                "receipts", "warning", f"no link: {waiting} readings wait", "see broker; none is lost meanwhile"
            )
        else:
            yield Finding("receipts", "good", f"central confirms; {waiting} readings wait")

    def _outputs(self, settings: EdgeConfig) -> Iterator[Finding]:
        siren = settings.outputs.siren
        if siren is None:
            yield Finding("siren", "unknown", "none is configured")
            return
        health = {} if self.running is None else self.running["health"]
        if health.get("siren_lost"):
            yield Finding(
                "siren", "bad", "its relay takes no command", "power and cable of the board; maillages-edge scan"
            )
        elif self.running is not None:
            yield Finding("siren", "good", "its relay takes commands")
        if health.get("button_fault"):
            yield Finding("button", "bad", "stuck, chattering or not connected", "its cable and contact")
        if siren.self_test is None:
            yield Finding(
                "self-test", "warning", "the siren is never tested", "self_test under [outputs.siren], weekly"
            )
        elif "siren_test_at" not in health:
            yield Finding(
                "self-test",
                "unknown",
                "none since the gateway started",
                "maillages-edge test siren, with the gateway stopped",
            )
        else:
            age = (self._clock.wall() - health["siren_test_at"]) / DAY_S
            outcome = ("failed", "done", "left out: an alarm sounded")[int(health["siren_test_outcome"])]
            bad = outcome == "failed" or age > 8
            todo = "maillages-edge test siren, with the gateway stopped" if bad else ""
            yield Finding("self-test", "bad" if bad else "good", f"{age:.0f} days ago, {outcome}", todo)


def _reversed_scales(settings: EdgeConfig) -> Iterator[Finding]:
    """A register map that turns a level upside down: the sign stands in the options of the generic drivers."""
    for station in settings.station:
        for sensor in station.sensor:
            for entry in sensor.options.values():
                for part in entry if isinstance(entry, list) else [entry]:
                    if (
                        isinstance(part, dict)
                        and part.get("name", "").startswith("water_")
                        and _negative(part.get("scale"))
                    ):
                        yield Finding(
                            "configuration",
                            "bad",
                            f"{station.id}/{sensor.id}: scale {part['scale']} of {part['name']} turns it upside down",
                            "take the minus away; a distance becomes a level by level = { mounting_height_m = … }",
                        )


def _negative(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0


def _level(key: str, sensor: config.Sensor, level: float, gauge: float | None) -> Iterator[Finding]:
    """Whether a level can be, and agrees with what the staff gauge reads."""
    height = sensor.level
    distance = None if height is None else height.datum_m + height.mounting_height_m - level
    if gauge is not None:
        if abs(level - gauge) <= _AGREES_M:
            yield Finding("level", "good", f"{key}: {level:g} m, the staff gauge {gauge:g} m")
        elif abs(level + gauge) <= _AGREES_M:
            yield Finding(
                "level", "bad", f"{key}: {level:g} m, the staff gauge {gauge:g} m: the sign is reversed", _SIGN
            )
        elif distance is not None and abs(distance - gauge) <= _AGREES_M:
            todo = "take level = { … } out: what this device says is the level already"
            yield Finding(
                "level", "bad", f"{key}: {level:g} m, the staff gauge {gauge:g} m: the sign is reversed", todo
            )
        else:
            todo = (
                f"after a second look at the gauge: [[station.sensor.calibration]] with offset = {gauge - level:+.3f}"
            )
            yield Finding("level", "bad", f"{key}: {level:g} m, the staff gauge {gauge:g} m", todo)
    elif distance is not None and distance <= 0:
        todo = "mounting_height_m or datum_m is wrong; maillages-edge doctor --gauge STATION/SENSOR=METRES compares"
        yield Finding("level", "bad", f"{key}: {level:g} m is above the sensor itself", todo)
    elif level < -_AGREES_M:
        yield Finding("level", "warning", f"{key}: {level:g} m is below the gauge's zero: is the sign reversed?", _SIGN)


_SIGN = (
    "a minus in scale, slope or datum_m? A distance needs level = { mounting_height_m = … }, a level none."
    " Then maillages-edge doctor --gauge STATION/SENSOR=METRES, with what the staff gauge reads"
)


def _to_search(answer: read.Answer) -> bool:
    error = answer.sample.error if answer.sample is not None else None
    return error is not None and error.kind in (
        "timeout",
        "checksum",
        "crc",
        "length",
        "format",
        "header",
        "tail",
        "gap",
    )


def _seen_instead(answer: read.Answer, report: scan.Report | None) -> str:
    """What a scan of the port found where this sensor should be."""
    if report is None or report.problem:
        return ""
    wanted = answer.wanted
    speed = wanted.sensor.baudrate or wanted.driver.baudrate
    for found in report.found:
        names = [c.driver for c in found.candidates]
        if wanted.driver.name in names or not names:
            options = next((dict(c.options) for c in found.candidates if c.driver == wanted.driver.name), {})
            if found.baudrate != speed:
                return f"it speaks at {found.baudrate} baud, not {speed}: baudrate = {found.baudrate}"
            if found.address:
                said = ", ".join(f"{k} = {v}" for k, v in options.items())
                return (
                    f"a device answers at {found.address}: options = {{ {said} }}"
                    if said
                    else (f"a device answers at {found.address}, not at the address of edge.toml")
                )
        elif names:
            return f"{' or '.join(names)} answers on this port: is it the right one, and the right driver?"
    if not report.found and not report.strange:
        return (
            "nothing answers on this port at the usual speeds and addresses: power; A and B of RS485 swapped (exchange them, it harms"
            " nothing); RX and TX not crossed"
        )
    return ""


def _used(settings: EdgeConfig) -> dict[str, str]:
    """Each configured port, and what for."""
    found: dict[str, str] = {}
    for station in settings.station:
        for sensor in station.sensor:
            if sensor.port is not None:
                found.setdefault(sensor.port, f"{station.id}/{sensor.id}")
            if sensor.power is not None:
                found.setdefault(sensor.power.port, f"the supply of {station.id}/{sensor.id}")
    for modem in settings.modem:
        found.setdefault(modem.port, f"modem {modem.name}")
    outputs = settings.outputs
    if isinstance(outputs.siren, SerialSiren):
        found.setdefault(outputs.siren.port, "the siren")
    if isinstance(outputs.button, SerialButton):
        found.setdefault(outputs.button.port, "the button")
    if outputs.sms is not None:
        found.setdefault(outputs.sms.port, "the SMS modem")
    return found


def _plugged_in(here: list[Plugged]) -> str:
    names = ", ".join(p.names[0] if p.names else p.device for p in here)
    return (
        f"plugged in now: {names}: is it one of them?"
        if names
        else "no adapter is plugged in: cable, hub, dmesg | tail"
    )


def _refused(path: Path, user: str) -> str | None:
    """The group that `user` lacks to read and write a device; None when it may, or is not known here."""
    try:
        who = pwd.getpwnam(user)
        found = path.stat()
    except (KeyError, OSError):
        return None
    if who.pw_uid in (0, found.st_uid) or found.st_mode & 0o006 == 0o006:
        return None
    groups = os.getgrouplist(user, who.pw_gid)
    if found.st_mode & 0o060 == 0o060 and found.st_gid in groups:
        return None
    try:
        return grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return str(found.st_gid)
