"""What the sites of a configuration serve and staple."""

from datetime import timedelta

import pytest
from certs import NOW, OCSP_URI, Chain, make_chain, pem, self_signed

from proxy.errors import ConfigError
from proxy.settings.model import CertificateFiles, IssuerStapling, Settings, Site, SiteStapling, StaplingSettings
from proxy.settings.values import UpstreamAddress
from proxy.sites import (
    NOT_STAPLED_BECAUSE,
    NotStapled,
    contradictions,
    default_sites,
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
    assert default_sites(loaded(a, b)[1]) == {1}
    assert default_sites(loaded(a)[1]) == {0}


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


def told(made, *, now=NOW, stapling=None, **settings):
    """What the operator is warned of, for one site with this certificate."""
    sites, settings = loaded(site(made, stapling=SiteStapling(**(stapling or {}))), **settings)
    return [problem.what for problem in site_warnings(sites, settings, now)]


@pytest.mark.parametrize(
    ("certificate", "stapling", "why"),
    [({}, {"enabled": False}, "disabled"), ({"ocsp": ()}, {}, "no-ocsp-uri")],
)
def test_must_staple_that_cannot_be_is_told(tmp_path, certificate, stapling, why):
    """What its issuer promised cannot come true: turned off by the operator, or nobody to ask."""
    assert told(make_chain(tmp_path, must_staple=True)) == []
    (warning,) = told(make_chain(tmp_path, must_staple=True, **certificate), stapling=stapling)
    assert f"must-staple, but nothing can be stapled ({why})" in warning


def without_issuer(folder, **more):
    made = make_chain(folder, **more)
    made.files.chain.write_bytes(pem(made.leaf))
    return made


def test_an_issuer_that_is_not_found_is_told(tmp_path):
    (warning,) = told(without_issuer(tmp_path))
    assert "add the intermediate to the chain file, or name its file as the issuer" in warning
    assert "fetch_issuer" not in warning
    (warning,) = told(without_issuer(tmp_path, ca_issuers=["http://ca.test/"]))
    assert "fetch_issuer" in warning


def test_refusing_clients_for_ever_is_told(tmp_path):
    (warning,) = told(make_chain(tmp_path, ocsp=()), stapling={"on_missing": "refuse"})
    assert "on_missing refuses every client that asks" in warning
    assert told(make_chain(tmp_path), stapling={"on_missing": "refuse"}) == []


def test_a_spacing_longer_than_the_certificate_lives_is_told(tmp_path):
    made = make_chain(tmp_path, not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=1))
    assert told(made, refresh_min_interval_s=86_400) == []
    (warning,) = told(made, refresh_min_interval_s=172_800, refresh_max_interval_s=172_800)
    assert "refresh_min_interval_s must be less" in warning


def test_the_issuer_may_be_named_for_all_sites_or_fetched(tmp_path):
    made = without_issuer(tmp_path, ca_issuers=["http://ca.test/"])
    (unknown,), settings = loaded(site(made))
    assert why_not_stapled(unknown.identities[0], unknown.settings, settings) is NotStapled.NO_ISSUER
    (unknown,), settings = loaded(site(made), fetch_issuer=True)
    (stapled,) = stapled_certificates((unknown,), settings)
    assert stapled.fetch_issuer
    named = IssuerStapling(certificate=made.write("ca.pem", pem(made.issuer)))
    (known,), settings = loaded(site(made), issuer=(named,))
    assert known.identities[0].issuer == made.issuer
    (stapled,) = stapled_certificates((known,), settings)
    assert not stapled.fetch_issuer


def test_a_site_may_have_issuers_of_its_own(tmp_path):
    """They are no other site's, and a file that cannot be read is told of at its key."""
    made = without_issuer(tmp_path)
    issuers = made.write("own.pem", pem(made.issuer))
    (first, second), _ = loaded(
        site(made, names=("a.test",), stapling={"issuers": issuers}), site(made, names=("b.test",))
    )
    assert first.identities[0].issuer == made.issuer
    assert second.identities[0].issuer is None
    (told,) = problems_of(site(made, stapling={"issuers": tmp_path / "lost.pem"}))
    assert told.startswith("site[0].stapling.issuers: cannot read ")


def test_a_responder_is_the_sites_else_the_issuers_else_the_global_one_else_the_certificates(tmp_path):
    made = make_chain(tmp_path)
    (tmp_path / "ca.pem").write_bytes(pem(made.issuer))
    named = IssuerStapling(certificate=tmp_path / "ca.pem", responder_url="http://issuer.test/")
    stapling, sites = {}, []
    for responder, more in (
        (OCSP_URI, {}),
        ("http://global.test/", {"responder_url": "http://global.test/"}),
        ("http://issuer.test/", {"issuer": (named,)}),
    ):
        stapling |= more
        sites, settings = loaded(site(made), **stapling)
        assert [each.responder_urls for each in stapled_certificates(sites, settings)] == [(responder,)]
    sites, settings = loaded(site(made, stapling=SiteStapling(responder_url="http://site.test/")), **stapling)
    assert [each.responder_urls for each in stapled_certificates(sites, settings)] == [("http://site.test/",)]


def test_a_file_with_a_staple_needs_no_responder(tmp_path):
    made = make_chain(tmp_path, ocsp=())
    files = made.files.model_copy(update={"staple": tmp_path / "staple.der"})
    sites, settings = loaded(site(Chain(made.folder, made.leaf, made.issuer, files)))
    (stapled,) = stapled_certificates(sites, settings)
    assert stapled.responder_urls == ()
    assert stapled.identity.staple_file == tmp_path / "staple.der"


@pytest.mark.parametrize("first_is_global", [True, False])
def test_one_certificate_told_two_things_is_a_mistake_whatever_the_order(tmp_path, first_is_global):
    """HAProxy's ocsp_compat_check. On and off are no contradiction here: stapling is a matter of the site."""
    made = make_chain(tmp_path)
    stapling = [SiteStapling(), SiteStapling(on_revoked="staple")]
    first, second = stapling if first_is_global else reversed(stapling)
    sites, settings = loaded(
        site(made, names=("a.test",), stapling=first), site(made, names=("b.test",), stapling=second)
    )
    (problem,) = contradictions(sites, settings)
    assert problem.where == "site[1]"
    assert "on_revoked" in problem.what
    off = SiteStapling(enabled=False, on_revoked="staple")
    sites, settings = loaded(site(made, names=("a.test",)), site(made, names=("b.test",), stapling=off))
    assert list(contradictions(sites, settings)) == []


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
