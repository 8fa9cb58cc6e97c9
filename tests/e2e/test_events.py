"""Who is told of what happens: GET /v1/events, the exec hook, the webhook."""
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import DEADLINE, TEAL, Listener, config_text, curl, free_port, wait_for


@pytest.fixture(scope="module", autouse=True)
def quiet(shared):
    """Listens from before the first test, so that the last one need not wait long."""
    one = Listener("--unix-socket", shared.fresh().admin_socket, "http://teal/v1/events")
    yield one
    one.close()


class Hook:
    """An HTTP server that is posted to; answers with these statuses, then 204."""

    def __init__(self, statuses=(), context=None):
        self.got, self.fields, self.statuses = [], [], list(statuses)
        self.release = threading.Event()
        self.release.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.fields.append(self.headers)
                hook.got.append(json.loads(body))
                hook.release.wait(DEADLINE)
                self.send_response(hook.statuses.pop(0) if hook.statuses else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def types(self):
        return [x["type"] for x in self.got]

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def make_hook():
    made = []

    def make(**kwargs):
        made.append(Hook(**kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_pair(make_edge, make_origin):
    """A teal whose service "web" has both colors, with this announce = { ... }."""

    def make(announce=None, **top):
        return make_edge(make_origin("blue"), make_origin("green"),
                         **({"announce": announce} if announce else {}), **top)

    return make


def counter(teal, name):
    text = teal.admin("GET", "/metrics")[1]
    (line,) = [x for x in text.split("\n") if x.startswith(name + " ")]
    return float(line.split()[-1])


# --- server-sent events ---------------------------------------------------------------------


def test_a_change_is_told(make_pair, listen):
    teal = make_pair()
    a, b = listen(teal), listen(teal)
    teal.ctl("weight", "web", "25", "--reason", "OPS-1")
    for one in (a, b):
        event = one.event("change")
        assert event["service"] == "web" and "OPS-1" in json.dumps(event)
        assert event["time"].endswith("Z") and event["id"] >= 1
    a.close()
    teal.ctl("weight", "web", "30")
    assert b.event("change", 2)["id"] > b.event("change")["id"]
    assert counter(teal, "teal_events_total") >= 2


def test_head_and_other_methods(make_pair, listen):
    teal = make_pair()
    one = listen(teal)
    assert one.text.startswith("HTTP/1.1 200 ")
    assert "Cache-Control: no-store" in one.text
    assert teal.admin("POST", "/v1/events")[0] == 405
    assert teal.admin("GET", "/v1/events?last_event_id=x")[0] == 400


def test_what_was_missed(make_pair, listen):
    teal = make_pair()
    one = listen(teal)
    for percent in range(1, 6):
        teal.weight(percent)
    one.event("change", 5)
    ids = [x["id"] for x in one.events()]
    again = listen(teal, f"/v1/events?last_event_id={ids[1]}")
    wait_for(lambda: [x["id"] for x in again.events()] == ids[2:], "those after")
    again = listen(teal, "/v1/events", "-H", f"Last-Event-ID: {ids[2]}")
    wait_for(lambda: [x["id"] for x in again.events()] == ids[3:], "those after")
    teal.weight(7)
    again.event("change", 3)


def test_read_only_listener(make_pair):
    port = free_port()
    teal = make_pair(admin={"http": f"127.0.0.1:{port}"})
    one = Listener(f"http://127.0.0.1:{port}/v1/events")
    one.until("text/event-stream")
    teal.weight(10)
    one.event("change")
    one.close()
    assert b"403" in curl("-i", "-H", "Host: evil.test", f"http://127.0.0.1:{port}/v1/events").stdout


def test_at_most_32(make_pair):
    teal = make_pair()
    all_of_them = [Listener("--unix-socket", teal.admin_socket, "http://teal/v1/events")
                   for _ in range(32)]
    for one in all_of_them:
        one.until("text/event-stream")
    status, answer = teal.admin("GET", "/v1/events")
    assert status == 503 and answer["error"]["code"] == "too-many-subscribers"
    teal.weight(10)
    for one in all_of_them:
        one.event("change")
        one.close()
    one = Listener("--unix-socket", teal.admin_socket, "http://teal/v1/events")
    one.until("text/event-stream")
    one.close()


def test_the_read_only_listener_cannot_have_them_all(make_pair, listen):
    """24 of the 32 at most, so that an operator on the socket always gets one."""
    port = free_port()
    teal = make_pair(admin={"http": f"127.0.0.1:{port}"})
    url = f"http://127.0.0.1:{port}/v1/events"
    many = [Listener(url) for _ in range(24)]
    for one in many:
        one.until("text/event-stream")
    out = curl("-i", url).stdout
    assert b" 503 " in out and b"too-many-subscribers" in out
    mine = [listen(teal) for _ in range(8)]
    teal.weight(10)
    for one in many + mine:
        one.event("change")
    # who leaves makes room
    for one in mine:
        one.close()
    many.pop().close()

    def again():
        one = Listener(url)
        wait_for(lambda: "HTTP/1.1" in one.text, "an answer")
        many.append(one)
        return " 200 " in one.text

    wait_for(again, "room for another")
    for one in many:
        one.close()


def test_ids_go_on_growing_over_a_restart(make_pair, listen):
    """A subscriber that comes back with an id of the life before gets all of this one."""
    teal = make_pair()
    one = listen(teal)
    for percent in (1, 2, 3):
        teal.weight(percent)
    one.event("change", 3)
    before = [x["id"] for x in one.events()]
    assert before == sorted(set(before)) and before[-1] < 2**53
    teal.restart()
    teal.weight(4)
    again = listen(teal, f"/v1/events?last_event_id={before[-1]}")
    assert again.event("change")["id"] > before[-1]
    assert '"4 %"' in json.dumps(again.event("change"))


def test_the_end_with_subscribers(make_pair, listen):
    teal = make_pair()
    one = listen(teal)
    teal.weight(10)
    one.event("change")
    teal.stop(clean=False)
    one.process.wait(DEADLINE)
    teal.start()


# --- the exec hook ---------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    """A command that appends what it gets to a file."""

    class Script:
        out = tmp_path / "out"
        path = tmp_path / "hook.sh"

        def events(self):
            return [json.loads(x) for x in self.out.read_text().split("\n") if x.startswith("{")] \
                if self.out.exists() else []

    one = Script()
    one.path.write_text(f'#!/bin/sh\necho "$TEAL_EVENT/$TEAL_SERVICE/$1" >>{one.out}\ncat >>{one.out}\n')
    one.path.chmod(0o700)
    return one


def test_exec(make_pair, script):
    teal = make_pair({"exec": [str(script.path), "an argument"]})
    teal.weight(10)
    teal.weight(20)
    wait_for(lambda: len(script.events()) == 2, "two events")
    assert [x["type"] for x in script.events()] == ["change", "change"]
    assert script.events()[0]["id"] < script.events()[1]["id"]
    assert "change/web/an argument\n" in script.out.read_text()
    wait_for(lambda: counter(teal, 'teal_announce_exec_total{result="ok"}') == 2, "both counted")


def test_only_chosen_events(make_pair, script):
    teal = make_pair({"exec": [str(script.path)], "events": ["backend_down", "tripped"]})
    teal.weight(10)
    wait_for(lambda: counter(teal, "teal_events_total") >= 1, "it to be emitted")
    assert not script.out.exists()


def test_exec_under_way_at_the_end(make_pair, tmp_path):
    """teal does not wait for it, and it does not outlive teal."""
    asleep = tmp_path / "asleep"
    slow = tmp_path / "slow.sh"
    slow.write_text(f"#!/bin/sh\necho $$ >{asleep}.new; mv {asleep}.new {asleep}; exec sleep 1000\n")
    slow.chmod(0o700)
    teal = make_pair({"exec": [str(slow)], "exec_timeout": "1h"})
    teal.weight(10)
    wait_for(asleep.exists, "the command to run")
    teal.stop(clean=False)
    wait_for(lambda: subprocess.run(["kill", "-0", asleep.read_text().strip()], check=False,
                                    capture_output=True).returncode != 0, "its end")
    teal.start()


# --- the webhook -----------------------------------------------------------------------------


def test_webhook(make_pair, make_hook):
    hook = make_hook()
    teal = make_pair({
        "webhook": hook.url,
        "webhook_headers": {"set": [{"name": "Authorization", "value": "Bearer abc"}]},
    })
    teal.ctl("flip", "web", "green", "--reason", "OPS-2")
    wait_for(lambda: "change" in hook.types(), "the event")
    event = hook.got[hook.types().index("change")]
    assert event["service"] == "web" and "OPS-2" in json.dumps(event)
    fields = hook.fields[0]
    assert fields["Content-Type"] == "application/json"
    assert fields["Authorization"] == "Bearer abc"
    assert fields["User-Agent"].startswith("teal/")


def test_webhook_is_repeated(make_pair, make_hook):
    hook = make_hook(statuses=[503])
    teal = make_pair({"webhook": hook.url, "events": ["change"]})
    teal.weight(10)
    wait_for(lambda: len(hook.got) == 2, "the repetition")
    assert hook.got[0] == hook.got[1]
    wait_for(lambda: counter(teal, 'teal_announce_webhook_total{result="ok"}') == 1, "it counted")


def test_webhook_tls_is_verified(make_pair, make_hook, certificates):
    hook = make_hook(context=certificates.server_context())
    announce = {"webhook": hook.url, "retries": 0, "events": ["change"]}
    teal = make_pair(announce)
    teal.weight(10)
    wait_for(lambda: counter(teal, 'teal_announce_webhook_total{result="failed"}') == 1, "a refusal")
    assert "certificate" in teal.stderr().lower() and hook.got == []
    teal = make_pair({**announce, "webhook_ca": str(certificates.ca)})
    teal.weight(10)
    wait_for(lambda: hook.types() == ["change"], "the event")
    # trusted, but another's
    named = make_hook(context=certificates.server_context("a"))
    teal = make_pair({**announce, "webhook": named.url, "webhook_ca": str(certificates.ca)})
    teal.weight(10)
    wait_for(lambda: counter(teal, 'teal_announce_webhook_total{result="failed"}') == 1, "a refusal")
    assert named.got == []


def test_a_hook_that_hangs_delays_nothing(make_pair, make_hook, listen, script):
    """Changes are answered, requests too, the other hook and the subscribers are told."""
    hook = make_hook()
    hook.release.clear()
    teal = make_pair({"exec": [str(script.path)], "webhook": hook.url, "webhook_timeout": "1h"})
    one = listen(teal)
    for percent in range(1, 11):
        teal.weight(percent)
        assert teal.get("/").status == 200
    wait_for(lambda: len(script.events()) == 10, "the command to be told all")
    one.event("change", 10)
    assert hook.types() == ["change"]  # one at a time
    hook.release.set()
    wait_for(lambda: len(hook.got) == 10, "the webhook to catch up")
    assert [x["id"] for x in hook.got] == [x["id"] for x in script.events()]


def test_a_dead_webhook_delays_nothing(make_pair, listen):
    teal = make_pair({"webhook": f"http://127.0.0.1:{free_port()}/", "retries": 1})
    one = listen(teal)
    for percent in range(1, 11):
        teal.weight(percent)
    one.event("change", 10)
    wait_for(lambda: counter(teal, 'teal_announce_webhook_total{result="failed"}') >= 1, "it given up")
    assert "webhook" in teal.stderr()


# --- what teal -t says ------------------------------------------------------------------------


@pytest.mark.parametrize("announce, why", [
    ({"exec": ["/nonexistent/hook"]}, "cannot be run"),
    ({"exec": ["hook"]}, "PATH is not searched"),
    ({"webhook": "https://user:secret@hooks.test/"}, "no user information"),
    ({"events": ["triped"]}, 'did you mean "tripped"?'),
])
def test_checked_before_the_start(make_teal, announce, why):
    teal = make_teal({"services": [{"name": "web", "blue": {"backends": ["127.0.0.1:1"]}}],
                      "announce": announce}, start=False)
    teal.file.write_text(config_text(teal.config))
    run = subprocess.run([str(TEAL), "-t", "-c", str(teal.file)],
                         capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert run.returncode == 1
    assert why in run.stderr, run.stderr
    assert "secret" not in run.stderr


def test_silence_is_no_end(quiet, edge):
    """A comment comes before anybody takes the connection for dead; teal itself does not either."""
    wait_for(lambda: quiet.text.count(":\n\n") >= 2, "another comment than the first", 25)
    edge.weight(0)
    quiet.event("change")
    assert quiet.process.poll() is None
