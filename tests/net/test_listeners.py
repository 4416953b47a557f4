"""What cannot be listened on is refused in words; with a daemon, tests/process/test_listeners.py."""

from __future__ import annotations

import pytest

from hapolicy.config.settings import Listener, Settings
from hapolicy.core.address import TcpAddress
from hapolicy.net.listeners import ListenError, Listening


def test_what_python_cannot_encode() -> None:
    """The idna codec refuses an empty label with no OSError: a complaint all the same, in the words of each Python."""
    settings = Settings(services=(), listeners=(Listener(TcpAddress("fe80::1%a..b", 0)),))
    with pytest.raises(ListenError, match=r"--listen \[fe80::1%a..b\]:0: .+; example: --listen "):
        Listening(settings, [])
