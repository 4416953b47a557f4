"""Rude clients of a policy server: ``rude.py PORT`` until it is ended. Prints "rude" once all are connected."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=a@example.com\ninstance=rude.%d\n\n"
PIPELINED = 100_000
DRIPPERS = 500


def pipeline(sock: socket.socket) -> None:
    """Ask 100,000 times without waiting; the answers are read as they come."""
    threading.Thread(target=read, args=(sock,), daemon=True).start()
    with contextlib.suppress(OSError):
        for number in range(0, PIPELINED, 100):
            sock.sendall(b"".join(REQUEST % n for n in range(number, number + 100)))


def read(sock: socket.socket) -> None:
    """Read answers."""
    with contextlib.suppress(OSError):
        while sock.recv(65_536):
            pass


def never_read(sock: socket.socket) -> None:
    """Ask and ask, and read nothing."""
    with contextlib.suppress(OSError):
        for number in range(PIPELINED):
            sock.sendall(REQUEST % number)


def drip(port: int, socks: list[socket.socket]) -> None:
    """A byte a second from each."""
    for number in itertools.count():
        for index, sock in enumerate(socks):
            try:
                sock.send((REQUEST % index)[number % 9 : number % 9 + 1])
            except OSError:
                socks[index] = socket.create_connection(("127.0.0.1", port))
            time.sleep(1 / DRIPPERS)


def main(port: int) -> None:
    """Be rude for two minutes at most."""

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port))

    drippers = [connect() for _ in range(DRIPPERS)]
    threads = [
        threading.Thread(target=pipeline, args=(connect(),), daemon=True),
        threading.Thread(target=never_read, args=(connect(),), daemon=True),
        threading.Thread(target=drip, args=(port, drippers), daemon=True),
    ]
    for thread in threads:
        thread.start()
    print("rude", flush=True)
    time.sleep(120)


if __name__ == "__main__":
    main(int(sys.argv[1]))
