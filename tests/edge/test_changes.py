"""A configuration on trial: kept, rolled back, refused; from the site and from central, and what a restart makes of it."""

import queue

import pytest

from common.clock import Clock
from edge.changes import TRIAL_S, Changes, effective
from edge.config import parsed
from edge.errors import ConfigError
from edge.exchange import Exchange
from wire.configuration import Configuration

OWN = '[gateway]\nid = "gw"\ndata_dir = "{data}"\n[mqtt]\nhost = "broker"\n'
STATION = """
[[station]]
id = "huy"
name = "Huy"
commune = "61031"
lat = 50.5
lon = 5.2
[[station.sensor]]
id = "dust"
driver = "sds011"
port = "/dev/none"
period_s = {period}
"""
LIMIT_S = TRIAL_S + 2 * 10


class Gateway:
    """What runs, as far as changes see it; `heard` and `linked` are the test's to set."""

    def __init__(self, text):
        self.config = parsed(text, "own")
        self.linked = True
        self.heard = {}
        self.told = []
        self.disk_full = False

    def change(self, config):
        if self.disk_full:
            raise ConfigError("the disk takes no readings now")
        before, self.config = self.config, config
        return set() if before.station == config.station else {"huy/dust"}

    def tell(self, result):
        self.told.append((result.version, result.state))

    @property
    def period_s(self):
        return self.config.station[0].sensor[0].period_s


class Site:
    def __init__(self, tmp_path):
        self.path = tmp_path / "edge.toml"
        self.own = OWN.format(data=tmp_path / "data")
        self.path.write_text(self.own + STATION.format(period=60))
        self.exchange = Exchange(tmp_path / "data")
        self.now = 1000.0
        self.clock = Clock(trust="always", boottime=lambda: self.now, walltime=lambda: 1.8e9 + self.now)
        self.sent = queue.SimpleQueue()
        self.start()

    def start(self):
        """As `run` begins; what was told before is forgotten."""
        own = self.path.read_text()
        text, self.why = effective(own, self.exchange)
        self.gateway = Gateway(text)
        self.changes = Changes(self.gateway, self.clock, self.path, own, self.sent)
        self.changes.begin(text)

    def push(self, version, period=10, text=None):
        body = STATION.format(period=period) if text is None else text
        self.sent.put(Configuration(version=version, made="2026-11-25T00:00:00Z", by="Anne", text=body))
        self.changes.receive()

    def pass_s(self, seconds):
        self.now += seconds
        self.changes.judge()

    def hear(self):
        """The sensor gives a value, and it is looked at."""
        self.now += 1
        self.gateway.heard["huy/dust"] = self.now
        self.pass_s(1)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_what_is_healthy_stays_over_a_restart(site):
    site.push(1)
    assert site.gateway.told == [(1, "trying")]
    site.hear()
    assert site.gateway.told == [(1, "trying"), (1, "running")]
    site.start()
    assert site.gateway.period_s == 10
    site.push(1)  # the broker retains it
    assert site.gateway.told == [(1, "running")]


def test_a_sensor_that_stays_silent_rolls_it_back(site):
    site.push(1)
    site.pass_s(LIMIT_S - 1)
    assert site.gateway.period_s == 10
    site.pass_s(2)
    assert (site.gateway.period_s, site.gateway.told[-1]) == (60, (1, "rolled-back"))
    assert "sensor huy/dust gave no value in 30 s" in site.exchange.pushed().result.why
    site.start()
    assert site.gateway.period_s == 60


def test_a_link_that_does_not_come_back_rolls_it_back(site):
    site.push(1)
    site.gateway.linked = False
    site.gateway.heard["huy/dust"] = site.now + 1
    site.pass_s(59)
    assert site.gateway.told[-1] == (1, "trying")
    site.pass_s(2)
    assert (site.gateway.period_s, site.gateway.told[-1]) == (60, (1, "rolled-back"))
    assert "the link to central did not come back in 60 s" in site.exchange.pushed().result.why


def test_a_rollback_waits_for_a_disk_that_takes_readings(site):
    site.push(1)
    site.gateway.disk_full = True
    site.pass_s(LIMIT_S + 1)
    assert site.gateway.period_s == 10
    site.gateway.disk_full = False
    site.pass_s(1)
    assert (site.gateway.period_s, site.gateway.told[-1]) == (60, (1, "rolled-back"))


def test_an_older_version_is_refused_over_a_restart_too(site):
    site.push(5)
    site.hear()
    site.start()
    site.push(4, period=30)
    assert (site.gateway.period_s, site.gateway.told) == (10, [(4, "refused")])


def test_a_bad_one_is_refused_with_its_faults_and_the_good_one_before_stays(site):
    site.push(1)
    site.hear()
    for version, text, said in (
        (2, "x = ", "not TOML"),
        (3, STATION.format(period=-1), "period_s"),
        (4, '[mqtt]\nhost = "x"', "mqtt: found, expected none"),
    ):
        site.push(version, text=text)
        assert site.gateway.told[-1] == (version, "refused")
        assert said in site.exchange.pushed().result.why
    assert site.gateway.period_s == 10
    site.start()
    assert site.gateway.period_s == 10


def test_a_gateway_that_ends_on_trial_does_not_try_it_again(site):
    site.push(1)
    site.start()
    assert (site.gateway.period_s, site.gateway.told) == (60, [(1, "rolled-back")])
    site.push(1)
    assert site.gateway.period_s == 60
    site.push(2, period=20)
    assert site.gateway.period_s == 20


def test_a_version_that_comes_during_a_trial_waits_for_its_end(site):
    site.push(1)
    site.push(2, period=20)
    assert site.gateway.period_s == 10
    site.hear()
    assert site.gateway.period_s == 20
    site.hear()
    assert site.gateway.told == [(1, "trying"), (1, "running"), (2, "trying"), (2, "running")]


def test_whoever_changes_the_file_on_site_is_right(site):
    site.push(1)
    site.hear()
    site.path.write_text(site.own + STATION.format(period=40))
    site.start()
    assert "changed since central's version 1" in site.why
    assert (site.gateway.period_s, site.gateway.told) == (40, [(1, "replaced")])
    site.start()
    assert (site.gateway.period_s, site.gateway.told) == (40, [])


def test_what_is_applied_on_site_takes_the_place_of_centrals(site):
    site.push(1)
    site.hear()
    text = site.own + STATION.format(period=50)
    name = site.exchange.offer(text)
    site.changes.look()
    assert site.exchange.outcome().state == "trying"
    site.hear()
    assert (site.exchange.outcome().id, site.exchange.outcome().state) == (name, "running")
    assert (site.gateway.period_s, site.gateway.told[-1]) == (50, (1, "replaced"))
    assert site.exchange.running() == text
    assert [path.name.split(".")[2] for path in site.exchange.history()] == ["start", "central-1", "site"]


def test_one_change_at_a_time_on_site(site):
    site.push(1)
    site.exchange.offer(site.own + STATION.format(period=50))
    site.changes.look()
    assert "another change is on trial" in site.exchange.outcome().why
    site.hear()
    assert site.gateway.period_s == 10


def test_nothing_that_was_written_can_be_read_by_others(site):
    site.push(1)
    site.hear()
    files = [path for path in (site.path.parent / "data").rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if path.stat().st_mode & 0o077]
