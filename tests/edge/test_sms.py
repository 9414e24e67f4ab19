"""The gateway's own SMS and the answers to them: a real alarm log, a modem on a real pty, a desk that notes what it is asked."""

import contextlib
import itertools
import sqlite3
from datetime import datetime, time
from time import CLOCK_BOOTTIME, clock_gettime

import pytest

from common.clock import BRUSSELS, Clock
from common.modem import Modem
from common.texts import Place, Present
from edge import config
from edge.alarm_log import AlarmLog, Progress
from edge.emulators.gsm import GsmModem
from edge.outputs.sms import FLOOD, SmsNotifier
from tests import servers
from wire.alarm import EXERCISE, AlarmEvent
from wire.errors import WireError

PLANU, MAYOR, TECH = "+32470000001", "+32470000002", "+32470000003"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=BRUSSELS).timestamp()


def boottime():
    return clock_gettime(CLOCK_BOOTTIME)


class Desk:
    """Notes what it is told; refuses acknowledgements when `refuses`."""

    def __init__(self):
        self.acknowledged = []
        self.outcomes = []
        self.refuses = False

    def told(self, event, notified):
        self.outcomes += [(event.occurrence, n.to, n.result) for n in notified]

    def acknowledge(self, occurrence, by, level):
        if self.refuses:
            raise WireError("busy")
        self.acknowledged.append((occurrence, by, level))

    def present(self):
        return [Present("Huy", "water_level", 0.42, 0), Present("Moha", "water_level", None, 2)]


class Scene:
    def __init__(self, tmp_path, recipients, clock=None, boot_id="earlier"):
        # Seconds of waiting take a fifth of that.
        self.clock = clock or Clock(scale=5, origin_boot=boottime(), origin_wall=NOON)
        self.phone = GsmModem(tmp_path / "gsm")
        self.phone.start()
        self.alarms = AlarmLog(tmp_path / "alarms.db")
        self.alarms.open()
        self.desk = Desk()
        self._boot_id = boot_id  # events of an earlier boot are due at once
        self._seq = itertools.count(1)
        settings = config.Sms.model_validate({"port": "unused", "recipient": recipients})
        modem = Modem(str(self.phone.path), self.clock, reports=True)
        self.notifier = SmsNotifier(settings, modem, self.alarms, self.clock, self.desk, self._place)
        self.notifier.start()

    def _place(self, station):
        return Place(f"Station {station}") if station else None

    def event(self, number, level=1, transition="raise", kind="high", state="UNACK"):
        occurrence = f"019f615f-dbe0-7c10-8a55-0c7d93b{number:05x}"
        seq = next(self._seq)
        return AlarmEvent.model_validate(
            {
                "id": f"e{seq}", "occurrence": occurrence, "seq": seq, "source": "gateway", "gateway": "gw-1",
                "station": f"s{number}", "sensor": "level-1", "quantity": "water_level", "rule": f"r{number}", "kind": kind,
                "transition": transition, "state": state, "level": level, "value": 1.5, "unit": "m", "threshold": 1.2,
                "time": "2026-11-24T11:00:00.000+00:00", "clock": "synchronised",
            }
        )  # fmt: skip

    def log(self, *events):
        self.alarms.commit(events, {}, Progress(0, self._boot_id, 0.0, 0.0))
        return events[0].occurrence

    def texts(self, number):
        return [m.text for m in self.phone.messages if m.number == number]

    def wait(self, true, what):
        servers.wait_until(true, 30, what)

    def says(self, number, text):
        """Somebody sends an SMS; what they are answered."""
        before = len(self.texts(number))
        self.phone.incoming(number, text)
        self.wait(lambda: len(self.texts(number)) > before and self.phone.waiting == 0, f"an answer to {text!r}")
        return self.texts(number)[-1]

    def close(self):
        self.notifier.stop()
        self.phone.stop()
        self.alarms.close()


def recipient(name, phone, **more):
    return {"id": name, "phone": phone} | more


@pytest.fixture
def open_scene(tmp_path):
    scenes = []

    def start(*recipients, **more):
        scenes.append(Scene(tmp_path, recipients or [recipient("planu", PLANU)], **more))
        return scenes[-1]

    yield start
    for scene in scenes:
        scene.close()


# ---------------------------------------------------------------------- answers


def test_ok_and_the_reference_acknowledges(open_scene):
    scene = open_scene()
    occurrence = scene.log(scene.event(1), scene.event(2, 2))
    scene.wait(lambda: len(scene.texts(PLANU)) == 2, "both are told")
    assert "Répondez OK 00001" in scene.texts(PLANU)[1]
    answer = scene.says(PLANU, " ok  00001. ")
    assert scene.desk.acknowledged == [(occurrence, "planu", 1)]
    assert answer == "Merci. Alarme 00001 prise en charge par vous (Station s1)."


def test_ok_alone_acknowledges_the_only_one_and_else_asks_which(open_scene):
    scene = open_scene()
    assert scene.says(PLANU, "OK") == "Aucune alarme à prendre en charge."
    occurrence = scene.log(scene.event(0xABC))
    scene.wait(lambda: any("Répondez OK 00ABC" in text for text in scene.texts(PLANU)), "it is told")
    scene.says(PLANU, "Ok")
    assert [a[0] for a in scene.desk.acknowledged] == [occurrence]
    scene.log(scene.event(2))
    scene.wait(lambda: any("Répondez OK 00002" in text for text in scene.texts(PLANU)), "the second is told")
    assert scene.says(PLANU, "OK") == "Plusieurs alarmes: répondez OK et la référence (00ABC, 00002)."
    assert len(scene.desk.acknowledged) == 1


def test_what_has_become_worse_since_is_not_acknowledged(open_scene):
    scene = open_scene()
    scene.log(scene.event(1))
    scene.wait(lambda: scene.texts(PLANU), "it is told")
    scene.phone.faults.cms_error = 331
    scene.log(scene.event(1, 3, "escalate"))
    scene.wait(lambda: scene.desk.outcomes[1:], "the escalation cannot be told")
    scene.phone.faults.cms_error = None
    assert scene.says(PLANU, "OK") == "Alarme 00001: seuil 3 atteint depuis. Répondez OK 00001 si vous vous en occupez."
    assert scene.desk.acknowledged == []


def test_etat_tells_the_present_levels_and_a_silent_station(open_scene):
    answer = open_scene().says(PLANU, "état")
    assert answer.startswith("HUY-WAREMME ")
    assert answer.endswith(": Moha plus de mesure (seuil 2); Huy 0,42 m")


def test_anything_else_gets_help_and_a_wrong_reference_is_named(open_scene):
    scene = open_scene()
    assert scene.says(PLANU, "qui êtes-vous ?").startswith("Non compris.")
    assert scene.says(PLANU, "OK FFFFF").startswith("Alarme FFFFF inconnue")
    assert scene.desk.acknowledged == []


def test_a_stranger_gets_no_answer_and_changes_nothing(open_scene):
    scene = open_scene()
    scene.log(scene.event(1))
    scene.wait(lambda: scene.texts(PLANU), "it is told")
    scene.phone.incoming("+32499999999", "OK 00001")
    scene.phone.incoming_tpdu(b"\xff\xff\xff")
    scene.wait(lambda: scene.phone.waiting == 0, "both are deleted")
    assert scene.says(PLANU, "ETAT"), "the next one is answered"
    assert scene.texts("+32499999999") == []
    assert scene.desk.acknowledged == []


def test_an_acknowledgement_that_fails_is_said_to_have_failed(open_scene):
    scene = open_scene()
    scene.desk.refuses = True
    scene.log(scene.event(1))
    scene.wait(lambda: scene.texts(PLANU), "it is told")
    assert "ne peut pas l'enregistrer" in scene.says(PLANU, "OK")


# ---------------------------------------------------------------------- who, when, how many


def test_a_flood_of_alarms_becomes_one_message_and_the_highest_is_never_held_back(open_scene):
    scene = open_scene()
    events = [scene.event(n, 3 if n in (20, 21) else 1 + n % 2) for n in range(1, 22)]
    scene.log(*events)
    scene.wait(lambda: len(scene.desk.outcomes) == len(events), "all are told")
    messages = scene.texts(PLANU)
    assert len(messages) == FLOOD
    assert all("seuil local 3" in text for text in messages[:2])
    assert "12 autres alarmes" in messages[-1]
    scene.log(scene.event(30, 1), scene.event(31, 3))
    scene.wait(lambda: len(scene.texts(PLANU)) == FLOOD + 1, "the highest goes out all the same")
    assert "seuil local 3" in scene.texts(PLANU)[-1]
    assert ("019f615f-dbe0-7c10-8a55-0c7d93b0001e", "planu", "sent") not in scene.desk.outcomes, "the other waits"


def test_a_technician_gets_what_is_wrong_with_the_gateway_too_and_a_mayor_does_not(open_scene):
    scene = open_scene(recipient("mayor", MAYOR), recipient("tech", TECH, technician=True))
    scene.log(scene.event(1, kind="power"), scene.event(2, kind="high"))
    scene.wait(lambda: len(scene.desk.outcomes) == 3, "all who are concerned are told")
    assert (len(scene.texts(MAYOR)), len(scene.texts(TECH))) == (1, 2)
    assert "seuil local 1 atteint" in scene.texts(MAYOR)[0]


@pytest.mark.parametrize(
    ("hours", "hour", "reached"),
    [(("07:00", "22:00"), 12, True), (("07:00", "22:00"), 23, False), (("22:00", "06:00"), 23, True),
     (("22:00", "06:00"), 5, True), (("22:00", "06:00"), 6, False), (None, 3, True)],
)  # fmt: skip
def test_hours_of_a_recipient(hours, hour, reached):
    made = config.Recipient.model_validate(recipient("planu", PLANU, hours=hours))
    assert made.reachable(time(hour)) is reached


def test_outside_the_hours_only_the_highest_level_comes_and_the_rest_waits_for_them(open_scene):
    hands = {"boot": 100.0}
    clock = Clock(boottime=lambda: hands["boot"], walltime=lambda: NOON + hands["boot"], synchronised=lambda: True)
    night = [recipient("planu", PLANU, hours=("20:00", "21:00"))]
    scene = open_scene(*night, clock=clock)
    scene.log(scene.event(1), scene.event(2, 3))
    scene.wait(lambda: len(scene.texts(PLANU)) == 1, "the highest")
    assert "seuil local 3" in scene.texts(PLANU)[0]
    hands["boot"] += 8 * 3600
    scene.wait(lambda: len(scene.texts(PLANU)) == 2, "the other, in the evening")


# ---------------------------------------------------------------------- what was not sent, and what became of what was


def fast():
    """A minute takes a second."""
    return Clock(scale=60, origin_boot=boottime(), origin_wall=NOON)


def fates(scene):
    """Result and report of each SMS, by number of the event, as the file has them."""
    with contextlib.closing(sqlite3.connect(scene.alarms._path)) as db:
        return dict(
            db.execute("SELECT event, result || ' ' || coalesce(report, '-') FROM sms ORDER BY event").fetchall()
        )


def test_what_the_network_refused_goes_out_once_when_it_is_back_and_is_told_of_once(open_scene, caplog):
    caplog.set_level("INFO")
    scene = open_scene(clock=fast())
    scene.phone.faults.cms_error = 331
    occurrence = scene.log(scene.event(1))
    tried_s = []

    def tried_again():
        if len(scene.phone.pdus) > len(tried_s):
            tried_s.append(scene.clock.boot())
        return len(tried_s) >= 3

    scene.wait(tried_again, "tried again and again")
    assert tried_s[2] - tried_s[1] > 100, "and less and less often"
    assert scene.desk.outcomes == [(occurrence, "planu", "failed")]
    scene.phone.faults.cms_error = None
    scene.wait(lambda: len(scene.desk.outcomes) == 2, "sent")
    assert scene.desk.outcomes[1] == (occurrence, "planu", "sent")
    scene.phone.incoming(PLANU, "?")
    scene.wait(lambda: len(scene.texts(PLANU)) == 2, "the notifier went round since")
    assert sum("seuil local 1" in text for text in scene.texts(PLANU)) == 1
    assert sum("not told" in r.message for r in caplog.records) == 1, "the log says it once"


def test_nothing_goes_out_late_that_somebody_has_acknowledged_meanwhile(open_scene):
    scene = open_scene(clock=fast())
    scene.phone.faults.cms_error = 331
    scene.log(scene.event(1))
    scene.wait(lambda: scene.desk.outcomes, "it cannot be told")
    scene.log(scene.event(1, 1, "ack", state="ACK"))
    scene.phone.faults.cms_error = None
    assert scene.says(PLANU, "?").startswith("Non compris")
    tried = len(scene.phone.pdus)
    scene.wait(lambda: scene.clock.wall() > NOON + 1200, "twenty minutes")
    assert len(scene.phone.pdus) == tried


def test_a_modem_that_died_over_a_message_never_repeats_it(open_scene):
    scene = open_scene(clock=Clock(scale=60, origin_boot=boottime(), origin_wall=NOON))
    scene.phone.faults.dies_at = "accepted"
    scene.notifier._modem._send_timeout_s = scene.notifier._modem._command_timeout_s = 1.0
    scene.log(scene.event(1), scene.event(2))
    scene.wait(lambda: len(scene.desk.outcomes) == 2, "one unknown, one failed")
    assert [result for *_, result in scene.desk.outcomes] == ["unknown", "failed"]
    scene.phone.revive()
    scene.wait(lambda: len(scene.desk.outcomes) == 3, "the other")
    assert scene.says(PLANU, "?").startswith("Non compris")
    assert [sum(f"OK 0000{n}" in text for text in scene.texts(PLANU)) for n in (1, 2)] == [1, 1]


def test_the_networks_reports_are_kept_and_a_failure_is_told_of(open_scene, caplog):
    caplog.set_level("INFO")
    scene = open_scene()
    scene.log(scene.event(1))
    scene.wait(lambda: fates(scene) == {"e1": "sent delivered"}, "a report")
    scene.phone.faults.delivery = "failed"
    occurrence = scene.log(scene.event(2))
    scene.wait(lambda: fates(scene).get("e2") == "failed failed", "a report")
    assert scene.desk.outcomes[1:] == [(occurrence, "planu", "sent"), (occurrence, "planu", "failed")]
    assert "sms: planu has got that of r1" in caplog.text
    assert "sms: planu, that of r2: failed, status 0x46" in caplog.text
    assert PLANU not in caplog.text
    assert scene.alarms.sms_told("planu", occurrence) is None
    assert scene.alarms.sms_tried("e2") == {"planu"}, "the network had it: it is not repeated"


def test_no_report_within_a_day_is_unknown_and_one_that_comes_after_all_counts(open_scene):
    hands = {"wall": NOON}
    clock = Clock(boottime=boottime, walltime=lambda: hands["wall"], synchronised=lambda: True)
    scene = open_scene(clock=clock)
    scene.notifier._overdue_at_s = 0.0
    scene.phone.faults.delivery = "late"
    scene.log(scene.event(1))
    scene.wait(lambda: fates(scene) == {"e1": "sent -"}, "sent")
    scene.phone.report_late(0x20)
    scene.phone.faults.delivery = "never"
    assert scene.says(PLANU, "?")
    assert fates(scene) == {"e1": "sent -"}, "the network goes on trying"
    hands["wall"] += 86400 + 1
    scene.notifier._overdue_at_s = 0.0
    scene.wait(lambda: fates(scene) == {"e1": "sent unknown"}, "a day without")
    scene.phone._late.append((PLANU, 1))
    scene.phone.report_late(0)
    scene.wait(lambda: fates(scene) == {"e1": "sent delivered"}, "after all")
    assert len(scene.desk.outcomes) == 1


def test_what_is_over_by_the_time_it_goes_out_says_so(open_scene):
    scene = open_scene(clock=fast())
    scene.phone.faults.cms_error = 331
    scene.log(scene.event(1, 2))
    scene.wait(lambda: scene.desk.outcomes, "it cannot be told")
    scene.log(scene.event(1, 0, "clear", state="RTN_UNACK"))
    scene.phone.faults.cms_error = None
    scene.wait(lambda: scene.texts(PLANU), "told late")
    assert "seuil local 2 atteint" in scene.texts(PLANU)[0]
    assert "Repassé sous le seuil 12h00" in scene.texts(PLANU)[0]
    assert "Danger" not in scene.texts(PLANU)[0]


def test_an_exercise_goes_to_those_marked_for_it_after_every_real_alarm_and_counts_as_no_flood(open_scene):
    people = [recipient("planu", PLANU), recipient("tech", TECH, exercise=True)]
    scene = open_scene(*people)
    heard = []
    scene.phone.faults.cms_error = 331  # no network: the real one waits
    scene.log(scene.event(1, 3))
    exercise = scene.event(2, 3).model_copy(update={"rule": EXERCISE, "status": "Exercise"})
    scene.log(exercise)
    scene.wait(lambda: len(scene.desk.outcomes) == 2, "the real one fails for both")
    assert scene.notifier.rehearse(exercise, lambda *fate: heard.append(fate[:2])) == ["tech"]
    scene.phone.faults.cms_error = None
    scene.wait(lambda: len(scene.texts(TECH)) == 1, "the real one, tried again")
    assert "EXERCICE" not in scene.texts(TECH)[0]
    assert heard == [], "central has not said yet that it tells people"
    scene.alarms.receipt("e1", "true")
    scene.wait(lambda: ("tech", "delivered") in heard, "the exercise")
    assert heard == [("tech", "sent"), ("tech", "delivered")]
    assert scene.texts(TECH)[1].startswith("EXERCICE - HUY-WAREMME seuil local 3 atteint")
    assert len(scene.texts(PLANU)) == 1, "not on the list"
    assert len(scene.notifier._sent["tech"]) == 1
    scene.notifier.end_rehearsal()
