"""How a connection begins, and what its end means."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hapolicy.core.failures import FailureKind
from hapolicy.net.connect import begin_connect, kind_of, pending_error


def test_a_connection_with_itself_is_a_refusal() -> None:
    """Nobody listens on a port of the ephemeral range, and the connection is given that very port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        error = pending_error(sock)
    assert error is not None
    assert FailureKind.REFUSED is kind_of(error)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_connection_with_another_is_none(family: socket.AddressFamily, tmp_path: Path) -> None:
    """Also where neither end has a name: a unix socket that connects."""
    with socket.socket(family) as listening:
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
        listening.listen()
        sock, _ = begin_connect((family, listening.getsockname()))
        with sock:
            listening.accept()[0].close()
            assert pending_error(sock) is None
