"""Several centrals on one state: readings are shared out, one leads, and whoever is killed is replaced. Nothing is lost.

Real processes, Mosquitto, InfluxDB and PostgreSQL; the gateways send again until a receipt, as real ones do.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from central.store.influx import Influx
from common.clock import rfc3339
from tests import servers
from tests.central.test_alarm_log import STORY
from tests.chain import CENTRAL, FULL, Program
from tests.fakes.fleet import Fleet
from tests.fakes.providers import SmsServer
from tests.people import tell
from wire.alarm import AlarmEvent
from wire.ids import uuid7

pytestmark = pytest.mark.system

GATEWAYS = 12
STATION = """
[[station]]
id = "station-{i}"
gateway = "gw-{i}"
commune = "61031"
name = "Station {i}"
"""
SMS = """
[[sms]]
kind = "http"
url = "{sms}"
body = '{{"to":"{{number}}","text":"{{text}}","id":"{{id}}"}}'
on_unknown = "repeat"
"""


class Site:
    """One broker, one database, one state, and centrals that can be killed one by one."""

    def __init__(self, tmp: Path, kind: str, state: str, workers: int) -> None:
        self.kind = kind
        self._ends = contextlib.ExitStack()
        try:
            self.tmp, self.state = tmp, state
            self.broker = self._ends.enter_context(servers.mosquitto(tmp))
            self.influx = self._ends.enter_context(servers.influxd(tmp))
            self.sms = self._ends.enter_context(SmsServer())
            # Two machines share a database, and nothing else: people are known on the first only. A file is of one machine.
            machines = [tmp / (f"machine-{n}" if kind == "postgresql" else "machine-1") for n in range(1, workers + 1)]
            stations = "".join(STATION.format(i=i) for i in range(GATEWAYS))
            tell(machines[0], {"id": "planu", "name": "Planu", "communes": "all", "phone": "+32470000001"})
            self.workers = []
            for n in range(1, workers + 1):
                file = tmp / f"central-{n}.toml"
                head = CENTRAL.format(data=machines[n - 1], broker=self.broker.port, influx=self.influx.url)
                page = f"[web]\nport = {servers.free_port()}\n"
                file.write_text(head.split("[[station]]")[0] + state + page + SMS.format(sms=self.sms.url) + stations)
                program = Program("maillages-central", file, tmp / f"central-{n}.log")
                program.command += ["--worker", f"{n}/{workers}"]
                self.workers.append(program)
            for program in self.workers:
                program.start()
                self._ends.callback(program.kill9)
            servers.wait_until(self.shared_out, 60, "every worker knows its share")
            self.fleet = Fleet(self.broker.port, GATEWAYS)
            self._ends.callback(self.fleet.close)
        except BaseException:
            self._ends.close()
            raise

    def close(self) -> None:
        self._ends.close()

    def shared_out(self) -> bool:
        last = [[line for line in p.log.read_text().splitlines() if " gateways, of " in line] for p in self.workers]
        living = f"of {len(self.workers)} workers that live"
        return all(lines and lines[-1].endswith(living) for lines in last) and self.leader is not None

    @property
    def leader(self) -> Program | None:
        """Who said last that it leads, and runs."""
        leads = [p for p in self.workers if p.running and p.said(" leads: ")]
        return leads[0] if leads else None

    def measure_all(self) -> set[bytes]:
        return {self.fleet.measure(gateway, 3) for gateway in range(GATEWAYS)}

    def alarm(self, gateway: int) -> bytes:
        now = time.time()
        event: AlarmEvent = STORY[0].model_copy(
            update={
                "id": uuid7(now), "occurrence": uuid7(now), "gateway": f"gw-{gateway}", "station": f"station-{gateway}",
                "time": rfc3339(now),
            }
        )  # fmt: skip
        return self.fleet.alarm(event)

    def wait(self, true: Callable[[], bool], what: str, timeout_s: float = 30) -> float:
        """Seconds that it took."""
        begin = time.monotonic()
        with self.fleet.changed:
            while not true():
                assert time.monotonic() - begin < timeout_s, what
                self.fleet.changed.wait(0.05)
        return time.monotonic() - begin

    def wait_for(self, receipts: set[bytes]) -> float:
        """Seconds until all of these have come."""
        return self.wait(lambda: self.fleet.receipted(receipts), "receipts of all")

    def stored(self) -> int:
        store = Influx(self.influx.url, "maillages")
        try:
            return store.count("water_level", 0, 2**42, {})
        finally:
            store.close()


STATES = ["postgresql", "sqlite"] if FULL else ["postgresql"]


@pytest.fixture(params=STATES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as ends:
        state = ""
        if request.param == "postgresql":
            state = f'[state]\nurl = "{ends.enter_context(servers.postgres()).database()}"\n'
        made = Site(tmp_path, request.param, state, 3 if FULL else 2)
        ends.callback(made.close)
        yield made


def test_whoever_is_killed_is_replaced_and_nothing_is_lost(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    begun = site.measure_all() | {site.alarm(0)}
    site.wait_for(begun)
    told, kills = 1, 10 if FULL else 1
    seconds: dict[str, list[float]] = {"another leads": [], "an alarm's receipt": [], "all receipts": []}
    for _ in range(kills):
        leader = site.leader
        assert leader is not None
        inflight = site.measure_all() | {site.alarm(1)}
        leader.kill9()
        took_s = site.wait(lambda: site.leader is not None, "another leads")
        seconds["another leads"].append(took_s)
        seconds["an alarm's receipt"].append(took_s + site.wait_for({site.alarm(2)}))
        # Also of what the broker keeps for the one that is gone: the gateways have sent it again.
        seconds["all receipts"].append(took_s + site.wait_for(inflight | site.measure_all()))
        told += 2
        # It comes back to what the broker kept for it, and gets its share again.
        leader.log.write_text("")
        leader.start()
        servers.wait_until(site.shared_out, 60, "shared out among all again")
    site.wait_for(site.measure_all())
    lost = site.fleet.sent - site.stored()
    after = ", ".join(f"{what} after {min(s):.1f} to {max(s):.1f} s" for what, s in seconds.items())
    record_property("fault", f"kill -9 of the leading one of {len(site.workers)} centrals ({site.kind}); {after}")
    record_property("duration", f"{kills} kills")
    record_property("taken", site.fleet.sent)
    record_property("lost", lost)
    assert lost == 0
    servers.wait_until(lambda: len(site.sms.accepted) == told, 30, "one SMS for each alarm")
    assert len({body["text"] for body in site.sms.accepted.values()}) == told
