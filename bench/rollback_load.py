"""Clients at a fixed rate: the load of `make bench-rollback`, a process of its own per proxy.

    rollback_load.py --port N --gets 300 --posts 30 --out FILE     until SIGTERM

Open loop: a request is due at its moment, whatever has become of those before it, and its time counts
from there.  Each uses an idle connection or opens one (HTTP/1.1, keep-alive).  A client gives up after
PATIENCE; what it then has is a failure.  SIGTERM ends the asking; what is under way is waited for.  FILE gets a
line per request:

    NUMBER DUE_US END_US METHOD STATUS WHO LATE_US    status 0: no whole answer; who: its X-Version, or -;
                                                      late: how long after it was due the client got to it

Times are microseconds of CLOCK_MONOTONIC, as the origin's are.
"""

import argparse
import asyncio
import collections
import re
import signal
import time

PATIENCE = 5.0
TICK = 0.001  # a request is sent at most so much late
BODY = b"x" * 100
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
VERSION = re.compile(rb"\r\nx-version: *([!-~]+)")


def now_us():
    return time.monotonic_ns() // 1000


def methods(gets, posts):
    """"GET" and "POST" for ever, in their proportion and evenly spread."""
    owed = 0.0
    while True:
        owed += posts / (gets + posts)
        if owed >= 1:
            owed -= 1
            yield "POST"
        else:
            yield "GET"


def message(method, n):
    head = f"{method} /{'order' if method == 'POST' else 'page'}?n={n} HTTP/1.1\r\nHost: bench\r\n"
    if method == "POST":
        return head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    return head.encode() + b"\r\n"


class Request:
    __slots__ = ("n", "due", "method", "late", "connection", "ended")

    def __init__(self, n, due, method):
        self.n, self.due, self.method = n, due, method
        self.late = now_us() - due
        self.connection, self.ended = None, False


class Answer:
    """An HTTP/1.1 answer that arrives in pieces."""

    def __init__(self):
        self.data = bytearray()
        self.head = None  # where the body begins
        self.status, self.who, self.keep, self.length, self.chunked = 0, "-", True, None, False

    def feed(self, data):
        """Whether it is whole now."""
        self.data += data
        while self.head is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._read(bytes(self.data[:end]).lower())
            if 100 <= self.status < 200:
                del self.data[: end + 4]
            else:
                self.head = end + 4
        if self.chunked:
            return self.data.endswith(b"\r\n0\r\n\r\n")
        return self.length is not None and len(self.data) - self.head >= self.length

    def eof(self):
        """Whether the end of the connection made it whole."""
        return self.head is not None and not self.chunked and self.length is None

    def _read(self, head):
        try:
            self.status = int(head[9:12])
        except ValueError:
            self.status = 0
        length, who = LENGTH.search(head), VERSION.search(head)
        self.length = int(length[1]) if length else None
        self.who = who[1].decode() if who else "-"
        self.chunked = b"\r\ntransfer-encoding: chunked" in head
        self.keep = b"\r\nconnection: close" not in head and head.startswith(b"http/1.1")


class Connection(asyncio.Protocol):
    def __init__(self, clients):
        self.clients, self.transport = clients, None
        self.request = self.answer = None

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, request):
        self.request, self.answer = request, Answer()
        request.connection = self
        self.transport.write(message(request.method, request.n))

    def data_received(self, data):
        if self.request is None:  # nobody asked
            self.transport.abort()
        elif self.answer.feed(data):
            self._done(self.answer)

    def connection_lost(self, _):
        self.clients.lost(self)
        if self.request is not None:
            self._done(self.answer if self.answer.eof() else None)

    def _done(self, answer):
        request, self.request = self.request, None
        self.clients.ended(request, answer)
        if answer is None or not answer.keep:
            self.transport.close()
        elif not self.transport.is_closing():
            self.clients.idle.append(self)

    def give_up(self):
        request, self.request = self.request, None
        self.transport.abort()
        self.clients.ended(request, None)


class Clients:
    def __init__(self, port, gets, posts, out):
        self.port, self.rate, self.methods = port, gets + posts, methods(gets, posts)
        self.out = out
        self.idle, self.waiting = [], collections.deque()
        self.under_way = 0
        self.stopping = asyncio.Event()
        self.tasks = set()

    async def run(self):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        start, n = now_us(), 0
        while not self.stopping.is_set():
            due = start + int(n * 1e6 / self.rate)
            while due <= now_us():
                self.begin(Request(n, due, next(self.methods)))
                n += 1
                due = start + int(n * 1e6 / self.rate)
            self.look_at_patience()
            await asyncio.sleep(max(0.0, min(TICK * 10, (due - now_us()) / 1e6)))
        while self.under_way:
            self.look_at_patience()
            await asyncio.sleep(TICK * 10)

    def begin(self, request):
        self.under_way += 1
        self.waiting.append(request)
        if self.idle:
            self.idle.pop().ask(request)
        else:
            task = asyncio.ensure_future(self.connect(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connect(self, request):
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), "127.0.0.1", self.port
            )
        except OSError:
            self.ended(request, None)
            return
        if request.ended:
            self.idle.append(connection)
        else:
            connection.ask(request)

    def look_at_patience(self):
        """They began in this order, and all have the same patience."""
        late = now_us() - PATIENCE * 1e6
        while self.waiting and (self.waiting[0].ended or self.waiting[0].due < late):
            request = self.waiting.popleft()
            if request.ended:
                continue
            if request.connection:
                request.connection.give_up()
            else:
                self.ended(request, None)

    def lost(self, connection):
        if connection in self.idle:
            self.idle.remove(connection)

    def ended(self, request, answer):
        if request.ended:
            return
        request.ended = True
        self.under_way -= 1
        status, who = (answer.status, answer.who) if answer else (0, "-")
        one = f"{request.n} {request.due} {now_us()} {request.method} {status} {who} {request.late}"
        self.out.write(one + "\n")


async def load(args, out):
    await Clients(args.port, args.gets, args.posts, out).run()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gets", type=float, default=300)
    parser.add_argument("--posts", type=float, default=30)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    with open(args.out, "w", encoding="ascii") as out:
        asyncio.run(load(args, out))


if __name__ == "__main__":
    main()
