"""bench/origin: what the benches measure against must answer rightly, and fail exactly as it is told."""
import asyncio
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import time
from types import SimpleNamespace

import grpc
import h2.events
import pytest
import websockets

from harness import (
    BUILD,
    CANCEL,
    DEADLINE,
    INTERNAL_ERROR,
    PREFACE,
    REPORT,
    SETTINGS,
    H1,
    H2,
    die_with_us,
    frame,
    wait_for,
    websocket_key,
    ws_frame,
)

PROGRAM = BUILD / "bench" / "origin" / "origin"
LINE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\n"
PATTERN = (LINE * 1041)[:65536]
ALWAYS = "100%"


def body(n):
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


class BenchOrigin:
    """The program, its port, and its control socket."""

    def __init__(self, directory, *args):
        self.unix = str(directory / "o.sock")
        self.control = str(directory / "c.sock")
        self.process = subprocess.Popen(
            [PROGRAM, "--listen", "127.0.0.1:0", "--listen", f"unix:{self.unix}"]
            + ["--control", self.control, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_us,
        )
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        assert match, line + self.process.stderr.read()
        self.port = int(match[1])
        assert self.process.stdout.readline() == f"listening on unix:{self.unix}\n"
        self.commands = socket.socket(socket.AF_UNIX)
        self.commands.settimeout(DEADLINE)
        self.commands.connect(self.control)
        self.answers = self.commands.makefile("r")

    def tell(self, command):
        self.commands.sendall(command.encode() + b"\n")
        return self.answers.readline().rstrip("\n")

    def set(self, **values):
        assert self.tell("set " + " ".join(f"{k}={v}" for k, v in values.items())) == "ok"

    def do(self, command):
        assert self.tell(command) == "ok"

    @property
    def stats(self):
        return SimpleNamespace(**json.loads(self.tell("stats")))

    def since(self, us=0):
        """[(microseconds, faulty, target)]"""
        lines = [self.tell(f"since {us}")]
        while lines[-1] != ".":
            lines.append(self.answers.readline().rstrip("\n"))
        return [
            (int(at), word == "fault", target)
            for at, word, target in (line.split(" ", 2) for line in lines[:-1])
        ]

    def h1(self, **kwargs):
        return H1(self.port, **kwargs)

    def h2(self, tls=False, **kwargs):
        return H2(self.port, tls=tls, **kwargs)

    def on_unix(self, kind=H1):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(self.unix)
        return kind(sock=sock, tls=False)

    def stop(self):
        self.commands.close()
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=DEADLINE)
        assert not REPORT.search(errors), errors
        assert self.process.returncode == 0, errors
        assert not os.path.exists(self.unix) and not os.path.exists(self.control)


@pytest.fixture
def make(tmp_path):
    made = []

    def start(*args):
        made.append(BenchOrigin(tmp_path, *args))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def origin(make):
    return make()


@pytest.fixture(params=["h1", "h2"])
def client(request, origin):
    """A client of either version: ask(method, path, headers, body)."""
    with getattr(origin, request.param)() as c:
        c.version = request.param
        yield c


def again(origin, client):
    """A new connection of the same version."""
    other = getattr(origin, client.version)()
    other.version = client.version
    return other


def curl(*args, **kwargs):
    kwargs.setdefault("check", True)
    return subprocess.run(
        ["curl", "-sS", "--max-time", str(DEADLINE), *args], capture_output=True, **kwargs
    )


# --- answers ------------------------------------------------------------------


def test_an_answer_has_a_body_a_version_and_a_length(client):
    for _ in range(2):
        r = client.get("/any/path")
        assert (r.status, r.body) == (200, body(1024))
        assert r.header("content-type") == "text/plain"
        assert r.header("x-version") == "v1"
        assert r.header("content-length") == "1024"


SIZES = {"0": 0, "1": 1, "1000": 1000, "64k": 64 << 10, "70000": 70000, "3m": 3 << 20}


@pytest.mark.parametrize("wanted, n", SIZES.items())
def test_the_query_says_how_many_bytes(client, wanted, n):
    r = client.get(f"/x?a=b&bytes={wanted}&c=d")
    assert r.header("content-length") == str(n)
    assert r.body == body(n)


def test_head_has_the_length_and_no_body(client):
    r = client.ask("HEAD", "/?bytes=64k")
    assert (r.status, r.header("content-length"), r.body) == (200, "65536", b"")
    assert client.get().body == body(1024)


def test_options_and_set_say_body_and_version(make):
    origin = make("--version", "v7", "--body", "2k")
    with origin.h1() as c:
        assert (c.get().header("x-version"), len(c.get().body)) == ("v7", 2048)
        origin.set(body="9k", version="v8")
        assert (c.get().header("x-version"), c.get().body) == ("v8", body(9 << 10))
        origin.do("reset")
        assert c.get().header("x-version") == "v8"
    with origin.h2() as c:
        assert (c.get().header("x-version"), c.get().body) == ("v8", body(9 << 10))


def test_a_unix_socket_speaks_both_versions(origin):
    for kind in H1, H2:
        with origin.on_unix(kind) as c:
            assert c.get().body == body(1024)


def test_a_body_is_read_and_the_answer_is_as_to_a_get(client):
    for method in "POST", "PUT":
        assert client.ask(method, "/upload", body=os.urandom(300000)).body == body(1024)


def test_echo_gives_the_body_back(client):
    for n in 0, 1, 5000, 3 << 20:
        data = os.urandom(n)
        r = client.ask("POST", "/echo?x=1", body=data)
        assert r.header("content-length") == str(n)
        assert r.body == data


def test_chunks_are_read(origin):
    with origin.h1() as c:
        c.request("POST", "/echo", [("Transfer-Encoding", "chunked")])
        c.send("5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n")
        assert c.response().body == b"hello world"


def test_who_expects_100_gets_it_before_the_body(origin):
    with origin.h1() as c:
        c.request("POST", "/echo", [("Expect", "100-continue"), ("Content-Length", "5")])
        assert c.response_head()[0] == 100
        c.send("hello")
        assert c.response().body == b"hello"


def test_a_pipeline_is_answered_in_order(origin):
    sizes = [10, 100000, 0, 9000, 3 << 20, 7]
    with origin.h1() as c:
        c.send(b"".join(c.head("GET", f"/?bytes={n}") for n in sizes))
        for n in sizes:
            assert c.response().body == body(n)
        c.send(c.head("POST", "/echo", body=b"abc") + b"abc" + c.head("HEAD", "/") + c.head("GET", "/"))
        assert c.response().body == b"abc"
        assert c.response("HEAD").body == b""
        assert c.response().body == body(1024)


def test_a_long_pipeline_whose_answers_are_read_late(origin):
    with origin.h1() as c:
        c.sock.setblocking(False)
        request, sent = c.head("GET", "/?bytes=8000") * 50, 0
        try:
            for _ in range(100):
                sent += c.sock.send(request)
        except BlockingIOError:
            pass
        c.sock.settimeout(DEADLINE)
        for _ in range(sent // (len(request) // 50)):
            assert c.response().body == body(8000)


def test_bytes_may_come_one_by_one(origin):
    with origin.h1() as c:
        for byte in c.head("POST", "/echo", body=b"PRI") + b"PRI":
            c.send(bytes([byte]))
        assert c.response().body == b"PRI"


def test_http2_is_told_by_its_first_bytes_however_they_come(origin):
    with origin.h1() as c:
        for byte in PREFACE + frame(SETTINGS):
            c.send(bytes([byte]))
        assert c.take(9)[3] == SETTINGS
    with origin.h1() as c:
        c.send("PR")
        c.send("OPFIND / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.response().status == 200


def test_connection_close_and_http_1_0_close(origin):
    with origin.h1() as c:
        r = c.get("/?bytes=1m", [("Connection", "close")])
        assert r.header("connection") == "close" and r.body == body(1 << 20) and c.closed()
    with origin.h1() as c:
        c.send("GET / HTTP/1.0\r\n\r\n")
        assert c.response().body == body(1024) and c.closed()


def test_an_upgrade_to_something_else_is_answered_plainly(origin):
    upgrade = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "")]
    with origin.h1() as c:
        for _ in range(2):
            assert c.get("/", upgrade).body == body(1024)
        assert c.get().body == body(1024)
    assert origin.stats.requests == 3


def test_nonsense_is_refused(origin):
    with origin.h1() as c:
        c.send("GET\x01 / HTTP/1.1\r\n\r\n")
        assert c.response().status == 400 and c.closed()
    with origin.h1() as c:
        c.send(PREFACE + b"\xff" * 100)
        c.rest()
    assert origin.stats.requests == 0


def test_many_streams_share_a_connection(origin):
    with origin.h2() as c:
        streams = [c.begin("GET", f"/?bytes={n * 500}") for n in range(100)]
        for n, stream in enumerate(streams):
            assert c.response(stream).body == body(n * 500)


def test_a_body_waits_for_credit_and_a_reset_ends_it(origin):
    with origin.h2() as c:
        c.manual_window = True
        stream = c.begin("GET", "/?bytes=1m")
        c.until(lambda: c.streams[stream].received == 65535)
        c.reset_stream(stream, CANCEL)
        c.h2.increment_flow_control_window(1 << 20)
        c.flush()
        c.manual_window = False
        assert c.get().body == body(1024)


def test_tls_speaks_what_alpn_says(make, certificates):
    pair = certificates.pair("backend")
    origin = make("--tls", pair["chain"], pair["key"])
    upload = os.urandom(300000)
    for alpn, version in ("--http1.1", b"1.1"), ("--http2", b"2"):
        out = curl(
            alpn, "--cacert", certificates.ca, "-w", "%{http_version}", "--data-binary", "@-",
            f"https://localhost:{origin.port}/echo", input=upload,
        ).stdout  # fmt: skip
        assert out == upload + version
    for client in origin.h1(tls=True), origin.h2(tls=True):
        with client as c:
            assert c.get("/?bytes=2m").body == body(2 << 20)
            assert c.get().body == body(1024)
    with origin.h1(tls=True) as c:
        c.send(c.head("GET", "/?bytes=1m") * 3)
        assert [c.response().body == body(1 << 20) for _ in range(3)] == [True] * 3


def test_load_tools_see_no_error(make):
    origin = make("--threads", "2")
    url = f"http://127.0.0.1:{origin.port}/?bytes=10k"
    for more in ["-m10"], ["--h1", "-m4"]:
        out = subprocess.run(
            ["h2load", "-n2000", "-c8", *more, url], capture_output=True, text=True, check=True
        ).stdout
        assert "2000 succeeded, 0 failed, 0 errored" in out
        assert f"({2000 * 10240}) data" in out
    assert origin.stats.requests == 4000
    wait_for(lambda: origin.stats.open == 0, "the connections' end")
    assert origin.stats.connections == 16


# --- gRPC ---------------------------------------------------------------------


def call(origin, method="/bench.Unary/Get", message=b"hello"):
    with grpc.insecure_channel(f"127.0.0.1:{origin.port}") as channel:
        return channel.unary_unary(method)(message, timeout=DEADLINE)


def test_grpc_gets_one_message_and_a_status(origin):
    assert call(origin) == body(1024)
    origin.set(body="100k")
    assert call(origin) == body(100 << 10)
    origin.set(body=0)
    assert call(origin) == b""
    assert call(origin, "/echo", b"x" * 200000) == b"x" * 200000


@pytest.mark.parametrize(
    "how, code",
    [
        ("status", grpc.StatusCode.UNAVAILABLE),
        ("reset", grpc.StatusCode.INTERNAL),
        ("truncate", grpc.StatusCode.INTERNAL),
        ("close", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_grpc_fails_as_told(origin, how, code):
    origin.set(fail=ALWAYS, how=how, grpc_status=14)
    with pytest.raises(grpc.RpcError) as e:
        call(origin)
    assert e.value.code() == code


# --- WebSocket ----------------------------------------------------------------


def test_websocket_echoes_pongs_and_closes(origin):
    async def talk():
        url = f"ws://127.0.0.1:{origin.port}/chat"
        async with websockets.connect(url, max_size=None, compression=None) as ws:
            for message in "hello", "", b"\0" * 126, os.urandom(70000), os.urandom(2 << 20):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(iter(["in ", "three ", "frames"]))
            assert await ws.recv() == "in three frames"
            await (await ws.ping(b"ping"))
        assert ws.close_code == 1000

    asyncio.run(asyncio.wait_for(talk(), DEADLINE))


def opened(origin):
    c = origin.h1()
    fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    c.request("GET", "/", fields + [("Sec-WebSocket-Key", websocket_key())])
    assert c.response().status == 101
    return c


def test_websocket_frames_may_come_in_pieces(origin):
    with opened(origin) as c:
        for byte in ws_frame("hello") + ws_frame("x" * 300):
            c.send(bytes([byte]))
        assert c.take(7) == b"\x81\x05hello"
        assert c.take(4) == b"\x81\x7e" + struct.pack(">H", 300)
        assert c.take(300) == b"x" * 300
        c.send(ws_frame(b"p", opcode=9) + ws_frame(b"not asked", opcode=10) + ws_frame(b"", opcode=8))
        assert c.rest() == b"\x8a\x01p" + b"\x88\x00"


@pytest.mark.parametrize(
    "wrong",
    [ws_frame("no mask", mask=False), b"\xc1" + ws_frame("rsv")[1:], ws_frame("p" * 126, opcode=9)],
    ids=["no-mask", "reserved-bit", "long-ping"],
)
def test_websocket_frames_that_are_wrong_end_it(origin, wrong):
    with opened(origin) as c:
        c.send(wrong)
        assert c.rest() == b"\x88\x02" + struct.pack(">H", 1002)


def test_websocket_without_a_key_is_no_websocket(origin):
    with origin.h1() as c:
        assert c.get("/", [("Connection", "Upgrade"), ("Upgrade", "websocket")]).status == 200


# --- faults -------------------------------------------------------------------


def test_status(origin, client):
    origin.set(fail=ALWAYS, status=503)
    r = client.get()
    assert (r.status, r.body) == (503, body(1024))
    origin.do("reset")
    assert client.get().status == 200
    assert (origin.stats.requests, origin.stats.failed) == (2, 1)


def test_reset(origin, client):
    origin.set(fail=ALWAYS, how="reset")
    if client.version == "h2":
        assert client.get().reset == INTERNAL_ERROR
        origin.do("reset")
        assert client.get().status == 200
        return
    client.request()
    with pytest.raises(ConnectionResetError):
        client.sock.recv(1)


def test_close(origin, client):
    origin.set(fail=ALWAYS, how="close")
    if client.version == "h2":
        client.begin()
        assert client.closes() is None
        return
    client.request()
    assert client.sock.recv(1) == b""


def test_truncate(origin, client):
    origin.set(fail=ALWAYS, how="truncate")
    for n in 1, 1000, 100000:
        with again(origin, client) as c:
            r = c.get(f"/?bytes={n}")
            assert r.status == 200
            assert r.header("content-length") == str(max(n, 2))
            assert r.body == body(max(n // 2, 1)) and not r.complete
            if client.version == "h2":
                assert r.reset == INTERNAL_ERROR


def test_a_share_is_a_share(origin, client):
    origin.set(fail="20%")
    failed = 0
    for _ in range(20):
        if client.version == "h1":
            client.send(client.head("GET", "/") * 50)
            failed += sum(client.response().status == 500 for _ in range(50))
        else:
            streams = [client.begin() for _ in range(50)]
            failed += sum(client.response(s).status == 500 for s in streams)
    assert 150 <= failed <= 250  # the dice begin alike in every run
    assert origin.stats.failed == failed


def test_a_hanging_request_is_never_answered(origin, client):
    origin.set(hang=ALWAYS)
    client.begin() if client.version == "h2" else client.request()
    wait_for(lambda: origin.stats.hung == 1)
    origin.do("reset")
    if client.version == "h2":
        assert client.get().status == 200
        assert not client.streams[1].status
        client.reset_stream(1)
    else:
        client.request()  # waits behind the other, and is forgotten with it
        with again(origin, client) as c:
            assert c.get().status == 200
    client.close()
    wait_for(lambda: origin.stats.open == 0, "the connection's end")
    assert origin.stats.requests == 2


def test_a_slow_answer_comes_late(origin, client):
    origin.set(latency="100ms", latency_share=ALWAYS)
    start = time.monotonic()
    assert client.get().body == body(1024)
    assert time.monotonic() - start >= 0.1
    assert origin.stats.delayed == 1


def test_a_slow_answer_keeps_its_place_in_a_pipeline(origin):
    origin.set(latency="100ms")
    with origin.h1() as c:
        c.request(path="/?bytes=1")
        wait_for(lambda: origin.stats.delayed == 1)
        origin.do("reset")
        c.request(path="/?bytes=2")
        assert [c.response().body for _ in range(2)] == [body(1), body(2)]


def test_a_slow_stream_is_passed_by_others(origin):
    with origin.h2() as c:
        origin.set(latency="3600s")
        slowest = c.begin()
        origin.set(latency="100ms")
        slow = c.begin()
        wait_for(lambda: origin.stats.delayed == 2)
        origin.do("reset")
        assert c.get().status == 200
        assert c.response(slow).body == body(1024)
        assert not c.streams[slowest].status


def test_a_slow_stream_that_was_reset_is_forgotten(origin):
    with origin.h2() as c:
        origin.set(latency="100ms")
        c.reset_stream(c.begin())
        wait_for(lambda: origin.stats.delayed == 1)
        origin.set(hang=ALWAYS)
        hung = c.begin()  # in the memory of the other one
        wait_for(lambda: origin.stats.hung == 1)
        origin.set(hang="0%", latency="150ms")
        assert c.get().status == 200
        assert not c.streams[hung].done


def test_slow_answers_come_in_the_order_they_are_due(origin):
    dice, latency, order = random.Random(5), {}, []  # dice that need a rise in the heap
    origin.do("log on")
    with origin.h2() as c:
        event = c.event

        def note(e):
            event(e)
            if isinstance(e, h2.events.StreamEnded):
                order.append(e.stream_id)

        c.event = note
        for n in range(150):
            ms = 300 + 4 * dice.randrange(150)
            origin.set(latency=f"{ms}ms", latency_share=ALWAYS)
            stream = c.begin("GET", f"/{n}?bytes=1")
            wait_for(lambda: origin.stats.delayed == n + 1)
            latency[stream] = ms * 1000
        due = {s: e[0] + latency[s] for s, e in zip(latency, origin.since())}
        for stream in dice.sample(sorted(latency), 70):
            c.reset_stream(stream)
            due.pop(stream)
        c.until(lambda: due.keys() <= set(order))
    order = [s for s in order if s in due]
    assert all(due[a] <= due[b] + 2000 for a, b in zip(order, order[1:]))


def test_slow_answers_may_fail_and_leave(origin, client):
    origin.set(latency="50ms", fail=ALWAYS, status=504)
    assert client.get().status == 504
    origin.set(latency="3600s")
    with again(origin, client) as c:
        c.begin() if c.version == "h2" else c.request(headers=[("Connection", "close")])
        wait_for(lambda: origin.stats.delayed == 2)
        opened = origin.stats.open
    wait_for(lambda: origin.stats.open == opened - 1, "the waiting request's end")


def test_health_has_no_faults_but_its_own(origin, client):
    origin.set(fail=ALWAYS, hang=ALWAYS, latency="100s", how="reset")
    for path in "/health/liveness", "/health/readiness", "/health/startup":
        r = client.get(path)
        assert (r.status, r.json) == (200, {"status": "healthy", "version": "v1"})
        assert r.header("content-type") == "application/json"
    origin.set(health="fail")
    assert client.get("/health/readiness").status == 503
    assert client.get("/health/readiness").json["status"] == "unhealthy"
    origin.set(health="ok")
    assert client.get("/health/readiness?x").status == 200
    assert (origin.stats.probes, origin.stats.requests, origin.stats.failed) == (6, 0, 0)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_refuse_closes_the_doors_and_idle_connections(make, threads):
    origin = make("--threads", threads)
    idle, busy, idle2, unsaid = origin.h1(), origin.h1(), origin.h2(), origin.h1()
    idle.get(), idle2.get()
    origin.set(latency="300ms")
    busy.request()
    busy2 = idle2.begin()
    wait_for(lambda: origin.stats.delayed == 2)
    for _ in range(2):
        origin.set(refuse="on", latency=0)
        with pytest.raises(ConnectionRefusedError):
            origin.h1()
        with pytest.raises(ConnectionRefusedError):
            origin.on_unix()
        origin.set(refuse="on")
        origin.set(refuse="off")
        with origin.h1() as c:
            assert c.get().status == 200
        with origin.on_unix() as c:
            assert c.get().status == 200
    assert idle.closed() and unsaid.closed()
    assert busy.response().body == body(1024)
    assert idle2.response(busy2).body == body(1024)
    assert idle2.goaway == (0, busy2)
    for c in idle, busy, idle2, unsaid:
        c.close()


def test_busy_connections_end_after_their_answer_while_refused(origin):
    with origin.h1() as c, origin.h2() as c2:
        origin.set(latency="200ms")
        c.request()
        stream = c2.begin()
        wait_for(lambda: origin.stats.delayed == 2)
        origin.set(refuse="on")
        assert c.response().body == body(1024) and c.closed()
        assert c2.response(stream).body == body(1024)
        assert c2.closes() == 0


# --- control ------------------------------------------------------------------


def test_a_line_is_applied_whole_or_not_at_all(origin, client):
    origin.set(status=502, version="v2")
    for wrong in (
        "set fail=100% status=700",
        "set version=v3 fail=101%",
        "set fail=100% latency=5",
        "set fail=100% sleep=1s",
        "set fail=100% how",
        "set fail=20 version=v3",
        "set body=1g version=v3",
        'set version="',
        "set",
        "set ",
        "since x",
        "nothing",
    ):
        assert origin.tell(wrong).startswith("error"), wrong
    r = client.get()
    assert (r.status, r.header("x-version")) == (200, "v2")
    origin.set(fail=ALWAYS)
    assert client.get().status == 502


def test_commands_may_come_together_and_from_several(origin):
    origin.commands.sendall(b"set fail=50%\nset version=v5\r\nstats\n")
    assert [origin.answers.readline() for _ in range(2)] == ["ok\n"] * 2
    assert json.loads(origin.answers.readline())["version"] == "v5"
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(origin.control)
        other.sendall(b"sta")
        assert origin.stats.failed == 0
        other.sendall(b"ts\n")
        assert other.recv(1000).startswith(b'{"requests":0')
    with socket.socket(socket.AF_UNIX) as long:
        long.connect(origin.control)
        long.sendall(b"x" * 1024)
        assert long.makefile().read() == "error: the line is too long\n"
    origin.do("reset")


def test_the_journal_says_what_came_when_and_how_it_went(origin, client):
    client.get("/before")
    origin.do("log on")
    start = time.monotonic_ns() // 1000
    client.get("/one?x=1")
    client.get("/health/liveness")
    origin.set(fail=ALWAYS)
    client.get("/two")
    origin.do("reset")
    client.get("/" + "3" * 300)
    origin.do("log off")
    client.get("/after")
    end = time.monotonic_ns() // 1000
    entries = origin.since()
    assert [e[1:] for e in entries] == [
        (False, "/one?x=1"),
        (True, "/two"),
        (False, "/" + "3" * 110),
    ]
    times = [e[0] for e in entries]
    assert start <= times[0] <= times[1] <= times[2] <= end
    assert origin.since(times[1]) == entries[1:]
    assert origin.since(end) == []
    stats = origin.stats
    assert times[0] <= stats.first_fault_us == stats.last_fault_us <= times[1]
    assert stats.now_us >= end


def test_the_journal_keeps_the_last_65536(make):
    origin = make("--threads", "2")
    origin.do("log on")
    with origin.h1() as a, origin.h1() as b:
        for c, name in ((a, "a"), (b, "b")):
            request = c.head("GET", f"/{name}?bytes=0") * 1000
            for _ in range(33):
                c.send(request)
                for _ in range(1000):
                    assert c.response_head()[0] == 200
    entries = origin.since()
    assert len(entries) == 65536
    assert [e[2] for e in entries] == ["/a?bytes=0"] * 32536 + ["/b?bytes=0"] * 33000
    assert entries == sorted(entries, key=lambda e: e[0])
    middle = entries[40000][0]
    assert origin.since(middle) == [e for e in entries if e[0] >= middle]


def test_zero_begins_the_count_anew(origin, client):
    origin.set(fail=ALWAYS)
    origin.do("log on")
    client.get()
    first = origin.stats.first_fault_us
    assert first > 0
    client.get()
    assert origin.stats.first_fault_us == first < origin.stats.last_fault_us
    origin.do("zero")
    stats = origin.stats
    assert (stats.requests, stats.failed, stats.first_fault_us, stats.connections) == (0, 0, 0, 0)
    assert origin.since() == []
    client.get()
    assert (origin.stats.requests, origin.stats.failed) == (1, 1)
    assert origin.stats.first_fault_us > first


@pytest.mark.parametrize(
    "wrong",
    [
        ["--listen", "nowhere"],
        ["--listen", "127.0.0.1:70000"],
        ["--listen", "unix:"],
        ["--body", "x"],
        ["--threads", "0"],
        ["--version", "a b"],
        ["--tls", "one"],
        ["more"],
        ["--what"],
    ],
    ids=" ".join,
)
def test_wrong_usage(wrong):
    r = subprocess.run([PROGRAM, *wrong], capture_output=True, text=True, timeout=DEADLINE)
    assert r.returncode == 2 and r.stderr


def test_an_address_that_is_taken_is_an_error(origin):
    """Even by another one of its kind: they would share what comes."""
    for address in f"127.0.0.1:{origin.port}", f"unix:{origin.unix}":
        r = subprocess.run([PROGRAM, "--listen", address], capture_output=True, timeout=DEADLINE)
        assert r.returncode == 1 and address.encode() in r.stderr
        with origin.h1() as c, origin.on_unix() as u:
            assert c.get().status == u.get().status == 200
