"""What is asked of the kernel for the process."""

from __future__ import annotations

import resource

import pytest

from hapolicy.daemon.process import raise_descriptor_limit


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_limit_that_cannot_be_raised_is_left(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """fs.nr_open was lowered after the hard limit was set: setrlimit(2) refuses what getrlimit(2) says."""

    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise error("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_descriptor_limit()
