"""A central with a page over a real log, store and mail server: a flood passes some stations, others are quiet or silent.

The water is that of Dead Run, the dust that of Bonfire Night (demo/replay/README.md), moved so that `now` is a given moment.
"""

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from central.accounts import Accounts
from central.alarms.log import AlarmLog
from central.alarms.own import Own
from central.alarms.webhook import Webhook
from central.alarms.wishes import Wishes
from central.config import CentralConfig
from central.db import Database
from central.holding import Holding
from central.notify.channels import channels
from central.notify.graph import Graphs
from central.notify.notifier import Notifier
from central.notify.recipients import Recipient, Recipients
from central.registry import Registry
from central.status import measured, recent
from central.store.base import Reading, Series
from central.store.embedded import Embedded
from central.web.server import Page
from common.clock import Clock, rfc3339
from demo.series import dust, river
from tests import servers
from tests.fakes.providers import SmtpServer
from wire.alarm import AlarmEvent
from wire.ids import uuid7
from wire.station import GatewayStatus, Stations

HUY, WANZE, BURDINNE, WAREMME = "gw-huy-01", "gw-wanze-01", "gw-burdinne-01", "gw-waremme-01"
STATIONS = [
    ("geer-waremme", WAREMME, "64074", "Waremme, pont de la rue du Geer", "Geer"),
    ("hoyoux-huy", HUY, "61031", "Huy, pont du Hoyoux", "Hoyoux"),
    ("solieres-huy", "gw-solieres-01", "61031", "Solières, aval de l'abbaye", "Solières"),
    ("mehaigne-wanze", WANZE, "61072", "Wanze, moulin de Moha", "Mehaigne"),
    ("ecole-wanze", WANZE, "61072", "Wanze, école communale", None),
    ("burdinale-marneffe", BURDINNE, "61010", "Marneffe, pont-route", "Burdinale"),
    ("meuse-amay", HUY, "61003", "Amay, quai de Meuse", "Meuse"),
    ("triffoys-marchin", HUY, "61039", "Marchin, vallée du Triffoys", "Triffoys"),
]
THRESHOLDS = {
    "hoyoux-huy": [0.55, 0.80, 1.20],
    "mehaigne-wanze": [0.55, 0.80, 1.20],
    "burdinale-marneffe": [0.60, 0.90, 1.30],
    "geer-waremme": [0.90, 1.20, 1.50],
    "meuse-amay": [2.40, 2.90, 3.40],
    "triffoys-marchin": [0.50, 0.75, None],
}
PERIOD_S = 60
RECIPIENTS = [
    {"id": "planu-huy", "name": "Planification d'urgence, Huy", "role": "planu", "communes": ["61031"]},
    {"id": "planu-wanze", "name": "Planification d'urgence, Wanze", "role": "planu", "communes": ["61072"]},
    {"id": "bourgmestre-huy", "name": "Bourgmestre de Huy", "role": "bourgmestre", "communes": ["61031"], "order": 2},
    {"id": "technicien", "name": "Technicien de garde", "communes": "all", "kinds": ["stale", "comm_fail", "system"]},
]


def moment(text: str) -> float:
    """Unix seconds of a time of June 2018, UTC."""
    return datetime.fromisoformat(f"2018-06-{text}").replace(tzinfo=UTC).timestamp()


class Scene:
    """Everything but MQTT. `start()` and `close()`; `url(path)` is where the page is."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        root: str = "",
        store: Embedded | None = None,
        port: int | None = None,
        settings: dict[str, Any] | None = None,
        open_reading: bool = True,
    ) -> None:
        self.path, self.clock = path, clock
        self.now = clock.wall()
        self.ends = ExitStack()
        self.smtp = self.ends.enter_context(SmtpServer())
        self.port = port or servers.free_port()
        self.root = root
        self.linked = True
        self.config = CentralConfig.model_validate(
            {
                "data_dir": str(path),
                "mqtt": {"host": "127.0.0.1"},
                "web": {
                    "open_reading": open_reading,
                    "port": self.port,
                    "public_url": f"http://127.0.0.1:{self.port}{root}",
                },
                "smtp": {"host": "127.0.0.1", "port": self.smtp.port, "starttls": False, "from": "alertes@huy.test"},
                "station": [
                    {"id": i, "gateway": g, "commune": c, "name": n} | ({"river": r} if r else {})
                    for i, g, c, n, r in STATIONS
                ],
            }
            | (settings or {})
        )
        Recipients(path).save(
            Recipient.model_validate(
                r | {"email": f"{r['id']}@huy.test", "phone": "+32470000009", "exercise": clock.exercise}
            )
            for r in RECIPIENTS
        )
        self.db = Database(path / "central.db")
        self.accounts = Accounts(self.db, clock)
        self.alarms, self.holding = AlarmLog(self.db), Holding(self.db)
        self.wishes = Wishes(self.db, self.alarms, clock)
        self.registry = Registry(self.config.station, self.holding)
        self.store = store or Embedded(path / "store.db")
        self.notifier = Notifier(
            self.config,
            self.db,
            self.alarms,
            clock,
            channels(self.config, clock),
            on_notifying=lambda *_: None,
            on_acknowledged=lambda: None,
            graph=Graphs(self.store, self.registry, clock).of,
        )
        own = Own(self.alarms, Wishes(self.db, self.alarms, clock), clock, self.notifier.wake)
        webhook = Webhook(
            own,
            self.registry,
            clock,
            lambda: measured(self.registry, recent(self.store, self.registry, clock.wall()), {}, clock),
        )
        self.page = Page(
            self.config,
            self.registry,
            self.store,
            self.notifier,
            self.accounts,
            webhook,
            clock,
            lambda: self.linked,
            self.wishes,
        )
        self.seq: dict[str, int] = {}

    def start(self) -> None:
        self.begin()
        servers.wait_until(lambda: servers.accepts(self.port), 15, "the page")

    def begin(self) -> None:
        """As `start`, without waiting for the page."""
        self.db.open()
        self.ends.callback(self.db.close)
        self.store.setup()
        self.ends.callback(self.store.close)
        self.notifier.start()
        self.ends.callback(self.notifier.stop)
        self.page.start()
        self.ends.callback(self.page.stop)

    def close(self) -> None:
        self.ends.close()

    # ------------------------------------------------------------------ what happens

    def gateway(self, gateway: str, *, online: bool = True) -> None:
        """It says who it is and describes its stations."""
        status = GatewayStatus(online=online, boot="b", version="0.1.0", since=rfc3339(self.now - 7200))
        self.holding.set_status(gateway, status, self.now - (0 if online else 18600))
        self.registry.publish(
            gateway,
            Stations.model_validate({"stations": [self._described(*s) for s in STATIONS if s[1] == gateway]}),
        )

    def _described(self, station: str, _gateway: str, commune: str, name: str, river: str | None) -> dict[str, Any]:
        def sensor(name: str, **quantities: Any) -> dict[str, Any]:
            return {
                "id": name,
                "driver": "test",
                "quantities": [
                    {"quantity": q, "period_s": PERIOD_S} | ({"thresholds": t} if t else {})
                    for q, t in quantities.items()
                ],
            }

        if station == "ecole-wanze":
            sensors = [
                sensor("dust-1", pm2_5=[50, 75, 100], pm10=None),
                sensor("air-1", air_temperature=None, relative_humidity=None),
            ]
        elif station == "mehaigne-wanze":
            sensors = [sensor("level-1", water_level=THRESHOLDS[station], battery_voltage=None)]
        else:
            sensors = [sensor("level-1", water_level=THRESHOLDS.get(station))]
        where = {"lat": 50.52, "lon": 5.24, "commune": commune, "river": river}
        return {"id": station, "name": name, "sensors": sensors} | where

    def measure(
        self,
        series: str,
        value: Callable[[float], float],
        *,
        until_s: float = 0,
        from_s: float = 86400,
        without: tuple[float, float] = (0, 0),
        qc: int = 1,
    ) -> None:
        """Readings of `<station>/<sensor>/<quantity>` each minute, from and until so many seconds ago, with a gap."""
        station, sensor, quantity = series.split("/")
        gateway = self.registry.owner(station) or ""
        made = Series(quantity, {"gateway": gateway, "station": station, "sensor": sensor})
        ages = [a for a in range(int(until_s), int(from_s), PERIOD_S) if not without[0] < a < without[1]]
        self.store.write([Reading(made, value(-a), qc, round((self.now - a) * 1000)) for a in ages])

    def event(self, station: str, transition: str, state: str, level: int, ago_s: float, **changes: Any) -> AlarmEvent:
        """An alarm event as a gateway sends it, recorded. `occurrence` continues one."""
        gateway = self.registry.owner(station) or ""
        self.seq[gateway] = self.seq.get(gateway, 0) + 1
        at = self.clock.wall() - ago_s
        made = AlarmEvent.model_validate(
            {
                "id": uuid7(at), "occurrence": uuid7(at), "seq": self.seq[gateway], "source": "gateway",
                "gateway": gateway, "station": station, "sensor": "level-1", "quantity": "water_level",
                "rule": f"{station}-high", "kind": "high", "transition": transition, "state": state, "level": level,
                "value": None, "unit": "m", "threshold": (THRESHOLDS[station][max(level, 1) - 1]), "time": rfc3339(at),
                "clock": "synchronised", "status": "Exercise" if self.clock.exercise else "Actual",
            }
            | changes
        )  # fmt: skip
        self.alarms.record(made, self.clock.wall())
        self.notifier.wake()
        return made

    def flood(self) -> None:
        """The whole scene: level 3 unanswered, level 2 answered, silent, never heard, quiet."""
        for gateway in (HUY, WANZE, WAREMME):
            self.gateway(gateway)
        self.gateway(BURDINNE, online=False)
        water, (fine, coarse) = river(), dust("5331")
        crest, evening, calm = moment("11T09:52"), moment("10T22:06"), moment("08T12:00")
        night = datetime(2018, 11, 5, 20, 0, tzinfo=UTC).timestamp()
        self.measure("hoyoux-huy/level-1/water_level", lambda t: water.at(crest + t))
        self.measure("mehaigne-wanze/level-1/water_level", lambda t: water.at(evening + t), without=(20000, 29000))
        self.measure("mehaigne-wanze/level-1/battery_voltage", lambda _: 3.91)
        self.measure("burdinale-marneffe/level-1/water_level", lambda t: water.at(crest + t), until_s=18700)
        self.measure("geer-waremme/level-1/water_level", lambda t: water.at(calm + t))
        self.measure("meuse-amay/level-1/water_level", lambda t: 1.9 + water.at(calm + t) / 4, without=(50000, 57000))
        self.measure("triffoys-marchin/level-1/water_level", lambda _: 0.3)
        self.measure("ecole-wanze/dust-1/pm2_5", lambda t: fine.at(night + t))
        self.measure("ecole-wanze/dust-1/pm10", lambda t: coarse.at(night + t))
        self.measure("ecole-wanze/air-1/air_temperature", lambda t: 8.4 + t / 30000)
        self.measure("ecole-wanze/air-1/relative_humidity", lambda _: 91.0, until_s=4000)

        first = self.event("hoyoux-huy", "raise", "UNACK", 1, 4200, value=0.56, trend_per_h=0.3)
        self.event("hoyoux-huy", "escalate", "UNACK", 2, 2400, value=0.81, occurrence=first.occurrence)
        note = {"channel": "sms", "to": "planu-huy", "at": rfc3339(self.now - 830), "result": "sent"}
        self.event("hoyoux-huy", "escalate", "UNACK", 3, 840, value=1.22, occurrence=first.occurrence)
        self.event("hoyoux-huy", "notify", "UNACK", 3, 825, value=1.22, occurrence=first.occurrence, notified=[note])
        second = self.event("mehaigne-wanze", "raise", "UNACK", 2, 1500, value=0.83)
        by = {"by": "Planification d'urgence, Wanze", "occurrence": second.occurrence}
        self.event("mehaigne-wanze", "ack", "ACK", 2, 1140, value=0.84, **by)
        self.event(
            "burdinale-marneffe", "raise", "UNACK", 1, 18400, kind="stale", rule="burdinale-stale", threshold=None
        )
        old = self.event("geer-waremme", "raise", "UNACK", 1, 70000, value=0.92)
        self.event("geer-waremme", "ack", "ACK", 1, 69000, by="Technicien de garde", occurrence=old.occurrence)
        self.event("geer-waremme", "clear", "NORMAL", 0, 60000, value=0.81, occurrence=old.occurrence)

    def withheld(self) -> None:
        """After `flood`: alarms that are shelved, suppressed, out of service, or wait for their reset."""
        until = {"until": rfc3339(self.now + 5400), "note": "travaux au pont, planche devant la sonde"}
        first = self.event("meuse-amay", "raise", "UNACK", 1, 3000, value=2.45)
        shelf = {"by": "Commune d'Amay", "withheld": "shelved", "occurrence": first.occurrence}
        self.event("meuse-amay", "shelve", "UNACK", 1, 2700, value=2.46, **shelf, **until)
        self.event(
            "meuse-amay", "escalate", "UNACK", 2, 600, value=2.95, withheld="shelved", occurrence=first.occurrence
        )
        rise = {"rule": "hoyoux-rise", "kind": "rise", "threshold": 0.3, "withheld": "suppressed"}
        second = self.event("hoyoux-huy", "raise", "UNACK", 1, 900, value=0.4, **rise)
        self.event(
            "hoyoux-huy", "suppress", "UNACK", 1, 890, value=0.4, by="hoyoux-high", occurrence=second.occurrence, **rise
        )
        self.event("triffoys-marchin", "raise", "UNACK", 1, 7000, value=0.52, withheld="out_of_service")
        latched = self.event("geer-waremme", "raise", "UNACK", 1, 9000, value=0.93)
        self.event("geer-waremme", "clear", "RTN_UNACK", 0, 5000, value=0.8, occurrence=latched.occurrence)
        self.event(
            "geer-waremme", "ack", "RTN_UNACK", 0, 4000, value=0.8, by="Technicien", occurrence=latched.occurrence
        )

    # ------------------------------------------------------------------ looking at it

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> "Answer":
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str = "/") -> "Answer":
        return self.ask("GET", path)

    def ack_path(self, to: str = "planu-huy@huy.test") -> str:
        """The path of the link in the newest mail to a recipient."""
        servers.wait_until(lambda: bool(self.smtp.to(to)), 15, f"a mail to {to}")
        body = self.smtp.to(to)[-1].get_body(("plain",))  # type: ignore[attr-defined]
        (link,) = [line for line in body.get_content().splitlines() if "/ack/" in line]
        return str(link.partition(f":{self.port}")[2])


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, {k.lower(): v for k, v in headers.items()}, body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """A reader of server-sent events over a plain socket, with a deadline for each."""

    def __init__(self, port: int, path: str = "/events") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")

    def part(self, name: str, text: str = "") -> str:
        """The html of the next part of that name which holds `text`."""
        while True:
            line = self._file.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                part = json.loads(line[6:])
                if part["id"] == name and text in part["html"]:
                    return str(part["html"])

    def ended(self) -> bool:
        """Whether the server closed it, waited for."""
        while line := self._file.readline():
            del line
        return True

    def close(self) -> None:
        self._file.close()
        self._socket.close()
