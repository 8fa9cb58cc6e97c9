"""Every limit, one below it and one above, and the answer."""
import socket

import pytest
from h2.settings import SettingCodes

from conftest import service
from harness import H1, SANITIZED, Closed, Teal, wait_for
from origin import Origin


@pytest.fixture(scope="module")
def tight(loop, certificates):
    origin = loop.run(Origin().start())
    limits = {"header_bytes": "4k", "header_count": 20, "request_line": "1k", "streams": 10}
    teal = Teal({"services": [service(origin, max_body="10k")], "limits": limits}, certificates)
    teal.origin = origin
    yield teal
    teal.stop()
    loop.run(origin.stop())


@pytest.fixture(autouse=True)
def clean_log(request):
    if "tight" in request.fixturenames:
        request.getfixturevalue("tight").origin.seen.clear()


@pytest.fixture(params=["h1", "h2"])
def one(request, tight):
    with tight.h1() if request.param == "h1" else tight.h2() as c:
        c.version = request.param
        yield c


def refused(c, tight, status, path="/x", headers=()):
    r = c.get(path, headers)
    assert r.status == status, r
    assert not tight.origin.seen
    if c.version == "h1":
        with pytest.raises(Closed):
            c.response()
    else:
        assert c.get("/fine").status == 200


def test_header_count(one, tight):
    assert one.get("/x", [(f"x-{n}", "1") for n in range(14)]).status == 200
    tight.origin.seen.clear()
    refused(one, tight, 431, headers=[(f"x-{n}", "1") for n in range(30)])


def test_header_bytes(one, tight):
    assert one.get("/x", [("x-big", "y" * 3000)]).status == 200
    tight.origin.seen.clear()
    refused(one, tight, 431, headers=[("x-big", "y" * 5000)])


def test_header_bytes_count_the_overhead_of_each_field(one, tight):
    """name + value + 32 (RFC 7541 4.1), decoded: a repeated field in HPACK costs its full size."""
    refused(one, tight, 431, headers=[("x-repeated", "y" * 400)] * 12)


def test_cookie_crumbs_are_counted(tight):
    with tight.h2() as c:
        c.version = "h2"
        refused(c, tight, 431, headers=[("cookie", "a=b")] * 30)


def test_request_line(one, tight):
    assert one.get("/" + "a" * 900).status == 200
    tight.origin.seen.clear()
    refused(one, tight, 414, path="/" + "a" * 1100)


def test_endless_request_line(tight):
    with tight.h1() as c:
        try:
            for _ in range(100):
                c.send(b"GET /" + b"a" * 10000)
        except OSError:
            pass
        assert b" 414 " in c.rest()[:40]
    assert not tight.origin.seen


def test_endless_header(tight):
    with tight.h1() as c:
        c.send("GET / HTTP/1.1\r\nHost: a.test\r\n")
        try:
            for n in range(1000):
                c.send(f"X-{n}: {'y' * 100}\r\n")
        except OSError:
            pass
        c.rest()
    assert not tight.origin.seen


def test_body_by_length(one, tight):
    assert one.ask("POST", "/x", [("content-length", "10240")], b"x" * 10240).status == 200
    tight.origin.seen.clear()
    r = one.ask("POST", "/x", [("content-length", "10241")], b"x" * 10241)
    assert r.status == 413
    assert not tight.origin.seen


def test_body_without_a_length(tight):
    """Counted as it comes: the backend never sees it whole."""
    with tight.h1() as c:
        body = b"2801\r\n" + b"x" * 10241 + b"\r\n0\r\n\r\n"
        r = c.ask("POST", "/x", [("Transfer-Encoding", "chunked")], body)
        assert r.status == 413
    with tight.h2() as c:
        assert c.ask("POST", "/x", body=b"x" * 20000).status == 413
        assert c.get("/fine").status == 200
    assert not [s for s in tight.origin.find("/x") if s.complete]


def test_streams_are_announced(tight):
    with tight.h2() as c:
        c.get("/x")
        assert c.h2.remote_settings.max_concurrent_streams == 10


def test_rate(make_edge, make_origin):
    origin = make_origin()
    rates = [{"path": "/", "requests": 1, "burst": 5}, {"path": "/free", "requests": 100000}]
    teal = make_edge(origin, more={"rates": rates})
    with teal.h1() as c:
        answers = [c.get("/x") for _ in range(10)]
        statuses = [r.status for r in answers]
        assert statuses[:5] == [200] * 5
        assert statuses[5:].count(429) >= 4
        r = next(r for r in answers if r.status == 429)
        assert 1 <= int(r.header("retry-after")) <= 10
        assert "request id" in r.text
        assert all(c.get("/free/x").status == 200 for _ in range(20))
    assert len(origin.find("/x")) == statuses.count(200)
    assert teal.line("/x", status=429)["outcome"] == "rate-limited"


def test_rate_is_per_client_and_over_all_workers(make_edge, make_origin):
    teal = make_edge(make_origin(), more={"rates": [{"requests": 1, "burst": 10}]}, workers=2)
    statuses = [teal.get("/x").status for _ in range(30)]
    assert statuses.count(200) <= 13

    s = socket.socket()
    s.bind(("127.0.0.2", 0))
    s.connect(("127.0.0.1", teal.plain))
    with H1(sock=s) as c:
        assert c.get("/x").status == 200


def test_rate_refills(make_edge, make_origin):
    teal = make_edge(make_origin(), more={"rates": [{"requests": 20, "burst": 1}]})
    assert teal.get("/x").status == 200
    wait_for(lambda: teal.get("/x").status == 200, "the bucket to refill")


def test_rate_exempt(make_edge, make_origin):
    more = {"rates": [{"requests": 1, "burst": 1}], "rate_exempt": ["127.0.0.0/8"]}
    teal = make_edge(make_origin(), more=more)
    assert {teal.get("/x").status for _ in range(20)} == {200}


def works(c):
    try:
        return c.get("/x").status == 200
    except (Closed, OSError):
        return False


def test_connections_per_client(make_edge, make_origin):
    teal = make_edge(make_origin(), limits={"connections_per_client": 3})
    held = [teal.h1() for _ in range(3)]
    assert all(works(c) for c in held)
    with teal.h1() as more:
        assert not works(more)
    held.pop().close()

    def again():
        with teal.h1() as c:
            return works(c)

    wait_for(again, "the place to be free again")
    for c in held:
        assert works(c)
        c.close()


def test_connections_per_client_exempt(make_edge, make_origin):
    limits = {"connections_per_client": 2, "exempt": ["127.0.0.1/32"]}
    teal = make_edge(make_origin(), limits=limits)
    held = [teal.h1() for _ in range(10)]
    assert all(works(c) for c in held)
    for c in held:
        c.close()


def test_connections_in_all(make_edge, make_origin):
    teal = make_edge(make_origin(), limits={"connections": 5})
    held = [teal.h1() for _ in range(5)]
    assert all(works(c) for c in held)
    late = teal.h1()
    late.request("GET", "/late")
    for c in held:
        assert works(c)
        c.close()
    # refused at once, or served when a place is free; never a hang
    try:
        assert late.response().status in (200, 503)
    except Closed:
        pass
    wait_for(lambda: teal.get("/x").status == 200, "new connections to be taken again")


def still(teal):
    """Waits until teal has nothing more to do."""
    last = [0, 0]

    def stands():
        now = teal.cpu()
        last[1] = last[1] + 1 if now == last[0] else 0
        last[0] = now
        return last[1] > 10

    wait_for(stands, "teal to stand still")


def test_queued_output_is_bounded(make_edge, make_origin):
    """Many streams, none read: the backends are stopped, teal does not fill up."""
    teal = make_edge(make_origin(), limits={"queued_bytes": "64k"})
    with teal.h2(rcvbuf=4096) as warm:
        warm.get("/bytes/1m")
    before = teal.rss()
    with teal.h2(rcvbuf=4096) as c:
        c.manual_window = True
        c.h2.increment_flow_control_window(1 << 30)
        streams = [c.begin("GET", "/bytes/16m") for _ in range(50)]
        for s in streams:
            c.h2.increment_flow_control_window(1 << 29, s)
        c.flush()
        still(teal)
        assert teal.rss() - before < 32 << 20


@pytest.mark.parametrize("backend", ["nginx", "nghttpd"])
def test_zero_windows(make_edge, request, backend):
    """Windows that stay shut: each of many streams holds little.  Opened, every answer is whole."""
    peer = request.getfixturevalue(backend)
    (peer.www / "zero").write_bytes(b"z" * 327680)
    more = {"blue": {"protocol": "h2"}} if backend == "nghttpd" else {}
    teal = make_edge(peer, more=more, workers=1)
    assert teal.get("/zero").status == 200
    before = teal.rss()
    clients = [teal.h2() for _ in range(10)]
    for c in clients:
        c.manual_window = True
        c.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        assert c.ask("HEAD", "/zero").status == 200  # the settings are acknowledged
        c.streams.clear()
        for _ in range(50):
            c.streams[c.begin("GET", "/zero")].keep = False
    for c in clients:
        c.until(lambda c=c: all(s.status == 200 for s in c.streams.values()))
    still(teal)
    if not SANITIZED:
        assert teal.rss() - before < 16 << 20
    for c in clients:
        c.h2.increment_flow_control_window((1 << 31) - 65536)
        for stream in c.streams:
            c.h2.increment_flow_control_window(1 << 30, stream)
        c.flush()
        c.until(lambda c=c: all(s.ended for s in c.streams.values()))
        assert {s.received for s in c.streams.values()} == {327680}
        c.close()
