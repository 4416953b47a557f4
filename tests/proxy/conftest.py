"""The worker whose turns the test makes is a fixture, and so is its name service."""

from __future__ import annotations

from tests.proxy.name_service import names
from tests.proxy.turns import turns

__all__ = ["names", "turns"]
