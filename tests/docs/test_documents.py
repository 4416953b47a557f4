"""The documents, against the code that they are about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from hapolicy.config.options import OPTIONS
from hapolicy.core.events import REGISTRY
from hapolicy.daemon.daemon import _FIXED

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(
    ("document", "reload"),
    [("docs/operating.md", r"\n## Reload\n(.*)"), ("package/man/hapolicy.8.in", r"\n\.B SIGHUP\n(.*?)\n\.TP")],
)
def test_what_needs_a_restart_is_listed(document: str, reload: str) -> None:
    """What is said of a reload names each option that it cannot change, and no other one."""
    text = (ROOT / document).read_text().replace(r"\-", "-")
    told = re.search(reload, text, re.DOTALL)
    assert told
    assert re.search(r"need\s+a\s+restart", told[1])
    fixed = {option.name for option in OPTIONS if not option.reloads}
    assert set(_FIXED.values()) == fixed == set(re.findall(r"--[a-z-]+", told[1]))


def test_the_reference_is_made_from_the_code() -> None:
    """No page is stale (make reference)."""
    program = [sys.executable, "package/reference.py", "--check"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_every_event_that_is_logged_is_in_the_registry_and_the_other_way_round() -> None:
    """The registry holds nothing that is never told."""
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if path.name != "events.py")
    told = set(re.findall(r"\bevents\.([A-Z_]+)\b", code))
    assert {name.upper().replace(".", "_").replace("-", "_") for name in REGISTRY} == told


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, target


def test_the_readme_is_short() -> None:
    """Whoever wants more reads on in docs."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_benchmark_table_is_that_of_the_run_that_is_kept() -> None:
    """The README has no figure of its own, nor one of a run before."""
    found = json.loads((ROOT / "benchmarks" / "results" / "results.json").read_text())
    found["speed"] = {
        name: {int(connections): rounds for connections, rounds in by_connections.items()}
        for name, by_connections in found["speed"].items()
    }
    assert report.summary(found) in (ROOT / "README.md").read_text()
