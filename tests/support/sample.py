"""The sample policy service in a process of its own, so that it can be stopped, killed and started again."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

from examples import policy_service
from examples.policy_service import tell
from tests.support.procs import Process, free_port

PROGRAM = policy_service.__file__


class Sample:
    """A running sample service; `extra` are more of its arguments. It keeps its address, also while it is down.

    `prefix` goes before its command: what puts it elsewhere, such as a network of its own. `program` is another script
    that takes the same arguments, after those of its own.
    """

    def __init__(
        self,
        name: str = "A",
        *extra: str,
        listen: str = "",
        control: str = "127.0.0.1:0",
        prefix: Sequence[str] = (),
        program: Sequence[str] = (PROGRAM,),
    ) -> None:
        self.name = name
        self.address = listen or ("127.0.0.1:0" if prefix else f"127.0.0.1:{free_port()}")
        self.control = control
        self._extra = extra
        self._prefix = prefix
        self._program = program
        self.start()

    def start(self) -> None:
        """Start it (again), on the address it had."""
        arguments = ["--name", self.name, "--listen", self.address, "--control", self.control, *self._extra]
        self.process = Process([*self._prefix, sys.executable, *self._program, *arguments])
        try:
            ready = self.process.wait_for(lambda: self.process.events[:1], "a sample service's first line")[0]
        except BaseException:
            self.process.kill()
            raise
        self.address, self.control = ready["listen"], ready["control"]

    def service(self, fields: str = "") -> str:
        """Its definition for ``-s``; `fields` are what may follow: ":PRIO:WEIGHT:TIMEOUT"."""
        return f"{self.name}={self.address}{fields}"

    def fault(self, name: str, seconds: float | None = None) -> None:
        """Let it fail in this way from now on ("none": no more)."""
        reply = self._tell(f"fault {name}" + ("" if seconds is None else f" {seconds}"))
        assert reply == "ok", reply

    def stats(self) -> dict[str, Any]:
        """Its counters and its last instances."""
        stats: dict[str, Any] = json.loads(self._tell("stats"))
        return stats

    def _tell(self, order: str) -> str:
        reply = tell(self.control, order)
        assert not reply.startswith("error"), f"{reply}\n{self.process.report()}"
        return reply

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def restart(self) -> None:
        """kill -9, and start it again on the same address."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the kernel still takes connections and bytes, nobody answers."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)

    def __enter__(self) -> Sample:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
