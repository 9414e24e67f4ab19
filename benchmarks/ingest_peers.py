"""Other ways from MQTT to InfluxDB, with the same packs: Node-RED with its InfluxDB nodes, and Telegraf.

Node-RED comes from npm into a directory of its own (`benchmarks.ingest --setup`). Telegraf is in no registry: its program is named
by `--telegraf`, built from its source with `go build -tags "custom,inputs.mqtt_consumer,outputs.influxdb,parsers.json_v2"
./cmd/telegraf`. Both do less than central: no sequence numbers, no receipts, no register of stations; Telegraf does not resolve the
SenML base name either.
"""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.common import Program, tool_version
from tests import servers

NODE_RED = Path("~/.cache/maillages-bench/node-red").expanduser()
PACKAGES = ("node-red@4.1.15", "node-red-contrib-influxdb@0.7.0")
DATABASE = "peer"

_POINTS = """
let base = "";
msg.payload = msg.payload.map(r => {
    base = r.bn || base;
    const [station, sensor, quantity] = (base + r.n).split("/");
    return {measurement: quantity, tags: {gateway: msg.topic.split("/")[2], station, sensor},
            fields: {value: r.v}, timestamp: new Date(Math.round(r.t * 1000))};
});
return msg;
"""
_TELEGRAF = """
[agent]
  interval = "1s"
  flush_interval = "1s"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{broker}"]
  topics = ["maillages/v1/+/readings"]
  qos = 1
  client_id = "telegraf"
  max_undelivered_messages = 1000
  topic_tag = "topic"
  data_format = "json_v2"
  [[inputs.mqtt_consumer.json_v2]]
    measurement_name = "water_level"
    [[inputs.mqtt_consumer.json_v2.object]]
      path = "@this"
      timestamp_key = "t"
      timestamp_format = "unix"
      included_keys = ["n", "v", "t"]
      tags = ["n"]
      [inputs.mqtt_consumer.json_v2.object.renames]
        v = "value"
[[outputs.influxdb]]
  urls = ["{influx}"]
  database = "{database}"
  skip_database_creation = true
"""


def setup_node_red(directory: Path = NODE_RED) -> None:
    """Node-RED and its InfluxDB nodes, from npm."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES], cwd=directory, check=True
    )


def node_red(tmp: Path, broker: int, influx: servers.Influxd, directory: Path = NODE_RED) -> tuple[Program, str]:
    """Started; and what its log says once it is at the broker."""
    home = tmp / "node-red"
    home.mkdir()
    (home / "node_modules").symlink_to(directory / "node_modules")
    shutil.copy(directory / "package.json", home)
    (home / "settings.js").write_text(
        f'module.exports = {{uiPort: {servers.free_port()}, uiHost: "127.0.0.1", telemetry: {{enabled: false}}}};\n'
    )
    nodes = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {
            "id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": str(broker), "clientid": "node-red",
            "autoConnect": True, "usetls": False, "protocolVersion": "5", "keepalive": "60", "cleansession": True,
        },
        {
            "id": "influx", "type": "influxdb", "hostname": "127.0.0.1", "port": str(influx.port), "protocol": "http",
            "database": DATABASE, "influxdbVersion": "1.x",
        },
        {
            "id": "in", "z": "tab", "type": "mqtt in", "topic": "maillages/v1/+/readings", "qos": "1", "datatype": "json",
            "broker": "broker", "inputs": 0, "wires": [["points"]],
        },
        {"id": "points", "z": "tab", "type": "function", "func": _POINTS, "outputs": 1, "wires": [["out"]]},
        {"id": "out", "z": "tab", "type": "influxdb batch", "influxdb": "influx", "precision": "ms", "wires": []},
    ]  # fmt: skip
    (home / "flows.json").write_text(json.dumps(nodes))
    red = directory / "node_modules" / "node-red" / "red.js"
    command = ["node", red, "-u", home, "-s", home / "settings.js", home / "flows.json"]
    return Program(command, home / "log"), "Connected to broker"


def telegraf(tmp: Path, broker: int, influx: servers.Influxd, program: Path) -> tuple[Program, str]:
    """Started; and what its log says once it is at the broker."""
    home = tmp / "telegraf"
    home.mkdir()
    config = home / "telegraf.conf"
    config.write_text(_TELEGRAF.format(broker=broker, influx=influx.url, database=DATABASE))
    return Program([program, "--config", config], home / "log"), "Connected ["


def versions(program: Path | None) -> dict[str, str]:
    found = {"node": tool_version("node", "--version"), "node-red": PACKAGES[0].partition("@")[2]}
    return found | ({"telegraf": tool_version(str(program), "--version")} if program else {})
