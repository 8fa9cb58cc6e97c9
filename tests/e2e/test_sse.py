"""Server-sent events: each arrives before the next one exists."""


def test_over_h1(edge, blue, loop):
    with edge.h1() as c:
        c.request("GET", "/sse")
        status, headers = c.response_head()
        assert status == 200
        for n in range(3):
            while b"data: %d\n\n" % n not in c.buffer:
                c.fill()
            assert b"data: %d" % (n + 1) not in c.buffer
            loop.call(blue.open, f"sse{n}")
    for n in range(3):
        loop.call(blue.shut, f"sse{n}")


def events(c, origin, loop):
    stream = c.begin("GET", "/sse")
    for n in range(3):
        c.until(lambda n=n: b"data: %d\n\n" % n in b"".join(c.streams[stream].parts))
        assert b"data: %d" % (n + 1) not in b"".join(c.streams[stream].parts)
        loop.call(origin.open, f"sse{n}")
    assert c.response(stream).complete
    for n in range(3):
        loop.call(origin.shut, f"sse{n}")


def test_over_h2(edge, blue, loop):
    with edge.h2() as c:
        events(c, blue, loop)


def test_from_an_h2_backend(edge, h2_origin, loop):
    with edge.h2(host="h2.b.test") as c:
        events(c, h2_origin, loop)


def test_first_byte_of_a_slow_body(edge, blue, loop):
    """The head goes out before the body begins."""
    with edge.h1() as c:
        c.request("GET", "/tweak?body=1000&after=0&body_gate=ssehead")
        assert c.response_head()[0] == 200
        loop.call(blue.open, "ssehead")
        assert len(c.take(1000)) == 1000
