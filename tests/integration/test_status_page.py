"""The status page of a real proxy, as a browser shows it: with a script, without one, by the keyboard alone."""

from __future__ import annotations

import asyncio
from base64 import b64encode

import pytest
from integration.browser import browser
from integration.front import run, site, toml
from integration.test_policies import FAST

TOKEN = "0123456789abcdef-a-secret"

pytestmark = pytest.mark.slow


def configuration(lab, backend, folder, *, token=False, stapling=FAST):
    """Three sites: one that says must-staple, one with two certificates, one for which nothing is stapled."""
    admin = {"socket": str(folder / "admin.sock"), "listen": "127.0.0.1:0"}
    if token:
        path = folder / "token"
        path.write_text(TOKEN)
        path.chmod(0o600)
        admin["token_file"] = str(path)
    sites = (
        site(backend, lab.issue("must.example", must_staple=True))
        + site(backend, lab.issue("two.example"), lab.issue("two.example", key="rsa"))
        + site(backend, lab.issue("plain.example", with_uri=False))
    )
    return toml(sites, stapling=stapling, admin=admin)


def address(front):
    return front.wait_for_log(r"the admin interface is at (http://127\.0\.0\.1:\d+)/")[1]


ROWS = """[...document.querySelectorAll('#rows tr')].map((row) => [
  row.querySelector('th strong').textContent, row.querySelector('.pill').lastChild.textContent.trim()]).sort()"""
FOCUS = "document.activeElement.id || document.activeElement.className || document.activeElement.nodeName"


def test_it_shows_all_and_follows_what_happens(lab, backend, tmp_path):
    """Every site is there; a responder that goes is seen without a reload of the page, and nothing but the page is
    asked for.
    """

    async def watch(front, responder):
        async with browser(tmp_path) as tab:
            url = address(front)
            await tab.open(url)
            assert await tab.run(ROWS) == [
                ["must.example", "stapled"],
                ["plain.example", "not stapled"],
                ["two.example", "stapled"],
                ["two.example", "stapled"],
            ]
            told = await tab.text()
            assert "ready" in told
            assert f"127.0.0.1:{lab.port}" in told
            assert "Handshakes" in told
            assert await tab.run("document.querySelectorAll('button[data-key]').length") == 0, (
                "no orders without a token"
            )
            await tab.run("document.querySelector('h1').dataset.seen = 'before'")
            responder.terminate()
            await tab.until("document.querySelectorAll('#rows .pill.warn').length === 3")
            assert "connect" in await tab.text()
            assert await tab.run("document.querySelector('h1').dataset.seen") == "before", "the page was not reloaded"
            assert {each for each in tab.requests if not each.startswith("data:")} == {f"{url}/"}
            assert tab.complaints == []

    with (
        lab.responder("--validity-s", "40") as responder,
        run(tmp_path, configuration(lab, backend, tmp_path)) as front,
    ):
        asyncio.run(watch(front, responder))


def test_it_is_used_by_the_keyboard_alone(lab, backend, tmp_path):
    """Tab leads from the skip link over filter and headings to the buttons; the focus stays while the page changes."""

    async def use(front):
        async with browser(tmp_path) as tab:
            login = b64encode(f"operator:{TOKEN}".encode()).decode()
            await tab.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {login}"})
            await tab.open(address(front))
            seen = []
            while not seen or not seen[-1].startswith("b-"):
                await tab.press("Tab")
                seen.append(await tab.run(FOCUS))
                assert len(seen) < 30, seen
            assert seen[:2] == ["skip", "pause"]
            assert [each for each in seen if not each.startswith(("state-", "d-", "s-", "b-"))] == [
                *("skip", "pause", "q", "sort-name", "sort-attention", "sort-until", "sort-next")
            ]
            asked = front.log.count("ask")
            before = await tab.run("document.querySelector('.faint time').dateTime")
            questions = "fetch('/api/status').then(a => a.json()).then(s => s.responders[0].asked)"
            asked = await tab.run(questions)
            await tab.press("Enter")
            await tab.until(f"{questions}.then(count => count > {asked})")
            assert "Asking the responder for" in await tab.run("document.getElementById('said').textContent")
            await tab.until(f"document.querySelector('.faint time').dateTime !== {before!r}")
            assert await tab.run(FOCUS) == seen[-1]
            await tab.run("document.getElementById('q').focus()")
            await tab.write("plain")
            await tab.until("document.querySelectorAll('#rows tr').length === 1")
            assert await tab.run("location.search") == "?q=plain"
            assert await tab.run("document.getElementById('q').value + document.activeElement.id") == "plainq"
            assert tab.complaints == []

    settings = {**FAST, "refresh_min_interval_s": 30}
    with lab.responder(), run(tmp_path, configuration(lab, backend, tmp_path, token=True, stapling=settings)) as front:
        asyncio.run(use(front))


def test_it_tells_that_nobody_answers_any_more(lab, backend, tmp_path):
    """The keeper is gone: what is shown is marked as old; its successor's answer ends that."""

    async def watch(front):
        async with browser(tmp_path) as tab:
            await tab.open(address(front))
            await tab.run(
                "window.fetch = ((before) => (...all) => window.cut ? Promise.reject() : before(...all))(fetch)"
            )
            await tab.run("window.cut = true")
            await tab.until("!document.getElementById('lost').hidden")
            assert "No answer since" in await tab.text()
            await tab.run("window.cut = false")
            await tab.until("document.getElementById('lost').hidden")

    with lab.responder(), run(tmp_path, configuration(lab, backend, tmp_path)) as front:
        asyncio.run(watch(front))


def test_without_a_script_it_is_all_there_and_looks_again(lab, backend, tmp_path):
    async def watch(front):
        async with browser(tmp_path) as tab:
            await tab.call("Emulation.setScriptExecutionDisabled", value=True)
            url = address(front)
            await tab.call("Page.navigate", url=f"{url}/?q=two")
            await tab.asked_for(f"{url}/?q=two", times=2)
            await tab.until("document.querySelectorAll('#rows tr').length === 2")
            assert [name for name, _ in await tab.run(ROWS)] == ["two.example", "two.example"]
            assert await tab.run("getComputedStyle(document.querySelector('button[type=submit]')).display") != "none"
            assert await tab.run("getComputedStyle(document.getElementById('pause')).display") == "none"
            assert tab.complaints == []

    with lab.responder(), run(tmp_path, configuration(lab, backend, tmp_path)) as front:
        asyncio.run(watch(front))
