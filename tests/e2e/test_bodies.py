"""Bodies of every size and framing, both ways, with back-pressure; interim and early responses."""
import hashlib
import threading

import pytest

from harness import H1, H2, SANITIZED, curl, wait_for
from origin import pattern, pattern_sha256, raw

SIZES = [0, 1, 1024, 16384, 65535, 65536, 65537, 1 << 20, 64 << 20]
MIB = 1 << 20


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("host", ["a.test", "h2.b.test"])
@pytest.mark.parametrize("version", ["h1", "h2"])
def test_download(edge, version, host, size):
    with edge.h1(host=host) if version == "h1" else edge.h2(host=host) as c:
        r = c.get(f"/bytes/{size}")
        assert r.complete and r.header("content-length") == str(size)
        assert digest(r.body) == pattern_sha256(size)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("host", ["a.test", "h2.b.test"])
@pytest.mark.parametrize("version", ["h1", "h2"])
def test_upload(edge, version, host, size):
    with edge.h1(host=host) if version == "h1" else edge.h2(host=host) as c:
        body = pattern(0, size)
        r = c.ask("POST", "/upload", [("content-length", str(size))], body)
        assert r.json["length"] == size
        assert r.json["sha256"] == pattern_sha256(size)


def chunked(data, size):
    out = b""
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
    return out + b"0\r\n\r\n"


@pytest.mark.parametrize("host", ["a.test", "h2.b.test"])
@pytest.mark.parametrize("piece", [100, 5000, 100000])
def test_chunked_upload(edge, host, piece):
    body = pattern(0, 500000)
    with edge.h1(host=host) as c:
        fields = [("Transfer-Encoding", "chunked")]
        r = c.ask("POST", "/upload", fields, chunked(body, piece))
        assert r.json["sha256"] == digest(body)
        assert c.get("/echo").status == 200


def test_h2_upload_without_a_length_is_chunked_at_an_h1_backend(edge, blue):
    with edge.h2() as c:
        assert c.ask("POST", "/upload", body=b"x" * 100000).json["length"] == 100000
    assert blue.seen[-1].header("transfer-encoding") == "chunked"
    assert blue.seen[-1].header("content-length") is None


def test_get_with_a_body(client):
    r = client.ask("GET", "/echo", body=b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert r.json["length"] == 40
    assert client.get("/echo?next").json["target"] == "/echo?next"


def test_post_without_a_body(edge, client, blue):
    assert client.ask("POST", "/echo").json["length"] == 0
    assert blue.seen[-1].header("content-length") == "0"


def test_chunked_download(client):
    r = client.get("/tweak?chunked=1&body=300k&piece=777")
    assert r.complete and digest(r.body) == pattern_sha256(300 << 10)


def test_close_delimited_download(client):
    r = client.get("/tweak?close=1&body=300k")
    assert r.complete and digest(r.body) == pattern_sha256(300 << 10)
    assert client.get("/echo").status == 200


def test_response_trailers(client):
    r = client.get("/tweak?trailers=1&body=1000", [("te", "trailers")])
    assert r.complete and len(r.body) == 1000
    assert ("x-checksum", "abc") in [(n.lower(), v) for n, v in r.trailers]
    assert client.get("/echo").status == 200


@pytest.mark.parametrize("host", ["a.test", "h2.b.test"])
def test_request_trailers_from_h2(edge, host, shared):
    with edge.h2(host=host) as c:
        stream = c.begin("POST", "/upload", end=False)
        c.data(stream, b"x" * 1000)
        c.trailers(stream, [("x-sum", "1"), ("x-more", "2")])
        trailers = {n.lower(): v for n, v in c.response(stream).json["trailers"]}
        assert trailers["x-sum"] == "1" and trailers["x-more"] == "2"


@pytest.mark.parametrize("host", ["a.test", "h2.b.test"])
def test_request_trailers_from_h1(edge, host):
    with edge.h1(host=host) as c:
        fields = [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")]
        r = c.ask("POST", "/upload", fields, b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert ["x-sum", "1"] in [[n.lower(), v] for n, v in r.json["trailers"]]


def test_forbidden_trailers_are_dropped(edge):
    """RFC 9110 6.5.1: never merged, never passed on."""
    with edge.h1() as c:
        bad = b"0\r\nHost: evil\r\nContent-Length: 7\r\nAuthorization: x\r\nX-Fine: 1\r\n\r\n"
        r = c.ask("POST", "/upload", [("Transfer-Encoding", "chunked")], b"3\r\nabc\r\n" + bad)
        if r.status == 200:
            assert [n.lower() for n, _ in r.json["trailers"]] == ["x-fine"]
            assert "evil" not in str(r.json)
        else:
            assert r.status == 400


def test_head(client):
    r = client.ask("HEAD", "/bytes/1000")
    assert r.status == 200 and r.header("content-length") == "1000" and r.body == b""
    assert client.get("/echo").status == 200


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(client, status):
    r = client.get(f"/tweak?status={status}")
    assert r.status == status and r.body == b"" and r.complete
    assert client.get("/echo").status == 200


def test_304_keeps_its_content_length(client):
    r = client.get("/tweak?status=304&body=500")
    assert r.status == 304 and r.body == b""
    assert client.get("/echo").status == 200


def test_expect_100_continue(edge, blue):
    with edge.h1() as c:
        c.send(c.head("POST", "/upload", [("Expect", "100-continue"), ("Content-Length", "5")]))
        assert c.response_head()[0] == 100
        c.send(b"hello")
        r = c.response()
        assert r.json["body"] == "hello"
        assert c.get("/echo").status == 200


def test_expect_100_continue_over_h2(edge):
    with edge.h2() as c:
        fields = [("expect", "100-continue"), ("content-length", "5")]
        stream = c.begin("POST", "/upload", fields, end=False)
        c.until(lambda: c.streams[stream].interim)
        assert c.streams[stream].interim[0][0] == 100
        c.data(stream, b"hello", end=True)
        assert c.response(stream).json["body"] == "hello"


def test_expect_100_continue_refused_by_the_backend(edge):
    """The final answer comes without the body being asked for."""
    with edge.h1() as c:
        fields = [("Expect", "100-continue"), ("Content-Length", "5000")]
        c.send(c.head("POST", "/tweak?early=1&drop=1&status=413&text=no&close=1", fields))
        r = c.response()
        assert r.status == 413 and not r.interim


def test_expect_with_a_body_that_does_not_wait(edge):
    with edge.h1() as c:
        r = c.ask("POST", "/upload", [("Expect", "100-continue")], b"impatient")
        assert r.json["body"] == "impatient"
        assert c.get("/echo?next").json["target"] == "/echo?next"


@pytest.mark.parametrize("value", ["200-maybe", "y 100-continue", "100-continue, x"])
def test_unknown_expectation(edge, blue, value):
    with edge.h1() as c:
        assert c.ask("POST", "/upload", [("Expect", value)], b"x").status == 417
    assert not blue.seen


def test_early_hints(client):
    r = client.get("/tweak?hints=3&text=done")
    assert r.text == "done"
    assert [status for status, _ in r.interim] == [103, 103, 103]
    assert "link" in [n.lower() for n, _ in r.interim[0][1]]


def test_early_hints_from_an_h2_backend(edge):
    with edge.h2(host="h2.b.test") as c:
        r = c.get("/tweak?hints=2&text=done")
        assert r.text == "done" and len(r.interim) == 2


def test_http_1_0_clients_get_no_interim_responses(edge):
    with edge.h1() as c:
        c.send("GET /tweak?hints=2&text=x HTTP/1.0\r\nHost: a.test\r\n\r\n")
        assert not c.response().interim


@pytest.mark.parametrize("drop", ["", "&drop=1"])
def test_early_response_over_h2(edge, blue, drop):
    with edge.h2() as c:
        fields = [("content-length", str(MIB))]
        stream = c.begin("POST", f"/tweak?early=1&status=413&text=big{drop}", fields, end=False)
        r = c.head(stream)
        assert r.status == 413
        c.until(lambda: c.streams[stream].ended)
        assert c.get("/echo").status == 200


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
@pytest.mark.parametrize("length", ["", "&chunked=1"])
def test_early_response_reaches_curl(edge, certificates, tmp_path, length, expect):
    """A client in the middle of its upload has the answer before its stream is closed."""
    up = tmp_path / "up"
    with up.open("wb") as f:
        f.truncate(100 * MIB)
    url = f"https://a.test:{edge.tls}/tweak?early=1&drop=1&status=413&text=big{length}"
    to = ["--cacert", certificates.ca, "--resolve", f"a.test:{edge.tls}:127.0.0.1"]
    for version in ("--http2", "--http1.1"):
        out = curl(*to, version, "-H", expect, "-T", str(up), "-w", " %{http_code}", url)
        assert out.stdout == b"big 413"


@pytest.mark.parametrize("drop", ["", "&drop=1"])
def test_early_response_over_h1(edge, drop):
    with edge.h1() as c:
        fields = [("Content-Length", str(MIB))]
        c.send(c.head("POST", f"/tweak?early=1&status=413&text=big{drop}", fields))
        r = c.response()
        assert r.status == 413 and r.text == "big"


def test_early_response_while_uploading(edge):
    """The client goes on writing and still reads the answer."""
    with edge.h1() as c:
        path = "/tweak?early=1&drop=1&status=413&text=big"
        c.send(c.head("POST", path, [("Content-Length", "2000000")]))

        def write():
            try:
                c.sock.sendall(b"x" * 2000000)
            except OSError:
                pass

        thread = threading.Thread(target=write)
        thread.start()
        r = c.response()
        assert r.status == 413
        c.close()
        thread.join()


def test_a_half_sent_upload_is_never_left_in_the_pool(edge, blue):
    with edge.h1() as c:
        c.send(c.head("POST", "/upload", [("Content-Length", "1000")]) + b"x" * 10)
        wait_for(lambda: blue.find("/upload") and blue.find("/upload")[0].length == 10, "10 bytes")
        c.reset()
    wait_for(lambda: blue.find("/upload")[0].gone, "the backend connection to be closed")
    for n in range(5):
        assert edge.get(f"/echo?{n}").json["target"] == f"/echo?{n}"


def test_truncated_response_is_never_complete(client):
    r = client.get("/tweak?body=100000&after=50000&truncate=1")
    assert r.status == 200 and not r.complete


def test_truncated_chunked_response_is_never_complete(client):
    r = client.get("/tweak?chunked=1&body=100000&after=50000&truncate=1")
    assert r.status == 200 and not r.complete


def test_both_directions_at_once(edge):
    """A backend that answers while it reads: neither waits for the other."""
    with edge.h2() as c:
        c.h2.increment_flow_control_window(1 << 20)
        stream = c.begin("POST", "/tweak?early=1&chunked=1&body=2m", end=False)
        c.data(stream, b"x" * (2 * MIB), end=True)
        assert len(c.response(stream).body) == 2 * MIB


# --- memory --------------------------------------------------------------------------------------
class Highest:
    """The highest RSS seen, sampled while something runs."""

    def __init__(self, teal):
        self.teal = teal
        self.start = self.most = teal.rss()

    def sample(self):
        self.most = max(self.most, self.teal.rss())

    def growth(self):
        return self.most - self.start


@pytest.fixture
def quiet(make_edge, make_origin):
    """A teal of its own, warmed up, so that what grows is the transfer's."""

    def make(**more):
        origin = make_origin(h2=more.pop("h2", False))
        teal = make_edge(origin, more=more)
        for _ in range(4):
            for c in (teal.h1(), teal.h2()):
                with c:
                    c.get("/bytes/2m")
                    c.ask("POST", "/upload", body=b"x" * MIB)
        return teal, origin

    return make


BOUND = 64 * MIB if SANITIZED else 2 * MIB


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("backend", ["http/1.1", "h2"])
def test_a_slow_reader_does_not_make_teal_grow(quiet, version, backend):
    teal, _ = quiet(h2=backend == "h2", blue={"protocol": backend})
    size = 256 * MIB
    memory = Highest(teal)
    if version == "h1":
        with H1(teal.plain, rcvbuf=65536) as c:
            c.request("GET", f"/bytes/{size}")
            assert c.response_head()[0] == 200
            # the client reads nothing until teal has stopped taking from the backend
            settled(teal, memory)
            for _ in range(256):
                c.drain(MIB)
                memory.sample()
    else:
        with H2(teal.tls, rcvbuf=65536) as c:
            stream = c.begin("GET", f"/bytes/{size}")
            c.streams[stream].keep = False
            c.head(stream)
            settled(teal, memory)
            while not c.streams[stream].ended:
                c.pump()
                memory.sample()
            assert c.streams[stream].received == size
    assert memory.growth() < BOUND, f"{memory.growth() / MIB:.1f} MiB"


def settled(teal, memory):
    """Until teal does nothing any more: its CPU time stands still."""
    last = [None, 0]

    def still():
        memory.sample()
        now = teal.cpu()
        last[1] = last[1] + 1 if now == last[0] else 0
        last[0] = now
        return last[1] > 5

    wait_for(still, "teal to stand still")


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("backend", ["http/1.1", "h2"])
def test_a_slow_backend_does_not_make_teal_grow(quiet, loop, version, backend):
    if backend == "h2":
        pytest.skip("python3-h2 reads on its own; the window is tested in tests/codec")
    teal, origin = quiet(blue={"protocol": backend})
    size = 256 * MIB
    memory = Highest(teal)
    block = pattern(0, MIB)
    with teal.h1() if version == "h1" else teal.h2() as c:

        def upload():
            if version == "h1":
                c.send(c.head("POST", "/upload?gate_read=slow", [("Content-Length", str(size))]))
                for _ in range(256):
                    c.send(block)
                return c.response()
            length = [("content-length", str(size))]
            stream = c.begin("POST", "/upload?gate_read=slow", length, end=False)
            for n in range(256):
                c.data(stream, block, end=n == 255)
            return c.response(stream)

        result = []
        thread = threading.Thread(target=lambda: result.append(upload()))
        thread.start()
        wait_for(lambda: origin.find("/upload")[-1:] and "gate_read" in origin.seen[-1].query)
        settled(teal, memory)
        loop.call(origin.open, "slow")
        while thread.is_alive():
            memory.sample()
            thread.join(0.05)
    assert result[0].json["length"] == size
    assert memory.growth() < BOUND, f"{memory.growth() / MIB:.1f} MiB"


def test_1xx_of_unknown_kind_are_passed_on(edge):
    odd = b"HTTP/1.1 199 Odd\r\nX-A: 1\r\n\r\n"
    answer = raw(odd + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with edge.h1() as c:
        r = c.get(f"/tweak?raw={answer}")
        assert r.text == "ok"
