"""A worker whose turns the test makes, its name service, and the connections to one service are fixtures."""

from __future__ import annotations

from tests.proxy.house import house, small_house
from tests.proxy.name_service import names
from tests.proxy.turns import turns

__all__ = ["house", "names", "small_house", "turns"]
