"""HTTP/1.1 bytes in, events out: both decoders under one name."""

from __future__ import annotations

from proxy.http.codec_request import RequestDecoder
from proxy.http.codec_response import ResponseDecoder
from proxy.http.messages import END, End, RequestEvent, RequestHead, ResponseEvent, ResponseHead

__all__ = [
    "END",
    "End",
    "RequestDecoder",
    "RequestEvent",
    "RequestHead",
    "ResponseDecoder",
    "ResponseEvent",
    "ResponseHead",
]
