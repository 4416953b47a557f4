"""Three services and two hosts: one service has few workers, one has a name that moves, one is behind a firewall."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from tests.faults.host import Pair
from tests.faults.names import NAME_SERVICE, NameServer
from tests.support import frail
from tests.support.client import PolicyClient
from tests.support.procs import wait_until
from tests.support.sample import Sample

WORKERS = 5
MANY = 10_000
HOMES = ("127.0.0.2", "127.0.0.3")  # of the service whose name moves


class Scene:
    """Stands until it is left; hapolicy is to run on `near` and to listen on `listen`."""

    def __init__(self, timeout_s: float) -> None:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hapolicy-")))
        self._names = NameServer(folder)
        self._net = self._stack.enter_context(Pair(NAME_SERVICE.format(folder=folder)))
        self.near = self._net.near
        self.listen = f"unix:{folder}/listen"
        self._stack.enter_context(self._names.serving(self.near))
        self._home = 0
        self._names.tell("answer", a=(HOMES[0],))
        self.samples = [
            self._sample("A", WORKERS, "127.0.0.1:0", folder, self.near.prefix),
            self._sample("B", MANY, f"{HOMES[0]}:0", folder, self.near.prefix),
            self._sample("C", MANY, f"{self._net.FAR}:0", folder, self._net.far.prefix),
        ]
        self._port = self.samples[1].address.rpartition(":")[2]
        fields = f":1:1:{timeout_s}"
        definitions = [self.samples[0].service(fields), f"B=service.test:{self._port}{fields}"]
        definitions.append(self.samples[2].service(fields))
        self.services = [word for definition in definitions for word in ("-s", definition)]

    def _sample(self, name: str, workers: int, listen: str, folder: Path, prefix: list[str]) -> Sample:
        control = f"unix:{folder}/control-{name}"
        program = (*frail.PROGRAM, str(workers))
        return self._stack.enter_context(Sample(name, listen=listen, control=control, prefix=prefix, program=program))

    def wait_until_served(self) -> None:
        """Until hapolicy answers with a service's words."""
        with PolicyClient(self.listen) as client:
            wait_until(lambda: client.ask() != "dunno", "a first answer")

    def leave(self, sample: Sample) -> None:
        """The service's host is gone."""
        sample.kill()

    def move(self, sample: Sample) -> None:
        """It is elsewhere, and the name service says so."""
        self._home = 1 - self._home
        sample.address = f"{HOMES[self._home]}:{self._port}"
        self._names.tell("answer", a=(HOMES[self._home],))
        sample.start()

    def shut(self, sample: Sample) -> None:
        """The firewall swallows every packet of the far host."""
        self._net.swallow(all_of_it=True)

    def open(self, sample: Sample) -> None:
        """It lets them pass again."""
        self._net.swallow(all_of_it=False)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
