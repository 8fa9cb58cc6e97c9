"""WebSocket: RFC 6455 upgrades, RFC 8441 over HTTP/2, to HTTP/1.1 backends."""
import asyncio

import pytest
import websockets

from conftest import service
from harness import DEADLINE, H1, Closed, Teal, wait_for, websocket_key, ws_frame
from origin import raw


@pytest.fixture(scope="module")
def echo(loop):
    """A real WebSocket server (python3-websockets): echoes; "bye" closes with 4001."""

    async def handler(socket):
        async for message in socket:
            if message == "bye":
                await socket.close(4001, "bye then")
                return
            await socket.send(message)

    async def start():
        return await websockets.serve(
            handler, "127.0.0.1", 0, subprotocols=["chat", "super"], max_size=None
        )

    server = loop.run(start())
    server.port = server.sockets[0].getsockname()[1]
    yield server

    async def stop():
        server.close()
        await server.wait_closed()

    loop.run(stop())


@pytest.fixture(scope="module")
def ws_edge(echo, certificates):
    teal = Teal({"services": [service(f"127.0.0.1:{echo.port}")]}, certificates)
    yield teal
    teal.stop()


def talk(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE * 2))


@pytest.mark.parametrize("tls", [False, True])
def test_messages(ws_edge, certificates, tls):
    async def run():
        where = f"ws://127.0.0.1:{ws_edge.plain}/chat"
        more = {}
        if tls:
            where = f"wss://a.test:{ws_edge.tls}/chat"
            more = {"ssl": certificates.client_context(["http/1.1"]), "host": "127.0.0.1",
                    "port": ws_edge.tls, "server_hostname": "a.test"}
        async with websockets.connect(where, max_size=None, **more) as s:
            for message in ("hello", b"\0\1\2", "x" * 100000, b"y" * 3000000):
                await s.send(message)
                assert await s.recv() == message
            pong = await s.ping()
            await pong

    talk(run())


def test_subprotocol(ws_edge):
    async def run():
        async with websockets.connect(
            f"ws://127.0.0.1:{ws_edge.plain}/", subprotocols=["other", "super"]
        ) as s:
            return s.subprotocol

    assert talk(run()) == "super"


def test_close_code_from_the_server(ws_edge):
    async def run():
        async with websockets.connect(f"ws://127.0.0.1:{ws_edge.plain}/") as s:
            await s.send("bye")
            await s.wait_closed()
            return s.close_code, s.close_reason

    assert talk(run()) == (4001, "bye then")


def test_many_at_once(ws_edge):
    async def one(n):
        async with websockets.connect(f"ws://127.0.0.1:{ws_edge.plain}/") as s:
            for k in range(5):
                await s.send(f"{n} {k}")
                assert await s.recv() == f"{n} {k}"

    async def run():
        await asyncio.gather(*(one(n) for n in range(50)))

    talk(run())


def test_logged_as_a_tunnel(ws_edge):
    async def run():
        async with websockets.connect(f"ws://127.0.0.1:{ws_edge.plain}/logged") as s:
            await s.send("x")
            await s.recv()

    talk(run())
    line = ws_edge.line("/logged")
    assert line["status"] == 101 and line["outcome"] == "tunnel"


def upgrade(**more):
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    fields["Sec-WebSocket-Key"] = websocket_key()
    fields.update(more)
    return [(n, v) for n, v in fields.items() if v is not None]


def test_bytes_sent_too_early_wait_for_the_101(edge, blue):
    """Frames in the same write as the upgrade reach the backend only after its 101."""
    with edge.h1() as c:
        c.send(c.head("GET", "/websocket", upgrade()) + ws_frame("early"))
        assert c.response().status == 101
        echoed = c.take(11)
        assert echoed[:2] == b"\x81\x85"
    assert blue.find("/websocket")[0].length == 11


def test_bytes_that_come_with_the_101(edge):
    with edge.h1() as c:
        assert c.get("/websocket?push=hello", upgrade()).status == 101
        assert c.take(5) == b"hello"


def test_half_close_of_the_client_is_passed_on(edge):
    with edge.h1() as c:
        assert c.get("/websocket", upgrade()).status == 101
        c.send(b"last words")
        c.half_close()
        assert c.rest() == b"last words"


def test_refused_upgrade_is_a_normal_answer(edge):
    with edge.h1() as c:
        assert c.get("/tweak?status=403&text=no", upgrade()).status == 403
        assert c.get("/echo").status == 200


def test_200_to_an_upgrade_is_a_normal_answer(edge, blue):
    """What came behind the request is the next request, not tunnel bytes (CVE-2024-23326)."""
    with edge.h1() as c:
        c.send(c.head("GET", "/tweak?text=plain", upgrade()) + c.head("GET", "/echo?second"))
        assert c.response().text == "plain"
        try:
            assert c.response().json["target"] == "/echo?second"
        except Closed:
            assert [s.target for s in blue.seen] == ["/tweak?text=plain"]


def test_wrong_accept_from_the_backend(edge):
    with edge.h1() as c:
        assert c.get("/websocket?accept=bad", upgrade()).status == 502


def test_unasked_101_is_502(edge):
    answer = raw(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert edge.get(f"/tweak?raw={answer}&then=hang").status == 502


@pytest.mark.parametrize(
    "fields",
    [
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Version": "12"},
    ],
)
def test_malformed_upgrades_never_tunnel(edge, blue, fields):
    with edge.h1() as c:
        assert c.get("/websocket", upgrade(**fields)).status in (400, 426)


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "foo"])
def test_other_upgrades_are_not_passed_on(edge, blue, protocol):
    with edge.h1() as c:
        fields = upgrade(Upgrade=protocol, **{"HTTP2-Settings": "AAMAAABkAAQAAP__"})
        r = c.get("/echo", fields)
        assert r.status == 200
        names = {n.lower() for n, _ in r.json["headers"]}
        assert not names & {"upgrade", "http2-settings"}
        assert c.get("/echo").status == 200


def extended(c, path, protocol="websocket", **more):
    """An extended CONNECT (RFC 8441 4)."""
    c.until(lambda: c.h2.remote_settings.enable_connect_protocol == 1)
    fields = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", c.scheme),
        (":path", path),
        (":authority", c.host),
        ("sec-websocket-version", "13"),
    ]
    return c.begin_raw(fields + list(more.items()), end=False)


@pytest.mark.parametrize("tls", [False, True])
def test_over_http2(edge, blue, tls):
    with edge.h2(tls=tls) as c:
        stream = extended(c, "/websocket")
        assert c.head(stream).status == 200
        for n in range(5):
            c.data(stream, b"message %d;" % n)
            want = b"".join(b"message %d;" % k for k in range(n + 1))
            c.until(lambda: b"".join(c.streams[stream].parts) == want)
        c.h2.end_stream(stream)
        c.flush()
        assert c.response(stream).complete
        seen = blue.find("/websocket")[0]
        assert seen.method == "GET" and seen.header("upgrade").lower() == "websocket"
        assert c.get("/echo").status == 200


def test_over_http2_with_a_real_server(ws_edge):
    with ws_edge.h2() as c:
        stream = extended(c, "/chat", **{"sec-websocket-protocol": "chat"})
        head = c.head(stream)
        assert head.status == 200
        assert ("sec-websocket-protocol", "chat") in head.headers
        c.data(stream, ws_frame("hello"))
        c.until(lambda: b"".join(c.streams[stream].parts) == ws_frame("hello", mask=False))


def test_over_http2_refused(edge):
    with edge.h2() as c:
        stream = extended(c, "/tweak?status=403&text=no")
        r = c.head(stream)
        assert r.status == 403
        assert c.get("/echo").status == 200


def test_other_protocols_over_http2(edge, blue):
    with edge.h2() as c:
        stream = extended(c, "/websocket", protocol="connect-udp")
        c.until(lambda: c.streams[stream].status or c.streams[stream].done)
        s = c.streams[stream]
        assert s.status == 501 or s.reset is not None
    assert not blue.seen


def test_reset_of_the_stream_ends_the_tunnel(edge, blue):
    with edge.h2() as c:
        stream = extended(c, "/websocket")
        assert c.head(stream).status == 200
        opened = len(blue.open_connections)
        c.reset_stream(stream)
        wait_for(lambda: len(blue.open_connections) < opened, "the backend connection to end")


def test_client_that_vanishes_ends_the_tunnel(edge, blue):
    c = edge.h1()
    assert c.get("/websocket", upgrade()).status == 101
    opened = len(blue.open_connections)
    c.reset()
    wait_for(lambda: len(blue.open_connections) < opened, "the backend connection to end")


def test_idle_timeout(make_edge, make_origin):
    teal = make_edge(make_origin(), more={"timeouts": {"websocket_idle": "300ms"}})
    with teal.h1() as c:
        assert c.get("/websocket", upgrade()).status == 101
        for _ in range(5):
            c.send(b"x")
            assert c.take(1) == b"x"
        assert c.closed()


def test_a_slow_reader_does_not_make_teal_grow(make_edge, make_origin):
    """The echo comes back, nobody reads it: writing must come to a stop."""
    teal = make_edge(make_origin())
    with H1(teal.plain, rcvbuf=65536) as c:
        assert c.get("/websocket", upgrade()).status == 101
        before = teal.rss()
        c.sock.settimeout(2)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 256 << 20:
                sent += c.sock.send(b"z" * 65536)
        assert teal.rss() - before < 16 << 20
