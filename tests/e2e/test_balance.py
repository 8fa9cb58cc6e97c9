"""Which backend: balancing, limits, queues, hold-down, backups, retries.  Nothing is done twice."""
import collections
import socket
import threading

import pytest

from harness import free_port, wait_for


def spread(teal, n=60, headers=(), path="/x"):
    with teal.h1() as c:
        return collections.Counter(c.get(path, headers).origin for _ in range(n))


@pytest.fixture
def three(make_origin):
    return [make_origin(name) for name in ("one", "two", "three")]


def test_round_robin(make_edge, three):
    teal = make_edge(three, more={"blue": {"balance": "round-robin"}}, workers=1)
    assert spread(teal) == {"one": 20, "two": 20, "three": 20}


def test_round_robin_by_weight(make_edge, three):
    backends = [{"address": o.address, "weight": w} for o, w in zip(three, (1, 2, 3))]
    more = {"blue": {"balance": "round-robin", "backends": backends}}
    teal = make_edge(three, more=more, workers=1)
    assert spread(teal) == {"one": 10, "two": 20, "three": 30}


def test_least_in_flight_avoids_the_busy_one(make_edge, three, loop):
    """One backend hangs on its first requests; the others take the rest."""
    teal = make_edge(three[:2], workers=1)
    clients = [teal.h1() for _ in range(8)]
    try:
        for c in clients:
            c.request("GET", "/tweak?gate=busy")
        wait_for(lambda: sum(len(o.seen) for o in three[:2]) == 8, "8 requests")
        assert sorted(len(o.seen) for o in three[:2]) == [4, 4]
    finally:
        for o in three:
            loop.call(o.open, "busy")
        for c in clients:
            assert c.response().status == 200
            c.close()


@pytest.mark.parametrize("balance", ["hash:header:x-key", "hash:cookie:key", "hash:client-ip"])
def test_hash_is_stable(make_edge, three, balance):
    teal = make_edge(three, more={"blue": {"balance": balance}})
    used = set()
    for n in range(30):
        fields = [("X-Key", f"k{n}"), ("Cookie", f"key=k{n}")]
        counts = spread(teal, 3, fields)
        assert len(counts) == 1
        used |= set(counts)
    assert len(used) == (1 if "client" in balance else 3)


def test_hash_moves_few_keys_when_a_backend_goes(make_edge, three):
    teal = make_edge(three, more={"blue": {"balance": "hash:header:x-key"}})

    def where():
        with teal.h1() as c:
            return [c.get("/x", [("X-Key", f"k{n}")]).origin for n in range(90)]

    before = where()
    teal.ctl("backend", "drain", "blue", three[0].address)
    after = where()
    assert "one" not in after
    assert all(a == b for a, b in zip(after, before) if b != "one")


def test_max_in_flight_queues(make_edge, make_origin, loop):
    origin = make_origin()
    teal = make_edge(origin, more={"blue": {"max_in_flight": 2, "queue": 10}})
    clients = [teal.h1() for _ in range(6)]
    for c in clients:
        c.request("GET", "/tweak?gate=q&text=ok")
    wait_for(lambda: len(origin.seen) == 2, "two requests")
    blue = teal.service()["colors"]["blue"]["backends"][0]
    assert blue["inflight"] == 2
    loop.call(origin.open, "q")
    for c in clients:
        assert c.response().text == "ok"
        c.close()
    assert len(origin.seen) == 6


def test_queue_full(make_edge, make_origin, loop):
    origin = make_origin()
    teal = make_edge(origin, more={"blue": {"max_in_flight": 1, "queue": 1}}, workers=1)
    with teal.h2() as c:
        first = c.begin("GET", "/tweak?gate=full&text=1")
        wait_for(lambda: len(origin.seen) == 1, "the first")
        second = c.begin("GET", "/tweak?text=2")
        r = c.response(c.begin("GET", "/tweak?text=3"))
        assert r.status == 503
        loop.call(origin.open, "full")
        assert c.response(first).text == "1"
        assert c.response(second).text == "2"
    assert teal.line("/tweak", status=503)["outcome"] == "queue-full"


def test_queue_timeout(make_edge, make_origin, loop):
    origin = make_origin()
    pool = {"max_in_flight": 1, "queue": 5, "queue_timeout": "200ms"}
    teal = make_edge(origin, more={"blue": pool})
    with teal.h1() as one, teal.h1() as two:
        one.request("GET", "/tweak?gate=qt&text=1")
        wait_for(lambda: len(origin.seen) == 1, "the first")
        assert two.get("/tweak?text=2").status == 503
        loop.call(origin.open, "qt")
        assert one.response().text == "1"
    assert teal.line("/tweak", status=503)["outcome"] == "queue-timeout"


def test_max_connections(make_edge, make_origin, loop):
    origin = make_origin()
    teal = make_edge(origin, more={"blue": {"max_connections": 2, "queue": 10}})
    clients = [teal.h1() for _ in range(6)]
    for c in clients:
        c.request("GET", "/tweak?gate=mc&text=ok")
    wait_for(lambda: len(origin.seen) == 2, "two requests")
    loop.call(origin.open, "mc")
    for c in clients:
        assert c.response().text == "ok"
        c.close()
    assert len(origin.open_connections) <= 2


def test_hold_down(make_edge, make_origin):
    """A backend that refuses connections gets no requests for a while; others answer for it."""
    origin = make_origin("well")
    teal = make_edge([origin, f"127.0.0.1:{free_port()}"], more={"blue": {"hold_down": "60s"}})
    assert spread(teal) == {"well": 60}
    one, other = teal.service()["colors"]["blue"]["backends"]
    assert one["held_ms"] == 0 and one["state"] == "up"
    assert other["held_ms"] > 0 and other["reason"]
    wait_for(lambda: len(teal.lines()) == 60, "60 lines")
    tries = [x["tries"] for x in teal.lines()]
    assert sum(1 for t in tries if t > 1) <= 4, tries  # once a worker at most, and one racing


def test_hold_down_ends(make_edge, make_origin, loop):
    origin = make_origin("back")
    port = origin.port
    loop.run(origin.stop())
    teal = make_edge(f"127.0.0.1:{port}", more={"blue": {"hold_down": "100ms"}})
    assert teal.get("/x").status == 503
    loop.run(origin.start())
    wait_for(lambda: teal.get("/x").status == 200, "the backend to come back")


def test_dead_backend_is_503_with_retry_after(make_edge):
    teal = make_edge(f"127.0.0.1:{free_port()}", more={"blue": {"hold_down": "30s"}})
    assert teal.get("/first").status == 503
    r = teal.get("/second")
    assert r.status == 503
    assert 1 <= int(r.header("retry-after")) <= 60
    assert teal.line("/first")["outcome"] == "connect-refused"


def test_backup_only_when_no_other_is_up(make_edge, make_origin, loop):
    main, spare = make_origin("main"), make_origin("spare")
    backends = [{"address": main.address}, {"address": spare.address, "backup": True}]
    teal = make_edge(main, more={"blue": {"backends": backends, "hold_down": "60s"}})
    assert spread(teal) == {"main": 60}
    loop.run(main.stop())
    counts = spread(teal)
    assert counts["spare"] == 60, counts


def test_no_backend_at_all(make_edge, make_origin):
    origin = make_origin()
    teal = make_edge(origin)
    teal.ctl("backend", "drain", "blue", origin.address)
    assert teal.get("/x").status == 503
    assert teal.line("/x")["outcome"] == "no-backend"


# --- retries -------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_connect_is_tried_elsewhere(make_edge, make_origin, method):
    origin = make_origin("well")
    dead = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    more = {"blue": {"balance": "round-robin", "hold_down": "0s"}}
    teal = make_edge([*dead, origin], more=more)
    with teal.h1() as c:
        for n in range(20):
            body = b"x" * 100000 if method == "POST" else b""
            r = c.ask(method, f"/echo?{n}", body=body)
            assert r.status == 200 and r.json["length"] == len(body)
    assert len(origin.seen) == 20


def test_retries_are_bounded(make_edge):
    dead = [f"127.0.0.1:{free_port()}" for _ in range(6)]
    teal = make_edge(dead, more={"retries": 2, "blue": {"hold_down": "0s"}})
    assert teal.get("/x").status == 503
    assert teal.line("/x")["tries"] == 3


def test_no_retries_when_switched_off(make_edge, make_origin):
    more = {"retries": 0, "blue": {"balance": "round-robin", "hold_down": "0s"}}
    teal = make_edge([f"127.0.0.1:{free_port()}", make_origin()], more=more, workers=1)
    statuses = sorted(teal.get("/x").status for _ in range(4))
    assert statuses == [200, 200, 503, 503]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_stream_is_tried_again(make_edge, make_origin, method):
    pair = [make_origin("one", h2=True), make_origin("two", h2=True)]
    pool = {"protocol": "h2", "balance": "round-robin"}
    teal = make_edge(pair, more={"blue": pool}, workers=1)
    body = b"x" * 500 if method == "POST" else b""
    pair[0].refuse_streams = 1
    with teal.h1() as c:
        assert [c.ask(method, "/echo", body=body).status for _ in range(2)] == [200, 200]
    wait_for(lambda: sorted(x["tries"] for x in teal.lines()) == [1, 2], "one request tried twice")
    assert sum(len(o.seen) for o in pair) == 2


class Stale:
    """Answers one request on each connection, then closes it when told; counts what it is asked."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(50)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.requests = []
        self.answer_only_first = True
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        first = True
        with s:
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    more = s.recv(65536)
                    if not more:
                        return
                    data += more
                line = data.split(b"\r\n")[0].decode()
                self.requests.append((line, first))
                if not first:
                    return  # closes instead of answering the second request
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                first = False

    def stop(self):
        self.socket.close()


@pytest.fixture
def stale():
    one = Stale()
    yield one
    one.stop()


def test_stale_connection_get_is_tried_again(make_edge, stale):
    teal = make_edge(stale)
    with teal.h1() as c:
        for n in range(6):
            assert c.get(f"/{n}").status == 200


def test_stale_connection_post_is_not_done_twice(make_edge, stale):
    """The request was sent and the connection closed: nobody knows whether it was processed."""
    teal = make_edge(stale, workers=1)
    with teal.h1() as c:
        assert c.ask("POST", "/1", body=b"x").status == 200
        r = c.ask("POST", "/2", body=b"x")
        assert r.status in (200, 502)
    asked = [line for line, _ in stale.requests if "/2" in line]
    assert len(asked) == 1, stale.requests


@pytest.mark.parametrize("how", ["reset", "eof"])
def test_failure_before_the_head_get_is_tried_elsewhere(make_edge, make_origin, how):
    """Idempotent and nothing reached the client: another backend may answer."""
    pair = [make_origin("one"), make_origin("two")]
    teal = make_edge(pair)
    with teal.h1() as c:
        r = c.get(f"/tweak?{how}=1&times=1&key=one-{how}")
        assert r.status in (200, 502)
    assert sum(len(o.seen) for o in pair) <= 2


@pytest.mark.parametrize("how", ["reset", "eof"])
def test_failure_before_the_head_post_is_not_done_twice(make_edge, make_origin, how):
    pair = [make_origin("one"), make_origin("two")]
    teal = make_edge(pair)
    with teal.h1() as c:
        assert c.ask("POST", f"/tweak?{how}=1", body=b"x" * 10).status == 502
    assert sum(len(o.seen) for o in pair) == 1
    assert teal.line("/tweak")["tries"] == 1


def test_failure_after_the_head_is_never_tried_again(make_edge, make_origin):
    pair = [make_origin("one"), make_origin("two")]
    teal = make_edge(pair)
    with teal.h1() as c:
        r = c.get("/tweak?body=1000&after=500&reset=1")
        assert r.status == 200 and not r.complete
    assert sum(len(o.seen) for o in pair) == 1


def test_slow_start(make_edge, three):
    """A backend that was just added gets little at first."""
    more = {"blue": {"balance": "round-robin", "slow_start": "1h"}}
    teal = make_edge(three[:2], more=more, workers=1)
    teal.ctl("backend", "add", "blue", three[2].address)
    counts = spread(teal, 300)
    assert counts["three"] < 50 and counts["one"] + counts["two"] == 300 - counts["three"]
