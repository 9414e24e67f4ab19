"""Mosquitto for gateways and central: its configuration, and the rights of each gateway (docs/adr/0010-broker-rights.md).

A client shows a certificate of our CA; its CN is its user name. Rights are the dynamic-security plugin's, by user name and without
passwords. The plugin judges messages, not connections: whom it does not know may connect, and neither publish nor subscribe.
"""

import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from central.authority import SERVER_DAYS, Authority, ends_s, hosts_of, new_key
from central.config import CentralConfig, Enrolment, Mqtt, is_loopback
from central.errors import ConfigError, NeedsPerson
from common.clock import Clock
from wire import topics

CENTRAL = "central"
RESERVED = frozenset({CENTRAL, "central-alarms", "central-readings"})
"""What no gateway may be called: the broker knows central and its sessions by these names."""
CONTROL = "$CONTROL/dynamic-security/v1"
_PLUGINS = ("usr/lib/*/mosquitto_dynamic_security.so", "usr/lib/mosquitto_dynamic_security.so",
            "usr/local/lib/mosquitto_dynamic_security.so")  # fmt: skip
_DAY_S = 86400
_HARMLESS = frozenset({"Role already exists", "Client already exists", "Client not found", "Role not found"})

Ask = Callable[[bytes], bytes]
"""Sends commands to the plugin and gives its answer. Raises Unavailable or NeedsPerson."""


class Rights:
    """The plugin's clients and roles in a running broker. Every change holds at once and is kept by the broker."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @classmethod
    def of(cls, mqtt: Mqtt) -> "Rights":
        """Over MQTT, as central."""
        from central.mqtt import ask  # the MQTT client is heavy, and tests pass another

        client_id = f"central-admin-{os.getpid()}"
        return cls(lambda payload: ask(mqtt, client_id, CONTROL, payload, f"{CONTROL}/response"))

    def admit(self, gateway: str) -> None:
        """A gateway may use its own topics. Raises Unavailable or NeedsPerson."""
        self._do(
            {"command": "createRole"} | _role(gateway),
            {"command": "createClient"} | _client(gateway),
        )

    def expel(self, gateway: str) -> None:
        """A gateway may do nothing any more, and its connection is cut. Raises Unavailable or NeedsPerson."""
        # Not `disableClient`: Mosquitto 2.0.11 cuts that connection too, but lets the next one publish.
        self._do(
            {"command": "deleteClient", "username": gateway},
            {"command": "deleteRole", "rolename": gateway},
        )

    def _do(self, *commands: dict[str, Any]) -> None:
        answer = self._ask(json.dumps({"commands": commands}).encode())
        try:
            errors = [r["error"] for r in json.loads(answer)["responses"] if "error" in r]
        except (ValueError, KeyError, TypeError) as e:
            raise NeedsPerson(f"the broker's answer cannot be read: {e}") from None
        if wrong := [error for error in errors if error not in _HARMLESS]:
            raise NeedsPerson(f"the broker refuses: {'; '.join(wrong)}")


def write(
    directory: Path, settings: CentralConfig, enrolment: Enrolment, authority: Authority, gateways: Iterable[str],
    clock: Clock, *, plugin: Path | None, user: str,
) -> list[str]:  # fmt: skip
    """Write all that Mosquitto needs into `directory`, and central's own certificate into the CA's; gives what was done, a line
    each. What is there and still good stays: the certificates while half of their life is left, and the rights always.

    Raises ConfigError.
    """
    plugin = plugin or _find_plugin()
    if not plugin.exists():
        raise ConfigError(f"--plugin: {plugin}: no such file")
    hosts = list(dict.fromkeys([*(host for host, _ in enrolment.addresses), settings.mqtt.host, "localhost"]))
    port = enrolment.addresses[0][1]
    if port == settings.mqtt.port:
        raise ConfigError(
            f"mqtt.port: found {port}, which is the gateways' (enrolment.brokers); expected another, as 8884, since"
            " central has a listener of its own"
        )
    done = []
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        (directory / "data").mkdir(exist_ok=True, mode=0o700)
        new = _certificate(directory / "broker", hosts, clock, lambda key: authority.server(hosts, key, clock).pem)
        done.append(f"broker.pem, broker.key   certificate for {', '.join(hosts)}{'' if new else ', kept'}")
        (directory / "ca.pem").write_text(authority.pem)
        shutil.copyfile(enrolment.ca_dir / "crl.pem", directory / "crl.pem")
        done.append("ca.pem, crl.pem          the CA, and what it has revoked")
        rights = directory / "dynamic-security.json"
        if rights.exists():
            done.append("dynamic-security.json    kept: the broker itself keeps the rights there")
        else:
            names = list(gateways)
            rights.write_text(json.dumps(_rights(names), indent=1) + "\n")
            rights.chmod(0o600)
            done.append(f"dynamic-security.json    rights of central and {len(names)} gateways")
        text = _MOSQUITTO.format(
            directory=directory, plugin=plugin, port=port, user=user, **_central_listener(settings)
        )
        (directory / "mosquitto.conf").write_text(text)
        reach = (
            "loopback only"
            if is_loopback(settings.mqtt.host)
            else "all addresses: let the firewall admit central alone"
        )
        done.append(f"mosquitto.conf           gateways on port {port}; central on {settings.mqtt.port}, {reach}")
        for name, unit in _UNITS.items():
            (directory / name).write_text(unit.format(directory=directory, ca_dir=enrolment.ca_dir, user=user))
        done.append("mosquitto-maillages.conf, maillages-crl.*   for systemd")
        if os.geteuid() == 0:
            _give(directory, user)
    except OSError as e:
        raise ConfigError(f"{e.filename or directory}: {e.strerror}") from e
    return done


def write_own(enrolment: Enrolment, authority: Authority, clock: Clock) -> bool:
    """Central's own certificate and key in the CA's directory, unless they are good; True when they are new. Raises ConfigError."""
    try:
        return _certificate(
            enrolment.ca_dir / CENTRAL, [], clock, lambda key: authority.client(CENTRAL, key, clock).pem
        )
    except OSError as e:
        raise ConfigError(f"{e.filename or enrolment.ca_dir}: {e.strerror}") from e


def own_tls(enrolment: Enrolment) -> str:
    """The section of central.toml that uses them."""
    d = enrolment.ca_dir
    return f'[mqtt.tls]\nca = "{d}/ca.pem"\ncert = "{d}/central.pem"\nkey = "{d}/central.key"'


def next_steps(directory: Path) -> list[str]:
    """The commands that put it to use, once."""
    return [
        "sudo mkdir -p /etc/systemd/system/mosquitto.service.d",
        f"sudo cp {directory}/mosquitto-maillages.conf /etc/systemd/system/mosquitto.service.d/maillages.conf",
        f"sudo cp {directory}/maillages-crl.* /etc/systemd/system/",
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now maillages-crl.path && sudo systemctl restart mosquitto",
    ]


def _certificate(stem: Path, hosts: list[str], clock: Clock, issue: Callable[[Any], str]) -> bool:
    """A key and a certificate, unless there is one for these hosts with half of its life left; True when they are new."""
    pem, key_file = stem.with_suffix(".pem"), stem.with_suffix(".key")
    if pem.exists() and key_file.exists():
        with suppress(ValueError):  # it is no certificate: a new one
            present = pem.read_text()
            if ends_s(present) - clock.wall() > SERVER_DAYS / 2 * _DAY_S and hosts_of(present) == hosts:
                return False
    public, key = new_key()
    for path, text in ((key_file, key), (pem, issue(public))):
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        new.replace(path)
    return True


def _find_plugin() -> Path:
    for pattern in _PLUGINS:
        if found := sorted(Path("/").glob(pattern)):
            return found[0]
    raise ConfigError(
        "mosquitto_dynamic_security.so: not found; it comes with Mosquitto 2 (apt install mosquitto); else name it with --plugin"
    )


def _central_listener(settings: CentralConfig) -> dict[str, str]:
    """Bound to loopback when central reaches the broker there."""
    bind = " 127.0.0.1" if is_loopback(settings.mqtt.host) else ""
    return {"central_port": str(settings.mqtt.port), "central_bind": bind}


def _give(directory: Path, user: str) -> None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"--user: there is no user {user}; apt install mosquitto makes it") from None
    for path in (directory, *directory.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _role(gateway: str) -> dict[str, Any]:
    """The rights of a gateway: its own root, whole, so that a new topic needs no change of rights."""
    return {"rolename": gateway, "acls": _acls(f"{topics.ROOT}/{gateway}/#")}


def _client(name: str) -> dict[str, Any]:
    return {"username": name, "roles": [{"rolename": name}]}


def _acls(*patterns: str) -> list[dict[str, Any]]:
    return [
        {"acltype": kind, "topic": pattern, "priority": 0, "allow": True}
        for pattern in patterns
        for kind in ("publishClientSend", "publishClientReceive", "subscribePattern")
    ]


def _rights(gateways: list[str]) -> dict[str, Any]:
    """The plugin's file as it begins: nothing is allowed that is not named."""
    central = {"rolename": CENTRAL, "acls": _acls(f"{topics.ROOT}/#", "$CONTROL/dynamic-security/#", "$SYS/#")}
    return {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": False,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [_client(name) for name in (CENTRAL, *gateways)],
        "groups": [],
        "roles": [central, *map(_role, gateways)],
    }


_MOSQUITTO = """\
# Mosquitto for Maillages, whole: made by `maillages-central broker`, which writes it anew. Run it with -c on this file.
user {user}

# Rights: by the CN of the certificate, kept in dynamic-security.json by the plugin, changed by central over MQTT. No acl_file: with one,
# Mosquitto 2.0 loses what comes for a central that is away, after a restart and a SIGHUP (eclipse-mosquitto issue 2934).
per_listener_settings false
allow_anonymous false
plugin {plugin}
plugin_opt_config_file {directory}/dynamic-security.json

# Sessions of central, and what waits for it, survive a restart; after a kill, what is older than five seconds.
persistence true
persistence_location {directory}/data/
autosave_interval 5
persistent_client_expiration 14d

# What waits for a central that is away. At a limit Mosquitto says yes and drops: nothing is lost by it, since gateways repeat what
# has no receipt, but it takes longer. The default of 1000 is two minutes of a fleet after a flood has filled its backlogs.
max_queued_messages 100000
max_queued_bytes 268435456
# Readings come in packs of at most 16 KiB; a signed configuration is the largest message.
max_packet_size 300000
# Without it a reading takes 40 ms through the broker instead of 5.
set_tcp_nodelay true

# To the journal, by way of systemd: no file, so no logrotate with its SIGHUP.
log_dest stderr
log_timestamp false
log_type error
log_type warning
log_type notice

# The gateways. The certificate gives user name and client id: nobody takes the session of another.
listener {port}
tls_version tlsv1.2
cafile {directory}/ca.pem
certfile {directory}/broker.pem
keyfile {directory}/broker.key
crlfile {directory}/crl.pem
require_certificate true
use_identity_as_username true
use_username_as_clientid true

# Central, which has two sessions under one identity.
listener {central_port}{central_bind}
tls_version tlsv1.2
cafile {directory}/ca.pem
certfile {directory}/broker.pem
keyfile {directory}/broker.key
crlfile {directory}/crl.pem
require_certificate true
use_identity_as_username true
"""

_UNITS = {
    "mosquitto-maillages.conf": """\
# /etc/systemd/system/mosquitto.service.d/maillages.conf
[Service]
ExecStart=
ExecStart=/usr/sbin/mosquitto -c {directory}/mosquitto.conf
""",
    "maillages-crl.path": """\
# /etc/systemd/system/maillages-crl.path
[Unit]
Description=Hands Mosquitto a new revocation list of Maillages

[Path]
PathChanged={ca_dir}/crl.pem

[Install]
WantedBy=multi-user.target
""",
    "maillages-crl.service": """\
# /etc/systemd/system/maillages-crl.service
[Unit]
Description=Hands Mosquitto a new revocation list of Maillages

[Service]
Type=oneshot
ExecStart=/usr/bin/install -o {user} -m 600 {ca_dir}/crl.pem {directory}/crl.pem
ExecStart=/usr/bin/systemctl reload mosquitto.service
""",
}
