"""A small server on a Unix socket that answers as it is told: what a command meets that no keeper says on demand."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Reply = tuple[int, object]
"""Status, and a JSON document or bytes."""


@dataclass
class Served:
    """What was asked, and what is answered: by ``METHOD /path``, the last of a list again and again."""

    path: Path
    replies: dict[str, list[Reply] | Callable[[bytes], Reply]] = field(default_factory=dict)
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    def answer(self, what: str, body: bytes) -> Reply:
        self.asked.append((what, body))
        found = self.replies.get(what.partition("?")[0], [(404, {"error": "there is no such page"})])
        if callable(found):
            return found(body)
        return found.pop(0) if len(found) > 1 else found[0]


@contextlib.contextmanager
def admin_socket(path: Path, **replies):
    """Serve it in a thread; ``GET /api/x`` is given as ``{"GET /api/x": [(200, {...})]}`` in `replies`."""
    served = Served(path, dict(replies))

    class Handler(http.server.BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = served.answer(f"{self.command} {self.path}", body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _any  # noqa: N815  http.server's names

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a command that has heard enough: it would stand among what that one prints."""
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
            path.unlink(missing_ok=True)
