"""Fuzz one parser, guided by its coverage (atheris), from its corpus; ends with status 0 when nothing was found.

    python tests/fuzz/run.py TARGET [--seconds 20] [--runs N] [--corpus FOLDER]

A finding ends it, with the traceback and the input in a file crash-*. Put such an input into the corpus: the
test run replays it from then on. With --corpus a folder of one's own collects new inputs between runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hapolicy"]):
    import hapolicy.admin.control.protocol
    import hapolicy.config.loading
    import hapolicy.core.protocol
    import hapolicy.core.service  # noqa: F401 - what is to be guided by

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.fuzz.targets import TARGETS

SLOWEST_S = 5  # one input that takes longer hangs the parser
LENGTHS_MAX = {"requests": 70_000, "answers": 20_000, "orders": 140_000}  # just above what each reader takes


def main() -> None:
    """Run libFuzzer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    seeds = Path(__file__).with_name("corpus") / options.target
    with tempfile.TemporaryDirectory(prefix="hapolicy-fuzz-") as scratch:
        flags = [
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-timeout={SLOWEST_S}",
            f"-max_len={LENGTHS_MAX.get(options.target, 400)}",
            "-len_control=50",
            "-print_final_stats=1",
            f"-artifact_prefix={options.corpus or '.'}/",
        ]
        atheris.Setup([sys.argv[0], *flags, str(options.corpus or scratch), str(seeds)], TARGETS[options.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
