"""The figures of `make bench-rollback` as a Markdown table.  Pure."""

HEAD = (
    "what green does",
    "proxy",
    "green saw",
    "flip after",
    "after the flip",
    "GET failed",
    "POST failed",
    "over 1 s",
    "wrongly out",
)


def count(n):
    return "-" if n is None else f"{n:,}"


def seconds(us):
    return "never" if us is None else f"{us / 1e6:.2f} s"


def row(run, stand, figures):
    """The cells of one proxy in one run."""
    clients = figures["clients"]
    failed, slow = clients["failed"], clients["slow"]
    if run["healthy"]:
        saw = flip = after = "-"
    else:
        saw, after = count(figures["seen"]), count(figures["after"])
        flip = "-" if figures["seen"] is None else seconds(figures["flip_us"])
    cells = (saw, flip, after, count(failed["get"]), count(failed["post"]))
    return (stand, *cells, count(slow["get"] + slow["post"]), count(figures["wrong"]))


def table(results):
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
    for run in results["runs"]:
        title = f"{run['title']}, {run['seconds']:g} s"
        for name, figures in run["stands"].items():
            cells = (title, *row(run, results["titles"][name], figures))
            lines.append("| " + " | ".join(cells) + " |")
            title = ""
    return "\n".join(lines)


EXPLAINED = """\
- **green saw**: requests that came to green from its first fault on. Seen at green, so requests it refused are not in it.
- **flip after**: from green's first faulty answer to the last request before it got none for a second.
- **after the flip**: requests that came to green after that, while it was still failing: traffic it was given back. For teal also
  every request that a client began after the moment teal says that it tripped.
- **failed**: what clients got, after the fault, that was no 200, within 5 s; answers of blue that were not are left out: blue's own 0.5 %,
  which teal and HAProxy give to clients, and nginx and tuned HAProxy replay on the other color where they may (`failed_blue` in the JSON).
- **over 1 s**: answered well, but late.
- **wrongly out**: how often a color that was no worse than the other got nothing for a second: green before its fault, blue at any time;
  in the healthy runs either.
"""


def lateness(runs):
    late = max((run["late_ms"] for run in runs), default=0)
    return f"Clients sent what was due at most {late} ms late."


def markdown(results):
    load, machine = results["load"], results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in results["versions"].items())
    return f"""# What a bad release costs

`make bench-rollback`{' with QUICK=1' if results['quick'] else ''}: {load['gets']:g} GET/s and {load['posts']:g} POST/s, open loop, HTTP/1.1, through each proxy; green at 25 %.
After {load['good_seconds']:g} s in which all is well green begins to fail, for the seconds named; its health checks stay well (but where it
refuses connections). All proxies at the same time on the same machine, each with origins and clients of its own.

{table(results)}

{EXPLAINED}
{versions}; {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}. Load average {machine['load_before']:.1f} before, {machine['load_after']:.1f} after.
{lateness(results['runs'])}

![client failures over time](rollback.svg)
"""
