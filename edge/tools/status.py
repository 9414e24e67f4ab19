"""`maillages-edge status`: the running gateway at a glance, as text of a given width; the terminal view draws the same again and again.

The numbers are those of the gateway's page (edge/situation.py).
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.identity import day
from edge.tools import running
from edge.tools.screen import span

EVERY_S = 2.0
_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK, _WIDE = 16, 100
_LEVEL = {0: "green", 1: "yellow", 2: "dark_orange", 3: "bold red"}
_FLAGS = {1: ("good", "green"), 2: ("not judged", "dim"), 3: ("suspect", "yellow"), 4: ("impossible", "red")}
_UNITS = {"Cel": "°C", "%RH": "%", "ug/m3": "µg/m³", "%EL": "%"}


def watch(data_dir: Path, console: Console) -> None:
    """Draw it every `EVERY_S` seconds, until KeyboardInterrupt; a gateway that ends is said, and waited for."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown = view(running.situation(data_dir), console.width)
            except running.NotRunning as e:
                shown = Panel(Text(str(e)), title="maillages-edge", border_style="red")
            live.update(shown, refresh=True)
            time.sleep(EVERY_S)


def view(told: dict[str, Any], width: int) -> RenderableType:
    """The whole of it, for so many columns; from 80 on nothing that matters is cut."""
    return Group(_heading(told), _sensors(told, width), _alarms(told), _machine(told))


def _heading(told: dict[str, Any]) -> RenderableType:
    level = max((station["level"] for station in told["stations"]), default=0)
    text = Text.assemble(
        (told["gateway"], "bold"), f"  {day(told['wall_s'])}  runs for {span(told['wall_s'] - told['started_s'])}  "
    )
    text.append(f"level {level}" if level else "below all thresholds", _LEVEL[level])
    if told["siren"]:
        text.append("  the siren sounds", "bold red")
    if told["exercise_s"] is not None:
        text.append("  EXERCISE alarm under way", "bold reverse")
    if told["status"] != "Actual":
        text.append(f"  {told['status'].upper()}", "bold reverse")
    if not told["answered"]:
        text.append(f"\nThe gateway does not answer: this is of {span(told['age_s'])} ago", "bold red")
    return text


def _sensors(told: dict[str, Any], width: int) -> RenderableType:
    wide = width >= _WIDE
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("sensor", overflow="fold")
    table.add_column("quantity", no_wrap=True, overflow="ellipsis")
    table.add_column("value", justify="right", no_wrap=True, min_width=7)
    table.add_column("age", justify="right", no_wrap=True, min_width=6)
    table.add_column("quality", no_wrap=True, min_width=8)
    table.add_column("last hour", no_wrap=True, overflow="crop")
    spark = _SPARK if wide else _SPARK // 2
    notes: list[Text] = []
    for station in told["stations"]:
        for sensor in station["sensors"]:
            name = f"{station['id']}/{sensor['id']}"
            measures = [m for m in sensor["measures"] if m["value"] is not None]
            for i, measure in enumerate(measures):
                table.add_row("" if i else name, *_measure(measure, spark))
            if not measures:
                table.add_row(name, "", "–")
            note = _trouble(sensor, known=bool(measures))
            if note is not None:
                notes.append(Text.assemble((f"{name}: ", "bold"), note))
    if not told["stations"]:
        return Text("\nNo station is configured: nothing is measured.\n", "yellow")
    return Group("", table, *notes, "")


def _measure(m: dict[str, Any], spark: int) -> tuple[str | Text, ...]:
    style = _LEVEL[_reached(m)] if m["fresh"] else "dim"
    unit = _UNITS.get(m["unit"], m["unit"])
    value = Text(f"{'≥ ' if m['at_least'] else ''}{m['value']:g} {unit}", style)
    age = Text(span(m["age_s"]), "" if m["fresh"] else "red")
    word, colour = _FLAGS.get(m["qc"], ("", ""))
    if m["refused_age_s"] is not None:
        word, colour = "refused", "red"
    trend = "" if m["trend_per_h"] is None else f" {m['trend_per_h']:+.2f}/h"
    return (
        m["quantity"],
        value,
        age,
        Text(word, colour),
        Text(sparkline([v for _, v in m["recent"]], spark) + trend, "cyan"),
    )


def _reached(m: dict[str, Any]) -> int:
    sign = -1 if m["descending"] else 1
    return sum(limit is not None and sign * m["value"] >= sign * limit for limit in m["thresholds"])


def _trouble(sensor: dict[str, Any], *, known: bool) -> Text | None:
    """What is wrong with a sensor, if anything is. `known`: a value of it is."""
    trouble = sensor["trouble"]
    if trouble is not None:
        return Text(f"✗ nothing for {span(trouble['age_s'])}: {trouble['detail'] or trouble['kind']}", "red")
    if sensor["out_of_service"]:
        return Text("out of service", "yellow")
    if not known:
        return Text("nothing heard yet", "yellow")
    return Text(f"{sensor['missed']} missed since the start", "dim") if sensor["missed"] else None


def _alarms(told: dict[str, Any]) -> RenderableType:
    if not told["alarms"]:
        return Text("No alarm stands.\n", "green")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("alarm", "since", "answered", "what"):
        table.add_column(name, no_wrap=name != "what", overflow="fold")
    for a in told["alarms"]:
        by = a["acknowledged_by"] or ("yes" if a["state"] == "ACK" else "")
        said = Text(f"by {by}" if a["acknowledged_by"] else by or "NO", "" if by else "bold red")
        if a["withheld"]:
            said.append(f" ({a['withheld']})", "yellow")
        mark = Text(f"level {a['level']} {a['reference']}", _LEVEL[a["level"]])
        table.add_row(mark, span(told["wall_s"] - a["since_s"]), said, f"{a['where']} : {a['what']}")
    return Group(table, "")


def _machine(told: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, said, good in facts(told):
        table.add_row(name, Text(said, "" if good else "bold red"))
    return table


def facts(told: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What the gateway says of itself: name, words, whether that is good."""
    h = told["health"]
    linked = told["linked"]
    days = h.get("certificate_days")
    certificate = "" if days is None else f", certificate for {days:.0f} days"
    yield (
        "link",
        {True: "up", False: "DOWN", None: "no broker is configured"}[linked] + certificate,
        linked is not False,
    )
    late = told["waiting"] and told["unconfirmed_s"] >= 60
    wait = f", none confirmed for {span(told['unconfirmed_s'])}" if late else ""
    memory = f", {told['in_memory']} in memory alone: the disk takes none" if told["in_memory"] else ""
    yield "journal", f"{told['waiting']} readings wait for central{wait}{memory}", not (late or memory)
    if "sms_unusable" in h:
        good = not h["sms_unusable"]
        signal = f", {h['sms_signal_dbm']:g} dBm" if "sms_signal_dbm" in h else ""
        yield "modem", ("can send" if good else "CANNOT SEND: maillages-edge doctor says why") + signal, good
    low = h.get("under_voltage")
    yield (
        "power",
        "not told by this machine" if low is None else "UNDER-VOLTAGE" if low else "the voltage holds",
        not low,
    )
    set_ = told["clock_synchronised"]
    yield "clock", "synchronised" if set_ else "NOT SET: times are estimates", set_
    if "cpu_temperature" in h:
        yield "processor", f"{h['cpu_temperature']:.0f} °C", h["cpu_temperature"] < 80
    if "disk_free_percent" in h:
        yield "disk", f"{h['disk_free_percent']:.0f} % free", h["disk_free_percent"] >= 10
    for name, said in (
        ("siren_lost", "its relay takes no command"),
        ("button_fault", "the button is stuck or not connected"),
    ):
        if h.get(name):
            yield "siren", said, False


def sparkline(values: Sequence[float], width: int = _SPARK) -> str:
    """The course of some values in one line, the newest last; nothing for fewer than two."""
    if len(values) < 2:
        return ""
    step = max(1.0, len(values) / width)
    chosen = [values[min(len(values) - 1, int(i * step))] for i in range(min(width, len(values)))]
    chosen[-1] = values[-1]
    low, high = min(values), max(values)
    if high == low:
        return _BLOCKS[0] * len(chosen)
    return "".join(_BLOCKS[round((v - low) / (high - low) * (len(_BLOCKS) - 1))] for v in chosen)
