"""What a gateway does of a technician's orders, and what it refuses: a real line on a pty, clocks that are late or were never set."""

import logging
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from common.clock import Clock, rfc3339
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig
from edge.emulators.log import DeviceLog
from edge.emulators.rs485 import Rs485Line
from edge.emulators.senseair_s8 import SenseairS8
from edge.gateway import Gateway
from edge.journal import Journal
from edge.orders import Orders, RecentLog
from edge.transports.build import build
from wire.errors import WireError

NOW = 1_795_000_000.0
RAW = "FE0400030001D5C5"


class Bench:
    """A gateway with a CO2 sensor on a Modbus line. `now_s`: its clock; `trusted`: it was set."""

    def __init__(self, tmp: Path, plug: Any, *, trusted: bool = True, allowed: bool = True, line: bool = True) -> None:
        self.now_s = NOW
        start = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.clock = Clock(
            walltime=lambda: self.now_s + time.clock_gettime(time.CLOCK_BOOTTIME) - start, synchronised=lambda: trusted
        )
        if line:
            plug(
                Rs485Line(tmp / "tty", [SenseairS8("huy/co2", lambda _: {"co2": 777})], clock=Clock(), log=DeviceLog())
            )
        config = EdgeConfig.model_validate(
            {
                "gateway": {"id": "gw", "data_dir": str(tmp)},
                "mqtt": {"host": "127.0.0.1", "raw_commands": allowed, "password": "s3cretpassword"},
                "station": [
                    {
                        "id": "huy", "name": "Huy", "commune": "61031", "lat": 50.5, "lon": 5.2,
                        "sensor": [
                            {"id": "co2", "driver": "senseair_s8", "port": str(tmp / "tty"), "period_s": 600},
                            {"id": "level", "driver": "a02yyuw", "port": str(tmp / "none"), "period_s": 0},
                        ],
                    }
                ],
            }
        )  # fmt: skip
        journal, alarms = Journal(tmp / "journal", self.clock), AlarmLog(tmp / "alarms.db")
        journal.open()
        alarms.open()
        self.gateway = Gateway(config, self.clock, journal, alarms)
        self.transports = {t.name: t for t in build(config, self.clock, self.gateway.post)}
        self.log = RecentLog(self.clock)
        self.orders = Orders(config, self.clock, self.gateway, self.transports, None, self.log)
        plug(self.gateway, *self.transports.values(), self.orders)

    def order(self, name: str, until_s: float = 60.0, **arguments: object) -> dict[str, Any]:
        answer: Future[dict[str, Any]] = self.orders.take(
            name,
            {"id": "1", "by": "Anne", "at": rfc3339(NOW), "until": rfc3339(self.clock.wall() + until_s)} | arguments,
        )
        return answer.result(60)


def test_a_sensor_is_asked_at_once_and_raw_bytes_are_answered(tmp_path: Path, plug: Any) -> None:
    bench = Bench(tmp_path, plug)
    (read,) = bench.order("read", station="huy", sensor="co2")["values"]
    assert (read["quantity"], read["value"], read["age_s"] < 30) == ("co2", 777.0, True)
    assert bench.order("raw", station="huy", sensor="co2", hex=RAW, reply_s=1.0)["hex"][:10] == "fe04020309"
    everything = bench.order("read", station="huy")["values"]
    assert [value["sensor"] for value in everything] == ["huy/co2", "huy/level"]
    assert everything[1]["error"]
    assert "is opened anew" in bench.order("restart", station="huy", sensor="co2")["done"]
    (read,) = bench.order("read", station="huy", sensor="co2")["values"]
    assert read["value"] == 777.0


@pytest.mark.parametrize(
    ("name", "until_s", "arguments", "error"),
    [
        ("read", -1, {"station": "huy"}, "too late: .*nothing was done"),
        ("logs", 100, {}, "one of the two clocks is wrong"),
        ("read", 60, {"station": "amay"}, "found amay, expected one of huy/co2, huy/level"),
        ("raw", 60, {"station": "huy", "sensor": "level", "hex": "00"}, "huy/level is not asked on a line"),
        ("raw", 60, {"station": "huy", "sensor": "co2", "hex": "0"}, "hex"),
        ("raw", 60, {"station": "huy", "sensor": "co2", "hex": "00" * 257}, "hex"),
        ("logs", 60, {"lines": 0}, "lines"),
    ],
)
def test_what_is_late_or_wrong_is_refused(
    tmp_path: Path, plug: Any, name: str, until_s: float, arguments: dict[str, Any], error: str
) -> None:
    with pytest.raises(WireError, match=error):
        Bench(tmp_path, plug, line=False).order(name, until_s, **arguments)


def test_a_gateway_that_does_not_know_the_time_only_reads(tmp_path: Path, plug: Any) -> None:
    bench = Bench(tmp_path, plug, trusted=False)
    bench.now_s = 0.0
    assert bench.order("read", NOW, station="huy", sensor="co2")["values"][0]["value"] == 777.0
    for name in ("raw", "restart"):
        with pytest.raises(WireError, match="clock is not set"):
            bench.order(name, NOW, station="huy", sensor="co2", hex="00")


def test_raw_bytes_go_to_no_port_unless_the_gateway_allows_them(tmp_path: Path, plug: Any) -> None:
    with pytest.raises(WireError, match="raw_commands = true"):
        Bench(tmp_path, plug, allowed=False).order("raw", station="huy", sensor="co2", hex=RAW)


def test_the_log_goes_without_secrets_the_newest_lines_first_of_all(tmp_path: Path, plug: Any) -> None:
    bench = Bench(tmp_path, plug, line=False)
    for number in range(500):
        record = logging.LogRecord(
            "edge.x", logging.INFO, "", 0, f"line {number} of +32470000001, s3cretpassword", None, None
        )
        bench.log.emit(record)
    said = bench.order("logs", lines=300)["log"]
    assert said[-1].endswith("line 499 of ***, ***")
    assert not [line for line in said if "0000001" in line or "s3cret" in line]
    assert 100 < len(said) <= 300
    assert sum(map(len, said)) <= 12_000
