"""`maillages-edge doctor` on what technicians do wrong: each mistake is named, with its remedy. Real ptys, a real refused port."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import termios
from pathlib import Path

import pytest

from common.clock import Clock
from edge import identity
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.trouble import Trouble
from edge.emulators.xy_md02 import Rs485Line, XyMd02
from edge.tools import scan, support
from edge.tools.doctor import Doctor, Finding
from tests import servers
from tests.disks import small_disk
from tests.edge.test_renewal import CA, NOW

COMMAND = Path(sys.executable).parent / "maillages-edge"
CLOCK = Clock(trust="always")
PLAN = scan.Plan(baudrates=(9600,), units=(2, 3), addresses="", listen_s=0.5)
STATION = '[[station]]\nid = "huy"\nname = "Huy"\ncommune = "61031"\nlat = 50.5\nlon = 5.2\n'


class Slower(Mb7389):
    """At 9600 baud: who listens at another speed gets the bytes broken."""

    def write(self, data: bytes) -> bool:
        speed = termios.tcgetattr(self._slave)[4]
        return super().write(data if speed == termios.B9600 else bytes(b ^ 0xA5 for b in data[::2]))


def level(path: Path, distance_m: float = 2.7, kind: type[Mb7389] = Mb7389) -> Mb7389:
    return kind(path, "level", lambda _: distance_m, clock=CLOCK, log=DeviceLog())


def air(path: Path) -> Rs485Line:
    return Rs485Line(path, [XyMd02(3, "air", lambda _: (21.5, 55.2))], clock=CLOCK, log=DeviceLog())


@pytest.fixture
def look(tmp_path):
    def looked(text: str, clock: Clock = CLOCK, data: Path = tmp_path, **more) -> list[Finding]:
        path = tmp_path / "edge.toml"
        path.write_text(f'[gateway]\nid = "gw"\ndata_dir = "{data}"\n{text}')
        path.chmod(0o600)
        return list(Doctor(path, clock, plan=PLAN, **more).run())

    return looked


def bad(findings: list[Finding], name: str) -> Finding:
    (found,) = (f for f in findings if f.name == name and f.verdict in ("bad", "warning"))
    assert found.remedy
    return found


def sensor(port: Path, driver: str = "xy_md02", more: str = "") -> str:
    return f'{STATION}[[station.sensor]]\nid = "s"\ndriver = "{driver}"\nport = "{port}"\n{more}\n'


def test_all_is_well(look, plug, tmp_path):
    plug(level(tmp_path / "tty"))
    found = look(
        sensor(tmp_path / "tty", "maxbotix", 'options = { model = "MB7389" }\nlevel = { mounting_height_m = 4.2 }')
    )
    assert [f.name for f in found if f.verdict == "bad"] == ["gateway"], "which does not run here"
    assert "huy/s: water_level 1.5" in [f.reason for f in found]


def test_a_secret_that_others_can_read_is_named(look, tmp_path):
    there = tmp_path / "etc/maillages/credentials"
    there.mkdir(parents=True)
    for name, mode in (("sim-pin", 0o640), ("broker", 0o600)):
        (there / name).touch()
        (there / name).chmod(mode)
    found = [f for f in look("", root=tmp_path) if "can be read" in f.reason]
    assert [f.reason for f in found] == [f"{there}/sim-pin can be read by others"]
    assert found[0].remedy == f"sudo chmod 600 {there}/sim-pin"


def test_mistake_1_the_wrong_port(look, tmp_path):
    found = bad(look(sensor(tmp_path / "ttyUSB7")), "ports")
    assert f"port of huy/s: {tmp_path}/ttyUSB7 is not there" in found.reason
    assert "plugged in" in found.remedy


def test_mistakes_2_to_4_a_and_b_swapped_the_wrong_baud_rate_the_wrong_address(look, plug, tmp_path):
    """Side by side: all ports are searched at the same time."""
    swapped = air(tmp_path / "swapped")
    swapped.trouble = Trouble(silent=True)
    plug(swapped, level(tmp_path / "slow", kind=Slower), air(tmp_path / "other"))
    stanza = '[[station.sensor]]\nid = "{}"\ndriver = "{}"\nport = "{}/{}"\n{}\n'
    model = 'baudrate = 19200\noptions = { model = "MB7389" }'
    found = look(
        STATION
        + stanza.format("a", "xy_md02", tmp_path, "swapped", "options = { unit = 3 }")
        + stanza.format("b", "maxbotix", tmp_path, "slow", model)
        + stanza.format("c", "xy_md02", tmp_path, "other", "options = { unit = 9 }")
    )
    of = {f.reason.partition(":")[0]: f for f in found if f.name == "sensors" and f.verdict == "bad"}
    assert "does not answer" in of["huy/a"].reason
    assert "A and B of RS485 swapped" in of["huy/a"].remedy
    assert "it speaks at 9600 baud, not 19200: baudrate = 9600" in of["huy/b"].remedy
    assert "unit 9 does not answer" in of["huy/c"].reason
    assert "unit = 3" in of["huy/c"].remedy


@pytest.mark.parametrize(
    ("pin", "said"), [("", "wants a PIN, and edge.toml has none"), ("9999", "did not take the PIN")]
)
def test_mistake_5_the_pin_of_the_sim(look, plug, tmp_path, pin, said):
    plug(GsmModem(tmp_path / "gsm", pin="4711"))
    line = f'pin = "{pin}"' if pin else ""
    sms = (
        f'[outputs.sms]\nport = "{tmp_path}/gsm"\n{line}\n[[outputs.sms.recipient]]\nid = "a"\nphone = "+32470000001"\n'
    )
    found = bad(look(sms), "sms")
    assert said in found.reason
    assert "pin" in found.remedy
    assert "4711" not in str(found)


def test_mistake_6_the_clock_says_1970(look):
    found = bad(look("", Clock(walltime=lambda: 500.0, synchronised=lambda: False)), "clock")
    assert found.reason == "it says 1970-01-01 00:08 UTC: it was never set"
    assert "date -s" in found.remedy


def test_mistake_7_the_certificate_has_ended(look, tmp_path):
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    (tmp_path / "own.pem").write_bytes(CA.identity(-400, -35))
    tls = f'tls = {{ ca = "{tmp_path}/ca.pem", cert = "{tmp_path}/own.pem", key = "{tmp_path}/own.pem" }}'
    clock = Clock(walltime=lambda: NOW.timestamp(), trust="always")
    found = bad(look(f'[mqtt]\nhost = "127.0.0.1"\nport = 1\n{tls}\n', clock), "certificate")
    assert found.reason == f"of gw-1 ended on {identity.day(NOW.timestamp() - 35 * 86400)}"
    assert "a new join file" in found.remedy


def test_mistake_8_the_disk_is_full(look, tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill()
        found = bad(look("", data=disk.path), "disk")
    assert "is full: no reading can be kept" in found.reason
    assert "journalctl --vacuum-size" in found.remedy


def test_mistake_9_the_broker_cannot_be_reached(look):
    port = servers.free_port()
    found = bad(look(f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'), "broker")
    assert found.reason == f"127.0.0.1:{port} refuses the connection"
    assert "does Mosquitto run on it" in found.remedy


@pytest.mark.parametrize(
    ("distance_m", "gauge", "remedy"),
    [
        (1.5, 1.5, "take level = { … } out"),
        (2.5, 1.45, "offset = -0.250"),
        (5.5, 1.3, "a minus in scale, slope or datum_m"),
    ],
)
def test_mistake_10_the_level_is_the_wrong_way_round(look, plug, tmp_path, distance_m, gauge, remedy):
    plug(level(tmp_path / "tty", distance_m if distance_m < 5 else 4.9))
    height = 4.2 if distance_m < 5 else 3.6
    text = sensor(
        tmp_path / "tty", "maxbotix", f'options = {{ model = "MB7389" }}\nlevel = {{ mounting_height_m = {height} }}'
    )
    found = bad(look(text, gauges={"huy/s": gauge}), "level")
    assert f"the staff gauge {gauge:g} m" in found.reason
    assert ("the sign is reversed" in found.reason) == (gauge != 1.45)
    assert remedy in found.remedy


def test_a_level_below_zero_is_doubted_without_a_gauge_too(look, plug, tmp_path):
    plug(level(tmp_path / "tty", 4.9))
    text = sensor(tmp_path / "tty", "maxbotix", 'options = { model = "MB7389" }\nlevel = { mounting_height_m = 3.6 }')
    assert "is the sign reversed?" in bad(look(text), "level").reason


CONFIGURATION = """
# ask Jean, 0470/12.34.56, PIN 4711
[gateway]
id = "gw"
data_dir = "{tmp}"
[mqtt]
host = "127.0.0.1"
port = 1
username = "gw"
password = "${{credential:broker}}"
central_key = "QzHYg77QNvFe7HlILHMAo63Etw0P7/lj8jfp1lHEcxw="
[outputs.sms]
port = "{tmp}/none"
pin = "${{credential:sim-pin}}"
[[outputs.sms.recipient]]
id = "planu"
phone = "+32470000001"
"""


def test_the_command_and_a_bundle_without_secrets(tmp_path):
    config, bundle = tmp_path / "edge.toml", tmp_path / "b.tar.gz"
    config.write_text(CONFIGURATION.format(tmp=tmp_path))
    loaded = tmp_path / "loaded"  # as systemd's LoadCredential hands them over
    loaded.mkdir()
    (loaded / "credentials_broker").write_text("correct horse\n")
    (loaded / "credentials_sim-pin").write_text("4711\n")
    done = subprocess.run(
        [COMMAND, "doctor", "-c", config, "--json", "--bundle", bundle],
        env=os.environ | {"CREDENTIALS_DIRECTORY": str(loaded)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"gateway", "clock", "disk", "sms", "broker"} <= {row["name"] for row in rows}
    assert all(row["remedy"] for row in rows if row["verdict"] == "bad")
    assert bundle.stat().st_mode & 0o077 == 0
    with tarfile.open(bundle) as archive:
        texts = {name: archive.extractfile(name).read().decode() for name in archive.getnames()}
    assert json.loads(texts["configuration.json"])["mqtt"]["host"] == "127.0.0.1"
    for secret in ("correct horse", "QzHYg77Q", "4711", "32470000001", "0470/12"):
        assert secret not in "".join(texts.values()), secret


def test_what_looks_like_a_secret_is_blotted_out_of_any_text():
    pem = CA.identity(-1, 1).decode()
    key = os.urandom(16).hex()
    text = f"key {key}\n{pem}\nsent to +32 470 00.00.01 and 0470/12.34.56, mqtt://u:pw@host, pin 4711, level 1.4711 m"
    shown = support.clean(text, ["4711"])
    assert " ".join(shown.split()) == "key *** *** *** sent to *** and ***, mqtt://***host, pin ***, level 1.*** m"
    assert not any(secret in shown for secret in (key, "BEGIN", "470", "pw", "pin 4711"))
    assert support.clean("2026-11-25 00:12:30 gw-huy-01 hoyoux-huy/level-1 1.52 m") == (
        "2026-11-25 00:12:30 gw-huy-01 hoyoux-huy/level-1 1.52 m"
    )


def test_who_may_not_ask_the_gateway_is_told_so_and_no_more():
    """Its ports would all seem to be in use, by a gateway that runs well."""
    if os.geteuid() != 0:
        pytest.skip("expected root, who can be somebody else")
    with tempfile.TemporaryDirectory() as there:
        place = Path(there)
        place.chmod(0o755)
        data, config = place / "data", place / "edge.toml"
        data.mkdir(mode=0o700)
        config.write_text(f'[gateway]\nid = "gw"\ndata_dir = "{data}"\n{sensor(place / "tty")}')
        config.chmod(0o644)
        line = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            COMMAND,
            "doctor",
            "-c",
            config,
            "--json",
        ]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    (last,) = (row for row in map(json.loads, done.stdout.splitlines()) if row["name"] == "gateway")
    assert (done.returncode, last["verdict"]) == (1, "bad"), done.stderr
    assert "may not be used by this user" in last["reason"]
    assert "sudo" in last["remedy"]
    assert '"sensors"' not in done.stdout
