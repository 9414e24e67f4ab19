"""A person at a terminal: a command on a real pty, whose questions are waited for and answered."""

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`say(question, answer)` waits until the question stands there and types the answer."""

    def __init__(self, command, *arguments, **more):
        self._master, slave = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "110"}
        self.process = subprocess.Popen(
            [Path(command), *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            preexec_fn=_take_terminal,
            start_new_session=True,
            **more,
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def say(self, question, answer, within_s=40):
        self.wait(question, within_s)
        self.wait(": ", within_s)
        os.write(self._master, answer.encode() + b"\n")

    def interrupt(self):
        """Ctrl-C."""
        os.write(self._master, b"\x03")

    def wait(self, text, within_s=40):
        end = time.monotonic() + within_s
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < end, f"{text!r} did not come:\n{self.shown}"
            assert self._read(0.1), f"{text!r} did not come before the end:\n{self.shown}"
        self._seen = self.shown.index(text, self._seen) + len(text)

    def close(self):
        """Whatever it is doing, it ends."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
            os.close(self._master)

    def end(self, within_s=40):
        """The exit code."""
        end = time.monotonic() + within_s
        while self._read(0.1):
            assert time.monotonic() < end, f"it does not end:\n{self.shown}"
        os.close(self._master)
        return self.process.wait(5)

    def _read(self, seconds):
        """Take what is there; False when the other end is closed."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 4096)
        except OSError:
            return False
        self.shown += _ESCAPES.sub("", data.decode(errors="replace")).replace("\r", "")
        return bool(data)


def _take_terminal():
    """As a shell would: a worker of pytest-xdist ignores Ctrl-C, and its children would too."""
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
