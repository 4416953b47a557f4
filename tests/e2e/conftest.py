"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.need import need
from tests.e2e.once import made_once


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Path:
    """The Debian package, as ``make deb`` makes it; one for all processes of a run."""
    need("dpkg-deb", "dpkg")
    script = Path(__file__).resolve().parents[2] / "package" / "deb.py"

    def make(folder: Path) -> None:
        done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr

    return next(made_once(tmp_path_factory.getbasetemp().parent / f"deb-{testrun_uid}", make).glob("*.deb"))
