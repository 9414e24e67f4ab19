"""`maillages-central`. Each command imports what it needs when it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from central.alarms.log import AlarmLog, Occurrence
    from central.alarms.wishes import Wishes
    from central.config import CentralConfig
    from central.db import Database
    from central.holding import Holding

PAYLOAD_SHOWN = 60
"""Characters of a dead letter's payload in the list."""

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


@app.command("config")
def config_command(
    example: Annotated[bool, typer.Option("--example", help="Print a commented example.")] = False,
) -> None:
    """Print a commented configuration (`--example`)."""
    from central.config import example as text

    if not example:
        raise typer.BadParameter("expected --example")
    typer.echo(text(), nl=False)


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
