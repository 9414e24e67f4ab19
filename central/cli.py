"""`maillages-central`. Each command imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="maillages-central",
    help="Central: stores readings, keeps the alarm log, tells the communes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run(config: Annotated[Path, typer.Option("--config", "-c", help="central.toml")]) -> None:
    """Run central until SIGTERM."""
    import logging

    from central import service
    from central.config import load
    from central.errors import CentralError
    from common.clock import Clock

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = load(config)
        service.run(settings, Clock(trust=settings.clock.trust))
    except CentralError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None


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
    occurrence: Annotated[
        str, typer.Argument(help="Id of the occurrence, its beginning, or its reference (Réf) of 5 characters.")
    ],
    by: Annotated[str, typer.Option(help="Who answers: a name that others will read.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="central.toml")],
) -> None:
    """Acknowledge an alarm: nobody else is told, and the gateway is asked to fall silent."""
    from central.alarms.log import AlarmLog
    from central.config import load
    from central.db import Database
    from central.errors import CentralError
    from central.notify.channels import Channels
    from central.notify.notifier import Notifier
    from common.clock import Clock
    from common.texts import reference

    try:
        settings = load(config)
    except CentralError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None
    file = settings.data_dir / "central.db"
    if not file.exists():
        typer.echo(f"{file}: no such file; expected the data_dir of a central that has run", err=True)
        raise typer.Exit(2)
    db = Database(file)
    db.open()
    try:
        alarms = AlarmLog(db)
        found = [o for o in alarms.find(occurrence) if o.state != "NORMAL"] or alarms.find(occurrence)
        if len(found) != 1:
            typer.echo(f"{occurrence!r}: {len(found)} occurrences, expected one", err=True)
            for o in found[:20]:
                typer.echo(
                    f"  {reference(o.occurrence)}  {o.occurrence}  {o.station or o.gateway}  {o.rule}  {o.state}",
                    err=True,
                )
            raise typer.Exit(2)
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
        done = notifier.acknowledge(found[0].occurrence, by)
    finally:
        db.close()
    if done is not None and done.before:
        typer.echo(f"{done.occurrence}: already acknowledged by {done.before}")
    else:
        typer.echo(f"{found[0].occurrence}: acknowledged by {by}")


@app.command()
def keygen(path: Annotated[Path, typer.Argument(help="File of the private key to be made.")]) -> None:
    """Make the key that signs commands to gateways; prints the public key, `central_key` of every edge.toml."""
    from central.commands import keygen as make
    from central.errors import CentralError

    try:
        typer.echo(make(path))
    except CentralError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None


def main() -> None:
    app()
