"""A service that came up takes its share little by little (``slow-start=SECONDS``)."""

from __future__ import annotations

import math
from fractions import Fraction

_STEPS = 10


def grown_share(up_for_s: float, slow_start_s: float) -> Fraction:
    """The part of its weight that a service has so long after it came up."""
    if not slow_start_s or up_for_s >= slow_start_s:
        return Fraction(1)
    return Fraction(max(1, math.ceil(_STEPS * up_for_s / slow_start_s)), _STEPS)
