"""What a transport hands over, kept for a test to wait on."""

import threading
from collections import Counter

WAIT_S = 30


class Samples:
    """The sink: what came, and a way to wait for more."""

    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def __call__(self, sample):
        with self._changed:
            self.all.append(sample)
            self._changed.notify_all()

    def wait(self, enough):
        """The samples that make `enough(samples)` true."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.all), WAIT_S), f"only {self.all}"
            return list(self.all)

    def values(self, quantity=None, key=None):
        """Of one quantity, one sensor, or all."""
        wanted = [s for s in list(self.all) if key in (None, s.key)]
        return [f.value for s in wanted for f in s.fields if quantity in (None, f.name)]

    def errors(self, key=None):
        """How often each kind came."""
        return Counter(s.error.kind for s in list(self.all) if s.error and key in (None, s.key))
