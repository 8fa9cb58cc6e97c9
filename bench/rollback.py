#!/usr/bin/python3
"""What a bad release costs users: teal beside what they would use instead.

    make bench-rollback            5.5 minutes; QUICK=1: 1.2, fewer faults

A load at a fixed rate goes through each proxy with green at 25 %.  After some good seconds green begins to fail while its
health checks stay well.  Counted are the requests green still gets, the time until it gets none, and
what clients see.  All proxies run at the same time, each with origins and clients of its own, so that whatever else
the machine does is the same for all.  Results: rollback.json, .md and .svg in bench/results (QUICK: build/bench/results;
or OUT=).

    rollback_stands.py   the proxies, their configurations       rollback_load.py     the clients
    rollback_script.py   the controller that polls               rollback_count.py    from journals to figures
    rollback_report.py, rollback_svg.py   the table, the picture
"""

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import rollback_count
import rollback_report
import rollback_script
import rollback_stands
import rollback_svg
from rollback_load import PATIENCE
from rollback_stands import STANDS, now_us

GETS, POSTS = 300, 30  # a second, through each proxy
LATE_US = 250_000  # clients that were so late themselves measured the machine: once more
PICTURE = "fail-100"
PICTURE_BEFORE = 2  # seconds


@dataclass
class Run:
    name: str
    title: str
    seconds: float
    fault: str = ""  # what green's origin is told; "": a healthy run
    always: str = ""  # what both are told from the beginning


NOISE = "fail=0.5% status=500"


def plan(quick):
    """(good seconds, runs)"""
    # the controller that polls has seen a whole window before anything happens
    good = rollback_script.WINDOW + 1
    dead, short, long = (6, 5, 15) if quick else (36, 12, 50)
    runs = [
        Run("fail-100", "every answer a 500", dead, "fail=100% how=status status=500"),
        Run("fail-20", "20 % of answers 500", short, "fail=20% how=status status=500"),
        Run("fail-2", "2 % of answers 500, blue 0.5 %", long, "fail=2%", always=NOISE),
        Run("hang", "no answer", short, "hang=100%"),
        Run("latency", "answers 2 s late", short, "latency=2s"),
        Run("refused", "connections refused", short, "refuse=on"),
        Run("healthy", "nothing: well", good + dead),
        Run("healthy-noise", "both colors 0.5 % 500", good + long, always=NOISE),
    ]
    kept = {"fail-100", "fail-20", "hang", "healthy"} if quick else {r.name for r in runs}
    return good, [r for r in runs if r.name in kept]


class Bench:
    def __init__(self, build, folder, quick):
        self.build, self.folder = build, folder
        self.good, self.runs = plan(quick)
        self.began = time.monotonic()
        self.pool = ThreadPoolExecutor(len(STANDS))

    def say(self, words):
        print(f"[{time.monotonic() - self.began:4.0f} s] {words}", flush=True)

    def each(self, work, stands):
        """For all stands at the same time; all have ended when it returns or raises."""
        futures = [self.pool.submit(work, stand) for stand in stands]
        wait(futures)
        return [f.result() for f in futures]

    def run(self, run):
        """The figures of each stand, and the timelines."""
        folder = os.path.join(self.folder, run.name)
        stands = [kind(os.path.join(folder, kind.name), self.build) for kind in STANDS]
        try:
            self.each(lambda s: s.open(), stands)
            return self.watch(run, stands)
        finally:
            self.each(lambda s: s.close(), stands)
            shutil.rmtree(folder, ignore_errors=True)

    def watch(self, run, stands):
        if run.always:
            for stand in stands:
                for origin in stand.origins.values():
                    origin.tell("set " + run.always)
        self.each(lambda s: s.start_load(GETS, POSTS), stands)
        faults = dict.fromkeys(stands)
        if run.fault:
            time.sleep(self.good)
            for stand in stands:
                faults[stand] = now_us()
                stand.origins["green"].tell("set " + run.fault)
        time.sleep(run.seconds)
        end = now_us()
        for stand in stands:
            stand.stop_load()
        return {s.name: self.figures(run, s, faults[s], end) for s in stands}

    def figures(self, run, stand, fault, end):
        records = stand.records()
        green, blue = (stand.origins[c].journal() for c in ("green", "blue"))
        if not records or not blue:
            raise RuntimeError(f"{stand.title} got no load")
        start, trip = min(r[1] for r in records), stand.tripped()
        if fault is None:
            figures = rollback_count.healthy(green, blue, records, start, end)
            zero = start + PICTURE_BEFORE * 1_000_000
        else:
            at = trip and trip["at"]
            figures = rollback_count.bad_release(green, blue, records, start, fault, end, at)
            zero = next((t for t, faulty, _ in green if faulty and t >= fault), fault)
        return {
            **figures,
            "trip": trip and {"us": trip["at"] - (fault or start), "why": trip["why"]},
            "sent": len(records),
            "late_us": rollback_count.lateness(records),
            "timeline": rollback_count.timeline(
                records, green, zero, PICTURE_BEFORE * 1_000_000, int(run.seconds * 1e6)
            ),
        }

    def close(self):
        self.pool.shutdown()


def machine(load_before):
    cpu = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return {
        "cpu": names[0] if names else cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }


def write(out, results, timelines, run):
    os.makedirs(out, exist_ok=True)
    picture = rollback_svg.chart(
        timelines,
        results["titles"],
        PICTURE_BEFORE,
        run.seconds,
        "A release dies at 25 %: every request green gets is answered 500",
    )
    for name, content in (
        ("rollback.json", json.dumps(results, indent=1) + "\n"),
        ("rollback.md", rollback_report.markdown(results)),
        ("rollback.svg", picture),
    ):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(content)


def late(stands):
    return max(figures["late_us"] for figures in stands.values())


def measure(bench, quick):
    load_before = os.getloadavg()[0]
    results = {
        "quick": quick,
        "load": {"gets": GETS, "posts": POSTS, "good_seconds": bench.good, "patience": PATIENCE},
        "versions": rollback_stands.versions(bench.build),
        "titles": {kind.name: kind.title for kind in STANDS},
        "runs": [],
    }
    picture = {}
    for n, run in enumerate(bench.runs, 1):
        bench.say(f"{n}/{len(bench.runs)}  {run.title}, {run.seconds:g} s")
        stands = bench.run(run)
        if late(stands) > LATE_US:
            bench.say(f"the machine stood still for {late(stands) / 1e6:.2f} s: once more")
            stands = bench.run(run)
        timelines = {name: figures.pop("timeline") for name, figures in stands.items()}
        if run.name == PICTURE:
            picture = timelines
        results["runs"].append(
            {
                "name": run.name,
                "title": run.title,
                "seconds": run.seconds,
                "healthy": not run.fault,
                "late_ms": late(stands) // 1000,
                "stands": stands,
            }
        )
        for name, figures in stands.items():
            cells = rollback_report.row(results["runs"][-1], results["titles"][name], figures)
            words = zip(("", *rollback_report.HEAD[2:]), cells)
            bench.say("       " + ", ".join(f"{h} {c}".strip() for h, c in words if c != "-"))
    results["machine"] = machine(load_before)
    results["timeline"] = {"run": PICTURE, "slice_ms": 100, "stands": picture}
    return results


def main():
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
    quick = os.environ.get("QUICK", "") not in ("", "0")
    kept = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
    out = os.environ.get("OUT") or (os.path.join(build, "bench/results") if quick else kept)
    if gone := rollback_stands.missing(build):
        sys.exit(f"bench-rollback: missing {', '.join(gone)} (make bench-deps; make)")
    with tempfile.TemporaryDirectory(prefix="bench-rollback-") as folder:
        bench = Bench(build, folder, quick)
        try:
            results = measure(bench, quick)
        finally:
            bench.close()
    run = next(r for r in bench.runs if r.name == PICTURE)
    write(out, results, results["timeline"]["stands"], run)
    print("\n" + rollback_report.table(results))
    print(f"\nwritten: {out}/rollback.json, .md, .svg")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
