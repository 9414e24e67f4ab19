"""`maillages-edge init`: a station is set up in a dialogue, beside its sensors, and edge.toml is written at the end or not at all.

On an existing file it adds: a sensor, its station, outputs that are missing. What stands there is kept as it is.
"""

import difflib
import math
import re
import socket
import statistics
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

import typer

from common.clock import BRUSSELS, Clock
from edge import drivers
from edge.config import EdgeConfig, SelfTest, checked
from edge.decode import values as option_values
from edge.errors import ConfigError, PortError
from edge.sensors.base import Driver
from edge.service import check as check_whole
from edge.tools import communes, read, scan, trial
from edge.tools.dialogue import Dialogue, number, optional
from edge.tools.document import Document, Line
from edge.tools.screen import GOOD, Screen, paint
from edge.transports.port import Plugged, device, plugged
from wire.ids import is_id
from wire.quantities import QUANTITIES

DATA_DIR = "/var/lib/maillages-edge"
LEVEL, DISTANCE = "water_level", "water_distance"
READINGS = 5
MOVED_M = 0.05
"""A level that changes by less was not moved on purpose."""
STEPS_M = (0.5, 1.0, 1.5)
"""Above the level of today: a first guess at thresholds, where nobody has said any."""
SMOG = {"pm10": (50.0, 70.0, 150.0), "pm2_5": (35.0, 50.0)}
"""Means over 24 hours, ug/m3: the thresholds of the Walloon smog plan, as in the example configuration."""
_PHONE = re.compile(r"\+[1-9]\d{7,14}")
_ELSEWHERE = "elsewhere"
_WIRED = ("stream", "poll", "modbus", "file")
_ASK_AGAIN, _GO_ON = "again", "go-on"


@dataclass(slots=True)
class _Chosen:
    """A sensor as it is being set up."""

    port: str
    driver: Driver
    options: dict[str, Any] = field(default_factory=dict)
    baudrate: int | None = None
    id: str = ""
    period_s: float = 60.0
    level_from: tuple[float, float] | None = None
    """Mounting height and datum, for a sensor that measures a distance."""
    offset: tuple[float, str, str] | None = None
    """Of a level that the sensor measures itself: offset, since when, found by whom."""
    now: dict[str, float] = field(default_factory=dict)
    """What it measures now, by quantity, corrected."""

    @property
    def quantities(self) -> list[str]:
        names = list(self.now) or list(self.driver.quantities)
        return list(dict.fromkeys(LEVEL if q == DISTANCE else q for q in names))


class Setup:
    """Asks by `dialogue`, and puts the answers into `document`. `offline`: no device is touched."""

    def __init__(self, document: Document, dialogue: Dialogue, screen: Screen, clock: Clock, *, offline: bool) -> None:
        self._document = document
        self._ask = dialogue
        self._screen = screen
        self._clock = clock
        self._offline = offline
        self._reports: list[scan.Report] = []
        self._scanned = False

    def run(self) -> EdgeConfig:
        """All questions. Gives what the document now says, checked as `run` would. Raises ConfigError, and typer.Abort at Ctrl-C."""
        ask, data = self._ask, self._document.data
        self._gateway()
        if data.get("station"):
            shown = ", ".join(f"{s['id']}/{x['id']}" for s in data["station"] for x in s.get("sensor", ()))
            ask.say(f"The file has {shown}.")
        if not data.get("station") or ask.confirm("add-sensor", "Add a sensor?", default=True):
            self._sensor()
            while ask.asks and ask.confirm("another", "Add another sensor?", default=False):
                self._sensor()
        self._siren()
        self._sms()
        config = checked(self._document.data, "edge.toml")
        check_whole(config, self._clock)
        return config

    # ------------------------------------------------------------------ gateway

    def _gateway(self) -> None:
        if "gateway" in self._document.data:
            return
        self._ask.title("Gateway")
        host = socket.gethostname().lower()
        name = self._ask.ask(
            "gateway-id", "Its id (a-z 0-9 -; the one it is enrolled under)", _id, host if is_id(host) else None
        )
        where = self._ask.given("data-dir") or DATA_DIR
        self._document.add(
            "[gateway]",
            [
                Line("id", name, "also the MQTT client id and the certificate's CN"),
                Line("data_dir", where, "journal and alarm log"),
            ],
            "edge.toml, begun by `maillages-edge init`. All keys: `maillages-edge config --example`.\n"
            "Durations end in _s (seconds), lengths in _m (metres).",
        )

    # ------------------------------------------------------------------ sensor

    def _sensor(self) -> None:
        ask = self._ask
        ask.title("Sensor")
        chosen = self._device()
        taken = [x["id"] for s in self._document.data.get("station", ()) for x in s.get("sensor", ())]
        ask.title("Station")
        index = self._station()
        station = self._document.data["station"][index]
        here = [x["id"] for x in station.get("sensor", ())]
        base = _kind(chosen)
        proposed = next(f"{base}-{n}" for n in range(1, len(taken) + 2) if f"{base}-{n}" not in here)
        chosen.id = ask.ask("sensor-id", "Id of this sensor", _free(here), proposed)
        chosen.period_s = ask.ask(
            "period", "A reading every so many seconds", number(0, 86400, "s"), f"{chosen.driver.period_s:g}"
        )
        if LEVEL in chosen.quantities or DISTANCE in chosen.now:
            self._gauge(chosen)
        self._write_sensor(index, chosen)
        self._thresholds(index, chosen)

    def _device(self) -> _Chosen:
        """Port, driver and options, so that the sensor answers; or without an answer, if the technician wants so."""
        ask = self._ask
        while True:
            chosen = self._identified()
            for name in drivers.option_names(chosen.driver):
                if chosen.driver.options.model_fields[name].is_required() and name not in chosen.options:
                    chosen.options[name] = ask.ask(
                        f"option-{name}", f"Option `{name}` of {chosen.driver.name}", _option(chosen, name)
                    )
            drivers.options(chosen.driver, chosen.options)
            if self._offline:
                return chosen
            chosen.now, problem = self._read(chosen)
            if chosen.now:
                ask.good("It answers: " + ", ".join(f"{_value(v, q)}" for q, v in chosen.now.items()))
                return chosen
            ask.warn(problem)
            if not ask.asks:
                raise ConfigError(f"{chosen.driver.name} on {chosen.port}: {problem} (--offline sets up without)")
            if (
                ask.choose(
                    "silent",
                    "What now",
                    [(_ASK_AGAIN, "look again, once that is mended"), (_GO_ON, "go on without an answer")],
                    _ASK_AGAIN,
                )
                == _GO_ON
            ):
                return chosen
            self._scanned = False

    def _identified(self) -> _Chosen:
        ask = self._ask
        port, driver = ask.given("port"), ask.given("driver")
        options = option_values(None, None, [s for s in (ask.given("set") or "").split("\n") if s])
        baudrate = ask.given("baudrate")
        if driver is None and not self._offline:
            picked = self._pick(port)
            if picked is not None:
                picked.options |= options
                return picked
        at = ask.ask("port", "Its port (a path, or usb:VID:PID)", _text)
        name = ask.ask("driver", "Its driver (`maillages-edge drivers` lists them)", _driver)
        speed = ask.ask("baudrate", "Baud rate", number(50, 4e6, "baud"), "0") if baudrate else None
        return _Chosen(at, drivers.find(name), options, None if speed is None else int(speed))

    def _pick(self, port: str | None) -> _Chosen | None:
        """One of what the scan found; None to name it by hand."""
        self._scan(port)
        found = [
            (report, one, candidate)
            for report in self._reports
            for one in report.found
            for candidate in one.candidates
            if drivers.find(candidate.driver).link in _WIRED
        ]
        choices = []
        for i, (report, one, candidate) in enumerate(found):
            said = ", ".join(f"{f.value} {f.unit}" for f in candidate.fields if f.name in QUANTITIES)
            where = f"{_name(report.port)}{' ' + one.address if one.address else ''}"
            choices.append((str(i), f"{candidate.driver}  {said}  {where}"))
        for report in self._reports:
            for one in report.found:
                for candidate in one.candidates:
                    if drivers.find(candidate.driver).link == "modem":
                        self._ask.say(
                            f"{_name(report.port)}: a LoRa modem ({candidate.driver}); its nodes are set up in the file,"
                            " see docs/technician.md, LoRa modems"
                        )
            if not report.found:
                self._ask.faint(
                    f"{_name(report.port)}: {report.problem or '; '.join(report.notes) or 'nothing answers'}"
                )
        if not found:
            self._ask.warn(
                "No sensor was found: check its power, that TX and RX (A and B) are not exchanged, its plug."
            )
        if not self._ask.asks:
            if len(found) != 1:
                raise ConfigError(f"--port, --driver: {len(found)} sensors were found, expected to be told which")
            picked = "0"
        else:
            picked = self._ask.choose(
                "which",
                "Which is it",
                [*choices, (_ELSEWHERE, "none of these: name its port and driver")],
                "0" if found else _ELSEWHERE,
            )
        if picked == _ELSEWHERE:
            return None
        report, one, candidate = found[int(picked)]
        driver = drivers.find(candidate.driver)
        return _Chosen(
            _name(report.port),
            driver,
            dict(candidate.options),
            None if one.baudrate == driver.baudrate else one.baudrate,
        )

    def _scan(self, port: str | None) -> None:
        if self._scanned:
            return
        self._scanned, self._reports = True, []
        here = plugged()
        if port is not None:
            known = {name: p for p in here for name in (p.device, *p.names)}
            try:
                here = [known.get(port) or Plugged(device(port), (), "")]
            except PortError as e:
                raise ConfigError(str(e)) from e
        used = {x.get("port") for s in self._document.data.get("station", ()) for x in s.get("sensor", ())}
        here = [p for p in here if port is not None or not used & {p.device, *p.names}]
        if not here:
            self._ask.warn("No free serial port: is the adapter plugged in? `dmesg | tail` shows what the kernel saw.")
            return
        self._ask.say(f"Looking for sensors on {len(here)} port{'s' * (len(here) > 1)}; this may take a minute.")
        stop = Event()
        try:
            scan.scan(here, self._clock, scan.Plan(), stop.is_set, self._reports.append, self._screen.progress)
        except KeyboardInterrupt:
            stop.set()
            raise
        self._reports.sort(key=lambda report: report.port.device)

    def _read(self, chosen: _Chosen) -> tuple[dict[str, float], str]:
        """The medians of some readings, by quantity as the device measures it; or none, and why."""
        seen: dict[str, list[float]] = {}
        problem = ""
        for _ in range(READINGS):
            answers: list[read.Answer] = []
            reader = read.Reader(checked(_trial_data(chosen), "sensor"), "", self._clock)
            reader.run(Event(), answers.append, lambda text: self._screen.progress("reading" if text else ""))
            for answer in answers:
                for reading in answer.readings:
                    seen.setdefault(reading.series.rpartition("/")[2], []).append(reading.value)
                if not answer.good:
                    problem = f"{read.problem(answer)}. {read.hint(answer)}"
            if problem or not {LEVEL, DISTANCE} & seen.keys():
                break
        return {quantity: round(statistics.median(found), 4) for quantity, found in seen.items()}, problem

    # ------------------------------------------------------------------ station

    def _station(self) -> int:
        """The place of the sensor's station in the file; a new one is asked for."""
        ask, stations = self._ask, self._document.data.get("station", [])
        if stations:
            new = "new"
            choices = [(s["id"], f"{s['id']}  {s.get('name', '')}") for s in stations]
            picked = ask.choose("station", "Where is it", [*choices, (new, "a new station")], stations[-1]["id"])
            if picked != new:
                return [s["id"] for s in stations].index(picked)
        name = ask.ask("station-name", "Name, as people of the commune know the place", _text)
        ids = [s["id"] for s in stations]
        number_of = _slug(name)
        station_id = ask.ask(
            "station-id", "Id", _free(ids), number_of if is_id(number_of) and number_of not in ids else None
        )
        commune = ask.ask("commune", "Commune", communes.find)
        ask.faint(f"{commune.name}, NIS {commune.nis}")
        while True:
            lat, lon = ask.ask("position", "Position: latitude, longitude, or a map's link", communes.position)
            remark = communes.remark(commune, lat, lon)
            if not remark:
                break
            ask.warn(remark)
            if not ask.asks or ask.confirm("position-right", "Is it right all the same?", default=False):
                break
        river = ask.ask("river", "River (none: no river)", optional(_text), "none")
        lines = [
            Line("id", station_id),
            Line("name", name),
            Line("commune", commune.nis, f"NIS code of {commune.name}"),
            Line("lat", lat),
            Line("lon", lon),
        ]
        self._document.add("[[station]]", [*lines, Line("river", river)] if river else lines)
        return len(stations) if stations else 0

    # ------------------------------------------------------------------ level

    def _gauge(self, chosen: _Chosen) -> None:
        """What the sensor must add so that it says what the staff gauge says; and that it goes the same way as the water."""
        ask = self._ask
        measured = chosen.now.get(DISTANCE, chosen.now.get(LEVEL))
        distance = DISTANCE in (chosen.now or chosen.driver.quantities)
        ask.title("Level")
        gauge = None
        if measured is not None:
            self._direction(chosen, distance=distance)
            measured = chosen.now[DISTANCE if distance else LEVEL]
            ask.say(f"The sensor measures {measured:.3f} m now{' to the water' if distance else ''}.")
            gauge = ask.ask(
                "gauge",
                "What does the staff gauge read now, in m? (none: there is none)",
                optional(_metres),
                None if ask.asks else "none",
            )
        if distance:
            self._from_distance(chosen, measured, gauge)
        elif gauge is not None and measured is not None:
            offset = round(gauge - measured, 4)
            by = ask.ask("by", "Your name, for the history of the calibration", _text)
            chosen.offset = (offset, datetime.fromtimestamp(int(self._clock.wall()), BRUSSELS).isoformat(), by)
            chosen.now[LEVEL] = round(measured + offset, 4)
            ask.good(f"{offset:+.3f} m is added: the level is {chosen.now[LEVEL]:.3f} m.")
        elif gauge is None:
            ask.warn("Without a gauge the level is what the sensor measures, above its own zero.")

    def _from_distance(self, chosen: _Chosen, measured: float | None, gauge: float | None) -> None:
        ask = self._ask
        known = gauge is not None and measured is not None
        face = ask.ask(
            "mounting-height",
            "Height of the sensor's face above a mark (bed, quay, bridge), in m"
            + (" (none: the gauge alone counts)" if known else ""),
            optional(_metres) if known else _metres,
            "none" if known else None,
        )
        datum = 0.0
        if gauge is not None and measured is not None:
            zero = round(gauge + measured, 4)
            if face is None:
                face = zero
            else:
                datum = round(zero - face, 4)
        elif face is not None:
            datum = ask.ask("datum", "Height of that mark above the gauge's zero, in m", _metres, "0")
        assert face is not None  # noqa: S101 - asked without `none` where the gauge does not say it
        if face <= 0:
            raise ConfigError(
                f"the sensor's face would be {face:g} m above the mark, expected above it: what do --gauge and --mounting-height say?"
            )
        chosen.level_from = (face, datum)
        if measured is not None:
            chosen.now.pop(DISTANCE)
            chosen.now[LEVEL] = round(datum + face - measured, 4)
            ask.good(
                f"level = {datum:g} + {face:g} - distance = {chosen.now[LEVEL]:.3f} m"
                + (
                    ", as the gauge says."
                    if gauge is not None
                    else ". Hold it against a gauge as soon as there is one."
                )
            )

    def _direction(self, chosen: _Chosen, *, distance: bool) -> None:
        """Make sure that the sign is right: a person moves what it sees."""
        ask = self._ask
        what = "hold a board under the sensor, well above the water" if distance else "lift the probe by 10 cm or more"
        quantity = DISTANCE if distance else LEVEL
        rest = chosen.now[quantity]
        ask.say(f"A reversed sign makes a flood look like a drought. To see that it is right, {what}.")
        while ask.confirm("move", "Is it there, and stays? (n: not checked)", default=False):
            now, problem = self._read(chosen)
            moved = now.get(quantity)
            if moved is None:
                ask.warn(problem or "It gave no value.")
            elif abs(moved - rest) < MOVED_M:
                ask.warn(
                    f"It still measures {moved:.3f} m, {abs(moved - rest) * 100:.0f} cm from before: move it more."
                )
            elif moved > rest:
                ask.warn(
                    f"REVERSED: it measures {moved:.3f} m, before {rest:.3f} m, and should have {'come nearer' if distance else 'fallen'}."
                    f" {_REVERSED_DISTANCE if distance else _REVERSED_LEVEL}"
                )
                if ask.confirm("reversed", "Stop here, and write nothing?", default=True):
                    raise typer.Abort
                return
            else:
                ask.good(f"Right: {rest:.3f} m became {moved:.3f} m.")
                ask.ask("moved-back", "Take it away again, then Enter", str, "done")
                chosen.now, _ = self._read(chosen)
                if quantity not in chosen.now:
                    chosen.now = {quantity: rest}
                return
            if not ask.asks:
                raise ConfigError("--move: the sensor did not say what was expected")
        ask.warn("The sign was not checked. Come back to it when the water has moved.")

    # ------------------------------------------------------------------ what is written

    def _write_sensor(self, station: int, chosen: _Chosen) -> None:
        lines = [
            Line("id", chosen.id),
            Line("driver", chosen.driver.name, chosen.driver.title),
            Line("port", chosen.port),
            *([Line("baudrate", chosen.baudrate)] if chosen.baudrate else []),
            Line(
                "period_s",
                int(chosen.period_s) if chosen.period_s.is_integer() else chosen.period_s,
                "0: every frame is a reading",
            ),
        ]
        if chosen.options:
            lines.append(Line("options", chosen.options))
        if chosen.level_from is not None:
            face, datum = chosen.level_from
            lines.append(
                Line(
                    "level",
                    {"mounting_height_m": face, "datum_m": datum},
                    "level = datum + mounting height - distance",
                )
            )
            top = (
                math.ceil((face + datum) * 10 + 1) / 10
            )  # a flag 4 must never hide a flood: above what can be measured
            lines.append(
                Line("gross_range", {LEVEL: {"fail": [round(top - 20, 1), top]}}, "the sensor's face is the highest")
            )
        self._document.add("[[station.sensor]]", lines, station=station)
        if chosen.offset is not None:
            offset, since, by = chosen.offset
            self._document.add(
                "[[station.sensor.calibration]]",
                [
                    Line("quantity", LEVEL),
                    Line("from", datetime.fromisoformat(since), "entries are only ever added, by date"),
                    Line("by", by),
                    Line("offset", offset, "what the staff gauge read, less what was measured"),
                ],
                station=station,
            )

    # ------------------------------------------------------------------ thresholds

    def _thresholds(self, station: int, chosen: _Chosen) -> None:
        watched = next((q for q in (LEVEL, *SMOG) if q in chosen.quantities), None)
        if watched is None:
            return
        ask = self._ask
        unit = QUANTITIES[watched].unit
        ask.title("Local thresholds")
        ask.say("Levels 1, 2 and 3 of this place: its own, never a phase of an authority.")
        level = chosen.now.get(watched) if watched == LEVEL else None
        if watched == LEVEL and level is not None:
            proposed = [round(level + step, 1) for step in STEPS_M]
            ask.say(
                f"The water is at {level:.2f} m. Where nobody knows better: {', '.join(f'{p:.2f}' for p in proposed)}."
                " The commune, or the flood of 2021, knows better."
            )
        elif watched in SMOG:
            ask.say(
                f"The Walloon smog plan has {', '.join(f'{v:g}' for v in SMOG[watched])} {unit}, means over 24 hours."
            )
        top = None if chosen.level_from is None else round(sum(chosen.level_from), 3)
        while True:
            levels = ask.ask(
                "levels", f"Thresholds of {watched}, {unit}, as 1.20 1.80 2.30 (none: no alarm)", optional(_levels)
            )
            if levels is None:
                return
            doubt = _doubt(levels, level, top)
            if not doubt:
                break
            ask.warn(doubt)
            if not ask.asks:
                if top is not None and levels[-1] >= top:
                    raise ConfigError(f"--levels: {doubt}")
                break
            if ask.confirm("levels-right", "Keep them all the same?", default=False):
                break
        rules = [rule["id"] for s in self._document.data["station"] for rule in s.get("rule", ())]
        stem = f"{self._document.data['station'][station]['id'][:40]}-{watched.replace('_', '-')}"
        lines = [
            Line("id", _unused(f"{stem}-high", rules)),
            Line("kind", "high"),
            Line("sensor", chosen.id),
            Line("quantity", watched),
            Line("levels", levels),
        ]
        if watched == LEVEL:
            lines += [Line("deadband", 0.05), Line("off_delay_s", 3600, "a lull in a flood is no all-clear")]
        else:
            lines += [Line("mean_h", 24, "judged each hour, on the mean of the last 24"), Line("deadband", 5)]
        self._document.add("[[station.rule]]", lines, "Local thresholds 1, 2, 3: never an authority's phase.", station)
        if watched != LEVEL:
            return
        rise = ask.ask("rise", "Warn too when it rises by so many m in an hour (none: not)", optional(_rise), "none")
        if rise is not None:
            self._document.add(
                "[[station.rule]]",
                [
                    Line("id", _unused(f"{stem}-rise", rules)),
                    Line("kind", "rise"),
                    Line("sensor", chosen.id),
                    Line("quantity", watched),
                    Line("levels", [rise], "metres per hour"),
                    Line("window_s", 3600),
                    Line("off_delay_s", 10800),
                ],
                station=station,
            )

    # ------------------------------------------------------------------ outputs

    def _siren(self) -> None:
        if "siren" in self._document.data.get("outputs", {}):
            return
        ask = self._ask
        ask.title("Siren")
        found = ask.ask(
            "siren",
            "Its relay board's port, with :CHANNEL if not 1; or gpio:PIN (none: no siren)",
            optional(_siren_of),
            "none",
        )
        if found is None:
            return
        lines = [
            *(Line(key, value) for key, value in found.items()),
            Line("min_level", 2, "sounds from this level on"),
            Line("max_s", 900, "per raise or escalation"),
            Line("self_test", SelfTest(day="wed", at="11:00", pulse_s=1).model_dump(), "weekly, Belgian time"),
        ]
        self._document.add("[outputs.siren]", lines)
        if self._offline:
            return
        while ask.confirm("siren-test", "Sound it for one second now?", default=False):
            done = trial.siren(checked(self._document.data, "edge.toml"), self._clock, 1.0)
            (ask.good if done.good else ask.warn)(done.detail)
            if not ask.asks or ask.confirm("siren-heard", "Did you hear it?", default=True):
                return
            ask.warn("Check the relay's power, the channel, and the siren's own supply.")

    def _sms(self) -> None:
        if "sms" in self._document.data.get("outputs", {}):
            return
        ask = self._ask
        ask.title("SMS of the gateway itself, for when central cannot tell people")
        modems = [_name(r.port) for r in self._reports if any("GSM" in note for note in r.notes)]
        port = ask.ask(
            "sms", "Port of the GSM modem (none: no modem)", optional(_text), modems[0] if modems else "none"
        )
        if port is None:
            return
        pin = ask.ask("sms-pin", "PIN of its SIM (none: it has none)", optional(_pin), "none")
        lines = [Line("port", port), *([Line("pin", pin)] if pin else [])]
        self._document.add(
            "[outputs.sms]", [*lines, Line("after_s", 60, "when central has not said that it tells people")]
        )
        known: list[str] = []
        given = [part for part in (ask.given("recipient") or "").split("\n") if part]
        while given or (ask.asks and (not known or ask.confirm("more", "Another recipient?", default=False))):
            text = given.pop(0) if given else None
            if text is not None:
                try:
                    person = _recipient(text)
                except ValueError as e:
                    raise ConfigError(f"--recipient: {e}") from None
            else:
                person = {
                    "id": ask.ask("recipient-id", "Recipient: an id, as planu-huy", _free(known)),
                    "phone": ask.ask("phone", "Phone, in international form", _phone),
                    "min_level": int(ask.ask("min-level", "From which level on", number(1, 3, ""), "1")),
                    "technician": ask.confirm("technician", "A technician, told of faults too?", default=False),
                }
            known.append(person["id"])
            self._document.add("[[outputs.sms.recipient]]", [Line(k, v) for k, v in person.items()])
        if not known:
            raise ConfigError("--recipient: missing, expected ID=PHONE[:LEVEL][:technician] with --sms")


_REVERSED_DISTANCE = (
    "It counts the wrong way: it is no distance that this driver reads. Choose the right driver or model"
    " (`maillages-edge scan`), or its registers' scale."
)
_REVERSED_LEVEL = (
    "It counts the wrong way: check the sign of scale or offset in its options, or whether what it gives is a distance."
)


def _trial_data(chosen: _Chosen) -> dict[str, Any]:
    """A configuration with this sensor alone, uncorrected."""
    sensor: dict[str, Any] = {"id": "sensor", "driver": chosen.driver.name, "port": chosen.port}
    sensor["options"] = chosen.options
    if chosen.baudrate:
        sensor["baudrate"] = chosen.baudrate
    station = {"id": "trial", "name": "trial", "commune": "00000", "lat": 0, "lon": 0, "sensor": [sensor]}
    return {"gateway": {"id": "trial", "data_dir": DATA_DIR}, "station": [station]}


def _kind(chosen: _Chosen) -> str:
    names = set(chosen.quantities)
    if LEVEL in names:
        return "level"
    if names & {"pm2_5", "pm10"}:
        return "dust"
    return "air" if names & {"air_temperature", "relative_humidity", "co2", "no2", "o3"} else "sensor"


def _doubt(levels: list[float], now: float | None, top: float | None) -> str:
    """Why thresholds may be wrong; empty when nothing is strange."""
    if top is not None and levels[-1] >= top:
        return f"{levels[-1]:g} m cannot be reached: the sensor's face is at {top:g} m."
    if now is not None and levels[0] <= now:
        return f"The water is at {now:.2f} m: level 1 at {levels[0]:g} m stands at once."
    return ""


def _levels(text: str) -> list[float]:
    parts = re.split(r"[;/\s]+|,\s+|,(?=\d+\.)", text.strip())
    try:
        found = [float(part.replace(",", ".")) for part in parts if part]
    except ValueError:
        found = []
    if not 1 <= len(found) <= 3 or found != sorted(set(found)):
        raise ValueError(f"found {text!r}, expected one to three ascending numbers, as 1.20 1.80 2.30")
    return found


def _siren_of(text: str) -> dict[str, Any]:
    if text.startswith("gpio:"):
        if not text[5:].isdecimal() or int(text[5:]) > 27:
            raise ValueError(f"found {text!r}, expected gpio:0 to gpio:27")
        return {"driver": "gpio", "pin": int(text[5:])}
    port, colon, channel = text.rpartition(":")
    if colon and channel in tuple("12345678") and port.startswith("/"):
        return {"driver": "lcus1", "port": port, "channel": int(channel)}
    return {"driver": "lcus1", "port": text, "channel": 1}


def _recipient(text: str) -> dict[str, Any]:
    name, equals, rest = text.partition("=")
    phone, *more = rest.split(":")
    if not equals or not is_id(name) or any(m not in ("1", "2", "3", "technician") for m in more):
        raise ValueError(f"found {text!r}, expected ID=PHONE[:LEVEL][:technician], as planu-huy=+32470000001:1")
    return {
        "id": name,
        "phone": _phone(phone),
        "min_level": next((int(m) for m in more if m.isdecimal()), 1),
        "technician": "technician" in more,
    }


def _option(chosen: _Chosen, name: str) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        found = option_values(None, None, [f"{name}={text}"])[name]
        others = {k: v for k, v in chosen.options.items() if k != name}
        try:
            drivers.options(chosen.driver, others | {name: found})
        except ConfigError as e:
            raise ValueError(str(e)) from None
        return found

    return check


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"found {text!r}, expected a-z 0-9 -, not beginning with -")
    return text


def _free(taken: list[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if _id(text) in taken:
            raise ValueError(f"{text} is there already, expected another id")
        return text

    return check


def _unused(name: str, taken: list[str]) -> str:
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _driver(text: str) -> str:
    try:
        found = drivers.find(text)
    except ConfigError as e:
        raise ValueError(str(e)) from None
    if found.link not in _WIRED:
        raise ValueError(f"{text} is for {found.link}, expected a driver of a device on a port")
    return text


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("expected some text")
    return text


def _phone(text: str) -> str:
    found = re.sub(r"[ ./()-]", "", text)
    if not _PHONE.fullmatch(found):
        raise ValueError("expected a phone number in international form, as +32470000001")
    return found


def _pin(text: str) -> str:
    if not re.fullmatch(r"\d{4,8}", text):
        raise ValueError("expected 4 to 8 digits")
    return text


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFD", name.lower()).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")


def _name(port: Plugged) -> str:
    """How the configuration names a port."""
    return port.names[0] if port.names else port.device


def _value(value: float, quantity: str) -> str:
    return f"{quantity} {value:g} {QUANTITIES[quantity].unit}"


_metres = number(-100, 1000, "m")
_rise = number(0.01, 20, "m")


def added(before: str, after: str) -> list[str]:
    """The lines that are new, for a person to read."""
    old = before.splitlines()
    parts = difflib.SequenceMatcher(None, old, new := after.splitlines(), autojunk=False).get_opcodes()
    return [paint("  " + line, GOOD) for tag, _, _, a, b in parts if tag != "equal" for line in new[a:b]]


def shown(path: Path, config: EdgeConfig) -> list[str]:
    """What a technician does next."""
    lines = [f"{path}: written."]
    if config.mqtt is None:
        lines.append("It has no [mqtt] yet: the gateway alarms by itself, and central hears nothing of it.")
    lines.append("Then: sudo systemctl reload-or-restart maillages-edge, and look at its page or log.")
    return lines
