"""hapolicy of which a part stands still when a line says so: a program for a test, with hapolicy's arguments.

``hold worker`` on stdin stops the event loop, ``hold accept`` the thread that accepts; ``free`` lets it go on.
"""

from __future__ import annotations

import socket
import sys
import threading

from hapolicy import cli
from hapolicy.daemon import daemon


class WedgedDaemon(daemon.Daemon):
    """The daemon, its parts within reach."""

    def run(self) -> None:
        """Serve, and obey what comes on stdin."""
        threading.Thread(target=self._obey, daemon=True).start()
        super().run()

    def _obey(self) -> None:
        for line in sys.stdin:
            _, _, name = line.strip().partition(" ")
            freed = threading.Event()
            if name == "worker":
                self._pool.workers[0].post(freed.wait)  # type: ignore[arg-type]
            else:
                self._hold_accept(freed)
            print(f'{{"event": "held", "part": "{name}"}}', flush=True)
            sys.stdin.readline()
            freed.set()

    def _hold_accept(self, freed: threading.Event) -> None:
        server = self._servers[0]
        serve = server.serve

        def held(sock: socket.socket, peer: str) -> None:
            freed.wait()
            serve(sock, peer)

        server.serve = held  # type: ignore[method-assign]


if __name__ == "__main__":
    daemon.Daemon = WedgedDaemon  # cli imports it from there when it is needed
    sys.exit(cli.main())
