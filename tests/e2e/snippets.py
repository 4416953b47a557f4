"""What stands between fences in the documents."""

from __future__ import annotations

import re
from pathlib import Path


def blocks(page: Path) -> list[str]:
    """Each block of a page."""
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
