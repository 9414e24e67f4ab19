"""The demo's flood of Dead Run as central would have written it: every row comes from central's own code, on a clock that is moved
from minute to minute. `completeness` alone is filled in here, to its schema (docs/wire.md).

What happens, counted back from the end: the Hoyoux passes local threshold 3 at Huy, an hour after Marchin upstream of it; the Mehaigne
has passed 1 and somebody has answered; Marneffe is silent for 95 minutes with an alarm that stands; the gateway of the Solières has
never said anything; the Yerne measures exactly zero; a school measures the dust of a Bonfire Night. The gateway of Huy was cut off for 25
minutes.
"""

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import func, select

from central.alarms.log import AlarmLog
from central.alarms.series import AlarmSeries
from central.chain import Chain
from central.config import CentralConfig
from central.db import Database
from central.holding import Holding
from central.ingest import Decoder
from central.mqtt import Received
from central.notify.channels import channels
from central.notify.notifier import Notifier
from central.notify.series import MessageSeries
from central.registry import Registry
from central.status import calibrations, minute
from central.store.base import Point, Reading, Series, Store
from central.store.embedded import Embedded
from central.tables import alarm_event, escalation, message, notify_cursor
from common.clock import Clock, rfc3339
from demo.series import Series as Level
from demo.series import dust, river
from edge.air import Means, indicators
from tests import servers
from tests.fakes.providers import SmsServer, SmtpServer
from tests.people import tell
from wire.alarm import AlarmEvent
from wire.ids import uuid7
from wire.station import GatewayStatus, Stations

FLOOD_S = 1_528_711_320.0  # 2018-06-11T10:02:00Z, when Dead Run has just passed 1.2 m
BONFIRE_S = 1_541_453_400.0  # 2018-11-05T21:30:00Z
MINUTE_S = 60
HUY, WANZE, BURDINNE, WAREMME, SOLIERES = (
    "gw-huy-01",
    "gw-wanze-01",
    "gw-burdinne-01",
    "gw-waremme-01",
    "gw-solieres-01",
)
GATEWAYS = (HUY, WANZE, BURDINNE, WAREMME, SOLIERES)

# id: gateway, commune, name, river, position (those of the SPW's gauges nearby), thresholds, communes downstream
STATIONS = {
    "hoyoux-huy": (HUY, "61031", "Huy, pont du Hoyoux", "Hoyoux", (50.5145, 5.2405), (0.55, 0.80, 1.20), ()),
    "hoyoux-marchin": (HUY, "61039", "Marchin, Hoyoux", "Hoyoux", (50.4772, 5.2538), (0.60, 0.90, 1.30), ("61031",)),
    "meuse-amay": (HUY, "61003", "Amay, quai de Meuse", "Meuse", (50.5402, 5.3105), (2.40, 2.90, 3.40), ()),
    "solieres-huy": (SOLIERES, "61031", "Huy, Solières aval", "Solières", None, (), ()),
    "mehaigne-moha": (WANZE, "61072", "Wanze, Mehaigne à Moha", "Mehaigne", (50.5530, 5.1830), (0.55, 0.80, 1.20), ("61031",)),
    "ecole-wanze": (WANZE, "61072", "Wanze, école communale", None, (50.5391, 5.2085), (), ()),
    "burdinale-marneffe": (BURDINNE, "61010", "Marneffe, pont-route", "Burdinale", (50.5845, 5.1350), (0.60, 0.90, 1.30), ("61072",)),
    "geer-bergilers": (WAREMME, "64056", "Oreye, Geer à Bergilers", "Geer", (50.7130, 5.3300), (0.90, 1.20, 1.50), ()),
    "yerne-limont": (WAREMME, "64023", "Donceel, Yerne à Limont", "Yerne", (50.6590, 5.3060), (0.80, 1.10, 1.40), ("61003",)),
}  # fmt: skip
RECIPIENTS = [
    {"id": "planu-huy", "name": "Planification d'urgence, Huy", "communes": ["61031", "61039"], "phone": "+32470000001",
     "email": "planu@huy.test"},
    {"id": "bourgmestre-huy", "name": "Bourgmestre de Huy", "communes": ["61031"], "order": 2, "phone": "+32470000002"},
    {"id": "planu-wanze", "name": "Planification d'urgence, Wanze", "communes": ["61072", "61010"], "phone": "+32470000003"},
    {"id": "garde-marchin", "name": "Garde de Marchin", "communes": ["61039"], "phone": "+32470000404"},
]  # fmt: skip
MEASURED = (
    "water_level", "water_temperature", "rainfall", "battery_voltage", "battery_level", "rssi", "pm2_5", "pm10", "co2", "air_temperature",
    "relative_humidity",
)  # fmt: skip
BAD = 100
SILENT_MIN = 95
CUT_MIN = (60, 35)
CALIBRATED_BY = "J. Lambert"


class Flood:
    """`run()` lets the last `minutes` before `end_s` (Unix s) happen and writes all of it to `store`."""

    def __init__(self, directory: Path, store: Store, end_s: float, minutes: int) -> None:
        self.end_s, self.minutes = end_s, minutes
        self.now = end_s - minutes * MINUTE_S
        self._store = store
        self._directory = directory
        self._water, (self._pm2_5, self._pm10) = river(), dust("5331")
        self._events = 0
        self._states: dict[str, tuple[str, int]] = {}
        self._answers: list[tuple[float, str, str]] = []

    # ------------------------------------------------------------------ the water and the air

    def level(self, station: str, at_s: float) -> float:
        """Metres at Unix second `at_s`."""
        back = at_s - self.end_s
        flood = FLOOD_S + back
        match station:
            case "hoyoux-huy":
                return self._water.at(flood)
            case "hoyoux-marchin":
                return round(0.95 * self._water.at(flood + 1800), 4)
            case "mehaigne-moha":
                return round(self._water.at(flood - 43_000), 4)
            case "burdinale-marneffe":
                return round(0.7 + 0.3 * max(0.0, 1 + back / 20_000), 4)
            case "meuse-amay":
                return round(2.1 + 0.12 * max(0.0, 1 + back / 7200), 4)
            case "geer-bergilers":
                return 0.42
            case _:
                return 0.0

    # ------------------------------------------------------------------ what happens

    def run(self) -> None:
        with ExitStack() as ends:
            self._begin(ends)
            for station, (gateway, *_) in STATIONS.items():
                if gateway != SOLIERES:
                    self._measure(station, gateway)
            status: list[Point] = []
            while self.now < self.end_s:
                self.now += MINUTE_S
                self._pass(status)
            self._series.copy()
            self._messages.copy()
            self._store.write([*status, *calibrations(self._registry), *self._completeness()])
            for measurement in (*MEASURED, "alarm", "message"):
                self._store.write(
                    [
                        Point(Series(measurement, r.tags), r.fields, r.time_ms)
                        for r in self._local.dump(measurement, 0, 2**53)
                    ]
                )

    def _begin(self, ends: ExitStack) -> None:
        smtp, sms = ends.enter_context(SmtpServer()), ends.enter_context(SmsServer())
        sms.answer = lambda body: (400, "{}") if body["to"].endswith("404") else (200, '{"ok":1}')
        clock = Clock(walltime=lambda: self.now, boottime=lambda: self.now, synchronised=lambda: True)
        config = CentralConfig.model_validate(
            {
                "data_dir": str(self._directory),
                "mqtt": {"host": "127.0.0.1"},
                "smtp": {"host": "127.0.0.1", "port": smtp.port, "starttls": False, "from": "alertes@huy.test"},
                "sms": [
                    {"kind": "http", "url": sms.url, "headers": {"Content-Type": "application/json"},
                     "body": '{"to":"{number}","text":"{text}","id":"{id}"}'}
                ],
                "station": [
                    {"id": i, "gateway": g, "commune": c, "name": n, "downstream": d, "sheet": f"https://fiches.example.be/{i}",
                     "photo": f"https://fiches.example.be/{i}.jpg"}
                    | ({"river": r} if r else {})
                    for i, (g, c, n, r, _, _, d) in STATIONS.items()
                ],
            }
        )  # fmt: skip
        tell(self._directory, *RECIPIENTS)
        self._db = Database(self._directory / "central.db")
        self._db.open()
        ends.callback(self._db.close)
        self._alarms, self._holding = AlarmLog(self._db), Holding(self._db)
        self._registry = Registry(config.station, self._holding)
        self._local = Embedded(self._directory / "store.db")
        self._local.setup()
        ends.callback(self._local.close)
        self._clock = clock
        self._chain = Chain(GATEWAYS, self._holding, self._db, clock)
        self._decoder = Decoder(self._registry, clock)
        self._series = AlarmSeries(
            self._local, self._db, self._alarms, clock, config.place, {i: s[1] for i, s in STATIONS.items()}
        )
        self._messages = MessageSeries(config, self._local, self._db, self._alarms, clock)
        self._notifier = Notifier(
            config,
            self._db,
            self._alarms,
            clock,
            channels(config, clock),
            on_notifying=lambda *_: None,
            on_acknowledged=lambda: None,
        )
        self._notifier.start()
        ends.callback(self._notifier.stop)
        for gateway in GATEWAYS[:-1]:
            self._say(gateway, online=True)
            described = [self._described(i) for i, s in STATIONS.items() if s[0] == gateway]
            self._registry.publish(gateway, Stations.model_validate({"stations": described}))

    def _say(self, gateway: str, *, online: bool) -> None:
        status = GatewayStatus(online=online, boot="b", version="1", since=rfc3339(self.now))
        self._holding.set_status(gateway, status, self.now)

    def _described(self, station: str) -> dict:
        _, commune, name, river_name, where, limits, _ = STATIONS[station]
        quantities = [{"quantity": "water_level", "period_s": 60, "thresholds": limits}] if limits else []
        sensors = [{"id": "level-1", "driver": "mb7389", "quantities": quantities}] if limits else []
        if station == "hoyoux-huy":
            sensors[0]["calibration"] = [
                {
                    "quantity": "water_level",
                    "since": rfc3339(self.end_s - 40 * 86400),
                    "by": CALIBRATED_BY,
                    "offset": -0.012,
                    "slope": 1.0,
                }
            ]
        if station == "mehaigne-moha":
            quantities += [
                {"quantity": q, "period_s": 600}
                for q in ("battery_voltage", "battery_level", "rssi", "water_temperature")
            ]
        if station == "hoyoux-marchin":
            sensors.append(
                {"id": "rain-1", "driver": "test", "quantities": [{"quantity": "rainfall", "period_s": 600}]}
            )
        if station == "ecole-wanze":
            dusty = [
                {"quantity": "pm2_5", "period_s": 150, "thresholds": [50, 75, 100]},
                {"quantity": "pm10", "period_s": 150},
            ]
            climate = [{"quantity": q, "period_s": 60} for q in ("co2", "air_temperature", "relative_humidity")]
            sensors = [
                {"id": "dust-1", "driver": "sds011", "quantities": dusty},
                {"id": "air-1", "driver": "test", "quantities": climate},
            ]
        assert where
        return {
            "id": station,
            "name": name,
            "commune": commune,
            "lat": where[0],
            "lon": where[1],
            "river": river_name,
            "sensors": sensors,
        }

    def _measure(self, station: str, gateway: str) -> None:
        """All its readings, journal and live alike, in the local store."""

        def write(sensor: str, quantity: str, points: list[tuple[float, float, int]]) -> None:
            series = Series(quantity, {"gateway": gateway, "station": station, "sensor": sensor})
            self._local.write([Reading(series, value, qc, round(at * 1000)) for at, value, qc in points])

        begin = self.end_s - self.minutes * MINUTE_S - 3600
        end = self.end_s - (SILENT_MIN * MINUTE_S if station == "burdinale-marneffe" else 10)
        times = [begin + 50 + n * MINUTE_S for n in range(int((end - begin - 50) // MINUTE_S) + 1)]
        if station == "ecole-wanze":
            night = [(t, BONFIRE_S + t - self.end_s) for t in times]
            write("dust-1", "pm2_5", [(t, round(self._pm2_5.at(n), 1), 1) for t, n in night])
            write("dust-1", "pm10", [(t, round(self._pm10.at(n), 1), 1) for t, n in night])
            write("air-1", "co2", [(t, round(640 + 180 * math.sin(t / 13_750), 0), 1) for t in times])
            write("air-1", "air_temperature", [(t, round(9 + 3 * math.sin(t / 13_750), 1), 1) for t in times])
            write("air-1", "relative_humidity", [(t, 81.0, 1) for t in times])
            return
        rising = [self.level(station, t) - self.level(station, t - 900) for t in times]
        points = [(t, self.level(station, t), 3 if r > 0.08 else 1) for t, r in zip(times, rising, strict=True)]
        if station == "hoyoux-huy":  # an echo from a branch, that the range check has found
            points[BAD] = (points[BAD][0], 9.99, 4)
        if station == "geer-bergilers":
            points = [p for p in points if not 130 < (self.end_s - p[0]) / MINUTE_S < 150]
        if station == "yerne-limont":
            points[3] = (points[3][0], 0.0, 2)
        write("level-1", "water_level", points)
        if station == "mehaigne-moha":
            write("level-1", "battery_voltage", [(t, round(3.9 - (t - begin) / 4e6, 3), 1) for t in times[::10]])
            write("level-1", "rssi", [(t, -97.0 + n % 5, 1) for n, t in enumerate(times[::10])])
            write("level-1", "battery_level", [(t, 83.0, 1) for t in times[::10]])
            write("level-1", "water_temperature", [(t, 8.4, 1) for t in times[::10]])
        if station == "hoyoux-marchin":
            write(
                "rain-1",
                "rainfall",
                [(t, round(max(0.0, r) * 8, 1), 1) for t, r in list(zip(times, rising, strict=True))[::10]],
            )

    def _pass(self, status: list[Point]) -> None:
        """One minute: what gateways say, what they raise, who answers, what central writes."""
        back = round((self.end_s - self.now) / MINUTE_S)
        for gateway in GATEWAYS[:-1]:
            away = (gateway == BURDINNE and back < SILENT_MIN) or (gateway == HUY and CUT_MIN[1] <= back < CUT_MIN[0])
            if gateway == BURDINNE and back == SILENT_MIN - 1:
                self._say(gateway, online=False)
            if gateway == HUY and back in CUT_MIN:
                self._say(gateway, online=back == CUT_MIN[1])
            if not away:
                status += self._health(gateway, back)
                self._chain.stored(gateway, "live", round((self.now - 1.4 - GATEWAYS.index(gateway)) * 1000))
        for station, values in STATIONS.items():
            if values[5] and not (station == "burdinale-marneffe" and back < SILENT_MIN):
                self._judge(station, values[0], values[5])
        if back == SILENT_MIN - 5:
            self._event(
                BURDINNE,
                "burdinale-marneffe",
                "raise",
                "UNACK",
                1,
                rule="marneffe-stale",
                kind="stale",
                quantity="water_level",
                unit=None,
            )
        while self._answers and self._answers[0][0] <= self.now:
            _, station, by = self._answers.pop(0)
            state, level = self._states[station]
            if state == "UNACK":
                self._event(STATIONS[station][0], station, "ack", "ACK", level, by=by)
        if self._due():
            self._tell("who comes next")
        status += minute(self._local, self._registry, self._alarms, self._clock)
        status += self._chain.points()

    def _health(self, gateway: str, back: int) -> list[Point]:
        waiting = (
            4 * max(0, CUT_MIN[0] - back)
            if gateway == HUY and CUT_MIN[1] - 5 < back < CUT_MIN[1]
            else GATEWAYS.index(gateway)
        )
        said = {
            "journal_depth": waiting, "unconfirmed_s": 12.0, "clock_synchronised": 1.0, "disk_free_percent": 71.0, "cpu_temperature": 48.2,
            "under_voltage": float(gateway == WAREMME), "sms_unusable": 0.0, "uptime_s": 86400.0 * 9 - back * 60,
        }  # fmt: skip
        if gateway == WANZE:
            night = BONFIRE_S + self.now - self.end_s
            means = {q: _means(s, night) for q, s in (("pm2_5", self._pm2_5), ("pm10", self._pm10))}
            said |= {f"ecole-wanze/dust-1/{name}": value for name, value in indicators(means).items()}
        pack = json.dumps([{"n": name, "v": value, "t": self.now} for name, value in said.items()]).encode()
        message = Received(f"maillages/v1/{gateway}/health", pack, None, None, {}, False, 1, 0)
        self._chain.heard(message)
        for topic, value in (
            ("clients/connected", b"7"),
            ("publish/messages/dropped", b"0"),
            ("store/messages/count", b"42"),
        ):
            self._chain.heard(Received(f"$SYS/broker/{topic}", value, None, None, {}, False, 1, 0))
        return [p for p in self._decoder.decode(message).points if isinstance(p, Point)]

    def _judge(self, station: str, gateway: str, limits: tuple[float, ...]) -> None:
        """As a rule with a deadband of five centimetres does."""
        value = self.level(station, self.now)
        reached = sum(value >= limit for limit in limits)
        state, level = self._states.get(station, ("NORMAL", 0))
        if reached > level:
            self._event(gateway, station, "raise" if state == "NORMAL" else "escalate", "UNACK", reached, value=value)
            if reached < 3:
                by = f"Planification d'urgence, {'Huy' if gateway == HUY else 'Wanze'}"
                self._answers.append((self.now + 11 * MINUTE_S, station, by))
                self._answers.sort()
        elif state != "NORMAL" and value < limits[0] - 0.05:
            self._event(gateway, station, "clear", "NORMAL" if state == "ACK" else "RTN_UNACK", 0, value=value)
            self._states[station] = ("NORMAL", 0)

    def _event(self, gateway: str, station: str, transition: str, state: str, level: int, **more: object) -> None:
        self._events += 1
        rule = str(more.get("rule", f"{station}-high"))
        if transition == "raise":
            self._states[f"{rule} occurrence"] = (uuid7(self.now), 0)
        if more.get("kind") != "stale":
            self._states[station] = (state, level)
        made = {
            "id": uuid7(self.now), "occurrence": self._states[f"{rule} occurrence"][0], "seq": self._events, "source": "gateway",
            "gateway": gateway, "station": station, "sensor": "level-1", "quantity": "water_level", "rule": rule, "kind": "high",
            "transition": transition, "state": state, "level": level, "value": None, "unit": "m",
            "threshold": STATIONS[station][5][level - 1] if level else None, "time": rfc3339(self.now), "clock": "synchronised",
        } | more  # fmt: skip
        event = AlarmEvent.model_validate(made)
        self._alarms.record(event, self.now)
        self._tell(f"{transition} of {station}")

    def _tell(self, what: str) -> None:
        """Let central tell people all that there is to tell at this minute."""
        self._notifier.wake()
        servers.wait_until(self._told, 10, what)

    def _due(self) -> bool:
        """Whether nobody has answered in time, so that others are told now."""
        return self._db.row(select(escalation.c.next_s).where(escalation.c.next_s <= self.now)) is not None

    def _told(self) -> bool:
        seen = self._db.row(select(notify_cursor.c.position))
        newest = self._db.row(select(func.max(alarm_event.c.position).label("position")))
        waiting = self._db.row(select(message.c.id).where(message.c.state.in_(("waiting", "trying"))))
        assert seen is not None
        assert newest is not None
        return seen.position >= newest.position and waiting is None and not self._due()

    def _completeness(self) -> Iterator[Point]:
        """Thirty days, to the schema: integers, one point per station and day."""
        midnight = self.end_s // 86400 * 86400
        for station in STATIONS:
            for day in range(1, 31):
                expected = 1440
                missing = 0 if station != "burdinale-marneffe" or day > 3 else 900
                missing += 60 if (day + len(station)) % 11 == 0 else 0
                fields = {"expected": expected, "stored": expected - missing, "missing": missing, "thinned": 0}
                yield Point(
                    Series("completeness", {"station": station}), fields, round((midnight - day * 86400) * 1000)
                )


def _means(series: Level, at_s: float) -> Means:
    def over(hours: int) -> float:
        moments = [at_s - 600 * n for n in range(1, hours * 6 + 1)]
        return sum(series.at(t) for t in moments) / len(moments)

    return Means(at_s, over(1), over(8), over(24), None)
