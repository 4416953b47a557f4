"""What fuzzing has been seeded with, and all that it ever found, goes through the parsers in every test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
INPUTS = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=str)
def test_an_input_of_the_corpus_is_understood_or_refused(path: Path) -> None:
    """No traceback, no hang, no difference whether it comes whole or in pieces; cut off and doubled, too."""
    target, data = TARGETS[path.parts[0]], (CORPUS / path).read_bytes()
    for variant in (data, data[:-1], data[1:], data * 2, data + b"\0", data.replace(b"\n", b"\r\n")):
        target(variant)


def test_every_target_has_a_corpus() -> None:
    """A fuzzer without a seed finds the first byte of "action=" by chance alone."""
    assert set(TARGETS) == {path.parts[0] for path in INPUTS}
