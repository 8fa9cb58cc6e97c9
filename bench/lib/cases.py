"""What is measured: one row a case.

A case is a load and the figure that counts for it. The same load goes to every proxy, one after another. A series is a case of teal
alone, at several points; it shall be flat.
"""

from dataclasses import dataclass, replace
from fnmatch import fnmatch

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    group: str  # small, bulk, handshake, latency, memory, flat
    tool: str = "h2load"  # h2load, wrk, or a load of bench/client: full, resume, echo, idle
    front: str = "tls"  # tls, clear
    http: str = "h2"  # what the client speaks: h2, h1
    back: str = "h1"  # what the origin is spoken to in: h1, h2, grpc
    clients: int = 32
    streams: int = 10
    answer: int = KIB  # bytes of an answer's body
    upload: int = 0  # bytes of the request's body; 0: GET
    rate: float = 0  # of the best peer's throughput: an open loop at a fixed rate; 0: as fast as answers come
    websocket: bool = False
    idle: int = 0  # so many idle connections stand beside the load
    backends: int = 1
    services: int = 1
    figure: str = "cpu_us"  # what is compared
    goal: float = 0.75  # teal / best peer; of a series: the most any point may cost more than the first
    rounds: int = 0  # at most; 0: as many as asked for
    points: tuple = ()  # of a series: (label, {field: value})
    quick: tuple = ()  # labels of the points that a quick run takes

    def at(self, label):
        return replace(self, points=(), **dict(self.points)[label])


def _small(name, title, **more):
    return Case(name, title, "small", **more)


CASES = (
    _small("h2-32x10", "TLS HTTP/2 to HTTP/1.1, 1 KiB, 32 connections x 10 streams"),
    _small("h2-256x4", "TLS HTTP/2 to HTTP/1.1, 1 KiB, 256 x 4", clients=256, streams=4),
    _small("h2-1000x1", "TLS HTTP/2 to HTTP/1.1, 1 KiB, 1,000 x 1", clients=1000, streams=1),
    _small("h2-h2", "TLS HTTP/2 to HTTP/2, 1 KiB, 32 x 10", back="h2"),
    _small("h1-tls", "TLS HTTP/1.1 to HTTP/1.1, 1 KiB, 64 connections", tool="wrk", http="h1", clients=64, streams=1),
    _small("h1-clear", "HTTP/1.1 to HTTP/1.1, 1 KiB, 64 connections", tool="wrk", http="h1", front="clear",
           clients=64, streams=1),
    _small("post-4k", "TLS HTTP/2 to HTTP/1.1, POST of 4 KiB, 32 x 10", upload=4 * KIB),
    _small("grpc", "gRPC unary, TLS HTTP/2 to HTTP/2, 1 KiB, 32 x 10", back="grpc", upload=128),
    _small("websocket", "WebSocket echo over TLS, 1 KiB, 64 connections", tool="echo", http="h1", websocket=True,
           clients=64, streams=1),
    Case("h2-64k", "TLS HTTP/2 to HTTP/1.1, answers of 64 KiB, 16 x 4", "bulk", answer=64 * KIB, clients=16, streams=4,
         goal=0.9),
    Case("h2-1m", "TLS HTTP/2 to HTTP/1.1, answers of 1 MiB, 8 x 2", "bulk", answer=MIB, clients=8, streams=2, goal=0.9),
    Case("upload-1m", "TLS HTTP/2 to HTTP/1.1, POST of 1 MiB, 8 x 2", "bulk", upload=MIB, clients=8, streams=2, goal=0.9),
    Case("new-full", "a TLS connection for each request, full handshake", "handshake", tool="full", http="h1", clients=32,
         streams=1, goal=0.9),
    Case("new-resumed", "a TLS connection for each request, resumed", "handshake", tool="resume", http="h1", clients=32,
         streams=1, goal=0.9),
    Case("open-loop", "TLS HTTP/2 to HTTP/1.1, 1 KiB, at half the best peer's throughput", "latency", streams=100, rate=0.5,
         figure="p99_us", goal=1.0),
    Case("idle-h1", "10,000 idle TLS connections, HTTP/1.1", "memory", tool="idle", http="h1", clients=10000, streams=1,
         figure="kib_each", goal=1.0, rounds=1),
    Case("idle-h2", "10,000 idle TLS connections, HTTP/2", "memory", tool="idle", clients=10000, streams=1,
         figure="kib_each", goal=1.0, rounds=1),
    Case("flat-connections", "1,000 requests in flight over so many HTTP/2 connections", "flat", goal=1.15, rounds=2,
         points=tuple((str(n), {"clients": n, "streams": 1000 // n}) for n in (32, 100, 200, 500, 1000)),
         quick=("32", "1000")),
    Case("flat-idle", "320 requests in flight on 32 connections, so many connections in all", "flat", goal=1.15, rounds=2,
         points=tuple((str(n), {"idle": n - 32}) for n in (32, 100, 300, 1000)), quick=("32", "1000")),
    Case("flat-backends", "320 requests in flight, so many backends", "flat", goal=1.15, rounds=2,
         points=tuple((str(n), {"backends": n}) for n in (2, 10, 100, 1000)), quick=("2", "1000")),
    Case("flat-services", "320 requests in flight, spread over so many services", "flat", goal=1.15, rounds=2,
         points=tuple((str(n), {"services": n}) for n in (1, 10, 100)), quick=("1", "100")),
)


def chosen(patterns, cases=CASES):
    """The cases whose name one of the patterns (h2-*, idle-h1) fits, in their order; all when there is none."""
    unknown = [p for p in patterns if not any(fnmatch(c.name, p) for c in cases)]
    if unknown:
        raise ValueError(f"no such case: {', '.join(unknown)} (there are: {', '.join(c.name for c in cases)})")
    return [c for c in cases if not patterns or any(fnmatch(c.name, p) for p in patterns)]


def quick(case):
    """A smaller one of the same kind."""
    if case.points:
        return replace(case, points=tuple(p for p in case.points if p[0] in case.quick))
    return replace(case, clients=1000, title=case.title.replace("10,000", "1,000")) if case.group == "memory" else case
