"""What HTTP clients may cost."""

from __future__ import annotations

import socket
import threading
import time

from hapolicy.admin.http.bounds import Heard, Pace
from hapolicy.admin.http.snapshot import Recent
from tests.support.statuses import status_with


def test_so_many_a_second_and_no_more() -> None:
    """However many threads ask at once: the lock keeps two from taking the same turn."""
    pace = Pace(200)
    began = time.monotonic()
    threads = [threading.Thread(target=lambda: [pace.wait() for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 79 / 200


def test_the_one_silent_for_longest_gives_way() -> None:
    """And the next time another one."""
    heard = Heard()
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, _ in pairs:
        heard.from_(ours)
        time.sleep(0.002)
    heard.from_(pairs[0][0])
    heard.end_the_idlest()
    assert b"" == pairs[1][1].recv(1)
    heard.end_the_idlest()
    assert b"" == pairs[2][1].recv(1)
    heard.forget(pairs[0][0])
    pairs[0][1].setblocking(False)
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_one_snapshot_a_second_whoever_asks() -> None:
    """Eight threads at once have one made; a second later there is another."""
    made: list[float] = []
    clock = [100.0]

    def take() -> object:
        made.append(clock[0])
        time.sleep(0.05)
        return status_with()

    recent = Recent(take, lambda: clock[0])  # type: ignore[arg-type]
    threads = [threading.Thread(target=recent) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [100.0] == made
    clock[0] = 100.99
    recent()
    clock[0] = 101.0
    recent()
    assert [100.0, 101.0] == made
