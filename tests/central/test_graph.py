"""The graph of a mail: what the database holds is drawn, and no mail waits for a database."""

import io
import threading
import time

import pytest
from PIL import Image

from central.config import Station
from central.db import Database
from central.errors import Unavailable
from central.holding import Holding
from central.notify.graph import PATIENCE_S, Graphs, draw
from central.registry import Registry
from central.store.base import Reading, Series
from central.store.embedded import Embedded
from common.clock import Clock
from tests.common.test_texts import event
from wire.station import QuantityInfo

NOW = 1_784_045_100.0
INFO = QuantityInfo(quantity="water_level", period_s=60, thresholds=(1.2, 1.8, 2.2))
TAGS = {"gateway": "gw-huy-01", "station": "mehaigne-moha", "sensor": "level-1"}
CLOCK = Clock(boottime=lambda: 0.0, walltime=lambda: NOW, synchronised=lambda: True)


def picture(png):
    return Image.open(io.BytesIO(png)).convert("RGB")


def colours(png):
    return {colour for _, colour in picture(png).getcolors(1 << 20)}


class Hangs:
    """A database that does not answer until it is let go."""

    def __init__(self):
        self.go, self.asked = threading.Event(), 0

    def series(self, *_):
        self.asked += 1
        self.go.wait(30)
        return []


class Away:
    def series(self, *_):
        raise Unavailable("no answer")


@pytest.fixture
def registry(tmp_path):
    db = Database(tmp_path / "central.db")
    db.open()
    station = Station(id="mehaigne-moha", gateway="gw-huy-01", commune="61072", name="Moha", river="Mehaigne")
    yield Registry((station,), Holding(db))
    db.close()


def test_each_threshold_and_each_gap_is_seen():
    points = [(round((NOW - 86400 + 300 * i) * 1000), 1 + i / 200) for i in range(288) if not 100 < i < 140]
    png = draw(points, INFO, NOW)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 20_000
    shown = colours(png)
    near = [min(sum(abs(a - b) for a, b in zip(c, wanted, strict=True)) for c in shown) for wanted in
            ((0xB0, 0x8C, 0x00), (0xD6, 0x6F, 0x00), (0xB3, 0x12, 0x2B), (0xEC, 0xEA, 0xF2), (0x0B, 0x5C, 0x88))]  # fmt: skip
    assert max(near) <= 24  # of the palette of 64


def test_what_is_stored_is_drawn_but_what_failed_its_checks(tmp_path, registry):
    store = Embedded(tmp_path / "store.db")
    store.setup()
    series = Series("water_level", TAGS)
    good = [Reading(series, 1.0 + i / 100, 1, round((NOW - 6000 + 60 * i) * 1000)) for i in range(100)]
    graphs = Graphs(store, registry, CLOCK)
    assert graphs.of(event(id="none")) is None, "nothing is stored"
    store.write(good)
    before = graphs.of(event(id="a"))
    store.write([Reading(series, 900.0, 4, round((NOW - 90) * 1000) + 7)])
    assert before == graphs.of(event(id="b"))
    assert graphs.of(event(id="c", station=None, sensor=None)) is None
    assert graphs.of(event(id="d", quantity=None)) is None
    graphs.close()
    store.close()


def test_a_mail_waits_a_moment_once_for_a_database_that_hangs(registry):
    store = Hangs()
    graphs = Graphs(store, registry, CLOCK)
    began = time.monotonic()
    assert graphs.of(event(id="a")) is None
    assert time.monotonic() - began >= PATIENCE_S
    began = time.monotonic()
    assert [graphs.of(event(id=str(i))) for i in range(100)] == [None] * 100
    assert time.monotonic() - began < PATIENCE_S
    assert store.asked == 1
    store.go.set()
    graphs.close()


def test_a_database_that_is_away_costs_the_graph_only(registry):
    graphs = Graphs(Away(), registry, CLOCK)
    assert graphs.of(event()) is None
    graphs.close()
