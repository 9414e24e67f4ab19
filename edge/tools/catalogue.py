"""`maillages-edge drivers`: what each driver's devices measure, what they need, and what reading them costs."""

import json
import textwrap
from dataclasses import asdict
from typing import Any

from edge import config, drivers
from edge.sensors.base import Driver
from edge.tools.screen import FAINT, STRONG, paint
from edge.transports.base import rests_from_s
from wire.quantities import QUANTITIES

_INDENT = 12
_LEAST_COLUMNS = 20
_MODEM_LINE, _SERVER = "as [[modem]]", "as [[network_server]]"


def measures(driver: Driver) -> str:
    """Quantities with their unit."""
    if len(driver.quantities) == len(QUANTITIES):
        return "any quantity, by its options"
    if not driver.quantities:
        return "whatever its nodes send" if driver.link == "modem" else "what its options name"
    by_unit: dict[str, list[str]] = {}
    for name in driver.quantities:
        by_unit.setdefault(QUANTITIES[name].unit, []).append(name)
    return "; ".join(f"{', '.join(names)} ({unit})" for unit, names in by_unit.items())


def needs(driver: Driver) -> str:
    """Link, speed and options; those without a value must be given."""
    line = f"{driver.baudrate} baud 8N1"
    link = {
        "stream": f"serial line of its own, {line}",
        "poll": f"serial line{' (several by address)' if driver.address else ' of its own'}, {line}",
        "modbus": f"Modbus RTU line (several by address), {line}",
        "file": "1-Wire, through the kernel",
        "modem": f"serial line, {line}, {_MODEM_LINE}" if driver.modem else f"a network, {_SERVER}",
        "payload": "a LoRa modem or network server",
    }[driver.link]
    said = [
        f"{name} (required)"
        if field.is_required()
        else f"{name}={_shown(field.get_default(call_default_factory=True))}"
        for name, field in zip(drivers.option_names(driver), driver.options.model_fields.values(), strict=True)
        if field.is_required() or not _empty(field.get_default(call_default_factory=True))
    ]
    return f"{link}; options: {', '.join(said)}" if said else link


def costs(driver: Driver) -> str:
    """How often it is read by default, how it rests, what running does to it."""
    if driver.link == "modem":
        found = ["it only listens"]
    elif driver.link == "payload":
        found = ["a reading whenever the device sends, for its battery"]
    elif driver.link == "stream":
        found = [f"a reading every {driver.period_s:g} s by default; it talks by itself"]
    else:
        found = [f"asked every {driver.period_s:g} s by default"]
    window_s = config.Sensor.model_fields["median_s"].default if driver.link == "stream" else 0.0
    if (period_s := rests_from_s(driver, window_s)) is not None:
        found.append(f"rests between readings from period_s = {period_s:g} on")
    return "; ".join([*found, *([driver.life] if driver.life else [])])


def as_object(driver: Driver) -> dict[str, Any]:
    return {
        "name": driver.name,
        "title": driver.title,
        "link": driver.link,
        "quantities": driver.quantities,
        "options": drivers.option_names(driver),
        "baudrate": driver.baudrate if driver.framer or driver.reads or driver.modem else None,
        "period_s": driver.period_s,
        "measures": measures(driver),
        "needs": needs(driver),
        "costs": costs(driver),
        "source": driver.source,
        "sheet": asdict(driver.sheet) if driver.sheet else None,
    }


def chosen(words: list[str]) -> list[Driver]:
    """The drivers in whose name, title, link or quantities all of these words stand."""
    found = [drivers.find(name) for name in drivers.names()]
    return [d for d in found if all(w.lower() in f"{d.name} {d.title} {d.link} {measures(d)}".lower() for w in words)]


def lines(driver: Driver, columns: int, *, whole: bool) -> list[str]:
    """A driver for people: its name and title, then what it measures, needs and costs; with `whole` also its sheet."""
    shown = [paint(driver.name, STRONG) + f"  {driver.title}"]
    facts = [("measures", measures(driver)), ("needs", needs(driver)), ("costs", costs(driver))]
    if whole and driver.sheet is not None:
        sheet = driver.sheet
        facts += [("wiring", sheet.wiring), ("limits", sheet.limits), ("faults", sheet.faults)]
    for label, markdown in facts:
        text = markdown.replace("`", "")
        wrapped = textwrap.wrap(text, max(_LEAST_COLUMNS, columns - _INDENT), break_long_words=False)
        shown += [paint(f"  {label if i == 0 else '':<9} ", FAINT) + line for i, line in enumerate(wrapped)]
    return shown


def _empty(value: object) -> bool:
    return value is None or value in ("", (), [], {})


def _shown(value: object) -> str:
    return json.dumps(value, default=str) if not isinstance(value, str) else value
