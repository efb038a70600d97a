"""Who may see and order what: every rule of a door, without HTTP."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.keeper.admin_access import Access, Asking, Right, token_in
from proxy.keeper.admin_routes import ROUTES
from proxy.settings.admin import AdminSettings

TOKEN = b"a-token-of-enough-characters"
OPEN = Access.by_tcp(AdminSettings(listen="127.0.0.1:9180"), None)
GUARDED = Access.by_tcp(
    AdminSettings(listen="[2001:db8::1]:9180", allow=["2001:db8::/32", "192.0.2.7"], token_file="token"), TOKEN
)
SEE = Asking("127.0.0.1", Right.SEE, ["127.0.0.1:9180"], None, None, "")
ORDER = replace(SEE, right=Right.ORDER, media_type="application/json")
KNOWN = replace(SEE, peer="2001:db8::2", hosts=["admin.example"], authorization=f"Bearer {TOKEN.decode()}")


def status(access, asking, **changes):
    refusal = access.judge(replace(asking, **changes))
    return refusal.status if refusal else 200


@pytest.mark.parametrize("right", Right)
def test_whoever_may_open_the_socket_may_do_everything(right):
    access = Access(is_unix=True)
    assert access.may(right)
    assert access.judge(Asking("", right, ["x", "y"], "null", None, "")) is None


@pytest.mark.parametrize("host", ["127.0.0.1:9180", "localhost", "LocalHost:1", "[::1]:9180", "127.0.0.1"])
def test_on_loopback_it_answers_to_names_of_loopback(host):
    """The port does not count: somebody may have come through ssh."""
    assert status(OPEN, SEE, hosts=[host]) == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9180", "", "[", "localhost.", "2130706433"])
def test_a_name_that_was_made_to_lead_here_is_refused(host):
    """DNS rebinding: a web page's own name, which resolves to 127.0.0.1 by now."""
    assert status(OPEN, SEE, hosts=[host]) == 403


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"]])
def test_a_request_has_one_host(hosts):
    assert status(OPEN, SEE, hosts=hosts) == status(GUARDED, KNOWN, hosts=hosts) == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:9181", "http://["])
def test_other_web_pages_are_refused(origin):
    """Even with the token, which a browser adds by itself where its user has given it."""
    assert status(OPEN, SEE, origin=origin) == status(GUARDED, KNOWN, origin=origin) == 403


def test_our_own_page_may_ask():
    assert status(OPEN, SEE, origin="http://127.0.0.1:9180") == 200
    assert status(GUARDED, KNOWN, origin="https://admin.example") == 200, "behind a TLS front"


def test_without_a_token_no_order_is_taken():
    for right in (Right.ORDER, Right.RULE):
        assert status(OPEN, ORDER, right=right) == 403


def test_with_the_token_orders_are_taken_that_no_form_can_send():
    order = replace(KNOWN, right=Right.ORDER)
    assert status(GUARDED, order, media_type="application/json") == 200
    assert (
        status(GUARDED, order, media_type="application/ocsp-response", wanted_type="application/ocsp-response") == 200
    )
    for form in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert status(GUARDED, order, media_type=form) == 415
    assert status(GUARDED, order, right=Right.RULE, media_type="application/json") == 403


def test_everything_but_health_needs_the_token():
    for right in Right:
        assert status(GUARDED, KNOWN, right=right, authorization=None) == (200 if right is Right.ALIVE else 401)


def test_who_guesses_is_known():
    """His answer is put off; that of who sends nothing is not, since a browser begins so."""
    assert GUARDED.judge(replace(KNOWN, authorization="Bearer wrong")).was_guess
    assert not GUARDED.judge(replace(KNOWN, authorization=None)).was_guess


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("2001:db8::9", 200), ("192.0.2.7", 200), ("192.0.2.8", 403), ("::1", 403), ("fe80::1%eth0", 403), ("", 403)],
)
def test_from_where(peer, expected):
    assert status(GUARDED, KNOWN, peer=peer) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"Bearer {TOKEN.decode()}", TOKEN),
        (f"bearer   {TOKEN.decode()} ", TOKEN),
        ("Basic " + b64encode(b"anybody:" + TOKEN).decode(), TOKEN),
        ("Basic " + b64encode(b":a:b").decode(), b"a:b"),
        ("Basic " + b64encode(b"nobody").decode(), None),
        ("Basic =", None),
        ("Bearer", None),
        ("", None),
        (None, None),
    ],
)
def test_the_token_is_found_in_both_forms(header, expected):
    assert token_in(header) == expected


@given(st.text())
def test_no_header_breaks_the_judge(text):
    """Whatever is sent: an answer, and never 200 by chance."""
    assert status(GUARDED, KNOWN, authorization=text) == 401
    assert status(OPEN, SEE, hosts=[text], origin=text) in {403, 200}


def test_what_changes_something_is_an_order():
    """The table of routes: GET only tells, and nothing else does without the right to."""
    for route in ROUTES:
        assert (route.method == "GET") == (route.right in {Right.ALIVE, Right.SEE})
