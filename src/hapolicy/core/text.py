"""How numbers and hostile text are shown to people: the one place where anything is escaped."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """1 service, 2 services."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def escaped(text: str) -> str:
    """`text` with control, format and other unprintable characters as escapes (DEL and C1 too, which JSON lets pass).

    The result does nothing to a terminal, and is one line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int) -> str:
    """The first `most` characters of `text`, and how many there were."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def quoted(text: str, most: int = 200) -> str:
    """`text` escaped and cut; in quotes where one could not see it, as a space at an end."""
    text = text if len(text) <= most else f"{text[:most]}..."
    return text if text and text.isprintable() and text == text.strip() else ascii(text)


def excerpt(data: bytes, most: int = 60) -> str:
    """The beginning of hostile bytes, in quotes, printable."""
    return ascii(data[:most])[1:]
