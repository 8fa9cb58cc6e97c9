"""From what origins and clients wrote down to the figures of `make bench-rollback`.  Pure.

Everything is seen from outside, for each proxy in the same way: when green stopped getting requests is read off green's own
journal.  The one exception is teal's own word of when it tripped, by which it is judged more strictly.

    journal  [(at_us, faulty, number)]                                an origin's, in the order of arrival
    records  [(number, due_us, end_us, method, status, who, late_us)]    the clients'
"""

OUT_US = 1_000_000  # a color that got nothing for so long under load was taken out
SLOW_US = 1_000_000
SLICE_US = 100_000  # of the timeline


def outages(times, begin, end, least=OUT_US):
    """[(from, to)]: the stretches of at least so long without an arrival; `to` is the next one, or the end."""
    gaps, last = [], begin
    for at in [t for t in times if begin <= t < end] + [end]:
        if at - last >= least:
            gaps.append((last, at))
        last = at
    return gaps


def failed(record):
    return record[4] != 200


def slow(record):
    return not failed(record) and record[2] - record[1] > SLOW_US


def lateness(records):
    """By how much the clients themselves were late, at worst: the machine's fault, not the proxy's."""
    return max((r[6] for r in records), default=0)


def by_method(records):
    posts = sum(r[3] == "POST" for r in records)
    return {"get": len(records) - posts, "post": posts}


def clients(records, since):
    """What clients saw of all that ended after `since`.  What blue answered wrongly is blue's own."""
    after = [r for r in records if r[2] >= since]
    bad = [r for r in after if failed(r)]
    return {
        "requests": len(after),
        "failed": by_method([r for r in bad if r[5] != "blue"]),
        "failed_blue": by_method([r for r in bad if r[5] == "blue"]),
        "slow": by_method([r for r in after if slow(r)]),
    }


def picked_after(arrivals, records, at):
    """How many requests that clients began after `at` came to green all the same."""
    begun = {r[0]: r[1] for r in records}
    return sum(begun.get(number, 0) > at for _, _, number in arrivals)


def bad_release(green, blue, records, start, fault, end, trip=None):
    """A run in which green began to fail at `fault`; `trip`: when the proxy says that it tripped, if it can say."""
    after = [e for e in green if e[0] >= fault]
    first = next((at for at, faulty, _ in after if faulty), None)
    figures = {
        "seen": None,  # by green, from the first fault on
        "flip_us": None,  # from the first fault to the last that arrived
        "after": None,  # came to green after the flip
        "wrong": wrong(green, blue, start, fault, end),
        "clients": clients(records, fault),
    }
    if first is None:
        return figures
    seen = [e for e in after if e[0] >= first]
    gaps = outages([at for at, _, _ in seen], first, end)
    figures["seen"] = len(seen)
    if gaps:
        flip = gaps[0][0]
        figures["flip_us"] = flip - first
        figures["after"] = sum(at > flip for at, _, _ in seen)
        if trip is not None:  # a millisecond for the clock it is told in
            figures["after"] = max(figures["after"], picked_after(seen, records, trip + 1000))
    return figures


def wrong(green, blue, start, fault, end):
    """How often a color was taken out that should not have been: blue at any time, green while it was well."""
    times = [e[0] for e in green]
    return len(outages(times, start, fault)) + len(outages([e[0] for e in blue], start, end))


def healthy(green, blue, records, start, end):
    return {
        "wrong": wrong(green, blue, start, end, end),
        "clients": clients(records, start),
    }


def timeline(records, arrivals, zero, before_us, after_us):
    """Per slice: failures of GET, of POST, and what came to green."""
    n = (before_us + after_us) // SLICE_US
    out = {"get": [0] * n, "post": [0] * n, "green": [0] * n}

    def put(kind, at):
        i = (at - zero + before_us) // SLICE_US
        if 0 <= i < n:
            out[kind][i] += 1

    for r in records:
        if failed(r):
            put(r[3].lower(), r[2])
    for at, _, _ in arrivals:
        put("green", at)
    return out
