"""The way back that does not break the live color: what has begun on a color that lost its traffic
goes on, or is closed by rollout.drain, and on HTTP/2 only the stream is."""
import pytest

from harness import Closed, wait_for
from test_websocket import extended, upgrade
from traffic import SLOW, always, order, plan, tripped


@pytest.fixture
def pair(make_edge, make_origin):
    """All new requests go to green, blue is live."""

    def make(**drain):
        blue, green = make_origin("blue"), make_origin("green", version="v2")
        more = {"rollout": plan(*SLOW, **({"drain": drain} if drain else {}))}
        teal = make_edge(blue, green, more=more)
        teal.blue, teal.green = blue, green
        order(teal, "start", steps=[{"weight": 100, "hold": "1h"}])
        return teal

    return make


def trip(teal):
    teal.green.fault = always("status=500")
    with teal.h1() as c:
        for _ in range(3):
            assert c.get("/page").origin == "blue"
    tripped(teal)


def abort(teal):
    order(teal, "abort")


def flip(teal):
    teal.ctl("flip", "blue")


LOSSES = pytest.mark.parametrize("lose", [trip, abort, flip])


def websocket(teal, color="green"):
    c = teal.h1()
    r = c.get("/websocket", upgrade())
    assert (r.status, r.origin) == (101, color)
    return c


def echoes(c, data=b"are you there?"):
    c.send(data)
    return c.take(len(data)) == data


def h2_websocket(c):
    stream = extended(c, "/websocket")
    assert c.head(stream).status == 200
    return stream


def h2_echoes(c, stream, data=b"are you there?"):
    have = c.streams[stream].received
    c.data(stream, data)
    c.until(lambda: c.streams[stream].received >= have + len(data) or c.streams[stream].done)
    return not c.streams[stream].done


def left(teal, path):
    """How many exchanges with this path were closed because their color had lost its traffic."""
    return len([x for x in teal.lines() if x["path"] == path and x["outcome"] == "color-left"])


@LOSSES
def test_without_a_timeout_nothing_is_closed(pair, lose):
    teal = pair()
    with websocket(teal) as one, teal.h2() as two:
        stream = h2_websocket(two)
        assert echoes(one) and h2_echoes(two, stream)
        lose(teal)
        for _ in range(3):
            assert two.get("/tweak?delay=100ms").origin == "blue"
            assert echoes(one) and h2_echoes(two, stream)
        with websocket(teal, "blue") as three:
            assert echoes(three)


@LOSSES
def test_closed_at_the_timeout(pair, lose):
    teal = pair(timeout="300ms")
    with websocket(teal) as one, teal.h2() as two:
        stream = h2_websocket(two)
        assert echoes(one) and h2_echoes(two, stream)
        lose(teal)
        with websocket(teal, "blue") as three:
            assert one.closed()
            two.until(lambda: two.streams[stream].done)
            # the connection is not
            assert two.goaway is None and two.get("/page").origin == "blue"
            assert echoes(three)
            wait_for(lambda: left(teal, "/websocket") == 2, "the log")
            assert echoes(three) and h2_echoes(two, h2_websocket(two))


def test_a_promotion_closes_what_is_left_on_the_old_color(pair):
    teal = pair(timeout="300ms")
    order(teal, "abort")
    with websocket(teal, "blue") as old:
        order(teal, "start", steps=[{"weight": 100, "hold": "1h"}])
        with websocket(teal, "green") as new:
            # a candidate at 100 % has taken nothing from the live color yet
            order(teal, "promote", full=True)
            assert old.closed()
            wait_for(lambda: left(teal, "/websocket") == 1, "the log")
            assert echoes(new)


def test_long_answers_are_closed_too(pair):
    """h1: cut off, not ended; h2: the stream alone."""
    teal = pair(timeout="300ms")
    with teal.h1() as one, teal.h2() as two:
        one.request("GET", "/sse")
        assert one.response_head()[0] == 200
        stream = two.begin("GET", "/sse")
        two.until(lambda: b"data: 0\n\n" in b"".join(two.streams[stream].parts))
        trip(teal)
        rest = one.rest()
        assert b"data: 0" in rest and not rest.endswith(b"0\r\n\r\n")
        two.until(lambda: two.streams[stream].done)
        assert two.streams[stream].reset is not None and not two.streams[stream].ended
        assert two.goaway is None and two.get("/page").origin == "blue"
    wait_for(lambda: teal.service()["colors"]["green"]["inflight"] == 0, "green to be rid of them")
    wait_for(lambda: left(teal, "/sse") == 2, "the log")


@pytest.mark.parametrize("drain", [{}, {"timeout": "60s"}])
def test_answers_that_have_begun_are_finished(pair, loop, drain):
    teal = pair(**drain)
    with teal.h1() as one, teal.h2() as two, teal.h1() as three:
        path = "/tweak?body=100k&after=50k&body_gate=end"
        one.request("GET", path)
        stream = two.begin("GET", path)
        # nothing of its answer has come, and nobody may ask blue instead
        three.request("POST", "/tweak?gate=end&text=done", body=b"once")
        assert one.response_head()[0] == 200 and two.head(stream).status == 200
        wait_for(lambda: len(teal.green.seen) == 3, "the requests")
        trip(teal)
        loop.call(teal.green.open, "end")
        assert len(one.take(102400)) == 102400
        r = two.response(stream)
        assert r.complete and len(r.body) == 102400
        r = three.response()
        assert (r.text, r.origin) == ("done", "green")
    assert not teal.blue.find("/tweak")


def open_ones(sockets):
    """Those that still echo."""
    alive = []
    for c in sockets:
        try:
            if echoes(c):
                alive.append(c)
        except (Closed, OSError):
            pass
    return alive


def test_paced(pair):
    """One a second: when the first is gone, the others are not."""
    teal = pair(rate=1)
    sockets = [websocket(teal) for _ in range(8)]
    trip(teal)
    alive = wait_for(lambda: len(a := open_ones(sockets)) < 8 and a, "the first to be closed")
    assert len(alive) >= 4
    for c in sockets:
        c.close()


def test_paced_to_the_end(pair):
    teal = pair(rate=40)
    sockets = [websocket(teal) for _ in range(8)]
    with teal.h2() as two:
        streams = [h2_websocket(two) for _ in range(4)]
        trip(teal)
        for c in sockets:
            assert c.closed()
        two.until(lambda: all(two.streams[s].done for s in streams))
        assert two.goaway is None and two.get("/page").origin == "blue"
    wait_for(lambda: left(teal, "/websocket") == 12, "the log")


def test_the_timeout_ends_the_pace(pair):
    teal = pair(rate=1, timeout="500ms")
    sockets = [websocket(teal) for _ in range(20)]
    trip(teal)
    for c in sockets:
        assert c.closed()


def test_many_at_once_do_not_break_blue(pair):
    """Clients come back at once, to blue, and all get through."""
    teal = pair(timeout="200ms")
    sockets = [websocket(teal) for _ in range(60)]
    trip(teal)
    for n, c in enumerate(sockets):
        assert c.closed()
        sockets[n] = websocket(teal, "blue")
    assert len(open_ones(sockets)) == 60
    for c in sockets:
        c.close()


def test_a_stop_of_teal_while_it_drains(pair):
    teal = pair(timeout="10m")
    teal.config["timeouts"]["drain"] = "300ms"
    teal.restart()
    with websocket(teal) as c:
        trip(teal)
        assert echoes(c)
        teal.stop(clean=False)
        assert c.closed()
