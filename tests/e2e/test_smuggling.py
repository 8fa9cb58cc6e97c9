"""Requests that are refused: with the right answer, nothing of them at the backend, and the next
client gets its own answer.  Rows of what has hit HTTP proxies since 2019."""
import pytest

from harness import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, RawH2, frame, literal, pseudo

MARK = "smuggled"
INNER = f"GET /{MARK} HTTP/1.1\r\nHost: a.test\r\n\r\n"


def post(*fields, body=""):
    head = "POST /up HTTP/1.1\r\nHost: a.test\r\n" + "".join(f + "\r\n" for f in fields)
    return head + "\r\n" + body


def get(*fields, line=f"GET /{MARK} HTTP/1.1", host="Host: a.test"):
    return "\r\n".join([line] + ([host] if host else []) + list(fields)) + "\r\n\r\n"


CHUNKS = f"0\r\n\r\n{INNER}"
CASES = {
    # both lengths (RFC 9112 6.1), in both orders
    "cl-te": post("Content-Length: 6", "Transfer-Encoding: chunked", body=CHUNKS),
    "te-cl": post("Transfer-Encoding: chunked", "Content-Length: 6", body=CHUNKS),
    # Transfer-Encoding that is not exactly "chunked"
    **{
        f"te-{n}": post(value, body=CHUNKS)
        for n, value in enumerate(
            [
                "Transfer-Encoding: xchunked",
                "Transfer-Encoding: chunked,",
                "Transfer-Encoding: ,chunked",
                'Transfer-Encoding: "chunked"',
                "Transfer-Encoding: identity, chunked",
                "Transfer-Encoding: chunked, identity",
                "Transfer-Encoding: chunked, chunked",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding:\x0bchunked",
                "Transfer-Encoding: chun\x00ked",
                "Transfer-Encoding : chunked",
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: chunked;x=y",
                "Transfer-Encoding: ",
                "Transfer-Encoding\x00: chunked",
                "X: y\nTransfer-Encoding: chunked",
                "Transfer-Encoding\n: chunked",
                "Transfer-Encoding:\r\n chunked",
            ]
        )
    },
    "te-on-1.0": post("Transfer-Encoding: chunked", body=CHUNKS).replace("HTTP/1.1", "HTTP/1.0", 1),
    # Content-Length
    **{
        f"cl-{n}": post(value, body=INNER)
        for n, value in enumerate(
            [
                "Content-Length: +5",
                "Content-Length: -5",
                "Content-Length: 0x5",
                "Content-Length: 5,5",
                "Content-Length: 5, 6",
                "Content-Length: 5 5",
                "Content-Length: ",
                "Content-Length:\r\nContent-Length: 5",
                "Content-Length: 5\r\nContent-Length: 6",
                "Content-Length: 18446744073709551616",
                "Content-Length: 18446744073709551621",
                "Content-Length: 9223372036854775808",
                "Content-Length: 99999999999999999999999",
                "Content-Length: 5.0",
                "Content-Length: 5\x0b",
                "Content-Length: \x00",
                "Content-Length : 5",
                "Content-Length: five",
            ]
        )
    },
    # names and values
    "empty-name": get(": x"),
    "space-before-colon": get("X : y"),
    "tab-before-colon": get("X\t: y"),
    "leading-space": get(" X: y"),
    "leading-space-first": f"GET /{MARK} HTTP/1.1\r\n Host: a.test\r\n\r\n",
    "obs-fold": get("X: a\r\n b"),
    "no-colon": get("X"),
    "bad-name": get("X(y): z"),
    "high-name": get("X\xe4: z"),
    "bare-lf-line": f"GET /{MARK} HTTP/1.1\nHost: a.test\r\n\r\n",
    "bare-lf-field": get("X: y\nZ: w"),
    "bare-cr-field": get("X: y\rZ: w"),
    "nul-value": get("X: y\x00z"),
    "vt-value": get("X: y\x0bz"),
    "del-value": get("X: y\x7fz"),
    "esc-value": get("X: \x1b[0m"),
    "nul-name": get("X\x00: y"),
    # request line
    **{
        f"line-{n}": get(line=value)
        for n, value in enumerate(
            [
                f"GET  /{MARK} HTTP/1.1",
                f"GET /{MARK}  HTTP/1.1",
                f"GET\t/{MARK} HTTP/1.1",
                f"GET /{MARK} HTTP/1.1 ",
                f" GET /{MARK} HTTP/1.1",
                f"GET /{MARK} x HTTP/1.1",
                f"GET /{MARK}\x0b HTTP/1.1",
                f"GET /{MARK}#frag HTTP/1.1",
                f"GET /{MARK}\xe4 HTTP/1.1",
                f"GET /{MARK}\x00 HTTP/1.1",
                f"GET /{MARK}\x7f HTTP/1.1",
                f"GET /{MARK}",
                f"GET /{MARK} HTTP/0.9",
                f"GET /{MARK} HTTP/2.0",
                f"GET /{MARK} HTTP/9.9",
                f"GET /{MARK} HTTP/1.10",
                f"GET /{MARK} HTTP/01.1",
                f"GET /{MARK} http/1.1",
                f"GET /{MARK} HTTP/1,1",
                f"GET /{MARK} HTTPS/1.1",
                f"GET /{MARK} ICY/1.1",
                f"GET {MARK} HTTP/1.1",
                f"GET @evil/{MARK} HTTP/1.1",
                f"GET :80/{MARK} HTTP/1.1",
                "GET * HTTP/1.1",
                "GET a.test:80 HTTP/1.1",
                f"GET http://other.test/{MARK} HTTP/1.1",
                f"GET http://u:p@a.test/{MARK} HTTP/1.1",
                f"GET ftp://a.test/{MARK} HTTP/1.1",
                f"G(T /{MARK} HTTP/1.1",
                f"G\x00T /{MARK} HTTP/1.1",
                "CONNECT a.test:443 HTTP/1.1",
                f"TRACE /{MARK} HTTP/1.1",
                f"TRACK /{MARK} HTTP/1.1",
                "PRI * HTTP/2.0",
            ]
        )
    },
    # Host
    **{
        f"host-{n}": get(host=value)
        for n, value in enumerate(
            [
                "",
                "Host: a.test\r\nHost: a.test",
                "Host: a.test\r\nHost: b.test",
                "Host: a.test, b.test",
                "Host: u@a.test",
                "Host: a.test/x",
                "Host: a.test:80:80",
                "Host: a.test:99999",
                "Host: a.test:x",
                "Host: a test",
                "Host: a.test?x",
                "Host: a.test#x",
                "Host: [::1",
                "Host: a\\b",
                "Host : a.test",
            ]
        )
    },
    # chunks
    **{
        f"chunk-{n}": post("Transfer-Encoding: chunked", body=value)
        for n, value in enumerate(
            [
                f"5;\nhello\r\n0\r\n\r\n{INNER}",
                f"5;a\rb\r\nhello\r\n0\r\n\r\n{INNER}",
                f'5;a="\r\n"\r\nhello\r\n0\r\n\r\n{INNER}',
                f"5\nhello\r\n0\r\n\r\n{INNER}",
                f"5\r\nhello0\r\n\r\n{INNER}",
                f"5\r\nhelloXX0\r\n\r\n{INNER}",
                f"5\r\nhello\n0\r\n\r\n{INNER}",
                f"0x5\r\nhello\r\n0\r\n\r\n{INNER}",
                f"+5\r\nhello\r\n0\r\n\r\n{INNER}",
                f"-5\r\nhello\r\n0\r\n\r\n{INNER}",
                f" 5\r\nhello\r\n0\r\n\r\n{INNER}",
                f"5_0\r\nhello\r\n0\r\n\r\n{INNER}",
                f"5 \x00\r\nhello\r\n0\r\n\r\n{INNER}",
                f"ffffffffffffffff5\r\nhello\r\n0\r\n\r\n{INNER}",
                f"10000000000000005\r\nhello\r\n0\r\n\r\n{INNER}",
                f"\r\nhello\r\n0\r\n\r\n{INNER}",
                f"g\r\nhello\r\n0\r\n\r\n{INNER}",
                f"5;{'x' * 20000}\r\nhello\r\n0\r\n\r\n{INNER}",
                f"5\r\nhello\r\n0\r\nX : y\r\n\r\n{INNER}",
                f"5\r\nhello\r\n0\r\nX: y\nZ: w\r\n\r\n{INNER}",
                f"5\r\nhello\r\n0\r\n: y\r\n\r\n{INNER}",
                f"5\r\nhello\r\n0\r\n x\r\n\r\n{INNER}",
            ]
        )
    },
    # Connection that takes away framing or identity
    "connection-host": get("Connection: host"),
    "connection-cl": post("Connection: content-length", "Content-Length: 5", body="hello" + INNER),
    "connection-te": post(
        "Connection: transfer-encoding", "Transfer-Encoding: chunked", body=CHUNKS
    ),
}
STATUSES = {400, 405, 411, 413, 414, 417, 421, 431, 501, 505}


@pytest.mark.parametrize("name", CASES)
def test_refused_over_h1(edge, blue, name):
    with edge.h1() as c:
        c.send(CASES[name])
        c.half_close()
        status, _ = c.response_head()
        assert status in STATUSES, status
        rest = c.rest()
    assert rest.count(b"HTTP/1.") == 0, "a second answer"
    assert MARK.encode() not in bytes(blue.received), bytes(blue.received)
    if not name.startswith("chunk"):
        assert not blue.seen, [s.raw for s in blue.seen]
    assert edge.get("/echo?mine").json["target"] == "/echo?mine"


IN_PIECES = ["cl-te", "te-0", "cl-3", "obs-fold", "host-0", "line-0", "chunk-0"]


@pytest.mark.parametrize("name", IN_PIECES)
def test_refused_whatever_the_pieces(edge, blue, name):
    """The same bytes one by one."""
    with edge.h1() as c:
        try:
            for byte in CASES[name].encode("latin-1")[:400]:
                c.send(bytes([byte]))
            c.half_close()
        except OSError:
            pass
        c.rest()
    assert MARK.encode() not in bytes(blue.received)


FINE = {
    # what must not be refused
    "equal-cl": post("Content-Length: 5\r\nContent-Length: 5", body="hello"),
    "cl-zeros": post("Content-Length: 0005", body="hello"),
    "te-case": post("Transfer-Encoding: Chunked", body="5\r\nhello\r\n0\r\n\r\n"),
    "chunk-ext": post("Transfer-Encoding: chunked", body="5;a=b;c\r\nhello\r\n0;d\r\n\r\n"),
    "chunk-zeros": post("Transfer-Encoding: chunked", body="0005\r\nhello\r\n00\r\n\r\n"),
    "chunk-hex": post("Transfer-Encoding: chunked", body="A\r\nhellohello\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", FINE)
def test_accepted_over_h1(edge, blue, name):
    """Equal duplicates may also be refused; chunk extensions are never passed on."""
    with edge.h1() as c:
        c.send(FINE[name])
        r = c.response()
        if name == "equal-cl" and r.status == 400:
            return
        assert r.status == 200
        assert c.get("/echo").status == 200
    assert b"a=b" not in bytes(blue.received)
    assert blue.seen[0].body in (b"hello", b"hellohello")


def test_a_get_that_carries_a_request_in_its_body_is_one_request(edge, blue):
    with edge.h1() as c:
        r = c.ask("GET", "/echo", [("Content-Length", str(len(INNER)))], INNER.encode())
        assert r.json["length"] == len(INNER)
        assert c.get("/echo?next").json["target"] == "/echo?next"
    assert blue.paths() == ["/echo", "/echo"]


def test_underscore_names_do_not_pass_for_the_real_ones(edge, blue):
    """Content_Length or X_Forwarded_For look like the real field to CGI-like backends."""
    with edge.h1() as c:
        r = c.get("/echo", [("Content_Length", "5"), ("X_Forwarded_For", "6.6.6.6")])
    if r.status == 200:
        text = blue.seen[-1].raw.decode("latin-1").lower()
        assert "content_length" not in text and "6.6.6.6" not in text
    else:
        assert r.status == 400


def test_percent_forms_are_passed_byte_for_byte(edge, blue):
    for path in ("/a/..%2fadmin", "/%2e%2e/x", "/a%00b", "//admin", "/admin;x", "/a/./b", "/%zz"):
        r = edge.get(path)
        assert r.status in (200, 400)
        if r.status == 200:
            assert blue.seen[-1].target == path


# --- HTTP/2 --------------------------------------------------------------------------------------
def extra(name, value, **more):
    return pseudo("/" + MARK, **more) + [(name, value)]


def without(name):
    return [f for f in pseudo("/" + MARK) if f[0] != name]


def changed(name, value):
    return [(n, value if n == name else v) for n, v in pseudo("/" + MARK)]


H2_CASES = {
    **{
        f"hop-{n}": extra(*field)
        for n, field in enumerate(
            [
                ("transfer-encoding", "chunked"),
                ("connection", "close"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("upgrade", "h2c"),
                ("te", "gzip"),
                ("te", "trailers, gzip"),
            ]
        )
    },
    **{
        f"field-{n}": extra(*field)
        for n, field in enumerate(
            [
                ("x", "a\r\nb: c"),
                ("x", "a\nb"),
                ("x", "a\rb"),
                ("x", "a\0b"),
                ("x\r\ny", "z"),
                ("x\0", "z"),
                ("x y", "z"),
                ("x:y", "z"),
                ("X-Upper", "z"),
                ("", "z"),
                ("x\xe4", "z"),
                ("x\x7f", "z"),
                (":unknown", "z"),
                (":status", "200"),
                (":path", "/again"),
                (":method", "GET"),
            ]
        )
    },
    **{f"missing-{n}": without(n) for n in (":method", ":scheme", ":path")},
    "no-authority-no-host": without(":authority"),
    "late-pseudo": pseudo("/" + MARK)[:3] + [("x", "y")] + pseudo("/" + MARK)[3:],
    **{
        f"path-{n}": changed(":path", value)
        for n, value in enumerate(
            ["", "smuggled", "/smug gled", "/smuggled\r\nX: y", "/smuggled#x", "/smug\xe4led", "*",
             "/smuggled HTTP/1.1\r\nHost: b.test\r\n\r\nGET /x", "http://a.test/smuggled", "/\0"]
        )
    },
    **{
        f"method-{n}": changed(":method", value)
        for n, value in enumerate(
            ["", "GE T", "GET\r\nX: y", "TRACE", "G(T",
             "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET"]
        )
    },
    **{
        f"scheme-{n}": changed(":scheme", value)
        for n, value in enumerate(["http://a.test/", "ht tp", "http\r\nX: y", ""])
    },
    **{
        f"authority-{n}": changed(":authority", value)
        for n, value in enumerate(
            ["u@a.test", "a.test/x", "a.test\r\nX: y", "a test", "a.test:80:80", "a.test?x", ""]
        )
    },
    "host-differs": extra("host", "b.test"),
    "two-hosts": extra("host", "a.test") + [("host", "a.test")],
    **{
        f"cl-{n}": extra("content-length", value)
        for n, value in enumerate(["5", "+0", "0,0", "-1", "0x0", "", "99999999999999999999"])
    },
    "two-cl": extra("content-length", "0") + [("content-length", "1")],
    "connect": [(":method", "CONNECT"), (":authority", "a.test:443")],
    "connect-udp": extra(":protocol", "connect-udp", method="CONNECT"),
    "protocol-on-get": pseudo("/" + MARK) + [(":protocol", "websocket")],
    "expect-unknown": extra("expect", "y 100-continue"),
}


@pytest.mark.parametrize("name", H2_CASES)
def test_refused_over_h2(edge, blue, name):
    with RawH2(edge.plain) as c:
        c.headers(1, H2_CASES[name])
        how, code = c.verdict(1)
        good = (how == "reset" and code in (1, 11)) or (how == "status" and code in STATUSES)
        # a value HPACK itself may refuse ends the connection
        assert good or (how == "goaway" and code in (1, 9)), (how, code)
    assert MARK.encode() not in bytes(blue.received)
    assert not blue.seen
    assert edge.get("/echo?mine").json["target"] == "/echo?mine"


@pytest.mark.parametrize("length, sent, end", [(10, 5, True), (5, 10, True), (5, 10, False)])
def test_content_length_that_does_not_match_over_h2(edge, blue, length, sent, end):
    with RawH2(edge.plain) as c:
        fields = pseudo("/up", "POST") + [("content-length", str(length))]
        head = frame(HEADERS, END_HEADERS, 1, literal(fields))
        c.send(head + frame(0, END_STREAM if end else 0, 1, b"x" * sent))
        how, code = c.verdict(1)
        assert (how, code) in (("reset", 1), ("status", 400)), (how, code)
    assert not [s for s in blue.find("/up") if s.complete]
    assert edge.get("/echo?mine").json["target"] == "/echo?mine"


def test_declared_more_than_delivered_then_reset(edge, blue):
    """The half request's backend connection is closed, never used again."""
    with edge.h2() as c:
        stream = c.begin("POST", "/up", [("content-length", "1000")], end=False)
        c.data(stream, b"x" * 10)
        c.reset_stream(stream)
        for n in range(5):
            assert c.get(f"/echo?{n}").json["target"] == f"/echo?{n}"
    assert not [s for s in blue.find("/up") if s.complete]


def test_body_that_looks_like_a_request(edge, blue):
    with edge.h2() as c:
        assert c.ask("POST", "/echo", body=INNER.encode()).json["length"] == len(INNER)
        assert c.ask("GET", "/echo", body=INNER.encode()).json["length"] == len(INNER)
    assert blue.paths() == ["/echo", "/echo"]


def test_body_that_looks_like_frames_to_an_h2_backend(edge, h2_origin):
    inner = frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(pseudo("/" + MARK)))
    with edge.h2(host="h2.b.test") as c:
        assert c.ask("POST", "/echo", body=inner * 100).json["length"] == len(inner) * 100
    assert h2_origin.paths() == ["/echo"]


def test_trailers_with_pseudo_fields(edge, blue):
    with RawH2(edge.plain) as c:
        c.headers(1, pseudo("/up", "POST"), END_HEADERS)
        c.send(frame(0, 0, 1, b"x"))
        c.headers(1, [(":path", "/" + MARK)])
        how, code = c.verdict(1)
        assert how in ("reset", "goaway") or code == 400, (how, code)
    assert not [s for s in blue.find("/up") if s.complete]


def test_continuation_flood(edge, blue):
    with RawH2(edge.plain) as c:
        try:
            c.send(frame(HEADERS, END_STREAM, 1, literal(pseudo("/" + MARK))))
            for n in range(2000):
                c.send(frame(CONTINUATION, 0, 1, literal([(f"x-{n}", "y" * 1000)])))
        except OSError:
            pass
        assert c.verdict(1)[0] in ("goaway", "closed", "status", "reset")
    assert not blue.seen
    assert edge.alive()


def test_header_of_64k_to_an_h2_backend(edge, h2_origin):
    with edge.h2(host="h2.b.test") as c:
        fields = [(f"x-{n}", "y" * 1000) for n in range(64)]
        assert c.get("/echo", fields).status == 431
        assert c.get("/echo").status == 200
    assert h2_origin.paths() == ["/echo"]
