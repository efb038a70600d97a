"""An OCSP responder for every certificate of the lab's intermediate: RFC 6960 over GET and POST.

As a process: ``python -m proxy.lab.responder --folder DIR --listen 127.0.0.1:0``. How often it was asked stands at
``GET /-/requests``. A certificate that the folder's ``index.txt`` marks R is revoked.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import click
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from proxy.lab.ca import Authority, LabCA
from proxy.lab.index import Revocations, read_revocations
from proxy.lab.serving import read_listen, run_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.settings.model import ListenAddress

CONTENT_TYPE = "application/ocsp-response"
MAX_REQUEST_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Signing:
    """Whose certificates are answered for, and who signs the answers."""

    issuer: x509.Certificate
    sample: x509.Certificate
    """Any certificate of that issuer: its CertID shows how requests name the issuer."""
    signer: Authority

    @classmethod
    def of(cls, ca: LabCA, signer: Literal["delegate", "issuer"]) -> Signing:
        return cls(
            ca.intermediate.certificate,
            ca.ocsp_signer.certificate,
            ca.intermediate if signer == "issuer" else ca.ocsp_signer,
        )


def build_response(
    request_der: bytes,
    signing: Signing,
    now: datetime,
    *,
    validity: timedelta | None,
    revoked: Mapping[int, datetime],
    reasons: Mapping[int, x509.ReasonFlags] | None = None,
) -> bytes:
    """Answer one request as a right responder would.

    `validity` None: an answer without nextUpdate. `revoked`: serial number to the time of its revocation; `reasons`:
    to the reason, where one is told.
    """
    try:
        request = ocsp.load_der_ocsp_request(request_der)
        serial = request.serial_number
        # Reading the extensions parses them: what is broken there is a malformed request too.
        nonces = [e.value for e in request.extensions if isinstance(e.value, x509.OCSPNonce)]
    except (ValueError, NotImplementedError):  # NotImplementedError: more than one certificate asked for
        return _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    if not _is_for(request, signing):
        return _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)  # RFC 5019 2.2.3: no knowledge of that certificate
    this_update = now.astimezone(UTC).replace(microsecond=0)  # RFC 5280 4.1.2.5.2: no fractions of a second
    revoked_at = revoked.get(serial)
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            request.issuer_name_hash,
            request.issuer_key_hash,
            serial,
            request.hash_algorithm,
            ocsp.OCSPCertStatus.GOOD if revoked_at is None else ocsp.OCSPCertStatus.REVOKED,
            this_update,
            None if validity is None else this_update + validity,
            revoked_at,
            None if revoked_at is None else (reasons or {}).get(serial),
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signing.signer.certificate)
    )
    if signing.signer.certificate != signing.issuer:
        builder = builder.certificates([signing.signer.certificate])
    for nonce in nonces:
        builder = builder.add_extension(nonce, critical=False)  # RFC 9654 2.1: the nonce comes back as it was
    return builder.sign(signing.signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


def _is_for(request: ocsp.OCSPRequest, signing: Signing) -> bool:
    """Tell whether the certificate asked for is one of the issuer's (RFC 6960 4.1.1: CertID)."""
    builder = ocsp.OCSPRequestBuilder()
    own = builder.add_certificate(signing.sample, signing.issuer, request.hash_algorithm).build()
    return (own.issuer_name_hash, own.issuer_key_hash) == (request.issuer_name_hash, request.issuer_key_hash)


@dataclass(slots=True)
class Responder:
    """The HTTP side: reads the request out of path or body, counts, and signs the answer."""

    signing: Signing
    validity: timedelta | None
    index: Path
    revoked: dict[int, datetime] = field(default_factory=dict)
    """Beside those of the index."""
    by_method: Counter[str] = field(default_factory=Counter)
    by_serial: Counter[str] = field(default_factory=Counter)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_get("/-/requests", self._requests)
        app.router.add_get("/{request:.*}", self._get)
        app.router.add_post("/{request:.*}", self._post)
        return app

    async def _requests(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"total": self.by_method.total(), "methods": dict(self.by_method), "serials": dict(self.by_serial)}
        )

    async def _get(self, request: web.Request) -> web.Response:
        # The raw path, for base64 has slashes of its own, two in a row too (RFC 6960 A.1: base64, then URL-encoded).
        encoded = unquote(request.raw_path.removeprefix("/"))
        try:
            return self._answer(request, base64.b64decode(encoded, validate=True))
        except binascii.Error:
            return self._answer(request, b"")

    async def _post(self, request: web.Request) -> web.Response:
        return self._answer(request, await request.read())

    def _answer(self, request: web.Request, der: bytes) -> web.Response:
        self.by_method[request.method] += 1
        try:
            self.by_serial[f"{ocsp.load_der_ocsp_request(der).serial_number:x}"] += 1
        except (ValueError, NotImplementedError):  # as in build_response, which answers it
            self.by_serial["unparsable"] += 1
        try:
            found = self._read_index()
        except (OSError, ValueError) as error:
            print(f"{self.index}: {error}", file=sys.stderr, flush=True)  # noqa: T201 (the process's log)
            body = _unsuccessful(ocsp.OCSPResponseStatus.INTERNAL_ERROR)  # a line that nobody can read may revoke
        else:
            body = build_response(
                der,
                self.signing,
                datetime.now(UTC),
                validity=self.validity,
                revoked=found.times | self.revoked,
                reasons=found.reasons,
            )
        return web.Response(body=body, content_type=CONTENT_TYPE)

    def _read_index(self) -> Revocations:
        try:
            with self.index.open() as file:
                edited_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC).replace(microsecond=0)
                return read_revocations(file.read(), edited_at)
        except FileNotFoundError:
            return Revocations()


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
        None if no_next_update else timedelta(seconds=validity_s),
        folder / "index.txt",
        revoked,
    )
    run_server(responder.app(), listen, name="responder", exit_with_stdin=exit_with_stdin)


if __name__ == "__main__":
    main()
