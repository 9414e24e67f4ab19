"""MQTT topics: `maillages/v1/<gateway>/<leaf>`. A gateway reads and writes under its own root only."""

from typing import NamedTuple

from wire.errors import WireError
from wire.ids import is_id

ROOT = "maillages/v1"

READINGS = "readings"
ALARMS = "alarms"
ACTIVE = "active"
STATIONS = "stations"
HEALTH = "health"
STATUS = "status"
RECEIPT = "receipt"
CONFIG = "config"


class Topic(NamedTuple):
    gateway: str
    leaf: str


def topic(gateway: str, leaf: str) -> str:
    """The full topic of a leaf such as `readings` or `cmd/ack`."""
    return f"{ROOT}/{gateway}/{leaf}"


def parse(text: str) -> Topic:
    """Gateway and leaf of a full topic. Raises WireError naming the part that is wrong."""
    prefix, _, rest = text.partition(ROOT + "/")
    gateway, _, leaf = rest.partition("/")
    if prefix or not leaf:
        raise WireError(f"topic {text!r}: expected {ROOT}/<gateway>/<leaf>")
    if not is_id(gateway):
        raise WireError(f"topic {text!r}: {gateway!r} is no gateway id")
    return Topic(gateway, leaf)


def command_result(name: str) -> str:
    """Leaf of the answer to a command."""
    return f"cmd/{name}/result"
