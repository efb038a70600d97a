"""What a configuration says: helpers of the tests of directives."""

from __future__ import annotations

from proxy.errors import ConfigError
from proxy.settings.httpd.load import Loaded, read_conf

HEAD = "Listen 443\nSSLStaplingCache shmcb:\n"
"""The lines before a virtual host of which nothing is wrong."""


def host(*lines: str, address: str = "*:443", name: str = "a.test") -> str:
    """Write a virtual host with TLS."""
    given = [f"<VirtualHost {address}>", f"ServerName {name}" if name else "", "SSLEngine on"]
    return "\n".join([*given, "SSLCertificateFile c.pem", *lines, "</VirtualHost>", ""])


def read(folder, text: str, **further) -> Loaded:
    path = folder / "x.conf"
    path.write_text(text)
    return read_conf(path, **further)


def mistakes(folder, text: str, **further) -> list[str]:
    """List what is told of a configuration, without the name of its folder; none: it is right."""
    try:
        read(folder, text, **further)
    except ConfigError as error:
        return [str(each).replace(f"{folder}/", "") for each in error.problems]
    return []


def warnings(folder, text: str, **further) -> list[str]:
    return [str(each).replace(f"{folder}/", "") for each in read(folder, text, **further).warnings]
