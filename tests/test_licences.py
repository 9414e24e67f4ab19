"""What a gateway, central and the demo install may be passed on with the project."""

import re
from importlib import metadata

_ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software|Mozilla Public|MPL-2\.0|EPL-2\.0 OR BSD|Unlicense|Public Domain"
)
_LGPL = {"psycopg", "psycopg-binary"}  # linked, not changed, which the LGPL allows


def _needed(distribution: str, extras: frozenset[str], seen: set[str]) -> set[str]:
    """The distributions that `distribution[extras]` brings, as far as this machine needs them."""
    for line in metadata.requires(distribution) or []:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[([^]]*)\])?", line)
        assert found
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        name, wanted = found[1].lower().replace("_", "-"), frozenset(filter(None, (found[2] or "").split(",")))
        if (extra and extra[1] not in extras) or (name in seen and not wanted):
            continue
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # for another machine
        seen.add(name)
        _needed(name, wanted, seen)
    return seen


def test_what_is_installed_beside_the_project_has_a_licence_that_allows_it() -> None:
    needed = _needed("maillages", frozenset({"edge", "central", "demo", "postgres"}), set()) - {"maillages"}
    assert {"paho-mqtt", "pymodbus", "starlette", "iotcore"} <= needed
    for name in sorted(needed - _LGPL):
        about = metadata.metadata(name)
        said = [about.get("License-Expression"), about.get("License"), *about.get_all("Classifier", [])]
        licence = " ".join(s.splitlines()[0] for s in said if s and (not s.count("::") or s.startswith("License")))
        assert _ALLOWED.search(licence), f"{name}: {licence}"
