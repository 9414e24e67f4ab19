"""`maillages-edge`. Each command imports what it needs when it runs, so that `decode` stays quick on a small machine."""

import sys
from pathlib import Path
from typing import Annotated, Literal

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


def _told(file: Path, error: Exception) -> str:
    """An error of a configuration, each line with the file's name."""
    from edge.errors import ConfigError

    if not isinstance(error, ConfigError):
        return str(error)
    return "\n".join(line if line.startswith(f"{file}: ") else f"{file}: {line}" for line in str(error).splitlines())


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


@app.command("test")
def try_output(
    output: Annotated[Literal["siren", "sms"], typer.Argument(help="siren or sms.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="edge.toml")] = Path("/etc/maillages/edge.toml"),
    seconds: Annotated[float, typer.Option(min=0.1, max=10, help="How long the siren sounds.")] = 2.0,
    to: Annotated[str | None, typer.Option(help="Recipient of the SMS, by id [default: the technicians].")] = None,
    as_json: _Json = False,
) -> None:
    """Sound the siren for a moment, or send an SMS that begins with TEST.

    The gateway must not run: it holds the ports. Exit code 0: done or sent; 1: not, or nobody knows; 2: bad use or configuration.
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
        typer.echo(_told(config, e), err=True)
        raise typer.Exit(2) from None


@app.command("config")
def config_command(
    example: Annotated[bool, typer.Option("--example", help="Print a commented example.")] = False,
    check: Annotated[
        Path | None, typer.Option("--check", help="Check this file as `run` would; start nothing.")
    ] = None,
) -> None:
    """Print a commented configuration (`--example`), or check one (`--check FILE`), also while the gateway runs.

    Exit code 0: good; 2: it has faults.
    """
    if example == (check is not None):
        raise typer.BadParameter("expected --example or --check FILE")
    if check is None:
        from edge.config import example as text

        typer.echo(text(), nl=False)
        return
    from common.clock import Clock
    from edge import service
    from edge.config import load
    from edge.errors import EdgeError

    try:
        settings = load(check)
        service.check(settings, Clock(trust=settings.clock.trust))
    except EdgeError as e:
        typer.echo(_told(check, e), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{check}: good")


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
    help="Our own LoRa nodes: keys and counters; LoRaWAN sensors: their settings.", no_args_is_help=True
)
app.add_typer(radio_app, name="radio")


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
