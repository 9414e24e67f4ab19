"""What every simulated device stands on: one pty whose slave side the gateway opens by a stable path, one thread."""

import contextlib
import os
import select
import threading
import tty
from pathlib import Path

from edge.emulators.trouble import Trouble

_LETTING_GO_S = 5.0
_LONGEST_S = 3600.0  # select(2) takes no infinity


class PtyDevice:
    """A device plugged into a pty. `path` is a symbolic link to the slave side, as udev makes them for real adapters.

    Subclasses override `received` (bytes from the host) and `tick` (what the device does by itself). Both run in the
    device's own thread. `unplug` and `replug` are a pulled and a returned USB adapter: the link goes, the host's open
    port hangs up, and the new slave is another one behind the same path. What it sends passes through `trouble`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = Trouble()
        self._stopped = threading.Event()
        self._plugged = threading.Event()
        self._let_go = threading.Event()
        self._lock = threading.RLock()
        self._master = -1
        self._slave = -1
        self._wake_r = -1
        self._wake_w = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Plug in and run until `stop`. The port can be opened when this returns."""
        if self._thread is not None:
            raise RuntimeError(f"{self.path}: already started")
        self._stopped.clear()
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.replug()
        self._thread = threading.Thread(target=self._run, name=f"device {self.path.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Unplug for good and end the thread. Does nothing when it is not running."""
        if self._thread is None:
            return
        self._stopped.set()
        self.wake()
        self._thread.join()
        self._thread = None
        self.unplug()
        with self._lock:
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = self._wake_w = -1

    def unplug(self) -> None:
        """Pull the adapter: whoever has the port open sees it hang up."""
        with self._lock:
            self._plugged.clear()
            if self._master < 0:
                return
            self._let_go.clear()
            self.path.unlink(missing_ok=True)
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = -1
        self.wake()
        # A select(2) that is under way keeps the line up, and what the host writes until then would seem to have arrived.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._let_go.wait(_LETTING_GO_S)

    def replug(self) -> None:
        """Put it back: a new pty behind the same path. The device itself keeps its state."""
        with self._lock:
            if self._master >= 0:
                return
            self._master, self._slave = os.openpty()  # our slave descriptor keeps the line up while nobody listens
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            fresh = self.path.with_name(f".{self.path.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(os.ttyname(self._slave))
            fresh.replace(self.path)
            self._plugged.set()
        self.wake()

    @property
    def plugged(self) -> bool:
        return self._plugged.is_set()

    def write(self, data: bytes) -> bool:
        """Put a frame on the line, from any thread. False when it did not arrive as it is: trouble, unplugged, or nobody has read
        for long."""
        trouble = self.trouble
        arriving = trouble.arriving(data)
        whole = arriving == data
        for pause_s, piece in trouble.pieces(arriving):
            self.pause(pause_s)
            whole &= self._put(piece)
        if trouble.restarts():
            self.restart()
        return whole

    def restart(self) -> None:
        """Lose the power for a moment: what the device was told, and does not keep, is forgotten."""

    def _put(self, data: bytes) -> bool:
        with self._lock:
            if self._master < 0:
                return False
            try:
                return os.write(self._master, data) == len(data)
            except OSError:  # EAGAIN: the line's buffer is full; a UART would lose them as well
                return False

    def pause(self, seconds: float) -> None:
        """Let real time pass in the device; ends early on `stop`."""
        if seconds:
            self._stopped.wait(seconds)

    def wake(self) -> None:
        """Make the thread call `tick` now."""
        with self._lock:
            if self._wake_w >= 0:
                with contextlib.suppress(BlockingIOError):  # enough wakes are pending
                    os.write(self._wake_w, b"w")

    def received(self, data: bytes) -> None:
        """Bytes that the host sent, in whatever pieces they came."""

    def tick(self) -> float | None:
        """Do what is due now; returns after how many real seconds to call again, None for not before something happens."""
        return None

    def _run(self) -> None:
        while not self._stopped.is_set():
            timeout = self.tick()
            timeout = _LONGEST_S if timeout is None else min(timeout, _LONGEST_S)
            with self._lock:
                master = self._master
                if master < 0:
                    self._let_go.set()
            watched = [self._wake_r] if master < 0 else [self._wake_r, master]
            try:
                ready, _, _ = select.select(watched, [], [], timeout)
            except OSError:
                continue  # unplugged under our hands
            if self._wake_r in ready:
                os.read(self._wake_r, 4096)
            with self._lock:
                if master not in ready or master != self._master:
                    continue
                try:
                    data = os.read(master, 4096)
                except OSError:
                    continue
            if data:
                self.received(data)
