"""What the tests of transports have in common."""

import pytest

from tests.fakes.samples import Samples


@pytest.fixture
def samples():
    return Samples()


@pytest.fixture
def plug():
    """Starts devices and transports; stops them all, transports first."""
    running = []

    def start(*things):
        for thing in things:
            running.append(thing)
            thing.start()

    yield start
    for thing in reversed(running):
        thing.stop()
