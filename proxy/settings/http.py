"""Limits of the HTTP side, towards clients and towards backends."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from proxy.settings.base import Model, ordered
from proxy.settings.values import Seconds, TrustedNetwork, Whole


class HttpSettings(Model):
    """Limits of the HTTP side; none is unbounded."""

    max_head_bytes: Whole = Field(32_768, ge=1024, le=1_048_576, description="request line and headers together")
    max_target_bytes: Whole = Field(8192, ge=256, le=1_048_576, description="the path and the query in a request line")
    max_headers: Whole = Field(100, ge=10, le=10_000, description="headers of one request, and trailers")
    max_body_bytes: Whole = Field(
        1_073_741_824, ge=0, le=1_125_899_906_842_624, description="a request's body; it is streamed, not kept"
    )
    max_requests_per_connection: Whole = Field(
        100_000, ge=1, le=1_000_000_000, description="the answer to the last of so many says Connection: close"
    )
    max_connection_age_s: Seconds = Field(
        3600, description="the answer to the first request on a connection older than this says Connection: close"
    )
    other_hosts: Literal["serve", "refuse"] = Field(
        "serve",
        description="a Host that is no name of the site that SNI chose is passed on, or answered with 421; "
        "with 421 always if it is a name of another site that asks for client certificates",
    )
    trusted_proxies: tuple[TrustedNetwork, ...] = Field(
        (), description="addresses of proxies that are believed about their clients: X-Forwarded-* and Forwarded go on"
    )
    client_timeout_s: Seconds = Field(60, description="a client that sends or takes nothing for so long is cut off")
    client_head_timeout_s: Seconds | None = Field(
        None, description="the whole of a request's head may take so long; unset: as client_timeout_s"
    )
    client_min_bytes_per_second: Whole = Field(
        240, ge=0, le=1_048_576, description="a client that sends a body or takes an answer slower than this is cut off"
    )
    client_idle_timeout_s: Seconds = Field(75, description="a kept-alive connection without a request is closed")
    upgraded_idle_timeout_s: Seconds = Field(
        600, description="one that was upgraded, as to WebSocket, is closed when nothing moves for so long"
    )
    upstream_connect_timeout_s: Seconds = Field(10, description="connecting to the backend: 504 after that")
    upstream_timeout_s: Seconds = Field(60, description="the backend sends nothing for so long: 504, or cut off")
    upstream_first_byte_timeout_s: Seconds | None = Field(
        None, description="so long may the backend think before its answer begins; unset: as upstream_timeout_s"
    )
    upstream_idle_timeout_s: Seconds = Field(60, description="an idle connection to the backend is closed")
    upstream_max_idle: Whole = Field(64, ge=0, le=65_536, description="idle connections kept per worker and backend")
    upstream_max_connections: Whole = Field(
        4096, ge=1, le=65_536, description="connections per worker and backend, idle and busy; then requests wait"
    )
    upstream_max_waiting: Whole = Field(
        1024, ge=0, le=65_536, description="requests per worker and backend that wait for a connection: 503 beyond"
    )
    upstream_max_tries: Whole = Field(
        3,
        ge=1,
        le=100,
        description="of several backends so many are tried for one request, and the last one's error told",
    )
    upstream_max_fails: Whole = Field(
        3, ge=0, le=1000, description="failures in a row after which one of several backends is left out; 0: never"
    )
    upstream_retry_min_s: Seconds = Field(
        5, description="how long a backend is left out at first; doubled each time that it fails again"
    )
    upstream_retry_max_s: Seconds = Field(
        60, validate_default=True, description="how long a backend is left out at most"
    )

    @field_validator("upstream_retry_max_s")
    @classmethod
    def _pauses_are_ordered(cls, longest: float, info: ValidationInfo) -> float:
        return ordered(longest, info)

    @property
    def head_timeout_s(self) -> float:
        """How long a request's head may take."""
        return self.client_timeout_s if self.client_head_timeout_s is None else self.client_head_timeout_s

    @property
    def first_byte_timeout_s(self) -> float:
        """How long the backend may take until its answer begins."""
        first = self.upstream_first_byte_timeout_s
        return self.upstream_timeout_s if first is None else first
