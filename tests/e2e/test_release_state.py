"""A release outlives its process: kill -9 in every state, full and read-only disks, damaged files,
operators that race, and the log of who did what."""
import errno
import json
import os
import random
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import service
from harness import Peer, free_port, start_nginx, wait_for
from traffic import (
    SLOW,
    Load,
    always,
    evidence,
    history,
    order,
    plan,
    rearm,
    tripped,
    tripped_at_once,
    until,
)

MINUTES = ((25, "60s"), (50, "60s"), (100, "60s"))  # a hold whose progress is saved each second


@pytest.fixture
def pair(make_edge, make_origin):
    def make(*steps, top=None, **rollout):
        blue, green = make_origin("blue"), make_origin("green", version="v2")
        more = {"rollout": plan(*steps or SLOW, **rollout)}
        teal = make_edge(blue, green, more=more, **(top or {}))
        teal.blue, teal.green = blue, green
        return teal

    return make


def kill(teal):
    """kill -9, and a new one."""
    teal.process.kill()
    teal.wait()
    teal.start()


def restart(teal):
    teal.restart()


BOTH = pytest.mark.parametrize("again", [kill, restart])


def kept(teal):
    """The service as the state file has it."""
    (one,) = json.loads((teal.state / "state.json").read_text())["services"]
    return one


def same(before, after, but=()):
    """What a restart must not change."""
    for key in ("live", "candidate", "weight", "epoch", "tripped", "trip"):
        assert key in but or after[key] == before[key], key
    for key in ("state", "to", "step", "entered", "steps", "since", "step_since", "waiting"):
        assert after["rollout"][key] == before["rollout"][key], key


def share_of_green(teal, n=40):
    with teal.h1() as c:
        return sum(c.get("/x").origin == "green" for _ in range(n)) / n


def trip(teal):
    teal.green.fault = always("status=500")
    with teal.h1() as c:
        for _ in range(40):
            assert c.get("/x").status == 200
    return tripped(teal)


# --- kill -9 -------------------------------------------------------------------------------------
@BOTH
def test_stepping(pair, again):
    """The hold goes on where it was."""
    teal = pair(*MINUTES)
    with Load(teal, h1=1):
        order(teal, "start")
        order(teal, "promote")
        wait_for(lambda: kept(teal)["rollout"]["held_ms"], "the hold's progress on disk")
    before = teal.service()
    held = kept(teal)["rollout"]["held_ms"]
    again(teal)
    after = teal.service()
    same(before, after)
    assert after["rollout"]["held_ms"] >= held
    assert (after["weight"], after["rollout"]["step"]) == (50, 2)
    assert abs(share_of_green(teal) - 0.5) < 0.1
    wait_for(lambda: teal.service()["rollout"]["held_ms"] > held, "the hold to go on")
    trip(teal)  # and is guarded


@BOTH
def test_gate_pending(pair, gate, again):
    teal = pair(gate=gate.config)
    gate.say(0)
    order(teal, "start")
    until(teal, "step 1", entered=True)
    order(teal, "promote")
    wait_for(lambda: len(gate.steps()) == 2, "the gate of step 2")
    before = teal.service()
    again(teal)
    same(before, teal.service(), but=("epoch",))  # to ask again is a move of its own
    assert teal.service()["weight"] == 25
    wait_for(lambda: len(gate.steps()) == 3, "the gate to be asked again")
    gate.say(0)
    assert until(teal, "step 2", step=2, entered=True)["weight"] == 50


@BOTH
def test_paused(pair, again):
    teal = pair((25, "100ms"), (100, "100ms"))
    with Load(teal, h1=1):
        order(teal, "start")
        order(teal, "pause", reason="lunch")
    before = teal.service()
    again(teal)
    after = teal.service()
    same(before, after)
    assert after["rollout"]["reason"] == before["rollout"]["reason"]
    with Load(teal) as load:
        load.more(50)
        assert teal.service()["rollout"]["state"] == "paused"
        order(teal, "resume")
        until(teal, "the promotion", state="promoted")


@BOTH
def test_waiting_for_promote(pair, again):
    teal = pair((25, "50ms"), (100, "50ms"), auto=False)
    with Load(teal):
        order(teal, "start")
        before = until(teal, "it to wait", waiting=True)
    again(teal)
    same(before, teal.service())
    assert order(teal, "promote")["weight"] == 100


@BOTH
def test_tripped(pair, again):
    teal = pair()
    order(teal, "start")
    before = trip(teal)
    kept_evidence = evidence(teal)
    teal.green.fault = None
    for _ in range(2):
        again(teal)
        after = teal.service()
        same(before, after)
        assert after["tripped"] and after["weight"] == 0 and share_of_green(teal) == 0
        assert order(teal, "start", code=409)["code"] == "tripped"
        assert evidence(teal) == kept_evidence
    rearm(teal)
    again(teal)
    assert teal.service()["tripped"] is False
    assert order(teal, "start")["weight"] == 25


def test_killed_at_the_trip(pair):
    """Who has heard of it finds it after a kill -9."""
    teal = pair()
    for _ in range(3):
        order(teal, "start", rearm=True)
        with Load(teal, pause=0):
            teal.green.fault = always("status=500")
            tripped_at_once(teal)
            teal.process.kill()
        teal.wait()
        teal.green.fault = None
        teal.start()
        s = teal.service()
        assert s["tripped"] and s["weight"] == 0 and s["rollout"]["state"] == "rolled_back"


@BOTH
def test_promoted(pair, again):
    teal = pair()
    order(teal, "start")
    order(teal, "promote", full=True)
    before = teal.service()
    again(teal)
    same(before, teal.service())
    assert share_of_green(teal) == 1
    s = order(teal, "start")
    assert (s["rollout"]["to"], s["weight"]) == ("blue", 25)


@BOTH
def test_rolled_back(pair, again):
    teal = pair()
    order(teal, "start")
    order(teal, "abort", reason="no")
    before = teal.service()
    again(teal)
    same(before, teal.service())
    assert teal.service()["rollout"]["reason"] == "no" and share_of_green(teal) == 0
    order(teal, "start")


@BOTH
def test_a_weight_by_hand_is_guarded_again(pair, again):
    teal = pair()
    teal.weight(50)
    again(teal)
    assert trip(teal)["weight"] == 0
    assert evidence(teal)["weight"] == 50


def test_killed_anywhere(pair):
    """The walk goes on to its end, however often and wherever it is cut off."""
    teal = pair((25, "200ms"), (50, "200ms"), (100, "200ms"))
    chance = random.Random(7)
    with Load(teal, h1=3) as load:
        order(teal, "start")
        for _ in range(6):
            load.more(chance.randrange(1, 60))
            kill(teal)
            s = teal.service()
            r = s["rollout"]
            if r["state"] == "promoted":
                break
            assert r["state"] == "stepping"
            assert s["weight"] == r["steps"][r["step"] - 1]["weight"]
        s = until(teal, "the promotion", state="promoted")
        assert (s["live"], s["weight"]) == ("green", 0)


# --- kill -9 of backends -------------------------------------------------------------------------
@pytest.fixture
def processes():
    """Origins that are processes of their own, to be killed."""
    made = []
    script = str(Path(__file__).with_name("origin.py"))

    def make(name, port=None):
        port = port or free_port()
        made.append(Peer([sys.executable, script, "--port", str(port), "--name", name], port))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def die(peer):
    peer.process.kill()
    peer.process.wait()


def test_a_backend_of_the_candidate_is_killed(make_edge, processes):
    """Its requests go to its neighbour; the release goes on."""
    blue, greens = processes("blue"), [processes("green") for _ in range(2)]
    limits = {"failure_rate": 60.0, "relative": False, "healthy_backends": 50.0}
    teal = make_edge(blue, greens, more={"rollout": plan((50, "300ms"), (100, "300ms"),
                                                         limits=limits)})
    with Load(teal) as load:
        order(teal, "start")
        load.more(20)
        die(greens[0])
        s = until(teal, "the promotion", state="promoted")
        load.more(20)
    assert s["live"] == "green"
    # those that were under way were rescued, or retried on the other
    assert not [a for a in load.failed if a.origin == "blue"]
    assert not load.failed


def test_the_candidate_is_killed(make_edge, processes):
    blue, green = processes("blue"), processes("green")
    teal = make_edge(blue, green, more={"rollout": plan(*SLOW)})
    with Load(teal, h2=1) as load:
        order(teal, "start")
        load.more(20)
        die(green)
        s = load.see_trip()
        assert s["weight"] == 0 and s["rollout"]["state"] == "rolled_back"
        load.more(40)
    assert not load.failed and not load.errors


def test_nginx_goes_away(make_edge, nginx, tmp_path):
    """A real server that closes its connections, used and idle, and listens no more."""
    green = start_nginx(tmp_path)
    try:
        teal = make_edge(nginx, green, more={"rollout": plan(*SLOW)})
        with Load(teal, h1=6, h2=1, where="/hello") as load:
            order(teal, "start")
            wait_for(lambda: teal.service()["colors"]["green"]["requests"] > 20, "green's share")
            green.process.terminate()
            load.see_trip()
            load.more(50)
    finally:
        green.stop()
    assert not load.failed and not load.errors
    assert teal.service()["weight"] == 0


def test_the_live_color_is_killed(make_edge, processes):
    """The candidate is not blamed for it, and takes over when its time has come."""
    blue, green = processes("blue"), processes("green")
    steps = ((25, "300ms"), (100, "300ms"))
    teal = make_edge(blue, green, more={"rollout": plan(*steps)})
    with Load(teal) as load:
        order(teal, "start")
        load.more(20)
        die(blue)
        s = until(teal, "the promotion", state="promoted")
        assert s["live"] == "green" and s["tripped"] is False
        load.more(20)
    assert {a.status for a in load.answers[-10:]} == {200}


# --- a disk that takes nothing -------------------------------------------------------------------
class Disk:
    """A small file system of its own."""

    def __init__(self, path):
        self.path = path
        self.filler = path / "filler"
        self.read_only = False
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)],
            capture_output=True, check=False,
        ).returncode:
            pytest.skip("no right to mount")

    def refuse(self, how):
        if how == "read-only":
            self.read_only = True
            subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)
            return "Read-only file system"
        with open(self.filler, "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 1024):
                    pass
            except OSError as e:
                assert e.errno == errno.ENOSPC
        return "No space left on device"

    def take(self):
        if self.read_only:
            subprocess.run(["mount", "-o", "remount,rw", str(self.path)], check=True)
        self.filler.unlink(missing_ok=True)

    def gone(self):
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True, check=False)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    one = Disk(path)
    yield one
    one.take()
    one.gone()


@pytest.fixture
def on_disk(disk, pair):
    def make(*steps, **rollout):
        teal = pair(*steps, top={"state": {"directory": str(disk.path)}}, **rollout)
        teal.state = disk.path
        return teal

    return make


REFUSALS = pytest.mark.parametrize("how", ["full", "read-only"])


@REFUSALS
def test_changes_are_refused(on_disk, disk, how):
    teal = on_disk()
    teal.weight(10)
    before = teal.service()
    sentence = disk.refuse(how)
    for method, path, body in (
        ("PUT", "weight", {"weight": 50}),
        ("POST", "flip", {"color": "green"}),
        ("POST", "rollout", {"action": "start"}),
        ("PUT", "maintenance", {"on": True}),
        ("PUT", "pools/green", {"backends": [teal.blue.address]}),
    ):
        status, answer = teal.admin(method, f"/v1/services/web/{path}", body)
        assert status == 507, (path, answer)
        assert answer["error"]["code"] == "state-not-written"
        assert sentence in answer["error"]["message"]
    run = teal.ctl("rollout", "start", code=1)
    assert sentence in run.stderr
    same(before, teal.service())
    assert 0 < share_of_green(teal) < 0.3  # traffic goes on
    assert sentence in teal.stderr()
    disk.take()
    assert order(teal, "start")["weight"] == 25
    kill(teal)
    assert teal.service()["rollout"]["state"] == "stepping"


@REFUSALS
def test_no_step_without_the_disk(on_disk, disk, how):
    """What is decided by itself and cannot be written does not happen, and is said."""
    teal = on_disk((25, "300ms"), (100, "300ms"))
    with Load(teal, h1=2) as load:
        order(teal, "start")
        load.more(5)
        sentence = disk.refuse(how)
        wait_for(lambda: sentence in teal.service()["rollout"]["reason"], "the reason")
        s = teal.service()
        assert (s["weight"], s["rollout"]["step"], s["rollout"]["state"]) == (25, 1, "stepping")
        assert order(teal, "abort", code=507)["code"] == "state-not-written"
        disk.take()
        s = until(teal, "the promotion", state="promoted")
        assert sentence not in s["rollout"]["reason"]
    assert not load.failed


@REFUSALS
def test_a_trip_does_not_wait_for_the_disk(on_disk, disk, how):
    teal = on_disk()
    with Load(teal) as load:
        order(teal, "start")
        load.more(5)
        disk.refuse(how)
        teal.green.fault = always("status=500")
        s = load.see_trip()
        assert s["weight"] == 0 and s["rollout"]["state"] == "rolled_back"
        seen = len(teal.green.seen)
        load.more(50)
        assert all(load.when(x) < load.visible for x in teal.green.seen[seen:])
        assert kept(teal)["trip"] is None
        disk.take()
        wait_for(lambda: kept(teal)["trip"], "the trip on disk")
    assert not load.failed
    assert kept(teal)["weight_bp"] == 0 and kept(teal)["rollout"]["state"] == "rolled_back"
    kill(teal)
    assert teal.service()["tripped"]


# --- damaged -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "\0" * len(text),
        lambda text: text.replace('"stepping"', '"promoted"'),
        lambda text: text.replace('"teal_state": 2', '"teal_state": 99'),
        lambda text: '{"somebody": "else"}',
    ],
    ids=["cut", "empty", "zeros", "changed", "newer", "foreign"],
)
def test_damaged_state(pair, damage):
    teal = pair()
    order(teal, "start")
    teal.stop(clean=False)
    text = (teal.state / "state.json").read_text()
    wrong = damage(text)
    assert wrong != text
    (teal.state / "state.json").write_text(wrong)
    teal.start()
    s = teal.service()
    assert (s["live"], s["weight"], s["rollout"]["state"]) == ("blue", 0, "idle")
    assert share_of_green(teal) == 0
    (aside,) = [f for f in teal.state.iterdir() if "damaged" in f.name]
    assert aside.read_text() == wrong
    assert aside.name in teal.stderr()
    assert order(teal, "start")["weight"] == 25
    kill(teal)
    assert teal.service()["weight"] == 25


def test_damaged_evidence_and_audit_log(pair):
    teal = pair()
    teal.weight(5)
    teal.stop(clean=False)
    (teal.state / "evidence-web.json").write_text('{"cut')
    with open(teal.state / "audit.log", "ab") as f:
        f.write(b'\xff\xfe{"half a li')
    teal.start()
    evidence(teal, code=404)
    assert [e["to"] for e in history(teal, "weight")] == ["5 %"]
    teal.weight(6)
    lines = (teal.state / "audit.log").read_bytes().split(b"\n")
    assert json.loads(lines[-2])["to"] == "6 %"
    teal.restart()
    assert [e["to"] for e in history(teal, "weight")] == ["5 %", "6 %"]


def test_no_service_is_lost(make_teal, make_origin):
    """Each has a release of its own."""
    services = [
        {
            "name": name,
            "hosts": [f"{name}.test"],
            "blue": {"backends": [make_origin("blue").address]},
            "green": {"backends": [make_origin("green").address]},
            "rollout": plan(*SLOW),
        }
        for name in ("one", "two", "three")
    ]
    teal = make_teal({"services": services})
    teal.ctl("rollout", "start", "two")
    teal.ctl("weight", "three", "7.5")
    kill(teal)
    assert [teal.service(n)["weight"] for n in ("one", "two", "three")] == [0, 25, 7.5]
    assert [teal.service(n)["rollout"]["state"] for n in ("one", "two")] == ["idle", "stepping"]


# --- who did it ----------------------------------------------------------------------------------
def test_operators_that_race(pair):
    """--if-epoch: of all that have seen the same, exactly one gets through."""
    teal = pair()
    for _ in range(5):
        epoch = teal.service()["epoch"]
        results = []

        def run(n, epoch=epoch, results=results):
            body = {"weight": n + 1, "if_epoch": epoch, "reason": f"operator {n}"}
            results.append((n, *teal.admin("PUT", "/v1/services/web/weight", body)))

        threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        won = [r for r in results if r[1] == 200]
        assert len(won) == 1
        assert {r[2]["error"]["code"] for r in results if r[1] != 200} == {"stale-epoch"}
        n, _, s = won[0]
        assert s["weight"] == n + 1 == teal.service()["weight"]
        assert history(teal, "weight")[-1]["reason"] == f"operator {n}"


class Writes:
    """Counts how often a file is replaced, from a thread, for as long as it is entered."""

    def __init__(self, path):
        self.path, self.n, self.ended = path, 0, threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self):
        last = None
        while not self.ended.is_set():
            at = os.stat(self.path)
            self.n += last not in (None, (at.st_ino, at.st_mtime_ns))
            last = (at.st_ino, at.st_mtime_ns)
            self.ended.wait(0.001)

    def __enter__(self):
        self.began = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    @property
    def seconds(self):
        return time.monotonic() - self.began


def test_progress_of_many_is_one_write_a_second(make_teal, make_origin):
    """100 of 200 services are at a step: their progress costs one write a second for all, and an operator's change one more."""
    blue, green = make_origin("blue"), make_origin("green")
    names = [f"s{n}" for n in range(200)]
    services = [
        service(blue, green, name=name, hosts=[f"{name}.test"], rollout=plan(*MINUTES))
        for name in names
    ]
    teal = make_teal({"services": services})
    for name in names[:100]:
        path = f"/v1/services/{name}/rollout"
        assert teal.admin("POST", path, {"action": "start"})[0] == 200
    changes = 0
    with Writes(teal.state / "state.json") as writes:
        for percent in range(1, 6):
            seen = writes.n
            teal.weight(percent, name="s150")
            changes += 1
            wait_for(lambda n=seen: writes.n >= n + 2, "the change and the progress to be written")
        assert writes.n <= writes.seconds + 1 + changes, (writes.n, writes.seconds)
    (one,) = [x for x in json.loads((teal.state / "state.json").read_text())["services"]
              if x["name"] == "s99"]
    assert one["rollout"]["held_ms"] > 0


def test_two_tealctl_that_race(pair):
    teal = pair()
    epoch = str(teal.service()["epoch"])
    codes = []

    def run(*args):
        codes.append(teal.ctl(*args, "--if-epoch", epoch, code=None).returncode)

    orders = [("rollout", "start"), ("flip", "green")]
    threads = [threading.Thread(target=run, args=args) for args in orders]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(codes) == [0, 1]


def lines(teal):
    return [json.loads(x) for x in (teal.state / "audit.log").read_text().splitlines()]


def test_audit_log(pair):
    teal = pair((25, "50ms"), (100, "50ms"))
    teal.ctl("weight", "12.5", "--reason", "TICKET-7")
    teal.ctl("flip", "green")
    teal.ctl("flip", "blue", "--reason", "ü \"quoted\"")
    teal.ctl("maintenance", "on")
    teal.ctl("maintenance", "off")
    teal.ctl("backend", "drain", "green", teal.green.address)
    teal.ctl("backend", "undrain", "green", teal.green.address)
    with Load(teal):
        order(teal, "start", reason="TICKET-8")
        until(teal, "the promotion", state="promoted")
    order(teal, "start")
    teal.blue.fault = always("status=500")
    with teal.h1() as c:
        for _ in range(20):
            c.get("/x")
    tripped(teal)
    rearm(teal)
    all_of_it = lines(teal)
    (weight,) = [e for e in all_of_it if e["action"] == "weight"]
    assert (weight["from"], weight["to"], weight["reason"]) == ("0 %", "12.50 %", "TICKET-7")
    assert weight["by"]["uid"] == os.geteuid() and weight["by"]["gid"] == os.getegid()
    assert weight["by"]["user"] and weight["by"]["pid"] > 0
    assert [(e["from"], e["to"]) for e in all_of_it if e["action"] == "flip"] == [
        ("blue", "green"), ("green", "blue"),
    ]
    assert all_of_it[2]["reason"] == "ü \"quoted\""
    actions = [e["action"] for e in all_of_it]
    for action in ("maintenance", "backend drain", "backend undrain", "rollout start", "step",
                   "promote", "trip", "rearm"):
        assert action in actions, action
    started = [e for e in all_of_it if e["action"] == "rollout start"]
    assert [(e["from"], e["to"]) for e in started] == [("blue", "green"), ("green", "blue")]
    assert started[0]["reason"] == "TICKET-8" and started[0]["by"]["pid"] == os.getpid()
    # by itself: with the verdict
    for e in all_of_it:
        automatic = e["action"] in ("promote", "trip") or e["to"] == "step 2, 100 %"
        assert (e["by"] == "teal") == automatic, e
        assert not automatic or e["verdict"]
    trip_line = all_of_it[actions.index("trip")]
    assert trip_line["rule"] == "failure_rate" and "blue failed 3 of 3" in trip_line["verdict"]
    for e in all_of_it:
        assert e["service"] == "web" and e["host"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["time"])
    epochs = [e["epoch"] for e in all_of_it]
    assert epochs == sorted(epochs) and epochs[-1] == teal.service()["epoch"]
    assert stat.S_IMODE((teal.state / "audit.log").stat().st_mode) & 0o027 == 0
    # history is the same, and survives
    assert history(teal) == all_of_it
    out = teal.ctl("history").stdout
    for word in ("TICKET-7", "TICKET-8", "promote", "trip", "rearm"):
        assert word in out
    kill(teal)
    assert history(teal) == all_of_it


def test_audit_log_may_be_rotated(pair):
    teal = pair()
    teal.weight(1)
    (teal.state / "audit.log").rename(teal.state / "audit.log.1")
    teal.weight(2)
    assert [e["to"] for e in lines(teal)] == ["2 %"]
    assert [e["to"] for e in history(teal)] == ["1 %", "2 %"]


def test_what_was_refused_is_not_in_the_log(pair):
    teal = pair()
    teal.weight(1)
    teal.ctl("weight", "2", "--if-epoch", "999", code=1)
    teal.ctl("rollout", "abort", code=1)
    assert len(lines(teal)) == len(history(teal)) == 1
