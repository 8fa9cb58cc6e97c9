"""The instant way back: a bad release loses its traffic at the response that shows it, and what
teal can hide from clients they do not see."""
import json
import math
import re

import pytest

from harness import wait_for
from origin import raw
from traffic import (
    SLOW,
    WELL,
    Load,
    always,
    every,
    evidence,
    history,
    metric,
    order,
    plan,
    tripped,
    tripped_at_once,
    until,
)

HALF_A_HEAD = raw(b"HTTP/1.1 200 OK\r\nContent-Le")
# how a release may be dead; None: nobody listens
FAULTS = {
    "5xx": "status=500&body=20k",
    "reset": "reset=1",
    "closes": "eof=1",
    "half-a-head": f"raw={HALF_A_HEAD}",
    "garbage": "garbage=1",
}
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
PROBES = {"liveness": {"interval": "50ms", "fall": 2, "rise": 1}}


@pytest.fixture
def pair(make_edge, make_origin):
    """pair(limits={...}, service={...}) -> a teal with .blue and .green; the weight is set by the
    test."""

    def make(limits=None, service=None, weight=None, h2=False, **rollout):
        blue, green = make_origin("blue", h2=h2), make_origin("green", version="v2", h2=h2)
        more = {"rollout": plan(*SLOW, limits=limits, **rollout), **(service or {})}
        if h2:
            more = {"blue": {"protocol": "h2"}, "green": {"protocol": "h2"}, **more}
        teal = make_edge(blue, green, more=more)
        teal.blue, teal.green = blue, green
        if weight:
            teal.weight(weight)
        return teal

    return make


def counted(teal, color="green"):
    c = teal.service()["colors"][color]
    return c["requests"], c["failures"]


def wilson_lower(k, n, z=3.0902):
    """Of the failure rate, at 99.9 %."""
    p = k / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (p + z * z / (2 * n) - half) / (1 + z * z / n)


def failures_it_takes(good, limit=0.01):
    """How many failures after so many good answers cross the limit."""
    k = 3
    while wilson_lower(k, good + k) <= limit:
        k += 1
    return k


# --- dead ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("fault", FAULTS)
def test_dead_from_the_start_trips_at_the_third_failure(pair, fault, version):
    teal = pair(weight=25)
    teal.green.fault = always(FAULTS[fault])
    with teal.h1() if version == "h1" else teal.h2() as c:
        for n in range(100):
            r = c.get(f"/page?n={n}")
            assert (r.status, r.origin) == (200, "blue")
            if len(teal.green.seen) == 3:
                break
        for _ in range(40):
            assert c.get("/page").origin == "blue"
    assert len(teal.green.seen) == 3
    s = tripped(teal)
    assert s["weight"] == 0 and s["trip"]["rule"] == "failure_rate"
    assert "green failed 3 of 3" in s["trip"]["reason"]
    assert counted(teal) == (3, 3)


def test_nobody_listens(make_edge, make_origin):
    teal = make_edge(make_origin(), "127.0.0.1:1", more={"rollout": plan(*SLOW)})
    teal.weight(25)
    with teal.h1() as c:
        for n in range(60):
            body = b"x" * 1000
            r = c.ask("POST" if n % 2 else "GET", "/echo", body=body if n % 2 else b"")
            assert (r.status, r.origin) == (200, "blue")
            if n % 2:
                assert r.json["length"] == 1000
    assert tripped(teal)["weight"] == 0
    assert counted(teal) == (3, 3)


@pytest.mark.parametrize("fault", [*FAULTS, "nobody listens"])
def test_release_that_dies_under_load(pair, loop, fault):
    teal = pair()
    with Load(teal, h1=5, h2=1, streams=3) as load:
        order(teal, "start")
        wait_for(lambda: len(teal.green.seen) >= 10, "green to get its share")
        good = len(teal.green.seen)
        if fault in FAULTS:
            teal.green.fault = always(FAULTS[fault])
        else:
            loop.run(teal.green.stop())
        s = load.see_trip()
        assert s["weight"] == 0 and s["rollout"]["state"] == "rolled_back"
        load.more(200)
    assert not load.failed, load.failed[:5]
    assert not load.errors
    late = [x for x in teal.green.seen if load.when(x) > load.visible]
    assert not late
    # at most those that were under way when the last failure that was needed was answered
    requests, failures = counted(teal)
    assert failures <= failures_it_takes(requests) + load.at_once - 1, (good, requests, failures)
    assert metric(teal, "teal_rescues_total", result="ok") >= 3
    assert metric(teal, "teal_rescues_total", result="failed") == 0


def test_no_worker_sends_after_the_trip(pair):
    """Dead from the start: three failures, and whoever was under way with the third."""
    teal = pair()
    teal.green.fault = always("status=503")
    with Load(teal, h1=8, h2=2, streams=4, pause=0) as load:
        load.more(10)
        teal.weight(50)
        tripped(teal)
        load.more(100)
    assert not load.failed
    # what was under way with the third was rescued without waiting for its failure
    assert 3 <= counted(teal)[1] <= len(teal.green.seen) <= 3 + load.at_once - 1


@pytest.mark.parametrize(
    "fault", ["body=10k&after=1k&truncate=1", "body=10k&after=1k&reset=1"]
)
def test_what_cannot_be_hidden_is_counted(pair, fault):
    """The answer had begun: the client sees it end too soon, and that is a failure of green's."""
    teal = pair(weight=50)
    teal.green.fault = always(fault)
    broken = 0
    for _ in range(20):
        r = teal.get("/page")
        broken += not r.complete
        assert r.complete or r.origin == "green"
    assert broken == 3
    assert tripped(teal)["trip"]["rule"] == "failure_rate"


@pytest.mark.parametrize("status", [301, 404, 499])
def test_what_is_no_failure(pair, status):
    teal = pair(weight=50)
    teal.green.fault = always(f"status={status}")
    with teal.h1() as c:
        assert {c.get("/page").status for _ in range(40)} == {200, status}
    wait_for(lambda: counted(teal) == (len(teal.green.seen), 0), "all to be counted")
    assert teal.service()["tripped"] is False


def test_clients_that_go_away_are_no_failure(pair):
    teal = pair(weight=100, service={"rescue": {"on": False}})
    for n in range(1, 7):
        c = teal.h1()
        c.request("GET", "/tweak?hang=1")
        wait_for(lambda n=n: len(teal.green.seen) == n, "the request")
        c.reset()
    wait_for(lambda: teal.service()["colors"]["green"]["inflight"] == 0, "them to be gone")
    assert counted(teal)[1] == 0 and teal.service()["tripped"] is False


def test_a_share_of_failures(pair):
    """20 %: within about 30 requests."""
    teal = pair(weight=50)
    teal.green.fault = every(5, "status=502")
    with teal.h1() as c:
        for _ in range(200):
            assert c.get("/page").status == 200
    assert tripped(teal)["trip"]["rule"] == "failure_rate"
    assert len(teal.green.seen) <= 30


def test_worse_than_blue_though_within_the_limit(pair):
    teal = pair(limits={"failure_rate": 90.0}, weight=50)
    teal.green.fault = every(2, "status=500")
    with teal.h1() as c:
        for _ in range(200):
            assert c.get("/page").status == 200
    s = tripped(teal)
    assert s["trip"]["rule"] == "relative" and "worse beyond chance" in s["trip"]["reason"]
    assert len(teal.green.seen) <= 60


def test_the_relative_rule_can_be_left_out(pair):
    teal = pair(limits={"failure_rate": 90.0, "relative": False}, weight=50)
    teal.green.fault = every(2, "status=500")
    with teal.h1() as c:
        for _ in range(160):
            assert c.get("/page").status == 200
    wait_for(lambda: counted(teal)[1] >= 30, "the failures to be counted")
    assert teal.service()["tripped"] is False


def test_grpc_failures_count(pair):
    """200, and the failure stands in a trailers-only head."""
    teal = pair(h2=True, weight=100)
    with teal.h2() as c:

        def call(code):
            path = f"/tweak?header=content-type:application/grpc&header=grpc-status:{code}"
            return dict(c.ask("POST", path, GRPC, b"\0\0\0\0\0").headers)["grpc-status"]

        assert [call(n) for n in (0, 1, 3, 5, 7, 12, 16)] == ["0", "1", "3", "5", "7", "12", "16"]
        wait_for(lambda: counted(teal) == (7, 0), "seven that went well")
        assert [call(n) for n in (14, 13, 2)] == ["14", "13", "2"]
        s = tripped(teal)
        assert s["trip"]["rule"] == "failure_rate" and counted(teal) == (10, 3)
    outcomes = {e["outcome"] for e in evidence(teal)["failures"]}
    assert outcomes == {"grpc-error"}


# --- slow ----------------------------------------------------------------------------------------
def test_hung_release(pair):
    """Nobody waits longer than the limit: what hangs on green is asked of blue instead."""
    teal = pair(limits={"p95": "300ms"})
    with Load(teal, h1=6, h2=1, streams=4) as load:
        order(teal, "start")
        wait_for(lambda: len(teal.green.seen) >= 10, "green to get its share")
        teal.green.fault = always("hang=1")
        s = tripped(teal)
        assert s["trip"]["rule"] == "p95" and "unanswered" in s["trip"]["reason"]
        load.more(50)
    assert not load.failed and not load.errors
    assert teal.service()["colors"]["green"]["inflight"] == 0
    assert evidence(teal)["numbers"]["overdue"] >= 3


def test_hung_from_the_start(pair):
    teal = pair(limits={"p95": "200ms"}, weight=100)
    teal.green.fault = always("hang=1")
    with teal.h1() as a, teal.h1() as b, teal.h2() as c:
        a.request("GET", "/page")
        b.request("PUT", "/echo", body=b"x" * 5000)
        streams = [c.begin("GET", "/page") for _ in range(2)]
        assert a.response().origin == "blue"
        assert b.response().json["length"] == 5000
        assert {c.response(x).origin for x in streams} == {"blue"}
    assert tripped(teal)["trip"]["rule"] == "p95"
    wait_for(lambda: all(x.gone for x in teal.green.seen), "green to be told")


def test_a_hung_post_is_not_replayed(pair, loop):
    teal = pair(limits={"p95": "200ms"}, weight=100)
    teal.green.fault = lambda r: "gate=late&text=done" if r.method == "POST" else "hang=1"
    with teal.h1() as post:
        post.request("POST", "/order", body=b"once")
        wait_for(lambda: teal.green.seen, "the order")
        with teal.h2() as c:
            streams = [c.begin("GET", "/page") for _ in range(3)]
            assert {c.response(x).origin for x in streams} == {"blue"}
        tripped(teal)
        # it goes on where it is
        loop.call(teal.green.open, "late")
        r = post.response()
        assert (r.text, r.origin) == ("done", "green")
    assert not teal.blue.find("/order") and len(teal.green.find("/order")) == 1


def test_slow_release(pair):
    teal = pair(limits={"p95": "100ms"})
    with Load(teal, h1=6) as load:
        order(teal, "start")
        teal.green.fault = always("delay=250ms")
        s = tripped(teal)
        assert s["trip"]["rule"] == "p95" and "100ms" in s["trip"]["reason"]
        load.more(10)
    assert not load.failed


def test_both_slow_is_no_reason(pair):
    teal = pair(limits={"p95": "50ms"}, weight=50)
    teal.green.fault = teal.blue.fault = always("delay=100ms")
    with Load(teal, h1=6) as load:
        wait_for(lambda: counted(teal)[0] >= 30, "slow answers")
        verdict = teal.service()["rollout"]["judgement"]
        assert teal.service()["tripped"] is False
        assert (verdict["word"], verdict["frozen"]) == ("fail", True)
    assert not load.failed


# --- what may be replayed ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fault, status", [("status=500", 500), ("reset=1", 502), ("garbage=1", 502)]
)
def test_a_post_that_was_processed_is_not_replayed(pair, fault, status):
    teal = pair(weight=100)
    teal.green.fault = always(fault)
    for _ in range(3):
        assert teal.get("/order", method="POST", body=b"once").status == status
    assert tripped(teal)
    assert not teal.blue.seen and len(teal.green.seen) == 3
    r = teal.get("/order", method="POST", body=b"once")
    assert (r.status, r.origin) == (200, "blue")


def test_a_post_that_was_refused_is_replayed(pair):
    """REFUSED_STREAM: provably not processed."""
    teal = pair(h2=True, weight=100, limits={"min_failures": 100})
    teal.green.refuse_streams = 1000
    with teal.h2() as c:
        r = c.ask("POST", "/echo", body=b"x" * 3000)
    assert (r.status, r.origin) == (200, "blue") and r.json["length"] == 3000
    assert counted(teal)[1] >= 1


def test_a_put_is_replayed_whole(pair):
    teal = pair(weight=100, limits={"min_failures": 100})
    teal.green.fault = always("status=500")
    body = bytes(range(256)) * 200  # 51,200
    for kind in ([], [("Transfer-Encoding", "chunked")]):
        with teal.h1() as c:
            c.request("PUT", "/echo", kind or [("Content-Length", str(len(body)))])
            c.send(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n" if kind else body)
            r = c.response()
        assert (r.status, r.origin, r.json["length"]) == (200, "blue", len(body))
    one, two = teal.blue.seen
    assert one.digest.digest() == two.digest.digest() == teal.green.seen[0].digest.digest()
    # too much to be kept
    r = teal.get("/echo", method="PUT", body=b"x" * 70000)
    assert (r.status, r.origin) == (500, "green")
    assert len(teal.blue.seen) == 2


def test_rescue_may_be_off(pair):
    teal = pair(weight=50, service={"rescue": {"on": False}})
    teal.green.fault = always("status=500")
    statuses = [teal.get("/page").status for _ in range(20)]
    assert statuses.count(500) == 3
    assert tripped(teal)


def test_the_budget(pair):
    never = {"min_failures": 10000, "relative": False}
    teal = pair(weight=50, limits=never, service={"rescue": {"budget": 1.0}})
    teal.green.fault = always("status=500")
    with teal.h1() as c:
        statuses = [c.get("/page").status for _ in range(300)]
    # a hundred in a window are always allowed
    assert len(teal.green.seen) - statuses.count(500) == 100 and statuses.index(500) >= 190
    wait_for(lambda: metric(teal, "teal_rescues_total", result="ok") == 100, "the counter")
    assert metric(teal, "teal_rescues_total", result="refused") == statuses.count(500)


def test_testers_see_the_candidate_as_it_is(pair):
    force = {"force": {"header": "x-color", "secret": "open-sesame-123"}}
    teal = pair(service={"split": force})
    teal.green.fault = always("status=500")
    for _ in range(5):
        r = teal.get("/page", [("X-Color", "green:open-sesame-123")])
        assert (r.status, r.origin) == (500, "green")
    assert not teal.blue.seen and teal.service()["tripped"] is False


def test_a_rescued_request_in_the_log(pair):
    teal = pair(weight=100)
    teal.green.fault = always("status=503")
    assert teal.get("/page").origin == "blue"
    line = teal.line("/page")
    assert (line["status"], line["color"], line["outcome"]) == (200, "blue", "ok")
    assert (line["rescued_from"], line["rescued_why"]) == ("green", "backend-5xx")


def test_when_blue_fails_as_well(pair):
    """The rescue fails too: the client gets blue's answer, nothing is tried a third time."""
    teal = pair(weight=100, limits={"min_failures": 100})
    teal.green.fault = teal.blue.fault = always("status=500")
    r = teal.get("/page")
    assert (r.status, r.origin) == (500, "blue")
    assert (len(teal.green.seen), len(teal.blue.seen)) == (1, 1)
    wait_for(lambda: metric(teal, "teal_rescues_total", result="failed") == 1, "the counter")


# --- what is kept of it --------------------------------------------------------------------------
def test_evidence(pair):
    teal = pair()
    assert evidence(teal, code=404)["error"]["code"] == "no-evidence"
    teal.ctl("why", code=1)
    order(teal, "start")
    teal.green.fault = lambda r: "status=503"
    with teal.h1() as c:
        for n in range(30):
            secret = [("Authorization", "hush"), ("Cookie", "session=hush")]
            assert c.get(f"/cart?token=hush&n={n}", secret).status == 200
    s = tripped(teal)
    e = evidence(teal)
    assert (e["service"], e["action"], e["rule"]) == ("web", "trip", "failure_rate")
    assert e["reason"] == s["trip"]["reason"] == s["rollout"]["reason"]
    assert (e["live"], e["candidate"], e["weight"]) == ("blue", "green", 25)
    assert e["epoch"] == s["epoch"] and re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z$", e["time"])
    n = e["numbers"]
    assert (n["requests"], n["failures"], n["failure_rate"], n["limit"]) == (3, 3, 100, 1)
    assert 20 < n["beyond_chance"] < 30
    assert (n["live"]["failures"], n["live"]["backends_up"], n["backends"]) == (0, 1, 1)
    assert e["rollout"]["to"] == "green" and e["rollout"]["step"] == 1
    assert [f["path"] for f in e["failures"]] == ["/cart"] * 3
    for f, seen in zip(e["failures"], teal.green.seen):
        assert (f["method"], f["status"], f["outcome"]) == ("GET", 503, "backend-5xx")
        assert f["backend"] == teal.green.address
        assert f["id"] == seen.header("x-request-id")
        assert f["age_ms"] >= 0 and f["time"].endswith("Z")
    assert [(p["weight"]) for p in e["timeline"]] == [25, 0]
    assert e["timeline"][-1]["why"] == "trip"
    backends = {(b["color"], b["address"]) for b in e["backends"]}
    assert backends == {("blue", teal.blue.address), ("green", teal.green.address)}
    # nowhere a secret
    out = teal.ctl("why").stdout
    assert "/cart" in out and "failed 3 of 3" in out and "failure_rate" in out
    kept = b"".join(f.read_bytes() for f in teal.state.iterdir() if f.is_file())
    assert b"/cart" in kept
    for text in (json.dumps(e), out, kept.decode(), teal.stderr()):
        assert "hush" not in text
    # and for as long as there is no other
    teal.restart()
    assert evidence(teal) == e


def test_evidence_of_a_weight_by_hand(pair):
    teal = pair()
    for weight in (10, 40):
        teal.weight(weight)
    teal.green.fault = always("reset=1")
    with teal.h1() as c:
        for _ in range(20):
            c.get("/page")
    tripped(teal)
    e = evidence(teal)
    assert e["rollout"] is None and e["weight"] == 40
    assert [p["weight"] for p in e["timeline"]] == [10, 40, 0]
    assert {(f["status"], f["outcome"]) for f in e["failures"]} == {(0, "backend-reset")}


def test_a_trip_is_told_everywhere(pair):
    teal = pair()
    order(teal, "start")
    assert metric(teal, "teal_rollout_state", state="stepping") == 1
    assert metric(teal, "teal_tripped") == 0
    teal.green.fault = always("status=500")
    with teal.h1() as c:
        for _ in range(30):
            c.get("/page")
    tripped(teal)
    assert metric(teal, "teal_trips_total", rule="failure_rate") == 1
    assert metric(teal, "teal_trips_total", rule="p95") == 0
    assert metric(teal, "teal_rescues_total", result="ok") == 3
    assert metric(teal, "teal_rollout_state", state="stepping") == 0
    assert metric(teal, "teal_rollout_state", state="rolled_back") == 1
    assert metric(teal, "teal_tripped") == 1
    assert metric(teal, "teal_color_weight", color="green") == 0
    (entry,) = history(teal, "trip")
    assert (entry["from"], entry["to"], entry["by"]) == ("green", "blue", "teal")
    assert entry["rule"] == "failure_rate" and "3 of 3" in entry["verdict"]
    assert "TRIPPED" in teal.stderr() or "tripped" in teal.stderr()
    out = teal.ctl("status").stdout.lower()
    assert "tripped" in out and "rearm" in out
    # counters do not fall because of a restart
    teal.restart()
    assert metric(teal, "teal_trips_total", rule="failure_rate") == 1


def test_durable_before_it_is_reported(pair):
    """Somebody asks all the while: whoever hears of the trip finds it in the file."""
    teal = pair()
    with Load(teal, h1=2, pause=0):
        for _ in range(10):
            teal.green.fault = None
            order(teal, "start", rearm=True, steps=[{"weight": 100, "hold": "1h"}])
            teal.green.fault = always("status=500")
            s = tripped_at_once(teal)
            (kept,) = json.loads((teal.state / "state.json").read_text())["services"]
            assert kept["trip"] and kept["weight_bp"] == 0
            assert kept["rollout"]["state"] == "rolled_back"
            assert s["trip"] and s["rollout"]["state"] == "rolled_back"


# --- backends ------------------------------------------------------------------------------------
def backends(teal, color):
    return [b["state"] for b in teal.service()["colors"][color]["backends"]]


def test_too_few_healthy_backends(make_edge, make_origin):
    greens = [make_origin("green") for _ in range(3)]
    limits = {"healthy_backends": 60.0}
    more = {"rollout": plan(*SLOW, limits=limits), "health": PROBES}
    teal = make_edge(make_origin("blue"), greens, more=more)
    wait_for(lambda: backends(teal, "green") == ["up"] * 3, "the probes")
    order(teal, "start")
    greens[0].health["/health/liveness"] = 500
    wait_for(lambda: backends(teal, "green").count("up") == 2, "one to go down")
    assert teal.service()["rollout"]["state"] == "stepping"
    greens[1].health["/health/liveness"] = 500
    s = tripped(teal)
    assert s["trip"]["rule"] == "healthy_backends" and "1 of 3" in s["trip"]["reason"]
    # well again: still tripped
    for one in greens:
        one.health.clear()
    wait_for(lambda: backends(teal, "green") == ["up"] * 3, "the probes")
    assert teal.service()["tripped"]


def test_one_dead_backend_of_many_is_not_the_release(make_edge, make_origin, loop):
    """It is taken out, not the color."""
    greens = [make_origin("green") for _ in range(4)]
    more = {"rollout": plan(*SLOW, limits={"failure_rate": 50.0, "relative": False})}
    teal = make_edge(make_origin("blue"), greens, more=more)
    order(teal, "start", steps=[{"weight": 100, "hold": "1h"}])
    with Load(teal) as load:
        load.more(10)
        loop.run(greens[0].stop())
        load.more(150)
    assert not load.failed
    assert teal.service()["tripped"] is False


# --- nothing trips when going back would not help ------------------------------------------------
def test_shared_outage_freezes(pair):
    teal = pair(limits={**WELL, "window": "1s"})
    with Load(teal, h1=6) as load:
        order(teal, "start", steps=[{"weight": 50, "hold": "500ms"}, {"weight": 100, "hold": "1h"}])
        load.more(5)
        teal.blue.fault = teal.green.fault = always("status=500")
        s = until(teal, "the freeze", frozen=True)
        assert s["tripped"] is False and s["weight"] == 50 and s["rollout"]["state"] == "stepping"
        for words in ("frozen", "could not take the traffic"):
            assert words in s["rollout"]["reason"]
        verdict = s["rollout"]["judgement"]
        assert (verdict["word"], verdict["frozen"]) == ("fail", True)
        load.more(100)
        s = teal.service()
        assert s["tripped"] is False and s["rollout"]["step"] == 1
        teal.blue.fault = teal.green.fault = None
        s = until(teal, "step 2", step=2)
        assert s["weight"] == 100
    assert history(teal, "frozen") and history(teal, "goes on")


def test_blue_down_freezes(pair):
    """No backend of blue is up while green fails: there is nowhere to go back to."""
    teal = pair(service={"health": PROBES})
    wait_for(lambda: backends(teal, "green") == backends(teal, "blue") == ["up"], "the probes")
    order(teal, "start")
    teal.blue.health["/health/liveness"] = 500
    wait_for(lambda: backends(teal, "blue") == ["down"], "blue to go down")
    teal.green.fault = always("status=500")
    with Load(teal, h1=3):
        s = until(teal, "the freeze", frozen=True)
        assert s["tripped"] is False and "no backend of it is up" in s["rollout"]["reason"]
        # blue is back, green is as bad as ever
        teal.blue.health.clear()
        s = tripped(teal)
        assert s["weight"] == 0 and s["rollout"]["state"] == "rolled_back"
