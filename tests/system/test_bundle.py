"""A gateway installed and upgraded by bundles: real packages, the real `sh` and `openssl`, no network; below --root."""

import contextlib
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from central import bundle
from central.bundle import Wheels
from central.errors import ConfigError
from common.clock import Clock
from tests import servers
from tests.chain import FULL
from tests.system.test_alarms import EDGE
from wire.bundle import BundleRefused, check

pytestmark = pytest.mark.system
full = pytest.mark.skipif(not FULL, reason="three installations or more take a minute: MAILLAGES_FULL=1")

SOURCE = Path(__file__).parents[2]
KEY = Ed25519PrivateKey.generate()
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
OFFLINE = (
    ["unshare", "-n"]
    if os.geteuid() == 0 and not subprocess.run(["unshare", "-n", "true"], check=False).returncode
    else []
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return bundle.gather(SOURCE, tmp_path_factory.mktemp("wheels"), os.uname().machine, [HERE], None)


class Machine:
    """A directory that stands for a machine, and what its person types there."""

    def __init__(self, directory: Path, wheels: Wheels) -> None:
        self.directory, self.wheels = directory, wheels
        self.root, self.units = directory / "root", directory / "units"
        self.base = self.root / "opt/maillages"
        self.root.mkdir()
        self.units.mkdir()
        tools = directory / "tools"
        tools.mkdir()
        shutil.copy(SOURCE / "tests/fakes/systemctl", tools / "systemctl")
        self.environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "MAILLAGES_UNITS": str(self.units)}
        self._made_s = 1_790_000_000

    def bundle(self, wheels: Wheels | None = None, key: Ed25519PrivateKey = KEY, age_s: int = 0) -> Path:
        self._made_s += 60
        clock = Clock(walltime=lambda: float(self._made_s - age_s), trust="always")
        release, content = bundle.assemble(SOURCE, wheels or self.wheels, os.uname().machine, key, clock)
        path = self.directory / f"{release}.sh"
        path.write_bytes(content)
        return path

    def start(self, file: Path, *options: str) -> subprocess.Popen[str]:
        command = [*OFFLINE, "dash", str(file), "--root", str(self.root), "--python", sys.executable, *options]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def sh(self, file: Path, *options: str) -> tuple[int, str]:
        process = self.start(file, *options)
        said = process.communicate(timeout=300)[0]
        return process.returncode, said

    @property
    def current(self) -> str:
        return (self.base / "current").readlink().name

    def runs(self) -> bool:
        done = subprocess.run([self.base / "bin/maillages-edge", "drivers"], capture_output=True, check=False)
        return done.returncode == 0

    def pid(self) -> int:
        return int((self.units / "pid").read_text())


@pytest.fixture
def machine(tmp_path: Path, wheels: Wheels) -> Iterator[Machine]:
    there = Machine(tmp_path, wheels)
    yield there
    if (there.units / "pid").exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(there.pid(), signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def slim(wheels: Wheels, *left_out: str) -> Wheels:
    """Without packages that the test does not run: most of an installation is compiling."""
    texts = {
        python: "".join(line for line in text.splitlines(True) if not line.startswith(left_out))
        for python, text in wheels.requirements.items()
    }
    return Wheels(wheels.files, texts)


SPARE = ("setuptools",)
"""Of colorzero, never imported by what runs here."""
NOT_FOR_CHECK = (
    *SPARE,
    "pymodbus",
    "cryptography",
    "cffi",
    "pycparser",
    "gpiozero",
    "tzdata",
)


def broken(wheels: Wheels) -> Wheels:
    """The same, but the gateway of it ends at once when it is run; its command line answers."""
    name = next(n for n in wheels.files if n.startswith("maillages-"))
    path = Path("edge/service.py")
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheels.files[name])) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.namelist():
            text = old.read(item)
            if item == str(path):
                text = text.replace(
                    b"    data = config.gateway.data_dir\n    try:", b"    raise SystemExit(3)\n    try:", 1
                )
                assert b"SystemExit(3)" in text
            new.writestr(item, text)
    content = out.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    texts = {
        python: re.sub(r"^(maillages==\S+ --hash=sha256:)\w+", rf"\g<1>{digest}", text, flags=re.MULTILINE)
        for python, text in wheels.requirements.items()
    }
    return Wheels(wheels.files | {name: content}, texts)


def test_it_installs_with_no_network_and_refuses_what_it_must(machine: Machine) -> None:
    machine.wheels = slim(machine.wheels, *NOT_FOR_CHECK)
    first = machine.bundle()
    content = first.read_bytes()
    torn = machine.directory / "torn.sh"
    for length in (len(content) // 2, len(content) - 1, 3000):
        torn.write_bytes(content[:length])
        assert machine.sh(torn)[0] != 0
        assert not (machine.base / "current").exists()
    code, said = machine.sh(first)
    assert code == 0, said
    assert machine.runs()
    old = machine.current

    edge_toml = machine.root / "etc/maillages/edge.toml"
    edge_toml.parent.mkdir(parents=True, exist_ok=True)
    edge_toml.write_text(f'[gateway]\nid = "gw-1"\ndata_dir = "{machine.directory}"\nwhat = 1\n')
    code, said = machine.sh(first)
    assert (code, "gateway.what: unknown key" in said, "does not take the configuration" in said) == (2, True, True), (
        said
    )
    edge_toml.write_text(edge_toml.read_text().replace("what = 1\n", ""))
    code, said = machine.sh(first)
    assert code == 0, said

    changed = machine.directory / "changed.sh"
    changed.write_bytes(content.replace(b"# For the technician", b"# For the Technician", 1))
    for file, why in (
        (changed, "not what was signed"),
        (machine.bundle(key=Ed25519PrivateKey.generate()), "is signed by"),
        (machine.bundle(age_s=86400), "older"),
    ):
        code, said = machine.sh(file)
        assert (code, why in said) == (2, True), said
        assert machine.current == old
    code, said = machine.sh(machine.bundle(age_s=86400), "--downgrade")
    assert (code, "person" in said) == (2, True), said


@full
@pytest.mark.timeout(900)
def test_killed_at_each_step_the_old_version_still_runs(machine: Machine) -> None:
    machine.wheels = slim(machine.wheels, *NOT_FOR_CHECK)
    assert machine.sh(machine.bundle())[0] == 0
    old = machine.current
    second = machine.bundle()
    new = machine.base / second.stem
    for reached in (
        lambda: (machine.base / ".work/body").exists(),
        lambda: (new / "bin/python").exists(),
        lambda: any(new.glob("lib/*/site-packages/edge")),
        lambda: (new / "complete").exists(),
    ):
        process = machine.start(second)
        until(reached)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert machine.current in (old, new.name)
        assert machine.runs()
    assert machine.sh(second)[0] == 0
    assert machine.current == new.name
    assert machine.runs()


@full
@pytest.mark.timeout(900)
def test_an_upgrade_that_is_not_healthy_goes_back_and_one_cut_off_is_judged_later(machine: Machine) -> None:
    machine.wheels = slim(machine.wheels, *SPARE)
    assert machine.sh(machine.bundle())[0] == 0
    old = machine.current
    (machine.root / "run/systemd/system").mkdir(parents=True)
    config = machine.root / "etc/maillages/edge.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(EDGE.format(tmp=machine.directory, nobody=servers.free_port()))
    subprocess.run(
        [machine.directory / "tools/systemctl", "restart", "maillages-edge"], env=machine.environment, check=True
    )
    assert (machine.units / "ready").exists()

    upgrade = [machine.base / "bin/maillages-edge", "upgrade", "--root", machine.root, "--python", sys.executable]
    bad = machine.bundle(broken(machine.wheels))
    done = subprocess.run([*upgrade, bad], env=machine.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "not healthy" in done.stdout) == (1, True), done.stdout + done.stderr
    assert machine.current == old
    until(lambda: (machine.units / "ready").read_text() == str(machine.pid()))

    forged = machine.directory / "forged.sh"
    forged.write_bytes(b"#!/bin/sh\ntouch " + bytes(machine.directory / "ran") + b"\n")
    done = subprocess.run([*upgrade, forged], env=machine.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "no signature" in done.stderr) == (2, True)
    assert not (machine.directory / "ran").exists()

    # The power is cut when it has been switched and nobody has judged yet; at the next start the unit does.
    good = machine.bundle()
    machine.environment["MAILLAGES_TRIAL"] = "no"
    process = machine.start(good)
    until(lambda: machine.current == good.stem and (machine.units / "ready").read_text() == str(machine.pid()))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (machine.base / "trial").exists()
    machine.environment["MAILLAGES_TRIAL"] = "yes"
    subprocess.run(
        [machine.directory / "tools/systemctl", "restart", "maillages-trial"], env=machine.environment, check=True
    )
    until(lambda: not (machine.base / "trial").exists())
    assert (machine.base / "verdict").read_text() == f"healthy {good.stem}\n"
    assert machine.current == good.stem


@full
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("architecture", "python", "without", "missing"),
    [
        ("aarch64", "3.11", (), ""),
        ("aarch64", "3.13", ("lgpio",), ""),
        ("aarch64", "3.13", (), "lgpio"),
        ("armv7l", "3.11", (), "cffi"),
    ],
)
def test_the_wheels_of_other_machines_are_found_or_named(
    tmp_path: Path, architecture: str, python: str, without: tuple[str, ...], missing: str
) -> None:
    def gathered(own: Path | None, directory: str) -> Wheels:
        return bundle.gather(SOURCE, tmp_path / directory, architecture, [python], own, without=without)

    if missing:
        with pytest.raises(ConfigError) as refused:
            gathered(None, "first")
        lines = [line.split()[0] for line in str(refused.value).splitlines()[:-1]]
        assert lines == [missing]
        own = tmp_path / "own"  # a wheel that somebody made on such a machine
        own.mkdir()
        tag = f"cp{python.replace('.', '')}"
        version = bundle.pins(SOURCE)[missing].version
        with zipfile.ZipFile(own / f"{missing}-{version}-{tag}-{tag}-linux_{architecture}.whl", "w") as made:
            made.writestr(f"{missing}-{version}.dist-info/METADATA", f"Name: {missing}\nVersion: {version}\n")
            made.writestr(
                f"{missing}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}-{tag}-linux_{architecture}\n"
            )
        found = gathered(own, "second")
    else:
        found = gathered(None, "first")
    text = found.requirements[python]
    assert "cryptography==" in text
    assert ("lgpio==" in text) == (not without)
    native = [name for name in found.files if "-none-any" not in name]
    assert native
    assert all(architecture in name for name in native), native


def test_a_signature_is_of_the_whole_file_and_of_one_signer() -> None:
    content = bundle.assemble(SOURCE, Wheels({}, {}), "x86_64", KEY, Clock(trust="always"))[1]
    signer = content.split()[-2].decode()
    check(content, signer)
    for wrong, by in ((content[:-1], signer), (b"x" + content, signer), (content, "A" * 44), (b"", signer)):
        with pytest.raises(BundleRefused):
            check(wrong, by)
