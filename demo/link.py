"""A network link that can fail: a TCP proxy on loopback between a client and a server."""

import contextlib
import socket
import threading


class Link:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, as a context manager.

    `cut` is a pulled plug: what exists is reset and what comes is refused, until `restore`. With `swallow` the link is
    half-open: TCP stays up and no byte passes; `restore` resets such a link.
    """

    def __init__(self, target: int) -> None:
        self.swallow = False
        self.port = 0
        self._target = target
        self._cut = False
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> "Link":
        listener = self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._spawn(self._accept, listener)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        with self._lock:
            self._cut = True
            self._reset()

    def restore(self) -> None:
        """Forward again. Connections of before do not come back to life."""
        with self._lock:
            self._cut = self.swallow = False
            self._reset()

    def _reset(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # its pump sees it and closes

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="link", daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    self._join(near)
                except OSError:  # the server is away: so is the link
                    near.close()

    def _join(self, near: socket.socket) -> None:
        with self._lock:
            if self._cut:
                near.close()
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends |= {near, far}
        self._spawn(self._pump, near, far)
        self._spawn(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.swallow:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._ends.discard(source)
            source.close()  # each socket is the source of one pump
