"""No secret lies in the source tree, and none shows where a configuration is printed."""

import re
from pathlib import Path

import yaml

from edge.config import parsed

ROOT = Path(__file__).parents[1]
SHIPPED = ("wire", "common", "edge", "central", "demo", "grafana", "firmware-configs", "systemd", "scripts", "docs")
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{32}")


def test_what_is_shipped_holds_no_private_key_and_no_password() -> None:
    files = [path for name in SHIPPED for path in (ROOT / name).rglob("*") if path.is_file()]
    assert len(files) > 300
    assert [path for path in files if KEY.search(path.read_bytes())] == []
    example = yaml.safe_load((ROOT / "firmware-configs/esphome/secrets.example.yaml").read_text())
    assert {name: value for name, value in example.items() if "password" in name and value} == {}


def test_a_printed_configuration_shows_no_secret() -> None:
    config = parsed(
        """
[gateway]
id = "gw"
data_dir = "d"
[mqtt]
host = "h"
port = 1
username = "u"
password = "first secret"
[[network_server]]
name = "ttn"
driver = "ttn_v3"
url = "mqtts://h:8883"
password = "second secret"
[outputs.sms]
port = "/dev/gsm"
pin = "471100"
recipient = [{ id = "a", phone = "+32470000001" }]
""",
        "edge.toml",
    )
    assert config.outputs.sms
    assert config.outputs.sms.pin == "471100"
    assert "secret" not in repr(config)
    assert "471100" not in repr(config)
