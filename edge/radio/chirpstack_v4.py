"""ChirpStack version 4, events over MQTT (JSON marshaler): `application/<id>/device/<DevEUI>/event/<event>`.

Source: chirpstack/chirpstack-docs: integrations/events.md. Protobuf JSON leaves out what is zero, false or empty. The
`time` of an uplink is the server's reading of the gateway's clock; `gateway_time` is what the best gateway says.
"""

import re

from edge.radio._network_server import (
    ServerOptions,
    best,
    body,
    count,
    given,
    part,
    parts,
    reception,
    text,
    unbase64,
    uplink,
)
from edge.sensors.base import Driver, Field, FrameError, Sheet

_TOPIC = re.compile(r"application/[^/]+/device/[^/]+/event/([a-z]+)\Z")
_UP, _UNKNOWN = "up", "unknown"


def decode(frame: bytes, options: ServerOptions) -> list[Field]:
    """One event -> for an uplink what the codec of the `model` reads, and as health `event`, `dev_eui`, `device_name`,
    `application_id`, `f_port`, `f_cnt`, `time` and `gateway_time` (RFC 3339, as sent), `gateways`, `rssi` in dBm and
    `snr` in dB of the best, `gateway_id`, `payload_hex`. Any other event is a `reply`. Without a topic only an uplink
    is recognised.

    Raises FrameError: `format` for no JSON, ChirpStack version 3, or a payload that is no base64; `no_data` for an
    uplink without a payload; `crc_stat` when no gateway heard it right; and as the codec.
    """
    message = body(frame)
    if "applicationID" in message or "devEUI" in message:
        raise FrameError("format", "an event of ChirpStack version 3, expected version 4")
    device = part(message, "deviceInfo")
    if not text(device, "devEui"):
        raise FrameError("format", "deviceInfo.devEui is absent")
    event = _event(options.topic, message)
    identity = given(
        Field("event", event, ""),
        Field("dev_eui", text(device, "devEui").upper(), ""),
        Field("device_name", text(device, "deviceName"), ""),
        Field("application_id", text(device, "applicationId"), ""),
    )
    if event not in (_UP, _UNKNOWN):
        return [Field("reply", event, ""), *identity]
    data = text(message, "data")
    if not data:
        raise FrameError("no_data", "no payload in it", tuple(identity))
    payload = unbase64(data)
    heard = parts(message, "rxInfo")
    gateways = [gateway for gateway in heard if text(gateway, "crcStatus") not in ("BAD_CRC", "NO_CRC")]
    if heard and not gateways:
        raise FrameError("crc_stat", "no gateway received it with a good CRC", tuple(identity))
    fport = count(message, "fPort")
    lora = "lora" in part(part(message, "txInfo"), "modulation")
    first = best(gateways)
    side = given(
        *identity,
        Field("f_port", fport or None, "1"),
        Field("f_cnt", count(message, "fCnt"), "1"),
        Field("time", text(message, "time"), ""),
        Field("gateway_time", text(first, "gwTime") or text(first, "time"), ""),
        Field("gateway_id", text(first, "gatewayId").upper(), ""),
        *reception(gateways, lora),
    )
    return uplink(side, payload, fport, options)


def _event(topic: str, message: dict[str, object]) -> str:
    if topic:
        named = _TOPIC.search(topic)
        if named is None:
            raise FrameError("format", f"topic {topic!r}, expected application/<id>/device/<DevEUI>/event/<event>")
        return named[1]
    return _UP if message.get("data") else _UNKNOWN


DRIVER = Driver(
    name="chirpstack_v4",
    title="ChirpStack v4 events (MQTT, JSON)",
    link="modem",
    quantities=(),
    options=ServerOptions,
    decode=decode,
    source="chirpstack/chirpstack-docs, integrations/events.md",
    sheet=Sheet(
        wiring="None: uplinks come from ChirpStack's MQTT broker.",
        limits="Version 4, JSON marshaler. One reading for an uplink that several gateways heard. An uplink "
        "without a time is refused.",
        faults="Nothing comes: protobuf is set instead of JSON, or the topic is another. Payloads of version 3 "
        "are refused.",
    ),
)
