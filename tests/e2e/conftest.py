"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.need import need


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, as ``make deb`` makes it."""
    need("dpkg-deb", "dpkg")
    folder = tmp_path_factory.mktemp("deb")
    script = Path(__file__).resolve().parents[2] / "package" / "deb.py"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return next(folder.glob("*.deb"))
