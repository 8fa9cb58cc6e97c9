"""Health probes and passive ejection: who gets requests, when, and what status says of it."""
import json
import signal
import time
from concurrent import futures

import grpc
import pytest

from conftest import addresses
from harness import free_port, wait_for

LIVE, READY, START = "/health/liveness", "/health/readiness", "/health/startup"


def probe(**more):
    return {"interval": "50ms", "timeout": "10s", "rise": 2, "fall": 2, **more}


def backends(teal, color="blue"):
    return teal.service()["colors"][color]["backends"]


def backend(teal, origin=None):
    """The JSON of this origin's backend; of the first one when not given."""
    every = backends(teal)
    if origin is None:
        return every[0]
    return next(b for b in every if b["address"] == addresses(origin)[0])


def wait_state(teal, state, origin=None):
    def reached():
        b = backend(teal, origin)
        return b if b["state"] == state else None

    return wait_for(reached, f"the backend to be {state}; it is {backend(teal, origin)}")


def wait_saw(teal, kind, text, origin=None):
    def seen():
        return text in backend(teal, origin)["probes"][kind]["saw"]

    wait_for(seen, f"{kind} to see {text!r}")
    return backend(teal, origin)


# --- the startup gate --------------------------------------------------------------------------------
def test_startup_gates_everything(make_origin, make_edge):
    origin = make_origin()
    origin.health[START] = 503
    health = {"startup": probe(), "liveness": probe(), "readiness": probe()}
    teal = make_edge(origin, more={"health": health})
    b = wait_saw(teal, "startup", "503 Service Unavailable: well")
    assert b["state"] == "starting" and b["reason"].startswith("starting: 503")
    assert b["probes"]["liveness"] == {
        "well": None, "saw": "", "passed": 0, "failed": 0, "ago_ms": None}
    wait_for(lambda: len(origin.find(START)) > 5)
    assert not origin.find(LIVE) and not origin.find(READY)
    assert teal.get("/").status == 503 and not origin.find("/")
    origin.health[START] = 200
    b = wait_state(teal, "up")
    assert b["reason"] == "" and b["probes"]["startup"]["well"] is True
    assert teal.get("/").status == 200
    # it is not asked any more
    asked = len(origin.find(START))
    wait_for(lambda: len(origin.find(READY)) > 5 and len(origin.find(LIVE)) > 5)
    assert len(origin.find(START)) == asked


def test_startup_deadline_and_late_starter(make_origin, make_edge):
    origin = make_origin()
    origin.health[START] = 503
    health = {"startup": probe(deadline="300ms"), "liveness": probe()}
    teal = make_edge(origin, more={"health": health})
    b = wait_state(teal, "down")
    assert b["reason"].startswith("not started within 300ms: 503")
    origin.health[START] = 200
    wait_state(teal, "up")


# --- readiness -----------------------------------------------------------------------------------------
def test_not_ready_gets_nothing_new_but_finishes(make_origin, make_edge, loop):
    origin = make_origin()
    teal = make_edge(origin, more={"health": {"readiness": probe()}})
    wait_state(teal, "up")
    with teal.h1() as running:
        running.request("GET", "/tweak?gate=g&text=finished")
        wait_for(lambda: origin.find("/tweak"))
        origin.health[READY] = {"status": 503, "text": "shutting\tdown\x1b[31m \xff"}
        b = wait_state(teal, "down")
        # nothing of a backend's reaches a terminal unmade
        assert b["reason"] == "not ready: 503 Service Unavailable: shutting down [31m ??"
        assert teal.get("/").status == 503 and not origin.find("/")
        loop.call(origin.open, "g")
        r = running.response()
        assert r.status == 200 and r.body == b"finished"
    origin.health[READY] = 200
    wait_state(teal, "up")
    assert teal.get("/").status == 200


def test_rise_and_fall(make_origin, make_edge):
    origin = make_origin()
    teal = make_edge(origin, more={"health": {"readiness": probe(fall=3, rise=4)}})
    wait_state(teal, "up")
    failed = origin.health[READY] = {"status": 500}
    wait_state(teal, "down")
    p = backend(teal)["probes"]["readiness"]
    assert p["failed"] >= 3 and p["well"] is False
    failed["status"] = 200
    wait_for(lambda: "of 4 passed" in backend(teal)["reason"] or backend(teal)["state"] == "up")
    wait_state(teal, "up")


# --- liveness --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_dead_closes_connections_and_others_answer(make_origin, make_edge, protocol, loop):
    two = [make_origin(n, h2=protocol == "h2") for n in ("one", "two")]
    teal = make_edge(
        two, more={"health": {"liveness": probe()}, "blue": {"protocol": protocol}})
    for one in two:
        wait_state(teal, "up", one)
    with teal.h1() as client:
        client.request("GET", "/tweak?gate=g&text=here")
        victim = wait_for(lambda: next((o for o in two if o.find("/tweak")), None))
        other = two[1 - two.index(victim)]
        victim.health[LIVE] = 500
        wait_for(lambda: other.find("/tweak"), "the request to go to the other backend")
        loop.call(other.open, "g")
        r = client.response()
        assert (r.status, r.body, r.header("x-origin")) == (200, b"here", other.name)
    b = backend(teal, victim)
    assert b["state"] == "down" and b["reason"].startswith("not alive: 500")
    if protocol == "http/1.1":
        loop.call(victim.open, "g")
        wait_for(lambda: victim.find("/tweak")[0].gone or victim.find("/tweak")[0].answered)
    wait_for(lambda: backend(teal, victim)["connections"] == 0)
    victim.health[LIVE] = 200
    wait_state(teal, "up", victim)


def test_refused(make_origin, make_edge):
    port = free_port()
    teal = make_edge(f"127.0.0.1:{port}", more={"health": {"liveness": probe()}})
    assert wait_state(teal, "down")["reason"] == "not alive: connect refused"


def test_timeout(make_origin, make_edge):
    origin = make_origin()
    origin.health[READY] = {"hang": True}
    teal = make_edge(origin, more={"health": {"readiness": probe(timeout="150ms")}})
    assert wait_state(teal, "down")["reason"] == "not ready: timed out after 150ms"
    origin.health[READY] = 200
    wait_state(teal, "up")


@pytest.mark.parametrize("how, saw", [
    ({"eof": True}, "the backend closed before it answered"),
    ({"reset": True}, "the backend closed before it answered"),
    ({"status": 404}, "404 Not Found: well"),
    ({"status": 302}, "302 Found: well"),
])
def test_what_it_saw(make_origin, make_edge, how, saw):
    origin = make_origin()
    origin.health[READY] = how
    teal = make_edge(origin, more={"health": {"readiness": probe()}})
    assert wait_state(teal, "down")["probes"]["readiness"]["saw"] == saw


def test_malformed(make_origin, make_edge):
    origin = make_origin()
    origin.answers[READY] = b"SSH-2.0-OpenSSH_9.2\r\n"
    teal = make_edge(origin, more={"health": {"readiness": probe()}})
    assert "malformed" in wait_state(teal, "down")["reason"]


def test_status_range(make_origin, make_edge):
    origin = make_origin()
    origin.health[READY] = 302
    teal = make_edge(origin, more={"health": {"readiness": probe(status="200-399")}})
    assert wait_state(teal, "up")["probes"]["readiness"]["saw"] == "302 Found"


# --- bodies -------------------------------------------------------------------------------------------------
def test_json_member_and_version(make_origin, make_edge):
    origin = make_origin()
    origin.health[READY] = {"json": {"status": "healthy", "version": "2.1-rc1"}}
    health = {"readiness": probe(json={"member": "status", "value": "healthy"})}
    teal = make_edge(origin, more={"health": health})
    b = wait_state(teal, "up")
    assert b["version"] == "2.1-rc1" and b["probes"]["readiness"]["saw"] == "200 OK"
    for answer, saw in [
        ({"json": {"status": "down"}}, '200, but "status" is "down"'),
        ({"json": {"status": 7}}, '200, but "status" is 7'),
        ({"json": {"state": 7}}, '200, but "status" is missing'),
        ({"text": "healthy"}, "200, but the body is no JSON object"),
        ({"text": ""}, "200, but the body is no JSON object"),
        ({"json": {"pad": "x" * 5000, "status": "healthy"}},
         "200, but the body is no JSON object of less than 4 KiB"),
    ]:
        origin.health[READY] = answer
        wait_saw(teal, "readiness", saw)
        wait_state(teal, "down")
    origin.health[READY] = {"json": {"status": "healthy", "version": 3}}
    assert wait_state(teal, "up")["version"] == "3"


@pytest.mark.parametrize("h2", [False, True])
def test_a_large_body_is_cut(make_origin, make_edge, h2):
    origin = make_origin(h2=h2)
    origin.health[READY] = {"text": "x" * 300000}
    protocol = {"protocol": "h2"} if h2 else {}
    teal = make_edge(origin, more={"health": {"readiness": probe()}, "blue": protocol})
    assert wait_state(teal, "up")["probes"]["readiness"]["saw"] == "200 OK"
    wait_for(lambda: backend(teal)["probes"]["readiness"]["passed"] > 5)
    assert backend(teal)["probes"]["readiness"]["failed"] == 0


# --- connections ------------------------------------------------------------------------------------------------
KINDS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("tls, h2", KINDS)
def test_protocols_and_kept_connections(make_origin, make_edge, certificates, tls, h2):
    """The pool's own protocol and TLS; one connection for all probes; what is asked."""
    context = certificates.server_context(alpn=["h2"] if h2 else None) if tls else None
    origin = make_origin(h2=h2, ssl=context)
    pool = {"protocol": "h2" if h2 else "http/1.1"}
    if tls:
        pool["tls"] = {"ca": str(certificates.ca)}
    teal = make_edge(
        origin, more={"health": {"liveness": probe(), "readiness": probe()}, "blue": pool,
                      "hosts": ["*.any.test", "api.any.test"]})
    wait_state(teal, "up")
    wait_for(lambda: len(origin.find(READY)) > 8 and len(origin.find(LIVE)) > 8)
    assert origin.accepted <= 2
    one = origin.find(READY)[0]
    assert one.protocol == ("HTTP/2" if h2 else "HTTP/1.1") and one.method == "GET"
    assert one.header("user-agent").startswith("teal/")
    assert one.header("user-agent").endswith(" (health)")
    assert one.header(":authority" if h2 else "host") == "api.any.test"


def test_host_without_a_name_is_the_backend(make_origin, make_edge):
    origin = make_origin()
    make_edge(origin, more={"health": {"readiness": probe()}, "hosts": ["*"]})
    wait_for(lambda: origin.find(READY))
    assert origin.find(READY)[0].header("host") == origin.address


def test_unix_socket(make_origin, make_edge, tmp_path):
    origin = make_origin(unix=str(tmp_path / "b.sock"))
    teal = make_edge(origin, more={"health": {"readiness": probe()}, "hosts": ["*"]})
    wait_state(teal, "up")
    assert origin.find(READY)[0].header("host") == "localhost"


def test_name_with_several_addresses(make_origin, make_edge):
    """localhost is ::1 as well, and nobody listens there."""
    origin = make_origin()
    teal = make_edge(f"localhost:{origin.port}", more={"health": {"readiness": probe()}})
    wait_state(teal, "up")
    assert backend(teal)["probes"]["readiness"]["failed"] == 0


def test_tls_that_fails_says_why(make_origin, make_edge, certificates):
    origin = make_origin(ssl=certificates.server_context("c"))
    pool = {"tls": {"ca": str(certificates.ca)}}
    teal = make_edge(origin, more={"health": {"liveness": probe()}, "blue": pool})
    reason = wait_state(teal, "down")["reason"]
    assert reason.startswith("not alive: TLS: ") and "verify failed" in reason


@pytest.mark.parametrize("h2", [False, True])
def test_stale_connection_is_no_failure(make_origin, make_edge, loop, h2):
    origin = make_origin(h2=h2)
    pool = {"protocol": "h2"} if h2 else {}
    teal = make_edge(origin, more={"health": {"readiness": probe(fall=1)}, "blue": pool})
    wait_state(teal, "up")
    for n in range(1, 6):
        wait_for(lambda seen=len(origin.find(READY)): len(origin.find(READY)) > seen + 1)
        loop.run(origin.drop())
        wait_for(lambda least=n: origin.accepted > least)
    wait_for(lambda seen=len(origin.find(READY)): len(origin.find(READY)) > seen + 2)
    # at most the one whose answer the reset has cut off
    assert backend(teal)["probes"]["readiness"]["failed"] == 0


def test_close_after_each_answer(make_origin, make_edge):
    origin = make_origin()
    origin.health[READY] = {"close": True}
    teal = make_edge(origin, more={"health": {"readiness": probe(fall=1)}})
    wait_state(teal, "up")
    wait_for(lambda: origin.accepted > 8)
    b = backend(teal)
    assert b["state"] == "up" and b["probes"]["readiness"]["failed"] == 0


# --- gRPC -----------------------------------------------------------------------------------------------------------
class Health(grpc.GenericRpcHandler):
    """grpc.health.v1.Health/Check: 1 is SERVING."""

    def __init__(self):
        self.status = 1
        self.asked = []

    def service(self, details):
        if details.method != "/grpc.health.v1.Health/Check" or self.status is None:
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, request, context):
        self.asked.append(request)
        return b"\x08" + bytes([self.status]) if self.status else b""


def test_grpc_health(make_edge):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    health = Health()
    server.add_generic_rpc_handlers((health,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        teal = make_edge(f"127.0.0.1:{port}", more={
            "health": {"readiness": probe(grpc=True)}, "blue": {"protocol": "h2"}})
        assert wait_state(teal, "up")["probes"]["readiness"]["saw"] == "SERVING"
        assert health.asked[0] == b""
        for status, saw in [(2, "NOT_SERVING"), (0, "UNKNOWN"), (None, "grpc-status 12")]:
            health.status = status
            wait_saw(teal, "readiness", saw)
            wait_state(teal, "down")
        health.status = 1
        wait_state(teal, "up")
    finally:
        server.stop(None).wait()


# --- the process ------------------------------------------------------------------------------------------------------
def test_a_stalled_process_blames_nobody(make_origin, make_edge, loop):
    """The answer was there in time; teal was not there to read it."""
    origin = make_origin()
    origin.health[READY] = {"gate": "first"}
    teal = make_edge(origin, more={"health": {"readiness": probe(timeout="1s", fall=1)}})
    wait_for(lambda: origin.find(READY))
    teal.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    origin.health.clear()
    loop.call(origin.open, "first")
    wait_for(lambda: origin.find(READY)[0].answered and time.monotonic() > stopped + 2)
    teal.signal(signal.SIGCONT)
    wait_state(teal, "up")
    assert backend(teal)["probes"]["readiness"]["failed"] == 0


def test_known_good_while_first_probes_run(make_origin, make_edge, loop):
    good, bad = make_origin("good"), make_origin("bad")
    bad.health[READY] = 503
    teal = make_edge([good, bad], more={"health": {"readiness": probe()}})
    wait_state(teal, "up", good)
    wait_state(teal, "down", bad)
    good.health[READY] = bad.health[READY] = {"gate": "later"}

    def saved():  # it is worth no fsync of its own
        text = "".join(p.read_text() for p in teal.state.iterdir() if p.suffix == ".json")
        return good.address in json.dumps(text)

    wait_for(saved)
    teal.restart()
    assert backend(teal, good)["state"] == "up" and backend(teal, bad)["state"] == "starting"
    assert teal.get("/").header("x-origin") == "good"
    good.health[READY] = bad.health[READY] = 503
    loop.call(good.open, "later")
    loop.call(bad.open, "later")
    wait_for(lambda: backend(teal, good)["probes"]["readiness"]["passed"])


def test_runtime_changes_are_followed(make_origin, make_edge):
    one, two = make_origin("one"), make_origin("two")
    teal = make_edge(one, more={"health": {"readiness": probe()}})
    wait_state(teal, "up")
    two.health[READY] = 503
    status, answer = teal.admin(
        "PUT", "/v1/services/web/pools/blue", {"backends": [one.address, two.address]})
    assert status == 200, answer
    wait_state(teal, "down", two)
    two.health[READY] = 200
    wait_state(teal, "up", two)
    status, answer = teal.admin(
        "PUT", "/v1/services/web/pools/blue", {"backends": [two.address]})
    assert status == 200, answer
    wait_for(lambda: not one.open_connections)
    asked = len(one.find(READY))
    wait_for(lambda seen=len(two.find(READY)): len(two.find(READY)) > seen + 5)
    assert len(one.find(READY)) == asked


def test_drained_stays_draining(make_origin, make_edge):
    origin = make_origin()
    teal = make_edge(origin, more={"health": {"readiness": probe()}})
    wait_state(teal, "up")
    path = f"/v1/services/web/pools/blue/backends/{origin.address}"
    assert teal.admin("PATCH", path, {"state": "drain"})[0] == 200
    origin.health[READY] = 503
    wait_saw(teal, "readiness", "503")
    assert backend(teal)["state"] == "draining"
    assert teal.admin("PATCH", path, {"state": "active"})[0] == 200
    wait_state(teal, "down")


# --- passive ejection -----------------------------------------------------------------------------------------------------
FAILS = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def passive(**more):
    return {"health": {"passive": {"failures": 3, "hold": "1h", "max_ejected": 40, **more}},
            "retries": 0, "blue": {"balance": "round-robin"}}


def test_one_failing_backend_is_ejected(make_origin, make_edge):
    three = [make_origin(n) for n in ("a", "b", "c")]
    bad = three[1]
    bad.answers["/x"] = FAILS
    teal = make_edge(three, more=passive())
    codes = [teal.get("/x").status for _ in range(40)]
    assert codes.count(500) == 3
    b = backend(teal, bad)
    assert b["ejected"] is True and b["held_ms"] > 0 and b["state"] == "up"
    assert [x["ejected"] for x in backends(teal)].count(True) == 1
    assert b["probes"] == {} and b["version"] == ""


def test_nobody_is_ejected_when_all_fail(make_origin, make_edge):
    three = [make_origin(n) for n in ("a", "b", "c")]
    for one in three:
        one.answers["/x"] = FAILS
    teal = make_edge(three, more=passive())
    assert {teal.get("/x").status for _ in range(40)} == {500}
    assert not any(x["ejected"] for x in backends(teal))


def test_an_ejected_one_comes_back(make_origin, make_edge):
    three = [make_origin(n) for n in ("a", "b", "c")]
    bad = three[1]
    bad.answers["/x"] = FAILS
    teal = make_edge(three, more=passive(hold="300ms"))
    wait_for(lambda: teal.get("/x") and backend(teal, bad)["ejected"])
    bad.answers.clear()
    wait_for(lambda seen=len(bad.find("/x")): teal.get("/x") and len(bad.find("/x")) > seen)
    assert backend(teal, bad)["ejected"] is False
