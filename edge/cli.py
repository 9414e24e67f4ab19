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
def simulate(
    family: Annotated[str | None, typer.Argument(help="Family, as `--list` shows them.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the families.")] = False,
    link: Annotated[Path | None, typer.Option(help="Path of its port; in /tmp by itself.")] = None,
    value: Annotated[list[str] | None, typer.Option(help="quantity=number, such as water_level=1.2.")] = None,
    ramp: Annotated[list[str] | None, typer.Option(help="quantity=FROM:TO:SECONDS, there and back.")] = None,
    trouble: Annotated[str, typer.Option(help="Such as corrupt=0.05,lag_s=0.3 or silent.")] = "",
    address: Annotated[
        list[str] | None, typer.Option(help="Of a device on a shared line; repeat it for several.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Option of the driver, key=value.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="File that gets what the device sent, a line of JSON a frame.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Put an emulated device on a port, and print what reads it, until Ctrl-C."""
    from edge import decode, simulate
    from edge.errors import ConfigError

    if list_all:
        typer.echo(simulate.listing(as_json))
        return
    if family is None:
        raise typer.BadParameter("expected a family, or --list")
    try:
        simulation = simulate.Simulation.of(
            simulate.find(family),
            link=link,
            values=value or [],
            ramps=ramp or [],
            addresses=address or [],
            settings=decode.values(None, None, settings or []),
            log=log,
        )
        simulation.device.trouble = simulate.trouble(trouble)
    except ConfigError as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from None
    with simulate.interrupted() as ended:
        simulation.run(sys.stdout, sys.stdin, as_json=as_json, ended=ended)


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


def main() -> None:
    app()
