"""An OCSP responder for every certificate of the lab's intermediate: RFC 6960 over GET and POST, right or wrong.

As a process: ``python -m proxy.lab.responder --folder DIR --listen 127.0.0.1:0``. A certificate that the folder's
``index.txt`` marks R is revoked. What else it does wrong, it is told over HTTP: `proxy.lab.board` says how.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import click
from aiohttp import web
from cryptography.x509 import ocsp

from proxy.lab.answers import INTERNAL_ERROR, right_answer
from proxy.lab.board import Board, split_prefix
from proxy.lab.ca import LabCA
from proxy.lab.index import Revocations, read_revocations
from proxy.lab.plays import CONTENT_TYPE
from proxy.lab.serving import read_listen, run_server
from proxy.lab.signing import Signing
from proxy.lab.stage import RIGHT_PATH, Stage
from proxy.lab.wrong_answers import Occasion

if TYPE_CHECKING:
    from proxy.lab.answers import Answer
    from proxy.settings.values import ListenAddress

MAX_REQUEST_BYTES = 8192


@dataclass(slots=True)
class Responder:
    """The HTTP side: reads the request out of path or body, and answers as the board says."""

    signing: Signing
    index: Path
    board: Board
    revoked: dict[int, datetime] = field(default_factory=dict)
    """Beside those of the index."""
    stage: Stage = field(default_factory=Stage)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.cleanup_ctx.append(self.stage.lifetime)
        app.on_shutdown.append(self.stage.end)
        app.add_routes(self.board.routes())
        for path, handler in ((f"{RIGHT_PATH}/{{request:.*}}", self._answer_rightly), ("/{request:.*}", self._answer)):
            app.add_routes([web.get(path, handler), web.post(path, handler)])
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        prefix, der = await _read(request, request.raw_path)
        number = self.board.count(request.method, _serial(der), prefix)
        now = datetime.now(UTC)
        answer = self._right(der, prefix, now)
        right = answer if isinstance(answer, bytes) else answer.encoded
        fault = self.board.fault_for(prefix)
        # What asks for no certificate of ours is told so, for no fault can be made of such an answer.
        if fault is None or isinstance(answer, bytes):
            return web.Response(body=right, content_type=CONTENT_TYPE)
        return await self.stage.play(fault.play, request, right, Occasion(answer, self.signing, now, number))

    async def _answer_rightly(self, request: web.Request) -> web.StreamResponse:
        prefix, der = await _read(request, request.raw_path.removeprefix(RIGHT_PATH))
        answer = self._right(der, prefix, datetime.now(UTC))
        return web.Response(body=answer if isinstance(answer, bytes) else answer.encoded, content_type=CONTENT_TYPE)

    def _right(self, der: bytes, prefix: str, now: datetime) -> Answer | bytes:
        try:
            found = self._read_index()
        except (OSError, ValueError) as error:
            print(f"{self.index}: {error}", file=sys.stderr, flush=True)  # noqa: T201 (the process's log)
            return INTERNAL_ERROR  # a line that nobody can read may revoke
        return right_answer(
            der,
            self.signing,
            now,
            validity=self.board.validity_for(prefix),
            revoked_at=found.times | self.revoked,
            reasons=found.reasons,
        )

    def _read_index(self) -> Revocations:
        try:
            with self.index.open() as file:
                edited_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC).replace(microsecond=0)
                return read_revocations(file.read(), edited_at)
        except FileNotFoundError:
            return Revocations()


async def _read(request: web.Request, raw_path: str) -> tuple[str, bytes]:
    """Give the prefix and the OCSP request, which is empty where there is none."""
    # The raw path, for base64 has slashes of its own, two in a row too (RFC 6960 A.1: base64, then URL-encoded).
    prefix, encoded = split_prefix(raw_path)
    if request.method == "POST":
        return prefix, await request.read()
    try:
        return prefix, base64.b64decode(unquote(encoded), validate=True)
    except binascii.Error:
        return prefix, b""


def _serial(der: bytes) -> str:
    try:
        return f"{ocsp.load_der_ocsp_request(der).serial_number:x}"
    except (ValueError, NotImplementedError):  # as in right_answer, which answers it
        return "unparsable"


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--listen", callback=read_listen, default="127.0.0.1:0", show_default=True, help="Port 0: any free one.")
@click.option("--validity-s", type=click.IntRange(1), default=3600, show_default=True)
@click.option("--no-next-update", is_flag=True, help="Leave nextUpdate out.")
@click.option("--signer", type=click.Choice(["delegate", "issuer"]), default="delegate", show_default=True)
@click.option("--revoked", "revoked_hex", multiple=True, metavar="SERIAL", help="In hexadecimal, as openssl prints it.")
@click.option("--exit-with-stdin", is_flag=True, help="End when standard input does.")
def main(
    folder: Path,
    listen: ListenAddress,
    validity_s: int,
    no_next_update: bool,
    signer: Literal["delegate", "issuer"],
    revoked_hex: tuple[str, ...],
    exit_with_stdin: bool,
) -> None:
    """Answer OCSP requests for the lab's certificates."""
    try:
        revoked_at = datetime.now(UTC).replace(microsecond=0)
        revoked = {int(serial, 16): revoked_at for serial in revoked_hex}
    except ValueError as error:
        raise click.UsageError("--revoked: give serial numbers in hexadecimal") from error
    responder = Responder(
        Signing.of(LabCA.load(folder), signer),
        folder / "index.txt",
        Board(None if no_next_update else timedelta(seconds=validity_s)),
        revoked,
    )
    run_server(responder.app(), listen, name="responder", exit_with_stdin=exit_with_stdin)


if __name__ == "__main__":
    main()
