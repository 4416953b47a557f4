"""Processes of a benchmark: started in a group of their own, measured by /proc, always ended by their id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

PATIENCE_S = 15.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/lib/systemd"])


def find(command: str) -> str | None:
    """The full path of a command; daemons live in sbin, which is not on everyone's PATH."""
    return shutil.which(command, path=_SEARCH_PATH)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connects(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask every millisecond until `condition` is true."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.001)


class Process:
    """A program in a process group of its own, killed with all its children at the end of ``with``."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        environment = {**os.environ, **(env or {})}
        self._popen = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env=environment,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its id, and its group's."""
        return self._popen.pid

    def line(self) -> str:
        """The next line that it prints."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise ChildProcessError(f"{' '.join(self.argv)} ended with status {self._popen.wait()}")
        return line.strip()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def end_input(self) -> None:
        """Close its stdin and await its end."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(PATIENCE_S)

    def stop(self) -> None:
        """Tell it to end, and await that."""
        self._popen.terminate()
        self._popen.wait(PATIENCE_S)

    def end(self) -> None:
        """End it and its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(PATIENCE_S)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def cpu_s(self) -> float:
        """Processor time of the whole group so far, of children that have ended, too."""
        ticks = 0
        for _, stat in _stats_of_group(self.pid):
            ticks += sum(map(int, stat[11:15]))  # utime, stime, cutime, cstime; see proc(5)
        return ticks / _TICKS_PER_S

    def memory_kb(self, field: str = "Rss") -> int:
        """Resident memory of the whole group: "Rss", or "Pss", which counts what is shared once."""
        found = 0
        for pid, _ in _stats_of_group(self.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith(f"{field}:"):
                        found += int(line.split()[1])
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _stats_of_group(group: int) -> Iterator[tuple[str, list[str]]]:
    """Of each process of a group: its id, and the fields of /proc/PID/stat from the third on."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(entry.path, "stat").read_text().rpartition(") ")[2].split()
                if stat[2] == str(group):
                    yield entry.name, stat
