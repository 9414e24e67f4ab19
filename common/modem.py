"""SMS by a GSM modem on a serial port: AT commands (3GPP TS 27.005, 27.007), messages as PDUs (3GPP TS 23.040).

Why not gammu, why not text mode: docs/adr/0005-sms-by-pdu.md.
"""

import contextlib
import hashlib
import logging
import os
import re
import termios
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import serial

from common import gsm7
from common.clock import Clock
from common.owner import hand_over

log = logging.getLogger(__name__)

SimState = Literal["ready", "pin_required", "pin_refused", "puk_required", "missing", "failure"]


@dataclass(frozen=True, slots=True)
class Sent:
    """The network took every part; `references` are its message references (TP-MR)."""

    references: tuple[int, ...]
    kind: ClassVar[Literal["sent"]] = "sent"


@dataclass(frozen=True, slots=True)
class Failed:
    """The recipient does not have the message. `retry`: the same attempt may succeed later; otherwise a person must act."""

    reason: str
    retry: bool
    kind: ClassVar[Literal["failed"]] = "failed"


@dataclass(frozen=True, slots=True)
class Unknown:
    """The modem has the whole message and did not say what became of it: do not repeat it to this recipient, tell another."""

    reason: str
    kind: ClassVar[Literal["unknown"]] = "unknown"


Outcome = Sent | Failed | Unknown


@dataclass(frozen=True, slots=True)
class ModemStatus:
    """`signal_dbm` is None when the modem does not know (+CSQ: 99)."""

    registered: bool
    signal_dbm: int | None
    sim: SimState


@dataclass(frozen=True, slots=True)
class Received:
    """A message (or one part of one) that waits in the modem at `index`. `number` in international form as far as the network
    gave it so; both are None for what cannot be read, and then `fault` says why."""

    index: int
    number: str | None
    text: str | None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one part that the network had taken: `number` and `reference` say which. `pending`: the network goes on
    trying; `unknown`: it has done with it and does not say whether the phone has it. `status` is TP-Status (TS 23.040, 9.2.3.15)."""

    number: str
    reference: int
    state: Literal["delivered", "pending", "failed", "unknown"]
    status: int


class ModemError(Exception):
    """The modem cannot be used now. `retry`: it may work later by itself; otherwise a person must act."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry


def is_emulated(port: str) -> bool:
    """Whether a port can only be a simulated device: a path that leads to a pty, or a TCP socket to this machine."""
    if "://" in port:
        url = urlsplit(port)
        return url.scheme == "socket" and url.hostname in ("127.0.0.1", "localhost")
    return Path("/dev/pts") in Path(port).resolve().parents


def deliver(tpdu: bytes) -> tuple[str, str]:
    """Number and text of an SMS-DELIVER TPDU (TS 23.040, 9.2.2.1), without service centre address.

    A national Belgian number becomes an international one (+32). Raises ValueError for what is none, or not text.
    """
    try:
        first, digits, kind = tpdu[0], tpdu[1], tpdu[2]
        at = 3 + (digits + 1) // 2
        address, scheme, length, data = tpdu[3:at], tpdu[at + 1], tpdu[at + 9], tpdu[at + 10 :]
    except IndexError:
        raise ValueError(f"{len(tpdu)} octets, expected an SMS-DELIVER") from None
    if first & 0b11 != 0:
        raise ValueError(f"message type {first & 0b11}, expected 0 (SMS-DELIVER)")
    header = 1 + data[0] if first & _HAS_HEADER and data else 0
    alphabet = _alphabet(scheme)
    if alphabet == "gsm7":
        fill_bits = -header * 8 % 7
        text = gsm7.unpack(data[header:], length - (header * 8 + fill_bits) // 7, fill_bits)
    elif alphabet == "ucs2":
        text = data[header:length].decode("utf-16-be", "replace")
    else:
        raise ValueError(f"data coding scheme {scheme:#04x}, expected text")
    return _number(kind, digits, address), text


def status_report(tpdu: bytes) -> Report:
    """An SMS-STATUS-REPORT TPDU (TS 23.040, 9.2.2.3), without service centre address. What follows TP-Status is not read.

    A national Belgian number becomes an international one (+32). Raises ValueError for what is none, never with the number.
    """
    if len(tpdu) < 3:
        raise ValueError(f"{len(tpdu)} octets, expected an SMS-STATUS-REPORT")
    first, reference, digits = tpdu[:3]
    if first & 0b11 != 2:
        raise ValueError(f"message type {first & 0b11}, expected 2 (SMS-STATUS-REPORT)")
    if first & _OF_A_COMMAND:
        raise ValueError("a report about an SMS-COMMAND, expected one about an SMS-SUBMIT")
    at = 4 + (digits + 1) // 2
    if not 1 <= digits <= _MAX_DIGITS or len(tpdu) <= at + _TIMESTAMPS:
        raise ValueError(
            f"{len(tpdu)} octets with an address of {digits} digits, expected at most {_MAX_DIGITS} and a status"
        )
    number = _number(tpdu[3], digits, tpdu[4:at])
    if tpdu[3] >> 4 & 7 == _ALPHANUMERIC or not number.removeprefix("+").isdecimal():
        raise ValueError("the recipient's address is no number")
    status = tpdu[at + _TIMESTAMPS]
    return Report(number, reference, _delivery(status), status)


def _delivery(status: int) -> Literal["delivered", "pending", "failed", "unknown"]:
    """TS 23.040, 9.2.3.15. Reserved values are errors; of what the network says is completed, only 0 says that the phone has it."""
    if status == 0:
        return "delivered"
    if status < 0x20:
        return "unknown"
    return "pending" if status < 0x40 else "failed"


def _alphabet(scheme: int) -> Literal["gsm7", "ucs2", "binary"]:
    """TS 23.038, section 4."""
    group = scheme >> 4
    if group in (0xC, 0xD):
        return "gsm7"
    if group == 0xE:
        return "ucs2"
    if group == 0xF:
        return "binary" if scheme & 0x04 else "gsm7"
    if group < 8 and not scheme & 0x20:
        return ("gsm7", "binary", "ucs2", "binary")[scheme >> 2 & 3]
    return "binary"


def _number(kind: int, digits: int, address: bytes) -> str:
    if kind >> 4 & 7 == _ALPHANUMERIC:
        return gsm7.unpack(address, digits * 4 // 7)
    number = "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in address)[:digits]
    if kind >> 4 & 7 == 1:
        return "+" + number
    return "+32" + number[1:] if number.startswith("0") and not number.startswith("00") else number


def submit(number: str, text: str, reference: int, *, report: bool = False) -> list[bytes]:
    """A normalised text as SMS-SUBMIT TPDUs (TS 23.040, 9.2.2.2), without service centre address.

    `number` in international form (+32…). More than one part are joined by `reference` (0 to 255; 9.2.3.24.1). The network
    gives up after 24 h. `report`: it is to say what became of each part. Raises ValueError, never with the number in it.
    """
    if not re.fullmatch(r"\+[1-9]\d{7,14}", number):
        raise ValueError("the number is not in international form, expected + and 8 to 15 digits")
    digits = number[1:]
    padded = digits + "F" * (len(digits) % 2)
    address = bytes([len(digits), _INTERNATIONAL]) + bytes.fromhex(
        "".join(b + a for a, b in zip(*[iter(padded)] * 2, strict=True))
    )
    parts = gsm7.split(text)
    tpdus = []
    for index, part in enumerate(parts, 1):
        kind, length, header, fill_bits = _SUBMIT | (_WITH_REPORT if report else 0), gsm7.septets(part), b"", 0
        if len(parts) > 1:
            header = bytes([5, 0, 3, reference, len(parts), index])
            kind, length, fill_bits = kind | _HAS_HEADER, length + 7, 1  # 48 bits of header + 1 = 7 septets
        tpdus.append(
            bytes([kind, 0])
            + address
            + bytes([0, _DEFAULT_ALPHABET, _VALID_24_H, length])
            + header
            + gsm7.pack(part, fill_bits)
        )
    return tpdus


class Modem:
    """One GSM modem. The port is opened by the first use, kept open, and opened again after any failure.

    `port` is anything that `serial.serial_for_url` opens. A PIN that the SIM refused is never tried again: not in this
    process, and not in the next one when `refused_pin` names a file that remembers it (as a hash). Time-outs are real
    seconds, also in an exercise: a device does not run faster. Methods may be called from any thread, one dialogue at a
    time. It logs when the modem is lost and when it is back, never a number or text.
    """

    def __init__(
        self,
        port: str,
        clock: Clock,
        *,
        baudrate: int = 115200,
        pin: str | None = None,
        refused_pin: Path | None = None,
        reports: bool = False,
        command_timeout_s: float = 5.0,
        sim_timeout_s: float = 20.0,
        send_timeout_s: float = 60.0,
    ) -> None:
        """Raises ValueError for a real modem on an exercise clock: an exercise must not reach a phone.

        `reports`: ask for one about each part; they come by `inbox` and `reports`.
        `send_timeout_s`: what a network may take for one part (SIM800 AT command manual: 60 s).
        """
        if clock.exercise and not is_emulated(port):
            raise ValueError(f"{port}: an exercise refuses a real modem, expected a pty or socket:// to this machine")
        self._path = port
        self._clock = clock
        self._baudrate = baudrate
        self._pin = pin
        self._refused_pin = refused_pin
        self._with_reports = reports
        self._reports: deque[Report] = deque(maxlen=_MAX_REPORTS)
        self._stored_apart = False
        self._command_timeout_s = command_timeout_s
        self._sim_timeout_s = sim_timeout_s
        self._send_timeout_s = send_timeout_s
        self._lock = threading.Lock()
        self._port: serial.Serial | None = None
        self._buffer = b""
        self._pin_tries = _PIN_TRIES
        self._reference = os.urandom(1)[0]
        self._lost = False

    def send(self, number: str, text: str, handing_over: Callable[[], None] = lambda: None) -> Outcome:
        """Send `text`, normalised, in at most three parts, to `number` (+32…). One attempt; blocks at most about a minute a part.

        A part that is not accepted ends it: the phone can then show no whole message, so that is `Failed`, and a repetition
        is not read twice. Only the last part, handed over without an answer, is `Unknown`. `handing_over` is called once the modem is
        ready, before the last part: who dies before it has sent nothing that can be read.
        """
        with self._lock:
            self._reference = (self._reference + 1) % 256
            try:
                tpdus = submit(number, gsm7.normalise(text), self._reference, report=self._with_reports)
            except ValueError as e:
                return Failed(str(e), retry=False)
            try:
                self._make_ready()
                references = [self._submit(tpdu) for tpdu in tpdus[:-1]]
                handing_over()
                try:
                    references.append(self._submit(tpdus[-1]))
                except _HandedOverError as e:
                    self._drop(e)
                    return Unknown(e.reason)
            except ModemError as e:
                self._drop(e)
                return Failed(e.reason, e.retry)
            return Sent(tuple(references))

    def status(self) -> ModemStatus:
        """Registration, signal and SIM; enters the PIN when one is wanted. Raises ModemError when the modem does not answer."""
        with self._lock:
            sim: SimState = "ready"
            try:
                try:
                    self._make_ready()
                except _SimError as e:
                    sim = e.state
                networks = [self._query_optional("AT+CREG?", _CREG), self._query_optional("AT+CEREG?", _CEREG)]
                signal = self._query_optional("AT+CSQ", _CSQ)
            except ModemError as e:
                self._drop(e)
                raise
            rssi = int(signal[1]) if signal else _RSSI_UNKNOWN
            return ModemStatus(
                registered=any(int(match[1]) in _REGISTERED for match in networks if match),
                signal_dbm=None if rssi == _RSSI_UNKNOWN else 2 * rssi - 113,
                sim=sim,
            )

    def ussd(self, code: str) -> str:
        """What the operator answers to a USSD code such as `*110#`, in its own words (3GPP TS 27.007, 7.15). Blocks at most about
        half a minute. Raises ModemError, also when the network does not answer."""
        with self._lock:
            try:
                self._make_ready()
                return self._ussd(code)
            except ModemError as e:
                self._drop(e)
                raise

    def inbox(self) -> list[Received]:
        """What was sent to this SIM and not deleted yet; status reports among it go to `reports`. Raises ModemError when it cannot
        be asked."""
        with self._lock:
            try:
                self._make_ready()
                if self._stored_apart:
                    self._empty_report_store()
                return self._list()
            except ModemError as e:
                self._drop(e)
                raise

    def reports(self) -> list[Report]:
        """Those that came beside the dialogues since the last call, each once. Asks nothing: call it after `inbox`."""
        with self._lock:
            found = list(self._reports)
            self._reports.clear()
            return found

    def delete(self, message: Received) -> None:
        """Make room: what was dealt with goes. Raises ModemError."""
        with self._lock:
            try:
                self._make_ready()
                self._command(f"AT+CMGD={message.index}")
            except ModemError as e:
                self._drop(e)
                raise

    def close(self) -> None:
        """Let go of the port, after the dialogue in hand."""
        with self._lock:
            self._close()

    # The dialogue

    def _make_ready(self) -> None:
        """From whatever state to a modem that takes a PDU. A port that died while idle is opened again at once."""
        if self._port is not None:
            try:
                self._handshake()
                return
            except _PortError:
                self._close()
        self._open()
        self._handshake()

    def _handshake(self) -> None:
        self._synchronise()
        if self._lost:
            self._lost = False
            log.info("modem %s: answers again", self._path)
        with contextlib.suppress(_RefusedError):
            self._command("AT+CMEE=1")
        self._unlock_sim()
        self._command("AT+CMGF=0")
        if self._with_reports:
            self._route_reports()

    def _route_reports(self) -> None:
        """As +CDS with their content; on a modem that cannot, stored and announced by +CDSI (TS 27.005, 3.4.1). Messages are stored."""
        for way in (1, 2):
            with contextlib.suppress(_RefusedError):
                self._command(f"AT+CNMI=2,1,0,{way},0")
                return

    def _synchronise(self) -> None:
        """ESC leaves a prompt that an earlier dialogue died in. An answer that comes late is told apart by `_query`."""
        self._write(b"\x1b\r")
        for _ in range(_SYNC_TRIES):
            self._write(b"ATE0\r")
            deadline = self._deadline(self._command_timeout_s / _SYNC_TRIES)
            with contextlib.suppress(_SilenceError):
                while self._line(deadline) != "OK":
                    pass
                return
        raise _SilenceError

    def _unlock_sim(self) -> None:
        if self._sim_state() == "pin_required":
            self._enter_pin()
        self._pin_tries = _PIN_TRIES

    def _enter_pin(self) -> None:
        if self._pin is None:
            raise _SimError("the SIM wants a PIN and none is configured", "pin_required", retry=False)
        if self._pin_tries == 0 or self._is_remembered(self._pin):
            raise _SimError(_PIN_REFUSED, "pin_refused", retry=False)
        self._pin_tries -= 1  # the second one is for a modem that fell silent over the first; a SIM locks at the third
        try:
            self._command(f'AT+CPIN="{self._pin}"', self._sim_timeout_s)
        except _RefusedError as e:
            if e.code in _PIN_NOT_JUDGED:
                self._pin_tries += 1
                raise _SimError(e.reason, _SIM_STATES.get(e.code, "failure"), retry=e.retry) from e
            self._pin_tries = 0
            self._remember(self._pin)
            raise _SimError(_PIN_REFUSED, "pin_refused", retry=False) from e
        deadline = self._deadline(self._sim_timeout_s)
        while self._sim_state(starting=True) != "ready":
            if self._clock.boot() > deadline:
                raise _SimError("the SIM took the PIN and does not become ready", "failure", retry=True)
            self._skip(_SIM_POLL_S)

    def _sim_state(self, *, starting: bool = False) -> Literal["ready", "pin_required"]:
        """Raises _SimError for any other state. `starting`: the PIN was just taken, and a busy SIM is one not yet ready."""
        try:
            answer = self._query("AT+CPIN?", _CPIN)[1]
        except _RefusedError as e:
            if starting and e.code == _SIM_BUSY:
                return "pin_required"
            raise _SimError(e.reason, _SIM_STATES.get(e.code, "failure"), retry=e.retry) from e
        if answer == "READY":
            return "ready"
        if answer == "SIM PIN":
            return "pin_required"
        if answer == "SIM PUK":
            raise _SimError("the SIM is locked and wants its PUK", "puk_required", retry=False)
        raise _SimError("the SIM wants another code than its PIN", "failure", retry=False)

    def _submit(self, tpdu: bytes) -> int:
        """Hand one TPDU over; its message reference. Raises _HandedOverError when nothing comes back after that."""
        self._write(f"AT+CMGS={len(tpdu)}\r".encode())
        deadline = self._deadline(self._command_timeout_s)
        while (line := self._line(deadline, prompt=True)) != ">":
            _check(line)
        self._write(b"00" + tpdu.hex().upper().encode())  # 00: by the service centre that the SIM knows
        try:
            self._write(_CTRL_Z)  # from here on the modem may send
            deadline = self._deadline(self._send_timeout_s)
            while (match := _CMGS.fullmatch(line := self._line(deadline))) is None:
                _check(line)
        except (_SilenceError, _PortError) as e:
            raise _HandedOverError from e
        try:
            deadline = self._deadline(self._command_timeout_s)
            while self._line(deadline) != "OK":
                pass
        except (_SilenceError, _PortError):
            self._close()  # it is sent all the same; a further part fails, a further message opens the port anew
        return int(match[1])

    def _list(self) -> list[Received]:
        self._write(b"AT+CMGL=4\r")  # all of them, read or not: a list that was interrupted has marked them read
        deadline = self._deadline(self._command_timeout_s)
        found = []
        while (line := self._line(deadline)) != "OK":
            _check(line)
            if match := _CMGL.fullmatch(line):
                found.append(_received(int(match[1]), int(match[2]), self._line(deadline)))
        for index, report in [entry for entry in found if isinstance(entry, tuple)]:
            self._reports.append(report)
            self._command(f"AT+CMGD={index}")
        return [entry for entry in found if isinstance(entry, Received)]

    def _empty_report_store(self) -> None:
        """Reports that wait in a store of their own. The store of messages is then chosen again, as it was."""
        match = self._query_optional("AT+CPMS?", _CPMS)
        if match is None:
            self._stored_apart = False
            return
        try:
            self._command('AT+CPMS="SR"')
            self._list()
        except _RefusedError as e:
            log.warning("modem %s: its report store cannot be read: %s", self._path, e.reason)
        self._stored_apart = False
        self._command(f'AT+CPMS="{match[1]}"')

    def _command(self, command: str, timeout_s: float | None = None) -> None:
        """Write a command and wait for OK. Raises _RefusedError for another answer, _SilenceError for none."""
        self._write(f"{command}\r".encode())
        deadline = self._deadline(timeout_s or self._command_timeout_s)
        while (line := self._line(deadline)) != "OK":
            _check(line)

    def _ussd(self, code: str) -> str:
        """The answer comes before or behind OK, and may have several lines."""
        self._write(f'AT+CUSD=1,"{code}",15\r'.encode())
        deadline = self._deadline(_USSD_TIMEOUT_S)
        accepted, answer = False, ""
        while not accepted or not (match := _CUSD.fullmatch(answer)):
            line = self._line(deadline)
            if answer.count('"') == 1:
                answer += f"\n{line}"
            elif line.startswith("+CUSD:"):
                answer = line
            elif line == "OK":
                accepted = True
            else:
                _check(line)
        if match[2] is None or match[1] in _NO_USSD:
            raise _RefusedError(f"the network has no answer to {code}", None, retry=True)
        hexadecimal = match[3] == _USSD_UCS2 and re.fullmatch("(?:[0-9A-Fa-f]{4})+", match[2])
        return bytes.fromhex(match[2]).decode("utf-16-be", "replace") if hexadecimal else match[2]

    def _query(self, command: str, answer: re.Pattern[str]) -> re.Match[str]:
        """As `_command`, for the line that `answer` matches. An OK before that line belongs to something earlier."""
        self._write(f"{command}\r".encode())
        deadline = self._deadline(self._command_timeout_s)
        match: re.Match[str] | None = None
        while (line := self._line(deadline)) != "OK" or match is None:
            _check(line)
            match = answer.fullmatch(line) or match
        return match

    def _query_optional(self, command: str, answer: re.Pattern[str]) -> re.Match[str] | None:
        """None when the modem does not know the command, or not now."""
        try:
            return self._query(command, answer)
        except _RefusedError:
            return None

    def _is_remembered(self, pin: str) -> bool:
        try:
            return self._refused_pin is not None and self._refused_pin.read_text() == _hash(pin)
        except OSError:
            return False

    def _remember(self, pin: str) -> None:
        log.error("modem %s: %s", self._path, _PIN_REFUSED)
        if self._refused_pin is not None:
            try:
                self._refused_pin.write_text(_hash(pin))
                hand_over(self._refused_pin, self._refused_pin.parent)
            except OSError as e:
                log.warning("modem %s: %s cannot be written: %s", self._path, self._refused_pin, e.strerror)

    # The port

    def _open(self) -> None:
        if self._clock.exercise and not is_emulated(self._path):
            raise _PortError("there is no emulated modem on this port")
        try:
            self._port = serial.serial_for_url(
                self._path,
                baudrate=self._baudrate,
                timeout=_READ_S,
                write_timeout=self._command_timeout_s,
                exclusive=True,
            )
        except _PORT_ERRORS as e:
            raise _PortError(f"the port cannot be opened: {e}") from e
        except ValueError as e:
            raise ModemError(f"the port cannot be opened: {e}", retry=False) from e
        self._buffer = b""

    def _close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(*_PORT_ERRORS):
                port.close()

    def _drop(self, error: ModemError) -> None:
        """After a dialogue without an answer: a fresh port next time. A refusal is an answer; the modem is there."""
        if isinstance(error, _SilenceError | _PortError | _HandedOverError):
            self._close()
            if not self._lost:
                self._lost = True
                log.warning("modem %s: %s", self._path, error.reason)

    def _deadline(self, real_s: float) -> float:
        return self._clock.boot() + real_s * self._clock.scale

    def _line(self, deadline: float, *, prompt: bool = False) -> str:
        """The next line of the dialogue, or with `prompt` the `>` of one. Raises _SilenceError after `deadline` (boot).

        A report may come between any two lines, and is kept.
        """
        while True:
            line = self._raw_line(deadline, prompt=prompt)
            if match := _CDS.fullmatch(line):
                pdu = self._raw_line(max(deadline, self._deadline(self._command_timeout_s)))
                try:
                    self._reports.append(status_report(_tpdu(pdu, int(match[1]))))
                except ValueError as e:
                    log.warning("modem %s: a status report that cannot be read: %s", self._path, e)
            elif _CDSI.fullmatch(line):
                self._stored_apart = True
            else:
                return line

    def _raw_line(self, deadline: float, *, prompt: bool = False) -> str:
        while True:
            line, end, rest = _split_line(self._buffer)
            if end:
                self._buffer = rest
                if line:
                    return line.decode("latin-1")
            elif prompt and self._buffer.lstrip().startswith(b">"):
                self._buffer = b""
                return ">"
            elif self._clock.boot() > deadline:
                raise _SilenceError
            else:
                self._buffer = (self._buffer + self._read())[-_MAX_LINE:]

    def _skip(self, real_s: float) -> None:
        """Let lines pass for a while: nothing that comes now is an answer."""
        deadline = self._deadline(real_s)
        with contextlib.suppress(_SilenceError):
            while True:
                self._line(deadline)

    def _read(self) -> bytes:
        if self._port is None:
            raise _PortError("the port is closed")
        try:
            return bytes(self._port.read(max(1, self._port.in_waiting)))
        except _PORT_ERRORS as e:
            raise _PortError("the port is gone") from e

    def _write(self, data: bytes) -> None:
        if self._port is None:
            raise _PortError("the port is closed")
        try:
            self._port.write(data)
        except _PORT_ERRORS as e:
            raise _PortError("the port is gone") from e


class _SilenceError(ModemError):
    """No answer in time."""

    def __init__(self) -> None:
        super().__init__("the modem does not answer", retry=True)


class _PortError(ModemError):
    """The port cannot be opened, or went away."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retry=True)


class _HandedOverError(ModemError):
    """The modem has a whole PDU and did not say what became of it."""

    def __init__(self) -> None:
        super().__init__("the modem did not say whether it sent", retry=True)


class _RefusedError(ModemError):
    """A final result code other than OK; `code` is None for a bare ERROR or a text without number."""

    def __init__(self, reason: str, code: int | None, *, retry: bool) -> None:
        super().__init__(reason, retry=retry)
        self.code = code


class _SimError(ModemError):
    """With this SIM nothing can be sent now."""

    def __init__(self, reason: str, state: SimState, *, retry: bool) -> None:
        super().__init__(reason, retry=retry)
        self.state: SimState = state


def _check(line: str) -> None:
    """Raises _RefusedError for a final result code that says no."""
    if line == "ERROR":
        raise _RefusedError("the modem answered ERROR", None, retry=True)
    if match := _ERROR.fullmatch(line):
        name, text = match.groups()
        if not text.isdigit():
            raise _RefusedError(f"+{name} ERROR: {text}", None, retry=True)
        meaning, retry = (_CMS if name == "CMS" else _CME).get(int(text), ("unknown code", True))
        raise _RefusedError(f"+{name} ERROR: {text} ({meaning})", int(text), retry=retry)


def _tpdu(pdu: str, length: int) -> bytes:
    """The TPDU of `length` octets behind the service centre's address. Raises ValueError."""
    octets = bytes.fromhex(pdu)
    if not octets or len(octets) != 1 + octets[0] + length:
        raise ValueError(f"{len(octets)} octets, expected a service centre and {length}")
    return octets[1 + octets[0] :]


def _received(index: int, length: int, pdu: str) -> Received | tuple[int, Report]:
    """One entry of +CMGL."""
    try:
        tpdu = _tpdu(pdu, length)
        if tpdu and tpdu[0] & 0b11 == 2:
            return index, status_report(tpdu)
        number, text = deliver(tpdu)
    except ValueError as e:
        return Received(index, None, None, str(e))
    return Received(index, number, text)


def _split_line(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The first line, its end (empty when there is none yet) and the rest. CR and LF both end a line (V.250, 5.7.1)."""
    match = re.search(rb"[\r\n]", data)
    if match is None:
        return data, b"", b""
    return data[: match.start()].strip(), match[0], data[match.end() :]


def _hash(pin: str) -> str:
    return hashlib.sha256(f"maillages refused pin {pin}".encode()).hexdigest()


_INTERNATIONAL = 0x91  # TS 23.040, 9.1.2.5: international number, ISDN numbering plan
_ALPHANUMERIC = 5  # TS 23.040, 9.1.2.5: type of number
_SUBMIT = 0x11  # SMS-SUBMIT, relative validity period
_WITH_REPORT = 0x20  # TP-SRR
_HAS_HEADER = 0x40
_OF_A_COMMAND = 0x20  # TP-SRQ
_MAX_DIGITS = 20  # TS 23.040, 9.1.2.5: an address has at most 12 octets
_TIMESTAMPS = 14  # TP-SCTS and TP-DT
_MAX_REPORTS = 1000
_DEFAULT_ALPHABET = 0x00
_VALID_24_H = 167  # TS 23.040, 9.2.3.12.1: 12 h + (167 - 143) * 30 min

_PORT_ERRORS = (OSError, termios.error)  # pyserial lets termios' own through
_READ_S = 0.1
_MAX_LINE = 4096
_SYNC_TRIES = 3
_SIM_POLL_S = 0.5
_PIN_TRIES = 2
_PIN_REFUSED = "the SIM did not take the configured PIN; it is not tried again"
_CTRL_Z = b"\x1a"

_CPIN = re.compile(r"\+CPIN: *(.+)")
# The unsolicited form lacks the first number: +CREG: 1 or +CREG: 1,"00C3","0A7F".
_CREG = re.compile(r"\+CREG: *\d,(\d+).*")
_CEREG = re.compile(r"\+CEREG: *\d,(\d+).*")
_CSQ = re.compile(r"\+CSQ: *(\d+),\d+")
_CMGS = re.compile(r"\+CMGS: *(\d+).*")
_ERROR = re.compile(r"\+(CM[SE]) ERROR: *(.+)")
_REGISTERED = frozenset({1, 5, 6, 7, 9, 10})  # TS 27.007, 7.2: home, roaming; also for SMS only, and CSFB not preferred
_CMGL = re.compile(r"\+CMGL: *(\d+),.*,(\d+)")
_CUSD = re.compile(r'\+CUSD: *(\d)(?:, *"([^"]*)"(?:, *(\d+))?)?', re.DOTALL)
_NO_USSD = ("2", "4", "5")
"""Ended by the network, not supported, timed out."""
_USSD_UCS2 = "72"
_USSD_TIMEOUT_S = 30.0
_CDS = re.compile(r"\+CDS: *(\d+)")
_CDSI = re.compile(r"\+CDSI: *.+")
_CPMS = re.compile(r'\+CPMS: *"(\w+)".*')
_RSSI_UNKNOWN = 99

_SIM_BUSY = 14
_SIM_STATES: dict[int | None, SimState] = {10: "missing", 11: "pin_required", 12: "puk_required"}
_PIN_NOT_JUDGED = frozenset({10, 13, 14, 15})  # the SIM was not asked

# Code: meaning, whether the same attempt may succeed later. TS 27.005, 3.2.5 (below 128: TS 24.011, E.2); TS 27.007, 9.2.
_CMS: dict[int, tuple[str, bool]] = {
    1: ("unassigned number", False),
    8: ("operator determined barring", False),
    10: ("call barred", False),
    21: ("short message transfer rejected", True),
    27: ("destination out of service", True),
    28: ("unidentified subscriber", False),
    29: ("facility rejected", False),
    30: ("unknown subscriber", False),
    38: ("network out of order", True),
    41: ("temporary failure", True),
    42: ("congestion", True),
    47: ("resources unavailable", True),
    50: ("requested facility not subscribed", False),
    69: ("requested facility not implemented", False),
    300: ("modem failure", True),
    301: ("SMS service of the modem reserved", True),
    302: ("operation not allowed", True),
    303: ("operation not supported", False),
    304: ("invalid PDU mode parameter", False),
    310: ("SIM not inserted", False),
    311: ("SIM PIN required", True),  # its power came and went; the next dialogue enters the PIN
    313: ("SIM failure", True),
    314: ("SIM busy", True),
    315: ("SIM wrong", False),
    316: ("SIM PUK required", False),
    330: ("service centre address unknown", False),
    331: ("no network service", True),
    332: ("network timeout", True),  # seldom delivered all the same: told twice is better than never
    500: ("unknown error", True),
}
_CME: dict[int, tuple[str, bool]] = {
    3: ("operation not allowed", True),
    4: ("operation not supported", False),
    10: ("SIM not inserted", False),
    11: ("SIM PIN required", True),
    12: ("SIM PUK required", False),
    13: ("SIM failure", True),
    14: ("SIM busy", True),
    15: ("SIM wrong", False),
    16: ("incorrect password", False),
    30: ("no network service", True),
    31: ("network timeout", True),
    32: ("network not allowed, emergency calls only", True),
    100: ("unknown error", True),
}
