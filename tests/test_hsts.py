"""Strict-Transport-Security: what is written."""

from __future__ import annotations

import pytest

from proxy.hsts import value
from proxy.settings.modes import SiteModes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"hsts_max_age_s": 0}, "max-age=0"),
        (
            {"hsts_max_age_s": 31_536_000, "hsts_include_subdomains": True, "hsts_preload": True},
            "max-age=31536000; includeSubDomains; preload",
        ),
    ],
)
def test_it_says_what_is_set(settings, expected):
    assert value(SiteModes(**settings)) == expected
