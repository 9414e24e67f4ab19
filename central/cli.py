"""`maillages-central`. Each command imports what it needs when it runs."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from central.accounts import Accounts
    from central.alarms.log import AlarmLog, Occurrence
    from central.alarms.wishes import Wishes
    from central.config import CentralConfig, Enrolment
    from central.db import Database
    from central.enrolment import Registrar
    from central.holding import Holding
    from central.notify.recipients import Recipient, Recipients
    from common.clock import Clock
    from grafana.alerts import Span
    from wire.command import Order

PAYLOAD_SHOWN = 60
"""Characters of a dead letter's payload in the list."""

MIN_CA_PASSPHRASE = 12

_NO_KEY = (
    "central.toml has no [commands] key, and gateways take only what it signs. Make one with `maillages-central keygen FILE`,"
    " set [commands] key = FILE, put what keygen prints into every edge.toml as [mqtt] central_key, restart both"
)
_WHEN = "the alarm log shows it when the owner of the alarm has done it"

Reference = Annotated[
    str, typer.Argument(help="Id of the occurrence, its beginning, or its reference (Réf) of 5 characters.")
]
By = Annotated[str, typer.Option(help="Who: a name that others will read.")]
Config = Annotated[Path, typer.Option("--config", "-c", help="central.toml")]

app = typer.Typer(
    name="maillages-central",
    help="Central: stores readings, keeps the alarm log, tells the communes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="central.toml")],
    exercise_clock: Annotated[
        str | None, typer.Option(hidden=True, metavar="SCALE,ORIGIN_BOOT,ORIGIN_WALL", help="An exercise, sped up.")
    ] = None,
    worker: Annotated[
        str | None, typer.Option(metavar="N/M", help="One of M processes that share the readings out; needs one state.")
    ] = None,
) -> None:
    """Run central until SIGTERM."""
    import logging

    from central import service
    from central.config import load
    from central.workers import Place
    from common.clock import Clock

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        exercise = Clock.of_exercise(exercise_clock) if exercise_clock else None
        place = Place.parse(worker) if worker else None
    except ValueError as e:
        raise typer.BadParameter(str(e)) from None
    with _errors_end_it():
        settings = load(config)
        service.run(settings, exercise or Clock(trust=settings.clock.trust), place)


config_app = typer.Typer(help="Central's own configuration (`--example`), and those of the gateways.")
app.add_typer(config_app, name="config")


@config_app.callback(invoke_without_command=True)
def config_command(
    context: typer.Context,
    example: Annotated[bool, typer.Option("--example", help="Print a commented example of central.toml.")] = False,
) -> None:
    """Print a commented configuration (`--example`); push one to a gateway, and see what became of it."""
    from central.config import example as text

    if context.invoked_subcommand is not None:
        return
    if not example:
        raise typer.BadParameter("expected --example, push or history")
    typer.echo(text(), nl=False)


@config_app.command()
def push(
    gateway: Annotated[str, typer.Argument(help="Id of the gateway.")],
    file: Annotated[Path, typer.Argument(help="TOML: its edge.toml without [gateway], [clock], [journal], [mqtt].")],
    by: By,
    config: Config,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[float, typer.Option(min=0, metavar="S", help="Wait so long for what the gateway says.")] = 120,
) -> None:
    """Send a configuration to a gateway, signed. It tries it, keeps it when it stays healthy, and else goes back.

    Exit code 0: it runs; 1: it does not; 2: bad use; 3: the gateway has not said anything yet.
    """
    import time
    import tomllib

    from central.configurations import Configurations
    from common.clock import Clock
    from common.difference import differences

    clock = Clock()
    with _log(config) as (settings, db, _):
        if not settings.commands:
            _refuse(f"nothing was done: {_NO_KEY}")
        if gateway not in {s.gateway for s in settings.station}:
            known = ", ".join(sorted({s.gateway for s in settings.station})) or "none"
            _refuse(f"gateway {gateway!r} has no [[station]] in central.toml, expected one of {known}")
        try:
            text = file.read_text(encoding="utf-8")
            new = tomllib.loads(text)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            _refuse(f"{file}: cannot be read: {e}")
        configurations = Configurations(db, clock)
        configurations.check(text)
        before = next((s for s in reversed(configurations.history(gateway)) if s.state == "running"), None)
        old = tomllib.loads(before.text) if before else {}
        typer.echo(f"against version {before.version}:" if before else "the first that central sends; all of it:")
        for line in differences(old, new) or ["nothing is different"]:
            typer.echo("  " + _inert(line))
        if not yes and not typer.confirm(f"Send this to {gateway}?"):
            raise typer.Exit(1)
        version = configurations.push(gateway, text, by)
        typer.echo(f"version {version} is on its way")
        end = time.monotonic() + wait
        while not (sent := configurations.history(gateway)[-1]).answered and time.monotonic() < end:
            time.sleep(0.25)
    if not sent.answered:
        typer.echo(
            f"{gateway} has not said anything yet; it gets it when it is back (`maillages-central config history {gateway}`)",
            err=True,
        )
        raise typer.Exit(3)
    typer.echo(f"{gateway}: version {sent.version} {sent.state}")
    if sent.why:
        typer.echo("\n".join(map(_inert, sent.why.splitlines())), err=True)
    raise typer.Exit(0 if sent.state == "running" else 1)


@config_app.command("history")
def config_history(
    gateway: Annotated[str, typer.Argument(help="Id of the gateway.")],
    config: Config,
    version: Annotated[int | None, typer.Option(min=1, help="Print the text of this version.")] = None,
) -> None:
    """List what was sent to a gateway, and what became of it. Reads only, also beside a running central."""
    from central.configurations import Configurations
    from common.clock import Clock

    with _read_only(config) as db:
        sent = Configurations(db, Clock()).history(gateway)
    if version is not None:
        found = next((s for s in sent if s.version == version), None)
        if found is None:
            typer.echo(f"--version: found {version}, expected one of 1 to {len(sent)}", err=True)
            raise typer.Exit(2)
        typer.echo(found.text, nl=False)
        return
    _table(
        ("version", "sent", "by", "state", "said", "why"),
        [
            (
                str(s.version),
                _minute(s.made_s),
                s.by,
                s.state or "on its way",
                "-" if s.result_s is None else _minute(s.result_s),
                s.why.partition("\n")[0],
            )
            for s in sent
        ],
    )


@app.command()
def ack(
    occurrence: Reference,
    by: By,
    config: Config,
) -> None:
    """Acknowledge an alarm: nobody else is told, and the gateway is asked to fall silent."""
    from central.notify.channels import Channels
    from central.notify.notifier import Notifier
    from common.clock import Clock

    with _log(config) as (settings, db, alarms):
        known = _one(alarms, occurrence)
        # A notifier that is not started: it notes, and the running central sees it in the log.
        notifier = Notifier(
            settings,
            db,
            alarms,
            Clock(),
            Channels(None, ()),
            on_notifying=lambda *_: None,
            on_acknowledged=lambda: None,
        )
        done = notifier.acknowledge(known.occurrence, by)
    if done is not None and done.before:
        typer.echo(f"{done.occurrence}: already acknowledged by {done.before}")
    else:
        typer.echo(f"{known.occurrence}: acknowledged by {by}")
    if known.source == "gateway" and not settings.commands:
        typer.echo(f"the siren of {known.gateway} is not told: {_NO_KEY}", err=True)


@app.command()
def alarms(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List the alarms that stand or wait for an answer. Reads only, also beside a running central."""
    import json

    from central.alarms.log import AlarmLog
    from central.alarms.standing import standing
    from common.clock import Clock

    with _read_only(config) as db:
        found = standing(db, AlarmLog(db), Clock())
    if as_json:
        typer.echo(json.dumps([a.to_json() for a in found], ensure_ascii=False, indent=2))
        return
    _table(
        ("reference", "level", "where", "rule", "state", "since", "acknowledged by", "shelved until"),
        [
            (
                a.reference, str(a.occurrence.level), a.occurrence.station or a.occurrence.gateway, a.occurrence.rule,
                a.shown_state, _minute(a.occurrence.raised_s), a.occurrence.acked_by or "-",
                _minute(a.shelf.until_s) if a.shelf else "-",
            )
            for a in found
        ],
    )  # fmt: skip


@app.command()
def fleet(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List all gateways: version, certificate, last seen, completeness, batteries, faults. Reads only, beside a running central.

    Exit code 0: each is online without a fault; 1: one is not; 2: no state, or no database.
    """
    import json

    from central.alarms.log import AlarmLog
    from central.alarms.standing import standing
    from central.config import load
    from central.errors import NeedsPerson, Unavailable
    from central.fleet import fleet as members
    from central.holding import Holding
    from central.identities import Identities
    from central.store.configured import store as configured_store
    from common.clock import Clock

    clock = Clock()
    with _read_only(config) as db:
        settings = load(config)
        store = configured_store(settings)
        try:
            store.setup()
            alarms = [a.occurrence for a in standing(db, AlarmLog(db), clock)]
            found = list(members(settings, Holding(db), Identities(db), store, alarms, clock))
        except (Unavailable, NeedsPerson) as e:
            typer.echo(f"the database does not answer: {e}", err=True)
            raise typer.Exit(2) from None
        finally:
            store.close()
    if as_json:
        typer.echo(json.dumps([m.to_json() for m in found], ensure_ascii=False, indent=2))
    else:
        _table(
            ("gateway", "state", "version", "last seen", "certificate", "complete", "waiting", "batteries", "faults"),
            [
                (
                    m.gateway, {True: "online", False: "OFFLINE", None: "never heard"}[m.online], m.version or "-",
                    "-" if m.seen_s is None else _minute(m.seen_s),
                    "-" if m.certificate_days is None else f"{m.certificate_days:.0f} d",
                    "-" if m.completeness is None else f"{100 * m.completeness:.1f} %",
                    "-" if m.waiting is None else str(m.waiting), ", ".join(m.batteries) or "-", ", ".join(m.faults) or "none",
                )
                for m in found
            ],
        )  # fmt: skip
    raise typer.Exit(0 if all(m.good for m in found) else 1)


@app.command()
def shelve(
    occurrence: Reference,
    until: Annotated[str, typer.Option(help="2h, 45m, 14:30 (Belgian time) or RFC 3339; at most a day from now.")],
    by: By,
    config: Config,
    why: Annotated[str | None, typer.Option(help="The reason, for the alarm log.")] = None,
) -> None:
    """Shelve an alarm: until then nobody is told of it, whatever its level, and its siren is silent."""
    from common.clock import Clock, parse_until

    clock = Clock()
    try:
        until_s = parse_until(until, clock.wall())
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint="--until") from None
    with _wishes(config, occurrence) as (wishes, known):
        wishes.shelve(known, by, until_s, why)
    typer.echo(f"{known.occurrence}: to be shelved until {_minute(until_s)}, by {by}; {_WHEN}")


@app.command()
def unshelve(occurrence: Reference, by: By, config: Config) -> None:
    """End the shelf of an alarm: one that stands is told again, as if it were new."""
    with _wishes(config, occurrence) as (wishes, known):
        wishes.unshelve(known, by)
    typer.echo(f"{known.occurrence}: its shelf is to end, by {by}; {_WHEN}")


@app.command()
def reset(occurrence: Reference, by: By, config: Config) -> None:
    """Reset a latched alarm that has returned and was acknowledged."""
    with _wishes(config, occurrence) as (wishes, known):
        wishes.reset(known, by)
    typer.echo(f"{known.occurrence}: to be reset, by {by}; {_WHEN}")


@app.command()
def keygen(path: Annotated[Path, typer.Argument(help="File of the private key to be made.")]) -> None:
    """Make the key that signs commands to gateways; prints the public key, `central_key` of every edge.toml."""
    from central.commands import keygen as make

    with _errors_end_it():
        typer.echo(make(path))


@app.command()
def bundle(
    arch: Annotated[Literal["aarch64", "armv7l", "x86_64"], typer.Option(help="Machine of the gateway (`uname -m`).")],
    key: Annotated[
        Path, typer.Option(help="Private key that signs it (`keygen`); every gateway knows its public key.")
    ],
    python: Annotated[
        str, typer.Option(help="Python of the gateway: 3.11 is Debian 12, 3.13 Debian 13.")
    ] = "3.11,3.13",
    join: Annotated[
        Path | None, typer.Option(help="A join file to carry along: the bundle is then of that gateway.")
    ] = None,
    wheels: Annotated[Path | None, typer.Option(help="Directory of wheels that the index does not have.")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave a package out, as lgpio for a gateway whose pins are not used."),
    ] = None,
    source: Annotated[Path, typer.Option(help="The source tree.")] = Path(),
    out: Annotated[Path, typer.Option(help="Directory for the file.")] = Path(),
) -> None:
    """Make one signed file that installs or upgrades a gateway without a network: `sh FILE` there."""
    from tempfile import TemporaryDirectory

    from central import bundle as bundles
    from central.commands import load_key, public_key
    from common.clock import Clock

    pythons = tuple(python.split(","))
    if not set(pythons) <= set(bundles.PYTHONS):
        raise typer.BadParameter(f"--python: expected {', '.join(bundles.PYTHONS)}, found {python}")
    if join is not None and not join.is_file():
        raise typer.BadParameter(f"--join: {join}: no such file")
    with _errors_end_it(), TemporaryDirectory() as work:
        signer = load_key(key)
        found = bundles.gather(source.absolute(), Path(work), arch, pythons, wheels, without=without or ())
        release, content = bundles.assemble(source.absolute(), found, arch, signer, Clock(trust="always"), join)
    path = out / f"maillages-{release}-{arch}{'-' + join.stem if join else ''}.sh"
    path.touch(mode=0o600)
    path.write_bytes(content)
    typer.echo(f"{path}: {len(content) / 2**20:.1f} MiB, {len(found.files)} wheels, signed by {public_key(signer)}")


@app.command()
def broker(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the broker's files; made if missing.")],
    config: Config,
    plugin: Annotated[Path | None, typer.Option(help="mosquitto_dynamic_security.so, if it is not found.")] = None,
    user: Annotated[str, typer.Option(help="User that Mosquitto runs as, who will own the files.")] = "mosquitto",
) -> None:
    """Write Mosquitto's configuration, its certificate and the rights of the gateways; make the CA if there is none.

    Again, it renews certificates of broker and central that have lived for half their time, and leaves the rights alone.
    """
    from central import broker as mosquitto
    from central.authority import Authority, passphrase
    from central.config import load
    from central.db import Database
    from central.identities import Identities
    from common.clock import Clock

    directory, clock, own = directory.absolute(), Clock(), []
    with _errors_end_it():
        settings, enrolment = _enrolment(load(config))
        if not (enrolment.ca_dir / "ca.key").exists():
            own += _new_ca(config, enrolment, clock)
        authority = Authority.load(enrolment.ca_dir, passphrase(enrolment))
        if mosquitto.write_own(enrolment, authority, clock):
            own.append(f"{enrolment.ca_dir}/central.pem, central.key: the identity of central itself")
        db = Database(settings.state_at)
        db.open()
        gateways = [known.gateway for known in Identities(db).enrolled()]
        db.close()
        _give_to_owner_of(config, settings, enrolment)
        done = mosquitto.write(directory, settings, enrolment, authority, gateways, clock, plugin=plugin, user=user)
    for line in own:
        typer.echo(line)
    typer.echo(f"{typer.style(str(directory), bold=True)}:")
    for line in done:
        typer.echo(f"  {line}")
    tls = settings.mqtt.tls
    if tls is None or tls.cert != enrolment.ca_dir / "central.pem":
        typer.echo("\nIn central.toml, for the broker to know central (and no username, no password):\n")
        typer.echo(mosquitto.own_tls(enrolment))
    typer.echo("\nThen, where systemd runs:\n")
    for line in mosquitto.next_steps(directory):
        typer.echo(f"  {line}")


@app.command()
def enrol(
    gateway: Annotated[str, typer.Argument(help="Id of the gateway: a-z 0-9 -, for good.")],
    commune: Annotated[str, typer.Option(help="NIS code of its commune, as 61031.")],
    config: Config,
    days: Annotated[float, typer.Option(min=0.01, max=90, help="How long the join file can be used.")] = 14,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The join file; GATEWAY.join by itself.")
    ] = None,
    edge_config: Annotated[
        Path | None,
        typer.Option("--config-for-edge", help="TOML for its edge.toml: stations, outputs; neither gateway nor mqtt."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="It is enrolled already: revoke that, and make a new identity.")
    ] = False,
) -> None:
    """Make the identity of a gateway, known to the broker, in one join file that a passphrase seals.

    On the gateway: `maillages-edge join FILE`. The passphrase is shown once, here.
    """
    from central.authority import write_new
    from wire.identity import new_passphrase, seal

    path = output or Path(f"{gateway}.join")
    with _errors_end_it():
        if path.exists():
            _refuse(f"{path}: exists already; move it away, or name another file with --output")
        try:
            text = edge_config.read_text(encoding="utf-8") if edge_config else None
        except (OSError, UnicodeDecodeError) as e:
            _refuse(f"--config-for-edge: {edge_config} cannot be read: {e}")
        with _registrar(config) as registrar:
            join = registrar.enrol(gateway, commune, days, replace=replace, configuration=text)
        phrase = new_passphrase()
        try:
            write_new(path, seal(join, phrase).encode())
        except OSError as e:
            _refuse(f"{path}: cannot be written: {e.strerror}; nothing is lost: enrol again with --replace")
    brokers = ", ".join(f"{b.host}:{b.port}" for b in join.brokers)
    typer.echo(f"{typer.style(gateway, bold=True)} is enrolled, commune {commune}. The broker knows it.\n")
    typer.echo(f"  join file    {path}   (mode 0600)")
    typer.echo(f"  to be used   until {_minute(_wall(join.expires))}")
    typer.echo(f"  brokers      {brokers}")
    typer.echo(
        f"  passphrase   {typer.style(phrase, bold=True, fg='green')}   shown this once; give it apart from the file"
    )
    typer.echo(f"\nOn the gateway:\n\n  sudo maillages-edge join {path.name}\n")
    for line in registrar.remarks(gateway):
        typer.echo(f"{typer.style('note', fg='yellow')}: {line}", err=True)


@app.command()
def revoke(gateway: Annotated[str, typer.Argument(help="Id of the gateway.")], config: Config) -> None:
    """End the identity of a gateway: the broker cuts its connection, and takes nothing from it any more.

    Exit code 1: it is revoked here, but the broker could not be told.
    """
    with _errors_end_it(), _registrar(config) as registrar:
        done = registrar.revoke(gateway)
    typer.echo(
        f"{gateway}: revoked, {done.certificates} certificate{'s' * (done.certificates != 1)} on the revocation list"
    )
    if done.broker_error is not None:
        typer.echo(
            f"{typer.style('NOT YET IN FORCE', fg='red', bold=True)}: the broker could not be told: {done.broker_error}."
            " Run this again when it answers",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo("the broker has cut its connection, and takes nothing from it")


@app.command()
def resend(
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Day (UTC) of the backup that was restored.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="central.toml")],
) -> None:
    """After a restore of the time-series database: have gateways send again what came since. Central must not be running.

    When central.db was restored too, central knows by itself what it lacks.
    """
    from central.config import load
    from central.ranges import Ranges
    from central.workers import LEADER
    from common.clock import Clock

    with _errors_end_it():
        settings = load(config)
    with _opened(settings) as db:
        if not db.hold(LEADER):
            typer.echo(f"{db.name}: central is running, expected it to be stopped", err=True)
            raise typer.Exit(2)
        forgotten = Ranges(db, Clock(), lambda _: True).forget(since.replace(tzinfo=UTC).timestamp())
    typer.echo(f"{forgotten} ranges forgotten; the gateways are asked for them when central runs")


@app.command("move-state")
def move_state(
    file: Annotated[Path, typer.Argument(help="The central.db of a central that has run.")],
    config: Config,
) -> None:
    """Copy central.db into the empty PostgreSQL database of `[state] url`. Central must not be running. The file stays."""
    from central.config import load
    from central.db import Database
    from central.errors import Refused, StateUnavailable
    from central.workers import LEADER

    with _errors_end_it():
        settings = load(config)
        if settings.state is None:
            raise Refused(f"{config}: expected [state] url, found none")
        with _opened(settings) as db:
            source = Database(file)
            try:
                if not file.exists():
                    raise StateUnavailable("no such file")
                source.open()
                if not (source.hold(LEADER) and db.hold(LEADER)):
                    raise Refused(f"{source.name} or {db.name}: central is running, expected it to be stopped")
                copied = db.copy_from(source)
            except StateUnavailable as e:
                raise Refused(f"{source.name}: {e}") from e
            finally:
                source.close()
            typer.echo(f"{copied} rows copied from {file} to {db.name}")


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="The file; an older one is replaced.")], config: Config) -> None:
    """Save state, recipients and embedded store in one file (mode 0600, personal data), also while central runs."""
    from central import backup as saving
    from central.config import load
    from common.clock import Clock

    with _errors_end_it():
        settings = load(config)
        names = saving.backup(settings, file, Clock())
    typer.echo(f"{file}: {', '.join(names)}, {file.stat().st_size / 1e6:.1f} MB")
    for line in saving.elsewhere(settings):
        typer.echo(f"not in it: {line}")


@app.command()
def restore(file: Annotated[Path, typer.Argument(help="A file of `backup`.")], config: Config) -> None:
    """Put a backup back. Central must not be running. What was there is kept beside; gateways are asked for what is lacking."""
    from central import backup as saving
    from central.config import load
    from common.clock import Clock

    with _errors_end_it():
        settings = load(config)
        made, names, aside = saving.restore(settings, file, Clock())
    typer.echo(f"restored as of {made}: {', '.join(names)}; what was there is in {aside}")
    for line in saving.elsewhere(settings):
        typer.echo(f"not in it: {line}")
    if settings.commands:
        typer.echo("start central: it asks every gateway for the readings that it lacks")
    else:
        typer.echo(f"lost readings cannot be asked for: {_NO_KEY}", err=True)


@app.command()
def completeness(
    config: Config,
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, Belgian time.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")],
    gateway: Annotated[str | None, typer.Option(help="Only this gateway.")] = None,
    station: Annotated[str | None, typer.Option(help="Only this station.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What each station should have measured and what is stored, by day, and the numbers that never came. Reads only, also
    beside a running central."""
    import json

    from central import completeness as count
    from central.config import load
    from central.holding import Holding
    from central.ranges import Ranges
    from central.registry import Registry
    from central.store.configured import store
    from common.clock import Clock

    clock = Clock()
    days = count.days(first.date(), min(last.date(), count.today(clock)))
    with _errors_end_it():
        settings = load(config)
        known = [s for s in settings.station if gateway in (None, s.gateway) and station in (None, s.id)]
        if not known:
            _refuse(f"no [[station]] of central.toml is {station or 'any'} of gateway {gateway or 'any'}")
        if not days:
            _refuse("--from: expected a day that has begun, and not after --to")
        with _opened(settings, read_only=True) as db:
            registry, ranges, database = (
                Registry(settings.station, Holding(db)),
                Ranges(db, clock, bool),
                store(settings),
            )
            registry.load()
            database.setup()
            gateways = sorted({s.gateway for s in known})
            stations = count.of_stations(database, registry, ranges, [s.id for s in known], days, clock.wall())
            numbers = [count.gateway_day(ranges, g, day) for g in gateways for day in days]
            start_s, end_s = count.bounds(days[0])[0], count.bounds(days[-1])[1]
            gaps = [gap for g in gateways for gap in count.gaps(ranges, g, start_s, end_s)]
            database.close()
    if as_json:
        shown = {
            "stations": [s._asdict() | {"day": s.day.isoformat()} for s in stations],
            "gateways": [n._asdict() | {"day": n.day.isoformat()} for n in numbers],
            "gaps": [
                {"gateway": g.gateway, **g.gap._asdict(), "after": _instant(g.after_s), "before": _instant(g.before_s)}
                for g in gaps
            ],
        }
        typer.echo(json.dumps(shown, indent=2))
        return
    _table(
        ("day", "station", "gateway", "expected", "stored", "missing", "thinned", "share"),
        [
            (
                s.day.isoformat(), s.station, s.gateway, str(s.expected), str(s.stored), str(s.missing), str(s.thinned),
                f"{100 * (1 - s.missing / s.expected):.2f} %" if s.expected else "-",
            )
            for s in stations
        ],
    )  # fmt: skip
    typer.echo("\nNumbers of the gateways' journals:")
    _table(
        ("day", "gateway", "thinned", "duplicate"),
        [(n.day.isoformat(), n.gateway, str(n.thinned), str(n.duplicate)) for n in numbers],
    )
    if not gaps:
        typer.echo("\nNo gap: every number up to the newest has come.")
        return
    typer.echo("\nNumbers that have not come:")
    _table(
        ("gateway", "journal", "first", "last", "readings", "measured after", "and before"),
        [
            (
                g.gateway, g.gap.journal, str(g.gap.first), str(g.gap.last), str(g.gap.last - g.gap.first + 1),
                _minute(g.after_s) if g.after_s is not None else "-", _minute(g.before_s) if g.before_s is not None else "-",
            )
            for g in gaps
        ],
    )  # fmt: skip


@app.command("dead-letters")
def dead_letters(
    config: Annotated[Path, typer.Option("--config", "-c", help="central.toml")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
) -> None:
    """List what central refused for good, and why; the newest first. Reads only, also beside a running central."""
    from common.clock import rfc3339

    with _holding(config) as holding:
        letters = holding.dead_letters(limit)
    _table(
        ("received", "topic", "journal", "number", "reason", "payload"),
        [
            (
                rfc3339(received_s),
                letter.topic,
                letter.journal or "-",
                "-" if letter.number is None else str(letter.number),
                letter.reason,
                _shortened(letter.payload),
            )
            for received_s, letter in letters
        ],
    )


@app.command()
def quarantine(config: Annotated[Path, typer.Option("--config", "-c", help="central.toml")]) -> None:
    """List the readings that wait until their station or sensor is registered. Reads only, also beside a running central."""
    with _holding(config) as holding:
        names = holding.unknown_names()
    _table(("gateway", "name", "readings"), [(gateway, name, str(count)) for gateway, name, count in names])


def _refuse(text: str) -> NoReturn:
    from central.errors import Refused

    raise Refused(text)


def _enrolment(settings: "CentralConfig") -> tuple["CentralConfig", "Enrolment"]:
    """The configuration and its section, or a ConfigError that says what it needs."""
    from central.errors import ConfigError

    if settings.enrolment is None:
        raise ConfigError(
            "central.toml has no [enrolment]; expected ca_dir, passphrase_file and brokers"
            " (`maillages-central config --example` shows them)"
        )
    return settings, settings.enrolment


def _new_ca(config: Path, enrolment: "Enrolment", clock: "Clock") -> list[str]:
    """Make the CA, and its passphrase if the file of it is missing; what was done."""
    from central.authority import Authority, passphrase, write_new
    from central.errors import ConfigError
    from wire.identity import new_passphrase

    done = []
    file = enrolment.passphrase_file
    if file is not None and not file.exists():
        try:
            write_new(file, f"{new_passphrase()}\n".encode())
            if os.geteuid() == 0:
                os.chown(file, config.stat().st_uid, config.stat().st_gid)
        except OSError as e:
            raise ConfigError(f"enrolment.passphrase_file: {file} cannot be written: {e.strerror}") from e
        done.append(f"{file}: a new passphrase of the CA")
    phrase = passphrase(enrolment)
    if len(phrase) < MIN_CA_PASSPHRASE:
        raise ConfigError(f"the CA's passphrase has {len(phrase)} characters, expected {MIN_CA_PASSPHRASE} at least")
    Authority.create(enrolment.ca_dir, phrase, clock)
    done.append(f"{enrolment.ca_dir}: a new CA; keep a copy of it, and of its passphrase, off this machine and apart")
    return done


@contextmanager
def _registrar(config: Path) -> Iterator["Registrar"]:
    """What enrols and revokes."""
    from central.authority import Authority, passphrase
    from central.broker import Rights
    from central.commands import load_key, public_key
    from central.config import load
    from central.db import Database
    from central.enrolment import Registrar
    from central.identities import Identities
    from common.clock import Clock

    settings, enrolment = _enrolment(load(config))
    key = public_key(load_key(settings.commands.key)) if settings.commands else None
    authority = Authority.load(enrolment.ca_dir, passphrase(enrolment))
    db = Database(settings.state_at)
    db.open()
    try:
        rights = Rights.of(settings.mqtt)
        yield Registrar(settings, enrolment, authority, Identities(db), rights, Clock(), key)
    finally:
        db.close()
        _give_to_owner_of(config, settings, enrolment)


def _give_to_owner_of(config: Path, settings: "CentralConfig", enrolment: "Enrolment") -> None:
    """What root has just made belongs to the owner of central.toml, who runs the service."""
    if os.geteuid() != 0:
        return
    owner = config.stat()
    made = [enrolment.ca_dir, *enrolment.ca_dir.iterdir(), settings.data_dir, *settings.data_dir.glob("central.db*")]
    for path in made:
        if path.exists():  # with its state in PostgreSQL there may be no such directory yet
            os.chown(path, owner.st_uid, owner.st_gid)


gateway_app = typer.Typer(
    help="Order something of a gateway that is online: signed, done within a minute or never, and noted with your name.",
    no_args_is_help=True,
)
app.add_typer(gateway_app, name="gateway")
Gateway = Annotated[str, typer.Argument(help="Id of the gateway.")]
OneSensor = Annotated[str, typer.Argument(metavar="STATION/SENSOR", help="The sensor.")]
OrderJson = Annotated[bool, typer.Option("--json", help="The gateway's answer, one JSON object.")]


@gateway_app.command("read")
def gateway_read(
    gateway: Gateway,
    target: Annotated[str, typer.Argument(metavar="STATION[/SENSOR]", help="A sensor, or all of a station.")],
    by: By,
    config: Config,
    as_json: OrderJson = False,
) -> None:
    """Have sensors asked now. One that speaks by itself (radio, stream) shows its newest value and how old that is.

    Exit code 0: done; 1: the gateway refuses; 2: bad use; 3: no answer, and nothing will be done later. So of the others.
    """
    from wire.command import READ, Read, ReadResult

    station, _, sensor = target.partition("/")
    answer = _order(config, gateway, READ, Read, by, as_json, station=station, sensor=sensor or None)
    if answer is None:
        return
    _table(
        ("sensor", "quantity", "value", "unit", "age", "qc", "trouble"),
        [
            (
                v.sensor, v.quantity or "-", "-" if v.value is None else f"{v.value:g}", v.unit or "-",
                "-" if v.age_s is None else f"{v.age_s:.1f} s", "-" if v.qc is None else str(v.qc), v.error or "-",
            )
            for v in ReadResult.model_validate_json(answer).values
        ],
    )  # fmt: skip


@gateway_app.command("raw")
def gateway_raw(
    gateway: Gateway,
    target: OneSensor,
    data: Annotated[str, typer.Argument(metavar="HEX", help="The bytes, as hex digits; spaces allowed in quotes.")],
    by: By,
    config: Config,
    reply: Annotated[float, typer.Option(min=0.1, max=10, metavar="S", help="Listen so long for what comes back.")] = 2,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: OrderJson = False,
) -> None:
    """Write bytes to the port of a polled sensor, between two polls, and show what comes back. It can change a device for good: the
    gateway's own edge.toml must allow it (`raw_commands = true` in [mqtt])."""
    from wire.command import RAW, Raw, RawResult

    station, _, sensor = target.partition("/")
    frame = "".join(data.split())
    if not yes and not as_json and not typer.confirm(f"Write {frame} to the port of {target} at {gateway}?"):
        raise typer.Exit(1)
    answer = _order(config, gateway, RAW, Raw, by, as_json, station=station, sensor=sensor, hex=frame, reply_s=reply)
    if answer is None:
        return
    heard = bytes.fromhex(RawResult.model_validate_json(answer).hex)
    typer.echo(heard.hex(" ").upper() if heard else "nothing came back")


@gateway_app.command("logs")
def gateway_logs(
    gateway: Gateway,
    by: By,
    config: Config,
    lines: Annotated[int, typer.Option(min=1, max=300, help="The newest so many; fewer if they are long.")] = 50,
    as_json: OrderJson = False,
) -> None:
    """Show the newest lines of the gateway's log since it started, without secrets."""
    from wire.command import LOGS, Logs, LogsResult

    answer = _order(config, gateway, LOGS, Logs, by, as_json, lines=lines)
    for line in LogsResult.model_validate_json(answer).log if answer else ():
        typer.echo(_inert(line))


@gateway_app.command("restart")
def gateway_restart(gateway: Gateway, target: OneSensor, by: By, config: Config, as_json: OrderJson = False) -> None:
    """Restart one device: its power is cut for a moment where a relay can, else its port is opened anew."""
    from wire.command import RESTART, Restart, RestartResult

    station, _, sensor = target.partition("/")
    answer = _order(config, gateway, RESTART, Restart, by, as_json, station=station, sensor=sensor)
    if answer is not None:
        typer.echo(_inert(RestartResult.model_validate_json(answer).done))


@gateway_app.command("orders")
def gateway_orders(
    gateway: Gateway,
    config: Config,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """List what was ordered of a gateway, by whom, and what became of it. Reads only, also beside a running central."""
    from central.orders import Orders
    from common.clock import Clock

    with _read_only(config) as db:
        found = Orders(db, Clock()).history(gateway, limit)
    _table(
        ("asked", "by", "order", "of", "state"),
        [
            (
                _minute(o.asked_s), o.by, o.command,
                "/".join(filter(None, (o.arguments.get("station"), o.arguments.get("sensor")))) or "-", o.state,
            )
            for o in found
        ],
    )  # fmt: skip


def _order(
    config: Path, gateway: str, name: str, model: "type[Order]", by: str, as_json: bool, **arguments: Any
) -> str | None:
    """Order it and wait; the answer of the gateway, None when it was printed as it is. Exits when there is none."""
    import time

    from pydantic import ValidationError

    from central.holding import Holding
    from central.orders import Orders
    from common.clock import Clock
    from common.config import faults
    from wire.command import MAX_EXPIRY_S, CommandResult

    clock = Clock()
    with _log(config) as (settings, db, _):
        if not settings.commands:
            _refuse(f"nothing was done: {_NO_KEY}")
        known = Holding(db).gateways()
        if gateway not in known and gateway not in {s.gateway for s in settings.station}:
            _refuse(f"gateway {gateway!r} is unknown, expected one of {', '.join(sorted(known)) or 'none'}")
        status, status_s = known.get(gateway, (None, None, None))[1:]
        if status is None or not status.online:
            since = (
                "has never spoken" if status is None or status_s is None else f"is offline since {_minute(status_s)}"
            )
            typer.echo(f"nothing was sent: {gateway} {since}", err=True)
            raise typer.Exit(3)
        orders = Orders(db, clock)
        try:
            order_id = orders.ask(gateway, name, model, by, **arguments)
        except ValidationError as e:
            _refuse("\n".join(faults(e)))
        end = time.monotonic() + MAX_EXPIRY_S + 1
        while not (order := orders.get(order_id)).answered and order.state != "expired" and time.monotonic() < end:
            time.sleep(0.1)
        if order.state == "waiting":
            orders.mark(order_id, "waiting", "expired")
    if not order.answered or order.answer is None:
        why = {
            "waiting": "central does not run, or has no broker; nothing was sent, and nothing will be",
            "expired": "central could not send it in time; nothing was sent, and nothing will be",
        }.get(order.state, "the gateway gave no answer; what it has not done by now, it does not do")
        typer.echo(f"no answer within {MAX_EXPIRY_S} s: {why}", err=True)
        raise typer.Exit(3)
    result = CommandResult.model_validate_json(order.answer)
    if as_json:
        typer.echo(order.answer)
    elif not result.ok:
        typer.echo(f"{gateway} refuses: {_inert(result.error or 'no reason given')}", err=True)
    if not result.ok:
        raise typer.Exit(1)
    return None if as_json else order.answer


influx = typer.Typer(help="The database of the measurements.", no_args_is_help=True)
app.add_typer(influx, name="influx")


@influx.command("setup")
def influx_setup(
    url: Annotated[str, typer.Option(help="http://host:8086")],
    admin_file: Annotated[
        Path | None,
        typer.Option(help="File with the operator's token (2.x), or user:password of an administrator (1.x)."),
    ] = None,
    organisation: Annotated[str, typer.Option(help="Of 2.x.")] = "maillages",
    database: Annotated[str, typer.Option(help="Database (1.x), bucket (2.x).")] = "maillages",
    retention_days: Annotated[int, typer.Option(min=0, help="0 keeps for ever.")] = 0,
    directory: Annotated[Path, typer.Option("--credentials", help="Where the secrets go.")] = Path(
        "/etc/maillages/credentials"
    ),
    show: Annotated[bool, typer.Option("--show", help="Print the secrets too.")] = False,
) -> None:
    """Make what InfluxDB 1.x or 2.x lacks, and its secrets for central (`influx-write`) and Grafana (`influx-read`), as files of mode
    0600. Again, it makes nothing twice and says what differs."""
    import secrets

    from central.authority import write_new
    from central.errors import NeedsPerson
    from central.store import influx as server

    files = directory / "influx-write", directory / "influx-read"
    with _errors_end_it():
        try:
            admin = admin_file.read_text(encoding="utf-8").strip() if admin_file else ""
            known = [file.read_text(encoding="utf-8").strip() if file.exists() else None for file in files]
        except (OSError, UnicodeDecodeError) as e:
            _refuse(f"cannot be read: {e}")
        made = server.version(url)
        if made.startswith("2."):
            if not admin:
                _refuse("--admin-file: expected a file with the operator's token, which 2.x needs")
            said = server.ensure_2x(
                url, admin, organisation=organisation, bucket=database, retention_days=retention_days
            )
            for i, token in enumerate(known):
                if token is not None:
                    one = server.Influx(url, database, "maillages", token)
                    try:
                        one.last("water_level", {})
                    except NeedsPerson as e:
                        said.append(f"{files[i]}: DIFFERS: the server does not take this token ({e}); made anew")
                        files[i].unlink()
                        known[i] = None
                    finally:
                        one.close()
            if None in known:
                tokens = server.setup_2x(
                    url, admin, organisation=organisation, bucket=database, retention_days=retention_days
                )
                fresh: list[str] = list(tokens)
            else:
                fresh = []
        elif made.startswith("1."):
            user, _, password = admin.partition(":")
            fresh = [secret or secrets.token_urlsafe(24) for secret in known]
            said = server.ensure_1x(
                url, (user, password) if admin else None, database=database, retention_days=retention_days,
                users={"maillages": (fresh[0], "ALL"), "grafana": (fresh[1], "READ")},
            )  # fmt: skip
        else:
            _refuse(f"{url}: InfluxDB {made}, expected 1.x or 2.x; 3.x needs no setup but a token")
        try:
            for file, before, secret in zip(files, known, fresh, strict=False):
                if before is None:
                    write_new(file, f"{secret}\n".encode())
                    said.append(f"{file}: written")
            for file in files:
                one = server.Influx(
                    url, database, {"influx-read": "grafana"}.get(file.name, "maillages"), file.read_text().strip()
                )
                one.last("water_level", {})  # the name leads to the database
                one.close()
        except OSError as e:
            _refuse(f"{directory}: cannot be written: {e.strerror}")
    for line in [f"InfluxDB {made} at {url}", *(said or ["nothing to do: all is there"])]:
        typer.echo(line)
    if show:
        for file in files:
            typer.echo(f"{file.name}: {file.read_text(encoding='utf-8').strip()}")
    typer.echo(
        f'\nIn central.toml:\n\n[store]\nkind = "influxdb"\nurl = "{url}"\ndatabase = "{database}"\n'
        'username = "maillages"\npassword = "${credential:influx-write}"'
    )


grafana = typer.Typer(help="Boards and alert rules in a Grafana.", no_args_is_help=True)
app.add_typer(grafana, name="grafana")
Exercise = Annotated[
    str, typer.Option(metavar="BEGIN/END", help="RFC 3339: so long faults of stations and gateways are not told of.")
]


@grafana.command("write")
def grafana_write(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if missing.")], exercise: Exercise = ""
) -> None:
    """Write the files for Grafana's provisioning. Again, it writes only what differs."""
    from central.grafana import write

    with _errors_end_it():
        for file, written in write(directory, _span(exercise)):
            typer.echo(f"{file}: {'written' if written else 'the same'}")


@grafana.command("push")
def grafana_push(
    config: Config,
    exercise: Exercise = "",
    secrets: Annotated[bool, typer.Option("--secrets", help="Send passwords again: they cannot be compared.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what differs.")] = False,
) -> None:
    """Bring folder, data source, boards, contact points, policies and rules into the Grafana of central.toml, and say what differed.

    What others have there stays. Exit code 0; with --dry-run 1 where something differs; 2: it could not.
    """
    from central.config import load
    from central.grafana import Grafana

    differs = False
    with _errors_end_it():
        there = Grafana(load(config))
        typer.echo(f"Grafana {there.version()}")
        for pushed in there.push(_span(exercise), secrets=secrets, dry_run=dry_run):
            differs |= pushed.state != "the same"
            state = {"made": "missing", "changed": "differs"}.get(pushed.state, "the same") if dry_run else pushed.state
            typer.echo(f"{pushed.what}: {state}")
            for line in pushed.differs:
                typer.echo("  " + _inert(line))
    if not differs:
        typer.echo("nothing differs")
    raise typer.Exit(1 if dry_run and differs else 0)


@grafana.command("verify")
def grafana_verify(config: Config) -> None:
    """Ask every query of every panel and rule through Grafana, and say what returns no data and what fails.

    Exit code 0: nothing fails; 1: something does; 2: Grafana could not be asked.
    """
    from central.config import load
    from central.grafana import Grafana

    counts = {"ok": 0, "no data": 0, "error": 0}
    with _errors_end_it():
        there = Grafana(load(config))
        typer.echo(f"Grafana {there.version()}")
        for checked in there.verify():
            counts[checked.state] += 1
            if checked.state != "ok" or checked.what == "data source":
                typer.echo(
                    f"{checked.what}: {checked.state}" + (f": {_inert(checked.detail)}" if checked.detail else "")
                )
    typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
    raise typer.Exit(1 if counts["error"] else 0)


def _span(text: str) -> "Span":
    from grafana.alerts import NO_EXERCISE, Span

    try:
        return Span.parse(text) if text else NO_EXERCISE
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint="--exercise") from None


recipients = typer.Typer(
    help="The people who are told: a table that communes edit, imported here.", no_args_is_help=True
)
app.add_typer(recipients, name="recipients")
Table = Annotated[Path, typer.Argument(help="The table: CSV, as a spreadsheet saves it.")]


@recipients.command("example")
def recipients_example() -> None:
    """Print a table with one row, to begin with."""
    from central.notify.table import example as text

    typer.echo(text(), nl=False)


@recipients.command("check")
def recipients_check(table: Table, config: Config) -> None:
    """Read a table and tell every fault; nothing is changed."""
    _compared(table, config)


@recipients.command("import")
def recipients_import(table: Table, config: Config) -> None:
    """Take up a table: who is new is added, who is known by the same identifier is changed, who is not in it stays. A running
    central follows at once. A table with a fault changes nothing."""
    known, new = _compared(table, config)
    people, log = _people(config)
    ids = {r.id for r in new}
    with _errors_end_it():
        people.save(sorted([*new, *(r for r in known if r.id not in ids)], key=lambda r: r.id))
        log(f"import {' '.join(sorted(ids))}")
    typer.echo(f"{len(new)} imported")


@recipients.command("list")
def recipients_list(config: Config) -> None:
    """List everyone with their numbers and addresses. The look is noted."""
    people, log = _people(config)
    with _errors_end_it():
        found = people.load()
        log("list")
    _table(
        ("id", "name", "role", "communes", "phone", "email", "level", "step", "on call", "language", "exercises"),
        [
            (
                r.id, r.name, r.role, r.communes if r.communes == "all" else " ".join(r.communes), r.phone or "-",
                r.email or "-", str(r.min_level), str(r.order), r.on_call or "always", r.language,
                "yes" if r.exercise else "-",
            )
            for r in found
        ],
    )  # fmt: skip


@recipients.command("forget")
def recipients_forget(
    recipient: Annotated[str, typer.Argument(metavar="ID", help="Their identifier.")], config: Config
) -> None:
    """Delete a person's data: they are told no more. The alarm log keeps the identifier, and the name of who answered."""
    people, log = _people(config)
    with _errors_end_it():
        known = people.load()
        if recipient not in {r.id for r in known}:
            typer.echo(f"{recipient!r}: no such recipient, expected one of {', '.join(r.id for r in known)}", err=True)
            raise typer.Exit(2)
        people.save(r for r in known if r.id != recipient)
        log(f"forget {recipient}")
    typer.echo(f"{recipient}: forgotten")


user = typer.Typer(help="Who may use the page: viewer sees, operator acknowledges.", no_args_is_help=True)
app.add_typer(user, name="user")
Name = Annotated[str, typer.Argument(help="Name of the account; the alarm log shows it.")]
RoleOption = Annotated[str, typer.Option("--role", help="viewer, operator or administrator.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="The password is the first line of the input.")]


@user.command("add")
def user_add(name: Name, role: RoleOption, config: Config, password_stdin: FromStdin = False) -> None:
    """Make an account; its password is asked for."""
    with _accounts(config) as accounts:
        accounts.add(name, _choice(role, "--role", "viewer", "operator", "administrator"), _password(password_stdin))
    typer.echo(f"{name}: {role}")


@user.command("list")
def user_list(config: Config) -> None:
    """List the accounts."""
    with _accounts(config) as accounts:
        found = accounts.all()
    rows: list[tuple[str, ...]] = [
        (a.name, a.role, "disabled" if a.disabled else "-", _minute(a.created_s)) for a in found
    ]
    _table(("name", "role", "state", "made"), rows)


@user.command("role")
def user_role(name: Name, role: Annotated[str, typer.Argument()], config: Config) -> None:
    """Change what an account may do. It is signed out."""
    with _accounts(config) as accounts:
        accounts.set_role(name, _choice(role, "ROLE", "viewer", "operator", "administrator"))
    typer.echo(f"{name}: {role}")


@user.command("disable")
def user_disable(
    name: Name, config: Config, undo: Annotated[bool, typer.Option("--undo", help="It may sign in again.")] = False
) -> None:
    """Nobody signs in by this account any more, and who has is signed out."""
    with _accounts(config) as accounts:
        accounts.disable(name, disabled=not undo)
    typer.echo(f"{name}: {'enabled' if undo else 'disabled'}")


@user.command("password")
def user_password(name: Name, config: Config, password_stdin: FromStdin = False) -> None:
    """Change the password of an account. It is signed out."""
    with _accounts(config) as accounts:
        accounts.set_password(name, _password(password_stdin))
    typer.echo(f"{name}: password changed")


token = typer.Typer(help="Tokens of programs that ask the API.", no_args_is_help=True)
app.add_typer(token, name="token")


@token.command("add")
def token_add(
    scope: Annotated[str, typer.Option(help="read, webhook or cap.")],
    config: Config,
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How long it counts.")] = 365,
) -> None:
    """Make a token. It is shown this once."""
    with _accounts(config) as accounts:
        identifier, secret = accounts.add_token(_choice(scope, "--scope", "read", "webhook", "cap"), days)
    typer.echo(f"{identifier}: scope {scope}, {days:g} days; shown this once:", err=True)
    typer.echo(secret)


@token.command("list")
def token_list(config: Config) -> None:
    """List the tokens, not what they are."""
    with _accounts(config) as accounts:
        found = accounts.tokens()
    _table(("id", "scope", "made", "ends"), [(t.id, t.scope, _minute(t.created_s), _minute(t.end_s)) for t in found])


@token.command("revoke")
def token_revoke(identifier: Annotated[str, typer.Argument(metavar="ID")], config: Config) -> None:
    """End a token at once."""
    with _accounts(config) as accounts:
        accounts.revoke_token(identifier)
    typer.echo(f"{identifier}: revoked")


@contextmanager
def _accounts(config: Path) -> Iterator["Accounts"]:
    from central.accounts import Accounts
    from common.clock import Clock

    with _log(config) as (_, db, _alarms):
        yield Accounts(db, Clock())


def _choice(value: str, option: str, *choices: str) -> Any:
    if value not in choices:
        raise typer.BadParameter(f"expected {', '.join(choices)}", param_hint=option)
    return value


def _password(from_stdin: bool) -> str:
    import sys

    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _people(config: Path) -> tuple["Recipients", "Callable[[str], None]"]:
    """The recipients, and how a look at them is noted."""
    import atexit
    import getpass
    import os

    from central.config import load
    from central.db import Database
    from central.notify.shared import recipients_of
    from common.clock import Clock

    with _errors_end_it():
        settings = load(config)
        db = Database(settings.state_at)
        if settings.state:
            db.open()
            atexit.register(db.close)
        people = recipients_of(settings, db, Clock())
        people.adopt()
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return people, lambda what: people.note_access(user, what, Clock())


def _compared(table: Path, config: Path) -> tuple[tuple["Recipient", ...], list["Recipient"]]:
    """Who is known, and who stands in the table; says what an import changes, and who could not be reached. Exit 2 with the
    faults."""
    from central.config import load
    from central.notify.table import read

    people, _ = _people(config)
    with _errors_end_it():
        settings = load(config)
        new, known = read(table), people.load()
    before = {r.id: r for r in known}
    for r in new:
        if before.get(r.id) != r:
            typer.echo(f"{r.id}: {'changed' if r.id in before else 'new'}")
        if not ((r.phone and settings.sms) or (r.email and settings.smtp) or r.webhook):
            typer.echo(f"{r.id}: cannot be told: expected [smtp] for an address or [[sms]] for a number", err=True)
    stay = sorted(before.keys() - {r.id for r in new})
    if stay:
        typer.echo(f"not in {table.name}, and kept (`forget` deletes): {', '.join(stay)}")
    return known, new


@contextmanager
def _errors_end_it() -> Iterator[None]:
    """What central refuses is said in its own words, and the exit code is 2."""
    from central.errors import CentralError

    try:
        yield
    except CentralError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None


@contextmanager
def _log(config: Path) -> Iterator[tuple["CentralConfig", "Database", "AlarmLog"]]:
    """The alarm log of a central that may be running, to be written. Exit 2 when there is none, or when it refuses."""
    from central.alarms.log import AlarmLog
    from central.config import load

    with _errors_end_it():
        settings = load(config)
        with _opened(settings) as db:
            yield settings, db, AlarmLog(db)


@contextmanager
def _opened(settings: "CentralConfig", *, read_only: bool = False) -> Iterator["Database"]:
    """The state of a central that has run. Exit 2 when there is none."""
    from central.db import Database
    from central.errors import StateUnavailable

    db = Database(settings.state_at)
    try:
        if read_only:
            db.open_read_only()
        elif isinstance(settings.state_at, Path) and not settings.state_at.exists():
            raise StateUnavailable("no such file")
        else:
            db.open()
    except StateUnavailable as e:
        typer.echo(f"{db.name}: {e}; expected the state of a central that has run", err=True)
        raise typer.Exit(2) from None
    try:
        yield db
    finally:
        db.close()


@contextmanager
def _wishes(config: Path, reference: str) -> Iterator[tuple["Wishes", "Occurrence"]]:
    """What people want of the alarm `reference`. Exit 2 when nobody could fulfil it."""
    from central.alarms.wishes import Wishes
    from common.clock import Clock

    with _log(config) as (settings, db, alarms):
        known = _one(alarms, reference)
        if known.source == "gateway" and not settings.commands:
            typer.echo(f"nothing was done: {_NO_KEY}", err=True)
            raise typer.Exit(2)
        yield Wishes(db, alarms, Clock()), known


def _one(alarms: "AlarmLog", reference: str) -> "Occurrence":
    """The one occurrence that is meant. Exit 2 when there is none, or several."""
    from common import texts

    found = [o for o in alarms.find(reference) if o.state != "NORMAL"] or alarms.find(reference)
    if len(found) == 1:
        return found[0]
    typer.echo(f"{reference!r}: {len(found)} occurrences, expected one", err=True)
    for o in found[:20]:
        where = o.station or o.gateway
        typer.echo(f"  {texts.reference(o.occurrence)}  {o.occurrence}  {where}  {o.rule}  {o.state}", err=True)
    raise typer.Exit(2)


@contextmanager
def _read_only(config: Path) -> Iterator["Database"]:
    """The state of a central that may be running, to be read. Exit 2 when there is none."""
    from central.config import load

    with _errors_end_it():
        settings = load(config)
        with _opened(settings, read_only=True) as db:
            yield db


@contextmanager
def _holding(config: Path) -> Iterator["Holding"]:
    from central.holding import Holding

    with _read_only(config) as db:
        yield Holding(db)


def _wall(text: str) -> float:
    from common.clock import from_rfc3339

    return from_rfc3339(text)


def _instant(wall_s: float | None) -> str | None:
    from common.clock import rfc3339

    return None if wall_s is None else rfc3339(wall_s)


def _minute(wall_s: float) -> str:
    """A moment in Belgian time, with its offset."""
    from common.clock import BRUSSELS

    return datetime.fromtimestamp(wall_s, BRUSSELS).isoformat(" ", "minutes")


def _shortened(payload: bytes) -> str:
    text = payload.decode("utf-8", "backslashreplace")
    return text if len(text) <= PAYLOAD_SHOWN else text[:PAYLOAD_SHOWN] + "…"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as they must be. What came from outside shows its control characters and commands no terminal."""
    shown = [head] + [tuple(_inert(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _inert(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def main() -> None:
    app()
