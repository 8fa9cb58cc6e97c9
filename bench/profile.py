#!/usr/bin/python3
"""Where teal's CPU goes: one case of the bench with teal alone, its system calls counted, then its functions sampled.

    make profile [CASE=h2-32x10] [SECONDS=5]          (a point of a series: CASE=flat-backends:1000)

Two loads, one after the other, for looking makes requests a little dearer. perf is attached all the time, but looks
from the end of the warm-up to the end of the load. Writes build/bench/profile/CASE/; bench/README.md says how to read it.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import run  # noqa: E402
from lib import cases, peers  # noqa: E402
from lib.load import die_with_us, last_line  # noqa: E402
from lib.measure import Meter  # noqa: E402
from lib.report import FOREIGN  # noqa: E402

CASE, SECONDS, WARM = "h2-32x10", 5, 2
HERTZ = 4999  # no divisor of anything that ticks
HEAVIEST = 40
NAMELESS = "(without a name: static, no debug symbols)"
SELDOM = 0.01  # calls per request that are not worth a line
TRACEFS = "/sys/kernel/tracing"
EVERY_CALL = "raw_syscalls:sys_enter"
# What a proxy may call.  With syscalls:sys_enter_* instead perf takes a quarter of a minute to end: the kernel waits for all cores
# for each of 340 events.  EVERY_CALL tells what is missing here: it is printed as `others`.
CALLS = """accept accept4 brk clock_gettime clock_nanosleep close connect epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fcntl futex
getpeername getpid getrandom getsockname getsockopt gettid io_uring_enter ioctl madvise mmap mprotect munmap openat pread64 read readv
recvfrom recvmmsg recvmsg restart_syscall sched_yield sendfile64 sendmmsg sendmsg sendto setsockopt shutdown socket splice
timerfd_settime write writev""".split()


# --- reading what they print -------------------------------------------------------------------------------------------------------
def parse_stat(text):
    """{call: how often} of `perf stat -x,`; what was not in CALLS is `others`."""
    counts = {}
    for line in text.splitlines():
        found = re.match(r"(\d+),[^,]*,(?:syscalls:sys_enter_)?([^,]+)", line)
        if found:
            counts[found[2]] = int(found[1])
    every = counts.pop(EVERY_CALL, None)
    if every is not None:
        counts["others"] = max(0, every - sum(counts.values()))
    return counts


def parse_strace(text):
    """The same of `strace -c`."""
    found = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", text, re.M)
    return {call: int(n) for n, call in found if call != "total"}


def program(dso):
    """/usr/lib/libnghttp2.so.14.24.1 -> libnghttp2; the kernel and its modules -> kernel."""
    name = dso.strip()
    if name.startswith("["):
        name = name.strip("[]")
        return name if name in ("unknown", "vdso", "vsyscall", "heap", "stack") else "kernel"
    return os.path.basename(name).split(".so")[0]


def parse_report(text):
    """[(share, program, function)], heaviest first, of `perf report -F period,dso,sym -t |`."""
    periods = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 3 and parts[0].isdigit():
            function = re.sub(r"^\[.\] ", "", parts[2])
            names = program(parts[1]), NAMELESS if function.startswith("0x") else function
            periods[names] = periods.get(names, 0) + int(parts[0])
    total = sum(periods.values())
    return sorted(((period / total, *names) for names, period in periods.items()), reverse=True)


# --- telling it --------------------------------------------------------------------------------------------------------------------
def calls_text(counts, requests, how):
    """A line each, the most frequent first."""
    lines = [f"System calls per request ({how}; those below {SELDOM} are left out)"]
    for call, n in sorted(counts.items(), key=lambda item: -item[1]):
        if n / requests >= SELDOM:
            lines.append(f"  {n / requests:8.2f}  {call}")
    return "\n".join(lines + [f"  {sum(counts.values()) / requests:8.2f}  in all"])


def shares_text(rows, cpu_us):
    """Two tables: by program, and the heaviest functions."""
    programs = {}
    for share, name, _ in rows:
        programs[name] = programs.get(name, 0) + share
    line = lambda share, names: f"  {100 * share:7.2f} %  {share * cpu_us:7.3f}  {names}".rstrip()
    lines = [f"CPU per request by program, {cpu_us:.2f} us in all", "    share         us"]
    lines += [line(share, name) for name, share in sorted(programs.items(), key=lambda item: -item[1])]
    lines += ["", f"The {HEAVIEST} heaviest functions, each without what it calls", "    share         us"]
    lines += [line(share, f"{name:<12} {function}") for share, name, function in rows[:HEAVIEST]]
    if "kernel" not in programs:
        lines += ["", "The kernel's part is missing, all shares are too high: be root, or set kernel.perf_event_paranoid to 1."]
    return "\n".join(lines)


def load_text(what, figures):
    busy = f"; others had {100 * figures['foreign']:.0f} % of its core" if figures["foreign"] > FOREIGN else ""
    return f"{what}: {figures['requests']:,} requests in {figures['seconds']:.1f} s, {figures['cpu_us']:.2f} us of CPU each{busy}"


# --- looking at a process ----------------------------------------------------------------------------------------------------------
class Tool:
    """perf or strace beside the proxy, from begin() to end(); after close() nothing of it is left."""

    def start(self, argv, **more):
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        env={**os.environ, "LC_ALL": "C"}, preexec_fn=die_with_us, **more)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


class Unusable(peers.Broken):
    """perf may not look, or not at that."""


class Perf(Tool):
    """Attached but not looking until it is told: that costs it no time when the load begins.  Unusable where it may not."""

    def __init__(self, argv, pids):
        asked, self.orders = os.pipe()
        self.answers, answered = os.pipe()
        self.start(["perf", *argv, "-D", "-1", "--control", f"fd:{asked},{answered}", "-p", ",".join(map(str, pids))],
                   pass_fds=(asked, answered))
        os.close(asked)
        os.close(answered)
        try:
            self.order("ping")
        except Unusable:
            self.close()
            raise

    def order(self, word):
        try:
            os.write(self.orders, f"{word}\n".encode())
            if not select.select([self.answers], [], [], 15)[0]:
                raise Unusable("perf: no answer")
            if os.read(self.answers, 64):
                return
        except BrokenPipeError:
            pass
        raise Unusable(f"perf: {last_line(self.process.stdout.read())}")  # it has ended

    def begin(self):
        self.order("enable")

    def end(self):
        self.order("disable")

    def close(self):
        super().close()
        os.close(self.orders)
        os.close(self.answers)


class Strace(Tool):
    """Slows what it looks at so much that it comes and goes with the measured time."""

    def __init__(self, out, pids):
        self.argv, self.process = ["strace", "-c", "-f", "-o", out, "-p", ",".join(map(str, pids))], None

    def begin(self):
        self.start(self.argv)
        line = self.process.stdout.readline()
        if "attached" not in line:
            raise peers.Broken(line.strip() or "strace ended")

    def end(self):
        self.process.send_signal(signal.SIGINT)

    def close(self):
        if self.process:
            super().close()


class Watched(Meter):
    """A meter that has a tool look for exactly as long as it measures."""

    def __init__(self, pids, core, tool):
        super().__init__(pids, core)
        self.tool, self.times = tool, 0

    def begin(self):
        self.times += 1
        self.tool.begin()
        super().begin()

    def end(self):
        super().end()
        self.tool.end()


class Profile(run.Bench):
    def once(self, peer, case, tool):
        """As the bench's, with tool(pids) beside it."""
        self.tool = tool
        return super().once(peer, case)

    def loaded(self, proxy, case, origin, rps):
        beside = self.runner.idle(case.idle, proxy.port, case.http) if case.idle else None
        tool = None
        try:
            if beside and not beside.open:
                raise peers.Broken("the idle connections beside it could not be opened")
            tool = self.tool(proxy.pids())
            meter = Watched(proxy.pids(), self.core, tool)
            meter.rest(0.3)
            result = self.runner.run(case, proxy.port, self.settings.seconds, self.settings.warm, meter)
        finally:
            if tool:
                tool.close()
            if beside:
                beside.close()
        if result.why or not proxy.alive():
            raise peers.Broken(result.why or f"died: {proxy.said()}")
        if meter.times != 1:  # the load was made a second time; what the tool saw is of both
            raise peers.Broken("connections were still made in the measured time: the machine is too busy")
        return {"cpu_us": meter.cpu_ns / 1000 / result.requests, "requests": result.requests, "seconds": result.seconds,
                "foreign": meter.foreign}

    def counted(self, peer, case):
        """(figures, {call: how often}, how they were counted)."""
        out = os.path.join(self.folder, "calls")

        def read(parse):
            with open(out) as f:
                return parse(f.read())

        tracefs, mounted = f"{TRACEFS}/events/syscalls", False
        if os.geteuid() == 0 and not os.path.isdir(tracefs):
            mounted = subprocess.run(["mount", "-t", "tracefs", "nodev", TRACEFS], stderr=subprocess.DEVNULL).returncode == 0
        try:
            if os.path.isdir(tracefs):
                known = [f"syscalls:sys_enter_{c}" for c in CALLS if os.path.isdir(f"{tracefs}/sys_enter_{c}")]
                argv = ["stat", "-x,", "-o", out, "-e", ",".join([EVERY_CALL, *known])]
                try:
                    return self.once(peer, case, lambda pids: Perf(argv, pids)), read(parse_stat), "perf stat"
                except Unusable:
                    pass
        finally:
            if mounted:
                subprocess.run(["umount", TRACEFS], stderr=subprocess.DEVNULL)
        figures = self.once(peer, case, lambda pids: Strace(out, pids))
        return figures, read(parse_strace), "strace, which slows teal: no tracepoints to be had"

    def sampled(self, peer, case, data):
        """(figures, rows of parse_report)."""
        if os.path.exists(data):
            os.unlink(data)  # perf would keep it as perf.data.old
        figures = self.once(peer, case, lambda pids: Perf(["record", "-F", str(HERTZ), "-g", "-o", data], pids))
        done = subprocess.run(["perf", "report", "-i", data, "--stdio", "--no-children", "--no-inline", "-g", "none",
                               "-F", "period,dso,sym", "-t", "|"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        rows = parse_report(done.stdout)
        if not rows:
            raise peers.Broken(f"perf report: {last_line(done.stderr)}")
        return figures, rows


def one_case(wanted):
    """(name, case) that this name or pattern fits; of a series, at the point behind the colon."""
    pattern, _, point = wanted.partition(":")
    found = cases.chosen([pattern])
    if len(found) != 1:
        raise ValueError(f"one case at a time: {wanted} is {', '.join(c.name for c in found)}")
    case = found[0]
    labels = [label for label, _ in case.points] or [""]
    if point not in labels:
        raise ValueError(f"{case.name} has no point {point!r}: choose {', '.join(f'{case.name}:{p}'.rstrip(':') for p in labels)}")
    if case.tool == "idle" or case.rate:
        raise ValueError(f"{case.name} is no load that keeps teal busy")
    return (f"{case.name}-{point}", case.at(point)) if point else (case.name, case)


def main():
    try:
        name, case = one_case(os.environ.get("CASE") or CASE)
        settings = run.Settings({"TEAL_BUILD": os.environ.get("TEAL_BUILD", ""), "CASE": case.name, "PEER": "teal",
                                 "SECONDS": os.environ.get("SECONDS") or str(SECONDS)})
    except ValueError as e:
        sys.exit(f"profile: {e}")
    for tool in ("perf", "strace", "taskset", "h2load", "wrk", "openssl"):
        if not shutil.which(tool):
            sys.exit(f"profile: {tool} is missing (make bench-deps)")
    settings.warm = WARM
    out = os.path.join(settings.build, "bench", "profile", name)
    os.makedirs(out, exist_ok=True)
    data = os.path.join(out, "perf.data")
    with tempfile.TemporaryDirectory(prefix="teal-profile-") as folder:
        bench = Profile(settings, folder)
        bench.settle()
        try:
            counting, counts, how = bench.counted(settings.peers[0], case)
            sampling, rows = bench.sampled(settings.peers[0], case, data)
        except peers.Broken as e:
            sys.exit(f"profile: {name}: {e}")
    head = [f"{name}: {case.title}", load_text("counted", counting), load_text("sampled", sampling), "Nobody looking, it is less."]
    text = "\n\n".join(["\n".join(head), calls_text(counts, counting["requests"], how), shares_text(rows, sampling["cpu_us"])])
    with open(os.path.join(out, "report.txt"), "w") as f:
        f.write(text + "\n")
    where = os.path.relpath(out)
    print(f"{text}\n\nwritten to {where}/: report.txt, perf.data\nwho calls what: perf report -i {where}/perf.data --no-children")
    return 0


if __name__ == "__main__":
    sys.exit(main())
