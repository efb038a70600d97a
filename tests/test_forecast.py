"""The outage forecast: what ends first in a site counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from certs import NOW, make_chain

from proxy.forecast import Forecast, forecasts, lines
from proxy.settings.model import Settings, Site, SiteStapling
from proxy.settings.values import UpstreamAddress
from proxy.sites import load_sites

HOUR = timedelta(hours=1)


def site(*chains, **changes):
    upstream = UpstreamAddress("127.0.0.1", 8000)
    return Site(certificate=tuple(chain.files for chain in chains), upstream=upstream, **changes)


@pytest.fixture
def told(tmp_path):
    """Forecast a site with two certificates, of whose responses these hours are left; None: none is held."""

    def told(ec, rsa, now=NOW):
        made = [make_chain(tmp_path, kind=kind) for kind in ("ec", "rsa")]
        settings = Settings(site=(site(*made),))
        sites = load_sites(settings)
        hours = zip(sites[0].identities, (ec, rsa), strict=True)
        ends = {each.cache_key: (NOW + left * HOUR).timestamp() for each, left in hours if left is not None}
        (only,) = forecasts(sites, settings, ends, now)
        assert only.names == ("www.test", "*.www.test")
        return only.certificate.partition(".")[0], only.until

    return told


def test_the_certificate_whose_response_ends_first_counts(told):
    """A client may get either of them."""
    assert told(5, 9) == ("ec", NOW + 5 * HOUR)
    assert told(9, 5) == ("rsa", NOW + 5 * HOUR)


@pytest.mark.parametrize("left", [None, -1, 0])
def test_a_site_of_which_one_has_none_is_not_stapled_now(told, left):
    """None held, or one whose time is over: this very moment too, since it is served until then and no longer."""
    assert told(5, left) == ("rsa", None)
    assert told(left, 5) == ("ec", None)


def test_sites_that_are_not_meant_to_be_stapled_are_left_out(tmp_path):
    """For a certificate without a responder no outage means anything."""
    ec, none = make_chain(tmp_path), make_chain(tmp_path, label="none", ocsp=(), kind="rsa", names=["none.test"])
    off = site(ec, names=("off.test",), stapling=SiteStapling(enabled=False))
    settings = Settings(site=(site(ec, none), site(none, names=("b.test",)), off))
    (only,) = forecasts(load_sites(settings), settings, {}, NOW)
    assert only.certificate == "ec.chain.pem (EC secp256r1)"


def test_it_is_told_to_people_and_programs():
    """Times in UTC."""
    until = Forecast(("a.test", "b.test"), "a.pem (RSA 2048)", datetime(2026, 6, 3, 4, 5, 6, tzinfo=UTC))
    never = Forecast((), "b.pem (RSA 2048)", None)
    assert lines([until, never]) == [
        "with all responders gone from now:",
        "  a.test, b.test: stapled until 2026-06-03 04:05Z, when a.pem (RSA 2048) ends first",
        "  any name: not stapled now: there is nothing to staple for b.pem (RSA 2048)",
    ]
    assert lines([]) == []
    told = [each.to_json() for each in (until, never)]
    assert told[0] == {
        "names": ["a.test", "b.test"],
        "certificate": "a.pem (RSA 2048)",
        "stapled_until": "2026-06-03T04:05:06Z",
    }
    assert told[1]["stapled_until"] is None
