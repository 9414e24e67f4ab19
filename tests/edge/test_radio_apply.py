"""`maillages-edge radio apply` and `plan`: the four families' modems on real ptys, new, set up, deaf and stubborn."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.clock import Clock
from edge.cli import app
from edge.emulators.ebyte_e22 import EbyteE22
from edge.emulators.log import DeviceLog
from edge.emulators.rak3172 import Rak3172
from edge.emulators.rn2483 import Rn2483
from edge.emulators.rylr998 import Rylr896, Rylr998
from tests.edge.test_modems import E22_AS_SET, RN2483_AS_SET, Told

MODEMS = {"rak3172": Rak3172, "rn2483": Rn2483, "ebyte_e22": EbyteE22, "rylr896": Rylr896, "rylr998": Rylr998}
CONFIGS = Path(__file__).parents[2] / "firmware-configs"


@pytest.fixture
def modem(tmp_path, plug):
    def plugged(driver, ready=lambda _: None):
        device = type(driver, (Told, MODEMS[driver]), {})(tmp_path / "tty", (), clock=Clock(), log=DeviceLog())
        ready(device)
        plug(device)
        return device

    return plugged


def apply(driver, port):
    done = CliRunner().invoke(app, ["radio", "apply", f"{driver}-eu868", str(port), "--json"])
    return done, [json.loads(line) for line in done.stdout.splitlines()]


def high(device):
    """M1 by hand, as for a new E22."""
    if isinstance(device, EbyteE22):
        device.m1 = True


@pytest.mark.parametrize("driver", sorted(MODEMS))
def test_a_new_modem_is_set_and_read_back_and_the_next_time_nothing_is_written(driver, modem):
    device = modem(driver, high)
    done, first = apply(driver, device.path)
    assert done.exit_code == 0, done.stderr
    assert all(setting["good"] for setting in first)
    changed = [setting for setting in first if setting["written"]]
    assert changed
    assert all(setting["before"] != setting["after"] for setting in changed)
    assert f"{len(changed)} of {len(first)} written and read back" in done.stderr
    if driver == "rn2483":
        assert device.settings == device.settings | RN2483_AS_SET
    if driver == "ebyte_e22":
        assert device.registers[:7] == E22_AS_SET

    device.told = b""
    done, second = apply(driver, device.path)
    assert done.exit_code == 0
    assert not any(setting["written"] for setting in second)
    assert [s["after"] for s in second] == [s["after"] for s in first]


def test_what_a_modem_does_not_take_is_named_with_what_it_says(modem):
    device = modem("rylr998", lambda d: setattr(d, "instead", (b"AT+BAND=868200000", b"AT+BAND=868500000")))
    done = CliRunner().invoke(app, ["radio", "apply", "rylr998-eu868", str(device.path)])
    assert done.exit_code == 1
    assert "✗ 'AT+BAND?'" in done.stdout
    assert "expected '+BAND=868200000', the modem says '+BAND=868500000'" in done.stdout
    assert "✓ 'AT+ADDRESS?'" in done.stdout
    assert "1 not as the file says" in done.stderr


def test_who_does_not_answer_is_told_apart_from_a_port_and_a_file_that_are_not_there(modem, tmp_path):
    silent = modem("rylr998", lambda d: setattr(d, "received", lambda _: None))
    done, _ = apply("rylr998", silent.path)
    assert done.exit_code == 1
    assert f"no rylr998 answers on {silent.path} at 115200 baud" in done.stderr
    assert "TX and RX crossed" in done.stderr
    done, _ = apply("rak3172", tmp_path / "nothing")
    assert (done.exit_code, "cannot be opened: No such file" in done.stderr) == (1, True)
    done = CliRunner().invoke(app, ["radio", "apply", "rak3173-eu868", str(silent.path)])
    assert (done.exit_code, "'rak3173-eu868' not found" in done.stderr) == (2, True)
    loud = tmp_path / "loud.toml"
    loud.write_text((CONFIGS / "rak3172-eu868.toml").read_text().replace("power_dbm = 14", "power_dbm = 20"))
    done = CliRunner().invoke(app, ["radio", "apply", str(loud), str(silent.path)])
    assert (done.exit_code, "power_dbm: found 20, expected at most 14" in done.stderr) == (2, True)


def test_a_plan_keeps_power_and_duty_cycle():
    def planned(*more):
        done = CliRunner().invoke(app, ["radio", "plan", "rylr998-eu868", "--json", *map(str, more)])
        return done.exit_code, json.loads(done.stdout)

    code, found = planned("--nodes", 8)
    assert (code, found["lawful"], found["duty_cycle"]) == (0, True, 0.01)
    assert found["erp_dbm"] == pytest.approx(14)
    assert found["least_period_s"] == pytest.approx(found["airtime_s"] * 100)
    assert planned("--gain", 2.2)[0] == 1, "0.05 dB too much"
    assert planned("--period", found["least_period_s"] - 0.1)[0] == 1
    assert planned("--period", found["least_period_s"] + 0.1)[0] == 0


def test_the_table_of_the_page_is_what_the_command_says():
    rows = re.findall(
        r"^\| (\w+_?\w*) \|((?: (?:≥ )?[\d.]+(?: s|%) \|)+)$", (CONFIGS / "README.md").read_text(), re.MULTILINE
    )
    assert {driver for driver, _ in rows} == set(MODEMS)
    for driver, cells in rows:
        airtime, least, *met = (cell.strip().removeprefix("≥ ") for cell in cells.strip("|").split("|"))
        for nodes, said in zip((1, 8, 16, 32), met, strict=True):
            done = CliRunner().invoke(app, ["radio", "plan", f"{driver}-eu868", "--nodes", str(nodes), "--json"])
            found = json.loads(done.stdout)
            assert (airtime, least) == (f"{found['airtime_s']:.2f} s", f"{found['least_period_s']:.0f} s")
            assert said == f"{found['met']:.1%}", (driver, nodes)
