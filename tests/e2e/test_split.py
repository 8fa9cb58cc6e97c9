"""Which color: weights, stickiness, forced colors."""
import collections
import re
import socket
import threading

import pytest

from harness import H1, SECRET


def colors(teal, requests, connections=8, tls=False):
    """Counts of answers by color over some connections at once."""
    counts = collections.Counter()
    lock = threading.Lock()

    def run(n):
        mine = collections.Counter()
        with teal.h1(tls=tls) as c:
            for _ in range(n):
                mine[c.get("/x").origin] += 1
        with lock:
            counts.update(mine)

    shares = [requests // connections + (n < requests % connections) for n in range(connections)]
    threads = [threading.Thread(target=run, args=(share,)) for share in shares]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return counts


@pytest.fixture
def pair(make_edge, make_origin):
    def make(**split):
        blue, green = make_origin("blue"), make_origin("green", version="v2")
        return make_edge(blue, green, more={"split": split})

    return make


def test_all_to_blue_on_a_first_start(pair):
    assert colors(pair(), 100) == {"blue": 100}


@pytest.mark.parametrize("percent", [25, 50, 1, 12.5])
def test_exact_over_1000_requests(pair, percent):
    teal = pair()
    teal.weight(percent)
    counts = colors(teal, 1000)
    assert abs(counts["green"] - percent * 10) <= 5, counts


def test_exact_over_many_connections(pair):
    teal = pair()
    teal.weight(25)
    counts = colors(teal, 1000, connections=50)
    assert abs(counts["green"] - 250) <= 5, counts


def test_two_decimals(pair):
    teal = pair()
    teal.weight(0.25)
    assert teal.service()["weight"] == 0.25
    counts = colors(teal, 2000)
    assert 2 <= counts["green"] <= 8


def test_everything_and_nothing(pair):
    teal = pair()
    teal.weight(100)
    assert colors(teal, 200) == {"green": 200}
    teal.weight(0)
    assert colors(teal, 200) == {"blue": 200}


def test_a_weight_is_obeyed_by_the_very_next_request(pair):
    """The answer to a change comes when every worker obeys it."""
    teal = pair()
    with teal.h1() as one, teal.h1() as two, teal.h1() as three:
        for percent, color in ((100, "green"), (0, "blue")) * 5:
            teal.weight(percent)
            assert [c.get("/x").origin for c in (one, two, three)] == [color] * 3


def cookie(r):
    found = re.search(r"teal_split=([^;]+)", r.header("set-cookie") or "")
    return found and found.group(1)


def test_cookie_is_set_once(pair):
    teal = pair(by="cookie")
    teal.weight(50)
    with teal.h1() as c:
        r = c.get("/x")
        assert cookie(r)
        attributes = r.header("set-cookie").lower()
        for word in ("path=/", "httponly", "max-age=2592000"):
            assert word in attributes
        again = c.get("/x", [("Cookie", f"teal_split={cookie(r)}")])
        assert again.header("set-cookie") is None
        assert again.origin == r.origin


def test_cookie_is_secure_over_tls(pair):
    teal = pair(by="cookie")
    teal.weight(50)
    assert "secure" in teal.get("/x", tls=True).header("set-cookie").lower()
    assert "secure" not in teal.get("/x").header("set-cookie").lower()


def test_cookie_sticks_and_moves_one_way_only(pair):
    teal = pair(by="cookie")
    teal.weight(1)
    with teal.h1() as c:
        people = [cookie(c.get("/x")) for _ in range(300)]

        def where():
            return [c.get("/x", [("Cookie", f"a=b; teal_split={p}")]).origin for p in people]

        last = where()
        assert where() == last
        for percent in (10, 30, 70, 100):
            teal.weight(percent)
            now = where()
            assert all(n == "green" for was, n in zip(last, now) if was == "green")
            assert abs(now.count("green") / 300 - percent / 100) < 0.12
            last = now
        assert last == ["green"] * 300


def test_garbage_in_the_cookie(pair):
    teal = pair(by="cookie")
    teal.weight(50)
    for value in ("", "x" * 4000, "%00", '"', "../..", "\xff"):
        assert teal.get("/x", [("Cookie", f"teal_split={value}")]).status == 200


def test_by_header(pair):
    teal = pair(by="header:X-User")
    teal.weight(50)
    with teal.h1() as c:
        first = {u: c.get("/x", [("X-User", f"u{u}")]).origin for u in range(200)}
        second = {u: c.get("/x", [("X-User", f"u{u}")]).origin for u in range(200)}
    assert first == second
    assert 60 <= list(first.values()).count("green") <= 140


def test_by_client_address(pair):
    teal = pair(by="client-ip")
    teal.weight(50)
    seen = {}
    for n in range(2, 60):
        address = f"127.0.0.{n}"
        for _ in range(2):
            with H1(sock=bound(address, teal.plain)) as c:
                seen.setdefault(address, set()).add(c.get("/x").origin)
    assert all(len(s) == 1 for s in seen.values())
    assert {"blue", "green"} == set.union(*seen.values())


def bound(address, port):
    s = socket.socket()
    s.bind((address, 0))
    s.connect(("127.0.0.1", port))
    return s


def forced(teal, header=None, cookie_value=None):
    fields = [("X-Color", header)] if header else []
    fields += [("Cookie", f"x=y; color={cookie_value}")] if cookie_value else []
    with teal.h1() as c:
        return c.get("/x", fields).origin


def test_forced_color_at_weight_0(edge):
    assert forced(edge, f"green:{SECRET}") == "green"
    assert forced(edge, f"blue:{SECRET}") == "blue"
    assert forced(edge, cookie_value=f"green:{SECRET}") == "green"
    assert forced(edge, f"candidate:{SECRET}") == "green"
    assert forced(edge, f"live:{SECRET}") == "blue"


@pytest.mark.parametrize(
    "value", ["green:wrong", "green:", "green", f"red:{SECRET}", f"green:{SECRET}x", SECRET, ""]
)
def test_wrong_secret_is_ignored(edge, value):
    assert forced(edge, value or None) == "blue"
    assert forced(edge, cookie_value=value or None) == "blue"


def test_the_secret_does_not_reach_the_backend(edge, green):
    forced(edge, f"green:{SECRET}")
    assert SECRET not in green.seen[-1].raw.decode("latin-1")


def test_why_is_in_the_log(edge):
    with edge.h1() as c:
        c.get("/why-forced", [("X-Color", f"green:{SECRET}")])
        c.get("/why-split")
    assert edge.line("/why-forced")["why"] == "forced"
    assert edge.line("/why-split")["why"] == "split"
