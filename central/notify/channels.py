"""Ways to reach a person, each with typed outcomes. One attempt per call; who tries again, and when, is the outbox's business.

Reasons name the server and its answer, never a number, an address or a secret.
"""

import contextlib
import hashlib
import hmac
import json
import logging
import re
import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import urllib3

from central.config import (
    CentralConfig,
    SmsApprise,
    SmsGateway,
    SmsHttp,
    SmsModem,
    Smtp,
    Webhook,
    is_loopback,
    refuse_real_channels,
)
from central.notify.mail import GRAPH, Mail
from common import gsm7, modem
from common.clock import Clock

log = logging.getLogger(__name__)

_OK = 250


class Outcome(NamedTuple):
    """What became of one attempt.

    accepted: the provider took it. retry: it did not, and may later. failed: it never will. unknown: it may have; whether
    to send again is the channel's policy (`on_unknown`). `reference`: under which the network or the provider
    reports of it.
    """

    kind: Literal["accepted", "retry", "failed", "unknown"]
    reason: str = ""
    reference: str | None = None


class SmsSender(Protocol):
    """One SMS gateway. `name` stands in the outbox and in logs; `on_unknown` is its policy for an unknown fate; `answerable`: what
    people answer to its messages is read."""

    name: str
    on_unknown: Literal["repeat", "leave"]
    answerable: bool

    def send(self, number: str, text: str, message_id: str) -> Outcome: ...

    def close(self) -> None: ...


# ---------------------------------------------------------------------- mail


class SmtpChannel:
    """SMTP (RFC 5321). An unknown fate is told as `retry`: the Message-ID stays, and mail systems drop the second copy.

    Mails that follow each other go over one session, until `close`. Safe from several threads.
    """

    def __init__(self, config: Smtp) -> None:
        self._config = config
        self._session: smtplib.SMTP | None = None
        self._lock = threading.RLock()
        self.domain = config.from_.rpartition("@")[2]

    def send(self, to: str, mail: Mail, message_id: str, wall_s: float) -> Outcome:
        """One attempt, each step of the dialogue bounded by `timeout_s` real seconds."""
        message = EmailMessage()
        message["From"] = self._config.from_
        message["To"] = to
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(datetime.fromtimestamp(wall_s, UTC))
        message["Message-ID"] = f"<{message_id}@{self.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        if mail.graph:
            html = message.get_payload()[1]  # type: ignore[index]
            html.add_related(mail.graph, "image", "png", cid=f"<{GRAPH}>", disposition="inline", filename="graph.png")  # type: ignore[union-attr]
        with self._lock:
            return self._send(message)

    def _send(self, message: EmailMessage) -> Outcome:
        smtp = self._open()
        if isinstance(smtp, Outcome):
            return smtp
        outcome = _hand_over(smtp, message)
        if outcome.kind == "retry":  # nobody knows what state the session is in
            self.close()
        return outcome

    def close(self) -> None:
        """End the session. The next mail begins another."""
        with self._lock:
            if self._session is not None:
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    self._session.putcmd("QUIT")  # whatever it answers, the outcome stands
                self._session.close()
                self._session = None

    def _open(self) -> smtplib.SMTP | Outcome:
        """The session of the mail before, if the server still keeps it, or a new one; else what became of the attempt."""
        if self._session is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                if self._session.noop()[0] == _OK:
                    return self._session
            self.close()
        try:
            self._session = smtplib.SMTP(self._config.host, self._config.port, timeout=self._config.timeout_s)
        except smtplib.SMTPResponseException as e:
            return Outcome("retry", f"server refuses ({e.smtp_code})")
        except (OSError, smtplib.SMTPException) as e:
            return Outcome("retry", f"cannot be reached ({type(e).__name__})")
        try:
            if self._config.starttls:
                self._session.starttls(context=ssl.create_default_context(cafile=self._config.ca))
            if self._config.username is not None:
                self._session.login(self._config.username, self._config.password or "")
        except smtplib.SMTPAuthenticationError as e:
            refused = Outcome("retry", f"login refused ({e.smtp_code})")
        except (OSError, smtplib.SMTPException) as e:
            refused = Outcome("retry", f"no secure session ({type(e).__name__})")
        else:
            return self._session
        self.close()
        return refused


def _hand_over(smtp: smtplib.SMTP, message: EmailMessage) -> Outcome:
    try:
        smtp.send_message(message)
    except smtplib.SMTPRecipientsRefused as e:
        return _smtp_refusal(next(iter(e.recipients.values()))[0], "recipient refused")
    except smtplib.SMTPResponseException as e:
        return _smtp_refusal(e.smtp_code, "message refused")
    except (OSError, smtplib.SMTPException) as e:
        return Outcome("retry", f"no answer ({type(e).__name__})")
    return Outcome("accepted")


def _smtp_refusal(code: int, what: str) -> Outcome:
    return Outcome("failed" if code >= 500 else "retry", f"{what} ({code})")


# ---------------------------------------------------------------------- webhook


class WebhookChannel:
    """A JSON message posted to a recipient's own address (RFC 9110). It carries its `id`, so an unknown fate is told as `retry`."""

    def __init__(self, config: Webhook, *, exercise: bool) -> None:
        self._config = config
        self._exercise = exercise
        self._pool = urllib3.PoolManager(retries=False)

    def send(self, url: str, content: Mapping[str, object]) -> Outcome:
        """One attempt. An exercise posts to this machine only."""
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return Outcome("failed", "not an address")
        if self._exercise and not is_loopback(host):
            return Outcome("failed", "an exercise reaches no address outside this machine")
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        if self._config.key is not None:
            signature = hmac.new(self._config.key.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Maillages-Signature"] = f"sha256={signature}"
        try:
            response = self._pool.request(
                "POST", url, body=body, headers=headers, timeout=urllib3.Timeout(total=self._config.timeout_s), redirect=False,
                preload_content=False,
            )  # fmt: skip
        except urllib3.exceptions.LocationValueError:
            return Outcome("failed", "not an address")
        except urllib3.exceptions.HTTPError as e:
            return Outcome("retry", f"no answer ({type(e).__name__})")
        response.release_conn()
        response.close()
        if 200 <= response.status < 300:
            return Outcome("accepted")
        final = 400 <= response.status < 500 and response.status not in (408, 425, 429)
        return Outcome("failed" if final else "retry", f"status {response.status}")

    def close(self) -> None:
        self._pool.clear()


# ---------------------------------------------------------------------- SMS


class HttpSms:
    """A provider's HTTP interface, described by templates."""

    answerable = False

    def __init__(self, name: str, config: SmsHttp) -> None:
        self.name = name
        self.on_unknown = config.on_unknown
        self._config = config
        self._pool = urllib3.PoolManager(retries=False)

    def send(self, number: str, text: str, message_id: str) -> Outcome:
        config = self._config
        values = {
            "number": number,
            "digits": number.removeprefix("+"),
            "text": gsm7.normalise(text),
            "sender": config.sender,
            "id": message_id,
        }
        content_type = next((v for k, v in config.headers.items() if k.lower() == "content-type"), "")
        url = _fill(config.url, values, lambda v: quote(v, safe=""))
        body = None if config.body is None else _fill(config.body, values, _escape_for(content_type)).encode()
        timeout = urllib3.Timeout(total=config.timeout_s)
        try:
            response = self._pool.request(
                config.method, url, body=body, headers=config.headers, timeout=timeout, redirect=False
            )
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as e:
            return Outcome("retry", f"cannot be reached ({type(e).__name__})")
        except urllib3.exceptions.HTTPError as e:
            return Outcome("unknown", f"no answer ({type(e).__name__})")
        if 200 <= response.status < 300:
            said = response.data.decode(errors="replace")
            if config.success is None or re.search(config.success, said):
                return Outcome("accepted", reference=self._reference(said, message_id))
            return Outcome("failed", f"status {response.status} without the expected body")
        kind: Literal["failed", "retry"] = "failed" if response.status in config.permanent_statuses else "retry"
        return Outcome(kind, f"status {response.status}")

    def _reference(self, said: str, message_id: str) -> str | None:
        """The name under which the provider will report."""
        report = self._config.report
        if report is None or report.reference is None:
            return message_id if report else None
        found = re.search(report.reference, said)
        if found is None:
            log.warning("%s: its answer names no message, so no report of it will be understood", self.name)
        return found[1] if found else None

    def close(self) -> None:
        self._pool.clear()


def _fill(template: str, values: dict[str, str], escape: Callable[[str], str]) -> str:
    """Replace known `{names}` only, in one pass: bodies are JSON, full of braces, and a text may hold a `{name}` itself."""
    return re.sub(r"\{(number|digits|text|sender|id)\}", lambda m: escape(values[m[1]]), template)


def _escape_for(content_type: str) -> Callable[[str], str]:
    if "json" in content_type.lower():
        return lambda v: json.dumps(v, ensure_ascii=False)[1:-1]
    if "form-urlencoded" in content_type.lower():
        return lambda v: quote(v, safe="")
    return lambda v: v


class ModemSms:
    """A GSM modem at central. One whose answer is lost has probably sent: not repeated, the next step is told instead."""

    on_unknown: Literal["repeat", "leave"] = "leave"
    answerable = True

    def __init__(self, name: str, device: modem.Modem) -> None:
        self.name = name
        self._device = device

    def send(self, number: str, text: str, message_id: str) -> Outcome:  # noqa: ARG002 - a modem knows no ids
        outcome = self._device.send(number, text)
        match outcome:
            case modem.Sent():
                last = outcome.references[-1:]  # of several parts the last
                return Outcome("accepted", reference=self.reference(last[0]) if last else None)
            case modem.Unknown():
                return Outcome("unknown", outcome.reason)
            case modem.Failed():
                return Outcome("retry" if outcome.retry else "failed", outcome.reason)

    def reference(self, number: int) -> str:
        """The name of a message of this modem by its reference in the network (TP-MR, which wraps at 256)."""
        return f"{self.name} {number}"

    @property
    def device(self) -> modem.Modem:
        return self._device

    def close(self) -> None:
        self._device.close()


class AppriseSms:
    """A service of Apprise: it says yes or no and no more, so no is tried again and yes means handed over."""

    on_unknown: Literal["repeat", "leave"] = "leave"
    answerable = False

    def __init__(self, name: str, config: SmsApprise) -> None:
        self.name = name
        self._url = config.url

    def send(self, number: str, text: str, message_id: str) -> Outcome:  # noqa: ARG002 - Apprise knows no ids
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs numbers and keys
        service = apprise.Apprise()
        if not service.add(_fill(self._url, {"number": number, "digits": number.removeprefix("+")}, quote)):
            return Outcome("failed", "Apprise does not know this url")
        return Outcome("accepted", "handed over") if service.notify(body=text) else Outcome("retry", "not handed over")

    def close(self) -> None:
        return None


def sms_senders(gateways: Sequence[SmsGateway], clock: Clock, data_dir: Path) -> list[SmsSender]:
    """The configured SMS gateways, in the order in which they are tried. Touches no device.

    A PIN that a SIM refused is remembered in `data_dir`, so that a restart does not try it again and lock the SIM.
    """
    senders: list[SmsSender] = []
    for i, gateway in enumerate(gateways):
        if isinstance(gateway, SmsModem):
            refused = data_dir / f"sms-{i}-refused-pin"
            device = modem.Modem(
                gateway.port, clock, baudrate=gateway.baudrate, pin=gateway.pin, refused_pin=refused, reports=True
            )
            senders.append(ModemSms(f"sms.{i} modem", device))
        elif isinstance(gateway, SmsHttp):
            senders.append(HttpSms(f"sms.{i} {urlsplit(gateway.url).hostname}", gateway))
        else:
            senders.append(AppriseSms(f"sms.{i} apprise", gateway))
    return senders


@dataclass(frozen=True, slots=True)
class Channels:
    """What the notifier can use."""

    email: SmtpChannel | None
    sms: tuple[SmsSender, ...]
    webhook: WebhookChannel | None = None


def channels(config: CentralConfig, clock: Clock) -> Channels:
    """The channels of a configuration. Touches no device and no server.

    Raises ConfigError when the clock is that of an exercise and a channel leaves this machine.
    """
    if clock.exercise:
        refuse_real_channels(config)
    return Channels(
        SmtpChannel(config.smtp) if config.smtp else None,
        tuple(sms_senders(config.sms, clock, config.data_dir)),
        WebhookChannel(config.webhook, exercise=clock.exercise),
    )
