"""A hapolicy command line that spawn(8) can run as another user.

spawn(8) refuses root, and a test's own Python often lies where only its owner may look (a venv below a private
home), while the environment does not reach spawn's children. So: the test's own interpreter where ``nobody`` can
run it, else a copy of the installed package and its dependencies in an open folder, run by the system's Python.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.need import missing

USER = "nobody"  # as in the manual of 1.00; no file of hapolicy's has to belong to it
PACKAGES = ("hapolicy", "structlog", "pybreaker", "typing_extensions")
SYSTEM_PYTHON = "/usr/bin/python3"


def spawnable_hapolicy(folder: Path) -> list[str]:
    """The command (without hapolicy's own arguments) that works for ``USER`` with an empty environment."""
    direct = ["/usr/bin/env", *_python_path(os.environ.get("PYTHONPATH", "")), sys.executable, "-m", "hapolicy"]
    if _works(direct):
        return direct
    copied = ["/usr/bin/env", *_python_path(str(_copy(folder))), SYSTEM_PYTHON, "-m", "hapolicy"]
    if _works(copied):
        return copied
    return missing(f"a Python that {USER} can run hapolicy with", "install the Debian package python3")


def _python_path(value: str) -> list[str]:
    return [f"PYTHONPATH={value}"] if value else []


def _works(command: list[str]) -> bool:
    nobody: dict[str, Any] = {"user": USER, "group": "nogroup", "extra_groups": []}
    empty: dict[str, Any] = {"env": {"PATH": "/usr/bin:/bin"}, "cwd": "/"}
    probe = [*command, "--version"]
    return subprocess.run(probe, capture_output=True, timeout=30, check=False, **nobody, **empty).returncode == 0


def _copy(folder: Path) -> Path:
    """Copy the packages as this interpreter finds them, wherever they are installed."""
    target = folder / "python"
    target.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin)
        if source.name != "__init__.py":
            shutil.copy(source, target / source.name)
            continue
        shutil.copytree(source.parent, target / name, ignore=ignore)
        beside = source.parent.parent
        # A wheel's own shared libraries lie beside the package, as does its metadata.
        for more in [*beside.glob(f"{name}-*.dist-info"), *beside.glob(f"{name}.libs")]:
            shutil.copytree(more, target / more.name)
    return target
