"""Strict-Transport-Security: what is written, and that there is one."""

from __future__ import annotations

import pytest

from proxy.hsts import line, put
from proxy.settings.modes import SiteModes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, b""),
        ({"hsts_max_age_s": 0}, b"Strict-Transport-Security: max-age=0"),
        (
            {"hsts_max_age_s": 31_536_000, "hsts_include_subdomains": True, "hsts_preload": True},
            b"Strict-Transport-Security: max-age=31536000; includeSubDomains; preload",
        ),
    ],
)
def test_the_line_says_what_is_set(settings, expected):
    assert line(SiteModes(**settings)) == expected


def test_a_backends_own_is_replaced_and_the_rest_stays():
    """In any case of letters, and however often; a body that looks like it is no header."""
    body = b"\r\n\r\nStrict-Transport-Security: max-age=2\r\n"
    answer = (
        b"HTTP/1.1 200 OK\r\nA: b\r\nSTRICT-transport-security: max-age=1\r\nStrict-Transport-Security:\r\nC: d" + body
    )
    assert put(answer, b"S: x") == b"HTTP/1.1 200 OK\r\nS: x\r\nA: b\r\nC: d" + body
    assert put(answer, b"") == answer
