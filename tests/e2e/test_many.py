"""Many at once."""
import resource
import subprocess

import pytest

from conftest import service
from harness import SANITIZED, TEAL, H1, Closed, config_text, wait_for


@pytest.mark.seconds(240)
def test_1000_concurrent_streams(make_edge, make_origin, loop):
    origin = make_origin()
    teal = make_edge(origin)
    clients = [teal.h2() for _ in range(10)]
    streams = []
    for c in clients:
        c.get("/")
        streams += [(c, c.begin("GET", "/tweak?gate=many&body=1k")) for _ in range(100)]
    wait_for(lambda: len(origin.find("/tweak")) == 1000, "1,000 requests", 60)
    assert teal.service()["colors"]["blue"]["inflight"] == 1000
    loop.call(origin.open, "many")
    for c, stream in streams:
        r = c.response(stream)
        assert r.status == 200 and len(r.body) == 1024
    for c in clients:
        c.close()


@pytest.mark.seconds(240)
def test_1000_concurrent_streams_to_an_h2_backend(make_edge, make_origin, loop):
    origin = make_origin(h2=True)
    teal = make_edge(origin, more={"blue": {"protocol": "h2"}})
    clients = [teal.h2() for _ in range(10)]
    streams = []
    for c in clients:
        streams += [(c, c.begin("GET", "/tweak?gate=many&body=1k")) for _ in range(100)]
    wait_for(lambda: len(origin.find("/tweak")) == 1000, "1,000 requests", 60)
    loop.call(origin.open, "many")
    for c, stream in streams:
        assert len(c.response(stream).body) == 1024
    for c in clients:
        c.close()


@pytest.mark.seconds(240)
def test_idle_tls_connections(make_edge, make_origin, certificates):
    """As many as the limit of file descriptors allows, 2,000 at most; then all of them work."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    n = min(500 if SANITIZED else 2000, (limit - 500) // 2)
    teal = make_edge(make_origin(), timeouts={"idle": "10m", "header": "10m"})
    context = certificates.client_context(["http/1.1"])
    with H1(teal.tls, tls=True, context=context) as c:
        c.get("/")
        session = c.sock.session
    held = [H1(teal.tls, tls=True, context=context, session=session) for _ in range(n)]

    def connections():
        text = teal.admin("GET", "/metrics")[1]
        rows = [x for x in text.splitlines() if x.startswith("teal_connections{")]
        return sum(float(x.rsplit(" ", 1)[1]) for x in rows)

    wait_for(lambda: connections() >= n, f"{n} connections")
    for c in held[:: max(1, n // 200)]:
        assert c.get("/").status == 200
    cpu = teal.cpu()
    for c in held:
        c.close()
    wait_for(lambda: connections() < 5, "all to be gone")
    assert teal.cpu() - cpu < 10


def test_more_clients_than_descriptors(make_teal, make_origin, loop):
    """Who is let in is served, the rest turned away at once; the admin socket answers, and it passes."""
    origin = make_origin()
    teal = make_teal({"services": [service(origin)]}, start=False)
    teal.file.write_text(config_text(teal.config))
    teal.spawn(["prlimit", "--nofile=200:200", str(TEAL), "-c", str(teal.file)])
    wait_for(teal.ready, "teal to be ready")
    clients = [teal.h1() for _ in range(300)]
    answers = []
    for c in clients:
        try:
            c.request("GET", "/tweak?gate=full")
        except OSError:
            pass
    wait_for(lambda: len(origin.find("/tweak")) >= 40, "40 requests")
    assert teal.admin("GET", "/v1/status")[0] == 200
    loop.call(origin.open, "full")
    for c in clients:
        try:
            answers.append(c.response().status)
        except (Closed, OSError):
            pass
        c.close()
    assert set(answers) == {200} and len(answers) >= 40

    def again():
        try:
            return teal.get("/x").status == 200
        except (Closed, OSError):
            return False

    wait_for(again, "new clients to be served")
    assert teal.service()["colors"]["blue"]["failures"] == 0


@pytest.mark.seconds(240)
def test_h2load_over_all_paths(make_edge, nginx, nghttpd):
    (nginx.www / "k").write_bytes(b"k" * 1024)
    (nghttpd.www / "k").write_bytes(b"k" * 1024)
    for backend, protocol in ((nginx, "http/1.1"), (nghttpd, "h2")):
        teal = make_edge(backend, more={"blue": {"protocol": protocol}})
        for options in (["-p", "h2c"], ["--h1"]):
            command = ["h2load", "-n", "10000", "-c", "20", "-m", "20", *options]
            command.append(f"http://127.0.0.1:{teal.plain}/k")
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            assert "10000 succeeded, 0 failed" in run.stdout, run.stdout
            assert "status codes: 10000 2xx" in run.stdout, run.stdout


def test_memory_stays_where_it_is(make_edge, nginx):
    """After a warm-up, as many requests again leave no trace."""
    (nginx.www / "k").write_bytes(b"k" * 1024)
    teal = make_edge(nginx)

    def load():
        command = ["h2load", "-n", "20000", "-c", "10", "-m", "10"]
        url = f"https://127.0.0.1:{teal.tls}/k"
        run = subprocess.run(
            [*command, "-H", ":authority: a.test", url], capture_output=True, text=True, check=True
        )
        assert "20000 succeeded" in run.stdout, run.stdout

    for _ in range(3):
        load()
    before = teal.rss()
    load()
    assert teal.rss() - before < (64 << 20 if SANITIZED else 1 << 20)
