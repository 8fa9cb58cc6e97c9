"""Fixtures: origins, certificates, and one teal for all tests that do not need their own."""
import resource
import signal

import pytest

import harness
import origin as origins
from harness import SECRET, Certificates, Listener, Teal, start_nghttpd, start_nginx

TEST_SECONDS = 300 if harness.SANITIZED else 90


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): deadline of this test")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20000)), hard))
    if not harness.TEAL.exists():
        pytest.exit(f"no {harness.TEAL}: build first (make) or set TEAL_BUILD", 2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """No test runs for ever."""
    mark = item.get_closest_marker("seconds")
    limit = mark.args[0] if mark else TEST_SECONDS

    def expired(*_):
        raise AssertionError(f"the test took more than {limit} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def loop():
    return origins.LoopThread()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def make_origin(loop):
    """make_origin(name="blue", ...) -> a running Origin of this test alone."""
    made = []

    def make(name="blue", **kwargs):
        made.append(loop.run(origins.Origin(name, **kwargs).start()))
        return made[-1]

    yield make
    for one in made:
        loop.run(one.stop())


@pytest.fixture
def make_teal(certificates):
    """make_teal(config) -> a running Teal of this test alone; stopped and checked at the end."""
    made = []

    def make(config, **kwargs):
        made.append(Teal(config, certificates, **kwargs))
        return made[-1]

    yield make
    errors = []
    for one in made:
        try:
            one.stop()
        except AssertionError as e:
            errors.append(str(e))
        finally:
            if one.alive():
                one.process.kill()
                one.process.wait()
            one.clean()
    assert not errors, "\n".join(errors)


def service(blue, green=None, /, **more):
    """A service with everything left at its default but what a test says."""
    one = {"name": "web", "hosts": ["*"]}
    one["blue"] = {"backends": addresses(blue)}
    if green:
        one["green"] = {"backends": addresses(green)}
    return harness.merged(one, more)


def addresses(backends):
    backends = backends if isinstance(backends, list) else [backends]
    return [getattr(b, "address", b) for b in backends]


@pytest.fixture
def make_edge(make_teal):
    """make_edge(blue, green, service={...}, **top) -> a Teal with the service "web"."""

    def make(blue, green=None, more=None, **top):
        return make_teal({"services": [service(blue, green, **(more or {}))], **top})

    return make


@pytest.fixture
def gate(tmp_path):
    """A command that asks the test: it says that it was asked, and goes by what it reads then."""

    class Gate:
        script = tmp_path / "gate.sh"
        asked = tmp_path / "asked"
        answer = tmp_path / "answer"

        def steps(self):
            """The weights it was asked for."""
            return self.asked.read_text().split() if self.asked.exists() else []

        def say(self, code, text=""):
            (tmp_path / "next").write_text(f"{code} {text}\n")
            (tmp_path / "next").rename(self.answer)

    one = Gate()
    one.script.write_text(
        f"""#!/bin/sh
echo "$TEAL_SERVICE/$TEAL_COLOR/$TEAL_STEP/$TEAL_STEPS/$TEAL_WEIGHT" >>{one.asked}
while ! [ -e {one.answer} ]; do
  [ -d /proc/$PPID ] || exit 9
  sleep 0.01
done
[ -d /proc/$PPID ] || exit 9
read -r code text <{one.answer}
rm {one.answer}
echo "$text"
exit "$code"
"""
    )
    one.script.chmod(0o700)
    one.config = {"command": [str(one.script)], "timeout": "60s"}
    return one


@pytest.fixture
def listen():
    """listen(teal) -> a Listener of its events from now on."""
    made = []

    def make(teal, path="/v1/events", *args):
        made.append(Listener("--unix-socket", teal.admin_socket, *args, f"http://teal{path}"))
        made[-1].until("text/event-stream")
        return made[-1]

    yield make
    for one in made:
        one.close()


class Shared:
    """The session's own teal with its origins; replaced when a test broke it."""

    def __init__(self, loop, certificates):
        self.loop, self.certificates = loop, certificates
        self.blue = loop.run(origins.Origin("blue").start())
        self.green = loop.run(origins.Origin("green", "v2").start())
        self.h2 = loop.run(origins.Origin("blue-h2", h2=True).start())
        self.teal = None

    def config(self):
        return {
            "services": [
                service(
                    self.blue,
                    self.green,
                    split={"force": {"header": "x-color", "cookie": "color", "secret": SECRET}},
                    max_body="300m",
                ),
                # the same site before a backend that speaks HTTP/2
                {
                    "name": "h2",
                    "hosts": ["h2.b.test"],
                    "blue": {"backends": [self.h2.address], "protocol": "h2"},
                    "max_body": "300m",
                },
            ],
        }

    def fresh(self):
        if self.teal is None or not self.teal.alive():
            self.teal = Teal(self.config(), self.certificates)
        for one in (self.blue, self.green, self.h2):
            one.seen.clear()
            one.received.clear()
            one.health.clear()
        return self.teal


@pytest.fixture(scope="session")
def shared(loop, certificates):
    one = Shared(loop, certificates)
    yield one
    if one.teal:
        one.teal.stop()


@pytest.fixture
def edge(shared):
    """The shared teal: plain and TLS listeners, service "web" (blue, green at weight 0), "h2"."""
    teal = shared.fresh()
    yield teal
    try:
        teal.check()
    finally:
        if not teal.alive():
            shared.teal = None


@pytest.fixture
def blue(shared):
    return shared.blue


@pytest.fixture
def green(shared):
    return shared.green


@pytest.fixture
def h2_origin(shared):
    return shared.h2


@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    directory = tmp_path_factory.mktemp("nginx")
    peer = start_nginx(directory)
    peer.www = directory / "www"
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def nghttpd(tmp_path_factory):
    directory = tmp_path_factory.mktemp("nghttpd")
    peer = start_nghttpd(directory)
    peer.www = directory
    yield peer
    peer.stop()


@pytest.fixture(params=["h1", "h2"])
def client(request, edge):
    """An HTTP client of either version on the shared teal: ask(method, path, headers, body)."""
    with edge.h1() if request.param == "h1" else edge.h2() as c:
        c.version = request.param
        yield c
