"""Framers under any split of any bytes, under noise, and with nothing but noise for a long time."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import drivers
from edge.sensors.base import FrameError, Framer

FOLDER = Path(__file__).parent.parent / "vectors"
OPTIONS = {"maxbotix": {"model": "MB7389"}, "sds011": {}, "rylr998": {}}
NAMES = sorted(OPTIONS)
BUFFER_BYTES = 1024


def _framer(name: str) -> Framer:
    driver = drivers.find(name)
    assert driver.framer is not None
    return driver.framer(drivers.options(driver, OPTIONS[name]))


def _known(name: str) -> list[bytes]:
    vectors = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["vector"]
    return [bytes.fromhex(v["hex"]) if "hex" in v else v["text"].encode("latin-1") for v in vectors]


def _shown(items: list[bytes | FrameError]) -> list[bytes | str]:
    return [item if isinstance(item, bytes) else str(item) for item in items]


# Bytes that mean something to each protocol come often, so that nearly-right frames do.
MEANT = {"maxbotix": b"R0123456789\r \xff", "sds011": b"\xaa\xc0\xc5\xab\x00", "rylr998": b"+RCV=OKE0123,-\r\n"}


def _pieces(name: str) -> st.SearchStrategy[bytes]:
    known = st.sampled_from(_known(name))
    cut = st.tuples(known, st.integers(0, 40), st.integers(0, 40)).map(lambda t: t[0][t[1] : t[2]])
    meant = st.lists(st.sampled_from(list(MEANT[name])), max_size=12).map(bytes)
    return st.one_of(known, cut, meant, st.binary(max_size=12))


@st.composite
def _streams(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(NAMES))
    return name, b"".join(draw(st.lists(_pieces(name), max_size=8)))


@given(_streams(), st.data())
def test_any_split_gives_the_same(stream: tuple[str, bytes], data: st.DataObject) -> None:
    name, raw = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    split = _framer(name)
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert _shown([i for part in parts for i in split.feed(part)]) == _shown(list(_framer(name).feed(raw)))


@given(_streams())
def test_frames_are_in_the_bytes_in_order_and_once(stream: tuple[str, bytes]) -> None:
    name, raw = stream
    at = 0
    for item in _framer(name).feed(raw):
        if isinstance(item, bytes):
            found = raw.find(item, at)
            assert found >= 0
            at = found + len(item)


@given(_streams())
def test_noise_gives_no_value_that_a_strict_reader_would_not_find(stream: tuple[str, bytes]) -> None:
    name, raw = stream
    driver = drivers.find(name)
    options = drivers.options(driver, OPTIONS[name])
    values = []
    for item in _framer(name).feed(raw):
        if isinstance(item, bytes):
            try:
                fields = driver.decode(item, options)
            except FrameError:
                continue
            values += [f.value for f in fields if f.name in ("water_distance", "pm2_5", "payload")]
    assert [v for v in values if v not in _strict(name, raw)] == []


def _strict(name: str, raw: bytes) -> set[float | str]:
    """Every value that stands anywhere in the bytes, written without any of the driver's code."""
    if name == "maxbotix":
        lines = raw.replace(b"\xff", b"").split(b"\r")[:-1]
        return {int(m[1]) / 1000 for line in lines if (m := re.search(rb"R(\d{4}) ?$", line))}
    if name == "sds011":
        windows = [raw[i : i + 10] for i in range(len(raw) - 9)]
        return {
            (w[2] + 256 * w[3]) / 10
            for w in windows
            if w[:2] == b"\xaa\xc0" and w[9] == 0xAB and sum(w[2:8]) % 256 == w[8]
        }
    found = set()
    for m in re.finditer(rb"\+RCV=(\d+),(\d+),", raw):
        payload, rest = raw[m.end() : m.end() + int(m[2])], raw[m.end() + int(m[2]) :]
        if re.match(rb",-?\d+,-?\d+\r\n", rest):
            found.add(payload.decode("latin-1"))
    return found


GOOD = {
    "maxbotix": b"R1234\r",
    "sds011": bytes.fromhex("AAC0D4043A0AA1601DAB"),
    "rylr998": b"+RCV=1,2,AB,-40,10\r\n",
}
# Noise that ends what it began: with it no frame can be mistaken for part of another.
HARMLESS = {"maxbotix": b"xyz\x00\x80\r", "sds011": b"\x00\x01\x7f\xff\xab", "rylr998": b"xyz\x00\xff\r\n"}


@given(st.sampled_from(NAMES), st.data())
def test_no_whole_frame_is_lost_to_noise_around_it(name: str, data: st.DataObject) -> None:
    noise = st.lists(st.sampled_from(list(HARMLESS[name])), max_size=30).map(bytes)
    count = data.draw(st.integers(1, 5))
    raw = b"".join(data.draw(noise) + (b"\r" if name == "maxbotix" else b"") + GOOD[name] for _ in range(count))
    assert [i for i in _framer(name).feed(raw) if i == GOOD[name]] == [GOOD[name]] * count


@given(st.sampled_from(NAMES), st.data())
def test_a_broken_byte_costs_at_most_its_frame(name: str, data: st.DataObject) -> None:
    frames = [GOOD[name]] * 3
    broken = bytearray(GOOD[name])
    at = data.draw(st.integers(0, len(broken) - 1))
    broken[at] ^= data.draw(st.integers(1, 255))
    raw = b"".join([*frames, bytes(broken), *frames])
    if name == "rylr998":
        raw += b"\0" * 300  # a length made longer swallows what follows until it is seen to be wrong
    found = [i for i in _framer(name).feed(raw) if i == GOOD[name]]
    assert len(found) >= 6


@given(st.sampled_from(NAMES), st.lists(st.binary(max_size=2000), max_size=6))
def test_the_buffer_is_bounded(name: str, chunks: list[bytes]) -> None:
    framer = _framer(name)
    for chunk in chunks:
        list(framer.feed(chunk))
        assert len(framer._buffer) < BUFFER_BYTES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("byte", [b"R", b"1", b"\xaa", b"\xc0", b"+", b"\x00", b"\xff"])
def test_endless_noise_is_reported_and_forgotten(name: str, byte: bytes) -> None:
    framer = _framer(name)
    errors = list(framer.feed(byte * 5000))
    assert 10 < len(errors) <= 5000
    assert all(isinstance(e, FrameError) for e in errors)
    assert len(framer._buffer) < BUFFER_BYTES
    list(framer.feed(b"\r"))
    assert list(framer.feed(GOOD[name]))[-1] == GOOD[name]


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets_a_partial_frame(name: str) -> None:
    framer = _framer(name)
    assert list(framer.feed(GOOD[name][:-1])) == []
    framer.reset()
    assert list(framer.feed(GOOD[name])) == [GOOD[name]]


def test_a_failed_sum_costs_one_byte() -> None:
    good, framer = GOOD["sds011"], _framer("sds011")
    items = list(framer.feed(good[:8] + good))
    assert [i.kind for i in items if isinstance(i, FrameError)] == ["tail"]
    assert items[-1] == good


def test_a_declared_length_beyond_the_modems_is_not_waited_for() -> None:
    (error,) = _framer("rylr998").feed(b"+RCV=1,241,")
    assert isinstance(error, FrameError)
    assert error.kind == "length"
