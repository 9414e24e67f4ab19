"""The KELLER bus without a known address: what is passed over quickly is no message."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge import drivers
from edge.sensors import keller_bus
from edge.sensors._framing import ScanFramer, head

DRIVER = drivers.find("keller_bus")


def sealed(body: bytes) -> bytes:
    return body + keller_bus.crc16(body)


def replies(function: int, size: int) -> st.SearchStrategy[bytes]:
    data = st.binary(min_size=size - 4, max_size=size - 4)
    return st.tuples(st.integers(0, 255), data).map(lambda t: sealed(bytes((t[0], function)) + t[1]))


MESSAGES = st.one_of(
    *(replies(function, size) for function, size in keller_bus._REPLY_BYTES.items()),
    *(replies(function, size) for function, size in keller_bus._REQUEST_BYTES.items()),
    st.tuples(
        st.integers(0, 255), st.sampled_from(list(keller_bus._REPLY_BYTES)), st.sampled_from([1, 2, 3, 4, 32])
    ).map(lambda t: sealed(bytes((t[0], t[1] | 0x80, t[2])))),
)
NOISE = st.one_of(
    st.binary(max_size=30), st.lists(st.sampled_from(b"\x49\x4a\xc9\x30\x20\xfa\x01"), max_size=20).map(bytes)
)


@given(st.lists(st.one_of(MESSAGES, NOISE), max_size=8).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_no_message_is_passed_over(stream: bytes, cuts: list[int]) -> None:
    begins = head((bytes(range(256)), bytes(f | flag for f in keller_bus._REPLY_BYTES for flag in (0, 0x80))))
    slow = [i for i in ScanFramer(keller_bus._cut, begins).feed(stream) if isinstance(i, bytes)]
    assert DRIVER.framer is not None
    quick = DRIVER.framer(keller_bus.KellerBusOptions())
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [stream[a:b] for a, b in pairwise(edges)]
    found = [i for part in parts for i in quick.feed(part) if isinstance(i, bytes)]
    # A code that no document names is believed only where a message is due.
    known = [f for f in slow if not f[1] & 0x80 or f[2] in keller_bus._EXCEPTIONS]
    assert [f for f in found if f in known] == known
    assert all(f in slow for f in found)


def test_a_misfit_is_told_where_a_message_is_due_and_once() -> None:
    assert DRIVER.framer is not None
    good = bytes.fromhex("01493F6DB15300E761")
    broken = good[:4] + b"\0" + good[5:]
    items = list(DRIVER.framer(keller_bus.KellerBusOptions()).feed(good + broken + good))
    assert [getattr(item, "kind", item) for item in items] == [good, "crc", good]
