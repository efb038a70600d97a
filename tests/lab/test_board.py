"""The responder as it is told what to do, over HTTP."""

import base64
import http.client
import json
import socket
import time
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest
from cryptography.x509 import ocsp
from lab.servers import process_at

from proxy.lab.board import split_prefix
from proxy.lab.ca import LabCA
from proxy.ocsp.request import build_request


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(datetime.now(UTC))


@pytest.fixture(scope="module")
def request_der(ca):
    return build_request(ca.issue(["a.test"]).leaf, ca.intermediate.certificate)


@pytest.fixture(scope="module")
def folder(ca, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca")
    ca.write(folder)
    return folder


@pytest.fixture
def responder(folder):
    with process_at("responder", "--folder", str(folder)) as (url, process):
        yield Responder(url), process


class Responder:
    def __init__(self, url):
        self.address = urlsplit(url).netloc

    def tell(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def says(self, der, prefix=""):
        """What a GET below the prefix is answered with, once as clients should and once as some do."""
        encoded = base64.b64encode(der).decode()
        one, other = (self.tell("GET", f"{prefix}/{path}") for path in (quote(encoded, safe=""), encoded))
        assert one[0] == other[0]
        assert self.tell("POST", prefix or "/", der)[0] == one[0]
        return one

    def status(self, der, prefix=""):
        return ocsp.load_der_ocsp_response(self.says(der, prefix)[1]).certificate_status.name

    def connect(self):
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("", "")),
        ("/MEow", ("", "MEow")),
        ("/a", ("a", "")),
        ("/a/", ("a", "")),
        ("/a-1/MEow", ("a-1", "MEow")),
        ("/a/ME/w//x", ("a", "ME/w//x")),
        ("/ME/w", ("", "ME/w")),
        ("//MEow", ("", "/MEow")),
        ("/-/x", ("", "-/x")),
        ("/" + "a" * 64, ("", "a" * 64)),
    ],
)
def test_a_prefix_is_told_from_a_request(path, expected):
    assert split_prefix(path) == expected


def test_a_fault_is_set_for_everything_or_for_one_prefix(responder, request_der):
    """The prefix's own goes first; what is cleared is right again."""
    told, _ = responder
    assert told.tell("PUT", "/-/faults", "revoked") == (
        200, b"revoked for everything: The certificate is revoked, and no reason is told.\n",
    )  # fmt: skip
    assert told.tell("PUT", "/-/faults/b", "unknown\n")[0] == 200
    assert json.loads(told.tell("GET", "/-/faults")[1]) == {"everything": "revoked", "prefixes": {"b": "unknown"}}
    assert [told.status(request_der, prefix) for prefix in ("", "/a", "/b")] == ["REVOKED", "REVOKED", "UNKNOWN"]
    assert told.tell("DELETE", "/-/faults") == (200, b"no fault for everything\n")
    assert [told.status(request_der, prefix) for prefix in ("", "/a", "/b")] == ["GOOD", "GOOD", "UNKNOWN"]
    assert told.tell("DELETE", "/-/faults/b") == (200, b"no fault for /b\n")
    assert told.status(request_der, "/b") == "GOOD"
    assert json.loads(told.tell("GET", "/-/faults")[1]) == {"everything": None, "prefixes": {}}


def test_questions_are_counted_by_prefix(responder, request_der):
    told, _ = responder
    for prefix in ("/a", "/b", "/b", ""):
        told.tell("POST", prefix or "/", request_der)
    counts = json.loads(told.tell("GET", "/-/requests")[1])
    assert (counts["total"], counts["prefixes"]) == (4, {"a": 1, "b": 2})


def validity_s(told, der, prefix):
    response = ocsp.load_der_ocsp_response(told.says(der, prefix)[1])
    return (response.next_update_utc - response.this_update_utc).total_seconds()


def test_the_validity_is_set_for_everything_or_for_one_prefix(responder, request_der):
    told, _ = responder
    assert told.tell("PUT", "/-/validity/a?s=8") == (200, b"answers are valid for 8 s for /a\n")
    assert told.tell("PUT", "/-/validity?s=20")[0] == 200
    assert [validity_s(told, request_der, prefix) for prefix in ("", "/a")] == [20, 8]
    told.tell("DELETE", "/-/validity/a")
    told.tell("DELETE", "/-/validity")
    assert [validity_s(told, request_der, prefix) for prefix in ("", "/a")] == [3600, 3600]


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", "/-/faults", "expird", (404, b"no fault is named 'expird': did you mean expired?\n")),
        ("PUT", "/-/faults/a", "", (404, b"no fault is named '': stapleproxy lab --list prints all that there are\n")),
        ("PUT", "/-/faults/A", "dns", (400, b"a prefix has only a to z, 0 to 9 and -, and at most 63 of them\n")),
        ("PUT", "/-/validity?s=0", None, (400, b"s must be whole seconds from 1 to 315360000: /-/validity?s=60\n")),
        ("PUT", "/-/validity/a?s=x", None, (400, b"s must be whole seconds from 1 to 315360000: /-/validity?s=60\n")),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_a_sentence(responder, method, path, body, expected):
    told, _ = responder
    assert told.tell(method, path, body) == expected


def test_what_asks_for_none_of_our_certificates_is_told_so_whatever_is_set(responder):
    told, _ = responder
    told.tell("PUT", "/-/faults", "dns")
    answer = told.tell("POST", "/", b"no request")[1]
    assert ocsp.load_der_ocsp_response(answer).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


# --- what only bare sockets show ---


def asked(told, der, prefix=b"/"):
    sock = told.connect()
    sock.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (prefix, len(der), der))
    return sock


def read_all(sock):
    while sock.recv(4096):
        pass


@pytest.mark.parametrize("name", ["reset-before-headers", "reset-after-headers"])
def test_a_reset_is_a_real_one(responder, request_der, name):
    """RST, which a client's system tells apart from an end."""
    told, _ = responder
    told.tell("PUT", "/-/faults", name)
    with asked(told, request_der) as sock, pytest.raises(ConnectionResetError):
        read_all(sock)


def test_a_drip_is_one_byte_at_a_time(responder, request_der):
    told, _ = responder
    told.tell("PUT", "/-/faults", "drip-headers")
    with asked(told, request_der) as sock:
        begun_at = time.monotonic()
        assert [sock.recv(4096), sock.recv(4096)] == [b"H", b"T"]
        assert time.monotonic() - begun_at > 0.5


@pytest.mark.parametrize("name", ["silent", "drip", "endless-body", "not-http"])
def test_what_is_held_ends_with_the_responder(responder, request_der, name):
    """At once, and cleanly."""
    told, process = responder
    told.tell("PUT", "/-/faults", name)
    with asked(told, request_der) as sock:
        # Asked, and counted: it is being played.
        while json.loads(told.tell("GET", "/-/requests")[1])["total"] == 0:
            pass
        process.terminate()
        assert process.wait(10) == 0
        read_all(sock)
