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


def main() -> None:
    app()
