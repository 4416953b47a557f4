"""hapolicy that looks a name up again after 0.2 s: a program for a test, with hapolicy's arguments."""

from __future__ import annotations

import sys

from hapolicy import cli
from hapolicy.net import resolver

if __name__ == "__main__":
    resolver.FRESH_S = 0.2
    sys.exit(cli.main())
