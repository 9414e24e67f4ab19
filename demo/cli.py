"""`maillages-demo`: the whole system on one machine, with simulated devices, in less than two minutes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from demo.run import Result

app = typer.Typer(name="maillages-demo", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    mosquitto: Annotated[bool, typer.Option(help="Debian's Mosquitto as broker, not the embedded one.")] = False,
    influx: Annotated[
        str | None, typer.Option(metavar="URL", help="An InfluxDB, as http://[user:password@]127.0.0.1:8086.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave it running after the table, until Ctrl-C.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Keep configurations, logs and data in this new directory.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with the result as one line of JSON.")] = False,
    scale: Annotated[float, typer.Option(hidden=True, min=30, max=240, help="How many times faster than life.")] = 120,
) -> None:
    """Play a measured flood through two gateways and central: serial bytes, alarms, siren, SMS, mails, a lost link.

    Everything stays on this machine. Exit code 0: no reading was lost, doubled or invented, and every alarm was raised.
    """
    import json
    import logging
    import sys
    import threading

    from rich.console import Console

    from demo.run import Demo, DemoFailed, Interrupted, Options, handle_signals
    from demo.screen import Picture, Plain

    logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd's, of clients that hang up
    stop = threading.Event()
    handle_signals(stop)
    console = Console()
    result: Result | None = None
    try:
        with Demo(Options(scale, mosquitto, influx, directory), stop) as run:
            with Picture(console) if console.is_terminal else Plain(console) as screen:
                result = run.play(screen)
            _table(console, result)
            if as_json:
                print(json.dumps(result.as_json(), ensure_ascii=False), flush=True)
            if directory is not None:
                console.print(f"Data: {run.directory}")
            if keep:
                console.print(f"It goes on: {run.page}  Ctrl-C ends it.")
                run.keep()
    except Interrupted:
        if result is None:
            console.print("Interrupted; every process has ended.")
            raise typer.Exit(130) from None
    except (DemoFailed, FileNotFoundError) as e:
        print(f"maillages-demo: {e}", file=sys.stderr)
        raise typer.Exit(1) from None
    for fault in run.unclean:
        console.print(f"Not a clean end of {fault}", style="bold red")
    raise typer.Exit(0 if result is not None and result.good and not run.unclean else 1)


def _table(console: "Console", result: "Result") -> None:
    """What the devices emitted against what is stored, and what else must be so."""
    from dataclasses import astuple

    from rich.table import Table
    from rich.text import Text

    from demo.accounts import total

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("readings by series", no_wrap=True)
    for name in ("emitted", "taken", "stored", "missing", "duplicated", "invented"):
        table.add_column(name, justify="right")
    for account in (*result.accounts, total(result.accounts)):
        series, *counts = astuple(account)
        station, _, rest = series.partition("/")
        style = ("bold" if series == "total" else "") if account.good else "bold red"
        table.add_row(f"{station} {rest.partition('/')[2]}", *map(str, counts), style=style)
    console.print()
    console.print(table)
    console.print()
    for check in result.checks:
        mark = Text("ok   ", "green") if check.good else Text("FAIL ", "bold red")
        console.print(Text.assemble(mark, check.what, (f"  ({check.found})", "dim")), soft_wrap=True)
    console.print(f"\n{result.real_s:.0f} s, {result.broker}, {result.store}", highlight=False)


def main() -> None:
    app()
