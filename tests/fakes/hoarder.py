"""Somebody who wants the page for themselves: lasting connections from one address, opened again when they are closed.

    python -m tests.fakes.hoarder PORT ADDRESS COUNT KIND AGAIN

KIND: `silent` says nothing, `slow` sends a head a byte at a time, `stream` asks for changes and stays, `unread` asks for the
whole page again and again and reads nothing. AGAIN: how many it opens again in a round of 0.2 s. Prints a line when all are
open for the first time, and runs until it is ended.
"""

import selectors
import socket
import sys
import time
from contextlib import suppress


def main(port: int, address: str, count: int, kind: str, again: int) -> None:
    selector = selectors.DefaultSelector()
    said = False

    def connect() -> None:
        sock = socket.socket()
        sock.bind((address, 0))
        sock.connect(("127.0.0.1", port))
        if kind == "stream":
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        elif kind == "unread":
            sock.sendall(b"GET /alarmes HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        elif kind == "slow":
            sock.sendall(b"GET / HTTP/1.1\r\nX: ")
        selector.register(sock, selectors.EVENT_READ if kind != "unread" else selectors.EVENT_WRITE)

    while True:
        with suppress(OSError):
            for _ in range(min(count - len(selector.get_map()), again if said else count)):
                connect()
        if not said:
            said = True
            print("open", flush=True)
        for key, _ in selector.select(0.05):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            try:
                gone = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or (
                    kind != "unread" and not sock.recv(65536)
                )
            except OSError:
                gone = True
            if gone:
                selector.unregister(sock)
                sock.close()
        if kind == "slow":
            for key in list(selector.get_map().values()):
                with suppress(OSError):
                    key.fileobj.send(b"x")  # type: ignore[union-attr]
        time.sleep(0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
