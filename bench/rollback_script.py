"""A controller that polls: what a release costs that is judged from outside.

    rollback_script.py --socket HAPROXY_SOCKET --server be/green --log FILE     until SIGTERM

Once a second it asks HAProxy for its counters.  When more than LIMIT of what the server got in the last WINDOW seconds
ended in a 5xx, no answer or no connection, it sets the server's weight to 0, and that is that.  Controllers that watch a metrics
store do the same with scrapes and queries of 15 to 60 seconds: this one is generously fast.
"""

import argparse
import csv
import socket
import time

EVERY = 1.0  # seconds
WINDOW = 10.0  # seconds
LIMIT = 1.0  # percent
CLASSES = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other")
ERRORS = ("econ", "eresp")  # no connection; no answer


class Window:
    """Counters that only grow, and what they grew by within the last seconds."""

    def __init__(self, seconds=WINDOW, limit=LIMIT):
        self.seconds, self.limit = seconds, limit
        self.samples = []

    def add(self, now, ended, bad):
        self.samples.append((now, ended, bad))
        # the newest of those that are as old as the window is where it begins
        while len(self.samples) > 1 and self.samples[1][0] <= now - self.seconds + EVERY / 2:
            self.samples.pop(0)

    def rate(self):
        """Percent; None before a whole window was seen, and when nothing ended in it."""
        if not self.samples:
            return None
        (then, ended, bad), (now, ended_now, bad_now) = self.samples[0], self.samples[-1]
        if now - then < self.seconds - EVERY / 2 or ended_now == ended:
            return None
        return 100.0 * (bad_now - bad) / (ended_now - ended)

    def too_many(self):
        rate = self.rate()
        return rate is not None and rate > self.limit


def counters(text, server):
    """(ended, badly) of "backend/server" in what `show stat` says; None when it is not there."""
    backend, name = server.split("/")
    for row in csv.DictReader(text.lstrip("# ").splitlines()):
        if row["pxname"] == backend and row["svname"] == name:
            errors = sum(int(row[c] or 0) for c in ERRORS)
            answers = sum(int(row[c] or 0) for c in CLASSES)
            return answers + errors, int(row["hrsp_5xx"] or 0) + errors
    return None


def tell(path, command):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(path)
        s.sendall(command.encode() + b"\n")
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    return data.decode()


def poll(path, server, log):
    window, due = Window(), time.monotonic()
    while True:
        seen = counters(tell(path, "show stat"), server)
        if seen is None:
            raise SystemExit(f"HAProxy knows no server {server}")
        window.add(time.monotonic(), *seen)
        if window.too_many():
            tell(path, f"set server {server} weight 0")
            log.write(f"{time.monotonic_ns() // 1000} {window.rate():.2f}\n")
            log.flush()
            return
        due += EVERY
        time.sleep(max(0.0, due - time.monotonic()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--log", required=True)
    args = parser.parse_args()
    with open(args.log, "w", encoding="ascii") as log:
        poll(args.socket, args.server, log)


if __name__ == "__main__":
    main()
