"""The lab's backend shows what arrived, and every way a body can come."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from lab.servers import process_at


@pytest.fixture(scope="module")
def backend():
    with process_at("backend") as (url, _):
        yield urlsplit(url).netloc


@pytest.fixture
def connection(backend):
    connection = http.client.HTTPConnection(backend, timeout=5)
    yield connection
    connection.close()


def get(connection, path, method="GET", **more):
    connection.request(method, path, **more)
    response = connection.getresponse()
    return response, response.read()


def test_the_root_tells_the_request_as_it_came(connection):
    """Names in their case, repeated fields repeated, the path with its escapes."""
    connection.putrequest("PATCH", "/?q=%41")
    connection.putheader("X-Twice", "a")
    connection.putheader("x-twice", "b")
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    seen = json.load(connection.getresponse())
    assert (seen["method"], seen["path"], seen["peer"]) == ("PATCH", "/?q=%41", "127.0.0.1")
    assert [pair for pair in seen["headers"] if pair[0].lower() == "x-twice"] == [["X-Twice", "a"], ["x-twice", "b"]]


@pytest.mark.parametrize("count", [0, 1, 1024, 100_000])
def test_bytes_come_with_their_length(connection, count):
    response, body = get(connection, f"/bytes/{count}")
    assert (response.getheader("Content-Length"), len(body)) == (str(count), count)


@pytest.mark.parametrize("count", [0, 1, 100_000])
def test_chunked_comes_without_a_length(connection, count):
    response, body = get(connection, f"/chunked/{count}")
    assert (response.getheader("Content-Length"), response.getheader("Transfer-Encoding")) == (None, "chunked")
    assert len(body) == count


def test_head_has_the_length_and_no_body(connection):
    response, body = get(connection, "/bytes/100000", "HEAD")
    assert (response.getheader("Content-Length"), body) == ("100000", b"")
    assert get(connection, "/bytes/5")[1] == b"01234"  # the next answer is not shifted


@pytest.mark.parametrize("chunked", [False, True])
def test_echo_sends_the_body_back(connection, chunked):
    sent = b"some text, " * 20_000
    pieces = (sent[at : at + 5000] for at in range(0, len(sent), 5000))
    _, body = get(connection, "/echo", "POST", body=pieces if chunked else sent, encode_chunked=chunked,
                  headers={"Transfer-Encoding": "chunked"} if chunked else {})  # fmt: skip
    assert body == sent


@pytest.mark.parametrize(("code", "status"), [("204", 204), ("304", 304), ("418", 418), ("503", 503), ("101", 404)])
def test_status_answers_with_that_status(connection, code, status):
    response, body = get(connection, f"/status/{code}")
    assert response.status == status
    assert bool(body) == (status not in {204, 304})


def test_a_body_beyond_the_limit_is_not_made(connection):
    assert get(connection, "/bytes/9999999999")[0].status == 404
