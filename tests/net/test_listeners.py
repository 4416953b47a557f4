"""What cannot be listened on is refused in words; with a daemon, tests/process/test_listeners.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hapolicy.config.settings import Listener, Settings
from hapolicy.core.address import TcpAddress, UnixAddress
from hapolicy.net.listeners import ListenError, Listening


def test_what_python_cannot_encode() -> None:
    """The idna codec refuses an empty label with no OSError: a complaint all the same, in the words of each Python."""
    settings = Settings(services=(), listeners=(Listener(TcpAddress("fe80::1%a..b", 0)),))
    with pytest.raises(ListenError, match=r"--listen \[fe80::1%a..b\]:0: .+; example: --listen "):
        Listening(settings, [])


def test_a_unix_socket_is_removed_by_who_made_it(tmp_path: Path) -> None:
    """Its file goes with the daemon; not that of another one, which has taken its place in the meantime."""
    path = tmp_path / "sock"
    settings = Settings(services=(), listeners=(Listener(UnixAddress(str(path))),))
    Listening(settings, []).close()
    assert not path.exists()
    former = Listening(settings, [])
    path.unlink()
    successor = Listening(settings, [])
    former.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    successor.close()
    assert not path.exists()
