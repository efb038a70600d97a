"""Sites at addresses: who is served where, and who answers a name that nobody has."""

from proxy.entrances import contradictions, entrances, mistakes
from proxy.settings.build import build

CERTIFICATE = {"chain": "c", "key": "k"}
ONE, TWO = "127.0.0.1:8443", "127.0.0.1:9443"


def settings_of(tmp_path, *sites, listen=(ONE, TWO)):
    tables = [{"certificate": [CERTIFICATE], "upstream": "http://127.0.0.1:1", **site} for site in sites]
    return build({"listen": list(listen), "site": tables}, folder=tmp_path)


def found(settings):
    sites = dict(enumerate(settings.site))
    return [(tuple(map(str, each.addresses)), each.sites, each.default) for each in entrances(settings.listen, sites)]


def test_without_addresses_of_their_own_all_sites_are_everywhere(tmp_path):
    assert found(settings_of(tmp_path, {}, {})) == [((ONE, TWO), (0, 1), 0)]


def test_a_site_is_served_only_where_it_says(tmp_path):
    """And each address has a default of its own: the first there, or the one marked."""
    settings = settings_of(tmp_path, {"listen": [ONE]}, {"listen": [TWO]}, {"default": True})
    assert found(settings) == [((ONE,), (0, 2), 2), ((TWO,), (1, 2), 2)]
    settings = settings_of(tmp_path, {"listen": [ONE]}, {"listen": [TWO]}, {})
    assert found(settings) == [((ONE,), (0, 2), 0), ((TWO,), (1, 2), 1)]


def test_an_address_without_a_site_and_a_site_without_its_address_are_named(tmp_path):
    settings = settings_of(tmp_path, {"listen": ["127.0.0.1:1"]}, listen=[ONE])
    assert [problem.where for problem in contradictions(settings)] == ["site[0].listen", "listen"]
    assert list(contradictions(settings_of(tmp_path, {}))) == []


def test_one_name_and_one_default_at_each_address(tmp_path):
    """At other addresses others may have them."""
    apart = settings_of(tmp_path, {"listen": [ONE], "default": True}, {"listen": [TWO], "default": True})
    names = {0: ("a.test",), 1: ("a.test",)}
    assert mistakes(dict(enumerate(apart.site)), names) == []
    together = settings_of(tmp_path, {"default": True}, {"listen": [TWO], "default": True})
    told = mistakes(dict(enumerate(together.site)), names)
    assert [problem.where for problem in told] == ["site[1].default", "site[1].names"]
