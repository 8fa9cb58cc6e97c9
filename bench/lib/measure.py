"""What a program costs: CPU and memory of it and its children, and what else ran on its core."""

import os
import re
import time

TICK = os.sysconf("SC_CLK_TCK")


def cores():
    """(the proxy's core, the others): proxies are measured on one, clients and origins have the rest."""
    all_of_them = sorted(os.sched_getaffinity(0))
    return all_of_them[-1], all_of_them[:-1] or all_of_them


def family(pid):
    """pid and all that come from it."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    parents[int(name)] = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                pass  # it is gone
    found = [pid] if pid in parents else []
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_ns(pids):
    """{thread: nanoseconds on a core}, of all threads there are."""
    found = {}
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                    found[task] = int(f.read().split()[0])
        except OSError:
            pass
    return found


def memory_kib(pids):
    """(RSS, PSS) of all of them; what they share is counted once in the second."""
    rss = pss = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                text = f.read()
        except OSError:
            continue
        rss += int(re.search(r"^Rss:\s+(\d+)", text, re.M)[1])
        pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    return rss, pss


def core_busy_ns(core):
    """Nanoseconds this core was not idle, by whomever."""
    with open("/proc/stat") as f:
        for line in f:
            if line.startswith(f"cpu{core} "):
                user, nice, system, _, _, irq, softirq, steal = (int(x) for x in line.split()[1:9])
                return (user + nice + system + irq + softirq + steal) * 10**9 // TICK
    return 0


class Meter:
    """Between begin() and end(): what the proxy and its core did."""

    def __init__(self, pids, core):
        self.pids, self.core = pids, core
        self.idle_share = 0.0  # of a core, what the proxy takes when nobody asks
        self.first = self.last = None
        self.first_us = self.last_us = 0  # the same moments by the wall clock

    def _now(self):
        cpu = cpu_ns(self.pids)
        return time.monotonic_ns(), sum(cpu.values()), core_busy_ns(self.core), cpu.keys()

    def rest(self, seconds, times=3):
        """Learns the idle share: the least of a few looks, for it may still be busy with its start."""
        shares = []
        for _ in range(times):
            wall, cpu, *_ = self._now()
            time.sleep(seconds / times)
            now, after, *_ = self._now()
            shares.append((after - cpu) / (now - wall))
        self.idle_share = min(shares)

    def begin(self):
        self.first, self.first_us = self._now(), time.time_ns() // 1000

    def end(self):
        self.last, self.last_us = self._now(), time.time_ns() // 1000

    @property
    def lost(self):
        """Threads that ended took what they had used with them: there is no figure."""
        return bool(self.first[3] - self.last[3])

    @property
    def cpu_ns(self):
        """Without what it would have taken idle."""
        return self.last[1] - self.first[1] - self.idle_share * (self.last[0] - self.first[0])

    @property
    def busy(self):
        """The proxy's share of its core."""
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])

    @property
    def foreign(self):
        """The share of the core that others took; who reads figures should know."""
        wall = self.last[0] - self.first[0]
        return max(0.0, (self.last[2] - self.first[2] - (self.last[1] - self.first[1])) / wall)
