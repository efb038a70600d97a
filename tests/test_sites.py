"""What the sites of a configuration serve and staple."""

from datetime import timedelta

import pytest
from certs import NOW, OCSP_URI, make_chain, self_signed

from proxy.errors import ConfigError
from proxy.settings.model import CertificateFiles, Settings, Site, SiteStapling, StaplingSettings
from proxy.settings.values import UpstreamAddress
from proxy.sites import (
    NOT_STAPLED_BECAUSE,
    NotStapled,
    default_site,
    load_sites,
    read_sites,
    responder_address,
    site_warnings,
    stapled_certificates,
    why_not_stapled,
)


def site(*chains, **changes):
    upstream = UpstreamAddress("127.0.0.1", 8000)
    return Site(certificate=tuple(chain.files for chain in chains), upstream=upstream, **changes)


def loaded(*sites, **stapling):
    settings = Settings(site=sites, stapling=StaplingSettings(**stapling))
    return load_sites(settings), settings


def problems_of(*sites):
    with pytest.raises(ConfigError) as caught:
        load_sites(Settings(site=sites))
    return [str(problem) for problem in caught.value.problems]


def test_names_are_those_configured_else_of_all_certificates(tmp_path):
    ec = make_chain(tmp_path, names=["a.test", "b.test"])
    rsa = make_chain(tmp_path, kind="rsa", names=["b.test", "c.test"])
    (first, second), _ = loaded(site(ec, rsa), site(ec, names=("x.test",)))
    assert first.names == ("a.test", "b.test", "c.test")
    assert second.names == ("x.test",)


def test_the_default_is_the_one_marked_else_the_first(tmp_path):
    made = make_chain(tmp_path)
    a, b = site(made, names=("a.test",)), site(made, names=("b.test",), default=True)
    sites, _ = loaded(a, b)
    assert default_site(sites) is sites[1]
    sites, _ = loaded(a)
    assert default_site(sites) is sites[0]


def test_the_mistakes_of_all_sites_are_told_at_once(tmp_path):
    good, twin = make_chain(tmp_path), make_chain(tmp_path, label="twin")
    lost = CertificateFiles(chain=tmp_path / "no.pem", key=good.files.key)
    told = problems_of(
        site(good, names=("a.test",), default=True),
        site(good, twin, names=("b.test",), default=True),
        Site(certificate=(lost,), upstream=UpstreamAddress("", 0, "/x"), names=("A.test",), default=True),
    )
    assert told == [
        "site[1].certificate[1]: the site has a certificate with an EC key already: ec.chain.pem (EC secp256r1)",
        f"site[2].certificate[0].chain: cannot read {tmp_path}/no.pem: No such file or directory",
        "site[1].default: site[0] is the default already: only one can be",
        "site[2].default: site[0] is the default already: only one can be",
        "site[2].names: a.test is a name of site[0] as well: set `names` so that each has its own",
    ]


def test_a_certificate_of_two_sites_is_fetched_once(tmp_path):
    """For the names of both, and from the responders of both."""
    made = make_chain(tmp_path)
    own = SiteStapling(responder_url="http://own.test/")
    sites, settings = loaded(site(made, names=("a.test",)), site(made, names=("b.test",), stapling=own))
    (stapled,) = stapled_certificates(sites, settings)
    assert stapled.identity is sites[0].identities[0]
    assert stapled.names == ("a.test", "b.test")
    assert stapled.responder_urls == (OCSP_URI, "http://own.test/")


def test_the_nearest_responder_is_asked(tmp_path):
    """The site's goes before the global one, and that before those in the certificate."""
    made, silent = make_chain(tmp_path, ocsp=[OCSP_URI, "http://b.test/"]), make_chain(tmp_path, kind="rsa", ocsp=())
    sites, settings = loaded(site(made, silent))
    assert [each.responder_urls for each in stapled_certificates(sites, settings)] == [(OCSP_URI, "http://b.test/")]
    sites, settings = loaded(site(made, silent), responder_url="http://all.test/")
    assert [each.responder_urls for each in stapled_certificates(sites, settings)] == [("http://all.test/",)] * 2
    own = SiteStapling(responder_url="http://own.test/")
    sites, settings = loaded(site(made, stapling=own), responder_url="http://all.test/")
    assert [each.responder_urls for each in stapled_certificates(sites, settings)] == [("http://own.test/",)]


def test_why_a_certificate_is_not_stapled(tmp_path):
    """One word each; a site's own switch goes before the global one, both ways."""
    made, silent, alone = make_chain(tmp_path), make_chain(tmp_path, kind="rsa", ocsp=()), self_signed(tmp_path)
    off, on = SiteStapling(enabled=False), SiteStapling(enabled=True)

    def reasons(*sites, **stapling):
        found, settings = loaded(*sites, **stapling)
        stapled = {each.identity.cache_key for each in stapled_certificates(found, settings)}
        told = [why_not_stapled(identity, each.settings, settings) for each in found for identity in each.identities]
        assert len(stapled) == told.count(None)
        return told

    assert reasons(site(made, silent), site(alone)) == [None, NotStapled.NO_OCSP_URI, NotStapled.NO_ISSUER]
    assert reasons(site(made, stapling=off)) == [NotStapled.DISABLED]
    assert reasons(site(made), enabled=False) == [NotStapled.DISABLED]
    assert reasons(site(made, stapling=on), enabled=False) == [None]
    assert [str(reason) for reason in NotStapled] == ["disabled", "no-ocsp-uri", "no-issuer"]
    assert set(NOT_STAPLED_BECAUSE) == set(NotStapled)


def test_warnings_say_which_certificate(tmp_path):
    made, nameless = make_chain(tmp_path), make_chain(tmp_path, kind="rsa", names=None, common_name="My server")
    sites, settings = loaded(site(made, names=("a.www.test",)), site(made, nameless, names=()), site(nameless))
    assert [str(each) for each in site_warnings(sites, settings, NOW)] == [
        "site[2].names: no client can reach this site: its certificates have no DNS name; set `names`"
    ]
    late = [str(each) for each in site_warnings(sites[:1], settings, NOW + timedelta(days=91))]
    assert late == [
        "site[0].certificate[0]: ec.chain.pem (EC secp256r1): the certificate expired on 2026-08-30 12:00 UTC: renew it"
    ]


def test_a_name_that_no_certificate_is_for_is_told(tmp_path):
    """Clients that ask for it would refuse the certificate; a wildcard covers one label."""
    names = ("www.test", "a.www.test", "a.b.www.test", "other.test")
    sites, settings = loaded(site(make_chain(tmp_path), names=names))
    told = [str(each) for each in site_warnings(sites, settings, NOW)]
    assert told == [
        f"site[0].names: no certificate of this site is for {name}: clients will refuse it"
        for name in ("a.b.www.test", "other.test")
    ]


def test_must_staple_without_stapling_is_told(tmp_path):
    """Its operator turned off what its issuer promised."""
    made = make_chain(tmp_path, must_staple=True)
    for enabled, count in ((True, 0), (False, 1)):
        sites, settings = loaded(site(made, stapling=SiteStapling(enabled=enabled)))
        told = [str(each) for each in site_warnings(sites, settings, NOW)]
        assert len([each for each in told if "must-staple, but stapling is off" in each]) == count


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://ocsp.test/x", "ocsp.test:80"),
        ("https://ocsp.test", "ocsp.test:443"),
        ("HTTP://OCSP.test:8080/", "ocsp.test:8080"),
        ("http://[::1]:81/", "[::1]:81"),
    ],
)
def test_what_the_firewall_must_let_out(url, address):
    assert responder_address(url) == address


def test_sites_that_are_left_out_leave_their_places(tmp_path):
    """What is told of the others bears their own numbers."""
    made = make_chain(tmp_path)
    sites = {1: site(made, names=("a.test",), default=True), 3: site(made, names=("a.test",), default=True)}
    found, problems = read_sites(sites)
    assert list(found) == [1, 3]
    assert [str(each) for each in problems] == [
        "site[3].default: site[1] is the default already: only one can be",
        "site[3].names: a.test is a name of site[1] as well: set `names` so that each has its own",
    ]
