"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.need import need


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Postfix's, postgrey's and nobody's processes may enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="hapolicy-e2e-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, as ``make deb`` makes it."""
    need("dpkg-deb", "dpkg")
    folder = tmp_path_factory.mktemp("deb")
    script = Path(__file__).resolve().parents[2] / "package" / "deb.py"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return next(folder.glob("*.deb"))
