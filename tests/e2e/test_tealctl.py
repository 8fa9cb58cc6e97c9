"""tealctl against an admin socket that plays scripted answers: every exit code of --wait, deploy, events.

What the real teal answers is tested elsewhere (test_admin.py, test_rollout.py); here it is what tealctl makes of it.
"""
import copy
import json
import signal

import pytest

from fake_admin import (
    BACKENDS,
    LOOK,
    POOL,
    PROMOTED,
    REASON,
    ROLLED_BACK,
    START,
    STEPS,
    backend,
    error,
    fake,  # noqa: F401 (a fixture)
    service,
    stepping,
)
from harness import DEADLINE, wait_for


# --- rollout start and its kin -------------------------------------------------------------------
def test_start_says_what_was_asked(fake):
    fake.answers[START] = [stepping(1)]
    run = fake.ctl("rollout", "start", "api", "--to", "green", "--steps", "12.5:90s,100:10m",
                   "--rearm", "--reason", "OPS-7", "--if-epoch", "7")
    assert fake.bodies(START) == [{
        "action": "start", "to": "green", "rearm": True, "reason": "OPS-7", "if_epoch": 7,
        "steps": [{"weight": 12.5, "hold": "90s"}, {"weight": 100, "hold": "10m"}]}]
    assert run.stdout == "api: live blue, green at 25 %, epoch 8, rollout stepping at step 1/3\n"


@pytest.mark.parametrize(
    "args, body",
    [
        (["start"], {"action": "start"}),
        (["pause"], {"action": "pause"}),
        (["resume"], {"action": "resume"}),
        (["promote"], {"action": "promote"}),
        (["promote", "--full"], {"action": "promote", "full": True}),
        (["abort", "--reason", "no"], {"action": "abort", "reason": "no"}),
    ],
)
def test_actions(fake, args, body):
    fake.answers[START] = [stepping(1)]
    fake.ctl("rollout", args[0], "api", *args[1:])
    assert fake.bodies(START) == [body]


def test_rearm(fake):
    fake.answers["POST /v1/services/api/rearm"] = [service(epoch=8)]
    assert "epoch 8" in fake.ctl("rearm", "api", "--if-epoch", "7").stdout
    assert fake.bodies("POST /v1/services/api/rearm") == [{"if_epoch": 7}]


def test_the_only_service_may_be_left_out(fake):
    fake.answers["GET /v1/status"] = [{"services": [service()]}]
    fake.answers[START] = [stepping(1)]
    fake.ctl("rollout", "start")
    assert len(fake.bodies(START)) == 1


def test_refused_is_1(fake):
    fake.answers[START] = [error("tripped", "green was tripped: rearm it first")]
    run = fake.ctl("rollout", "start", "api", "--wait", code=1)
    assert run.stderr == "tealctl: green was tripped: rearm it first\n"
    assert fake.bodies(LOOK) == []


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["rollout"], "rollout takes one of: start, pause, resume, promote, abort"),
        (["rollout", "dance"], "rollout takes one of"),
        (["rollout", "start", "--to", "red"], "--to takes blue or green"),
        (["rollout", "start", "--steps", "25:5m"], "--steps must end at weight 100"),
        (["rollout", "start", "--steps", "50:5m,25:5m,100:1m"], "--steps must have growing"),
        (["rollout", "start", "--steps", "nonsense"], "--steps must be like"),
        (["rollout", "start", "--timeout", "5"], "--timeout takes a duration"),
        (["rollout", "start", "--timeout", "0s"], "--timeout takes a duration"),
        (["rollout", "start", "--timeout", "5s"], "--timeout needs --wait"),
        (["rollout", "start", "a", "b"], "usage: tealctl rollout start"),
        (["rollout", "start", "--full"], "does not take --full"),
        (["rollout", "start", "--backends", "a:1"], "does not take --backends"),
        (["rollout", "pause", "--wait"], "does not take --wait"),
        (["rollout", "promote", "--steps", "100:1m"], "does not take --steps"),
        (["rearm", "--rearm"], "does not take --rearm"),
        (["why", "--reason", "x"], "changes nothing"),
        (["events", "api"], "usage: tealctl events"),
        (["deploy", "api"], "deploy needs --backends"),
        (["deploy", "api", "--backends", "a:1,,b:2"], '--backends: ""'),
        (["deploy", "api", "--backends", "a:1,b"], '--backends: "b"'),
        (["deploy", "api", "--backends", "a:1,b:2", "--backends", "a:1"], "a:1 is there twice"),
        (["deploy", "api", "--backends", "a:1", "--watch"], "does not take --watch"),
    ],
)
def test_wrong_usage_is_2_and_asks_nothing(fake, args, sentence):
    run = fake.ctl(*args, code=2)
    assert sentence in run.stderr
    assert run.stdout == "" and fake.asked == []


# --- --wait --------------------------------------------------------------------------------------
def wait(fake, first, *looks, code=0, args=()):
    fake.answers[START] = [first]
    fake.answers[LOOK] = list(looks) or [first]
    return fake.ctl("rollout", "start", "api", "--wait", *args, code=code)


def test_promoted_is_0(fake):
    frozen = stepping(2, frozen=True, reason="blue has no backend up")
    run = wait(fake, stepping(1, entered=False, gate=True), stepping(1), stepping(1), stepping(2),
               frozen, frozen, stepping(2), stepping(3, entered=False), stepping(3), PROMOTED)
    assert run.stdout == """\
api: rollout to green: 25 % for 5m, 50 % for 5m, 100 % for 10m
api: step 1/3: its gate is asked
api: step 1/3: green has 25 % for 5m
api: step 2/3: green has 50 % for 5m
api: frozen: blue has no backend up
api: goes on
api: step 3/3: green has 100 % for 10m
api: green was promoted: it is live
"""
    assert run.stderr == ""


def test_rolled_back_is_3(fake):
    run = wait(fake, stepping(1), stepping(1), ROLLED_BACK, code=3)
    assert run.stderr.startswith(f"tealctl: api: green was rolled back: {REASON}\n")
    assert "tealctl why api" in run.stderr and "tealctl rearm api" in run.stderr


def test_rolled_back_before_the_first_look(fake):
    wait(fake, stepping(1, entered=False), ROLLED_BACK, code=3)


def test_rolled_back_within_the_start(fake):
    wait(fake, ROLLED_BACK, code=3)
    assert fake.bodies(LOOK) == []


def test_another_rollout_since_is_ours_rolled_back(fake):
    run = wait(fake, stepping(2), stepping(1), code=3)
    assert "another rollout has been started since" in run.stderr


def test_other_steps_are_another_rollout(fake):
    other = copy.deepcopy(stepping(3))
    other["rollout"]["steps"][0]["weight"] = 1
    wait(fake, stepping(2), other, code=3)


def test_promoted_and_the_next_release_has_begun(fake):
    other = service("stepping", 1, weight=25, live="green", epoch=30, to="blue")
    wait(fake, stepping(3), other, code=0)


def test_forgotten_is_3(fake):
    assert "tealctl history" in wait(fake, stepping(1), service(epoch=30), code=3).stderr


def test_paused_is_4(fake):
    paused = service("paused", 2, weight=50, reason="paused by root: lunch")
    run = wait(fake, stepping(2), paused, code=4)
    assert "is paused in step 2/3, at 50 %: paused by root: lunch" in run.stderr
    assert "tealctl rollout resume api" in run.stderr


def test_waiting_for_promote_is_4(fake):
    run = wait(fake, stepping(2), stepping(2, waiting=True), code=4)
    assert "tealctl rollout promote api" in run.stderr


def test_held_longer_is_told_once(fake):
    longer = stepping(2, held_ms=301000, verdict="wait", judgement={
        "word": "wait", "rule": "", "frozen": False, "reason": "green has 3 of 20 requests"})
    run = wait(fake, stepping(2), longer, longer, PROMOTED)
    assert run.stdout.count("step 2 is held longer: green has 3 of 20 requests\n") == 1


def test_timed_out_is_5_and_it_goes_on(fake):
    run = wait(fake, stepping(1), code=5, args=["--timeout", "600ms"])
    assert "the rollout goes on by itself, in step 1/3" in run.stderr
    assert [x for x in fake.asked if x[0] != LOOK] == [(START, {"action": "start"})]


def test_lost_connection_is_tried_again(fake):
    run = wait(fake, stepping(1), None, None, (503, {}), stepping(2), stepping(3), PROMOTED)
    assert run.stderr.count("trying again") == 1
    assert run.stderr.count("teal answers again\n") == 1
    assert "green was promoted" in run.stdout


def test_restart_of_teal_is_lived_through(fake):
    fake.answers[START] = [stepping(1)]
    with fake.running("rollout", "start", "api", "--wait") as run:
        fake.answers[LOOK] = [stepping(1)]
        wait_for(lambda: len(fake.bodies(LOOK)) > 1, "a second look")
        fake.stop()
        assert "trying again" in run.stderr.readline()
        fake.answers[LOOK] = [PROMOTED]
        fake.start()
        out, err = run.communicate(timeout=DEADLINE)
        assert run.returncode == 0 and "promoted" in out and "answers again" in err


def test_dead_teal_times_out(fake):
    run = wait(fake, stepping(1), None, code=5, args=["--timeout", "700ms"])
    assert "the rollout goes on by itself" in run.stderr


def test_service_gone_is_1(fake):
    run = wait(fake, stepping(1), error("no-service", "there is no service api", 404), code=1)
    assert "there is no service api" in run.stderr


def test_resume_and_promote_wait(fake):
    for action in ("resume", "promote"):
        fake.answers[START] = [stepping(2)]
        fake.answers[LOOK] = [stepping(3), PROMOTED]
        run = fake.ctl("rollout", action, "api", "--wait")
        assert "step 3/3: green has 100 %" in run.stdout
    fake.answers[START] = [PROMOTED]
    fake.ctl("rollout", "promote", "api", "--full", "--wait")


def test_wait_in_json(fake):
    run = wait(fake, stepping(1), stepping(1), stepping(2), ROLLED_BACK, code=3, args=["--json"])
    states = [json.loads(x)["rollout"] for x in run.stdout.splitlines()]
    assert [x["step"] for x in states] == [1, 2, None]
    assert states[-1]["state"] == "rolled_back"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_the_rollout_goes_on(fake, number):
    fake.answers[START] = [stepping(1)]
    fake.answers[LOOK] = [stepping(1)]
    with fake.running("rollout", "start", "api", "--wait") as run:
        wait_for(lambda: fake.bodies(LOOK), "a look")
        run.send_signal(number)
        _, err = run.communicate(timeout=DEADLINE)
    # it dies of the signal, as a shell's script expects: $? is 130 and 143
    assert run.returncode == -number
    assert "interrupted; the rollout goes on by itself" in err
    assert "tealctl rollout abort api" in err
    assert fake.bodies(START) == [{"action": "start"}]


def test_reader_gone_the_wait_goes_on(fake):
    fake.answers[START] = [stepping(1)]
    fake.answers[LOOK] = [stepping(2), stepping(3), ROLLED_BACK]
    with fake.running("rollout", "start", "api", "--wait") as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.wait(DEADLINE) == 3


# --- deploy --------------------------------------------------------------------------------------
def starting(saw, **more):
    return backend(BACKENDS[1], "starting", probes={
        "startup": {"well": None, "saw": saw, "passed": 0, "failed": 3, "ago_ms": 12}}, **more)


def deploy(fake, *args, code=0):
    return fake.ctl("deploy", "api", "--backends", ",".join(BACKENDS), *args, code=code)


def test_deploy_waits_for_ready_then_starts(fake):
    wait_1 = service(epoch=8, green=[backend(BACKENDS[0], version="2.1"), starting("refused")])
    wait_2 = service(epoch=8, green=[BACKENDS[0], starting("503 warming up")])
    fake.answers[POOL] = [wait_1]
    fake.answers[LOOK] = [service(epoch=7), wait_1, wait_2, wait_2, service(green=BACKENDS)]
    fake.answers[START] = [stepping(1)]
    run = deploy(fake, "--reason", "OPS-9", "--steps", "100:1m")
    assert fake.bodies(POOL) == [{"backends": BACKENDS, "reason": "OPS-9", "if_epoch": 7}]
    assert fake.bodies(START) == [{"action": "start", "to": "green", "reason": "OPS-9",
                                   "steps": [{"weight": 100, "hold": "1m"}]}]
    assert run.stdout == """\
api: green 10.0.1.11:8080 is up, version 2.1
api: green 10.0.1.12:8080 is starting; startup saw refused
api: green 10.0.1.12:8080 is starting; startup saw 503 warming up
api: green 10.0.1.12:8080 is up
api: live blue, green at 25 %, epoch 8, rollout stepping at step 1/3
"""


@pytest.mark.parametrize("end, code", [(PROMOTED, 0), (ROLLED_BACK, 3),
                                       (service("paused", 1, weight=25), 4)])
def test_deploy_and_wait(fake, end, code):
    ready = service(epoch=8, green=BACKENDS)
    fake.answers[POOL] = [ready]
    fake.answers[START] = [stepping(1)]
    fake.answers[LOOK] = [service(), stepping(1), end]
    deploy(fake, "--wait", code=code)


def test_deploy_with_an_epoch_hands_it_on(fake):
    fake.answers[POOL] = [service(epoch=43, green=BACKENDS)]
    fake.answers[LOOK] = [service(epoch=50)]
    fake.answers[START] = [stepping(1)]
    deploy(fake, "--if-epoch", "42")
    assert fake.bodies(POOL)[0]["if_epoch"] == 42
    assert fake.bodies(START)[0]["if_epoch"] == 43


def test_deploy_that_is_not_ready_is_5(fake):
    dead = service(epoch=8, green=[BACKENDS[0], starting("connection refused")])
    fake.answers[POOL] = [dead]
    fake.answers[LOOK] = [service(), dead]
    run = deploy(fake, "--timeout", "600ms", "--wait", code=5)
    assert "green is not ready in time: 1 of 2 backends are up; no rollout was started" in run.stderr
    assert f"{BACKENDS[1]} is starting; startup saw connection refused" in run.stderr
    assert fake.bodies(START) == []


def test_deploy_that_times_out_in_the_rollout_is_5(fake):
    fake.answers[POOL] = [service(epoch=8, green=BACKENDS)]
    fake.answers[START] = [stepping(1)]
    fake.answers[LOOK] = [service(), stepping(1)]
    run = deploy(fake, "--timeout", "700ms", "--wait", code=5)
    assert "goes on by itself" in run.stderr


@pytest.mark.parametrize(
    "now, args, sentence",
    [
        (service(live="green"), ["--to", "green"], "green is live: a deploy goes to blue"),
        (stepping(2), [], "a rollout to green is under way, in step 2/3"),
        (service("paused", 2, weight=50), [], "a rollout to green is under way"),
        (ROLLED_BACK, [], "tealctl rearm api, or deploy --rearm"),
        (service(weight=12.5), [], "tealctl weight api 0"),
    ],
)
def test_deploy_refused_changes_nothing(fake, now, args, sentence):
    fake.answers[LOOK] = [now]
    run = deploy(fake, *args, code=1)
    assert sentence in run.stderr and "nothing was changed" in run.stderr
    assert [x for x in fake.asked if x[0] != LOOK] == []


def test_deploy_after_a_trip_with_rearm(fake):
    tripped = copy.deepcopy(ROLLED_BACK)
    fake.answers[LOOK] = [tripped]
    fake.answers[POOL] = [service(epoch=21, green=BACKENDS)]
    fake.answers[START] = [stepping(1)]
    deploy(fake, "--rearm")
    assert fake.bodies(START)[0]["rearm"] is True


def test_deploy_looks_again_when_somebody_was_faster(fake):
    fake.answers[LOOK] = [service(epoch=7), service(epoch=9)]
    fake.answers[POOL] = [error("stale-epoch", "the service is at epoch 9"),
                          service(epoch=10, green=BACKENDS)]
    fake.answers[START] = [stepping(1)]
    deploy(fake)
    assert [x["if_epoch"] for x in fake.bodies(POOL)] == [7, 9]


def test_deploy_into_what_became_live_meanwhile(fake):
    fake.answers[LOOK] = [service(epoch=7), service(epoch=9, live="green")]
    fake.answers[POOL] = [error("stale-epoch", "the service is at epoch 9")]
    deploy(fake, "--to", "green", code=1)
    assert len(fake.bodies(POOL)) == 1


def test_deploy_stale_epoch_of_the_operator_is_1(fake):
    fake.answers[POOL] = [error("stale-epoch", "the service is at epoch 9, not 7")]
    run = deploy(fake, "--if-epoch", "7", code=1)
    assert "epoch 9, not 7" in run.stderr and len(fake.bodies(POOL)) == 1


def test_deploy_pool_changed_by_somebody(fake):
    fake.answers[POOL] = [service(epoch=8, green=[starting("refused"), BACKENDS[0]])]
    fake.answers[LOOK] = [service(), service(epoch=9, green=["10.9.9.9:1"])]
    run = deploy(fake, code=1)
    assert "somebody else changed the pool of green" in run.stderr
    assert fake.bodies(START) == []


def test_deploy_a_backend_falls_at_the_start(fake):
    ready = service(epoch=8, green=BACKENDS)
    fake.answers[POOL] = [ready]
    fake.answers[LOOK] = [service(), service(epoch=8, green=[BACKENDS[0], starting("503")]), ready]
    fake.answers[START] = [error("not-ready", "1 of 2 backends of green are up"), stepping(1)]
    run = deploy(fake)
    assert len(fake.bodies(START)) == 2
    assert "is starting; startup saw 503" in run.stdout


def test_deploy_refused_start_says_that_nothing_started(fake):
    fake.answers[POOL] = [service(epoch=8, green=BACKENDS)]
    fake.answers[START] = [error("rollout-active", "a rollout is under way")]
    run = deploy(fake, code=1)
    assert "a rollout is under way" in run.stderr and "no rollout was started" in run.stderr


def test_deploy_lost_at_the_start_says_so(fake):
    fake.answers[POOL] = [service(epoch=8, green=BACKENDS)]
    fake.answers[START] = [None]
    run = deploy(fake, code=1)
    assert "whether the rollout was started is not known" in run.stderr
    assert len(fake.bodies(START)) == 1  # never twice


# --- why, history, events ------------------------------------------------------------------------
EVIDENCE = {
    "service": "api", "time": "2026-11-21T06:00:00Z", "action": "trip", "rule": "failure_rate",
    "reason": REASON, "live": "blue", "candidate": "green", "weight": 25, "epoch": 9,
    "numbers": {"requests": 3, "failures": 3, "failure_rate": 100, "beyond_chance": 29.5,
                "limit": 1, "slow": 0, "overdue": 0, "p95_ms": 12.5, "wealth": 64,
                "backends_up": 2, "backends": 2,
                "live": {"requests": 9, "failures": 0, "failure_rate": 0, "p95_ms": 3.1,
                         "backends_up": 1, "backends": 1}},
    "rollout": {"to": "green", "step": 1, "steps": STEPS},
    "failures": [{"time": "2026-11-21T06:00:00.120Z", "method": "GET", "path": "/a\u001b[31m",
                  "status": 500, "outcome": "status", "backend": BACKENDS[0], "id": "id-1",
                  "age_ms": 4}],
    "timeline": [{"time": "2026-11-21T05:59:00Z", "weight": 25, "why": "step 1"},
                 {"time": "2026-11-21T06:00:00Z", "weight": 0, "why": "trip"}],
    "backends": [{"color": "green", "address": BACKENDS[0], "state": "up", "reason": ""}],
}


def test_why(fake):
    fake.answers["GET /v1/services/api/evidence"] = [EVIDENCE]
    fake.answers[LOOK] = [ROLLED_BACK]
    out = fake.ctl("why", "api").stdout
    assert out.startswith("api: green was rolled back ")
    assert f"(2026-11-21 06:00:00 UTC) by failure_rate: {REASON}\n" in out
    assert "GET /a?[31m" in out and "tealctl rearm api" in out
    assert json.loads(fake.ctl("--json", "why", "api").stdout) == EVIDENCE


def test_why_without_evidence_is_1(fake):
    fake.answers["GET /v1/services/api/evidence"] = [
        error("no-evidence", "nothing was rolled back yet", 404)]
    run = fake.ctl("why", "api", code=1)
    assert run.stderr == "tealctl: nothing was rolled back yet\n" and run.stdout == ""


def test_history(fake):
    answer = {"service": "api", "entries": [
        {"time": "2026-11-21T05:00:00Z", "service": "api", "action": "weight", "from": "0",
         "to": "25", "epoch": 8, "by": {"uid": 0, "user": "root"}, "reason": "OPS-7"}]}
    fake.answers["GET /v1/services/api/history"] = [answer]
    out = fake.ctl("history", "api").stdout
    assert out.splitlines()[1] == "2026-11-21 05:00:00  root  weight 0 -> 25      8  OPS-7"
    assert json.loads(fake.ctl("--json", "history", "api").stdout) == answer


def sse(*events):
    text = ": hello\n\n" + "".join(
        f"id: {e['id']}\nevent: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + text.encode()


EVENTS = [
    {"id": 7, "time": "2026-11-21T06:00:00.120Z", "type": "step", "service": "api", "weight": 25},
    {"id": 8, "time": "2026-11-21T06:00:01.120Z", "type": "tripped", "service": "api",
     "reason": "green\u001bfailed"},
]


@pytest.mark.parametrize("as_json", [False, True])
def test_events(fake, as_json):
    fake.answers["GET /v1/events"] = [sse(*EVENTS)]
    args = (["--json"] if as_json else []) + ["events"]
    with fake.running(*args) as run:
        lines = [run.stdout.readline(), run.stdout.readline()]
        if as_json:
            assert [json.loads(x) for x in lines] == EVENTS
        else:
            assert lines == ["2026-11-21 06:00:00  api  step  weight 25\n",
                             "2026-11-21 06:00:01  api  tripped  reason green?failed\n"]
        # the connection ends: the next one asks for what came after
        more = dict(EVENTS[0], id=9, type="promoted")
        fake.answers["GET /v1/events"] = [sse(more)]
        fake.open.set()
        assert "trying again" in run.stderr.readline()
        assert "promoted" in run.stdout.readline()
        assert "Last-Event-ID: 8\r\n" in fake.heads[1] + "\r\n"


def test_events_end_with_their_reader(fake):
    fake.answers["GET /v1/events"] = [sse(EVENTS[0])]
    with fake.running("events") as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.wait(DEADLINE) == 0  # no event was needed to find out


def test_events_of_an_old_teal_is_1(fake):
    fake.answers["GET /v1/events"] = [error("not-implemented", "no", 404)]
    assert "404" in fake.ctl("events", code=1).stderr
