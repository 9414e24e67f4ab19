"""The GSM 7-bit default alphabet (3GPP TS 23.038, section 6.2.1): what an SMS of 160 characters is written in.

French needs more than it has (no ê, no ç, no typographic signs); one sign outside of it would turn the whole message into
UCS-2 with 70 characters. So texts are normalised: é è à ù stay, the rest becomes its nearest relative.
"""

import unicodedata

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""Position = code. 0x1B is no character: it announces one of `EXTENSION`."""

EXTENSION = {
    "\f": 0x0A, "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F, "[": 0x3C, "~": 0x3D, "]": 0x3E, "|": 0x40, "€": 0x65,
}  # fmt: skip
"""Characters of two septets: 0x1B and this code."""

SINGLE = 160
"""Septets of a message in one part: 140 octets (3GPP TS 23.040)."""

PART = 153
"""Septets of one part of several: 7 go to the header that joins them."""

_ESCAPE = 0x1B
_CODES: dict[str, tuple[int, ...]] = {char: (code,) for code, char in enumerate(BASIC) if code != _ESCAPE} | {
    char: (_ESCAPE, code) for char, code in EXTENSION.items()
}
_EXTENDED = {code: char for char, code in EXTENSION.items()}
_RELATIVES = str.maketrans(
    {
        "œ": "oe", "Œ": "OE", "µ": "u", "μ": "u", "°": "o", "×": "x", "÷": "/", "·": ".", "•": "-",
        "‘": "'", "’": "'", "‚": "'", "′": "'", "‹": "'", "›": "'", "`": "'", "´": "'",
        "“": '"', "”": '"', "„": '"', "″": '"', "«": '"', "»": '"',
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-",
        "≥": ">=", "≤": "<=", "≠": "<>", "≈": "~", "¼": " 1/4", "½": " 1/2", "¾": " 3/4", "⁄": "/",
        "ł": "l", "Ł": "L", "\t": " ", "\r": "\n", "\f": "\n", "\x1b": "?",
    }
)  # fmt: skip
_NEGATION = "\u0338"  # the stroke that makes = into ≠ is no accent: dropping it would turn the meaning round


def normalise(text: str) -> str:
    """`text` in the default alphabet: French accents and typography by their nearest relatives, `?` for what has none.

    Normalising twice changes nothing.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).replace("°C", "C").translate(_RELATIVES)
    return "".join(char if char in _CODES else _nearest(char) for char in text)


def septets(text: str) -> int:
    """How many septets a normalised text takes. Raises ValueError naming a character that the alphabet lacks."""
    return len(_encode(text))


def split(text: str, max_parts: int = 3) -> list[str]:
    """A normalised text as the parts that it is sent in: one of at most 160 septets, or several of at most 153.

    A character is never divided. Raises ValueError naming the length when more than `max_parts` are needed.
    """
    length = septets(text)
    if length <= SINGLE:
        return [text]
    parts, room = [""], PART
    for char in text:
        cost = len(_CODES[char])
        if cost > room:
            parts.append("")
            room = PART
        parts[-1] += char
        room -= cost
    if len(parts) > max_parts:
        limit = SINGLE if max_parts == 1 else PART * max_parts
        raise ValueError(
            f"the text takes {length} septets in {len(parts)} parts, expected at most {limit} in {max_parts}"
        )
    return parts


def pack(text: str, fill_bits: int = 0) -> bytes:
    """A normalised text as octets, least significant bit first; `fill_bits` zeros precede it (3GPP TS 23.038, 6.1.2.1)."""
    bits, value = fill_bits, 0
    for code in _encode(text):
        value |= code << bits
        bits += 7
    return value.to_bytes((bits + 7) // 8, "little")


def unpack(data: bytes, count: int, fill_bits: int = 0) -> str:
    """The text of `count` septets, packed as `pack` does. An escape before a code that has no second meaning is a space
    (3GPP TS 23.038, 6.2.1.1). Raises ValueError when the octets are fewer than that takes."""
    if len(data) * 8 < fill_bits + count * 7:
        raise ValueError(f"{len(data)} octets, expected those of {count} septets")
    value = int.from_bytes(data, "little") >> fill_bits
    text, escaped = "", False
    for i in range(count):
        code = value >> 7 * i & 0x7F
        if escaped:
            text += _EXTENDED.get(code, " ")
        elif code != _ESCAPE:
            text += BASIC[code]
        escaped = code == _ESCAPE and not escaped
    return text


def _encode(text: str) -> list[int]:
    try:
        return [code for char in text for code in _CODES[char]]
    except KeyError as e:
        raise ValueError(f"{e.args[0]!r} is not in the GSM 7-bit alphabet, expected a normalised text") from None


def _nearest(char: str) -> str:
    """Of one character outside the alphabet: its decomposition without the marks; nothing for marks and invisible signs."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return ""
    decomposed = unicodedata.normalize("NFKD", char)
    if decomposed == char or _NEGATION in decomposed:
        return "?"
    return "".join(
        part if part in _CODES else "" if unicodedata.combining(part) else "?"
        for part in decomposed.translate(_RELATIVES)
    )
