"""Faults of the serial side, end to end: an adapter that is pulled, frames that pause in their middle, values of zero."""

from pathlib import Path

import pytest

from edge.emulators.pty import PtyDevice
from tests import servers
from tests.system.test_chain import FULL, Chain, Report

pytestmark = pytest.mark.system

PAUSE_S = 1.6

COMM_FAIL = """
[[station.rule]]
id = "hoyoux-comm"
kind = "comm_fail"
sensor = "level-1"
errors = 2
"""

SENSOR = """
[[station.sensor]]
id = "{id}"
driver = "{driver}"
port = "{port}"
period_s = 0
"""
MAXBOTIX = """options = { model = "MB7389" }
level = { mounting_height_m = 4.321 }
"""


def sds011(pm2_5: float, pm10: float) -> bytes:
    body = b"".join(round(10 * value).to_bytes(2, "little") for value in (pm2_5, pm10)) + b"\xa1\x60"
    return b"\xaa\xc0" + body + bytes((sum(body) & 0xFF, 0xAB))


@pytest.mark.timeout(240)
def test_a_pulled_adapter_comes_back_by_itself_and_is_told_of(tmp_path: Path, record_property: Report) -> None:
    """The pty hangs up and its path disappears; then the path leads to another pty."""
    times, seconds = (3, 30) if FULL else (1, 1)
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker, sensors=COMM_FAIL)

        def told(transition: str) -> int:
            rows = chain.store.dump("alarm", 0, 2**53)
            return sum(1 for r in rows if (r.tags["rule"], r.fields["transition"]) == ("hoyoux-comm", transition))

        try:
            chain.start()
            for time in range(1, times + 1):
                chain.life_ends()
                chain.device.unplug()
                servers.wait_until(lambda n=time: told("raise") == n, 40, "comm_fail at central")
                chain.device.pause(seconds)
                assert told("clear") == time - 1
                chain.device.replug()
                servers.wait_until(lambda n=time: told("clear") == n, 20, "comm_fail cleared at central")
                chain.wait_sent(20, 10)
            assert chain.edge.running
            chain.finish()
        finally:
            chain.stop()
        outcome = chain.verify()
        assert outcome.taken > 20 * times
        outcome.report(record_property, "serial adapter pulled and put back", f"{times} x {seconds} s beyond the alarm")


@pytest.mark.timeout(120)
def test_a_frame_split_by_a_long_pause_gives_one_right_reading_or_none_and_zeros_arrive_as_zeros(
    tmp_path: Path, record_property: Report
) -> None:
    """A pause of 1.6 s at every possible place of two devices' frames; and frames whose values are 0."""
    before = {"maxbotix": b"R2345\r", "sds011": sds011(7.8, 9.1)}
    split = {"maxbotix": b"R1234\r", "sds011": sds011(12.3, 45.6)}
    after = {"maxbotix": b"R3456\r", "sds011": sds011(99.9, 0.1)}
    zeros = {"maxbotix": b"R4321\r", "sds011": sds011(0, 0.2)}  # an SDS011 says 0, 0 while it warms up
    read = {
        "maxbotix": {"water_level": (1.976, 3.087, 0.865)},
        "sds011": {"pm2_5": (7.8, 12.3, 99.9), "pm10": (9.1, 45.6, 0.1)},
    }
    places = [(driver, at) for driver, frame in split.items() for at in range(1, len(frame))]
    lines = {f"{driver}-{at}": PtyDevice(tmp_path / f"tty-{driver}-{at}") for driver, at in places}
    zero_lines = {f"{driver}-zero": PtyDevice(tmp_path / f"tty-{driver}-zero") for driver in zeros}
    sensors = "".join(
        SENSOR.format(id=name, driver=name.partition("-")[0], port=device.path)
        + (MAXBOTIX if name.startswith("maxbotix") else "")
        for name, device in (lines | zero_lines).items()
    )
    with servers.influxd(tmp_path) as influx, servers.mosquitto(tmp_path) as broker:
        chain = Chain(tmp_path, influx, broker, sensors=sensors)

        def values(quantity: str, sensor: str) -> list[float]:
            rows = chain.store.dump(quantity, 0, 2**42)
            return [float(row.fields["value"]) for row in rows if row.tags["sensor"] == sensor]

        def send(
            frames: dict[str, bytes], devices: dict[str, PtyDevice], start: int = 0, end: int | None = None
        ) -> None:
            for name, device in devices.items():
                assert device.write(frames[name.partition("-")[0]][start:end])

        def arrived(which: int) -> bool:
            send(zeros, zero_lines)
            send((before, split, after)[which], lines)
            lines["maxbotix-1"].pause(0.2)  # the devices' own rhythm
            return all(
                expected[which] in values(quantity, name)
                for name in lines
                for quantity, expected in read[name.partition("-")[0]].items()
            )

        try:
            for device in (lines | zero_lines).values():
                device.start()
            chain.start()
            servers.wait_until(lambda: arrived(0), 30, "every line is read")
            for driver, at in places:
                assert lines[f"{driver}-{at}"].write(split[driver][:at])
            lines["maxbotix-1"].pause(PAUSE_S)
            for driver, at in places:
                assert lines[f"{driver}-{at}"].write(split[driver][at:])
            servers.wait_until(lambda: arrived(2), 30, "every line is read again")
            chain.finish()
        finally:
            chain.stop()
            for device in (lines | zero_lines).values():
                device.stop()
        chain.verify()
        taken = whole = 0
        for name in lines:
            for quantity, (first, middle, last) in read[name.partition("-")[0]].items():
                found = values(quantity, name)
                assert set(found) <= {first, middle, last}, (name, quantity)
                assert found.count(middle) <= 1, (name, quantity)
                taken += len(found)
                whole += found.count(middle)
        for name in zero_lines:
            assert set(values("water_level" if name.startswith("maxbotix") else "pm2_5", name)) == {0.0}, name
        fault = f"frames that pause at each of {len(places)} places ({whole} of them read, rightly); values of zero"
        record_property("fault", fault)
        record_property("duration", f"{PAUSE_S} s")
        record_property("taken", taken)
        for name in ("lost", "doubled", "invented"):
            record_property(name, 0)
