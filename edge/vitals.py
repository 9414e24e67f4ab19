"""How the machine under the gateway is: what the kernel says of heat, supply, space and memory. Read anew each time.

Sources: kernel documentation, admin-guide/sysfs (thermal, hwmon, mmc); proc(5); statvfs(3). A Raspberry Pi says under-voltage
by the hwmon device `rpi_volt` (alarm of in0_lcrit), and since which step of tenths an eMMC is used up by `life_time` (JEDEC
eMMC 5.0, DEVICE_LIFE_TIME_EST); SD cards do not say.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Values = dict[str, float]


def vitals(data_dir: Path, root: Path = Path("/")) -> Values:
    """By name; what this machine does not say is left out."""
    found: Values = {}
    for name, read in (
        ("cpu_temperature", lambda: _number(root / "sys/class/thermal/thermal_zone0/temp") / 1000),
        ("under_voltage", lambda: _under_voltage(root / "sys/class/hwmon")),
        ("disk_free_percent", lambda: _disk_free(data_dir)),
        ("memory_free_percent", lambda: _memory_free(root / "proc/meminfo")),
        ("load_1m", lambda: float((root / "proc/loadavg").read_text().split()[0])),
        ("storage_used_up_percent", lambda: _life_used(root / "sys/block/mmcblk0/device/life_time")),
    ):
        _note(found, name, read)
    return found


def _note(found: Values, name: str, read: Callable[[], float]) -> None:
    with suppress(OSError, ValueError, LookupError, ZeroDivisionError):
        found[name] = round(read(), 2)


def _number(path: Path) -> float:
    return float(path.read_text())


def _under_voltage(devices: Path) -> float:
    (device,) = (d for d in devices.iterdir() if (d / "name").read_text().strip() == "rpi_volt")
    return _number(device / "in0_lcrit_alarm")


def _disk_free(path: Path) -> float:
    found = os.statvfs(path)
    return 100 * found.f_bavail / found.f_blocks


def _memory_free(path: Path) -> float:
    lines = (line.split() for line in path.read_text().splitlines())
    kib = {line[0]: float(line[1]) for line in lines if len(line) > 1}
    return 100 * kib["MemAvailable:"] / kib["MemTotal:"]


def _life_used(path: Path) -> float:
    """The worse of the two kinds of cells; step n means up to n tenths."""
    return max(10.0 * int(step, 16) for step in path.read_text().split())
