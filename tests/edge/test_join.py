"""What `maillages-edge join` makes of a file and a machine before it connects; the connection is in tests/system/test_enrolment.py."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from common.clock import Clock, rfc3339
from edge import config
from edge.tools import join as joining
from edge.tools.join import JoinRefused, Places
from tests.edge.test_renewal import CA, NOW
from wire.identity import BrokerAddress, Join, seal

PHRASE = "bcde fghj knpr stuv"
DAY_S = 86400
MADE = NOW.timestamp()
STATION = '[[station]]\nid = "s"\nname = "S"\ncommune = "61031"\nlat = 50\nlon = 5\n'
SENSOR = '[[station.sensor]]\nid = "level"\ndriver = "a02yyuw"\nport = "/dev/x"\nlevel = { mounting_height_m = 3 }\n'


def clock(days: float = 0) -> Clock:
    """So long after the file was made."""
    return Clock(walltime=lambda: MADE + days * DAY_S, trust="always")


def made(gateway: str = "gw-1", configuration: str = "", host: str = "broker.example.be") -> Join:
    return Join(
        gateway=gateway,
        commune="61031",
        made=rfc3339(MADE),
        expires=rfc3339(MADE + 14 * DAY_S),
        identity=CA.identity(-1, 365, gateway).decode(),
        ca=CA.pem.decode(),
        brokers=(BrokerAddress(host=host, port=8883), BrokerAddress(host="10.0.0.2", port=8884)),
        central_key="QzHYg77QNvFe7HlILHMAo63Etw0P7/lj8jfp1lHEcxw=",
        configuration=configuration,
    )


class Machine:
    def __init__(self, tmp: Path) -> None:
        self.places = Places(tmp / "etc/edge.toml", tmp / "data", getpass.getuser())
        self.said: dict[str, str] = {}

    def install(self, join: Join, *, replace: bool = False) -> config.EdgeConfig:
        with joining.held(self.places.data_dir):
            return joining.install(join, self.places, clock(), replace=replace, say=self.said.__setitem__)

    def write(self, text: str) -> None:
        self.places.edge_toml.parent.mkdir(parents=True, exist_ok=True)
        self.places.edge_toml.write_text(text)

    @property
    def toml(self) -> str:
        return self.places.edge_toml.read_text()

    def gateway(self, name: str = "gw-1") -> str:
        return f'[gateway]\nid = "{name}"\ndata_dir = "{self.places.data_dir}"\n'


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("days", "what", "remedy"),
    [
        (15, "the join file expired on 2026-12-09 00:00 UTC", "enrol gw-1 --commune … --replace"),
        (-20_000, "the clock of this machine says 1972-", "sudo date -s"),
    ],
)
def test_a_file_is_for_its_time_and_a_clock_that_was_never_set_is_named(
    tmp_path: Path, days: float, what: str, remedy: str
) -> None:
    file = tmp_path / "gw-1.join"
    file.write_text(seal(made(), PHRASE))
    with pytest.raises(JoinRefused) as refusal:
        joining.read(file, clock(days))
    assert what in refusal.value.what
    assert remedy in refusal.value.remedy
    assert joining.unsealed(joining.read(file, clock(13)), lambda: PHRASE, 1, clock(13)).gateway == "gw-1"


@pytest.mark.parametrize(
    ("content", "what"),
    [(None, "cannot be read"), (b"\xff", "no join file"), (b"{}", "no join file"), (b" " * 300_000, "no join file")],
)
def test_what_is_no_join_file_is_named(tmp_path: Path, content: bytes | None, what: str) -> None:
    file = tmp_path / "gw-1.join"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(JoinRefused, match=what):
        joining.read(file, clock())


def test_a_passphrase_may_be_wrong_twice(tmp_path: Path) -> None:
    text = seal(made(), PHRASE)
    typed = iter(["wrong", "", PHRASE.upper()])
    assert joining.unsealed(text, lambda: next(typed), 3, clock()).gateway == "gw-1"
    with pytest.raises(JoinRefused, match="the passphrase is wrong"):
        joining.unsealed(text, lambda: "wrong", 2, clock())


def test_identity_and_configuration_are_installed_for_the_gateway_alone(machine: Machine) -> None:
    settings = machine.install(made(configuration=STATION + SENSOR))
    assert settings.gateway.id == "gw-1"
    assert settings.mqtt
    assert settings.mqtt.tls == machine.places.tls
    assert (settings.mqtt.host, settings.mqtt.port) == ("broker.example.be", 8883)
    assert [(b.host, b.port) for b in settings.mqtt.fallback] == [("10.0.0.2", 8884)]
    assert [s.id for s in settings.station] == ["s"]
    for path in (machine.places.tls.cert, machine.places.tls.ca, machine.places.edge_toml):
        assert path.stat().st_mode & 0o777 == 0o600
    assert machine.places.tls.cert.parent.stat().st_mode & 0o777 == 0o700
    assert machine.said["configuration"].endswith("written")


def test_again_it_changes_nothing_and_another_identity_needs_to_be_asked_for(machine: Machine) -> None:
    join = made()
    machine.install(join)
    machine.install(join)
    assert machine.said["configuration"].endswith("as it was")
    before = machine.places.tls.cert.read_bytes()
    for other in (made(), made("gw-2")):  # a new one of the same name, too: what is there may have been renewed since
        with pytest.raises(JoinRefused, match=r"another identity already \(gw-1, until 2027"):
            machine.install(other)
    assert machine.places.tls.cert.read_bytes() == before
    again = made()
    machine.install(again, replace=True)
    assert machine.places.tls.cert.read_text() == again.identity
    with pytest.raises(JoinRefused, match=r"has id = 'gw-1', and this gateway is gw-2"):
        machine.install(made("gw-2"), replace=True)
    assert machine.places.tls.cert.read_text() == again.identity, "nothing was changed"


def test_a_configuration_that_was_there_keeps_all_but_its_link(machine: Machine) -> None:
    machine.write(machine.gateway() + "# ours\n" + STATION + SENSOR)
    join = made()
    settings = machine.install(join)
    assert settings.station[0].id == "s"
    assert settings.mqtt
    assert "# ours" in machine.toml
    other = '[mqtt]\nhost = "old"\n[mqtt.tls]\nca = "/a"\ncert = "/b"\nkey = "/c"\n\n'
    machine.write(machine.gateway() + other + "# ours\n" + STATION + SENSOR)
    with pytest.raises(JoinRefused, match="leads elsewhere") as refusal:
        machine.install(join)
    assert "edge.toml.old" in refusal.value.remedy
    settings = machine.install(made(), replace=True)
    assert settings.mqtt
    assert settings.mqtt.host == "broker.example.be"
    assert settings.station[0].id == "s"
    assert 'host = "old"' in machine.places.edge_toml.with_suffix(".toml.old").read_text()


@pytest.mark.parametrize(
    ("before", "join", "what"),
    [
        (lambda m: m.gateway("gw-9"), made(), "has id = 'gw-9'"),
        (lambda _: "[gateway", made(), "is no TOML"),
        (lambda m: m.gateway() + "colour = 1\n", made(), "gateway.colour: unknown key"),
        (None, made(configuration="[[station]]\n"), "station.0.id: missing"),
        (None, made(configuration=STATION + SENSOR.replace("a02yyuw", "a03")), "a03"),
    ],
)
def test_what_the_gateway_could_not_run_with_is_refused_before_anything_is_changed(
    machine: Machine, before: Callable[[Machine], str] | None, join: Join, what: str
) -> None:
    text = before(machine) if before else None
    if text is not None:
        machine.write(text)
    with pytest.raises(JoinRefused) as refusal:
        machine.install(join)
    assert what in refusal.value.what
    assert not machine.places.tls.cert.exists()
    assert machine.places.edge_toml.exists() == (text is not None)
    assert text is None or machine.toml == text


def test_a_gateway_that_runs_is_named(machine: Machine) -> None:
    data = machine.places.data_dir
    with joining.held(data), pytest.raises(JoinRefused, match="the gateway runs") as refusal, joining.held(data):
        pass
    assert "systemctl stop maillages-edge" in refusal.value.remedy
    with joining.held(data):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_user_who_is_not_there_is_named_before_anything_is_changed(machine: Machine) -> None:
    machine.places = Places(machine.places.edge_toml, machine.places.data_dir, "nobody-of-this-name")
    with pytest.raises(JoinRefused, match="no user nobody-of-this-name"):
        machine.install(made())
    assert not machine.places.tls.cert.exists()
