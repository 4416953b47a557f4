"""The worker whose turns the test makes is a fixture."""

from __future__ import annotations

from tests.proxy.turns import turns

__all__ = ["turns"]
