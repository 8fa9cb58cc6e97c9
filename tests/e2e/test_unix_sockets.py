"""Unix sockets, in front and behind."""
import socket

from conftest import service
from harness import DEADLINE, H1, wait_for


def unix_client(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(DEADLINE)
    s.connect(str(path))
    return H1(sock=s)


def test_backend(make_edge, make_origin, tmp_path):
    origin = make_origin(unix=str(tmp_path / "backend.sock"))
    teal = make_edge(origin)
    with teal.h1() as c:
        for _ in range(5):
            assert c.get("/echo").status == 200
        assert len(c.get("/bytes/1m").body) == 1 << 20
        assert c.ask("POST", "/upload", body=b"x" * 500000).json["length"] == 500000
    assert origin.accepted == 1
    assert teal.line("/echo")["backend"] == origin.address


def test_h2_backend(make_edge, make_origin, tmp_path):
    origin = make_origin(unix=str(tmp_path / "backend.sock"), h2=True)
    teal = make_edge(origin, more={"blue": {"protocol": "h2"}})
    assert teal.get("/echo").json["protocol"] == "HTTP/2"


def test_missing_backend_socket(make_edge, tmp_path):
    teal = make_edge(f"unix:{tmp_path}/none.sock")
    assert teal.get("/x").status == 503


def test_listener(make_teal, make_origin, tmp_path):
    path = tmp_path / "front.sock"
    listen = [{}, {"address": f"unix:{path}"}]
    teal = make_teal({"listen": listen, "services": [service(make_origin())]})
    with unix_client(path) as c:
        for _ in range(3):
            r = c.get("/echo")
            assert r.status == 200
    assert teal.get("/echo").status == 200
    teal.stop(clean=False)
    assert not path.exists()


def test_listener_after_a_kill(make_teal, make_origin, tmp_path):
    """A socket file nobody listens on is replaced."""
    path = tmp_path / "front.sock"
    listen = [{}, {"address": f"unix:{path}"}]
    teal = make_teal({"listen": listen, "services": [service(make_origin())]})
    teal.process.kill()
    teal.wait()
    assert path.exists()
    teal.start()
    with unix_client(path) as c:
        assert c.get("/echo").status == 200


def test_backend_that_is_replaced(make_edge, make_origin, loop, tmp_path):
    path = str(tmp_path / "backend.sock")
    first = make_origin("first", unix=path)
    teal = make_edge(first, more={"blue": {"hold_down": "50ms"}})
    assert teal.get("/x").origin == "first"
    loop.run(first.stop())
    second = make_origin("second", unix=path)
    wait_for(lambda: teal.get("/x").origin == "second", "the new one to answer")
    assert second.seen
