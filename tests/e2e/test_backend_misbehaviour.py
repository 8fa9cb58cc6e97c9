"""What broken backends answer, and what clients see of it: 502, a reset, never another's answer."""
import pytest

from harness import Closed, wait_for
from origin import raw

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(text):
    return text.encode("latin-1") if isinstance(text, str) else text


def head(*fields, status="HTTP/1.1 200 OK"):
    return status + "\r\n" + "".join(f + "\r\n" for f in fields) + "\r\n"


BROKEN = {
    # framing (RFC 9112 6)
    "cl-te": head("Content-Length: 2", "Transfer-Encoding: chunked") + "ok",
    "two-cl": head("Content-Length: 2", "Content-Length: 3") + "ok",
    "cl-list": head("Content-Length: 2, 3") + "ok",
    "cl-plus": head("Content-Length: +2") + "ok",
    "cl-negative": head("Content-Length: -2") + "ok",
    "cl-hex": head("Content-Length: 0x2") + "ok",
    "cl-overflow": head("Content-Length: 18446744073709551618") + "ok",
    "cl-empty": head("Content-Length: ") + "ok",
    "te-list": head("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n",
    "te-identity": head("Transfer-Encoding: identity") + "ok",
    "te-gzip": head("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n",
    "te-vt": head("Transfer-Encoding: \x0bchunked") + "0\r\n\r\n",
    "te-twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n",
    # head
    "banner": "SSH-2.0-OpenSSH_9.2p1\r\n",
    "nothing-known": "hello\r\n\r\n",
    "status-line-09": "ok",
    "status-0": head(status="HTTP/1.1 000 Zero"),
    "status-99": head(status="HTTP/1.1 99 Low"),
    "status-1000": head(status="HTTP/1.1 1000 High"),
    "status-text": head(status="HTTP/1.1 abc Bad"),
    "status-none": head(status="HTTP/1.1"),
    "version-2": head("Content-Length: 0", status="HTTP/2.0 200 OK"),
    "version-9": head("Content-Length: 0", status="HTTP/9.9 200 OK"),
    "lower-http": head("Content-Length: 0", status="http/1.1 200 OK"),
    "empty-name": head(": x", "Content-Length: 0"),
    "space-before-colon": head("X : y", "Content-Length: 0"),
    "no-colon": head("X", "Content-Length: 0"),
    "bad-name": head("X(y): z", "Content-Length: 0"),
    "nul-value": head("X: a\0b", "Content-Length: 0"),
    "bare-cr": head("X: a\rb", "Content-Length: 0"),
    "obs-fold": head("X: a\r\n b", "Content-Length: 0"),
    "leading-space": head(" X: a", "Content-Length: 0"),
    "half-head": "HTTP/1.1 200 OK\r\nContent-Len",
    "big-head": head(*[f"X-{n}: {'y' * 1000}" for n in range(3000)], "Content-Length: 0"),
    "many-fields": head(*[f"X-{n}: 1" for n in range(5000)], "Content-Length: 0"),
    "endless-line": "HTTP/1.1 200 OK\r\nX: " + "y" * 3000000,
    # interim
    "101-unasked": head("Upgrade: x", "Connection: upgrade", status="HTTP/1.1 101 Switching"),
    "1xx-endless": head(status="HTTP/1.1 103 Early Hints") * 2000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers_are_502(edge, blue, loop, name):
    data = answer(BROKEN[name])
    blue.answers[f"/{name}"] = data
    for c in (edge.h1(), edge.h2()):
        with c:
            r = c.get(f"/{name}")
            assert r.status == 502, r
            assert "request id: " in r.text
            assert c.get("/echo").status == 200
    assert edge.line(f"/{name}")["outcome"] in (
        "backend-malformed",
        "backend-reset",
        "backend-head-too-large",
        "backend-truncated",
    )


BROKEN_LATER = {
    "chunk-size": head("Transfer-Encoding: chunked") + "5\r\nhello\r\nxyz\r\n",
    "chunk-sign": head("Transfer-Encoding: chunked") + "5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk-end": head("Transfer-Encoding: chunked") + "5\r\nhelloXX0\r\n\r\n",
    "chunk-overflow": head("Transfer-Encoding: chunked") + "5\r\nhello\r\nffffffffffffffffff\r\n",
    "chunk-cut": head("Transfer-Encoding: chunked") + "5\r\nhello\r\n",
    "trailer-cut": head("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\nX: y",
    "trailer-bad": head("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "length-cut": head("Content-Length: 100") + "hello",
}


@pytest.mark.parametrize("name", BROKEN_LATER)
@pytest.mark.parametrize("version", ["h1", "h2"])
def test_broken_bodies_are_never_complete(edge, blue, version, name):
    blue.answers[f"/{name}"] = answer(BROKEN_LATER[name])
    with edge.h1() if version == "h1" else edge.h2() as c:
        try:
            r = c.get(f"/{name}")
        except Closed:
            return  # the head was still queued
        assert r.status == 502 or not r.complete, r


def test_reset_before_the_head(edge):
    path = "/tweak?reset=1&before=head"
    assert edge.get(path, method="POST", body=b"x").status == 502
    assert edge.line(path)["outcome"] == "backend-reset"


def test_eof_before_the_head(edge):
    assert edge.get("/tweak?eof=1", method="POST", body=b"x").status == 502


@pytest.mark.parametrize("how", ["reset", "truncate"])
def test_end_within_the_body(client, how):
    r = client.get(f"/tweak?body=100000&after=50000&{how}=1")
    assert r.status == 200 and not r.complete and len(r.body) <= 50000


def test_reset_over_h2_has_a_fitting_code(edge):
    with edge.h2() as c:
        r = c.get("/tweak?body=100000&after=50000&truncate=1")
        assert r.reset in (2, 8)  # INTERNAL_ERROR, or CANCEL


# --- queue poisoning: whatever came too much is nobody's answer ----------------------------------
POISON = {
    "two-answers": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned",
    "more-than-length": OK + b"poisoned",
    "after-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n0\r\n\r\npoisoned",
    "204-with-body": b"HTTP/1.1 204 No\r\nContent-Length: 8\r\n\r\npoisoned",
    "304-with-body": b"HTTP/1.1 304 Not\r\nContent-Length: 8\r\n\r\npoisoned",
}


@pytest.mark.parametrize("name", POISON)
def test_poisoned_connections_are_not_used_again(make_edge, make_origin, name):
    origin = make_origin()
    teal = make_edge(origin, workers=1)
    with teal.h1() as c:
        r = c.get(f"/tweak?raw={raw(POISON[name])}&then=keep")
        assert r.status in (200, 204, 304, 502)
        assert b"poisoned" not in r.body
        for n in range(3):
            assert c.get(f"/echo?{n}").json["target"] == f"/echo?{n}"


def test_head_with_a_body(make_edge, make_origin):
    origin = make_origin()
    teal = make_edge(origin, workers=1)
    with teal.h1() as c:
        body = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
        assert c.ask("HEAD", f"/tweak?raw={body}&then=keep").status == 200
        for n in range(3):
            assert c.get(f"/echo?{n}").json["target"] == f"/echo?{n}"


def test_late_bytes_on_an_idle_connection(make_edge, make_origin, loop):
    """Unasked bytes on a pooled connection close it."""
    origin = make_origin()
    teal = make_edge(origin, workers=1)
    with teal.h1() as c:
        assert c.get("/echo").status == 200
        (writer,) = origin.open_connections
        loop.call(writer.write, b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
        wait_for(lambda: not origin.open_connections, "the connection to be closed")
        assert c.get("/echo?next").json["target"] == "/echo?next"


def test_100_continue_that_was_not_asked_for(edge):
    data = raw(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    with edge.h1() as c:
        r = c.get(f"/tweak?raw={data}")
        assert r.text == "ok"
        assert not [s for s, _ in r.interim if s == 100]


def test_error_statuses_are_passed_on(client):
    for status in (400, 404, 418, 500, 502, 503, 504, 599):
        r = client.get(f"/tweak?status={status}&text=mine")
        assert r.status == status and r.text == "mine"


def test_500_is_in_the_log(edge):
    edge.get("/tweak?status=500&text=logged")
    assert edge.line("/tweak?status=500&text=logged")["outcome"] == "backend-5xx"


def test_status_line_without_a_reason(edge):
    with edge.h1() as c:
        for line in (b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200\r\n", b"HTTP/1.0 200 OK\r\n"):
            data = raw(line + b"Content-Length: 2\r\n\r\nok")
            r = c.get(f"/tweak?raw={data}")
            assert r.text == "ok"


def test_http_1_0_backend(edge):
    with edge.h1() as c:
        data = raw(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        r = c.get(f"/tweak?raw={data}")
        assert r.text == "until the end"
        assert c.get("/echo").status == 200


def test_h2_backend_that_breaks_the_protocol(make_edge, make_origin):
    """HTTP/1.1 bytes where HTTP/2 was expected."""
    teal = make_edge(make_origin(), more={"blue": {"protocol": "h2"}})
    assert teal.get("/x").status in (502, 503)


def test_h1_pool_before_an_h2_backend(make_edge, make_origin):
    teal = make_edge(make_origin(h2=True))
    assert teal.get("/x").status == 502


@pytest.mark.parametrize("code, statuses", [(2, {502}), (1, {502}), (7, {200, 503}), (8, {502})])
def test_h2_backend_resets_before_the_head(make_edge, make_origin, code, statuses):
    teal = make_edge(make_origin(h2=True), more={"blue": {"protocol": "h2"}})
    r = teal.get(f"/tweak?reset=1&code={code}&times=3&key=x", method="POST", body=b"x")
    assert r.status in statuses
