"""The ESPHome nodes: what their C++ says is compiled and given to central; the files pass ESPHome's own check where it is there."""

import json
import math
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from central.store.embedded import Embedded
from tests import servers
from tests.chain import Program
from wire import senml
from wire.quantities import QUANTITIES
from wire.station import GatewayStatus, Stations, parse_as

NODES = Path(__file__).parents[2] / "firmware-configs/esphome"
MAIN = """
#include "maillages.h"
#include <cstdlib>
#include <iostream>
int main(int, char **a) {
  if (std::string(a[1]) == "status") std::cout << maillages::status(a[2], std::atoll(a[3]), a[4]);
  else std::cout << maillages::pack(a[1], a[2], a[3], a[4], std::strtof(a[5], nullptr), std::atoll(a[6]));
}
"""


class _Loader(yaml.SafeLoader):
    """ESPHome's own tags are left as their text."""


_Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))


def load(name: str) -> Any:
    return yaml.load((NODES / name).read_text(), _Loader)  # noqa: S506 - a SafeLoader


def description(name: str) -> str:
    given = load(name)["substitutions"]
    text: str = given["description"]
    while "${" in text:
        for key, value in given.items():
            text = text.replace(f"${{{key}}}", value)
    return text


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`node(...)` is what the node's C++ says."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    directory = tmp_path_factory.mktemp("node")
    (directory / "main.cpp").write_text(MAIN)
    program = directory / "node"
    subprocess.run(
        [compiler, "-std=c++11", "-Wall", "-Werror", f"-I{NODES}", "-o", program, directory / "main.cpp"], check=True
    )

    def say(*words: object) -> str:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=True)
        return done.stdout

    return say


@pytest.mark.parametrize("value", [0.0, 1.234, -12.5, 4.5e-4, 12345.678])
def test_a_reading_is_a_pack_of_one_record(node: Any, value: float) -> None:
    said = node("hoyoux-huy", "level", "water_level", "m", value, 1_795_000_000)
    (record,) = senml.resolve(senml.from_json(said.encode()), now_s=1_795_000_000)
    assert (record.name, record.unit, record.time) == ("hoyoux-huy/level/water_level", "m", 1_795_000_000)
    assert record.value == pytest.approx(value, rel=1e-6, abs=5e-5)


@pytest.mark.parametrize(
    ("value", "time_s"), [(math.nan, 1_795_000_000), (math.inf, 1_795_000_000), (1.0, 0), (1.0, 86400)]
)
def test_no_value_or_no_time_is_no_reading(node: Any, value: float, time_s: int) -> None:
    assert node("s", "level", "water_level", "m", value, time_s) == ""


@pytest.mark.parametrize("name", ["level.yaml", "air.yaml"])
def test_what_a_node_sends_is_what_it_describes(name: str) -> None:
    stations = parse_as(Stations, description(name).encode()).stations
    described = {
        (sensor.id, quantity.quantity) for s in stations for sensor in s.sensors for quantity in sensor.quantities
    }
    sent = set()

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if {"sensor", "quantity", "unit"} <= part.keys():
                sent.add((part["sensor"], part["quantity"]))
                assert part["unit"] == QUANTITIES[part["quantity"]].unit
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(load(name))
    assert sent == described


def test_no_secret_stands_in_the_files() -> None:
    for path in NODES.glob("*.yaml"):
        for line in path.read_text().splitlines():
            if any(word in line for word in ("password:", "ssid:", "mqtt_key", "client_certificate_key:")):
                assert "!secret" in line or path.name == "secrets.example.yaml", f"{path.name}: {line}"


@pytest.mark.parametrize("name", ["level.yaml", "air.yaml"])
def test_esphome_accepts_the_files(name: str, tmp_path: Path) -> None:
    esphome = shutil.which("esphome")
    if esphome is None:
        pytest.skip("no esphome here: it needs an environment of its own (firmware-configs/esphome/README.md)")
    for path in NODES.iterdir():
        shutil.copy(path, tmp_path)
    pem = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "-", "-subj", "/CN=x"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    key, certificate = (
        pem[pem.index(f"-----BEGIN {what}") :].split("-----\n\n")[0] for what in ("PRIVATE", "CERTIFICATE")
    )
    key = key[: key.index("-----BEGIN CERTIFICATE")] if "-----BEGIN CERTIFICATE" in key else key
    secrets = {"wifi_ssid": "a", "wifi_password": "long enough", "ota_password": "x", "mqtt_broker": "b.example"}
    secrets |= {"mqtt_ca": certificate, "mqtt_certificate": certificate, "mqtt_key": key}
    (tmp_path / "secrets.yaml").write_text(json.dumps(secrets))
    done = subprocess.run([esphome, "config", name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


CENTRAL = """
data_dir = "{data}"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "embedded"
[web]
port = {web}
[[station]]
id = "hoyoux-exemple"
gateway = "node-level-01"
commune = "61031"
name = "Niveau, exemple"
"""


@pytest.mark.system
def test_central_stores_what_a_node_sends_by_mqtt_3(node: Any, tmp_path: Path) -> None:
    config = tmp_path / "central.toml"
    with servers.mosquitto(tmp_path) as broker:
        config.write_text(CENTRAL.format(data=tmp_path / "central", broker=broker.port, web=servers.free_port()))
        central = Program("maillages-central", config, tmp_path / "central.log")
        central.start()
        client = Client(CallbackAPIVersion.VERSION2, "node-level-01", protocol=MQTTv311)
        try:
            servers.wait_until(lambda: central.said("connected") > 0, 30, "central at the broker")
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
            now = int(time.time())
            root = "maillages/v1/node-level-01"
            status = node("status", "esphome 2026.6", now, "2026-11-24T22:00:00Z")
            parse_as(GatewayStatus, status.encode())
            for topic, payload in (("stations", description("level.yaml")), ("status", status)):
                client.publish(f"{root}/{topic}", payload, 1, retain=True).wait_for_publish(10)
            path = tmp_path / "central/store.db"
            servers.wait_until(path.exists, 20, "the store")
            store = Embedded(path)
            store.setup()
            tags = {"gateway": "node-level-01", "station": "hoyoux-exemple", "sensor": "level"}

            def stored() -> bool:
                """Until central has subscribed what it sends is nobody's, and it does not learn that."""
                reading = node("hoyoux-exemple", "level", "water_level", "m", 0.0, now)
                client.publish(f"{root}/readings", reading, 1).wait_for_publish(10)
                return store.last("water_level", tags) is not None

            servers.wait_until(stored, 20, "the reading in the store")
            assert store.last("water_level", tags) == (now * 1000, 0.0)
            store.close()
        finally:
            client.disconnect()
            client.loop_stop()
            central.kill9()
