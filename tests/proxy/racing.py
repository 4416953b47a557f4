"""Threads that begin together and are switched as often as CPython can; values that give way; locks that do not."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tests.support.procs import PATIENCE_S


@contextlib.contextmanager
def fast_switching() -> Iterator[None]:
    """Let the interpreter switch threads wherever it may."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def race(*functions: Callable[[], object]) -> None:
    """Run all of them at once; raises the first error that one of them raised."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            barrier.wait(PATIENCE_S)
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread is still running"


def give_way() -> None:
    """Let another thread run now."""
    time.sleep(0.0005)


class WayGivingInt(int):
    """An integer whose sums take a moment, in which another thread may run."""

    def __add__(self, other: int) -> WayGivingInt:
        give_way()
        return WayGivingInt(int(self) + other)

    __radd__ = __add__


class WayGivingFalse:
    """Nothing, but it takes a moment to find out."""

    def __bool__(self) -> bool:
        give_way()
        return False


class NoLock:
    """A lock that lets everybody in."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


class NoCondition(NoLock):
    """A condition that is nobody's: it waits as the real one does, but guards nothing."""

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> bool:
        """Poll; another thread may run between the answer and what is made of it."""
        give_up_at = time.monotonic() + (PATIENCE_S if timeout is None else timeout)
        while not predicate():
            if time.monotonic() > give_up_at:
                return False
            give_way()
        give_way()
        return True

    def notify(self, n: int = 1) -> None:
        """Nobody waits to be told."""

    def notify_all(self) -> None:
        """Nobody waits to be told."""


ROUNDS = 10
ROUNDS_UNTIL_IT_BREAKS = 300  # most races without their lock break in the first of them


def assert_guards(holds: Callable[[bool], bool]) -> None:
    """`holds(locked)` in every round with the lock, and soon not, or with an error, without."""
    with fast_switching():
        assert all(holds(True) for _ in range(ROUNDS))
        assert any(breaks(holds) for _ in range(ROUNDS_UNTIL_IT_BREAKS)), "it holds without the lock, too"


def breaks(holds: Callable[[bool], bool]) -> bool:
    """Whether it does not hold without the lock this time."""
    try:
        return not holds(False)
    except (LookupError, ValueError, RuntimeError):
        return True
