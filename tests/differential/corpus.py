"""Requests that parsers are known to read differently, by hand: each a name and the bytes of one connection.

Behind most of them stands a request of its own, NEXT. Who reads the first one differently finds NEXT elsewhere.
"""

from __future__ import annotations

NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nX: "
_CHUNKED = b"Transfer-Encoding: chunked"
_KEEP = b"Connection: keep-alive"
_UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket"
_SECOND = b"Transfer_Encoding: chunked"
_H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"


def head(*lines: bytes, start: bytes = b"POST /first HTTP/1.1", host: bytes = b"Host: localhost\r\n") -> bytes:
    return start + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _framings() -> dict[str, bytes]:
    """Content-Length and Transfer-Encoding, together, twice, and written oddly."""
    both = {
        "CL.TE": head(b"Content-Length: 6", _CHUNKED) + b"0\r\n\r\nX" + NEXT,
        "TE.CL": head(_CHUNKED, b"Content-Length: 3") + b"8\r\nSMUGGLED\r\n0\r\n\r\n" + NEXT,
        "CL.TE, a whole request inside": head(b"Content-Length: 60", _CHUNKED) + b"0\r\n\r\n" + SMUGGLED + NEXT,
        "CL.0": head(b"Content-Length: 0") + SMUGGLED + NEXT,
        "GET with a length": head(b"Content-Length: 5", start=b"GET /first HTTP/1.1") + b"01234" + NEXT,
        "GET chunked": head(_CHUNKED, start=b"GET /first HTTP/1.1") + b"1\r\na\r\n0\r\n\r\n" + NEXT,
        "HEAD with a length": head(b"Content-Length: 5", start=b"HEAD /first HTTP/1.1") + b"01234" + NEXT,
        "OPTIONS with a length": head(b"Content-Length: 5", start=b"OPTIONS /first HTTP/1.1") + b"01234" + NEXT,
        "DELETE with a length": head(b"Content-Length: 5", start=b"DELETE /first HTTP/1.1") + b"01234" + NEXT,
        "TRACE with a length": head(b"Content-Length: 5", start=b"TRACE /first HTTP/1.1") + b"01234" + NEXT,
        "chunked in HTTP/1.0": head(_CHUNKED, _KEEP, start=b"POST / HTTP/1.0") + b"0\r\n\r\n" + NEXT,
        "both in HTTP/1.0": head(_CHUNKED, b"Content-Length: 5", _KEEP, start=b"POST / HTTP/1.0") + b"0\r\n\r\n" + NEXT,
        "Connection names the length": head(b"Content-Length: 5", b"Connection: content-length") + b"01234" + NEXT,
        "Connection names the coding": head(_CHUNKED, b"Connection: transfer-encoding") + b"1\r\na\r\n0\r\n\r\n" + NEXT,
        "Connection names Host": head(b"Connection: Host, keep-alive") + NEXT,
        "length with an underscore": head(b"Content_Length: 5") + NEXT,
        "coding with an underscore": head(_SECOND) + b"0\r\n\r\n" + NEXT,
        "length and coding with an underscore": head(b"Content-Length: 5", _SECOND) + b"0\r\n\r\n" + NEXT,
    }  # fmt: skip
    lengths = {
        "twice the same": b"Content-Length: 5\r\nContent-Length: 5",
        "twice, 5 and 0": b"Content-Length: 5\r\nContent-Length: 0",
        "twice, 0 and 5": b"Content-Length: 0\r\nContent-Length: 5",
        "list of the same": b"Content-Length: 5, 5",
        "list of others": b"Content-Length: 5, 6",
        "empty": b"Content-Length:",
        "plus": b"Content-Length: +5",
        "minus": b"Content-Length: -5",
        "leading zero": b"Content-Length: 05",
        "many zeros": b"Content-Length: " + b"0" * 40 + b"5",
        "octal": b"Content-Length: 0o5",
        "hex": b"Content-Length: 0x5",
        "hex digit": b"Content-Length: a",
        "underscore": b"Content-Length: 0_5",
        "fraction": b"Content-Length: 5.0",
        "exponent": b"Content-Length: 5e0",
        "quoted": b'Content-Length: "5"',
        "semicolon": b"Content-Length: 5;",
        "space inside": b"Content-Length: 0 5",
        "space behind": b"Content-Length: 5 ",
        "tab before": b"Content-Length:\t5",
        "vertical tab": b"Content-Length: \x0b5",
        "form feed behind": b"Content-Length: 5\x0c",
        "NUL behind": b"Content-Length: 5\x00",
        "NBSP before": b"Content-Length: \xa05",
        "Arabic digit": b"Content-Length: \xd9\xa5",
        "2^32 + 5": b"Content-Length: 4294967301",
        "2^63": b"Content-Length: 9223372036854775808",
        "2^64 + 5": b"Content-Length: 18446744073709551621",
        "forty digits": b"Content-Length: " + b"9" * 40,
        "folded": b"Content-Length:\r\n 5",
        "space before the colon": b"Content-Length : 5",
        "tab before the colon": b"Content-Length\t: 5",
        "space before the name": b" Content-Length: 5",
        "lower case": b"content-length: 5",
        "no colon": b"Content-Length 5",
        "bare CR before": b"X: y\rContent-Length: 5",
        "bare LF before": b"X: y\nContent-Length: 5",
        "NUL before": b"X: y\x00\r\nContent-Length: 5",
    }
    codings = {
        "upper case": b"Transfer-Encoding: CHUNKED",
        "mixed name": b"tRANSFER-eNCODING: chunked",
        "tab": b"Transfer-Encoding:\tchunked",
        "no space": b"Transfer-Encoding:chunked",
        "tab behind": b"Transfer-Encoding: chunked\t",
        "vertical tab before": b"Transfer-Encoding: \x0bchunked",
        "vertical tab behind": b"Transfer-Encoding: chunked\x0b",
        "NUL behind": b"Transfer-Encoding: chunked\x00",
        "comma before": b"Transfer-Encoding: ,chunked",
        "comma behind": b"Transfer-Encoding: chunked,",
        "comma and spaces": b"Transfer-Encoding: , chunked ,",
        "twice in a list": b"Transfer-Encoding: chunked, chunked",
        "twice in two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "identity": b"Transfer-Encoding: identity",
        "identity first": b"Transfer-Encoding: identity, chunked",
        "identity last": b"Transfer-Encoding: chunked, identity",
        "identity in another line": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "gzip": b"Transfer-Encoding: gzip",
        "gzip first": b"Transfer-Encoding: gzip, chunked",
        "gzip last": b"Transfer-Encoding: chunked, gzip",
        "unknown": b"Transfer-Encoding: cow",
        "empty": b"Transfer-Encoding:",
        "empty, then chunked": b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "x-chunked": b"Transfer-Encoding: xchunked",
        "chunked with a parameter": b"Transfer-Encoding: chunked;q=1",
        "quoted": b'Transfer-Encoding: "chunked"',
        "long s": b"Transfer-Encoding: chun\xe2\x84\xaaed",
        "space before the colon": b"Transfer-Encoding : chunked",
        "space before the name": b" Transfer-Encoding: chunked",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded behind": b"Transfer-Encoding: chunked\r\n , identity",
        "bare LF before": b"X: y\nTransfer-Encoding: chunked",
        "bare CR before": b"X: y\rTransfer-Encoding: chunked",
        "bare CR behind": b"Transfer-Encoding: chunked\r",
        "backslash": b"Transfer-Encoding\\: chunked",
        "dot": b"Transfer.Encoding: chunked",
    }
    cases = dict(both)
    for name, line in lengths.items():
        cases[f"length: {name}"] = head(line) + b"01234" + NEXT
    for name, line in codings.items():
        cases[f"coding: {name}"] = head(line) + b"1\r\na\r\n0\r\n\r\n" + NEXT
        cases[f"coding and length: {name}"] = head(b"Content-Length: 5", line) + b"0\r\n\r\n" + NEXT
    return cases


def _chunks() -> dict[str, bytes]:
    bodies = {
        "one": b"5\r\n01234\r\n0\r\n\r\n",
        "upper and lower case": b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        "leading zeros": b"0005\r\n01234\r\n000\r\n\r\n",
        "many leading zeros": b"0" * 40 + b"5\r\n01234\r\n0\r\n\r\n",
        "0x": b"0x5\r\n01234\r\n0\r\n\r\n",
        "plus": b"+5\r\n01234\r\n0\r\n\r\n",
        "minus": b"-5\r\n01234\r\n0\r\n\r\n",
        "underscore": b"0_5\r\n01234\r\n0\r\n\r\n",
        "space before": b" 5\r\n01234\r\n0\r\n\r\n",
        "space behind": b"5 \r\n01234\r\n0\r\n\r\n",
        "tab behind": b"5\t\r\n01234\r\n0\r\n\r\n",
        "empty size": b"\r\n01234\r\n0\r\n\r\n",
        "no number": b"g\r\n01234\r\n0\r\n\r\n",
        "2^32 + 5": b"100000005\r\n01234\r\n0\r\n\r\n",
        "2^64 + 5": b"10000000000000005\r\n01234\r\n0\r\n\r\n",
        "2^63": b"8000000000000000\r\n01234\r\n0\r\n\r\n",
        "extension": b"5;a=b\r\n01234\r\n0\r\n\r\n",
        "extension without a name": b"5;\r\n01234\r\n0\r\n\r\n",
        "extension, quoted": b'5;a="b;c"\r\n01234\r\n0\r\n\r\n',
        "extension, quoted CRLF": b'5;a="\r\n01234"\r\n01234\r\n0\r\n\r\n',
        "extension, space before": b"5 ;a\r\n01234\r\n0\r\n\r\n",
        "extension, bare LF": b"5;a\n01234\r\n0\r\n\r\n",
        "extension, bare LF inside": b"5;\nxx\r\n01234\r\n0\r\n\r\n",
        "extension, bare CR": b"5;a\rb\r\n01234\r\n0\r\n\r\n",
        "extension, NUL": b"5;a\x00\r\n01234\r\n0\r\n\r\n",
        "extension, last chunk": b"5\r\n01234\r\n0;a=b\r\n\r\n",
        "extension, long": b"5;" + b"a" * 5000 + b"\r\n01234\r\n0\r\n\r\n",
        "bare LF behind the size": b"5\n01234\r\n0\r\n\r\n",
        "bare CR behind the size": b"5\r01234\r\n0\r\n\r\n",
        "bare LF behind the data": b"5\r\n01234\n0\r\n\r\n",
        "nothing behind the data": b"5\r\n012340\r\n\r\n",
        "two bytes behind the data": b"5\r\n01234XX0\r\n\r\n",
        "bare LF behind the last": b"5\r\n01234\r\n0\n\r\n",
        "bare LF at the end": b"5\r\n01234\r\n0\r\n\n",
        "bare CR at the end": b"5\r\n01234\r\n0\r\n\r",
        "no empty line at the end": b"5\r\n01234\r\n0\r\n",
        "shorter than it says": b"8\r\n01234\r\n0\r\n\r\n",
        "longer than it says": b"3\r\n01234\r\n0\r\n\r\n",
        "data like the end": b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        "trailer": b"5\r\n01234\r\n0\r\nX-Sum: 1\r\n\r\n",
        "trailer: length": b"5\r\n01234\r\n0\r\nContent-Length: 40\r\n\r\n",
        "trailer: coding": b"5\r\n01234\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "trailer: Host": b"5\r\n01234\r\n0\r\nHost: other\r\n\r\n",
        "trailer: a request line": b"5\r\n01234\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "trailer: space before the colon": b"5\r\n01234\r\n0\r\nX : 1\r\n\r\n",
        "trailer: folded": b"5\r\n01234\r\n0\r\nX: 1\r\n 2\r\n\r\n",
        "trailer: bare LF": b"5\r\n01234\r\n0\r\nX: 1\nY: 2\r\n\r\n",
        "trailer: bare CR": b"5\r\n01234\r\n0\r\nX: 1\rY: 2\r\n\r\n",
        "trailer: NUL": b"5\r\n01234\r\n0\r\nX: \x00\r\n\r\n",
        "trailer: underscore": b"5\r\n01234\r\n0\r\nContent_Length: 40\r\n\r\n",
    }
    return {f"chunk: {name}": head(_CHUNKED) + body + NEXT for name, body in bodies.items()}


def _lines() -> dict[str, bytes]:
    """Header lines, and what ends them."""
    lines = {
        "plain": b"X: y",
        "empty value": b"X:",
        "empty name": b": y",
        "no colon": b"X",
        "space before the colon": b"X : y",
        "tab before the colon": b"X\t: y",
        "space in the name": b"X Y: z",
        "folded": b"X: y\r\n z",
        "folded by tab": b"X: y\r\n\tz",
        "folded, nothing in it": b"X: y\r\n \r\nZ: 1",
        "first line folded": b" X: y",
        "bare CR in the value": b"X: y\rz",
        "bare LF in the value": b"X: y\nZ: 1",
        "bare LF, then an empty line": b"X: y\n\nGET /smuggled HTTP/1.1",
        "CR CR LF": b"X: y\r",
        "LF CR": b"X: y\n\rZ: 1",
        "CR in the name": b"X\rY: z",
        "NUL in the name": b"X\x00Y: z",
        "NUL in the value": b"X: y\x00z",
        "control byte in the value": b"X: y\x01z",
        "DEL in the value": b"X: y\x7fz",
        "tab in the value": b"X: y\tz",
        "obs-text in the value": b"X: y\xffz",
        "obs-text in the name": b"X\xff: y",
        "UTF-8 line separator": b"X: y\xe2\x80\xa8Z: 1",
        "NEL": b"X: y\x85Z: 1",
        "quotes in the name": b'"X": y',
        "slash in the name": b"X/Y: z",
        "underscore in the name": b"X_Y: z",
        "every tchar in the name": b"!#$%&'*+-.^_`|~09AZaz: y",
        "long": b"X: " + b"y" * 6000,
        "Expect": b"Expect: 100-continue",
        "Expect twice": b"Expect: 100-continue\r\nExpect: 100-continue",
        "Expect, unknown": b"Expect: 200-ok",
        "Upgrade": _UPGRADE,
        "Upgrade to h2c": _H2C,
        "Upgrade to TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0",
        "Connection: close": b"Connection: close",
        "Connection: close and keep-alive": b"Connection: close, keep-alive",
        "Connection, empty members": b"Connection: ,,,",
        "Proxy": b"Proxy: http://evil/",
        "TE": b"TE: trailers, chunked\r\nConnection: TE",
        "Max-Forwards": b"Max-Forwards: 0",
        "Max-Forwards twice": b"Max-Forwards: 1\r\nMax-Forwards: 2",
        "X-Forwarded-For": b"X-Forwarded-For: 10.0.0.1",
        "X-HTTP-Method-Override": b"X-HTTP-Method-Override: DELETE",
    }  # fmt: skip
    cases = {f"line: {name}": head(line) + NEXT for name, line in lines.items()}
    cases |= {
        f"line and body: {name}": head(b"Content-Length: 5", line) + b"01234" + NEXT for name, line in lines.items()
    }
    cases["line: before Host"] = head(b"Host: localhost", host=b" X: y\r\n") + NEXT
    cases["only LF"] = head(b"X: y").replace(b"\r\n", b"\n") + NEXT
    cases["only CR"] = head(b"X: y").replace(b"\r\n", b"\r") + NEXT
    cases["LF at the head's end"] = head(b"X: y")[:-2] + b"\n" + NEXT
    cases["hundreds of lines"] = head(*[b"X: y"] * 300) + NEXT
    return cases


def _hosts() -> dict[str, bytes]:
    hosts = {
        "missing": b"",
        "twice the same": b"Host: localhost\r\nHost: localhost\r\n",
        "twice": b"Host: localhost\r\nHost: other\r\n",
        "list": b"Host: localhost, other\r\n",
        "empty": b"Host:\r\n",
        "port": b"Host: localhost:8443\r\n",
        "https' port": b"Host: localhost:443\r\n",
        "empty port": b"Host: localhost:\r\n",
        "port of letters": b"Host: localhost:http\r\n",
        "port too large": b"Host: localhost:65536\r\n",
        "port with a sign": b"Host: localhost:+80\r\n",
        "two ports": b"Host: localhost:80:443\r\n",
        "userinfo": b"Host: user@localhost\r\n",
        "path": b"Host: localhost/path\r\n",
        "query": b"Host: localhost?query\r\n",
        "fragment": b"Host: localhost#x\r\n",
        "backslash": b"Host: localhost\\other\r\n",
        "space": b"Host: local host\r\n",
        "percent": b"Host: local%68ost\r\n",
        "NUL": b"Host: localhost\x00other\r\n",
        "obs-text": b"Host: localh\xc3\xb6st\r\n",
        "upper case": b"Host: LOCALHOST\r\n",
        "trailing dot": b"Host: localhost.\r\n",
        "a number": b"Host: 5\r\n",
        "numbers": b"Host: 1.2\r\n",
        "IPv4": b"Host: 127.0.0.1:8443\r\n",
        "IPv4 with a zero before": b"Host: 01.2.3.4\r\n",
        "port 0": b"Host: localhost:0\r\n",
        "port with zeros before": b"Host: localhost:00443\r\n",
        "empty label": b"Host: a..b\r\n",
        "only dots": b"Host: ..\r\n",
        "dot in front": b"Host: .localhost\r\n",
        "brackets round no address": b"Host: [1]\r\n",
        "brackets round dots": b"Host: [..]\r\n",
        "IPv6": b"Host: [::1]:443\r\n",
        "IPv6, open": b"Host: [::1\r\n",
        "IPv6 with a zone": b"Host: [fe80::1%25eth0]\r\n",
        "underscore": b"Host: local_host\r\n",
        "sub-delims": b"Host: a,b;c=d\r\n",
        "space before the colon": b"Host : localhost\r\n",
        "folded": b"Host:\r\n localhost\r\n",
    }
    cases = {f"host: {name}": head(start=b"GET /first HTTP/1.1", host=host) + NEXT for name, host in hosts.items()}
    cases["host: missing in HTTP/1.0"] = head(start=b"GET /first HTTP/1.0", host=b"") + NEXT
    cases["host: twice in HTTP/1.0"] = head(start=b"GET /first HTTP/1.0", host=b"Host: a\r\nHost: b\r\n") + NEXT
    return cases


def _request_lines() -> dict[str, bytes]:
    starts = {
        "GET": b"GET /first HTTP/1.1",
        "two spaces before the target": b"GET  /first HTTP/1.1",
        "two spaces behind the target": b"GET /first  HTTP/1.1",
        "tab before the target": b"GET\t/first HTTP/1.1",
        "tab behind the target": b"GET /first\tHTTP/1.1",
        "vertical tab": b"GET\x0b/first HTTP/1.1",
        "space in front": b" GET /first HTTP/1.1",
        "space at the end": b"GET /first HTTP/1.1 ",
        "four words": b"GET /first /second HTTP/1.1",
        "version missing": b"GET /first",
        "version missing, with a space": b"GET /first ",
        "no target": b"GET HTTP/1.1",
        "HTTP/0.9": b"GET /first HTTP/0.9",
        "HTTP/1.0": b"GET /first HTTP/1.0",
        "HTTP/1.00": b"GET /first HTTP/1.00",
        "HTTP/01.1": b"GET /first HTTP/01.1",
        "HTTP/1.2": b"GET /first HTTP/1.2",
        "HTTP/1.9": b"GET /first HTTP/1.9",
        "HTTP/2.0": b"GET /first HTTP/2.0",
        "HTTP/11": b"GET /first HTTP/11",
        "HTTP/1,1": b"GET /first HTTP/1,1",
        "HTTP/1.1.1": b"GET /first HTTP/1.1.1",
        "http/1.1": b"GET /first http/1.1",
        "HTTPS/1.1": b"GET /first HTTPS/1.1",
        "ICY": b"GET /first ICY/1.1",
        "NUL in the target": b"GET /fi\x00rst HTTP/1.1",
        "CR in the target": b"GET /fi\rrst HTTP/1.1",
        "LF in the target": b"GET /fi\nrst HTTP/1.1",
        "obs-text in the target": b"GET /f\xc3\xafrst HTTP/1.1",
        "DEL in the target": b"GET /fi\x7frst HTTP/1.1",
        "fragment": b"GET /first#fragment HTTP/1.1",
        "encoded fragment": b"GET /first%23fragment HTTP/1.1",
        "encoded CRLF": b"GET /first%0d%0aX:%20y HTTP/1.1",
        "encoded NUL": b"GET /first%00 HTTP/1.1",
        "encoded slash": b"GET /first%2fsecond HTTP/1.1",
        "broken percent": b"GET /first%zz HTTP/1.1",
        "percent at the end": b"GET /first% HTTP/1.1",
        "double slash": b"GET //first HTTP/1.1",
        "dots": b"GET /first/../second HTTP/1.1",
        "dots above the root": b"GET /../first HTTP/1.1",
        "encoded dots": b"GET /first/%2e%2e/second HTTP/1.1",
        "backslash": b"GET /first\\second HTTP/1.1",
        "quotes and brackets": b'GET /"<>{}|^`[] HTTP/1.1',
        "query with everything": b'GET /first?a=b?c=/d&"<>[]{}|\\^` HTTP/1.1',
        "empty query": b"GET /first? HTTP/1.1",
        "only a query": b"GET ?first HTTP/1.1",
        "no slash": b"GET first HTTP/1.1",
        "asterisk": b"OPTIONS * HTTP/1.1",
        "asterisk with GET": b"GET * HTTP/1.1",
        "absolute": b"GET http://localhost/first HTTP/1.1",
        "absolute, other host": b"GET http://other/first HTTP/1.1",
        "absolute, https": b"GET https://other/first HTTP/1.1",
        "absolute, upper case": b"GET HTTP://OTHER/first HTTP/1.1",
        "absolute, port": b"GET http://other:8080/first HTTP/1.1",
        "absolute, no path": b"GET http://other HTTP/1.1",
        "absolute, only a query": b"GET http://other?q HTTP/1.1",
        "absolute, OPTIONS without a path": b"OPTIONS http://other HTTP/1.1",
        "absolute, userinfo": b"GET http://user@other/first HTTP/1.1",
        "absolute, userinfo and password": b"GET http://localhost:80@other/first HTTP/1.1",
        "absolute, no host": b"GET http:///first HTTP/1.1",
        "absolute, fragment": b"GET http://other#/first HTTP/1.1",
        "absolute, backslash": b"GET http://other\\@localhost/first HTTP/1.1",
        "absolute, bad port": b"GET http://other:99999/first HTTP/1.1",
        "absolute, ftp": b"GET ftp://other/first HTTP/1.1",
        "absolute, file": b"GET file:///etc/passwd HTTP/1.1",
        "absolute, three slashes": b"GET http:////other/first HTTP/1.1",
        "absolute, one slash": b"GET http:/other/first HTTP/1.1",
        "authority": b"GET localhost:443 HTTP/1.1",
        "CONNECT": b"CONNECT localhost:443 HTTP/1.1",
        "CONNECT with a path": b"CONNECT /first HTTP/1.1",
        "unknown method": b"FROBNICATE /first HTTP/1.1",
        "lower case method": b"get /first HTTP/1.1",
        "mixed case method": b"Get /first HTTP/1.1",
        "method with a dash": b"M-SEARCH /first HTTP/1.1",
        "method with an underscore": b"A_B /first HTTP/1.1",
        "method with a digit": b"GET1 /first HTTP/1.1",
        "method of other tchars": b"!#$ /first HTTP/1.1",
        "method with a colon": b"GET: /first HTTP/1.1",
        "method with NUL": b"GE\x00T /first HTTP/1.1",
        "method of one letter": b"G /first HTTP/1.1",
        "long method": b"A" * 40 + b" /first HTTP/1.1",
        "long target": b"GET /" + b"a" * 5000 + b" HTTP/1.1",
        "PRI": b"PRI * HTTP/2.0",
        "TRACE": b"TRACE /first HTTP/1.1",
        "PATCH": b"PATCH /first HTTP/1.1",
        "PROPFIND": b"PROPFIND /first HTTP/1.1",
        "QUERY": b"QUERY /first HTTP/1.1",
    }  # fmt: skip
    cases = {f"start: {name}": head(start=start) + NEXT for name, start in starts.items()}
    cases["HTTP/0.9 without version"] = b"GET /first\r\n"
    cases["HTTP/0.9 and more"] = b"GET /first\r\n\r\n" + NEXT
    cases["HTTP/2 preface"] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    cases["TLS inside"] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    cases["PROXY header"] = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + NEXT
    cases["no start"] = b"Host: localhost\r\n\r\n" + NEXT
    cases["empty"] = b""
    return cases


def _sequences() -> dict[str, bytes]:
    """More than one request on a connection."""
    ten = b"GET / HTTP/1.0\r\nHost: localhost\r\n"
    return {
        "two": NEXT + NEXT,
        "twenty": NEXT * 20,
        "body, then another": head(b"Content-Length: 5") + b"01234" + NEXT,
        "chunked, then another": head(_CHUNKED) + b"5\r\n01234\r\n0\r\n\r\n" + NEXT,
        "one CRLF before": b"\r\n" + NEXT,
        "CRLFs before": b"\r\n" * 5 + NEXT,
        "CRLF between": NEXT + b"\r\n" + NEXT,
        "CRLF behind a body": head(b"Content-Length: 5") + b"01234\r\n" + NEXT,
        "LF before": b"\n" + NEXT,
        "LF between": NEXT + b"\n" + NEXT,
        "CR between": NEXT + b"\r" + NEXT,
        "space between": NEXT + b" " + NEXT,
        "NUL between": NEXT + b"\x00" + NEXT,
        "close, then another": head(b"Connection: close") + NEXT,
        "1.0, then another": ten + b"\r\n" + NEXT,
        "1.0 that stays, then another": ten + b"Connection: keep-alive\r\n\r\n" + NEXT,
        "1.0 with a body": b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n01234" + NEXT,
        "body shorter than it says": head(b"Content-Length: 100") + NEXT,
        "half a head": NEXT + NEXT[:-2],
        "half a line": NEXT + b"GET /ne",
        "Expect, body there": head(b"Expect: 100-continue", b"Content-Length: 5") + b"01234" + NEXT,
        "Expect, no body": head(b"Expect: 100-continue") + NEXT,
        "Expect, chunked": head(b"Expect: 100-continue", _CHUNKED) + b"5\r\n01234\r\n0\r\n\r\n" + NEXT,
        "Expect, length 0": head(b"Expect: 100-continue", b"Content-Length: 0") + NEXT,
        "Upgrade that is declined, then another": head(_UPGRADE, start=b"GET / HTTP/1.1") + NEXT,
        "Upgrade with a body": head(_UPGRADE, b"Content-Length: 5") + b"01234" + NEXT,
        "Upgrade, chunked": head(_UPGRADE, _CHUNKED) + b"1\r\na\r\n0\r\n\r\n" + NEXT,
        "Upgrade with length 0": head(_UPGRADE, b"Content-Length: 0") + NEXT,
        "Upgrade, then garbage": head(_UPGRADE, start=b"GET / HTTP/1.1") + b"\x81\x05hello",
        "CONNECT, then another": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n" + NEXT,
    }  # fmt: skip


CASES: dict[str, bytes] = _framings() | _chunks() | _lines() | _hosts() | _request_lines() | _sequences()
