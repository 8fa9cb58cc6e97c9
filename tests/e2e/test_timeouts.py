"""Every timeout, the answer to it, and its word in the log."""
import socket

import pytest

from harness import GOAWAY, PREFACE, SETTINGS, Closed, Socket, frame, wait_for

SHORT = "250ms"


def plain(r, status, teal=None):
    """A small plain body with the request id."""
    assert r.status == status
    assert r.header("content-type").startswith("text/plain")
    assert len(r.body) < 500 and r.text.startswith(str(status))
    identity = r.header("x-request-id")
    assert identity and identity in r.text
    if teal:
        wait_for(lambda: identity in [x["id"] for x in teal.lines()], "the id in the log")


@pytest.fixture
def front(make_edge, make_origin):
    return make_edge(make_origin(), timeouts={"header": SHORT, "idle": SHORT, "send": SHORT})


def test_header(front):
    with front.h1() as c:
        c.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow")
        plain(c.response(), 408, front)
        assert c.closed()
    assert front.lines()[-1]["outcome"] == "header-timeout"


def test_header_dripping_does_not_help(front):
    """The deadline is for the whole head."""
    with front.h1() as c:
        c.send("GET / HTTP/1.1\r\nHost: a.test\r\nX: ")
        c.sock.settimeout(0.02)
        answer = b""
        for _ in range(2000):
            try:
                c.send("y")
                answer += c.sock.recv(1000)
                if b"408" in answer:
                    break
            except TimeoutError:
                continue
        assert b"408" in answer


def test_connection_without_a_request(front):
    for c in (front.h1(), front.h1(tls=True)):
        with c:
            with pytest.raises(Closed):
                c.response()


def test_idle_after_a_request(front):
    with front.h1() as c:
        assert c.get("/").status == 200
        assert c.closed()


def test_idle_h2_gets_a_goaway(front):
    with front.h2() as c:
        assert c.get("/").status == 200
        assert c.closes() == 0


def test_h2_preface_and_silence(front):
    with front.h2() as c:
        c.closes()
        assert c.goaway


def test_half_a_frame_and_silence(front):
    with Socket(front.plain) as c:
        c.send(PREFACE + frame(SETTINGS) + b"\0\0\x10\x01")
        assert frame(GOAWAY)[3:5] in c.rest()


def test_a_slow_request_is_not_idle(front):
    with front.h1() as c:
        assert c.get("/tweak?delay=800ms&text=ok").text == "ok"
    with front.h2() as c:
        assert c.get("/tweak?delay=800ms&text=ok").text == "ok"


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_client_that_does_not_read(front, version):
    with front.h1(rcvbuf=4096) if version == "h1" else front.h2(rcvbuf=4096) as c:
        if version == "h1":
            c.request("GET", "/bytes/32m")
        else:
            c.h2.increment_flow_control_window(1 << 30)
            c.flush()
            c.begin("GET", "/bytes/32m")
            c.h2.increment_flow_control_window(1 << 30, 1)
            c.flush()
        line = front.line("/bytes/32m")
        assert line["outcome"] == "client-slow"


def test_h2_window_never_opened(front):
    """Credit is withheld instead of the socket: the same."""
    with front.h2() as c:
        c.manual_window = True
        stream = c.begin("GET", "/bytes/1m")
        c.until(lambda: c.streams[stream].done, deadline=60)
        assert not c.streams[stream].ended
    assert front.line("/bytes/1m")["outcome"] == "client-slow"


# --- bodies and backends -------------------------------------------------------------------------
@pytest.fixture
def back(make_edge, make_origin):
    origin = make_origin()
    patience = {"connect": SHORT, "response": SHORT, "body": SHORT, "request_body": SHORT}
    teal = make_edge(origin, more={"timeouts": patience})
    teal.origin = origin
    return teal


def test_request_body(back):
    with back.h1() as c:
        c.send(c.head("POST", "/upload", [("Content-Length", "100")]) + b"x" * 10)
        plain(c.response(), 408, back)
    assert back.line("/upload")["outcome"] == "request-timeout"
    wait_for(lambda: back.origin.find("/upload")[0].gone, "the backend connection to be closed")


def test_request_body_over_h2(back):
    with back.h2() as c:
        stream = c.begin("POST", "/upload", end=False)
        c.data(stream, b"x" * 10)
        assert c.head(stream).status == 408
        c.until(lambda: c.streams[stream].done)
        assert c.get("/").status == 200


def test_response(back):
    with back.h1() as c:
        plain(c.get("/tweak?hang=1"), 504, back)
        assert c.get("/").status == 200
    assert back.line("/tweak")["outcome"] == "backend-timeout"
    wait_for(lambda: back.origin.find("/tweak")[0].gone, "the backend connection to be closed")


def test_response_over_h2(back):
    with back.h2() as c:
        plain(c.get("/tweak?hang=1"), 504)


def test_response_body(back):
    for c in (back.h1(), back.h2()):
        with c:
            r = c.get("/tweak?body=100000&after=50000&hang=1")
            assert r.status == 200 and not r.complete
    assert back.line("/tweak")["outcome"] == "backend-body-timeout"


def test_a_steady_body_may_take_long(back):
    """The timeout is between two pieces."""
    with back.h1() as c:
        r = c.get("/tweak?chunked=1&body=1000&piece=100&slow=80ms")
        assert r.complete and len(r.body) == 1000


def test_connect(make_edge):
    """A listener whose queue is full does not answer."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        port = s.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):
                f = socket.socket()
                f.setblocking(False)
                f.connect_ex(("127.0.0.1", port))
                fillers.append(f)
            more = {"timeouts": {"connect": SHORT}, "retries": 0}
            teal = make_edge(f"127.0.0.1:{port}", more=more)
            plain(teal.get("/x"), 504, teal)
            assert teal.line("/x")["outcome"] == "connect-timeout"
        finally:
            for f in fillers:
                f.close()


def test_idle_backend_connections_are_closed(make_edge, make_origin):
    origin = make_origin()
    teal = make_edge(origin, more={"blue": {"idle_timeout": SHORT}})
    assert teal.get("/").status == 200
    wait_for(lambda: not origin.open_connections, "the idle connection to be closed")
    assert teal.get("/").status == 200


def test_idle_connections_are_bounded(make_edge, make_origin, loop):
    origin = make_origin()
    teal = make_edge(origin, more={"blue": {"idle_connections": 2}}, workers=1)
    clients = [teal.h1() for _ in range(10)]
    for c in clients:
        c.request("GET", "/tweak?gate=idle")
    wait_for(lambda: len(origin.seen) == 10, "ten requests")
    loop.call(origin.open, "idle")
    for c in clients:
        assert c.response().status == 200
        c.close()
    wait_for(lambda: len(origin.open_connections) <= 2, "the rest to be closed")
