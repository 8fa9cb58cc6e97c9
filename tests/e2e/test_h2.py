"""HTTP/2 from clients and to backends."""
import subprocess

import pytest

from harness import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    H2,
    HEADERS,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Closed,
    RawH2,
    curl,
    frame,
    literal,
    pseudo,
    wait_for,
)


def test_get(edge):
    with edge.h2() as c:
        r = c.get("/echo?x=1")
        assert r.status == 200
        assert r.json["target"] == "/echo?x=1"
        assert r.json["protocol"] == "HTTP/1.1"


def test_prior_knowledge_on_the_clear_text_port(edge):
    with edge.h2(tls=False) as c:
        assert c.get("/echo").status == 200


def test_both_versions_on_one_clear_text_port(edge):
    with edge.h2(tls=False) as two, edge.h1() as one:
        assert two.get("/echo").status == one.get("/echo").status == 200


def test_response_fields_are_lower_case(edge):
    with edge.h2() as c:
        r = c.get("/tweak?header=X-UPPER:Yes")
        assert ("x-upper", "Yes") in r.headers
        assert not [n for n, _ in r.headers if n != n.lower()]


def test_post(edge):
    with edge.h2() as c:
        assert c.ask("POST", "/echo", body=b"x" * 300000).json["length"] == 300000


def test_many_streams_at_once(edge):
    with edge.h2() as c:
        streams = [c.begin("GET", f"/echo?{n}") for n in range(80)]
        for n, stream in enumerate(streams):
            assert c.response(stream).json["target"] == f"/echo?{n}"


def test_a_slow_stream_holds_up_no_other(edge, blue, loop):
    with edge.h2() as c:
        slow = c.begin("GET", "/tweak?gate=h2slow&text=late")
        assert c.get("/echo").status == 200
        loop.call(blue.open, "h2slow")
        assert c.response(slow).text == "late"


def test_reset_cancels_at_the_backend(edge, blue):
    with edge.h2() as c:
        stream = c.begin("GET", "/tweak?hang=1")
        wait_for(lambda: blue.find("/tweak"), "the request")
        c.reset_stream(stream, CANCEL)
        wait_for(lambda: blue.find("/tweak")[0].gone, "the cancellation")
        assert c.get("/echo").status == 200


def test_cookie_crumbs_are_joined(edge):
    with edge.h2() as c:
        r = c.get("/echo", [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")])
        cookies = [v for n, v in r.json["headers"] if n.lower() == "cookie"]
        assert cookies == ["a=1; b=2; c=3"]


def test_authority_becomes_host(edge, blue):
    with edge.h2() as c:
        c.get("/echo")
        assert blue.seen[-1].values("host") == ["a.test"]


def test_equal_host_is_allowed(edge, blue):
    with edge.h2() as c:
        assert c.get("/echo", [("host", "a.test")]).status == 200
        assert blue.seen[-1].values("host") == ["a.test"]


def test_host_without_authority(edge, blue):
    with edge.h2() as c:
        fields = [(":method", "GET"), (":scheme", "https"), (":path", "/echo"), ("host", "a.test")]
        assert c.response(c.begin_raw(fields)).status == 200
        assert blue.seen[-1].values("host") == ["a.test"]


def test_more_streams_than_allowed_are_refused(edge):
    with RawH2(edge.plain) as c:
        for n in range(101):
            c.headers(2 * n + 1, pseudo("/tweak?delay=1s"))
        kind = [(k, s) for k, _, s, p in [c.until_frame(RST_STREAM)] if p[3] == REFUSED_STREAM]
        assert kind == [(RST_STREAM, 201)]


def test_ping_is_answered(edge):
    with edge.h2() as c:
        c.h2.ping(b"12345678")
        c.flush()
        c.until(lambda: c.pings == 1)


def test_flow_control_is_kept(edge):
    """No credit for the stream: only the first window comes."""
    with edge.h2() as c:
        c.manual_window = True
        stream = c.begin("GET", "/bytes/1m")
        c.until(lambda: c.streams[stream].received == 65535)
        c.h2.increment_flow_control_window(1 << 20)
        c.h2.increment_flow_control_window(1 << 20, stream)
        c.flush()
        assert len(c.response(stream).body) == 1 << 20


def test_a_stream_without_credit_holds_up_no_other(edge):
    with edge.h2() as c:
        c.h2.increment_flow_control_window(1 << 24)
        c.manual_window = True
        stuck = c.begin("GET", "/bytes/4m")
        c.until(lambda: c.streams[stuck].received == 65535)
        assert c.get("/echo").status == 200
        c.reset_stream(stuck)
        assert c.get("/echo").status == 200


@pytest.mark.parametrize(
    "bad, code",
    [
        (frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL_ERROR),
        (frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
        (frame(0, 0, 0, b"x"), PROTOCOL_ERROR),
        (frame(HEADERS, END_STREAM | END_HEADERS, 2, literal(pseudo())), PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR),
        (frame(9, END_HEADERS, 1, b""), PROTOCOL_ERROR),
        (frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
    ],
)
def test_connection_errors(edge, blue, bad, code):
    with RawH2(edge.plain) as c:
        c.send(bad)
        while True:
            kind, _, _, payload = c.read_frame()
            if kind == GOAWAY and payload[4:8] != b"\0" * 4:
                break
        assert int.from_bytes(payload[4:8], "big") == code
    assert not blue.seen


def test_data_after_the_end_is_a_stream_error(edge):
    with RawH2(edge.plain) as c:
        c.headers(1, pseudo("/tweak?delay=500ms"))
        c.send(frame(0, 0, 1, b"late"))
        how, code = c.verdict(1)
        assert (how, code) in (("reset", STREAM_CLOSED), ("goaway", STREAM_CLOSED))


def test_bad_preface(edge, blue):
    with edge.h1() as c:
        c.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
        c.rest()
    assert not blue.seen


def test_h2_backend(edge, h2_origin):
    with edge.h2(host="h2.b.test") as c:
        r = c.ask("POST", "/echo", body=b"x" * 200000)
        assert r.json["protocol"] == "HTTP/2"
        assert r.json["length"] == 200000
        fields = dict(r.json["headers"])
        assert fields[":authority"] == "h2.b.test"
        assert "host" not in fields and "connection" not in fields


def test_h2_backend_from_h1(edge):
    with edge.h1(host="h2.b.test") as c:
        for n in range(10):
            assert c.get(f"/echo?{n}").json["protocol"] == "HTTP/2"
        assert c.ask("POST", "/echo", body=b"y" * 70000).json["length"] == 70000


def test_h2_backend_multiplexes(edge, h2_origin):
    with edge.h2(host="h2.b.test") as c:
        c.get("/echo")
        before = h2_origin.accepted
        for stream in [c.begin("GET", "/tweak?delay=20ms&text=x") for _ in range(50)]:
            assert c.response(stream).status == 200
    assert h2_origin.accepted - before <= 1


def test_h2_backend_reset_is_passed_on(edge):
    with edge.h2(host="h2.b.test") as c:
        r = c.get("/tweak?body=100000&after=50000&reset=1")
        assert r.status in (200, None) and r.reset is not None and not r.complete


def test_cancellation_reaches_an_h2_backend(edge, h2_origin):
    with edge.h2(host="h2.b.test") as c:
        stream = c.begin("GET", "/tweak?hang=1")
        wait_for(lambda: h2_origin.find("/tweak"), "the request")
        c.reset_stream(stream)
        wait_for(lambda: h2_origin.find("/tweak")[0].gone, "the cancellation")
    with edge.h2(host="h2.b.test") as c:
        assert c.get("/echo").status == 200


def test_goaway_from_a_backend_that_had_not_begun(edge, h2_origin):
    """A GOAWAY below the stream: provably not processed, so even a POST is tried again."""
    with edge.h2(host="h2.b.test") as c:
        path = "/tweak?goaway=1&times=1&key=goaway1"
        assert c.ask("POST", path, body=b"x").text == "at last\n"


def test_h2_tls_backend(make_edge, make_origin, certificates):
    origin = make_origin(h2=True, ssl=certificates.server_context(alpn=["h2"]))
    pool = {"protocol": "h2", "tls": {"ca": str(certificates.ca), "server_name": "backend.test"}}
    teal = make_edge(origin, more={"blue": pool})
    with teal.h2() as c:
        assert c.get("/echo").json["protocol"] == "HTTP/2"


def test_nghttpd_as_backend(make_edge, nghttpd):
    (nghttpd.www / "file").write_bytes(b"q" * 500000)
    teal = make_edge(nghttpd, more={"blue": {"protocol": "h2"}})
    with teal.h2() as c:
        assert c.get("/file").body == b"q" * 500000
        assert c.get("/none").status == 404
        assert c.ask("POST", "/upload", body=b"w" * 200000).body == b"w" * 200000


def test_curl(edge, certificates):
    url = f"https://a.test:{edge.tls}/echo"
    common = ["--cacert", certificates.ca, "--resolve", f"a.test:{edge.tls}:127.0.0.1"]
    for option, version in (("--http2", b"2"), ("--http1.1", b"1.1")):
        out = curl(*common, option, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", url)
        assert out.stdout == version + b" 200"


def test_nghttp(edge):
    command = ["nghttp", "-v", "--no-verify-peer", "-H", ":authority: a.test"]
    run = subprocess.run(
        [*command, f"https://127.0.0.1:{edge.tls}/bytes/100k"], capture_output=True, check=True
    )
    assert b":status: 200" in run.stdout


def test_h2load(edge):
    command = ["h2load", "-n", "2000", "-c", "10", "-m", "20", "-H", ":authority: a.test"]
    run = subprocess.run(
        [*command, f"https://127.0.0.1:{edge.tls}/"], capture_output=True, text=True, check=True
    )
    assert "2000 succeeded, 0 failed, 0 errored" in run.stdout
    assert "status codes: 2000 2xx" in run.stdout


def test_idle_stream_frames_after_close_are_ignored(edge):
    """WINDOW_UPDATE and RST_STREAM for a closed stream are no error (RFC 9113 5.1)."""
    with RawH2(edge.plain) as c:
        c.headers(1, pseudo("/"))
        assert c.verdict(1) == ("status", 200)
        c.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") + frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
        c.headers(3, pseudo("/"))
        assert c.verdict(3) == ("status", 200)


def test_connection_survives_a_refused_request(edge):
    with edge.h2() as c:
        r = c.response(c.begin_raw(c.pseudo("GET", "/x") + [("connection", "close")]))
        assert r.reset == PROTOCOL_ERROR or r.status == 400
        assert c.get("/echo").status == 200


def test_server_closes_an_h2_connection_with_a_goaway(edge):
    """A client that says GOAWAY and leaves is no error."""
    c = H2(edge.tls)
    c.get("/echo")
    c.h2.close_connection()
    c.flush()
    with pytest.raises(Closed):
        while True:
            c.pump()
