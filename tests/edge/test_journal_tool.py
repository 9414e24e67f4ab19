"""`maillages-edge journal`: beside a journal that is open, and on files that are damaged."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import Clock
from edge.journal import Journal, NewRow, salvage

COMMAND = Path(sys.executable).parent / "maillages-edge"
CLOCK = Clock(trust="always")


def run(*line):
    return subprocess.run([COMMAND, "journal", *line], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def book(tmp_path):
    """A journal that a gateway has open, with ten readings of two sensors."""
    journal = Journal(tmp_path / "journal", CLOCK)
    journal.open()
    journal.synchronised(round((CLOCK.wall() - CLOCK.boot()) * 1000))
    for i in range(5):
        at = CLOCK.wall() - 3600 * (4 - i), CLOCK.boot()
        journal.append([NewRow("huy/level/water_level", i / 10, 1, *at), NewRow("huy/air/air_temperature", -i, 3, *at)])
    yield journal
    journal.close()


@pytest.fixture
def config(tmp_path, book):
    path = tmp_path / "edge.toml"
    path.write_text(f'[gateway]\nid = "gw"\ndata_dir = "{tmp_path}"\n')
    return path


def test_it_is_browsed_while_the_gateway_has_it_open(config):
    done = run("show", "-c", config, "--json", "huy/level", "--last", "2")
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["number"], row["value"], row["unit"], row["clock"]) for row in rows] == [
        (7, 0.3, "m", "synchronised"),
        (9, 0.4, "m", "synchronised"),
    ]
    text = run("show", "-c", config, "huy", "--since", "90m")
    assert [line.split()[0] for line in text.stdout.splitlines()] == ["7", "8", "9", "10"]
    assert text.stderr == "10 readings in 1 files\n"
    assert run("show", "-c", config, "hu").returncode == 1, "a part of a name is no name"


def test_it_is_exported(config):
    done = run("export", "-", "-c", config)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [float(row["value"]) for row in rows if row["sensor"] == "level"] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert rows[1] | {"time": "", "boot": "", "boot_s": ""} == {
        "number": "2", "time": "", "station": "huy", "sensor": "air", "quantity": "air_temperature", "value": "0",
        "unit": "Cel", "qc": "3", "clock": "synchronised", "boot": "", "boot_s": "",
    }  # fmt: skip
    there = config.parent / "edge.toml"
    refused = run("export", there, "-c", config)
    assert (refused.returncode, "cannot be written: File exists" in refused.stderr) == (2, True)


def test_what_is_whole_is_salvaged(book, tmp_path):
    (path,) = (tmp_path / "journal").glob("*.log")
    lines = path.read_bytes().split(b"\n")
    third = next(i for i, line in enumerate(lines) if b'["r",3,' in line)
    lines[third] = lines[third][:-4] + b"\0\0\0\0"
    copy = tmp_path / "card.damaged"
    copy.write_bytes(b"\n".join(lines) + b"0badc0de [torn")
    done = run("salvage", copy, "--to", tmp_path / "saved.csv")
    assert (done.returncode, done.stderr) == (1, f"9 readings in 1 files\n{copy}: 1 damaged lines\n")
    saved = list(csv.DictReader((tmp_path / "saved.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in saved] == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert run("salvage", tmp_path / "none", "--to", "-").returncode == 2


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data):
    assert salvage(data).rows == []
