"""The technician's pages: every command in them is run, with emulated devices. `MAILLAGES_FULL=1` (scripts/technician) types them from
top to bottom on an empty machine, with a real bundle, central and Mosquitto, and goes on to an alarm that is answered, on the clock.
"""

import contextlib
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from typer.testing import CliRunner

from central.store.embedded import Embedded
from common.clock import Clock
from edge.cli import app
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from edge.emulators.trouble import Trouble
from tests import servers
from tests.chain import FULL, Program
from tests.disks import small_disk
from tests.edge.test_doctor import Slower, air, level
from tests.edge.test_join import PHRASE, made
from tests.fakes.terminal import Terminal
from tests.system.test_enrolment import Site
from tests.system.test_page import CHROMIUM
from wire.identity import seal

full = pytest.mark.skipif(not FULL, reason="a bundle and some forty commands take minutes: MAILLAGES_FULL=1")

ROOT = Path(__file__).parents[2]
FRENCH, ENGLISH = ROOT / "docs/technicien.md", ROOT / "docs/technician.md"
TOOLS = {
    "sudo": '#!/bin/sh\nexec "$@"\n',
    "journalctl": '#!/bin/sh\nexec cat "$MAILLAGES_UNITS/log"\n',
    "nano": """#!/bin/sh
# A person who takes the sensor out of service, and the next time back into it.
grep -q out_of_service "$1" && exec sed -i /out_of_service/d "$1"
exec sed -i '/^id = "level-1"/a out_of_service = true' "$1"
""",
}
PIN = "4711"
INIT = [
    "--gateway-id", "gw-huy-01", "--driver", "maxbotix", "--set", "model=MB7389", "--station-name", "Huy, pont du Hoyoux",
    "--commune", "Huy", "--position", "50.519,5.240", "--period", "1", "--gauge", "0.84", "--levels", "1.2 1.8 2.3",
    "--recipient", "jean=+32470000001:1:technician",
]  # fmt: skip
WITH_CONFIG = ("read", "test", "status", "doctor", "diff", "apply", "history", "journal")
ELSEWHERE = ("sudo sh ", "sudo maillages-edge join ")
"""Commands that test_bundle.py and test_enrolment.py run in CI."""
STOPPED = ("scan", "read", "sniff", "test", "journal salvage", "journal export")
"""Commands that the pages give with the gateway stopped, or that need none."""
GOOD = ("ports", "sensors", "level", "broker", "certificate", "receipts", "siren", "configuration")
"""What doctor must not find bad here, whatever the disk and the heat of this machine are."""


def situations(page: Path) -> str:
    """What both pages have; the reference below it is in English alone."""
    return page.read_text(encoding="utf-8").partition("\n# Reference\n")[0]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", situations(page), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_both_languages_have_the_same_parts_tables_and_commands() -> None:
    assert commands(FRENCH) == commands(ENGLISH)
    for what in (r"^#+", r"^\d\.", r"^\|[^|]*", r"^- \*\*"):
        french, english = (re.findall(what, situations(page), re.MULTILINE) for page in (FRENCH, ENGLISH))
        assert len(french) == len(english), what


def test_what_the_pages_quote_is_what_the_programs_say() -> None:
    """Each text of a table's first column stands in a program, as far as it is fixed."""
    sources = [ROOT / "systemd/install.sh", ROOT / "edge/link.py", *sorted((ROOT / "edge/tools").glob("*.py"))]
    programs = "\n".join(path.read_text(encoding="utf-8") for path in [*sources, ROOT / "wire/identity.py"])
    programs = re.sub(r'"\s+f?"', "", programs)
    for page in (FRENCH, ENGLISH):
        rows = re.findall(r"^\| (`[^|]*`) \|", situations(page), re.MULTILINE)
        assert len(rows) > 20
        quoted = [part for row in rows for text in re.findall(r"`([^`]*)`", row) for part in text.split("…")]
        for text in quoted:
            fixed = re.split(r"1970-| 9600 | 19200", text)
            assert all(part.strip() in programs for part in fixed), text


@pytest.mark.system
def test_the_sheet_is_one_page_of_a4(tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((ROOT / "docs/fiche-installation.html").as_uri())
        printed = page.pdf(prefer_css_page_size=True)
        browser.close()
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1
    assert re.search(rb"/MediaBox\s*\[0 0 59[45][.\d]* 84[12]", printed), "A4, in points"


class Place:
    """A machine below a directory, its central, its devices, and who types there."""

    def __init__(self, tmp: Path, site: Site | None = None) -> None:
        self._site = site
        self.root, self.units, self.home, self.tools = tmp / "root", tmp / "units", tmp / "home", tmp / "tools"
        for path in (
            self.root / "etc/maillages/credentials",
            self.root / "opt/maillages",
            self.units,
            self.home,
            self.tools,
        ):
            path.mkdir(parents=True)
        for name, text in TOOLS.items():
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        shutil.copy(ROOT / "tests/fakes/systemctl", self.tools / "systemctl")
        self.toml = self.root / "etc/maillages/edge.toml"
        self.data = self.root / "var/lib/maillages-edge"
        self.environment = os.environ | {
            "PATH": f"{self.tools}:{self.root}/opt/maillages/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MAILLAGES_UNITS": str(self.units),
            "CREDENTIALS_DIRECTORY": str(self.units / "credentials"),
        }
        self.distance_m = 2.963
        self.port, self.siren, self.modem = tmp / "ttyLEVEL", RelayBoard(tmp / "ttySIREN"), GsmModem(tmp / "ttyGSM")
        self.level = Mb7389(
            self.port, "level", lambda _: self.distance_m, clock=Clock(), log=DeviceLog(), interval_s=0.1
        )
        self.said: list[str] = []
        self._begun = time.monotonic()
        self.steps: list[tuple[float, str]] = []

    @property
    def site(self) -> Site:
        assert self._site is not None
        return self._site

    def session(self) -> str:
        """All that was typed and said, and when each step was done."""
        times = "".join(f"{at:7.1f} s  {what}\n" for at, what in self.steps)
        return "\n".join((*self.said, "done, in seconds from the beginning:", times))

    def keep(self, path: Path) -> None:
        path.write_text(self.session())

    def step(self, what: str) -> None:
        self.steps.append((time.monotonic() - self._begun, what))

    def words(self, command: str) -> list[str]:
        """The command as it is typed here: below this machine's root, at this machine's ports."""
        words = [re.sub(r"^(/mnt/card)?/(var|etc)/", rf"{self.root}/\2/", word) for word in shlex.split(command)]
        words = [str(self.port) if word.startswith("/dev/serial/") else word for word in words]
        if "--seconds" in words and not FULL:
            words[words.index("--seconds") + 1] = "0.5"
        match words:
            case [*_, "salvage", _, "--to", _]:
                return words
            case [*_, "maillages-edge", "join", _]:
                me = pwd.getpwuid(os.geteuid()).pw_name
                return [*words, "-c", str(self.toml), "--data-dir", str(self.data), "--user", me]
            case [*_, "maillages-edge", "scan"]:
                return [*words, "--port", str(self.port)]  # the kernel lists no emulated one
            case [_, "maillages-edge", verb, *_] if verb in WITH_CONFIG:
                return [*words, "-c", str(self.toml)]
        return words

    def type(self, command: str, answer: str = "", codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            self.words(command),
            env=self.environment,
            cwd=self.home,
            input=answer,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = done.stdout + done.stderr
        self.said.append(f"$ {command}\n{said}")
        self.step(command)
        assert done.returncode in codes, f"{command}: {done.returncode}\n{said}"
        return said

    def install(self, command: str) -> None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.site.central_said("keygen", f"{self.home}/signer.pem", config=False)
        self.step("a key to sign bundles")
        self.site.central_said(
            "bundle", "--arch", os.uname().machine, "--key", f"{self.home}/signer.pem", "--python", version,
            "--source", str(ROOT), "--out", str(self.home), config=False,
        )  # fmt: skip
        self.step("bundle made")
        (bundle,) = self.home.glob("maillages-*.sh")
        typed = command.replace(command.split()[-1], bundle.name)
        assert "is installed." in self.type(f"{typed} --root {self.root} --python {sys.executable}")
        self.step("bundle installed")

    def init(self, command: str) -> None:
        """At a terminal, with answers to all its questions. The kernel lists no emulated port: it is named."""
        del command
        person = Terminal(
            self.root / "opt/maillages/bin/maillages-edge", "init", self.toml, "--port", self.port, "--driver", "maxbotix",
            "--set", "model=MB7389",
        )  # fmt: skip
        person.wait("It answers: water_distance 2.963 m")
        person.say("Name, as", "Huy, pont du Hoyoux")
        for question, answer in (
            ("Id [huy-pont-du-hoyoux]", ""),
            ("Commune", "Huy"),
            ("Position", "50.519, 5.240"),
            ("River", "Hoyoux"),
            ("Id of this sensor", ""),
            ("every so many", "1"),
        ):
            person.say(question, answer)
        person.wait("Is it there")
        self.distance_m = 1.5  # a board under the sensor
        person.say("", "y")
        person.wait("Right: 2.963 m became 1.500 m")
        self.distance_m = 2.963
        for question, answer in (
            ("Take it away", ""),
            ("staff gauge", "0,84"),
            ("sensor's face", "none"),
            ("Thresholds of water_level", "1.2 1.8 2.3"),
            ("Warn too", "none"),
            ("another sensor", "n"),
            ("relay board", str(self.siren.path)),
            ("Sound it", "y"),
            ("Did you hear", "y"),
            ("GSM modem", str(self.modem.path)),
            ("PIN of its SIM", "none"),
            ("Recipient", "jean"),
            ("Phone", "+32470000001"),
            ("From which level", "1"),
            ("A technician", "y"),
            ("Another recipient", "n"),
            ("Write this", "y"),
        ):
            person.say(question, answer)
        assert person.end() == 0, person.shown
        self.said.append(f"$ sudo maillages-edge init\n{person.shown}")
        assert [change.on for change in self.siren.history] == [True, False]

    def change_sim(self) -> None:
        """Another card, with a PIN, that edge.toml names as a credential."""
        self.modem.stop()
        self.modem = GsmModem(self.modem.path, pin=PIN)
        self.modem.start()
        text = self.toml.read_text()
        self.toml.write_text(text.replace("[outputs.sms]\n", '[outputs.sms]\npin = "${credential:sim-pin}"\n'))

    def stored(self) -> bool:
        store = Embedded(self.site.tmp / "central/store.db")
        store.setup()
        return store.last("water_level", {"gateway": "gw-huy-01"}) is not None

    def healthy(self, command: str, running: bool) -> None:
        """What doctor says is not about what was just set up."""
        bad = {line.split()[1] for line in self.type(command, codes=(0, 1)).splitlines() if "✗" in line}
        assert bad & set(GOOD) == set(), self.said[-1]
        assert ("gateway" in bad) != running, self.said[-1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    with site.toml.open("a") as toml:  # the administrator knows which station is to come
        toml.write('[[station]]\nid = "huy-pont-du-hoyoux"\ngateway = "gw-huy-01"\ncommune = "61031"\nname = "Huy"\n')
    there = Place(tmp_path, site)
    running = [site.broker, there.level, there.siren, there.modem]
    for thing in running:
        thing.start()
    site.central.start()
    try:
        servers.wait_until(lambda: site.central.said("central-readings: connected") > 0, 120, "central at its broker")
        yield there
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((there.units / "pid").read_text()), signal.SIGKILL)
        site.central.kill9()
        for thing in (there.modem, there.siren, there.level, site.broker):
            thing.stop()
        there.keep(tmp_path / "session.txt")
        if FULL:  # for scripts/technician
            print(there.session())


def enrolled(place: Place) -> str:
    """The join file lies in the technician's directory; the passphrase."""
    clock_set = place.home / "clock.toml"
    clock_set.write_text('[clock]\ntrust = "always"\n')  # this machine may have no time server
    join_file = place.site.enrol("gw-huy-01", "--config-for-edge", str(clock_set))
    shutil.move(join_file, place.home / "gw-huy-01.join")
    place.step("enrolled")
    return place.site.passphrases[-1]


def joined(place: Place, command: str, passphrase: str) -> None:
    assert "gw-huy-01 has joined" in place.type(command, passphrase + "\n")
    # What `join` has systemd do, where systemd runs.
    subprocess.run(["systemctl", "enable", "--now", "maillages-edge"], env=place.environment, check=True)
    place.step("joined, the gateway runs")


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """A command that runs in this process takes Ctrl-C for itself."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@pytest.mark.system
def test_each_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, beside one real gateway that has no central: the whole session takes minutes."""
    place = Place(tmp_path)
    monkeypatch.chdir(place.home)
    place.data.mkdir(parents=True)
    ours = [line.removeprefix("sudo ") for line in commands(FRENCH) if not line.startswith(ELSEWHERE)]
    ours = list(dict.fromkeys(line for line in ours if line.startswith("maillages-edge")))
    stopped = [line for line in ours if line.startswith(tuple(f"maillages-edge {verb}" for verb in STOPPED))]
    running = [line for line in ours if line not in stopped]
    assert len(stopped) > 6
    assert len(running) > 8
    codes = {"diff": (1,), "doctor": (0, 1)}

    def run(line: str) -> None:
        words = place.words(f"sudo {line}")[2:]
        if words[0] == "test":  # it holds the gateway's lock until its process ends
            place.type(f"sudo {line}")
            return
        if words[0] == "init":
            words += [str(place.toml), *INIT, "--data-dir", str(place.data), "--port", str(place.port)]
            words += ["--siren", str(place.siren.path), "--sms", str(place.modem.path)]
        if words[0] == "diff":
            edited = place.toml.read_text().replace('id = "level-1"\n', 'id = "level-1"\nout_of_service = true\n', 1)
            Path("new.toml").write_text(edited)
        if words[0] == "check":
            Path("new.toml").write_text(place.toml.read_text())
        with signals_kept():
            done = CliRunner().invoke(app, words, input="y\n")
        assert done.exit_code in codes.get(words[0], (0,)), f"{line}: {done.exit_code}\n{done.output}"
        if words[0] == "doctor":
            bad = {finding.split()[1] for finding in done.output.splitlines() if "✗" in finding}
            assert bad & set(GOOD) == set(), done.output

    with contextlib.ExitStack() as stack:
        for device in (place.level, place.siren, place.modem):
            device.start()
            stack.callback(device.stop)
        first = next(line for line in running if " init" in line)
        run(first)
        gateway = Program("maillages-edge", place.toml, tmp_path / "edge.log")
        gateway.start()
        stack.callback(lambda: gateway.kill9() if gateway.running else None)
        fresh = ["status", "--json", "-c", str(place.toml)]
        servers.wait_until(lambda: '"fresh": true' in CliRunner().invoke(app, fresh).output, 30, "a reading")
        for line in running:
            if line != first:
                run(line)
        assert "out_of_service = true" in place.toml.read_text(), "applied"
        assert gateway.terminate() == 0
        for line in stopped:
            run(line)
    assert [change.on for change in place.siren.history] == [True, False]
    assert place.modem.messages[0].text.startswith("TEST")
    assert (place.home / "crue.csv").read_text() == (place.home / "saved.csv").read_text() != ""


@pytest.mark.system
@pytest.mark.timeout(1800)
@full
def test_every_command_of_the_pages_does_what_they_say(place: Place) -> None:
    passphrase = enrolled(place)
    running = False

    def changes(command: str) -> None:
        assert "out_of_service" in place.type(command, codes=(1,))

    def applied(command: str) -> None:
        assert "runs" in place.type(command, "y\n")

    def sms(command: str) -> None:
        before = len(place.modem.messages)
        assert "sent" in place.type(command)
        assert place.modem.messages[before].text.startswith("TEST")

    def pin(command: str) -> None:
        place.type(command, f"{PIN}\n")
        place.change_sim()

    def read_something(command: str) -> None:
        servers.wait_until(lambda: place.stored(), 120, "a stored reading")
        if place.steps[-1][1] != "first reading stored":
            place.step("first reading stored")
        assert "water_level" in place.type(command)

    special: dict[str, Callable[[str], object]] = {
        "sudo sh ": place.install,
        "sudo maillages-edge join": lambda command: joined(place, command, passphrase),
        "sudo maillages-edge init": place.init,
        "sudo maillages-edge diff": changes,
        "sudo maillages-edge apply": applied,
        "sudo maillages-edge test sms": sms,
        "sudo maillages-edge journal show": read_something,
        "sudo maillages-edge doctor": lambda command: place.healthy(command, running),
        "sudo install": pin,
    }
    typed = commands(FRENCH)
    assert len(typed) > 40
    for command in typed:
        found = next((name for name in special if command.startswith(name)), None)
        (special[found] if found else place.type)(command)
        if command.startswith("sudo systemctl"):
            running = " stop " not in command
    assert [change.on for change in place.siren.history] == [True, False] * 2
    servers.wait_until(lambda: f'AT+CPIN="{PIN}"' in place.modem.commands, 120, "the PIN at the modem")
    assert PIN not in place.toml.read_text() + "".join(place.said) + (place.units / "log").read_text()
    assert (place.home / "crue.csv").read_text().count("\n") > 3
    assert (place.home / "saved.csv").read_text().count("\n") > 3
    assert "huy-pont-du-hoyoux" in place.toml.read_text()


INSTALLATION = commands(FRENCH)[:5]


@pytest.mark.system
@pytest.mark.timeout(900)
@full
def test_from_an_empty_machine_to_an_answered_alarm_in_less_than_a_quarter_of_an_hour(place: Place) -> None:
    passphrase = enrolled(place)
    bundle, join, scan, init, restart = INSTALLATION
    place.install(bundle)
    joined(place, join, passphrase)
    place.type(scan)
    place.init(init)
    place.type(restart)
    servers.wait_until(place.stored, 60, "a stored reading")
    place.step("first reading stored at central")
    place.healthy("sudo maillages-edge doctor --gauge huy-pont-du-hoyoux/level-1=0.84", running=True)

    begun = time.monotonic()

    def seen(what: str, condition: Callable[[], bool], within_s: float) -> None:
        servers.wait_until(condition, within_s, what)
        place.step(f"alarm: {what}, {time.monotonic() - begun:.1f} s after the water")

    place.distance_m = 1.4  # 2.40 m: above all three thresholds
    seen("the siren sounds", place.siren.on, 30)
    seen("central has it", lambda: "UNACK" in place.site.central_said("alarms"), 60)
    sent = place.modem.messages
    seen("the gateway's own SMS has come", lambda: any("seuil local 3" in m.text for m in sent), 120)
    reference = re.search(r"OK ([0-9A-F]{5})", next(m.text for m in sent if "seuil local 3" in m.text))
    assert reference
    place.modem.incoming("+32470000001", f"OK {reference[1]}")
    seen("answered by SMS: the siren is silent", lambda: not place.siren.on(), 120)
    seen("central knows who", lambda: "jean" in place.site.central_said("alarms"), 60)
    assert place.steps[-1][0] < 15 * 60


MISTAKEN = """
[gateway]
id = "gw"
data_dir = "{tmp}/disk"
[mqtt]
host = "127.0.0.1"
port = {nobody}
[outputs.sms]
port = "{tmp}/gsm"
recipient = [{{ id = "a", phone = "+32470000001" }}]
[[station]]
id = "huy"
name = "Huy"
commune = "61031"
lat = 50.5
lon = 5.2
"""
SENSOR = '[[station.sensor]]\nid = "{}"\ndriver = "{}"\nport = "{}/{}"\n{}\n'
LEVEL = 'options = { model = "MB7389" }\nlevel = { mounting_height_m = 4.2 }\n'
NAMED = (
    ("ports", "ttyUSB7 is not there", "plugged in"),
    ("sensors", "huy/swapped: ", "A and B of RS485 swapped"),
    ("sensors", "huy/slow: ", "baudrate = 9600"),
    ("sensors", "huy/other: ", "unit = 3"),
    ("level", "huy/reversed: 2.7 m, the staff gauge 1.5 m: the sign is reversed", "take level = { … } out"),
    ("sms", "the SIM wants a PIN", "pin = "),
    ("disk", "is full: no reading can be kept", "journalctl --vacuum-size"),
    ("broker", "refuses the connection", "does Mosquitto run"),
)


@pytest.mark.system
@pytest.mark.timeout(600)
@full
def test_one_look_of_doctor_names_what_technicians_do_wrong(tmp_path: Path) -> None:
    """All mistakes at once, by the command itself. A clock in 1970 cannot be given to a process: test_doctor.py, test_join.py."""
    swapped = air(tmp_path / "swapped")
    swapped.trouble = Trouble(silent=True)
    devices = (
        swapped,
        level(tmp_path / "slow", kind=Slower),
        air(tmp_path / "other"),
        level(tmp_path / "reversed", 1.5),
    )
    toml = tmp_path / "edge.toml"
    toml.write_text(
        MISTAKEN.format(tmp=tmp_path, nobody=servers.free_port())
        + SENSOR.format("gone", "xy_md02", tmp_path, "ttyUSB7", "")
        + SENSOR.format("swapped", "xy_md02", tmp_path, "swapped", "options = { unit = 3 }")
        + SENSOR.format("slow", "maxbotix", tmp_path, "slow", f"baudrate = 19200\n{LEVEL}")
        + SENSOR.format("other", "xy_md02", tmp_path, "other", "options = { unit = 9 }")
        + SENSOR.format("reversed", "maxbotix", tmp_path, "reversed", LEVEL)
    )
    toml.chmod(0o600)
    command = [
        Path(sys.executable).parent / "maillages-edge",
        "doctor",
        "-c",
        toml,
        "--gauge",
        "huy/reversed=1.5",
        "--json",
    ]
    with small_disk(tmp_path / "disk", 1) as disk, contextlib.ExitStack() as stack:
        for device in (*devices, GsmModem(tmp_path / "gsm", pin=PIN)):
            device.start()
            stack.callback(device.stop)
        disk.fill()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for name, reason, remedy in NAMED:
        ours = [f for f in found if f["name"] == name and reason in f["reason"] and f["verdict"] == "bad"]
        assert ours, (name, reason, done.stdout)
        assert remedy in ours[0]["remedy"], ours

    expired = tmp_path / "gw-1.join"
    expired.write_text(seal(made().model_copy(update={"expires": "2026-11-01T00:00:00Z"}), PHRASE))
    join = [command[0], "join", expired, "-c", tmp_path / "none.toml", "--data-dir", tmp_path / "data"]
    done = subprocess.run(join, input=f"{PHRASE}\n", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "the join file expired on 2026-11-01" in done.stderr
    assert "--replace" in done.stderr
