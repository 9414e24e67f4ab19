"""What a person changes in a configuration, as they would say it. Works on what TOML files say, whatever they are of."""

from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = ("id", "name")
_SECRET = frozenset({"password", "pin"})
_ABSENT = object()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines such as `station huy, rule high: levels: 1.2, 1.8 -> 1.2, 2.0`. Tables of a list are told apart by their id or name.
    Passwords and PINs are not shown."""
    return list(_tables((), old, new))


def _tables(where: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        yield from _values(where, key, old.get(key, _ABSENT), new.get(key, _ABSENT))


def _values(where: tuple[str, ...], key: str, old: Any, new: Any) -> Iterator[str]:
    if old == new and isinstance(old, bool) == isinstance(new, bool):
        return
    before, after = _named(old), _named(new)
    if (before is not None or after is not None) and (before or after):
        for name in dict.fromkeys((*(before or {}), *(after or {}))):
            was, becomes = (before or {}).get(name), (after or {}).get(name)
            what = f"{key} {name}"
            if was is None and becomes is not None:
                yield _line((*where, what), "new", _summary(becomes))
            elif becomes is None:
                yield _line((*where, what), "gone")
            else:
                yield from _tables((*where, what), was or {}, becomes)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _tables((*where, key), old, new)
    elif key in _SECRET:
        yield _line(where, key, "changed" if _ABSENT not in (old, new) else "gone" if new is _ABSENT else "new")
    else:
        yield _line(where, key, f"{_shown(old)} -> {_shown(new)}")


def _named(found: Any) -> dict[str, Mapping[str, Any]] | None:
    """Tables of a list by their name; None for what is no such list."""
    if not isinstance(found, list | tuple) or not all(isinstance(item, Mapping) for item in found) or not found:
        return None
    names = [next((str(item[n]) for n in _NAMES if n in item), "") for item in found]
    return dict(zip(names, found, strict=True)) if all(names) and len(set(names)) == len(names) else None


def _summary(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {_shown(v)}" for k, v in table.items() if k not in _SECRET and k not in _NAMES)


def _shown(found: Any) -> str:
    if found is _ABSENT:
        return "none"
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, Mapping):
        return "{ " + ", ".join(f"{k} = {_shown(v)}" for k, v in found.items() if k not in _SECRET) + " }"
    if isinstance(found, list | tuple):
        return f"{len(found)} tables" if any(isinstance(i, Mapping) for i in found) else ", ".join(map(_shown, found))
    return f"{found:g}" if isinstance(found, float) and f"{found:g}" == f"{found:.12g}" else str(found)


def _line(where: tuple[str, ...], *said: str) -> str:
    return ": ".join(filter(None, (", ".join(where), *said)))
