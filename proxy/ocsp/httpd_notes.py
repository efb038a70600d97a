"""The lines that Apache's mod_ssl writes about stapling: number, level and what it means, in one table.

The numbers are Apache's, so that a search for them works; the words are ours. `%` marks what is filled in.
"""

from __future__ import annotations

from typing import Literal

Level = Literal["debug", "info", "error"]

Note = tuple[int, *tuple[object, ...]]
"""A number of `NOTES`, and what is filled into its words."""

NOTES: dict[int, tuple[Level, str]] = {
    # at start
    2217: (
        "error",
        "%s: nothing can be asked about it, since its issuer's certificate is not in the chain: add it there",
    ),
    2218: ("error", "%s: it names no OCSP responder, and the site has no force_url"),
    2604: ("error", "%s: it is not stapled"),
    2814: ("error", "%s: it names no OCSP responder, and this site, not the first to have it, has no force_url"),
    # in a handshake
    1926: ("info", "%s: it is not stapled"),
    1951: ("debug", "a client asks for a staple"),
    1952: ("debug", "the certificate is one that is stapled"),
    1930: ("debug", "the cache has nothing for it"),
    1932: ("error", "what the cache has cannot be read"),
    1933: ("debug", "the cache has something for it"),
    1953: ("debug", "it is a response"),
    1937: ("debug", "its time is over, or has not come"),
    1954: ("debug", "a new one is needed"),
    3237: ("debug", "somebody else has fetched it meanwhile"),
    3238: ("debug", "it is our turn to fetch it"),
    3040: ("debug", "the fetch is over"),
    1955: ("error", "the handshake is given up: nothing can be fetched"),
    1956: ("debug", "it is stapled"),
    1957: ("debug", "nothing is stapled"),
    # a fetch
    1938: ("debug", "asking the responder"),
    2621: ("error", "there is no URI to ask"),
    1939: ("error", "this is no URI: %s"),
    1940: ("error", "only URIs that begin with http: can be asked, and this does not: %s"),
    1972: ("error", "no address was found for the %s %s"),
    1973: ("debug", "connecting to the %s %s"),
    1974: ("error", "no connection to the %s %s"),
    1975: ("debug", "sending the request"),
    1976: ("error", "the request could not be sent to %s"),
    1977: ("error", "a line of the answer could not be read: %s"),
    2321: ("error", "the answer ended where a line was to come"),
    1979: ("error", "a line of the answer is too long, or has no end"),
    1980: ("error", "not a status of 200 to 299: %s"),
    1981: ("debug", "header line: %s"),
    1982: ("error", "the answer has too many header lines: %d"),
    1983: ("error", "the header lines could not be read"),
    1985: ("error", "the answer's body could not be read: %s"),
    1986: ("error", "the answer has more than %d bytes"),
    1987: ("debug", "%d bytes came, %d so far"),
    1988: ("error", "the answer is no OCSP response"),
    1941: ("error", "the responder gave nothing that can be used"),
    1942: ("debug", "the responder has answered"),
    1944: ("debug", "the responder has answered with an error: %s"),
    1934: ("error", "a response cannot be read"),
    1935: ("error", "a response is not about the certificate"),
    1936: ("error", "the response is not valid now"),
    2969: ("error", "the certificate is %s (reason: %s), serial number %X"),
    1943: ("error", "the response is not right"),
    1928: ("error", "the response is too long to be kept: %d bytes"),
    1929: ("error", "the cache does not take the response: %s"),
    1945: ("error", "the response was not kept"),
}


def words(note: Note, name: str = "") -> str:
    """Write a line; `name`: what the site is called that it is about."""
    number, *details = note
    return f"AH{number:05}: {f'[{name}] ' if name else ''}{NOTES[number][1] % tuple(details)}"
