"""HTTP/1.1 from clients."""
import pytest

from harness import Closed, wait_for


def test_get(edge):
    r = edge.get("/echo?x=1&y=%2f")
    assert r.status == 200
    assert r.json["method"] == "GET"
    assert r.json["target"] == "/echo?x=1&y=%2f"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_methods(edge, method):
    assert edge.get("/echo", method=method).json["method"] == method


def test_keep_alive(edge):
    with edge.h1() as c:
        for n in range(20):
            assert c.get(f"/echo?{n}").json["target"] == f"/echo?{n}"


def test_connection_close(edge):
    with edge.h1() as c:
        r = c.get("/echo", [("Connection", "close")])
        assert r.header("connection") == "close"
        assert c.closed()


def test_http_1_0(edge):
    with edge.h1() as c:
        c.send("GET /echo HTTP/1.0\r\nHost: a.test\r\n\r\n")
        assert c.response().status == 200
        assert c.closed()


def test_http_1_0_keep_alive(edge):
    with edge.h1() as c:
        for _ in range(3):
            c.send("GET /echo HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
            r = c.response()
            assert r.header("connection").lower() == "keep-alive"


def test_http_1_0_never_gets_chunks(edge):
    with edge.h1() as c:
        c.send("GET /tweak?chunked=1&body=3000 HTTP/1.0\r\nHost: a.test\r\n\r\n")
        r = c.response()
        assert r.header("transfer-encoding") is None
        assert len(r.body) == 3000


def test_pipelining_keeps_the_order(edge):
    with edge.h1() as c:
        slow = c.head("GET", "/tweak?delay=100ms&text=first")
        c.send(slow + b"".join(c.head("GET", f"/echo?{n}") for n in range(20)))
        assert c.response().text == "first"
        for n in range(20):
            assert c.response().json["target"] == f"/echo?{n}"


def test_pipelining_after_a_body(edge):
    with edge.h1() as c:
        c.send(c.head("POST", "/echo?1", [], b"x" * 5000) + b"x" * 5000 + c.head("GET", "/echo?2"))
        assert c.response().json["length"] == 5000
        assert c.response().json["target"] == "/echo?2"


def test_head_split_at_every_byte(edge):
    with edge.h1() as c:
        for byte in c.head("POST", "/echo", [("X-A", "b")], b"abc") + b"abc":
            c.send(bytes([byte]))
        assert c.response().json["body"] == "abc"


def test_empty_line_before_a_request(edge):
    """RFC 9112 2.2: at least one is to be ignored."""
    with edge.h1() as c:
        c.send(b"\r\n" + c.head("GET", "/echo"))
        assert c.response().status == 200


def test_absolute_form(edge, blue):
    with edge.h1() as c:
        c.send("GET http://a.test/echo?q HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert c.response().json["target"] == "/echo?q"
    assert blue.seen[-1].header("host") == "a.test"


def test_options_star(edge, blue):
    with edge.h1() as c:
        c.send("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert c.response("OPTIONS").status == 200
    assert blue.seen[-1].target == "*"


def test_half_closed_client_gets_its_answer(edge):
    with edge.h1() as c:
        c.request("GET", "/tweak?delay=100ms&text=late")
        c.half_close()
        assert c.response().text == "late"
        assert c.closed()


def test_client_that_leaves_cancels_at_the_backend(edge, blue):
    with edge.h1() as c:
        c.request("GET", "/tweak?hang=1")
        wait_for(lambda: blue.find("/tweak"), "the request")
        c.reset()
    wait_for(lambda: blue.find("/tweak")[0].gone, "the cancellation")


def test_over_tls(edge):
    with edge.h1(tls=True) as c:
        for _ in range(3):
            assert c.get("/echo").status == 200


def test_backend_connections_are_reused(edge, blue):
    with edge.h1() as c:
        c.get("/echo")
        before = blue.accepted
        for _ in range(20):
            c.get("/echo")
    assert blue.accepted - before <= 1


def test_many_connections_in_turn(edge):
    for _ in range(100):
        assert edge.get("/echo").status == 200


def test_nginx_as_backend(make_edge, nginx):
    (nginx.www / "big").write_bytes(b"z" * 300000)
    teal = make_edge(nginx)
    with teal.h1() as c:
        assert c.get("/hello").text == "hello from nginx\n"
        assert c.get("/big").body == b"z" * 300000
        assert c.get("/none").status == 404
        assert c.get("/big", [("Range", "bytes=0-9")]).status == 206
        assert c.ask("HEAD", "/big").header("content-length") == "300000"


def test_connection_without_a_request_ends_quietly(edge):
    with edge.h1() as c:
        c.half_close()
        with pytest.raises(Closed):
            c.response()
