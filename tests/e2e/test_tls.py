"""TLS from clients and to backends."""
import re
import socket
import ssl
import subprocess

import pytest

from harness import DEADLINE, H1, H2, wait_for


def handshake(port, certificates, host="a.test", alpn=("h2", "http/1.1"), version=None):
    context = certificates.client_context(list(alpn))
    if version:
        context.minimum_version = context.maximum_version = version
    raw = socket.create_connection(("127.0.0.1", port), DEADLINE)
    return context.wrap_socket(raw, server_hostname=host)


@pytest.mark.parametrize(
    "offer, chosen",
    [
        (["h2", "http/1.1"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["http/1.1", "h2"], "h2"),
        ([], None),
    ],
)
def test_alpn(edge, certificates, offer, chosen):
    with handshake(edge.tls, certificates, alpn=offer) as s:
        assert s.selected_alpn_protocol() == chosen


def test_alpn_with_nothing_in_common(edge, certificates):
    """RFC 7301 3.2: no_application_protocol."""
    with pytest.raises(ssl.SSLError):
        handshake(edge.tls, certificates, alpn=["spdy/3"]).close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(edge, certificates, version):
    with handshake(edge.tls, certificates, version=version) as s:
        assert s.version() == version.name.replace("_", ".")


def test_old_versions_are_refused(edge):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.tls}", "-tls1_1"]
    command += ["-cipher", "DEFAULT@SECLEVEL=0"]
    run = subprocess.run(command, input=b"", capture_output=True, timeout=DEADLINE, check=False)
    assert run.returncode != 0


def test_minimum_1_3(make_edge, make_origin, certificates):
    teal = make_edge(make_origin(), listen=[{}, {"tls": {"min_version": "1.3"}}])
    handshake(teal.tls, certificates, version=ssl.TLSVersion.TLSv1_3).close()
    with pytest.raises(ssl.SSLError):
        handshake(teal.tls, certificates, version=ssl.TLSVersion.TLSv1_2).close()


def test_http2_switched_off(make_edge, make_origin, certificates):
    teal = make_edge(make_origin(), listen=[{}, {"tls": {"http2": False}}])
    with handshake(teal.tls, certificates) as s:
        assert s.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    "name, names",
    [
        ("a.test", ["a.test"]),
        ("www.a.test", ["a.test"]),
        ("x.b.test", ["*.b.test"]),
        ("c.test", ["c.test"]),
        ("C.TEST", ["c.test"]),
    ],
)
def test_certificate_by_sni(edge, certificates, name, names):
    with handshake(edge.tls, certificates, host=name) as s:
        alternatives = [v for _, v in s.getpeercert()["subjectAltName"]]
        assert names[0] in alternatives


def test_unknown_sni_gets_the_first_certificate(edge, certificates):
    context = certificates.client_context(verify=False)
    raw = socket.create_connection(("127.0.0.1", edge.tls), DEADLINE)
    with context.wrap_socket(raw, server_hostname="unknown.test") as s:
        assert b"www.a.test" in s.getpeercert(binary_form=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_on_every_worker(make_edge, make_origin, certificates, version):
    """Tickets of one worker are good on all; the kernel spreads the connections."""
    teal = make_edge(make_origin(), workers=4)
    context = certificates.client_context(["http/1.1"])
    context.minimum_version = context.maximum_version = version
    with H1(teal.tls, tls=True, context=context) as c:
        c.get("/")
        session = c.sock.session
    resumed = 0
    for _ in range(20):
        with H1(teal.tls, tls=True, context=context, session=session) as c:
            assert c.get("/").status == 200
            resumed += c.sock.session_reused
            session = c.sock.session
    assert resumed == 20


def test_tickets_switched_off(make_edge, make_origin, certificates):
    teal = make_edge(make_origin(), listen=[{}, {"tls": {"session_tickets": False}}])
    context = certificates.client_context(["http/1.1"])
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    with H1(teal.tls, tls=True, context=context) as c:
        assert c.get("/").status == 200
        session = c.sock.session
    assert session is None or not session.has_ticket


def test_redirect_to_https(make_edge, make_origin):
    origin = make_origin()
    redirect = {"redirect_to_https": True}
    listen = [redirect, {**redirect, "redirect_port": 8443}, {"tls": {}}]
    teal = make_edge(origin, listen=listen)
    r = teal.get("/a/b?c=d%20e", port=teal.port(0))
    assert r.status == 308
    assert r.header("location") == "https://a.test/a/b?c=d%20e"
    assert teal.get("/x", port=teal.port(1)).header("location") == "https://a.test:8443/x"
    r = teal.get("/x", port=teal.port(0), host="a.test:8080")
    assert r.header("location") == "https://a.test/x"
    assert not origin.seen


def test_redirect_over_h2c(make_edge, make_origin):
    teal = make_edge(make_origin(), listen=[{"redirect_to_https": True}])
    with teal.h2(tls=False) as c:
        r = c.get("/a")
        assert r.status == 308 and r.header("location") == "https://a.test/a"


def test_authority_the_certificate_does_not_cover(edge, blue):
    with edge.h2(host="a.test") as c:
        r = c.get("/echo", host="c.test")
        assert r.status == 421
        assert not blue.seen
        assert c.get("/echo", host="www.a.test").status == 200


def test_coalescing_on_a_wildcard(edge):
    with edge.h2(host="x.b.test") as c:
        assert c.get("/echo", host="y.b.test").status == 200
        assert c.get("/echo", host="y.z.b.test").status == 421


def test_421_over_http1(edge, blue):
    with edge.h1(tls=True) as c:
        assert c.get("/echo", [("Host", "c.test")]).status == 421
    assert not blue.seen


def test_handshake_timeout(make_edge, make_origin):
    teal = make_edge(make_origin(), timeouts={"tls_handshake": "200ms"})
    with socket.create_connection(("127.0.0.1", teal.tls), DEADLINE) as s:
        s.settimeout(DEADLINE)
        assert s.recv(100) == b""
    with socket.create_connection(("127.0.0.1", teal.tls), DEADLINE) as s:
        s.settimeout(DEADLINE)
        s.sendall(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello that never ends
        while s.recv(100):
            pass


def test_clear_text_on_the_tls_port(edge, blue):
    with H1(edge.tls) as c:
        c.request()
        c.rest()
    assert not blue.seen
    assert edge.get("/", tls=True).status == 200


def test_no_renegotiation(edge):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.tls}", "-tls1_2"]
    run = subprocess.run(command, input=b"R\n", capture_output=True, timeout=DEADLINE, check=False)
    assert b"no renegotiation" in run.stderr or run.returncode != 0


def test_handshakes_are_counted(edge, certificates):
    def handshakes():
        text = edge.admin("GET", "/metrics")[1]
        rows = re.findall(r"^teal_tls_handshakes_total\{.*\} (\S+)", text, re.M)
        return sum(float(x) for x in rows)

    before = handshakes()
    handshake(edge.tls, certificates).close()
    wait_for(lambda: handshakes() > before, "the counter")


# --- to backends ---------------------------------------------------------------------------------
def tls_pool(certificates, **more):
    return {"blue": {"tls": {"ca": str(certificates.ca), **more}}}


def test_backend_verified(make_edge, make_origin, certificates):
    origin = make_origin(ssl=certificates.server_context())
    teal = make_edge(origin, more=tls_pool(certificates, server_name="backend.test"))
    with teal.h1() as c:
        for _ in range(5):
            assert c.get("/echo").status == 200
    assert origin.accepted == 1


def test_backend_verified_by_address(make_edge, make_origin, certificates):
    origin = make_origin(ssl=certificates.server_context())
    teal = make_edge(origin, more=tls_pool(certificates))
    assert teal.get("/echo").status == 200


def test_backend_with_the_wrong_name(make_edge, make_origin, certificates):
    origin = make_origin(ssl=certificates.server_context())
    teal = make_edge(origin, more=tls_pool(certificates, server_name="other.test"))
    assert teal.get("/echo").status == 502
    assert teal.line("/echo")["outcome"] == "backend-tls-failed"
    assert not origin.seen


def test_backend_signed_by_nobody_we_trust(make_edge, make_origin, certificates):
    origin = make_origin(ssl=certificates.server_context())
    teal = make_edge(origin, more={"blue": {"tls": {"server_name": "backend.test"}}})
    assert teal.get("/echo").status == 502
    assert not origin.seen


def test_backend_not_verified_when_told_so(make_edge, make_origin, certificates):
    origin = make_origin(ssl=certificates.server_context())
    teal = make_edge(origin, more={"blue": {"tls": {"verify": False}}})
    assert teal.get("/echo").status == 200


def test_backend_that_speaks_clear_text(make_edge, make_origin, certificates):
    """Plain bytes before the handshake are never taken for an answer (nginx, CVE-2026-1642)."""
    origin = make_origin()
    origin.greeting = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected"
    teal = make_edge(origin, more=tls_pool(certificates))
    r = teal.get("/echo")
    assert r.status == 502 and "injected" not in r.text
    assert not origin.seen


def test_backend_asks_for_a_client_certificate(make_edge, make_origin, certificates):
    context = certificates.server_context()
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    origin = make_origin(ssl=context)
    pair = certificates.pair("a")
    more = tls_pool(certificates, certificate=pair["chain"], key=pair["key"])
    assert make_edge(origin, more=more).get("/echo").status == 200
    assert make_edge(origin, more=tls_pool(certificates)).get("/echo").status in (502, 503)


def test_large_transfers_over_tls_on_both_sides(make_edge, make_origin, certificates):
    origin = make_origin(ssl=certificates.server_context())
    teal = make_edge(origin, more=tls_pool(certificates))
    with teal.h1(tls=True) as c:
        assert len(c.get("/bytes/4m").body) == 4 << 20
        assert c.ask("POST", "/upload", body=b"x" * (4 << 20)).json["length"] == 4 << 20
    with H2(teal.tls) as c:
        assert len(c.get("/bytes/4m").body) == 4 << 20
