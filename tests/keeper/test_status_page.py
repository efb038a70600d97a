"""The status page as text: whole, escaped, bounded, usable without colour; the browser's part is in integration/."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Read

from proxy.keeper.status import (
    MEANINGS,
    Cache,
    Certificate,
    Forecast,
    Generation,
    Query,
    Reload,
    Responder,
    Site,
    Sort,
    State,
    Status,
    Traffic,
    Trouble,
)
from proxy.keeper.status_page import PAGE_POLICY, page
from proxy.keeper.status_style import STYLE
from proxy.keeper.status_words import distance, share, size, span

NOW = datetime(2026, 11, 23, 2, 30, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVIL = "</script><img src=x onerror=alert(1)>'\"&\x1b[2J\u202e"


def certificate(state=State.STAPLED, **more):
    values = {"key": "ab" * 20, "certificate": "a.pem (EC secp256r1)", "names": ("a.example",), "serial": "1f"}
    values |= {"not_after": NOW + 99 * HOUR, "must_staple": False, "state": state, "why": ""}
    values |= {"responders": ("http://ocsp.example/",), "status": "good", "this_update": NOW - 10 * HOUR}
    values |= {"next_update": NOW + 30 * HOUR, "stapled_until": NOW + 30 * HOUR, "next_attempt": NOW + 10 * HOUR}
    return Certificate(**values | {"successes": 3} | more)


def site(*certificates, names=("a.example",)):
    found = certificates or (certificate(),)
    return Site(names, found[0].state, found[0].stapled_until, found)


def status(*sites, **more):
    found = sites or (site(),)
    values = {"version": "1.2.3", "now": NOW, "profile": "prefetch", "ready": True, "reasons": (), "generation": None}
    values |= {"certificates": {**dict.fromkeys(State, 0), State.STAPLED: len(found)}, "sites": found}
    values |= {"forecast": Forecast(NOW + 30 * HOUR, "a.example"), "sites_total": len(found)}
    values |= {"cache": Cache("lru", 512_000, 2, 4000, 507_000, 512, 90, 10, 2, 5, 1, 0), "traffic": None}
    return Status(**{"sites_matching": len(found), "responders": ()} | values | more)


def written(found, query=None, *, may_order=True):
    return page(found, query or Query(), may_order=may_order)


EVERYTHING = status(
    site(certificate(State.FAILING, failures=2, troubles=(Trouble(EVIL, EVIL, EVIL),), why=EVIL), names=(EVIL, EVIL)),
    *(site(certificate(state, certificate=EVIL, key=f"{number:040x}")) for number, state in enumerate(State)),
    reasons=(EVIL,),
    ready=False,
    forecast=Forecast(NOW + HOUR, EVIL),
    generation=Generation(2, "2026-11-20T00:00:00Z", 3, Reload("2026-11-22T00:00:00Z", False, (EVIL,)), 42, EVIL),
    responders=(Responder(EVIL, 9, 3, 9, 3, 1 / 3, {EVIL: 3}, 0.01, 2.5, NOW - HOUR, EVIL),),
    traffic=Traffic(1, 5, 6, 7, 0.5, {"fresh": 7}, {"timeout": 1}, 8, 1.5, {"2xx": 8}, 9),
)


def test_nothing_is_needed_from_elsewhere():
    """No address but those of our own pages, nothing inline but the one style and the one script of the policy."""
    text = written(EVERYTHING)
    read = Read(text)
    addresses = [
        value
        for _, attributes in read.elements
        for name, value in attributes.items()
        if name in {"href", "src", "action"}
    ]
    assert all(re.match(r"/(?!/)|#|data:,$", address) for address in addresses), addresses
    assert not [
        name for _, attributes in read.elements for name in attributes if name.startswith("on") or name == "style"
    ]
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert f"{kind}-src 'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" in PAGE_POLICY
    assert "default-src 'none'" in PAGE_POLICY
    assert "frame-ancestors 'none'" in PAGE_POLICY
    assert "unsafe" not in PAGE_POLICY
    assert "url(" not in STYLE


def test_what_others_say_is_text_and_nothing_else():
    """Names, reasons, details, addresses: no element comes of them, and nothing that steers a terminal or a line."""
    text = written(EVERYTHING, Query(EVIL))
    assert Read(text).all("img") == []
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("&lt;img src=x") >= 9


def test_every_id_is_there_once():
    """Also where sites have the same names and certificate, at addresses of their own."""
    read = Read(written(status(site(), site(), EVERYTHING.sites[0])))
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in read.elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(name, ids[0]) in ids


@pytest.mark.parametrize("state", State)
def test_a_state_is_told_by_its_word_and_its_sign(state):
    """Not by colour alone."""
    text = written(status(site(certificate(state))))
    row = text[text.index('id="rows"') :]
    (sign, word) = re.search(r'<span class="pill \w+"><i aria-hidden="true">(.)</i> ([\w ]+)</span>', row).groups()
    assert word == state.replace("-", " ")
    assert sign.strip()
    assert state in MEANINGS


def test_tables_say_what_their_cells_are():
    read = Read(written(EVERYTHING))
    assert all({"scope"} <= attributes.keys() for attributes in read.all("th"))
    assert read.all("html")[0]["lang"] == "en"
    assert [attributes for attributes in read.all("a") if attributes.get("class") == "skip"]
    assert {attributes["role"] for attributes in read.all("tr") if "id" in attributes} == {"row"}


def test_buttons_are_there_only_for_who_may_order():
    found = status(site(certificate()), site(certificate(responders=()), names=("b.example",)))
    assert len([each for each in Read(written(found)).all("button") if "data-key" in each]) == 1
    assert not [each for each in Read(written(found, may_order=False)).all("button") if "data-key" in each]


def test_the_age_bar_is_drawn_to_scale():
    """A quarter of the response's time is over, the next refresh is at half of it."""
    text = written(status())
    assert '<rect class="over" y="3" width="25.00%"' in text
    assert '<rect class="mark" x="50.00%"' in text
    assert 'aria-label="25 % of its time is over, the next refresh is at 50 %"' in text


def test_the_heading_that_it_is_sorted_by_says_so():
    headings = Read(written(status(), Query("x", State.STAPLED, Sort.NAME, 7))).all("th")
    assert [each.get("aria-sort") for each in headings[:4]] == ["ascending", None, None, None]
    links = [each["href"] for each in Read(written(status(), Query("x & y", None, Sort.NAME))).all("a")]
    assert "/?q=x+%26+y&sort=until" in links


def test_a_reload_that_changed_nothing_is_told_with_its_mistakes():
    ok = replace(EVERYTHING, generation=Generation(2, "x", 3, Reload("y", True, ()), 42, ""))
    assert "changed nothing" in written(EVERYTHING)
    assert "changed nothing" not in written(ok)


def test_what_is_left_out_is_told():
    assert "10\u202f000 sites; the first 1 are shown" in written(status(sites_total=10_000, sites_matching=10_000))
    assert "1 site of 10\u202f000" in written(status(sites_total=10_000))
    assert "No site is like that." in written(replace(status(), sites=(), sites_matching=0))
    many = site(names=tuple(f"{number}.example" for number in range(1000)))
    assert "999 more names" in written(status(many))
    assert "and 979 more" in written(status(many))


def contrast(one, other):
    """By WCAG 2: from 1 to 21."""

    def luminance(colour):
        digits = colour.removeprefix("#")
        digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_can_be_read(dark):
    """4.5 for text, 3 for what is drawn, in light and in dark."""
    light_part, dark_part = STYLE.split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", dark_part if dark else light_part))
    pairs = [(text, ground) for text in ("ink", "faint", "link") for ground in ("page", "card")]
    pairs += [(kind, f"{kind}-soft") for kind in ("good", "warn", "bad", "quiet")] + [("ink", "quiet-soft")]
    for text, ground in pairs:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for drawn, ground in (("over", "card"), ("mark", "card"), ("over", "page")):
        assert contrast(colours[drawn], colours[ground]) >= 3, (drawn, ground)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (600, "10 min"),
        (7_261, "2 h 1 min"),
        (93_600, "1 d 2 h"),
        (9e6, "104 d"),
    ],
)
def test_spans(seconds, expected):
    assert span(seconds) == expected


def test_words():
    assert distance(NOW + HOUR, NOW) == "in 1 h"
    assert distance(NOW - HOUR, NOW) == "1 h ago"
    assert distance(NOW, NOW) == "now"
    assert [size(count) for count in (0, 512, 2048, 512_000, 3 << 20)] == ["0 B", "512 B", "2 KiB", "500 KiB", "3 MiB"]
    assert [share(part, 10_000) for part in (0, 1, 5000, 9999, 10_000)] == [
        "0 %",
        "&lt;0.1 %",
        "50 %",
        "&gt;99.9 %",
        "100 %",
    ]
    assert share(0, 0) == "\N{EN DASH}"


@given(st.text(), st.text())
def test_no_name_breaks_the_page(name, label):
    Read(written(status(site(certificate(certificate=label), names=(name,)))))
