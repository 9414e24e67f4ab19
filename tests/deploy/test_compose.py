"""compose.yaml: its form by the schema of the Compose specification (compose-spec.json, Apache 2.0, as check-jsonschema 0.39 carries
it), what it names, and its commands on real programs. There is no Docker here: images, mounts and users are read, not run."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from central.authority import Authority, new_key
from common.clock import Clock
from tests import servers
from tests.chain import Program

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
TOML = (DEPLOY / "etc/central.toml").read_text(encoding="utf-8")
CREDENTIALS = "./etc/credentials/"
each_service = pytest.mark.parametrize("name", SERVICES)


def binds(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source and target of every mount."""
    return [(source, target) for source, target, *_ in (volume.split(":") for volume in service.get("volumes", []))]


def test_it_is_a_compose_file() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8"))
    faults = [f"{'.'.join(map(str, e.path))}: {e.message}" for e in Draft202012Validator(schema).iter_errors(COMPOSE)]
    assert faults == []


@each_service
def test_images_are_pinned_by_a_whole_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+", SERVICES[name]["image"])
    assert re.search(r"^FROM debian:\d+\.\d+-slim$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


@each_service
def test_what_a_service_mounts_is_there(name: str) -> None:
    for source, _ in binds(SERVICES[name]):
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]
    for secret in SERVICES[name].get("secrets", []):
        assert COMPOSE["secrets"][secret]["file"] == CREDENTIALS + secret


@each_service
def test_a_service_has_no_secret_in_its_environment_and_few_rights(name: str) -> None:
    service = SERVICES[name]
    for key, value in service.get("environment", {}).items():
        if re.search("PASSWORD|TOKEN|KEY", key):
            assert value.startswith("/run/secrets/"), key
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name != "admin":
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


def test_only_what_people_and_gateways_use_is_published() -> None:
    published = {port for service in SERVICES.values() for port in service.get("ports", [])}
    assert published == {"8883:8883", "443:8443", "3000:3000"}


def test_grafana_gets_every_variable_that_its_provisioning_names() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "grafana/provisioning").rglob("*.*"))
    given = set(SERVICES["grafana"]["environment"]) | {"MAILLAGES_INFLUX_PASSWORD", "MAILLAGES_CENTRAL_TOKEN"}
    assert set(re.findall(r"\$\{?(MAILLAGES_\w+)", text)) <= given
    for name in ("MAILLAGES_INFLUX_PASSWORD=", "MAILLAGES_CENTRAL_TOKEN="):
        assert name in SERVICES["grafana"]["entrypoint"][-1]
    boards = (ROOT / "grafana/provisioning/dashboards/maillages.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(boards)["providers"][0]["options"]["path"] in {
        target for _, target in binds(SERVICES["grafana"])
    }


def test_the_image_contains_every_package_of_ours() -> None:
    copied = set(re.findall(r"^COPY (\S+) /src/\1$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^packages = (\[.*\])$", project, re.MULTILINE)
    assert packages
    assert {*json.loads(packages[1]), "firmware-configs"} == copied


@pytest.mark.system
def test_its_commands_bring_up_broker_database_and_central(tmp_path: Path) -> None:
    """As the administrator's page has it, with the paths, ports and host names of this machine in place of the containers'."""
    credentials, loaded = tmp_path / "etc/credentials", tmp_path / "loaded"
    for directory in (credentials, loaded, tmp_path / "ca", tmp_path / "influx"):
        directory.mkdir(parents=True)
    ports = {"8883": servers.free_port(), "8884": servers.free_port(), "8443": servers.free_port()}
    places = {"/etc/maillages": f"{tmp_path}/etc", "/var/lib/maillages-central": f"{tmp_path}/central",
              "/var/lib/mosquitto/maillages": f"{tmp_path}/broker"}  # fmt: skip
    environment = os.environ | {"CREDENTIALS_DIRECTORY": str(loaded)}

    def here(text: str) -> str:
        for there, place in places.items():
            text = text.replace(there, place)
        return re.sub(rf"\b({'|'.join(ports)})\b", lambda found: str(ports[found[1]]), text)

    def admin(*arguments: str) -> None:
        command = [*SERVICES["admin"]["entrypoint"], *map(here, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        for made in credentials.iterdir():  # what the directory holds, as CREDENTIALS_DIRECTORY has it
            link = loaded / f"credentials_{made.name}"
            if not link.exists():
                link.symlink_to(made)

    (credentials / "smtp").write_text("geheim\n")
    public, key = new_key()
    clock = Clock(trust="always")
    authority = Authority.create(tmp_path / "page-ca", "passphrase of this test", clock)
    (credentials / "page.key").write_text(key)
    (credentials / "page.pem").write_text(authority.server(["localhost"], public, clock).pem)
    with servers.influxd(tmp_path / "influx") as influx:
        toml = here(TOML).replace('host = "broker"', 'host = "localhost"').replace("http://influxdb:8086", influx.url)
        (tmp_path / "etc/central.toml").write_text(toml)
        admin("keygen", "/etc/maillages/credentials/commands.pem")
        admin("influx", "setup", "--url", influx.url, "--credentials", "/etc/maillages/credentials")
        admin("broker", "/var/lib/mosquitto/maillages", "-c", "/etc/maillages/central.toml", "--user", "root")
        broker = servers.Mosquitto(
            list(map(here, SERVICES["broker"]["command"])), ports["8883"], tmp_path / "broker.log",
            lambda: all(map(servers.accepts, (ports["8883"], ports["8884"]))),
        )  # fmt: skip
        central = Program("maillages-central", tmp_path / "etc/central.toml", tmp_path / "central.log", environment)
        assert central.command == ["maillages-central", "run", "-c", here("/etc/maillages/central.toml")]
        broker.start()
        try:
            central.start()

            def healthy(name: str) -> bool:
                _, *check = SERVICES[name]["healthcheck"]["test"]
                return subprocess.run(list(map(here, check)), capture_output=True, check=False).returncode == 0

            try:
                servers.wait_until(lambda: servers.accepts(ports["8443"]), 60, "central's page")
                servers.wait_until(lambda: healthy("central"), 60, "central's health check")
                assert healthy("broker")
                servers.wait_until(lambda: "central-readings" in broker.log.read_text(), 60, "central at the broker")
            finally:
                assert central.terminate() == 0
            assert not healthy("central")
        finally:
            broker.stop()
