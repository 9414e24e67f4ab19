"""Signed commands: what central signs the gateway accepts, and nothing else; an acknowledgement is asked for until confirmed."""

import base64
import json
import threading
from pathlib import Path

import pytest

from central.alarms.log import AlarmLog
from central.alarms.wishes import Wishes
from central.commands import Forwarder, keygen, load_key, public_key
from central.db import Database
from central.errors import ConfigError
from common.clock import Clock
from edge.commands import CommandVerifier
from tests.central.test_alarm_log import OCC, STORY, T0
from wire.command import SIGNATURE
from wire.errors import WireError


class Line:
    """A session that keeps what was published, or says that there is no broker."""

    def __init__(self) -> None:
        self.there = True
        self.sent: list[tuple[str, bytes, dict[str, str], int | None]] = []
        self.changed = threading.Condition()

    def publish(self, topic, payload, *, properties, expiry_s):
        with self.changed:
            if self.there:
                self.sent.append((topic, payload, dict(properties), expiry_s))
            self.changed.notify_all()
            return self.there

    def until(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.sent) >= count, 10), self.sent


@pytest.fixture
def key(tmp_path: Path):
    keygen(tmp_path / "key.pem")
    return load_key(tmp_path / "key.pem")


@pytest.fixture
def db(tmp_path: Path):
    opened = Database(tmp_path / "central.db")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def alarms(db):
    log = AlarmLog(db)
    log.record(STORY[0], T0)
    return log


@pytest.fixture
def asking(key, db, alarms):
    hands = {"now": 0.0}
    line = Line()
    clock = Clock(boottime=lambda: hands["now"], walltime=lambda: T0 + hands["now"])
    forwarder = Forwarder(key, lambda: line, alarms, Wishes(db, alarms, clock), clock)
    yield forwarder, line, hands
    forwarder.worker.stop()


def test_what_central_signs_the_gateway_accepts_once_and_nothing_else(key, alarms, asking):
    forwarder, line, _ = asking
    alarms.acknowledge(OCC, "bourgmestre", T0 + 10)
    forwarder.worker.start()
    line.until(1)
    topic, payload, properties, expiry_s = line.sent[0]
    assert topic == "maillages/v1/gw-huy-01/cmd/ack"
    assert expiry_s == 60
    gateway = CommandVerifier(public_key(key))
    for changed in (
        (topic.replace("gw-huy-01", "gw-huy-02"), payload, properties),
        (topic.replace("ack", "shelve"), payload, properties),
        (topic, payload.replace(b"bourgmestre", b"personne   "), properties),
        (topic, payload, {}),
        (topic, payload, {SIGNATURE: base64.b64encode(bytes(64)).decode()}),
    ):
        with pytest.raises(WireError, match="signature"):
            gateway.check(*changed, 60)
    with pytest.raises(WireError, match="expiry"):
        gateway.check(topic, payload, properties, None)
    with pytest.raises(WireError, match="central_key"):
        CommandVerifier(None).check(topic, payload, properties, 60)
    arguments = gateway.check(topic, payload, properties, 60)
    assert (arguments["occurrence"], arguments["by"], arguments["level"]) == (OCC, "bourgmestre", 1)
    with pytest.raises(WireError, match="already given"):
        gateway.check(topic, payload, properties, 60)


def test_an_acknowledgement_is_asked_for_until_the_gateway_confirms(alarms, asking):
    forwarder, line, hands = asking
    line.there = False
    alarms.acknowledge(OCC, "bourgmestre", T0 + 10)
    forwarder.worker.start()
    with line.changed:
        assert line.changed.wait(10)
    line.there = True
    forwarder.wake()
    line.until(1)
    forwarder.answered("gw-huy-01", b'{"id":"x","ok":false,"error":"busy"}')  # a refusal ends nothing
    hands["now"] = 15
    line.until(2)
    forwarder.wake()  # the gateway is back: at once, however long the next try is away
    line.until(3)
    ids = {json.loads(payload)["id"] for _, payload, _, _ in line.sent}
    assert len(ids) == len(line.sent), (
        "every try has an id of its own, or a gateway that lost power refused it as a replay"
    )
    confirmation = STORY[2].model_copy(update={"seq": 2, "level": 1})
    alarms.record(confirmation, T0 + 20)
    hands["now"] = 10_000
    forwarder.wake()
    forwarder.worker.stop()
    assert len(line.sent) == 3
    with pytest.raises(WireError, match="ok"):
        forwarder.answered("gw-huy-01", b"{}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "expected .* cannot be read"),
        (base64.b64encode(bytes(32)).decode(), "expected an Ed25519 private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected an Ed25519 private key"),
    ],
)
def test_a_bad_key_is_named(tmp_path, content, expected):
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"commands.key: .*bad.pem: {expected}"):
        load_key(path)
