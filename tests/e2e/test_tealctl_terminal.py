"""tealctl on a terminal, in a pipe, and where it cannot write: against scripted answers (fake_admin.py)."""
import copy
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

from fake_admin import LOOK, PROMOTED, START, fake, service, stepping  # noqa: F401 (a fixture)
from harness import DEADLINE, wait_for


class Terminal:
    """A command on a pseudo-terminal; what it wrote is in .text."""

    def __init__(self, command, rows=40, columns=120, **environment):
        try:
            self.master, slave = pty.openpty()
        except OSError as e:  # a chroot without /dev/pts
            pytest.skip(f"no pseudo-terminal: {e}")
        self.resize(rows, columns)
        env = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **environment}
        env.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        """What is there now; False at the end."""
        while select.select([self.master], [], [], 0.02)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.text += data.decode(errors="replace")
        return True

    def until(self, text):
        wait_for(lambda: self.read() and text in self.text or text in self.text,
                 f"{text!r} on the terminal")

    def end(self):
        wait_for(lambda: not self.read() or self.process.poll() is not None, "the end")
        self.read()
        return self.process.wait(DEADLINE)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(fake):
    made = []

    def make(*args, **kwargs):
        made.append(Terminal(fake.command(*args), **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_wait_on_a_terminal_redraws_a_line(fake, terminal):
    fake.answers[START] = [stepping(1, left_ms=1200000)]
    fake.answers[LOOK] = [stepping(1, held_ms=150000, left_ms=1050000), stepping(2), PROMOTED]
    t = terminal("rollout", "start", "api", "--wait")
    assert t.end() == 0
    assert "\rapi step 1/3 25 % " in t.text and "17m 30s left" in t.text
    assert "green" in t.text and "req/s" in t.text
    assert t.text.endswith("\r\033[Kapi: green was promoted: it is live\r\n")


def test_wait_on_a_terminal_interrupted(fake, terminal):
    fake.answers[START] = [stepping(1)]
    fake.answers[LOOK] = [stepping(1)]
    t = terminal("rollout", "start", "api", "--wait")
    t.until("step 1/3 25 %")
    os.write(t.master, b"\x03")  # Ctrl-C
    assert t.end() == -signal.SIGINT
    assert "\r\ntealctl: interrupted; the rollout goes on" in t.text


def test_dumb_terminals_get_lines(fake, terminal):
    fake.answers[START] = [stepping(1)]
    fake.answers[LOOK] = [stepping(2), PROMOTED]
    t = terminal("rollout", "start", "api", "--wait", TERM="dumb")
    assert t.end() == 0
    assert "\033" not in t.text and "promoted" in t.text


ENTER, LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"


def frames(text):
    return text.split("\033[H")[1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_watch_gives_the_terminal_back(fake, terminal, number):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [stepping(2)]}]
    t = terminal("status", "--watch")
    t.until("step 2/3")
    assert t.text.startswith(ENTER + "\033[H")
    t.process.send_signal(number)
    assert t.end() == -number
    assert t.text.endswith(LEAVE)


def test_watch_resizes(fake, terminal):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [stepping(2)] * 4}]
    t = terminal("status", "--watch", rows=60, columns=120)
    t.until("\033[J")
    assert "more lines" not in t.text
    t.resize(10, 40)
    t.until("more lines")
    t.read()
    last = [x for x in frames(t.text) if x.endswith("\033[J")][-1]
    lines = re.sub(r"\033\[[0-9;]*[A-Za-z]", "", last).split("\r\n")
    assert len(lines) <= 10 and max(len(x) for x in lines) <= 40


def test_watch_draws_at_once_after_a_resize(fake, terminal):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [service()]}]
    t = terminal("status", "--watch")
    rows = 40

    def drawn_without_asking():
        nonlocal rows
        t.resize(rows := rows % 40 + 20, 120)
        t.read()
        return len(frames(t.text)) > len(fake.bodies("GET /v1/status"))

    wait_for(drawn_without_asking, "a frame that needed no answer")


def test_watch_outlives_teal(fake, terminal):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [stepping(2)]}]
    t = terminal("status", "--watch")
    t.until("step 2/3")
    fake.stop()
    t.until("there is no socket")
    seen = len(t.text)
    fake.start()
    wait_for(lambda: t.read() and "there is no socket" not in (frames(t.text[seen:]) or ["there is no socket"])[-1],
             "teal to be back")
    assert t.process.poll() is None


def test_watch_suspends_and_resumes(fake, terminal):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [service()]}]
    t = terminal("status", "--watch")
    t.until("\033[J")
    t.process.send_signal(signal.SIGTSTP)
    t.until(LEAVE)
    wait_for(lambda: f"State:\tT" in open(f"/proc/{t.process.pid}/status").read(), "it to stop")
    t.process.send_signal(signal.SIGCONT)
    wait_for(lambda: t.read() and t.text.count(ENTER) == 2, "the screen to be back")


def test_no_color(fake, terminal):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [stepping(2)]}]
    t = terminal("status", NO_COLOR="1")
    assert t.end() == 0 and "\033" not in t.text
    t = terminal("status", NO_COLOR="")
    assert t.end() == 0 and "\033[32m" in t.text


def test_watch_in_a_pipe(fake):
    fake.answers["GET /v1/status"] = [{"version": "1.2.3", "services": [stepping(2)]}]
    for args, word in ((["status", "--watch"], "step 2/3"), (["--json", "status", "-w"], '"step":2')):
        with fake.running(*args) as run:
            text = ""
            while word not in text:
                line = run.stdout.readline()
                assert line, "it ended"
                text += line
            assert "\033" not in text
            run.stdout.close()
            assert run.wait(DEADLINE) == -signal.SIGPIPE


def test_ascii_where_the_locale_is(fake):
    bad = copy.deepcopy(stepping(2, reason="grün"))
    fake.answers[LOOK] = [bad]
    out = fake.ctl("status", "api", env={**os.environ, "LC_ALL": "C"}).stdout
    assert out.isascii() and "gr?n" in out
    assert "grün" in fake.ctl("status", "api").stdout


def test_head_closes_early(fake):
    fake.answers["GET /v1/status"] = [{"version": "1", "services": [stepping(2)] * 2000}]
    script = f"{' '.join(fake.command('status'))} | head -1; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False,
                         timeout=DEADLINE)
    assert run.stdout.splitlines()[-1] in ("0", "141") and run.stderr == ""


def test_full_disk_is_told(fake):
    with open("/dev/full", "w", encoding="ascii") as full:
        run = subprocess.run(fake.command("status", "api"), stdout=full, stderr=subprocess.PIPE,
                             text=True, timeout=DEADLINE, check=False)
    assert run.returncode == 1 and "cannot write: No space left" in run.stderr
