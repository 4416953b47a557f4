"""hapolicy with a lock that is held for ever when a line says so: a program for a test, with hapolicy's arguments.

``hold NAME`` on stdin takes the lock, ``free`` lets it go. Whoever needs it meanwhile hangs, as with a deadlock.
"""

from __future__ import annotations

import sys
import threading

from hapolicy import cli
from hapolicy.daemon import daemon


class WedgedDaemon(daemon.Daemon):
    """The daemon, its locks within reach."""

    def run(self) -> None:
        """Serve, and obey what comes on stdin."""
        threading.Thread(target=self._obey, daemon=True).start()
        super().run()

    def _obey(self) -> None:
        for line in sys.stdin:
            _, _, name = line.strip().partition(" ")
            upstream = self._pool.upstreams[0]
            locks = {
                "clients": self._clients._changed,
                "upstream": upstream._lock,
                "gate": upstream.gate._lock,
                "tier": self._pool.relay._scheduler._tiers[0]._lock,
            }
            with locks[name]:
                print(f'{{"event": "held", "lock": "{name}"}}', flush=True)
                sys.stdin.readline()


if __name__ == "__main__":
    daemon.Daemon = WedgedDaemon  # cli imports it from there when it is needed
    sys.exit(cli.main())
