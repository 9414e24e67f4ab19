"""`maillages-edge`. Each command imports what it needs when it runs, so that `decode` stays quick on a small machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="maillages-edge",
    help="Gateway: reads sensors, alarms locally, forwards to central.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def decode(
    driver: Annotated[str, typer.Argument(help="Driver, as `drivers` lists them.")],
    hex_text: Annotated[str | None, typer.Option("--hex", help="Bytes as hex digits, spaces allowed.")] = None,
    ascii_text: Annotated[
        str | None, typer.Option("--ascii", help=r"Bytes as latin-1 text; \r \n \xNN allowed.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File with the exact body.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of the device.")] = None,
    fport: Annotated[int | None, typer.Option(help="LoRaWAN port.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Option of the driver, key=value.")] = None,
) -> None:
    """Print what a driver reads in some bytes, one line of JSON per reading."""
    from edge import decode as decoding
    from edge.errors import ConfigError

    try:
        raw = decoding.source(hex_text, ascii_text, json_file)
        values = decoding.values(model, fport, settings or [])
        code = decoding.run(driver, raw, values, sys.stdout, sys.stderr)
    except ConfigError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


@app.command()
def drivers(as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False) -> None:
    """List the drivers."""
    from edge import decode as decoding

    typer.echo(decoding.listing(as_json))


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")],
    exercise_clock: Annotated[
        str | None, typer.Option(hidden=True, metavar="SCALE,ORIGIN_BOOT,ORIGIN_WALL", help="An exercise, sped up.")
    ] = None,
) -> None:
    """Run the gateway until SIGTERM."""
    import logging

    from common.clock import Clock
    from edge import service
    from edge.config import load
    from edge.errors import EdgeError

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        exercise = Clock.of_exercise(exercise_clock) if exercise_clock else None
    except ValueError as e:
        raise typer.BadParameter(str(e)) from None
    try:
        settings = load(config)
        service.run(settings, exercise or Clock(trust=settings.clock.trust))
    except EdgeError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None


@app.command("config")
def config_command(
    example: Annotated[bool, typer.Option("--example", help="Print a commented example.")] = False,
) -> None:
    """Print a commented configuration (`--example`)."""
    from edge.config import example as text

    if not example:
        raise typer.BadParameter("expected --example")
    typer.echo(text(), nl=False)


radio = typer.Typer(help="Our own LoRa nodes: keys, counters.", no_args_is_help=True)
app.add_typer(radio, name="radio")


@radio.command()
def rekey(
    node: Annotated[int, typer.Argument(help="Address of the node.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")],
    file: Annotated[Path | None, typer.Option(help="For the node [default: node-NODE.json].")] = None,
) -> None:
    """Give a node a new key, shown once. The old one counts until the first packet under the new one."""
    from edge import radio_commands
    from edge.config import load
    from edge.errors import EdgeError

    try:
        typer.echo(radio_commands.rekey(load(config), node, file or Path(f"node-{node}.json")), nl=False)
    except EdgeError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None


@radio.command("list")
def list_nodes(
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List the nodes: key (by name), last counter, last heard."""
    from edge import radio_commands
    from edge.config import load
    from edge.errors import EdgeError

    try:
        typer.echo(radio_commands.listing(radio_commands.nodes(load(config)), as_json))
    except EdgeError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None


def main() -> None:
    app()
