"""F16: central is restored from yesterday's backup. It asks the gateway for all that it lacks, and has it again."""

import contextlib
import tarfile
import time
from pathlib import Path

import pytest

from central.store.embedded import Embedded
from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.journal import Journal
from tests import servers
from tests.chain import CENTRAL, EDGE, Account, Program
from tests.system.test_acknowledgement import central_command

pytestmark = pytest.mark.system

SCALE = 30.0


@pytest.mark.timeout(300)
def test_a_central_restored_from_a_backup_gets_back_what_the_gateway_holds_as_stored(
    tmp_path: Path, account: Account
) -> None:
    account.of("central restored from an old backup, all of it; then its database alone", "2 restorations")
    exercise = f"{SCALE},{time.clock_gettime(time.CLOCK_BOOTTIME)},{time.time()}"
    clock = Clock.of_exercise(exercise)
    level = Mb7389(tmp_path / "tty", "hoyoux-test/level-1", lambda _: 4.5, clock=clock, log=DeviceLog())
    key = tmp_path / "commands.pem"
    public = central_command("keygen", str(key)).stdout.strip()
    data, backup = tmp_path / "central", tmp_path / "backup.tar"
    edge_toml, central_toml = tmp_path / "edge.toml", tmp_path / "central.toml"
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        level.start()
        ends.callback(level.stop)
        edge_toml.write_text(
            EDGE.format(data=tmp_path / "edge", broker=broker.port, port=tmp_path / "tty", uplink="").replace(
                "keepalive_s = 5", f'keepalive_s = 5\ncentral_key = "{public}"'
            )
        )
        text = CENTRAL.format(data=data, broker=broker.port, influx="http://127.0.0.1:1")
        text = text.partition("[store]")[0] + "[[station]]" + text.partition("[[station]]")[2]
        central_toml.write_text(f'{text}[commands]\nkey = "{key}"\n[web]\nport = {servers.free_port()}\n')
        edge = Program("maillages-edge", edge_toml, tmp_path / "edge.log")
        central = Program("maillages-central", central_toml, tmp_path / "central.log")
        log = tmp_path / "central.log"
        for program in (central, edge):
            program.command += ["--exercise-clock", exercise]
            program.start()
            ends.callback(program.kill9)

        def stored() -> set[int]:
            store = Embedded(data / "store.db")
            store.setup()
            try:
                return {row.time_ms for row in store.dump("water_level", 0, 2**53)}
            finally:
                store.close()

        servers.wait_until(lambda: "central-readings: connected" in log.read_text(), 20, "the database is made")
        servers.wait_until(lambda: len(stored()) >= 20, 30, "20 readings")
        saved = central_command("backup", str(backup), "-c", str(central_toml))
        assert saved.returncode == 0, saved.stderr
        assert backup.stat().st_mode & 0o777 == 0o600
        kept = len(stored())
        while_it_runs = central_command("restore", str(backup), "-c", str(central_toml))
        assert (while_it_runs.returncode, "central is running" in while_it_runs.stderr) == (2, True)
        servers.wait_until(lambda: len(stored()) >= kept + 40, 30, "40 more, which the backup lacks")
        assert central.terminate() == 0
        all_of_them = stored()

        back = central_command("restore", str(backup), "-c", str(central_toml))
        assert back.returncode == 0, back.stderr
        (aside,) = data.glob("before-restore-*")
        assert (aside / "store.db").stat().st_size > 0
        assert len(all_of_them - stored()) >= 40
        central.start()
        with account.recovery():
            servers.wait_until(lambda: all_of_them <= stored(), 60, "all of them again")
        assert "asked to send again" in log.read_text()
        servers.wait_until(
            lambda: "readings of" in log.read_text(), 20, "the gateway's answer, which comes by another way"
        )
        asked = log.read_text().count("asked to send again")

        # Only the database was restored: an administrator says since when.
        running = central_command("resend", "--since", "2020-01-01", "-c", str(central_toml))
        assert (running.returncode, "central is running" in running.stderr) == (2, True)
        assert central.terminate() == 0
        for left in data.glob("store.db*"):
            left.unlink()
        with tarfile.open(backup) as tar:
            content = tar.extractfile("store.db")
            assert content is not None
            (data / "store.db").write_bytes(content.read())
        done = central_command("resend", "--since", "2020-01-01", "-c", str(central_toml))
        assert done.returncode == 0, done.stderr
        central.start()
        with account.recovery():
            servers.wait_until(lambda: all_of_them <= stored(), 60, "all of them once more")
        assert log.read_text().count("asked to send again") > asked
        assert edge.terminate() == 0
        assert central.terminate() == 0
        found = stored()
    journaled = Journal(tmp_path / "edge" / "journal", clock)
    journaled.open()
    rows = journaled.rows(1, journaled.head)
    journaled.close()
    sent = level.log.sent("hoyoux-test/level-1")
    times = [row.wall_ms for row in rows]
    account.count(
        injected=len(sent),
        unread=len(sent) - len(rows),
        lost=len(set(times) - found),
        doubled=len(found) - len(set(times)),
        invented=len(found - set(times)),
    )
    assert (account.doubled, account.invented) == (0, 0)
