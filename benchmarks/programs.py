"""The load and the policy service: C programs, built when the benchmark runs, and what they say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.processes import Process, find

HERE = Path(__file__).parent


def build(folder: Path) -> None:
    """Compile both into `folder`."""
    compiler = find("cc")
    if compiler is None:
        raise FileNotFoundError("no cc: install the Debian package gcc")
    for name in ("load", "service"):
        source, target = str(HERE / f"{name}.c"), str(folder / name)
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", target, source], check=True)


class Service:
    """A policy service; it keeps its port when it is started again."""

    def __init__(self, folder: Path, name: str) -> None:
        self._program = str(folder / "service")
        self.name = name
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self._process = Process([self._program, self.name, str(self.port)])
        self.port = int(self._process.line())

    def kill(self) -> None:
        """kill -9."""
        self._process.end()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass(frozen=True)
class Load:
    """What the load asks for; see load.c."""

    connections: int
    seconds: float
    late_ms: float = 0
    think_ms: float = 0


Result = dict[str, Any]


class Loader:
    """Puts a load on a port."""

    def __init__(self, folder: Path) -> None:
        self._program = str(folder / "load")

    def run(
        self,
        port: int,
        load: Load,
        proxy: Process | None = None,
        at_start: Callable[[], object] = lambda: None,
        at_end: Callable[[], object] = lambda: None,
    ) -> Result:
        """Run one; `at_start` is called when the ramp is over, `at_end` while all connections are still open.

        What the result says in "cpu_us" is the proxy's processor time per answer, in microseconds.
        """
        words = [str(port), str(load.connections), str(load.seconds), str(load.late_ms), str(load.think_ms)]
        with Process([self._program, *words]) as process:
            assert process.line() == "measuring"
            before_s = proxy.cpu_s() if proxy else 0.0
            at_start()
            result: Result = json.loads(process.line())
            if proxy and result["all_answers"]:
                result["cpu_us"] = round((proxy.cpu_s() - before_s) * 1e6 / result["all_answers"], 2)
            at_end()
            process.end_input()
        return result
