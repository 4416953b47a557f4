"""What the end-to-end tests need of the machine, and what happens where it is missing.

A developer without Postfix still gets a useful test run, so a missing part skips its tests and names the
Debian package. In continuous integration (``CI=true``) the same is a failure: a skip there would hide that
nothing was shown.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

# Daemons live in sbin, which is not on the PATH of every developer.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/lib/systemd"])


def missing(what: str, remedy: str) -> NoReturn:
    """Skip the test, or fail it in continuous integration, because ``what`` is not here."""
    reason = f"{what} is missing: {remedy}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need(command: str, package: str) -> str:
    """Return the full path of a command, or end the test by naming the Debian package that has it."""
    return shutil.which(command, path=SEARCH_PATH) or missing(command, f"install the Debian package {package}")


def need_root() -> None:
    """End the test unless it runs as root, which Postfix's master and daemons with users of their own want."""
    if os.geteuid() != 0:
        missing("the right to start daemons", "run the tests as root")
