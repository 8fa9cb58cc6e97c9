"""bench/rollback: its counting, its clients and its controller must say what happened, or the table lies."""
import asyncio
import io
import sys
import xml.etree.ElementTree as ElementTree
from itertools import islice
from types import SimpleNamespace

import pytest

from harness import ROOT

sys.path.insert(0, str(ROOT / "bench"))

import rollback  # noqa: E402
import rollback_count as count  # noqa: E402
import rollback_load as load  # noqa: E402
import rollback_report as report  # noqa: E402
import rollback_script as script  # noqa: E402
import rollback_svg as svg  # noqa: E402

S = 1_000_000  # a second
FAULT, END = 5 * S, 20 * S


def arrivals(begin, end, every=S // 80, faulty=False, first=0):
    return [(at, faulty, first + n) for n, at in enumerate(range(begin, end, every))]


def ask(n, due, method="GET", status=200, who="blue", took=1000):
    return (n, due, due + took, method, status, who, 0)


# --- counting ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "times, gaps",
    [
        (range(0, 10 * S, S // 10), []),
        ([*range(0, 4 * S, S // 10), *range(6 * S, 10 * S, S // 10)], [(39 * S // 10, 6 * S)]),
        (range(0, 4 * S, S // 10), [(39 * S // 10, 10 * S)]),
        (range(3 * S, 10 * S, S // 10), [(0, 3 * S)]),
        ([], [(0, 10 * S)]),
        (range(0, 10 * S, S - 1), []),
        (range(0, 3 * S, S), [(0, S), (S, 2 * S), (2 * S, 10 * S)]),
        ([-S, *range(0, 10 * S, S // 10), 11 * S], []),
    ],
)
def test_outages(times, gaps):
    assert count.outages(times, 0, 10 * S) == gaps


def figures(green, records=(), trip=None, blue=None):
    blue = arrivals(0, END) if blue is None else blue
    return count.bad_release(green, blue, list(records), 0, FAULT, END, trip)


GOOD = arrivals(0, FAULT)


def test_a_flip():
    bad = arrivals(FAULT, FAULT + 10 * (S // 80), faulty=True, first=1000)
    f = figures(GOOD + bad)
    assert (f["seen"], f["flip_us"], f["after"], f["wrong"]) == (10, 9 * (S // 80), 0, 0)


def test_the_first_fault_begins_it_not_the_order():
    late = arrivals(FAULT, FAULT + S)
    bad = arrivals(FAULT + S, FAULT + S + 3, every=1, faulty=True)
    f = figures(GOOD + late + bad)
    assert (f["seen"], f["flip_us"]) == (3, 2)


def test_traffic_that_is_given_back():
    bad = arrivals(FAULT, FAULT + S, faulty=True) + arrivals(12 * S, 13 * S, faulty=True)
    f = figures(GOOD + bad)
    assert (f["seen"], f["after"]) == (160, 80)
    assert f["flip_us"] == S - S // 80


def test_no_flip():
    f = figures(GOOD + arrivals(FAULT, END, faulty=True))
    assert f["seen"] == 1200 and f["flip_us"] is None and f["after"] is None


def test_refused_connections_are_not_seen():
    f = figures(GOOD)
    assert f["seen"] is None and f["flip_us"] is None and f["after"] is None and f["wrong"] == 0


def test_what_is_picked_after_the_trip_counts_though_no_second_has_passed():
    bad = arrivals(FAULT, FAULT + S, faulty=True, first=0)
    begun = [ask(n, at - 500) for at, _, n in bad]
    trip = bad[69][0]
    assert figures(GOOD + bad, begun, trip)["after"] == 80 - 70
    assert figures(GOOD + bad, begun, bad[-1][0])["after"] == 0


def test_what_was_taken_out_wrongly():
    bad = arrivals(FAULT, FAULT + S, faulty=True)
    pause = arrivals(0, 2 * S) + arrivals(4 * S, FAULT)
    blue = arrivals(0, 8 * S) + arrivals(10 * S, 18 * S)
    assert figures(pause + bad)["wrong"] == 1
    assert figures(GOOD + bad, blue=blue)["wrong"] == 2
    assert count.healthy(pause, arrivals(0, FAULT), [], 0, FAULT)["wrong"] == 1
    assert count.healthy(GOOD, GOOD, [], 0, FAULT)["wrong"] == 0


def test_what_clients_saw():
    records = [
        ask(1, FAULT - 9000, status=500, who="green"),  # ended before the fault
        ask(2, FAULT - 9000, status=500, who="green", took=9000),
        ask(3, FAULT, status=0, who="-"),
        ask(4, FAULT, method="POST", status=504, who="-"),
        ask(5, FAULT, method="POST", status=500, who="blue"),
        ask(6, FAULT, took=count.SLOW_US),
        ask(7, FAULT, took=count.SLOW_US + 1),
        ask(8, FAULT, status=0, who="-", took=5 * S),
    ]
    assert count.clients(records, FAULT) == {
        "requests": 7,
        "failed": {"get": 3, "post": 1},
        "failed_blue": {"get": 0, "post": 1},
        "slow": {"get": 1, "post": 0},
    }


def test_lateness():
    assert count.lateness([]) == 0
    assert count.lateness([(*ask(n, 0)[:6], late) for n, late in enumerate((5, 70, 9))]) == 70


def test_timeline():
    records = [
        ask(1, 0, status=500, took=3 * S),
        ask(2, 0, method="POST", status=0, took=3 * S + count.SLICE_US - 1),
        ask(3, 0, status=500, took=3 * S - 1),
        ask(4, 0, took=3 * S),
        ask(5, 0, status=500, took=9 * S),
    ]
    line = count.timeline(records, [(3 * S, True, 1), (S, False, 2)], 3 * S, S, 2 * S)
    assert {len(slices) for slices in line.values()} == {30}
    assert {k: [i for i, n in enumerate(v) if n] for k, v in line.items()} == {
        "get": [9, 10],
        "post": [10],
        "green": [10],
    }


# --- the controller that polls -------------------------------------------------------------------
def window(*samples):
    w = script.Window()
    for sample in samples:
        w.add(*sample)
    return w


def test_nothing_is_said_before_a_whole_window():
    assert window().rate() is None
    w = window(*((n, 100 * n, 100 * n) for n in range(10)))
    assert w.rate() is None and not w.too_many()
    w.add(10, 1000, 1000)
    assert w.rate() == 100 and w.too_many()


def test_more_than_the_limit_is_too_many():
    assert not window((0, 0, 0), (10, 1000, 10)).too_many()
    assert window((0, 0, 0), (10, 1000, 11)).too_many()


def test_what_is_older_than_the_window_is_forgotten():
    w = window(*((n, 100 * n, min(100, 100 * n)) for n in range(11)))
    assert w.too_many()
    w.add(11, 1100, 100)
    assert w.rate() == 0 and not w.too_many()


def test_silence_is_no_rate():
    assert window((0, 50, 7), (10, 50, 7)).rate() is None


HEADER = "pxname,svname,econ,eresp,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,"


def stat(good, bad, econ=0, eresp=0):
    blue = "be,blue,0,0,0,9999,0,0,77,0,"
    green = f"be,green,{econ},{eresp},0,{good},2,3,{bad},,"
    return f"# {HEADER}\nfe,FRONTEND,,,0,1,1,1,1,1,\n{blue}\n{green}\n\n"


def test_counters():
    assert script.counters(stat(100, 5, 7, 11), "be/green") == (128, 23)
    assert script.counters(stat(100, 5), "be/red") is None


def test_the_order_is_given_once_and_at_the_next_poll(monkeypatch):
    """Green fails from second 16.2 on, 20 answers a second."""
    now, told = [0.0], []

    def tell(_, command):
        if command != "show stat":
            told.append((now[0], command))
            return ""
        bad = int(20 * max(0.0, now[0] - 16.2))
        return stat(int(20 * now[0]) - bad, bad)

    def sleep(seconds):
        now[0] += seconds

    clock = SimpleNamespace(
        monotonic=lambda: now[0], monotonic_ns=lambda: int(now[0] * 1e9), sleep=sleep
    )
    monkeypatch.setattr(script, "tell", tell)
    monkeypatch.setattr(script, "time", clock)
    log = io.StringIO()
    script.poll("", "be/green", log)
    assert told == [(17.0, "set server be/green weight 0")]
    assert log.getvalue().startswith(f"{17 * S} ")
    with pytest.raises(SystemExit):
        script.poll("", "be/red", log)


# --- the clients ---------------------------------------------------------------------------------
def test_methods_are_spread_evenly():
    asked = list(islice(load.methods(300, 40), 3400))
    assert asked.count("POST") in (399, 400)
    where = [n for n, method in enumerate(asked) if method == "POST"]
    assert {b - a for a, b in zip(where, where[1:])} <= {8, 9}
    assert set(islice(load.methods(5, 0), 50)) == {"GET"}


WHOLE = b"HTTP/1.1 200 OK\r\nX-Version: green\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
UNTIL_EOF = b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nno server"


@pytest.mark.parametrize(
    "data, status, who, keep",
    [
        (WHOLE, 200, "green", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, 200, "green", True),
        (CHUNKED, 200, "-", True),
        (WHOLE.replace(b"200 OK\r\n", b"502 Bad\r\nConnection: close\r\n"), 502, "green", False),
    ],
)
def test_an_answer_in_pieces(data, status, who, keep):
    a = load.Answer()
    assert [a.feed(data[i : i + 1]) for i in range(len(data))] == [False] * (len(data) - 1) + [True]
    assert (a.status, a.who, a.keep) == (status, who, keep)


def test_an_answer_that_the_end_makes_whole():
    a = load.Answer()
    assert not a.feed(UNTIL_EOF) and a.eof()
    assert (a.status, a.keep) == (503, False)
    for cut in (WHOLE[:-1], CHUNKED[:-1], WHOLE[:20]):
        a = load.Answer()
        assert not a.feed(cut) and not a.eof()


def asked_of(serve, monkeypatch, n=30, patience=30):
    """The records of clients of a proxy that does this with a connection."""
    monkeypatch.setattr(load, "PATIENCE", patience)
    out = io.StringIO()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        clients = load.Clients(server.sockets[0].getsockname()[1], 200, 20, out)
        going = asyncio.ensure_future(clients.run())
        while out.getvalue().count("\n") < n and not going.done():
            await asyncio.sleep(0.01)
        clients.stopping.set()
        await going
        server.close()

    asyncio.run(run())
    rows = [line.split() for line in out.getvalue().splitlines()]
    return [
        (int(n), int(due), int(end), method, int(status), who, int(late))
        for n, due, end, method, status, who, late in rows
    ]


async def request(reader):
    """Reads one; its method, or "" at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            assert await reader.readexactly(len(load.BODY)) == load.BODY
    except asyncio.IncompleteReadError:
        return ""
    return head.split(b" ")[0].decode()


@pytest.mark.parametrize("answer, status", [(WHOLE, 200), (WHOLE.replace(b"200", b"500"), 500)])
def test_clients_of_one_that_answers(answer, status, monkeypatch):
    connections, seen = [], []

    async def serve(reader, writer):
        connections.append(1)
        while method := await request(reader):
            seen.append(method)
            writer.write(answer)
        writer.close()

    records = asked_of(serve, monkeypatch)
    assert {(r[4], r[5]) for r in records} == {(status, "green")}
    assert sorted(r[0] for r in records) == list(range(len(records)))
    assert len(seen) == len(records) and len(connections) < len(records)
    assert sorted(seen) == sorted(r[3] for r in records) and seen.count("POST") >= 2
    due = [r[1] for r in sorted(records)]
    assert all(b - a in (4545, 4546) for a, b in zip(due, due[1:]))  # 220 a second
    assert all(0 <= r[6] <= r[2] - r[1] for r in records)


def test_clients_of_one_that_breaks(monkeypatch):
    """No answer, half an answer: failures, none forgotten, none twice."""
    broken = [0]

    async def serve(reader, writer):
        await request(reader)
        broken[0] += 1
        if broken[0] % 2:
            writer.write(WHOLE[:-2])
        writer.close()

    records = asked_of(serve, monkeypatch)
    assert {(r[4], r[5]) for r in records} == {(0, "-")}
    assert sorted(r[0] for r in records) == list(range(len(records)))


def test_clients_give_up(monkeypatch):
    async def serve(reader, writer):
        await reader.read()
        writer.close()

    records = asked_of(serve, monkeypatch, n=5, patience=0.3)
    assert {r[4] for r in records} == {0}
    assert all(r[2] - r[1] >= 300_000 for r in records)


def test_nobody_listens(monkeypatch):
    out = io.StringIO()

    async def run():
        clients = load.Clients(1, 100, 0, out)
        going = asyncio.ensure_future(clients.run())
        while out.getvalue().count("\n") < 3:
            await asyncio.sleep(0.01)
        clients.stopping.set()
        await going

    asyncio.run(run())
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert {row[4] for row in rows} == {"0"}
    assert all(int(end) - int(due) < load.PATIENCE * 1e6 for _, due, end, *_ in rows)


def test_a_request_ends_once():
    out = io.StringIO()
    clients = load.Clients(1, 1, 0, out)
    one = load.Request(7, 100, "GET")
    clients.under_way = 2
    clients.ended(one, None)
    clients.ended(one, None)
    assert clients.under_way == 1 and out.getvalue().count("\n") == 1


# --- the report ----------------------------------------------------------------------------------
def run_of(figures_, healthy=False):
    return {
        "title": "every answer a 500",
        "name": "fail-100",
        "seconds": 6,
        "healthy": healthy,
        "stands": {"teal": figures_, "nginx": figures_},
    }


TITLES = {"teal": "teal", "nginx": "nginx"}


def cells(figures_, healthy=False):
    lines = report.table({"runs": [run_of(figures_, healthy)], "titles": TITLES}).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert lines[3].startswith("|  | nginx |")
    return [c.strip() for c in lines[2].split("|")[1:-1]]


def test_the_table():
    bad = arrivals(FAULT, FAULT + S, faulty=True) + arrivals(12 * S, 13 * S, faulty=True)
    lost = [ask(n, FAULT, status=500, who="green") for n in range(1234)]
    lost += [ask(0, FAULT, method="POST", status=0, who="-"), ask(0, FAULT, took=2 * S)]
    lost += [ask(0, FAULT, method="POST", took=2 * S)]
    assert cells(figures(GOOD + bad, lost)) == [
        *("every answer a 500, 6 s", "teal", "160", "0.99 s", "80", "1,234", "1", "2", "0")
    ]
    never = figures(GOOD + arrivals(FAULT, END, faulty=True))
    assert cells(never)[2:5] == ["1,200", "never", "-"]
    at_once = figures(GOOD + [(FAULT, True, 1)])
    assert cells(at_once)[2:5] == ["1", "0.00 s", "0"]
    assert cells(figures(GOOD))[2:5] == ["-", "-", "-"]
    well = count.healthy(GOOD, GOOD, [], 0, FAULT)
    assert cells(well, healthy=True)[2:] == ["-", "-", "-", "0", "0", "0", "0"]


def test_the_picture():
    line = {"get": [0, 0, 4, 2], "post": [0, 0, 1, 0], "green": [8, 8, 8, 0]}
    quiet = {"get": [0] * 4, "post": [0] * 4, "green": [8, 0, 0, 0]}
    text = svg.chart({"a": line, "b": quiet}, {"a": "A & B", "b": "<b>"}, 0.2, 0.2, "title")
    root = ElementTree.fromstring(text)
    rects = [r.attrib for r in root.iter("{http://www.w3.org/2000/svg}rect")]
    height = {c: [float(r["height"]) for r in rects if r["fill"] == c] for c in (svg.GET, svg.POST)}
    assert height[svg.GET] == [12, svg.STRIP * 4 / 8, svg.STRIP * 2 / 8]  # the legend's is first
    assert height[svg.POST] == [12, svg.STRIP * 1 / 8]
    words = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A & B", "<b>", "7 failed", "0 failed"} <= set(words)
    assert not any(float(r["y"]) < 0 or float(r["width"]) <= 0 for r in rects)


def test_an_empty_picture():
    ElementTree.fromstring(svg.chart({}, {}, 2, 15, "nothing"))


def fake_bench(lates):
    """A bench whose runs come out with these latenesses, one after the other."""
    run, left = rollback.Run("healthy", "well", 1), list(lates)
    well = count.healthy(GOOD, GOOD, [], 0, FAULT)

    def once(_):
        return {"teal": {**well, "late_us": left.pop(0), "timeline": {}}}

    return SimpleNamespace(run=once, runs=[run], say=lambda _: None, good=11, build=""), left


@pytest.mark.parametrize("lates, kept", [([9000, 1], 9), ([S, 8000, 1], 8), ([S, 2 * S, 1], 2000)])
def test_a_run_on_a_machine_that_stood_still_is_made_once_more(monkeypatch, lates, kept):
    monkeypatch.setattr(rollback.rollback_stands, "versions", lambda _: {})
    bench, left = fake_bench(lates)
    results = rollback.measure(bench, True)
    assert left == [1] and results["runs"][0]["late_ms"] == kept
    assert f"at most {kept} ms late" in report.markdown(results)


@pytest.mark.parametrize("quick", [False, True])
def test_the_plan(quick):
    """Every fault has a healthy run as long; a whole run stays within its minutes."""
    good, runs = rollback.plan(quick)
    assert rollback.PICTURE in {r.name for r in runs}
    assert good >= script.WINDOW
    for noise in {r.always for r in runs}:
        healthy = [r.seconds for r in runs if r.always == noise and not r.fault]
        faulty = [good + r.seconds for r in runs if r.always == noise and r.fault]
        assert len(healthy) == 1 and healthy[0] >= max(faulty)
    assert sum(r.seconds + good * bool(r.fault) for r in runs) <= (75 if quick else 330)
