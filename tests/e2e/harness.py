"""Starts the real teal and the real peers, and talks to them byte by byte.

Waiting is always for a condition with a deadline (wait_for), never for time to pass.
"""
import base64
import ctypes
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hpack

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TEAL_BUILD", ROOT / "build"))
TEAL = BUILD / "teal"
TEALCTL = BUILD / "tealctl"
SANITIZED = bool(os.environ.get("TEAL_SAN")) or "san-" in str(BUILD)
# seconds; generous: only a failing test ever waits so long
DEADLINE = int(os.environ.get("TEAL_DEADLINE", 60 if SANITIZED else 15))
REPORT = re.compile(
    r"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|runtime error:"
    r"|[Aa]ssertion|\*\*\* stack smashing|double free|corrupted)"
)
SECRET = "open-sesame-123"


_libc = ctypes.CDLL(None, use_errno=True)


def die_with_us():
    """In the child: SIGKILL when pytest is gone, so that an interrupted run leaves nothing."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def wait_for(condition, what="the condition", deadline=DEADLINE):
    """Polls condition() until it is true and returns its value."""
    end = time.monotonic() + deadline
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


# --- ports ---------------------------------------------------------------------------------------
_taken = set()


def free_port():
    """A port below the ephemeral range, so that no outgoing connection sits on it."""
    while True:
        port = random.randrange(10240, 32000)
        if port in _taken:
            continue
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind(("127.0.0.1", port))
        except OSError:
            continue
        _taken.add(port)
        return port


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


# --- configuration -------------------------------------------------------------------------------
def libconfig(value, depth=0):
    """Python values as libconfig text: dict: group, list of dicts: list, other list: array."""
    pad = "  " * (depth + 1)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        out = ""
        for c in value:
            out += f"\\x{ord(c):02x}" if ord(c) < 32 else "\\" + c if c in '"\\' else c
        return f'"{out}"'
    if isinstance(value, dict):
        rows = "".join(f"{pad}{k} = {libconfig(v, depth + 1)};\n" for k, v in value.items())
        return "{\n" + rows + "  " * depth + "}"
    if value and isinstance(value[0], dict):
        return "( " + ", ".join(libconfig(v, depth + 1) for v in value) + " )"
    return "[ " + ", ".join(libconfig(v, depth) for v in value) + " ]"


def config_text(config):
    return "".join(f"{k} = {libconfig(v)};\n" for k, v in config.items() if v is not None)


def merged(base, over):
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


# --- teal ----------------------------------------------------------------------------------------
class Teal:
    """A running teal.  `plain` and `tls` are the ports of its first listeners of each kind."""

    def __init__(self, config, certificates=None, start=True):
        self.directory = Path(tempfile.mkdtemp(prefix="teal-e2e-"))
        self.certificates = certificates
        self.state = self.directory / "state"
        self.state.mkdir()
        self.admin_socket = str(self.directory / "admin.sock")
        self.log = self.directory / "access.log"
        self.stderr_path = self.directory / "stderr"
        self.file = self.directory / "teal.conf"
        self.process = None
        self.allowed_exit = False
        self.stopped = False
        self.config = self.complete(config)
        if start:
            self.start()

    def complete(self, config):
        base = {
            "timeouts": {"drain": "5s"},
            "admin": {"socket": self.admin_socket},
            "state": {"directory": str(self.state)},
            "log": {"access": str(self.log), "format": "json", "level": "info"},
            "workers": 2,
        }
        config = merged(base, config)
        if "listen" not in config:
            config["listen"] = [{}] + ([{"tls": {}}] if self.certificates else [])
        listen = []
        for one in config["listen"]:
            one = dict(one)
            if "address" not in one:
                one["address"] = f"127.0.0.1:{free_port()}"
            if "tls" in one and "certificates" not in one["tls"] and self.certificates:
                one["tls"] = {**one["tls"], "certificates": self.certificates.all()}
            listen.append(one)
        config["listen"] = listen
        return config

    def _port(self, tls):
        for one in self.config["listen"]:
            if ("tls" in one) == tls and not one["address"].startswith("unix:"):
                return int(one["address"].rsplit(":", 1)[1])
        raise KeyError("no such listener")

    @property
    def plain(self):
        return self._port(False)

    @property
    def tls(self):
        return self._port(True)

    def port(self, n):
        return int(self.config["listen"][n]["address"].rsplit(":", 1)[1])

    def start(self, wait=True):
        self.file.write_text(config_text(self.config))
        self.spawn([str(TEAL), "-c", str(self.file)])
        if wait:
            wait_for(self.ready, f"teal to be ready; stderr:\n{self.stderr()}")
        return self

    def spawn(self, command, **kwargs):
        env = dict(os.environ)
        # a small quarantine: the tests that watch memory must not see what ASan keeps
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99:quarantine_size_mb=8")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=99")
        env.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=99:second_deadlock_stack=1")
        with open(self.stderr_path, "ab") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=env,
                preexec_fn=die_with_us, **kwargs
            )
        self.stopped = False

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"teal did not start: {self.process.returncode}\n{self.stderr()}")
        for one in self.config["listen"]:
            if not listening(one["address"]):
                return False
        try:
            return self.admin("GET", "/v1/status")[0] == 200
        except OSError:
            return False

    def stderr(self):
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def check(self):
        """Fails the test when teal died or reported an error of its own."""
        err = self.stderr()
        found = REPORT.search(err)
        assert not found, f"teal reported:\n{err[max(0, found.start() - 500):][:6000]}"
        if not self.stopped:
            assert self.alive(), f"teal exited with {self.process.returncode}:\n{err[-4000:]}"

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, deadline=DEADLINE):
        """Waits for the exit and returns the code."""
        self.stopped = True
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)
            raise AssertionError(
                f"teal did not exit within {deadline} s:\n{self.stderr()[-3000:]}"
            ) from None

    def stop(self, clean=True):
        """SIGTERM, exit code 0, nothing reported."""
        if self.process is None:
            return
        if not self.stopped:
            if self.alive():
                self.signal(signal.SIGTERM)
            code = self.wait()
            self.check()
            assert code == 0, f"teal exited with {code}:\n{self.stderr()[-4000:]}"
        self.check()
        if clean:
            self.clean()

    def clean(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self):
        self.stop(clean=False)
        return self.start()

    # -- asking it --
    def admin(self, method, path, body=None, headers=()):
        """(status, JSON or text) from the admin socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        with sock:
            sock.connect(self.admin_socket)
            client = H1(sock=sock)
            data = b"" if body is None else body if isinstance(body, bytes) else to_json(body)
            fields = [("Host", "teal"), ("Connection", "close"), *headers]
            if data or method in ("PUT", "POST", "PATCH"):
                fields.append(("Content-Length", str(len(data))))
            client.request(method, path, fields, data)
            r = client.response(method)
        try:
            return r.status, json.loads(r.body)
        except ValueError:
            return r.status, r.text

    def service(self, name="web"):
        status, answer = self.admin("GET", f"/v1/services/{name}")
        assert status == 200, answer
        return answer

    def weight(self, percent, name="web"):
        status, answer = self.admin("PUT", f"/v1/services/{name}/weight", {"weight": percent})
        assert status == 200, answer

    def ctl(self, *args, code=0):
        run = subprocess.run(
            [str(TEALCTL), "-s", self.admin_socket, *args],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert code is None or run.returncode == code, (run.returncode, run.stdout, run.stderr)
        return run

    def lines(self):
        """The access log's lines, decoded."""
        if not self.log.exists():
            return []
        text = self.log.read_bytes().decode("utf-8")
        return [json.loads(x) for x in text.split("\n")[:-1]]

    def line(self, path=None, n=1, **want):
        """The n-th line with this path (query included, if it has one) and these other fields;
        waits until it has been written."""

        def find():
            found = [
                x
                for x in self.lines()
                if path in (None, x["path"], x["path"].split("?")[0])
                and all(x.get(k) == v for k, v in want.items())
            ]
            return found[n - 1] if len(found) >= n else None

        return wait_for(find, f"log line {n} of {path} {want}; has {self.lines()[-3:]}")

    def rss(self):
        """Bytes in memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) * 1024

    def cpu(self):
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- clients --
    def h1(self, tls=False, host="a.test", **kwargs):
        return H1(self.tls if tls else self.plain, tls=tls, host=host, **kwargs)

    def h2(self, tls=True, host="a.test", **kwargs):
        return H2(self.tls if tls else self.plain, tls=tls, host=host, **kwargs)

    def get(
        self, path="/", headers=(), method="GET", body=b"", host="a.test", tls=False, port=None
    ):
        """One request on a connection of its own."""
        port = port or (self.tls if tls else self.plain)
        with H1(port, tls=tls, host=host) as c:
            return c.ask(method, path, headers, body)


def to_json(value):
    return json.dumps(value).encode()


def listening(address):
    """Does something accept there?  Reads the kernel's tables: it may want a PROXY header."""
    if address.startswith("unix:"):
        return any(x.endswith(" " + address[5:]) for x in read_lines("/proc/net/unix"))
    port = f":{int(address.rsplit(':', 1)[1]):04X}"
    rows = read_lines("/proc/net/tcp")[1:] + read_lines("/proc/net/tcp6")[1:]
    return any(x.split()[1].endswith(port) and x.split()[3] == "0A" for x in rows)


def read_lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


# --- TLS -----------------------------------------------------------------------------------------
class Certificates:
    """A CA and what it signed, made by openssl once a session."""

    NAMES = {
        "a": ["DNS:a.test", "DNS:www.a.test"],
        "b": ["DNS:*.b.test"],
        "c": ["DNS:c.test"],
        "backend": ["DNS:backend.test", "DNS:localhost", "IP:127.0.0.1"],
    }

    def __init__(self, directory):
        self.directory = Path(directory)
        self.ca = self.directory / "ca.pem"
        self._openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
            f" -subj /CN=test-ca -keyout {self.directory}/ca.key -out {self.ca}"
        )
        for name, alternatives in self.NAMES.items():
            self._leaf(name, alternatives)

    def _leaf(self, name, alternatives):
        d = self.directory
        (d / f"{name}.ext").write_text("subjectAltName=" + ",".join(alternatives) + "\n")
        self._openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            f" -subj /CN={name} -keyout {d}/{name}.key -out {d}/{name}.csr"
        )
        self._openssl(
            f"x509 -req -in {d}/{name}.csr -CA {d}/ca.pem -CAkey {d}/ca.key -CAcreateserial"
            f" -days 30 -extfile {d}/{name}.ext -out {d}/{name}.pem"
        )

    @staticmethod
    def _openssl(arguments):
        subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)

    def pair(self, name):
        return {
            "chain": str(self.directory / f"{name}.pem"),
            "key": str(self.directory / f"{name}.key"),
        }

    def all(self):
        return [self.pair(name) for name in ("a", "b", "c")]

    def server_context(self, name="backend", alpn=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(**dict(zip(("certfile", "keyfile"), self.pair(name).values())))
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def client_context(self, alpn=None, verify=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        return context


def insecure(alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context


# --- clients -------------------------------------------------------------------------------------
class Response:
    def __init__(self, status, headers, body=b"", trailers=(), interim=(), complete=True):
        self.status, self.headers, self.body = status, headers, body
        self.trailers, self.interim = list(trailers), list(interim)
        self.complete = complete  # the message ended as it should

    def values(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name, default=None):
        values = self.values(name)
        return values[0] if values else default

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def origin(self):
        return self.header("x-origin")

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r} complete={self.complete}>"


class Closed(Exception):
    """The peer closed (or reset) where more was expected."""


class Socket:
    """A blocking socket with a deadline and an unread buffer."""

    def __init__(
        self,
        port=None,
        tls=False,
        host="a.test",
        sock=None,
        context=None,
        alpn="http/1.1",
        address="127.0.0.1",
        before=b"",
        session=None,
        rcvbuf=None,
    ):
        if sock is None:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family)
            if rcvbuf:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            sock.settimeout(DEADLINE)
            sock.connect((address, port))
        self.host = host
        sock.settimeout(DEADLINE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before:
            sock.sendall(before)
        if tls:
            context = context or insecure(alpn)
            sock = context.wrap_socket(sock, server_hostname=host, session=session)
        self.sock = sock
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def receive(self, n=65536):
        """Some bytes; b'' at the end or after a reset."""
        try:
            return self.sock.recv(n)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""
        except ssl.SSLError as e:
            if "EOF" in str(e) or "shutdown" in str(e).lower() or "CLOSE" in str(e):
                return b""
            raise

    def fill(self):
        data = self.receive()
        if not data:
            raise Closed(f"after {self.buffer[:200]!r}")
        self.buffer += data

    def take(self, n):
        parts, have = [self.buffer], len(self.buffer)
        while have < n:
            data = self.receive(min(n - have, 1 << 18))
            if not data:
                self.buffer = b"".join(parts)
                raise Closed(f"{n - have} bytes short")
            parts.append(data)
            have += len(data)
        self.buffer = b"".join(parts)
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def take_line(self):
        while b"\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def rest(self, most=1 << 26):
        """Everything until the peer closes."""
        out = [self.buffer]
        n = len(self.buffer)
        self.buffer = b""
        while n < most and (data := self.receive()):
            out.append(data)
            n += len(data)
        return b"".join(out)

    def closed(self):
        """The peer closes without another byte (or a reset)."""
        return not self.buffer and self.receive() == b""


class H1(Socket):
    """HTTP/1.1, by hand."""

    def head(self, method, path, headers=(), body=b""):
        names = {n.lower() for n, _ in headers}
        text = f"{method} {path} HTTP/1.1\r\n"
        if "host" not in names:
            text += f"Host: {self.host}\r\n"
        for name, value in headers:
            text += f"{name}: {value}\r\n"
        if body and not names & {"content-length", "transfer-encoding"}:
            text += f"Content-Length: {len(body)}\r\n"
        return text.encode("latin-1") + b"\r\n"

    def request(self, method="GET", path="/", headers=(), body=b""):
        self.send(self.head(method, path, headers, body) + body)

    def ask(self, method="GET", path="/", headers=(), body=b""):
        self.request(method, path, headers, body)
        return self.response(method)

    def get(self, path="/", headers=()):
        return self.ask("GET", path, headers)

    def response_head(self):
        """(status, headers) of the next head, interim ones too."""
        line = self.take_line().decode("latin-1")
        assert re.match(r"HTTP/1\.[01] \d{3}( |$)", line), line
        headers = []
        while field := self.take_line().decode("latin-1"):
            name, value = field.split(":", 1)
            headers.append((name, value.strip()))
        return int(line.split()[1]), headers

    def response(self, method="GET"):
        interim = []
        status, headers = self.response_head()
        while 100 <= status < 200 and status != 101:
            interim.append((status, headers))
            status, headers = self.response_head()
        r = Response(status, headers, interim=interim)
        if method == "HEAD" or status in (101, 204, 304):
            return r
        try:
            self._body(r)
        except Closed:
            r.complete = False
        return r

    def _body(self, r):
        if "chunked" in (r.header("transfer-encoding") or ""):
            parts = []
            while n := int(self.take_line().split(b";")[0], 16):
                try:
                    parts.append(self.take(n))
                finally:
                    r.body = b"".join(parts)
                assert self.take(2) == b"\r\n"
            while line := self.take_line():
                name, value = line.decode("latin-1").split(":", 1)
                r.trailers.append((name, value.strip()))
        elif r.header("content-length") is not None:
            n = int(r.header("content-length"))
            try:
                r.body = self.take(n)
            except Closed:
                r.body, self.buffer = self.buffer, b""
                raise
        else:
            r.body = self.rest()

    def drain(self, n):
        """Reads n bytes and forgets them."""
        n -= len(self.buffer)
        self.buffer = b""
        while n > 0:
            data = self.receive(min(n, 1 << 18))
            if not data:
                raise Closed(f"{n} bytes short")
            n -= len(data)


# frame types and flags, RFC 9113 section 6
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 5, 6, 7, 8
ENHANCE_YOUR_CALM = 11


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Connection(h2.connection.H2Connection):
    """After a GOAWAY the streams that are open go on (RFC 9113 6.8); python3-h2 would give up."""

    def _receive_goaway_frame(self, frame):
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class H2(Socket):
    """HTTP/2 through python3-h2 with its outgoing checks off; raw frames go by send()."""

    def __init__(self, port=None, tls=True, host="a.test", settings=None, **kwargs):
        super().__init__(port, tls=tls, host=host, alpn="h2", **kwargs)
        if tls:
            assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.scheme = "https" if tls else "http"
        self.streams = {}
        self.goaway = None  # (error code, last stream id)
        self.pings = 0
        self.manual_window = False  # True: credit is given by the test
        if settings:
            for key, value in settings.items():
                self.h2.local_settings[key] = value
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.send(data)

    def pseudo(self, method, path, host=None):
        return [
            (":method", method),
            (":scheme", self.scheme),
            (":authority", host or self.host),
            (":path", path),
        ]

    def begin(self, method="GET", path="/", headers=(), end=True, host=None):
        """Sends a head and returns the stream id."""
        return self.begin_raw(self.pseudo(method, path, host) + list(headers), end)

    def begin_raw(self, headers, end=True):
        stream = self.h2.get_next_available_stream_id()
        self.streams[stream] = Stream()
        self.h2.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def data(self, stream, data, end=False):
        """Sends a body, waiting for credit as needed."""
        view = memoryview(data)
        while len(view):
            window = self.h2.local_flow_control_window(stream)
            room = min(window, self.h2.max_outbound_frame_size, len(view))
            if room <= 0:
                self.pump()
                if self.streams[stream].done:
                    return
                continue
            self.h2.send_data(stream, bytes(view[:room]), end_stream=end and room == len(view))
            view = view[room:]
            self.flush()
        if end and not data:
            self.h2.end_stream(stream)
            self.flush()

    def trailers(self, stream, headers):
        self.h2.send_headers(stream, headers, end_stream=True)
        self.flush()

    def reset_stream(self, stream, code=CANCEL):
        self.h2.reset_stream(stream, code)
        self.flush()

    def pump(self):
        """Reads once and handles what came."""
        data = self.receive()
        if not data:
            raise Closed(f"goaway {self.goaway}")
        for event in self.h2.receive_data(data):
            self.event(event)
        self.flush()

    def event(self, e):
        stream = self.streams.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = (int(e.error_code), e.last_stream_id)
        elif isinstance(e, h2.events.PingAckReceived):
            self.pings += 1
        elif isinstance(e, h2.events.DataReceived):
            if stream:
                stream.received += len(e.data)
                if stream.keep:
                    stream.parts.append(e.data)
            if e.flow_controlled_length and not self.manual_window:
                try:
                    self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                except h2.exceptions.ProtocolError:
                    pass
        elif stream is None:
            return
        elif isinstance(e, h2.events.InformationalResponseReceived):
            stream.interim.append((int(dict(e.headers)[":status"]), list(e.headers)))
        elif isinstance(e, h2.events.ResponseReceived):
            stream.status = int(dict(e.headers)[":status"])
            stream.headers = [(n, v) for n, v in e.headers if n != ":status"]
        elif isinstance(e, h2.events.TrailersReceived):
            stream.trailers = list(e.headers)
        elif isinstance(e, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(e, h2.events.StreamReset):
            stream.reset = int(e.error_code)

    def until(self, condition, deadline=DEADLINE):
        """Pumps until condition() is true."""
        self.sock.settimeout(deadline)
        end = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < end, "waited in vain on HTTP/2"
            self.pump()

    def head(self, stream):
        self.until(lambda: self.streams[stream].status or self.streams[stream].done)
        return self.streams[stream]

    def response(self, stream):
        """The whole response; .reset says the code when the stream was reset."""
        s = self.streams[stream]
        self.until(lambda: s.done)
        r = Response(s.status, s.headers, b"".join(s.parts), s.trailers, s.interim, s.ended)
        r.reset = s.reset
        return r

    def ask(self, method="GET", path="/", headers=(), body=b"", host=None):
        stream = self.begin(method, path, headers, end=not body, host=host)
        if body:
            self.data(stream, body, end=True)
        return self.response(stream)

    def get(self, path="/", headers=(), host=None):
        return self.ask("GET", path, headers, host=host)

    def closes(self):
        """Reads until GOAWAY or the end; returns the error code, or None when just closed."""
        end = time.monotonic() + DEADLINE
        try:
            while time.monotonic() < end:
                self.pump()
        except Closed:
            pass
        return self.goaway[0] if self.goaway else None


class Stream:
    def __init__(self):
        self.status = None
        self.headers, self.trailers, self.interim, self.parts = [], [], [], []
        self.received = 0
        self.keep = True  # keep the body
        self.ended = False
        self.reset = None

    @property
    def done(self):
        return self.ended or self.reset is not None


class RawH2(Socket):
    """HTTP/2 frames without a state machine of ours: for what no library would send."""

    def __init__(self, port, tls=False, host="a.test", settings=b"", **kwargs):
        super().__init__(port, tls=tls, host=host, alpn="h2", **kwargs)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
        self.frames = []

    def headers(self, stream, fields, flags=END_STREAM | END_HEADERS):
        """A HEADERS frame, without Huffman and without an opinion."""
        self.send(frame(HEADERS, flags, stream, literal(fields)))

    def read_frame(self):
        """(kind, flags, stream, payload); acknowledges SETTINGS."""
        head = self.take(9)
        n = int.from_bytes(head[:3], "big")
        f = (head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, self.take(n))
        self.frames.append(f)
        if f[0] == SETTINGS and not f[1] & ACK:
            self.send(frame(SETTINGS, ACK))
        return f

    def until_frame(self, kind, stream=None):
        while True:
            f = self.read_frame()
            if f[0] == kind and stream in (None, f[2]):
                return f

    def verdict(self, stream):
        """How a request on this stream ended: ("status", 400), ("reset", 1), ("goaway", 1),
        ("closed", 0)"""
        try:
            while True:
                kind, _, sid, payload = self.read_frame()
                if kind == HEADERS and sid == stream:
                    fields = dict(self.decoder.decode(payload, raw=True))
                    if int(fields[b":status"]) >= 200:
                        return "status", int(fields[b":status"])
                if kind == RST_STREAM and sid == stream:
                    return "reset", int.from_bytes(payload, "big")
                if kind == GOAWAY and payload[4:8] != b"\0\0\0\0":
                    return "goaway", int.from_bytes(payload[4:8], "big")
        except (Closed, OSError):
            return "closed", 0


def literal(fields):
    """HPACK: every field a literal without indexing (RFC 7541 6.2.2), byte for byte."""

    def number(n, bits):
        limit = (1 << bits) - 1
        if n < limit:
            return bytes([n])
        out, n = bytes([limit]), n - limit
        while n >= 128:
            out += bytes([n % 128 + 128])
            n //= 128
        return out + bytes([n])

    out = b""
    for name, value in fields:
        name = name if isinstance(name, bytes) else name.encode("latin-1")
        value = value if isinstance(value, bytes) else value.encode("latin-1")
        out += b"\0" + number(len(name), 7) + name + number(len(value), 7) + value
    return out


def pseudo(path="/", method="GET", authority="a.test", scheme="http"):
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]


# --- peers ---------------------------------------------------------------------------------------
class Peer:
    """A subprocess that ends with the test."""

    def __init__(self, command, port, **kwargs):
        self.port = port
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=die_with_us, **kwargs
        )
        wait_for(self._up, f"{command[0]} on port {port}")

    def _up(self):
        assert self.process.poll() is None, "the peer exited at once"
        return can_connect(self.port)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_nginx(directory, tls=None):
    """nginx as an HTTP/1.1 backend: files of `directory`/www, /status/NNN, uploads to /upload."""
    directory = Path(directory)
    (directory / "www").mkdir(exist_ok=True)
    port = free_port()
    listen = f"listen 127.0.0.1:{port}"
    if tls:
        listen += f" ssl;\n ssl_certificate {tls['chain']};\n ssl_certificate_key {tls['key']}"
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000; client_max_body_size 0; {temporary}
  server {{
    {listen};
    root {directory}/www;
    location /status/404 {{ return 404 "no\\n"; }}
    location /hello {{ return 200 "hello from nginx\\n"; }}
  }}
}}
"""
    )
    log, conf = f"{directory}/error.log", f"{directory}/nginx.conf"
    return Peer(["/usr/sbin/nginx", "-e", log, "-c", conf], port)


def start_nghttpd(directory, tls=None):
    """nghttpd as an HTTP/2 backend: files of `directory`, echoes uploads with --echo-upload."""
    port = free_port()
    keys = [tls["key"], tls["chain"]] if tls else ["--no-tls"]
    options = keys[:1] if not tls else []
    command = ["nghttpd", "-a", "127.0.0.1", "-d", str(directory), "--echo-upload", *options]
    return Peer(command + [str(port)] + (keys if tls else []), port)


def curl(*args, code=0):
    """Runs curl quietly; returns the completed process with text output."""
    run = subprocess.run(
        ["curl", "-sS", "--max-time", str(DEADLINE * 4), *args],
        capture_output=True,
        check=False,
    )
    assert code is None or run.returncode == code, (run.returncode, run.stderr, run.stdout[:500])
    return run


class Listener:
    """curl -N of the events, on the admin socket or a URL; what it printed so far."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            ["curl", "-sS", "-N", "-i", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.text = ""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.text += line.decode()

    def until(self, text):
        wait_for(lambda: text in self.text, f"{text!r} in {self.text!r}")

    def events(self, kind=None):
        """The whole ones, decoded."""
        found = []
        for block in self.text.replace("\r\n", "\n").split("\n\n")[:-1]:
            fields = dict(x.split(": ", 1) for x in block.split("\n") if ": " in x)
            if "data" not in fields:
                continue
            event = json.loads(fields["data"])
            assert fields["id"] == str(event["id"]) and fields["event"] == event["type"]
            if kind in (None, event["type"]):
                found.append(event)
        return found

    def event(self, kind, n=1):
        wait_for(lambda: len(self.events(kind)) >= n, f"{n} of {kind} in {self.text!r}")
        return self.events(kind)[n - 1]

    def close(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.thread.join(DEADLINE)
        self.process.stdout.close()


def websocket_key():
    return base64.b64encode(os.urandom(16)).decode()


def ws_frame(text, opcode=1, mask=True):
    """A WebSocket frame (RFC 6455 5.2)."""
    data = text if isinstance(text, bytes) else text.encode()
    n = len(data)
    head = bytes([0x80 | opcode])
    bit = 0x80 if mask else 0
    head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n)
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(data))
