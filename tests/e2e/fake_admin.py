"""An admin socket that plays scripted answers, for tests of tealctl; and what teal would say."""
import contextlib
import json
import os
import re
import socket
import subprocess
import threading

import pytest

from harness import DEADLINE, TEALCTL, die_with_us

START = "POST /v1/services/api/rollout"
LOOK = "GET /v1/services/api"
POOL = "PUT /v1/services/api/pools/green"
STEPS = [
    {"weight": 25, "hold": "5m", "hold_ms": 300000},
    {"weight": 50, "hold": "5m", "hold_ms": 300000},
    {"weight": 100, "hold": "10m", "hold_ms": 600000},
]
BACKENDS = ["10.0.1.11:8080", "10.0.1.12:8080"]


# --- what teal would say -------------------------------------------------------------------------
def backend(address, state="up", **more):
    return {"address": address, "state": state, "reason": "", "inflight": 0, "version": "",
            "probes": {}, "ejected": False, **more}


def color(weight=0, backends=(), **more):
    return {"weight": weight, "share": weight, "rps": 0, "failure_rate": 0, "window_requests": 0,
            "p50_ms": 0, "p95_ms": 0, "p99_ms": 0, "inflight": 0, "requests": 0, "failures": 0,
            "backends": list(backends), **more}


def service(state="idle", step=None, entered=True, weight=0, live="blue", epoch=7, green=(),
            tripped=False, trip=None, **rollout):
    candidate = "green" if live == "blue" else "blue"
    return {
        "name": "api", "epoch": epoch, "live": live, "candidate": candidate, "weight": weight,
        "tripped": tripped, "trip": trip, "maintenance": False,
        "rollout": {
            "state": state, "to": None if state == "idle" else "green", "from": "blue",
            "step": step, "entered": entered, "steps": STEPS,
            "since": "2026-11-21T06:00:00Z", "step_since": None, "held_ms": 0,
            "hold_ms": STEPS[step - 1]["hold_ms"] if step else 0, "left_ms": None,
            "frozen": False, "waiting": False, "gate": False, "reason": "", "verdict": None,
            "judgement": None,
            **rollout,
        },
        "colors": {
            "blue": color(100 - weight, [backend("10.0.0.11:8080")]),
            "green": color(weight, [backend(a) if isinstance(a, str) else a for a in green]),
        },
    }


def stepping(step, **more):
    return service("stepping", step, weight=STEPS[step - 1]["weight"], epoch=7 + step, **more)


REASON = "green failed 3 of 3 (100.0 %, at least 29.5 % beyond chance), limit 1 %"
PROMOTED = service("promoted", live="green", epoch=20)
ROLLED_BACK = service("rolled_back", epoch=20, tripped=True, reason=REASON, trip={
    "time": "2026-11-21T06:00:00Z", "rule": "failure_rate", "reason": REASON, "color": "green"})


def error(code, message, status=409):
    return status, {"error": {"code": code, "message": message}}


# --- the server that says it ---------------------------------------------------------------------
class Fake:
    """answers["GET /v1/services/api"] = [one, two]: played in turn, the last for ever.

    An answer: JSON (200), (status, JSON), bytes (sent as they are), None (closed without a word),
    or a function of the request's body that returns one of these.
    """

    def __init__(self, directory):
        self.path = str(directory / "fake.sock")
        self.answers = {"GET /v1/services/api": [service()]}
        self.asked = []  # (what, body)
        self.heads = []
        self.open = threading.Event()  # holds answers that are bytes open until it is set
        self.socket = None
        self.start()

    def start(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(64)
        threading.Thread(target=self.accept, args=(self.socket,), daemon=True).start()

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        os.unlink(self.path)

    def accept(self, listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer:
            data = b""
            while b"\r\n\r\n" not in data:
                more = peer.recv(65536)
                if not more:
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            found = re.search(rb"content-length: *(\d+)", head, re.I)
            while found and len(body) < int(found[1]):
                body += peer.recv(65536)
            what = " ".join(head.decode().split()[:2])
            body = json.loads(body) if body else None
            self.heads.append(head.decode())
            self.asked.append((what, body))
            self.send(peer, self.next(what, body))

    def next(self, what, body):
        script = self.answers.get(what)
        if script is None:
            return error("not-found", f"the test has no answer to {what}", 404)
        answer = script.pop(0) if len(script) > 1 else script[0]
        return answer(body) if callable(answer) else answer

    def send(self, peer, answer):
        if answer is None:
            return
        if isinstance(answer, bytes):
            peer.sendall(answer)
            self.open.wait(DEADLINE)
            return
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        body = json.dumps(value).encode()
        try:
            peer.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        except OSError:
            pass

    def bodies(self, what):
        return [body for asked, body in self.asked if asked == what]

    # -- tealctl --
    @contextlib.contextmanager
    def running(self, *args):
        """tealctl, running; killed at the end, whatever happens."""
        with subprocess.Popen(self.command(*args), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, preexec_fn=die_with_us) as run:
            try:
                yield run
            finally:
                run.kill()

    def command(self, *args):
        return [str(TEALCTL), "-s", self.path, *args]

    def ctl(self, *args, code=0, **kwargs):
        kwargs.setdefault("env", {**os.environ, "LC_ALL": "C.UTF-8"})
        run = subprocess.run(self.command(*args), capture_output=True, text=True,
                             timeout=DEADLINE, check=False, **kwargs)
        assert run.returncode == code, (run.returncode, run.stdout, run.stderr)
        assert "Sanitizer" not in run.stderr and "runtime error" not in run.stderr, run.stderr
        assert "\033" not in run.stdout + run.stderr  # no terminal: no escape codes
        return run


@pytest.fixture
def fake(tmp_path):
    f = Fake(tmp_path)
    yield f
    f.open.set()
    try:
        f.stop()
    except OSError:
        pass
