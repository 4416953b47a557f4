"""A policy service in this process that keeps every request as it came, byte for byte."""

from __future__ import annotations

import socketserver
import threading

from tests.support.client import ANSWER_END


class Recorder:
    """Answers each request with `action`; `requests` are the bytes it was sent.

    A link is good for `answers_a_link`: it ends without a word at the request after these.
    """

    def __init__(self, action: str = "DUNNO recorded", answers_a_link: int = 1_000_000) -> None:
        recorder = self
        self.requests: list[bytes] = []

        class Link(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                data, answered = b"", 0
                for line in self.rfile:
                    data += line
                    if data.endswith(ANSWER_END):
                        recorder.requests.append(data)
                        if answered == answers_a_link:
                            return
                        data, answered = b"", answered + 1
                        self.wfile.write(b"action=" + action.encode() + ANSWER_END)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Link)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
