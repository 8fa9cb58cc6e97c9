#!/usr/bin/python3
"""What probing many backends costs.

    make bench-probes            (N=1000, SECONDS=20)

Starts teal with N backends and default intervals (liveness 5 s, readiness 2 s), all of them one epoll server in this process
(127.0.x.y, one port), waits until every one is up, and prints the share of a core teal uses over SECONDS; beside it what the same teal
uses that asks nobody. Loopback only.
"""

import json
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

TEXT = b'{"status":"ok","version":"1.2.3"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(TEXT), TEXT)


class Server(threading.Thread):
    """Every request on every connection gets the same answer."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.epoll = select.epoll()
        self.sockets = {}
        self.answered = 0
        self.port = None
        self.listeners = set()
        for host in hosts:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, self.port or 0))
            self.port = s.getsockname()[1]
            s.listen(16)
            self.add(s)
            self.listeners.add(s.fileno())

    def add(self, s):
        s.setblocking(False)
        self.sockets[s.fileno()] = s
        self.epoll.register(s.fileno(), select.EPOLLIN)

    def run(self):
        while True:
            for fd, _ in self.epoll.poll():
                s = self.sockets[fd]
                if fd in self.listeners:
                    self.add(s.accept()[0])
                    continue
                try:
                    data = s.recv(65536)
                except OSError:
                    data = b""
                if data:
                    s.send(ANSWER)
                    self.answered += 1
                else:
                    del self.sockets[fd]
                    s.close()


def cpu(pid):
    """Nanoseconds of CPU, all threads."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


def ask(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"GET /v1/services/api HTTP/1.1\r\nHost: teal\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := s.recv(1 << 20):
            data += chunk
    return json.loads(data.split(b"\r\n\r\n", 1)[1])


HEALTH = 'health = { liveness = { json = { member = "status"; value = "ok"; }; }; readiness = {}; startup = {}; };'


def start(teal, folder, backends, health):
    with open(f"{folder}/teal.conf", "w") as f:
        f.write(f"""
listen = ( {{ address = "unix:{folder}/front.sock"; }} );
services = ( {{ name = "api"; blue = {{ backends = [ {", ".join(f'"{b}"' for b in backends)} ]; }};
               {health} }} );
admin = {{ socket = "admin.sock"; }};
state = {{ directory = "."; }};
log = {{ access = "off"; level = "error"; }};
workers = 1;
""")
    process = subprocess.Popen([teal, "-c", f"{folder}/teal.conf"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            up = sum(b["state"] == "up" for b in ask(f"{folder}/admin.sock")["colors"]["blue"]["backends"])
            print(f"\r{up} of {len(backends)} up ", end="", file=sys.stderr, flush=True)
            if up == len(backends):
                print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
                return process
        except OSError:
            pass
        if process.poll() is not None:
            sys.exit("teal did not start")
        time.sleep(0.2)
    process.terminate()
    sys.exit("not all backends came up")


def main():
    teal = sys.argv[1] if len(sys.argv) > 1 else "build/teal"
    n = int(os.environ.get("N", "1000"))
    seconds = int(os.environ.get("SECONDS", "20"))
    want = 2 * n + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < want:
        sys.exit(f"open files are limited to {hard}: N={n} needs {want}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), hard))
    hosts = [f"127.0.{1 + i // 250}.{1 + i % 250}" for i in range(n)]
    server = Server(hosts)
    server.start()
    backends = [f"{host}:{server.port}" for host in hosts]
    base, _ = measure(teal, server, backends, "", seconds / 2)
    share, probes = measure(teal, server, backends, HEALTH, seconds)
    print(f"{n} backends, {probes:.0f} probes/s: {share - base:.2f} % of a core, {1e4 * (share - base) / max(probes, 1):.1f} us each "
          f"(the whole process {share:.2f} %, {base:.2f} % when it asks nobody)")


def measure(teal, server, backends, health, seconds):
    """Percent of a core, probes a second."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(teal, folder, backends, health)
        try:
            time.sleep(2)  # the first probes of all are over
            used, asked, begun = cpu(process.pid), server.answered, time.monotonic()
            time.sleep(seconds)
            passed = time.monotonic() - begun
            return (cpu(process.pid) - used) / passed / 1e7, (server.answered - asked) / passed
        finally:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    main()
