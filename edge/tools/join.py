"""`maillages-edge join`: install what a join file holds, prove the way to central and back, and have the gateway started.

It can be run again after any fault: what is installed already stays, and what failed is tried again.
"""

import os
import pwd
import re
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common import lock
from common.clock import Clock, from_rfc3339
from edge import config, identity, link, service
from edge.errors import ConfigError
from edge.link import LinkFault, tls_context
from edge.vitals import vitals
from wire import senml, topics
from wire.errors import WireError
from wire.identity import MAX_JOIN_BYTES, Join, WrongPassphrase, look, unseal
from wire.ids import uuid7

DAY_S = 86400
CONNECT_S = 15.0
RECEIPT_S = 30.0
ATTEMPTS = 3
_NO_SUBSCRIBER, _NOT_AUTHORISED = 16, 135
_UNIT = "maillages-edge"
_ENROL_AGAIN = "the administrator makes a new one: maillages-central enrol {gateway} --commune … --replace"


@dataclass(eq=False)
class JoinRefused(ConfigError):
    """What is wrong with the file, the machine or what is on it, and what to do; nothing was changed."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


@dataclass(frozen=True)
class Places:
    """Where things go, and to whom they belong when root installs them."""

    edge_toml: Path
    data_dir: Path
    user: str

    @property
    def tls(self) -> config.Tls:
        folder = self.data_dir / "identity"
        own = folder / "gateway.pem"
        return config.Tls(ca=folder / "ca.pem", cert=own, key=own)


Say = Callable[[str, str], None]
"""Tells of a step that was done: its name, and what came of it."""


def read(path: Path, clock: Clock) -> str:
    """The text of a join file that may be used now. Raises JoinRefused."""
    try:
        if path.stat().st_size > MAX_JOIN_BYTES:
            raise JoinRefused(f"{path} is no join file", "it has a few kilobytes; is it the right one?")
        text = path.read_text(encoding="utf-8", errors="replace")
        head = look(text)
        made, expires = from_rfc3339(head["made"]), from_rfc3339(head["expires"])
    except OSError as e:
        raise JoinRefused(f"{path} cannot be read ({e.strerror})", "is the path right, the stick plugged in?") from e
    except (WireError, ValueError, TypeError) as e:
        raise JoinRefused(f"{path}: {e}", "take the file that `maillages-central enrol` wrote, whole") from e
    _in_time(str(head["gateway"]), made, expires, clock)
    return text


def _in_time(gateway: str, made: float, expires: float, clock: Clock) -> None:
    now = clock.wall()
    if now < made - DAY_S:
        raise JoinRefused(
            f"the clock of this machine says {identity.day(now)}, before the join file was made ({identity.day(made)})",
            "set it: with a network it comes by itself (`timedatectl` shows it), else `sudo date -s '2026-11-25 14:30'`",
        )
    if now > expires:
        raise JoinRefused(
            f"the join file expired on {identity.day(expires)} (the clock says {identity.day(now)})",
            "if the clock is right, " + _ENROL_AGAIN.format(gateway=gateway),
        )


def unsealed(text: str, ask: Callable[[], str], attempts: int, clock: Clock) -> Join:
    """What the file holds, by the passphrase that `ask` gives. Raises JoinRefused after so many wrong ones."""
    for left in reversed(range(attempts)):
        try:
            join = unseal(text, ask())
        except WrongPassphrase:
            if not left:
                break
        except WireError as e:
            raise JoinRefused(str(e), "copy it again from where `maillages-central enrol` wrote it") from e
        else:
            _in_time(join.gateway, from_rfc3339(join.made), from_rfc3339(join.expires), clock)
            return join
    raise JoinRefused(
        "the passphrase is wrong",
        "it has 16 letters, spaces and capitals do not matter; `enrol` showed it once. Lost? "
        + _ENROL_AGAIN.format(gateway=look(text)["gateway"]),
    )


def install(join: Join, places: Places, clock: Clock, *, replace: bool, say: Say) -> config.EdgeConfig:
    """Write identity and configuration, unless they are there already; gives the configuration. Raises JoinRefused before
    anything is changed, ConfigError when the disk refuses."""
    tls = places.tls
    owner = _owner(places.user)
    _check_identity(join, tls, replace=replace)
    text = _configuration(join, places, clock, replace=replace)
    try:
        tls.cert.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        identity.write_secret(tls.ca, join.ca.encode())
        identity.next_file(tls.cert).unlink(missing_ok=True)  # of the identity that was
        identity.write_secret(tls.cert, join.identity.encode())
        say("identity", f"{tls.cert}, until {identity.day(identity.certificate(tls.cert).ends_s)}")
        if text is None:
            say("configuration", f"{places.edge_toml}, as it was")
        else:
            places.edge_toml.parent.mkdir(parents=True, exist_ok=True)
            if places.edge_toml.exists():
                identity.write_secret(places.edge_toml.with_suffix(".toml.old"), places.edge_toml.read_bytes())
            identity.write_secret(places.edge_toml, text.encode())
            say("configuration", f"{places.edge_toml}, written")
        settings = config.load(places.edge_toml)
        if owner is not None:
            _give(places, tls, owner)
    except OSError as e:
        where = e.filename or places.data_dir
        raise JoinRefused(f"{where} cannot be written ({e.strerror})", "run it with sudo") from e
    return settings


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """No gateway runs on `data_dir` within the block. Raises JoinRefused."""
    try:
        descriptor = lock.hold(data_dir)
    except BlockingIOError:
        raise JoinRefused(
            f"the gateway runs ({data_dir} is in use)", f"stop it first: sudo systemctl stop {_UNIT}"
        ) from None
    except OSError as e:
        raise JoinRefused(f"{data_dir} cannot be written ({e.strerror})", "run it with sudo") from e
    try:
        yield
    finally:
        os.close(descriptor)


def _check_identity(join: Join, tls: config.Tls, *, replace: bool) -> None:
    try:
        present = tls.cert.read_bytes()
    except FileNotFoundError:
        return
    except OSError as e:
        raise JoinRefused(f"{tls.cert} cannot be read ({e.strerror})", "run it with sudo") from e
    if present == join.identity.encode() or replace:
        return
    try:
        found = identity.parse(present)
        whose = f"{found.gateway}, until {identity.day(found.ends_s)}"
    except ValueError:
        whose = "unreadable"
    raise JoinRefused(
        f"this machine has another identity already ({whose})",
        f"to make it {join.gateway} by this join file: again with --replace; the old key is lost then",
    )


def _configuration(join: Join, places: Places, clock: Clock, *, replace: bool) -> str | None:
    """What edge.toml shall be; None when it is good as it is. Checked as `run` would check it. Raises JoinRefused."""
    path, mqtt = places.edge_toml, _mqtt(join, places.tls)
    head = f'[gateway]\nid = "{join.gateway}"\ndata_dir = "{places.data_dir}"\n\n'
    try:
        present = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _good(f"{head}{mqtt}\n{join.configuration}", f"the configuration of the join file, for {path}", clock)
    except (OSError, UnicodeDecodeError) as e:
        raise JoinRefused(f"{path} cannot be read ({e})", "run it with sudo") from e
    try:
        found: dict[str, Any] = tomllib.loads(present)
    except tomllib.TOMLDecodeError as e:
        raise JoinRefused(f"{path} is no TOML ({e})", "mend it, or move it away and a new one is written") from e
    gateway = found.get("gateway", {})
    wanted = {"id": join.gateway, "data_dir": str(places.data_dir)}
    if wrong := [key for key, value in wanted.items() if gateway.get(key) != value]:
        raise JoinRefused(
            f"{path} has {wrong[0]} = {gateway.get(wrong[0])!r}, and this gateway is {join.gateway}, in {places.data_dir}",
            f"move {path} away, and with another id also what is in {places.data_dir}; or --config, --data-dir",
        )
    if found.get("mqtt") == tomllib.loads(mqtt)["mqtt"]:
        return None
    if "mqtt" in found and not replace:
        raise JoinRefused(
            f"[mqtt] of {path} leads elsewhere than the join file",
            f"with --replace only that section is exchanged, and the old file kept as {path.with_suffix('.toml.old').name}",
        )
    return _good(f"{_without_mqtt(present).rstrip()}\n\n{mqtt}", f"{path}, with [mqtt] of the join file", clock)


def _good(text: str, what: str, clock: Clock) -> str:
    try:
        service.check(config.parsed(text, what), clock)
    except ConfigError as e:
        raise JoinRefused(f"{e}", "mend it and run this again; nothing was changed") from e
    return text


def _mqtt(join: Join, tls: config.Tls) -> str:
    first, *others = join.brokers
    lines = ["[mqtt]", f'host = "{first.host}"', f"port = {first.port}"]
    if others:
        listed = ", ".join(f'{{ host = "{b.host}", port = {b.port} }}' for b in others)
        lines.append(f"fallback = [{listed}]")
    if join.central_key:
        lines.append(f'central_key = "{join.central_key}"')
    return "\n".join([*lines, "[mqtt.tls]", f'ca = "{tls.ca}"', f'cert = "{tls.cert}"', f'key = "{tls.key}"']) + "\n"


def _without_mqtt(text: str) -> str:
    """A TOML file without the tables `mqtt` and below: from their header to the next."""
    kept, inside = [], False
    for line in text.splitlines():
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            inside = header[1].split(".")[0].strip(" \"'") == "mqtt"
        if not inside:
            kept.append(line)
    return "\n".join(kept)


def _owner(user: str) -> pwd.struct_passwd | None:
    """To whom root gives what it writes; None when it is not root who writes. Raises JoinRefused."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise JoinRefused(
            f"there is no user {user} on this machine",
            "install the gateway first, which makes it; or name another with --user",
        ) from None


def _give(places: Places, tls: config.Tls, owner: pwd.struct_passwd) -> None:
    data = places.data_dir
    for path in (data, data / "lock", tls.cert.parent, tls.ca, tls.cert, places.edge_toml):
        os.chown(path, owner.pw_uid, owner.pw_gid)


def prove(settings: config.EdgeConfig, clock: Clock, say: Say) -> None:
    """Over the first broker that can be reached: a reading of this gateway, stored by central and receipted. Raises LinkFault."""
    mqtt = settings.mqtt
    if mqtt is None:
        raise LinkFault("the configuration has no [mqtt]", "a gateway without central needs no join")
    faults: list[LinkFault] = []
    for broker in (mqtt, *mqtt.fallback):
        try:
            version = link.check(broker, mqtt.tls, clock)
            say("broker", f"{broker.host}:{broker.port} reached, {version}")
            took_s = _round_trip(settings, broker, clock)
            say("round trip", f"{took_s:.1f} s: central has stored a reading of this gateway and sent its receipt")
            return
        except LinkFault as e:
            faults.append(e)
    if len(faults) == 1:
        raise faults[0]
    raise LinkFault("; ".join(e.what for e in faults), faults[0].remedy)


def _round_trip(settings: config.EdgeConfig, broker: config.Broker, clock: Clock) -> float:
    """Publish health that asks for a receipt, and wait for it; gives the seconds. Raises LinkFault."""
    gateway, tls = settings.gateway.id, settings.mqtt.tls if settings.mqtt else None
    where, correlation = f"{broker.host}:{broker.port}", f"join-{uuid7(clock.wall())}".encode()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=gateway, protocol=paho.MQTTv5, reconnect_on_failure=False
    )
    client.connect_timeout = CONNECT_S
    if tls is not None:
        client.tls_set_context(tls_context(tls, clock))
    if settings.mqtt and settings.mqtt.username:
        client.username_pw_set(settings.mqtt.username, settings.mqtt.password)
    said: dict[str, Any] = {}
    changed = threading.Condition()

    def note(key: str, value: Any) -> None:
        with changed:
            said.setdefault(key, value)
            changed.notify_all()

    def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        if getattr(message.properties, "CorrelationData", None) == correlation:
            note("receipt", True)

    client.on_connect = lambda _c, _u, _f, reason, _p: note("connack", reason)
    client.on_disconnect = lambda _c, _u, _f, reason, _p: note("gone", str(reason))
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: note("suback", reasons[0])
    client.on_publish = lambda _c, _u, _m, reason, _p: note("puback", reason.value)
    client.on_message = on_message

    def wait(key: str, seconds: float) -> Any:
        with changed:
            changed.wait_for(lambda: key in said or "gone" in said, clock.real(seconds))
        return said.get(key)

    begun = clock.boot()
    try:
        client.connect(broker.host, broker.port, keepalive=20, clean_start=True)
        client.loop_start()
        connack = wait("connack", CONNECT_S)
        if connack is None:
            raise LinkFault(
                f"{where} gives no answer in MQTT ({said.get('gone', 'silence')})",
                "its log says why (journalctl -u mosquitto)",
            )
        if connack.is_failure:
            raise LinkFault(f"{where} refuses {gateway}: {connack}", _rights(gateway))
        client.subscribe(topics.topic(gateway, topics.RECEIPT), 1)
        suback = wait("suback", CONNECT_S)
        if suback is None or suback.is_failure:
            raise LinkFault(
                f"{where} gives {gateway} no rights: {suback or said.get('gone', 'silence')}", _rights(gateway)
            )
        p = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        p.ContentType, p.CorrelationData = senml.JSON_TYPE, correlation
        values = {"joined": 1.0} | vitals(settings.gateway.data_dir)
        now = round(clock.wall(), 3)
        pack = senml.to_json([{"n": name, "t": now, "v": value} for name, value in values.items()])
        client.publish(topics.topic(gateway, topics.HEALTH), pack, 1, properties=p)
        puback = wait("puback", CONNECT_S)
        if puback == _NOT_AUTHORISED:
            raise LinkFault(f"{where} takes nothing from {gateway}", _rights(gateway))
        if puback == _NO_SUBSCRIBER:
            raise LinkFault(
                f"{where} has nobody who listens to {gateway}: central has never connected to this broker",
                "does central run (systemctl status maillages-central), and at this broker?",
            )
        if puback is None or puback >= 0x80 or not wait("receipt", RECEIPT_S):
            raise LinkFault(
                f"{where} took a reading, and central sent no receipt within {RECEIPT_S:.0f} s",
                "central is away, or its database takes nothing: `journalctl -u maillages-central` says which. The"
                " gateway keeps its readings meanwhile, and its alarms sound",
            )
        return clock.boot() - begun
    except OSError as e:
        raise LinkFault(f"{where} cannot be reached ({e})", "try again") from e
    finally:
        client.disconnect()
        client.loop_stop()
        if (left_open := client.socket()) is not None:  # the thread ended before the broker closed it
            left_open.close()


def _rights(gateway: str) -> str:
    return (
        f"it is revoked, or this broker does not know it: the administrator looks, and enrols again"
        f" (maillages-central enrol {gateway} --commune … --replace)"
    )


def start_unit(path: Path, say: Say) -> None:
    """Have systemd start the gateway now and at each start of the machine, where systemd runs. Raises LinkFault."""
    by_hand = f"maillages-edge run -c {path}"
    if not Path("/run/systemd/system").exists():
        say("service", f"no systemd runs here: start the gateway with `{by_hand}`")
        return
    done = subprocess.run(["systemctl", "enable", "--now", _UNIT], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise LinkFault(
            f"the service {_UNIT} cannot be started ({reason[0]})",
            f"is the unit installed in /etc/systemd/system? `journalctl -u {_UNIT}` says more; by hand: {by_hand}",
        )
    say("service", f"{_UNIT} is enabled and started; `journalctl -fu {_UNIT}` shows it")
