"""A simulated GSM modem: AT commands in PDU mode, and a network behind it that keeps what was sent.

It reads TPDUs by a decoder of its own (3GPP TS 23.040), so that what the log shows is what a phone would show.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from common.gsm7 import BASIC, EXTENSION
from edge.emulators.family import Bench, Family, Word, toml
from edge.emulators.pty import PtyDevice

_SERVICE_CENTRE = "07912374151616F6"
_STAMP = bytes.fromhex("62114281000040")  # 2026-11-24 18:00:00 +1 h, digits swapped
_EXTENDED = {code: char for char, code in EXTENSION.items()}


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message as the phone shows it; `boot_s` is real CLOCK_BOOTTIME at its last part."""

    number: str
    text: str
    boot_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """One SMS-SUBMIT, decoded. A message in one part has `total` 1."""

    number: str
    reference: int
    total: int
    index: int
    text: str
    report: bool
    """Whether one was asked for."""


@dataclass(slots=True, kw_only=True)
class Faults:
    """How the modem misbehaves; may be changed while it runs. Seconds are real."""

    cms_error: int | None = None
    """Answer to every message, such as 331: no network."""
    registered: bool = True
    credit: str | None = '0,"Uw saldo is 12,50 EUR",15'
    """What the network answers to any USSD code, behind `+CUSD: `; None: nothing."""
    silent: bool = False
    delay_s: float = 0.0
    """Before every answer."""
    echo_stuck: bool = False
    """ATE0 is accepted and echo stays on."""
    busy: int = 0
    """So many AT+CPIN? are answered SIM busy."""
    delivery: Literal["delivered", "failed", "late", "never"] = "delivered"
    """What the network reports of a part, if asked: at once, or `late`, when `report_late` says so, or never."""
    unsolicited: bool = False
    """Lines that nobody asked for, before every answer and prompt."""
    dies_at: Literal["pin", "prompt", "handed_over", "accepted", "confirmed"] | None = None
    """Loses its power, once, and is dead until `revive`: over a PIN that the SIM has judged; with the prompt out; with the
    PDU in, unsent; sent but unanswered; answered but for the OK."""
    dies_at_message: int = 1
    """At which message (each part counts) of those stages that belong to one."""


class GsmModem(PtyDevice):
    """A modem with a SIM. `arrived` is notified with every command, PDU and whole message.

    `messages` are whole ones, `pdus` the hex that came in, `commands` all lines. With `log` each message is appended to
    that file as a line of JSON with the members of `Message`. `reports`: as +CDS lines, in a store of their own, or among the
    messages, as modems differ. A SIM with `pin` locks after three wrong ones (`wrong_pins`).
    """

    def __init__(
        self,
        path: Path,
        *,
        pin: str | None = None,
        faults: Faults | None = None,
        log: Path | None = None,
        rssi: int = 17,
        reports: Literal["direct", "stored", "inbox"] = "direct",
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        super().__init__(path)
        self.faults = faults or Faults()
        self.arrived = threading.Condition()
        self.messages: list[Message] = []
        self.pdus: list[str] = []
        self.commands: list[str] = []
        self.wrong_pins = 0
        self._pin = pin
        self._log = log
        self._rssi = rssi
        self._report_to = reports
        self._report_store: dict[int, bytes] = {}
        self._late: list[tuple[str, int]] = []
        self._boottime = boottime
        self._inbox: dict[int, bytes] = {}
        self._parts: dict[tuple[str, int, int], dict[int, str]] = {}
        self._reference = 0
        self._submits = 0
        self._dead = False
        self._power_up()

    def revive(self) -> None:
        """Power is back: as after a start, echo on and SIM locked."""
        self._power_up()
        self._dead = False

    def incoming(self, number: str, text: str) -> None:
        """Somebody answers: an SMS-DELIVER waits on the SIM."""
        self.incoming_tpdu(delivered(number, text))

    def incoming_tpdu(self, tpdu: bytes) -> None:
        with self.arrived:
            self._inbox[next(i for i in range(1, 256) if i not in self._inbox)] = tpdu

    @property
    def waiting(self) -> int:
        """How many messages are on the SIM."""
        return len(self._inbox)

    def report_late(self, status: int) -> None:
        """The network says what became of the parts that it kept silent about: TP-Status."""
        late, self._late = self._late, []
        for number, reference in late:
            self._report(number, reference, status)

    def _report(self, number: str, reference: int, status: int) -> None:
        tpdu = reported(number, reference, status)
        if self._report_to == "inbox":
            self.incoming_tpdu(tpdu)
        elif self._route == "1":
            self.write(f"\r\n+CDS: {len(tpdu)}\r\n{_SERVICE_CENTRE}{tpdu.hex().upper()}\r\n".encode())
        elif self._route == "2":
            index = next(i for i in range(1, 256) if i not in self._report_store)
            self._report_store[index] = tpdu
            self.write(f'\r\n+CDSI: "SR",{index}\r\n'.encode())

    @property
    def _store(self) -> dict[int, bytes]:
        return self._report_store if self._memory == "SR" else self._inbox

    def _listed(self, index: int) -> tuple[str, str]:
        tpdu = self._store[index]
        return f"+CMGL: {index},1,,{len(tpdu)}", _SERVICE_CENTRE + tpdu.hex().upper()

    def _power_up(self) -> None:
        self._echo = True
        self._route = "0"
        self._memory = "SM"
        self._locked = self._pin is not None
        self._buffer = b""
        self._expected: int | None = None  # octets of the TPDU that the prompt waits for

    # The line

    def received(self, data: bytes) -> None:
        if self._dead or self.faults.silent:
            return
        if self._echo or self.faults.echo_stuck:
            self.write(data)
        self._buffer += data
        while not self._dead and self._take():
            pass

    def _take(self) -> bool:
        """Handle one command line or one PDU. False when none is complete."""
        ends = b"\x1a\x1b" if self._expected is not None else b"\r"
        at = min((i for i in map(self._buffer.find, [ends[i : i + 1] for i in range(len(ends))]) if i >= 0), default=-1)
        if at < 0:
            return False
        line, end, self._buffer = self._buffer[:at], self._buffer[at : at + 1], self._buffer[at + 1 :]
        if self._expected is None:
            text = line.replace(b"\x1b", b"").strip().decode("latin-1")
            if text:
                self._command(text)
        else:
            expected, self._expected = self._expected, None
            if end == b"\x1a":
                self._message(line.decode("latin-1").strip(), expected)
            else:
                self._answer("OK")
        return True

    def _answer(self, *lines: str) -> None:
        self.pause(self.faults.delay_s)
        if self.faults.unsolicited:
            lines = ('+CREG: 1,"00C3","0A7F"', "RING", '+CMTI: "SM",3', *lines)
        self.write("".join(f"\r\n{line}\r\n" for line in lines).encode())

    # The commands

    def _command(self, line: str) -> None:
        with self.arrived:
            self.commands.append(line)
            self.arrived.notify_all()
        name = line.upper()
        if name in ("AT", "ATE0", "ATE1"):
            self._echo = self._echo if name == "AT" else name == "ATE1"
            self._answer("OK")
        elif name in ("AT+CMEE=1", "AT+CMGF=0"):
            self._answer("OK")
        elif name == "AT+CPIN?":
            self._cpin()
        elif name.startswith("AT+CPIN="):
            self._enter_pin(line[8:].strip('"'))
        elif name == "AT+CREG?":
            self._answer(f"+CREG: 0,{1 if self._on_network else 2}", "OK")
        elif name == "AT+CSQ":
            self._answer(f"+CSQ: {self._rssi},0", "OK")
        elif name.startswith("AT+CUSD=1,"):
            self._answer("OK")
            if self.faults.credit is not None:
                self._answer(f"+CUSD: {self.faults.credit}")
        elif name.startswith("AT+CNMI=2,1,0,"):
            way = name[14:15]
            if self._report_to == "stored" and way == "1":
                self._answer("+CMS ERROR: 303")
            else:
                self._route = way
                self._answer("OK")
        elif name == "AT+CPMS?":
            self._answer("+CPMS: " + ",".join([f'"{self._memory}",{len(self._store)},30'] * 3), "OK")
        elif name in ('AT+CPMS="SM"', 'AT+CPMS="SR"'):
            self._memory = name[9:11]
            self._answer("+CPMS: " + ",".join([f"{len(self._store)},30"] * 3), "OK")
        elif name == "AT+CMGL=4":
            self._answer(*(line for index in sorted(self._store) for line in self._listed(index)), "OK")
        elif name.startswith("AT+CMGD="):
            with self.arrived:
                self._store.pop(int(name[8:]), None)
                self.arrived.notify_all()
            self._answer("OK")
        elif name.startswith("AT+CMGS="):
            self._cmgs(name[8:])
        else:
            self._answer("ERROR")

    @property
    def _on_network(self) -> bool:
        return self.faults.registered and not self._locked

    def _cpin(self) -> None:
        if self.faults.busy > 0:
            self.faults.busy -= 1
            self._answer("+CME ERROR: 14")
        elif self.wrong_pins >= 3:
            self._answer("+CPIN: SIM PUK", "OK")
        else:
            self._answer("+CPIN: SIM PIN" if self._locked else "+CPIN: READY", "OK")

    def _enter_pin(self, pin: str) -> None:
        if self.wrong_pins >= 3:
            self._answer("+CME ERROR: 12")
        elif not self._locked:
            self._answer("+CME ERROR: 3")
        elif pin != self._pin:
            self.wrong_pins += 1
            if not self._die_at("pin"):
                self._answer("+CME ERROR: 16")
        else:
            self.wrong_pins = 0
            self._locked = False
            if not self._die_at("pin"):
                self._answer("OK")

    def _cmgs(self, length: str) -> None:
        if self._locked:
            self._answer("+CMS ERROR: 311")
            return
        if not length.isdigit():
            self._answer("+CMS ERROR: 304")
            return
        self._submits += 1
        self._expected = int(length)
        self.pause(self.faults.delay_s)
        if self.faults.unsolicited:
            self.write(b"\r\nRING\r\n")
        self.write(b"\r\n> ")
        self._die_at("prompt")

    def _message(self, pdu: str, expected: int) -> None:
        delivery = self.faults.delivery
        died = self._die_at("handed_over")
        with self.arrived:
            self.pdus.append(pdu)
            self.arrived.notify_all()
        if died:
            return
        if self.faults.cms_error is not None or not self._on_network:
            self._answer(f"+CMS ERROR: {self.faults.cms_error or 331}")
            return
        try:
            part = decode(pdu, expected)
        except (ValueError, IndexError):
            self._answer("+CMS ERROR: 304")
            return
        self._keep(part)
        self._reference = (self._reference + 1) % 256
        if self._die_at("accepted"):
            return
        self._answer(f"+CMGS: {self._reference}")
        if self._die_at("confirmed"):
            return
        self._answer("OK")
        if part.report and delivery == "late":
            self._late.append((part.number, self._reference))
        elif part.report and delivery != "never":
            self._report(part.number, self._reference, 0 if delivery == "delivered" else 0x46)

    def _die_at(self, stage: str) -> bool:
        if self.faults.dies_at != stage or (stage != "pin" and self._submits < self.faults.dies_at_message):
            return False
        self.faults.dies_at = None
        self._dead = True
        return True

    # The network

    def _keep(self, part: Part) -> None:
        key = (part.number, part.reference, part.total)
        parts = self._parts.setdefault(key, {})
        parts[part.index] = part.text
        if len(parts) < part.total:
            return
        del self._parts[key]
        message = Message(part.number, "".join(parts[i] for i in sorted(parts)), self._boottime())
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(message), ensure_ascii=False) + "\n")
        with self.arrived:
            self.messages.append(message)
            self.arrived.notify_all()


def decode(pdu: str, expected: int) -> Part:
    """One PDU (hex, with its service centre octets) as AT+CMGS brings it; `expected` octets of TPDU.

    Raises ValueError or IndexError for anything but an SMS-SUBMIT in the default alphabet, whole or concatenated.
    """
    octets = bytes.fromhex(pdu)
    tpdu = octets[1 + octets[0] :]
    if len(tpdu) != expected:
        raise ValueError(f"{len(tpdu)} octets, expected {expected}")
    first, digits = tpdu[0], tpdu[2]
    if first & 0b11 != 0b01:
        raise ValueError("not an SMS-SUBMIT")
    position = 4 + (digits + 1) // 2
    number = "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in tpdu[4:position])[:digits]
    if not number.isdigit():
        raise ValueError("not a number")
    if tpdu[position + 1] != 0:
        raise ValueError("not in the default alphabet")
    position += 2 + {0: 0, 2: 1}.get(first >> 3 & 0b11, 7)  # the validity period
    length, data = tpdu[position], tpdu[position + 1 :]
    if len(data) != (length * 7 + 7) // 8:
        raise ValueError(f"{len(data)} octets of text, expected {length} septets")
    bits = "".join(f"{octet:08b}"[::-1] for octet in data)
    codes = [int(bits[i : i + 7][::-1], 2) for i in range(0, length * 7, 7)]
    reference, total, index = 0, 1, 1
    if first & 0x40:
        if data[:3] != bytes([5, 0, 3]):
            raise ValueError("a header other than concatenation")
        reference, total, index = data[3:6]
        codes = codes[7:]
    return Part(("+" if tpdu[3] == 0x91 else "") + number, reference, total, index, _text(codes), bool(first & 0x20))


def delivered(number: str, text: str) -> bytes:
    """An SMS-DELIVER TPDU of now: in the default alphabet where that has every character, else in UCS-2."""
    head = b"\x04" + _address(number) + b"\x00"
    if all(char in BASIC and char != "\x1b" for char in text):
        bits = "".join(f"{BASIC.index(char):07b}"[::-1] for char in text)
        data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
        return head + b"\x00" + _STAMP + bytes([len(text)]) + data
    data = text.encode("utf-16-be")
    return head + b"\x08" + _STAMP + bytes([len(data)]) + data


def reported(number: str, reference: int, status: int) -> bytes:
    """An SMS-STATUS-REPORT TPDU of now about a part that was sent to `number`."""
    return bytes([0x06, reference]) + _address(number) + _STAMP * 2 + bytes([status])


def _address(number: str) -> bytes:
    digits = number.lstrip("+")
    padded = digits + "F" * (len(digits) % 2)
    octets = bytes(int(padded[i + 1] + padded[i], 16) for i in range(0, len(padded), 2))
    return bytes([len(digits), 0x91 if number.startswith("+") else 0xA1]) + octets


def _text(codes: list[int]) -> str:
    text, escaped = "", False
    for code in codes:
        if escaped:
            text += _EXTENDED.get(code, " ")
        elif code != 0x1B:
            text += BASIC[code]
        escaped = code == 0x1B and not escaped
    return text


def _make(bench: Bench) -> GsmModem:
    pin = str(bench.only.options["pin"])
    return GsmModem(bench.path, pin=pin or None, log=bench.log.path)


def _written(_: str, path: Path, options: Mapping[str, Any]) -> str:
    pin = f"pin = {toml(str(options['pin']))}\n" if options["pin"] else ""
    return (
        f"[outputs.sms]\nport = {toml(str(path))}\n{pin}\n"
        '[[outputs.sms.recipient]]\nid = "technician"\nphone = "+32470000001"\ntechnician = true\n'
    )


def _somebody_answers(modem: GsmModem, value: str) -> None:
    number, _, text = value.partition(" ")
    if not (number[:1] == "+" and number[1:].isdecimal() and text):
        raise ValueError("expected sms=+32470000001 and the text")
    modem.incoming(number, text)


def _on_network(modem: GsmModem, value: str) -> None:
    if value not in ("0", "1"):
        raise ValueError("expected network=1 or network=0")
    modem.faults.registered = value == "1"


FAMILIES = (
    Family(
        name="gsm",
        title="GSM modem with a SIM (SMS)",
        true={},
        make=_make,
        options={"pin": ""},
        kind="output",
        written=_written,
        words={
            "sms": Word(example="sms=+32470000001 OUI", do=_somebody_answers),
            "network": Word(example="network=0", do=_on_network),
        },
        happened=lambda modem: [f"SMS to {one.number}: {one.text}" for one in list(modem.messages)],
    ),
)
