"""Sealed packets: the codec, and the gateway's keys and counters through kills, damage and rekeying."""

import logging
import os
import sqlite3
import stat

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.clock import Clock
from edge import config
from edge.emulators.ebyte_e22 import EbyteE22
from edge.emulators.log import DeviceLog
from edge.emulators.lora import LoraNode
from edge.emulators.rak3172 import Rak3172
from edge.emulators.rn2483 import Rn2483
from edge.emulators.rylr998 import Rylr896, Rylr998
from edge.errors import ConfigError
from edge.nodes import COUNTERS, KEY_FILE, NodeKeys, NodeKeysUnusable, issue_key, key_id, read_heard, read_keys
from edge.radio._secured import LAST_COUNTER, OVERHEAD_BYTES, Header, header, seal, unseal
from edge.sensors.base import FrameError
from edge.transports.build import build
from tests.fakes.samples import Samples

keys = st.binary(min_size=16, max_size=16)
nodes = st.integers(0, 0xFFFF)
counters = st.integers(1, LAST_COUNTER)
payloads = st.binary(max_size=105)

KEY = bytes(range(16))


def refused(call):
    with pytest.raises(FrameError) as caught:
        call()
    return caught.value.kind


# --- the codec


@given(keys, nodes, counters, payloads)
def test_what_is_sealed_is_unsealed(key, node, counter, payload):
    packet = seal(key, node, counter, payload)
    assert len(packet) == len(payload) + OVERHEAD_BYTES
    assert header(packet) == Header(node, counter)
    assert unseal(key, packet) == payload


@given(keys, nodes, counters, payloads, st.data())
def test_any_flipped_bit_is_refused(key, node, counter, payload, data):
    packet = bytearray(seal(key, node, counter, payload))
    bit = data.draw(st.integers(0, 8 * len(packet) - 1))
    packet[bit // 8] ^= 1 << bit % 8
    assert refused(lambda: unseal(key, bytes(packet))) == ("unauthenticated" if bit < 8 else "forged")


def test_every_flipped_bit_of_a_packet_is_refused():
    packet = seal(KEY, 12, 1000, bytes.fromhex("0182000004D2"))
    for bit in range(8, 8 * len(packet)):
        bad = bytearray(packet)
        bad[bit // 8] ^= 1 << bit % 8
        assert refused(lambda bad=bytes(bad): unseal(KEY, bad)) == "forged"


@given(st.binary(max_size=120))
def test_anything_else_is_no_packet(data):
    assert refused(lambda: unseal(KEY, data)) in ("unauthenticated", "forged")


@given(keys, keys, nodes, counters, payloads)
def test_another_key_is_refused(key, other, node, counter, payload):
    if key != other:
        assert refused(lambda: unseal(other, seal(key, node, counter, payload))) == "forged"


@given(nodes, counters, nodes, counters)
def test_no_two_packets_share_a_nonce(node, counter, other_node, other_counter):
    """The stream that enciphers is the payload's of zeros: the same nonce would give the same."""
    if (node, counter) != (other_node, other_counter):
        assert seal(KEY, node, counter, bytes(16))[7:23] != seal(KEY, other_node, other_counter, bytes(16))[7:23]


def test_a_packet_byte_for_byte():
    """As NIST SP 800-38C by another caller of the cipher: nonce and associated data spelt out."""
    nonce = bytes.fromhex("01 000C 000003E8 000000000000")
    sealed = AESCCM(KEY, tag_length=8).encrypt(nonce, bytes.fromhex("0182000004D2"), bytes.fromhex("01 000C 000003E8"))
    assert seal(KEY, 12, 1000, bytes.fromhex("0182000004D2")) == bytes.fromhex("01000C000003E8") + sealed
    assert len(sealed) == 6 + 8


@pytest.mark.parametrize(("key", "node", "counter"), [(KEY, 1, 0), (KEY, 1, 2**32), (KEY, 65536, 1), (b"short", 1, 1)])
def test_what_cannot_be_sealed(key, node, counter):
    with pytest.raises(ValueError, match="expected"):
        seal(key, node, counter, b"")


# --- the gateway's keys and counters


@pytest.fixture
def gateway(tmp_path):
    """Opens keys of a data directory; the one before is dropped as a kill would, without closing."""

    def opened(*nodes):
        keys = NodeKeys(tmp_path)
        keys.open(nodes)
        return keys

    return opened


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.data())
def test_a_counter_is_accepted_when_it_is_higher_and_never_else(tmp_path_factory, sent, data):
    """Any order, any loss, any repetition, and the gateway dies anywhere between."""
    folder = tmp_path_factory.mktemp("data")
    key = issue_key(folder, 7)
    gateway = NodeKeys(folder)
    gateway.open([7])
    last = 0
    for counter in sent:
        if data.draw(st.booleans()):
            gateway = NodeKeys(folder)
            gateway.open([7])
        packet = seal(key, 7, counter, b"\x01\x68\x50")
        if counter > last:
            assert gateway.unseal(packet, 7, 1000.0) == (7, b"\x01\x68\x50")
            last = counter
        else:
            assert refused(lambda packet=packet, gateway=gateway: gateway.unseal(packet, 7, 1000.0)) == "replay"
    assert read_heard(folder)[7, key_id(key)].counter == last


def test_a_node_speaks_for_itself_only(gateway, tmp_path):
    key = issue_key(tmp_path, 7)
    issue_key(tmp_path, 8)
    keys = gateway(7, 8)
    assert refused(lambda: keys.unseal(seal(key, 7, 1, b""), 8, 0.0)) == "forged"  # the modem heard another address
    assert refused(lambda: keys.unseal(seal(key, 8, 1, b""), 8, 0.0)) == "forged"  # under the key of node 7
    assert refused(lambda: keys.unseal(seal(key, 9, 1, b""), None, 0.0)) == "no_key"
    assert keys.unseal(seal(key, 7, 1, b"x"), None, 0.0) == (7, b"x")  # a modem that knows no senders


def test_a_forgery_with_a_high_counter_locks_nobody_out(gateway, tmp_path):
    key = issue_key(tmp_path, 7)
    keys = gateway(7)
    assert refused(lambda: keys.unseal(seal(KEY, 7, LAST_COUNTER, b""), 7, 0.0)) == "forged"
    assert keys.unseal(seal(key, 7, 1, b"x"), 7, 0.0) == (7, b"x")


def test_rekeying(gateway, tmp_path, caplog):
    old = issue_key(tmp_path, 7)
    keys = gateway(7)
    keys.unseal(seal(old, 7, 500, b""), 7, 0.0)
    lost = issue_key(tmp_path, 7)  # its node file was lost, so once more
    new = issue_key(tmp_path, 7)
    assert keys.unseal(seal(old, 7, 501, b"x"), 7, 0.0) == (7, b"x")  # until the node is flashed
    assert keys.unseal(seal(new, 7, 1, b"y"), 7, 0.0) == (7, b"y")  # a new key may count from 1 again
    assert read_keys(tmp_path) == {7: (new,)}
    assert refused(lambda: keys.unseal(seal(old, 7, 502, b""), 7, 0.0)) == "forged"
    assert refused(lambda: keys.unseal(seal(lost, 7, 2, b""), 7, 0.0)) == "forged"
    assert refused(lambda: keys.unseal(seal(new, 7, 1, b""), 7, 0.0)) == "replay"
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    for key in (old, lost, new):
        assert key.hex() not in caplog.text.lower()


def test_a_key_file_that_cannot_be_read(gateway, tmp_path, caplog):
    key = issue_key(tmp_path, 7)
    keys = gateway(7)
    secret = key.hex()
    (tmp_path / KEY_FILE).write_text(f'{{"7": ["{secret}')
    assert keys.unseal(seal(key, 7, 1, b"x"), 7, 0.0) == (7, b"x")  # as it was
    assert "keys of nodes stay as they were" in caplog.text
    with pytest.raises(NodeKeysUnusable):
        issue_key(tmp_path, 8)  # writes over nothing that it cannot read
    assert refused(lambda: gateway(7).unseal(seal(key, 7, 2, b"x"), 7, 0.0)) == "no_key"
    assert "radio rekey 7" in caplog.text
    (tmp_path / KEY_FILE).write_text(f'{{"7": ["{secret}"]}}')
    (tmp_path / KEY_FILE).chmod(0o644)
    caplog.clear()
    assert gateway(7).unseal(seal(key, 7, 2, b"x"), 7, 0.0) == (7, b"x")
    assert "mode is 0644, expected 0600" in caplog.text
    assert secret not in caplog.text


def test_damaged_counters_begin_anew_and_say_so(gateway, tmp_path, caplog):
    key = issue_key(tmp_path, 7)
    gateway(7).unseal(seal(key, 7, 5, b""), 7, 0.0)
    (tmp_path / COUNTERS).write_bytes(os.urandom(8192))
    keys = gateway(7)
    assert "each node's next packet counts as new" in caplog.text
    assert keys.unseal(seal(key, 7, 6, b"x"), 7, 0.0) == (7, b"x")
    assert refused(lambda: keys.unseal(seal(key, 7, 6, b"x"), 7, 0.0)) == "replay"


def test_a_disk_that_takes_nothing_silences_no_node(gateway, tmp_path, caplog):
    """Another program holds the file, which refuses every write as a full or read-only disk does."""
    caplog.set_level(logging.INFO)
    key = issue_key(tmp_path, 7)
    keys = gateway(7)
    keys.unseal(seal(key, 7, 1, b""), 7, 0.0)
    other = sqlite3.connect(tmp_path / COUNTERS, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert keys.unseal(seal(key, 7, 2, b"x"), 7, 0.0) == (7, b"x")
    assert refused(lambda: keys.unseal(seal(key, 7, 2, b"x"), 7, 0.0)) == "replay"
    assert "held in memory" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    keys.unseal(seal(key, 7, 3, b"x"), 7, 0.0)
    assert "written again" in caplog.text
    assert read_heard(tmp_path)[7, key_id(key)].counter == 3


def test_two_modems_do_not_undo_each_other(gateway, tmp_path):
    """Each has opened the counters, and writes all that it knows after a fault."""
    first, second = issue_key(tmp_path, 7), issue_key(tmp_path, 8)
    one, two = gateway(7), gateway(8)
    one.unseal(seal(first, 7, 9, b""), 7, 0.0)
    stale = gateway(8)
    one.unseal(seal(first, 7, 10, b""), 7, 0.0)
    other = sqlite3.connect(tmp_path / COUNTERS, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    stale.unseal(seal(second, 8, 1, b""), 8, 0.0)
    other.execute("ROLLBACK")
    other.close()
    stale.unseal(seal(second, 8, 2, b""), 8, 0.0)
    assert read_heard(tmp_path)[7, key_id(first)].counter == 10
    assert refused(lambda: two.unseal(seal(first, 7, 3, b""), 8, 0.0)) == "forged"


# --- nodes behind modems


def settings(data, *sensors, driver="rak3172", port="/nonexistent"):
    def sensor(n, options):
        return {
            "id": f"s{n}",
            "driver": "cayenne_lpp",
            "modem": "lora",
            "options": {"channels": {n: "air_temperature"}},
        } | options

    station = {"id": "hoyoux", "name": "Hoyoux", "commune": "61031", "lat": 50.5, "lon": 5.2}
    station["sensor"] = [sensor(n, options) for n, options in enumerate(sensors, 1)]
    modem = {"name": "lora", "driver": driver, "port": str(port)}
    return config.EdgeConfig.model_validate(
        {"gateway": {"id": "gw-1", "data_dir": str(data)}, "modem": [modem], "station": [station]}
    )


def test_a_modem_that_knows_no_senders_hears_sealed_packets_of_several_nodes(tmp_path):
    seven, eight = issue_key(tmp_path, 7), issue_key(tmp_path, 8)
    device = Rak3172(tmp_path / "tty", [], clock=Clock(), log=DeviceLog())

    class Behind(Samples):
        """What the disk says when a sample arrives."""

        def __init__(self):
            super().__init__()
            self.kept = []

        def __call__(self, sample):
            for field in sample.fields:
                last = read_heard(tmp_path)[{"s1": 7, "s2": 8}[sample.sensor], names[sample.sensor]]
                self.kept.append((round(field.value * 10), last.counter))
            super().__call__(sample)

    names = {"s1": key_id(seven), "s2": key_id(eight)}
    samples = Behind()
    sealed = {"authenticated": True}
    (transport,) = build(
        settings(tmp_path, sealed | {"address": 7}, sealed | {"address": 8}, port=device.path), Clock(), samples
    )
    device.start()
    transport.start()
    try:
        for counter in range(1, 1000):  # until it listens, nobody hears
            for key, node in ((seven, 7), (eight, 8)):
                packet = seal(key, node, counter, bytes((node - 6, 0x67)) + counter.to_bytes(2, "big"))
                device.write(f"+EVT:RXP2P:-50:9:{packet.hex().upper()}\r\n".encode())
            device.pause(0.02)
            if len(samples.all) > 20:
                break
        device.write(b"+EVT:RXP2P:-50:9:01670007\r\n")  # plain
        samples.wait(lambda _: transport.dropped["modem lora", "unauthenticated"] == 1)
    finally:
        transport.stop()
        device.stop()
    assert {s.sensor for s in samples.all if s.fields} == {"s1", "s2"}
    assert len(samples.kept) > 20
    assert all(said == kept for said, kept in samples.kept)  # on disk before the value is anybody's


class SealedNode(LoraNode):
    """Seals what it sends under a counter of its own."""

    key = b""
    counter = 0

    def packet(self, wall_s):
        payload, said = super().packet(wall_s)
        self.counter += 1
        return seal(self.key, self.address, self.counter, payload), said


@pytest.mark.parametrize(
    "kind", [Rak3172, Rn2483, EbyteE22, Rylr896, Rylr998], ids=["rak3172", "rn2483", "ebyte_e22", "rylr896", "rylr998"]
)
def test_each_modem_hands_sealed_packets_over(kind, tmp_path, request):
    name = request.node.callspec.id
    node = SealedNode(7, "s", {"air_temperature": (1, 0x67)}, lambda _: {"air_temperature": -3.4}, interval_s=0.2)
    node.key = issue_key(tmp_path, 7)
    device = kind(tmp_path / "tty", [node], clock=Clock(), log=DeviceLog())
    if name == "ebyte_e22":
        device.registers[4] |= 0x10  # its commissioning is over
    samples = Samples()
    chosen = settings(tmp_path, SEALED, driver=name, port=device.path)
    chosen = chosen.model_copy(update={"modem": (chosen.modem[0].model_copy(update={"settings": f"{name}-eu868"}),)})
    (transport,) = build(chosen, Clock(), samples)
    device.start()
    transport.start()
    try:
        heard = samples.wait(lambda all_: sum(bool(s.fields) for s in all_) >= 2)
    finally:
        transport.stop()
        device.stop()
    assert {f.value for s in heard for f in s.fields} == {-3.4}
    assert {"authenticated": 1, "refused": 0}.items() <= {f.name: f.value for f in heard[-1].side}.items()


SEALED = {"authenticated": True, "address": 7}


@pytest.mark.parametrize(
    ("sensors", "driver", "said"),
    [
        ([{"authenticated": True}], "rak3172", "authenticated: expected only with modem and the node's address"),
        ([SEALED, {"address": 7}], "rylr998", "node 7 is authenticated, expected the same of hoyoux/s2"),
        ([SEALED, {}], "rak3172", "some sensors are authenticated, expected all or none"),
        ([{"address": 7}], "rak3172", "address: found 7, expected none"),
    ],
)
def test_what_is_no_way_to_authenticate(tmp_path, sensors, driver, said):
    with pytest.raises((ConfigError, ValueError), match=said):
        build(settings(tmp_path, *sensors, driver=driver), Clock(), print)
