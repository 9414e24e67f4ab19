"""edge.transports.network_server: a real Mosquitto and real UDP sockets, with the messages of tests/vectors."""

import base64
import json
import logging
import socket
import time
import tomllib
from collections import Counter
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from common.clock import Clock, rfc3339
from edge import config
from edge.errors import ConfigError
from edge.sensors.base import Field, FrameError
from edge.transports.build import build
from edge.transports.network_server import _REMEMBERED, _Seen, heard_at
from tests import servers
from tests.fakes.samples import WAIT_S, Samples

VECTORS = Path(__file__).parent.parent / "vectors"
CLOCK = Clock(trust="always")
EUI = "0101010101010101"
OTHER = "0202020202020202"
LDDS = bytes.fromhex("0D0608B900000001")


class Uplinks(Samples):
    def valued(self, count):
        """The samples with values, as soon as there are so many."""
        return [s for s in self.wait(lambda all_: sum(bool(s.fields) for s in all_) >= count) if s.fields]

    def distances(self):
        return [f.value for s in list(self.all) for f in s.fields if f.name == "water_distance"]


def vector(driver, name):
    found = tomllib.loads((VECTORS / f"{driver}.toml").read_text(encoding="utf-8"))["vector"]
    return next(v["text"] if "text" in v else bytes.fromhex(v["hex"]) for v in found if v["id"] == name)


def uplink(at_s=None, fcnt=1, payload=LDDS, dev_eui=EUI, **more):
    """A ChirpStack event as its JSON marshaler writes it: what is zero is left out."""
    message = {
        "time": rfc3339(CLOCK.wall() if at_s is None else at_s),
        "deviceInfo": {"devEui": dev_eui.lower(), "applicationId": "a"},
        "fPort": 2,
        "data": base64.b64encode(payload).decode(),
        "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -110}, {"gatewayId": "0016c001f153a14d", "rssi": -90}],
        "txInfo": {"modulation": {"lora": {}}},
    }
    return json.dumps(message | ({"fCnt": fcnt} if fcnt else {}) | more)


def level(distance_mm):
    return bytes.fromhex("0D06") + distance_mm.to_bytes(2, "big") + bytes.fromhex("00000001")


def ldds(dev_eui=EUI, **more):
    return {
        "id": f"level-{(dev_eui or 'node')[:2]}",
        "driver": "dragino_ldds",
        "network_server": "ns",
        "dev_eui": dev_eui,
        "options": {"model": "LDDS75"},
        **more,
    }


def settings(server, *sensors):
    station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2, "sensor": list(sensors)}
    gateway = {"id": "gw-1", "data_dir": "/nonexistent"}
    return config.EdgeConfig.model_validate(
        {"gateway": gateway, "network_server": [{"name": "ns"} | server], "station": [station]}
    )


def chirpstack(broker, **more):
    return {"driver": "chirpstack_v4", "url": f"mqtt://127.0.0.1:{broker.port}"} | more


class Server:
    """What a network server is to its broker: someone who publishes with QoS 1."""

    def __init__(self, broker):
        self._broker = broker

    def publish(self, *messages, topic=None):
        client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.connect("127.0.0.1", self._broker.port)
        client.loop_start()
        for message in messages:
            client.publish(topic or f"application/a/device/{EUI}/event/up", message, qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def samples():
    return Uplinks()


@pytest.fixture
def broker(tmp_path):
    with servers.mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def start(samples):
    """Builds and starts the only transport of a configuration; stops it at the end."""
    running = []

    def run(chosen, *, subscribed=True):
        (transport,) = build(chosen, CLOCK, samples)
        transport.start()
        running.append(transport)
        if subscribed:
            servers.wait_until(lambda: is_open(transport), WAIT_S, "open")
        return transport

    yield run
    for transport in running:
        transport.stop()


def is_open(transport):
    port = transport._port
    return getattr(port, "_answer", None) == "taken" or getattr(port, "_socket", None) is not None


def dropped(transport, kind, count=1):
    """Waits until so many are counted."""
    totals = Counter()

    def enough():
        totals.clear()
        for (_, found), number in list(transport.dropped.items()):
            totals[found] += number
        return totals[kind] >= count

    servers.wait_until(enough, WAIT_S, f"{count} {kind}")
    return totals[kind]


# --- MQTT


def test_one_uplink_of_two_gateways_is_one_reading_with_the_better_signal(broker, samples, start):
    start(settings(chirpstack(broker), ldds(EUI.lower())))
    at = round(CLOCK.wall() - 2, 3)
    Server(broker).publish(uplink(at, fcnt=0))
    (sample,) = samples.valued(1)
    assert [(f.name, f.value) for f in sample.fields] == [("water_distance", 2.233), ("battery_voltage", 3.334)]
    side = {f.name: f.value for f in sample.side}
    assert (side["rssi"], side["snr"], side["gateways"]) == (-90, 0.0, 2)
    assert sample.wall_s == pytest.approx(at, abs=0.001)
    assert CLOCK.boot() - sample.boot_s == pytest.approx(CLOCK.wall() - at, abs=0.1)


def test_an_uplink_of_the_things_stack_keeps_the_time_of_its_reception(broker, samples, start):
    sensor = {
        "id": "dust",
        "driver": "decentlab",
        "network_server": "ns",
        "dev_eui": "70B3D57BA0000BCE",
        "options": {"model": "DL-PM"},
    }
    server = {"driver": "ttn_v3", "url": f"mqtt://127.0.0.1:{broker.port}", "username": "app@tenant", "password": "x"}
    start(settings(server, sensor))
    topic = "v3/app@tenant/devices/03022/up"
    Server(broker).publish(vector("ttn_v3", "ttn_v3-011"), topic=topic)
    (sample,) = samples.valued(1)
    assert rfc3339(sample.wall_s) == "2020-02-06T09:46:05.234+00:00"
    assert ("pm2_5", 3.9) in [(f.name, f.value) for f in sample.fields]
    assert {"rssi": -16, "snr": 8.5}.items() <= {f.name: f.value for f in sample.side}.items()


def test_the_same_uplink_again_is_counted_and_a_counter_from_zero_is_new(broker, samples, start):
    transport = start(settings(chirpstack(broker), ldds()))
    now = CLOCK.wall()
    Server(broker).publish(uplink(now, 7), uplink(now, 7), uplink(now + 0.4, 7), uplink(now - 3600, 7))
    Server(broker).publish(uplink(now, 7, level(1500)), uplink(now, 8, level(1600)))
    assert len(samples.valued(4)) == 4
    assert dropped(transport, "duplicate", 2) == 2
    assert samples.distances() == [2.233, 2.233, 1.5, 1.6]


def test_bad_messages_are_counted_by_kind_and_nothing_stops(broker, samples, start):
    transport = start(settings(chirpstack(broker), ldds()))
    server = Server(broker)
    names = ["cut", "a list", "NaN", "version 3", "no device", "chirpstack_v4-023"]
    server.publish(*(vector("chirpstack_v4", name) for name in names), b"", b"\xff" * 2000)
    assert dropped(transport, "format", 8) == 8
    server.publish(vector("chirpstack_v4", "bad CRC"), vector("chirpstack_v4", "chirpstack_v4-024"))
    dropped(transport, "crc_stat")
    dropped(transport, "no_data")
    server.publish(vector("chirpstack_v4", "chirpstack_v4-002"), topic="application/a/device/b/event/status")
    server.publish(uplink(payload=bytes(8)), uplink(fcnt=2))
    assert [s.error and s.error.kind for s in samples.wait(lambda a: any(s.fields for s in a))] == [
        "sensor_missing",
        None,
    ]
    assert transport.dropped["hoyoux/level-01", "sensor_missing"] == 1


def test_an_unknown_device_is_counted_and_said_once(broker, samples, start, caplog):
    transport = start(settings(chirpstack(broker), ldds()))
    Server(broker).publish(*(uplink(fcnt=n, dev_eui=OTHER) for n in range(3)))
    assert dropped(transport, "unknown_device", 3) == 3
    assert sum(OTHER in record.message for record in caplog.records) == 1
    assert samples.all == []


def test_a_strangers_name_is_no_line_of_the_log(broker, samples, start, caplog):
    transport = start(settings(chirpstack(broker), ldds()))
    Server(broker).publish(uplink(dev_eui="a\nERROR\x1b[31m"), uplink(time="b\n\x1b[31m"))
    dropped(transport, "unknown_device")
    samples.wait(lambda all_: bool(all_))
    assert not [r for r in caplog.records if not r.getMessage().isprintable()]


def test_an_uplink_without_time_or_from_the_future_gives_no_value(broker, samples, start):
    start(settings(chirpstack(broker), ldds()))
    server = Server(broker)
    server.publish(uplink(time=None), uplink(CLOCK.wall() + 3600, 2), uplink(fcnt=3, time="1970-01-01T00:00:09Z"))
    server.publish(uplink(CLOCK.wall() + 5, fcnt=4))
    found = samples.wait(lambda a: len(a) == 4)
    assert [s.error and s.error.kind for s in found] == ["format", "inconsistent", "format", None]
    assert found[-1].wall_s <= CLOCK.wall()


def test_an_outage_of_the_broker_heals_and_loses_nothing(broker, samples, start, caplog):
    caplog.set_level(logging.INFO)
    transport = start(settings(chirpstack(broker), ldds(period_s=600)))
    server = Server(broker)
    server.publish(uplink(fcnt=1, payload=level(1001)))
    samples.valued(1)
    broker.kill9()
    samples.wait(lambda a: any(s.error and s.error.kind == "port" for s in a))
    broker.start()
    servers.wait_until(lambda: is_open(transport) and not transport._lost, WAIT_S, "back")
    server.publish(uplink(fcnt=2, payload=level(1002)))
    samples.valued(2)
    said = [r.message for r in caplog.records if "ns is" in r.message]
    assert len(said) == 2
    assert "lost" in said[0]
    assert "back" in said[1]


def test_what_comes_while_this_gateway_is_away_waits_in_the_broker_and_keeps_its_time(broker, samples, start):
    chosen = settings(chirpstack(broker), ldds())
    first = start(chosen)
    Server(broker).publish(uplink(fcnt=1))
    samples.valued(1)
    first.stop()
    began = round(CLOCK.wall() - 7200, 3)
    Server(broker).publish(*(uplink(began + n, 10 + n, level(1000 + n)) for n in range(100)))
    broker.restart()
    start(chosen)
    late = samples.valued(101)[1:]
    assert [round(s.wall_s - began) for s in late] == list(range(100))
    assert all(CLOCK.boot() - s.boot_s > 7000 for s in late)
    assert samples.distances()[1:] == [round((1000 + n) / 1000, 3) for n in range(100)]


def test_an_old_uplink_is_no_sign_of_life(broker, samples, start):
    start(settings(chirpstack(broker), ldds(period_s=1)))
    Server(broker).publish(uplink(CLOCK.wall() - 3600))
    samples.valued(1)
    samples.wait(lambda a: any(s.error and s.error.kind == "timeout" for s in a))


def test_records_that_a_device_kept_have_their_own_time(broker, samples, start):
    sensor = {
        "id": "air",
        "driver": "sensative",
        "network_server": "ns",
        "dev_eui": EUI,
    }
    found = tomllib.loads((VECTORS / "sensative.toml").read_text(encoding="utf-8"))["vector"]
    kept = next(v for v in found if v["id"] == "Strips history")
    start(settings(chirpstack(broker), sensor | {"options": kept.get("options", {})}))
    at = round(CLOCK.wall() - 1, 3)
    Server(broker).publish(uplink(at, payload=bytes.fromhex(kept["hex"])))
    got = samples.valued(2)
    assert [(round(s.wall_s - at), s.fields[0].value) for s in got] == [(-7200, 22.0), (-3600, 21.0)]
    assert [round(got[1].boot_s - got[0].boot_s)] == [3600]


def test_a_refused_password_is_said_and_never_shown(tmp_path, samples, start, caplog):
    with servers.mosquitto(tmp_path, "allow_anonymous false\n") as broker:
        transport = start(
            settings(chirpstack(broker, username="u", password="tres-secret"), ldds()),  # noqa: S106
            subscribed=False,
        )
        servers.wait_until(lambda: transport._lost, WAIT_S, "refused")
    assert "refuses: Not authorized" in caplog.text
    assert "tres-secret" not in caplog.text


# --- UDP


@pytest.fixture
def forwarder(samples, start):
    """A packet forwarder's socket and the transport that it speaks to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = {"driver": "semtech_udp", "url": f"udp://127.0.0.1:{port}"}
    transport = start(settings(server, ldds(None, options={"model": "LDDS75", "fport": 2})))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(5)
        yield sock, transport


def push(*packets, token=b"\x12\x34"):
    body = {"rxpk": [{"stat": 1, "rssi": -80, "lsnr": 7.5, "modu": "LORA", "datr": "SF7BW125"} | p for p in packets]}
    return b"\x02" + token + b"\x00" + bytes.fromhex("A84041FFFF123456") + json.dumps(body).encode()


def packet(payload, **more):
    return {"data": base64.b64encode(payload).decode(), "size": len(payload)} | more


def test_a_forwarder_gets_its_answers_and_nothing_else(forwarder):
    sock, transport = forwarder
    sock.send(vector("semtech_udp", "semtech_udp-022"))
    assert sock.recv(100).hex() == "02a1b201"
    sock.send(bytes.fromhex("02BEEF02A84041FFFF123456"))
    assert sock.recv(100).hex() == "02beef04"
    sock.send(bytes.fromhex("01000100A84041FFFF123456") + b"{")  # its JSON is cut, it was received all the same
    assert sock.recv(100).hex() == "01000101"
    assert dropped(transport, "format") == 1
    for junk in (b"", b"\x02", b"\x03\x00\x00\x00" + bytes(8), bytes.fromhex("02000001"), b"{" * 60_000):
        sock.send(junk)
    sock.send(push(token=b"ZZ"))
    assert sock.recv(100) == b"\x02ZZ\x01"


def test_a_packet_of_several_gateways_is_one_reading(forwarder, samples):
    sock, transport = forwarder
    sock.send(push(packet(LDDS, rssi=-100), packet(LDDS, rssi=-70)))
    sock.send(push(packet(LDDS, rssi=-60)))
    assert dropped(transport, "duplicate") == 1
    sock.send(push(packet(level(1500))))
    one, two = samples.valued(2)
    assert [(f.name, f.value) for f in one.side] == [("rssi", -70), ("snr", 7.5)]
    assert [s.fields[0].value for s in (one, two)] == [2.233, 1.5]


def test_packets_of_strangers_give_no_sample(forwarder, samples):
    sock, transport = forwarder
    sock.send(push(packet(b"\x40" + bytes(20)), packet(LDDS, stat=0), packet(b"hello")))
    dropped(transport, "lorawan")
    dropped(transport, "crc_stat")
    servers.wait_until(lambda: transport.dropped["hoyoux/level-no", "length"], WAIT_S, "the codec's error")
    sock.send(push(packet(LDDS)))
    assert [s.error for s in samples.wait(lambda a: a)] == [None]


# --- pure


def told(**times):
    return {name: Field(name, text, "") for name, text in times.items()}


def test_the_earliest_time_counts_and_a_clock_that_was_never_set_does_not():
    now = 1_790_000_000.0
    assert heard_at(told(time=rfc3339(now - 5), gateway_time=rfc3339(now - 7200)), now) == now - 7200
    assert heard_at(told(time=rfc3339(now - 5), gateway_time="1980-01-06T00:00:00Z"), now) == now - 5
    assert heard_at(told(time=rfc3339(now - 5), gateway_time=rfc3339(now + 9000)), now) == now - 5
    assert heard_at(told(time="2026-01-01T00:00:00.123456789Z"), now) < now


@given(
    st.dictionaries(
        st.sampled_from(["time", "gateway_time"]), st.text() | st.datetimes().map(lambda d: f"{d.isoformat()}Z")
    )
)
def test_no_uplink_is_later_than_its_arrival(times):
    now = time.time()
    try:
        found = heard_at(told(**times), now)
    except FrameError:
        return
    assert found <= now


def test_what_is_remembered_is_bounded():
    seen = _Seen()
    for n in range(3 * _REMEMBERED):
        assert not seen.again(n, 0.0, 1.0)
    assert len(seen._at) == _REMEMBERED
    assert seen.again(3 * _REMEMBERED - 1, 0.5, 1.0)


# --- configuration


@pytest.mark.parametrize(
    ("server", "sensor", "said"),
    [
        ({"url": "http://h:1"}, {}, "mqtt://host:port"),
        ({"url": "mqtt://h:99999"}, {}, "mqtt://host:port"),
        ({"url": "mqtt://u:p@h"}, {}, "keys of their own"),
        ({"url": "udp://0.0.0.0:1700"}, {}, "udp is not for chirpstack_v4"),
        ({"tls": {}}, {}, "only with mqtts"),
        ({"url": "mqtts://h", "tls": {"cert": "/c"}}, {}, "cert and key together"),
        ({"driver": "chirpstack_v3"}, {}, "driver"),
        ({}, {"dev_eui": "01010101010101"}, "dev_eui"),
        ({}, {"dev_eui": None}, "dev_eui: found none"),
        ({}, {"network_server": "sn"}, "'sn' is unknown"),
        ({}, {"port": "/dev/null"}, "either port, modem or network_server"),
        ({"driver": "semtech_udp", "url": "udp://127.0.0.1"}, {}, "expected none with semtech_udp"),
    ],
)
def test_a_fault_is_named(server, sensor, said):
    with pytest.raises(ValueError, match=said):
        settings({"driver": "chirpstack_v4", "url": "mqtt://h"} | server, ldds() | sensor)


def test_a_driver_that_is_no_codec_is_refused(samples):
    chosen = settings({"driver": "chirpstack_v4", "url": "mqtt://h"}, ldds(driver="sds011", options={}))
    with pytest.raises(ConfigError, match="expected one for payload"):
        build(chosen, CLOCK, samples)


def test_default_topics():
    def topic(**server):
        return config.NetworkServer.model_validate({"name": "ns", "url": "mqtt://h"} | server).subscription

    assert topic(driver="chirpstack_v4") == "application/+/device/+/event/up"
    assert topic(driver="ttn_v3", username="a@t") == "v3/a@t/devices/+/up"
    assert topic(driver="ttn_v3", topic="x/#") == "x/#"
