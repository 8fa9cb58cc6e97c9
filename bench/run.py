#!/usr/bin/python3
"""teal beside what its users would pick instead: every case for every proxy, on the same machine, in the same run.

    make bench [CASE=h2-*,grpc] [PEER=nginx,haproxy] [ROUNDS=3] [SECONDS=3] [QUICK=1] [OUT=folder]

The proxy has one core, clients and origin the others. In a round the proxies come one after another, in the next the other way round.
A full run writes bench/results/, a part or a quick run build/bench/results/. bench/README.md says how to read it.
"""

import os
import platform
import resource
import shutil
import ssl
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import cases, peers, report  # noqa: E402
from lib.load import Runner  # noqa: E402
from lib.measure import Meter, cores, memory_kib  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASE = "h2-32x10"  # whose throughput an open loop goes by
WARM_IDLE = 200  # connections open before memory is measured: pools and tables have their size


class Settings:
    def __init__(self, environment):
        words = lambda name: [w for w in environment.get(name, "").replace(",", " ").split() if w]
        self.quick = environment.get("QUICK", "") not in ("", "0")
        self.rounds = int(environment.get("ROUNDS") or (1 if self.quick else 3))
        self.seconds = int(environment.get("SECONDS") or (1 if self.quick else 3))
        self.warm = 0.5 if self.quick else 1
        self.cases = cases.chosen(words("CASE"))
        if self.quick:
            self.cases = [cases.quick(c) for c in self.cases]
        self.build = os.path.abspath(environment.get("TEAL_BUILD") or os.path.join(ROOT, "build"))
        everyone = peers.peers(os.path.join(self.build, "teal"))
        wanted = words("PEER")
        unknown = set(wanted) - {p.name for p in everyone}
        if unknown:
            raise ValueError(f"no such peer: {', '.join(sorted(unknown))} (there are: {', '.join(p.name for p in everyone)})")
        self.peers = [p for p in everyone if not wanted or p.name == "teal" or p.name in wanted]
        self.whole = not (self.quick or words("CASE") or wanted)
        self.out = environment.get("OUT") or (
            os.path.join(ROOT, "bench", "results") if self.whole else os.path.join(self.build, "bench", "results"))


class Progress:
    """One line that is written over on a terminal; elsewhere one line for each case."""

    def __init__(self, total):
        self.total, self.done, self.began = total, 0, time.monotonic()
        self.terminal = sys.stderr.isatty()

    def step(self, text):
        self.done += 1
        if self.terminal:
            spent = time.monotonic() - self.began
            left = spent / max(1, self.done - 1) * (self.total - self.done + 1) if self.done > 1 else 0
            print(f"\r\x1b[K{self.done}/{self.total}  {text}  {left / 60:.0f} min left", end="", file=sys.stderr, flush=True)

    def case(self, text):
        print(("\r\x1b[K" if self.terminal else "") + text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, settings, folder):
        self.settings, self.folder = settings, folder
        self.core, self.others = cores()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.limits = {"files": hard, "connections": min(12000, hard * 6 // 10)}
        peers.certificate(folder)
        self.environment = {**os.environ, "OPENSSL_CONF": f"{folder}/openssl.cnf", "LC_ALL": "C"}
        self.client = os.path.join(settings.build, "bench/client/client")
        self.origin = os.path.join(settings.build, "bench/origin/origin")
        self.runner = Runner(folder, self.others, self.client, self.environment)
        self.rates = {}  # of BASE, by peer
        self.again = 0  # so many measurements may still be made a second time

    def settle(self):
        """Out of the proxy's way, and awake when a load says that its time begins."""
        os.sched_setaffinity(0, self.others)
        try:
            os.nice(-5)
        except OSError:
            pass

    # --- one proxy, once
    def once(self, peer, case, rps=0):
        """Its figures; raises Broken where there are none."""
        origin = peers.Origin(self.origin, self.folder, self.others, case.backends)
        try:
            proxy = peers.Proxy(peer, case, self.folder, self.core, origin, self.environment, self.limits)
            try:
                return self.idle(proxy, case) if case.tool == "idle" else self.loaded(proxy, case, origin, rps)
            finally:
                proxy.close()
        finally:
            origin.close()

    def loaded(self, proxy, case, origin, rps):
        beside = self.runner.idle(case.idle, proxy.port, case.http) if case.idle else None
        try:
            if beside and not beside.open:
                raise peers.Broken("the idle connections beside it could not be opened")
            meter = Meter(proxy.pids(), self.core)
            meter.rest(0.3)
            asked = origin.requests()
            result = self.runner.run(case, proxy.port, self.settings.seconds, self.settings.warm, meter, rps)
            asked = origin.requests() - asked
        finally:
            left = beside.close() if beside else None
        if not proxy.alive():
            raise peers.Broken(f"died: {proxy.said()}")
        if result.why:
            raise peers.Broken(result.why)
        if left and left.why:
            raise peers.Broken(f"idle connections beside it: {left.why}")
        if not case.websocket and asked < result.requests:
            raise peers.Broken(f"{result.requests} answers, but the origin was asked {asked} times")
        if meter.lost:
            raise peers.Broken("threads of it ended while it was measured")
        rate = result.requests / result.seconds
        if rps and rate < 0.9 * rps:
            raise peers.Broken(f"{rate:.0f} requests/s where {rps:.0f} were to be answered")
        rss, pss = memory_kib(proxy.pids())
        return {"cpu_us": meter.cpu_ns / 1000 / result.requests, "rps": rate, "requests": result.requests, "seconds": result.seconds,
                "busy": meter.busy, "foreign": meter.foreign, "rss_kib": rss, "pss_kib": pss, **({"offered": rps} if rps else {}),
                **result.latency}

    def idle(self, proxy, case):
        """What a connection costs that does nothing."""
        first = self.runner.idle(WARM_IDLE, proxy.port, case.http)
        before = memory_kib(proxy.pids())
        more = self.runner.idle(case.clients, proxy.port, case.http)
        after, last, deadline = memory_kib(proxy.pids()), None, time.monotonic() + 3
        while after != last and time.monotonic() < deadline:  # what was only passing may go back to the pools
            time.sleep(0.3)
            last, after = after, memory_kib(proxy.pids())
        died = None if proxy.alive() else proxy.said()
        for result in (more.close(), first.close()):
            if died or result.why:
                raise peers.Broken(f"died: {died}" if died else result.why)
        rss, pss = (b - a for a, b in zip(before, after))
        return {"kib_each": pss / case.clients, "rss_kib_each": rss / case.clients, "rss_kib": after[0], "pss_kib": after[1],
                "connections": case.clients}

    # --- one case
    def contenders(self, case):
        """[(label, peer, case)]: every proxy, or teal at every point."""
        if case.points:
            return [(label, self.settings.peers[0], case.at(label)) for label, _ in case.points]
        return [(p.name, p, case) for p in self.settings.peers]

    def rate(self, case):
        """Requests a second of an open loop: measured before, or now in short."""
        if not self.rates:
            base = next(c for c in cases.CASES if c.name == BASE)
            for peer in self.settings.peers[1:]:
                try:
                    self.rates[peer.name] = self.once(peer, base)["rps"]
                except peers.Broken:
                    pass
        return case.rate * max(self.rates.values()) if self.rates else 0

    def quieter(self, peer, case, rps):
        """once(); and once more where others had taken the proxy's core: the quieter of both, whatever its figure."""
        first = self.once(peer, case, rps)
        if self.again <= 0 or first.get("foreign", 0) <= report.FOREIGN:
            return first
        self.again -= 1
        return min(first, self.once(peer, case, rps), key=lambda figures: figures["foreign"])

    def case(self, case, progress):
        rows = {}
        for label, peer, at in self.contenders(case):
            rows[label] = report.Row()
            if not peer.program:
                rows[label] = report.Row("missing", f"not installed (Debian's {peer.package})")
            elif at.back in peer.cannot:
                rows[label] = report.Row("cannot", peer.cannot[at.back])
        rps = self.rate(case) if case.rate else 0
        rounds = min(self.settings.rounds, case.rounds or self.settings.rounds)
        for r in range(rounds):
            order = self.contenders(case)
            for label, peer, at in order if r % 2 == 0 else reversed(order):
                progress.step(f"{case.name}, round {r + 1} of {rounds}: {label}")
                row = rows[label]
                if row.status != "ok":
                    continue
                try:
                    if case.rate and not rps:
                        raise peers.Broken("no peer's throughput to take half of")
                    row.rounds.append(self.quieter(peer, at, rps))
                except peers.Broken as e:
                    row.fail(f"round {r + 1}: {e}")
        if case.name == BASE:
            self.rates = {n: row.figure("rps") for n, row in rows.items() if n != "teal" and row.figure("rps")}
        return rows


def summary(case, rows):
    """A case in a line."""
    parts = []
    for label, row in rows.items():
        value = row.figure(case.figure)
        parts.append(f"{label} {report.number(value) if value is not None else row.status}")
    v = report.verdict(case, rows)
    end = f"  ratio {v['median']:.2f} ({v['low']:.2f} to {v['high']:.2f})" if v else "  no ratio"
    errors = "".join(f"\n    {label}: {row.why}" for label, row in rows.items() if row.status in ("error", "missing"))
    return f"{case.name:<17} {', '.join(parts)}{end}{errors}"


def about(settings):
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return {
        "made": time.strftime("%Y-%m-%d"),
        "machine": {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release().split("-")[0],
                    "openssl": ssl.OPENSSL_VERSION.split()[1], "load": round(os.getloadavg()[0], 2)},
        "settings": {"rounds": settings.rounds, "seconds": settings.seconds, "quick": settings.quick, "whole": settings.whole},
        "versions": {p.name: p.about() if p.program else "missing" for p in settings.peers},
    }


def main():
    try:
        settings = Settings(os.environ)
    except ValueError as e:
        sys.exit(f"bench: {e}")
    for tool in ("taskset", "h2load", "wrk", "openssl"):
        if not shutil.which(tool):
            sys.exit(f"bench: {tool} is missing (make bench-deps)")
    words, done = about(settings), []
    with tempfile.TemporaryDirectory(prefix="teal-bench-") as folder:
        bench = Bench(settings, folder)
        bench.settle()
        total = sum(len(bench.contenders(c)) * min(settings.rounds, c.rounds or settings.rounds) for c in settings.cases)
        progress = Progress(total)
        bench.again = 0 if settings.quick else total // 6
        try:
            for case in settings.cases:
                rows = bench.case(case, progress)
                done.append((case, rows))
                progress.case(summary(case, rows))
        except KeyboardInterrupt:
            progress.case("bench: interrupted; what was measured is written")
            if settings.whole:
                settings.out = os.path.join(settings.build, "bench", "results")
    print(report.write(settings.out, done, words))
    print(f"written to {os.path.relpath(settings.out)}/: results.json, results.md and the charts")
    # teal without a figure is a failure of the run; a peer without one is told in the table
    mute = [case.name for case, rows in done for label, row in rows.items() if (case.points or label == "teal") and row.status != "ok"]
    return f"bench: no figure for teal in {', '.join(dict.fromkeys(mute))}" if mute else 0


if __name__ == "__main__":
    sys.exit(main())
