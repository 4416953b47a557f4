"""A missing part of the machine is told apart from a test that passed."""

from __future__ import annotations

import pytest

from tests.e2e.need import need


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_missing_part_skips_on_a_desk_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    """The skip or the failure names the Debian package to install."""
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="install the Debian package no-such-package"):
        need("no-such-command", "no-such-package")


def test_part_that_is_there_is_found_with_its_path() -> None:
    """A command is found on PATH or in the folders of daemons."""
    assert need("sh", "dash").endswith("/sh")
