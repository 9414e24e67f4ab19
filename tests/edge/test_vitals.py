"""What the machine says of itself, from trees of files as the kernel shows them."""

from pathlib import Path

from edge.vitals import vitals


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_raspberry_pi(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
            "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
            "proc/meminfo": "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:  250 kB\nHugePages_Total: 0\n",
            "proc/loadavg": "0.52 0.58 0.59 1/389 12\n",
            "sys/block/mmcblk0/device/life_time": "0x01 0x03\n",
        },
    )
    found = vitals(tmp_path, tmp_path)
    assert 0 <= found.pop("disk_free_percent") <= 100
    assert found == {
        "cpu_temperature": 48.31,
        "under_voltage": 1.0,
        "memory_free_percent": 25.0,
        "load_1m": 0.52,
        "storage_used_up_percent": 30.0,
    }


def test_what_a_machine_does_not_say_or_says_in_another_way_is_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": "hot\n",
            "proc/meminfo": "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
            "proc/loadavg": "",
            "sys/block/mmcblk0/device/life_time": "",
        },
    )
    assert set(vitals(tmp_path, tmp_path)) == {"disk_free_percent"}
    assert vitals(tmp_path / "nowhere", tmp_path) == {}


def test_zero_is_a_value(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "rpi_volt", "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "0"})
    assert vitals(tmp_path, tmp_path)["under_voltage"] == 0.0
