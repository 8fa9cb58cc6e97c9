"""The bench harness: a proxy that fails is told as failed, not as fast; and its arithmetic. No figures are asserted."""
import json
import sys
import threading
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from harness import BUILD, ROOT, SANITIZED, wait_for

sys.path.insert(0, str(ROOT / "bench"))

import run  # noqa: E402
from lib import cases, load, measure, peers, report, svg  # noqa: E402

H2LOAD = """\
finished in 3.00s, 104904.00 req/s, 17.30MB/s
requests: 209808 total, 209808 started, {done} done, {ok} succeeded, {failed} failed, {errored} errored, 0 timeout
status codes: {ok} 2xx, 0 3xx, 0 4xx, {failed} 5xx
traffic: 34.60MB (36285298) total, 14.03MB (14716100) headers (space savings 72.87%), 35.45MB (37169460) data
                     min         max         mean         sd        +/- sd
time for request:       50us     64.12ms       209us       928us    99.65%
time for connect:    {connect}         0us         0us     0.00%
"""


def h2load(done=10, failed=0, errored=0, connect="0us         0us"):
    return H2LOAD.format(done=done, ok=done - failed, failed=failed, errored=errored, connect=connect)


# --- what clients print --------------------------------------------------------------------------
def test_h2load_is_read():
    r = load.parse_h2load(h2load(209808), 2)
    assert (r.requests, r.failed, r.why, r.bytes, r.seconds) == (209808, 0, "", 37169460, 2)


@pytest.mark.parametrize("said", [h2load(10, failed=1), h2load(10, errored=1), h2load(0), "could not connect\n", ""])
def test_h2load_with_a_failure_is_a_failure(said):
    assert load.parse_h2load(said, 2).why


def test_h2load_names_the_statuses():
    assert load.parse_h2load(h2load(10, failed=4), 2).why == "4 of 10 failed (4 5xx)"


def test_connections_made_late_are_seen():
    assert not load.connected_late(h2load())
    assert load.connected_late(h2load(connect="310us     64.12ms"))


def test_percentiles_of_a_log():
    lines = [f"{1000 + i}\t200\t{i}" for i in range(1000)] + ["5\t200\t999999"] + ["1100\t-1\t999999"] * 50
    assert load.parse_h2load_log(lines, since_us=1000) == ({"p50_us": 500, "p99_us": 990, "p999_us": 999}, 1000)
    assert load.parse_h2load_log([]) == ({}, 0)


def test_wrk_and_client_are_read():
    said = {"requests": 7, "seconds": 1.5, "bytes": 9, "failed": 0, "non_2xx": 0, "p50_us": 1.0, "p99_us": 2.0, "p999_us": 3.0}
    r = load.parse_json("Running 1s test\n" + json.dumps(said) + "\n", "wrk")
    assert (r.requests, r.seconds, r.bytes, r.why) == (7, 1.5, 9, "")
    assert r.latency == {"p50_us": 1.0, "p99_us": 2.0, "p999_us": 3.0}
    for bad in ({"failed": 1}, {"non_2xx": 2}, {"requests": 0}):
        assert load.parse_json(json.dumps({**said, **bad}), "wrk").why
    assert load.parse_json("unable to connect\n", "wrk").why == "wrk: unable to connect"


# --- arithmetic ----------------------------------------------------------------------------------
CASE = cases.Case("one", "a case", "small")


def row(*figures, **more):
    return report.Row(rounds=[{"cpu_us": f, "rps": 1000, "p50_us": 1, "p99_us": 2, "p999_us": 3, "busy": 0.5, "pss_kib": 9} for f in figures],
                      **more)


def failed(why="3 of 9 failed", *figures):
    one = row(*figures)
    one.fail(why)
    return one


def test_a_ratio_has_its_spread():
    v = report.verdict(CASE, {"teal": row(8, 10, 9), "nginx": row(10, 10, 10), "h2o": row(20, 20, 1)})
    assert v["peer"] == "nginx"
    assert (v["median"], v["low"], v["high"]) == (0.9, 0.8, 1.0)
    assert not v["met"]
    assert report.verdict(CASE, {"teal": row(7.5), "nginx": row(10)})["met"]


@pytest.mark.parametrize("rows", [
    {"teal": failed(), "nginx": row(10)},
    {"teal": failed("round 3: died", 1, 1), "nginx": row(10, 10)},  # good rounds before do not count
    {"teal": row(8), "nginx": failed()},
    {"teal": row(8), "nginx": report.Row("missing", "not installed")},
    {"teal": row(8)},
])
def test_an_error_gives_no_ratio(rows):
    assert report.verdict(CASE, rows) is None


def test_a_failed_peer_is_not_the_best():
    rows = {"teal": row(9), "fast": failed("all 5xx", 1), "nginx": row(10)}
    assert report.verdict(CASE, rows)["peer"] == "nginx"


def test_a_series_is_judged_by_its_worst_point():
    case = replace(CASE, points=(("1", {}), ("2", {}), ("3", {})), goal=1.15)
    v = report.verdict(case, {"1": row(10), "2": row(12), "3": row(11)})
    assert (v["point"], v["median"], v["met"]) == ("2", 1.2, False)
    assert report.verdict(case, {"1": row(10), "2": failed(), "3": row(11)}) is None


ABOUT = {
    "made": "2026-01-01",
    "machine": {"cpu": "a", "cores": 2, "kernel": "6", "openssl": "3", "load": 0.1},
    "settings": {"rounds": 1, "seconds": 1},
    "versions": {"teal": "1", "nginx": "2", "h2o": "missing"},
}
FLAT = cases.Case("flat", "a series", "flat", points=(("1", {}), ("2", {})), goal=1.15)
OPEN = cases.Case("open", "a rate", "latency", figure="p99_us")
DONE = [
    (CASE, {"teal": row(8), "nginx": row(10), "h2o": report.Row("missing", "not installed (Debian's h2o)")}),
    (replace(CASE, name="bad"), {"teal": failed("round 1: 5 of 9 failed <5xx>"), "nginx": row(10), "h2o": failed("died")}),
    (OPEN, {"teal": row(8), "nginx": row(10), "h2o": failed()}),
    (FLAT, {"1": row(10), "2": row(11)}),
]


def test_the_table_tells_what_is_missing_and_what_failed():
    text = report.as_markdown(DONE, ABOUT)
    first = text[: text.index("## What the loads saw")]
    lines = {line.split(" | ")[0].strip("| "): line for line in first.splitlines() if line.startswith("| ")}
    assert "**0.80**" in lines["one"] and "missing [1]" in lines["one"]
    assert "error [2]" in lines["bad"] and "none" in lines["bad"]
    assert "1. one, h2o: not installed (Debian's h2o)" in text
    assert "2. bad, teal: round 1: 5 of 9 failed <5xx>" in text
    assert "**1.10** at 2" in text
    as_json = report.as_json(DONE, ABOUT)["cases"]
    assert as_json[1]["verdict"] is None and as_json[1]["rows"]["teal"]["status"] == "error"


def test_charts_are_well_formed(tmp_path):
    report.write(tmp_path, DONE, ABOUT)
    drawn = sorted(p.name for p in tmp_path.glob("*.svg"))
    assert drawn == ["cpu.svg", "flat.svg", "latency.svg"]
    for name in drawn:
        root = ElementTree.parse(tmp_path / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert all(float(e.get("height")) >= 0 for e in root.iter("{http://www.w3.org/2000/svg}rect"))
    json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize("top", [0.003, 0.9, 1, 7.3, 99, 1234])
def test_axes_are_round_and_reach(top):
    end, step = svg.nice(top)
    assert top <= end <= 4 * top and 4 <= round(end / step) <= 6 or end / step == 3


def test_names_in_charts_are_escaped():
    drawing = svg.bars("a < b & c", ["<g>"], {"<n>": [1.0]}, {"<n>": ["<l>"]})
    ElementTree.fromstring(drawing)


# --- choosing ------------------------------------------------------------------------------------
def test_cases_are_chosen_by_pattern():
    assert [c.name for c in cases.chosen(["new-*"])] == ["new-full", "new-resumed"]
    assert cases.chosen([]) == list(cases.CASES)
    with pytest.raises(ValueError, match="no such case: nothing"):
        cases.chosen(["nothing"])


def test_settings_from_the_environment():
    s = run.Settings({"CASE": "grpc,h2-h2", "PEER": "nginx", "ROUNDS": "5", "SECONDS": ""})
    assert [c.name for c in s.cases] == ["h2-h2", "grpc"]
    assert [p.name for p in s.peers] == ["teal", "nginx"]
    assert (s.rounds, s.seconds, s.whole) == (5, 3, False)
    assert s.out.endswith("build/bench/results"), "a part never overwrites the results of a full run"
    assert run.Settings({}).out == str(ROOT / "bench" / "results")
    with pytest.raises(ValueError, match="no such peer"):
        run.Settings({"PEER": "apache"})


def test_every_template_fits_every_case():
    values = dict.fromkeys(("CASE", "PORT", "BACKEND_PORT", "BACKENDS", "SERVICES", "KEY", "CHAIN", "PEM", "FILES", "CONNECTIONS"), "x")
    for peer in peers.peers():
        text = (ROOT / "bench" / "peers" / peer.template).read_text()
        for case in cases.CASES:
            filled = peers.fill(text, peers.words_of(case), values)
            assert "@" not in filled, f"{peer.name}, {case.name}"


def test_lines_of_other_cases_are_left_out():
    text = "a @PORT@\n@tls  b\n@clear c\n@h1 d"
    assert peers.fill(text, {"tls", "h1"}, {"PORT": 7}) == "a 7\n b\nd\n"


def test_every_template_line_has_a_word_that_exists():
    words = set().union(*(peers.words_of(c) for c in cases.CASES), {"root"})
    for peer in peers.peers():
        for line in (ROOT / "bench" / "peers" / peer.template).read_text().splitlines():
            if line.startswith("@") and not line.startswith("@SERVICES@"):
                assert line[1:].split(" ")[0] in words, line


def test_cpu_and_memory_of_this_process():
    pid = [measure.os.getpid()]
    before = sum(measure.cpu_ns(pid).values())
    while sum(measure.cpu_ns(pid).values()) == before:
        sum(range(10000))
    rss, pss = measure.memory_kib(pid)
    assert rss >= pss > 1000
    assert measure.cpu_ns([2**22 + 1]) == {}


def test_threads_that_end_leave_no_figure():
    meter, stay = measure.Meter([measure.os.getpid()], 0), threading.Event()
    thread = threading.Thread(target=stay.wait)
    thread.start()
    meter.begin()
    meter.end()
    assert not meter.lost
    stay.set()
    thread.join()
    wait_for(lambda: meter.end() or meter.lost, "the thread to be gone")


# --- fake proxies --------------------------------------------------------------------------------
FAKE = '''
import http.client, http.server, json, sys, os
how, port, origin = json.load(open(sys.argv[1])).values()
seen = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    kept = b"x" * 1024
    def do_GET(self):
        global seen
        seen += 1
        status, body = 200, self.kept
        late = how.endswith("-later") and seen > 20
        if how == "502" or (how == "502-later" and late):
            status, body = 502, b""
        elif how == "short-later" and late:
            body = b"x"
        elif how == "dies-later" and late:
            os._exit(7)
        elif how != "cache" or seen == 1:
            c = http.client.HTTPConnection("127.0.0.1", origin)
            c.request("GET", self.path)
            body = c.getresponse().read()
            c.close()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if how != "stranger":
            self.send_header("X-Version", "v1")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
if how == "refuses":
    sys.exit("fake: error: no such option")
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """bench(how) -> what the harness says of a fake proxy that does so."""
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(peers, "TEMPLATES", str(tmp_path))
    monkeypatch.setattr(peers, "READY_SECONDS", 2)
    settings = run.Settings({"TEAL_BUILD": str(BUILD), "QUICK": "1"})
    settings.warm = 0.3
    one = run.Bench(settings, str(tmp_path))
    case = cases.Case("fake", "a fake", "small", http="h1", front="clear", clients=1, streams=1)

    def ask(how, case=case):
        (tmp_path / "fake.conf").write_text(f'{{"how": "{how}", "port": @PORT@, "origin": @BACKEND_PORT@}}')
        fake = peers.Peer("fake", "fake", "fake.conf", ("/usr/bin/python3", str(tmp_path / "fake.py"), "{config}"), ())
        return one.once(fake, case)

    ask.bench = one
    return ask


needs_speed = pytest.mark.skipif(SANITIZED, reason="nothing of teal's is in it")


@needs_speed
def test_an_honest_proxy_has_figures(bench):
    figures = bench("honest")
    assert figures["requests"] > 0 and figures["cpu_us"] > 0 and figures["pss_kib"] > 0
    assert figures["p50_us"] <= figures["p99_us"] <= figures["p999_us"]


@needs_speed
@pytest.mark.parametrize("how, why", [
    ("502", "answers HTTP/1.1 502"),
    ("502-later", "failed .*5xx"),
    ("short-later", "bodies of"),
    ("cache", "the origin was asked"),
    ("stranger", "not the origin's"),
    ("dies-later", "died"),
    ("refuses", "did not start: fake: error: no such option"),
])
def test_a_proxy_that_fails_is_told_as_failed(bench, how, why):
    with pytest.raises(peers.Broken, match=why):
        bench(how)


@needs_speed
def test_a_missing_peer_is_told_and_a_failing_one_stops(bench, tmp_path):
    def fake(name, program):
        return peers.Peer(name, f"{name}-package", "fake.conf", (program, str(tmp_path / "fake.py"), "{config}"), ())

    (tmp_path / "fake.conf").write_text('{"how": "502", "port": @PORT@, "origin": @BACKEND_PORT@}')
    case = cases.Case("fake", "a fake", "small", http="h1", front="clear", clients=1, streams=1)
    bench.bench.settings.peers = [fake("teal", "/usr/bin/python3"), fake("ghost", "no-such-program")]
    bench.bench.settings.rounds = 2
    rows = bench.bench.case(case, run.Progress(4))
    assert (rows["ghost"].status, rows["ghost"].why) == ("missing", "not installed (Debian's ghost-package)")
    assert rows["teal"].status == "error" and rows["teal"].why.startswith("round 1: ")
    assert report.verdict(case, rows) is None


def test_a_noisy_measurement_is_made_again(bench, monkeypatch):
    one, asked = bench.bench, []

    def once(*_):
        asked.append({"foreign": [0.5, 0.2, 0.6, 0.9, 0.5, 0.01][len(asked)]})
        return asked[-1]

    monkeypatch.setattr(one, "once", once)
    assert one.quieter(None, None, 0)["foreign"] == 0.5, "no second one is left"
    one.again = 1
    assert one.quieter(None, None, 0)["foreign"] == 0.2
    assert one.again == 0 and len(asked) == 3
    one.again = 5
    assert one.quieter(None, None, 0)["foreign"] == 0.5
    assert one.quieter(None, None, 0)["foreign"] == 0.01
    assert one.again == 4, "a quiet one is not"
