"""What `maillages-edge test alarm` shows: the links of an exercise alarm as the running gateway hears of them (edge/exercise.py)."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge.tools import running
from edge.tools.screen import BAD, FAINT, GOOD, STRONG, paint

LOOK_S = 0.25
ANSWER_S = 15.0
"""A gateway that is busy with an alarm may take long; what an exercise is for is not lost by that."""
_MARKS = {"good": ("✓", "green"), "failed": ("✗", "red"), "absent": ("-", "dim"), "waiting": ("…", "yellow")}
_PAINT = {"good": GOOD, "failed": BAD, "absent": FAINT}


def follow(data_dir: Path, wish: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Set it off, and give how it is until it is over. Raises NotRunning, NotAllowed, NotDone."""
    report = running.ask(data_dir, "POST", "/exercise", wish, ANSWER_S)
    yield report
    while not report["over"]:
        time.sleep(LOOK_S)
        try:
            report = running.ask(data_dir, "GET", "/exercise", timeout_s=ANSWER_S)
        except (running.NotRunning, running.NotDone) as e:
            raise running.NotRunning(
                f"the gateway ended or began anew during the exercise, which is over with that: {e}"
            ) from None
        yield report


def good(report: dict[str, Any]) -> bool:
    """Whether every link that is configured was proven."""
    return all(link["state"] in ("good", "absent") for link in report["links"])


def head(report: dict[str, Any]) -> str:
    return (
        f"EXERCISE {report['reference']}: level {report['level']} at {report['station']}. Messages begin with EXERCICE; nobody is"
        " told who is not on the exercise list."
    )


def lines(link: dict[str, Any]) -> list[str]:
    """A settled link, for people."""
    mark, took = _MARKS[link["state"]][0], _took(link)
    found = [f"  {paint(mark, _PAINT[link['state']])} {link['link']:<14} {took:>8}  {link['detail']}"]
    if link["remedy"]:
        found.append(f"    {paint('What to do:', STRONG)} {link['remedy']}")
    return found


def conclusion(report: dict[str, Any]) -> str:
    tried = [link for link in report["links"] if link["state"] != "absent"]
    failed = [link["link"] for link in tried if link["state"] != "good"]
    found = f"{len(tried)} of {len(tried)} links work" if not failed else f"NOT PROVEN: {', '.join(failed)}"
    return f"{found}. The exercise is over: {report['ended']}."


def view(report: dict[str, Any]) -> RenderableType:
    """The table of a terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("", "link", "took", "", "what to do"):
        table.add_column(name, justify="right" if name == "took" else "left", overflow="fold")
    for link in report["links"]:
        mark, style = _MARKS[link["state"]]
        table.add_row(Text(mark, style), link["link"], _took(link), Text(link["detail"], style), link["remedy"])
    return Group(Text(head(report), "bold"), table, Text(conclusion(report), "bold") if report["over"] else Text(""))


def show(reports: Iterator[dict[str, Any]], say: Callable[[list[str], Any], None]) -> dict[str, Any]:
    """In a pipe: each link as soon as it is settled. Gives the last report."""
    said: set[str] = set()
    report: dict[str, Any] = {}
    for report in reports:
        for link in report["links"]:
            if link["state"] != "waiting" and link["link"] not in said:
                said.add(link["link"])
                say(lines(link), {"status": report["status"], "reference": report["reference"]} | link)
    return report


def _took(link: dict[str, Any]) -> str:
    return "" if link["took_s"] is None else f"{link['took_s']:.2f} s"
