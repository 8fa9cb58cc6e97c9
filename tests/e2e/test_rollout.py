"""Rollouts: the weight's walk along its steps, and every order an operator may give."""
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from harness import DEADLINE, TEALCTL, wait_for
from traffic import (
    SLOW,
    STEPS,
    Load,
    always,
    evidence,
    history,
    order,
    plan,
    rearm,
    tripped,
    until,
)

PROBES = {"readiness": {"interval": "50ms", "fall": 1, "rise": 1}}


@pytest.fixture
def pair(make_edge, make_origin):
    """pair(steps..., service={...}, **rollout) -> a teal with .blue and .green behind it."""

    def make(*steps, service=None, **rollout):
        blue, green = make_origin("blue"), make_origin("green", version="v2")
        more = {"rollout": plan(*steps, **rollout), **(service or {})}
        teal = make_edge(blue, green, more=more)
        teal.blue, teal.green = blue, green
        return teal

    return make


def course(service):
    return service["live"], service["candidate"], service["weight"]


# --- the walk ------------------------------------------------------------------------------------
def test_good_release_is_promoted(pair):
    teal = pair()
    with Load(teal) as load:
        s = order(teal, "start", reason="OPS-12")
        r = s["rollout"]
        assert (r["state"], r["to"], r["from"], r["step"]) == ("stepping", "green", "blue", 1)
        assert r["entered"] and s["weight"] == 25
        assert [(x["weight"], x["hold_ms"]) for x in r["steps"]] == [(w, 300) for w, _ in STEPS]
        assert 0 < r["left_ms"] <= 900
        s = until(teal, "the promotion", state="promoted")
        assert course(s) == ("green", "blue", 0)
        load.more(20)
    assert not load.failed and not load.errors
    assert {a.origin for a in load.answers[-5:]} == {"green"}
    s = teal.service()["rollout"]
    assert (s["step"], s["left_ms"], s["to"]) == (None, None, "green")
    steps = [e["to"] for e in history(teal, "step")]
    assert steps == ["step 1, 25 %", "step 2, 50 %", "step 3, 100 %"]
    done = history(teal, "promote")[-1]
    assert (done["from"], done["to"], done["by"]) == ("blue", "green", "teal")
    assert done["verdict"]


def test_the_weight_is_obeyed_when_start_is_answered(pair):
    teal = pair((100, "1h"))
    with teal.h1() as c, teal.h2() as d:
        assert {c.get("/").origin, d.get("/").origin} == {"blue"}
        order(teal, "start")
        assert [x.get("/").origin for x in (c, d, c, d)] == ["green"] * 4


def test_second_release_goes_the_other_way(pair):
    teal = pair((50, "200ms"), (100, "200ms"))
    with Load(teal) as load:
        order(teal, "start")
        until(teal, "the first promotion", state="promoted")
        s = order(teal, "start")
        r = s["rollout"]
        assert (r["to"], r["from"], s["weight"]) == ("blue", "green", 50)
        s = until(teal, "the second promotion", state="promoted", to="blue")
        assert course(s) == ("blue", "green", 0)
    assert not load.failed


def test_second_release_that_is_bad_goes_back_to_green(pair):
    teal = pair((50, "1h"), (100, "1h"))
    with Load(teal) as load:
        order(teal, "start")
        order(teal, "promote", full=True)
        order(teal, "start")
        teal.blue.fault = always("status=500")
        s = tripped(teal)
        assert course(s) == ("green", "blue", 0)
        assert s["trip"]["color"] == "blue" and s["rollout"]["state"] == "rolled_back"
        load.more(10)
    assert not load.failed


def test_steps_given_at_the_start(pair):
    teal = pair(*SLOW)
    steps = [{"weight": 0.5, "hold": "1h"}, {"weight": 100, "hold": "1h"}]
    s = order(teal, "start", steps=steps)
    assert s["weight"] == 0.5 and len(s["rollout"]["steps"]) == 2
    order(teal, "abort")
    teal.ctl("rollout", "start", "--to", "green", "--steps", "12.5:1h,100:1h", "--reason", "OPS-1")
    assert teal.service()["weight"] == 12.5
    assert history(teal, "rollout start")[-1]["reason"] == "OPS-1"


@pytest.mark.parametrize(
    "more",
    [
        {"steps": []},
        {"steps": [{"weight": 50, "hold": "1s"}]},
        {"steps": [{"weight": 50, "hold": "1s"}, {"weight": 25, "hold": "1s"}]},
        {"steps": [{"weight": 0, "hold": "1s"}, {"weight": 100, "hold": "1s"}]},
        {"steps": [{"weight": 100}]},
        {"steps": [{"weight": 100, "hold": 5}]},
        {"steps": [{"weight": 100, "hold": "-5s"}]},
        {"steps": [{"weight": w, "hold": "0s"} for w in range(1, 66)]},
        {"to": "red"},
        {"to": None},
        {"rearm": "yes"},
        {"full": True},
        {"action": "dance"},
        {"action": "pause", "to": "green"},
        {"action": "promote", "full": 1},
    ],
)
def test_nonsense(edge, more):
    error = order(edge, more.pop("action", "start"), code=400, **more)
    assert error["message"]
    assert edge.service()["rollout"]["state"] == "idle"


# --- silence -------------------------------------------------------------------------------------
def test_no_step_is_passed_on_silence(pair):
    teal = pair((25, "50ms"), (100, "50ms"), max_hold="30s")
    order(teal, "start")
    wait_for(lambda: "requests" in teal.service()["rollout"]["reason"], "what it waits for")
    s = teal.service()
    assert s["weight"] == 25 and s["rollout"]["step"] == 1
    assert s["rollout"]["verdict"] == "wait" and s["rollout"]["left_ms"] == 50
    with Load(teal):
        until(teal, "the promotion", state="promoted")


def test_inconclusive_pauses(pair):
    teal = pair((25, "50ms"), (100, "50ms"), max_hold="1s")
    order(teal, "start")
    s = until(teal, "the pause", state="paused")
    assert "inconclusive" in s["rollout"]["reason"] and s["weight"] == 25
    with Load(teal):
        order(teal, "resume")
        until(teal, "the promotion", state="promoted")


def test_inconclusive_rolls_back_when_that_is_wanted(pair):
    teal = pair((25, "50ms"), (100, "50ms"), max_hold="1s", on_inconclusive="rollback")
    order(teal, "start")
    s = until(teal, "the way back", state="rolled_back")
    assert course(s) == ("blue", "green", 0) and s["tripped"] is False
    assert evidence(teal)["action"] == "inconclusive"
    order(teal, "start")  # nothing is locked out


# --- orders --------------------------------------------------------------------------------------
def test_pause_and_resume(pair):
    teal = pair((25, "1s"), (100, "200ms"))
    with Load(teal, h1=2) as load:
        order(teal, "start")
        load.more(5)
        s = order(teal, "pause", reason="lunch")
        assert s["rollout"]["state"] == "paused" and "lunch" in s["rollout"]["reason"]
        held = s["rollout"]["held_ms"]
        load.more(50)
        s = teal.service()
        assert (s["weight"], s["rollout"]["held_ms"]) == (25, held)
        assert order(teal, "pause", code=409)["message"]
        s = order(teal, "resume")
        assert s["rollout"]["state"] == "stepping" and s["rollout"]["step"] == 1
        assert order(teal, "resume", code=409)["message"]
        until(teal, "the promotion", state="promoted")
    assert not load.failed


def test_a_paused_release_is_guarded(pair):
    teal = pair(*SLOW)
    with Load(teal) as load:
        order(teal, "start")
        order(teal, "pause")
        teal.green.fault = always("status=500")
        s = tripped(teal)
        assert s["rollout"]["state"] == "rolled_back"
        load.more(5)
    assert not load.failed


def test_promote_goes_to_the_next_step(pair):
    teal = pair(*SLOW)
    order(teal, "start")
    for step, weight in ((2, 50), (3, 100)):
        s = order(teal, "promote")
        assert (s["rollout"]["step"], s["weight"], s["live"]) == (step, weight, "blue")
    s = order(teal, "promote")
    assert s["rollout"]["state"] == "promoted"
    assert course(s) == ("green", "blue", 0)
    assert order(teal, "promote", code=409)["code"] == "no-rollout"


@pytest.mark.parametrize("paused", [False, True])
def test_promote_to_the_end(pair, paused):
    teal = pair(*SLOW)
    order(teal, "start")
    if paused:
        order(teal, "pause")
    s = order(teal, "promote", full=True, reason="it is fine")
    assert s["rollout"]["state"] == "promoted" and course(s) == ("green", "blue", 0)
    assert teal.get("/").origin == "green"
    assert history(teal, "promote")[-1]["reason"] == "it is fine"


def test_abort(pair):
    teal = pair(*SLOW)
    order(teal, "start")
    s = order(teal, "abort", reason="wrong build")
    assert (s["rollout"]["state"], s["rollout"]["reason"]) == ("rolled_back", "wrong build")
    assert course(s) == ("blue", "green", 0) and s["tripped"] is False
    assert {teal.get("/").origin for _ in range(8)} == {"blue"}
    e = evidence(teal)
    assert (e["action"], e["reason"], e["weight"]) == ("abort", "wrong build", 25)
    assert order(teal, "start")["rollout"]["state"] == "stepping"


def test_by_hand_step_for_step(pair):
    """auto = false: a step that held well waits to be asked."""
    teal = pair((25, "50ms"), (50, "50ms"), (100, "50ms"), auto=False)
    with Load(teal):
        order(teal, "start")
        for step, weight in ((1, 25), (2, 50), (3, 100)):
            s = until(teal, f"step {step} to wait", step=step, waiting=True)
            assert s["weight"] == weight and s["rollout"]["left_ms"] is None
            assert "promote" in s["rollout"]["reason"]
            order(teal, "promote")
        assert until(teal, "the promotion", state="promoted")["live"] == "green"


def test_what_cannot_be_ordered(pair):
    teal = pair(*SLOW)
    for action in ("pause", "resume", "promote", "abort"):
        assert order(teal, action, code=409)["code"] == "no-rollout"
    assert order(teal, "start", code=409, to="blue")["code"] == "already-live"
    order(teal, "start")
    assert order(teal, "start", code=409)["code"] == "rollout-active"
    assert order(teal, "resume", code=409)["code"] == "not-paused"
    status, answer = teal.admin("PUT", "/v1/services/web/weight", {"weight": 5})
    assert status == 409 and answer["error"]["code"] == "rollout-active"
    epoch = teal.service()["epoch"]
    assert order(teal, "abort", code=409, if_epoch=epoch - 1)["code"] == "stale-epoch"
    assert teal.service()["rollout"]["state"] == "stepping"
    order(teal, "abort", if_epoch=epoch)


def test_no_backends(make_edge, make_origin):
    teal = make_edge(make_origin())
    assert order(teal, "start", code=409)["code"] == "no-backends"


def test_not_ready(make_edge, make_origin):
    blue, green = make_origin("blue"), make_origin("green")
    green.health["/health/readiness"] = 503
    teal = make_edge(blue, green, more={"rollout": plan(*SLOW), "health": PROBES})

    def state(color="green"):
        return teal.service()["colors"][color]["backends"][0]["state"]

    wait_for(lambda: state("blue") == "up" and state() == "down", "the probes")
    assert order(teal, "start", code=409)["code"] == "not-ready"
    assert teal.service()["weight"] == 0
    green.health.clear()
    wait_for(lambda: state() == "up", "the probe to pass")
    order(teal, "start")


def test_not_ready_says_how_many(make_edge, make_origin):
    greens = [make_origin("green") for _ in range(3)]
    for one in greens[1:]:
        one.health["/health/readiness"] = 503
    limits = {"healthy_backends": 66.67}
    more = {"rollout": plan(*SLOW, limits=limits), "health": PROBES}
    teal = make_edge(make_origin("blue"), greens, more=more)

    def states():
        return [b["state"] for b in teal.service()["colors"]["green"]["backends"]]

    wait_for(lambda: states() == ["up", "down", "down"], "the probes")
    error = order(teal, "start", code=409)
    assert error["code"] == "not-ready"
    assert "1 of 3 backends of green are up, the limit is 66.67 %" in error["message"]


@pytest.mark.parametrize(
    "color, state, live", [("green", "promoted", "green"), ("blue", "rolled_back", "blue")]
)
def test_flip_ends_a_rollout(pair, color, state, live):
    teal = pair(*SLOW)
    order(teal, "start")
    teal.ctl("flip", color)
    s = teal.service()
    assert (s["rollout"]["state"], s["live"], s["weight"]) == (state, live, 0)
    assert {teal.get("/").origin for _ in range(6)} == {color}
    order(teal, "start")


def test_flip_back_is_told(pair, listen):
    teal = pair(*SLOW)
    events = listen(teal)
    order(teal, "start")
    order(teal, "promote")
    teal.ctl("flip", "blue", "--reason", "I do not like it")
    e = evidence(teal)
    assert (e["action"], e["reason"]) == ("abort", "flipped back by hand")
    assert (e["live"], e["candidate"], e["weight"]) == ("blue", "green", 50)
    assert (e["rollout"]["to"], e["rollout"]["step"]) == ("green", 2)
    assert [p["weight"] for p in e["timeline"]] == [25, 50, 0]
    told = events.event("rolled_back")
    assert (told["color"], told["reason"]) == ("green", "flipped back by hand")
    assert history(teal, "flip")[-1]["reason"] == "I do not like it"
    assert not events.events("promoted")


def test_flip_to_the_candidate_is_told(pair, listen):
    teal = pair(*SLOW)
    events = listen(teal)
    order(teal, "start")
    teal.ctl("flip", "green")
    told = events.event("promoted")
    assert (told["color"], told["service"]) == ("green", "web")
    assert not events.events("rolled_back")
    evidence(teal, code=404)


def test_started_at_the_weight_it_has(pair):
    """A rollout from where a hand had set the weight: the course does not move, the evidence knows it."""
    teal = pair(*SLOW)
    with Load(teal) as load:
        teal.weight(25)
        order(teal, "start")
        trip(teal, load)
    e = evidence(teal)
    assert (e["action"], e["weight"], e["rollout"]["step"]) == ("trip", 25, 1)
    assert [p["weight"] for p in e["timeline"]] == [25, 0]
    assert not load.failed


# --- the lock-out --------------------------------------------------------------------------------
def trip(teal, load):
    teal.green.fault = always("status=500")
    s = tripped(teal)
    teal.green.fault = None
    load.more(1)
    return s


def test_a_tripped_color_is_locked_out(pair):
    teal = pair(*SLOW, service={"health": PROBES})
    wait_for(lambda: teal.service()["colors"]["green"]["backends"][0]["state"] == "up", "green")
    with Load(teal) as load:
        order(teal, "start")
        s = trip(teal, load)
        assert s["trip"]["rule"] == "failure_rate" and s["trip"]["color"] == "green"
        assert s["trip"]["time"] and s["trip"]["reason"] == s["rollout"]["reason"]
        assert order(teal, "start", code=409)["code"] == "tripped"
        put = ("PUT", "/v1/services/web/weight")
        status, answer = teal.admin(*put, {"weight": 1})
        assert status == 409 and answer["error"]["code"] == "tripped"
        assert teal.admin(*put, {"weight": 0})[0] == 200
        # the probes pass all the while, and that is not enough
        probes = len(teal.green.find("/health/readiness"))
        wait_for(lambda: len(teal.green.find("/health/readiness")) > probes + 3, "more probes")
        s = teal.service()
        assert s["tripped"] and s["weight"] == 0
        s = rearm(teal)
        assert s["tripped"] is False and s["trip"] is None and s["weight"] == 0
        rearm(teal, code=409)
        assert order(teal, "start")["weight"] == 25
        load.more(20)
    assert not load.failed
    assert history(teal, "rearm")


def test_start_may_rearm(pair):
    teal = pair(*SLOW)
    with Load(teal) as load:
        order(teal, "start")
        trip(teal, load)
        s = order(teal, "start", rearm=True)
        assert s["tripped"] is False and s["weight"] == 25
    assert not load.failed


def test_rearm_with_tealctl(pair):
    teal = pair(*SLOW)
    with Load(teal) as load:
        teal.weight(25)
        trip(teal, load)
        assert teal.service()["rollout"]["state"] == "idle"
        teal.ctl("weight", "25", code=1)
        teal.ctl("rollout", "start", code=1)
        teal.ctl("rearm", "--reason", "it was the network")
        teal.ctl("weight", "25")
        assert teal.service()["weight"] == 25
        trip(teal, load)
        teal.ctl("rollout", "start", "--rearm")
        assert teal.service()["weight"] == 25


def up(teal, color):
    return [b["state"] for b in teal.service()["colors"][color]["backends"]].count("up")


def running(script):
    """Does a process run it?"""
    return any(
        str(script).encode() in x.split(b"\0") for x in map(read_bytes, Path("/proc").glob("[0-9]*/cmdline"))
    )


def read_bytes(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


# --- gates ---------------------------------------------------------------------------------------
def test_gate_goes(pair, gate):
    teal = pair((25, "100ms"), (100, "100ms"), gate=gate.config)
    with Load(teal) as load:
        s = order(teal, "start")
        r = s["rollout"]
        assert (s["weight"], r["state"], r["entered"], r["gate"]) == (0, "stepping", False, True)
        wait_for(lambda: gate.steps() == ["web/green/1/2/25.00"], "the gate of step 1")
        load.more(20)  # nobody waits for it
        assert teal.service()["weight"] == 0
        gate.say(0)
        wait_for(lambda: gate.steps()[1:] == ["web/green/2/2/100.00"], "the gate of step 2")
        s = teal.service()
        assert (s["weight"], s["rollout"]["step"], s["rollout"]["entered"]) == (25, 2, False)
        gate.say(0)
        until(teal, "the promotion", state="promoted")
    assert not load.failed


def test_gate_refuses(pair, gate):
    teal = pair(*SLOW, gate=gate.config)
    order(teal, "start")
    gate.say(3, "the database is not migrated")
    s = until(teal, "the refusal", state="paused", gate=False)
    assert s["weight"] == 0 and not s["rollout"]["entered"]
    for words in ("gate", "exit code 3", "the database is not migrated"):
        assert words in s["rollout"]["reason"]
    # resumed, it is asked again
    assert order(teal, "resume")["rollout"]["gate"]
    gate.say(0)
    assert until(teal, "step 1", entered=True)["weight"] == 25
    # the weight stays while the next is refused
    order(teal, "promote")
    wait_for(lambda: len(gate.steps()) == 3, "the gate of step 2")
    gate.say(1)
    s = until(teal, "the refusal", state="paused", step=2)
    assert s["weight"] == 25
    # who promotes goes past it
    s = order(teal, "promote")
    assert (s["weight"], s["rollout"]["entered"]) == (50, True)
    assert len(gate.steps()) == 3


def test_gate_that_takes_too_long(pair, gate):
    teal = pair(*SLOW, gate={**gate.config, "timeout": "200ms"})
    order(teal, "start")
    s = until(teal, "the refusal", state="paused")
    assert "timed out" in s["rollout"]["reason"] and s["weight"] == 0


def test_gate_that_has_vanished(pair, gate):
    teal = pair(*SLOW, gate=gate.config)
    gate.script.unlink()
    order(teal, "start")
    s = until(teal, "the refusal", state="paused")
    assert "No such file" in s["rollout"]["reason"] and s["weight"] == 0


@pytest.mark.parametrize("action, state", [("pause", "paused"), ("abort", "rolled_back")])
def test_orders_while_the_gate_is_asked(pair, gate, action, state):
    teal = pair(*SLOW, gate=gate.config)
    order(teal, "start")
    wait_for(gate.steps, "the gate")
    s = order(teal, action)
    r = s["rollout"]
    assert (r["state"], r["gate"], s["weight"]) == (state, False, 0)
    gate.say(0)  # nobody listens any more
    if action == "pause":
        order(teal, "resume")
        assert until(teal, "step 1", entered=True)["weight"] == 25
        assert len(gate.steps()) == 2


def test_promote_past_a_gate_that_is_asked(pair, gate):
    teal = pair(*SLOW, gate=gate.config)
    order(teal, "start")
    wait_for(gate.steps, "the gate")
    s = order(teal, "promote")
    assert (s["weight"], s["rollout"]["step"], s["rollout"]["gate"]) == (25, 1, False)


def test_flip_while_the_gate_is_asked(pair, gate):
    teal = pair(*SLOW, gate=gate.config)
    order(teal, "start")
    wait_for(gate.steps, "the gate")
    teal.ctl("flip", "blue")
    r = teal.service()["rollout"]
    assert (r["state"], r["gate"]) == ("rolled_back", False)
    assert evidence(teal)["weight"] == 0
    wait_for(lambda: not running(gate.script), "the gate's end")


def test_gate_says_yes_while_there_is_no_way_back(pair, gate):
    """Nobody of blue is up: green must not get more; the gate is asked again when somebody is."""
    teal = pair(*SLOW, gate=gate.config, service={"health": PROBES})
    colors = ("blue", "green")
    wait_for(lambda: [up(teal, c) for c in colors] == [1, 1], "the probes")
    gate.say(0)
    order(teal, "start")
    until(teal, "step 1", entered=True)
    order(teal, "promote")
    wait_for(lambda: len(gate.steps()) == 2, "the gate of step 2")
    teal.blue.health["/health/readiness"] = 503
    wait_for(
        lambda: (seen := teal.service()["rollout"]["judgement"]) and seen["frozen"], "the freeze"
    )
    gate.say(0)
    s = until(teal, "the answer to be heard", gate=False)
    assert (s["weight"], s["rollout"]["step"], s["rollout"]["entered"]) == (25, 2, False)
    assert up(teal, "blue") == 0 and len(gate.steps()) == 2
    teal.blue.health.clear()
    wait_for(lambda: len(gate.steps()) == 3, "the gate to be asked again")
    gate.say(0)
    assert until(teal, "step 2", entered=True, step=2)["weight"] == 50


def test_orders_before_a_gate_are_in_the_log(pair, gate):
    """Who asked for the step, and why, although it is the gate that lets it pass."""
    teal = pair(*SLOW, gate=gate.config)
    order(teal, "start")
    gate.say(1)
    until(teal, "the refusal", state="paused")
    order(teal, "resume", reason="OPS-1")
    (done,) = history(teal, "rollout resume")
    assert (done["reason"], done["by"]["pid"]) == ("OPS-1", os.getpid())
    (asked,) = history(teal, "gate asked")
    assert (asked["to"], asked["reason"]) == ("step 1, 25 %", "OPS-1")
    gate.say(0)
    until(teal, "step 1", entered=True)
    order(teal, "promote", reason="OPS-2")
    (done,) = history(teal, "rollout promote")
    assert (done["reason"], done["by"]["pid"]) == ("OPS-2", os.getpid())
    assert history(teal, "gate asked")[-1]["to"] == "step 2, 50 %"
    gate.say(0)
    until(teal, "step 2", entered=True, step=2)
    assert history(teal, "step")[-1]["by"] == "teal"


def test_trip_while_the_next_gate_is_asked(pair, gate):
    teal = pair(*SLOW, gate=gate.config)
    with Load(teal) as load:
        gate.say(0)
        order(teal, "start")
        until(teal, "step 1", entered=True)
        order(teal, "promote")
        wait_for(lambda: len(gate.steps()) == 2, "the gate of step 2")
        teal.green.fault = always("status=500")
        tripped(teal)
        gate.say(0)
        load.more(10)
        s = teal.service()
        assert s["tripped"] and s["weight"] == 0 and s["rollout"]["gate"] is False
    assert not load.failed


# --- tealctl that waits --------------------------------------------------------------------------
class Waiting:
    """tealctl in the background."""

    def __init__(self, teal, *args):
        self.process = subprocess.Popen(
            [str(TEALCTL), "-s", teal.admin_socket, *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def ends(self, code):
        out, err = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == code, (self.process.returncode, out, err)
        return out, err


START = ("rollout", "start", "--wait")


def test_wait_for_the_promotion(pair):
    teal = pair((25, "200ms"), (100, "200ms"))
    with Load(teal):
        out, _ = Waiting(teal, *START).ends(0)
    assert "promoted" in out and "\x1b" not in out


def test_wait_for_the_way_back(pair):
    teal = pair(*SLOW)
    with Load(teal):
        waiting = Waiting(teal, *START)
        until(teal, "the rollout", state="stepping")
        teal.green.fault = always("status=500")
        out, err = waiting.ends(3)
    assert "failed" in out + err


def test_wait_for_an_abort(pair):
    teal = pair(*SLOW)
    waiting = Waiting(teal, *START)
    until(teal, "the rollout", state="stepping")
    order(teal, "abort")
    waiting.ends(3)


def test_wait_ends_with_a_pause(pair):
    teal = pair((25, "50ms"), (100, "50ms"), max_hold="1s")
    out, err = Waiting(teal, *START).ends(4)
    assert "inconclusive" in out + err


def test_wait_ends_with_a_refused_gate(pair, gate):
    teal = pair(*SLOW, gate=gate.config)
    gate.say(1, "no, thanks")
    out, err = Waiting(teal, *START).ends(4)
    assert "no, thanks" in out + err


def test_wait_times_out(pair):
    teal = pair(*SLOW)
    Waiting(teal, *START, "--timeout", "300ms").ends(5)
    assert teal.service()["rollout"]["state"] == "stepping"


def test_wait_when_refused(pair):
    teal = pair(*SLOW)
    _, err = Waiting(teal, *START, "--to", "blue").ends(1)
    assert "live" in err
    Waiting(teal, *START, "--steps", "50:1s,25:1s").ends(2)
    Waiting(teal, "rollout", "dance").ends(2)


def test_wait_when_teal_goes_away(pair):
    teal = pair(*SLOW)
    waiting = Waiting(teal, *START, "--timeout", "10s")
    until(teal, "the rollout", state="stepping")
    teal.process.kill()
    teal.wait()
    teal.start()
    with Load(teal):
        order(teal, "promote", full=True)
    waiting.ends(0)


def test_deploy(pair, make_origin):
    """New backends are put into the candidate's pool, waited for, and brought in."""
    teal = pair((50, "100ms"), (100, "100ms"), service={"health": PROBES})
    new = make_origin("new", version="v3")
    new.health["/health/readiness"] = 503
    with Load(teal) as load:
        waiting = Waiting(teal, "deploy", "--backends", new.address, "--wait")
        wait_for(lambda: new.find("/health/readiness"), "a probe")
        load.more(20)
        assert teal.service()["weight"] == 0
        new.health.clear()
        waiting.ends(0)
        load.more(5)
    assert not load.failed
    s = teal.service()
    assert s["live"] == "green"
    assert [b["address"] for b in s["colors"]["green"]["backends"]] == [new.address]
    assert teal.get("/").origin == "new"


def test_orders_of_tealctl(pair):
    teal = pair(*SLOW)
    teal.ctl("rollout", "start")
    teal.ctl("rollout", "pause", "--reason", "lunch")
    assert "lunch" in teal.ctl("status").stdout
    teal.ctl("rollout", "resume", "web")
    teal.ctl("rollout", "promote")
    assert json.loads(teal.ctl("--json", "status", "web").stdout)["rollout"]["step"] == 2
    teal.ctl("rollout", "abort")
    teal.ctl("rollout", "abort", code=1)
    out = teal.ctl("history").stdout
    assert "lunch" in out and "abort" in out


# --- together ------------------------------------------------------------------------------------
def test_two_rollouts_at_once_exactly_one_begins(pair):
    teal = pair(*SLOW)
    results = []

    def start():
        results.append(
            teal.admin("POST", "/v1/services/web/rollout", {"action": "start"})[0]
        )

    threads = [threading.Thread(target=start) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == [200] + [409] * 7
    assert teal.service()["weight"] == 25
