"""The PROXY protocol, versions 1 and 2, from those who may speak it."""
import socket
import struct

import pytest

from conftest import service
from harness import H1, H2, Teal
from origin import Origin

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command=1, family=0x11, payload=b""):
    return V2 + bytes([0x20 | command, family]) + struct.pack(">H", len(payload)) + payload


def v2_tcp4(source="203.0.113.9", tlv=b""):
    both = socket.inet_aton(source) + socket.inet_aton("192.0.2.1")
    return v2(payload=both + struct.pack(">HH", 4711, 443) + tlv)


def v2_tcp6(source="2001:db8::9"):
    both = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "::1")
    return v2(family=0x21, payload=both + struct.pack(">HH", 4711, 443))


@pytest.fixture(scope="module")
def proxied(loop, certificates):
    origin = loop.run(Origin().start())
    trusted = {"proxy_protocol": True, "proxy_protocol_from": ["127.0.0.0/8"]}
    strangers = {"proxy_protocol": True, "proxy_protocol_from": ["10.0.0.0/8"]}
    teal = Teal(
        {
            "listen": [trusted, {**trusted, "tls": {}}, strangers, {}],
            "services": [service(origin)],
            "timeouts": {"tls_handshake": "300ms", "header": "300ms"},
        },
        certificates,
    )
    teal.origin = origin
    yield teal
    teal.stop()
    loop.run(origin.stop())


def client_of(r):
    return [v for n, v in r.json["headers"] if n.lower() == "x-forwarded-for"]


def ask(teal, header, **kwargs):
    with H1(teal.plain, before=header, **kwargs) as c:
        return c.get("/echo")


@pytest.mark.parametrize(
    "header, client",
    [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n", "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"),
        (v2_tcp4(), "203.0.113.9"),
        (v2_tcp6(), "2001:db8::9"),
        (v2_tcp4(tlv=b"\x02\0\x05hello" + b"\x04\0\x10" + b"\0" * 16), "203.0.113.9"),
        (v2(command=0), "127.0.0.1"),  # LOCAL
        (v2(command=0, family=0), "127.0.0.1"),
    ],
)
def test_client_address(proxied, header, client):
    r = ask(proxied, header)
    assert r.status == 200
    assert client_of(r) == [client]


def test_the_log_has_the_real_client(proxied):
    with H1(proxied.plain, before=b"PROXY TCP4 203.0.113.77 192.0.2.1 1 2\r\n") as c:
        c.get("/logged")
    assert "203.0.113.77" in proxied.line("/logged")["client"]


def test_header_in_pieces(proxied):
    with H1(proxied.plain) as c:
        for byte in v2_tcp4():
            c.send(bytes([byte]))
        assert client_of(c.get("/echo")) == ["203.0.113.9"]


def test_header_and_request_in_one_write(proxied):
    with H1(proxied.plain) as c:
        c.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n" + c.head("GET", "/echo"))
        assert client_of(c.response()) == ["203.0.113.7"]


def test_before_tls(proxied):
    with H1(proxied.tls, tls=True, before=v2_tcp4()) as c:
        assert client_of(c.get("/echo")) == ["203.0.113.9"]
    with H2(proxied.tls, before=v2_tcp6()) as c:
        assert client_of(c.get("/echo")) == ["2001:db8::9"]


def test_before_h2c(proxied):
    with H2(proxied.plain, tls=False, before=v2_tcp4()) as c:
        assert client_of(c.get("/echo")) == ["203.0.113.9"]


@pytest.mark.parametrize(
    "header",
    [
        b"",  # no header at all
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443 9\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.700 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 99999\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 443\r\n",
        b"PROXY TCP9 203.0.113.7 192.0.2.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\n",
        b"proxy TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
        b"PROXY " + b"x" * 200 + b"\r\n",
        V2 + b"\x31\x11\0\x0c" + b"\0" * 12,  # version 3
        V2 + b"\x22\x11\0\x0c" + b"\0" * 12,  # unknown command
        V2 + b"\x21\x11\0\x04" + b"\0" * 4,  # too short for two addresses
    ],
)
def test_garbage_is_closed_without_an_answer(proxied, header):
    before = len(proxied.origin.seen)
    with H1(proxied.plain, before=header) as c:
        try:
            c.request("GET", "/never")
        except OSError:
            pass
        assert c.rest() == b""
    assert "/never" not in [s.path for s in proxied.origin.seen[before:]]


def test_from_a_stranger(proxied):
    with H1(proxied.port(2), before=v2_tcp4()) as c:
        try:
            c.request("GET", "/never")
        except OSError:
            pass
        assert c.rest() == b""
    assert "/never" not in proxied.origin.paths()


def test_not_spoken_where_not_switched_on(proxied):
    with H1(proxied.port(3), before=b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n") as c:
        c.request("GET", "/never")
        assert b" 400 " in c.rest()
    assert "/never" not in proxied.origin.paths()


def test_silence_is_closed(proxied):
    with H1(proxied.plain) as c:
        assert c.closed()
    with H1(proxied.plain) as c:
        c.send(b"PROXY TCP4 203")
        assert c.closed()
