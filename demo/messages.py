"""The messages that people would get: a local SMTP server's mails, and what the emulated modems sent."""

from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import default
from typing import Any, Literal

from aiosmtpd.controller import Controller

from demo.children import free_port
from demo.scenario import PEOPLE, Devices

_MARK = "EXERCICE"


@dataclass(frozen=True, slots=True)
class Told:
    """One message. `text` is a mail's subject or a whole SMS; `wall_s` the exercise's time at which it arrived."""

    wall_s: float
    channel: Literal["mail", "sms"]
    sender: str
    to: str
    text: str

    @property
    def marked(self) -> bool:
        """Whether its first words say that it is an exercise."""
        return _MARK in self.text[:40].upper()


class SmtpSink:
    """Takes every mail on 127.0.0.1 and delivers none."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.mails: list[Told] = []
        self._wall = wall
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=20)

    @property
    def port(self) -> int:
        return int(self._controller.port)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        mail = message_from_bytes(envelope.content, policy=default)
        for to in envelope.rcpt_tos:
            self.mails.append(Told(self._wall(), "mail", "central", PEOPLE.get(to, to), str(mail["Subject"])))
        return "250 OK"


def told(sink: SmtpSink, devices: Devices, wall_at: Callable[[float], float]) -> list[Told]:
    """Everything until now, oldest first. `wall_at` turns real boot seconds into the exercise's wall time."""
    found = list(sink.mails)
    for sender, modem in (("gateway", devices.gateway_modem), ("central", devices.central_modem)):
        found += [
            Told(wall_at(m.boot_s), "sms", sender, PEOPLE.get(m.number, m.number), m.text) for m in list(modem.messages)
        ]
    return sorted(found, key=lambda m: m.wall_s)
