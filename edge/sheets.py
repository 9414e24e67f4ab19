"""docs/sensors.md, made from the drivers: `python -m edge.sheets` writes it, and a test compares."""

import re
import tomllib
from pathlib import Path

from edge import drivers
from edge.errors import ConfigError
from edge.sensors._lorawan import UplinkOptions
from edge.sensors._named import Named
from edge.sensors.base import Driver, Options, Sheet
from edge.tools import catalogue

PAGE = Path(__file__).parent.parent / "docs" / "sensors.md"


def _contract(options: type) -> str:
    """The docstring of an options class on one line, without what is for programmers."""
    return re.sub(r" \(see [^)]*\)|; see Named", "", " ".join((options.__doc__ or "").split()))


_PORT = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"
_W1 = "/sys/bus/w1/devices/28-0000072431ac/w1_slave"
_SERVERS = {
    "chirpstack_v4": ("mqtt://127.0.0.1:1883", ""),
    "ttn_v3": (
        "mqtts://eu1.cloud.thethings.network:8883",
        'username = "application@tenant"\npassword = "..."\n',
    ),
    "semtech_udp": ("udp://127.0.0.1:1700", ""),
}

_HEAD = """\
# Sensors: wiring, settings, limits, faults

Made from the drivers by `python -m edge.sheets`; do not edit. `maillages-edge drivers` lists them, [technician.md](technician.md) says how
a gateway is set up, [adding-a-driver.md](adding-a-driver.md) how a device that is not here is added.

**Levels first.** A wrong level destroys a port, or reads as garbage.

| what | levels | to the gateway |
|---|---|---|
| UART, TTL 3.3 V | 0 and 3.3 V, idle high | a Pi's pins, or a 3.3 V USB adapter; TX to RX, RX to TX, ground to ground |
| UART, TTL 5 V | 0 and 5 V, idle high | a level shifter or a 5 V USB adapter; never a Pi's pin, which takes 3.3 V |
| RS232 | about -10 and +10 V, idle low | a USB-RS232 adapter; never a pin |
| RS485 | two wires, A and B | a USB-RS485 adapter, A to A and B to B |
| SDI-12 | 0 and 5 V, inverted, one wire | an SDI-12 adapter |

- RS485: makers do not agree on A and B. When nothing answers, swap the two wires: it harms nothing. Run the ground along. On a long line
  120 Ohm between A and B at both ends, nowhere else, and devices in a chain, not in a star.
- Supply: a fan or a radio takes peaks. Feed it from 5 V, not from a Pi's 3.3 V pin, unless its sheet says 3.3 V.
- Name ports by `/dev/serial/by-id/...` or `usb:VID:PID:SERIAL`; two adapters without serial numbers by `/dev/serial/by-path/...`.

The stanzas below are checked by a test. Paths, addresses and heights are examples.
"""


_SERIAL = ("stream", "poll", "modbus", "file")
_GROUPS = (
    ("On a wire", _SERIAL, f"Values that the configuration of `line`, `modbus` and `sdi12` names: {_contract(Named)}"),
    ("On radio: modems and network servers", ("modem",), ""),
    (
        "On radio: payloads of nodes",
        ("payload",),
        f"By a `network_server`, or for nodes behind a modem by `modem` and `address`. Options of all: {_contract(UplinkOptions)}",
    ),
)


def sheet(driver: Driver) -> Sheet:
    """The driver's sheet. Raises ConfigError when it has none."""
    if driver.sheet is None:
        raise ConfigError(
            f"driver {driver.name} has no sheet, expected wiring, limits and faults (edge.sensors.base.Sheet)"
        )
    return driver.sheet


def stanza(driver: Driver) -> str:
    """An example of its configuration, TOML. A `payload` driver's names the network server `lorawan`."""
    options = sheet(driver).options
    told = f"options = {{ {options} }}\n" if options else ""
    if driver.name in _SERVERS:
        url, login = _SERVERS[driver.name]
        return f'[[network_server]]\nname = "lorawan"\ndriver = "{driver.name}"\nurl = "{url}"\n{login}'
    if driver.link == "modem":
        settings = f'settings = "{driver.name}-eu868"\n'
        return f'[[modem]]\nname = "lora"\ndriver = "{driver.name}"\nport = "{_PORT}"\n{settings}'
    way = f'port = "{_W1 if driver.link == "file" else _PORT}"\n'
    if driver.link == "payload":
        way = 'network_server = "lorawan"\ndev_eui = "a84041ffff123456"\n'
    level = "level = { mounting_height_m = 4.20 }\n" if "water_distance" in driver.quantities[:1] else ""
    uncompensated = driver.sound_m_s and driver.sound_m_s(
        drivers.options(driver, tomllib.loads(told).get("options", {}))
    )
    air = 'air = { sensor = "air-temp" }\n' if uncompensated else ""
    period_s = 60 if driver.link in _SERIAL and driver.duty is None else 600
    return (
        f'[[station.sensor]]\nid = "sensor-1"\ndriver = "{driver.name}"\n{way}period_s = {period_s}\n{told}{level}{air}'
    )


def page() -> str:
    """The whole page, Markdown. Raises ConfigError for a driver without a sheet."""
    found = [drivers.find(name) for name in drivers.names()]
    parts = [_HEAD]
    for title, links, note in _GROUPS:
        members = [driver for driver in found if driver.link in links]
        parts.append(f"\n## {title}\n\n" + " · ".join(f"[{d.name}](#{d.name})" for d in members) + "\n")
        parts.append(f"\n{note}\n" if note else "")
        parts += [_section(driver) for driver in members]
    return "".join(parts)


def _section(driver: Driver) -> str:
    facts = sheet(driver)
    lines = [
        ("Measures", catalogue.measures(driver)),
        ("Mounting" if driver.link == "payload" else "Wiring", facts.wiring),
        ("Bus", catalogue.needs(driver)),
        ("Costs", catalogue.costs(driver)),
        ("Options", _options(driver)),
        ("Limits", facts.limits),
        ("Known faults", facts.faults),
        ("Source", f"{driver.source}"),
    ]
    listed = "\n".join(f"- **{name}:** {text}" for name, text in lines if text)
    example = "".join(f"    {line}\n" for line in stanza(driver).splitlines())
    return f"\n### {driver.name}\n\n{driver.title}.\n\n{listed}\n\n{example}"


def _options(driver: Driver) -> str:
    if not drivers.option_names(driver):
        return ""
    kinds = [kind for kind in driver.options.__mro__ if issubclass(kind, Options)]
    return " ".join(_contract(kind) for kind in kinds if kind not in (Options, UplinkOptions))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
