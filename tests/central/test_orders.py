"""Orders of technicians at central: sent once, within a minute or never, and only their gateway answers them."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from central.commands import keygen, load_key
from central.db import Database
from central.orders import Orders, OrderSender
from common.clock import Clock
from tests.central.test_commands import Line
from wire.command import READ, Read
from wire.errors import WireError


class Desk:
    """A sender, on a clock that is moved by hand."""

    def __init__(self, tmp: Path) -> None:
        self.now = 0.0
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: 1.795e9 + self.now, trust="always")
        self.db = Database(tmp / "central.db")
        self.db.open()
        keygen(tmp / "key.pem")
        self.line = Line()
        self.orders = Orders(self.db, self.clock)
        self.sender = OrderSender(load_key(tmp / "key.pem"), lambda: self.line, self.orders, self.clock)

    def look(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.sender.look()


@pytest.fixture
def desk(tmp_path: Path):
    made = Desk(tmp_path)
    yield made
    made.db.close()


def test_an_order_is_sent_once_for_what_is_left_of_its_minute_and_answered_by_its_gateway_alone(desk: Desk) -> None:
    desk.line.there = False
    order = desk.orders.ask("gw-huy-01", READ, Read, "Anne", station="huy")
    desk.look(20)
    assert desk.orders.get(order).state == "waiting"
    desk.line.there = True
    for _ in range(3):
        desk.look()
    ((topic, payload, _, expiry_s),) = desk.line.sent
    assert (topic, expiry_s) == ("maillages/v1/gw-huy-01/cmd/read", 39)
    assert json.loads(payload)["by"] == "Anne"
    answer = json.dumps({"id": order, "ok": True, "values": []}).encode()
    with pytest.raises(WireError, match="not ordered of gw-amay-01"):
        desk.orders.answered("gw-amay-01", answer)
    desk.orders.answered("gw-huy-01", answer)
    with pytest.raises(WireError, match="or is answered"):
        desk.orders.answered("gw-huy-01", answer)
    assert [(o.by, o.state) for o in desk.orders.history("gw-huy-01", 9)] == [("Anne", "done")]


def test_what_could_not_be_sent_within_its_minute_never_is(desk: Desk) -> None:
    desk.line.there = False
    order = desk.orders.ask("gw-huy-01", READ, Read, "Anne", station="huy")
    desk.look(30)
    desk.look(30)
    desk.line.there = True
    desk.look()
    assert (desk.line.sent, desk.orders.get(order).state) == ([], "expired")


def test_a_refusal_is_kept_and_bad_arguments_are_no_order(desk: Desk) -> None:
    order = desk.orders.ask("gw-huy-01", READ, Read, "Anne", station="huy")
    desk.orders.answered("gw-huy-01", json.dumps({"id": order, "ok": False, "error": "no"}).encode())
    desk.look()
    assert (desk.line.sent, desk.orders.get(order).state) == ([], "refused")
    with pytest.raises(ValidationError):
        desk.orders.ask("gw-huy-01", READ, Read, "", station="huy")
