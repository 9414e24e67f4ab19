"""`maillages-edge`. Each command imports what it needs when it runs, so that `decode` stays quick on a small machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.errors import told as _told

if TYPE_CHECKING:
    from edge.tools.screen import Screen

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
def drivers(
    words: Annotated[list[str] | None, typer.Argument(help="Only those that have all these words.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List the drivers: what each measures, needs and costs. Exit code 1: none has these words."""
    import json

    from edge.tools import catalogue
    from edge.tools.screen import Screen

    found = catalogue.chosen(words or [])
    screen = Screen()
    if as_json:
        typer.echo(json.dumps([catalogue.as_object(driver) for driver in found]))
    elif found:
        screen.say(
            (line for driver in found for line in catalogue.lines(driver, screen.columns, whole=bool(words))), None
        )
    else:
        screen.note(f"No driver has {' and '.join(words or [])}.")
    raise typer.Exit(0 if found else 1)


_Settings = Annotated[list[str] | None, typer.Option("--set", help="Option of the driver, key=value.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]


@app.command()
def scan(
    ports: Annotated[
        list[str] | None, typer.Option("--port", metavar="PORT", help="Only this one; may be repeated.")
    ] = None,
    baudrates: Annotated[
        list[int] | None, typer.Option("--baudrate", min=50, help="Ask everything at this speed; may be repeated.")
    ] = None,
    modbus: Annotated[str, typer.Option(metavar="RANGE", help="Modbus addresses, or none.")] = "1-16,254",
    sdi12: Annotated[str, typer.Option(metavar="RANGE", help="SDI-12 addresses, or none.")] = "0-9",
    timeout: Annotated[float, typer.Option(min=1, metavar="S", help="Ask nothing more after so long.")] = 120,
    as_json: _Json = False,
) -> None:
    """Find the serial ports, their stable names, and what answers on each.

    Listens first, then asks what only reads. A port that the gateway holds is left alone. Exit code 0: something answers on
    every port; 1: not on all; 2: bad use.
    """
    import signal
    from threading import Event

    from common.clock import Clock
    from edge.errors import ConfigError, PortError
    from edge.tools import scan as scanning
    from edge.tools.screen import Screen
    from edge.transports.port import Plugged, device, is_usb, plugged

    screen, clock, stop = Screen(as_json=as_json), Clock(), Event()
    try:
        plan = scanning.Plan(tuple(baudrates or ()), scanning.numbers(modbus), scanning.addresses(sdi12))
        for url in ports or ():
            is_usb(url)
    except (ConfigError, ValueError) as e:
        raise _bad_use(str(e)) from None
    here = plugged()
    if ports:
        by_name = {name: p for p in here for name in (p.device, *p.names)}
        try:
            here = [by_name.get(url) or Plugged(device(url), (), "") for url in dict.fromkeys(ports)]
        except PortError as e:
            screen.note(str(e))
            raise typer.Exit(1) from None
    if not here:
        screen.note("No serial port: is the adapter plugged in? `dmesg | tail` shows what the kernel saw.")
        raise typer.Exit(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    end = clock.boot() + timeout
    reports: list[scanning.Report] = []

    def take(report: scanning.Report) -> None:
        reports.append(report)
        screen.say(scanning.lines(report), scanning.value(report))

    scanning.scan(here, clock, plan, lambda: stop.is_set() or clock.boot() >= end, take, screen.progress)
    raise typer.Exit(0 if all(report.found for report in reports) else 1)


@app.command()
def read(
    target: Annotated[str, typer.Argument(metavar="[STATION[/SENSOR]]", help="Without it, all sensors.")] = "",
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="S", help="Wait so long for each. Default: 10 s on a wire, 1.5 periods for a radio node."
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Read sensors once, now, as the gateway would; keep and send nothing.

    The gateway must not run: it holds the ports. Exit code 0: each gave a value; 1: one did not; 2: bad use or configuration.
    """
    import logging
    import signal
    from threading import Event

    from common.clock import Clock
    from edge.config import load
    from edge.errors import ConfigError
    from edge.tools import read as reading
    from edge.tools.screen import Screen

    logging.getLogger("edge").addHandler(logging.NullHandler())  # the answers say it all
    screen, stop = Screen(as_json=as_json), Event()
    try:
        settings = load(config)
        reader = reading.Reader(settings, target, Clock(trust=settings.clock.trust), timeout)
    except ConfigError as e:
        raise _bad_use(_told(config, e)) from None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    answers: list[reading.Answer] = []

    def take(answer: reading.Answer) -> None:
        answers.append(answer)
        screen.say(reading.lines(answer), reading.value(answer))

    reader.run(stop, take, screen.progress)
    raise typer.Exit(0 if all(answer.good for answer in answers) else 1)


@app.command()
def sniff(
    url: Annotated[
        str, typer.Argument(metavar="PORT", help="Device path, usb:VID:PID[:SERIAL], socket:// or rfc2217://.")
    ],
    driver: Annotated[
        str | None, typer.Option(help="Driver, as `drivers` lists them; without one, bytes only.")
    ] = None,
    baudrate: Annotated[int | None, typer.Option(min=50, help="Default: the driver's, or 9600.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of the device.")] = None,
    settings: _Settings = None,
    record: Annotated[Path | None, typer.Option(help="Keep all bytes in this new file, for `replay`.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so long.")] = None,
    ask: Annotated[
        float | None, typer.Option(min=0.1, metavar="S", help="Set the device up, and ask it every S seconds.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show the bytes that come on a port, and beside them what a driver makes of them, until Ctrl-C.

    Only listens, unless --ask. Exit code 0: the device was understood; 1: it was not; 2: bad use.
    """
    import signal
    from contextlib import ExitStack
    from threading import Event

    from common.clock import Clock, rfc3339
    from edge import decode as decoding
    from edge import drivers as known
    from edge.errors import ConfigError, PortError
    from edge.tools import capture
    from edge.tools.screen import Screen
    from edge.transports.port import Port, is_usb

    screen, clock, stop = Screen(as_json=as_json), Clock(), Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        try:
            is_usb(url)
            values = decoding.values(model, None, settings or [])
            if driver is None and (values or ask):
                raise ConfigError("--set, --model, --ask: expected only with --driver")
            found = None if driver is None else known.find(driver)
            options = None if found is None else known.options(found, values)
            ear = capture.Ear(found, options)
            asking = None if found is None or options is None or not ask else capture.asking(found, options, ask)
            speed = baudrate or (found.baudrate if found else 9600)
            started = clock.wall()
            header = capture.Header(port=url, baudrate=speed, driver=driver, options=values, started=rfc3339(started))
            file = None if record is None else stack.enter_context(record.open("xb", buffering=0))
        except (ConfigError, ValueError) as e:
            raise _bad_use(str(e)) from None
        except OSError as e:
            raise _bad_use(f"--record: {record} cannot be made: {e.strerror}") from None
        view = capture.View(screen, started)
        recorder = None if file is None else capture.Recorder(file, header, screen.note)

        def take(burst: capture.Burst) -> None:
            view.show(burst)
            if recorder is not None:
                recorder.add(burst)

        port = Port(url, speed, clock)
        screen.note(f"Listening on {url} at {speed} baud. Ctrl-C ends it.")
        try:
            capture.Sniffer(port, clock, ear, take, screen.note).run(stop, seconds, asking)
        except PortError as e:
            if record is not None:
                record.unlink(missing_ok=True)
            screen.note(str(e))
            raise typer.Exit(1) from None
    screen.note(view.summary(found))
    if record is not None:
        screen.note(f"Recorded in {record}; `maillages-edge replay {record}` shows it again.")
    raise typer.Exit(0 if (view.decoded if found else view.heard) else 1)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A file that `sniff --record` made.")],
    driver: Annotated[str | None, typer.Option(help="Another driver than the recorded one.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of the device.")] = None,
    settings: _Settings = None,
    as_json: _Json = False,
) -> None:
    """Show a recorded file again, through the driver as it is now. Opens no port.

    Options given here stand beside the recorded ones. Exit codes as of `sniff`.
    """
    from edge import decode as decoding
    from edge import drivers as known
    from edge.errors import ConfigError
    from edge.tools import capture
    from edge.tools.screen import Screen

    try:
        recorded = capture.Capture.load(file)
        header = recorded.header
        name = driver or header.driver
        found = None if name is None else known.find(name)
        values = (header.options if name == header.driver else {}) | decoding.values(model, None, settings or [])
        ear = capture.Ear(found, None if found is None else known.options(found, values))
    except ConfigError as e:
        raise _bad_use(str(e)) from None
    screen = Screen(as_json=as_json)
    view = capture.View(screen, recorded.started_wall_s)
    screen.note(f"{header.port} at {header.baudrate} baud, recorded {header.started}")
    capture.replay(recorded, ear, view)
    screen.note(view.summary(found))
    raise typer.Exit(0 if (view.decoded if found else view.heard) else 1)


def _answer(value: object) -> str:
    """A flag as the answer to its question."""
    if isinstance(value, bool):
        return "y" if value else "n"
    return "\n".join(value) if isinstance(value, list) else str(value)


def _bad_use(text: str) -> typer.Exit:
    """Say what was wrong with a command line or configuration."""
    typer.echo(text, err=True)
    return typer.Exit(2)


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
def init(
    file: Annotated[Path, typer.Argument(help="edge.toml, new or to be added to.")] = Path("/etc/maillages/edge.toml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: flags and defaults answer.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Touch no device.")] = False,
    gateway_id: Annotated[str | None, typer.Option(help="Id of the gateway.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Journal and alarm log.")] = None,
    add_sensor: Annotated[bool | None, typer.Option(help="To a file that has one.")] = None,
    port: Annotated[str | None, typer.Option(help="Of the sensor: a path, or usb:VID:PID.")] = None,
    driver: Annotated[str | None, typer.Option(help="Driver; without it the port is scanned.")] = None,
    baudrate: Annotated[int | None, typer.Option(min=50, help="Another than the driver's.")] = None,
    settings: _Settings = None,
    sensor_id: Annotated[str | None, typer.Option(help="Id of the sensor.")] = None,
    period: Annotated[float | None, typer.Option(metavar="S", help="Seconds between two readings.")] = None,
    station: Annotated[str | None, typer.Option(help="Id of a station of the file, or new.")] = None,
    station_name: Annotated[str | None, typer.Option(help="Name of a new station.")] = None,
    station_id: Annotated[str | None, typer.Option(help="Its id.")] = None,
    commune: Annotated[str | None, typer.Option(help="Its commune, by name or NIS code.")] = None,
    position: Annotated[str | None, typer.Option(help="LAT,LON in degrees, or a map's link.")] = None,
    river: Annotated[str | None, typer.Option(help="Its river, or none.")] = None,
    gauge: Annotated[str | None, typer.Option(metavar="M", help="What the staff gauge reads now, or none.")] = None,
    mounting_height: Annotated[
        str | None, typer.Option(metavar="M", help="Sensor face above a mark, or none: the gauge alone counts.")
    ] = None,
    datum: Annotated[float | None, typer.Option(metavar="M", help="That mark above the gauge's zero.")] = None,
    by: Annotated[str | None, typer.Option(help="Who read the gauge.")] = None,
    levels: Annotated[str | None, typer.Option(help="Local thresholds, as 1.20,1.80,2.30, or none.")] = None,
    rise: Annotated[str | None, typer.Option(help="Metres in an hour, or none.")] = None,
    siren: Annotated[str | None, typer.Option(help="PORT[:CHANNEL] of its relay, gpio:PIN, or none.")] = None,
    siren_test: Annotated[bool | None, typer.Option(help="Sound it for a second.")] = None,
    sms: Annotated[str | None, typer.Option(help="Port of the GSM modem, or none.")] = None,
    sms_pin: Annotated[
        str | None, typer.Option(help="PIN of its SIM, or none; better asked than in a history.")
    ] = None,
    recipient: Annotated[
        list[str] | None, typer.Option(metavar="ID=PHONE[:LEVEL][:technician]", help="Of the SMS; may be repeated.")
    ] = None,
) -> None:
    """Set up a station beside its sensors: find them, hold them against the staff gauge, name thresholds, test the siren.

    Asks what no flag answers; without a terminal, or with --yes, nothing. The file is written at the end, or not at all (Ctrl-C).
    Exit code 0: written; 1: stopped, nothing was written; 2: bad use or configuration.
    """
    from common.clock import Clock
    from edge.errors import ConfigError
    from edge.tools import setup
    from edge.tools.dialogue import Dialogue
    from edge.tools.document import Document, replace_file
    from edge.tools.screen import Screen

    given = {
        "gateway-id": gateway_id, "data-dir": data_dir, "add-sensor": add_sensor, "port": port, "driver": driver,
        "baudrate": baudrate, "set": settings, "sensor-id": sensor_id, "period": period, "station": station,
        "station-name": station_name, "station-id": station_id, "commune": commune, "position": position, "river": river,
        "gauge": gauge, "mounting-height": mounting_height, "datum": datum, "by": by, "levels": levels, "rise": rise,
        "siren": siren, "siren-test": siren_test, "sms": sms, "sms-pin": sms_pin, "recipient": recipient,
    }  # fmt: skip
    answers = {name: _answer(value) for name, value in given.items() if value is not None}
    screen = Screen()
    dialogue = Dialogue(answers, screen, asks=sys.stdin.isatty() and not yes)
    try:
        document = Document.read(file)
        before = document.text
        if dialogue.asks:
            screen.note(
                "Enter takes what stands in [brackets]. Nothing is written before the end; Ctrl-C leaves all as it is."
            )
        config = setup.Setup(document, dialogue, screen, Clock(trust="always"), offline=offline).run()
        if document.text == before:
            screen.note("Nothing was added.")
            return
        if dialogue.asks:
            screen.note("\n" + "\n".join(setup.added(before, document.text)) + "\n")
            if not dialogue.confirm("write", f"Write this to {file}?", default=True):
                raise typer.Abort
        replace_file(file, document.text)
    except ConfigError as e:
        raise _bad_use(str(e)) from None
    except (KeyboardInterrupt, typer.Abort):
        screen.note(f"\nStopped; {file} is as it was.")
        raise typer.Exit(1) from None
    screen.say(setup.shown(file, config), None)


@app.command("test")
def try_output(
    output: Annotated[Literal["siren", "sms", "alarm"], typer.Argument(help="siren, sms or alarm.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    seconds: Annotated[float, typer.Option(min=0.1, max=10, help="How long the siren sounds.")] = 2.0,
    to: Annotated[str | None, typer.Option(help="Recipient of the SMS, by id [default: the technicians].")] = None,
    level: Annotated[int, typer.Option(min=1, max=3, help="Of the exercise alarm.")] = 3,
    station: Annotated[str | None, typer.Option(help="Of the exercise alarm [default: the first].")] = None,
    no_siren: Annotated[bool, typer.Option("--no-siren", help="The exercise alarm leaves the siren alone.")] = False,
    within: Annotated[float, typer.Option(min=5, max=1800, metavar="S", help="Wait so long for the links.")] = 120,
    answer: Annotated[
        float, typer.Option(min=0, max=3600, metavar="S", help="Then so long for somebody who acknowledges.")
    ] = 0,
    as_json: _Json = False,
) -> None:
    """Sound the siren for a moment, send an SMS that begins with TEST, or try the whole way with an exercise alarm.

    siren, sms: the gateway must not run, it holds the ports. alarm: it must run; siren, SMS, broker, central, its messages and the
    board are tried, each with the time that it took. Only who is on the exercise list is told, and a real alarm ends it at once.
    Exit code 0: done, sent, every link works; 1: not, or nobody knows; 2: bad use or configuration.
    """
    import logging
    import signal

    from common.clock import Clock
    from edge.config import load
    from edge.errors import ConfigError
    from edge.tools import trial
    from edge.tools.screen import Screen

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C does: a siren is not left on
        signal.signal(number, signal.default_int_handler)
    screen, trials = Screen(as_json=as_json), []
    if output == "alarm":
        wish: dict[str, object] = {"level": level, "station": station, "siren_s": 0.0 if no_siren else seconds}
        raise _exercise(config, screen, wish | {"within_s": within, "answer_s": answer})
    try:
        settings = load(config)
        trial.hold(settings)
        clock = Clock(trust=settings.clock.trust)
        for done in [trial.siren(settings, clock, seconds)] if output == "siren" else trial.sms(settings, clock, to):
            trials.append(done)
            screen.say(done.lines(), done.value())
    except ConfigError as e:
        raise _bad_use(_told(config, e)) from None
    raise typer.Exit(0 if all(done.good for done in trials) else 1)


def _exercise(config: Path, screen: "Screen", wish: dict[str, object]) -> typer.Exit:
    """The exit code of an exercise alarm that was followed to its end."""
    from rich.console import Console
    from rich.live import Live

    from edge.config import load
    from edge.errors import ConfigError
    from edge.tools import exercise, running

    report: dict[str, object] = {}
    try:
        data = load(config).gateway.data_dir
        try:
            reports = exercise.follow(data, wish)
            console = Console(highlight=False)
            if console.is_terminal and not screen.as_json:
                with Live(console=console, auto_refresh=False) as live:
                    for report in reports:
                        live.update(exercise.view(report), refresh=True)
            else:
                screen.note("An EXERCISE alarm goes its whole way; nobody is told who is not on the exercise list.")
                report = exercise.show(reports, screen.say)
                screen.note(exercise.conclusion(report))
        except KeyboardInterrupt:
            running.ask(data, "POST", "/exercise/end")
            screen.note("Stopped; the exercise is over.")
            return typer.Exit(1)
    except (ConfigError, running.NotDone) as e:
        return _bad_use(_told(config, e))
    except running.NotRunning as e:
        screen.note(str(e))
        return typer.Exit(1)
    return typer.Exit(0 if exercise.good(report) else 1)


journal_app = typer.Typer(
    help="The journal of readings, also while the gateway runs. Only reads.", no_args_is_help=True
)
app.add_typer(journal_app, name="journal")

_Since = Annotated[str | None, typer.Option(metavar="TIME", help="From then on: RFC 3339, or a span back such as 2h.")]


@journal_app.command("show")
def journal_show(
    series: Annotated[str, typer.Argument(metavar="[STATION[/SENSOR[/QUANTITY]]]", help="Only these.")] = "",
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    since: _Since = None,
    last: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 40,
    as_json: _Json = False,
) -> None:
    """List readings, the newest last. Exit code 0: there are some; 1: none; 2: bad use or configuration."""
    from collections import deque

    from common.clock import Clock
    from edge.config import load
    from edge.errors import ConfigError
    from edge.tools import journal
    from edge.tools.screen import Screen

    screen = Screen(as_json=as_json)
    try:
        book = journal.Book(journal.segments(load(config).gateway.data_dir / "journal"))
        rows = deque(book.rows(series, journal.moment(since, Clock().wall())), last)
    except ConfigError as e:
        raise _bad_use(_told(config, e)) from None
    for row in rows:
        screen.say([journal.line(row)], journal.value(row))
    screen.note(book.summary())
    raise typer.Exit(0 if rows else 1)


@journal_app.command("export")
def journal_export(
    file: Annotated[Path, typer.Argument(help="New CSV file, - for standard output.")],
    series: Annotated[str, typer.Argument(metavar="[STATION[/SENSOR[/QUANTITY]]]", help="Only these.")] = "",
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    since: _Since = None,
) -> None:
    """Write readings as CSV. Exit code 0: done; 2: bad use or configuration."""
    from common.clock import Clock
    from edge.config import load
    from edge.errors import ConfigError
    from edge.tools import journal

    try:
        book = journal.Book(journal.segments(load(config).gateway.data_dir / "journal"))
        journal.export(book.rows(series, journal.moment(since, Clock().wall())), file)
    except ConfigError as e:
        raise _bad_use(_told(config, e)) from None
    typer.echo(book.summary(), err=True)


@journal_app.command("salvage")
def journal_salvage(
    source: Annotated[list[Path], typer.Argument(help="Segments or a directory of them, damaged or not, of any card.")],
    to: Annotated[Path, typer.Option("--to", help="New CSV file, - for standard output.")],
) -> None:
    """Save what can still be read of journal files, line by line. Exit code 0: all could be read; 1: not all; 2: bad use."""
    from edge.errors import ConfigError
    from edge.tools import journal

    try:
        book = journal.Book([path for one in source for path in journal.segments(one)])
        journal.export(book.rows(), to)
    except ConfigError as e:
        raise _bad_use(str(e)) from None
    typer.echo(book.summary(), err=True)
    raise typer.Exit(1 if book.damaged else 0)


@app.command()
def status(
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, as /status.json of the page.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Say it once, as in a pipe.")] = False,
) -> None:
    """Show the running gateway: sensors, alarms, journal, link, modem, power, clock. Live on a terminal, until Ctrl-C.

    Exit code 0: it runs; 1: it does not; 2: bad configuration.
    """
    import json

    from rich.console import Console

    from edge.config import load
    from edge.errors import ConfigError
    from edge.tools import running
    from edge.tools import status as showing
    from edge.tools.screen import PIPE_COLUMNS

    try:
        data = load(config).gateway.data_dir
        console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)
        if as_json:
            typer.echo(json.dumps(running.situation(data), ensure_ascii=False))
        elif once or not console.is_terminal:
            console.print(showing.view(running.situation(data), console.width))
        else:
            showing.watch(data, console)
    except ConfigError as e:
        raise _bad_use(_told(config, e)) from None
    except running.NotRunning as e:
        typer.echo(str(e), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def doctor(
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    gauge: Annotated[
        list[str] | None,
        typer.Option(metavar="STATION/SENSOR=METRES", help="What the staff gauge reads now; may be repeated."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Pack findings, log and configuration, without secrets, in this new .tar.gz.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Say what is wrong with this gateway, and what to do: ports, clock, disk, power, sensors, modem, broker, outputs.

    Asks the running gateway; while none runs, the devices themselves. Exit code 0: nothing is bad; 1: something is; 2: bad use.
    """
    import logging

    from common.clock import Clock
    from edge.tools import doctor as doctoring
    from edge.tools import support
    from edge.tools.screen import Screen

    logging.getLogger().addHandler(logging.NullHandler())  # the findings say it all
    screen = Screen(as_json=as_json)
    try:
        gauges = {key: float(value) for key, _, value in (text.partition("=") for text in gauge or ())}
    except ValueError:
        raise _bad_use("--gauge: expected STATION/SENSOR=METRES, as hoyoux-huy/level-1=1.52") from None
    findings: list[doctoring.Finding] = []
    patient = doctoring.Doctor(config, Clock(), gauges=gauges)
    screen.progress("looks, up to a minute when devices are silent")
    for finding in patient.run():
        findings.append(finding)
        screen.say(finding.lines(), finding.value())
        screen.progress("looks on")
    screen.progress("")
    if bundle is not None:
        try:
            support.pack(bundle, config, findings, patient.running)
        except OSError as e:
            raise _bad_use(f"--bundle: {bundle} cannot be made: {e.strerror}") from None
        screen.note(f"{bundle}: findings, log and configuration, without passwords, PIN, keys and telephone numbers.")
    raise typer.Exit(1 if any(finding.verdict == "bad" for finding in findings) else 0)


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")],
    exercise_clock: Annotated[
        str | None, typer.Option(hidden=True, metavar="SCALE,ORIGIN_BOOT,ORIGIN_WALL", help="An exercise, sped up.")
    ] = None,
) -> None:
    """Run the gateway until SIGTERM. SIGHUP: try the file as it is now, and go back when it is not healthy."""
    from common.clock import Clock
    from edge import start

    try:
        exercise = Clock.of_exercise(exercise_clock) if exercise_clock else None
    except ValueError as e:
        raise typer.BadParameter(str(e)) from None
    raise typer.Exit(start.run(config, exercise))


@app.command("config")
def config_command(
    example: Annotated[bool, typer.Option("--example", help="Print a commented example.")] = False,
) -> None:
    """Print a commented configuration (`--example`)."""
    from edge.config import example as text

    if not example:
        raise typer.BadParameter("expected --example")
    typer.echo(text(), nl=False)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="An edge.toml.")]) -> None:
    """Check a configuration as `run` would, also while the gateway runs: touches no device, no disk, no network.

    Exit code 0: good; 2: it has faults, one a line: file, key, what was found, what was expected.
    """
    from common.clock import Clock
    from edge import service
    from edge.config import load
    from edge.errors import EdgeError

    try:
        settings = load(file)
        service.check(settings, Clock(trust=settings.clock.trust))
    except EdgeError as e:
        raise _bad_use(str(e)) from None
    typer.echo(f"{file}: good")


_Target = Annotated[Path, typer.Option("--config", "-c", help="The gateway's edge.toml.")]


@app.command()
def diff(
    file: Annotated[Path, typer.Argument(help="An edge.toml.")],
    config: _Target = Path("/etc/maillages/edge.toml"),
) -> None:
    """Show what this file would change of what runs. Exit code 0: nothing; 1: something; 2: it has faults."""
    from common.clock import Clock
    from edge.errors import EdgeError
    from edge.tools import apply as applying

    try:
        found = applying.candidate(file, config, Clock(trust="always"))
    except EdgeError as e:
        raise _bad_use(str(e)) from None
    for line in found.changes or [f"the same as {found.against}"]:
        typer.echo(line)
    raise typer.Exit(1 if found.changes else 0)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="An edge.toml.")],
    config: _Target = Path("/etc/maillages/edge.toml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put this file in the place of the gateway's, without a restart: no reading and no alarm is lost.

    The running gateway tries it first, and goes back when a sensor or the link does not come back.
    Exit code 0: it runs; 1: it does not, and the one before does; 2: bad use or configuration.
    """
    import time

    from common.clock import Clock
    from edge.errors import EdgeError
    from edge.tools import apply as applying
    from edge.tools.screen import Screen

    screen, clock = Screen(), Clock(trust="always")
    try:
        found = applying.candidate(file, config, clock)
        for line in found.changes or [f"the same as {found.against}"]:
            typer.echo(line)
        if found.changes and not yes and not typer.confirm("Apply this?"):
            raise typer.Exit(1)
        running = applying.is_running(found.config)
        if running and found.changes:
            outcome = applying.tried(found, clock, screen.progress, time.sleep)
            if outcome.state != "running":
                screen.note(f"{outcome.state}: {outcome.why}\nWhat ran before runs on, and {config} is as it was.")
                raise typer.Exit(1)
        kept = applying.put(found, config)
    except EdgeError as e:
        raise _bad_use(str(e)) from None
    typer.echo(
        f"{config}: " + ("runs" if running else "written; the gateway does not run, and takes it when it starts")
    )
    if kept is not None:
        typer.echo(f"{kept}: the one before")


@app.command()
def history(config: _Target = Path("/etc/maillages/edge.toml")) -> None:
    """List the configurations that ran here, the newest last: when, and where each came from. Each is a file for `apply`."""
    from edge.config import load
    from edge.errors import EdgeError
    from edge.exchange import Exchange

    try:
        found = Exchange(load(config).gateway.data_dir).history()
    except EdgeError as e:
        raise _bad_use(str(e)) from None
    for path in found:
        _, when, source, _ = path.name.split(".")
        typer.echo(f"{when}  {source:<12} {path}")


@app.command()
def join(
    file: Annotated[Path, typer.Argument(help="The join file that `maillages-central enrol` wrote.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    data_dir: Annotated[Path, typer.Option(help="Where the gateway keeps what is its own.")] = Path(
        "/var/lib/maillages-edge"
    ),
    user: Annotated[str, typer.Option(help="User of the gateway, who will own the files.")] = "maillages",
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another identity, and of another mqtt section.")
    ] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Have systemd start the gateway.")] = True,
) -> None:
    """Make this machine the gateway of a join file: install its identity, prove the way to central, start the service.

    Asks for the passphrase (without a terminal it is the first line of standard input). May be run again after any fault.
    Exit code 0: joined; 1: installed, but central did not answer; 2: refused, nothing was changed.
    """
    from getpass import getpass

    from common.clock import Clock
    from edge.errors import ConfigError
    from edge.link import LinkFault
    from edge.tools import join as joining
    from edge.tools.screen import BAD, GOOD, STRONG, Screen, paint
    from wire.identity import look

    screen, clock, terminal = Screen(), Clock(), sys.stdin.isatty()
    places = joining.Places(config.absolute(), data_dir.absolute(), user)

    asked = 0

    def ask() -> str:
        nonlocal asked
        asked += 1
        if not terminal:
            return sys.stdin.readline()
        return getpass("Passphrase: " if asked == 1 else "That is not it. Passphrase: ")

    def say(step: str, outcome: str) -> None:
        screen.say([f"  {paint('✓', GOOD)} {step:<14} {outcome}"], None)

    def tell(fault: joining.JoinRefused | LinkFault) -> None:
        end = "" if fault.remedy.endswith("?") else "."
        screen.note(f"  {paint('✗', BAD)} {fault.what}.\n    {paint('What to do:', STRONG)} {fault.remedy}{end}")

    try:
        text = joining.read(file, clock)
        screen.note(f"{paint(look(text)['gateway'], STRONG)}: join file of {look(text)['made'][:10]}")
        found = joining.unsealed(text, ask, joining.ATTEMPTS if terminal else 1, clock)
        with joining.held(places.data_dir):
            settings = joining.install(found, places, clock, replace=replace, say=say)
            screen.progress("asks central for a receipt")
            joining.prove(settings, clock, say)
        if start:
            joining.start_unit(places.edge_toml, say)
    except joining.JoinRefused as e:
        tell(e)
        raise typer.Exit(2) from None
    except LinkFault as e:
        screen.progress("")
        tell(e)
        screen.note("    The identity is installed. When it is mended: the same command again.")
        raise typer.Exit(1) from None
    except ConfigError as e:
        raise _bad_use(str(e)) from None
    screen.progress("")
    screen.say([f"{paint(found.gateway, STRONG)} has joined."], None)
    if not settings.station:
        screen.note(f"It has no station yet: add [[station]] to {places.edge_toml}, and restart it.")


@app.command()
def upgrade(
    file: Annotated[Path, typer.Argument(help="A bundle that `maillages-central bundle` made.")],
    root: Annotated[Path, typer.Option(help="Where the installation is.")] = Path("/"),
    python: Annotated[str, typer.Option(help="The Python to use.")] = "python3",
) -> None:
    """Upgrade this gateway with a signed bundle; the old version comes back if the new one is not healthy in five minutes.

    The signature is checked before a byte of the file is run. Exit codes as of `sh FILE`: 0 installed; 1 not healthy, the old
    version is back; 2 refused, nothing was changed.
    """
    from edge.errors import ConfigError
    from edge.tools import upgrade as upgrading

    try:
        raise typer.Exit(upgrading.upgrade(file, root, python))
    except ConfigError as e:
        raise _bad_use(str(e)) from None


radio_app = typer.Typer(
    help="LoRa modems and our own nodes: settings, air time, keys; LoRaWAN sensors: their settings.",
    no_args_is_help=True,
)
app.add_typer(radio_app, name="radio")


@radio_app.command("apply")
def radio_apply(
    file: Annotated[str, typer.Argument(help="Settings: a name of firmware-configs/, or a path.")],
    port: Annotated[str, typer.Argument(help="The modem's port: a path, or usb:VID:PID[:SERIAL].")],
    baudrate: Annotated[int | None, typer.Option(min=50, help="Another than the driver's.")] = None,
    as_json: _Json = False,
) -> None:
    """Set a LoRa modem up as a file says: write what differs, read it back, say what was changed.

    The gateway must not hold the port. Exit code 0: all is as the file says; 1: not, or the modem does not answer; 2: bad use.
    """
    import logging

    from common.clock import Clock
    from edge.errors import ConfigError, EdgeError
    from edge.tools import radio
    from edge.tools.screen import Screen

    logging.getLogger("edge").addHandler(logging.NullHandler())  # the answers say it all
    screen = Screen(as_json=as_json)
    try:
        found = radio.apply(file, port, baudrate, Clock())
    except ConfigError as e:
        raise _bad_use(str(e)) from None
    except radio.NoAnswer as e:
        todo = "power, TX and RX crossed, its own speed (--baudrate). An E22 needs M0 to ground and M1 to 3.3 V the first time."
        screen.note(f"{e}.\n  What to do: {todo}")
        raise typer.Exit(1) from None
    except EdgeError as e:
        screen.note(str(e))
        raise typer.Exit(1) from None
    for setting in found:
        screen.say(setting.lines(), setting.value())
    written, bad = sum(s.written for s in found), sum(not s.good for s in found)
    screen.note(f"{written} of {len(found)} written and read back." if not bad else f"{bad} not as the file says.")
    raise typer.Exit(1 if bad else 0)


@radio_app.command()
def plan(
    file: Annotated[str, typer.Argument(help="Settings: a name of firmware-configs/, or a path.")],
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes the site has.")] = 1,
    size: Annotated[int, typer.Option("--bytes", min=1, max=240, help="Of a packet; sealed ones have 15 more.")] = 23,
    period: Annotated[float, typer.Option(min=1, metavar="S", help="Seconds from a node's packet to its next.")] = 600,
    gain: Annotated[float, typer.Option(metavar="DBI", help="Of the nodes' antennas; a dipole has 2.15.")] = 2.15,
    as_json: _Json = False,
) -> None:
    """Reckon power and duty cycle by law, and how often packets of so many nodes meet.

    Exit code 0: the law allows it; 1: it does not; 2: bad use.
    """
    from edge.errors import ConfigError
    from edge.tools import radio
    from edge.tools.screen import Screen

    try:
        found = radio.plan(file, nodes, size, period, gain)
    except ConfigError as e:
        raise _bad_use(str(e)) from None
    Screen(as_json=as_json).say(found.lines(), found.value())
    raise typer.Exit(0 if found.lawful else 1)


@radio_app.command()
def rekey(
    node: Annotated[int, typer.Argument(help="Address of the node.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")],
    file: Annotated[Path | None, typer.Option(help="For the node [default: node-NODE.json].")] = None,
) -> None:
    """Give a node a new key, shown once. The old one counts until the first packet under the new one."""
    from edge.config import load
    from edge.errors import EdgeError
    from edge.tools import radio

    try:
        typer.echo(radio.rekey(load(config), node, file or Path(f"node-{node}.json")), nl=False)
    except EdgeError as e:
        raise _bad_use(str(e)) from None


@radio_app.command("list")
def list_nodes(
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")],
    as_json: _Json = False,
) -> None:
    """List the nodes: key (by name), last counter, last heard."""
    from edge.config import load
    from edge.errors import EdgeError
    from edge.tools import radio

    try:
        typer.echo(radio.listing(radio.nodes(load(config)), as_json))
    except EdgeError as e:
        raise _bad_use(str(e)) from None


@radio_app.command()
def downlink(
    model: Annotated[str, typer.Argument(help="Dragino or Milesight model, such as DDS75-LB or EM500-UDL.")],
    interval_s: Annotated[int | None, typer.Option("--interval-s", help="Seconds between two reports.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Restart the sensor instead.")] = False,
    as_json: _Json = False,
) -> None:
    """Print what to send down to a LoRaWAN sensor so that it reports as often as wanted, or restarts."""
    from edge.errors import EdgeError
    from edge.tools import radio

    if restart == (interval_s is not None):
        raise typer.BadParameter("expected --interval-s or --restart")
    try:
        typer.echo(radio.downlink(model, interval_s, as_json), nl=False)
    except EdgeError as e:
        raise _bad_use(str(e)) from None


def main() -> None:
    app()
