"""Bundles: one file that installs a gateway without a network (`sh FILE`), made from the source tree.

Packages are those that requirements.lock pins, with its hashes, and bundle.lock for what a gateway alone needs; wheels only.
The file is systemd/install.sh, a tar archive and a signature (wire.bundle).
"""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from central.errors import ConfigError
from common.clock import Clock
from wire.bundle import signed

ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
PYTHONS = ("3.11", "3.13")
"""Of Debian 12 and 13."""
_GLIBC = range(36, 16, -1)
"""Debian 12 has glibc 2.36; Raspberry Pi OS is Debian (PEP 600 for the names)."""


class NoWheel(ConfigError):
    """The index has no wheel of that version for that machine."""


class Pin(NamedTuple):
    """A package of the lock files: its version, and the SHA-256 of each of its files."""

    version: str
    hashes: frozenset[str]


class Wheels(NamedTuple):
    """The files of a bundle, and for each Python its requirements file."""

    files: dict[str, bytes]
    requirements: dict[str, str]


def pins(source: Path) -> dict[str, Pin]:
    """Of both lock files. Raises ConfigError when one cannot be read."""
    found: dict[str, Pin] = {}
    for name in ("requirements.lock", "systemd/bundle.lock"):
        try:
            text = (source / name).read_text()
        except OSError as e:
            raise ConfigError(
                f"{e.filename}: cannot be read: {e.strerror}; expected --source with the source tree"
            ) from e
        for package, version, hashes in re.findall(r"^([\w.-]+)==(\S+)((?: \\\n +--hash=\S+)*)", text, re.MULTILINE):
            found[canonicalize_name(package)] = Pin(version, frozenset(re.findall(r"sha256:(\w+)", hashes)))
    return found


def gather(
    source: Path,
    work: Path,
    architecture: str,
    pythons: Sequence[str],
    own: Path | None,
    fetch_s: float = 600,
    without: Collection[str] = (),
) -> Wheels:
    """Fetch the wheels of a gateway from the package index, into the empty directory `work`.

    `own`: a directory with wheels that the index does not have, taken first; they are not checked against a lock. `without`:
    packages that are left out, and what only they need.
    Raises ConfigError naming each package without a wheel.
    """
    known = pins(source)
    _run("wheel", "--quiet", "--no-deps", "--wheel-dir", str(work / "project"), str(source), timeout_s=fetch_s)
    project = next((work / "project").glob("maillages-*.whl"))
    files, requirements, missing = {project.name: project.read_bytes()}, {}, []
    for python in pythons:
        environment = {
            "platform_machine": architecture,
            "python_version": python,
            "python_full_version": f"{python}.0",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        wanted = [f"maillages=={parse_wheel_filename(project.name)[1]} --hash=sha256:{_sha256(project)}"]
        seen = {"maillages", *map(canonicalize_name, without)}
        wave = ["pip", *_needs(project, {"edge"}, environment)]
        while wave := [name for name in dict.fromkeys(wave) if name not in seen]:
            seen |= set(wave)
            if unknown := [name for name in wave if name not in known]:
                raise ConfigError(
                    f"{unknown[0]}: expected a pin in requirements.lock or systemd/bundle.lock, found none"
                )
            got = _wheels({name: known[name] for name in wave}, work / python, architecture, python, own, fetch_s)
            missing += [
                f"{name} {known[name].version} has no wheel for {architecture} and Python {python}"
                for name in wave
                if name not in got
            ]
            wave = []
            for name, wheel in got.items():
                files[wheel.name] = wheel.read_bytes()
                if name != "pip":
                    wanted.append(f"{name}=={known[name].version} --hash=sha256:{_sha256(wheel)}")
                wave += _needs(wheel, set(), environment)
        requirements[python] = "\n".join(sorted(wanted)) + "\n"
    if missing:
        raise ConfigError(
            "\n".join(missing)
            + "\nmake it on such a machine (`pip wheel --no-deps NAME==VERSION`), or take it from piwheels.org, and name its"
            " directory: --wheels DIR"
        )
    return Wheels(files, requirements)


def assemble(
    source: Path,
    wheels: Wheels,
    architecture: str,
    key: Ed25519PrivateKey,
    clock: Clock,
    join: Path | None = None,
) -> tuple[str, bytes]:
    """The release's name and the file. A release is its version and the time of its making: what is older is refused."""
    version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    build = datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y%m%d%H%M%S")
    release = f"{version}-{build}"
    files = {f"wheels/{name}": content for name, content in wheels.files.items()}
    files |= {f"requirements-{python}.txt": text.encode() for python, text in wheels.requirements.items()}
    for directory, name in (("systemd", "systemd"), ("docs", "doc")):
        for path in sorted((source / directory).rglob("*")):
            if path.is_file() and path.suffix != ".png":
                files[f"{name}/{path.relative_to(source / directory)}"] = path.read_bytes()
    if join is not None:
        files[f"join/{join.name}"] = join.read_bytes()
    head = {"release": release, "version": version, "build": build, "arch": architecture}
    head["python"] = ",".join(wheels.requirements)
    lines = [f"{name}={value}" for name, value in head.items()]
    lines += [f"sha256 {hashlib.sha256(content).hexdigest()}  {name}" for name, content in sorted(files.items())]
    files["manifest"] = ("\n".join(lines) + "\n").encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600 if name.startswith("join/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    script = (source / "systemd/install.sh").read_text()
    script = script.replace("@LINES@", str(script.count("\n") + 1), 1)
    return release, signed(script.encode() + archive.getvalue(), key)


def _wheels(
    wanted: dict[str, Pin], into: Path, architecture: str, python: str, own: Path | None, fetch_s: float
) -> dict[str, Path]:
    """The pinned wheels, without those that do not exist."""
    into.mkdir(parents=True, exist_ok=True)
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in _GLIBC] + [f"linux_{architecture}"]
    asked = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(into)]
    asked += ["--python-version", python, "--implementation", "cp"]
    asked += [word for platform in platforms for word in ("--platform", platform)]

    def fetch(names: list[str]) -> None:
        listed = into / "requirements.txt"
        lines = (
            " ".join([f"{name}=={wanted[name].version}", *(f"--hash=sha256:{h}" for h in sorted(wanted[name].hashes))])
            for name in names
        )
        listed.write_text("\n".join(lines) + "\n")
        _run(*asked, "--require-hashes", "-r", str(listed), timeout_s=fetch_s)

    rest = dict(wanted)
    for name, pin in wanted.items() if own is not None else ():
        try:
            _run(*asked, "--no-index", "--find-links", str(own), f"{name}=={pin.version}", timeout_s=fetch_s)
        except NoWheel:
            continue
        del rest[name]
    try:
        if rest:
            fetch(list(rest))
    except NoWheel:  # of which?
        for name in rest:
            try:
                fetch([name])
            except NoWheel:
                continue
    found = {str(parse_wheel_filename(path.name)[0]): path for path in into.glob("*.whl")}
    return {name: found[name] for name in wanted if name in found}


def _needs(wheel: Path, extras: set[str], environment: dict[str, str]) -> list[str]:
    """Names of what a wheel requires there (core metadata, PEP 508)."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA"))
        fields = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
    found = []
    for field in fields:
        needed = Requirement(field)
        if needed.marker is None or any(needed.marker.evaluate(environment | {"extra": e}) for e in extras | {""}):
            found.append(str(canonicalize_name(needed.name)))
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(*arguments: str, timeout_s: float) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"the package index did not answer within {timeout_s:g} s") from None
    if "No matching distribution" in done.stderr:
        raise NoWheel(done.stderr.strip()[-800:])
    if done.returncode:
        raise ConfigError(f"pip {arguments[0]}: {done.stderr.strip()[-800:]}")
