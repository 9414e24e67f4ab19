"""`influx setup` as an administrator types it: real InfluxDB 1.x with accounts; 2.x where its URL and token are given."""

import os
from pathlib import Path

import pytest

from central.errors import NeedsPerson
from central.store.base import Reading, Series
from central.store.influx import Influx, ensure_1x
from tests import servers
from tests.central.test_cli_views import run

LEVEL = Series("water_level", {"gateway": "gw-1", "station": "h-huy", "sensor": "level-1"})
T0 = 1_780_000_000_000


def check_what_was_made(url: str, database: str, made: Path) -> None:
    secrets = [(made / name).read_text().strip() for name in ("influx-write", "influx-read")]
    assert [(made / name).stat().st_mode & 0o777 for name in ("influx-write", "influx-read")] == [0o600] * 2
    central, grafana = Influx(url, database, "maillages", secrets[0]), Influx(url, database, "grafana", secrets[1])
    assert central.write([Reading(LEVEL, 0.0, 1, T0)]).rejected == ()
    assert grafana.last("water_level", {}) == (T0, 0.0)
    with pytest.raises(NeedsPerson, match="403"):
        grafana.write([Reading(LEVEL, 1.0, 1, T0)])
    central.close()
    grafana.close()


def setup_thrice(url: str, database: str, admin: str, tmp_path: Path) -> Path:
    """Once to make it, again to find it, again with another retention; no secret is said unasked."""
    made, file = tmp_path / "credentials", tmp_path / "admin"
    made.mkdir()
    file.write_text(admin)
    command = ("influx", "setup", "--url", url, "--database", database, "--admin-file", str(file))
    where = ("--credentials", str(made))
    first = run(*command, *where)
    assert first.returncode == 0, first.stderr
    before = {p.name: p.read_text() for p in made.iterdir()}
    assert all(secret.strip() not in first.stdout + first.stderr for secret in before.values())
    again = run(*command, *where)
    assert "nothing to do" in again.stdout, again.stdout + again.stderr
    other = run(*command, *where, "--retention-days", "365")
    assert "DIFFERS: it keeps for ever, asked was 365 days" in other.stdout
    assert {p.name: p.read_text() for p in made.iterdir()} == before
    shown = run(*command, *where, "--show")
    assert before["influx-write"].strip() in shown.stdout
    return made


@pytest.mark.system
def test_1x_gets_database_and_two_users_once(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with servers.influxd(tmp_path / "server", auth=True) as server:
        url, admin = server.url, "admin:ge:heim"
        first = Influx(url, "any", "admin", "ge:heim")
        first.execute("CREATE USER \"admin\" WITH PASSWORD 'ge:heim' WITH ALL PRIVILEGES")
        first.close()
        made = setup_thrice(url, "crise", admin, tmp_path)
        check_what_was_made(url, "crise", made)
        user, _, password = admin.partition(":")
        short = ensure_1x(url, (user, password), database="court", retention_days=30, users={})
        assert short == ["database court: made, keeps 30 days"]
        assert ensure_1x(url, (user, password), database="court", retention_days=30, users={}) == []


@pytest.mark.system
@pytest.mark.skipif("MAILLAGES_INFLUX2_URL" not in os.environ, reason="no InfluxDB 2.x is given")
def test_2x_gets_organisation_bucket_and_two_tokens_once(tmp_path: Path) -> None:
    url, token = os.environ["MAILLAGES_INFLUX2_URL"], os.environ["MAILLAGES_INFLUX2_TOKEN"]
    database = f"setup-{os.getpid()}"
    check_what_was_made(url, database, setup_thrice(url, database, token, tmp_path))


def test_a_server_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    done = run("influx", "setup", "--url", f"http://127.0.0.1:{servers.free_port()}", "--credentials", str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
