"""LoRaWAN in: a network server's uplinks over MQTT (ChirpStack, The Things Stack), or a packet forwarder's over UDP.

Sources: OASIS, MQTT 3.1.1 (sessions: section 3.1.2.4); Lora-net/packet_forwarder: PROTOCOL.TXT.
"""

import logging
import socket
import ssl
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from common.clock import Clock, from_rfc3339
from edge import config, drivers
from edge.errors import PortError
from edge.radio.semtech_udp import acknowledgement
from edge.sensors.base import COMMUNICATION_KINDS, Driver, Field, FrameError
from edge.transports.base import Sink, Source, Transport, is_reply, printable
from edge.transports.port import READ_TIMEOUT_S, Port
from edge.transports.silence import Silence
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

_ANSWER_S = 5.0  # real
_KEEPALIVE_S = 20
_CLOCK_S = 120.0
"""So long uplinks are left with the broker while this machine's clock is not set: their age is not known before."""
_AHEAD_S = 60.0
"""Clocks that are set may differ by less than this."""
_NO_CLOCK_S = 1_577_836_800.0
"""2020-01-01: an earlier time is that of a clock which was never set (1970, GPS's 1980, year 1)."""
_AGAIN_S = 600.0
"""One counter value and payload within this is one uplink. A device that joins anew counts from 0 again."""
_SAME_PACKET_S = 2.0
_REMEMBERED = 4096
_STALE_S = 1.0
_DATAGRAM_BYTES = 65_535
_LORAWAN_DATA = (0x40, 0x80)
_LORAWAN_BYTES = 12


class MqttPort(Port):
    """A subscription with a session that the broker keeps (clean session false, QoS 1): what comes during an outage waits
    there. `read` gives one message, `topic` says where it came from; it is acknowledged when the next one is asked for."""

    def __init__(self, client_id: str, settings: config.NetworkServer, clock: Clock) -> None:
        super().__init__(settings.url, 0, clock)
        self.topic = ""
        self._client_id = client_id
        self._settings = settings
        self._client: paho.Client | None = None
        self._waiting: deque[paho.MQTTMessage] = deque()
        self._handed: paho.MQTTMessage | None = None
        self._answer = ""

    def open(self) -> None:
        """Returns when the broker has taken the subscription. Raises PortError."""
        where = urlsplit(self.url)
        self._answer, self._handed = "", None
        self._waiting.clear()
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = _ANSWER_S
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _data, message: self._waiting.append(message)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._settings.password)
        try:
            if where.scheme == "mqtts":
                client.tls_set_context(_tls_context(self._settings.tls))
            client.connect(where.hostname or "", where.port or 0, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as e:
            raise PortError(f"{self.url} cannot be reached: {e}") from e
        asked = self._clock.boot()
        while not self._answer:
            if self._clock.real(self._clock.boot() - asked) > _ANSWER_S:
                raise PortError(f"{self.url} does not answer")
            self._loop()
        if self._answer != "taken":
            raise PortError(f"{self.url} refuses: {self._answer}")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(OSError, ValueError):
                client.disconnect()

    def read(self) -> bytes:
        """One payload, empty after READ_TIMEOUT_S without any. Raises PortError when the broker is lost."""
        if self._handed is not None and self._client is not None:
            self._client.ack(self._handed.mid, self._handed.qos)
            self._handed = None
        if not self._waiting:
            self._loop()
        self.wall_s, self.boot_s = self._clock.wall(), self._clock.boot()
        if not self._waiting:
            return b""
        self._handed = self._waiting.popleft()
        self.topic = self._handed.topic
        return bytes(self._handed.payload) or b"\0"  # nothing is no JSON either, and is counted as such

    def _loop(self) -> None:
        if self._client is None:
            raise PortError(f"{self.url} is not open")
        code = self._client.loop(READ_TIMEOUT_S)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and self._answer in ("", "taken"):
            raise PortError(f"{self.url} is gone: {paho.error_string(code)}")

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._answer = str(reason)
        else:
            client.subscribe(self._settings.subscription, qos=1)

    def _on_subscribe(self, _client: paho.Client, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        self._answer = f"topic {self._settings.subscription}: {refused[0]}" if refused else "taken"
        if not refused and reasons[0].value == 0:
            log.warning("%s grants QoS 0 only: it does not keep uplinks during an outage", self.url)


class UdpPort(Port):
    """Datagrams of any sender; `write` answers the last one."""

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url, 0, clock)
        self._socket: socket.socket | None = None
        self._sender: Any = None

    def open(self) -> None:
        where = urlsplit(self.url)
        host = where.hostname or ""
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            opened.bind((host, where.port or 0))
        except OSError as e:
            opened.close()
            raise PortError(f"{self.url} cannot be opened: {e.strerror}") from e
        opened.settimeout(READ_TIMEOUT_S)
        self._socket = opened
        self.boot_s = self._clock.boot()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def read(self) -> bytes:
        """One datagram, empty after READ_TIMEOUT_S without any. Raises PortError; FrameError `gap` as a serial port."""
        try:
            data, self._sender = self._opened_socket().recvfrom(_DATAGRAM_BYTES)
        except TimeoutError:
            data = b""
        except OSError as e:
            raise PortError(f"{self.url} cannot be read: {e.strerror}") from e
        last, self.wall_s, self.boot_s = self.boot_s, self._clock.wall(), self._clock.boot()
        stalled = self._clock.real(self.boot_s - last)
        if data and stalled > _STALE_S:
            self.discard()
            raise FrameError("gap", f"the gateway did not read for {stalled:.1f} s; what came meanwhile is thrown away")
        return data

    def write(self, data: bytes) -> None:
        # An answer that cannot leave is one that was lost on its way: the forwarder counts it.
        with suppress(OSError):
            self._opened_socket().sendto(data, self._sender)

    def discard(self) -> None:
        opened = self._opened_socket()
        opened.setblocking(False)
        with suppress(OSError):
            while True:
                opened.recv(_DATAGRAM_BYTES)
        opened.settimeout(READ_TIMEOUT_S)
        self.boot_s = self._clock.boot()

    def _opened_socket(self) -> socket.socket:
        if self._socket is None:
            raise PortError(f"{self.url} is not open")
        return self._socket


class _Radio(Transport):
    """What both ways in share: from a payload to the Samples of its sensors, and who is silent for too long."""

    def __init__(
        self, name: str, port: Port, driver: Driver, sources: Sequence[Source], clock: Clock, sink: Sink
    ) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._driver = driver
        self._silence = Silence(self._sources)
        self._seen = _Seen()

    @abstractmethod
    def _take(self, frame: bytes) -> None:
        """One message or datagram, just read."""

    def _serve(self) -> None:
        if self._lost:  # a quiet network is no lost one
            self._lost = False
            log.info("%s is back", self.name)
        self._silence.listen(self._clock.boot())
        while not self._stopped.is_set():
            try:
                frame = self._port.read()
                if frame:
                    self._take(frame)
            except FrameError as error:
                self._drop(self.name, error)
            except PortError:
                raise
            except Exception:
                # The broker would deliver it again: it costs itself and nothing else.
                log.exception("%s: an uplink failed by a fault of this program", self.name)
                self.dropped[self.name, "fault"] += 1
            self._judge_silence()

    def _deliver(
        self, source: Source, payload: bytes, fport: int | None, wall_s: float, boot_s: float, signal: Sequence[Field]
    ) -> None:
        """Hand over what a payload says, older records first; `signal` is its sensor's health."""
        self._silence.heard(source, boot_s)
        options = source.options
        if fport is not None and "fport" in type(options).model_fields and options.fport is None:
            options = options.model_copy(update={"fport": fport})
        try:
            fields = self._decode(source.driver, options, payload)
        except FrameError as error:
            self._drop(source.key, error)
            if source.dev_eui is not None or error.kind not in COMMUNICATION_KINDS:
                self._emit(source, wall_s, boot_s, signal, error)
            return
        for at_s, old in self._history(source, fields, wall_s):
            self._emit(source, at_s, boot_s - (wall_s - at_s), old)
        self._emit(source, wall_s, boot_s, [*(f for f in fields if f.name != "history"), *signal])

    def _history(self, source: Source, fields: Sequence[Field], wall_s: float) -> Iterator[tuple[float, list[Field]]]:
        """The records that a device kept, each with its own time; one without a believable time is counted."""
        records = [record for field in fields if field.name == "history" for record in field.value]
        timed = [(float(r["timestamp"]) if "timestamp" in r else wall_s - r["age_s"], r) for r in records]
        for at_s, record in sorted(timed, key=lambda pair: pair[0]):
            if not _NO_CLOCK_S <= at_s <= wall_s + _AHEAD_S:
                self._drop(source.key, FrameError("inconsistent", f"a record of Unix time {at_s:.0f}"))
                continue
            known = [
                Field(name, value, QUANTITIES[name].unit)
                for name, value in record.items()
                if name in QUANTITIES and name in source.driver.quantities
            ]
            if known:
                yield min(at_s, wall_s), known

    def _judge_silence(self) -> None:
        wall, boot = self._clock.wall(), self._clock.boot()
        for source in self._silence.missed(boot):
            who = f"device {source.dev_eui}" if source.dev_eui else "its node"
            self._fail(source, wall, boot, FrameError("timeout", f"nothing heard from {who}"))


class NetworkServer(_Radio):
    """Each uplink of a device is a Sample of the sensors with its DevEUI, at the time at which a gateway heard it: late ones
    keep theirs. RSSI and SNR of the best gateway, and how many heard it, are health. `period_s` as behind a modem."""

    def __init__(
        self, name: str, port: MqttPort, driver: Driver, sources: Sequence[Source], clock: Clock, sink: Sink
    ) -> None:
        super().__init__(name, port, driver, sources, clock, sink)
        self._messages = port
        self._unknown: set[str] = set()

    def _run(self) -> None:
        due = self._clock.boot() + _CLOCK_S
        if not self._clock.synchronised():
            log.info("%s: uplinks stay there until this clock is set, at most %.0f s", self.name, _CLOCK_S)
        while not (self._clock.synchronised() or self._clock.boot() >= due):
            if self._clock.wait(self._stopped, 1.0):
                return
        super()._run()

    def _take(self, frame: bytes) -> None:
        options = drivers.options(self._driver, {"topic": self._messages.topic})
        try:
            fields = self._decode(self._driver, options, frame)
        except FrameError as error:
            self._drop(self._key(error.fields), error)
            return
        if is_reply(fields):
            return
        told = {field.name: field for field in fields}
        dev_eui = told["dev_eui"].value if "dev_eui" in told else "without DevEUI"
        sources = [source for source in self._sources if source.dev_eui == dev_eui]
        if not sources:
            self._note_unknown(dev_eui)
            return
        wall, boot = self._port.wall_s, self._port.boot_s
        try:
            at_s = heard_at(told, wall)
        except FrameError as error:
            for source in sources:
                self._fail(source, wall, boot, error)
            return
        payload = bytes.fromhex(told["payload_hex"].value)
        if self._seen.again((dev_eui, told["f_cnt"].value, payload), at_s, _AGAIN_S):
            self.dropped[self.name, "duplicate"] += 1
            return
        signal = [told[name] for name in ("rssi", "snr", "gateways") if name in told]
        fport = told["f_port"].value if "f_port" in told else None
        for source in sources:
            self._deliver(source, payload, fport, at_s, boot - (wall - at_s), signal)

    def _key(self, fields: Sequence[Field]) -> str:
        """Who a message that gives no value is counted for: its sensor, when it says which."""
        said = {field.value for field in fields if field.name == "dev_eui"}
        return next((source.key for source in self._sources if source.dev_eui in said), self.name)

    def _note_unknown(self, dev_eui: str) -> None:
        self.dropped[self.name, "unknown_device"] += 1
        if dev_eui not in self._unknown and len(self._unknown) < _REMEMBERED:
            self._unknown.add(dev_eui)
            log.warning(
                "%s: device %s is no sensor of ours; its uplinks are counted and dropped",
                self.name,
                printable(dev_eui[:40]),
            )


class PacketForwarder(_Radio):
    """Packets of point-to-point nodes, as a gateway's forwarder hands them over. Nothing in them says who sent: each packet
    goes to every sensor here, and its codec decides. Frames that look like a LoRaWAN device's (encrypted) are only counted.

    The protocol has no authentication: whoever reaches the address is believed, so it belongs on the loopback interface.
    """

    def _take(self, frame: bytes) -> None:
        answer = acknowledgement(frame)
        if answer:
            self._port.write(answer)
        told = {field.name: field.value for field in self._decode(self._driver, self._driver.options(), frame)}
        if bad := told.get("crc_bad"):
            self.dropped[self.name, "crc_stat"] += bad
        packets = sorted(told.get("packets", []), key=lambda packet: (packet["payload_hex"], -packet.get("rssi", -999)))
        for payload_hex, heard in groupby(packets, key=lambda packet: packet["payload_hex"]):
            self._packet(bytes.fromhex(payload_hex), next(heard))

    def _packet(self, payload: bytes, best: Mapping[str, Any]) -> None:
        if not best["crc_ok"]:
            self._drop(self.name, FrameError("crc_stat", "a packet without CRC"))
        elif payload[:1] and payload[0] in _LORAWAN_DATA and len(payload) >= _LORAWAN_BYTES:
            self.dropped[self.name, "lorawan"] += 1
        elif self._seen.again(payload, self._port.boot_s, _SAME_PACKET_S):
            self.dropped[self.name, "duplicate"] += 1
        else:
            units = {"rssi": "dBm", "snr": "dB"}
            signal = [Field(name, best[name], unit) for name, unit in units.items() if name in best]
            for source in self._sources:
                self._deliver(source, payload, None, self._port.wall_s, self._port.boot_s, signal)


class _Seen:
    """The last uplinks, bounded: a broker delivers again after a reconnect, and gateways hear one packet each."""

    def __init__(self) -> None:
        self._at: OrderedDict[Hashable, float] = OrderedDict()

    def again(self, key: Hashable, at_s: float, within_s: float) -> bool:
        """Whether this one came before, at a time closer than `within_s`; it is remembered."""
        last = self._at.pop(key, float("-inf"))
        self._at[key] = max(at_s, last)
        if len(self._at) > _REMEMBERED:
            self._at.popitem(last=False)
        return abs(at_s - last) < within_s


def heard_at(told: Mapping[str, Field], arrived_s: float) -> float:
    """When an uplink was heard, Unix seconds: the earliest that server (`time`) and gateway (`gateway_time`) say, never later
    than its arrival here.

    Raises FrameError: `format` when neither says one, since what waited in a broker may be of any age; `inconsistent` when
    all lie ahead of this machine's clock.
    """
    said = [told[name].value for name in ("time", "gateway_time") if name in told]
    times = [at_s for text in said if (at_s := _moment(text)) is not None]
    if not times:
        raise FrameError("format", f"no time of reception (found {', '.join(said)[:80] or 'none'})")
    believed = [at_s for at_s in times if at_s <= arrived_s + _AHEAD_S]
    if not believed:
        raise FrameError("inconsistent", f"heard {min(times) - arrived_s:.0f} s ahead of this gateway's clock")
    return min(*believed, arrived_s)


def _moment(text: str) -> float | None:
    try:
        at_s = from_rfc3339(text)
    except (ValueError, OverflowError):
        return None
    return at_s if at_s >= _NO_CLOCK_S else None


def _tls_context(tls: config.ServerTls | None) -> ssl.SSLContext:
    """Raises OSError or ValueError, naming what cannot be used."""
    if tls is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=tls.ca and str(tls.ca))
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key, password="")
    except (OSError, ValueError) as e:
        raise ValueError(f"tls of {', '.join(str(path) for path in (tls.ca, tls.cert, tls.key) if path)}: {e}") from e
    return context
