"""How a number is said to people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """1 service, 2 services."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
