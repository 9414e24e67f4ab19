"""A LoRa modem (RYLR998) and the nodes behind it, whose payloads come as hexadecimal text."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from common.clock import Clock
from edge.radio._airtime import Channel
from edge.radio.rylr998 import SettingStep, unhex
from edge.sensors.base import Driver, Field, FrameError
from edge.transports.base import Sink, Source, Transport, required
from edge.transports.port import Port

log = logging.getLogger(__name__)

_ANSWER_S = 1.0  # real
_SETTINGS_RETRY_S = 60.0
_LATE = 1.5
"""A node's own clock drifts, and a packet may be lost: it is missed one and a half periods after the last one."""


class Keys(Protocol):
    """Opens sealed packets (see edge.nodes.NodeKeys). Used in the modem's thread only."""

    def open(self, nodes: Sequence[int]) -> None: ...

    def close(self) -> None: ...

    def unseal(self, packet: bytes, address: int | None, wall_s: float) -> bytes: ...


class LoraModem(Transport):
    """Each packet of a node is a Sample of the sensors at its `address`, with the signal as health. `period_s` is how often
    a node sends by itself: one that is late gives `timeout` Samples, never with 0.

    `steps` are the modem's settings: read when the port opens and when the modem says that it has restarted (a band that
    fell back to the factory's is heard as silence), written where they differ, read back. While they cannot be made to hold,
    that is logged, tried again every minute, and packets are received all the same.

    Of an authenticated node only what `keys` unseals is heard. What is refused is counted by its kind and gives no Sample:
    whoever can send noise can neither raise an alarm with it nor keep a silent node from being missed. How many were
    refused since the start is the health `refused` of the node's sensors; `authenticated` is 1, and 0 of plain nodes.

    With a `channel`, a node that sends for longer than its duty cycle allows is counted and logged (`duty_cycle`), and heard.
    """

    def __init__(
        self,
        name: str,
        port: Port,
        driver: Driver,
        steps: Sequence[SettingStep],
        sources: Sequence[Source],
        clock: Clock,
        sink: Sink,
        keys: Keys | None = None,
        channel: Channel | None = None,
    ) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._channel = channel
        self._keys = keys
        self._refused: Counter[int | None] = Counter()
        self._driver = driver
        self._options = driver.options()
        self._steps = tuple(steps)
        self._framer = required(driver.framer, driver, "framer")(self._options)
        self._unknown: set[int] = set()
        self._missed_at: dict[str, float] = {}
        self._settings_due = float("inf")

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
        self._framer.reset()
        boot = self._clock.boot()
        self._missed_at = {s.key: boot + _LATE * s.period_s for s in self._sources if s.period_s}
        self._settings_due = boot if self._steps else float("inf")
        while not self._stopped.is_set():
            if self._clock.boot() >= self._settings_due:
                self._settings_due = float("inf")
                if not self._set():
                    self._settings_due = min(self._settings_due, self._clock.boot() + _SETTINGS_RETRY_S)
            self._receive()
            self._judge_silence()

    def _set(self) -> bool:
        """Bring the modem to its settings; whether it has them now."""
        for step in self._steps:
            if self._ask(step.query) == step.expected:
                continue
            self._ask(step.write)
            answer = self._ask(step.query)
            if self._stopped.is_set():
                return False
            if answer != step.expected:
                self._count(self.name, "settings", f"expected {_shown(step.expected)}, the modem says {_shown(answer)}")
                return False
        return True

    def _ask(self, command: bytes) -> bytes:
        """The modem's answer line, empty without one. Packets that come meanwhile are received."""
        asked = self._clock.boot()
        self._port.write(command)
        while self._clock.real(self._clock.boot() - asked) < _ANSWER_S and not self._stopped.is_set():
            if answers := self._receive():
                return answers[-1]
        return b""

    def _receive(self) -> list[bytes]:
        """Read once and hand over the packets; what else the modem said is returned."""
        answers = []
        try:
            data = self._read()
        except FrameError as gap:
            self._framer.reset()
            self._drop(self.name, gap)
            return []
        if not data:
            self._framer.reset()
            return []
        for item in self._framer.feed(data):
            if isinstance(item, FrameError):
                self._drop(self.name, item)
            elif item.startswith(b"+RCV="):
                self._take(item)
            elif item.startswith(b"+READY"):
                self._note_restart()
            elif item:
                answers.append(item)
        return answers

    def _note_restart(self) -> None:
        log.warning("%s has restarted", self.name)
        if self._steps:
            self._settings_due = self._clock.boot()

    def _take(self, line: bytes) -> None:
        try:
            packet = {field.name: field for field in self._decode(self._driver, self._options, line)}
        except FrameError as error:
            self._drop(self.name, error)
            return
        address = packet["address"].value
        sources = [source for source in self._sources if source.address == address]
        if not sources:
            self.dropped[self.name, "unknown_node"] += 1
            if address not in self._unknown:
                self._unknown.add(address)
                log.warning("%s: node %d is no sensor of ours; its packets are counted and dropped", self.name, address)
            return
        wall, boot = self._port.wall_s, self._port.boot_s
        payload, broken = b"", None
        try:
            payload = unhex(packet["payload"].value)
            if sources[0].authenticated:
                payload = self._unseal(payload, address)
        except FrameError as error:
            if sources[0].authenticated:
                self._refused[address] += 1
                self._drop(f"{self.name}, node {address}", error)
                return
            broken = error
        signal = [packet["rssi"], packet["snr"], *self._proof(sources[0])]
        for source in sources:
            self._judge_duty(source, packet["length"].value)
            if source.period_s:
                self._missed_at[source.key] = boot + _LATE * source.period_s
            try:
                if broken is not None:
                    raise broken
                fields = self._decode(source.driver, source.options, payload)
            except FrameError as error:
                self._drop(source.key, error)
                self._emit(source, wall, boot, signal, error)
            else:
                self._emit(source, wall, boot, [*fields, *signal])

    def _unseal(self, packet: bytes, address: int) -> bytes:
        if self._keys is None:
            raise FrameError("no_key", "this gateway holds no keys")
        return self._keys.unseal(packet, address, self._port.wall_s)

    def _judge_silence(self) -> None:
        wall, boot = self._clock.wall(), self._clock.boot()
        for source in self._sources:
            if boot >= self._missed_at.get(source.key, float("inf")):
                self._missed_at[source.key] = boot + source.period_s
                silence = FrameError("timeout", f"nothing heard from node {source.address}", self._proof(source)[1:])
                self._fail(source, wall, boot, silence)

    def _judge_duty(self, source: Source, size: int) -> None:
        """Tell of a node that is on the air for longer than the law lets it."""
        if self._channel is None or not source.period_s:
            return
        least_s = self._channel.least_period_s(size)
        if source.period_s < least_s:
            self._count(
                source.key,
                "duty_cycle",
                f"{size} bytes every {source.period_s:g} s, expected at least {least_s:.1f}",
            )

    def _proof(self, source: Source) -> tuple[Field, ...]:
        """Health: whether this node's packets are authenticated, and how many were refused."""
        if not source.authenticated:
            return (Field("authenticated", 0, "1"),)
        return Field("authenticated", 1, "1"), Field("refused", self._refused[source.address], "1")


def _shown(line: bytes) -> str:
    return repr(line.decode("latin-1").strip()) if line else "nothing"
