"""What 10 scrapes of /metrics a second cost 32 busy connections: ``python -m benchmarks.scraping [ROUNDS [SECONDS]]``.

Runs with and without scraping follow each other in pairs, the first of a pair by turns, so that whatever else the
machine does falls on both; the answer is the median of the pairs.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import Process, connects, free_port, wait_until
from benchmarks.programs import Load, Loader, Service, build

CONNECTIONS = 32
PERIOD_S = 0.1
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def scraping(port: int) -> Iterator[list[float]]:
    """Scrape until the end of ``with``; gives how long each took, in seconds."""
    took_s: list[float] = []
    ending = threading.Event()

    def run() -> None:
        with socket.create_connection(("127.0.0.1", port)) as link:
            due = time.monotonic()
            while not ending.wait(max(0.0, due - time.monotonic())):
                due += PERIOD_S
                began = time.monotonic()
                scrape(link)
                took_s.append(time.monotonic() - began)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield took_s
    finally:
        ending.set()
        thread.join()


def scrape(link: socket.socket) -> None:
    """One, read to its end and thrown away: a parser of ours would take time from those that are measured."""
    link.sendall(REQUEST)
    head, _, body = link.recv(65_536).partition(b"\r\n\r\n")
    left = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]) - len(body)
    while left > 0:
        left -= len(link.recv(left))


def main(rounds: int, seconds: float) -> None:
    """Measure, print a line a pair, and the median."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        build(folder)
        loader, load = Loader(folder), Load(CONNECTIONS, seconds)
        services = [stack.enter_context(Service(folder, service)) for service in "AB"]
        port, web = free_port(), free_port()
        words = ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{web}", "--log", "stderr"]
        words += [word for service in services for word in ("-s", f"{service.name}=127.0.0.1:{service.port}")]
        stack.enter_context(Process([sys.executable, "-m", "hapolicy", *words]))
        wait_until(lambda: connects(port) and connects(web), "hapolicy listens")
        loader.run(port, load)

        def throughput(*, scraped: bool) -> float:
            with scraping(web) if scraped else contextlib.nullcontext([]) as took_s:
                found = float(loader.run(port, load)["per_second"])
            if took_s:
                print(f"    scraped {len(took_s)} times, {statistics.median(took_s) * 1000:.1f} ms each", flush=True)
            return found

        costs = []
        for number in range(rounds):
            order = (False, True) if number % 2 else (True, False)
            found = {scraped: throughput(scraped=scraped) for scraped in order}
            costs.append((1 - found[True] / found[False]) * 100)
            print(f"{found[False]:8.0f} req/s without, {found[True]:8.0f} with: {costs[-1]:5.1f} %", flush=True)
    print(f"median of {rounds} pairs: {statistics.median(costs):.2f} %")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 10, float(given[1]) if len(given) > 1 else 3.0)
