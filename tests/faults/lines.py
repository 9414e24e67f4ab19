"""Devices whose every byte the test sends: many lines of two kinds of sensors, without and with a sum in their frames."""

from collections.abc import Mapping
from pathlib import Path

from edge.emulators.pty import PtyDevice
from tests.chain import Chain

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
    """A frame, after Nova Fitness, "Laser Dust Sensor Control Protocol V1.3"."""
    body = b"".join(round(10 * value).to_bytes(2, "little") for value in (pm2_5, pm10)) + b"\xa1\x60"
    return b"\xaa\xc0" + body + bytes((sum(body) & 0xFF, 0xAB))


class Lines:
    """A pty for each name, `<driver>-<what it is for>`, as a context manager."""

    def __init__(self, tmp: Path, names: list[str]) -> None:
        self.devices = {name: PtyDevice(tmp / f"tty-{name}") for name in names}

    def __enter__(self) -> "Lines":
        for device in self.devices.values():
            device.start()
        return self

    def __exit__(self, *_: object) -> None:
        for device in self.devices.values():
            device.stop()

    @property
    def sensors(self) -> str:
        """The configuration of these sensors."""
        return "".join(
            SENSOR.format(id=name, driver=driver_of(name), port=device.path)
            + (MAXBOTIX if driver_of(name) == "maxbotix" else "")
            for name, device in self.devices.items()
        )

    def send(self, frames: Mapping[str, bytes]) -> None:
        """To each line the frame of its driver."""
        for name, device in self.devices.items():
            assert device.write(frames[driver_of(name)])


def driver_of(name: str) -> str:
    return name.partition("-")[0]


def values(chain: Chain, sensor: str, quantity: str) -> list[float]:
    """What is stored of a sensor, in the order of time."""
    rows = [row for row in chain.store.dump(quantity, 0, 2**42) if row.tags["sensor"] == sensor]
    return [float(row.fields["value"]) for row in sorted(rows, key=lambda row: row.time_ms)]
