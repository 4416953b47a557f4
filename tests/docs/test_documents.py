"""What README and the manual page list by hand, against the code that decides it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import report
from hapolicy.daemon.daemon import _FIXED

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("document", "reload"),
    [("README.md", r"\n### Reload\n(.*?)\n### "), ("package/man/hapolicy.8.in", r"\n\.B SIGHUP\n(.*?)\n\.TP")],
)
def test_what_takes_a_restart_is_listed(document: str, reload: str) -> None:
    """What is said of a reload names each option that it cannot change, and no other one."""
    text = (ROOT / document).read_text().replace(r"\-", "-")
    told = re.search(reload, text, re.DOTALL)
    assert told
    assert re.search(r"take\s+a\s+restart", told[1])
    assert set(_FIXED.values()) == set(re.findall(r"--[a-z-]+", told[1]))


def test_the_benchmark_table_is_that_of_the_run_that_is_kept() -> None:
    """The README has no figure of its own, nor one of a run before."""
    found = json.loads((ROOT / "benchmarks" / "results" / "results.json").read_text())
    found["speed"] = {
        name: {int(connections): rounds for connections, rounds in by_connections.items()}
        for name, by_connections in found["speed"].items()
    }
    assert report.summary(found) in (ROOT / "README.md").read_text()
