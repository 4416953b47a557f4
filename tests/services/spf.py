"""policyd-spf-perl, the service that a mail can kill and that waits for DNS."""

from __future__ import annotations

from tests.e2e.need import need
from tests.e2e.services import Service
from tests.services.nameserver import NameServer


class SpfPerl(Service):
    """policyd-spf-perl, a process a connection as Postfix spawn(8) has it; systemd-socket-activate plays spawn."""

    def __init__(self, names: NameServer) -> None:
        super().__init__()
        self._listener = need("systemd-socket-activate", "systemd")
        self._program = need("/usr/sbin/postfix-policyd-spf-perl", "postfix-policyd-spf-perl")
        self._names = names

    def command(self) -> list[str]:
        """With the name server of the test."""
        return [self._listener, "--accept", "--inetd", f"--listen={self.address}", *self._names.prefix, self._program]
