"""A headless Chromium that tests drive: what it shows, what it asks for, and what it complains about."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time

import aiohttp
from lab.servers import require_peer

WITHIN_S = 30.0
POLL_S = 0.1


class Browser:
    """One tab, over the DevTools protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._answers = {}
        self._number = 0
        self.requests = []
        """Addresses that were asked for."""
        self.complaints = []
        """What stands in the console as an error or a warning, exceptions and refused requests too."""

    async def listen(self):
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            else:
                self._hear(told["method"], told["params"])

    def _hear(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Log.entryAdded" and params["entry"]["level"] != "info":
            self.complaints.append(params["entry"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            self.complaints.append(params["args"])

    async def call(self, method, **params):
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        told = await asyncio.wait_for(answer, WITHIN_S)
        assert "error" not in told, told
        return told["result"]

    async def run(self, expression):
        """The value of a JavaScript expression, in the page."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression):
        """Wait until it is true in the page."""
        give_up_at = time.monotonic() + WITHIN_S
        while True:
            with contextlib.suppress(AssertionError):  # the page may be loading
                if value := await self.run(expression):
                    return value
            assert time.monotonic() < give_up_at, f"{expression} did not come true: {await self.text()}"
            await asyncio.sleep(POLL_S)

    async def open(self, url):
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.protocol.startsWith('http')")

    async def asked_for(self, url, *, times):
        """Wait until it was asked for so often."""
        async with asyncio.timeout(WITHIN_S):
            while self.requests.count(url) < times:  # noqa: ASYNC110  it comes by the socket, among all the rest
                await asyncio.sleep(POLL_S)

    async def text(self):
        return await self.run("document.body.innerText")

    async def press(self, key, *, shift=False):
        """One key, as from a keyboard."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        extra = {"text": "\r" if key == "Enter" else key} if key != "Tab" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code={" ": "Space"}.get(key, key),
                windowsVirtualKeyCode=codes[key],
                modifiers=8 * shift,
                **(extra if kind == "keyDown" else {}),
            )

    async def write(self, text):
        await self.call("Input.insertText", text=text)


@contextlib.asynccontextmanager
async def browser(folder):
    """Start Chromium with a profile in `folder`; nothing but loopback can be reached."""
    require_peer("chromium")
    process = await asyncio.create_subprocess_exec(
        *(shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
        *("--proxy-server=127.0.0.1:9", "--no-first-run", f"--user-data-dir={folder / 'profile'}", "about:blank"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            while not (found := re.search(rb"DevTools listening on ws://(\S+?)/", await process.stderr.readline())):
                assert not process.stderr.at_eof(), "Chromium did not start"
        # Read on, or it would wait for room in the pipe.
        draining = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{found[1].decode()}/json/list") as answer:
                pages = await answer.json()
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Browser(socket)
                listening = asyncio.create_task(tab.listen())
                for domain in ("Page", "Runtime", "Network", "Log"):
                    await tab.call(f"{domain}.enable")
                yield tab
                listening.cancel()
        draining.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
