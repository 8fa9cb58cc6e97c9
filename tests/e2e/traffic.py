"""Clients that never stop asking, and short words for rollouts: what the tests of releases share.

A test of a release needs traffic all the while: the verdict is made of it.  Load gives it from
threads, remembers each answer, and is never asked how fast it was.
"""
import threading
import time
from urllib.parse import parse_qs, urlsplit

from harness import DEADLINE, Closed, wait_for

WELL = {"window": "10s", "min_requests": 3}  # limits that a few requests can satisfy
STEPS = ((25, "300ms"), (50, "300ms"), (100, "300ms"))
SLOW = ((25, "1h"), (50, "1h"), (100, "1h"))  # nothing ends a step but an order


def plan(*steps, limits=None, **more):
    """The rollout group of a service: plan((25, "1s"), (100, "1s"), auto=False)."""
    return {
        "steps": [{"weight": w, "hold": h} for w, h in steps or STEPS],
        "limits": {**WELL, **(limits or {})},
        **more,
    }


def order(teal, action, code=200, **more):
    """POST rollout; the service it answers with, or the error."""
    body = {"action": action, **more}
    status, answer = teal.admin("POST", "/v1/services/web/rollout", body)
    assert status == code, (status, answer)
    return answer if code == 200 else answer["error"]


def rearm(teal, code=200):
    status, answer = teal.admin("POST", "/v1/services/web/rearm", {})
    assert status == code, (status, answer)
    return answer


def until(teal, what, deadline=None, **rollout):
    """Waits until the rollout has these members; returns the service.  `what` is for people."""
    last = {}

    def there():
        last.update(teal.service())
        return last if all(last["rollout"][k] == v for k, v in rollout.items()) else None

    try:
        return wait_for(there, what, **({"deadline": deadline} if deadline else {}))
    except AssertionError as e:
        kept = {k: last.get(k) for k in ("weight", "live", "tripped", "trip", "rollout")}
        raise AssertionError(f"{e}; it is {kept}") from None


def tripped(teal):
    """Waits until the candidate is tripped; returns the service."""
    return wait_for(lambda: (s := teal.service())["tripped"] and s["trip"] and s, "the trip")


def tripped_at_once(teal):
    """As tripped(), without a pause between two looks: the very first answer that says so."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if (s := teal.service())["tripped"]:
            return s
    raise AssertionError("waited in vain for the trip")


def history(teal, action=None):
    status, answer = teal.admin("GET", "/v1/services/web/history")
    assert status == 200, answer
    return [e for e in answer["entries"] if action in (None, e["action"])]


def evidence(teal, code=200):
    status, answer = teal.admin("GET", "/v1/services/web/evidence")
    assert status == code, answer
    return answer


def metric(teal, name, **labels):
    """The value of one time series."""
    for line in teal.admin("GET", "/metrics")[1].splitlines():
        if line.startswith(name + "{") or line.startswith(name + " "):
            if all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name} {labels}")


def always(query):
    """A fault for every request."""
    return lambda _: query


def every(n, query):
    """A fault for each n-th request."""
    count = [0]

    def fault(_):
        count[0] += 1
        return query if count[0] % n == 0 else ""

    return fault


class Answer:
    """What a client got for its request number n; status 0: nothing whole."""

    def __init__(self, client, n, began, status, origin):
        self.client, self.n, self.began = client, n, began
        self.status, self.origin = status, origin

    def __repr__(self):
        return f"<{self.client}/{self.n}: {self.status} {self.origin}>"


class Load:
    """Clients over kept connections, each with one request after the other; an HTTP/2 client has
    `streams` of them at once.  The query says which request it is and holds a secret."""

    def __init__(self, teal, h1=4, h2=0, streams=3, pause=0.002, where="/load"):
        self.teal, self.streams, self.pause, self.where = teal, streams, pause, where
        self.answers = []
        self.began = {}  # (client, n) -> monotonic time
        self.errors = []
        self.visible = None  # when the trip had been seen
        self.stopping = threading.Event()
        kinds = [self._h1] * h1 + [self._h2] * h2
        self.at_once = h1 + h2 * streams
        self.threads = [threading.Thread(target=kind, args=(n,)) for n, kind in enumerate(kinds)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def path(self, client, n):
        self.began[client, n] = time.monotonic()
        return f"{self.where}?client={client}&n={n}&token=hush"

    def answer(self, client, n, r):
        status = r.status if r is not None and r.complete else 0
        origin = r.origin if r is not None else None
        self.answers.append(Answer(client, n, self.began[client, n], status, origin))

    def _h1(self, client):
        n = 0
        while not self.stopping.is_set():
            try:
                with self.teal.h1() as c:
                    while not self.stopping.wait(self.pause):
                        n += 1
                        r = None
                        try:
                            r = c.get(self.path(client, n))
                        finally:
                            self.answer(client, n, r)
                        if not r.complete or r.header("connection") == "close":
                            break
            except (Closed, OSError) as e:
                self.errors.append(e)
                self.stopping.wait(0.01)

    def _h2(self, client):
        n = 0
        while not self.stopping.is_set():
            try:
                with self.teal.h2() as c:
                    while not self.stopping.wait(self.pause) and c.goaway is None:
                        numbers = range(n + 1, n + 1 + self.streams)
                        n += self.streams
                        ids = [c.begin("GET", self.path(client, k)) for k in numbers]
                        for k, stream in zip(numbers, ids):
                            r = None
                            try:
                                r = c.response(stream)
                            finally:
                                self.answer(client, k, r)
            except (Closed, OSError) as e:
                self.errors.append(e)
                self.stopping.wait(0.01)

    # -- what happened --
    def more(self, n, what="answers"):
        """Waits for n answers more to requests that begin from now on."""
        now, start = time.monotonic(), len(self.answers)
        wait_for(
            lambda: sum(a.began > now for a in self.answers[start:]) >= n, f"{n} more {what}"
        )

    def see_trip(self):
        """Waits for the trip; returns the service.  `visible` is when GET had said so."""
        s = tripped(self.teal)
        self.visible = time.monotonic()
        return s

    @property
    def failed(self):
        return [a for a in self.answers if a.status != 200]

    def when(self, seen):
        """When the client began the request that a backend saw."""
        q = parse_qs(urlsplit(seen.target).query)
        return self.began[int(q["client"][0]), int(q["n"][0])]
