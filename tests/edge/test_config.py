"""edge.toml: the example loads, and each fault is named by file, key, found and expected."""

import base64
from datetime import date
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from common.clock import Clock
from edge.cli import app
from edge.config import EdgeConfig, Rule, Sensor, example, load
from edge.errors import ConfigError
from edge.service import stations
from edge.transports.build import build


def load_text(tmp_path: Path, text: str) -> EdgeConfig:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    return load(path)


def test_the_example_loads_builds_and_describes_its_stations(tmp_path: Path) -> None:
    config = load_text(tmp_path, example())
    assert len(build(config, Clock(), lambda _: None)) == 3
    (station,) = stations(config, date(2026, 11, 24)).stations
    level = next(s for s in station.sensors if s.id == "level-1")
    assert [(q.quantity, q.thresholds) for q in level.quantities] == [("water_level", (1.2, 1.8, 2.3))]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "gw-huy-01"', 'id = "GW 1"', "gateway.id"),
        ("keep_days = 30", "keep_day = 30", "journal.keep_day: unknown key"),
        ("levels = [1.20, 1.80, 2.30]", "levels = [1.8, 1.2]", "ascending"),
        ('quantity = "water_level"', 'quantity = "water_levle"', "water_levle"),
        ('sensor = "level-1"', 'sensor = "level-9"', "level-9"),
        ("port = 8883", 'port = "x"', "mqtt.port"),
        ('modem = "lora"', 'modem = "laro"', "laro"),
        ("[gateway]", "[gateway", "not TOML"),
        ("levels = [1.20, 1.80, 2.30]", "levels = [nan]", "levels"),
        ("period_s = 60 ", "period_s = inf ", "period_s"),
        ("mounting_height_m = 4.20", "mounting_height_m = 0", "mounting_height_m"),
    ],
)
def test_a_fault_names_file_key_and_what_was_found(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"edge\.toml") as caught:
        load_text(tmp_path, example().replace(old, new, 1))
    assert said in str(caught.value)


def test_a_credential_that_is_not_there_is_named_by_its_key(tmp_path: Path) -> None:
    text = '[gateway]\nid = "gw"\ndata_dir = "d"\n[mqtt]\nhost = "h"\nport = 1\npassword = "${credential:not-there}"\n'
    with pytest.raises(
        ConfigError, match=r"edge.toml: mqtt.password: credential not-there: expected a file .*/not-there$"
    ):
        load_text(tmp_path, text)


def test_a_fault_in_a_list_names_the_table_by_its_id_and_stands_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, example().replace("a84041ffff123456", "a84041", 1))
    (line,) = str(caught.value).splitlines()
    assert "station.0 ('hoyoux-huy').sensor.2 ('level-2').dev_eui: " in line


@pytest.mark.parametrize(
    ("given", "expected_s"),
    [
        ({"quantity": "water_level"}, 3600),
        ({"quantity": "water_distance", "kind": "low"}, 3600),
        ({"quantity": "water_level", "kind": "rise"}, 3 * 3600),
        ({"quantity": "water_level", "off_delay_s": 0}, 0),
        ({"quantity": "pm10"}, 0),
    ],
)
def test_an_alarm_of_water_outlasts_a_lull_unless_told_otherwise(given: dict[str, object], expected_s: float) -> None:
    rule = TypeAdapter(Rule).validate_python(
        {"id": "r", "sensor": "s", "kind": "high", "levels": [1.0]} | given  # as a table of edge.toml
    )
    assert rule.off_delay_s == expected_s


def test_an_empty_list_is_still_a_fault(tmp_path: Path) -> None:
    gateway = '[gateway]\nid = "gw-1"\ndata_dir = "/tmp/x"\n'
    station = '[[station]]\nid = "s"\nname = "S"\ncommune = "61031"\nlat = 50\nlon = 5\nsensor = []\n'
    with pytest.raises(ConfigError, match="sensor: "):
        load_text(tmp_path, gateway + station)
    assert load_text(tmp_path, gateway).station == (), "it has joined, and measures nothing yet"


def test_check_tells_all_faults_of_sensors_and_takes_no_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    good = example().replace("/var/lib/maillages-edge", str(data), 1)
    path = tmp_path / "edge.toml"
    path.write_text(good)
    result = CliRunner().invoke(app, ["check", str(path)])
    assert (result.exit_code, result.stdout) == (0, f"{path}: good\n")
    path.write_text(good.replace("MB7389", "MB0000").replace('"dragino_ldds"', '"dragino_x"'))
    result = CliRunner().invoke(app, ["check", str(path)])
    assert result.exit_code == 2
    assert [word in result.output for word in ("hoyoux-huy/level-1", "MB0000", "hoyoux-huy/level-2", "dragino_x")] == [
        True
    ] * 4
    assert not data.exists()


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("", "base64 of 0 bytes"),
        ("base64 Ed25519 public key", "25 characters that are no base64"),
        (base64.b64encode(bytes(31)).decode(), "base64 of 31 bytes"),
        (base64.b64encode(bytes(33)).decode(), "base64 of 33 bytes"),
        (base64.b64encode(bytes(32)).decode()[:-1], "43 characters that are no base64"),
        (bytes(32).hex(), "base64 of 48 bytes"),
        ("é" * 44, "44 characters that are no base64"),
    ],
)
def test_a_wrong_key_of_central_is_refused_and_not_repeated(tmp_path: Path, key: str, found: str) -> None:
    text = example().replace('# central_key = "base64 Ed25519 public key"', f'central_key = "{key}"', 1)
    assert text != example()
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    said = str(caught.value)
    assert said == f"{tmp_path}/edge.toml: mqtt.central_key: expected base64 of 32 bytes, found {found}"


def test_a_right_key_of_central_loads(tmp_path: Path) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    config = load_text(tmp_path, example().replace("# central_key = ", f'central_key = "{key}" #', 1))
    assert config.mqtt.central_key == key


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "low", "levels": [0.2, 0.5]}, "levels: expected descending thresholds"),
        ({"kind": "fall", "levels": [0.5, 0.2]}, "levels: expected ascending thresholds"),
        ({"suppressed_by": "other"}, "rule r: suppressed_by 'other', expected another rule of the station"),
        ({"suppressed_by": "r"}, "rule r: suppressed_by 'r', expected another rule of the station"),
        (
            {"suppressed_by": "second"},
            "rule r: suppressed_by 'second', expected another rule of the station that is not",
        ),
        ({"dated": [{"from": "2026-11-01", "levels": [2, 1]}]}, "dated 2026-11-01: expected ascending thresholds"),
        ({"mean_h": 24}, "mean_h: expected only with pm2_5, pm10, no2, o3"),
        ({"mean_h": 24, "quantity": "pm10", "and_rise_per_h": 1}, "expected mean_h or and_rise_per_h, not both"),
        ({"mean_h": 12, "quantity": "pm10"}, "mean_h"),
        ({"kind": "power", "quantity": "voltage"}, "quantity 'voltage' is unknown"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: dict[str, object], said: str) -> None:
    first = {"id": "r", "kind": "high", "sensor": "s", "quantity": "water_level", "levels": [1, 2]} | rule
    second = {"id": "second", "kind": "stale", "sensor": "s", "suppressed_by": "r"}
    station = {
        "id": "a", "name": "A", "commune": "61031", "lat": 50.5, "lon": 5.2,
        "sensor": [{"id": "s", "driver": "maxbotix", "port": "/a"}], "rule": [first, second],
    }  # fmt: skip
    with pytest.raises(ValidationError) as caught:
        EdgeConfig.model_validate({"gateway": {"id": "g", "data_dir": "/a"}, "station": [station]})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ({"spike": {"water_level": {"suspect": 0.3, "fail": 0.1}}}, "expected suspect at or below fail"),
        ({"rate": {"water_levle": False}}, "quantity 'water_levle' is unknown"),
        (
            {"flat_line": {"pm10": {"tolerance": 1, "suspect_s": 9, "fail_s": 8}}},
            "expected suspect_s at or below fail_s",
        ),
        ({"flat_line": {"pm10": {"tolerance": 0, "suspect_s": 9}}}, "greater than 0"),
        ({"sentinels": {"level": [1]}}, "quantity 'level' is unknown"),
    ],
)
def test_a_test_of_quality_that_cannot_be_is_refused(tests: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sensor.model_validate({"id": "s", "driver": "maxbotix", "port": "/a", **tests})
