"""Who may give orders."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hapolicy.admin.control.peer import Peer, group_of, may_order, peer_of

OWN_UID, GROUP, NOBODY = 1000, 2000, 65534


@pytest.mark.parametrize(
    ("allowed", "uid", "groups", "own_uid", "socket_group"),
    [
        (True, 0, {0}, OWN_UID, GROUP),
        (True, OWN_UID, {5}, OWN_UID, GROUP),
        (True, 1001, {5, GROUP}, OWN_UID, GROUP),
        (False, 1001, {5}, OWN_UID, GROUP),
        (False, 1001, {5}, OWN_UID, None),
        (False, 1001, {0}, 0, GROUP),
        # Unmapped in a user namespace: everybody looks like nobody.
        (False, NOBODY, {NOBODY}, NOBODY, NOBODY),
        (False, 1001, {NOBODY}, OWN_UID, NOBODY),
        # What the kernel says of a socket that is no unix socket.
        (False, 2**32 - 1, {2**32 - 1}, OWN_UID, None),
    ],
)
def test_who_may(allowed: bool, uid: int, groups: set[int], own_uid: int, socket_group: int | None) -> None:
    """Root, the daemon's own user, the socket's group; never one who only looks like nobody."""
    assert allowed is may_order(Peer(1, uid, groups), own_uid, socket_group)


def test_the_kernel_tells_who_it_is() -> None:
    """Process, user, primary and supplementary groups come from the kernel."""
    one, other = socket.socketpair()
    with one, other:
        peer = peer_of(one)
    assert (os.getpid(), os.geteuid()) == (peer.pid, peer.uid)
    assert {os.getegid(), *os.getgroups()} == peer.groups


def test_the_group_is_the_files() -> None:
    """A socket without a file has no group."""
    with socket.socket(socket.AF_UNIX) as unnamed, socket.create_server(("127.0.0.1", 0)) as tcp:
        unnamed.bind(f"\0hapolicy-test-{os.getpid()}")
        assert (None, None) == (group_of(unnamed), group_of(tcp))


def test_a_changed_group_counts_at_once(tmp_path: Path) -> None:
    """chgrp on the socket needs no restart; a file that is gone has no group."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        assert os.getegid() == group_of(sock)
        if os.geteuid() == 0:
            os.chown(tmp_path / "sock", -1, GROUP)
            assert GROUP == group_of(sock)
        os.unlink(tmp_path / "sock")
        assert group_of(sock) is None
