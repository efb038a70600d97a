"""Issuers from where the leaves say, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st
from keeper.responders import responder, until
from keeper.world import ONE, TWO, stapled
from ocsp.pki import CA, OTHER_CA, ROOT, SUB_CA

from proxy.errors import FetchFailed, FetchReason
from proxy.keeper import issuers as module
from proxy.keeper.fetch import Fetcher
from proxy.keeper.issuers import Issuers, certificates_in
from proxy.settings.model import StaplingSettings

if TYPE_CHECKING:
    from pathlib import Path

LOG = logging.getLogger("stapleproxy.keeper")
DER = CA.cert.public_bytes(Encoding.DER)
PEM = CA.cert.public_bytes(Encoding.PEM)
SOME = [ROOT.cert, OTHER_CA.cert, CA.cert]
FORMS = {
    "DER": DER,
    "PEM": PEM,
    "PEM, several": b"".join(cert.public_bytes(Encoding.PEM) for cert in SOME),
    "PKCS#7, DER": pkcs7.serialize_certificates(SOME, Encoding.DER),
    "PKCS#7, PEM": pkcs7.serialize_certificates(SOME, Encoding.PEM),
}


class Site:
    """A web server with what a test puts there, by path."""

    def __init__(self, **pages: bytes) -> None:
        self.pages = pages
        self.asked: list[str] = []
        self.held_up: asyncio.Event | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        self.asked.append(request.path[1:])
        if self.held_up:
            await self.held_up.wait()
        page = self.pages.get(request.path[1:])
        return web.Response(status=404) if page is None else web.Response(body=page, content_type="x/y")


def leaf(party, *uris: str):
    """An identity whose issuer is not known."""
    return replace(stapled(party).identity, issuer=None, intermediates=(), ca_issuers=uris)


@contextlib.asynccontextmanager
async def finding(site: Site, path: Path | None = None):
    async with responder(site) as url, Fetcher(StaplingSettings(fetch_timeout_s=5)) as fetcher:
        yield Issuers(fetcher, path, LOG), url


@pytest.mark.parametrize("form", FORMS)
def test_the_issuer_is_read_in_every_form(form):
    """RFC 5280 4.2.2.1: DER or certs-only PKCS#7; PEM is found in the field. Among several the right one is picked."""

    async def run():
        async with finding(Site(ca=FORMS[form])) as (issuers, url):
            assert await issuers.find(leaf(ONE, f"{url}/ca")) == CA.cert

    asyncio.run(run())


def test_addresses_are_tried_in_their_order():
    """A failure, and a certificate that did not sign the leaf, lead to the next one."""
    site = Site(wrong=OTHER_CA.cert.public_bytes(Encoding.DER), ca=DER, never=DER)

    async def run():
        async with finding(site) as (issuers, url):
            uris = [f"{url}/{path}" for path in ("gone", "wrong", "ca", "never")]
            assert await issuers.find(leaf(ONE, *uris)) == CA.cert

    asyncio.run(run())
    assert site.asked == ["gone", "wrong", "ca"]


def test_only_who_signed_the_leaf_is_its_issuer():
    """A certificate of the right name and another key is none; the failure tells of every address."""
    from ocsp.pki import issue, key

    twin = issue("Test CA", ROOT, ca=True, own_key=key("another key"))
    site = Site(twin=twin.cert.public_bytes(Encoding.DER), text=b"<html>moved</html>")

    async def run():
        async with finding(site) as (issuers, url):
            uris = [f"{url}/{path}" for path in ("twin", "text", "gone")]
            with pytest.raises(FetchFailed) as caught:
                await issuers.find(leaf(ONE, *uris))
            assert caught.value.reason is FetchReason.NO_ISSUER
            assert f"{url}/twin: it is not there; " in caught.value.detail
            assert f"{url}/text: protocol: neither a certificate nor a collection of them" in caught.value.detail
            assert f"{url}/gone: http-status: 404 Not Found" in caught.value.detail
            with pytest.raises(FetchFailed, match="does not say where it is"):
                await issuers.find(leaf(ONE))

    asyncio.run(run())


def test_one_download_serves_all_leaves_of_an_issuer():
    """Those that ask at the same time, and those that ask later, under another address too."""
    site = Site(ca=DER)

    async def run():
        async with finding(site) as (issuers, url):
            site.held_up = asyncio.Event()
            tasks = [asyncio.create_task(issuers.find(leaf(each, f"{url}/ca"))) for each in (ONE, TWO) * 5]
            await until(lambda: site.asked)
            tasks.pop(0).cancel()  # who began it may leave
            site.held_up.set()
            assert set(await asyncio.gather(*tasks)) == {CA.cert}
            assert await issuers.find(leaf(TWO, f"{url}/other")) == CA.cert

    asyncio.run(run())
    assert site.asked == ["ca"]


def test_a_failure_is_not_repeated_for_each_leaf_at_once(monkeypatch):
    """And after a moment the address is asked again."""
    site = Site()

    async def run():
        async with finding(site) as (issuers, url):
            for each in (ONE, TWO):
                with pytest.raises(FetchFailed, match="404"):
                    await issuers.find(leaf(each, f"{url}/ca"))
            assert site.asked == ["ca"]
            site.pages["ca"] = DER
            monkeypatch.setattr(module, "FAILURE_KEPT_S", 0)
            assert await issuers.find(leaf(ONE, f"{url}/ca")) == CA.cert

    asyncio.run(run())
    assert site.asked == ["ca", "ca"]


def test_a_restart_downloads_nothing(tmp_path):
    """What was found stands in a file, which only its owner may read."""
    path = tmp_path / "cache.issuers"
    site = Site(ca=DER)

    async def run():
        for _ in range(2):
            async with finding(site, path) as (issuers, url):
                assert await issuers.find(leaf(ONE, f"{url}/ca")) == CA.cert

    asyncio.run(run())
    assert site.asked == ["ca"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["cache.issuers"]


def test_the_file_needs_no_trust(tmp_path):
    """What did not sign the leaf is of no use there, whoever wrote it."""
    path = tmp_path / "cache.issuers"
    path.write_bytes(b"".join(each.cert.public_bytes(Encoding.PEM) for each in (OTHER_CA, SUB_CA)))
    site = Site(ca=DER)

    async def run():
        async with finding(site, path) as (issuers, url):
            assert await issuers.find(leaf(ONE, f"{url}/ca")) == CA.cert

    asyncio.run(run())
    assert site.asked == ["ca"]
    assert certificates_in(path.read_bytes()) == (OTHER_CA.cert, SUB_CA.cert, CA.cert)


@pytest.mark.parametrize(
    "content", [b"nonsense", PEM[:-40] + PEM, PEM.replace(b"A", b"B", 3)], ids=["text", "cut", "damaged"]
)
def test_a_file_that_cannot_be_read_is_told_and_written_anew(tmp_path, lines, content):
    """Nothing stops for it."""
    path = tmp_path / "cache.issuers"
    path.write_bytes(content)

    async def run():
        async with finding(Site(ca=DER), path) as (issuers, url):
            assert await issuers.find(leaf(ONE, f"{url}/ca")) == CA.cert

    asyncio.run(run())
    assert any(line.startswith(f"WARNING {path}: this file of issuers is not used: ") for line in lines())
    assert certificates_in(path.read_bytes()) == (CA.cert,)


def test_a_file_that_cannot_be_written_costs_a_line(tmp_path, lines):
    """The certificate is used all the same."""

    async def run():
        async with finding(Site(ca=DER), tmp_path / "no folder" / "cache.issuers") as (issuers, url):
            assert await issuers.find(leaf(ONE, f"{url}/ca")) == CA.cert

    asyncio.run(run())
    assert any("issuers are not kept for a restart: No such file or directory" in line for line in lines())


def test_no_more_than_so_many_are_kept(tmp_path, monkeypatch):
    """The oldest goes."""
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    path = tmp_path / "cache.issuers"
    path.write_bytes(OTHER_CA.cert.public_bytes(Encoding.PEM))

    async def run():
        async with finding(Site(ca=DER), path) as (issuers, url):
            await issuers.find(leaf(ONE, f"{url}/ca"))

    asyncio.run(run())
    assert certificates_in(path.read_bytes()) == (CA.cert,)


def test_a_file_that_never_ends_is_not_read(monkeypatch):
    """It is cut off at the limit."""
    monkeypatch.setattr(module, "LIMIT_BYTES", len(DER) - 1)

    async def run():
        async with finding(Site(ca=DER)) as (issuers, url):
            with pytest.raises(FetchFailed, match=r"no-issuer: .*/ca: too-large: "):
                await issuers.find(leaf(ONE, f"{url}/ca"))

    asyncio.run(run())


def test_a_file_that_nobody_writes_to_holds_nothing_up(tmp_path, lines):
    path = tmp_path / "cache.issuers"
    os.mkfifo(path)
    Issuers(Fetcher(StaplingSettings()), path, LOG)
    assert lines() == [f"WARNING {path}: this file of issuers is not used: [Errno None] it is no file"]


def test_a_page_of_beginnings_is_read_in_one_pass():
    """As long as any that is taken; trying to the end from each would take ten seconds."""
    begun_s = time.perf_counter()
    with pytest.raises(FetchFailed):
        certificates_in(b"-----BEGIN CERTIFICATE-----" * (module.LIMIT_BYTES // 27))
    assert time.perf_counter() - begun_s < 1


@given(st.sampled_from(sorted(FORMS)), st.data())
def test_whatever_comes_is_read_or_refused(form, data):
    """Nothing but FetchFailed leaves."""
    content = bytearray(FORMS[form])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FetchFailed):
        certificates_in(bytes(content))
