"""What holds for every driver, whoever wrote it: its own vectors, cut, mixed and broken, are the material."""

import tomllib
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import drivers
from edge.sensors._framing import ScanFramer
from edge.sensors.base import Field, FrameError, Framer, Options

FOLDER = Path(__file__).parent.parent / "vectors"
ALL = [name for name in drivers.names() if (FOLDER / f"{name}.toml").exists()]
FRAMED = [name for name in ALL if drivers.find(name).framer is not None]
# Frames with a header and a sum, which a broken byte cannot disguise.
SUMMED = [n for n in FRAMED if n in ("hpma115", "mhz19", "pms3003", "pms5003", "pms5003t", "sds011", "sps30", "zh03b")]
BUFFER_BYTES = 1024


@cache
def _known(name: str) -> tuple[tuple[bytes, Options], ...]:
    """The bytes of a driver's vectors with the options they are read with."""
    vectors = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["vector"]
    return tuple(
        (
            bytes.fromhex(v["hex"]) if "hex" in v else v["text"].encode("latin-1"),
            drivers.options(drivers.find(name), v.get("options", {})),
        )
        for v in vectors
    )


@cache
def _good(name: str) -> tuple[bytes, Options]:
    """The first frame of the vectors that is good."""
    driver = drivers.find(name)
    for raw, options in _known(name):
        match list(_framer(name, options).feed(raw)):
            case [bytes(frame)]:
                try:
                    driver.decode(frame, options)
                except FrameError:
                    continue
                return frame, options
    raise AssertionError(f"no vector of {name} is one good frame")


def _framer(name: str, options: Options) -> Framer:
    framer = drivers.find(name).framer
    assert framer is not None
    return framer(options)


def _shown(items: list[bytes | FrameError]) -> list[bytes | str]:
    return [item if isinstance(item, bytes) else str(item) for item in items]


@st.composite
def _streams(draw: st.DrawFn, names: list[str]) -> tuple[str, Options, bytes]:
    name = draw(st.sampled_from(names))
    known = [raw for raw, _ in _known(name)]
    meant = sorted({byte for raw in known for byte in raw[:2]} | {0, 255})
    pieces = st.one_of(
        st.sampled_from(known),
        st.tuples(st.sampled_from(known), st.integers(0, 60), st.integers(0, 60)).map(lambda t: t[0][t[1] : t[2]]),
        st.lists(st.sampled_from(meant), max_size=12).map(bytes),
        st.binary(max_size=12),
    )
    options = draw(st.sampled_from([options for _, options in _known(name)]))
    raw = bytearray(b"".join(draw(st.lists(pieces, max_size=6))))
    for at in draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=3)) if raw else []:
        raw[at] = draw(st.integers(0, 255))
    return name, options, bytes(raw)


@given(_streams(FRAMED), st.data())
def test_any_split_gives_the_same(stream: tuple[str, Options, bytes], data: st.DataObject) -> None:
    name, options, raw = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    split, whole = _framer(name, options), _framer(name, options)
    assert _shown([i for part in parts for i in split.feed(part)]) == _shown(list(whole.feed(raw)))


def _byte_by_byte(framer: ScanFramer, raw: bytes) -> list[bytes | FrameError]:
    """What a ScanFramer must give for all of `raw`, by asking at each byte in turn."""
    items: list[bytes | FrameError] = []
    at = noise = 0
    while at < len(raw):
        rest = bytearray(raw[at:])
        step = (1, None) if framer._next(rest, noise > 0) else framer._cut(rest)
        if step is None:
            break
        length, item = step
        if item is None:
            if noise % 64 == 0:
                items.append(FrameError("header", f"byte {rest[0]:02X} begins no frame"))
            noise += 1
        elif item:
            items.append(item)
            noise = 1 if isinstance(item, FrameError) else 0
        at += length
    return items


@given(_streams(FRAMED), st.binary(max_size=300))
def test_jumping_over_noise_is_the_same_as_asking_at_each_byte(
    stream: tuple[str, Options, bytes], noise: bytes
) -> None:
    name, options, known = stream
    raw = noise + known + noise[::-1]
    framer = _framer(name, options)
    assert isinstance(framer, ScanFramer)
    assert _shown(list(framer.feed(raw))) == _shown(_byte_by_byte(framer, raw))


@pytest.mark.parametrize("name", FRAMED)
def test_a_frame_is_begun_by_each_of_its_beginnings(name: str) -> None:
    good, options = _good(name)
    framer = _framer(name, options)
    for byte in good[:-1]:
        assert list(framer.feed(bytes((byte,)))) == []
    assert list(framer.feed(good[-1:])) == [good]


@pytest.mark.parametrize("name", FRAMED)
def test_a_reader_that_stops_at_a_frame_finds_the_next_one_later(name: str) -> None:
    good, options = _good(name)
    framer = _framer(name, options)
    assert next(framer.feed(good * 3)) == good
    assert list(framer.feed(b"")) == [good, good]


def _whole(name: str, frame: bytes, options: Options) -> bool:
    """Is it one frame to the decoder, whatever it says?"""
    try:
        drivers.find(name).decode(frame, options)
    except FrameError as e:
        return e.kind not in ("header", "length", "tail", "checksum")
    return True


@pytest.mark.parametrize("name", [name for name in SUMMED if name != "sps30"])  # whose frames may have any size
@given(data=st.data())
def test_the_frames_are_those_that_the_decoder_finds_from_left_to_right(name: str, data: st.DataObject) -> None:
    _, options, raw = data.draw(_streams([name]))
    raw += bytes(40)  # ends what the last bytes may have begun
    shapes = {(frame[0], len(frame)) for frame, options in _known(name) if _whole(name, frame, options)}
    found, at = [], 0
    while at < len(raw):
        frames = (raw[at : at + size] for first, size in shapes if raw[at] == first and at + size <= len(raw))
        frame = next((frame for frame in frames if _whole(name, frame, options)), None)
        if frame is not None:
            found.append(frame)
        at += len(frame or b"?")
    assert [i for i in _framer(name, options).feed(raw) if isinstance(i, bytes)] == found


@given(_streams(FRAMED))
def test_frames_are_in_the_bytes_in_order_and_once(stream: tuple[str, Options, bytes]) -> None:
    name, options, raw = stream
    at = 0
    for item in _framer(name, options).feed(raw):
        if isinstance(item, bytes):
            found = raw.find(item, at)
            assert found >= 0
            at = found + len(item)


@given(_streams(ALL))
def test_any_bytes_are_fields_or_a_frame_error(stream: tuple[str, Options, bytes]) -> None:
    name, options, raw = stream
    driver = drivers.find(name)
    for read in (lambda: driver.decode(raw, options), lambda: driver.recognise(raw) if driver.recognise else []):
        try:
            fields = read()
        except FrameError:
            continue
        assert all(isinstance(field, Field) for field in fields)


@given(st.sampled_from(FRAMED), st.lists(st.binary(max_size=2000), max_size=6))
def test_the_buffer_is_bounded(name: str, chunks: list[bytes]) -> None:
    framer = _framer(name, _known(name)[0][1])
    for chunk in chunks:
        list(framer.feed(chunk))
        assert len(framer._buffer) < BUFFER_BYTES


@pytest.mark.parametrize("name", SUMMED)
@pytest.mark.parametrize("byte", [b"\x7e", b"\x7d", b"\x42", b"\xff", b"\x86", b"\x40", b"\x00"])
def test_endless_noise_is_forgotten(name: str, byte: bytes) -> None:
    good, options = _good(name)
    framer = _framer(name, options)
    list(framer.feed(byte * 5000))
    assert len(framer._buffer) < BUFFER_BYTES
    assert list(framer.feed(good * 2))[-1] == good


@pytest.mark.parametrize("name", SUMMED)
def test_reset_forgets_a_partial_frame(name: str) -> None:
    good, options = _good(name)
    framer = _framer(name, options)
    assert list(framer.feed(good[:-1])) == []
    framer.reset()
    assert list(framer.feed(good)) == [good]


@given(st.sampled_from(SUMMED), st.data())
def test_a_broken_byte_costs_at_most_its_frame(name: str, data: st.DataObject) -> None:
    good, options = _good(name)
    broken = bytearray(good)
    broken[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    raw = good * 3 + bytes(broken) + good * 3
    assert len([item for item in _framer(name, options).feed(raw) if item == good]) >= 6


@given(st.sampled_from(SUMMED), st.data())
def test_a_lost_byte_costs_at_most_its_frame_and_the_next(name: str, data: st.DataObject) -> None:
    good, options = _good(name)
    at = data.draw(st.integers(0, len(good) - 1))
    raw = good * 3 + good[:at] + good[at + 1 :] + good * 3
    assert len([item for item in _framer(name, options).feed(raw) if item == good]) >= 5
