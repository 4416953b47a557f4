"""What the .deb and the zipapp have in common: hapolicy and all that it imports, in one folder, no machine code in it.

So the folder is the same for every processor and every Python from 3.11 on, and nothing of the machine that built it
is in there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# What a wheel is built from; a copy, so that no remains of a former build get into it.
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src")
# The status page, Prometheus, and hapolicyctl's tables: one file to install is to do it all.
_EXTRAS = ("http", "ctl")
# Records of how pip came by a package, and programs that nobody starts.
_USELESS = ("bin", *(f"*.dist-info/{name}" for name in ("RECORD", "direct_url.json", "INSTALLER", "REQUESTED")))


class BuildError(Exception):
    """Something that was to be packed is not as it should be."""


def version() -> str:
    """hapolicy's version."""
    text = (ROOT / "src/hapolicy/__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if not found:
        raise BuildError("src/hapolicy/__init__.py names no version")
    return found[1]


def built_at() -> int:
    """The time that all files get (seconds since the epoch): that of the newest changelog entry, so that the same
    sources give the same packages."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdigit():
        return int(given)
    entry = next(line for line in (HERE / "debian/changelog").read_text().splitlines() if line.startswith(" -- "))
    return int(parsedate_to_datetime(entry.partition(">  ")[2]).timestamp())


def make_bundle(folder: Path) -> None:
    """Fill `folder` with hapolicy and what it needs. Raises `BuildError`."""
    with tempfile.TemporaryDirectory(prefix="hapolicy-build-") as name:
        _install(_copy_sources(Path(name)), folder)
    for pattern in _USELESS:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for cache in [*folder.rglob("__pycache__")]:
        shutil.rmtree(cache)
    if native_files := sorted(map(str, folder.rglob("*.so*"))):
        raise BuildError(f"machine code, which works on one kind of machine only: {', '.join(native_files)}")
    set_times(folder)


def set_times(folder: Path) -> None:
    """Give all below `folder` one time and the modes of a package's files."""
    when = built_at()
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        os.utime(path, (when, when), follow_symlinks=False)


def run(*words: str | Path, **more_environment: str) -> None:
    """Run a program to its end. Raises `BuildError` with what it said when it fails."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(built_at()), **more_environment}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise BuildError(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout}{done.stderr}")


def debian_date() -> str:
    """The build's day, for a man page."""
    return time.strftime("%Y-%m-%d", time.gmtime(built_at()))


def _copy_sources(folder: Path) -> Path:
    for source in _SOURCES:
        if (ROOT / source).is_dir():
            ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(ROOT / source, folder / source, ignore=ignore)
        else:
            shutil.copy(ROOT / source, folder)
    return folder


def _install(sources: Path, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    what = f"{sources}[{','.join(_EXTRAS)}]"
    # Nothing of the caller's may be taken for installed already.
    run(*pip, "install", "--no-compile", "--ignore-installed", "--target", folder, what, PYTHONPATH="")
