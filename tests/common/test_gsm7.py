"""common.gsm7 against smspdudecoder's own table and codec (PyPI), and the rules for French texts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from smspdudecoder.codecs import GSM

from common.gsm7 import BASIC, EXTENSION, normalise, pack, septets, split, unpack

ALPHABET = "".join(c for c in BASIC if c != "\x1b") + "".join(EXTENSION)
texts = st.text(st.sampled_from(ALPHABET))


def test_the_table_is_the_standards():
    assert BASIC == GSM.ALPHABET
    assert {code: char for char, code in EXTENSION.items()} == GSM.ALPHABET_EXT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mehaigne à Moha: 2,31 m", "Mehaigne à Moha: 2,31 m"),
        ("é è à ù Ç É § €", "é è à ù Ç É § €"),
        ("Niveau dépassé, prêt, château, île", "Niveau dépassé, pret, chateau, ile"),
        ("côte, sûr, Noël, maïs, reçu", "cote, sur, Noel, mais, recu"),
        ("À Huy, Èze, Œuvre, cœur", "A Huy, Eze, OEuvre, coeur"),
        ("21,4 °C, 12 m³/s, 35 µg/m³ (μg), n° 4", "21,4 C, 12 m3/s, 35 ug/m3 (ug), no 4"),
        ("l’alerte « crue » – suite…", "l'alerte \" crue \" - suite..."),
        ("10\u00a0h\u202f30", "10 h 30"),
        ("e\u0301le\u0302ve", "éleve"),
        ("niveau ≥ 2 ≠ 3", "niveau >= 2 <> 3"),
        ("a≮b", "a?b"),
        ("\ud800 🌊 水 \x1b", "? ? ? ?"),
        ("un\r\ndeux\ttrois\u200b", "un\ndeux trois"),
        ("½", " 1/2"),
        ("", ""),
    ],
)  # fmt: skip
def test_french_becomes_what_a_phone_shows(text, expected):
    assert normalise(text) == expected


@given(st.text(st.characters(exclude_categories=())))
@example("\u0344\u1fc1=\u0338")
def test_any_text_becomes_sendable_and_stays_so(text):
    once = normalise(text)
    assert septets(once) == len(once) + sum(c in EXTENSION for c in once)
    assert normalise(once) == once


@given(texts)
def test_packed_septets_are_what_the_reference_packs(text):
    packed = pack(text)
    assert packed.hex().upper() == (GSM.encode(text) if text else "")
    assert len(packed) == (septets(text) * 7 + 7) // 8


def test_known_vector():
    assert pack("hellohello").hex().upper() == "E8329BFD4697D9EC37"


def test_fill_bits_shift_the_text():
    assert pack("a", fill_bits=1) == bytes([0x61 << 1])
    assert pack("ab", fill_bits=1) == (0x61 << 1 | 0x62 << 8).to_bytes(2, "little")


@given(st.text(st.sampled_from(ALPHABET), max_size=470))
def test_parts_are_whole_and_fit(text):
    if septets(text) > 153 * 3:
        with pytest.raises(ValueError, match=f"{septets(text)} septets"):
            split(text)
        return
    parts = split(text, max_parts=4)  # pairs that may not be divided can cost a part more
    assert "".join(parts) == text
    assert len(parts) <= 3 or septets(text) > 152 * 3
    if septets(text) <= 160:
        assert parts == [text]
    else:
        assert all(152 <= septets(p) <= 153 for p in parts[:-1])
        assert 1 <= septets(parts[-1]) <= 153


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("a" * 160, [160]),
        ("a" * 161, [153, 8]),
        ("€" * 80, [160]),
        ("a" * 159 + "€", [153, 8]),
        ("a" * 152 + "€" + "b" * 10, [152, 12]),
        ("a" * 459, [153, 153, 153]),
    ],
)
def test_boundaries(text, sizes):
    assert [septets(p) for p in split(text)] == sizes


def test_too_long_is_refused_with_its_length():
    with pytest.raises(ValueError, match="460 septets in 4 parts, expected at most 459 in 3"):
        split("a" * 460)
    with pytest.raises(ValueError, match="161 septets in 2 parts, expected at most 160 in 1"):
        split("a" * 161, max_parts=1)


def test_a_foreign_sign_is_named():
    with pytest.raises(ValueError, match="'ê'"):
        septets("fenêtre")


@given(st.text(max_size=200).map(normalise), st.integers(0, 6))
def test_what_was_packed_is_unpacked(text, fill_bits):
    assert unpack(pack(text, fill_bits), septets(text), fill_bits) == text


def test_too_few_octets_are_named():
    with pytest.raises(ValueError, match="1 octets, expected those of 3 septets"):
        unpack(b"x", 3)
