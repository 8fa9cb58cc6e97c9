#!/usr/bin/python3
"""The demo behind `make demo`: a good release is promoted, then a bad one is rolled back, under load, in half a
minute and unattended.  Standard library only.

What it shows: the bad release lies (its health checks stay well), a handful of its requests fail, and no client sees it.
Ends with 0 when all of that was so.
"""
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("TEAL_BUILD", os.path.join(HERE, "../../build")))
DIRECTORY = os.path.join(BUILD, "demo-release")
SOCKET = os.path.join(DIRECTORY, "admin.sock")
CLIENTS = 8
PAUSE = 0.02  # between a client's requests: together about 300 a second
BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("",) * 3

CONFIG = """# Written by packaging/demo/demo.py.
listen = ( {{ address = "127.0.0.1:{edge}"; }} );
services = (
  {{ name = "demo"; hosts = [ "*" ];
    blue  = {{ backends = [ "127.0.0.1:{blue}" ]; }};
    green = {{ backends = [ "127.0.0.1:{green}" ]; }};
    health = {{ readiness = {{ path = "/health/readiness"; interval = "500ms"; timeout = "400ms"; }}; }};
    rollout = {{ steps = ( {{ weight = 25; hold = "3s"; }}, {{ weight = 50; hold = "3s"; }}, {{ weight = 100; hold = "3s"; }} );
                limits = {{ failure_rate = 1.0; p95 = "500ms"; window = "10s"; }}; }}; }} );
admin = {{ socket = "admin.sock"; }};
state = {{ directory = "state"; }};
log   = {{ level = "warn"; }};
workers = 2;
"""


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Clients:
    """What clients saw: answers by version, and failures."""

    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()
        self.answers, self.failures, self.total = {}, 0, 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(CLIENTS)]

    def start(self):
        for t in self.threads:
            t.start()

    def run(self):
        connection = None
        while not self.stopping.wait(PAUSE):
            version = None
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    version = answer.headers.get("X-Version")
            except (OSError, http.client.HTTPException):
                connection = None
            with self.lock:
                self.total += 1
                if version is None:
                    self.failures += 1
                else:
                    self.answers[version] = self.answers.get(version, 0) + 1

    def seen(self):
        with self.lock:
            return dict(self.answers), self.failures, self.total

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()


class Stage:
    """The processes of the demo; all of them end with it."""

    def __init__(self):
        self.edge, self.blue, self.green = free_ports(3)
        self.running = []

    def start(self, *argv):
        p = subprocess.Popen(argv, cwd=DIRECTORY)
        self.running.append(p)
        return p

    def backend(self, port, color, version):
        p = self.start(sys.executable, os.path.join(HERE, "backend.py"), str(port), color, version)
        await_port(port, p)
        return p

    def end(self, p):
        p.terminate()
        p.wait()
        self.running.remove(p)

    def close(self):
        for p in reversed(self.running):
            p.terminate()
        for p in self.running:
            p.wait()


def await_port(port, process, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
        time.sleep(0.02)
    sys.exit(f"demo: nothing listens on port {port}")


def tealctl(*words, quiet=False):
    if not quiet:
        print(f"{BOLD}$ tealctl {' '.join(words)}{OFF}", flush=True)
    return subprocess.run([os.path.join(BUILD, "tealctl"), "-s", SOCKET, *words]).returncode


def service():
    """The service as the admin API tells it."""
    import json

    class Local(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(SOCKET)

    connection = Local("teal")
    connection.request("GET", "/v1/services/demo")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition(service()):
        if time.monotonic() > deadline:
            sys.exit("demo: waited in vain")
        time.sleep(0.02)


def say(text=""):
    print(text, flush=True)


def table(before, after, clients_before, clients_after):
    say(f"{DIM}                 requests   failed{OFF}")
    for color in ("blue", "green"):
        a, b = before["colors"][color], after["colors"][color]
        say(f"  {color:<12} {b['requests'] - a['requests']:>10} {b['failures'] - a['failures']:>8}")
    failures = clients_after[1] - clients_before[1]
    say(f"  {'clients saw':<12} {clients_after[2] - clients_before[2]:>10} {BOLD}{failures:>8}{OFF}")
    return failures


def good_release(stage, clients):
    say(f"{BOLD}Act 1: green v2 is a good release.{OFF}")
    before, seen = service(), clients.seen()
    code = tealctl("rollout", "start", "--reason", "release v2", "--wait", "--timeout", "40s")
    failures = table(before, service(), seen, clients.seen())
    say(f"  exit code {code}: promoted; green v2 is live\n")
    return code == 0 and failures == 0


def bad_release(stage, clients):
    say(f"{BOLD}Act 2: blue v3 is a bad one. Its health checks are fine; at 25 % every request of it begins to fail.{OFF}")
    blue = stage.backend(stage.blue, "blue", "v3")
    until(lambda s: s["colors"]["blue"]["backends"][0]["state"] == "up")
    before, seen = service(), clients.seen()

    def break_it():
        until(lambda s: s["weight"] == 25 and s["colors"]["blue"]["window_requests"] > 50)
        blue.send_signal(signal.SIGUSR1)

    breaker = threading.Thread(target=break_it)
    breaker.start()
    code = tealctl("rollout", "start", "--reason", "release v3", "--wait", "--timeout", "40s")
    breaker.join()
    failures = table(before, service(), seen, clients.seen())
    say(f"  exit code {code}: rolled back; green v2 never stopped being live\n")
    tealctl("why")
    return code == 3 and failures == 0


def main():
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    os.makedirs(os.path.join(DIRECTORY, "state"))
    stage = Stage()
    with open(os.path.join(DIRECTORY, "teal.conf"), "w", encoding="utf-8") as f:
        f.write(CONFIG.format(edge=stage.edge, blue=stage.blue, green=stage.green))
    clients = Clients(stage.edge)
    try:
        old = stage.backend(stage.blue, "blue", "v1")
        stage.backend(stage.green, "green", "v2")
        teal = stage.start(os.path.join(BUILD, "teal"), "-c", "teal.conf")
        await_port(stage.edge, teal)
        until(lambda s: all(s["colors"][c]["backends"][0]["state"] == "up" for c in ("blue", "green")))
        clients.start()
        until(lambda s: s["colors"]["blue"]["window_requests"] > 100)
        good = good_release(stage, clients)
        stage.end(old)
        bad = bad_release(stage, clients)
        clients.stop()
    finally:
        stage.close()
    total = clients.seen()
    say(f"\n{total[2]} requests in all, {BOLD}{total[1]} failures at clients{OFF}.")
    if not good or not bad:
        sys.exit("demo: this is not how it should have gone")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
