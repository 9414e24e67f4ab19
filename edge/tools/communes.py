"""The communes of Huy-Waremme by name, and whether a place is in or near them.

Sources of communes.csv: NIS codes and names of Statbel, positions of GeoNames (village centres), both CC BY 4.0.
"""

import csv
import math
import re
import unicodedata
from difflib import get_close_matches
from importlib import resources
from typing import NamedTuple

NEAR_KM = 15.0
"""Farther from the centre of its commune no station lies: the communes are at most 12 km across."""
_EARTH_KM = 6371.0
_BEGINNING = 3
_DECIMAL = re.compile(r"-?\d{1,3}\.\d+")
_COMMA = re.compile(r"(?<=\d),(?=\d)")


class Commune(NamedTuple):
    """`lat`, `lon`: its centre, degrees (WGS 84)."""

    nis: str
    name: str
    dutch: str
    lat: float
    lon: float

    def km(self, lat: float, lon: float) -> float:
        """Great-circle distance from its centre."""
        a, b = math.radians(self.lat), math.radians(lat)
        half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon - self.lon) / 2) ** 2
        return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def communes() -> list[Commune]:
    """All of them, by NIS code."""
    text = resources.files("edge.tools").joinpath("communes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [Commune(r["nis"], r["name_fr"], r["name_nl"], float(r["lat"]), float(r["lon"])) for r in rows]


def find(text: str) -> Commune:
    """The commune of this name (French or Dutch, accents and capitals as one likes, or its beginning) or NIS code.

    Raises ValueError saying which were meant.
    """
    known = communes()
    wanted = _plain(text)
    names = {_plain(name): c for c in known for name in (c.dutch, c.name, c.nis)}
    if wanted in names:
        return names[wanted]
    begun = list(dict.fromkeys(c for name, c in names.items() if len(wanted) >= _BEGINNING and name.startswith(wanted)))
    if len(begun) == 1:
        return begun[0]
    close = begun or [names[name] for name in get_close_matches(wanted, names, 5, 0.6)]
    meant = ", ".join(dict.fromkeys(c.name for c in close))
    raise ValueError(
        f"found {text!r}, expected a commune of Huy-Waremme or its NIS code" + (f": {meant}?" if meant else "")
    )


def position(text: str) -> tuple[float, float]:
    """Latitude and longitude out of what a map gives: `50.519, 5.240`, a link, `geo:`. Raises ValueError."""
    found = _DECIMAL.findall(text) or _DECIMAL.findall(_COMMA.sub(".", text))
    if len(found) != 2:
        raise ValueError(f"found {text!r}, expected latitude and longitude in degrees, as 50.5190, 5.2400")
    lat, lon = map(float, found)
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError(f"found {lat}, {lon}, expected a latitude within 90 and a longitude within 180 degrees")
    return lat, lon


def remark(commune: Commune, lat: float, lon: float) -> str:
    """What is strange about a station of `commune` at this place; empty when nothing is."""
    km = commune.km(lat, lon)
    if km <= NEAR_KM:
        return ""
    if commune.km(lon, lat) <= NEAR_KM:
        return f"{lat}, {lon}: latitude and longitude look exchanged, {lon}, {lat} is in or near {commune.name}"
    nearest = min(communes(), key=lambda c: c.km(lat, lon))
    where = f"; nearer is {nearest.name}" if nearest.km(lat, lon) <= NEAR_KM else ", outside of Huy-Waremme"
    return f"{lat}, {lon} is {km:.0f} km from the centre of {commune.name}{where}"


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFD", text.casefold())
    return "".join(c for c in letters if c.isalnum())
