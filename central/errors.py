"""Errors of central, sorted by what the caller does.

    CentralError
    ├── ConfigError     stop: a person must mend the file (exit 2)
    ├── Refused         tell the person who asked (exit 2); nothing was changed
    ├── Unavailable     keep it and try the same again, soon
    │   └── StateUnavailable    the same, of central's own state: alarm log, outbox, what it holds
    └── NeedsPerson     keep everything, tell a person, try again slowly

What is wrong with one point, one record or one payload is no exception: it is returned by name beside what was accepted.
"""


class CentralError(Exception):
    """Anything central raises on purpose."""


class ConfigError(CentralError):
    """The configuration cannot be used; the text names file, key, what was found and what was expected."""


class Refused(CentralError):
    """What a person asked for cannot be done; the text says why and what was expected."""


class Unavailable(CentralError):
    """The other side does not answer now, or asks for patience; `retry_after_s` is its own wish, None without one."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StateUnavailable(Unavailable):
    """Central's state cannot be read or written now; nothing was changed."""


class NeedsPerson(CentralError):
    """The other side answers and refuses: credentials, rights, a database that is not there. Waiting alone mends nothing."""
