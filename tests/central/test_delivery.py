"""What a provider reports of an SMS that it took: delivered, or never, and then its reader is told otherwise."""

import contextlib
import threading
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from central.config import SmsReport
from central.notify.channels import Channels, ModemSms, channels
from central.notify.recipients import Recipient, Recipients
from common import modem
from common.clock import Clock
from tests import servers
from tests.central.scene import HUY, Scene
from tests.central.test_notify import T0, Central, config, event, settled
from tests.fakes.providers import SmsServer, SmtpServer
from wire.ids import uuid7

TOKEN = "a-token-of-some-length"  # noqa: S105
REPORT = {
    "token": TOKEN,
    "id": r"\bid=([\w-]+)",
    "delivered": r"\bstatus=delivered\b",
    "failed": r"\bstatus=(failed|expired)\b",
}
PERSON = {
    "id": "planu-huy",
    "name": "Planu Huy",
    "role": "planu",
    "communes": ["61031"],
    "phone": "+32470000001",
    "email": "planu@huy.test",
    "channels": ["sms", "email"],
}


@contextlib.contextmanager
def scene(tmp_path, provider, **report):
    sms = {
        "kind": "http",
        "url": provider.url,
        "headers": {"Content-Type": "application/json"},
        "body": '{"to":"{number}","text":"{text}","id":"{id}"}',
        "report": REPORT | report,
    }
    made = Scene(tmp_path, Clock(trust="always"), settings={"sms": [sms]})
    Recipients(tmp_path).save([Recipient.model_validate(PERSON)])
    with contextlib.closing(made):
        made.start()
        made.gateway(HUY)
        yield made


@pytest.fixture
def provider():
    with SmsServer() as server:
        yield server


def told(scene):
    return [(t.channel, t.fate) for s in scene.page._observer.stories() for t in s.told]


def report(scene, method="GET", token=TOKEN, **said):
    query = urlencode(said)
    if method == "GET":
        return scene.ask("GET", f"/sms/{token}?{query}").status
    return scene.ask("POST", f"/sms/{token}", query.encode()).status


def accepted(scene, provider):
    """The id of the one message, when its outcome is written."""
    servers.wait_until(lambda: told(scene) == [("sms", "accepted")], 15, "a message that is taken")
    return provider.requests[-1]["id"]


def test_a_message_that_never_arrived_goes_to_the_next_channel_and_one_that_did_says_so(tmp_path, provider):
    with scene(tmp_path, provider) as s:
        s.event("hoyoux-huy", "raise", "UNACK", 2, 0, value=0.83)
        name = accepted(s, provider)
        assert report(s, id=name, status="sent") == 200
        assert report(s, token=TOKEN[::-1], id=name, status="failed") == 404
        assert report(s, status="failed") == 400
        assert told(s) == [("sms", "accepted")], "on its way"
        assert report(s, "POST", id=name, status="delivered") == 200
        assert told(s) == [("sms", "delivered")]
        assert s.smtp.mails == []
        assert report(s, id=name, status="failed") == 200
        servers.wait_until(lambda: bool(s.smtp.to("planu@huy.test")), 15, "the mail")
        assert report(s, id=name, status="failed") == 200, "once more"
        servers.wait_until(lambda: ("email", "accepted") in told(s), 15, "its outcome")
        assert sorted(told(s)) == [("email", "accepted"), ("sms", "failed")]
        assert len(provider.requests) == 1


def test_the_providers_own_name_also_when_it_reports_before_its_answer(tmp_path, provider):
    first = threading.Event()

    def answer(_body):
        first.wait(10)
        return 200, '{"ok":1,"ids":[77]}'

    provider.answer = answer
    with scene(tmp_path, provider, reference=r'"ids":\[(\d+)') as s:
        s.event("hoyoux-huy", "raise", "UNACK", 2, 0, value=0.83)
        servers.wait_until(lambda: bool(provider.requests), 15, "the request")
        early = threading.Thread(target=report, args=(s,), kwargs={"id": 77, "status": "expired"})
        early.start()
        first.set()
        early.join()
        servers.wait_until(lambda: bool(s.smtp.to("planu@huy.test")), 15, "the mail")


def test_nobody_is_told_otherwise_of_what_was_answered(tmp_path, provider):
    with scene(tmp_path, provider) as s:
        event = s.event("hoyoux-huy", "raise", "UNACK", 2, 0, value=0.83)
        name = accepted(s, provider)
        s.notifier.acknowledge(event.occurrence, "Zone")
        assert report(s, id=name, status="failed") == 200
        assert told(s) == [("sms", "failed")]
        assert s.smtp.mails == []


@pytest.mark.parametrize(
    "change", [{"id": "id="}, {"id": "("}, {"reference": "(a)(b)"}, {"token": "short"}, {"token": "a/b" * 9}]
)
def test_a_report_that_cannot_be_understood_is_refused_at_start(change):
    with pytest.raises(ValidationError):
        SmsReport.model_validate(REPORT | change)


class Phone:
    """A modem that takes everything; the network numbers what it took, and begins again at 0 after 255."""

    def __init__(self, number):
        self.next = number

    def send(self, _number, _text):
        self.next = (self.next + 1) % 256
        return modem.Sent((self.next,))

    def close(self):
        return None


def test_a_report_of_the_network_is_understood_after_a_restart_and_of_the_newest(tmp_path, state_at):
    with SmtpServer() as smtp:
        cfg = config(tmp_path, smtp, recipients=[PERSON])
        sender = ModemSms("sms.0 modem", Phone(254))
        central = Central(state_at, cfg, ways=Channels(channels(cfg, Clock(trust="always")).email, (sender,)))
        with contextlib.closing(central):
            first, second = event(1, level=2), event(2, level=2, occurrence=uuid7(T0 + 2), rule="other")
            central.arrive(first)
            settled(central)
            sender.device.next = 254  # the same number again, for another message
            central.move(60)
            central.arrive(second)
            settled(central)
            central.restart()

            def reported(state, status, number=255, phone=PERSON["phone"]):
                central.notifier.note_report(sender.reference(number), modem.Report(phone, number, state, status))
                settled(central)

            reported("failed", 0x45, number=3)
            reported("failed", 0x45, phone="+32470000009")
            reported("pending", 0x20)
            assert smtp.mails == []
            reported("failed", 0x45)
            servers.wait_until(lambda: bool(smtp.to("planu@huy.test")), 15, "the mail")
            (mail,) = smtp.to("planu@huy.test")
            assert second.occurrence[-5:].upper() in mail["Subject"]
