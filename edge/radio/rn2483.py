"""Microchip RN2483 as a point-to-point LoRa modem, text commands on a UART, 57600 8N1.

Source: Microchip, RN2483 LoRa Technology Module Command Reference, DS40001784G. A packet arrives as `radio_rx  <hex>`, without
signal strength: that is asked for afterwards (`radio get snr`; `radio get rssi` from firmware 1.0.5 on). Reception ends with each
packet, and with `radio_err`. Radio settings are lost when it restarts.
"""

import re
from typing import Annotated, Literal

from pydantic import Field as Constraint

from edge.radio._eu868 import LoraSettings
from edge.radio._lines import framer, shown
from edge.sensors.base import Driver, Field, FrameError, Identify, Modem, Options, SettingStep, Sheet

ERRORS = {
    "invalid_param": "unknown command, or a parameter is not allowed",
    "busy": "the transceiver is busy, or the LoRaWAN stack is not paused",
}


class Rn2483Options(Options):
    """A modem needs none: what it is set to is in its settings file."""


_EVENT = b"radio_rx "
_PACKET = re.compile(rb"radio_rx {1,2}((?:[0-9A-Fa-f]{2})+)")
_REPLIES = {b"ok": "ok", b"radio_tx_ok": "tx_done"}
_VALUE = re.compile(rb"-?\d{1,10}|sf\d{1,2}|4/[5-8]|on|off|lora|fsk|[0-9A-Fa-f]{1,16}")
_BANNER = re.compile(rb"RN2\d{3}A? [ -~]+")
_WORDS = re.compile(rb"(sys|mac|radio) ([ -~]+)\r\n")


def decode(frame: bytes, options: Rn2483Options) -> list[Field]:
    """One line with its end -> `payload_hex`.

    An answer gives `reply` first: `ok`, `tx_done`, `ready` (its banner, after a restart) or `value`, with `value`. Raises
    FrameError: `no_data` for `radio_err` (nothing received until the time-out, or a CRC error), `exception` for a refusal,
    `header`, `format`.
    """
    del options
    line = frame.rstrip(b"\r\n")
    if line.startswith(_EVENT):
        packet = _PACKET.fullmatch(line)
        if packet is None:
            raise FrameError("format", f"{shown(line)}, expected radio_rx and whole bytes in hex")
        return [Field("payload_hex", packet[1].decode("ascii").upper(), "")]
    if line == b"radio_err":
        raise FrameError("no_data", "the time to receive has ended, or a packet had a CRC error")
    text = line.decode("latin-1")
    if text in ERRORS:
        raise FrameError("exception", f"{text}: {ERRORS[text]}")
    if line in _REPLIES:
        return [Field("reply", _REPLIES[line], "")]
    if _BANNER.fullmatch(line):
        return [Field("reply", "ready", ""), Field("value", text, "")]
    if _VALUE.fullmatch(line):
        return [Field("reply", "value", ""), Field("value", text, "")]
    raise FrameError("header", f"{shown(line)} is no line of the modem")


def _command(words: str) -> bytes:
    return f"{words}\r\n".encode("ascii")


def mac_pause() -> bytes:
    """Pause the LoRaWAN stack; must come before the radio is used. It answers with the milliseconds that it can be paused."""
    return _command("mac pause")


def radio_rx(window: int = 0) -> bytes:
    """Receive for so many symbols; 0: until a packet comes, or its watchdog ends it. It answers `ok`, later `radio_rx`."""
    return _command(f"radio rx {window}")


def radio_rxstop() -> bytes:
    """End an endless reception (from firmware 1.0.5 on)."""
    return _command("radio rxstop")


def radio_tx(payload_hex: str) -> bytes:
    """Send 1 to 255 bytes. It answers `ok`, and `radio_tx_ok` when they are sent. Raises ValueError when they cannot be sent."""
    data = bytes.fromhex(payload_hex)
    if not 0 < len(data) <= 255:
        raise ValueError(f"payload has {len(data)} bytes, expected 1 to 255")
    return _command(f"radio tx {data.hex().upper()}")


def radio_get(name: str) -> bytes:
    """Ask for a setting, or for `snr` or `rssi` of the last packet."""
    return _command(f"radio get {name}")


def radio_set(name: str, value: str | int) -> bytes:
    """Write a setting, as `radio_set("sf", "sf9")`."""
    return _command(f"radio set {name} {value}")


def sys_reset() -> bytes:
    """Restart it; it says its banner when it is back."""
    return _command("sys reset")


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise): its words before the first parameter, joined by `_`."""
    if not frame.startswith((b"sys ", b"mac ", b"radio ")):
        return []
    words = _WORDS.fullmatch(frame)
    if words is None:
        raise FrameError("format", f"{shown(frame)} is no command with CR LF")
    group = words[1].decode("ascii")
    verb, *rest = words[2].decode("ascii").split(" ")
    fields = [Field("command", f"{group}_{verb}", "")]
    if group == "radio" and verb == "tx" and rest:
        return [*fields, Field("payload_hex", rest[0].upper(), "")]
    if group == "radio" and verb == "rx" and rest:
        return [*fields, Field("value", rest[0], "")]
    if verb in ("get", "set") and rest:
        fields.append(Field("name", rest[0], ""))
        rest = rest[1:]
    return [*fields, Field("value", " ".join(rest), "")] if rest else fields


class Settings(LoraSettings):
    """A settings file (firmware-configs/) of a RN2483. `sync_word` has two hex digits; 34 is LoRaWAN's."""

    driver: Literal["rn2483"]
    sync_word: Annotated[str, Constraint(pattern="^[0-9A-F]{2}$")]
    power_dbm: Annotated[int, Constraint(ge=-3, le=15)]

    def steps(self) -> tuple[SettingStep, ...]:
        """The modulation first, then the channel. `wdt` 0: no watchdog ends an endless reception."""
        values: tuple[tuple[str, str | int], ...] = (
            ("mod", "lora"),
            ("freq", self.frequency_hz),
            ("sf", f"sf{self.spreading_factor}"),
            ("bw", self.bandwidth_khz),
            ("cr", f"4/{self.coding_rate}"),
            ("prlen", self.preamble),
            ("crc", "on"),
            ("iqi", "off"),
            ("sync", self.sync_word),
            ("wdt", 0),
            ("pwr", self.power_dbm),
        )
        return tuple(
            SettingStep(query=radio_get(name), expected=_command(str(value)), write=radio_set(name, value))
            for name, value in values
        )


def _described(line: bytes) -> list[Field] | None:
    """For `scan`: its version. The question before ends what other questions left in its line buffer."""
    return [Field("version", line.decode("latin-1").strip(), "")] if _BANNER.fullmatch(line.rstrip(b"\r\n")) else None


DRIVER = Driver(
    name="rn2483",
    title="Microchip RN2483 LoRa modem, point to point",
    link="modem",
    quantities=("rssi", "snr"),
    options=Rn2483Options,
    decode=decode,
    framer=lambda _options: framer(_EVENT),
    baudrate=57600,
    identify=Identify(requests=(radio_get("freq"), _command("sys get ver")), reply_s=0.5, describe=_described),
    source="Microchip, RN2483 LoRa Technology Module Command Reference, DS40001784G",
    sheet=Sheet(
        wiring="3.3 V supply, 3.3 V levels; 5 V destroys it. Antenna before power. 57600 baud.",
        limits="The line has no RSSI. Reception ends after each packet and is begun again.",
        faults="`radio_err` also says that a time ran out.",
    ),
    commands={
        "mac_pause": mac_pause,
        "radio_rx": radio_rx,
        "radio_rxstop": radio_rxstop,
        "radio_tx": radio_tx,
        "radio_get": radio_get,
        "radio_set": radio_set,
        "sys_reset": sys_reset,
    },
    recognise=recognise,
    modem=Modem(
        settings=Settings,
        before=(radio_rxstop(), mac_pause()),
        listen=radio_rx(),
        listening=(b"ok\r\n", b"busy\r\n"),
        listens_once=True,
        signal=(("snr", "dB", radio_get("snr")), ("rssi", "dBm", radio_get("rssi"))),
    ),
)
