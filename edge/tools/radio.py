"""What `maillages-edge radio` does: a new key for a node, and what is known of each. No key is logged or listed."""

import json
from base64 import b64encode
from dataclasses import asdict, dataclass
from pathlib import Path

from common.clock import rfc3339
from edge import drivers
from edge.config import EdgeConfig, Modem, Sensor
from edge.errors import ConfigError
from edge.nodes import Heard, issue_key, key_id, read_heard, read_keys, write_private
from edge.radio._downlinks import report_every, restart
from edge.radio.rylr998 import Settings
from edge.transports.build import modem_settings

DEFAULT_PERIOD_S = 600.0
"""What a node is told where the gateway's configuration has no `period_s` for it."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as the technician sees it. `keys` are names of keys, the newest first; `counter` and `heard` are of the last packet
    accepted under any of them, None without."""

    node: int
    modem: str
    sensors: tuple[str, ...]
    authenticated: bool
    keys: tuple[str, ...]
    counter: int | None
    heard: str | None


def rekey(config: EdgeConfig, node: int, file: Path) -> str:
    """Give a node a new key and write `file` for it; the text tells a person all about it, the key included.

    Raises ConfigError when no authenticated sensor is at this node or `file` exists, NodeKeysUnusable when the key cannot be kept.
    """
    behind = _behind(config).get(node, [])
    sensors = [sensor for _, sensor in behind if sensor.authenticated]
    if not sensors:
        found = ", ".join(str(n) for n, s in _behind(config).items() if s[0][1].authenticated) or "none"
        raise ConfigError(f"node {node}: no sensor is authenticated there, expected one of {found}")
    if file.exists():
        raise ConfigError(f"{file}: exists; it may hold the key of a node, delete it first")
    modem = next(m for m in config.modem if m.name == sensors[0].modem)
    key = issue_key(config.gateway.data_dir, node)
    try:
        write_private(file, json.dumps(_for_node(modem, node, sensors, key), indent=1) + "\n")
    except OSError as e:
        raise ConfigError(f"{file}: cannot be written: {e.strerror}; the key is lost, rekey with another --file") from e
    names = ", ".join(name for name, _ in behind)
    return (
        f"Node {node} ({names}) has a new key, {key_id(key)}:\n\n    {key.hex()}\n\n"
        f"It is shown this once, and stands in {file} (mode 0600): copy that to the node as node.json, then delete it here.\n"
        "The gateway takes it at once, and packets under the old key until the first under the new one has come.\n"
    )


def downlink(model: str, interval_s: int | None, as_json: bool) -> str:
    """What to send down to a LoRaWAN sensor, as each network server wants it: a new interval, or without one a restart.

    Raises ConfigError for a model or an interval that it cannot have."""
    try:
        port, payload = report_every(model, interval_s) if interval_s is not None else restart(model)
    except ValueError as e:
        raise ConfigError(str(e)) from e
    text = b64encode(payload).decode()
    if as_json:
        return json.dumps({"model": model, "fport": port, "hex": payload.hex(), "base64": text}) + "\n"
    what = "a restart" if interval_s is None else f"a report each {interval_s} s"
    return (
        f"{model}, {what}: port {port}, {payload.hex(' ').upper()}\n\n"
        f"ChirpStack v4   topic   application/APPLICATION/device/DEV_EUI/command/down\n"
        f'                payload {{"devEui": "DEV_EUI", "confirmed": true, "fPort": {port}, "data": "{text}"}}\n'
        f"The Things      topic   v3/APPLICATION@TENANT/devices/DEVICE/down/push\n"
        f'                payload {{"downlinks": [{{"f_port": {port}, "frm_payload": "{text}", "confirmed": true}}]}}\n\n'
        "The sensor takes it after its next uplink. Set `period_s` of its sensors in edge.toml to the same.\n"
    )


def _for_node(modem: Modem, node: int, sensors: list[Sensor], key: bytes) -> dict[str, object]:
    settings: list[str] = []
    gateway = 0
    found = None
    if modem.settings is not None:
        found = modem_settings(f"modem {modem.name}", modem.settings, drivers.find(modem.driver))
    if isinstance(found, Settings):
        gateway = found.address
        own = found.model_copy(update={"address": node})
        settings = ["MODE=0", *(step.write.decode("ascii").strip().removeprefix("AT+") for step in own.steps())]
    period_s = min((s.period_s for s in sensors if s.period_s), default=DEFAULT_PERIOD_S)
    return {"node": node, "key": key.hex(), "gateway": gateway, "settings": settings, "period_s": period_s}


def nodes(config: EdgeConfig) -> list[NodeInfo]:
    """Every node of the configuration, by its number. Raises NodeKeysUnusable."""
    keys = read_keys(config.gateway.data_dir)
    heard = read_heard(config.gateway.data_dir)
    found = []
    for node, behind in sorted(_behind(config).items()):
        names = tuple(key_id(key) for key in keys.get(node, ()))
        last = max((heard[node, name] for name in names if (node, name) in heard), key=_when, default=None)
        found.append(
            NodeInfo(
                node,
                behind[0][1].modem or "",
                tuple(name for name, _ in behind),
                behind[0][1].authenticated,
                names,
                last.counter if last else None,
                rfc3339(last.heard_s) if last else None,
            )
        )
    return found


def listing(found: list[NodeInfo], as_json: bool) -> str:
    """One line a node: a table, or objects."""
    if as_json:
        return "\n".join(json.dumps(asdict(info), ensure_ascii=False) for info in found)
    rows = [("NODE", "MODEM", "SENSORS", "KEY", "COUNTER", "LAST HEARD")]
    for info in found:
        if not info.authenticated:
            key = "unauthenticated"
        elif not info.keys:
            key = "none: refused"
        else:
            key = info.keys[0] + (f" (not used yet, {info.keys[-1]} counts)" if len(info.keys) > 1 else "")
        counter = "-" if info.counter is None else str(info.counter)
        rows.append((str(info.node), info.modem, ", ".join(info.sensors), key, counter, info.heard or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _behind(config: EdgeConfig) -> dict[int, list[tuple[str, Sensor]]]:
    found: dict[int, list[tuple[str, Sensor]]] = {}
    for station in config.station:
        for sensor in station.sensor:
            if sensor.modem is not None and sensor.address is not None:
                found.setdefault(sensor.address, []).append((f"{station.id}/{sensor.id}", sensor))
    return found


def _when(heard: Heard) -> float:
    return heard.heard_s
