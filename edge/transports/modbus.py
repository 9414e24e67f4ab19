"""Modbus RTU: several devices on one RS485 line, asked by their unit addresses.

pymodbus builds the requests and finds the reply in what comes back; the port stays ours, because its client measures its
time-outs on the wall clock, which may step. It is imported only where there is such a line.
"""

import contextlib
from collections.abc import Sequence

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from common.clock import Clock
from edge.sensors.base import Field, FrameError, ModbusRead
from edge.transports.base import Sink, Source, required
from edge.transports.poll import Polled
from edge.transports.port import Port

_ANY = 0
"""A request that some devices answer whatever their address is, one being alone on the line."""

_REPLY_S = 1.0  # real
_REQUESTS = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}


class ModbusLine(Polled):
    """The one master of a line. A driver's `decode` gets the whole reply, address and CRC included.

    A reply does not say which registers it is of. So where a sensor has several reads and one was not answered in time, the next
    listens on after a reply, and the last that comes counts: the one before it was late.
    """

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._framer = FramerRTU(DecodePDU(False))
        self._late: set[int] = set()
        """Units of several reads whose answer to an earlier one may still come."""
        self._reads = {s.key: required(s.driver.reads, s.driver, "reads")(s.options) for s in self._sources}

    def _ask(self, source: Source) -> list[Field]:
        fields: list[Field] = []
        unit = source.driver.unit(source.options)
        reads = self._reads[source.key]
        for read in reads:
            try:
                reply = self._exchange(unit, read)
            except FrameError:
                if len(reads) > 1:
                    self._late.add(unit)
                raise
            fields += self._decode(source.driver, read.options or source.options, reply)
        return fields

    def _exchange(self, unit: int, read: ModbusRead) -> bytes:
        self._turn_around()
        asked = self._port.boot_s
        request = _REQUESTS[read.function](address=read.register, count=read.count, dev_id=unit)
        self._port.write(self._framer.buildFrame(request))
        buffer = b""
        reply: bytes | None = None
        while self._clock.real(self._clock.boot() - asked) < _REPLY_S and not self._stopped.is_set():
            data = self._read()
            if buffer and not data:
                break
            buffer += data
            while found := self._find(buffer, unit, read.function):
                if unit not in self._late:
                    return found
                reply, buffer = found, buffer.partition(found)[2]
                asked = self._port.boot_s
        if reply is not None:
            self._late.discard(unit)
            return reply
        if not buffer:
            raise FrameError("timeout", f"unit {unit} does not answer within {_REPLY_S:.0f} s")
        if unit not in (_ANY, buffer[0]) or (len(buffer) > 1 and buffer[1] & 0x7F != read.function):
            raise FrameError(
                "header",
                f"reply begins with {buffer[:2].hex().upper()}, expected unit {unit:02X}, function {read.function:02X}",
            )
        return buffer  # no right frame: the driver says what is wrong with it

    def _find(self, buffer: bytes, unit: int, function: int) -> bytes | None:
        """The reply wherever it begins: a line that changes direction likes to put a byte before it."""
        for start in range(len(buffer)):
            if buffer[start] != unit:
                continue
            with contextlib.suppress(ModbusException):
                _, reply = self._framer.handleFrame(buffer[start:], unit, 0)
                if reply is not None and reply.function_code & 0x7F == function:
                    return self._framer.buildFrame(reply)
        return None
