"""``python -m hapolicy``."""

from hapolicy.cli import main

raise SystemExit(main())
