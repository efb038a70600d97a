"""``stapleproxy serve``: one site from options alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS = (
    (r"site\[0\]\.certificate(\[\d+\](\.chain)?)?", "--cert"),
    (r"site\[0\]\.certificate\[\d+\]\.key", "--key"),
    (r"site\[0\]\.certificate\[\d+\]\.issuer", "--issuer"),
    (r"site\[0\]\.names(\[\d+\])?", "--name"),
    (r"site\[0\]\.upstream", "--upstream"),
    (r"listen(\[\d+\])?", "--listen"),
    (r"workers", "--workers"),
    (r"stapling\.cache", "--cache"),
    (r"stapling\.responder_url", "--responder-url"),
)
"""Where a value came from, by the key path that it has in a file."""


@click.command(short_help="Serve one site without a configuration file.")
@click.option(
    "--listen", multiple=True, default=("127.0.0.1:8443",), show_default=True, metavar="HOST:PORT",
    help="Accept TLS connections there; :8443 is every address. May be repeated.",
)  # fmt: skip
@click.option(
    "--cert", multiple=True, required=True, metavar="FILE",
    help="The certificate, then the intermediates (PEM). Repeat with another --key for RSA and ECDSA.",
)  # fmt: skip
@click.option(
    "--key", multiple=True, required=True, metavar="FILE",
    help="The private key (PEM): the first --key belongs to the first --cert, and so on.",
)  # fmt: skip
@click.option(
    "--upstream", required=True, metavar="URL", help="The backend: http://HOST:PORT or unix:/PATH."
)  # fmt: skip
@click.option(
    "--name", multiple=True, metavar="HOST",
    help="Serve this name, such as www.example.com. Not given: the DNS names in the certificates. May be repeated.",
)  # fmt: skip
@click.option("--workers", type=int, default=0, show_default="one for each CPU", help="How many worker processes.")
@click.option(
    "--cache", default="shmcb:", show_default=True, metavar="shmcb:PATH(SIZE)",
    help="Where responses are kept; with a PATH they outlive a restart.",
)  # fmt: skip
@click.option("--responder-url", metavar="URL", help="Ask this OCSP responder instead of the certificate's own.")
@click.option("--issuer", metavar="FILE", help="The issuer's certificate (PEM), for each --cert that does not hold it.")
@click.pass_context
def serve(
    ctx: click.Context,
    *,
    listen: tuple[str, ...],
    cert: tuple[str, ...],
    key: tuple[str, ...],
    upstream: str,
    name: tuple[str, ...],
    workers: int,
    cache: str,
    responder_url: str | None,
    issuer: str | None,
) -> None:
    """Serve one site without a configuration file, until SIGTERM or Ctrl-C.

    \b
    Example:
      stapleproxy serve --cert chain.pem --key key.pem --upstream http://127.0.0.1:8000
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy import configuration, master

    if len(cert) != len(key):
        raise click.UsageError(f"each --cert needs its --key: {len(cert)} and {len(key)} are given")
    certificates = [
        {"chain": chain, "key": each, "issuer": issuer if issuer is None else needed_issuer(chain, issuer)}
        for chain, each in zip(cert, key, strict=True)
    ]
    data = {
        "listen": listen,
        "workers": workers,
        "stapling": {"cache": cache, "responder_url": responder_url},
        "site": [{"names": name, "certificate": certificates, "upstream": upstream}],
    }
    folder = Path.cwd()

    def read(between: Callable[[], None] = lambda: None) -> master.Reading:
        try:
            return master.Reading(*configuration.read(data, folder=folder, between=between), (), _located)
        except ConfigError as error:
            raise _located(error) from None

    ctx.exit(master.run(read(), read))


def _located(error: ConfigError) -> ConfigError:
    return ConfigError(*(replace(each, where=option(each.where)) for each in error.problems))


def needed_issuer(chain_file: str, issuer_file: str) -> str | None:
    """One option is for all certificates, and RSA and ECDSA often have two issuers: it counts where one is lacking."""
    from proxy.identity import find_issuer
    from proxy.pem import read_certificates

    try:
        chain, _ = (read_certificates(Path(name), where="") for name in (chain_file, issuer_file))
    except ConfigError:
        return issuer_file  # what is wrong with it is told with all other mistakes
    return None if find_issuer(chain[0], chain[1:]) else issuer_file


def option(where: str) -> str:
    """Name the option that a key path stands for; a path that no option sets is left as it is."""
    return next((name for pattern, name in _OPTIONS if re.fullmatch(pattern, where)), where)
