"""The demo on a terminal: a picture that moves, or plain lines where there is no terminal."""

from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from demo.view import GatewayView, Line, StationView, View, clock_time

_LEVEL_STYLES = ("green", "yellow", "dark_orange", "bold red")
_BLOCKS = "▁▂▃▄▅▆▇█"
_FIXED = 52  # columns of a station's row but for its bar and its curve
_NARROWEST = 8
_MESSAGE_LINES = 2


class Screen(Protocol):
    """Where the demo is seen. `say` gets what has just happened, `show` the whole moment, a few times a second."""

    def say(self, line: Line, /) -> None: ...

    def show(self, view: View, /) -> None: ...


class Plain:
    """One line per event."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, line: Line, /) -> None:
        self._console.print(str(line), markup=False, highlight=False, soft_wrap=True)

    def show(self, _view: View, /) -> None:
        return None


class Picture:
    """The whole terminal, redrawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def say(self, _line: Line, /) -> None:
        return None

    def show(self, view: View, /) -> None:
        self._live.update(picture(view, self._console.width, self._console.height), refresh=True)


def picture(view: View, width: int, height: int) -> RenderableType:
    """The moment in so many columns and lines; messages get the lines that are left."""
    above = [*_head(view, width), Text(), _stations(view.stations, view, width), Text(), _gateways(view.gateways)]
    used = 2 + 1 + (1 + len(view.stations)) + 1 + (1 + len(view.gateways)) + 2 + 1
    return Group(*above, Text(), *_messages(view, width, height - used), _foot(view, width))


def _head(view: View, width: int) -> list[RenderableType]:
    title = Text.assemble((" EXERCICE ", "bold white on red"), ("  Maillages  ", "bold"), view.phase)
    moment = Text.assemble((clock_time(view.wall_s), "bold"), (f"  ×{view.scale:g} ", "dim"))
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(title, moment)
    played = datetime.fromtimestamp(view.played_s, UTC)
    caption = f" replay of {played:%d/%m/%Y %H:%M} UTC  {view.left_s:3.0f} s left "
    done = round((width - len(caption)) * view.progress)
    bar = Text("━" * done, "cyan")
    bar.append("─" * (width - len(caption) - done), "dim")
    bar.append(caption, "dim")
    return [line, bar]


def _stations(stations: Sequence[StationView], view: View, width: int) -> Table:
    room = max(width - _FIXED, 2 * _NARROWEST)
    bar, curve = room // 2, room - room // 2
    table = _table()
    table.add_column("Station", width=16, no_wrap=True, overflow="ellipsis")
    table.add_column("Now", width=10, justify="right", no_wrap=True)
    table.add_column("per hour", width=8, justify="right", no_wrap=True)
    table.add_column("thresholds", width=bar, no_wrap=True)
    table.add_column("so far", width=curve, no_wrap=True)
    table.add_column("Alarm", width=9, no_wrap=True)
    for item in stations:
        station = item.station
        style = _LEVEL_STYLES[item.level]
        number = "–" if item.value is None else f"{item.value:.{station.decimals}f}"
        trend = "–" if item.trend_per_h is None else f"{item.trend_per_h:+.{station.decimals}f}"
        table.add_row(
            station.name,
            Text(f"{number} {station.unit}", f"bold {style}"),
            Text(trend, "dim"),
            _bar(item, bar),
            _curve(item, view, curve),
            _alarm(item),
        )
    return table


def _alarm(item: StationView) -> Text:
    if item.station.rule is None:
        return Text("")
    if item.state == "NORMAL":
        return Text("○ normal", "green")
    if item.level == 0:
        return Text("◐ over", "cyan")
    return Text(f"● level {item.level}", _LEVEL_STYLES[item.level])


def _bar(item: StationView, width: int) -> Text:
    """The value on a scale from 0 to the station's top, with a stroke at each threshold."""
    station = item.station
    reached = round((item.value or 0.0) / station.top * width)
    strokes = {min(round(limit / station.top * width), width - 1): n for n, limit in enumerate(station.thresholds, 1)}
    style = _LEVEL_STYLES[_level(item, item.value)]
    text = Text()
    for at in range(width):
        if at in strokes:
            text.append("┃" if at < reached else "│", _LEVEL_STYLES[strokes[at]])
        else:
            text.append("━" if at < reached else "─", style if at < reached else "bright_black")
    return text


def _curve(item: StationView, view: View, width: int) -> Text:
    """The window from its begin to its end: the highest value of each column's time, and none where time has not come."""
    text = Text()
    step = (view.ends_s - view.begins_s) / width
    columns: dict[int, float] = {}
    for at, value in item.points:
        column = min(max(int((at - view.begins_s) // step), 0), width - 1)
        columns[column] = max(value, columns.get(column, value))
    for column in range(max(columns, default=-1) + 1):
        value = columns[column] = columns.get(column, columns.get(column - 1, 0.0))
        height = min(max(value / item.station.top, 0.0), 0.999)
        text.append(_BLOCKS[int(height * len(_BLOCKS))], _LEVEL_STYLES[_level(item, value)])
    return text


def _level(item: StationView, value: float | None) -> int:
    return sum(1 for limit in item.station.thresholds if value is not None and value >= limit)


def _gateways(gateways: Sequence[GatewayView]) -> Table:
    table = _table()
    table.add_column("Gateway", width=16, no_wrap=True)
    table.add_column("Link to central", width=16, no_wrap=True)
    table.add_column("Journal", width=18, no_wrap=True)
    table.add_column("Alarms untold", width=13, no_wrap=True)
    table.add_column("Siren", no_wrap=True)
    links = {"up": ("● up", "green"), "down": ("○ down", "yellow"), "cut": (" CUT ", "bold white on red")}
    sirens = {None: ("none", "dim"), False: ("○ silent", "dim"), True: (" ◖ SOUNDS ◗ ", "bold white on red")}
    for gateway in gateways:
        waiting = f"{gateway.journal} wait" if gateway.journal else "all stored"
        table.add_row(
            gateway.id,
            Text.assemble(links[gateway.link]),
            Text(waiting, "yellow" if gateway.journal > 5 else "dim"),
            Text(str(gateway.untold) if gateway.untold else "none", "bold red" if gateway.untold else "dim"),
            Text.assemble(sirens[gateway.siren]),
        )
    return table


def _messages(view: View, width: int, lines: int) -> list[RenderableType]:
    counts = f"{sum(m.channel == 'mail' for m in view.told)} mails, {sum(m.channel == 'sms' for m in view.told)} SMS"
    shown: list[RenderableType] = []
    for message in reversed(view.told):
        style = "cyan" if message.channel == "mail" else "magenta"
        text = Text.assemble((f"{message.channel:<4} {message.sender} → {message.to}  ", style))
        text.append(" ".join(message.text.split()))
        time = clock_time(message.wall_s, "%H:%M ")
        rows = [
            Text.assemble((time if i == 0 else " " * len(time), "dim"), row)
            for i, row in enumerate(text.wrap(Console(width=width), width - len(time))[:_MESSAGE_LINES])
        ]
        if lines < len(rows):
            break
        lines -= len(rows)
        shown += rows
    title = Rule(Text(f"messages: {counts}", "dim"), style="bright_black", align="left")
    return [title, *shown, *[Text()] * lines]


def _foot(view: View, width: int) -> Text:
    text = Text.assemble(("page ", "dim"), (view.page, "underline"), ("   Ctrl-C ends", "dim"))
    text.truncate(width)
    return text


def _table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
