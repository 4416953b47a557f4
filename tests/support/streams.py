"""What several rooms are tested with: bytes in pieces, and complaints that may be shown."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these places, wrapped around to where it has any."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


cuts = st.lists(st.integers(0, 100_000), max_size=12)


def reason(error: Exception) -> str:
    """Why something was refused, in printable words."""
    text = str(error)
    assert text
    assert text.isprintable()
    return text
