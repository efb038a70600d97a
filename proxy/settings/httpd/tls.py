"""What mod_ssl's directives say about handshakes: `[tls]`, `[site.tls]`, certificates. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.httpd.numbers import atoi

if TYPE_CHECKING:
    from proxy.settings.httpd.block import Block, Server
    from proxy.settings.httpd.stapling import Base
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive

_OURS = ("TLSv1.2", "TLSv1.3")
_PROTOCOLS = {each.lower(): each for each in ("SSLv3", "TLSv1", "TLSv1.1", *_OURS)}
_ORDER = tuple(_PROTOCOLS.values())
_MAX_PAIRS = 4
VERIFY = {
    "none": "none",
    "off": "none",
    "optional": "optional",
    "require": "require",
    "on": "require",
    "optional_no_ca": "optional_no_ca",
}
_COMMANDS = {
    "groups": "groups",
    "curves": "groups",
    "cipherstring": "ciphers",
    "ciphersuites": "ciphersuites",
}
"""Commands of SSL_CONF_cmd(3), in lower case, that have a setting of their own."""
_KNOWN_COMMANDS = {
    *("signaturealgorithms", "clientsignaturealgorithms", "ecdhparameters", "dhparameters", "recordpadding"),
    *("verifymode", "numtickets", "chaincafile", "chaincapath", "verifycafile", "verifycapath", "requestcafile"),
    *(
        "requestcapath",
        "clientcafile",
        "clientcapath",
        "serverinfofile",
        "privatekey",
        "certificate",
        "rxcertificatecompression",
    ),
    *("txcertificatecompression", "keylogfile"),
}
_OPTIONS_OF_OURS = {
    "-sslv2",
    "-sslv3",
    "-compression",
    "emptyfragments",
    "-unsafelegacyrenegotiation",
    "prioritizechacha",
    "-prioritizechacha",
    "norenegotiation",
    "antireplay",
}


def table(block: Block, told: Told) -> dict[str, object]:
    """Read what one server itself says: what goes into [tls], or into [site.tls]."""
    values: dict[str, object] = {}
    if (found := block.last("sslprotocol")) is not None:
        for each in block.all("sslprotocol"):
            protocols = _protocols(each, told)
        values["protocols"] = _within(protocols, found, told)
    for directive in block.all("sslciphersuite"):
        protocol = directive.arguments[0].lower() if len(directive.arguments) == 2 else "ssl"
        if protocol not in {"ssl", "tlsv1.3"}:
            told.mistake(directive.where, f"protocol '{directive.arguments[0]}' not supported")
        else:
            values["ciphers" if protocol == "ssl" else "ciphersuites"] = directive.arguments[-1]
    if found := block.last("sslhonorcipherorder"):
        values["prefer_server_ciphers"] = _is_on(found)
    if found := block.last("sslsessiontickets"):
        values["session_tickets"] = _is_on(found)
    for directive in block.all("sslopensslconfcmd"):
        _command(directive, values, told)
    return values


def certificates(server: Server, base: Base, told: Told) -> list[tuple[dict[str, object], Directive, Directive]]:
    """Pair certificates with keys; each pair with the directives that name the certificate and the key."""
    chains, keys = _merged(server, "sslcertificatefile"), _merged(server, "sslcertificatekeyfile")
    further = server.last("sslcertificatechainfile")
    pairs: list[tuple[dict[str, object], Directive, Directive]] = []
    for number, chain in enumerate(chains):
        key = keys[number] if number < len(keys) else chain
        names = [each.arguments[0] for each in (chain, key)]
        if any(name.startswith("pkcs11:") for name in names):
            told.mistake(chain.where, "keys and certificates on a token cannot be used here: write files in PEM")
            continue
        files: dict[str, object] = {"chain": base.file(names[0]), "key": base.file(names[1])}
        if further:
            files["intermediates"] = base.file(further.arguments[0])
        pairs.append((files, chain, key))
    if len(keys) > len(chains):
        told.warn(keys[len(chains)].where, "SSLCertificateKeyFile without its SSLCertificateFile is not used")
    if len(pairs) > _MAX_PAIRS:
        told.mistake(pairs[_MAX_PAIRS][1].where, f"a site has at most {_MAX_PAIRS} certificates")
    return pairs[:_MAX_PAIRS]


def client_certificates(server: Server, base: Base, told: Told) -> dict[str, object]:
    """Make the table [site.client_certificate]; empty: clients are asked for none."""
    for block in server.blocks:
        _check_verification(block, told)
    found = server.last("sslverifyclient")
    mode = VERIFY.get(found.arguments[0].lower(), "none") if found else "none"
    if found is None or mode == "none":
        return {}
    if mode == "optional_no_ca":
        told.unlike(found.where, "SSLVerifyClient optional_no_ca: a certificate that is shown must be right here")
        mode = "optional"
    ca = server.last("sslcacertificatefile")
    if ca is None:
        told.mistake(found.where, "SSLVerifyClient: write SSLCACertificateFile, the file with the CAs of clients")
        return {}
    depth = server.last("sslverifydepth")
    allowed = atoi(depth.arguments[0]) if depth else 1
    if allowed == 0:
        told.unlike(depth.where if depth else found.where, "SSLVerifyDepth 0, for self-signed clients, is not done")
    # Apache counts the root too: with 1, its default, a CA that is known signs the client's certificate.
    values: dict[str, object] = {
        "mode": mode,
        "ca": base.file(ca.arguments[0]),
        "depth": min(100, max(0, allowed - 1)),
    }
    check = server.last("sslcarevocationcheck")
    if check and check.arguments[0].lower() != "none":
        crl = server.last("sslcarevocationfile")
        if crl:
            values["crl"] = base.file(crl.arguments[0])
        else:
            told.unlike(check.where, "SSLCARevocationCheck: CRLs are read from SSLCARevocationFile only")
        if check.arguments[0].lower() == "leaf" or len(check.arguments) > 1:
            told.unlike(check.where, "SSLCARevocationCheck: write chain: there must be a CRL of each CA")
    ocsp = server.last("sslocspenable")
    if ocsp and ocsp.arguments[:1] and ocsp.arguments[0].lower() != "off":
        told.unlike(ocsp.where, "SSLOCSPEnable: client certificates are not asked about by OCSP: use a CRL")
    return values


def _merged(server: Server, name: str) -> list[Directive]:
    """Merge by number: the first of a virtual host replaces the first of the main server, and so on."""
    own, inherited = server.own.all(name), server.main.all(name)
    return own if server.is_main else own + inherited[len(own) :]


def _protocols(directive: Directive, told: Told) -> set[str]:
    chosen: set[str] = set()
    for word in directive.arguments:
        sign, name = (word[0], word[1:]) if word[:1] in {"+", "-"} else ("", word)
        if name.lower() == "sslv2":
            if sign != "-":
                told.mistake(directive.where, "SSLProtocol: SSLv2 is no longer supported")
            continue
        if name.lower() != "all" and name.lower() not in _PROTOCOLS:
            told.mistake(directive.where, f"SSLProtocol: Illegal protocol '{name}'")
            continue
        these = {*_ORDER[1:]} if name.lower() == "all" else {_PROTOCOLS[name.lower()]}
        if sign == "-":
            chosen -= these
        elif sign == "+":
            chosen |= these
        else:
            chosen = these
    return chosen


def _within(protocols: set[str], directive: Directive, told: Told) -> list[str]:
    ours = [each for each in _OURS if each in protocols]
    if not ours:
        told.unlike(directive.where, "SSLProtocol: nothing is left: there is only TLSv1.2 and TLSv1.3 here")
        return ["TLSv1.2"]
    return ours


def _command(directive: Directive, values: dict[str, object], told: Told) -> None:
    """Do one command of SSL_CONF_cmd(3)."""
    written, value = directive.arguments
    command = written.lower()
    if command in _COMMANDS:
        values[_COMMANDS[command]] = value
    elif command in {"minprotocol", "maxprotocol"}:
        if value.lower() not in {*map(str.lower, _ORDER), "none"}:
            told.mistake(directive.where, f"SSLOpenSSLConfCmd {written}: '{value}' is no protocol")
            return
        bound = -1 if value.lower() == "none" else _ORDER.index(_PROTOCOLS[value.lower()])
        before = values.get("protocols", list(_OURS))
        assert isinstance(before, list)
        left = {
            each
            for each in before
            if bound < 0 or (_ORDER.index(each) >= bound if command == "minprotocol" else _ORDER.index(each) <= bound)
        }
        values["protocols"] = _within(left, directive, told)
    elif command == "options":
        for option in value.lower().split(","):
            _option(option.strip(), directive, values, told)
    elif command in _KNOWN_COMMANDS or command == "protocol":
        told.unlike(directive.where, f"SSLOpenSSLConfCmd {written} has no setting here")
    else:
        told.mistake(directive.where, f"'{written}': invalid OpenSSL configuration command")


def _option(option: str, directive: Directive, values: dict[str, object], told: Told) -> None:
    name, is_on = option.removeprefix("-").removeprefix("+"), not option.startswith("-")
    if name == "serverpreference":
        values["prefer_server_ciphers"] = is_on
    elif name == "sessionticket":
        values["session_tickets"] = is_on
    elif option.removeprefix("+") not in _OPTIONS_OF_OURS:
        told.unlike(directive.where, f"SSLOpenSSLConfCmd Options: {option} has no setting here")


def _check_verification(block: Block, told: Told) -> None:
    """Tell what Apache itself finds wrong."""
    for directive in block.all("sslverifyclient"):
        if directive.arguments[0].lower() not in VERIFY:
            told.mistake(directive.where, f"SSLVerifyClient: Invalid argument '{directive.arguments[0]}'")
    for directive in block.all("sslverifydepth"):
        if atoi(directive.arguments[0]) < 0:
            told.mistake(directive.where, f"SSLVerifyDepth: Invalid argument '{directive.arguments[0]}'")
    for directive in block.all("sslcarevocationcheck"):
        first = directive.arguments[0] if directive.arguments else ""
        if first.lower() not in {"none", "leaf", "chain"}:
            told.mistake(directive.where, f"SSLCARevocationCheck: Invalid argument '{first}'")


def _is_on(directive: Directive) -> bool:
    return directive.arguments[0].lower() == "on"
