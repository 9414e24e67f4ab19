"""An exercise: an alarm that is none, from the siren to the board, and how long each link of that way took.

The alarm is the gateway's (edge/alarms.py): it has the status `Exercise`, ends at a time that was set when it began, at the first real
alarm, and at the start of a gateway that was killed during it. Here is who sets it off, watches its links and ends it: a link is
`good`, `failed` (with the remedy), `waiting`, or `absent` where none is configured.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from common.clock import Clock
from common.config import faults
from common.texts import reference
from edge.config import EdgeConfig
from edge.config.base import Level, Seconds, Strict
from edge.errors import EdgeError
from edge.gateway import Gateway
from edge.outputs.siren import SirenKeeper
from edge.outputs.sms import SmsNotifier
from wire.alarm import AlarmEvent
from wire.errors import WireError

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""Real seconds between two looks at what has changed."""
BY = "maillages-edge test alarm"

State = Literal["waiting", "good", "failed", "absent"]

SIREN, SMS, DELIVERED, BROKER, CENTRAL, NOTIFICATION, BOARD, ANSWER = (
    "siren", "sms", "sms delivered", "broker", "central", "notification", "board", "answer",
)  # fmt: skip
_WAY = (BROKER, CENTRAL, NOTIFICATION, BOARD)

_REMEDIES = {
    SIREN: "plug and supply of the relay board; port and channel of [outputs.siren]",
    SMS: "`maillages-edge doctor` asks the modem: SIM, PIN, antenna, credit",
    DELIVERED: "ask them: a phone that is off gets it later, a wrong number never; --within 600 waits longer",
    BROKER: "`maillages-edge doctor` says why there is no link",
    CENTRAL: "at central: systemctl status maillages-central; journalctl -u maillages-central",
    NOTIFICATION: "at central: journalctl -u maillages-central says which mail server or SMS gateway does not take it",
    BOARD: "at central: journalctl -u maillages-central says what is wrong with the database",
    ANSWER: "the message may have come to nobody who reads it; the link is in the mail, or: OK and the reference by SMS",
}
_SILENT = {
    SIREN: "the relay has not answered",
    SMS: "the modem has not taken it",
    BROKER: "the broker has not taken the alarm",
    CENTRAL: "central has not said that it keeps the alarm",
    NOTIFICATION: "central has not said that it handed a message over",
    BOARD: "central has not said that the alarm is in the database",
    ANSWER: "nobody has acknowledged it",
}


class Refused(EdgeError):
    """No exercise now; the text says why, and what was expected."""


class Wish(Strict):
    """What a person asks for: `level` of which `station` (the first one), `siren_s` 0 for no siren, `within_s` for the links, and then
    so long for somebody's acknowledgement."""

    level: Level = 3
    station: str | None = None
    siren_s: float = Field(default=2, ge=0, le=10)
    within_s: float = Field(default=120, ge=5, le=1800)
    answer_s: Seconds = Field(default=0, le=3600)


@dataclass(slots=True)
class Link:
    """`took_s`: from the raise to the last that was heard of it."""

    link: str
    state: State = "waiting"
    took_s: float | None = None
    detail: str = ""
    remedy: str = ""


class Exercises:
    """One at a time. `begin` and `report` from any thread; `heard_of` from the uplink's."""

    def __init__(
        self,
        config: EdgeConfig,
        clock: Clock,
        gateway: Gateway,
        siren: SirenKeeper | None,
        sms: SmsNotifier | None,
        linked: Callable[[], bool],
    ) -> None:
        self._config = config
        self._clock = clock
        self._gateway = gateway
        self._siren = siren
        self._sms = sms
        self._linked = linked
        self._lock = threading.Lock()
        self._beginning = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._wish = Wish()
        self._event: AlarmEvent | None = None
        self._began_s = 0.0
        self._early: list[tuple[str, str, str, float]] = []
        self._links: dict[str, Link] = {}
        self._told: dict[str, str] = {}
        """What became of the SMS, by recipient."""
        self._ended = ""

    # ------------------------------------------------------------------ from other threads

    def begin(self, asked: bytes) -> dict[str, Any]:
        """Set one off, as a `Wish` in JSON says. Raises Refused."""
        try:
            wish = Wish.model_validate_json(asked or b"{}")
        except ValidationError as e:
            raise Refused("\n".join(faults(e))) from None
        known = [s.id for s in self._config.station]
        station = wish.station or next(iter(known), "")
        if station not in known:
            raise Refused(
                f"station: found {wish.station!r}, expected one of {', '.join(known) or 'none: there is none'}"
            )
        with self._beginning:
            return self._begin(wish, station)

    def _begin(self, wish: Wish, station: str) -> dict[str, Any]:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Refused("an exercise is under way: wait for its end")
            self._thread = threading.Thread(target=self._run, name="exercise", daemon=True)
            self._wish, self._event, self._ended, self._told, self._early = wish, None, "", {}, []
            self._links = {name: Link(name) for name in (SIREN, SMS, DELIVERED, *_WAY)}
            if wish.answer_s:
                self._links[ANSWER] = Link(ANSWER)
            self._began_s = self._clock.boot()
        # Its end is set with its beginning: nothing that happens to this thread, or to who asked, leaves it standing.
        until_s = self._began_s + wish.within_s + wish.answer_s + 5
        try:
            event = self._gateway.begin_exercise(station, wish.level, BY, until_s)
        except WireError as e:
            raise Refused(str(e)) from None
        with self._lock:
            self._event = event
            for early in self._early:
                self._take(*early)
            self._leave_out()
        self._stopped.clear()
        self._thread.start()
        return self.report(b"")

    def report(self, _: bytes) -> dict[str, Any]:
        """How it is with the last one: its reference, every link, whether it is `over` and why it ended. Raises Refused when there was
        none since the start."""
        with self._lock:
            if self._event is None:
                raise Refused("no exercise has begun since the gateway started or changed its configuration")
            return {
                "reference": reference(self._event.occurrence),
                "status": self._event.status,
                "station": self._event.station,
                "level": self._event.level,
                "time": self._event.time,
                "over": bool(self._ended),
                "ended": self._ended,
                "links": [asdict(link) for link in self._links.values()],
            }

    def end(self, _: bytes = b"") -> dict[str, Any]:
        """End it before its time."""
        self._stopped.set()
        return {}

    def heard_of(self, event_id: str, what: str, value: str) -> None:
        """The broker's or central's word on an event of this gateway."""
        with self._lock:
            if self._event is None:  # it goes out before `begin` knows its number
                self._early = [*self._early[-20:], (event_id, what, value, self._clock.boot())]
            else:
                self._take(event_id, what, value, self._clock.boot())

    # ------------------------------------------------------------------ what is heard; under the lock

    def _take(self, event_id: str, what: str, value: str, boot_s: float) -> None:
        if self._event is None or event_id != self._event.id or self._ended:
            return
        match what, value:
            case "broker", "taken":
                self._settle(BROKER, "good", "the broker took the alarm", at_s=boot_s)
            case "broker", "nobody":
                self._links[BROKER].detail = "the broker took it, and nobody listens there: central is not connected"
            case "broker", _:
                self._links[BROKER].detail = "the broker refuses it: this gateway has no rights there, enrol it again"
            case "stored", "true":
                self._settle(BROKER, "good", "the broker took the alarm", at_s=boot_s)
                self._settle(CENTRAL, "good", "central keeps the alarm", at_s=boot_s)
            case "notifying", "true":
                self._settle(
                    NOTIFICATION, "good", "central handed a message to a provider, who accepted it", at_s=boot_s
                )
            case "notifying", "false":
                self._settle(NOTIFICATION, "failed", "no channel of central took a message", at_s=boot_s)
            case "notifying", _:
                self._settle(
                    NOTIFICATION,
                    "failed",
                    "central has told nobody: nobody is on the exercise list for this commune and level",
                    "in central's table of recipients: exercices = oui (`maillages-central recipients list`)",
                    at_s=boot_s,
                )
            case "board", "true":
                self._settle(BOARD, "good", "the alarm is in the database, marked as an exercise", at_s=boot_s)
            case "board", _:
                self._settle(BOARD, "failed", "the database refused the alarm's row", at_s=boot_s)

    def _settle(self, name: str, state: State, detail: str, remedy: str = "", *, at_s: float | None = None) -> None:
        link = self._links[name]
        if link.state != "waiting":
            return
        took_s = None if state == "absent" else round((at_s or self._clock.boot()) - self._began_s, 2)
        self._links[name] = Link(name, state, took_s, detail, remedy or (_REMEDIES[name] if state == "failed" else ""))

    def _leave_out(self) -> None:
        """What is not configured is not tried."""
        if self._siren is None:
            self._settle(SIREN, "absent", "no [outputs.siren]")
        elif not self._wish.siren_s:
            self._settle(SIREN, "absent", "not asked for")
        if self._sms is None:
            for name in (SMS, DELIVERED):
                self._settle(name, "absent", "no [outputs.sms]")
        if self._config.mqtt is None:
            for name in _WAY:
                self._settle(name, "absent", "no [mqtt]: this gateway alarms on its own")

    def _heard_sms(self, recipient: str, fate: str, reason: str) -> None:
        with self._lock:
            self._told[recipient] = fate
            sms = self._links[SMS]
            if fate in ("failed", "unknown"):
                sms.detail = "; ".join(filter(None, (sms.detail, f"{recipient}: {reason or fate}")))
            if "waiting" in self._told.values():
                return
            lost = [to for to, said in self._told.items() if said in ("failed", "unknown")]
            if lost:
                self._settle(SMS, "failed", sms.detail)
            self._settle(SMS, "good", f"the modem sent it to {', '.join(self._told)}")
            if len(lost) == len(self._told):
                self._settle(DELIVERED, "absent", "none was sent")
            elif "sent" not in self._told.values():
                state: State = "failed" if lost else "good"
                self._settle(
                    DELIVERED, state, sms.detail if lost else f"the network says so of {', '.join(self._told)}"
                )

    # ------------------------------------------------------------------ its thread

    def _run(self) -> None:
        event = self._event
        assert event is not None  # noqa: S101 - begun
        try:
            self._set_off(event)
            while not (why := self._over(event)):
                self._stopped.wait(LOOK_S)
        except Exception:
            why = "a fault of this program"
            log.exception("exercise: %s", why)
        if self._sms is not None:
            self._sms.end_rehearsal()
        self._gateway.end_exercise(why)
        with self._lock:
            for name in list(self._links):
                self._settle(name, "failed", self._links[name].detail or f"not known: {why}")
            self._ended = why
        log.info("exercise: over, %s", why)

    def _set_off(self, event: AlarmEvent) -> None:
        if self._sms is not None:
            with self._lock:
                to = self._sms.rehearse(event, self._heard_sms)
                self._told = dict.fromkeys(to, "waiting")
                if not to:
                    self._settle(
                        SMS,
                        "failed",
                        "nobody is marked for exercises",
                        "exercise = true in an [[outputs.sms.recipient]] of edge.toml",
                    )
                    self._settle(DELIVERED, "absent", "none was sent")
        if self._siren is not None and self._wish.siren_s:
            threading.Thread(target=self._sound, args=(self._siren,), name="exercise-siren", daemon=True).start()

    def _sound(self, siren: SirenKeeper) -> None:
        outcome = siren.test(self._wish.siren_s)
        with self._lock:
            if outcome == "done":
                done = f"the relay was on for {self._wish.siren_s:g} s; whether it sounded, only you have heard"
                self._settle(SIREN, "good", done)
            else:
                self._settle(
                    SIREN, "failed", "an alarm sounds" if outcome == "skipped" else "the relay took no command"
                )

    def _over(self, event: AlarmEvent) -> str:
        """Why it is over; empty while it is not."""
        stands = self._gateway.exercise
        if stands is None or stands.occurrence != event.occurrence:
            return self._gateway.exercise_ended or "the gateway ended it"
        if self._stopped.is_set():
            return "it was stopped"
        since_s = self._clock.boot() - self._began_s
        with self._lock:
            if stands.state == "ACK" and ANSWER in self._links:
                self._settle(ANSWER, "good", f"acknowledged by {stands.by}")
            if since_s >= self._wish.within_s:
                self._give_up()
            waiting = {link.link for link in self._links.values() if link.state == "waiting"}
            if waiting == {ANSWER} and since_s >= self._wish.within_s + self._wish.answer_s:
                self._settle(ANSWER, "failed", _SILENT[ANSWER])
                return "nobody has answered"
        return "" if waiting else "every link is known"

    def _give_up(self) -> None:
        """What has said nothing in time."""
        for name in (SIREN, SMS, *_WAY):
            link = self._links[name]
            detail = link.detail or _SILENT[name]
            if name == BROKER and not link.detail and not self._linked():
                detail = "there is no link to the broker"
            self._settle(name, "failed", detail)
        silent = [to for to, fate in self._told.items() if fate not in ("delivered", "failed", "unknown")]
        self._settle(DELIVERED, "failed", f"the network has not said so of {', '.join(silent)}")
