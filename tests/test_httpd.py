"""What is stapled in the profiles that are as Apache, and whom it asks: the table that all sites have in common."""

from __future__ import annotations

import logging

import pytest
from certs import OCSP_URI, make_chain, pem, self_signed
from test_sites import loaded, site

from proxy import staples
from proxy.cache.layout import CacheArgument
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.httpd import build_table, in_handshake
from proxy.ocsp.httpd import TRY_LATER
from proxy.ocsp.httpd_check import CertId
from proxy.settings.model import SiteStapling
from proxy.settings.stapling_httpd import HttpdStapling, SiteHttpdStapling
from proxy.sites import contradictions, site_warnings
from proxy.tls.inline import StapleWantedError

FORCED = "http://forced.test/"


def table_of(*sites, profile="httpd-2.4", **stapling):
    found, settings = loaded(*sites, profile=profile, **stapling)
    table, notes = build_table(found, settings)
    keys = [identity.cache_key for each in found for identity in each.identities]
    return table, [note[0] for note in notes], keys


def own(**httpd) -> SiteStapling:
    return SiteStapling(httpd=SiteHttpdStapling(**httpd))


@pytest.mark.parametrize(
    ("uris", "first"),
    [
        ((OCSP_URI, "http://second.test/"), OCSP_URI),
        (("https://tls.test/", OCSP_URI), "https://tls.test/"),
        (("ldap:///cn=x", OCSP_URI), "ldap:///cn=x"),
    ],
)
def test_the_first_uri_is_the_one(tmp_path, uris, first):
    """Whatever its scheme: a handshake that needs it is ended then. Later ones are never asked."""
    chain = make_chain(tmp_path, ocsp=uris)
    table, notes, (key,) = table_of(site(chain))
    assert (table.uri(key, 0), notes) == (first, [])
    assert table.certificates[key].cert_id == CertId.of(chain.leaf, chain.issuer)


def test_each_sites_own_settings_go_before_those_of_all(tmp_path):
    """Field by field; the URL that is asked is that of the site which the client names."""
    chain = make_chain(tmp_path)
    sites = site(chain, names=("a.test",), stapling=own(force_url=FORCED)), site(chain, names=("b.test",))
    table, _, (key, _) = table_of(*sites, httpd=HttpdStapling(error_cache_timeout_s=7))
    assert (table.uri(key, 0), table.uri(key, 1)) == (FORCED, OCSP_URI)
    assert [rules.settings.error_cache_timeout_s for rules in table.rules] == [7, 7]
    assert not any(rules.is_trunk for rules in table.rules)
    assert all(rules.is_trunk for rules in table_of(*sites, profile="httpd-trunk")[0].rules)


def test_what_cannot_be_stapled_is_told_and_stops_nobody(tmp_path):
    """No issuer; no URI; and nothing at all is said where stapling is off."""
    without_uri = make_chain(tmp_path, ocsp=(), label="without")
    leaf_only = make_chain(tmp_path, label="leaf")
    leaf_only.write(leaf_only.files.chain.name, pem(leaf_only.leaf))
    alone = self_signed(tmp_path)
    for chain, number in ((without_uri, 2218), (leaf_only, 2217), (alone, 2217)):
        table, notes, _ = table_of(site(chain, names=("a.test",)))
        assert (dict(table.certificates), notes) == ({}, [number, 2604])
        assert table_of(site(chain, names=("a.test",), stapling=SiteStapling(enabled=False)))[1] == []


def test_a_certificate_of_two_sites(tmp_path):
    """It is in the table once for both; a site that could not have put it there is told of, and uses it.

    Apache begins with the last virtual host.
    """
    chain = make_chain(tmp_path, ocsp=())
    first, second = site(chain, names=("a.test",), stapling=own(force_url=FORCED)), site(chain, names=("b.test",))
    table, notes, (key, _) = table_of(first, second)
    assert notes == [2218, 2604]
    assert (table.uri(key, 0), table.uri(key, 1)) == (FORCED, None)
    assert table_of(second, first)[1] == [2814, 2604]


def test_must_staple_and_contradictions_are_not_looked_at(tmp_path):
    """What the other profile warns of is nothing here."""
    chain = make_chain(tmp_path, ocsp=(), must_staple=True)
    sites = (
        site(chain, names=("www.test",)),
        site(chain, names=("a.www.test",), stapling=SiteStapling(on_revoked="staple")),
    )
    found, settings = loaded(*sites, profile="httpd-2.4")
    assert list(contradictions(found, settings)) == []
    assert "must-staple" not in " ".join(map(str, site_warnings(found, settings, chain.leaf.not_valid_before_utc)))


def test_who_looks_into_the_cache_sees_the_response(tmp_path):
    """Without the octet that stands before it."""
    segment = Segment.create(CacheArgument("", 65_536))
    writer = CacheWriter(segment)
    writer.put(bytes(20), b"\x01" + TRY_LATER, 160.0, 100.0)
    (row,) = staples.rows(writer.entries(), {})
    assert (row.response, row.size) == (TRY_LATER, len(TRY_LATER))
    segment.close()


def test_what_a_handshake_decides(tmp_path, caplog):
    """A fetch for a miss, what the cache holds while it lasts, nothing for what is not stapled; with their lines."""
    caplog.set_level(logging.DEBUG, "stapleproxy.httpd")
    table, _, (key,) = table_of(site(make_chain(tmp_path)))
    segment = Segment.create(CacheArgument("", 65_536))
    decide = in_handshake(table, 0, CacheReader(segment))
    with pytest.raises(StapleWantedError) as wanted:
        decide(key, 100.0)
    assert (wanted.value.site, wanted.value.key) == (0, key)
    CacheWriter(segment).put(key, b"\x00" + TRY_LATER, 160.0, 100.0)
    assert decide(key, 159.9) == TRY_LATER
    with pytest.raises(StapleWantedError):
        decide(key, 160.0)
    assert decide(bytes(20), 100.0) == b""
    miss, hit = ["AH01951", "AH01952", "AH01930", "AH01954"], ["AH01951", "AH01952", "AH01933", "AH01953", "AH01956"]
    assert [record.getMessage()[:7] for record in caplog.records] == [*miss, *hit, *miss, "AH01951", "AH01926"]
    segment.close()
