"""What a transport hands over, kept for a test to wait on."""

import threading

WAIT_S = 15


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
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.all), WAIT_S), f"only {self.all}"
            return list(self.all)
