"""The admin socket and tealctl."""
import json
import os
import re
import stat
import subprocess
import threading

import pytest

from harness import DEADLINE, H1, SECRET, TEALCTL, curl, free_port, wait_for


@pytest.fixture
def pair(make_edge, make_origin):
    split = {"force": {"header": "x-color", "secret": SECRET}}
    blue, green = make_origin("blue"), make_origin("green", version="v2")
    teal = make_edge(blue, green, more={"split": split})
    teal.blue, teal.green = blue, green
    return teal


def test_status(edge):
    status, answer = edge.admin("GET", "/v1/status")
    assert status == 200
    assert "web" in json.dumps(answer)


def test_one_service(edge, blue):
    s = edge.service()
    assert s["name"] == "web" and s["live"] == "blue" and s["candidate"] == "green"
    assert s["weight"] == 0 and s["tripped"] is False
    assert isinstance(s["epoch"], int)
    for color in ("blue", "green"):
        c = s["colors"][color]
        for member in ("requests", "failures", "failure_rate", "rps", "p50_ms", "p95_ms", "p99_ms",
                       "inflight", "share"):
            assert isinstance(c[member], (int, float)), member
    (backend,) = s["colors"]["blue"]["backends"]
    assert backend["address"] == blue.address
    assert backend["state"] == "up" and backend["inflight"] == 0


def test_requests_are_counted(pair):
    with pair.h1() as c:
        for n in range(20):
            c.get(f"/tweak?status={500 if n < 5 else 200}")

    def counted():
        c = pair.service()["colors"]["blue"]
        return c["requests"] == 20 and c["failures"] == 5

    wait_for(counted, "20 requests, 5 failures")


def test_curl(edge):
    out = curl("--unix-socket", edge.admin_socket, "http://teal/v1/services/web")
    assert json.loads(out.stdout)["name"] == "web"
    out = curl("--unix-socket", edge.admin_socket, "http://teal/metrics")
    assert b"teal_build_info{" in out.stdout


def test_weight_and_epoch(pair):
    before = pair.service()["epoch"]
    status, answer = pair.admin("PUT", "/v1/services/web/weight", {"weight": 25, "reason": "OPS-1"})
    assert status == 200
    s = pair.service()
    assert s["weight"] == 25 and s["epoch"] > before
    assert s["colors"]["green"]["share"] == 25 or s["colors"]["green"]["share"] == 0


def test_if_epoch(pair):
    epoch = pair.service()["epoch"]
    ok = {"weight": 10, "if_epoch": epoch}
    assert pair.admin("PUT", "/v1/services/web/weight", ok)[0] == 200
    status, answer = pair.admin("PUT", "/v1/services/web/weight", {"weight": 20, "if_epoch": epoch})
    assert status == 409
    assert answer["error"]["code"] and answer["error"]["message"]
    assert pair.service()["weight"] == 10


def test_flip(pair):
    assert pair.get("/").origin == "blue"
    assert pair.admin("POST", "/v1/services/web/flip", {"color": "green"})[0] == 200
    assert pair.get("/").origin == "green"
    s = pair.service()
    assert (s["live"], s["candidate"], s["weight"]) == ("green", "blue", 0)
    pair.admin("POST", "/v1/services/web/flip", {"color": "blue"})
    assert pair.get("/").origin == "blue"


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_a_flip_is_obeyed_by_connections_that_are_open(pair, version):
    with pair.h1() if version == "h1" else pair.h2() as c:
        for color in ("green", "blue") * 5:
            pair.admin("POST", "/v1/services/web/flip", {"color": color})
            assert c.get("/").origin == color


def test_changes_survive_a_restart(pair):
    pair.weight(37.5)
    pair.admin("POST", "/v1/services/web/flip", {"color": "green"})
    pair.weight(12.25)
    epoch = pair.service()["epoch"]
    pair.restart()
    s = pair.service()
    assert (s["live"], s["weight"], s["epoch"]) == ("green", 12.25, epoch)


def test_changes_survive_a_kill(pair):
    """Durable before the answer."""
    pair.weight(42)
    pair.process.kill()
    pair.wait()
    pair.start()
    assert pair.service()["weight"] == 42


def test_damaged_state_does_not_stop_the_start(pair):
    pair.weight(42)
    pair.stop(clean=False)
    (pair.state / "state.json").write_text('{"version": 1, "serv')
    pair.start()
    assert pair.service()["weight"] == 0
    assert any("damaged" in f.name for f in pair.state.iterdir())


def test_state_that_cannot_be_written(pair):
    """The change is refused, nothing is obeyed."""
    if os.geteuid() == 0:
        for f in pair.state.iterdir():
            f.unlink()
        pair.state.rmdir()
        pair.state.write_text("in the way")
    else:
        pair.state.chmod(0o500)
    status, answer = pair.admin("PUT", "/v1/services/web/weight", {"weight": 50})
    assert status >= 500 and answer["error"]["message"]
    assert pair.service()["weight"] == 0
    assert pair.get("/").origin == "blue"
    if os.geteuid() == 0:
        pair.state.unlink()
        pair.state.mkdir()
    else:
        pair.state.chmod(0o700)


# --- backends ------------------------------------------------------------------------------------
def states(teal, color="blue"):
    return {b["address"]: b["state"] for b in teal.service()["colors"][color]["backends"]}


def test_backend_add_remove(pair, make_origin):
    more = make_origin("more")
    pair.ctl("backend", "add", "blue", more.address)
    assert states(pair) == {pair.blue.address: "up", more.address: "up"}
    assert {pair.get("/").origin for _ in range(30)} == {"blue", "more"}
    pair.ctl("backend", "remove", "blue", pair.blue.address)
    assert states(pair) == {more.address: "up"}
    assert {pair.get("/").origin for _ in range(10)} == {"more"}


def test_backend_drain_finishes_what_runs(pair, make_origin, loop):
    more = make_origin("more")
    pair.ctl("backend", "add", "blue", more.address)
    with pair.h1() as c:
        c.request("GET", "/tweak?gate=drain&text=finished")
        both = (pair.blue, more)
        (busy,) = wait_for(lambda: [o for o in both if o.find("/tweak")], "the request")
        other = more if busy is pair.blue else pair.blue
        pair.ctl("backend", "drain", "blue", busy.address)
        assert states(pair)[busy.address] == "draining"
        assert {pair.get("/").origin for _ in range(10)} == {other.name}
        loop.call(busy.open, "drain")
        assert c.response().text == "finished"
    pair.ctl("backend", "undrain", "blue", busy.address)
    assert states(pair)[busy.address] == "up"
    assert len({pair.get("/").origin for _ in range(30)}) == 2


def test_backend_set(pair, make_origin, loop):
    new = [make_origin("new1"), make_origin("new2")]
    with pair.h1() as c:
        c.request("GET", "/tweak?gate=set&text=finished")
        wait_for(lambda: pair.blue.find("/tweak"), "the request")
        pair.ctl("backend", "set", "blue", *[o.address for o in new])
        assert {pair.get("/").origin for _ in range(30)} == {"new1", "new2"}
        loop.call(pair.blue.open, "set")
        assert c.response().text == "finished"
    wait_for(lambda: set(states(pair)) == {o.address for o in new}, "the old one to leave")


def test_backends_survive_a_restart(pair, make_origin):
    more = make_origin("more")
    pair.ctl("backend", "set", "blue", more.address)
    pair.restart()
    assert set(states(pair)) == {more.address}
    assert pair.get("/").origin == "more"


def test_no_request_is_lost_while_backends_change(pair, make_origin):
    more = make_origin("more")
    statuses, stop = [], threading.Event()

    def run():
        with pair.h1() as c:
            while not stop.is_set():
                statuses.append(c.ask("POST", "/echo", body=b"x" * 100).status)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for n in range(15):
        pair.ctl("backend", "set", "blue", more.address if n % 2 else pair.blue.address)
    stop.set()
    for t in threads:
        t.join()
    assert statuses and set(statuses) == {200}


# --- maintenance ---------------------------------------------------------------------------------
def test_maintenance(make_edge, make_origin, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<h1>back soon</h1>")
    split = {"force": {"header": "x-color", "secret": SECRET}}
    more = {"split": split, "maintenance": {"page": str(page), "retry_after": "2m"}}
    teal = make_edge(make_origin("blue"), make_origin("green"), more=more)
    teal.ctl("maintenance", "on")

    def closed():
        r = teal.get("/x")
        assert r.status == 503
        assert r.text == "<h1>back soon</h1>"
        assert r.header("content-type") == "text/html; charset=utf-8"
        assert r.header("retry-after") == "120"
        assert teal.get("/x", [("X-Color", f"green:{SECRET}")]).origin == "green"

    closed()
    teal.restart()
    closed()
    teal.ctl("maintenance", "off")
    assert teal.get("/x").origin == "blue"
    assert teal.line("/x", status=503)["outcome"] == "maintenance"


# --- nonsense ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "method, path, body, statuses",
    [
        ("GET", "/", None, {404}),
        ("GET", "/v1/nothing", None, {404}),
        ("GET", "/v1/services/none", None, {404}),
        ("GET", "/v1/services/web%2f..", None, {400, 404}),
        ("DELETE", "/v1/status", None, {405}),
        ("GET", "/v1/services/web/weight", None, {404, 405}),
        ("PUT", "/v1/services/none/weight", {"weight": 1}, {404}),
        ("PUT", "/v1/services/web/weight", b"", {400}),
        ("PUT", "/v1/services/web/weight", b"{", {400}),
        ("PUT", "/v1/services/web/weight", b"[]", {400}),
        ("PUT", "/v1/services/web/weight", b"null", {400}),
        ("PUT", "/v1/services/web/weight", {}, {400}),
        ("PUT", "/v1/services/web/weight", {"weight": "25"}, {400}),
        ("PUT", "/v1/services/web/weight", {"weight": -1}, {400}),
        ("PUT", "/v1/services/web/weight", {"weight": 100.5}, {400}),
        ("PUT", "/v1/services/web/weight", {"weight": 1.234}, {400}),
        ("PUT", "/v1/services/web/weight", b'{"weight": 1e400}', {400}),
        ("PUT", "/v1/services/web/weight", b'{"weight": NaN}', {400}),
        ("PUT", "/v1/services/web/weight", {"weight": 1, "wieght": 2}, {400}),
        ("PUT", "/v1/services/web/weight", {"weight": 1, "if_epoch": "x"}, {400}),
        ("PUT", "/v1/services/web/weight", {"weight": 1, "reason": 5}, {400}),
        ("POST", "/v1/services/web/flip", {"color": "red"}, {400}),
        ("POST", "/v1/services/web/flip", {}, {400}),
        ("PUT", "/v1/services/web/pools/red", {"backends": []}, {400, 404}),
        ("PUT", "/v1/services/web/pools/blue", {"backends": ["nonsense"]}, {400}),
        ("PUT", "/v1/services/web/pools/blue", {"backends": ["127.0.0.1:99999"]}, {400}),
        ("PUT", "/v1/services/web/pools/blue", {"backends": "127.0.0.1:1"}, {400}),
        ("PUT", "/v1/services/web/pools/blue", {"backends": [1]}, {400}),
        ("PUT", "/v1/services/web/pools/blue", {"backends": ["127.0.0.1:1"] * 2}, {400, 409}),
        ("PATCH", "/v1/services/web/pools/blue/backends/1.2.3.4:5", {"state": "drain"}, {404}),
        ("PATCH", "/v1/services/web/pools/blue/backends/x", {"state": "drain"}, {400, 404}),
        ("PUT", "/v1/services/web/maintenance", {"on": "yes"}, {400}),
        ("PUT", "/v1/services/web/maintenance", {}, {400}),
        ("POST", "/v1/services/web/rollout", {"action": "dance"}, {400, 501}),
    ],
)
def test_nonsense_is_a_json_error(edge, method, path, body, statuses):
    before = edge.service()
    status, answer = edge.admin(method, path, body)
    assert status in statuses, answer
    assert isinstance(answer["error"]["code"], str) and isinstance(answer["error"]["message"], str)
    after = edge.service()
    assert (after["epoch"], after["weight"], after["live"]) == (
        before["epoch"], before["weight"], before["live"],
    )


def test_a_huge_body_is_refused(edge):
    body = b'{"reason": "' + b"x" * (4 << 20) + b'", "weight": 1}'
    try:
        status, _ = edge.admin("PUT", "/v1/services/web/weight", body)
        assert status in (400, 413)
    except OSError:
        pass
    assert edge.service()["weight"] == 0


def test_mode_of_the_socket(make_edge, make_origin):
    teal = make_edge(make_origin(), admin={"mode": "0600"})
    assert stat.S_IMODE(os.stat(teal.admin_socket).st_mode) == 0o600
    teal.stop(clean=False)
    assert not os.path.exists(teal.admin_socket)


def test_http_listener_is_read_only(make_edge, make_origin):
    port = free_port()
    teal = make_edge(make_origin(), admin={"http": f"127.0.0.1:{port}"})
    with H1(port) as c:
        assert c.get("/v1/status", [("Host", "127.0.0.1")]).status == 200
        assert c.get("/healthz", [("Host", "127.0.0.1")]).status == 200
        assert c.get("/readyz", [("Host", "127.0.0.1")]).status == 200
        assert "teal_build_info" in c.get("/metrics", [("Host", "127.0.0.1")]).text
        r = c.ask("PUT", "/v1/services/web/weight", [("Host", "127.0.0.1")], b'{"weight": 5}')
        assert r.status in (403, 405)
    assert teal.service()["weight"] == 0


def test_metrics(pair):
    with pair.h1() as c:
        for status in (200, 200, 404, 500):
            c.get(f"/tweak?status={status}")

    def seen():
        text = pair.admin("GET", "/metrics")[1]
        row = r'^(teal_requests_total\{[^}]*color="blue"[^}]*\}) (\S+)$'
        found = dict(re.findall(row, text, re.M))
        return {re.search(r'code="(\w+)"', k).group(1): float(v) for k, v in found.items()}

    wait_for(lambda: seen().get("2xx") == 2 and seen().get("4xx") == 1, "the counters")
    assert seen()["5xx"] == 1
    text = pair.admin("GET", "/metrics")[1]
    for name in ("request_duration_seconds_bucket", "color_weight", "backend_up", "connections",
                 "connections_total", "build_info"):
        assert f"\nteal_{name}" in "\n" + text, name
    assert "process_" in text


# --- tealctl -------------------------------------------------------------------------------------
def test_ctl_status(pair):
    pair.get("/")
    out = pair.ctl("status").stdout
    for word in ("web", "blue", "green", pair.blue.address, pair.green.address):
        assert word in out
    answer = json.loads(pair.ctl("--json", "status").stdout)
    assert "web" in json.dumps(answer)
    assert json.loads(pair.ctl("--json", "status", "web").stdout)["name"] == "web"


def test_ctl_weight_and_flip(pair):
    pair.ctl("weight", "25", "--reason", "OPS-7")
    assert pair.service()["weight"] == 25
    pair.ctl("weight", "web", "0.5")
    assert pair.service()["weight"] == 0.5
    pair.ctl("flip", "green")
    assert pair.service()["live"] == "green"


def test_ctl_if_epoch(pair):
    epoch = str(pair.service()["epoch"])
    pair.ctl("weight", "10", "--if-epoch", epoch)
    r = pair.ctl("weight", "20", "--if-epoch", epoch, code=1)
    assert r.stderr
    assert pair.service()["weight"] == 10


@pytest.mark.parametrize(
    "args, code",
    [
        ([], 2),
        (["dance"], 2),
        (["weight"], 2),
        (["weight", "lots"], 2),
        (["weight", "101"], 2),
        (["flip", "red"], 2),
        (["weight", "nosuch", "5"], 1),
        (["status", "nosuch"], 1),
        (["backend", "drain", "blue", "1.2.3.4:5"], 1),
        (["backend", "paint", "blue", "1.2.3.4:5"], 2),
    ],
)
def test_ctl_errors(pair, args, code):
    r = pair.ctl(*args, code=None)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    assert r.stderr.strip()


def test_ctl_without_a_daemon(pair, tmp_path):
    run = subprocess.run(
        [str(TEALCTL), "-s", str(tmp_path / "none.sock"), "status"],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )
    assert run.returncode == 1 and "none.sock" in run.stderr


def test_ctl_service_may_not_be_left_out_when_there_are_two(edge):
    r = edge.ctl("weight", "5", code=None)
    assert r.returncode in (1, 2) and r.stderr


def test_ctl_version_and_metrics(pair):
    assert re.search(r"\d+\.\d+\.\d+", pair.ctl("version").stdout)
    assert "teal_build_info" in pair.ctl("metrics").stdout
