"""Which service: host (exact, wildcard, any), longest path prefix on segment borders."""
import pytest

from harness import Teal
from origin import Origin

ROUTES = {
    "exact": (["a.test"], ["/"]),
    "exact-api": (["a.test"], ["/api"]),
    "exact-api-v2": (["a.test"], ["/api/v2"]),
    "wild": (["*.b.test"], ["/"]),
    "deep": (["x.b.test"], ["/only"]),
    "two": (["c.test", "d.test"], ["/one", "/two/"]),
}


@pytest.fixture(scope="module")
def routed(loop, certificates):
    origins = {name: loop.run(Origin(name).start()) for name in ROUTES}
    services = [
        {"name": n, "hosts": h, "paths": p, "blue": {"backends": [origins[n].address]}}
        for n, (h, p) in ROUTES.items()
    ]
    teal = Teal({"services": services}, certificates)
    teal.origins = origins
    yield teal
    teal.stop()
    for origin in origins.values():
        loop.run(origin.stop())


@pytest.mark.parametrize(
    "host, path, name",
    [
        ("a.test", "/", "exact"),
        ("A.TEST", "/", "exact"),
        ("a.test:8080", "/", "exact"),
        ("a.test", "/api", "exact-api"),
        ("a.test", "/api/", "exact-api"),
        ("a.test", "/api?x", "exact-api"),
        ("a.test", "/apis", "exact"),
        ("a.test", "/API", "exact"),
        ("a.test", "/api/v1", "exact-api"),
        ("a.test", "/api/v2", "exact-api-v2"),
        ("a.test", "/api/v2/x/y", "exact-api-v2"),
        ("a.test", "/api/v22", "exact-api"),
        ("y.b.test", "/", "wild"),
        ("x.b.test", "/only/this", "deep"),
        ("c.test", "/one", "two"),
        ("d.test", "/two/x", "two"),
        # bytes as they are: nothing is decoded or merged
        ("a.test", "/%61pi/v1", "exact"),
        ("a.test", "//api/v1", "exact"),
        ("a.test", "/api/../x", "exact-api"),
    ],
)
@pytest.mark.parametrize("version", ["h1", "h2"])
def test_route(routed, version, host, path, name):
    with routed.h1(host=host) if version == "h1" else routed.h2(tls=False, host=host) as c:
        r = c.get(path)
        assert (r.status, r.origin) == (200, name)
    assert routed.origins[name].seen[-1].target == path


@pytest.mark.parametrize(
    "host, path, status",
    [
        ("c.test", "/", 404),
        ("c.test", "/on", 404),
        ("nobody.test", "/", 421),
        ("b.test", "/", 421),
        ("a.test.evil", "/", 421),
        ("evil-a.test", "/", 421),
        ("127.0.0.1", "/", 421),
    ],
)
def test_no_route(routed, host, path, status):
    r = routed.get(path, host=host)
    assert r.status == status
    assert "request id: " in r.text


def test_unknown_host_as_404(make_teal, make_origin):
    service = {"name": "web", "hosts": ["a.test"], "blue": {"backends": [make_origin().address]}}
    teal = make_teal({"services": [service], "unknown_host": 404})
    assert teal.get("/", host="b.test").status == 404
    assert teal.line("/")["outcome"] == "no-route"


def test_any_host(edge):
    for host in ("nobody.test", "127.0.0.1", "[::1]:80"):
        assert edge.get("/echo", host=host).status == 200


def test_host_is_passed_on(edge, blue):
    edge.get("/echo", host="Some.Host:81")
    assert blue.seen[-1].header("host").lower() == "some.host:81"
