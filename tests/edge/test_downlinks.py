"""Settings of LoRaWAN sensors: the makers' own examples, and what they cannot have."""

import json

import pytest
from typer.testing import CliRunner

from edge.cli import app
from edge.radio._downlinks import report_every, restart


@pytest.mark.parametrize(
    ("model", "interval_s", "port", "payload"),
    [
        ("LDDS75", 60, 1, "0100003c"),  # LT Series User Manual 3.4: 0100003C is 60 s
        ("dds75-lb", 600, 1, "01000258"),
        ("EM500-UDL", 1200, 85, "ff03b004"),  # EM500 downlink commands: 20 minutes
        ("EM300-TH", 1200, 85, "ff03b004"),
        ("AM307", 64800, 85, "ff0320fd"),
        ("EM410-RDL", 1200, 85, "ff8e001400"),  # VS350 downlink commands, which share it: 20 minutes
    ],
)
def test_an_interval_is_the_bytes_of_the_maker(model: str, interval_s: int, port: int, payload: str) -> None:
    assert report_every(model, interval_s) == (port, bytes.fromhex(payload))


@pytest.mark.parametrize(("model", "payload"), [("PS-LB", "04ff"), ("EM500-SWL", "ff10ff"), ("EM400-MUD", "ff10ff")])
def test_a_restart(model: str, payload: str) -> None:
    assert restart(model).payload.hex() == payload


@pytest.mark.parametrize(
    ("model", "interval_s", "why"),
    [
        ("LDDS75", 30, "expected at least 60"),
        ("EM500-UDL", 70000, "takes at most 64800"),
        ("EM410-RDL", 90, "expected a multiple of 60"),
        ("EM400-MUD", 600, "set it by NFC"),
        ("LDDS", 600, "is not known, expected a Dragino"),
    ],
)
def test_what_a_model_cannot_have_is_refused(model: str, interval_s: int, why: str) -> None:
    done = CliRunner().invoke(app, ["radio", "downlink", model, "--interval-s", str(interval_s)])
    assert done.exit_code == 2
    assert why in " ".join(done.output.split())


def test_it_is_printed_for_both_network_servers_and_for_programs() -> None:
    done = CliRunner().invoke(app, ["radio", "downlink", "DDS75-LB", "--interval-s", "600"])
    assert '"fPort": 1, "data": "AQACWA=="' in done.output
    assert '"f_port": 1, "frm_payload": "AQACWA=="' in done.output
    done = CliRunner().invoke(app, ["radio", "downlink", "DDS75-LB", "--interval-s", "600", "--json"])
    assert json.loads(done.output) == {"model": "DDS75-LB", "fport": 1, "hex": "01000258", "base64": "AQACWA=="}
