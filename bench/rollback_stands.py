"""What `make bench-rollback` compares: each stand is a proxy with a blue and a green origin of its own, green at 25 %.

Every proxy has one worker, no access log, keep-alive to its backends, and waits 3 s for an answer.  Each is configured as its
manual advises: the sentences are cited where a choice was made.  A stand ends what it started, and nothing else.
"""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timezone

HERE = os.path.dirname(os.path.abspath(__file__))
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
DEADLINE = 20.0
COLORS = ("blue", "green")
# the proxies come from /usr/sbin, which is not on everybody's path
PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


def die_with_us():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def now_us():
    return time.monotonic_ns() // 1000


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def until(condition, what, process=None):
    """What the condition said when it was true."""
    deadline = time.monotonic() + DEADLINE
    while not (answer := condition()):
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"waiting for {what}: ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.02)
    return answer


class Processes:
    """What was started here ends here."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, *argv, **kwargs):
        log = open(os.path.join(self.folder, "messages"), "ab")
        with log:
            process = subprocess.Popen(
                argv,
                cwd=self.folder,
                stderr=log,
                env={**os.environ, "PATH": PATH},
                preexec_fn=die_with_us,
                **{"stdout": log, **kwargs},
            )
        self.running.append(process)
        return process

    def end(self, process, how=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.running.remove(process)

    def close(self):
        for process in reversed(self.running[:]):
            self.end(process)


class Origin:
    """bench/origin: its port, its control socket."""

    def __init__(self, processes, program, color, folder):
        self.color, control = color, os.path.join(folder, color + ".sock")
        self.process = processes.start(
            program,
            *("--listen", "127.0.0.1:0", "--control", control, "--version", color),
            stdout=subprocess.PIPE,
        )
        line = self.process.stdout.readline().decode()
        self.process.stdout.close()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the origin says {line!r}")
        self.port = int(line.rsplit(":", 1)[1])
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        until(lambda: self.socket.connect_ex(control) == 0, "the origin's control", self.process)
        self.answers = self.socket.makefile("r")

    def tell(self, command):
        self.socket.sendall(command.encode() + b"\n")
        answer = self.answers.readline().rstrip("\n")
        if answer != "ok":
            raise RuntimeError(f"{command}: {answer}")

    def journal(self):
        """[(microseconds, faulty, the request's number)]"""
        self.socket.sendall(b"since 0\n")
        entries = []
        while (line := self.answers.readline().rstrip("\n")) != ".":
            at, word, target = line.split(" ", 2)
            entries.append((int(at), word == "fault", int(target.rsplit("=", 1)[1])))
        return entries

    def close(self):
        self.answers.close()
        self.socket.close()


class Stand:
    """A proxy; subclasses say how it is started.  title: for people, name: for the results."""

    name = title = ""

    def __init__(self, folder, build):
        self.folder, self.build = folder, build
        os.makedirs(folder)
        self.processes = Processes(folder)
        self.load = None
        self.origins = {}

    def open(self):
        program = os.path.join(self.build, "bench/origin/origin")
        for color in COLORS:
            self.origins[color] = Origin(self.processes, program, color, self.folder)
        (self.port,) = free_ports(1)
        try:
            until(self.answers, f"{self.title} to use both colors", self.begin())
        except RuntimeError as e:
            with open(os.path.join(self.folder, "messages"), encoding="utf-8") as f:
                raise RuntimeError(f"{e}\n{f.read()}") from None

    def begin(self):
        """Its process."""
        raise NotImplementedError

    def tripped(self):
        """What the proxy itself says: {"at": microseconds, "why": ...}, or None."""
        return None

    def answers(self):
        """Both colors answer through it."""
        seen = set()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            for _ in range(24):
                connection.request("GET", "/ready?n=0")
                answer = connection.getresponse()
                answer.read()
                seen.add(answer.headers.get("X-Version"))
            connection.close()
        except (OSError, http.client.HTTPException):
            return False
        return seen >= set(COLORS)

    def start_load(self, gets, posts):
        for origin in self.origins.values():
            origin.tell("zero")
            origin.tell("log on")
        self.out = os.path.join(self.folder, "records")
        self.load = self.processes.start(
            sys.executable,
            os.path.join(HERE, "rollback_load.py"),
            *("--port", str(self.port), "--gets", str(gets), "--posts", str(posts)),
            *("--out", self.out),
        )

    def stop_load(self):
        """No more requests; those under way go on."""
        self.load.send_signal(signal.SIGTERM)

    def records(self):
        """Waits for the load's end: [(number, due, end, method, status, who, late)]"""
        self.load.wait(DEADLINE)
        if self.load.returncode:
            raise RuntimeError(f"the load on {self.title} ended with {self.load.returncode}")
        with open(self.out, encoding="ascii") as f:
            rows = [line.split() for line in f]
        return [
            (int(n), int(due), int(end), method, int(status), who, int(late))
            for n, due, end, method, status, who, late in rows
        ]

    def close(self):
        for origin in self.origins.values():
            origin.close()
        self.processes.close()

    def config(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def ports(self):
        return {"port": self.port, **{c: o.port for c, o in self.origins.items()}}


# --- teal ---------------------------------------------------------------------------------------
TEAL = """
listen = ( {{ address = "127.0.0.1:{port}"; }} );
services = (
  {{ name = "bench"; hosts = [ "*" ];
    blue  = {{ backends = [ "127.0.0.1:{blue}" ]; }};
    green = {{ backends = [ "127.0.0.1:{green}" ]; }};
    health = {{ liveness = {{ path = "/health/liveness"; }}; readiness = {{ path = "/health/readiness"; }}; }};
    timeouts = {{ response = "3s"; }};
    rollout = {{ steps = ( {{ weight = 25; hold = "1h"; }}, {{ weight = 100; hold = "1h"; }} );
                limits = {{ failure_rate = 1.0; p95 = "1s"; window = "30s"; }}; }}; }} );
timeouts = {{ idle = "5m"; }};
admin = {{ socket = "admin.sock"; }};
state = {{ directory = "state"; }};
log   = {{ level = "warn"; access = "off"; }};
workers = 1;
"""


class Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("teal", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Teal(Stand):
    name, title = "teal", "teal"

    def begin(self):
        os.makedirs(os.path.join(self.folder, "state"))
        self.config("teal.conf", TEAL.format(**self.ports()))
        program = os.path.join(self.build, "teal")
        teal = self.processes.start(program, "-c", "teal.conf")
        until(self.up, "teal's backends to be up", teal)
        status, answer = self.admin("POST", "/rollout", {"action": "start", "reason": "bench"})
        if status != 200:
            raise RuntimeError(f"teal does not begin: {answer}")
        return teal

    def admin(self, method, path, body=None):
        connection = Local(os.path.join(self.folder, "admin.sock"))
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, "/v1/services/bench" + path, text)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def up(self):
        try:
            service = self.admin("GET", "")[1]
        except OSError:
            return False
        backends = [b for c in COLORS for b in service["colors"][c]["backends"]]
        return all(b["state"] == "up" for b in backends)

    def tripped(self):
        if not self.admin("GET", "")[1]["tripped"]:
            return None
        evidence = self.admin("GET", "/evidence")[1]
        at = datetime.strptime(evidence["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
        ago = time.time() - at.replace(tzinfo=timezone.utc).timestamp()
        return {"at": now_us() - int(ago * 1e6), "why": evidence["reason"]}


# --- HAProxy ------------------------------------------------------------------------------------
# observe "requires to enable health checks" and says which answers are errors; error-limit is 10 in a row unless said.  Of on-error's
# modes mark-down is the fastest.  redispatch is what its manual has for a server that cannot be reached.
HAPROXY = """
global
    nbthread 1
    maxconn 4000
    stats socket {folder}/stats.sock mode 600 level admin

defaults
    mode http
    timeout connect 3s
    timeout client 30s
    timeout server 3s
    timeout http-keep-alive 5m
    option redispatch{redispatch}

frontend fe
    bind 127.0.0.1:{port}
    default_backend be

backend be
    balance roundrobin
    option httpchk GET /health/readiness
{retry}
    default-server check inter 2s fall 3 rise {rise} observe layer7 error-limit {errors} on-error mark-down
    server blue 127.0.0.1:{blue} weight 75
    server green 127.0.0.1:{green} weight 25
"""
# disable-l7-retry is there "to make sure POST requests aren't retried on failure"
RETRY = """    retries 3
    retry-on all-retryable-errors
    http-request disable-l7-retry unless METH_GET
"""


class Haproxy(Stand):
    name, title = "haproxy", "HAProxy"
    options = {"redispatch": "", "retry": "", "rise": 2, "errors": 10}

    def begin(self):
        text = HAPROXY.format(folder=self.folder, **self.options, **self.ports())
        path = self.config("haproxy.cfg", text)
        return self.processes.start("haproxy", "-db", "-f", path)


class HaproxyTuned(Haproxy):
    """What else it can: idempotent requests are replayed on another server, three errors are enough, and a server comes back
    after 30 s of good health checks, not 4."""

    name, title = "haproxy-tuned", "HAProxy, tuned"
    options = {"redispatch": " 1", "retry": RETRY, "rise": 15, "errors": 3}


class HaproxyScript(Haproxy):
    name, title = "haproxy-script", "HAProxy + script"

    def start_load(self, gets, posts):
        super().start_load(gets, posts)
        self.log = os.path.join(self.folder, "script.log")
        self.processes.start(
            sys.executable,
            os.path.join(HERE, "rollback_script.py"),
            *("--socket", os.path.join(self.folder, "stats.sock")),
            *("--server", "be/green", "--log", self.log),
        )

    def tripped(self):
        try:
            with open(self.log, encoding="ascii") as f:
                at, rate = f.readline().split()
        except (OSError, ValueError):
            return None
        return {"at": int(at), "why": f"{rate} % of 10 s were 5xx"}


# --- nginx --------------------------------------------------------------------------------------
# Its manual's figures for a server that may fail: max_fails=3 fail_timeout=30s (ngx_http_upstream_module).  Statuses count as
# failures only where proxy_next_upstream names them; POST is left alone unless non_idempotent is said.
NGINX = """
{user}
daemon off;
worker_processes 1;
error_log stderr crit;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout 5m;
    keepalive_requests 1000000;
    upstream bench {{
        server 127.0.0.1:{blue} weight=3 {fails};
        server 127.0.0.1:{green} weight=1 {fails};
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 3s;
            proxy_read_timeout 3s;
            proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
        }}
    }}
}}
"""


class Nginx(Stand):
    name, title = "nginx", "nginx"
    fails = "max_fails=3 fail_timeout=30s"

    def begin(self):
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX.format(user=user, folder=self.folder, fails=self.fails, **self.ports())
        path = self.config("nginx.conf", text)
        return self.processes.start("nginx", "-p", self.folder, "-c", path, "-e", "stderr")


class NginxTuned(Nginx):
    """max_fails is no share: failures add up until fail_timeout has passed without one.  This adds up rarely at the load's ordinary
    0.5 %, where the manual's figures take away both colors."""

    name, title = "nginx-tuned", "nginx, tuned"
    fails = "max_fails=100 fail_timeout=1s"


STANDS = (Teal, Haproxy, HaproxyTuned, HaproxyScript, Nginx, NginxTuned)


def missing(build):
    """The programs that are not there."""
    mine = ("teal", "bench/origin/origin")
    gone = [p for p in mine if not os.access(os.path.join(build, p), os.X_OK)]
    return gone + [p for p in ("haproxy", "nginx") if not shutil.which(p, path=PATH)]


def versions(build):
    def first(*argv):
        done = subprocess.run(
            argv, capture_output=True, text=True, env={**os.environ, "PATH": PATH}, check=False
        )
        return (done.stdout or done.stderr).splitlines()[0].strip()

    return {
        "teal": first(os.path.join(build, "teal"), "-V").removeprefix("teal "),
        "HAProxy": first("haproxy", "-v").split()[2],
        "nginx": first("nginx", "-v").rsplit("/", 1)[1],
    }
