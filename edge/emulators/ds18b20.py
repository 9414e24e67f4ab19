"""DS18B20 temperature sensors as the kernel shows them: a tree like /sys/bus/w1/devices.

Sources: Linux, Documentation/w1/slaves/w1_therm.rst; Maxim, DS18B20 data sheet 19-7487 (scratchpad, CRC, 85 Cel at power-on).
"""

import contextlib
import shutil
import threading
from pathlib import Path

from edge.emulators.family import Bench, Family
from edge.emulators.log import Sent
from edge.emulators.trouble import Trouble

_SLAVE = "28-000005e2fdc3"
_POWER_ON = 85.0
_STEPS = 16  # a degree, at 12 bit
_LOWEST, _HIGHEST = -55.0, 125.0


class Ds18b20:
    """Keeps `w1_slave` under `path` as a conversion every `interval_s` real seconds leaves it. What the wire loses reads as FF, and
    the kernel judges the CRC; a `silent` sensor is no longer there. Lag and dribble are the kernel's to wait for: they do not show.
    """

    def __init__(self, bench: Bench) -> None:
        self.path = bench.path
        self.trouble = Trouble()
        self.member = bench.only
        self.quantity = bench.only.options.get("quantity", "air_temperature")
        self.clock = bench.clock
        self.log = bench.log
        self.interval_s = 1.0 if bench.interval_s is None else bench.interval_s
        self._restarted = False
        self._retained = b"\xff" * 9
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError(f"{self.path}: already started")
        self._stopped.clear()
        self._convert()
        self._thread = threading.Thread(target=self._run, name=f"device {self.path.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        self._stopped.set()
        self._thread.join()
        self._thread = None
        shutil.rmtree(slave_file(self.path).parent, ignore_errors=True)
        with contextlib.suppress(OSError):  # something else is in it
            self.path.rmdir()

    def restart(self) -> None:
        """The next reading is the scratchpad as it is at power-on."""
        self._restarted = True

    def _run(self) -> None:
        while not self._stopped.wait(self.interval_s):
            self._convert()

    def _convert(self) -> None:
        file = slave_file(self.path)
        truth = self.member.truth(self.clock.wall())
        steps = round(min(max(truth[self.quantity], _LOWEST), _HIGHEST) * _STEPS)
        power_on, self._restarted = self._restarted, False
        if power_on:
            steps = round(_POWER_ON * _STEPS)
        scratchpad = steps.to_bytes(2, "little", signed=True)
        scratchpad += bytes((0x4B, 0x46, 0x7F, 0xFF, 0x0C if power_on else 0x10 - steps % 16, 0x10))
        scratchpad += bytes((crc8(scratchpad),))
        if self.trouble.silent:
            shutil.rmtree(file.parent, ignore_errors=True)
            return
        read = self.trouble.arriving(scratchpad).ljust(9, b"\xff")
        good = crc8(read) == 0
        self._retained = read if good else self._retained
        mcel = int(int.from_bytes(self._retained[:2], "little", signed=True) * 1000 / _STEPS)
        text = f"{_hex(read)} : crc={read[8]:02x} {'YES' if good else 'NO'}\n{_hex(self._retained)} t={mcel}\n"
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name("w1_slave.new")
        fresh.write_text(text, encoding="ascii")
        fresh.replace(file)
        if good and not power_on:
            said = {self.quantity: mcel / 1000}
            self.log.add(Sent(self.clock.boot(), self.clock.wall(), self.member.sensor, said))
        if self.trouble.restarts():
            self.restart()


def slave_file(path: Path) -> Path:
    """Where the kernel shows the sensor in its tree."""
    return path / _SLAVE / "w1_slave"


def crc8(data: bytes) -> int:
    """Maxim's CRC (polynomial 8C, bits from the lowest on); 0 over data that end in it."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


def _hex(data: bytes) -> str:
    return data.hex(" ")


FAMILIES = (
    Family(
        name="ds18b20",
        title="Maxim DS18B20 temperature sensor (a tree like /sys/bus/w1/devices)",
        true={"air_temperature": -4.5, "water_temperature": 11.5},
        make=Ds18b20,
        variants=({}, {"quantity": "water_temperature"}),
        port=slave_file,
    ),
)
