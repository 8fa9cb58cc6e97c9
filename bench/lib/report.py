"""What the figures say: medians, ratios with their spread, who has no figure and why; as JSON, Markdown and charts."""

import json
import os
from statistics import median

from lib import svg

UNITS = {"cpu_us": "us of CPU per request", "p99_us": "us to 99 % of the answers", "kib_each": "KiB per connection"}
FOREIGN = 0.10  # a proxy's core of which others took more is marked


class Row:
    """One proxy in one case (one point of a series): its rounds, or why it has none."""

    def __init__(self, status="ok", why="", rounds=None):
        self.status, self.why = status, why  # ok, error, missing, cannot
        self.rounds = rounds or []

    def fail(self, why):
        """An error in any round: no figure at all."""
        self.status, self.why = "error", why

    def figure(self, name):
        """The median over the rounds, or None."""
        values = [r[name] for r in self.rounds if r.get(name) is not None]
        return median(values) if self.status == "ok" and values else None

    def json(self):
        return {"status": self.status, **({"why": self.why} if self.why else {}), "rounds": self.rounds}


def ratio(ours, theirs, figure):
    """ours / theirs round by round: {"median", "low", "high"}; None where one of them has no figure."""
    if ours.figure(figure) is None or theirs.figure(figure) is None:
        return None
    each = [a[figure] / b[figure] for a, b in zip(ours.rounds, theirs.rounds) if b[figure] > 0]
    return {"median": median(each), "low": min(each), "high": max(each)} if each else None


def best(rows, figure, but="teal"):
    """The name of the peer with the least median, or None."""
    known = {name: row.figure(figure) for name, row in rows.items() if name != but}
    known = {name: value for name, value in known.items() if value is not None and value > 0}
    return min(known, key=known.get) if known else None


def verdict(case, rows):
    """teal beside the best peer; of a series: its worst point beside its first."""
    if case.points:
        first = next(iter(rows.values()))
        each = {label: ratio(row, first, case.figure) for label, row in rows.items()}
        if any(r is None for r in each.values()):
            return None
        worst = max(each, key=lambda label: each[label]["median"])
        found = {"point": worst, **each[worst]}
    else:
        peer = best(rows, case.figure)
        r = ratio(rows["teal"], rows[peer], case.figure) if peer and "teal" in rows else None
        if r is None:
            return None
        found = {"peer": peer, **r}
    return {**found, "goal": case.goal, "met": found["median"] <= case.goal}


def as_json(done, about):
    return {
        **about,
        "cases": [
            {"name": case.name, "title": case.title, "group": case.group, "figure": case.figure,
             "unit": UNITS[case.figure], "verdict": verdict(case, rows), "rows": {n: row.json() for n, row in rows.items()}}
            for case, rows in done
        ],
    }


# --- Markdown ----------------------------------------------------------------------------------------------------------------------
def number(value):
    """Three figures are all that is known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


class Notes:
    def __init__(self):
        self.texts = []

    def mark(self, text):
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def cell(row, figure, notes, who):
    if row is None:
        return ""
    if row.status != "ok":
        word = {"error": "error", "missing": "missing", "cannot": "-"}[row.status]
        return f"{word} {notes.mark(f'{who}: {row.why}')}"
    value = row.figure(figure)
    noisy = max((r.get("foreign", 0) for r in row.rounds), default=0) > FOREIGN
    return number(value) + (" †" if noisy and value is not None else "")


def table(head, lines):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(x) + " |" for x in lines] + [""]


def verdict_cells(v):
    if v is None:
        return ["none", "", ""]
    return [f"**{v['median']:.2f}**", f"{v['low']:.2f} to {v['high']:.2f}",
            f"{v['goal']:.2f} {'met' if v['met'] else 'missed'}"]


def comparison(done, groups, names, notes):
    lines = []
    for case, rows in done:
        if case.group in groups and not case.points:
            cells = [cell(rows.get(n), case.figure, notes, f"{case.name}, {n}") for n in names]
            v = verdict(case, rows)
            if v:  # the one teal is compared with
                cells[names.index(v["peer"])] = f"**{cells[names.index(v['peer'])]}**"
            lines.append([case.name, case.title] + cells + verdict_cells(v))
    return lines


def as_markdown(done, about):
    notes = Notes()
    names = [n for n in about["versions"]]
    head = ["case", "load"] + names + ["teal / best peer", "over rounds", "goal"]
    out = ["# The bench", "", machine_line(about), ""]
    for title, groups in (("CPU per request, microseconds", ("small", "bulk", "handshake")),
                          ("Latency at a fixed rate: 99 % are answered within, microseconds", ("latency",)),
                          ("Memory of an idle TLS connection, KiB", ("memory",))):
        lines = comparison(done, groups, names, notes)
        if lines:
            out += [f"## {title}", ""] + table(head, lines)
    out += series(done, notes) + throughput(done, names)
    if notes.texts:
        out += ["Notes:", ""] + [f"{i + 1}. {text}" for i, text in enumerate(notes.texts)] + [""]
    if any("†" in line for line in out):
        out += [f"†: other programs took more than {FOREIGN:.0%} of the proxy's core in one of the rounds.", ""]
    return "\n".join(out)


def machine_line(about):
    m, s = about["machine"], about["settings"]
    versions = ", ".join(f"{n} {v}" for n, v in about["versions"].items())
    return (f"{about['made']}, {m['cpu']}, {m['cores']} cores, Linux {m['kernel']}, OpenSSL {m['openssl']}; {versions}. "
            f"Rounds: {s['rounds']}, {s['seconds']} s each, medians. Load average at the beginning {m['load']}. Less is better; the "
            "best peer is in bold.")


def series(done, notes):
    out = []
    for case, rows in done:
        if not case.points:
            continue
        v = verdict(case, rows)
        values = [cell(row, case.figure, notes, f"{case.name}, {label}") for label, row in rows.items()]
        worst = [f"**{v['median']:.2f}** at {v['point']}", f"{v['goal']:.2f} {'met' if v['met'] else 'missed'}"] if v else ["none", ""]
        out += [f"### {case.name}: {case.title}", ""] + table(["", *rows, "worst / first", "goal"], [["teal", *values, *worst]])
    return ["## Flatness: CPU per request of teal, microseconds", ""] + out if out else []


def throughput(done, names):
    lines = []
    for case, rows in done:
        if case.points or case.group == "memory":
            continue
        for n in names:
            row = rows.get(n)
            if row and row.status == "ok" and row.rounds:
                lines.append([case.name, n, number(row.figure("rps")), number(row.figure("p50_us")), number(row.figure("p99_us")),
                              number(row.figure("p999_us")), f"{100 * row.figure('busy'):.0f} %",
                              f"{row.figure('pss_kib') / 1024:.1f}"])
    if not lines:
        return []
    return ["## What the loads saw", "", "Clients and origin share the other cores, so requests per second say who has room left, not how fast a "
            "proxy can be.", ""] + table(["case", "proxy", "requests/s", "p50 us", "p99 us", "p99.9 us", "of its core", "MiB"], lines)


# --- charts ------------------------------------------------------------------------------------------------------------------------
def charts(done, about):
    """{file name: SVG}; a chart without figures is left out."""
    names, out = list(about["versions"]), {}
    cpu = [(case, rows) for case, rows in done if case.figure == "cpu_us" and not case.points]
    groups, values, labels = [], {n: [] for n in names}, {n: [] for n in names}
    for case, rows in cpu:
        peer = best(rows, case.figure)
        if not peer:
            continue
        groups.append(case.name)
        base = rows[peer].figure(case.figure)
        for n in names:
            f = rows[n].figure(case.figure) if n in rows else None
            values[n].append(None if f is None else f / base)
            labels[n].append("" if f is None else number(f))
    if groups:
        out["cpu.svg"] = svg.bars("CPU per request beside the best peer (labels: microseconds; less is better)", groups, values, labels, line=1.0)
    for case, rows in done:
        if case.group == "latency":
            out["latency.svg"] = latency_chart(case, rows, names)
    memory = [(case, rows) for case, rows in done if case.group == "memory"]
    if memory:
        values = {n: [rows[n].figure("kib_each") if n in rows else None for _, rows in memory] for n in names}
        labels = {n: ["" if v is None else number(v) for v in values[n]] for n in names}
        out["memory.svg"] = svg.bars("Memory of an idle TLS connection, KiB", [c.name for c, _ in memory], values, labels)
    lines = {}
    for case, rows in done:
        figures = [(label, row.figure(case.figure)) for label, row in rows.items()]
        if case.points and all(f for _, f in figures):
            lines[case.name] = [(label, f / figures[0][1]) for label, f in figures]
    if lines:
        out["flat.svg"] = svg.lines("CPU per request of teal beside the first point", lines, line=1.15)
    return out


def latency_chart(case, rows, names):
    keys = ("p50_us", "p99_us", "p999_us")
    values = {n: [rows[n].figure(k) if n in rows else None for k in keys] for n in names}
    labels = {n: ["" if v is None else number(v) for v in values[n]] for n in names}
    return svg.bars(f"Latency, {case.title}: microseconds", ["p50", "p99", "p99.9"], values, labels)


def write(folder, done, about):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/results.json", "w") as f:
        json.dump(as_json(done, about), f, indent=1)
        f.write("\n")
    text = as_markdown(done, about)
    with open(f"{folder}/results.md", "w") as f:
        f.write(text)
    for name, drawing in charts(done, about).items():
        with open(f"{folder}/{name}", "w") as f:
            f.write(drawing)
    return text
