"""What one turn receives and sends: edges that tell of two things at once must lose neither."""

from __future__ import annotations

import itertools
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from hapolicy.net.loop import Loop
from hapolicy.net.poll import EVENTS_A_TURN, RECEIVE_BYTES, Peer, receive

ENDS = 2000  # without the lock one in some hundreds goes wrong


@pytest.fixture
def pair() -> Iterator[tuple[Loop, Peer, socket.socket]]:
    """A loop, a peer of it, and the peer's other end."""
    loop = Loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    peer = Peer(ours)
    loop.register(peer)
    with theirs:
        yield loop, peer, theirs
    loop.close_loop()


def test_bytes_and_the_end_in_one_event(pair: tuple[Loop, Peer, socket.socket]) -> None:
    """The bytes are received; that the end has come, too, is remembered."""
    loop, peer, theirs = pair
    theirs.sendall(b"bytes")
    theirs.shutdown(socket.SHUT_WR)
    assert [b"bytes"] == [data for _, _, data in loop.wait(1)]
    assert peer.unread
    assert b"" == receive(peer)


def test_bytes_and_the_end_while_the_peer_waits(pair: tuple[Loop, Peer, socket.socket]) -> None:
    """It is not read: no further event will tell of what came meanwhile, be it bytes, the end, or both."""
    loop, peer, theirs = pair
    peer.waits = True
    theirs.sendall(b"bytes")
    theirs.shutdown(socket.SHUT_WR)
    assert [None] == [data for _, _, data in loop.wait(1)]
    assert peer.unread
    assert b"bytes" == receive(peer)
    assert peer.unread
    assert b"" == receive(peer)


def test_more_than_one_receive(pair: tuple[Loop, Peer, socket.socket]) -> None:
    """What is left is not forgotten."""
    loop, peer, theirs = pair
    theirs.sendall(b"x" * (RECEIVE_BYTES + 1))
    loop.wait(1)
    assert peer.unread
    assert b"x" == receive(peer)
    assert not peer.unread
    assert None is receive(peer)


def test_what_a_socket_does_not_take_is_sent_later(pair: tuple[Loop, Peer, socket.socket]) -> None:
    """In order, once there is room; the loop is told of it."""
    loop, peer, theirs = pair
    data = bytes(range(256)) * 8192
    loop.out.append((peer, data))
    loop.send_out()
    assert peer.unsent
    got = b""
    while len(got) < len(data):
        got += theirs.recv(1_000_000)
        for _, flags, _ in loop.wait(0.01):
            if flags & select.EPOLLOUT:
                loop.flush(peer)
        loop.send_out()
    assert data == got
    assert not peer.unsent


def test_a_number_is_not_given_out_anew_within_a_turn(pair: tuple[Loop, Peer, socket.socket]) -> None:
    """Closing waits for the sends: a newcomer must not get an answer that was another's."""
    loop, peer, theirs = pair
    loop.out.append((peer, b"last words"))
    loop.close(peer)
    with socket.socket() as newcomer:
        assert newcomer.fileno() != peer.fd
    loop.send_out()
    loop.close_doomed()
    assert b"last words" == theirs.recv(100)
    assert b"" == theirs.recv(100)
    assert peer.fd not in loop.peers


def test_calls_from_other_threads_are_made_in_order(pair: tuple[Loop, Peer, socket.socket]) -> None:
    """And wake the loop; one that fails tells its caller."""
    loop, _, _ = pair
    made: list[int] = []
    for number in range(5):
        loop.post(lambda number=number: made.append(number))  # type: ignore[misc]
    loop.wait(10)
    loop.make_posted_calls()
    assert [0, 1, 2, 3, 4] == made
    with pytest.raises(TimeoutError):
        loop.call(lambda: None, 0.01)


def test_what_came_while_the_loop_stood_still_is_received_before_the_clock_counts(
    pair: tuple[Loop, Peer, socket.socket],
) -> None:
    """The wait returned with nothing, and the process was stopped before the look at the clock."""
    loop, _, theirs = pair
    poller = loop._poller

    class Stopped:
        def poll(self, timeout_s: float, most: int) -> list[tuple[int, int]]:
            nothing = poller.poll(timeout_s, most)
            theirs.sendall(b"answer")
            time.sleep(0.02)
            return nothing

    loop._poller = Stopped()  # type: ignore[assignment]
    before = time.monotonic()
    assert [] == loop.wait(0)
    loop.end_turn()
    assert loop.now > before + 0.02
    assert loop.received_until < before
    loop._poller = poller
    assert [b"answer"] == [data for _, _, data in loop.wait(0)]
    assert loop.received_until > before + 0.02


@pytest.fixture
def others(pair: tuple[Loop, Peer, socket.socket]) -> Iterator[list[tuple[Peer, socket.socket]]]:
    """Three turns full of further peers of the loop."""
    loop, *_ = pair
    found = []
    for _ in range(3 * EVENTS_A_TURN):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        peer = Peer(ours)
        loop.register(peer)
        found.append((peer, theirs))
    yield found
    for _, theirs in found:
        theirs.close()


def receive_all(loop: Loop, others: list[tuple[Peer, socket.socket]]) -> tuple[list[float], float]:
    """Until when the clock counted in each turn until all of `others` were received from, and some turns later.

    Some of them go on sending meanwhile.
    """
    counted: list[float] = []
    received: set[Peer] = set()
    for turns_after in itertools.count():
        received |= {peer for peer, _, data in loop.wait(0) if data}
        loop.end_turn()
        if len(received) < len(others):
            counted.append(loop.received_until)
        elif turns_after > 2 * len(counted):
            break
        for _, theirs in others[:EVENTS_A_TURN]:
            theirs.sendall(b"more")
    return counted, loop.received_until


@pytest.mark.parametrize("stood_still", ["in a wait", "in a turn"])
def test_all_that_came_while_the_loop_stood_still_is_received_before_the_clock_counts(
    pair: tuple[Loop, Peer, socket.socket], others: list[tuple[Peer, socket.socket]], stood_still: str
) -> None:
    """However many turns that takes, and though newer things keep coming."""
    loop, *_ = pair
    for _, theirs in others:
        theirs.sendall(b"answer")
    if stood_still == "in a turn":
        loop.now -= 1
        loop.end_turn()
        resumed = loop.turn_ended_at
    else:
        resumed = time.monotonic()
        loop.turn_ended_at = resumed - 1
    before, after = receive_all(loop, others)
    assert max(before) < resumed
    assert resumed <= after < loop.now


def test_a_backlog_of_load_does_not_stop_the_clock(
    pair: tuple[Loop, Peer, socket.socket], others: list[tuple[Peer, socket.socket]]
) -> None:
    """The loop has not stood still: what it has not received has not waited for long."""
    loop, *_ = pair
    for _, theirs in others:
        theirs.sendall(b"answer")
    loop.end_turn()
    began = loop.turn_ended_at
    counted, _ = receive_all(loop, others)
    assert len(counted) > 1
    assert counted == sorted(set(counted))
    assert counted[0] >= began


def test_a_call_that_comes_at_the_end_or_later_writes_nowhere() -> None:
    """What it would wake is closed, and its number may be another file's."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.000_001)
    try:
        for _ in range(ENDS):
            _end_while_calls_come()
    finally:
        sys.setswitchinterval(interval_s)


def _end_while_calls_come() -> None:
    loop, ended = Loop(), threading.Event()
    number = loop._wake_up
    assert number is not None

    def call() -> None:
        while not ended.is_set():
            loop.post(lambda: None)

    caller = threading.Thread(target=call)
    caller.start()
    reader, writer = os.pipe()
    loop.close_loop()
    os.dup2(writer, number)
    ended.set()
    caller.join()
    loop.post(lambda: None)
    came = select.select([reader], [], [], 0)[0]
    for each in (reader, writer, number):
        os.close(each)
    assert not came
