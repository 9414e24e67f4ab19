"""The Things Stack version 3, messages over MQTT: `v3/<application>@<tenant>/devices/<device>/<event>`.

Source: TheThingsIndustries/lorawan-stack-docs: data formats. Protobuf JSON leaves out what is zero, false or empty;
times have nanoseconds. The server's own reading of a payload (`decoded_payload`, `uplink_normalized`) is not taken.
"""

from typing import Any

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

_EVENTS = {
    "uplink_normalized": "normalized",
    "join_accept": "join",
    "downlink_ack": "down/ack",
    "downlink_nack": "down/nack",
    "downlink_sent": "down/sent",
    "downlink_failed": "down/failed",
    "downlink_queued": "down/queued",
    "downlink_queue_invalidated": "down/queue_invalidated",
    "location_solved": "location/solved",
    "service_data": "service/data",
}
_UPLINK = "uplink_message"


def decode(frame: bytes, options: ServerOptions) -> list[Field]:
    """One message -> for an uplink what the codec of the `model` reads, and as health `event`, `device_id`, `dev_eui`,
    `application_id`, `f_port`, `f_cnt`, `time` (RFC 3339, when the server received it), `gateways`, `rssi` in dBm and
    `snr` in dB of the best, `gateway_id`, `payload_hex`. Any other message is a `reply`.

    Raises FrameError: `format` for no JSON, a message of no known kind, or a payload that is no base64; `simulated` for
    an uplink made in the console; `no_data` for one without a payload; and as the codec.
    """
    message = body(frame)
    ids = part(message, "end_device_ids")
    identity = given(
        Field("device_id", text(ids, "device_id"), ""),
        Field("dev_eui", text(ids, "dev_eui").upper(), ""),
        Field("application_id", text(part(ids, "application_ids"), "application_id"), ""),
    )
    if not identity:
        raise FrameError("format", "end_device_ids is absent")
    if _UPLINK in message:
        return _uplink(
            part(message, _UPLINK), [Field("event", "up", ""), *identity], bool(message.get("simulated")), options
        )
    event = next((event for key, event in _EVENTS.items() if key in message), None)
    if event is None:
        raise FrameError("format", f"a message of {', '.join(message)}, expected {_UPLINK} or another kind")
    return [Field("reply", event, ""), Field("event", event, ""), *identity]


def _uplink(message: dict[str, Any], identity: list[Field], simulated: bool, options: ServerOptions) -> list[Field]:
    if simulated or message.get("simulated"):
        raise FrameError("simulated", "an uplink made in the console", tuple(identity))
    data = text(message, "frm_payload")
    if not data:
        raise FrameError("no_data", "no payload in it", tuple(identity))
    payload = unbase64(data)
    gateways = parts(message, "rx_metadata")
    fport = count(message, "f_port")
    ids = part(best(gateways), "gateway_ids")
    lora = "lora" in part(part(message, "settings"), "data_rate")
    side = given(
        *identity,
        Field("f_port", fport or None, "1"),
        Field("f_cnt", count(message, "f_cnt"), "1"),
        Field("time", text(message, "received_at"), ""),
        Field("gateway_id", text(ids, "gateway_id") or text(ids, "eui"), ""),
        *reception(gateways, lora),
    )
    return uplink(side, payload, fport, options)


DRIVER = Driver(
    name="ttn_v3",
    title="The Things Stack v3 messages (MQTT, JSON)",
    link="modem",
    quantities=(),
    options=ServerOptions,
    decode=decode,
    source="TheThingsIndustries/lorawan-stack-docs, data formats",
    sheet=Sheet(
        wiring="None: uplinks come from The Things Stack's MQTT broker, over TLS.",
        limits="Fair use of the community network: 30 s of air time a day and device. What the console simulates "
        "is no reading.",
        faults="Refused login: the user is `application@tenant`, the password an API key that may read uplinks.",
    ),
)
