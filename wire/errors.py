"""What can be wrong with something that came over the wire."""


class WireError(ValueError):
    """A topic, payload or property that the contract does not allow; the text names what was found and what was expected."""


def shown(value: object, limit: int = 80) -> str:
    """What was found, for an error: short whatever it is, since hostile CBOR can hold shared parts that grow without end."""
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= limit else f"{value[:limit]!r}... ({len(value)} long)"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
