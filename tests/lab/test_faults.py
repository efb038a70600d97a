"""Every row of the table of faults is what it says: the engine gives it the reason that stands there."""

import asyncio
import http.client
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from cryptography.x509 import ReasonFlags
from lab.servers import openssl, process_at

from proxy.errors import FetchFailed, FetchReason, Reason, StapleRejected
from proxy.keeper.fetch import Fetcher
from proxy.lab.answers import right_answer
from proxy.lab.ca import LabCA
from proxy.lab.faults import BY_NAME, FAULTS, Condition
from proxy.lab.plays import Says
from proxy.lab.signing import Signing
from proxy.lab.wrong_answers import Occasion
from proxy.ocsp.policy import may_replace
from proxy.ocsp.request import build_request
from proxy.ocsp.response import Rules, check, require_nonce
from proxy.settings.model import StaplingSettings

NOW = datetime(2026, 5, 4, 3, 2, 1, 999_999, tzinfo=UTC)
VALIDITY = timedelta(hours=1)
BUILT = [fault for fault in FAULTS if isinstance(fault.play, Says)]
NOT_THE_RESPONDERS = {
    Reason.CERTIFICATE_EXPIRED,  # no answer makes it so
    Reason.NO_NEXT_UPDATE,  # by a setting: see its test
    FetchReason.NO_ISSUER,  # nobody was asked
}


def by_name(faults):
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.name)


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(NOW)


@pytest.fixture(scope="module")
def leaf(ca):
    return ca.issue(["a.test"]).leaf


def build(fault, ca, leaf, *, signer="delegate", nonce=None, seed=0, now=NOW):
    request = build_request(leaf, ca.intermediate.certificate, nonce)
    signing = Signing.of(ca, signer)
    right = right_answer(request, signing, now, validity=VALIDITY, revoked_at={})
    return fault.play.build(Occasion(right, signing, now, seed))


def judge(der, ca, leaf, *, now=NOW, **rules):
    """The reason that the engine has against it, or None; and what it takes it for."""
    try:
        staple = check(der, leaf=leaf, issuer=ca.intermediate.certificate, now=now, rules=Rules(**rules))
    except StapleRejected as refusal:
        return refusal.reason, None
    return None, staple


# --- the table ---


def test_the_table_has_what_it_must():
    """At least 45 rows in three groups, each with a name and one sentence of its own."""
    assert len(FAULTS) >= 45
    assert {fault.group for fault in FAULTS} == {"transport", "http", "response"}
    assert len(BY_NAME) == len(FAULTS)
    for fault in FAULTS:
        assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)*", fault.name), fault.name
        assert re.fullmatch(r"\S.*\.", fault.what), fault.what
        assert len(fault.what) <= 100, fault.what


def test_each_reason_is_somebodys():
    """Whatever the engine can say of a responder, the lab can provoke."""
    reasons = {fault.reason for fault in FAULTS}
    assert {*Reason, *FetchReason} - reasons == NOT_THE_RESPONDERS


def test_each_reason_to_revoke_has_a_row():
    assert {f"revoked-{flag.name.replace('_', '-')}" for flag in ReasonFlags} <= BY_NAME.keys()


# --- what is built, judged ---


@pytest.mark.parametrize("signer", ["delegate", "issuer"])
@by_name([fault for fault in BUILT if fault.only_when is None])
def test_an_answer_is_refused_for_its_reason(fault, signer, ca, leaf):
    """Or accepted, where the row has none; whoever signs the right ones, and whatever chance adds."""
    for seed in range(4):
        assert judge(build(fault, ca, leaf, signer=signer, seed=seed), ca, leaf)[0] == fault.reason


@by_name([fault for fault in BUILT if fault.only_when is not None])
def test_a_fault_that_depends_is_harmless_otherwise(fault, ca, leaf):
    """Without a nonce in the request, or with nothing newer held, its answer is good."""
    assert judge(build(fault, ca, leaf), ca, leaf)[0] is None


def test_older_than_before_is_refused_once_a_newer_one_is_held(ca, leaf):
    held = judge(build(BY_NAME["nonce-unasked"], ca, leaf), ca, leaf)[1]
    _, older = judge(build(BY_NAME["older-than-before"], ca, leaf), ca, leaf)
    with pytest.raises(StapleRejected) as refusal:
        may_replace(held, older)
    assert refusal.value.reason == BY_NAME["older-than-before"].reason


def test_no_next_update_is_refused_where_one_is_wanted(ca, leaf):
    der = build(BY_NAME["no-next-update"], ca, leaf)
    assert judge(der, ca, leaf, max_age_without_next_update_s=0)[0] is Reason.NO_NEXT_UPDATE


def test_cuts_are_at_many_places_and_never_none(ca, leaf):
    """Each is the beginning of a right answer."""
    whole = len(build(BY_NAME["issuer-signed"], ca, leaf))
    lengths = {len(build(BY_NAME["truncated"], ca, leaf, seed=seed)) for seed in range(200)}
    assert len(lengths) > 100
    assert min(lengths) >= 1
    assert max(lengths) > whole / 2


@by_name([fault for fault in BUILT if fault.name.startswith("nonce-")])
def test_a_nonce_is_judged_by_whether_it_comes_back(fault, ca, leaf):
    """Where the request has one."""
    nonce = bytes(range(32))
    der = build(fault, ca, leaf, nonce=nonce)
    assert judge(der, ca, leaf)[0] is None, "good but for the nonce"
    if fault.reason is None:
        require_nonce(der, nonce)
    else:
        with pytest.raises(StapleRejected) as refusal:
            require_nonce(der, nonce)
        assert refusal.value.reason == fault.reason


@by_name([fault for fault in BUILT if fault.reason is None])
def test_openssl_takes_whatever_is_to_be_stapled(fault, tmp_path):
    """Whose judgement clients share: what the table calls good is good to others too."""
    now = datetime.now(UTC)
    ca = LabCA.create(now)
    leaf = ca.issue(["a.test"]).leaf
    ca.write(tmp_path)
    (tmp_path / "response.der").write_bytes(build(fault, ca, leaf, now=now))
    done = openssl(
        "ocsp", "-respin", tmp_path / "response.der", *(["-sha256"] if fault.name == "sha256-certid" else []),
        "-issuer", tmp_path / "intermediate.pem", "-cert", tmp_path / "a.test.ec.pem", "-no_nonce",
        "-CAfile", tmp_path / "root.pem", "-verify_other", tmp_path / "intermediate.pem",
    )  # fmt: skip
    assert "Response verify OK" in done.stderr
    assert "a.test.ec.pem: good" in done.stdout
    assert "invalid" not in done.stdout, "its dates"


# --- the real process, asked by the real fetcher ---


def control(url, method, path, body=None):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of every row, all of them asked for at once, each with a prefix of its own in one process."""
    ca = LabCA.create(datetime.now(UTC))
    leaf = ca.issue(["a.test"]).leaf
    folder = tmp_path_factory.mktemp("ca")
    ca.write(folder)
    request = build_request(leaf, ca.intermediate.certificate)
    settings = StaplingSettings(fetch_timeout_s=2)

    async def outcome(fetcher, url):
        try:
            body = (await fetcher.fetch(url, request)).body
        except FetchFailed as failure:
            return failure.reason
        return judge(body, ca, leaf, now=datetime.now(UTC))[0]

    async def run(url):
        async with Fetcher(settings) as fetcher:
            prefixes = {fault.name: fault.name.replace(".", "-") for fault in FAULTS}
            results = await asyncio.gather(*(outcome(fetcher, f"{url}/{prefix}") for prefix in prefixes.values()))
            assert await outcome(fetcher, f"{url}/untouched") is None
            return dict(zip(prefixes, results, strict=True))

    with process_at("responder", "--folder", str(folder)) as (url, process):
        for fault in FAULTS:
            assert control(url, "PUT", f"/-/faults/{fault.name.replace('.', '-')}", fault.name)[0] == 200
        found = asyncio.run(run(url))
        process.terminate()
        assert process.wait(10) == 0
    return found


@by_name(FAULTS)
def test_the_responder_plays_it(fault, outcomes):
    """Over real sockets: the same reason as in the table, for transport and HTTP too."""
    assert outcomes[fault.name] == (None if fault.only_when else fault.reason)


def test_conditions_are_used():
    assert {fault.only_when for fault in FAULTS} == {None, *Condition}
