"""A worker does not end at what nobody foresaw, works when woken and when its time comes, and stops."""

import threading

from common.clock import Clock
from common.worker import Worker


class Work:
    """Fails as often as it is told, and gives the next due second."""

    def __init__(self, failures: int, due: float | None) -> None:
        self.failures, self.due = failures, due
        self.calls = 0
        self.changed = threading.Condition()

    def __call__(self) -> float | None:
        with self.changed:
            self.calls += 1
            self.changed.notify_all()
        if self.calls <= self.failures:
            raise RuntimeError("nobody foresaw this")
        return self.due

    def until(self, calls: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.calls >= calls, 10), self.calls


def test_it_goes_on_after_what_nobody_foresaw() -> None:
    work = Work(failures=3, due=None)
    worker = Worker("w", work, Clock(), retry_s=0.01)
    worker.start()
    work.until(4)
    assert worker.alive
    worker.wake()
    work.until(5)
    worker.stop()
    assert not worker.alive


def test_it_works_when_its_time_comes() -> None:
    work = Work(failures=0, due=0.0)  # always overdue
    worker = Worker("w", work, Clock())
    worker.start()
    work.until(3)
    worker.stop()
