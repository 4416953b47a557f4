"""Who is at the other end of a unix socket, as the kernel vouches for it, and whether they may give orders.

The kernel notes a process's credentials at its connect() (SO_PEERCRED, SO_PEERGROUPS; unix(7)). In a user namespace
(PrivateUsers=) all users and groups of the outside that are not mapped look like one: nobody. So nobody, and
the group of that number, is never taken for somebody.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

_NOBODY = 65534  # the kernel's overflowuid and overflowgid
_CREDENTIALS = struct.Struct("=iII")  # struct ucred
_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
_GROUPS_MAX_BYTES = 1024  # the most that Python's getsockopt takes


@dataclass(frozen=True)
class Peer:
    """A process that has connected: its user, and all groups it is in."""

    pid: int
    uid: int
    groups: AbstractSet[int]


def peer_of(sock: socket.socket) -> Peer:
    """Who connected. Raises OSError where the kernel does not tell."""
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size),
    )
    return Peer(pid, uid, {gid, *_supplementary_groups(sock)})


def may_order(peer: Peer, own_uid: int, socket_group: int | None) -> bool:
    """Whether `peer` is root, the daemon's own user, or in the socket's group."""
    if peer.uid == 0 or (peer.uid == own_uid != _NOBODY):
        return True
    return socket_group is not None and socket_group != _NOBODY and socket_group in peer.groups


def group_of(listening: socket.socket) -> int | None:
    """The group of a listening socket's file as it is now; None when it has no file."""
    path = listening.getsockname()
    if listening.family != socket.AF_UNIX or not isinstance(path, str) or not path:
        return None
    try:
        return os.stat(path).st_gid
    except OSError:
        return None


def _supplementary_groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MAX_BYTES)
    except OSError:  # in more than 256 groups, or an old kernel: the primary group must do
        return ()
    return struct.unpack(f"={len(groups) // 4}I", groups)
