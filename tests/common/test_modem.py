"""common.modem: its PDUs against smspdudecoder (PyPI), its dialogue against a simulated modem on a real pty."""

import logging
import os
import socket
import threading
from contextlib import contextmanager
from io import StringIO

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from smspdudecoder.elements import Number
from smspdudecoder.fields import Address, SMSDeliver, SMSSubmit

from common.clock import Clock
from common.gsm7 import BASIC, EXTENSION, normalise, septets
from common.modem import (
    Failed,
    Modem,
    ModemError,
    ModemStatus,
    Received,
    Report,
    Sent,
    Unknown,
    deliver,
    is_emulated,
    status_report,
    submit,
)
from edge.emulators.gsm import Faults, GsmModem, decode, delivered, reported

NUMBER = "+32470123456"
IMPATIENT = {"command_timeout_s": 1.0, "sim_timeout_s": 1.0, "send_timeout_s": 1.0}  # where silence is what we wait for
LONG = "Mehaigne à Moha: niveau 3 dépassé {2,31 m} €. " * 8

numbers = st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True)
messages = st.one_of(
    st.text(max_size=600).map(normalise),
    st.text(st.sampled_from([c for c in BASIC if c != "\x1b"] + list(EXTENSION)), min_size=150, max_size=456),
).filter(lambda text: septets(text) <= 3 * 152)


@contextmanager
def plugged(path, **options):
    device = GsmModem(path, **options)
    device.start()
    try:
        yield device
    finally:
        device.stop()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gsm"


@pytest.fixture
def opened():
    """Opens modems, with patience for a loaded machine, and closes them."""
    modems = []

    def open_modem(port, clock=None, **options):
        patient = {"command_timeout_s": 15.0, "sim_timeout_s": 15.0, "send_timeout_s": 15.0}
        modems.append(Modem(str(port), clock or Clock(), **(patient | options)))
        return modems[-1]

    yield open_modem
    for modem in modems:
        modem.close()


def texts(device):
    return [(m.number, m.text) for m in device.messages]


# The PDU


def read(tpdu):
    """An SMS-SUBMIT as smspdudecoder has it.

    Its release 2.2.0 takes the length of the text in characters where TS 23.040 (9.2.3.16) counts septets, so with
    two-septet characters and seven spare bits at the end it reads these as a last @. That one is taken off.
    """
    message = SMSSubmit.decode(StringIO("00" + tpdu.hex().upper()))
    data = message["user_data"]
    length = tpdu[4 + (tpdu[2] + 1) // 2 + 3] - (7 if data["header"] else 0)
    if septets(data["data"]) == length + 1 and data["data"].endswith("@"):
        data["data"] = data["data"][:-1]
    return message


@given(numbers, messages, st.integers(0, 255))
def test_every_pdu_is_read_back_by_an_independent_decoder(number, text, reference):
    parts = [read(tpdu) for tpdu in submit(number, text, reference)]
    assert "".join(part["user_data"]["data"] for part in parts) == text
    for index, part in enumerate(parts, 1):
        assert part["recipient"]["toa"]["ton"] == "international"
        assert "+" + part["recipient"]["number"] == number
        assert part["dcs"]["encoding"] == "gsm"
        assert part["validity-hours"] == 24
        if len(parts) > 1:
            (element,) = part["user_data"]["header"]["elements"]
            assert element["iei"] == 0
            assert element["data"] == {"reference": reference, "parts_count": len(parts), "part_number": index}
        else:
            assert part["user_data"]["header"] is None


@given(numbers, messages, st.integers(0, 255))
def test_the_simulated_network_reads_the_same(number, text, reference):
    tpdus = submit(number, text, reference)
    parts = [decode("00" + tpdu.hex(), len(tpdu)) for tpdu in tpdus]
    assert "".join(p.text for p in parts) == text
    assert {p.number for p in parts} == {number}
    assert [(p.index, p.total) for p in parts] == [(i, len(tpdus)) for i in range(1, len(tpdus) + 1)]


def test_a_pdu_as_the_standard_lays_it_out():
    (tpdu,) = submit("+32470123456", "hellohello", 0)
    assert tpdu.hex().upper() == "11000B912374103254F60000A70AE8329BFD4697D9EC37"
    assert Number.decode("2374103254F6") == "32470123456"


@pytest.mark.parametrize("number", ["0470123456", "+0470123456", "+32 470", "+32470123456\n", "", "+1234567890123456"])
def test_a_number_that_is_not_international_is_refused_without_naming_it(number):
    with pytest.raises(ValueError, match="international form") as caught:
        submit(number, "a", 0)
    assert not number.strip() or number.strip() not in str(caught.value)


# The dialogue


def test_a_message_is_sent(path, opened):
    with plugged(path) as device:
        modem = opened(path)
        assert modem.send(NUMBER, "Hoyoux à Huy: 1,84 m – prêt") == Sent((1,))
        assert modem.send(NUMBER, "fin") == Sent((2,))
        assert texts(device) == [(NUMBER, "Hoyoux à Huy: 1,84 m - pret"), (NUMBER, "fin")]


def test_a_long_message_arrives_as_one(path, opened):
    with plugged(path) as device:
        outcome = opened(path).send(NUMBER, LONG)
        assert outcome == Sent((1, 2, 3))
        assert texts(device) == [(NUMBER, normalise(LONG))]


def test_two_long_messages_to_one_phone_do_not_mix(path, opened):
    with plugged(path) as device:
        modem = opened(path)
        modem.send(NUMBER, LONG)
        modem.send(NUMBER, LONG)
        assert len({decode(pdu, len(pdu) // 2 - 1).reference for pdu in device.pdus}) == 2


def test_nothing_happens_before_the_first_use(path, opened):
    modem = opened(path)  # no port there yet
    with plugged(path):
        assert modem.send(NUMBER, "a") == Sent((1,))


@pytest.mark.parametrize(
    ("number", "text", "word"), [("0470123456", "a", "international"), (NUMBER, "a" * 460, "460 septets")]
)
def test_what_can_never_be_sent_fails_at_once(path, opened, number, text, word):
    with plugged(path) as device:
        outcome = opened(path).send(number, text)
        assert isinstance(outcome, Failed)
        assert not outcome.retry
        assert word in outcome.reason
        assert device.commands == []


@pytest.mark.parametrize(
    ("code", "words", "retry"),
    [
        (331, "no network service", True),
        (38, "network out of order", True),
        (1, "unassigned number", False),
        (999, "unknown code", True),
    ],
)
def test_a_refusal_says_why_and_whether_to_try_again(path, opened, code, words, retry):
    with plugged(path, faults=Faults(cms_error=code)) as device:
        modem = opened(path)
        assert modem.send(NUMBER, "a") == Failed(f"+CMS ERROR: {code} ({words})", retry)
        device.faults.cms_error = None
        assert modem.send(NUMBER, "b") == Sent((1,))
        assert texts(device) == [(NUMBER, "b")]


@pytest.mark.parametrize(
    "faults",
    [
        {"echo_stuck": True},
        {"unsolicited": True},
        {"delay_s": 0.2},
        {"echo_stuck": True, "unsolicited": True, "delay_s": 0.1},
    ],
    ids=str,
)
def test_echo_chatter_and_slowness_do_no_harm(path, opened, faults):
    with plugged(path, faults=Faults(**faults)) as device:
        modem = opened(path)
        assert modem.send(NUMBER, "a") == Sent((1,))
        assert modem.send(NUMBER, LONG) == Sent((2, 3, 4))
        assert texts(device) == [(NUMBER, "a"), (NUMBER, normalise(LONG))]


def test_a_modem_slower_than_a_try_is_not_misunderstood(path, opened):
    """Its OK to the first ATE0 comes after the second one: every later OK is one too early until +CPIN puts that right."""
    with plugged(path, faults=Faults(delay_s=0.5)) as device:
        modem = opened(path, command_timeout_s=1.2, send_timeout_s=3.0)
        assert modem.send(NUMBER, "a") == Sent((1,))
        assert modem.send(NUMBER, "b") == Sent((2,))
        assert texts(device) == [(NUMBER, "a"), (NUMBER, "b")]


def test_a_silent_modem_fails_in_time_and_is_used_again(path, opened, caplog):
    caplog.set_level(logging.INFO)
    with plugged(path, faults=Faults(silent=True)) as device:
        modem = opened(path, **IMPATIENT)
        assert modem.send(NUMBER, "a") == Failed("the modem does not answer", retry=True)
        assert modem.send(NUMBER, "a") == Failed("the modem does not answer", retry=True)
        device.faults.silent = False
        assert modem.send(NUMBER, "a") == Sent((1,))
    assert [r.message for r in caplog.records] == [
        f"modem {path}: the modem does not answer",
        f"modem {path}: answers again",
    ]


def test_a_busy_sim_is_worth_another_try(path, opened):
    with plugged(path, faults=Faults(busy=1)):
        modem = opened(path)
        assert modem.send(NUMBER, "a") == Failed("+CME ERROR: 14 (SIM busy)", retry=True)
        assert modem.send(NUMBER, "a") == Sent((1,))


def test_no_port_is_a_failure_to_retry(path, opened):
    outcome = opened(path).send(NUMBER, "a")
    assert isinstance(outcome, Failed)
    assert outcome.retry
    assert str(path) in outcome.reason


def test_unplugged_and_back_between_messages_loses_none(path, opened):
    with plugged(path) as device:
        modem = opened(path)
        assert modem.send(NUMBER, "a") == Sent((1,))
        device.unplug()
        assert modem.send(NUMBER, "b").kind == "failed"
        device.replug()
        assert modem.send(NUMBER, "b") == Sent((2,))
        device.unplug()
        device.replug()
        assert modem.send(NUMBER, "c") == Sent((3,))
        assert [m.text for m in device.messages] == ["a", "b", "c"]


# Power lost in mid-dialogue: what is told of a message must be true of the phone


@pytest.mark.parametrize(
    ("stage", "kind", "arrives"),
    [
        ("prompt", "unknown", False),
        ("handed_over", "unknown", False),
        ("accepted", "unknown", True),
        ("confirmed", "sent", True),
    ],
)
def test_power_lost_in_a_message(path, opened, stage, kind, arrives):
    with plugged(path, faults=Faults(dies_at=stage)) as device:
        modem = opened(path, **IMPATIENT)
        outcome = modem.send(NUMBER, "a")
        assert outcome.kind == kind
        assert texts(device) == ([(NUMBER, "a")] if arrives else [])
        device.revive()
        assert modem.send(NUMBER, "b").kind == "sent"
        assert [m.text for m in device.messages] == (["a", "b"] if arrives else ["b"])


@pytest.mark.parametrize(
    ("faults", "seen", "expected"),
    [
        ({"delay_s": 0.5}, lambda d: d.commands[-1:] == ["AT+CMGS=15"], Failed("the port is gone", retry=True)),
        ({"dies_at": "handed_over"}, lambda d: d.pdus, Unknown("the modem did not say whether it sent")),
    ],
    ids=["before the prompt", "behind Ctrl-Z"],
)
def test_a_pulled_plug_is_noticed_at_once(path, opened, faults, seen, expected):
    with plugged(path, faults=Faults(**faults)) as device:
        modem = opened(path, command_timeout_s=60.0, send_timeout_s=60.0)
        outcomes = []
        thread = threading.Thread(target=lambda: outcomes.append(modem.send(NUMBER, "a")))
        thread.start()
        with device.arrived:
            assert device.arrived.wait_for(lambda: seen(device), 10)
        device.unplug()
        thread.join(10)
        assert outcomes == [expected]
        assert device.messages == []


def test_a_part_without_an_answer_may_be_repeated_whole(path, opened):
    """The phone has one part of three and shows no message; the repetition has another reference and is the only one."""
    with plugged(path, faults=Faults(dies_at="accepted", dies_at_message=2)) as device:
        modem = opened(path, **IMPATIENT)
        assert modem.send(NUMBER, LONG) == Failed("the modem did not say whether it sent", retry=True)
        assert device.messages == []
        device.revive()
        assert modem.send(NUMBER, LONG).kind == "sent"
        assert texts(device) == [(NUMBER, normalise(LONG))]


def test_the_last_part_without_an_answer_is_unknown(path, opened):
    with plugged(path, faults=Faults(dies_at="accepted", dies_at_message=3)) as device:
        assert opened(path, **IMPATIENT).send(NUMBER, LONG) == Unknown("the modem did not say whether it sent")
        assert len(device.messages) == 1


def test_a_prompt_that_somebody_died_in_takes_no_rubbish(path, opened):
    with plugged(path) as device:
        with serial.Serial(str(path), timeout=5) as other:
            other.write(b"AT+CMGS=15\r")
            other.read_until(b"> ")
            other.write(b"0011000B91")
        assert opened(path).send(NUMBER, "a") == Sent((1,))
        assert len(device.pdus) == 1


# SIM and PIN


def test_the_pin_is_entered_when_it_is_wanted(path, opened):
    with plugged(path, pin="1234") as device:
        modem = opened(path, pin="1234")
        assert modem.send(NUMBER, "a") == Sent((1,))
        device.revive()  # a power cut locks it again
        assert modem.send(NUMBER, "b") == Sent((2,))
        assert device.commands.count('AT+CPIN="1234"') == 2


def test_a_wrong_pin_is_tried_once_ever(path, opened, tmp_path):
    memory = tmp_path / "refused_pin"
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)  # the service's directory, and a command given with sudo
    with plugged(path, pin="1234") as device:
        modem = opened(path, pin="0000", refused_pin=memory)
        for _ in range(3):
            outcome = modem.send(NUMBER, "a")
            assert outcome == Failed("the SIM did not take the configured PIN; it is not tried again", retry=False)
        assert modem.status().sim == "pin_refused"
        modem.close()
        restarted = opened(path, pin="0000", refused_pin=memory)
        assert restarted.send(NUMBER, "a").kind == "failed"
        restarted.close()
        assert device.wrong_pins == 1
        assert "0000" not in memory.read_text()
        assert memory.stat().st_uid == tmp_path.stat().st_uid
        mended = opened(path, pin="1234", refused_pin=memory)
        assert mended.send(NUMBER, "a") == Sent((1,))


def test_a_wrong_pin_is_tried_once_without_a_memory_too(path, opened):
    with plugged(path, pin="1234") as device:
        modem = opened(path, pin="0000")
        assert [modem.send(NUMBER, "a").kind for _ in range(3)] == ["failed"] * 3
        assert device.wrong_pins == 1


def test_a_memory_that_cannot_be_written_is_no_obstacle(path, opened, tmp_path):
    with plugged(path, pin="1234"):
        assert opened(path, pin="1234", refused_pin=tmp_path / "none" / "refused_pin").send(NUMBER, "a") == Sent((1,))


def test_power_lost_over_the_right_pin_costs_a_message_not_the_modem(path, opened):
    with plugged(path, pin="1234", faults=Faults(dies_at="pin")) as device:
        modem = opened(path, pin="1234", **IMPATIENT)
        assert modem.send(NUMBER, "a") == Failed("the modem does not answer", retry=True)
        device.revive()
        assert modem.send(NUMBER, "a") == Sent((1,))


def test_a_modem_that_falls_silent_over_a_wrong_pin_never_locks_its_sim(path, opened):
    with plugged(path, pin="1234") as device:
        modem = opened(path, pin="0000", **IMPATIENT)
        for _ in range(4):
            device.faults.dies_at = "pin"
            assert modem.send(NUMBER, "a").kind == "failed"
            device.revive()
        assert device.wrong_pins == 2


def test_a_missing_pin_asks_for_a_person(path, opened):
    with plugged(path, pin="1234") as device:
        modem = opened(path)
        assert modem.send(NUMBER, "a") == Failed("the SIM wants a PIN and none is configured", retry=False)
        assert modem.status() == ModemStatus(registered=False, signal_dbm=-79, sim="pin_required")
        assert device.wrong_pins == 0


def test_a_locked_sim_is_left_alone(path, opened):
    with plugged(path, pin="1234") as device:
        device.wrong_pins = 3
        modem = opened(path, pin="1234")
        assert modem.send(NUMBER, "a") == Failed("the SIM is locked and wants its PUK", retry=False)
        assert modem.status().sim == "puk_required"
        assert not any(c.startswith("AT+CPIN=") for c in device.commands)


# Status


@pytest.mark.parametrize(("rssi", "dbm"), [(0, -113), (17, -79), (31, -51), (99, None)])
def test_status(path, opened, rssi, dbm):
    with plugged(path, rssi=rssi, faults=Faults(unsolicited=True)):
        assert opened(path).status() == ModemStatus(registered=True, signal_dbm=dbm, sim="ready")


def test_status_without_network(path, opened):
    with plugged(path, faults=Faults(registered=False, unsolicited=True)):
        assert not opened(path).status().registered


def test_status_of_a_silent_modem(path, opened):
    with plugged(path, faults=Faults(silent=True)), pytest.raises(ModemError, match="does not answer"):
        opened(path, **IMPATIENT).status()


# An exercise reaches no phone


def exercise():
    return Clock(scale=120.0, origin_wall=1528704000.0)


@pytest.mark.parametrize(
    ("port", "emulated"),
    [
        ("/dev/ttyUSB2", False),
        ("/dev/serial/by-id/usb-SimTech-if04", False),
        ("/dev/pts", False),
        ("/dev/pts/../ttyS0", False),
        ("/dev/pts/3", True),
        ("socket://127.0.0.1:7000", True),
        ("socket://localhost:7000", True),
        ("socket://192.168.1.9:7000", False),
        ("socket://127.0.0.1.example.org:7000", False),
        ("socket://localhost@192.168.1.9:7000", False),
        ("rfc2217://127.0.0.1:7000", False),
    ],
)
def test_what_can_only_be_a_simulation(port, emulated):
    assert is_emulated(port) is emulated


def test_an_exercise_refuses_a_real_modem():
    with pytest.raises(ValueError, match="/dev/ttyUSB2: an exercise refuses a real modem"):
        Modem("/dev/ttyUSB2", exercise())


def test_an_exercise_sends_through_a_simulated_one_in_real_time(path, opened):
    with plugged(path, faults=Faults(delay_s=0.1)) as device:
        modem = opened(path, clock=exercise())
        assert modem.send(NUMBER, "EXERCICE") == Sent((1,))
        device.unplug()
        path.symlink_to("/dev/null")  # somebody puts something else there
        assert modem.send(NUMBER, "EXERCICE") == Failed("there is no emulated modem on this port", retry=True)
        path.unlink()


# Privacy, and ports that are not ttys


def test_no_number_and_no_text_in_log_or_reason(path, opened, caplog):
    caplog.set_level(logging.DEBUG)
    reasons = []
    with plugged(path, pin="1234", faults=Faults(echo_stuck=True)) as device:
        modem = opened(path, pin="1234", **IMPATIENT)
        for stage in ("prompt", "handed_over", "accepted"):
            device.faults.dies_at = stage
            reasons.append(modem.send(NUMBER, "Hoyoux").reason)
            device.revive()
        device.faults.cms_error = 38
        reasons.append(modem.send(NUMBER, "Hoyoux").reason)
    everything = " ".join([*reasons, caplog.text])
    for secret in (NUMBER[1:], "2374103254F6", "Hoyoux", "1234"):
        assert secret not in everything.replace(str(path), "")


def test_a_modem_behind_a_tcp_socket(path, opened):
    with plugged(path) as device, socket.create_server(("127.0.0.1", 0)) as server:
        line = serial.Serial(str(path), timeout=0.05)

        def bridge():
            connection, _ = server.accept()
            with connection, line:
                connection.settimeout(0.05)
                while True:
                    connection.sendall(line.read(max(1, line.in_waiting)))
                    try:
                        data = connection.recv(4096)
                    except TimeoutError:
                        continue
                    if not data:
                        return
                    line.write(data)

        thread = threading.Thread(target=bridge)
        thread.start()
        modem = opened(f"socket://127.0.0.1:{server.getsockname()[1]}", clock=exercise())
        assert modem.send(NUMBER, "a") == Sent((1,))
        modem.close()
        thread.join(5)
        assert not thread.is_alive()
        assert texts(device) == [(NUMBER, "a")]


# ---------------------------------------------------------------------- receiving


@given(numbers, st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)), min_size=1, max_size=70))
def test_what_is_delivered_reads_as_another_decoder_reads_it(number, text):
    tpdu = delivered(number, text)
    theirs = SMSDeliver.decode(StringIO("00" + tpdu.hex().upper()))
    assert deliver(tpdu) == ("+" + theirs["sender"]["number"], theirs["user_data"]["data"]) == (number, text)


def test_a_national_number_is_belgian():
    assert deliver(delivered("0470000001", "OK"))[0] == "+32470000001"


def test_a_sender_with_a_name_is_no_number():
    text = pack_septets("Proximus")
    tpdu = bytes([0x04, len(text) * 2, 0xD0]) + text + bytes(9) + bytes([2, 0x4F, 0x25])
    assert deliver(tpdu)[0] == "Proximus"


def pack_septets(text):
    bits = "".join(f"{BASIC.index(char):07b}"[::-1] for char in text)
    return bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))


@given(st.binary(max_size=60))
def test_any_octets_are_a_message_or_a_value_error(octets):
    try:
        number, text = deliver(octets)
    except ValueError:
        return
    assert isinstance(number, str)
    assert isinstance(text, str)


def test_the_inbox_is_read_and_emptied(path, opened):
    with plugged(path, faults=Faults(unsolicited=True)) as device:
        modem = opened(path)
        assert modem.inbox() == []
        device.incoming("+32470000001", "OK 8C1F0")
        device.incoming("+32470000002", "état ☂")
        device.incoming_tpdu(b"\x01\x02")
        ok, state, odd = modem.inbox()
        assert (ok, state) == (Received(1, "+32470000001", "OK 8C1F0"), Received(2, "+32470000002", "état ☂"))
        assert (odd.number, odd.text) == (None, None)
        assert "expected an SMS-DELIVER" in odd.fault
        modem.delete(ok)
        assert modem.inbox() == [state, odd]


def test_a_modem_that_is_gone_has_no_inbox(path, opened):
    with pytest.raises(ModemError, match="cannot be opened"):
        opened(path).inbox()


# ---------------------------------------------------------------------- status reports


@given(numbers, messages, st.integers(0, 255))
def test_a_report_is_asked_for_and_nothing_else_changes(number, text, reference):
    with_report = submit(number, text, reference, report=True)
    plain = submit(number, text, reference)
    assert [tpdu[0] for tpdu in with_report] == [tpdu[0] | 0x20 for tpdu in plain]
    assert [tpdu[1:] for tpdu in with_report] == [tpdu[1:] for tpdu in plain]
    assert all(decode("00" + tpdu.hex(), len(tpdu)).report for tpdu in with_report)


@given(numbers, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20))
def test_a_report_tells_of_which_part_and_what(number, reference, status, more):
    tpdu = reported(number, reference, status) + more
    theirs = Address.decode(StringIO(tpdu[2:].hex().upper()))
    report = status_report(tpdu)
    assert report.number == "+" + theirs["number"] == number
    assert (report.reference, report.status) == (reference, status)


@pytest.mark.parametrize(
    ("status", "state"),
    [(0, "delivered"), (1, "unknown"), (2, "unknown"), (0x1F, "unknown"), (0x20, "pending"), (0x3F, "pending"),
     (0x40, "failed"), (0x46, "failed"), (0x63, "failed"), (0x7F, "failed"), (0x80, "failed"), (0xFF, "failed")],
)  # fmt: skip
def test_only_one_status_says_that_the_phone_has_it(status, state):
    assert status_report(reported(NUMBER, 7, status)) == Report(NUMBER, 7, state, status)


def test_a_report_as_the_standard_lays_it_out():
    tpdu = bytes.fromhex("06 2A 0B91 2374103254F6 62114281000040 62114281100040 00")
    assert status_report(tpdu) == Report("+32470123456", 42, "delivered", 0)
    assert status_report(reported("0470123456", 42, 0)).number == NUMBER, "a national number is Belgian"


@given(st.binary(max_size=60))
def test_any_octets_are_a_report_or_a_value_error(octets):
    try:
        report = status_report(octets)
    except ValueError:
        return
    assert report.number.removeprefix("+").isdecimal()


@given(numbers, st.integers(0, 255), st.data())
def test_a_report_that_is_cut_or_another_type_is_refused(number, reference, data):
    tpdu = reported(number, reference, 0)
    with pytest.raises(ValueError, match="octets"):
        status_report(tpdu[: data.draw(st.integers(0, len(tpdu) - 1))])
    for first in (0x04, 0x05, 0x07, 0x26):
        with pytest.raises(ValueError, match="expected"):
            status_report(bytes([first]) + tpdu[1:])


@pytest.mark.parametrize("reports", ["direct", "stored", "inbox"])
def test_reports_come_however_the_modem_gives_them(path, opened, reports):
    with plugged(path, reports=reports, faults=Faults(unsolicited=True)) as device:
        modem = opened(path, reports=True)
        assert modem.send(NUMBER, LONG) == Sent((1, 2, 3))
        device.incoming(NUMBER, "OK")
        device.faults.delivery = "failed"
        assert modem.send(NUMBER, "a") == Sent((4,))
        (answer,) = modem.inbox()
        assert answer.text == "OK"
        assert modem.reports() == [
            Report(NUMBER, 1, "delivered", 0),
            Report(NUMBER, 2, "delivered", 0),
            Report(NUMBER, 3, "delivered", 0),
            Report(NUMBER, 4, "failed", 0x46),
        ]
        assert modem.inbox() == [answer], "the messages are read where they are"
        assert modem.reports() == [], "each once"
        assert device.waiting == 1


def test_reports_that_come_late_or_never(path, opened):
    with plugged(path, faults=Faults(delivery="never")) as device:
        modem = opened(path, reports=True)
        modem.send(NUMBER, "a")
        device.faults.delivery = "late"
        modem.send(NUMBER, "b")
        modem.inbox()
        assert modem.reports() == []
        device.report_late(0x21)
        modem.inbox()
        assert modem.reports() == [Report(NUMBER, 2, "pending", 0x21)]


def test_a_report_that_cannot_be_read_is_logged_and_disturbs_nothing(path, opened, caplog):
    with plugged(path) as device:
        modem = opened(path, reports=True)
        assert modem.inbox() == []
        device.write(b"\r\n+CDS: 25\r\n0006FF\r\n\r\n+CDS: x\r\n")
        assert modem.send(NUMBER, "a") == Sent((1,))
        modem.inbox()
        assert modem.reports() == [Report(NUMBER, 1, "delivered", 0)]
    assert "a status report that cannot be read: 3 octets, expected a service centre and 25" in caplog.text


def test_who_wants_no_reports_asks_for_none(path, opened):
    with plugged(path) as device:
        assert opened(path).send(NUMBER, "a") == Sent((1,))
        assert not any("CNMI" in command for command in device.commands)
        assert not decode(device.pdus[0], len(device.pdus[0]) // 2 - 1).report
