"""What vectors do not show: set-up, settings of the modem, the limits of what can be built."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import decode, drivers
from edge.errors import ConfigError
from edge.radio import _rylr, cayenne_lpp, rylr998
from edge.sensors import maxbotix, sds011, xy_md02
from edge.sensors.base import Field, FrameError

EU868 = Path(__file__).parent.parent.parent / "firmware-configs" / "rylr998-eu868.toml"


def test_sds011_is_woken_before_its_mode_is_set() -> None:
    active, query = sds011.Sds011Options(), sds011.Sds011Options(mode="query", device_id="A160")
    assert [next(f.value for f in sds011.recognise(c)) for c in sds011.setup(active)] == [
        "wake",
        "set_active_mode",
        "set_working_period",
    ]
    assert [f.value for f in sds011.recognise(sds011.setup(query)[1])] == ["set_query_mode", "A160"]
    assert sds011.request(active) == b""
    assert sds011.request(query) == sds011.query_data("A160")


def test_sds011_working_period_has_limits() -> None:
    with pytest.raises(ValueError, match="expected 0 to 30"):
        sds011.set_working_period(31)


def test_xy_md02_reads_both_registers_at_once() -> None:
    options = xy_md02.XyMd02Options(unit=8)
    reads = drivers.find("xy_md02").reads
    assert reads is not None
    (read,) = reads(options)
    assert xy_md02.read_both(8)[1:6] == bytes((read.function, 0, read.register, 0, read.count))


@pytest.mark.parametrize(
    ("model", "blind", "no_target"),
    [
        ("MB7389", 300, 5000),
        ("mb7360-100", 300, 5000),
        ("HRXL-MaxSonar-WR 5 m", 300, 5000),
        ("HRXL-MaxSonar®-WRS 5 m", 500, 5000),
        ("HRXL-MaxSonar-WRS 10 m", 500, 9999),
        ("MB738x", 300, 5000),
        ("MB7388", 500, 9999),
        ("MB7574", 500, 5000),
        ("HRUSB-MaxSonar-EZ", 300, 5000),
        ("XL-MaxSonar-WR (cm)", 20, 765),
        ("LV-MaxSonar", 6, 254),
    ],
)
def test_a_model_decides_what_digits_mean(model: str, blind: int, no_target: int) -> None:
    family = maxbotix.family(model)
    assert (family.blind, family.no_target) == (blind, no_target)


@pytest.mark.parametrize("model", ["", "HRXL-MaxSonar-WR", "XL-MaxSonar 10 m", "A02YYUW", "MB1"])
def test_a_model_that_does_not_say_enough_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match=r"option model: model .* is unknown, expected a part number"):
        drivers.options(drivers.find("maxbotix"), {"model": model})


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(-32768, 32767)), max_size=20))
def test_lpp_round_trip(values: list[tuple[int, int]]) -> None:
    fields = [Field("temperature", raw / 10, "degC", channel) for channel, raw in values]
    assert cayenne_lpp.decode(cayenne_lpp.encode(fields), cayenne_lpp.CayenneLppOptions()) == fields


@given(st.binary(max_size=60))
def test_lpp_of_any_bytes_is_all_or_nothing(raw: bytes) -> None:
    fields, errors = decode.decode(drivers.find("cayenne_lpp"), raw, cayenne_lpp.CayenneLppOptions())
    if errors:
        assert (fields, errors[0].kind in ("length", "format"), errors[0].fields) == ([], True, ())
    else:
        assert cayenne_lpp.encode(fields) == raw


def test_lpp_encode_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit 2 bytes"):
        cayenne_lpp.encode([Field("temperature", 4000, "degC", 1)])
    with pytest.raises(ValueError, match="channel is None"):
        cayenne_lpp.encode([Field("temperature", 4, "degC")])
    with pytest.raises(ValueError, match="type 'heat' is unknown"):
        cayenne_lpp.encode([Field("heat", 4, "degC", 1)])


def test_lpp_channel_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="channel 1: quantity 'level' is unknown, expected one of water_level"):
        drivers.options(drivers.find("cayenne_lpp"), {"channels": {"1": "level"}})


def test_unhex() -> None:
    assert _rylr.unhex("016700EB") == bytes.fromhex("016700EB")
    for bad in ("016", "01 67", "HELLO"):
        with pytest.raises(FrameError, match="not hex text"):
            _rylr.unhex(bad)


@given(st.integers(0, 65535), st.binary(min_size=1, max_size=240))
def test_rylr998_sends_what_it_would_read(address: int, data: bytes) -> None:
    fields = _rylr.recognise(_rylr.send(address, data))
    assert [f.value for f in fields] == ["send", address, len(data), data.decode("latin-1")]


def test_rylr998_sends_at_most_240_bytes() -> None:
    with pytest.raises(ValueError, match="expected 1 to 240"):
        _rylr.send(1, b"x" * 241)


def test_settings_for_europe() -> None:
    settings = drivers.settings(rylr998.DRIVER, EU868.read_text(encoding="utf-8"))
    assert [(s.query, s.expected, s.write) for s in settings.steps()] == [
        (b"AT+ADDRESS?\r\n", b"+ADDRESS=1\r\n", b"AT+ADDRESS=1\r\n"),
        (b"AT+NETWORKID?\r\n", b"+NETWORKID=18\r\n", b"AT+NETWORKID=18\r\n"),
        (b"AT+BAND?\r\n", b"+BAND=868200000\r\n", b"AT+BAND=868200000\r\n"),
        (b"AT+PARAMETER?\r\n", b"+PARAMETER=9,7,1,12\r\n", b"AT+PARAMETER=9,7,1,12\r\n"),
        (b"AT+CRFOP?\r\n", b"+CRFOP=14\r\n", b"AT+CRFOP=14\r\n"),
    ]
    half_hz = settings.bandwidth_khz * 500
    assert settings.band_hz - half_hz >= 868_000_000
    assert settings.band_hz + half_hz <= 868_600_000
    assert settings.power_dbm <= 14


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("network_id = 18", "network_id = 16"), "network_id: found 16, expected 3 to 15, or 18"),
        (("preamble = 12", "preamble = 8\nextra = 1"), "extra: unknown key"),
        (("network_id = 18", "network_id = 5\n#"), None),
        (
            ("spreading_factor = 9", "spreading_factor = 11"),
            "spreading_factor: found 11, expected at most 9 at 125 kHz",
        ),
        (("power_dbm = 14", "power_dbm = 30"), "power_dbm: "),
        (("power_dbm = 14", "power_dbm = 15"), "power_dbm: found 15, expected at most 14 in this band"),
        (
            ("868_200_000", "915_000_000"),
            "band_hz: found 915000000 with 125 kHz, expected a channel inside 863 to 868.6",
        ),
        (("868_200_000", "868_550_000"), "band_hz: found 868550000"),
        (("868_200_000", "869_525_000"), None),
        (("driver = ", "driver "), "not TOML"),
    ],
)
def test_settings_are_checked(change: tuple[str, str], said: str | None) -> None:
    text = EU868.read_text(encoding="utf-8").replace(*change)
    if said is None:
        drivers.settings(rylr998.DRIVER, text)
        return
    with pytest.raises(ConfigError) as caught:
        drivers.settings(rylr998.DRIVER, text, "mine.toml")
    assert "mine.toml: " in str(caught.value)
    assert said in str(caught.value)


_IMPORTS = """
import json, os, sys
from importlib import import_module
from edge import drivers

before = set(sys.modules)
for name, module in drivers._modules().items():
    if os.fork() == 0:
        import_module(module)
        print(json.dumps([name, [new for new in sys.modules if new not in before]]), flush=True)
        os._exit(0)
    os.wait()
"""
OUTSIDE = {"serial", "pymodbus", "paho", "cryptography", "cbor2", "apscheduler", "socket", "sqlite3", "asyncio"}


def test_a_driver_imports_no_other_and_no_outside_client() -> None:
    modules = drivers._modules()
    lines = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, check=True).stdout.splitlines()
    found = dict(map(json.loads, lines))
    assert {name for name, new in found.items() if modules[name] in new} == set(drivers.names())
    others = {name: set(new) & set(modules.values()) - {modules[name]} for name, new in found.items()}
    assert {name: other for name, other in others.items() if other} == {}
    outside = {name: {one.partition(".")[0] for one in new} & OUTSIDE for name, new in found.items()}
    assert {name: client for name, client in outside.items() if client} == {}
