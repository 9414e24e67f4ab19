"""edge.emulators.trouble: it does what it says, and nothing by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.emulators.trouble import Trouble

FRAMES = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=30)
SHARES = st.floats(0, 1)


def bits(a, b):
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


@given(FRAMES)
def test_without_any_a_frame_arrives_as_it_is_at_once(frames):
    trouble = Trouble()
    for frame in frames:
        assert trouble.arriving(frame) == frame
        assert list(trouble.pieces(frame)) == [(0.0, frame)]
        assert not trouble.restarts()


@given(FRAMES, st.integers(0, 99))
def test_corrupt_inverts_one_bit_of_each_frame_that_it_hits(frames, seed):
    trouble = Trouble(corrupt=1, seed=seed)
    assert all(bits(frame, trouble.arriving(frame)) == 1 for frame in frames)


def test_corrupt_hits_its_share():
    trouble = Trouble(corrupt=0.25)
    hit = sum(trouble.arriving(bytes(9)) != bytes(9) for _ in range(2000))
    assert 400 < hit < 600


@given(FRAMES, SHARES, st.integers(0, 99))
def test_what_loses_bytes_keeps_the_order_of_the_others(frames, share, seed):
    trouble = Trouble(lose=share, seed=seed)
    for frame in frames:
        rest = iter(frame)
        assert all(byte in rest for byte in trouble.arriving(frame))
    assert Trouble(lose=1).arriving(b"all") == b""


def test_every_third_frame_is_lost_and_a_silent_device_says_nothing():
    trouble = Trouble(lose_every=3)
    assert [trouble.arriving(b"x") for _ in range(6)] == [b"x", b"x", b"", b"x", b"x", b""]
    trouble.silent = True
    trouble.noise = 1
    assert trouble.arriving(b"x") == b""
    assert list(trouble.pieces(b"")) == []
    trouble.silent = False
    assert trouble.arriving(b"x") == b"x", "it may be changed while it runs"


@given(st.binary(min_size=1, max_size=40))
def test_time_changes_no_byte(frame):
    dribble = list(Trouble(dribble_s=0.1, lag_s=2).pieces(frame))
    assert b"".join(piece for _, piece in dribble) == frame
    assert [pause for pause, _ in dribble] == [2] + [0.1] * (len(frame) - 1)
    split = Trouble(split_every=1)
    split.arriving(frame)
    pieces = list(split.pieces(frame))
    assert b"".join(piece for _, piece in pieces) == frame
    assert len(frame) == 1 or [pause for pause, _ in pieces[:2]] == [0.0, 1.6]


@given(FRAMES, st.integers(0, 99))
def test_noise_comes_before_a_frame_and_leaves_it_whole(frames, seed):
    trouble = Trouble(noise=1, seed=seed)
    for frame in frames:
        (_, garbage), (_, after) = trouble.pieces(trouble.arriving(frame))
        assert 1 <= len(garbage) <= 12
        assert after == frame


@given(FRAMES)
def test_the_same_seed_is_the_same_trouble(frames):
    text = "lose=0.2,corrupt=0.5,seed=7"
    one, two = Trouble.parse(text), Trouble.parse(text)
    assert [one.arriving(f) for f in frames] == [two.arriving(f) for f in frames]


def test_it_restarts_after_each_so_manieth_frame():
    trouble = Trouble(restart_every=2)
    said = []
    for _ in range(4):
        trouble.arriving(b"x")
        said.append(trouble.restarts())
    assert said == [False, True, False, True]


def test_it_is_written_as_it_is_read():
    text = "dribble_s=0.1,lose_every=3,corrupt=0.05,silent=1,seed=4"
    assert Trouble.parse(text).text() == text
    assert Trouble.parse("silent").silent
    assert Trouble.parse("").text() == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quark", "'quark' is unknown, expected dribble_s, lag_s"),
        ("lose", "'lose', expected lose=a number"),
        ("lose=2", "lose from 0 to 1"),
        ("corrupt=nan", "corrupt from 0 to 1"),
        ("lag_s=-1", "lag_s from 0"),
        ("lose_every=1.5", "lose_every=a whole number"),
        ("silent=perhaps", "silent=1 or 0"),
    ],
)
def test_what_it_cannot_be_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        Trouble.parse(text)
