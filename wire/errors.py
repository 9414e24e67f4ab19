"""What can be wrong with something that came over the wire."""


class WireError(ValueError):
    """A topic, payload or property that the contract does not allow; the text names what was found and what was expected."""
