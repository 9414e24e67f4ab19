"""A LoRa modem and the nodes behind it."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.clock import Clock
from edge.radio._airtime import Channel
from edge.sensors.base import COMMUNICATION_KINDS, Driver, Field, FrameError, Framer, Options, SettingStep
from edge.transports.base import Sink, Source, Transport, is_reply, required
from edge.transports.port import Port
from edge.transports.silence import Silence

log = logging.getLogger(__name__)

_ANSWER_S = 1.0  # real
_SETTINGS_RETRY_S = 60.0
_CHECK_S = 600.0
"""A modem that must be told to listen may have restarted unnoticed: it would be deaf for so long at most."""
_PACKET_BYTES = 1024


class Keys(Protocol):
    """Opens sealed packets (see edge.nodes.NodeKeys). Used in the modem's thread only."""

    def open(self, nodes: Sequence[int]) -> None: ...

    def close(self) -> None: ...

    def unseal(self, packet: bytes, address: int | None, wall_s: float) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class Compared:
    """A setting: what the modem said of it `before`, and `after` it was written; both are the same where nothing was."""

    step: SettingStep
    before: list[bytes]
    after: list[bytes]

    @property
    def written(self) -> bool:
        return not _says(self.before, self.step)

    @property
    def holds(self) -> bool:
        return _says(self.after, self.step)


class LoraModem(Transport):
    """Each packet of a node is a Sample of the sensors at its `address`, with the signal as health. `period_s` is how often
    a node sends by itself: one that is late gives `timeout` Samples, never with 0.

    Packets of a modem that is not `addressed` (edge.sensors.base.Modem) name no sender: all sensors there, none of which has an
    `address`, belong to one node. What they cannot read may be a stranger's, so it is counted and is no fault of the node.

    `steps` are the modem's settings: read when the port opens and when the modem says that it has restarted (a band that
    fell back to the factory's is heard as silence), written where they differ, read back. While they cannot be made to hold,
    that is logged, tried again every minute, and packets are received all the same.

    Of an authenticated node only what `keys` unseals is heard, on any modem: a sealed packet names its node. What is refused is
    counted by its kind and gives no Sample: whoever can send noise can neither raise an alarm with it nor keep a silent
    node from being missed. How many were refused since the start is the health `refused` of the node's sensors;
    `authenticated` is 1, and 0 of plain nodes.

    With a `channel`, a node that sends for longer than its duty cycle allows is counted and logged (`duty_cycle`), and heard.
    """

    def __init__(
        self,
        name: str,
        port: Port,
        driver: Driver,
        options: Options,
        steps: Sequence[SettingStep],
        sources: Sequence[Source],
        clock: Clock,
        sink: Sink,
        *,
        keys: Keys | None = None,
        channel: Channel | None = None,
    ) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._keys = keys
        self._channel = channel
        self._refused: Counter[int | None] = Counter()
        self._driver = driver
        self._options = options
        self._modem = required(driver.modem, driver, "modem")
        self._steps = tuple(steps)
        self._framer = None if self._modem.pause_s else required(driver.framer, driver, "framer")(options)
        self._unknown: set[int] = set()
        self._silence = Silence(self._sources)
        self._packets: deque[tuple[list[Field], float, float]] = deque()
        self._settings_due = float("inf")
        self._deaf = False

    def _run(self) -> None:
        if self._keys is None:
            super()._run()
            return
        self._keys.open(sorted({s.address for s in self._sources if s.authenticated and s.address is not None}))
        try:
            super()._run()
        finally:
            self._keys.close()

    def _serve(self) -> None:
        self._resynchronise()
        self._packets.clear()
        boot = self._clock.boot()
        self._silence.listen(boot)
        self._settings_due = boot if self._steps or self._modem.listen else float("inf")
        while not self._stopped.is_set():
            if self._clock.boot() >= self._settings_due:
                self._settings_due = float("inf")
                again_s = self._set_up_modem()
                self._settings_due = min(self._settings_due, self._clock.boot() + again_s)
            self._receive()
            if self._deaf:
                self._listen()
            while self._packets:
                self._take(*self._packets.popleft())
            self._judge_silence()

    def set_up(self) -> tuple[list[Compared], bool]:
        """Bring the modem to its settings, once, for a person's command: each of them, and whether it was left as it works. One that
        does not answer is not asked further. Raises PortError."""
        self._port.open()
        try:
            self._resynchronise()
            for command in self._modem.before:
                self._ask(command)
            found: list[Compared] = []
            for one in self._compare():
                found.append(one)
                if not one.after:
                    break
            return found, self._leave()
        finally:
            self._port.close()

    def _set_up_modem(self) -> float:
        """Bring the modem to its settings and make it listen; in how many seconds to look again."""
        for command in self._modem.before:
            self._ask(command)
        written, bad = 0, None
        for one in self._compare():
            if not one.holds:
                bad = one
                break
            written += one.written
        if written and bad is None:
            log.info("%s: %d of %d settings were written and read back", self.name, written, len(self._steps))
        left = self._leave()
        listens = self._listen()
        if self._stopped.is_set():
            return float("inf")
        if bad is not None:
            expected, said = shown((bad.step.expected,)), shown(bad.after)
            self._count(self.name, "settings", f"expected {expected}, the modem says {said}")
            if self._modem.asks_on_air and not bad.after:
                return float("inf")
        elif not left:
            self._count(self.name, "settings", "the command that ends them was not obeyed: it may not receive")
        if bad is not None or not left or not listens:
            return _SETTINGS_RETRY_S
        return _CHECK_S if self._modem.listen else float("inf")

    def _compare(self) -> Iterator[Compared]:
        """Each setting, written where it differs and read back."""
        for step in self._steps:
            before = after = self._ask(step.query)
            if not _says(before, step):
                self._ask(step.write, step.write_s)
                after = self._ask(step.query)
            if self._stopped.is_set():
                return
            yield Compared(step, before, after)

    def _leave(self) -> bool:
        """End the settings; whether each command was obeyed."""
        return all(expected in self._ask(command) for command, expected in self._modem.after)

    def _listen(self) -> bool:
        """Make the modem receive, where it has to be told."""
        self._deaf = False
        if not self._modem.listen:
            return True
        answer = self._ask(self._modem.listen)
        if any(line in self._modem.listening for line in answer) or self._stopped.is_set():
            return True
        self._count(self.name, "listen", f"told to receive, the modem says {shown(answer)}")
        self._settings_due = min(self._settings_due, self._clock.boot() + _SETTINGS_RETRY_S)
        return False

    def _ask(self, command: bytes, answer_s: float = _ANSWER_S) -> list[bytes]:
        """The lines of the modem's answer, none without one. Packets that come meanwhile are kept."""
        asked = self._clock.boot()
        self._port.write(command)
        lines: list[bytes] = []
        while self._clock.real(self._clock.boot() - asked) < answer_s and not self._stopped.is_set():
            lines += self._receive(asking=True)
            if any(self._modem.ends(line) for line in lines):
                break
        return lines

    def _receive(self, asking: bool = False) -> list[bytes]:
        """Read once and keep the packets; what else the modem said is returned."""
        try:
            items = self._read_packet() if self._framer is None else self._read_frames(self._framer)
        except FrameError as gap:
            self._drop(self.name, gap)
            self._resynchronise()
            return []
        answers = []
        for item in items:
            if isinstance(item, FrameError):
                self._drop(self.name, item)
            elif item and self._is_answer(item, asking):
                answers.append(item)
        return answers

    def _read_frames(self, framer: Framer) -> Iterable[bytes | FrameError]:
        data = self._read()
        if not data:
            framer.reset()
        return framer.feed(data)

    def _read_packet(self) -> Iterable[bytes | FrameError]:
        """All bytes up to a pause."""
        data = self._read()
        while data:
            more = self._port.read_on(self._modem.pause_s)
            data += more
            if not more:
                return (data,)
            if len(data) > _PACKET_BYTES:
                self._resynchronise()
                return (FrameError("overflow", f"{len(data)} bytes without a pause of {self._modem.pause_s} s"),)
        return ()

    def _resynchronise(self) -> None:
        """What comes next may be the end of a packet whose beginning was thrown away."""
        if self._framer is not None:
            self._framer.reset()
            return
        begun = self._clock.boot()
        try:
            while self._port.read_on(self._modem.pause_s) and self._clock.real(self._clock.boot() - begun) < _ANSWER_S:
                pass
        except FrameError as gap:
            self._drop(self.name, gap)

    def _is_answer(self, frame: bytes, asking: bool) -> bool:
        """Whether a frame answers a command; what it is otherwise is seen to."""
        if asking and self._modem.is_answer is not None and self._modem.is_answer(frame):
            return True
        try:
            fields = self._decode(self._driver, self._options, frame)
        except FrameError as error:
            if error.kind == "exception":
                return True
            self._deaf = self._deaf or error.kind == "no_data"
            self._drop(self.name, error)
            return False
        if is_reply(fields):
            if fields[0].value == "ready":
                self._note_restart()
            return True
        self._deaf = self._deaf or self._modem.listens_once
        self._packets.append((fields, self._port.wall_s, self._port.boot_s))
        return False

    def _note_restart(self) -> None:
        log.warning("%s has restarted", self.name)
        if self._steps or self._modem.listen:
            self._settings_due = self._clock.boot()

    def _take(self, fields: list[Field], wall: float, boot: float) -> None:
        packet = {field.name: field for field in fields}
        address = packet["address"].value if self._modem.addressed else None
        sources = self._at(address)
        if not sources:
            self.dropped[self.name, "unknown_node"] += 1
            if address is not None and address not in self._unknown:
                self._unknown.add(address)
                log.warning("%s: node %d is no sensor of ours; its packets are counted and dropped", self.name, address)
            return
        payload, size, broken = b"", 0, None
        try:
            payload = self._modem.payload(packet)
            size = len(payload)
            if sources[0].authenticated:
                node, payload = self._unseal(payload, address, wall)
                sources = self._at(node)
        except FrameError as error:
            if sources[0].authenticated:
                self._refused[address] += 1
                self._drop(self.name if address is None else f"node {address}", error)
                return
            broken = error
        if not sources:  # a node that has a key and no sensor any more
            self.dropped[self.name, "unknown_node"] += 1
            return
        signal = [packet[name] for name in ("rssi", "snr") if name in packet] + self._signal()
        for source in sources:
            try:
                if broken is not None:
                    raise broken
                fields = self._decode(source.driver, source.options, payload)
            except FrameError as error:
                self._drop(source.key, error)
                if address is None and error.kind in COMMUNICATION_KINDS:
                    continue
                self._emit(source, wall, boot, [*signal, *self._proof(source)], error)
            else:
                self._judge_duty(source, size)
                self._emit(source, wall, boot, [*fields, *signal, *self._proof(source)])
            self._silence.heard(source, boot)

    def _signal(self) -> list[Field]:
        """What the modem says of the last packet, where it has to be asked."""
        said = []
        for name, unit, question in self._modem.signal:
            for line in self._ask(question):
                try:
                    value = {f.name: f.value for f in self._driver.decode(line, self._options)}.get("value", "")
                    said.append(Field(name, int(value), unit))
                except (FrameError, ValueError):
                    continue  # firmware that does not know the question
        return said

    def _judge_silence(self) -> None:
        wall, boot = self._clock.wall(), self._clock.boot()
        for source in self._silence.missed(boot):
            who = "its node" if source.address is None else f"node {source.address}"
            silence = FrameError("timeout", f"nothing heard from {who}", self._proof(source)[1:])
            self._fail(source, wall, boot, silence)

    def _at(self, address: int | None) -> list[Source]:
        """The sensors that a packet may be for; of a modem that names no sender all, until a sealed packet has named its node."""
        if address is None:
            return list(self._sources)
        return [source for source in self._sources if source.address == address]

    def _unseal(self, packet: bytes, address: int | None, wall: float) -> tuple[int, bytes]:
        if self._keys is None:
            raise FrameError("no_key", "this gateway holds no keys")
        return self._keys.unseal(packet, address, wall)

    def _proof(self, source: Source) -> tuple[Field, ...]:
        """Health: whether this node's packets are authenticated, and how many were refused (where they name no sender, of all)."""
        if not source.authenticated:
            return (Field("authenticated", 0, "1"),)
        refused = self._refused[source.address if self._modem.addressed else None]
        return Field("authenticated", 1, "1"), Field("refused", refused, "1")

    def _judge_duty(self, source: Source, size: int) -> None:
        """Tell of a node that is on the air for longer than the law lets it."""
        if self._channel is None or not source.period_s:
            return
        least_s = self._channel.least_period_s(size)
        if source.period_s < least_s:
            self._count(
                source.key, "duty_cycle", f"{size} bytes every {source.period_s:g} s, expected at least {least_s:.1f}"
            )


def _says(answer: Sequence[bytes], step: SettingStep) -> bool:
    return any(line == step.expected or line in step.also for line in answer)


def shown(answer: Sequence[bytes]) -> str:
    """Text as text, other bytes as hex."""
    line = next(iter(answer), b"").strip(b"\r\n")
    if not line:
        return "nothing"
    text = line.decode("latin-1")
    return repr(text) if text.isascii() and text.isprintable() else line.hex(" ").upper()
