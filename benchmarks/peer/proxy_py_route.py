"""The plugin by which proxy.py learns its one route. It runs in an environment where `proxy` is proxy.py's package."""

from __future__ import annotations

import os

from proxy.http.server import ReverseProxyBasePlugin  # type: ignore[import-not-found]  # in its own environment
from proxy.http.url import Url  # type: ignore[import-not-found]  # likewise


class Route(ReverseProxyBasePlugin):  # type: ignore[misc]  # likewise
    """Everything to the backend; the path stays as it is."""

    def routes(self) -> list[str]:
        return [r"/.*$"]

    def handle_route(self, request: object, pattern: object) -> Url:
        del pattern
        target = request.path  # type: ignore[attr-defined]  # an HttpParser, whose type is in that environment too
        return Url.from_bytes(os.environ["BACKEND_URL"].encode() + target)
