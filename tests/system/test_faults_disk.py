"""A full disk, at the edge and at central: alarms go on, readings wait, and all is written when there is space again."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from central.alarms.log import AlarmLog
from central.db import Database
from central.holding import Holding
from common.clock import Clock, rfc3339
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.central.test_alarm_log import STORY
from tests.fakes.providers import SmtpServer
from tests.people import tell
from tests.system.test_chain import CENTRAL, FULL, Chain, Program, Report
from tests.system.test_faults_impostor import RawGateway
from tests.system.test_faults_power import reboot

pytestmark = pytest.mark.system

SECONDS = 120 if FULL else 5

EDGE = """
[[station.sensor]]
id = "water"
driver = "maxbotix"
port = "{tmp}/ttyWATER"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
[[station.rule]]
id = "water-high"
kind = "high"
sensor = "water"
quantity = "water_level"
levels = [1.2, 1.8, 2.3]
[outputs.siren]
port = "{tmp}/ttySIREN"
min_level = 2
max_s = 600
[outputs.sms]
port = "{tmp}/ttyGSM"
after_s = 5
[[outputs.sms.recipient]]
id = "planu-huy"
phone = "+32470000001"
"""

RECIPIENT = """
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@example.be"
"""


class SmallDisk:
    """A file system of `mib` MiB that `fill` fills to the last byte, again and again, until `free`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(path: Path, mib: int) -> Iterator[SmallDisk]:
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "maillages-test", str(path)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Shore:
    """What stands at the river besides the level sensor of the chain: a second one, a siren, a modem, and mails."""

    def __init__(self, tmp: Path) -> None:
        self.distance_m = 4.5
        self.water = Mb7389(
            tmp / "ttyWATER", "hoyoux-test/water", lambda _: self.distance_m, clock=Clock(), log=DeviceLog()
        )
        self.siren = RelayBoard(tmp / "ttySIREN")
        self.phone = GsmModem(tmp / "ttyGSM")

    def __enter__(self) -> "Shore":
        for device in (self.water, self.siren, self.phone):
            device.start()
        return self

    def __exit__(self, *_: object) -> None:
        for device in (self.water, self.siren, self.phone):
            device.stop()


@pytest.mark.timeout(400)
def test_a_full_disk_at_the_edge_silences_no_alarm_and_loses_no_reading(
    tmp_path: Path, record_property: Report
) -> None:
    with (
        servers.influxd(tmp_path) as influx,
        servers.mosquitto(tmp_path) as broker,
        small_disk(tmp_path / "disk", 4) as disk,
        SmtpServer() as smtp,
        Shore(tmp_path) as shore,
    ):
        tell(tmp_path / "central")
        chain = Chain(
            tmp_path,
            influx,
            broker,
            sensors=EDGE.format(tmp=tmp_path),
            central=RECIPIENT.format(smtp=smtp.port),
            edge_data=disk.path / "edge",
        )

        def held() -> bool:
            disk.fill()  # the journal gives its reserve first, which is filled as well
            return chain.edge.said("readings are held in memory") > 0

        try:
            chain.start()
            servers.wait_until(held, 30, "readings are held in memory")
            taken = len([r for r in chain.journal_lines() if r[0] == "r"])
            shore.distance_m = 2.6
            servers.wait_until(lambda: shore.siren.on(1), 10, "siren on")
            servers.wait_until(lambda: bool(smtp.to("planu@example.be")), 20, "central tells people")
            chain.wait_sent(20 * SECONDS, 2 * SECONDS)
            assert len([r for r in chain.journal_lines() if r[0] == "r"]) == taken, "the disk was not full"
            assert chain.edge.said("WARNING") + chain.edge.said("ERROR") < 30, "the edge is logged, not the level"
            disk.free()
            servers.wait_until(lambda: chain.edge.said("readings are written again") > 0, 10, "written again")
            chain.wait_sent(20, 10)
            shore.water.stop()
            chain.finish()
            assert shore.siren.history
        finally:
            chain.stop()
        outcome = chain.verify()
        assert outcome.taken > 15 * SECONDS
        assert not shore.phone.messages, "central told them"
        outcome.report(record_property, "disk of the gateway full, water reaches level 3 meanwhile", f"{SECONDS} s")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ended", ["kill -9", "SIGTERM", "reboot"])
def test_a_gateway_that_starts_on_a_full_disk_alarms_and_catches_up(
    tmp_path: Path, ended: str, record_property: Report
) -> None:
    with (
        servers.influxd(tmp_path) as influx,
        servers.mosquitto(tmp_path) as broker,
        small_disk(tmp_path / "disk", 4) as disk,
        SmtpServer() as smtp,
        Shore(tmp_path) as shore,
    ):
        tell(tmp_path / "central")
        chain = Chain(
            tmp_path,
            influx,
            broker,
            sensors=EDGE.format(tmp=tmp_path),
            central=RECIPIENT.format(smtp=smtp.port),
            edge_data=disk.path / "edge",
        )

        def says(text: str, times: int) -> bool:
            disk.fill()
            return chain.edge.said(text) >= times

        try:
            chain.start()
            servers.wait_until(lambda: says("readings are held in memory", 1), 30, "a full disk")
            shore.distance_m = 3.0
            servers.wait_until(lambda: shore.siren.on(1), 10, "siren on")
            servers.wait_until(lambda: bool(smtp.to("planu@example.be")), 20, "a mail at level 2")
            if ended == "SIGTERM":
                assert chain.edge.terminate() == 0
            else:
                chain.edge.kill9()
            if ended == "reboot":
                reboot(chain.data)
            shore.siren.unplug()  # its relay falls off
            shore.siren.replug()
            disk.fill()
            chain.edge.start()
            servers.wait_until(lambda: shore.siren.on(1), 20, "the siren resumes")
            servers.wait_until(lambda: says("readings are held in memory", 2), 20, "still full")
            shore.distance_m = 2.6
            servers.wait_until(lambda: len(smtp.to("planu@example.be")) == 2, 20, "a mail at level 3")
            disk.free()
            servers.wait_until(lambda: chain.edge.said("readings are written again") > 0, 10, "written again")
            chain.wait_sent(20, 10)
            shore.water.stop()
            chain.device.stop()
            chain.drain()
        finally:
            chain.stop()
        assert not list((disk.path / "edge").glob("*.damaged"))
        taken = [(r.wall_ms, r.value) for r in chain.journaled()]
        stored = [(r.time_ms, r.fields["value"]) for r in chain.stored()]
        assert sorted(taken) == sorted(stored)
        assert not shore.phone.messages
        record_property("fault", f"{ended} and start of a gateway whose disk is full, water rises to levels 2 and 3")
        record_property("duration", "until the second alarm")
        for name, value in (("taken", len(taken)), ("lost", 0), ("doubled", 0), ("invented", 0)):
            record_property(name, value)


@pytest.mark.timeout(400 if FULL else 120)
def test_central_on_a_full_disk_gives_no_receipt_and_the_gateways_own_modem_tells_people(
    tmp_path: Path, record_property: Report
) -> None:
    """Alarm log, outbox and dead letters are on the full disk; the database is not."""
    with (
        servers.influxd(tmp_path) as influx,
        servers.mosquitto(tmp_path) as broker,
        small_disk(tmp_path / "disk", 4) as disk,
        SmtpServer() as smtp,
        Shore(tmp_path) as shore,
    ):
        tell(disk.path / "central")
        chain = Chain(
            tmp_path,
            influx,
            broker,
            sensors=EDGE.format(tmp=tmp_path),
            central=RECIPIENT.format(smtp=smtp.port),
            central_data=disk.path / "central",
        )
        stranger = RawGateway(broker.port)
        try:
            chain.start()
            disk.fill()
            # A dead letter must be kept before its pack is receipted.
            stranger.pack("gw-other-02", ["hoyoux-test/level-1/water_level"], 1, answer_to="gw-other-02")
            servers.wait_until(lambda: chain.central.said("readings wait") > 0, 20, "central says that readings wait")
            shore.distance_m = 2.6
            servers.wait_until(lambda: len(shore.phone.messages) == 1, 30, "central is silent: the gateway's own SMS")
            assert not smtp.mails
            chain.wait_sent(20 * SECONDS, 2 * SECONDS)
            assert "gw-other-02" not in stranger.receipts_so_far()
            assert chain.central.said("WARNING") + chain.central.said("ERROR") < 40, "the edge is logged, not the level"
            disk.free()
            servers.wait_until(lambda: chain.central.said("takes readings again") == 1, 40, "readings are taken again")
            servers.wait_until(
                lambda: "gw-other-02" in stranger.receipts_so_far(), 20, "the receipt of the refused pack"
            )
            servers.wait_until(lambda: told_of_own_sms(chain), 60, "central records the alarm and the gateway's SMS")
            shore.water.stop()
            chain.finish(timeout_s=90)
        finally:
            chain.stop()
            stranger.close()
        outcome = chain.verify()
        outcome.report(
            record_property, "disk of central (alarm log, dead letters) full, water reaches level 3", f"{SECONDS} s"
        )


def told_of_own_sms(chain: Chain) -> bool:
    transitions = {row.fields["transition"] for row in chain.store.dump("alarm", 0, 2**53)}
    return {"raise", "notify"} <= transitions


@pytest.mark.timeout(120)
def test_what_the_broker_keeps_is_fetched_again_when_central_has_space_and_nobody_reconnects(tmp_path: Path) -> None:
    with (
        servers.mosquitto(tmp_path) as broker,
        small_disk(tmp_path / "disk", 4) as disk,
        contextlib.ExitStack() as ends,
    ):
        config, log = tmp_path / "central.toml", tmp_path / "central.log"
        text = CENTRAL.format(data=disk.path / "central", broker=broker.port, influx="http://127.0.0.1:1")
        config.write_text(f"{text}\n[web]\nport = {servers.free_port()}\n")
        central = Program("maillages-central", config, log)
        central.start()
        ends.callback(central.kill9)
        gateway = RawGateway(broker.port)
        ends.callback(gateway.close)
        servers.wait_until(lambda: "central-alarms: connected" in log.read_text(), 20, "central on the broker")
        disk.fill()
        now = rfc3339(time.time())
        event = STORY[0].model_copy(update={"gateway": "gw-test-01", "station": "hoyoux-test", "time": now})
        sensor = {"id": "level-1", "driver": "x", "quantities": [{"quantity": "water_level", "period_s": 60}]}
        station = {"id": "hoyoux-test", "name": "x", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensors": [sensor]}
        gateway.retained("gw-test-01", "status", {"online": True, "boot": "b", "version": "1", "since": now})
        gateway.retained("gw-test-01", "stations", {"stations": [station]})
        gateway.retained("gw-test-01", "active", {"active": [event.model_dump(mode="json")]})
        servers.wait_until(lambda: "nothing can be recorded" in log.read_text(), 20, "central says so")
        db = Database(disk.path / "central" / "central.db")
        db.open_read_only()
        ends.callback(db.close)
        assert Holding(db).gateways() == {}
        assert AlarmLog(db).open_occurrences() == []
        disk.free()
        servers.wait_until(lambda: bool(AlarmLog(db).open_occurrences()), 40, "the active alarm")
        servers.wait_until(lambda: all(Holding(db).gateways().get("gw-test-01", [None])), 20, "stations and status")
        assert "alarms are recorded again" in log.read_text()
        assert log.read_text().count("central-alarms: connected") == 1, "on the connection that there was"
        assert central.terminate() == 0


@pytest.mark.timeout(400 if FULL else 120)
def test_a_database_on_a_full_disk_takes_nothing_and_all_later(tmp_path: Path, record_property: Report) -> None:
    with (
        small_disk(tmp_path / "disk", 32) as disk,
        servers.influxd(disk.path) as influx,
        servers.mosquitto(tmp_path) as broker,
    ):
        chain = Chain(tmp_path, influx, broker)
        try:
            chain.start()
            disk.fill()
            servers.wait_until(lambda: chain.central.said("readings wait") > 0, 60, "central says that readings wait")
            receipts = [r for r in chain.journal_lines() if r[0] == "k"]
            chain.wait_sent(20 * SECONDS, 2 * SECONDS)
            assert [r for r in chain.journal_lines() if r[0] == "k"] == receipts, "a receipt without a record"
            disk.free()
            influx.restart()  # 1.6.7 keeps the error of its write-ahead log for as long as it runs
            servers.wait_until(lambda: chain.central.said("takes readings again") > 0, 60, "readings are taken again")
            chain.finish(timeout_s=90)
        finally:
            chain.stop()
        outcome = chain.verify()
        outcome.report(record_property, "disk of InfluxDB full; 1.6.7 needs a restart after that", f"{SECONDS} s")
