"""What strangers wrote, as people are shown it."""

from __future__ import annotations

import pytest

from hapolicy.core.text import counted, escaped, excerpt, quoted, shortened


def test_numbers_have_their_nouns() -> None:
    """One has no s."""
    assert ["0 clients", "1 client", "2 clients"] == [counted(number, "client") for number in range(3)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("", ""),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202e", "\\u202e"),
        ("\U000e0001", "\\U000e0001"),
        ("\ud800", "\\ud800"),
        ("é\n", "é\\n"),
    ],
)
def test_what_would_do_something_to_a_terminal_is_escaped(text: str, shown: str) -> None:
    """And nothing else."""
    assert shown == escaped(text)


def test_long_texts_are_cut() -> None:
    """At their length, not before; where they are shortened it is said how long they were."""
    assert ("abc", "ab... (3 characters)") == (shortened("abc", 3), shortened("abc", 2))
    assert ("abc", "ab...") == (quoted("abc", 3), quoted("abc", 2))
    assert ("x" * 200, "x" * 200 + "...") == (quoted("x" * 200), quoted("x" * 201))
    assert ("'abc'", "'ab'") == (excerpt(b"abc"), excerpt(b"abc", 2))
    assert "'" + "x" * 60 + "'" == excerpt(b"x" * 61)


@pytest.mark.parametrize(
    ("text", "shown"), [("", "''"), (" a", "' a'"), ("a ", "'a '"), ("a b", "a b"), ("a\n", "'a\\n'")]
)
def test_what_cannot_be_seen_is_quoted(text: str, shown: str) -> None:
    """An empty text, a blank at an end, a control character."""
    assert shown == quoted(text)
