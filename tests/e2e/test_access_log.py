"""The access log: its fields, its escaping, its independence of the disk."""
import json
import os
import re
import signal

import pytest

from harness import SECRET, H1, wait_for

FIELDS = {
    "time": str, "id": str, "client": str, "method": str, "host": str, "path": str, "protocol": str,
    "status": int, "bytes_in": int, "bytes_out": int, "head_ms": (int, float),
    "total_ms": (int, float), "service": str, "color": str, "why": str, "backend": str,
    "tries": int, "outcome": str,
}


def test_fields(edge, blue):
    with edge.h1() as c:
        c.ask("POST", "/tweak?delay=20ms&body=1000&which=fields", body=b"x" * 300)
    line = wait_for(
        lambda: [x for x in edge.lines() if x["path"].endswith("which=fields")], "the line"
    )[0]
    for name, kind in FIELDS.items():
        assert isinstance(line[name], kind), (name, line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["time"])
    assert line["client"].startswith("127.0.0.1")
    want = {
        "method": "POST", "host": "a.test", "protocol": "HTTP/1.1", "status": 200, "bytes_in": 300,
        "bytes_out": 1000, "service": "web", "color": "blue", "why": "split",
        "backend": blue.address, "tries": 1, "outcome": "ok",
    }
    assert {k: line[k] for k in want} == want
    assert 20 <= line["head_ms"] <= line["total_ms"]


def test_one_line_per_exchange(make_edge, make_origin):
    teal = make_edge(make_origin())
    with teal.h2() as c:
        for stream in [c.begin("GET", f"/{n}") for n in range(90)]:
            c.response(stream)
    for n in range(90):
        teal.line(f"/{n}")
    teal.stop(clean=False)
    assert len(teal.lines()) == 90


def test_protocols(edge):
    with edge.h1() as c:
        c.send("GET /protocol-10 HTTP/1.0\r\nHost: a.test\r\n\r\n")
        c.response()
    with edge.h2() as c:
        c.get("/protocol-2")
    assert edge.line("/protocol-10")["protocol"] == "HTTP/1.0"
    assert edge.line("/protocol-2")["protocol"] == "HTTP/2"


@pytest.mark.parametrize(
    "path, outcome, status",
    [
        ("/tweak?garbage=1&o=2", "backend-malformed", 502),
        ("/tweak?status=500&o=3", "backend-5xx", 500),
        ("/tweak?body=100&after=50&truncate=1&o=4", "backend-truncated", 200),
    ],
)
def test_outcomes(edge, path, outcome, status):
    with edge.h1() as c:
        c.ask("POST", path, body=b"x")
    line = wait_for(lambda: [x for x in edge.lines() if x["path"] == path], "the line")[0]
    assert (line["outcome"], line["status"]) == (outcome, status)


def test_client_that_leaves(edge, blue):
    with edge.h1() as c:
        c.request("GET", "/tweak?hang=1&gone=1")
        wait_for(lambda: blue.find("/tweak"), "the request")
        c.reset()
    line = wait_for(lambda: [x for x in edge.lines() if "gone=1" in x["path"]], "the line")[0]
    assert line["outcome"] == "client-gone"


def test_refused_requests_are_logged(edge):
    with edge.h1() as c:
        c.send("GET /refused-log HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n")
        assert c.response().status == 400
    wait_for(lambda: [x for x in edge.lines() if x["status"] == 400], "the line")


NASTY = "/p\\u0041%1b%0d%0a\"quoted\"'x'<b>{}$(id)`"


def test_nothing_a_client_sends_breaks_a_line(edge):
    with edge.h1() as c:
        c.get(NASTY)
    with H1(edge.plain) as c:
        c.send(b"GET /\x1b[31mred HTTP/1.1\r\nHost: a.test\r\n\r\n")
        c.rest()
    with H1(edge.plain) as c:
        c.send(b'GET /"inject HTTP/1.1\r\nHost: a.test\r\n\r\n')
        c.response()
    edge.get("/after-nasty")
    edge.line("/after-nasty")
    data = edge.log.read_bytes()
    assert b"\x1b" not in data and b"\r" not in data and b"\0" not in data
    for line in data.split(b"\n")[:-1]:
        json.loads(line)
    assert [x for x in edge.lines() if x["path"] == NASTY] or b"quoted" not in data


def test_long_paths_are_cut_not_broken(edge):
    edge.get("/" + "y" * 7000)
    found = wait_for(lambda: [x for x in edge.lines() if x["path"].startswith("/yyyy")], "the line")
    assert len(found[0]["path"]) >= 1000


def test_text_format(make_edge, make_origin):
    teal = make_edge(make_origin(), log={"format": "text"})
    teal.get("/text?x=%22")

    def lines():
        return teal.log.exists() and teal.log.read_text().endswith("\n") and teal.log.read_text()

    (line,) = wait_for(lines, "a line").splitlines()
    for word in ("127.0.0.1", "GET", "a.test", "/text?x=%22", "200", "web", "blue", "ok"):
        assert word in line


def test_reopen(make_edge, make_origin):
    teal = make_edge(make_origin())
    teal.get("/before")
    teal.line("/before")
    old = teal.log.with_suffix(".1")
    os.rename(teal.log, old)
    teal.get("/still-old")
    wait_for(lambda: b"/still-old" in old.read_bytes(), "the old file")
    teal.signal(signal.SIGUSR1)
    wait_for(teal.log.exists, "the new file")
    teal.get("/after")
    teal.line("/after")
    assert b"/after" not in old.read_bytes()


def test_full_disk_loses_lines_not_requests(make_edge, make_origin):
    teal = make_edge(make_origin(), log={"access": "/dev/full"})
    with teal.h1() as c:
        for _ in range(200):
            assert c.get("/x").status == 200

    def lost():
        text = teal.admin("GET", "/metrics")[1]
        return [x for x in re.findall(r"^teal_\S*lost\S* (\S+)$", text, re.M) if float(x) > 0]

    wait_for(lost, "the counter of lost lines")
    assert teal.get("/x").status == 200


def test_a_reader_that_is_slow_holds_up_nobody(make_edge, make_origin, tmp_path):
    """The log is a FIFO that nobody reads."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR)
    try:
        teal = make_edge(make_origin(), log={"access": str(fifo)})
        with teal.h2() as c:
            for _ in range(30):
                for stream in [c.begin("GET", "/" + "z" * 500) for _ in range(50)]:
                    assert c.response(stream).status == 200
        teal.stop()  # nor the exit
    finally:
        os.close(reader)


def test_off(make_edge, make_origin):
    teal = make_edge(make_origin(), log={"access": "off"})
    assert teal.get("/x").status == 200
    assert not teal.log.exists()


def test_stdout(make_edge, make_origin):
    teal = make_edge(make_origin(), log={"access": "stdout"})
    teal.get("/to-stdout")
    wait_for(lambda: '"path":"/to-stdout"' in teal.stderr(), "the line on stdout")


def test_secrets_are_not_logged(edge):
    edge.get("/secret-log", [("X-Color", f"green:{SECRET}"), ("Cookie", f"color=green:{SECRET}")])
    edge.line("/secret-log")
    assert SECRET.encode() not in edge.log.read_bytes()
    assert SECRET not in edge.stderr()
