"""Loads: h2load, wrk and bench/client; started, told apart from failures, and read.

Each gives a Result. One failed, refused, cut or unexpected answer makes it a failure, which has no figure.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass, field

BEGIN = ("Main benchmark duration is started", "begin")
OPEN_STAGGER_MS = 9
OPEN_TAIL = 0.5  # seconds an open loop goes on after the measured time
END = ("Main benchmark duration is over", "end")
_libc = ctypes.CDLL(None)


def die_with_us():
    """In the child: SIGKILL when the bench is gone, so that an interrupted run leaves nothing."""
    _libc.prctl(1, signal.SIGKILL)


@dataclass
class Result:
    requests: int = 0
    seconds: float = 0
    failed: int = 0
    why: str = ""  # what was wrong; "": nothing
    bytes: int = 0  # of bodies (wrk: of everything)
    latency: dict = field(default_factory=dict)  # p50_us, p99_us, p999_us

    def blame(self, why):
        """The first thing that was wrong stays."""
        self.why = self.why or why
        return self


def percentiles(values):
    """p50, p99 and p99.9 of a list, which gets sorted."""
    values.sort()
    if not values:
        return {}
    at = lambda p: values[min(len(values) - 1, int(p * len(values)))]
    return {"p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999)}


# --- reading what they print -------------------------------------------------------------------------------------------------------
def parse_h2load(text, seconds):
    r = Result(seconds=seconds)
    counts = re.search(r"^requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
                       text, re.M)
    codes = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text, re.M)
    data = re.search(r"\((\d+)\) data$", text, re.M)
    if not counts or not codes or not data:
        return r.blame("h2load: " + last_line(text))
    done, succeeded, failed, errored, timeout = (int(x) for x in counts.groups())
    r.requests, r.bytes = succeeded, int(data[1])
    r.failed = failed + errored + timeout
    others = dict(zip(("3xx", "4xx", "5xx"), map(int, codes.groups()[1:])))
    if r.failed or done != succeeded or any(others.values()):
        r.failed = max(r.failed, done - succeeded, sum(others.values()))
        seen = ", ".join(f"{n} {what}" for what, n in others.items() if n)
        r.blame(f"{r.failed} of {done} failed" + (f" ({seen})" if seen else ""))
    elif not succeeded:
        r.blame("no request was answered")
    return r


def connected_late(text):
    """Whether connections were made in the measured time: h2load knows how long they took, then."""
    found = re.search(r"^time for connect: +(\S+) +(\S+)", text, re.M)
    return bool(found) and found[2] != "0us"


def parse_h2load_log(lines, since_us=0, until_us=None):
    """(percentiles, how many) of the times to the whole answer, of requests begun in that time, from h2load's --log-file."""
    times = []
    for line in lines:
        begun, status, took = line.split("\t")[:3]
        if since_us <= int(begun) and (until_us is None or int(begun) < until_us) and status != "-1":
            times.append(int(took))
    return percentiles(times), len(times)


def parse_json(text, program):
    """The line of JSON that bench/client and bench/lib/wrk.lua print."""
    found = re.search(r"^(\{.*\})$", text, re.M)
    if not found:
        return Result().blame(f"{program}: " + last_line(text))
    said = json.loads(found[1])
    r = Result(said["requests"], said.get("seconds", 0), said["failed"] + said.get("non_2xx", 0), bytes=said.get("bytes", 0))
    r.latency = {k: said[k] for k in ("p50_us", "p99_us", "p999_us") if k in said}
    if r.failed:
        r.blame(f"{r.failed} failed" + (f" ({said['non_2xx']} not 2xx)" if said.get("non_2xx") else ""))
    elif not r.requests:
        r.blame("no request was answered")
    return r


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "said nothing"


# --- running them ------------------------------------------------------------------------------------------------------------------
class Runner:
    """Runs loads on the clients' cores."""

    def __init__(self, folder, cores, client, environment):
        self.folder, self.cores, self.client, self.environment = folder, cores, client, environment

    def start(self, argv, **more):
        # OpenSSL is told the ciphers by its own configuration: wrk cannot be told
        return subprocess.Popen(["taskset", "-c", ",".join(map(str, self.cores))] + argv, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, env=self.environment, preexec_fn=die_with_us, **more)

    def _run(self, argv, limit, meter=None, after=None):
        """What it printed; the meter is told when the measured time begins and ends: when it says so, or after so many seconds."""
        process = self.start(argv)
        watchdog = threading.Timer(limit, process.kill)
        watchdog.start()
        marks = [threading.Timer(s, mark) for s, mark in zip(after, (meter.begin, meter.end))] if after else []
        for mark in marks:
            mark.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if meter and line.startswith(BEGIN):
                meter.begin()
            elif meter and line.startswith(END):
                meter.end()
        process.wait()
        for timer in [watchdog, *marks]:
            timer.cancel()
        return "".join(lines), process.returncode

    def run(self, case, port, seconds, warm, meter, rps=0):
        tool = {"h2load": self._h2load, "wrk": self._wrk}.get(case.tool, self._client)
        result = tool(case, port, seconds, warm, meter, rps)
        if not result.why and (meter.first is None or meter.last is None):
            result.blame("the measured time did not begin or did not end")
        return result

    # h2load
    def _h2load(self, case, port, seconds, warm, meter, rps):
        """Handshakes belong to the warm-up; where it was too short for them the run is made again with a longer one."""
        warm += case.clients * 0.001
        if rps:
            return self._open_loop(case, port, seconds, warm, meter, rps)
        for longer in (1, 3):
            result, connected = self._h2load_once(case, port, seconds, warm * longer, meter)
            if not connected:
                return result
        return result.blame("connections were still made in the measured time")

    def _open_loop(self, case, port, seconds, warm, meter, rps):
        """h2load's clients send what is due every 10 ms.  Begun together they would send together, bursts of hundreds, or not, by
        how fast the proxy's handshakes are: so each is begun 9 ms after the one before.  A closed loop comes first: what is to be
        measured is not how a proxy that has just started opens its connections to the origin."""
        warm += case.clients * OPEN_STAGGER_MS / 1000
        argv, _ = self._h2load_argv(case)
        self._run(argv + ["-n", str(10 * case.clients * case.streams)] + self._urls(case, port), 30)
        total = round(rps * (warm + seconds + OPEN_TAIL))
        argv, log = self._h2load_argv(case)
        argv += ["-n", str(total), "-r", "1", f"--rate-period={OPEN_STAGGER_MS}ms", f"--rps={rps / case.clients:.3f}"]
        r, _ = self._h2load_run(argv, case, port, seconds, warm, meter, (warm, warm + seconds))
        if meter.last is None:
            r.blame("it ended before its time")
        if not r.why:
            with open(log) as f:
                r.latency, r.requests = parse_h2load_log(f, meter.first_us, meter.last_us)
        return r

    def _h2load_argv(self, case):
        log = os.path.join(self.folder, "requests.log")
        if os.path.exists(log):
            os.unlink(log)
        argv = ["h2load", "-c", str(case.clients), "-m", str(case.streams), "--tls13-ciphers=TLS_AES_128_GCM_SHA256",
                "--groups=X25519", f"--log-file={log}"]
        argv += ["--h1"] if case.http == "h1" else []
        if case.upload:
            argv += ["-d", self._body(case)]
        if case.back == "grpc":
            argv += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        return argv, log

    def _h2load_run(self, argv, case, port, seconds, warm, meter, after=None):
        """Its Result, without times, and what it printed."""
        text, code = self._run(argv + self._urls(case, port), seconds + warm + 30, meter, after)
        r = parse_h2load(text, seconds)
        if code:
            r.blame(f"h2load ended with {code}: {last_line(text)}")
        return r, text

    def _h2load_once(self, case, port, seconds, warm, meter):
        argv, log = self._h2load_argv(case)
        argv += ["-D", str(seconds), f"--warm-up-time={round(1000 * warm)}ms"]
        r, text = self._h2load_run(argv, case, port, seconds, warm, meter)
        if not r.why:
            with open(log) as f:
                r.latency, _ = parse_h2load_log(f)
            # what was on its way when the time began has bytes from before it
            on_the_way = case.clients * case.streams * case.answer
            if r.bytes + on_the_way < r.requests * case.answer:
                r.blame(f"bodies of {r.bytes // r.requests} bytes where {case.answer} were asked for")
        return r, connected_late(text)

    def _urls(self, case, port):
        scheme = "https" if case.front == "tls" else "http"
        base = f"{scheme}://127.0.0.1:{port}"
        query = f"?bytes={case.answer}"
        return [f"{base}/{query}"] + [f"{base}/s{i}/{query}" for i in range(1, case.services)]

    def _body(self, case):
        path = os.path.join(self.folder, "body")
        with open(path, "wb") as f:
            if case.back == "grpc":  # one message, not compressed
                f.write(bytes([0]) + case.upload.to_bytes(4, "big"))
            f.write(b"x" * case.upload)
        return path

    # wrk: has no warm-up of its own
    def _wrk(self, case, port, seconds, warm, meter, rps):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk.lua")
        base = ["wrk", "-t", "1", "-c", str(case.clients), "-s", script]
        self._run(base + ["-d", f"{max(1, round(warm))}s"] + self._urls(case, port), warm + 30)
        meter.begin()
        text, code = self._run(base + ["-d", f"{max(1, round(seconds))}s"] + self._urls(case, port), seconds + 30)
        meter.end()
        r = parse_json(text, "wrk")
        if code:
            r.blame(f"wrk ended with {code}: {last_line(text)}")
        if r.bytes < r.requests * case.answer:
            r.blame(f"bodies shorter than the {case.answer} bytes that were asked for")
        return r

    # bench/client
    def _client(self, case, port, seconds, warm, meter, rps):
        argv = [self.client, case.tool, "--to", f"127.0.0.1:{port}", "--connections", str(case.clients), "--seconds", str(seconds),
                "--warm", str(warm), "--body", str(case.answer)]
        text, code = self._run(argv, seconds + warm + 30, meter)
        r = parse_json(text, "client")
        return r.blame(f"client ended with {code}: {last_line(text)}") if code else r

    def idle(self, n, port, http):
        """Opens n connections that make a request each; returns a handle, its failures in why."""
        return Idle(self.start([self.client, "idle", "--to", f"127.0.0.1:{port}", "--connections", str(n), "--seconds", "120"]
                               + (["--h2"] if http == "h2" else []), stdin=subprocess.PIPE))


class Idle:
    def __init__(self, process):
        self.process = process
        self.watchdog = threading.Timer(150, process.kill)
        self.watchdog.start()
        self.text = process.stdout.readline()
        self.open = self.text == "open\n"

    def close(self):
        """How it went; the connections are gone."""
        self.watchdog.cancel()
        try:
            self.process.stdin.close()
        except OSError:
            pass
        self.text += self.process.stdout.read()
        self.process.wait()
        return parse_json(self.text, "client")
